//! What Python's interpreter answers to int8 models, as `make.py` and `shipped.py` in `tests/golden/tflite` wrote it down. Whoever has
//! this module brings the types: the product for this machine, and a part of it for others (`cross/exact.sh`).

use std::path::Path;

use super::{ComputeBackend, Element, ModelFile, Quantisation, TensorSpec, Tflite};

/// Panics unless TensorFlow Lite's own kernels in `library` answer every vector below the checkout `root` to the bit.
pub fn compute_to_the_bit(library: &Path, root: &Path) {
    let golden = root.join("tests/golden/tflite");
    let made = |name: &str| golden.join(format!("{name}.tflite"));
    let shipped = root.join("models/cold_room/cold_room.tflite");
    for (name, model) in
        [("convolutions", made("convolutions")), ("depthwise", made("depthwise")), ("shipped", shipped)]
    {
        let told = std::fs::read(golden.join(format!("{name}.json"))).unwrap();
        let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
        assert!(told["scales_of_a_tensor_max"].as_u64().unwrap() >= 8, "{name} is not quantised per channel");
        let file = ModelFile {
            format: "tflite".into(),
            origin: name.into(),
            bytes: std::fs::read(model).unwrap().into(),
            input: side(&told["input"]),
            output: side(&told["output"]),
        };
        let mut runner = Tflite { library: Some(library.into()), xnnpack: false }.load(&file).unwrap();
        let vectors = told["vectors"].as_array().unwrap();
        assert_eq!(vectors.len(), 8);
        // It ends in SOFTMAX, whose table the library fills with floats: on aarch64 one entry is rounded the other way.
        let off_max = u8::from(name == "convolutions" && cfg!(target_arch = "aarch64"));
        let mut answer = Vec::new();
        for (n, vector) in vectors.iter().enumerate() {
            runner.run(&bytes(&vector["input"]), &mut answer).unwrap();
            let off = answer.iter().zip(bytes(&vector["output"])).map(|(&a, b)| (a as i8).abs_diff(b as i8));
            assert_eq!(answer.len(), file.output.bytes());
            assert!(off.max() <= Some(off_max), "{name}, vector {n}: {answer:?}");
        }
    }
}

/// One side of a model.
fn side(told: &serde_json::Value) -> TensorSpec {
    let shape = told["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
    let (scale, zero_point) =
        (told["scale"].as_f64().unwrap() as f32, told["zero_point"].as_i64().unwrap() as i32);
    TensorSpec { shape, element: Element::Int8, quantisation: Some(Quantisation { scale, zero_point }) }
}

fn bytes(codes: &serde_json::Value) -> Vec<u8> {
    codes.as_array().unwrap().iter().map(|n| (n.as_i64().unwrap() as i8).to_ne_bytes()[0]).collect()
}
