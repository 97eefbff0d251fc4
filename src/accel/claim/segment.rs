//! A segment of a graph: its edges, the same nodes as a graph of its own, and the file that a device gets.

use std::collections::HashMap;

use serde::Serialize;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::konst::Const;

use super::{Constant, Describe, NodeDescription};
use crate::accel::{Element, ModelFile, TensorSpec};
use crate::limits;

/// Nodes that a device takes together.
#[derive(Debug)]
pub struct Segment {
    /// In an order in which each stands behind what it reads.
    pub nodes: Vec<usize>,
    /// What they read from others, constants left out.
    pub inputs: Vec<OutletId>,
    /// What others read from them.
    pub outputs: Vec<OutletId>,
}

/// A tensor that goes in or comes out.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// As the graph says: its rows may have no number yet.
    pub fact: TypedFact,
    /// As the device computes it.
    pub shape: Vec<usize>,
}

impl Port {
    /// An f32 tensor whose sizes are known with `sizes`, all but the rows without them; none: no device gets it.
    pub fn new(fact: &TypedFact, sizes: &SymbolValues) -> Option<Self> {
        let shape = fact.shape.eval_to_usize(sizes).ok()?.to_vec();
        let is_plain = fact.datum_type == f32::datum_type() && fact.exotic_fact().is_none();
        let is_by_rows = fact.shape.iter().skip(1).all(|side| side.as_i64().is_some());
        (is_plain && is_by_rows).then(|| Self { fact: fact.without_value(), shape })
    }

    /// The name of its rows; none where their number is fixed.
    pub fn rows(&self) -> Option<&TDim> {
        self.fact.shape.first().filter(|rows| rows.as_i64().is_none())
    }

    /// Its elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Segment {
    /// The edges of `nodes`, as the graph is now.
    pub fn new(model: &TypedModel, nodes: Vec<usize>) -> TractResult<Self> {
        let is_inside = |node: usize| nodes.contains(&node);
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        for &node in &nodes {
            for &input in &model.node(node).inputs {
                let is_constant = model.outlet_fact(input)?.konst.is_some();
                if !is_inside(input.node) && !is_constant && !inputs.contains(&input) {
                    inputs.push(input);
                }
            }
            for (slot, output) in model.node(node).outputs.iter().enumerate() {
                let outlet = OutletId::new(node, slot);
                if output.successors.iter().any(|reader| !is_inside(reader.node))
                    || model.outputs.contains(&outlet)
                {
                    outputs.push(outlet);
                }
            }
        }
        Ok(Self { nodes, inputs, outputs })
    }

    /// The same nodes as a graph of their own, for the CPU.
    pub fn graph(&self, model: &TypedModel) -> TractResult<TypedModel> {
        let mut graph = TypedModel { symbols: model.symbols.clone(), ..TypedModel::default() };
        let mut outlets = HashMap::new();
        for (i, &input) in self.inputs.iter().enumerate() {
            let fact = model.outlet_fact(input)?.without_value();
            outlets.insert(input, graph.add_source(format!("input.{i}"), fact)?);
        }
        for &node in &self.nodes {
            let node = model.node(node);
            let mut inputs = TVec::new();
            for input in &node.inputs {
                let constant = model.outlet_fact(*input)?.konst.clone();
                if let (None, Some(constant)) = (outlets.get(input), constant) {
                    let name = format!("constant.{}.{}", input.node, input.slot);
                    outlets.insert(*input, graph.add_const(name, constant)?);
                }
                inputs.push(*outlets.get(input).with_context(|| format!("{input:?} is not there"))?);
            }
            let made = graph.wire_node(&node.name, node.op.clone(), &inputs)?;
            outlets.extend(made.iter().enumerate().map(|(slot, &o)| (OutletId::new(node.id, slot), o)));
        }
        let outputs: Vec<OutletId> = self.outputs.iter().filter_map(|o| outlets.get(o).copied()).collect();
        graph.select_output_outlets(&outputs)?;
        Ok(graph)
    }

    /// What goes in, or comes out. Errors: in words, what no device gets.
    pub fn ports(
        &self,
        model: &TypedModel,
        outlets: &[OutletId],
        sizes: &SymbolValues,
    ) -> Result<Vec<Port>, String> {
        let port = |&outlet: &OutletId| Port::new(model.outlet_fact(outlet).ok()?, sizes);
        let all: Option<Vec<Port>> = outlets.iter().map(port).collect();
        let ports = all.ok_or("a tensor between it and the others is not of f32, or of no known size")?;
        let bytes: usize = ports.iter().map(|port| port.count() * 4).sum();
        if bytes > limits::SMALL_MODEL_ELEMENTS_MAX * 4 {
            return Err(format!(
                "{bytes} bytes go in or come out, {} may",
                limits::SMALL_MODEL_ELEMENTS_MAX * 4
            ));
        }
        Ok(ports)
    }

