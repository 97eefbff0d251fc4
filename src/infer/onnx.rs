//! ONNX files through tract: f32 graphs, and int8 graphs of `QLinear` operators, on the CPU; of f32 graphs, an accelerator may
//! compute parts.

use std::rc::Rc;
use std::sync::Arc;

use tract_onnx::data_resolver::MmapDataResolver;
use tract_onnx::pb::{self, ModelProto, TypeProto, type_proto::Value};
use tract_onnx::prelude::*;
use tract_onnx::tensor::load_tensor;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::plan::{SimplePlan, SimpleState};

use super::conv::replace_convolutions;
use super::described::describe;
use crate::accel::claim::{Claimant, Claiming, Rule, WhenItFails};
use crate::accel::{
    ComputeBackend, Element, Isolated, ModelFile, Placement, Problem, Quantisation, Refused, Runner, Stage,
    TensorSpec, compare,
};
use crate::limits;

/// Name of this backend in manifests, logs and configuration.
pub const NAME: &str = "onnx";

/// tract on the CPU.
#[derive(Debug, Default)]
pub struct Onnx;

impl ComputeBackend for Onnx {
    fn name(&self) -> &str {
        NAME
    }

    fn load(&self, model: &ModelFile) -> Result<Box<dyn Runner>, Refused> {
        let runner = Tract::load(model, None)
            .map_err(|(stage, what)| Refused::new(NAME, stage, format_args!("{}: {what}", model.origin)))?;
        Ok(Box::new(runner))
    }
}

/// An accelerator: the bundle's own file for it; where it has none or that does not do, what it computes of an ONNX graph, whose rest
/// tract computes on the CPU.
#[derive(Debug)]
pub struct OnnxOn {
    device: Rc<Isolated>,
    claimant: Arc<Claimant>,
    /// What a part of a graph is measured by.
    pub rule: Rule,
}

impl OnnxOn {
    /// On `device`; nothing is begun yet.
    pub fn new(device: &Rc<Isolated>) -> Self {
        Self {
            device: Rc::clone(device),
            claimant: Claimant::new(Isolated::clone(device)),
            rule: Rule::default(),
        }
    }
}

impl ComputeBackend for OnnxOn {
    fn name(&self) -> &str {
        ComputeBackend::name(&*self.device)
    }

    fn takes(&self, format: &str) -> bool {
        self.device.takes(format) || format == NAME
    }

    fn load(&self, model: &ModelFile) -> Result<Box<dyn Runner>, Refused> {
        if self.device.takes(&model.format) {
            return self.device.load(model);
        }
        let refused = |(stage, what)| {
            Refused::new(ComputeBackend::name(self), stage, format_args!("{}: {what}", model.origin))
        };
        Ok(Box::new(Tract::load(model, Some(self)).map_err(refused)?))
    }
}

/// A graph with its plan and its buffers.
struct Tract {
    state: SimpleState<TypedFact, Box<dyn TypedOp>>,
    input: TensorSpec,
    output: TensorSpec,
    placement: Placement,
    /// What computes parts of it.
    device: Option<Isolated>,
}

impl Tract {
    /// With `device`, everything that it computes rightly and no slower is its own. Errors: among others that it computes nothing.
    fn load(model: &ModelFile, device: Option<&OnnxOn>) -> Result<Self, Problem> {
        let load = |e: TractError| (Stage::Load, format!("it is no ONNX graph ({})", one_line(&e)));
        let proto = tract_onnx::onnx().proto_model_for_read(&mut &*model.bytes).map_err(load)?;
        let graph = proto.graph.as_ref().ok_or((Stage::Load, "it is no ONNX graph".to_owned()))?;
        check_interface(graph, model)?;
        let total = graph.node.len();
        // An operator that tract does not know is found when the graph is typed, and named by it.
        let prepare = |e: TractError| (Stage::Prepare, format!("tract can't run it ({})", one_line(&e)));
        let mut typed = parsed(&proto).and_then(|model| model.into_typed()).map_err(prepare)?;
        // Nothing but constants is folded before a device sees the graph: it knows ONNX's operators better than tract's.
        typed.prop_consts().map_err(prepare)?;
        let (mut typed, placement) = match device {
            Some(device) => {
                let mut claiming = Claiming::new(&model.origin, &device.claimant, describe);
                claiming.rule = device.rule;
                claiming.when_it_fails = WhenItFails::EndTheRun;
                let (typed, claimed) = claiming.claim(typed).map_err(prepare)?;
                if let (0, Some(Refused { stage, reason, .. })) =
                    (claimed.placement.claimed, claimed.refused.into_iter().next())
                {
                    return Err((stage, reason));
                }
                (typed, claimed.placement)
            }
            None => (typed, Placement { claimed: 0, total }),
        };
        replace_convolutions(&mut typed).map_err(prepare)?;
        let plan = typed.into_optimized().and_then(SimplePlan::new);
        let state = plan.and_then(|plan| plan.spawn()).map_err(prepare)?;
        let device = device.map(|on| Isolated::clone(&on.device));
        Ok(Self { state, input: model.input.clone(), output: model.output.clone(), placement, device })
    }

