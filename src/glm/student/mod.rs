//! The shipped student: a model of the digest's own words and slots, in the program or in a folder of the operator's.

mod answers;
mod bundle;
#[cfg(test)]
mod golden;
mod model;
mod selftest;
mod writer;

pub use bundle::{BadBundle, Bundle, Shape};
pub use model::{Model, ModelError};
pub use selftest::{Unlike, selftest};
pub(in crate::glm) use writer::by_template;
pub use writer::{Done, Task, Unworded, Writer};
