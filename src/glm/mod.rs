//! The language models on tract: the shipped student that words digests, and a bigger one that an operator may bring.
//!
//! [`import`] makes a [`bundle`] of a checkpoint, whose [`weights`] the [`engine`] uses where they lie; [`generate`] answers several
//! requests at a time, under a constraint of [`constrain`]. The [`student`] and the [`speaker`] are the two users of that; [`Glm`] is
//! the thread that serves both, with bounded queues. The arithmetic, [`kernels`], is a crate of its own. Whatever goes wrong
//! here, the template words the digest and the digest says why.

mod accounts;
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
mod memory;
mod ops;
#[cfg(test)]
mod parity;
pub mod placing;
mod returned;
pub mod sample;
pub mod speaker;
pub mod student;
pub mod teller;
pub mod template;
pub mod tokenizer;
pub mod weights;
mod worker;

pub use outpost_kernels as kernels;

pub use governor::{GovernorOptions, Pause};
pub use memory::available_bytes;
pub use student::{BadBundle, Bundle, Model, ModelError, Shape, Unworded, Writer};
pub use teller::TellerOptions;
pub use worker::{Glm, GlmHandle, GlmOptions, Listening, SpeakerOptions, Unheard};
