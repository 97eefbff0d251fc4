//! The gateway seat.

pub mod assemble;
pub mod status;
mod tally;
