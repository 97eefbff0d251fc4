//! The shipped model through every backend that needs nothing from outside, and bundles that are not what they say.

use std::path::Path;

use super::*;
use crate::infer::Onnx;
use crate::time::Wall;

fn shipped() -> Bundle {
    Bundle::open(Path::new("cold_room")).unwrap()
}

fn onnx() -> Vec<Box<dyn ComputeBackend>> {
    vec![Box::new(Onnx)]
}

fn frame(window: &[f64]) -> Frame {
    Frame { at: Wall(0), start: Wall(0), rows: vec![window.to_vec()] }
}

/// A copy of the shipped bundle in a folder.
fn copied() -> tempfile::TempDir {
    let (dir, from) =
        (tempfile::tempdir().unwrap(), Path::new(env!("CARGO_MANIFEST_DIR")).join("models/cold_room"));
    for name in
        ["manifest.json", "cold_room.tflite", "cold_room.int8.onnx", "cold_room.f32.onnx", "golden.json"]
    {
        std::fs::copy(from.join(name), dir.path().join(name)).unwrap();
    }
    dir
}

/// The same, its manifest changed by `change` and the hashes set right.
fn changed(
    change: impl FnOnce(&Path, &mut serde_json::Value),
) -> (tempfile::TempDir, Result<Model, ModelError>) {
    let dir = copied();
    let path = dir.path().join("manifest.json");
    let mut manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(dir.path(), &mut manifest);
    for (name, hash) in manifest["files"].as_object_mut().unwrap() {
        let Ok(bytes) = std::fs::read(dir.path().join(name)) else { continue };
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        *hash = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect::<String>().into();
    }
    std::fs::write(&path, manifest.to_string()).unwrap();
    let model = Bundle::open(dir.path())
        .map_err(ModelError::from)
        .and_then(|bundle| Model::load("changed", bundle, &onnx(), false));
    (dir, model)
}

/// Only the variant number `index` is left.
fn only(manifest: &mut serde_json::Value, index: usize) {
    let variant = manifest["variants"][index].take();
    manifest["variants"] = serde_json::json!([variant]);
}

/// `tests/golden/onnx/onnxruntime.py` wrote them down.
#[test]
fn whole_numbers_answer_on_tract_what_they_answer_on_onnxruntime() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/onnx/onnxruntime.json");
    let golden: std::collections::HashMap<String, Vec<Vec<i8>>> =
        serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
    let bundle = shipped();
    let variant = bundle.manifest.variants.iter().find(|v| v.file == "cold_room.int8.onnx").unwrap();
    let mut runner = Onnx.load(&bundle.file(variant).unwrap()).unwrap();
    let bytes = |row: &[i8]| row.iter().map(|&x| x as u8).collect::<Vec<u8>>();
    assert_eq!(golden["inputs"].len(), 24);
    for (input, wanted) in golden["inputs"].iter().zip(&golden["outputs"]) {
        let mut output = Vec::new();
        runner.run(&bytes(input), &mut output).unwrap();
        assert_eq!(output, bytes(wanted));
    }
}

#[test]
fn whole_numbers_and_floats_answer_the_golden_vectors_on_tract() {
    for (index, file) in [(1, "cold_room.int8.onnx"), (2, "cold_room.f32.onnx")] {
        let (_dir, model) = changed(|_, manifest| only(manifest, index));
        let model = model.unwrap();
        let serving: Vec<Serving> = model.serving().collect();
        assert_eq!((serving.len(), serving[0].file.as_str()), (1, file));
        assert_eq!(serving[0].placement.claimed, 0);
        eprintln!("{file}: off by {}, {:?}", serving[0].golden_error, serving[0].p50);
    }
}

#[test]
fn the_scores_are_those_of_the_training_code() {
    let mut model = Model::load("cold_room", shipped(), &onnx(), false).unwrap();
    for vector in &shipped().golden {
        let scored = model.judge(&frame(&vector.window)).unwrap();
        // The golden score is TensorFlow Lite's; engines round between layers in their own ways.
        assert!((scored.score - vector.score).abs() < 0.03, "{} is not {}", scored.score, vector.score);
    }
}

#[test]
fn sound_windows_score_below_the_threshold_and_faulty_ones_above() {
    let mut model = Model::load("cold_room", shipped(), &onnx(), false).unwrap();
    let threshold = model.manifest().output.threshold();
    let odd: Vec<bool> =
        shipped().golden.iter().map(|v| model.judge(&frame(&v.window)).unwrap().score >= threshold).collect();
    // Seven sound ones, then: door, compressor, short cycling, iced, loose sensor.
    assert!(odd[..7].iter().all(|odd| !odd), "{odd:?}");
    assert!(odd[7..].iter().filter(|odd| **odd).count() >= 4, "{odd:?}");
}

