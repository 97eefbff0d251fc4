//! Parts of a graph on a device, the rest on the CPU: a runtime of tract's that gives a device what it can compute.
//!
//! ```text
//! graph ── describe, computes ──> segments ── file ──> device ── golden, speed ──> Offload nodes in the graph
//!                                    │                   │ refused: stage and reason
//!                                    └── the same nodes, <┘ and whenever the device fails later: on the CPU
//! ```
//!
//! A node is claimed if its owner [describes](Describe) it in words that `outpost_plugin.h` knows and the device computes them.
//! Claimed nodes form [segments](partition()), as large as can be; one that the device computes rightly and no slower than the
//! CPU becomes one [`Offload`] node. A device computes a fixed number of rows: with fewer, the rest is filled up with noughts,
//! with more, the CPU computes. That is why whatever is described and has rows without a number must compute row by row.

mod offload;
mod partition;
mod segment;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::plan::SimplePlan;
use tract_onnx::tract_core::runtime::{RunOptions, Runnable, Runtime};

use super::{ComputeBackend, Health, Isolated, ModelFile, Placement, Refused, Runner, Stage, State};
use crate::clock;
use crate::limits;
use crate::observe::backends;
use crate::time::Mono;
pub use offload::Offload;
use offload::Ready;
pub use partition::partition;
use segment::Port;
pub use segment::Segment;

/// A node in the words of `outpost_plugin.h`.
pub struct NodeDescription {
    /// Name of the operator.
    pub op: &'static str,
    /// Its numbers.
    pub attributes: Vec<(&'static str, f64)>,
    /// What it reads besides the node's own inputs, behind these.
    pub constants: Vec<Constant>,
}

/// Weights that a node brings.
pub struct Constant {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// As many numbers, row after row; asked for only if a device gets them.
    pub numbers: Box<dyn FnOnce() -> Vec<f32>>,
}

/// What a node is, if it is anything that a device may know. Who makes a graph knows its operators.
pub type Describe = fn(&TypedModel, &TypedNode) -> Option<NodeDescription>;

/// A device that may compute parts of a graph.
pub trait Device: fmt::Debug + Send + Sync {
    /// What configuration calls it.
    fn name(&self) -> &str;

    /// Which of `ops` it computes. Blocks.
    fn computes(&self, ops: &[&str]) -> Result<Vec<bool>, Refused>;

    /// Makes a segment ready. Blocks.
    fn create(&self, segment: &ModelFile) -> Result<Box<dyn Runner + Send>, Refused>;

    /// Whether it can run now; where it can't, what that takes has begun beside, or somebody else uses it. Does not block.
    /// Errors: what was begun did not succeed.
    fn ready(&self) -> Result<bool, Refused> {
        Ok(true)
    }

    /// Sees to it that it can run. Blocks for what that takes. Errors: it did not succeed.
    fn begin(&self) -> Result<(), Refused> {
        Ok(())
    }
}

impl Device for Isolated {
    fn name(&self) -> &str {
        ComputeBackend::name(self)
    }

    fn computes(&self, ops: &[&str]) -> Result<Vec<bool>, Refused> {
        self.which_computed(ops)
    }

    fn create(&self, segment: &ModelFile) -> Result<Box<dyn Runner + Send>, Refused> {
        Ok(Box::new(self.model(segment)?))
    }

    fn ready(&self) -> Result<bool, Refused> {
        Isolated::ready(self)
    }

    fn begin(&self) -> Result<(), Refused> {
        Isolated::begin(self)
    }
}

/// A device, and what is known of its failures: all segments wait together, as one device computes them all.
#[derive(Debug)]
pub struct Claimant {
    device: Box<dyn Device>,
    standing: Mutex<Standing>,
}

#[derive(Debug, Default)]
struct Standing {
    health: Health,
    /// The segment that failed last: what others answer says nothing about it.
    culprit: String,
    /// Graphs of which it computes parts.
    graphs: Vec<String>,
    /// It is measured, and waited for: what the CPU computed meanwhile would be taken for its own.
    is_measured: bool,
}

impl Claimant {
    /// Nobody has asked it yet.
    pub fn new(device: impl Device + 'static) -> Arc<Self> {
        Arc::new(Self { device: Box::new(device), standing: Mutex::default() })
    }

    /// What configuration calls it.
    pub fn name(&self) -> &str {
        self.device.name()
    }

    /// Whether it failed too often to be asked again.
    pub fn is_quarantined(&self) -> bool {
        self.standing().health.is_quarantined()
    }

