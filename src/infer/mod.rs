//! Small models: what judges a window of samples that no single reading tells.
//!
//! ```text
//! frames --bounded--> thread `infer` --judgements--> assembler --> verdict, episode, alarm
//!                         |
//!                         +-- backends in order of preference: an accelerator, tflite, onnx on tract
//! ```
//!
//! A [`Bundle`] is a model with its manifest; a [`Model`] is a bundle in service; [`Infer`] is the thread that runs those of one
//! agent. A full queue skips frames and counts them: a model that is slow costs freshness, never a reading.

mod bundle;
mod conv;
mod described;
mod manifest;
mod model;
mod onnx;
mod thread;
mod window;

pub use bundle::{Bundle, BundleError, GoldenVector};
pub use conv::replace_convolutions;
pub use manifest::{Input, Manifest, Output, Variant};
pub use model::{Model, ModelError, Serving};
pub use onnx::{Onnx, OnnxOn};
pub use thread::{
    Devices, Infer, InferError, InferHandle, InferOptions, Job, Judgement, ModelOptions, Policy,
};
pub use window::Scored;
