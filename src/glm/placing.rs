//! The model's graph on a device, as far as that computes it: prompts and single tokens each on their own, by measurement.
//!
//! | phase | a run of | made for |
//! |---|---|---|
//! | decode | one token | 1 row |
//! | prefill | several tokens: pieces of prompts, the next tokens of several sequences | [`DeviceOptions::prefill_tokens`] rows; fewer are filled up |
//!
//! A phase is on the device if that takes operators, the logits of the whole phase are the CPU's, and a whole run takes no longer.
//! A device takes the same time for few rows as for many and a CPU does not, so a prefill also has a smallest number of tokens,
//! from which on the device is no slower. Everything else runs on the CPU. Attention does so always: keys and values are there.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::runtime::Runtime;

use super::engine::{Batch, forward};
use super::graph::{ROWS, TOKENS};
use super::kernels::{Epilogue, KvStore, Matrix, PANEL_ROWS};
use super::ops::{Linear, RmsNorm};
use crate::accel::claim::{
    Claimant, Claimed, Claiming, Constant, NodeDescription, Rule, Verified, apart, median,
};
use crate::accel::worker::WorkerOptions;
use crate::accel::{Isolated, Placement, Problem, Refused, Stage, State};
use crate::clock;
use crate::limits;
use crate::observe::accel::GlmPlaced;
use crate::observe::emit;
use crate::reading::named_enum;

/// A device that an engine may use.
#[derive(Debug, Clone)]
pub struct DeviceOptions {
    /// The device.
    pub claimant: Arc<Claimant>,
    /// Most tokens of a run on it; longer ones are the CPU's.
    pub prefill_tokens: usize,
    /// What it is measured by.
    pub rule: Rule,
}

impl DeviceOptions {
    /// A device whose vendor's code runs in a worker process. Nothing is begun yet.
    pub fn worker(options: &WorkerOptions) -> Self {
        Self {
            claimant: Claimant::new(Isolated::shared(options)),
            prefill_tokens: limits::GLM_DEVICE_TOKENS,
            rule: Rule::default(),
        }
    }
}

named_enum! {
    /// What a run is for.
    Phase { Prefill = "prefill", Decode = "decode" }
}

/// Where a phase runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed {
    /// Which phase.
    pub phase: Phase,
    /// Operators on the device; none: it is the CPU's.
    pub placement: Placement,
    /// Runs of so many tokens are the device's.
    pub tokens: RangeInclusive<usize>,
    /// How the device did, in a run of as many tokens as it takes; none: it did not come so far.
    pub verified: Option<Verified>,
    /// What it does not compute, and why.
    pub refused: Vec<Refused>,
}

impl Placed {
    /// How far the device has come with the phase.
    pub fn state(&self) -> State {
        let had_loaded = |refused: &Refused| (Stage::Golden..=Stage::Invoke).contains(&refused.stage);
        match self.placement.claimed {
            0 if self.refused.iter().any(had_loaded) => State::Loaded,
            0 if self.refused.iter().any(|refused| refused.stage == Stage::Find) => State::Absent,
            0 => State::Probed,
            _ => State::Serving,
        }
    }

    /// One line for the log: where the phase runs on `device`, and if it does not, at which stage and why.
    pub fn tell(&self, device: &str) {
        emit(&GlmPlaced {
            device,
            phase: self.phase.name(),
            placement: self.placement,
            tokens_min: *self.tokens.start(),
            tokens_max: *self.tokens.end(),
            verified: self.verified,
            refused: self.refused.first(),
        });
    }
}

/// A phase on the device.
pub(super) struct OnDevice {
    pub tokens: RangeInclusive<usize>,
    pub state: TypedSimpleState,
}

/// An engine's parts, while nobody uses it yet.
pub(super) struct Placing<'a> {
    pub graph: &'a TypedModel,
    pub cpu: &'a mut TypedSimpleState,
    pub kv: &'a KvStore,
    pub vocab: usize,
    /// Most tokens of a run.
    pub tokens_max: usize,
    /// Longest sequence.
    pub context_tokens: usize,
}

