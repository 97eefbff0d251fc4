//! Vendors' code behind the plug-in interface, in real worker processes, with every fault that the test plug-in knows: the answer
//! is right, nothing hangs, and what is told names the stage.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use outpost::accel::worker::WorkerOptions;
use outpost::accel::{ComputeBackend, Isolated, ModelFile, Placement, Refused, Runner, Stage};
use outpost::frame::Frame;
use outpost::infer::{Bundle, Model, Onnx};
use outpost::time::Wall;

const LENGTH: usize = 16;

/// The plug-in, compiled once.
fn plugin() -> &'static Path {
    static PLUGIN: OnceLock<PathBuf> = OnceLock::new();
    PLUGIN.get_or_init(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("outpost_test_plugin.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugin/plugin.c");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&out).arg(source).status();
        assert!(built.expect("a C compiler").success());
        out
    })
}

/// A bundle whose model hands its input back: on the test device, and as ONNX.
struct Shop {
    dir: tempfile::TempDir,
}

impl Shop {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let onnx =
            std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugin/identity.onnx")).unwrap();
        let window: Vec<f64> = (0..LENGTH).map(|i| i as f64 - 8.0).collect();
        let golden = serde_json::json!({ "vectors": [{ "window": window, "score": 0.0, "outputs": { "int8": window } }] });
        let files = [
            ("model.same", b"SAME".to_vec()),
            ("identity.onnx", onnx),
            ("golden.json", golden.to_string().into()),
        ];
        let hashes: serde_json::Map<String, serde_json::Value> =
            files.iter().map(|(name, bytes)| ((*name).into(), sha256(bytes).into())).collect();
        let q = serde_json::json!({ "scale": 1.0, "zero_point": 0 });
        let variant = |backend: &str, file: &str| {
            serde_json::json!({
                "backend": backend, "file": file, "input_shape": [1, LENGTH], "output_shape": [1, LENGTH],
                "element": "int8", "input": q, "output": q, "tolerance": 0,
            })
        };
        let manifest = serde_json::json!({
            "format": 1, "name": "same", "licence": "Apache-2.0", "purpose": "tests",
            "input": { "channels": [{ "role": "any", "unit": "" }], "step_ms": 1000, "length": LENGTH,
                       "normalisation": { "subtract": [0.0], "divide": [1.0], "clip": 100.0 } },
            "output": { "kind": "reconstruction", "threshold": 1.0 },
            "variants": [variant("hailo", "model.same"), variant("onnx", "identity.onnx")],
            "golden": "golden.json", "files": hashes,
        });
        for (name, bytes) in &files {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        std::fs::write(dir.path().join("manifest.json"), manifest.to_string()).unwrap();
        Self { dir }
    }

    fn bundle(&self) -> Bundle {
        Bundle::open(self.dir.path()).unwrap()
    }

    /// The device with `options`, and the CPU behind it.
    fn model(&self, options: &str) -> Model {
        let device = Box::new(Isolated::new(worker(options)));
        Model::load("same", self.bundle(), &[device, Box::new(SlowCpu)], false).unwrap()
    }
}

fn worker(options: &str) -> WorkerOptions {
    WorkerOptions {
        name: "hailo".into(),
        program: env!("CARGO_BIN_EXE_outpost").into(),
        library: plugin().into(),
        options: options.into(),
        deadline: Duration::from_millis(500),
    }
}

