//! Events of the judging rooms: windows, detectors, episodes.

use super::{Event, Fields, Level};
use crate::frame::ModelName;
use crate::reading::ChannelId;

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

/// A stamp is so far ahead of its channel that it is doubted; told for the first of several in a row.
pub struct StampAhead<'a> {
    /// The channel.
    pub channel: &'a ChannelId,
    /// By how much, in seconds.
    pub by_s: i64,
}

impl Event for StampAhead<'_> {
    const NAME: &'static str = "stamp_ahead";
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

/// The configured unit of a channel measures something else than what its source gives, or one of them is unknown: the
/// values are told in the configured unit as they are.
pub struct UnitMismatch<'a> {
    /// The channel.
    pub channel: &'a ChannelId,
    /// What its source gives.
    pub from: &'a str,
    /// What is configured.
    pub to: &'a str,
}

impl Event for UnitMismatch<'_> {
    const NAME: &'static str = "unit_mismatch";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        let next = "set source_unit to what the source really gives, or unit to what it can be converted to";
        fields.put("channel", self.channel).put("from", self.from).put("to", self.to).put("next", next);
    }
}

/// A small model wants a channel in a unit that the channel's can't be converted to: it does not judge.
pub struct ModelUnitMismatch<'a> {
    /// The model's configured name.
    pub model: ModelName,
    /// The channel.
    pub channel: &'a ChannelId,
    /// Its unit.
    pub unit: &'a str,
    /// What the model's manifest says.
    pub wanted: &'a str,
}

impl Event for ModelUnitMismatch<'_> {
    const NAME: &'static str = "model_unit_mismatch";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        let next = "name a channel of what the model is for in [[model]], or set the channel's unit to what it really is";
        fields.put("model", self.model).put("channel", self.channel).put("unit", self.unit);
        fields.put("wanted", self.wanted).put("next", next);
    }
}

/// A group can't learn: one of its members was never heard.
pub struct GroupWaits<'a> {
    /// The group.
    pub group: ModelName,
    /// The member.
    pub channel: &'a ChannelId,
}

impl Event for GroupWaits<'_> {
    const NAME: &'static str = "group_waits";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        let next = "check the name in [[group]] against `outpost sensors` or the status page, or wait for its source";
        fields.put("group", self.group).put("channel", self.channel).put("next", next);
    }
}