impl Placing<'_> {
    /// Places both phases. Blocks: it makes the graph's segments ready on the device, and takes times. Errors: the CPU's graph is at
    /// fault; a device never is.
    pub fn place(mut self, device: &DeviceOptions) -> TractResult<(Vec<Placed>, Vec<OnDevice>)> {
        let prefill = device.prefill_tokens.min(self.tokens_max).min(self.context_tokens / 2);
        let (mut placed, mut on_device) = (Vec::new(), Vec::new());
        for (phase, tokens) in [(Phase::Prefill, prefill), (Phase::Decode, 1)] {
            if phase == Phase::Prefill && tokens < 2 {
                continue;
            }
            let (told, state) = self.phase(device, phase, tokens)?;
            device.claimant.show(&graph(phase), told.state());
            on_device.extend(state.map(|state| OnDevice { tokens: told.tokens.clone(), state }));
            placed.push(told);
        }
        self.kv.clear(SLOT)?;
        Ok((placed, on_device))
    }

    fn phase(
        &mut self,
        device: &DeviceOptions,
        phase: Phase,
        tokens: usize,
    ) -> TractResult<(Placed, Option<TypedSimpleState>)> {
        let mut claiming = Claiming::new(&graph(phase), &device.claimant, describe);
        claiming.rows = vec![(TOKENS, tokens), (ROWS, 1)];
        claiming.rule = device.rule;
        let runnable = claiming.prepare(self.graph.clone())?;
        let Claimed { placement, refused, .. } = claiming.into_claimed();
        let on_cpu = Placement { claimed: 0, ..placement };
        let mut placed =
            Placed { phase, placement: on_cpu, tokens: tokens..=tokens, verified: None, refused };
        let Some(plan) = runnable.typed_plan().filter(|_| placement.claimed > 0) else {
            return Ok((placed, None));
        };
        let mut state = plan.spawn()?;
        let begin = match phase {
            Phase::Prefill => 0,
            // Behind a prompt, as it will be.
            Phase::Decode => self.read_prompt()?,
        };
        let refuse = |stage, why: String| {
            Refused::new(device.claimant.name(), stage, format_args!("glm {phase}: {why}"))
        };
        let claimant = &device.claimant;
        let (verified, is_well) = claimant.measured(|| {
            let verified = self.verify(&mut state, &device.rule, begin, tokens);
            (verified, claimant.is_well(clock::mono()))
        });
        match verified? {
            (verified, Ok(smallest)) if is_well => {
                placed.verified = Some(verified);
                placed.placement = placement;
                placed.tokens = smallest..=tokens;
                Ok((placed, Some(state)))
            }
            // Whatever came out then was the CPU's.
            (_, Ok(_)) => {
                placed.refused.insert(0, refuse(Stage::Invoke, "it failed while it was measured".into()));
                Ok((placed, None))
            }
            (verified, Err((stage, why))) => {
                placed.verified = Some(verified);
                placed.refused.insert(0, refuse(stage, why));
                Ok((placed, None))
            }
        }
    }

    /// Holds a phase against the CPU; gives the smallest number of tokens that pays.
    fn verify(
        &mut self,
        state: &mut TypedSimpleState,
        rule: &Rule,
        begin: usize,
        tokens: usize,
    ) -> TractResult<(Verified, Result<usize, Problem>)> {
        let batch = self.any_batch(begin, tokens);
        let wanted = self.run_cpu(&batch)?;
        let found = numbers(&run(state, self.kv, &batch, begin)?)?;
        let error = apart(&found, &wanted);
        let (device_p50, cpu_p50) = self.times(state, &batch, begin)?;
        let verified = Verified { error, device_p50, cpu_p50 };
        let most = limits::GLM_DEVICE_ERROR_MAX.max(rule.error_max);
        if error > most {
            let why = format!("logits are off by {error} of the CPU's, {most} is tolerated: wrong numbers");
            return Ok((verified, Err((Stage::Golden, why))));
        }
        if device_p50 > cpu_p50.max(rule.fast_enough) {
            let why = format!("a run of {tokens} takes {device_p50:?}, {cpu_p50:?} on the CPU");
            return Ok((verified, Err((Stage::Speed, why))));
        }
        let smallest = smallest_that_pays(tokens, |fewer| {
            let (device, cpu) = self.times(state, &self.any_batch(begin, fewer), begin)?;
            Ok(device <= cpu.max(rule.fast_enough))
        })?;
        Ok((verified, Ok(smallest)))
    }

    fn times(
        &mut self,
        state: &mut TypedSimpleState,
        batch: &Batch,
        begin: usize,
    ) -> TractResult<(Duration, Duration)> {
        let mut failed = None;
        let mut timed = |state: &mut TypedSimpleState| {
            median(|| run(state, self.kv, batch, begin).map_err(|error| failed = Some(error)).is_ok())
        };
        let times = (timed(state), timed(self.cpu));
        failed.map_or(Ok(times), Err)
    }

    fn run_cpu(&mut self, batch: &Batch) -> TractResult<Vec<f32>> {
        let begin = batch.spans.first().map_or(0, |span| span.position as usize);
        numbers(&run(self.cpu, self.kv, batch, begin)?)
    }

    /// Reads a few tokens for good; returns how many.
    fn read_prompt(&mut self) -> TractResult<usize> {
        let count = self.tokens_max.min(self.context_tokens / 2);
        self.kv.truncate(SLOT, 0)?;
        forward(self.cpu, &self.any_batch(0, count))?;
        Ok(count)
    }

    /// Any tokens behind the first `begin`; the last one's logits are wanted.
    fn any_batch(&self, begin: usize, tokens: usize) -> Batch {
        let mut rng = fastrand::Rng::with_seed(SEED);
        let vocab = u32::try_from(self.vocab).unwrap_or(u32::MAX);
        let tokens: Vec<u32> = (0..tokens).map(|_| rng.u32(0..vocab)).collect();
        let mut batch = Batch::default();
        batch.push(SLOT, u32::try_from(begin).unwrap_or(u32::MAX), &tokens, true);
        batch
    }
}

