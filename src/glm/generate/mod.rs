//! From a prompt to an answer, for several sequences at a time.
//!
//! ```text
//! Request ─> waiting ─> seated in a slot of the cache ─> prompt in pieces ─> token by token ─> Ended
//!                │            ^ what the slot, or another one, holds of the prompt is not run again
//!                └── a more important one may take the slot; what was written stays and is read again later
//! ```
//!
//! [`Batcher::step`] is one run of the engine: the next token of everybody who writes, and a piece of the most important prompt
//! that is still to be read, short enough that a run takes about [`BatcherOptions::step_target`]. So an alarm waits for one
//! run at most, and so does whoever cancels.
//!
//! Tokens that a grammar leaves no choice about are not asked of the model: they are read with the next run. Where a request
//! says that its answer copies from its prompt, what followed the same words there is proposed and checked in one run
//! (prompt lookup); what the sampler would not have drawn is forgotten, so the answer is the same with and without.

mod batcher;
mod lookup;
mod pace;
mod prefix;
mod request;
mod sequence;
mod slots;
mod stops;
#[cfg(test)]
mod tests;

pub use batcher::{Batcher, BatcherOptions};
pub use prefix::{BadPrefix, PrefixSource};
pub use request::{Ended, Event, Priority, Refused, Request, RequestId, Usage};
pub use stops::Stops;
