//! Events of the buses of chips.

use std::fmt;
use std::path::Path;

use super::{Event, Fields, Level};

/// A bus or device can't be opened or read; told once until it can.
pub struct BusFailed<'a> {
    /// The source's configured name.
    pub source: &'a str,
    /// Its device file.
    pub device: &'a Path,
    /// What the operating system said.
    pub error: &'a std::io::Error,
}

impl Event for BusFailed<'_> {
    const NAME: &'static str = "bus_failed";
    const LEVEL: Level = Level::Error;
    fn fields(&self, fields: &mut Fields<'_>) {
        let next = "make sure that it is there (outpost sensors lists what is) and that the user who runs outpost may use it";
        fields.put("source", self.source).put("device", self.device.display());
        fields.put("error", self.error).put("next", next);
    }
}

/// A chip can't be read any more, or fails in another way than before.
pub struct ChipFailed<'a> {
    /// The source's configured name.
    pub source: &'a str,
    /// The chip's configured name.
    pub chip: &'a str,
    /// What went wrong, with the next step.
    pub error: &'a dyn fmt::Display,
}

impl Event for ChipFailed<'_> {
    const NAME: &'static str = "chip_failed";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("source", self.source).put("chip", self.chip).put("error", self.error);
    }
}

/// A chip that failed gives values again.
pub struct ChipRecovered<'a> {
    /// The source's configured name.
    pub source: &'a str,
    /// The chip's configured name.
    pub chip: &'a str,
}

impl Event for ChipRecovered<'_> {
    const NAME: &'static str = "chip_recovered";
    const LEVEL: Level = Level::Info;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("source", self.source).put("chip", self.chip);
    }
}
