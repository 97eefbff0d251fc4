//! Graphs of three operators, and a device that reads segment files and computes them, or does not.

use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use tract_onnx::tract_core::ops::math;

use super::*;

/// What the device does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    Create,
    Wrong,
    NoNumber,
    Slow,
    ErrorFrom(u32),
}

#[derive(Debug)]
struct Bench {
    ops: Vec<&'static str>,
    fault: Fault,
    runs: Arc<AtomicU32>,
}

impl Device for Bench {
    fn name(&self) -> &str {
        "bench"
    }

    fn computes(&self, ops: &[&str]) -> Result<Vec<bool>, Refused> {
        Ok(ops.iter().map(|op| self.ops.contains(op)).collect())
    }

    fn create(&self, file: &ModelFile) -> Result<Box<dyn Runner + Send>, Refused> {
        if self.fault == Fault::Create {
            return Err(Refused::new("bench", Stage::Create, "busy"));
        }
        assert_eq!(&file.bytes[..8], segment::MAGIC);
        let length = u64::from_le_bytes(file.bytes[8..16].try_into().unwrap()) as usize;
        assert!((16 + length).is_multiple_of(64));
        let header = serde_json::from_slice(&file.bytes[16..16 + length]).unwrap();
        let weights = file.bytes[16 + length..].to_vec();
        Ok(Box::new(Bound { header, weights, fault: self.fault, runs: Arc::clone(&self.runs) }))
    }
}

struct Bound {
    header: serde_json::Value,
    weights: Vec<u8>,
    fault: Fault,
    runs: Arc<AtomicU32>,
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn indices(of: &serde_json::Value) -> Vec<usize> {
    of.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
}

impl Runner for Bound {
    fn run(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), Refused> {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        match self.fault {
            Fault::ErrorFrom(n) if run >= n => return Err(Refused::new("bench", Stage::Invoke, "code 42")),
            Fault::Slow => std::thread::sleep(Duration::from_millis(5)),
            _ => {}
        }
        let tensors = self.header["tensors"].as_array().unwrap();
        let count = |n: usize| indices(&tensors[n]["shape"]).iter().product::<usize>();
        let mut values: Vec<Vec<f32>> = (0..tensors.len())
            .map(|n| match tensors[n]["offset"].as_u64() {
                Some(at) => floats(&self.weights[at as usize..][..4 * count(n)]),
                None => Vec::new(),
            })
            .collect();
        let mut at = 0;
        for n in indices(&self.header["inputs"]) {
            values[n] = floats(&input[at..at + 4 * count(n)]);
            at += 4 * count(n);
        }
        assert_eq!(at, input.len());
        for node in self.header["nodes"].as_array().unwrap() {
            let inputs = indices(&node["inputs"]);
            let (a, b) = (&values[inputs[0]], &values[inputs[inputs.len() - 1]]);
            let pairs = a.iter().enumerate().map(|(i, a)| (*a, b[i % b.len()]));
            let made: Vec<f32> = match node["op"].as_str().unwrap() {
                "add" => pairs.map(|(a, b)| a + b).collect(),
                "mul" => pairs.map(|(a, b)| a * b).collect(),
                "scale" => pairs.map(|(a, b)| a * b).collect(),
                other => panic!("{other}"),
            };
            values[indices(&node["outputs"])[0]] = made;
        }
        output.clear();
        for n in indices(&self.header["outputs"]) {
            output.extend(values[n].iter().flat_map(|x| x.to_le_bytes()));
        }
        match self.fault {
            Fault::Wrong => output.iter_mut().for_each(|b| *b ^= 0x40),
            Fault::NoNumber => output[..4].copy_from_slice(&f32::NAN.to_le_bytes()),
            _ => {}
        }
        Ok(())
    }

