//! The synchronisation protocol, both seats, without any I/O: time and randomness are arguments.
//!
//! [`uplink`] decides on the gateway what to send, resend and release; [`intake`] decides at the aggregator what to commit
//! and acknowledge. A block is released only by an acknowledgement of its own epoch, and acknowledged only after its
//! commit. `tests/sim` lets both live through thousands of faults.

pub mod backoff;
pub mod budget;
pub mod intake;
pub mod ranges;
pub mod uplink;