#[test]
fn a_file_that_is_not_what_the_manifest_says_is_refused_with_file_and_reason() {
    type Change = fn(&Path, &mut serde_json::Value);
    let cases: [(&str, Change, &[&str]); 6] = [
        (
            "shape",
            |_, m| {
                only(m, 1);
                m["variants"][0]["input_shape"] = serde_json::json!([1, 64]);
            },
            &["cold_room.int8.onnx", "shape", "[1, 1, 1, 64]", "[1, 64]", "load"],
        ),
        (
            "type",
            |_, m| {
                only(m, 1);
                m["variants"][0]["element"] = "uint8".into();
            },
            &["cold_room.int8.onnx", "type", "int8", "uint8"],
        ),
        (
            "quantisation",
            |_, m| {
                only(m, 1);
                m["variants"][0]["output"]["zero_point"] = 77.into();
            },
            &["cold_room.int8.onnx", "quantisation of its output", "zero point 77"],
        ),
        (
            "operator",
            |dir, m| {
                only(m, 2);
                let path = dir.join("cold_room.f32.onnx");
                // As long as the name before, so that the file stays well-formed.
                let bytes = std::fs::read(&path).unwrap();
                let at = bytes.windows(4).position(|w| w == b"Gemm").unwrap();
                let spoilt = [&bytes[..at], b"Gymm", &bytes[at + 4..]].concat();
                std::fs::write(path, spoilt).unwrap();
            },
            &["cold_room.f32.onnx", "prepare", "Gymm"],
        ),
        (
            "no graph",
            |dir, m| {
                only(m, 1);
                std::fs::write(dir.join("cold_room.int8.onnx"), b"not a graph").unwrap();
            },
            &["cold_room.int8.onnx", "load", "no ONNX graph"],
        ),
        (
            "wrong numbers",
            |dir, m| {
                only(m, 1);
                let path = dir.join("golden.json");
                let mut golden: serde_json::Value =
                    serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
                golden["vectors"][3]["outputs"]["int8"][5] = 127.into();
                std::fs::write(path, golden.to_string()).unwrap();
            },
            &["cold_room.int8.onnx", "golden", "vector 3", "wrong numbers"],
        ),
    ];
    for (case, change, words) in cases {
        let (_dir, model) = changed(change);
        let error = model.map(|_| ()).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{case}: {error}");
    }
}

/// A variant's file that could not be read once kept every backend from serving, whatever files were sound.
#[test]
fn a_file_that_is_spoilt_missing_or_too_large_costs_its_variant_and_not_the_model() {
    type Spoil = fn(&Path);
    let cases: [(Spoil, &str); 3] = [
        (|file| std::fs::write(file, b"another file").unwrap(), "is not the file that manifest.json names"),
        (|file| std::fs::remove_file(file).unwrap(), "can't be read"),
        (
            |file| {
                let file = std::fs::File::options().write(true).open(file).unwrap();
                file.set_len(limits::SMALL_MODEL_BYTES_MAX + 1).unwrap();
            },
            "is larger than",
        ),
    ];
    for (spoil, says) in cases {
        let dir = copied();
        let bundle = Bundle::open(dir.path()).unwrap();
        spoil(&dir.path().join("cold_room.int8.onnx"));
        let model = Model::load("spoilt", bundle, &onnx(), false).unwrap();
        let files: Vec<String> = model.serving().map(|s| s.file).collect();
        assert_eq!(files, ["cold_room.f32.onnx"], "{says}");
        let Refused { stage, reason, .. } = &model.refused()[0];
        assert!(
            *stage == Stage::Load && reason.contains("cold_room.int8.onnx") && reason.contains(says),
            "{reason}"
        );
    }
}

/// Answers like the CPU until told otherwise.
struct Moody {
    name: &'static str,
    claimed: usize,
    mood: fn(u32) -> Mood,
}

#[derive(Clone, Copy)]
enum Mood {
    Well,
    Fails,
    Lies,
    Dawdles,
}

impl ComputeBackend for Moody {
    fn name(&self) -> &str {
        self.name
    }
    fn takes(&self, format: &str) -> bool {
        format == "onnx"
    }
    fn load(&self, model: &crate::accel::ModelFile) -> Result<Box<dyn Runner>, Refused> {
        let inner = Onnx.load(model)?;
        Ok(Box::new(MoodyRunner { inner, runs: 0, claimed: self.claimed, mood: self.mood }))
    }
}

struct MoodyRunner {
    inner: Box<dyn Runner>,
    runs: u32,
    claimed: usize,
    mood: fn(u32) -> Mood,
}

