//! What the assembler is told: how to judge, and what differs for single channels.

use std::fmt;
use std::sync::Arc;

use crate::calibrate::Treatment;
use crate::detect::{GroupOptions, LimitOptions, RuleOptions};
use crate::episode::EpisodeOptions;
use crate::frame::{FrameOptions, ModelName};
use crate::reading::{ChannelId, Quantity, Unit};
use crate::window::WindowOptions;

/// How readings are judged.
#[derive(Debug, Clone, Default)]
pub struct AssembleOptions {
    /// How windows are cut.
    pub windows: WindowOptions,
    /// When episodes are updated and closed.
    pub episodes: EpisodeOptions,
    /// Keep every reading in lane `raw`.
    pub raw: bool,
    /// Where readings are not kept: so many before and after the begin of an episode go to lane `raw` all the same.
    pub clip_readings: usize,
    /// Switch off the detectors that learn; limits are watched regardless.
    pub learning_off: bool,
    /// Id of the first episode; one more than the last one of the run before.
    pub first_episode_id: u64,
    /// What differs for single channels.
    pub channels: ChannelBook,
    /// What small models look at.
    pub watches: Vec<WatchOptions>,
    /// Channels that are judged together, at most [`limits::GROUPS_MAX`].
    pub groups: Vec<GroupOptions>,
    /// Rules over several channels, at most [`limits::RULES_MAX`].
    pub rules: Vec<RuleOptions>,
}

/// What one small model looks at.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchOptions {
    /// Number of the model.
    pub model: usize,
    /// Its name, for alarms.
    pub name: ModelName,
    /// In the order of the rows of its frames.
    pub channels: Vec<ChannelId>,
    /// In which unit it wants each; empty where any will do.
    pub units: Vec<Unit>,
    /// How it wants its samples.
    pub frames: FrameOptions,
}

/// What the configuration says of each channel. Asked once, when a channel is first seen.
#[derive(Clone)]
pub struct ChannelBook(Arc<dyn Fn(&ChannelId) -> ChannelOptions + Send + Sync>);

impl ChannelBook {
    /// A book that is looked up with `of`.
    pub fn new(of: impl Fn(&ChannelId) -> ChannelOptions + Send + Sync + 'static) -> Self {
        Self(Arc::new(of))
    }

    pub(super) fn of(&self, channel: &ChannelId) -> ChannelOptions {
        (self.0)(channel)
    }
}

impl Default for ChannelBook {
    /// Says nothing of any channel.
    fn default() -> Self {
        Self::new(|_| ChannelOptions::default())
    }
}

impl fmt::Debug for ChannelBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChannelBook")
    }
}

/// What the configuration says of one channel; `None` leaves it as described or guessed.
#[derive(Debug, Clone, Default)]
pub struct ChannelOptions {
    /// What a person calls it.
    pub label: Option<String>,
    /// The machine or room that it belongs to.
    pub asset: Option<String>,
    /// Unit of its values; they are converted from the source's.
    pub unit: Option<Unit>,
    /// Unit in which the source gives them, if it does not say so itself.
    pub source_unit: Option<Unit>,
    /// Calibration and range; the conversion is found from the units.
    pub treatment: Treatment,
    /// What it measures.
    pub quantity: Option<Quantity>,
    /// Limits to watch.
    pub limits: Option<LimitOptions>,
    /// Whether to keep its readings in lane `raw`.
    pub raw: Option<bool>,
    /// Whether detectors learn on it.
    pub learning: Option<bool>,
}

impl ChannelOptions {
    /// Whether detectors may go on with what they have learnt.
    pub(super) fn judged_alike(&self, other: &Self) -> bool {
        (self.limits, self.learning, &self.treatment) == (other.limits, other.learning, &other.treatment)
    }
}