/// What log lines and pages call a phase's graph.
fn graph(phase: Phase) -> String {
    format!("glm {phase}")
}

/// The smallest number of tokens, by halves of `tokens` and two at least, of which a run `pays` on the device.
fn smallest_that_pays(tokens: usize, mut pays: impl FnMut(usize) -> TractResult<bool>) -> TractResult<usize> {
    let mut smallest = tokens;
    while smallest >= 4 && pays(smallest / 2)? {
        smallest /= 2;
    }
    Ok(smallest)
}

/// The sequence that is measured with; it is empty before and behind.
const SLOT: u32 = 0;
/// Of the tokens that are measured with.
const SEED: u64 = 7;

/// One run that leaves nothing behind.
fn run(state: &mut TypedSimpleState, kv: &KvStore, batch: &Batch, begin: usize) -> TractResult<TValue> {
    kv.truncate(SLOT, u32::try_from(begin)?)?;
    forward(state, batch)
}

fn numbers(logits: &TValue) -> TractResult<Vec<f32>> {
    Ok(logits.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
}

/// The operators that a device may know, row by row all of them: products, norms and sums, not the embedding and attention.
fn describe(model: &TypedModel, node: &TypedNode) -> Option<NodeDescription> {
    let described = |op, attributes, constants| Some(NodeDescription { op, attributes, constants });
    if let Some(linear) = node.op_as::<Linear>() {
        let matrix = &linear.matrix;
        return match (linear.epilogue, &linear.bias) {
            (Epilogue::None, bias) => {
                let weights = rows(matrix, (0..matrix.rows()).collect());
                let bias = bias.clone().map(|bias| Constant {
                    shape: vec![bias.len()],
                    numbers: Box::new(move || bias.to_vec()),
                });
                described("linear", Vec::new(), [weights].into_iter().chain(bias).collect())
            }
            (Epilogue::SiluGate { inter }, None) => {
                let gate = |row: usize| row / PANEL_ROWS * 2 * PANEL_ROWS + row % PANEL_ROWS;
                let up = |row: usize| gate(row) + PANEL_ROWS;
                let constants = vec![
                    rows(matrix, (0..inter).map(gate).collect()),
                    rows(matrix, (0..inter).map(up).collect()),
                ];
                described("gated_linear", Vec::new(), constants)
            }
            (Epilogue::SiluGate { .. }, Some(_)) => None,
        };
    }
    if let Some(norm) = node.op_as::<RmsNorm>() {
        let weight = Arc::clone(&norm.weight);
        let constant = Constant { shape: vec![weight.len()], numbers: Box::new(move || weight.to_vec()) };
        return described("rms_norm", vec![("eps", f64::from(norm.eps))], vec![constant]);
    }
    let facts = model.node_input_facts(node.id).ok()?;
    let is_sum = node.op_as::<TypedBinOp>().is_some_and(|op| op.0.name() == "Add");
    if is_sum && facts[0].shape == facts[1].shape {
        return described("add", Vec::new(), Vec::new());
    }
    None
}

/// Some rows of a matrix, written out.
fn rows(matrix: &Matrix, rows: Vec<usize>) -> Constant {
    let (matrix, cols) = (matrix.clone(), matrix.cols());
    let shape = vec![rows.len(), cols];
    let numbers = move || {
        let mut numbers = vec![0.0; rows.len() * cols];
        numbers.chunks_exact_mut(cols).zip(&rows).for_each(|(out, &row)| matrix.row(row, out));
        numbers
    };
    Constant { shape, numbers: Box::new(numbers) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_go_to_the_device_from_the_length_on_at_which_that_pays() {
        let from = |tokens, pays_from| smallest_that_pays(tokens, |n| Ok(n >= pays_from)).unwrap();
        assert_eq!(
            [from(64, 64), from(64, 33), from(64, 32), from(64, 10), from(64, 0)],
            [64, 64, 32, 16, 2]
        );
        assert_eq!([from(1, 0), from(2, 0), from(3, 0), from(50, 12)], [1, 2, 3, 12]);
    }
}
