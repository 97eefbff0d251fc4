//! An ONNX graph without its weights' bytes: nodes, names, shapes, and where each initializer stands.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use super::wire::{Span, Value, Wire};
use crate::glm::import::ImportError;
use crate::glm::import::blob::Blob;
use crate::glm::import::error::{TensorProblem, clip};
use crate::limits;

/// What of an ONNX model matters here.
#[derive(Default)]
pub(super) struct Graph {
    pub(super) producer: String,
    pub(super) nodes: Vec<Node>,
    pub(super) initializers: HashMap<String, Initializer>,
    pub(super) inputs: Vec<Port>,
    pub(super) outputs: Vec<Port>,
    /// Inputs, outputs and attributes of all nodes so far.
    values: usize,
}

/// One operator.
#[derive(Default)]
pub(super) struct Node {
    pub(super) op: String,
    pub(super) name: String,
    /// The module that it belongs to, where torch's exporter has noted it.
    pub(super) scope: String,
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    pub(super) attributes: Vec<(String, Attribute)>,
}

/// An attribute of a kind that is looked at.
pub(super) enum Attribute {
    Int(i64),
    Float(f32),
    Ints(Vec<i64>),
    Tensor(Initializer),
    Other,
}

/// An input or output of the graph.
pub(super) struct Port {
    pub(super) name: String,
    /// Fixed sizes; `None` where symbolic.
    pub(super) dims: Vec<Option<u64>>,
}

/// A constant.
#[derive(Clone, Default)]
pub(super) struct Initializer {
    pub(super) name: String,
    pub(super) dims: Vec<u64>,
    /// ONNX's number of the element type.
    pub(super) data_type: u64,
    /// Where its bytes stand in the file, if they do.
    pub(super) raw: Option<Span>,
    /// File, offset and length, if they stand in another.
    pub(super) external: Option<External>,
    /// Integers that stand packed.
    pub(super) int64_data: Vec<i64>,
}

/// Where the bytes of a constant stand beside the graph's file.
#[derive(Clone, Default)]
pub(super) struct External {
    pub(super) location: String,
    pub(super) offset: u64,
    pub(super) length: Option<u64>,
}

impl Node {
    /// An integer attribute.
    pub(super) fn int(&self, name: &str) -> Option<i64> {
        self.attributes.iter().find_map(|(n, a)| match a {
            Attribute::Int(i) if n == name => Some(*i),
            _ => None,
        })
    }

    /// A real attribute.
    pub(super) fn float(&self, name: &str) -> Option<f32> {
        self.attributes.iter().find_map(|(n, a)| match a {
            Attribute::Float(x) if n == name => Some(*x),
            _ => None,
        })
    }

    /// A list of integers.
    pub(super) fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attributes.iter().find_map(|(n, a)| match a {
            Attribute::Ints(ints) if n == name => Some(ints.as_slice()),
            _ => None,
        })
    }
}

impl Graph {
    /// Reads a model. Names and lists are kept, weights are located.
    pub(super) fn read(blob: &Blob) -> Result<Graph, ImportError> {
        let mut graph = Graph::default();
        let mut wire = Wire::new(blob.clone());
        let mut found = false;
        wire.fields(wire.all(), |wire, field, value| {
            match (field, value) {
                (2, Value::Bytes(span)) => graph.producer = wire.text(span, NAME_BYTES_MAX)?,
                (7, Value::Bytes(span)) => {
                    found = true;
                    graph.read_graph(wire, span)?;
                }
                (20 | 25, Value::Bytes(_)) => {
                    return Err(ImportError::unsupported(
                        "an ONNX model with training information or functions of its own",
                        "export it for inference, functions inlined",
                    ));
                }
                _ => {}
            }
            Ok(())
        })?;
        match found {
            true => Ok(graph),
            false => Err(ImportError::NoCheckpoint {
                path: blob.path().to_owned(),
                what: "there is no ONNX graph in it".into(),
            }),
        }
    }

    /// Names of the files that hold weights beside the graph's own.
    pub(super) fn files_beside(&self) -> BTreeSet<&str> {
        let externals = self.initializers.values().filter_map(|it| it.external.as_ref());
        externals.map(|external| external.location.as_str()).collect()
    }

