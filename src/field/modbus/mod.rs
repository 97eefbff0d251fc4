//! Modbus: the application protocol (V1.1b3) over TCP and over serial line RTU (V1.02), and what registers mean.

mod frame;
mod map;

pub use frame::{Answer, FrameError, Framing, Request, request, take_answer};
pub use map::{Map, MapError, Order, Register, Shape, Span, Table};

/// What a device answers instead of values, by its code (V1.1b3, section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exception(pub u8);

impl Exception {
    /// What the code means.
    pub const fn words(self) -> &'static str {
        match self.0 {
            1 => "illegal function: the device has no such table",
            2 => "illegal data address: the device has no such register",
            3 => "illegal data value",
            4 => "server device failure",
            5 => "acknowledge: it takes longer",
            6 => "server device busy",
            8 => "memory parity error",
            10 => "gateway path unavailable",
            11 => "gateway target device failed to respond",
            _ => "an exception that the specification does not know",
        }
    }
}
