//! The shipped model, and some of arithmetic alone, under a real TensorFlow Lite library in its worker process, bit for bit as
//! Python's interpreter computes them; and that library at its worst. `OUTPOST_TEST_TFLITE` names it; without it there is nothing to
//! test against, and the tests say so.

mod plugin;
#[path = "support/vectors.rs"]
mod vectors;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use outpost::accel::worker::{Vendor, WorkerOptions};
use outpost::accel::{ComputeBackend, Element, Isolated, ModelFile, Quantisation, Stage, TensorSpec};
use outpost::frame::Frame;
use outpost::infer::Bundle;
use outpost::time::Wall;

use plugin::{Logged, compile};

/// The library, or none with the reason.
fn library() -> Option<PathBuf> {
    let path = std::env::var_os("OUTPOST_TEST_TFLITE").map(PathBuf::from);
    if path.is_none() {
        eprintln!(
            "skipped: OUTPOST_TEST_TFLITE names no libtensorflowlite_c.so (.ci/run tflite installs one)"
        );
    }
    path
}

fn tflite(library: PathBuf) -> Isolated {
    Isolated::new(WorkerOptions {
        name: "tflite".into(),
        program: env!("CARGO_BIN_EXE_outpost").into(),
        vendor: Vendor::Lite { library: Some(library), xnnpack: false },
        options: String::new(),
        deadline: Duration::from_millis(500),
    })
}

fn shipped() -> Bundle {
    Bundle::open(Path::new("cold_room")).unwrap()
}

fn load(library: PathBuf) -> Logged {
    Logged::load(shipped(), Box::new(tflite(library)))
}

#[test]
fn without_the_library_that_is_said_once_and_the_onnx_file_serves() {
    for _ in 0..2 {
        let logged = load("/nowhere/libtensorflowlite_c.so".into());
        assert_eq!(logged.serving(), ["onnx"]);
        assert_eq!(logged.model.refused()[0].stage, Stage::Find);
    }
    let words = ["stage=find", "/nowhere/libtensorflowlite_c.so can't be read"];
    assert_eq!(plugin::count_lines("backend=tflite", "backend_missing", &words), 1);
}

#[test]
fn the_shipped_file_computes_to_the_bit_what_pythons_interpreter_does() {
    let Some(library) = library() else { return };
    let logged = load(library);
    let serving: Vec<_> = logged.model.serving().collect();
    assert_eq!(serving[0].backend, "tflite", "{:?}", logged.model.refused());
    // More is tolerated, for ARM's sake: here every golden vector of Python's interpreter comes out the same.
    assert_eq!((serving[0].file.as_str(), serving[0].golden_error), ("cold_room.tflite", 0.0));
    // It is the CPU, in whichever process.
    assert_eq!(serving[0].placement.claimed, 0);
}

#[test]
fn convolutions_of_all_kinds_with_a_scale_per_channel_compute_to_the_bit() {
    let Some(library) = library() else { return };
    vectors::compute_to_the_bit(&tflite(library), Path::new(env!("CARGO_MANIFEST_DIR")));
}

/// More runs than loading takes: the golden vectors, and the timing.
const AT_RUN: u32 = 12 + 21 * 8 + 1;