    /// The file for the device, called `name`. Errors: in words, why there is none.
    pub fn file(
        &self,
        model: &TypedModel,
        name: &str,
        sizes: &SymbolValues,
        describe: Describe,
    ) -> Result<ModelFile, String> {
        let (inputs, outputs) =
            (self.ports(model, &self.inputs, sizes)?, self.ports(model, &self.outputs, sizes)?);
        let mut writer = Writer::default();
        for (&outlet, port) in self.inputs.iter().zip(&inputs) {
            let tensor = writer.tensor(port.shape.clone());
            writer.header.inputs.push(tensor);
            writer.outlets.insert(outlet, tensor);
        }
        for &node in &self.nodes {
            let node = model.node(node);
            let description =
                describe(model, node).ok_or_else(|| format!("{} has no description", node.name))?;
            writer.node(model, node, description, sizes)?;
        }
        writer.header.outputs = self.outputs.iter().filter_map(|o| writer.outlets.get(o).copied()).collect();
        writer.header.name = name.into();
        let bytes = writer.finish()?;
        let side = |ports: &[Port]| TensorSpec {
            shape: vec![ports.iter().map(|port| port.count() * 4).sum()],
            element: Element::Uint8,
            quantisation: None,
        };
        let (input, output) = (side(&inputs), side(&outputs));
        Ok(ModelFile { origin: name.into(), format: FORMAT.into(), bytes: bytes.into(), input, output })
    }
}

/// What a segment is meant for: whatever takes segments.
const FORMAT: &str = "segment";
/// The beginning of a segment file; `outpost_plugin.h` describes the whole.
pub const MAGIC: &[u8; 8] = b"OUTPSEG1";
/// Tensors begin at multiples of this.
const ALIGN: usize = 64;

#[derive(Debug, Default, Serialize)]
struct Header {
    name: String,
    tensors: Vec<TensorEntry>,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    nodes: Vec<NodeEntry>,
}

#[derive(Debug, Serialize)]
struct TensorEntry {
    shape: Vec<usize>,
    element: Element,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<usize>,
}

#[derive(Debug, Serialize)]
struct NodeEntry {
    op: &'static str,
    name: String,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    attributes: serde_json::Map<String, serde_json::Value>,
}

#[derive(Default)]
struct Writer {
    header: Header,
    weights: Vec<u8>,
    outlets: HashMap<OutletId, usize>,
}

impl Writer {
    fn tensor(&mut self, shape: Vec<usize>) -> usize {
        self.header.tensors.push(TensorEntry { shape, element: Element::F32, offset: None });
        self.header.tensors.len() - 1
    }

    fn constant(&mut self, shape: &[usize], numbers: impl FnOnce() -> Vec<f32>) -> Result<usize, String> {
        let bytes = shape.iter().try_fold(4_usize, |bytes, side| bytes.checked_mul(*side));
        let whole = bytes.and_then(|bytes| bytes.checked_add(self.weights.len()));
        let most = limits::SMALL_MODEL_BYTES_MAX;
        if whole.is_none_or(|whole| whole as u64 > most) {
            return Err(format!("its weights take more than {most} bytes; it is too large for a device"));
        }
        self.weights.resize(self.weights.len().next_multiple_of(ALIGN), 0);
        let offset = Some(self.weights.len());
        self.weights.extend(numbers().iter().flat_map(|number| number.to_le_bytes()));
        self.header.tensors.push(TensorEntry { shape: shape.to_vec(), element: Element::F32, offset });
        Ok(self.header.tensors.len() - 1)
    }

    fn node(
        &mut self,
        model: &TypedModel,
        node: &TypedNode,
        description: NodeDescription,
        sizes: &SymbolValues,
    ) -> Result<(), String> {
        let NodeDescription { op, attributes, constants } = description;
        let mut inputs = Vec::new();
        for &outlet in &node.inputs {
            let tensor = match self.outlets.get(&outlet) {
                Some(&tensor) => tensor,
                None => self.model_constant(model, outlet)?,
            };
            inputs.push(tensor);
        }
        for Constant { shape, numbers } in constants {
            inputs.push(self.constant(&shape, numbers)?);
        }
        let mut outputs = Vec::new();
        for (slot, output) in node.outputs.iter().enumerate() {
            let port = Port::new(&output.fact, sizes).ok_or("a tensor within it has no known size")?;
            outputs.push(self.tensor(port.shape));
            self.outlets.insert(OutletId::new(node.id, slot), self.header.tensors.len() - 1);
        }
        let attributes =
            attributes.into_iter().map(|(key, number)| (key.into(), serde_json::json!(number))).collect();
        self.header.nodes.push(NodeEntry { op, name: node.name.clone(), inputs, outputs, attributes });
        Ok(())
    }

    /// A constant of the graph itself.
    fn model_constant(&mut self, model: &TypedModel, outlet: OutletId) -> Result<usize, String> {
        let fact = model.outlet_fact(outlet).ok();
        let constant = fact.and_then(|fact| fact.konst.clone()).ok_or("a node reads what is not there")?;
        let numbers: Vec<f32> = constant
            .try_as_plain_ram()
            .and_then(|t| t.as_slice().map(<[f32]>::to_vec))
            .map_err(|_| "a constant is not of f32".to_owned())?;
        let tensor = self.constant(constant.shape(), || numbers)?;
        self.outlets.insert(outlet, tensor);
        Ok(tensor)
    }

    /// Magic, length of the header, header, weights.
    fn finish(self) -> Result<Vec<u8>, String> {
        let mut header = serde_json::to_vec(&self.header).map_err(|e| e.to_string())?;
        let before = MAGIC.len() + size_of::<u64>();
        header.resize((before + header.len()).next_multiple_of(ALIGN) - before, b' ');
        let length = (header.len() as u64).to_le_bytes();
        let file = [MAGIC, &length[..], &header, &self.weights].concat();
        let most = limits::SMALL_MODEL_BYTES_MAX;
        if file.len() as u64 > most {
            return Err(format!("its file takes more than {most} bytes; it is too large for a device"));
        }
        Ok(file)
    }
}

/// What computes; the rest is sources and constants.
pub fn computes(node: &TypedNode) -> bool {
    !TypedModel::is_source(&node.op) && !node.op_is::<Const>()
}
