//! What runs TensorFlow Lite files in the product, as it is, for other processors than this one. See `cross/exact.sh`.

#![allow(dead_code, missing_docs, unused_imports)]

#[path = "../../../src/limits.rs"]
pub mod limits;
#[path = "../../../src/reading.rs"]
pub mod reading;
#[path = "../../../src/time.rs"]
pub mod time;

/// Without what computes parts of graphs, which takes tract, and without the worker process.
#[path = "."]
pub mod accel {
    #[path = "../../../src/accel/backend.rs"]
    mod backend;
    #[path = "../../../src/accel/ffi/mod.rs"]
    mod ffi;
    #[path = "../../../src/accel/fit.rs"]
    mod fit;
    #[path = "../../../src/accel/health.rs"]
    mod health;
    #[path = "../../../src/accel/probe.rs"]
    mod probe;
    #[path = "../../../src/accel/tflite.rs"]
    mod tflite;

    pub use backend::{
        ComputeBackend, Element, ModelFile, Placement, Quantisation, Refused, Runner, Stage, TensorSpec,
    };
    pub use fit::{Problem, compare};
    pub use health::State;
    pub use probe::{check_library, library_folders};
    pub use tflite::Tflite;

    pub const TFLITE: &str = "tflite";
}

#[cfg(test)]
use accel::{ComputeBackend, Element, ModelFile, Quantisation, TensorSpec, Tflite};
#[cfg(test)]
#[path = "../../../tests/support/vectors.rs"]
mod vectors;

#[test]
fn int8_models_compute_to_the_bit_on_this_processor() {
    let library = std::env::var_os("OUTPOST_TEST_TFLITE").expect("cross/exact.sh names the library");
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    vectors::compute_to_the_bit(library.as_ref(), &root);
}
