//! TensorFlow Lite external delegates in real worker processes: the test delegate with every fault that it knows. What a delegate
//! claims is counted, the answer is right, nothing hangs, and a line names stage and reason. `OUTPOST_TEST_TFLITE` names
//! TensorFlow Lite's library. Mesa's delegate is built for ARM alone: `cross/teflon.sh`.

mod plugin;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use outpost::accel::worker::{Vendor, WorkerOptions};
use outpost::accel::{Isolated, Placement, Stage};
use outpost::frame::Frame;
use outpost::infer::Bundle;
use outpost::time::Wall;

use plugin::{Logged, compiled};

/// A file that the environment names, or none with the reason.
fn named(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: {variable} names no library (.ci/run tflite gets one)");
    }
    path
}

fn worker(options: &str, tflite: &Path) -> WorkerOptions {
    WorkerOptions {
        name: "vx".into(),
        program: env!("CARGO_BIN_EXE_outpost").into(),
        vendor: Vendor::Delegate { library: compiled("delegate"), tflite: Some(tflite.into()) },
        options: options.into(),
        deadline: Duration::from_millis(500),
    }
}

fn shipped() -> Bundle {
    Bundle::open(Path::new("cold_room")).unwrap()
}

fn load(worker: WorkerOptions) -> Logged {
    Logged::load(shipped(), Box::new(Isolated::new(worker)))
}

/// How far the score of a golden window is from that of Python's interpreter.
fn off(logged: &mut Logged) -> f64 {
    let golden = &shipped().golden[9];
    let frame = Frame { at: Wall(0), start: Wall(0), rows: vec![golden.window.clone()] };
    (logged.model.judge(&frame).expect("an answer").score - golden.score).abs()
}

/// ONNX rounds between layers in its own way.
const ONNX_OFF: f64 = 0.03;

/// A device that never serves: the CPU's answer is right, and one line tells stage and reason.
fn assert_refused(mut logged: Logged, stage: Stage, says: &str) {
    assert_eq!(logged.serving(), ["onnx"], "{says}");
    assert!(off(&mut logged) < ONNX_OFF, "{says}");
    logged.assert_line("backend_refused", &["backend=vx", &format!("stage={stage}"), says]);
}

#[test]
fn a_delegate_computes_to_the_bit_and_what_it_claims_is_counted() {
    let Some(tflite) = named("OUTPOST_TEST_TFLITE") else { return };
    for (options, claimed) in [("", 3), ("fault=claims_part", 1)] {
        let mut logged = load(worker(options, &tflite));
        assert_eq!(logged.serving(), ["vx", "onnx"]);
        let first = logged.model.serving().next().unwrap();
        assert_eq!((first.placement, first.golden_error), (Placement { claimed, total: 8 }, 0.0));
        assert_eq!(first.file, "cold_room.tflite");
        logged.assert_line("model_ready", &["backend=vx", &format!("claimed={claimed}"), "operators=8"]);
        // The golden scores are written with the digits of an f32.
        assert!(off(&mut logged) < 1e-5);
    }
}

#[test]
fn what_shows_before_it_serves_is_told_with_its_stage_and_the_cpu_serves() {
    let Some(tflite) = named("OUTPOST_TEST_TFLITE") else { return };
    for (options, stage, says) in [
        ("fault=create", Stage::Create, "the device is busy; end the other program"),
        ("fault=silent", Stage::Create, "delegate.so: it makes no delegate and does not say why"),
        ("fault=create_crash", Stage::Prepare, "died"),
        ("fault=prepare", Stage::Prepare, "operator 3 is not supported; compile the model again"),
        ("fault=prepare_crash", Stage::Prepare, "died"),
        ("fault=claims_nothing", Stage::Claim, "none of 8 operators"),
        ("fault=wrong", Stage::Golden, "wrong numbers"),
        ("fault=slow", Stage::Speed, "on the CPU"),
        ("fault=segv", Stage::Invoke, "died"),
        ("fault=hang", Stage::Invoke, "no answer within 500ms"),
        ("fault=error", Stage::Invoke, "the device has timed out after 42 ms"),
        ("speed=9", Stage::Create, "delegate.so: unknown option speed"),
        ("turbo", Stage::Create, "the option turbo has no value"),
    ] {
        assert_refused(load(worker(options, &tflite)), stage, says);
    }
}

/// More runs of the claimed operators than loading takes: the golden vectors, and the timing, three times each.
const AT_RUN: u32 = 3 * (12 + 21 * 8) + 3;

#[test]
fn what_shows_in_service_costs_no_answer() {
    let Some(tflite) = named("OUTPOST_TEST_TFLITE") else { return };
    let dir = tempfile::tempdir().unwrap();
    for (fault, says) in [
        ("segv", "died"),
        ("hang", "no answer within 500ms"),
        ("error", "the device has timed out after 42 ms"),
        // It ends at the bound of its memory, and not at its deadline.
        ("leak", "SIGABRT"),
    ] {
        // The next process is well: what is broken may be well again.
        let mark = dir.path().join(fault);
        let options = format!("fault={fault},at_run={AT_RUN},mark={}", mark.display());
        let mut logged = load(worker(&options, &tflite));
        assert_eq!(logged.serving(), ["vx", "onnx"]);
        for _ in 0..AT_RUN {
            assert!(off(&mut logged) < ONNX_OFF, "{fault}");
            if mark.exists() {
                break;
            }
        }
        assert!(off(&mut logged) < ONNX_OFF, "{fault}");
        assert!(mark.exists(), "{fault} did not show");
        logged.assert_line("backend_failed", &["backend=vx", "stage=invoke", says, "quarantined=false"]);
    }
}

