//! The gateway seat.

pub mod status;
