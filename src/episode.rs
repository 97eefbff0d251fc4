//! Verdicts into episodes: one fault gives one opening, a few updates and one end.

use serde::{Deserialize, Serialize};

use crate::reading::{ChannelId, Pattern, Severity, Unit, named_enum};
use crate::time::Wall;

named_enum! {
    /// Where an episode stands.
    Phase { Opened = "opened", Updated = "updated", Closed = "closed" }
}

/// One step in the life of an episode: lane `alarm`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpisodeUpdate {
    /// Identifies the episode on this device; increases.
    pub id: u64,
    /// Opened, updated or closed.
    pub phase: Phase,
    /// The channel.
    pub channel: ChannelId,
    /// The shape of the deviation.
    pub pattern: Pattern,
    /// The gravest so far.
    pub severity: Severity,
    /// When it began, event time.
    pub start: Wall,
    /// The event time that this step speaks of.
    pub at: Wall,
    /// The usual value before.
    pub baseline: Option<f64>,
    /// The most extreme value so far.
    pub peak: Option<f64>,
    /// The latest value.
    pub last: Option<f64>,
    /// The configured limit, if it was crossed.
    pub limit: Option<f64>,
    /// How often it was flagged (spikes, switches, points).
    pub count: u32,
    /// Unit of the values.
    pub unit: Unit,
    /// Why, in words, without line breaks.
    pub reason: String,
}