    fn compute(&mut self, input: &[u8], output: &mut Vec<u8>) -> TractResult<()> {
        ensure!(
            input.len() == self.input.bytes(),
            "the input has {} bytes, not {}",
            input.len(),
            self.input.bytes()
        );
        let mut tensor = Tensor::zero_dt(datum(self.input.element), &self.input.shape)?;
        tensor.as_bytes_mut().copy_from_slice(input);
        let answer = self.state.run(tvec![tensor.into()])?.remove(0);
        output.clear();
        output.extend_from_slice(answer.as_bytes());
        Ok(())
    }
}

impl Runner for Tract {
    fn run(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), Refused> {
        self.compute(input, output).map_err(|error| match error.downcast::<Refused>() {
            Ok(refused) => refused,
            Err(error) => Refused::new(NAME, Stage::Invoke, one_line(&error)),
        })?;
        if output.len() != self.output.bytes() {
            let reason = format!("the answer has {} bytes, not {}", output.len(), self.output.bytes());
            return Err(Refused::new(NAME, Stage::Invoke, reason));
        }
        Ok(())
    }

    fn placement(&self) -> Placement {
        self.placement
    }

    fn ready(&mut self) -> Result<bool, Refused> {
        self.device.as_ref().map_or(Ok(true), Isolated::ready)
    }

    fn begin(&mut self) -> Result<(), Refused> {
        self.device.as_ref().map_or(Ok(()), Isolated::begin)
    }
}

fn parsed(proto: &ModelProto) -> TractResult<InferenceModel> {
    tract_onnx::onnx().model_for_proto_model(proto)
}

/// The graph must have one input and one output, as the manifest says; what it computes is seen by the golden vectors.
fn check_interface(graph: &pb::GraphProto, model: &ModelFile) -> Result<(), Problem> {
    let constants: Vec<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let inputs: Vec<_> = graph.input.iter().filter(|v| !constants.contains(&v.name.as_str())).collect();
    let ([input], [output]) = (&inputs[..], &graph.output[..]) else {
        let what =
            format!("it has {} inputs and {} outputs, not one of each", inputs.len(), graph.output.len());
        return Err((Stage::Load, what));
    };
    for (side, value, spec) in [("input", *input, &model.input), ("output", output, &model.output)] {
        let found = value.r#type.as_ref().and_then(shape_and_type);
        let Some((shape, element)) = found else {
            return Err((Stage::Load, format!("the {side} {} is no tensor of fixed shape", value.name)));
        };
        compare(side, "shape", format!("{shape:?}"), format!("{:?}", spec.shape))?;
        compare(side, "type", element, spec.element.name().into())?;
    }
    for (side, found, spec) in [
        ("input", quantisation_of(graph, &input.name, true), &model.input),
        ("output", quantisation_of(graph, &output.name, false), &model.output),
    ] {
        if let (Some(found), Some(wanted)) = (found, spec.quantisation) {
            compare(side, "quantisation", found.to_string(), wanted.to_string())?;
        }
    }
    Ok(())
}

fn shape_and_type(of: &TypeProto) -> Option<(Vec<usize>, String)> {
    let Some(Value::TensorType(tensor)) = &of.value else { return None };
    let side = |dim: &pb::tensor_shape_proto::Dimension| match &dim.value {
        Some(pb::tensor_shape_proto::dimension::Value::DimValue(n)) => usize::try_from(*n).ok(),
        _ => None,
    };
    let shape: Vec<usize> = tensor.shape.as_ref()?.dim.iter().map(side).collect::<Option<_>>()?;
    let element = match pb::tensor_proto::DataType::try_from(tensor.elem_type).ok()? {
        pb::tensor_proto::DataType::Int8 => Element::Int8.name().into(),
        pb::tensor_proto::DataType::Uint8 => Element::Uint8.name().into(),
        pb::tensor_proto::DataType::Float => Element::F32.name().into(),
        other => format!("{other:?}").to_lowercase(),
    };
    Some((shape, element))
}

/// Scale and zero point that the graph itself uses for the tensor `name`, where its reader or writer tells.
fn quantisation_of(graph: &pb::GraphProto, name: &str, is_input: bool) -> Option<Quantisation> {
    let mut name = name.to_owned();
    // Reshapes and the like change nothing of it; the bound ends a graph that goes round.
    for _ in 0..limits::BUNDLE_ENTRIES_MAX {
        let side = |node: &&pb::NodeProto| {
            if is_input { node.input.contains(&name) } else { node.output.contains(&name) }
        };
        let node = graph.node.iter().find(side)?;
        let (scale, zero) = match (node.op_type.as_str(), is_input) {
            ("QLinearConv" | "QLinearMatMul", true)
            | ("QuantizeLinear", false)
            | ("DequantizeLinear", true) => (1, 2),
            ("QLinearConv" | "QLinearMatMul", false) => (6, 7),
            ("Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Transpose", _) => {
                name = if is_input { node.output.first()? } else { node.input.first()? }.clone();
                continue;
            }
            _ => return None,
        };
        let constant = |at: usize| graph.initializer.iter().find(|t| Some(&t.name) == node.input.get(at));
        let tensor = |at| load_tensor(&MmapDataResolver, constant(at)?, None).ok();
        let scale: f32 = tensor(scale)?.cast_to_scalar().ok()?;
        return Some(Quantisation { scale, zero_point: tensor(zero)?.cast_to_scalar().ok()? });
    }
    None
}

const fn datum(element: Element) -> DatumType {
    match element {
        Element::Int8 => DatumType::I8,
        Element::Uint8 => DatumType::U8,
        Element::F32 => DatumType::F32,
    }
}

fn one_line(error: &TractError) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}