#[test]
fn while_a_delegate_that_died_is_begun_again_the_cpu_answers_at_once() {
    let Some(tflite) = named("OUTPOST_TEST_TFLITE") else { return };
    let dir = tempfile::tempdir().unwrap();
    for then in ["create_hang", "prepare_hang"] {
        let mark = dir.path().join(then);
        let options = format!("fault=segv,at_run={AT_RUN},mark={},then={then}", mark.display());
        let mut logged = load(worker(&options, &tflite));
        assert_eq!(logged.serving(), ["vx", "onnx"], "{then}");
        while !mark.exists() {
            assert!(off(&mut logged) < ONNX_OFF, "{then}");
        }
        // It is asked again after a second.
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            let begun = Instant::now();
            assert!(off(&mut logged) < ONNX_OFF, "{then}");
            assert!(begun.elapsed() < Duration::from_secs(2), "{then}: {:?}", begun.elapsed());
        }
        assert!(dir.path().join(format!("{then}.again")).exists(), "nothing was begun again");
    }
}

#[test]
fn what_is_no_delegate_or_no_tensorflow_lite_is_told_with_its_file() {
    let Some(tflite) = named("OUTPOST_TEST_TFLITE") else { return };
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.so");
    std::fs::write(&text, "this is text, not a shared library").unwrap();
    for (library, tflite, says) in [
        (text.clone(), tflite.clone(), "text.so is no shared library"),
        (compiled("plugin"), tflite.clone(), "no symbol tflite_plugin_create_delegate"),
        (compiled("delegate"), text, "text.so is no shared library"),
        (compiled("delegate"), compiled("plugin"), "no TensorFlow Lite library"),
    ] {
        let vendor = Vendor::Delegate { library, tflite: Some(tflite) };
        assert_refused(load(WorkerOptions { vendor, ..worker("", Path::new("")) }), Stage::Load, says);
    }
    let vendor = Vendor::Delegate { library: "/nowhere/libvx_delegate.so".into(), tflite: Some(tflite) };
    let missing = load(WorkerOptions { vendor, ..worker("", Path::new("")) });
    assert_eq!((missing.serving(), missing.model.refused()[0].stage), (vec!["onnx".into()], Stage::Find));
}

/// A machine made of files, with the device of the i.MX8M Plus and the test delegate as its library.
fn board(dir: &Path, tflite: &Path, options: &str) {
    let library = dir.join("usr/lib/libvx_delegate.so");
    for folder in [dir.join("dev"), dir.join("usr/lib")] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(dir.join("dev/galcore"), "").unwrap();
    std::fs::copy(compiled("delegate"), &library).unwrap();
    let accelerator = match options {
        "" => String::new(),
        some => format!("[accelerator.vx]\ndelegate = \"{}\"\noptions = \"{some}\"\n", library.display()),
    };
    let config = format!("[tflite]\nlibrary = \"{}\"\n{accelerator}", tflite.display());
    std::fs::write(dir.join("outpost.toml"), config).unwrap();
}

fn backends(dir: &Path, more: &[&str]) -> serde_json::Value {
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_outpost"))
        .args(["backends", "--json", "-c"])
        .arg(dir.join("outpost.toml"))
        .arg("--root")
        .arg(dir)
        .args(more)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let told: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let vx = told["accelerators"].as_array().unwrap().iter().find(|a| a["id"] == "vx").unwrap();
    vx.clone()
}

#[test]
fn what_was_found_is_tried_when_asked_and_only_then() {
    let Some(tflite) = named("OUTPOST_TEST_TFLITE") else { return };
    let dir = tempfile::tempdir().unwrap();
    board(dir.path(), &tflite, "");
    let looked_at = backends(dir.path(), &[]);
    assert_eq!((&looked_at["state"], looked_at["tried"].is_null()), (&"probed".into(), true));
    let tried = backends(dir.path(), &["--verify"]);
    // Which of the two is faster is this machine's affair.
    let (first, refused) = (&tried["tried"]["backends"][0], &tried["tried"]["refused"][0]);
    match tried["state"].as_str() {
        Some("verified") => {
            assert_eq!(
                (&first["placement"], &first["golden_error"]),
                (&"NPU, 3 of 8 operators".into(), &0.0.into())
            );
        }
        Some("loaded") => {
            assert_eq!((&refused["stage"], &first["placement"]), (&"speed".into(), &"CPU".into()))
        }
        other => panic!("{other:?}: {tried:#}"),
    }
}

#[test]
fn what_is_tried_and_claims_nothing_or_can_not_be_created_says_so() {
    let Some(tflite) = named("OUTPOST_TEST_TFLITE") else { return };
    for (options, state, stage) in
        [("fault=claims_nothing", "loaded", "claim"), ("fault=create", "probed", "create")]
    {
        let dir = tempfile::tempdir().unwrap();
        board(dir.path(), &tflite, options);
        let tried = backends(dir.path(), &["--verify"]);
        let refused = &tried["tried"]["refused"][0];
        assert_eq!((&tried["state"], &refused["stage"]), (&state.into(), &stage.into()), "{tried:#}");
    }
}
