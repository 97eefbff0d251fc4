//! No chip: in the place of `chip.rs` where its library can't be built.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use super::GpioOptions;
use super::lines::Edge;

/// There is none.
pub enum Request {}

impl Request {
    /// Says why there is none.
    pub fn new(_: &GpioOptions) -> io::Result<Self> {
        Err(absent())
    }

    /// Of none there is no edge.
    pub fn edge(&self) -> io::Result<Option<Edge>> {
        match *self {}
    }

    /// Of none there is no level.
    pub fn level(&self, _: u32) -> Option<bool> {
        match *self {}
    }
}

impl AsFd for Request {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}

/// Says why there is none.
pub fn info(_: &Path) -> io::Result<(String, u32)> {
    Err(absent())
}

fn absent() -> io::Error {
    io::Error::other(
        "this program, for 32-bit processors with musl, reads no GPIO lines; install the one for armv7-unknown-linux-gnueabihf",
    )
}
