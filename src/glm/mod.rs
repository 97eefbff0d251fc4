//! The language model on tract: a digest worded by a small distilled student, under a grammar, in a thread of its own.
//!
//! [`Bundle`] holds the files, [`Model`] runs the graph, [`Writer`] words one digest, [`Glm`] is the thread with its bounded
//! queue. Whatever goes wrong here, the template words the digest and the digest says why.

mod bundle;
#[cfg(test)]
mod golden;
mod memory;
mod model;
mod worker;
mod writer;

pub use bundle::{BadBundle, Bundle, Shape};
pub use model::{Model, ModelError};
pub use worker::{Glm, GlmHandle, GlmOptions};
pub use writer::{Unworded, Writer};
