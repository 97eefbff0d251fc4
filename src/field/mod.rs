//! What field buses and brokers say, without any input or output: frames, register maps, signals, topics.
//!
//! The `sensor` room carries the bytes, the configuration checks what an operator wrote, and both use these.

pub mod dbc;
pub mod modbus;
pub mod topic;
