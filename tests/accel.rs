//! Vendors' code behind the plug-in interface, in real worker processes, with every fault that the test plug-in knows: the answer
//! is right, nothing hangs, and what is told names the stage.

#[path = "plugin/language.rs"]
mod language;
mod plugin;
#[path = "plugin/student.rs"]
mod student;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use outpost::accel::worker::{Vendor, WorkerOptions};
use outpost::accel::{
    ComputeBackend, Element, Isolated, ModelFile, Placement, Refused, Runner, Stage, TensorSpec,
};
use outpost::frame::{Frame, ModelName};
use outpost::infer::{Bundle, Devices, Infer, InferOptions, Job, Model, ModelOptions, OnnxOn, Policy};
use outpost::reading::ChannelId;
use outpost::time::Wall;

use plugin::{Logged, assert_line, compiled, count_lines, log_file};

const LENGTH: usize = 16;

/// A bundle whose model hands its input back: on the test device, and as ONNX.
struct Shop {
    dir: tempfile::TempDir,
}

impl Shop {
    fn new() -> Self {
        Self::with_variants([("hailo", "model.same"), ("onnx", "identity.onnx")])
    }

    fn with_variants(variants: [(&str, &str); 2]) -> Self {
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
            "variants": variants.map(|(backend, file)| variant(backend, file)),
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
    fn model(&self, options: &str) -> Logged {
        self.with(worker(options))
    }

    fn with(&self, worker: WorkerOptions) -> Logged {
        Logged::load(self.bundle(), Box::new(Isolated::new(worker)))
    }
}

fn worker(options: &str) -> WorkerOptions {
    WorkerOptions {
        name: "hailo".into(),
        program: env!("CARGO_BIN_EXE_outpost").into(),
        vendor: Vendor::Plugin { library: compiled("plugin") },
        options: options.into(),
        deadline: Duration::from_millis(500),
    }
}

fn sha256(bytes: &[u8]) -> String {
    ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// A window that either hands back.
fn frame() -> Frame {
    let row = (0..LENGTH).map(|i| (i as f64 * 5.0) % 13.0).collect();
    Frame { at: Wall(0), start: Wall(0), rows: vec![row] }
}

/// Judges it: nought if the answer is right.
fn judged(model: &mut Model) -> f64 {
    model.judge(&frame()).expect("an answer").score
}

/// A device that never serves: the CPU's answer is right, and one line tells stage and reason.
fn assert_refused(mut logged: Logged, stage: Stage, says: &str) {
    assert_eq!(logged.serving(), ["onnx"], "{says}");
    assert_eq!(judged(&mut logged.model), 0.0, "{says}");
    logged.assert_line("backend_refused", &["backend=hailo", &format!("stage={stage}"), says]);
    let Refused { backend, stage: found, reason } = &logged.model.refused()[0];
    assert_eq!((backend.as_str(), *found), ("hailo", stage), "{reason}");
}

#[test]
fn a_sound_device_serves_and_says_what_it_claims() {
    let mut logged = Shop::new().model("");
    assert_eq!(logged.serving(), ["hailo", "onnx"]);
    let first = logged.model.serving().next().unwrap();
    assert_eq!((first.placement, first.golden_error), (Placement { claimed: 7, total: 7 }, 0.0));
    logged.assert_line("model_ready", &["backend=hailo", "claimed=7", "operators=7"]);
    for _ in 0..20 {
        assert_eq!(judged(&mut logged.model), 0.0);
    }
}

#[test]
fn a_device_that_claims_a_part_serves_and_says_which() {
    let logged = Shop::new().model("fault=claims_part");
    assert_eq!(logged.model.serving().next().unwrap().placement, Placement { claimed: 3, total: 7 });
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
        assert_refused(Shop::new().model(options), stage, says);
    }
}

#[test]
fn a_plugin_that_is_none_is_told_with_its_file() {
    let shop = Shop::new();
    let file = |name: &str, content: &[u8]| {
        let path = shop.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let closed = file("closed.so", b"");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    // The head of a library for a processor that nobody has.
    let strange = [b"\x7fELF".as_slice(), &[2; 60]].concat();
    for (library, says) in [
        (
            file("text.so", b"this is text, not a shared library"),
            "text.so is no shared library; install it again",
        ),
        (file("strange.so", &strange), "strange.so is made for another processor, not for this one"),
        // Root may read everything: then there is nothing in it.
        (closed, "closed.so can't be read"),
        (shop.dir.path().to_owned(), "can't be read: Is a directory"),
        (compiled("delegate"), "delegate.so: it has no symbol outpost_plugin_abi"),
    ] {
        let vendor = Vendor::Plugin { library };
        assert_refused(shop.with(WorkerOptions { vendor, ..worker("") }), Stage::Load, says);
    }
    let vendor = Vendor::Plugin { library: "/nowhere/lib.so".into() };
    let logged = shop.with(WorkerOptions { vendor, ..worker("") });
    let says = "/nowhere/lib.so can't be read: No such file";
    plugin::assert_line("", "backend_missing", &["backend=hailo", "stage=find", says]);
    assert_eq!(logged.model.state_of("hailo"), None);
    let gone = WorkerOptions { program: "/nowhere/outpost".into(), ..worker("") };
    assert_refused(shop.with(gone), Stage::Worker, "can't be started");
}

/// What `outpost backends --verify --json` says of a machine made of files with a Hailo whose plug-in is the test's, and a model on it.
fn told(options: &str) -> serde_json::Value {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("dev")).unwrap();
    std::fs::write(dir.path().join("dev/hailo0"), "").unwrap();
    let library = compiled("plugin");
    let model = "[[model]]\nname = \"freezer\"\nbundle = \"cold_room\"\nchannels = [\"cold1.temp\"]\nbackends = \"hailo\"\n";
    let accelerator =
        format!("[accelerator.hailo]\nplugin = \"{}\"\noptions = \"{options}\"\n", library.display());
    let config = format!("{model}{accelerator}");
    std::fs::write(dir.path().join("outpost.toml"), config).unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_outpost"))
        .args(["backends", "--json", "--verify", "-c"])
        .arg(dir.path().join("outpost.toml"))
        .arg("--root")
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn tried(options: &str) -> serde_json::Value {
    let told = told(options);
    told["accelerators"].as_array().unwrap().iter().find(|a| a["id"] == "hailo").unwrap().clone()
}

#[test]
fn what_runs_a_model_is_told_to_scripts() {
    let told = told("fault=create");
    let models = told["models"].as_array().unwrap();
    assert_eq!((models.len(), &models[0]["name"]), (1, &"freezer".into()));
    let [backend] = &models[0]["backends"].as_array().unwrap()[..] else { panic!("{told:#}") };
    for (key, wanted) in [("backend", "onnx"), ("file", "cold_room.int8.onnx"), ("placement", "CPU")] {
        assert_eq!(backend[key], wanted, "{told:#}");
    }
    assert_eq!((&backend["claimed"], backend["operators"].as_u64() > Some(0)), (&0.into(), true));
    let number = |key: &str| backend[key].as_f64().unwrap();
    assert!(number("golden_error") >= 0.0 && number("p50_us") > 0.0, "{told:#}");
    let refused = models[0]["refused"].as_array().unwrap();
    let stages: Vec<&str> = refused.iter().map(|r| r["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["prepare", "create"], "{told:#}");
    assert!(refused.iter().all(|r| r["backend"] == "hailo" && r["reason"].as_str().unwrap().len() > 10));
    assert_eq!(models[0]["slower_than_the_cpu"], serde_json::json!([]));
}

/// A plug-in was tried with files made for it alone once, which the model that ships can't have.
#[test]
fn a_plugin_is_tried_with_what_it_computes_of_the_graph_that_ships() {
    let told = tried("");
    let (first, refused) = (&told["tried"]["backends"][0], &told["tried"]["refused"]);
    // Which of the two is faster is this machine's affair.
    let is_slow = refused.as_array().unwrap().iter().any(|refused| refused["stage"] == "speed");
    match told["state"].as_str() {
        Some("verified") => assert_eq!(
            (&first["backend"], &first["file"], &first["claimed"], &first["operators"]),
            (&"hailo".into(), &"cold_room.f32.onnx".into(), &17.into(), &18.into())
        ),
        Some("loaded") => assert!(is_slow && first["backend"] == "onnx", "{told:#}"),
        other => panic!("{other:?}: {told:#}"),
    }
    let told = tried("fault=create");
    assert_eq!(
        (&told["state"], &told["tried"]["backends"][0]["placement"]),
        (&"probed".into(), &"CPU".into())
    );
    let refused = told["tried"]["refused"].as_array().unwrap();
    assert!(refused.iter().any(|refused| refused["stage"] == "create"), "{told:#}");
}

/// It was taken for a runtime of small models alone.
#[test]
fn rockchips_runtime_for_language_models_is_found_and_its_way_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (node, libraries) = (dir.path().join("sys/class/drm/renderD129/device"), dir.path().join("usr/lib"));
    std::fs::create_dir_all(&node).unwrap();
    std::fs::create_dir_all(&libraries).unwrap();
    std::os::unix::fs::symlink("../drivers/RKNPU", node.join("driver")).unwrap();
    let runtime = libraries.join("librkllmrt.so");
    std::fs::copy(compiled("plugin"), &runtime).unwrap();
    let toml = dir.path().join("outpost.toml");
    std::fs::write(&toml, "").unwrap();
    let backends = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outpost"));
        command.args(["backends", "-c"]).arg(&toml).arg("--root").arg(dir.path());
        String::from_utf8(command.args(more).output().unwrap().stdout).unwrap()
    };
    let wanted = format!("{} runs language models (.rkllm): glm.device, through a plugin", runtime.display());
    assert!(backends(&[]).contains(&wanted), "{}", backends(&[]));
    let told: serde_json::Value = serde_json::from_str(&backends(&["--json"])).unwrap();
    let mut accelerators = told["accelerators"].as_array().unwrap().iter();
    let rknn = accelerators.find(|a| a["id"] == "rknn").unwrap();
    assert_eq!(rknn["language_library_found"], runtime.to_str().unwrap(), "{rknn:#}");

    let (plugin, model) = (compiled("plugin"), dir.path().join("chat.rkllm"));
    std::fs::write(&model, "SAYSwater").unwrap();
    let configured = |options: &str| {
        let text = format!(
            "[glm]\ndevice = \"rknn\"\ndevice_model = \"chat.rkllm\"\n[accelerator.rknn]\nplugin = \"{}\"\noptions = \"{options}\"\n",
            plugin.display()
        );
        std::fs::write(&toml, text).unwrap();
    };
    configured("");
    let told = backends(&[]);
    assert!(told.contains("chat.rkllm: on the NPU of rknn, 28 of 28 layers, loaded in"), "{told}");
    assert!(told.contains("rknn     serving"), "{told}");
    configured("fault=claims_nothing");
    let told = backends(&[]);
    assert!(told.contains("chat.rkllm: rknn, stage claim: it takes none of the model's 28 layers"), "{told}");
    let told: serde_json::Value = serde_json::from_str(&backends(&["--json"])).unwrap();
    assert_eq!(
        (&told["language"]["claimed"], &told["language"]["refused"]["stage"]),
        (&0.into(), &"claim".into())
    );
}

/// Neither a build without TensorFlow Lite nor a machine without its library says so for every model.
#[test]
fn a_backend_that_is_missing_is_told_once_however_many_models_would_have_it() {
    log_file();
    let vendor = Vendor::Lite { library: Some("/nowhere/libtensorflowlite_c.so".into()), xnnpack: false };
    let lite = WorkerOptions { name: "tflite".into(), vendor, ..worker("") };
    let devices = Devices::new(&InferOptions { workers: vec![lite], ..InferOptions::default() });
    for name in ["one", "other"] {
        let bundle = Bundle::open(Path::new("cold_room")).unwrap();
        let model = Model::load(name, bundle, &devices.backends(&["tflite".into()]), false).unwrap();
        assert_eq!(model.serving().next().unwrap().backend, "onnx");
    }
    assert_eq!(count_lines("backend=tflite", "backend_", &[]), 1);
    assert_line("backend=tflite", "backend_missing", &["stage=find"]);
}

/// The model that ships, on what the device computes of its graph; either is fast enough.
fn cold_room(options: &str, fast_enough: Duration) -> Logged {
    let mut device = OnnxOn::new(&Rc::new(Isolated::new(worker(options))));
    device.rule.fast_enough = fast_enough;
    Logged::load(Bundle::open(Path::new("cold_room")).unwrap(), Box::new(device))
}

const PATIENT: Duration = Duration::from_secs(5);

#[test]
fn a_device_computes_what_it_can_of_a_small_models_graph_and_the_cpu_the_rest() {
    let logged = cold_room("", PATIENT);
    let first = logged.model.serving().next().unwrap();
    assert_eq!((first.backend.as_str(), first.file.as_str()), ("hailo", "cold_room.f32.onnx"));
    // Four convolutions and three products, what follows each, and two changes of shape; the CPU has a transposition.
    assert_eq!(first.placement, Placement { claimed: 4 * 2 + 3 * 2 + 1 + 2, total: 4 * 2 + 3 * 2 + 1 + 3 });
    assert!(first.golden_error < 1e-3, "{first:?}");
    // Its int8 graph has nothing that is offered.
    let Refused { stage, reason, .. } = &logged.model.refused()[0];
    assert!(*stage == Stage::Prepare && reason.contains("cold_room.int8.onnx"), "{reason}");
}

#[test]
fn a_file_that_is_made_for_the_device_goes_before_what_it_computes_of_the_graph() {
    let shop = Shop::with_variants([("onnx", "identity.onnx"), ("hailo", "model.same")]);
    let device = OnnxOn::new(&Rc::new(Isolated::new(worker(""))));
    let logged = Logged::load(shop.bundle(), Box::new(device));
    assert_eq!((logged.serving(), logged.model.refused().len()), (vec!["hailo".into(), "onnx".into()], 0));
    assert_eq!(logged.model.serving().next().unwrap().file, "model.same");
}

#[test]
fn what_a_device_does_wrong_with_a_part_of_a_small_models_graph_is_told_with_its_stage() {
    for (options, fast_enough, stage, says) in [
        ("fault=takes_nothing", PATIENT, Stage::Claim, "none of what it is offered: add, conv, matmul"),
        ("fault=wrong", PATIENT, Stage::Golden, "wrong numbers"),
        ("fault=slow", Duration::ZERO, Stage::Speed, "on the CPU"),
        ("fault=segv", PATIENT, Stage::Invoke, "died"),
        ("fault=hang", PATIENT, Stage::Invoke, "no answer within 500ms"),
    ] {
        let logged = cold_room(options, fast_enough);
        assert_eq!(logged.serving(), ["onnx"], "{options}");
        logged.assert_line("backend_refused", &["backend=hailo", &format!("stage={stage}"), says]);
    }
}

/// The nodes of the graph computed the answer in its place once, and the model was told to be on the device all the same.
#[test]
fn a_device_that_fails_while_the_whole_model_is_measured_does_not_serve() {
    // A part is run 22 times on its own before.
    let logged = cold_room("fault=error,at_run=30", PATIENT);
    assert_eq!(logged.serving(), ["onnx"]);
    logged.assert_line(
        "backend_refused",
        &["backend=hailo", "stage=invoke", "code 42: the device has timed out"],
    );
}

#[test]
fn a_device_that_fails_in_service_with_parts_of_a_graph_fails_its_model_and_the_next_backend_answers() {
    let dir = tempfile::tempdir().unwrap();
    let when = dir.path().join("when");
    let mut logged = cold_room(&format!("fault=error,when={}", when.display()), PATIENT);
    assert_eq!(logged.serving(), ["hailo", "onnx"]);
    std::fs::write(&when, "").unwrap();
    let golden = &Bundle::open(Path::new("cold_room")).unwrap().golden[9];
    let frame = Frame { at: Wall(0), start: Wall(0), rows: vec![golden.window.clone()] };
    let scored = logged.model.judge(&frame).unwrap();
    assert!((scored.score - golden.score).abs() < 0.03, "{scored:?}");
    logged.assert_line(
        "backend_failed",
        &["backend=hailo", "stage=invoke", "code 42: the device has timed out"],
    );
}

/// More runs than loading takes: the golden vector, and the timing.
const AT_RUN: u32 = 1 + 21 * 8 + 3;

#[test]
fn what_shows_in_service_costs_no_answer() {
    for (fault, says) in [
        ("segv", "died"),
        ("hang", "no answer within 500ms"),
        ("error", "code 42: the device has timed out"),
        // It ends at the bound of its memory, and not at its deadline.
        ("leak", "SIGABRT"),
    ] {
        let shop = Shop::new();
        // The next process is well: what is broken may be well again.
        let mark = shop.dir.path().join("mark");
        let mut logged = shop.model(&format!("fault={fault},at_run={AT_RUN},mark={}", mark.display()));
        assert_eq!(logged.serving(), ["hailo", "onnx"]);
        // Then some more, which the CPU answers.
        for _ in 0..AT_RUN {
            assert_eq!(judged(&mut logged.model), 0.0, "{fault}");
            if mark.exists() {
                break;
            }
        }
        assert_eq!(judged(&mut logged.model), 0.0, "{fault}");
        assert!(mark.exists(), "{fault} did not show");
        logged.assert_line("backend_failed", &["backend=hailo", "stage=invoke", says, "quarantined=false"]);
    }
}

/// A model on a device that has just died, where the process begun next has the fault `then`.
fn died(dir: &Path, then: &str) -> Logged {
    let mark = dir.join(then);
    let mut logged =
        Shop::new().model(&format!("fault=segv,at_run={AT_RUN},mark={},then={then}", mark.display()));
    assert_eq!(logged.serving(), ["hailo", "onnx"], "{then}");
    while !mark.exists() {
        assert_eq!(judged(&mut logged.model), 0.0, "{then}");
    }
    logged
}

/// What hangs there may do so for 20 s, and a request waited for it once.
#[test]
fn while_a_device_that_died_is_begun_again_the_cpu_answers_at_once() {
    let dir = tempfile::tempdir().unwrap();
    for then in ["create_hang", "prepare_hang"] {
        let mut logged = died(dir.path(), then);
        // It is asked again after a second.
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            let begun = Instant::now();
            assert_eq!(judged(&mut logged.model), 0.0, "{then}");
            assert!(begun.elapsed() < Duration::from_secs(2), "{then}: {:?}", begun.elapsed());
        }
        assert!(dir.path().join(format!("{then}.again")).exists(), "nothing was begun again");
    }
}

/// It is made ready in 4 s, and one that hangs there was waited for once, with every frame behind it.
#[test]
fn while_a_device_is_loaded_the_cpu_answers_and_then_it_takes_over() {
    log_file();
    let shop = Shop::new();
    let model = ModelOptions {
        name: ModelName::new("begun").unwrap(),
        bundle: shop.dir.path().into(),
        channels: vec![ChannelId::new("a.x").unwrap()],
        every: Duration::from_secs(1),
        backends: vec!["hailo".into()],
        policy: Policy::Prefer,
    };
    let workers = vec![worker("fault=create_slow")];
    let begun = Instant::now();
    let options = InferOptions { models: vec![model], workers, ..InferOptions::default() };
    let infer = smol::block_on(Infer::start(options)).unwrap();
    let answer = || infer.handle().judge_blocking(Job { model: 0, frame: frame() }).expect("an answer").score;
    // Which of the two is faster is this machine's affair.
    let is_over = || {
        count_lines(" model=begun ", "model_ready", &["backend=hailo"])
            + count_lines(" model=begun ", "backend_refused", &["backend=hailo", "stage=speed"])
    };
    assert_eq!((answer(), is_over()), (0.0, 0));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_line(" model=begun ", "model_ready", &["backend=onnx", "claimed=0"]);
    while is_over() == 0 {
        assert_eq!(answer(), 0.0);
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not take over");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(answer(), 0.0);
    infer.stop();
}

#[test]
fn a_device_that_comes_back_otherwise_than_it_was_does_not_serve_again() {
    let dir = tempfile::tempdir().unwrap();
    for (then, stage, says) in [
        ("wrong", "golden", "wrong numbers"),
        ("claims_nothing", "claim", "begun again, it takes 0 of 7 operators, and 7 before"),
        ("claims_part", "claim", "begun again, it takes 3 of 7 operators"),
        ("create", "create", "the device is busy"),
    ] {
        let mut logged = died(dir.path(), then);
        let until = Instant::now() + Duration::from_secs(20);
        let stage = format!("stage={stage}");
        while !logged.has_line("backend_failed", &["backend=hailo", &stage, says]) {
            assert_eq!(judged(&mut logged.model), 0.0, "{then}");
            assert!(Instant::now() < until, "{then}");
        }
        assert_eq!(judged(&mut logged.model), 0.0, "{then}");
    }
}

/// Runs when the device is ready for it.
fn run(runner: &mut dyn Runner, input: &[u8], output: &mut Vec<u8>) -> Result<(), Refused> {
    let until = Instant::now() + Duration::from_secs(20);
    while !runner.ready()? {
        assert!(Instant::now() < until, "it is not begun again");
        std::thread::sleep(Duration::from_millis(1));
    }
    runner.run(input, output)
}

/// A file for the device that hands `count` bytes back.
fn same(count: usize) -> ModelFile {
    let spec = TensorSpec { shape: vec![count], element: Element::Uint8, quantisation: None };
    let bytes = b"SAME"[..].into();
    ModelFile { origin: "x".into(), format: "hailo".into(), bytes, input: spec.clone(), output: spec }
}

#[test]
fn a_large_tensor_goes_through_shared_memory_and_comes_back_whole() {
    let device = Isolated::new(worker(""));
    for n in [1, 16 * 1024, 16 * 1024 + 1, 3_000_000] {
        let mut runner = device.load(&same(n)).unwrap();
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
    let (mut first, mut second) = (device.load(&same(4)).unwrap(), device.load(&same(4)).unwrap());
    let mut out = Vec::new();
    let mut failures = 0;
    for n in 0..6u8 {
        for runner in [&mut first, &mut second] {
            match run(runner.as_mut(), &[n, 1, 2, 3], &mut out) {
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

/// Whoever measures a model must not find a process that another one has just ended: it would never serve.
#[test]
fn a_process_that_another_model_has_ended_is_there_before_a_model_is_measured() {
    let mark = tempfile::tempdir().unwrap();
    let options = format!("fault=segv,at_run=1,mark={}", mark.path().join("m").display());
    let device = Isolated::new(worker(&options));
    let (mut first, mut second) = (device.load(&same(4)).unwrap(), device.load(&same(4)).unwrap());
    let mut out = Vec::new();
    assert!(first.run(&[0, 1, 2, 3], &mut out).unwrap_err().reason.contains("died"));
    assert!(second.run(&[0, 1, 2, 3], &mut out).unwrap_err().reason.contains("gone"));
    second.begin().unwrap();
    second.run(&[9, 1, 2, 3], &mut out).unwrap();
    assert_eq!(out, [9, 1, 2, 3]);
}

/// The next run of another model failed for it, and the next model was refused.
#[test]
fn a_process_that_ends_when_a_model_is_given_back_is_begun_again_for_the_others() {
    let mark = tempfile::tempdir().unwrap();
    let options = format!("fault=end,at_run=0,mark={}", mark.path().join("m").display());
    let device = Isolated::new(worker(&options));
    let (first, mut second) = (device.load(&same(4)).unwrap(), device.load(&same(4)).unwrap());
    drop(first);
    assert!(mark.path().join("m").exists(), "it did not end");
    let mut third = device.load(&same(4)).unwrap();
    let mut out = Vec::new();
    for runner in [&mut second, &mut third] {
        run(runner.as_mut(), &[7, 1, 2, 3], &mut out).unwrap();
        assert_eq!(out, [7, 1, 2, 3]);
    }
}

/// The system ends a worker with the thread that began it, not with the process.
#[test]
fn a_device_outlives_the_thread_that_used_it_first() {
    let device = Isolated::new(worker(""));
    let mut model = std::thread::spawn({
        let device = device.clone();
        move || device.model(&same(4)).unwrap()
    })
    .join()
    .unwrap();
    let mut out = Vec::new();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(20));
        model.run(&[1, 2, 3, 4], &mut out).unwrap();
    }
}

#[test]
fn a_model_that_nobody_has_any_more_is_given_back_and_the_others_keep_their_numbers() {
    let gone = tempfile::tempdir().unwrap();
    let (ended, mark) = (gone.path().join("ended"), gone.path().join("mark"));
    // The third one crashes once: what begins anew has the same numbers.
    let options = format!("ended={},fault=segv,at_run=3,mark={}", ended.display(), mark.display());
    let device = Isolated::new(worker(&options));
    let first = device.load(&same(4)).unwrap();
    let mut second = device.load(&same(4)).unwrap();
    assert!(!ended.exists());
    drop(first);
    assert!(ended.exists());
    let mut third = device.load(&same(4)).unwrap();
    let mut out = Vec::new();
    let answered = (0..6u8).filter(|n| {
        let runner = if n % 2 == 0 { &mut second } else { &mut third };
        run(runner.as_mut(), &[*n, 1, 2, 3], &mut out).is_ok_and(|()| out == [*n, 1, 2, 3])
    });
    assert_eq!((answered.count(), mark.exists()), (5, true));
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
