//! A segment as one node of the graph: the device computes it, and whatever goes wrong there, the CPU does.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::plan::SimplePlan;

use super::segment::Port;
use super::{Claimant, Segment};
use crate::accel::{Refused, Runner, Stage};
use crate::clock;
use crate::observe::{self, infer as events};

/// Takes and gives what the segment's nodes take and give together, in the order of its edges.
#[derive(Debug, Clone)]
pub struct Offload(pub(super) Arc<Ready>);

/// A segment that is ready on a device.
pub(super) struct Ready {
    pub name: String,
    pub claimant: Arc<Claimant>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    cpu: Arc<TypedSimplePlan>,
    device: Mutex<Loaded>,
}

struct Loaded {
    runner: Box<dyn Runner + Send>,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Ready {
    /// Errors: the graph of the segment can't be computed, or in words, why no device gets it.
    pub fn new(
        name: String,
        claimant: &Arc<Claimant>,
        model: &TypedModel,
        segment: &Segment,
        sizes: &SymbolValues,
        runner: Box<dyn Runner + Send>,
    ) -> TractResult<Result<Self, String>> {
        let ports = |outlets: &[OutletId]| segment.ports(model, outlets, sizes);
        let (inputs, outputs) = match (ports(&segment.inputs), ports(&segment.outputs)) {
            (Ok(inputs), Ok(outputs)) => (inputs, outputs),
            (Err(why), _) | (_, Err(why)) => return Ok(Err(why)),
        };
        let mut rows = inputs.iter().chain(&outputs).map(Port::rows);
        let first = rows.next().flatten();
        if inputs.is_empty() || rows.any(|rows| rows != first) {
            return Ok(Err("its tensors do not all have the same rows".into()));
        }
        let cpu = SimplePlan::new(segment.graph(model)?.into_optimized()?)?;
        let device = Mutex::new(Loaded { runner, input: Vec::new(), output: Vec::new() });
        Ok(Ok(Self { name, claimant: Arc::clone(claimant), inputs, outputs, cpu, device }))
    }

    /// Inputs as the device takes them, of any numbers between -1 and 1.
    pub fn any_inputs(&self, rng: &mut fastrand::Rng) -> TractResult<TVec<TValue>> {
        let any = |port: &Port| {
            let numbers: Vec<f32> = (0..port.count()).map(|_| rng.f32() * 2.0 - 1.0).collect();
            Ok(Tensor::from_shape(&port.shape, &numbers)?.into_tvalue())
        };
        self.inputs.iter().map(any).collect()
    }

    pub fn on_cpu(&self, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.cpu.run(inputs)
    }

    /// The device's answer. Fewer rows than it computes are filled up with noughts, and their answer is cut off.
    pub fn on_device(&self, inputs: &[TValue]) -> TractResult<Result<TVec<TValue>, Refused>> {
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        let Loaded { runner, input, output } = &mut *device;
        input.clear();
        for (port, tensor) in self.inputs.iter().zip(inputs) {
            let end = input.len() + port.count() * 4;
            input.extend_from_slice(tensor.as_bytes());
            input.resize(end, 0);
        }
        if let Err(refused) = runner.run(input, output) {
            return Ok(Err(refused));
        }
        let wanted: usize = self.outputs.iter().map(|port| port.count() * 4).sum();
        if output.len() != wanted {
            let why = format!("{}: the answer has {} bytes, not {wanted}", self.name, output.len());
            return Ok(Err(Refused::new(self.claimant.name(), Stage::Invoke, why)));
        }
        let (mut answers, mut at) = (TVec::new(), 0);
        for port in &self.outputs {
            let mut shape = port.shape.clone();
            if let (Some(_), Some(first)) = (port.rows(), inputs.first()) {
                shape[0] = first.shape()[0];
            }
            let mut answer = Tensor::zero::<f32>(&shape)?;
            let bytes = answer.as_bytes_mut();
            let count = bytes.len();
            bytes.copy_from_slice(&output[at..at + count]);
            answers.push(answer.into_tvalue());
            at += port.count() * 4;
        }
        Ok(Ok(answers))
    }

    /// Whether the device computes tensors of these sizes.
    fn fits(&self, inputs: &[TValue]) -> bool {
        self.inputs.iter().zip(inputs).all(|(port, input)| match (port.rows(), input.shape()) {
            (Some(_), [rows, rest @ ..]) => (1..=port.shape[0]).contains(rows) && *rest == port.shape[1..],
            (_, shape) => *shape == port.shape[..],
        })
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.name, self.claimant.name())
    }
}

impl PartialEq for Offload {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Offload {}

impl Op for Offload {
    fn name(&self) -> StaticName {
        "Offload".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("{:?}", self.0)])
    }

    op_as_typed_op!();
}

impl EvalOp for Offload {
    not_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let ready = &*self.0;
        if ready.fits(&inputs) && ready.claimant.is_well(clock::mono()) {
            match ready.on_device(&inputs)? {
                Ok(answers) => {
                    ready.claimant.succeeded(&ready.name);
                    return Ok(answers);
                }
                Err(refused) => {
                    let quarantined = ready.claimant.failed(&ready.name, clock::mono());
                    observe::emit(&events::BackendFailed {
                        model: &ready.name,
                        refused: &refused,
                        quarantined,
                    });
                }
            }
        }
        ready.on_cpu(inputs)
    }
}

impl TypedOp for Offload {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self.0.outputs.iter().map(|port| port.fact.clone()).collect())
    }

    as_op!();
}
