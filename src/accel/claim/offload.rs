//! A segment as one node of the graph: the device computes it, and whatever goes wrong there, the CPU does.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::plan::SimplePlan;

use super::segment::Port;
use super::{Claimant, Segment, WhenItFails, apart};
use crate::accel::{Check, Refused, Runner, Stage};
use crate::clock;
use crate::observe::{self, infer as events};

/// Takes and gives what the segment's nodes take and give together, in the order of its edges.
#[derive(Debug, Clone)]
pub struct Offload(pub(super) Arc<Ready>);

/// A segment that is ready on a device.
pub(super) struct Ready {
    pub name: String,
    pub claimant: Arc<Claimant>,
    when_it_fails: WhenItFails,
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
        when_it_fails: WhenItFails,
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
        let claimant = Arc::clone(claimant);
        Ok(Ok(Self { name, claimant, when_it_fails, inputs, outputs, cpu, device }))
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

    /// What the device must answer to `inputs`: what the CPU does, but for `error_max`.
    pub fn golden(&self, inputs: &TVec<TValue>, error_max: f32) -> TractResult<Golden> {
        let mut input = Vec::new();
        self.fill(inputs, &mut input);
        let numbers = |t: TValue| TractResult::Ok(t.try_as_plain_ram()?.as_slice::<f32>()?.to_vec());
        let wanted = self.on_cpu(inputs.clone())?.into_iter().map(numbers).collect::<TractResult<_>>()?;
        let (segment, device) = (self.name.clone(), self.claimant.name().to_owned());
        Ok(Golden { segment, device, input, wanted, error_max })
    }

    /// Holds the device's answers against `golden`, now and whenever it is begun again. Returns how far it is off.
    pub fn keep(&self, golden: Golden) -> Result<f32, Refused> {
        let runner = &mut self.device.lock().unwrap_or_else(PoisonError::into_inner).runner;
        let error = golden.error(runner.as_mut())?;
        runner.keep(Check::new(move |runner| golden.error(runner).map(drop)));
        Ok(error)
    }

    /// The bytes of `inputs`. Fewer rows than the device computes are filled up with noughts.
    fn fill(&self, inputs: &[TValue], bytes: &mut Vec<u8>) {
        bytes.clear();
        for (port, tensor) in self.inputs.iter().zip(inputs) {
            let end = bytes.len() + port.count() * 4;
            bytes.extend_from_slice(tensor.as_bytes());
            bytes.resize(end, 0);
        }
    }

    /// The device's answer; that of rows which only fill it up is cut off.
    pub fn on_device(&self, inputs: &[TValue]) -> TractResult<Result<TVec<TValue>, Refused>> {
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        let Loaded { runner, input, output } = &mut *device;
        self.fill(inputs, input);
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

    /// The device's answer, if it is to be asked now and gives one. Errors: it does not, and that ends the run.
    fn asked(&self, inputs: &[TValue]) -> TractResult<Option<TVec<TValue>>> {
        if self.when_it_fails == WhenItFails::EndTheRun {
            return Ok(Some(self.on_device(inputs)??));
        }
        let answered = match self.claimant.ready(clock::mono()) {
            Ok(true) => self.on_device(inputs)?,
            Ok(false) => return Ok(None),
            Err(refused) => Err(refused),
        };
        match answered {
            Ok(answers) => {
                self.claimant.succeeded(&self.name);
                Ok(Some(answers))
            }
            Err(refused) => {
                let quarantined = self.claimant.failed(&self.name, clock::mono());
                observe::emit(&events::BackendFailed { model: &self.name, refused: &refused, quarantined });
                Ok(None)
            }
        }
    }

    /// Whether the device computes tensors of these sizes.
    fn fits(&self, inputs: &[TValue]) -> bool {
        self.inputs.iter().zip(inputs).all(|(port, input)| match (port.rows(), input.shape()) {
            (Some(_), [rows, rest @ ..]) => (1..=port.shape[0]).contains(rows) && *rest == port.shape[1..],
            (_, shape) => *shape == port.shape[..],
        })
    }
}

/// An input of a segment, and what the CPU answers to it.
pub(super) struct Golden {
    segment: String,
    device: String,
    input: Vec<u8>,
    /// The numbers of each output.
    wanted: Vec<Vec<f32>>,
    error_max: f32,
}

impl Golden {
    /// How far `runner` is off. Errors: further than is tolerated, or it does not answer.
    fn error(&self, runner: &mut dyn Runner) -> Result<f32, Refused> {
        let mut output = Vec::new();
        runner.run(&self.input, &mut output)?;
        let (mut error, mut at) = (0.0_f32, 0);
        for wanted in &self.wanted {
            let bytes = output.get(at..at + wanted.len() * 4).unwrap_or_default();
            let found: Vec<f32> =
                bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            error = error.max(apart(&found, wanted));
            at += wanted.len() * 4;
        }
        let (segment, most) = (&self.segment, self.error_max);
        if error > most {
            let why = format!(
                "{segment}: it is off by {error} of the CPU's answer, {most} is tolerated: wrong numbers"
            );
            return Err(Refused::new(&self.device, Stage::Golden, why));
        }
        Ok(error)
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
        let answers = if ready.fits(&inputs) { ready.asked(&inputs)? } else { None };
        answers.map_or_else(|| ready.on_cpu(inputs), Ok)
    }
}

impl TypedOp for Offload {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self.0.outputs.iter().map(|port| port.fact.clone()).collect())
    }

    as_op!();
}