fn sha256(bytes: &[u8]) -> String {
    ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// The CPU, as slow as it must be for the device to be worth its while, whatever this machine is.
struct SlowCpu;

impl ComputeBackend for SlowCpu {
    fn name(&self) -> &str {
        "onnx"
    }
    fn load(&self, model: &ModelFile) -> Result<Box<dyn Runner>, Refused> {
        Ok(Box::new(Slow(Onnx.load(model)?)))
    }
}

struct Slow(Box<dyn Runner>);

impl Runner for Slow {
    fn run(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), Refused> {
        std::thread::sleep(Duration::from_millis(10));
        self.0.run(input, output)
    }
    fn placement(&self) -> Placement {
        self.0.placement()
    }
}

fn serving(model: &Model) -> Vec<String> {
    model.serving().map(|s| s.backend).collect()
}

/// Judges a window that either hands back: nought if the answer is right.
fn judged(model: &mut Model) -> f64 {
    let row = (0..LENGTH).map(|i| (i as f64 * 5.0) % 13.0).collect();
    model.judge(&Frame { at: Wall(0), start: Wall(0), rows: vec![row] }).expect("an answer").score
}

/// A device that never serves: why, and the CPU's answer.
fn refused(options: &str) -> Refused {
    let mut model = Shop::new().model(options);
    assert_eq!(serving(&model), ["onnx"], "{options}");
    assert_eq!(judged(&mut model), 0.0, "{options}");
    model.refused()[0].clone()
}

#[test]
fn a_sound_device_serves_and_says_what_it_claims() {
    let mut model = Shop::new().model("");
    assert_eq!(serving(&model), ["hailo", "onnx"]);
    let first = model.serving().next().unwrap();
    assert_eq!((first.placement, first.golden_error), (Placement { claimed: 7, total: 7 }, 0.0));
    for _ in 0..20 {
        assert_eq!(judged(&mut model), 0.0);
    }
}

#[test]
fn a_device_that_claims_a_part_serves_and_says_which() {
    let model = Shop::new().model("fault=claims_part");
    assert_eq!(model.serving().next().unwrap().placement, Placement { claimed: 3, total: 7 });
}

#[test]
fn what_shows_before_it_serves_is_told_with_its_stage_and_the_cpu_serves() {
    for (options, stage, says) in [
        ("fault=create", Stage::Create, "the device is busy; end the other program"),
        ("fault=prepare", Stage::Create, "operator 3 is not supported"),
        ("fault=create_crash", Stage::Prepare, "died"),
        ("fault=claims_nothing", Stage::Claim, "none of 7 operators"),
        ("fault=wrong", Stage::Golden, "wrong numbers"),
        ("fault=slow", Stage::Speed, "on the CPU"),
        ("fault=segv", Stage::Invoke, "died"),
        ("fault=hang", Stage::Invoke, "no answer within 500ms"),
        ("fault=error", Stage::Invoke, "code 42: the device has timed out"),
        ("speed=9", Stage::Create, "unknown option speed; known are fault"),
    ] {
        let refused = refused(options);
        assert_eq!((refused.backend.as_str(), refused.stage), ("hailo", stage), "{options}: {refused}");
        assert!(refused.reason.contains(says), "{options}: {refused}");
    }
}

#[test]
fn a_plugin_that_is_none_is_told_with_its_file() {
    let shop = Shop::new();
    let text = shop.dir.path().join("text.so");
    std::fs::write(&text, "no library").unwrap();
    for (library, says) in [(text.as_path(), "text.so"), (Path::new("/nowhere/lib.so"), "nowhere")] {
        let device = Box::new(Isolated::new(WorkerOptions { library: library.into(), ..worker("") }));
        let model = Model::load("same", shop.bundle(), &[device, Box::new(SlowCpu)], false).unwrap();
        let refused = &model.refused()[0];
        assert_eq!(refused.stage, Stage::Load);
        assert!(refused.reason.contains(says), "{refused}");
    }
    let device = Box::new(Isolated::new(WorkerOptions { program: "/nowhere/outpost".into(), ..worker("") }));
    let model = Model::load("same", shop.bundle(), &[device, Box::new(SlowCpu)], false).unwrap();
    assert!(model.refused()[0].reason.contains("can't be started"), "{}", model.refused()[0]);
}

/// More runs than loading takes: the golden vector, and the timing.
const AT_RUN: u32 = 1 + 21 * 8 + 3;

#[test]
fn what_shows_in_service_costs_no_answer() {
    for fault in ["segv", "hang", "error", "leak"] {
        let shop = Shop::new();
        // The next process is well: what is broken may be well again.
        let mark = shop.dir.path().join("mark");
        let mut model = shop.model(&format!("fault={fault},at_run={AT_RUN},mark={}", mark.display()));
        assert_eq!(serving(&model), ["hailo", "onnx"]);
        // Then some more, which the CPU answers.
        for _ in 0..AT_RUN {
            assert_eq!(judged(&mut model), 0.0, "{fault}");
            if mark.exists() {
                break;
            }
        }
        assert_eq!(judged(&mut model), 0.0, "{fault}");
        assert!(mark.exists(), "{fault} did not show");
    }
}

#[test]
fn a_large_tensor_goes_through_shared_memory_and_comes_back_whole() {
    let device = Isolated::new(worker(""));
    let spec = |n| outpost::accel::TensorSpec {
        shape: vec![n],
        element: outpost::accel::Element::Uint8,
        quantisation: None,
    };
    for n in [1, 16 * 1024, 16 * 1024 + 1, 3_000_000] {
        let file =
            ModelFile { origin: "x".into(), bytes: b"SAME"[..].into(), input: spec(n), output: spec(n) };
        let mut runner = device.load(&file).unwrap();
        let input: Vec<u8> = (0..n).map(|i| (i * 7 % 251) as u8).collect();
        let mut output = Vec::new();
        runner.run(&input, &mut output).unwrap();
        assert!(output == input, "{n}");
    }
}

#[test]
fn two_models_of_one_device_share_a_process_and_both_are_there_after_it_died() {
    let mark = tempfile::tempdir().unwrap();
    let options = format!("fault=segv,at_run=3,mark={}", mark.path().join("m").display());
    let device = Isolated::new(worker(&options));
    let spec = outpost::accel::TensorSpec {
        shape: vec![4],
        element: outpost::accel::Element::Uint8,
        quantisation: None,
    };
    let file = ModelFile { origin: "x".into(), bytes: b"SAME"[..].into(), input: spec.clone(), output: spec };
    let (mut first, mut second) = (device.load(&file).unwrap(), device.load(&file).unwrap());
    let mut out = Vec::new();
    let mut failures = 0;
    for n in 0..6u8 {
        for runner in [&mut first, &mut second] {
            match runner.run(&[n, 1, 2, 3], &mut out) {
                Ok(()) => assert_eq!(out, [n, 1, 2, 3]),
                Err(refused) => {
                    failures += 1;
                    assert!(refused.reason.contains("died"), "{refused}");
                }
            }
        }
    }
    assert_eq!(failures, 1);
}

#[test]
fn a_worker_that_nobody_has_started_says_so() {
    let out = Command::new(env!("CARGO_BIN_EXE_outpost"))
        .arg("worker")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("run the agent instead"));
}
