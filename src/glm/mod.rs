//! The language model on tract: a digest worded by a small distilled student, under a grammar, in a thread of its own.
//!
//! [`Bundle`] holds the files, [`Model`] runs the graph, [`Writer`] words one digest, [`Glm`] is the thread with its bounded
//! queue. Whatever goes wrong here, the template words the digest and the digest says why.

pub mod arch;
pub mod bundle;
pub mod constrain;
mod desk;
pub mod engine;
pub mod generate;
mod governor;
mod graph;
pub mod import;
mod jobs;
pub mod kernels;
mod memory;
mod ops;
#[cfg(test)]
mod parity;
pub mod sample;
pub mod speaker;
pub mod student;
pub mod template;
pub mod tokenizer;
pub mod weights;
mod worker;

pub use governor::{GovernorOptions, Pause};
pub use memory::available_bytes;
pub use student::{BadBundle, Bundle, Model, ModelError, Shape, Unworded, Writer};
pub use worker::{Glm, GlmHandle, GlmOptions, Listening, SpeakerOptions, Unheard};