/// The board's own build of TensorFlow Lite may be as bad as any vendor's code, and the agent lives through it.
#[test]
fn a_library_that_fails_in_service_costs_no_answer_and_serves_again() {
    let Some(library) = library() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (folder, golden) = (library.parent().unwrap().display(), &shipped().golden[9]);
    for (fault, says) in [
        ("segv", "died"),
        ("hang", "no answer within 500ms"),
        ("error", "the run failed"),
        // It ends at the bound of its memory, and not at its deadline.
        ("leak", "SIGABRT"),
    ] {
        let (broken, mark) = (dir.path().join(format!("{fault}.so")), dir.path().join(fault));
        let options = format!("-DOPTIONS=\"fault={fault},at_run={AT_RUN},mark={}\"", mark.display());
        // RPATH goes before LD_LIBRARY_PATH, in which cargo has what tflitec is linked against.
        let rpath = format!("-Wl,--disable-new-dtags,-rpath,{folder}");
        let more = ["-Wl,--no-as-needed", library.to_str().unwrap(), &rpath, &options];
        compile("lite", &broken, &more);
        let mut logged = load(broken);
        assert_eq!(logged.serving(), ["tflite", "onnx"], "{fault}: {:?}", logged.model.refused());
        let frame = Frame { at: Wall(0), start: Wall(0), rows: vec![golden.window.clone()] };
        let mut off = || (logged.model.judge(&frame).expect("an answer").score - golden.score).abs();
        for _ in 0..AT_RUN {
            // ONNX rounds between layers in its own way.
            assert!(off() < 0.03, "{fault}");
            if mark.exists() {
                break;
            }
        }
        assert!(mark.exists(), "{fault} did not show");
        // It is begun again beside, and its answers are to the bit again.
        let until = Instant::now() + Duration::from_secs(20);
        while off() > 1e-5 {
            assert!(Instant::now() < until, "{fault}: it does not serve again");
            std::thread::sleep(Duration::from_millis(50));
        }
        logged.assert_line("backend_failed", &["backend=tflite", "stage=invoke", says, "quarantined=false"]);
    }
}

/// The place of field number `n` of a table of a flat buffer, if it is there.
fn field(bytes: &[u8], table: usize, n: usize) -> Option<usize> {
    let short = |at: usize| usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()));
    let back = i32::from_le_bytes(bytes[table..table + 4].try_into().unwrap());
    let layout = table.checked_add_signed(-back as isize).unwrap();
    let at = 4 + 2 * n;
    (at < short(layout) && short(layout + at) > 0).then(|| table + short(layout + at))
}

/// The file with an operator of a version that nobody has yet.
fn from_the_future(mut bytes: Vec<u8>) -> Vec<u8> {
    let follow = |at: usize| at + u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let codes = follow(field(&bytes, follow(0), 1).unwrap());
    let count = follow(codes) - codes;
    let mut versions = (0..count).filter_map(|n| field(&bytes, follow(codes + 4 + 4 * n), 2));
    let version = versions.next().expect("an operator that says its version");
    bytes[version..version + 4].copy_from_slice(&99_i32.to_le_bytes());
    bytes
}

#[test]
fn a_file_that_is_not_what_the_manifest_says_is_refused_with_file_and_reason() {
    let Some(library) = library() else { return };
    let (tflite, bundle) = (tflite(library), shipped());
    let variant = bundle.manifest.variants.iter().find(|v| v.backend == "tflite").unwrap();
    let sound = bundle.file(variant).unwrap();
    let with = |change: fn(&mut ModelFile)| {
        let mut file = sound.clone();
        change(&mut file);
        tflite.load(&file).map(drop)
    };
    assert_eq!(with(|_| {}), Ok(()));
    type Case = (fn(&mut ModelFile), Stage, &'static [&'static str]);
    let cases: [Case; 7] = [
        (
            |f| f.input.shape = vec![1, 64],
            Stage::Load,
            &["shape of its input is", "manifest.json says [1, 64]"],
        ),
        (|f| f.output.shape.push(1), Stage::Load, &["shape of its output"]),
        (|f| f.input.element = Element::Uint8, Stage::Load, &["type of its input is int8", "says uint8"]),
        (
            |f| f.output.quantisation = Some(Quantisation { scale: 0.5, zero_point: 77 }),
            Stage::Load,
            &["quantisation of its output", "says scale 0.5 and zero point 77"],
        ),
        (|f| f.input.quantisation = None, Stage::Load, &["quantisation of its input", "says none"]),
        (
            |f| f.bytes = from_the_future(f.bytes.to_vec()).into(),
            Stage::Prepare,
            &["TensorFlow Lite can't run it", "version", "99"],
        ),
        (
            |f| f.bytes = b"404 Not Found, says a web server"[..].into(),
            Stage::Load,
            &["no TensorFlow Lite model"],
        ),
    ];
    for (change, stage, words) in cases {
        let refused = with(change).unwrap_err();
        let told = refused.to_string();
        assert_eq!(refused.stage, stage, "{told}");
        assert!(told.contains("cold_room.tflite") && words.iter().all(|word| told.contains(word)), "{told}");
    }
}