    /// Whether it is asked at `now`: it has not just failed, and its process is there.
    pub fn is_well(&self, now: Mono) -> bool {
        matches!(self.ready(now), Ok(true))
    }

    /// The same. Errors: it would be asked again, but could not be begun again.
    fn ready(&self, now: Mono) -> Result<bool, Refused> {
        let (may_try, is_measured) = {
            let standing = self.standing();
            (standing.health.may_try(now), standing.is_measured)
        };
        match (may_try, is_measured) {
            (false, _) => Ok(false),
            (true, false) => self.device.ready(),
            (true, true) => self.device.begin().map(|()| true),
        }
    }

    /// Runs `measure`, in which no run is the CPU's because somebody else uses the device, or because it has yet to begin.
    pub fn measured<T>(&self, measure: impl FnOnce() -> T) -> T {
        self.standing().is_measured = true;
        let measured = measure();
        self.standing().is_measured = false;
        measured
    }

    /// Shows how far it has come with `graph`.
    pub fn show(&self, graph: &str, state: State) {
        backends::set(self.name(), graph, state.name());
        if state == State::Serving {
            self.standing().graphs.push(graph.into());
        }
    }

    fn succeeded(&self, segment: &str) {
        let mut standing = self.standing();
        if standing.culprit == segment {
            standing.health.succeeded();
            standing.culprit.clear();
        }
    }

    fn failed(&self, segment: &str, now: Mono) -> bool {
        let mut standing = self.standing();
        standing.culprit = segment.into();
        let quarantined = standing.health.failed(now);
        for graph in standing.graphs.iter().filter(|_| quarantined) {
            backends::set(self.name(), graph, State::Quarantined.name());
        }
        quarantined
    }

    fn standing(&self) -> std::sync::MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of a run whose device fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenItFails {
    /// The CPU computes the same nodes in the same run, and the device is left alone for a while.
    GoOnTheCpu,
    /// The run ends with the [`Refused`] as its error: whoever asked has somebody else to ask, and decides when the device is asked
    /// again.
    EndTheRun,
}

/// When a segment may run on a device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// Largest difference from the CPU's answer, as a share of the largest number of a tensor.
    pub error_max: f32,
    /// A run that takes no longer is fast enough, even where the CPU is faster: it leaves the CPU to others.
    pub fast_enough: Duration,
}

impl Default for Rule {
    fn default() -> Self {
        Self { error_max: limits::SEGMENT_ERROR_MAX, fast_enough: Duration::ZERO }
    }
}

/// How the device did where it was held against the CPU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verified {
    /// Largest difference, as a share of the largest number of a tensor.
    pub error: f32,
    /// Median time of a run on the device.
    pub device_p50: Duration,
    /// Median time of the same on the CPU.
    pub cpu_p50: Duration,
}

/// What became of a graph.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Claimed {
    /// Operators on the device, of how many.
    pub placement: Placement,
    /// What the device computes, segment by segment.
    pub segments: Vec<(String, Verified)>,
    /// Why it does not compute more.
    pub refused: Vec<Refused>,
}

/// Runs graphs of one kind, as far as it can on one device.
#[derive(Debug)]
pub struct Claiming {
    /// What errors and log lines call a graph.
    pub graph: String,
    /// The device.
    pub claimant: Arc<Claimant>,
    /// Who knows the graph's operators.
    pub describe: Describe,
    /// The rows that the device is to compute, by the name that the graph has for their number.
    pub rows: Vec<(&'static str, usize)>,
    /// What it is measured by.
    pub rule: Rule,
    /// What becomes of a run whose device fails.
    pub when_it_fails: WhenItFails,
    claimed: Mutex<Claimed>,
}

impl Runtime for Claiming {
    fn name(&self) -> StaticName {
        Cow::Owned(self.claimant.name().to_owned())
    }

    fn check(&self) -> TractResult<()> {
        Ok(())
    }

    fn prepare_with_options(
        &self,
        model: TypedModel,
        options: &RunOptions,
    ) -> TractResult<Box<dyn Runnable>> {
        let (model, claimed) = self.claim(model)?;
        *self.claimed.lock().unwrap_or_else(PoisonError::into_inner) = claimed;
        Ok(Box::new(SimplePlan::new_with_options(model.into_optimized()?, options)?))
    }
}

impl Claiming {
    /// A runtime that has not seen a graph yet.
    pub fn new(graph: &str, claimant: &Arc<Claimant>, describe: Describe) -> Self {
        Self {
            graph: graph.into(),
            claimant: Arc::clone(claimant),
            describe,
            rows: Vec::new(),
            rule: Rule::default(),
            when_it_fails: WhenItFails::GoOnTheCpu,
            claimed: Mutex::default(),
        }
    }