    fn placement(&self) -> Placement {
        let total = self.header["nodes"].as_array().unwrap().len();
        Placement { claimed: total, total }
    }
}

/// A matrix product is nobody's here; `scale` reads a constant of the graph.
fn describe(model: &TypedModel, node: &TypedNode) -> Option<NodeDescription> {
    let is_constant = |input: &OutletId| model.outlet_fact(*input).is_ok_and(|fact| fact.konst.is_some());
    let op = match (&*node.op.name(), node.inputs.iter().any(is_constant)) {
        ("Add", false) => "add",
        ("Mul", false) => "mul",
        ("Mul", true) => "scale",
        _ => return None,
    };
    Some(NodeDescription { op, attributes: Vec::new(), constants: Vec::new() })
}

const COLS: usize = 3;

/// A graph over `[T, 3]`: each entry is an operator and what it reads; the last ones come out.
fn graph(nodes: &[(u8, usize, usize)], outputs: usize) -> TypedModel {
    let mut model = TypedModel::default();
    let rows = model.symbols.sym("T").to_dim();
    let mut outlets = vec![model.add_source("x", f32::fact([rows, COLS.to_dim()])).unwrap()];
    let by = Tensor::from_shape(&[1, COLS], &[0.5_f32, -2.0, 1.5]).unwrap();
    let by = model.add_const("by", by).unwrap();
    for (n, &(op, a, b)) in nodes.iter().enumerate() {
        let (a, b) = (outlets[a % outlets.len()], outlets[b % outlets.len()]);
        let name = format!("node.{n}");
        let made = match op {
            0 => model.wire_node(name, math::add(), &[a, b]),
            1 => model.wire_node(name, math::mul(), &[a, b]),
            2 => model.wire_node(name, math::mul(), &[a, by]),
            _ => model.wire_node(name, math::sub(), &[a, b]),
        };
        outlets.push(made.unwrap()[0]);
    }
    let first = outlets.len().saturating_sub(outputs.max(1));
    model.select_output_outlets(&outlets[first..]).unwrap();
    model
}

/// Whether no two nodes compute the same of the same.
fn are_distinct(nodes: &[(u8, usize, usize)]) -> bool {
    let mut known = Vec::new();
    nodes.iter().enumerate().all(|(n, &(op, a, b))| {
        let (a, b) = (a % (n + 1), b % (n + 1));
        let node = match op {
            0 | 1 => (op, a.min(b), a.max(b)),
            2 => (op, a, 0),
            _ => (op, a, b),
        };
        let is_new = !known.contains(&node);
        known.push(node);
        is_new
    })
}

fn claiming(ops: &[&'static str], fault: Fault) -> (Claiming, Arc<AtomicU32>) {
    let runs = Arc::new(AtomicU32::new(0));
    let device = Bench { ops: ops.to_vec(), fault, runs: Arc::clone(&runs) };
    let mut claiming = Claiming::new("graph", &Claimant::new(device), describe);
    claiming.rows = vec![("T", 4)];
    let fast_enough = if fault == Fault::Slow { Duration::ZERO } else { Duration::from_secs(5) };
    claiming.rule = Rule { fast_enough, ..Rule::default() };
    (claiming, runs)
}

fn x(rows: usize) -> TVec<TValue> {
    let numbers: Vec<f32> = (0..rows * COLS).map(|i| (i as f32 * 0.7).sin()).collect();
    tvec![Tensor::from_shape(&[rows, COLS], &numbers).unwrap().into_tvalue()]
}

fn run(model: &TypedModel, rows: usize) -> Vec<Tensor> {
    let plan = model.clone().into_optimized().unwrap().into_runnable().unwrap();
    plan.run(x(rows)).unwrap().into_iter().map(|t| t.into_tensor()).collect()
}

fn assert_same(found: &[Tensor], wanted: &[Tensor]) {
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(wanted) {
        found.close_enough(wanted, Approximation::Close).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_graph_gives_the_same_with_whatever_the_device_takes_and_any_number_of_rows(
        nodes in prop::collection::vec((0..4u8, 0..9usize, 0..9usize), 1..9),
        outputs in 1..4usize,
        ops in prop::sample::subsequence(vec!["add", "mul", "scale"], 0..4),
        rows in 0..7usize,
    ) {
        // tract itself can't run a graph of which two outputs turn out to be the same.
        prop_assume!(are_distinct(&nodes));
        let model = graph(&nodes, outputs);
        let (claiming, _) = claiming(&ops, Fault::None);
        let (placed, claimed) = claiming.claim(model.clone()).unwrap();
        let offered = |op: &u8| ["add", "mul", "scale"].get(usize::from(*op)).is_some_and(|op| ops.contains(op));
        let read: Vec<usize> = model.eval_order().unwrap();
        let taken = nodes.iter().enumerate().filter(|(n, (op, ..))| offered(op) && read.contains(&(n + 2))).count();
        prop_assert_eq!(claimed.placement.claimed, taken, "{:?}", claimed);
        prop_assert_eq!(placed.nodes.iter().filter(|n| n.op_is::<Offload>()).count(), claimed.segments.len());
        assert_same(&run(&placed, rows), &run(&model, rows));
    }
}

/// Two segments around a difference that is nobody's: the second one has two inputs, the first two outputs.
const TWO: &[(u8, usize, usize)] = &[(0, 0, 0), (2, 1, 0), (3, 2, 0), (1, 3, 1), (0, 4, 3)];

#[test]
fn a_sound_device_gets_the_segments_and_is_asked() {
    let (claiming, runs) = claiming(&["add", "mul", "scale"], Fault::None);
    let (placed, claimed) = claiming.claim(graph(TWO, 1)).unwrap();
    assert_eq!(claimed.placement, Placement { claimed: 4, total: 5 });
    assert_eq!((claimed.segments.len(), claimed.refused.len()), (2, 0));
    let before = runs.load(Ordering::Relaxed);
    assert_same(&run(&placed, 3), &run(&graph(TWO, 1), 3));
    assert_eq!(runs.load(Ordering::Relaxed), before + 2);
    // More rows than it computes are the CPU's.
    assert_same(&run(&placed, 5), &run(&graph(TWO, 1), 5));
    assert_eq!(runs.load(Ordering::Relaxed), before + 2);
}

#[test]
fn what_a_device_does_wrong_is_told_with_its_stage_and_the_graph_stays_on_the_cpu() {
    for (fault, ops, stage, count, says) in [
        (Fault::None, &[][..], Stage::Claim, 1, "none of what it is offered: add, mul, scale"),
        (Fault::Create, &["add", "mul", "scale"], Stage::Create, 2, "busy"),
        (Fault::Wrong, &["add", "mul", "scale"], Stage::Golden, 2, "wrong numbers"),
        (Fault::NoNumber, &["add", "mul", "scale"], Stage::Golden, 2, "off by inf"),
        (Fault::Slow, &["add", "mul", "scale"], Stage::Speed, 2, "on the CPU"),
        // It is not asked for the second one.
        (Fault::ErrorFrom(0), &["add", "mul", "scale"], Stage::Invoke, 1, "code 42"),
        (Fault::ErrorFrom(5), &["add", "mul", "scale"], Stage::Invoke, 1, "code 42"),
    ] {
        let (claiming, _) = claiming(ops, fault);
        let (placed, claimed) = claiming.claim(graph(TWO, 1)).unwrap();
        assert_eq!(claimed.placement, Placement { claimed: 0, total: 5 }, "{fault:?}");
        assert_eq!(claimed.refused.len(), count, "{fault:?}");
        let refused = &claimed.refused[0];
        assert_eq!((refused.stage, refused.reason.contains(says)), (stage, true), "{refused}");
        assert_same(&run(&placed, 3), &run(&graph(TWO, 1), 3));
    }
}

#[test]
fn a_device_that_fails_in_service_is_answered_for_left_alone_for_a_while_and_in_the_end_for_good() {
    let timed = 2 * (1 + limits::BACKEND_TIMED_RUNS as u32);
    let (claiming, runs) = claiming(&["add", "mul", "scale"], Fault::ErrorFrom(timed));
    let (placed, claimed) = claiming.claim(graph(TWO, 1)).unwrap();
    assert_eq!((claimed.segments.len(), runs.load(Ordering::Relaxed)), (2, timed));
    claiming.claimant.show("left alone", State::Serving);
    let shown = || backends::all().into_iter().find(|b| b.model == "left alone" && b.backend == "bench");
    assert_eq!(shown().unwrap().state, "serving");
    let wanted = run(&graph(TWO, 1), 3);
    assert_same(&run(&placed, 3), &wanted);
    // The first segment failed; the second did not try.
    assert_eq!(runs.load(Ordering::Relaxed), timed + 1);
    assert_same(&run(&placed, 3), &wanted);
    assert_eq!(runs.load(Ordering::Relaxed), timed + 1);
    for _ in 1..limits::BACKEND_FAILURES_MAX {
        let mut standing = claiming.claimant.standing();
        standing.health = standing.health.as_if_it_may_try();
        drop(standing);
        assert_same(&run(&placed, 3), &wanted);
    }
    assert!(claiming.claimant.is_quarantined());
    assert_eq!(shown().unwrap().state, "quarantined");
    assert_eq!(runs.load(Ordering::Relaxed), timed + limits::BACKEND_FAILURES_MAX);
}

#[test]
fn what_one_segment_answers_does_not_forgive_another() {
    let (claiming, _) = claiming(&[], Fault::None);
    let claimant = &claiming.claimant;
    let failures = limits::BACKEND_FAILURES_MAX;
    (1..failures).for_each(|_| assert!(!claimant.failed("a", Mono(0))));
    claimant.succeeded("b");
    assert!(claimant.failed("a", Mono(0)));
    let (other, _) = self::claiming(&[], Fault::None);
    (1..failures).for_each(|_| assert!(!other.claimant.failed("a", Mono(0))));
    other.claimant.succeeded("a");
    assert!(!other.claimant.failed("a", Mono(0)));
}

#[test]
fn it_is_a_runtime_like_any_other() {
    let (claiming, runs) = claiming(&["add", "mul", "scale"], Fault::None);
    let runnable = claiming.prepare(graph(TWO, 1)).unwrap();
    let before = runs.load(Ordering::Relaxed);
    let found: Vec<Tensor> = runnable.run(x(2)).unwrap().into_iter().map(|t| t.into_tensor()).collect();
    assert_same(&found, &run(&graph(TWO, 1), 2));
    assert_eq!(runs.load(Ordering::Relaxed), before + 2);
    assert_eq!((&*claiming.name(), claiming.into_claimed().segments.len()), ("bench", 2));
}
