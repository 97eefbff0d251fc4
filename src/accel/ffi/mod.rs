//! Other people's shared libraries: the only room of `accel` with `unsafe`.
//!
//! What is given out is safe to call as far as the library keeps its word; that is why only a worker process calls it. A library
//! is never unloaded: vendors' destructors and threads do not expect it.

#![allow(unsafe_code)]

#[cfg(feature = "tflite")]
mod delegate;
mod language;
mod library;
mod plugin;
#[cfg(feature = "tflite")]
mod tflite;

#[cfg(feature = "tflite")]
pub use delegate::{Delegate, DelegateLibrary, words};
pub use language::LanguageModel;
pub use plugin::Plugin;
#[cfg(feature = "tflite")]
pub use tflite::{load as load_tflite, xnnpack};