    /// What became of the last graph that was prepared.
    pub fn into_claimed(self) -> Claimed {
        self.claimed.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// The graph with everything replaced that the device computes, and what became of it. Blocks: it makes segments ready, and
    /// takes times. Errors: the graph itself is at fault; a device never is.
    pub fn claim(&self, mut model: TypedModel) -> TractResult<(TypedModel, Claimed)> {
        let sizes = self.rows.iter().fold(SymbolValues::default(), |sizes, (name, rows)| {
            sizes.with(&model.symbols.sym(name), i64::try_from(*rows).unwrap_or(i64::MAX))
        });
        let order = model.eval_order()?;
        let total = order.iter().filter(|node| segment::computes(model.node(**node))).count();
        let mut claimed = Claimed { placement: Placement { claimed: 0, total }, ..Claimed::default() };
        let segments = match self.segments(&model, &order, &sizes) {
            Ok(segments) => segments,
            Err(refused) => {
                claimed.refused.push(refused);
                return Ok((model, claimed));
            }
        };
        for (n, nodes) in segments.into_iter().enumerate() {
            let count = nodes.len();
            // Those before may have taken the place of what it reads.
            let segment = Segment::new(&model, nodes)?;
            let name = format!("{} {n}", self.graph);
            match self.ready(&model, &segment, &name, &sizes)? {
                Ok((ready, on_device, verified)) => {
                    replace(&mut model, &segment, Offload(Arc::new(ready)))?;
                    claimed.placement.claimed += on_device.min(count);
                    claimed.segments.push((name, verified));
                }
                Err(refused) => {
                    let is_gone = ends_all(refused.stage);
                    claimed.refused.push(refused);
                    if is_gone {
                        break;
                    }
                }
            }
        }
        // One segment's failure may have ended what computes the others.
        if claimed.placement.claimed > 0
            && let Err(refused) = self.claimant.device.begin()
        {
            claimed.refused.push(refused);
        }
        model.compact()?;
        Ok((model, claimed))
    }

    /// The segments that the device is offered. Errors: it takes none.
    fn segments(
        &self,
        model: &TypedModel,
        order: &[usize],
        sizes: &SymbolValues,
    ) -> Result<Vec<Vec<usize>>, Refused> {
        let ops: Vec<Option<&str>> = order.iter().map(|&node| self.op_of(model, node, sizes)).collect();
        let mut asked: Vec<&str> = ops.iter().flatten().copied().collect();
        asked.sort_unstable();
        asked.dedup();
        let answers = if asked.is_empty() { Vec::new() } else { self.claimant.device.computes(&asked)? };
        let computed: Vec<&str> =
            asked.iter().zip(answers).filter(|(_, yes)| *yes).map(|(op, _)| *op).collect();
        let is_claimed: Vec<bool> =
            ops.iter().map(|op| op.is_some_and(|op| computed.contains(&op))).collect();
        if !is_claimed.contains(&true) {
            // Of what has nothing to offer, nobody was asked.
            let (stage, why) = match asked.is_empty() {
                true => (Stage::Prepare, "it has no operator that a device is offered".into()),
                false => {
                    (Stage::Claim, format!("it computes none of what it is offered: {}", asked.join(", ")))
                }
            };
            let graph = &self.graph;
            return Err(Refused::new(self.claimant.name(), stage, format_args!("{graph}: {why}")));
        }
        let place = |node: &usize| order.iter().position(|n| n == node);
        let reads = |&node: &usize| -> Vec<usize> {
            model.node(node).inputs.iter().filter_map(|input| place(&input.node)).collect()
        };
        let inputs: Vec<Vec<usize>> = order.iter().map(reads).collect();
        let segments = partition(&inputs, &is_claimed);
        Ok(segments.into_iter().map(|nodes| nodes.into_iter().map(|n| order[n]).collect()).collect())
    }

    /// The name of a node's operator, if its tensors are such as a device may get.
    fn op_of(&self, model: &TypedModel, node: usize, sizes: &SymbolValues) -> Option<&'static str> {
        let node = model.node(node);
        let facts = model.node_input_facts(node.id).ok()?;
        // What reads constants alone is computed once and for all.
        if !segment::computes(node) || facts.iter().all(|fact| fact.konst.is_some()) {
            return None;
        }
        let all = facts.into_iter().chain(node.outputs.iter().map(|output| &output.fact));
        let all_known = all.into_iter().all(|fact| Port::new(fact, sizes).is_some());
        (self.describe)(model, node).filter(|_| all_known).map(|description| description.op)
    }

