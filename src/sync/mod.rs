//! The sans-I/O synchronisation protocol, both seats.

pub mod backoff;
pub mod intake;
pub mod ranges;
pub mod uplink;
