//! Events of the judging rooms: windows, detectors, episodes.

use super::{Event, Fields, Level, metrics};
use crate::reading::{ChannelId, Pattern, Severity};

/// An episode began.
pub struct EpisodeOpened<'a> {
    /// On this channel.
    pub channel: &'a ChannelId,
    /// Its shape.
    pub pattern: Pattern,
    /// How grave.
    pub severity: Severity,
    /// Why, in words.
    pub reason: &'a str,
}

impl Event for EpisodeOpened<'_> {
    const NAME: &'static str = "episode_opened";
    const LEVEL: Level = Level::Info;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields
            .put("channel", self.channel)
            .put("pattern", self.pattern)
            .put("severity", self.severity)
            .put("reason", self.reason);
    }
    fn count(&self) {
        metrics::EPISODES.inc();
    }
}

/// The clock of a channel was set back.
pub struct ClockSetBack<'a> {
    /// The channel.
    pub channel: &'a ChannelId,
    /// By how much, in seconds.
    pub by_s: i64,
}

impl Event for ClockSetBack<'_> {
    const NAME: &'static str = "clock_set_back";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("channel", self.channel).put("by_s", self.by_s);
    }
}

/// A channel beyond the bound was refused.
pub struct ChannelRefused<'a> {
    /// Its name.
    pub channel: &'a ChannelId,
}

impl Event for ChannelRefused<'_> {
    const NAME: &'static str = "channel_refused";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("channel", self.channel).put("channels_max", crate::limits::CHANNELS_MAX);
    }
}