impl Runner for MoodyRunner {
    fn run(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), Refused> {
        self.runs += 1;
        match (self.mood)(self.runs) {
            Mood::Fails => return Err(Refused::new("moody", Stage::Invoke, "not now")),
            Mood::Dawdles => std::thread::sleep(Duration::from_millis(2)),
            Mood::Well | Mood::Lies => {}
        }
        self.inner.run(input, output)?;
        if matches!((self.mood)(self.runs), Mood::Lies) {
            output.iter_mut().for_each(|b| *b = b.wrapping_add(40));
        }
        Ok(())
    }
    fn placement(&self) -> crate::accel::Placement {
        crate::accel::Placement { claimed: self.claimed, total: 8 }
    }
}

fn beside_the_cpu(claimed: usize, mood: fn(u32) -> Mood) -> Model {
    let moody = Box::new(Moody { name: "moody", claimed, mood });
    Model::load("cold_room", shipped(), &[moody, Box::new(Onnx)], false).unwrap()
}

fn names(model: &Model) -> Vec<String> {
    model.serving().map(|s| s.backend).collect()
}

#[test]
fn wrong_numbers_are_caught_by_the_golden_vectors_and_the_next_backend_serves() {
    let model = beside_the_cpu(0, |_| Mood::Lies);
    assert_eq!(names(&model), ["onnx"]);
    assert!(
        model.refused().iter().all(|r| r.stage == Stage::Golden && r.backend == "moody"),
        "{:?}",
        model.refused()
    );
}

#[test]
fn a_device_that_is_slower_than_the_cpu_does_not_serve() {
    let model = beside_the_cpu(8, |_| Mood::Dawdles);
    assert_eq!(names(&model), ["onnx"]);
    assert_eq!(model.state_of("moody"), Some(State::Loaded));
    assert_eq!((model.state_of("onnx"), model.state_of("other")), (Some(State::Serving), None));
    assert_eq!(model.refused().last().map(|r| r.stage), Some(Stage::Speed));
    let [slow] = model.slow() else { panic!("{:?}", model.slow()) };
    assert_eq!((slow.backend.as_str(), slow.placement.claimed), ("moody", 8));
    assert!(slow.golden_error.is_finite() && slow.p50 >= Duration::from_millis(2), "{slow:?}");
}

#[test]
fn a_backend_that_fails_in_service_gives_way_within_the_same_window_and_ends_in_quarantine() {
    // It is well while it is looked at, and never again.
    let moody =
        Moody { name: "moody", claimed: 0, mood: |runs| if runs <= 500 { Mood::Well } else { Mood::Fails } };
    let mut model = Model::load("left alone", shipped(), &[Box::new(moody), Box::new(Onnx)], false).unwrap();
    let shown = |backend: &str| {
        let all = crate::observe::backends::all();
        let found = all.into_iter().find(|b| b.model == "left alone" && b.backend == backend);
        found.map(|b| b.state).unwrap_or_default()
    };
    assert_eq!([shown("moody"), shown("onnx")], ["serving", "verified"]);
    assert_eq!(names(&model), ["moody", "onnx"]);
    assert_eq!(model.state_of("onnx"), Some(State::Verified));
    let (window, score) = (shipped().golden[0].window.clone(), shipped().golden[0].score);
    for _ in 0..600 {
        let scored = model.judge(&frame(&window)).unwrap();
        assert!((scored.score - score).abs() < 0.03);
        // Time passes for the one that failed.
        model.served[0].health = model.served[0].health.as_if_it_may_try();
    }
    assert!(model.served[0].health.is_quarantined());
    assert_eq!(model.state_of("moody"), Some(State::Quarantined));
    assert_eq!([shown("moody"), shown("onnx")], ["quarantined", "serving"]);
}

#[test]
fn with_require_the_first_backend_must_do() {
    let moody = || Box::new(Moody { name: "moody", claimed: 0, mood: |_| Mood::Fails });
    let backends: [Box<dyn ComputeBackend>; 2] = [moody(), Box::new(Onnx)];
    let error = Model::load("cold_room", shipped(), &backends, true).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("moody, stage invoke: not now") && !error.contains("onnx, stage"), "{error}");
}

/// What is refused for its speed is refused when all are loaded, and once that was after `require` had been looked at.
#[test]
fn with_require_a_first_backend_that_is_slower_than_the_cpu_does_not_do() {
    let moody = Box::new(Moody { name: "moody", claimed: 8, mood: |_| Mood::Dawdles });
    let backends: [Box<dyn ComputeBackend>; 2] = [moody, Box::new(Onnx)];
    let error = Model::load("cold_room", shipped(), &backends, true).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("moody, stage speed: a run takes"), "{error}");
}
