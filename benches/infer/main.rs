//! The shipped small model on every engine of the agent, beside onnxruntime and LiteRT in the same run: `cargo bench --bench infer`.
//!
//! One thread each. The engines take turns, [`ROUNDS`] times, and the median round is told: a machine that is busy for a while
//! is busy for all of them. Python's packages are installed into a virtual environment below `target/` once. With the feature
//! `tflite`, `OUTPOST_TEST_TFLITE` names TensorFlow Lite's library (`.ci/run tflite` shows where one comes from).
//!
//! The hop is what a worker process costs: the test plug-in hands the input back, so that nothing else takes time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use outpost::accel::worker::{Vendor, WorkerOptions};
use outpost::accel::{ComputeBackend, Isolated, ModelFile, Runner};
use outpost::infer::{Bundle, Onnx, replace_convolutions};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat, PoolSpec};

const ROUNDS: usize = 5;
const RUNS: usize = 4000;
const WARM_UP: usize = 200;
/// Targets: tract against onnxruntime, and the hop.
const TRACT_RATIO_MAX: f64 = 1.5;
const HOP_US_MAX: f64 = 60.0;

type Times = BTreeMap<String, Vec<[f64; 2]>>;

fn main() {
    let mut ours = engines();
    let python = python();
    let mut times = Times::new();
    for _ in 0..ROUNDS {
        for (name, runner, input) in &mut ours {
            times.entry(name.clone()).or_default().push(timed(runner.as_mut(), input));
        }
        others(&python, &mut times);
    }
    println!("{:<44} {:>9} {:>9}   (median of {ROUNDS} rounds of {RUNS} runs)", "", "p50 us", "p99 us");
    for (name, rounds) in &times {
        println!("{name:<44} {:>9.1} {:>9.1}", middle(rounds, 0), middle(rounds, 1));
    }
    let p50 = |name: &str| times.get(name).map_or(f64::NAN, |rounds| middle(rounds, 0));
    wanted(
        "tract to onnxruntime, int8",
        p50("tract, cold_room.int8.onnx") / p50("onnxruntime, cold_room.int8.onnx"),
        TRACT_RATIO_MAX,
    );
    wanted(
        "tract to onnxruntime, f32",
        p50("tract, cold_room.f32.onnx") / p50("onnxruntime, cold_room.f32.onnx"),
        TRACT_RATIO_MAX,
    );
    wanted("worker hop, us", p50("worker hop"), HOP_US_MAX);
    convolutions();
}

/// Single convolutions in int8 of many sizes as the agent runs them and as tract alone does: the agent's own operator is for the
/// small ones, and where it isn't faster it must not be used.
fn convolutions() {
    println!("{:<44} {:>9} {:>9}   (p50 us)", "one convolution in int8, 3 x 3", "agent", "tract");
    for (channels, side) in [(1, 8), (2, 8), (4, 8), (5, 8), (8, 8), (8, 16), (16, 24), (32, 48)] {
        let tracts = convolution(channels, side);
        let mut ours = tracts.clone();
        replace_convolutions(&mut ours).expect("a convolution");
        let [ours, tracts] = [ours, tracts].map(|model| {
            let x = Tensor::zero::<i8>(&[1, channels, side, side]).expect("zeros").into_tvalue();
            let mut state = model.into_optimized().and_then(|m| m.into_runnable()?.spawn()).expect("a plan");
            let mut times: Vec<f64> = (0..4 * RUNS)
                .map(|_| {
                    let begun = Instant::now();
                    state.run(tvec![x.clone()]).expect("a run");
                    begun.elapsed().as_nanos() as f64 / 1000.0
                })
                .collect();
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        });
        let products = channels * channels * 9 * (side - 2) * (side - 2);
        let name = format!("{channels} channels of {side} x {side}, {products} products");
        println!("{name:<44} {ours:>9.1} {tracts:>9.1}");
    }
}

/// With a scale for each output, as models have it.
fn convolution(channels: usize, side: usize) -> TypedModel {
    let mut model = TypedModel::default();
    let (zero, scale) = (tensor0(0_i32), tensor0(0.5_f32));
    let constants = [
        Tensor::zero::<i8>(&[channels, channels, 3, 3]).expect("weights"),
        tensor1(&vec![0_i32; channels]),
        zero.clone(),
        scale.clone(),
        zero.clone(),
        tensor1(&vec![0.5_f32; channels]),
        zero,
        scale,
    ];
    let mut inputs = vec![model.add_source("x", i8::fact([1, channels, side, side])).expect("a source")];
    for (i, constant) in constants.into_iter().enumerate() {
        inputs.push(model.add_const(format!("c{i}"), constant).expect("a constant"));
    }
    let spec = PoolSpec {
        kernel_shape: tvec![3, 3],
        input_channels: channels,
        output_channels: channels,
        ..PoolSpec::default()
    };
    let op = Conv::new(spec, KernelFormat::OIHW, 1, Some(DatumType::I8));
    let y = model.wire_node("conv", op, &inputs).expect("a convolution");
    model.select_output_outlets(&y).expect("an output");
    model
}