    /// Makes a segment ready on the device and holds it against the CPU.
    fn ready(
        &self,
        model: &TypedModel,
        segment: &Segment,
        name: &str,
        sizes: &SymbolValues,
    ) -> TractResult<Result<(Ready, usize, Verified), Refused>> {
        let claimant = &self.claimant;
        let refuse = |why: String| Refused::new(claimant.name(), Stage::Claim, format_args!("{name}: {why}"));
        let created = segment
            .file(model, name, sizes, self.describe)
            .map_err(refuse)
            .and_then(|file| claimant.device.create(&file));
        let runner = match created {
            Ok(runner) => runner,
            Err(refused) => return Ok(Err(refused)),
        };
        let on_device = runner.placement().claimed;
        let made = Ready::new(name.into(), claimant, self.when_it_fails, model, segment, sizes, runner)?;
        let ready = match made {
            Ok(ready) => ready,
            Err(why) => return Ok(Err(refuse(why))),
        };
        Ok(self.verify(&ready)?.map(|verified| (ready, on_device, verified)))
    }

    /// Golden: the device's answer to any numbers is the CPU's. Speed: it takes no longer.
    fn verify(&self, ready: &Ready) -> TractResult<Result<Verified, Refused>> {
        let refuse = |stage, why: String| {
            Ok(Err(Refused::new(self.claimant.name(), stage, format_args!("{}: {why}", ready.name))))
        };
        let inputs = ready.any_inputs(&mut fastrand::Rng::with_seed(SEED))?;
        let error = match ready.keep(ready.golden(&inputs, self.rule.error_max)?) {
            Ok(error) => error,
            Err(refused) => return Ok(Err(refused)),
        };
        let mut fault = None;
        let mut on_device = || {
            match ready.on_device(&inputs) {
                Ok(Ok(_)) => {}
                Ok(Err(refused)) => fault = Some(Ok(refused)),
                Err(error) => fault = Some(Err(error)),
            }
            fault.is_none()
        };
        let device_p50 = median(&mut on_device);
        let cpu_p50 = median(|| ready.on_cpu(inputs.clone()).is_ok());
        match fault {
            Some(Ok(refused)) => return Ok(Err(refused)),
            Some(Err(error)) => return Err(error),
            None => {}
        }
        if device_p50 > cpu_p50.max(self.rule.fast_enough) {
            return refuse(Stage::Speed, format!("a run takes {device_p50:?}, {cpu_p50:?} on the CPU"));
        }
        Ok(Ok(Verified { error, device_p50, cpu_p50 }))
    }
}

/// The largest difference as a share of the largest number; infinite where one of `found` is no number, or missing.
pub fn apart(found: &[f32], wanted: &[f32]) -> f32 {
    let largest = wanted.iter().fold(f32::MIN_POSITIVE, |m, x| m.max(x.abs()));
    let off = |(a, b): (&f32, &f32)| Some((a - b).abs()).filter(|off| !off.is_nan()).unwrap_or(f32::INFINITY);
    if found.len() != wanted.len() {
        return f32::INFINITY;
    }
    found.iter().zip(wanted).map(off).fold(0.0, f32::max) / largest
}

/// The median time of some runs, one at least and as many as the time for it allows; ends early if a run says no.
pub fn median(mut run: impl FnMut() -> bool) -> Duration {
    let mut times = Vec::with_capacity(limits::BACKEND_TIMED_RUNS);
    let until = clock::mono() + Duration::from_millis(limits::BACKEND_TIMED_MS_MAX);
    while times.len() < limits::BACKEND_TIMED_RUNS && (times.is_empty() || clock::mono() < until) {
        let begun = clock::mono();
        if !run() {
            break;
        }
        times.push(clock::mono().since(begun));
    }
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Whether the device is not well, so that it is offered nothing more: every further try might cost a whole deadline.
fn ends_all(stage: Stage) -> bool {
    !matches!(stage, Stage::Create | Stage::Claim | Stage::Golden | Stage::Speed)
}

fn replace(model: &mut TypedModel, segment: &Segment, by: Offload) -> TractResult<()> {
    let name = by.0.name.clone();
    let mut patch = TypedModelPatch::default();
    let inputs = patch.taps(model, &segment.inputs)?;
    let made = patch.wire_node(name, by, &inputs)?;
    for (&outlet, made) in segment.outputs.iter().zip(made) {
        patch.shunt_outside(model, outlet, made)?;
    }
    patch.apply(model)
}

/// Of the numbers that a device is tried with.
const SEED: u64 = 5;