    fn read_graph(&mut self, wire: &mut Wire, graph: Span) -> Result<(), ImportError> {
        wire.fields(graph, |wire, field, value| {
            let Value::Bytes(span) = value else { return Ok(()) };
            match field {
                1 => {
                    bounded(wire, self.nodes.len(), limits::IMPORT_NODES_MAX, "operators")?;
                    let node = node(wire, span)?;
                    self.values += node.inputs.len() + node.outputs.len() + node.attributes.len();
                    bounded(wire, self.values, limits::IMPORT_VALUES_MAX, "values of operators")?;
                    self.nodes.push(node);
                }
                5 => {
                    bounded(wire, self.initializers.len(), limits::IMPORT_NODES_MAX, "constants")?;
                    let initializer = initializer(wire, span)?;
                    let name = initializer.name.clone();
                    if self.initializers.insert(name.clone(), initializer).is_some() {
                        return Err(ImportError::tensor(&name, TensorProblem::Doubled));
                    }
                }
                11 | 12 => {
                    let ports = if field == 11 { &mut self.inputs } else { &mut self.outputs };
                    bounded(wire, ports.len(), limits::IMPORT_NODES_MAX, "inputs and outputs")?;
                    ports.push(port(wire, span)?);
                }
                15 => return Err(ImportError::unsupported("a sparse initializer", "export dense weights")),
                _ => {}
            }
            Ok(())
        })
    }
}

impl External {
    /// The file, which must stand beside the graph's.
    pub(super) fn open(&self, graph: &Path, name: &str) -> Result<Blob, ImportError> {
        let beside = Path::new(&self.location);
        let plain = beside.components().count() == 1 && beside.file_name().is_some();
        if !plain {
            let what =
                format!("weight {} stands in {:?}, which is not beside it", clip(name), clip(&self.location));
            return Err(ImportError::damaged(graph, what));
        }
        Blob::open(&graph.parent().unwrap_or(Path::new(".")).join(beside))
    }
}

