//! What has to do with TensorFlow Lite in the product, as it is, for other processors than this one: what loads delegates
//! (`cross/teflon.sh`), and with the feature `exact` what runs files (`cross/exact.sh`).

#![allow(dead_code, missing_docs, unused_imports)]

#[path = "../../../src/limits/mod.rs"]
pub mod limits;
#[path = "../../../src/named.rs"]
mod named;
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
    #[path = "../../../src/accel/language.rs"]
    mod language;
    #[cfg(feature = "exact")]
    #[path = "../../../src/accel/probe.rs"]
    mod probe;
    #[cfg(feature = "exact")]
    #[path = "../../../src/accel/tflite.rs"]
    mod tflite;

    pub use backend::{
        ComputeBackend, Element, ModelFile, Placement, Quantisation, Refused, Runner, Stage, TensorSpec,
    };
    pub use language::{Telling, Told};
    #[cfg(feature = "exact")]
    pub use {
        fit::{Problem, compare},
        health::State,
        probe::{library_folders, look_at_library},
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
        vectors::compute_to_the_bit(&Tflite::open(Some(library.into()), false).unwrap(), &root);
    }
}

/// The same files on tract, through its own reader of them: another reader, other kernels, another way to round. It is no part of the
/// product, since what it knows of int8 is little.
#[cfg(all(test, feature = "other"))]
#[path = "."]
mod other {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use tract_tflite::internal::*;

    use super::accel::{ComputeBackend, Element, ModelFile, Quantisation, TensorSpec};

    #[path = "../../../tests/support/vectors.rs"]
    mod vectors;

    /// How many steps each model is off at most, or what tract 0.23.9 says where it can't run it.
    const KNOWN: [(&str, Result<u8, &str>); 5] = [
        // FULLY_CONNECTED with a scale per channel.
        ("convolutions", Err("builtin_code: FULLY_CONNECTED")),
        // DEPTHWISE_CONV_2D that makes more channels of one.
        ("depthwise", Err("kernel expects 12 input channels")),
        ("plain", Ok(0)),
        ("shipped_convolutions", Ok(1)),
        // FULLY_CONNECTED without a bias, of which its reader panics.
        ("shipped", Err("a panic")),
    ];

    #[test]
    fn tract_answers_what_pythons_interpreter_does_where_it_can() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let told = vectors::told(&root);
        assert_eq!(told.len(), KNOWN.len());
        for (told, (name, known)) in told.iter().zip(KNOWN) {
            let found = catch_unwind(AssertUnwindSafe(|| steps_off(told)));
            let found = found.unwrap_or_else(|_| Err(format_err!("a panic")));
            let found = found.map_err(|error| format!("{error:#}"));
            println!("{name}: {found:?}");
            let is_as_known = match (&found, known) {
                (Ok(off), Ok(off_max)) => *off <= off_max,
                (Err(found), Err(says)) => found.contains(says),
                _ => false,
            };
            assert!(told.name == name && is_as_known, "{}: known is {known:?}, found {found:?}", told.name);
        }
    }

    /// How far the answers are off at most.
    fn steps_off(told: &vectors::Told) -> TractResult<u8> {
        let model = tract_tflite::tflite().model_for_read(&mut &*told.file.bytes)?;
        let input = model.input_fact(0)?.datum_type;
        let mut state = model.into_optimized()?.into_runnable()?.spawn()?;
        let mut off = 0;
        for [codes, answer] in &told.vectors {
            let mut tensor = Tensor::zero_dt(input, &told.file.input.shape)?;
            tensor.as_bytes_mut().copy_from_slice(codes);
            let found = state.run(tvec![tensor.into()])?.remove(0);
            ensure!(
                found.shape() == &*told.file.output.shape,
                "the answer has the shape {:?}",
                found.shape()
            );
            off = off.max(vectors::steps(found.as_bytes(), answer));
        }
        Ok(off)
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
