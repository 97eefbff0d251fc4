//! Event-time windows with a watermark, and the summary of one window.

use serde::{Deserialize, Serialize};

use crate::reading::{ChannelId, Unit};
use crate::time::Wall;

/// One channel over one window: lane `metric`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowSummary {
    /// The channel.
    pub channel: ChannelId,
    /// Unit of the values.
    pub unit: Unit,
    /// Start of the window, event time, inclusive.
    pub start: Wall,
    /// Length in milliseconds.
    pub length_ms: u32,
    /// Readings with a value.
    pub count: u32,
    /// Readings without one.
    pub missing: u32,
    /// Smallest value; NaN never occurs, 0 when `count` is 0.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Population standard deviation.
    pub std: f64,
    /// Value with the latest event time.
    pub last: f64,
    /// Least-squares slope in units per hour.
    pub slope_per_h: f64,
}