fn node(wire: &mut Wire, span: Span) -> Result<Node, ImportError> {
    let mut node = Node::default();
    wire.fields(span, |wire, field, value| {
        let Value::Bytes(span) = value else { return Ok(()) };
        match field {
            1 | 2 => {
                let list = if field == 1 { &mut node.inputs } else { &mut node.outputs };
                bounded(wire, list.len(), LIST_MAX, "values of one operator")?;
                list.push(wire.text(span, NAME_BYTES_MAX)?);
            }
            3 => node.name = wire.text(span, NAME_BYTES_MAX)?,
            4 => node.op = wire.text(span, NAME_BYTES_MAX)?,
            5 => {
                bounded(wire, node.attributes.len(), LIST_MAX, "attributes of one operator")?;
                node.attributes.push(attribute(wire, span)?);
            }
            9 => {
                let (key, text) = entry(wire, span)?;
                if key == "pkg.torch.onnx.name_scopes" {
                    node.scope = innermost(&text);
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(node)
}

/// The last but one of a list like `['', 'model', 'model.layers.0', 'linear']`: the module; the last is the operation.
fn innermost(scopes: &str) -> String {
    let mut quoted = scopes.split('\'').skip(1).step_by(2).collect::<Vec<_>>();
    quoted.pop();
    quoted.pop().unwrap_or_default().to_owned()
}

fn attribute(wire: &mut Wire, span: Span) -> Result<(String, Attribute), ImportError> {
    let (mut name, mut ints, mut is_list) = (String::new(), Vec::new(), false);
    let mut single = Attribute::Other;
    wire.fields(span, |wire, field, value| {
        match (field, value) {
            (1, Value::Bytes(span)) => name = wire.text(span, NAME_BYTES_MAX)?,
            (2, Value::Float(x)) => single = Attribute::Float(x),
            (3, Value::Number(i)) => single = Attribute::Int(i as i64),
            (5, Value::Bytes(span)) => single = Attribute::Tensor(initializer(wire, span)?),
            (6 | 11, _) => {
                let what = "an ONNX graph with branches or loops";
                return Err(ImportError::unsupported(what, "export the plain forward pass"));
            }
            (8, Value::Number(i)) => {
                bounded(wire, ints.len(), LIST_MAX, "numbers of one attribute")?;
                is_list = true;
                ints.push(i as i64);
            }
            (8, Value::Bytes(span)) => {
                is_list = true;
                wire.packed(span, LIST_MAX, &mut ints)?;
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok((name, if is_list { Attribute::Ints(ints) } else { single }))
}

fn initializer(wire: &mut Wire, span: Span) -> Result<Initializer, ImportError> {
    let mut found = Initializer::default();
    let mut dims = Vec::new();
    wire.fields(span, |wire, field, value| {
        match (field, value) {
            (1, Value::Number(n)) => {
                bounded(wire, dims.len(), DIMS_MAX, "dimensions")?;
                dims.push(n as i64);
            }
            (1, Value::Bytes(span)) => wire.packed(span, DIMS_MAX, &mut dims)?,
            (2, Value::Number(n)) => found.data_type = n,
            (7, Value::Bytes(span)) => wire.packed(span, LIST_MAX, &mut found.int64_data)?,
            (7, Value::Number(n)) => {
                bounded(wire, found.int64_data.len(), LIST_MAX, "numbers of one constant")?;
                found.int64_data.push(n as i64);
            }
            (8, Value::Bytes(span)) => found.name = wire.text(span, NAME_BYTES_MAX)?,
            // Packed floats are their bytes, one after the other.
            (4 | 9, Value::Bytes(_)) if found.raw.is_some() => {
                return Err(wire.damaged("a constant with two contents"));
            }
            (4 | 9, Value::Bytes(span)) => found.raw = Some(span),
            (13, Value::Bytes(span)) => {
                let (key, text) = entry(wire, span)?;
                let external = found.external.get_or_insert_default();
                let number = || text.parse().map_err(|_| wire.damaged("a place that is no number"));
                match key.as_str() {
                    "location" => external.location = text,
                    "offset" => external.offset = number()?,
                    "length" => external.length = Some(number()?),
                    _ => {}
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    let positive = |d: i64| u64::try_from(d).map_err(|_| wire.damaged("a negative dimension"));
    found.dims = dims.into_iter().map(positive).collect::<Result<_, _>>()?;
    Ok(found)
}

fn entry(wire: &mut Wire, span: Span) -> Result<(String, String), ImportError> {
    let (mut key, mut text) = (String::new(), String::new());
    wire.fields(span, |wire, field, value| {
        match (field, value) {
            (1, Value::Bytes(span)) => key = wire.text(span, NAME_BYTES_MAX)?,
            // Exporters keep stack traces here.
            (2, Value::Bytes(span)) if span.len <= NAME_BYTES_MAX => {
                text = wire.text(span, NAME_BYTES_MAX)?
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok((key, text))
}

fn port(wire: &mut Wire, span: Span) -> Result<Port, ImportError> {
    let mut port = Port { name: String::new(), dims: Vec::new() };
    wire.fields(span, |wire, field, value| match (field, value) {
        (1, Value::Bytes(span)) => {
            port.name = wire.text(span, NAME_BYTES_MAX)?;
            Ok(())
        }
        // type, its tensor type, its shape, the dimensions.
        (2, Value::Bytes(span)) => wire.fields(span, |wire, field, value| match (field, value) {
            (1, Value::Bytes(span)) => wire.fields(span, |wire, field, value| match (field, value) {
                (2, Value::Bytes(span)) => wire.fields(span, |wire, field, value| match (field, value) {
                    (1, Value::Bytes(span)) => {
                        bounded(wire, port.dims.len(), DIMS_MAX, "dimensions")?;
                        port.dims.push(dimension(wire, span)?);
                        Ok(())
                    }
                    _ => Ok(()),
                }),
                _ => Ok(()),
            }),
            _ => Ok(()),
        }),
        _ => Ok(()),
    })?;
    Ok(port)
}

fn dimension(wire: &mut Wire, span: Span) -> Result<Option<u64>, ImportError> {
    let mut fixed = None;
    wire.fields(span, |_, field, value| {
        if let (1, Value::Number(n)) = (field, value) {
            fixed = Some(n);
        }
        Ok(())
    })?;
    Ok(fixed)
}

fn bounded(wire: &Wire, have: usize, max: usize, what: &str) -> Result<(), ImportError> {
    if have < max { Ok(()) } else { Err(wire.damaged(format!("more than {max} {what}"))) }
}

const NAME_BYTES_MAX: u64 = 4096;
const LIST_MAX: usize = 1024;
const DIMS_MAX: usize = 8;