type Engine = (String, Box<dyn Runner>, Vec<u8>);

fn engines() -> Vec<Engine> {
    let bundle = Bundle::open(Path::new("cold_room")).expect("the model of this program");
    let mut engines = Vec::new();
    for variant in &bundle.manifest.variants {
        let file = bundle.file(variant).expect("its file");
        let input = vec![1; file.input.bytes()];
        for (name, backend) in backends(&variant.backend) {
            match backend.load(&file) {
                Ok(runner) => {
                    engines.push((format!("{name}, {}", variant.file), runner, input.clone()));
                }
                Err(refused) => println!("left out: {refused}"),
            }
        }
    }
    let first = &bundle.manifest.variants[0];
    let file = ModelFile { bytes: b"SAME"[..].into(), ..bundle.file(first).expect("its file") };
    let hop = Isolated::new(worker()).load(&file).expect("the test plug-in");
    engines.push(("worker hop".into(), hop, vec![1; file.input.bytes()]));
    engines
}

fn backends(format: &str) -> Vec<(&'static str, Box<dyn ComputeBackend>)> {
    if format == "onnx" {
        return vec![("tract", Box::new(Onnx))];
    }
    #[cfg(feature = "tflite")]
    {
        let library = std::env::var_os("OUTPOST_TEST_TFLITE").map(PathBuf::from);
        let with = |xnnpack| Box::new(outpost::accel::Tflite { library: library.clone(), xnnpack });
        vec![("TensorFlow Lite", with(false)), ("TensorFlow Lite with XNNPACK", with(true))]
    }
    #[cfg(not(feature = "tflite"))]
    Vec::new()
}

fn worker() -> WorkerOptions {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = work().join("plugin.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(root.join("tests/plugin/plugin.c"));
    assert!(cc.status().expect("a C compiler").success());
    WorkerOptions {
        name: "plugin".into(),
        program: env!("CARGO_BIN_EXE_outpost").into(),
        vendor: Vendor::Plugin { library },
        options: String::new(),
        deadline: Duration::from_secs(1),
    }
}

/// Median and 99th percentile in microseconds.
fn timed(runner: &mut dyn Runner, input: &[u8]) -> [f64; 2] {
    let mut output = Vec::new();
    (0..WARM_UP).for_each(|_| runner.run(input, &mut output).expect("a run"));
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let begun = Instant::now();
            runner.run(input, &mut output).expect("a run");
            begun.elapsed().as_nanos() as f64 / 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    [times[RUNS / 2], times[RUNS * 99 / 100]]
}

/// A Python with what `benches/infer/requirements.txt` names; none where that is out of reach.
fn python() -> Option<PathBuf> {
    let wanted = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/infer/requirements.txt");
    let (venv, mark) = (work().join("venv"), work().join("requirements.txt"));
    let python = venv.join("bin/python");
    let text = std::fs::read(&wanted).expect("requirements");
    if std::fs::read(&mark).is_ok_and(|found| found == text) {
        return Some(python);
    }
    let made = Command::new("python3").args(["-m", "venv"]).arg(&venv).status();
    let pip = || Command::new(&python).args(["-m", "pip", "install", "-q", "-r"]).arg(&wanted).status();
    if !made.and_then(|_| pip()).is_ok_and(|status| status.success()) {
        println!("Python's packages are out of reach: nothing to compare with");
        return None;
    }
    std::fs::write(&mark, text).expect("the mark");
    Some(python)
}

fn others(python: &Option<PathBuf>, times: &mut Times) {
    let Some(python) = python else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let models = ["cold_room.int8.onnx", "cold_room.f32.onnx", "cold_room.tflite"];
    let out = Command::new(python)
        .arg(root.join("benches/infer/others.py"))
        .arg(RUNS.to_string())
        .args(models.map(|name| root.join("models/cold_room").join(name)))
        .output()
        .expect("Python");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        let row: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        let text = |key: &str| row[key].as_str().unwrap_or_default();
        let pair = ["p50_us", "p99_us"].map(|key| row[key].as_f64().unwrap_or(f64::NAN));
        times.entry(format!("{}, {}", text("engine"), text("file"))).or_default().push(pair);
    }
}

fn work() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("infer");
    std::fs::create_dir_all(&dir).expect("a folder below target");
    dir
}

fn middle(rounds: &[[f64; 2]], column: usize) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(|row| row[column]).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn wanted(what: &str, found: f64, most: f64) {
    let verdict = if found <= most { "met" } else { "missed" };
    println!("{what}: {found:.2}, at most {most} wanted: {verdict}");
}
