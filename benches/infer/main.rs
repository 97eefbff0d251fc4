//! The shipped small model on every engine of the agent, beside onnxruntime and LiteRT in the same run: `cargo bench --bench infer`.
//!
//! One thread each. The engines take turns, [`ROUNDS`] times, and the median round is told: a machine that is busy for a while
//! is busy for all of them. Python's packages are installed into a virtual environment below `target/` once. With the feature
//! `tflite`, `OUTPOST_TEST_TFLITE` names TensorFlow Lite's library (`.ci/run tflite` shows where one comes from).
//!
//! The hop is what a worker process costs: the test plug-in hands the input back, so that nothing else takes time. The fall-back is
//! the one answer of the CPU's in the place of a device that fails in service, its deadline included. The start of a backend takes place
//! on the thread of the small models: the main thread has what is told of it, and the first answer is the CPU's meanwhile.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use outpost::accel::worker::{Vendor, WorkerOptions};
use outpost::accel::{ComputeBackend, Isolated, ModelFile, Placement, Refused, Runner};
use outpost::frame::{Frame, ModelName};
use outpost::infer::{
    Bundle, Infer, InferOptions, Job, Model, ModelOptions, Onnx, OnnxOn, Policy, replace_convolutions,
};
use outpost::reading::ChannelId;
use outpost::time::Wall;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat, PoolSpec};

const ROUNDS: usize = 5;
const RUNS: usize = 4000;
const WARM_UP: usize = 200;
/// Targets: tract against onnxruntime, the hop, a device that fails, and the main thread's part of a start.
const TRACT_RATIO_MAX: f64 = 1.5;
const HOP_US_MAX: f64 = 60.0;
const FALL_BACK_MS_MAX: f64 = 1000.0;
const START_MS_MAX: f64 = 10.0;

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
    for fault in ["error", "segv", "hang"] {
        wanted(
            &format!("fall-back from a device with the fault {fault}, ms"),
            fall_back(fault),
            FALL_BACK_MS_MAX,
        );
    }
    start();
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

/// The time in milliseconds of the answer in whose place `fault` shows.
fn fall_back(fault: &str) -> f64 {
    let when = work().join("when");
    // It is there if the last bench was interrupted.
    let _ = std::fs::remove_file(&when);
    let options = format!("fault={fault},when={}", when.display());
    // As long as where nothing is configured.
    let deadline = Duration::from_millis(500);
    let mut device = OnnxOn::new(&Rc::new(Isolated::new(WorkerOptions { options, deadline, ..worker() })));
    device.rule.fast_enough = Duration::from_secs(1);
    let bundle = Bundle::open(Path::new("cold_room")).expect("the model of this program");
    let frame = frame(&bundle);
    let backends: [Box<dyn ComputeBackend>; 2] = [Box::new(device), Box::new(Late)];
    let mut model = Model::load("bench", bundle, &backends, false).expect("a backend");
    assert_eq!(model.serving().next().expect("a backend").backend, "plugin", "{:?}", model.refused());
    std::fs::write(&when, "").expect("a file");
    let begun = Instant::now();
    model.judge(&frame).expect("the CPU's answer");
    let ms = begun.elapsed().as_secs_f64() * 1000.0;
    std::fs::remove_file(&when).expect("the file");
    ms
}

/// The CPU, late enough for a device to serve.
struct Late;

impl ComputeBackend for Late {
    fn name(&self) -> &str {
        Onnx.name()
    }
    fn load(&self, model: &ModelFile) -> Result<Box<dyn Runner>, Refused> {
        Ok(Box::new(LateRunner(Onnx.load(model)?)))
    }
}

struct LateRunner(Box<dyn Runner>);

impl Runner for LateRunner {
    fn run(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), Refused> {
        std::thread::sleep(Duration::from_millis(20));
        self.0.run(input, output)
    }
    fn placement(&self) -> Placement {
        self.0.placement()
    }
}

/// A device with the CPU behind it, begun as the agent does it.
fn start() {
    let bundle = Bundle::open(Path::new("cold_room")).expect("the model of this program");
    let job = Job { model: 0, frame: frame(&bundle) };
    let model = ModelOptions {
        name: ModelName::new("bench").expect("a name"),
        bundle: "cold_room".into(),
        channels: vec![ChannelId::new("cold1.temp").expect("a channel")],
        every: Duration::from_secs(60),
        backends: vec!["plugin".into()],
        policy: Policy::Prefer,
    };
    let options = InferOptions { models: vec![model], workers: vec![worker()], ..InferOptions::default() };
    let begun = Instant::now();
    let infer = smol::block_on(Infer::start(options)).expect("the thread");
    let main = begun.elapsed();
    infer.handle().judge_blocking(job).expect("an answer");
    wanted("start of a backend, ms of the main thread", main.as_secs_f64() * 1000.0, START_MS_MAX);
    println!("start of a backend until the first answer: {:.0?}", begun.elapsed());
    infer.stop();
}

fn frame(bundle: &Bundle) -> Frame {
    Frame { at: Wall(0), start: Wall(0), rows: vec![bundle.golden[0].window.clone()] }
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
        let lite = |xnnpack| {
            let vendor = Vendor::Lite { library: library.clone(), xnnpack };
            Box::new(Isolated::new(WorkerOptions { vendor, ..worker() }))
        };
        vec![
            ("TensorFlow Lite, hop included", lite(false)),
            ("TensorFlow Lite with XNNPACK, hop included", lite(true)),
        ]
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
