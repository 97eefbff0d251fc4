//! The gateway seat.
