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
    vectors::compute_to_the_bit(&library, Path::new(env!("CARGO_MANIFEST_DIR")));
}
