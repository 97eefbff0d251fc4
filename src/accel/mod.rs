//! Compute backends: what can run a model file, whether it is well, and what is known of the machine's accelerators.
//!
//! A [`ComputeBackend`] makes a [`Runner`] of a [`ModelFile`]; a runner turns the bytes of one tensor into those of another.
//! [`Health`] decides whether one that failed is asked again. Whatever fails says at which [`Stage`] and why, and somebody
//! else, in the end the CPU, gives the same answer. [`probe`] looks for accelerators without loading anything; a vendor's code
//! is loaded by a [`worker`] process alone, behind [`Isolated`], or behind [`worker::Language`] where it runs a whole language model.

mod backend;
pub mod claim;
mod ffi;
mod fit;
mod health;
mod isolated;
mod language;
mod probe;
#[cfg(feature = "tflite")]
mod tflite;
pub mod worker;

pub use backend::{
    Check, ComputeBackend, Element, ModelFile, Placement, Quantisation, Refused, Runner, Stage, TensorSpec,
};
pub use fit::{Problem, compare};
pub use health::{Health, State};
pub use isolated::Isolated;
pub use language::{Telling, Told};
pub use probe::{Found, NPUS, Npu, Route, library_folders, look_at_library, probe};
#[cfg(feature = "tflite")]
pub use tflite::{Delegated, Tflite};

/// Name of the backend of TensorFlow Lite in manifests, logs and configuration.
pub const TFLITE: &str = "tflite";
