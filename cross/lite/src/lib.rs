//! What has to do with TensorFlow Lite in the product, as it is, for other processors than this one: what loads delegates
//! (`cross/teflon.sh`), and with the feature `exact` what runs files (`cross/exact.sh`).

#![allow(dead_code, missing_docs, unused_imports)]

#[path = "../../../src/limits/mod.rs"]
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
    pub mod ffi;
    #[cfg(feature = "exact")]
    #[path = "../../../src/accel/fit.rs"]
    mod fit;
    #[cfg(feature = "exact")]
    #[path = "../../../src/accel/health.rs"]
    mod health;
    #[cfg(feature = "exact")]
    #[path = "../../../src/accel/probe.rs"]
    mod probe;
    #[cfg(feature = "exact")]
    #[path = "../../../src/accel/tflite.rs"]
    mod tflite;

    pub use backend::{
        ComputeBackend, Element, ModelFile, Placement, Quantisation, Refused, Runner, Stage, TensorSpec,
    };
    #[cfg(feature = "exact")]
    pub use {
        fit::{Problem, compare},
        health::State,
        probe::{check_library, library_folders},
        tflite::Tflite,
    };

    pub const TFLITE: &str = "tflite";
}

#[cfg(all(test, feature = "exact"))]
#[path = "."]
mod exact {
    use super::accel::{ComputeBackend, Element, ModelFile, Quantisation, TensorSpec, Tflite};

    #[path = "../../../tests/support/vectors.rs"]
    mod vectors;

    #[test]
    fn int8_models_compute_to_the_bit_on_this_processor() {
        let library = std::env::var_os("OUTPOST_TEST_TFLITE").expect("cross/exact.sh names the library");
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        vectors::compute_to_the_bit(library.as_ref(), &root);
    }
}

#[cfg(test)]
mod teflon {
    use std::path::Path;

    use super::accel::Stage;
    use super::accel::ffi::DelegateLibrary;

    #[test]
    fn mesas_delegate_is_loaded_and_refuses_cleanly_without_a_device() {
        let path = std::env::var_os("OUTPOST_TEST_TEFLON").expect("cross/teflon.sh names the library");
        let library = DelegateLibrary::open(Path::new(&path)).expect("it is loaded");
        // Whatever it is told, and however often: there is no device.
        for options in ["", "", "device=0"] {
            let refused = library.create(options).expect_err("no device");
            assert_eq!(refused.stage, Stage::Create, "{refused}");
            assert!(refused.reason.contains("is its device there"), "{refused}");
            println!("{refused}");
        }
    }
}
