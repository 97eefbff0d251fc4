//! The shipped model and two of arithmetic alone under a real TensorFlow Lite library, bit for bit as Python's interpreter computes them. `OUTPOST_TEST_TFLITE` names the
//! library; without it there is nothing to test against, and the tests say so.

#[path = "support/vectors.rs"]
mod vectors;

use std::path::{Path, PathBuf};

use outpost::accel::{ComputeBackend, Element, ModelFile, Quantisation, Stage, TensorSpec, Tflite};
use outpost::infer::{Bundle, Model, Onnx};

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

fn load(backends: &[Box<dyn ComputeBackend>]) -> Model {
    Model::load("cold_room", Bundle::open(Path::new("cold_room")).unwrap(), backends, false).unwrap()
}

/// One process has one library, so everything about one stands in one test.
#[test]
fn the_shipped_file_computes_to_the_bit_what_pythons_interpreter_does() {
    let Some(library) = library() else {
        // Without the library: said once, and the ONNX variant serves.
        let model = load(&[
            Box::new(Tflite { library: Some("/nowhere/libtensorflowlite_c.so".into()), xnnpack: false }),
            Box::new(Onnx),
        ]);
        assert_eq!(model.serving().map(|s| s.backend).collect::<Vec<_>>(), ["onnx"]);
        assert_eq!(model.refused()[0].stage, Stage::Find);
        assert!(model.refused()[0].reason.contains("/nowhere"), "{}", model.refused()[0]);
        return;
    };
    let model = load(&[Box::new(Tflite { library: Some(library), xnnpack: false }), Box::new(Onnx)]);
    let serving: Vec<_> = model.serving().collect();
    assert_eq!(serving[0].backend, "tflite", "{:?}", model.refused());
    // The tolerance of this variant is nought: every golden vector of Python's interpreter came out the same.
    assert_eq!((serving[0].file.as_str(), serving[0].golden_error), ("cold_room.tflite", 0.0));
    eprintln!("tflite {:?}, onnx {:?}", serving[0].p50, serving[1].p50);
}

#[test]
fn convolutions_of_all_kinds_with_a_scale_per_channel_compute_to_the_bit() {
    let Some(library) = library() else { return };
    let tflite = Tflite { library: Some(library), xnnpack: false };
    vectors::compute_to_the_bit(&tflite, Path::new(env!("CARGO_MANIFEST_DIR")));
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
    let tflite = Tflite { library: Some(library), xnnpack: false };
    let bundle = Bundle::open(Path::new("cold_room")).unwrap();
    let variant = bundle.manifest.variants.iter().find(|v| v.backend == "tflite").unwrap();
    let sound = bundle.file(variant).unwrap();
    let with = |change: fn(&mut ModelFile)| {
        let mut file = sound.clone();
        change(&mut file);
        tflite.load(&file).map(drop)
    };
    assert_eq!(with(|_| {}), Ok(()));
    let cases: [(fn(&mut ModelFile), Stage, &[&str]); 7] = [
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
