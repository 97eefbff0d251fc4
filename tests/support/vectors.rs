//! What Python's interpreter answers to int8 models, as `make.py` and `shipped.py` in `tests/golden/tflite` wrote it down. Whoever has
//! this module brings the types: the product for this machine, and a part of it for others (`cross/exact.sh`).

use std::path::{Path, PathBuf};

use super::{ComputeBackend, Element, ModelFile, Quantisation, TensorSpec};

/// A model with inputs and the answers to them.
pub struct Told {
    pub name: &'static str,
    pub file: ModelFile,
    pub vectors: Vec<[Vec<u8>; 2]>,
}

/// The models below the checkout `root`, each quantised per channel.
pub fn told(root: &Path) -> Vec<Told> {
    let golden = root.join("tests/golden/tflite");
    let made = |name: &str| golden.join(format!("{name}.tflite"));
    let shipped = root.join("models/cold_room/cold_room.tflite");
    let model = |(name, model): (&'static str, PathBuf)| {
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
        let vector = |told: &serde_json::Value| [bytes(&told["input"]), bytes(&told["output"])];
        let vectors: Vec<_> = told["vectors"].as_array().unwrap().iter().map(vector).collect();
        assert!(vectors.len() >= 8);
        Told { name, file, vectors }
    };
    [
        ("convolutions", made("convolutions")),
        ("depthwise", made("depthwise")),
        ("plain", made("plain")),
        ("shipped_convolutions", made("shipped_convolutions")),
        ("shipped", shipped),
    ]
    .map(model)
    .into()
}

/// How many steps the library is off at most, and where: on ARM it rounds otherwise now and then, in a convolution or in the table of
/// SOFTMAX, with which the first one ends. The shipped model's manifest tolerates as much.
const ROUNDED_OTHERWISE: [(&str, &str, u8); 4] = [
    ("aarch64", "convolutions", 1),
    ("aarch64", "shipped_convolutions", 1),
    ("aarch64", "shipped", 2),
    ("arm", "plain", 1),
];

/// Panics unless `tflite`, TensorFlow Lite's own kernels, answers every vector below the checkout `root` to the bit.
pub fn compute_to_the_bit(tflite: &dyn ComputeBackend, root: &Path) {
    let manifest = std::fs::read(root.join("models/cold_room/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let tolerated = manifest["variants"][0]["tolerance"].as_u64();
    let of_shipped = ROUNDED_OTHERWISE.iter().filter(|(_, of, _)| *of == "shipped");
    assert!(
        of_shipped.map(|(.., steps)| u64::from(*steps)).max() <= tolerated,
        "the manifest tolerates too little"
    );
    for Told { name, file, vectors } in told(root) {
        let mut runner = tflite.load(&file).unwrap();
        let here = |(arch, of, _): &&(_, _, u8)| (*arch, *of) == (std::env::consts::ARCH, name);
        let off_max = ROUNDED_OTHERWISE.iter().find(here).map_or(0, |(_, _, steps)| *steps);
        let mut answer = Vec::new();
        for (n, [input, output]) in vectors.iter().enumerate() {
            runner.run(input, &mut answer).unwrap();
            assert_eq!(answer.len(), file.output.bytes());
            assert!(steps(&answer, output) <= off_max, "{name}, vector {n}: {answer:?}");
        }
    }
}

/// How far apart two answers of whole numbers are.
pub fn steps(a: &[u8], b: &[u8]) -> u8 {
    a.iter().zip(b).map(|(&a, &b)| (a as i8).abs_diff(b as i8)).max().unwrap_or_default()
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
