//! The shipped model and two of arithmetic alone under a real TensorFlow Lite library, bit for bit as Python's interpreter computes them. `OUTPOST_TEST_TFLITE` names the
//! library; without it there is nothing to test against, and the tests say so.

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
        assert_eq!(model.refused()[0].stage, Stage::Load);
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

/// What `tests/golden/tflite/make.py` has written of one side of a model.
fn side(told: &serde_json::Value) -> TensorSpec {
    let shape = told["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
    let (scale, zero_point) =
        (told["scale"].as_f64().unwrap() as f32, told["zero_point"].as_i64().unwrap() as i32);
    TensorSpec { shape, element: Element::Int8, quantisation: Some(Quantisation { scale, zero_point }) }
}

fn bytes(codes: &serde_json::Value) -> Vec<u8> {
    codes.as_array().unwrap().iter().map(|n| (n.as_i64().unwrap() as i8).to_ne_bytes()[0]).collect()
}

#[test]
fn convolutions_of_all_kinds_with_a_scale_per_channel_compute_to_the_bit() {
    let Some(library) = library() else { return };
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tflite");
    for name in ["convolutions", "depthwise"] {
        let told: serde_json::Value =
            serde_json::from_slice(&std::fs::read(dir.join(format!("{name}.json"))).unwrap()).unwrap();
        assert!(told["scales_of_a_tensor_max"].as_u64().unwrap() >= 8, "{name} is not quantised per channel");
        let file = ModelFile {
            format: "tflite".into(),
            origin: name.into(),
            bytes: std::fs::read(dir.join(format!("{name}.tflite"))).unwrap().into(),
            input: side(&told["input"]),
            output: side(&told["output"]),
        };
        let mut runner = Tflite { library: Some(library.clone()), xnnpack: false }.load(&file).unwrap();
        let vectors = told["vectors"].as_array().unwrap();
        assert_eq!(vectors.len(), 8);
        let mut answer = Vec::new();
        for (n, vector) in vectors.iter().enumerate() {
            runner.run(&bytes(&vector["input"]), &mut answer).unwrap();
            assert_eq!(answer, bytes(&vector["output"]), "{name}, vector {n}");
        }
    }
}
