//! What happened in a period, as numbered facts: the only source of numbers and names in any text.
//!
//! A digest may say nothing that is not here. Each event cites the records that prove it.

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::reading::{ChannelId, Pattern, Quantity, Severity, Unit};
use crate::time::Wall;
use crate::wire::Lane;

/// Everything one digest may speak of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Start of the period, event time.
    pub from: Wall,
    /// End of the period, event time.
    pub to: Wall,
    /// The outage that this digest reports, if it is an offline digest.
    pub outage: Option<Outage>,
    /// At most [`limits::FACT_EVENTS_MAX`], most severe first, then by start.
    pub events: Vec<EventFact>,
    /// Events beyond those listed.
    pub events_more: u32,
    /// Channels that were heard and had no event.
    pub channels_normal: u32,
    /// Readings taken in the period.
    pub readings: u64,
}

/// The line was down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outage {
    /// When the line went down, the agent's wall time.
    pub start: Wall,
    /// For how long, in seconds.
    pub duration_s: u64,
    /// Records admitted to the spool meanwhile and still held.
    pub records_kept: u64,
    /// Records evicted meanwhile, each in a declared gap.
    pub records_lost: u64,
}

/// One deviation of one channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventFact {
    /// The channel.
    pub channel: ChannelId,
    /// What a person calls it.
    pub label: String,
    /// The asset that it belongs to.
    pub asset: Option<String>,
    /// What the channel measures.
    pub quantity: Quantity,
    /// The shape of the deviation.
    pub pattern: Pattern,
    /// The rules' floor: no text may call it less.
    pub severity: Severity,
    /// Still going on at the end of the period.
    pub ongoing: bool,
    /// When it began, event time.
    pub start: Wall,
    /// How long it lasted or has lasted, in seconds.
    pub duration_s: u64,
    /// The usual value before.
    pub baseline: Option<f64>,
    /// The most extreme value meanwhile.
    pub peak: Option<f64>,
    /// The configured limit, if it was crossed.
    pub limit: Option<f64>,
    /// How often (spikes, switches).
    pub count: Option<u32>,
    /// Unit of the values.
    pub unit: Unit,
    /// The records that prove it.
    pub cites: Option<Citation>,
}

/// A range of records of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Citation {
    /// The lane.
    pub lane: Lane,
    /// First record.
    pub first: u64,
    /// Last record, inclusive.
    pub last: u64,
}

impl EventFact {
    /// Tells a later event of the same kind on the same channel as one with this.
    pub fn merge(&mut self, later: EventFact) {
        let farther = |a: f64, b: f64, from: f64| if (b - from).abs() > (a - from).abs() { b } else { a };
        self.count = Some(self.count.unwrap_or(1).saturating_add(later.count.unwrap_or(1)));
        self.severity = self.severity.max(later.severity);
        self.ongoing |= later.ongoing;
        self.start = self.start.min(later.start);
        self.duration_s = self.duration_s.saturating_add(later.duration_s);
        self.peak = match (self.peak, later.peak) {
            (Some(a), Some(b)) => Some(farther(a, b, self.baseline.or(self.limit).unwrap_or(a))),
            (a, b) => a.or(b),
        };
        self.limit = self.limit.or(later.limit);
        self.cites = match (self.cites, later.cites) {
            (Some(a), Some(b)) if a.lane == b.lane => {
                Some(Citation { lane: a.lane, first: a.first.min(b.first), last: a.last.max(b.last) })
            }
            (a, b) => a.or(b),
        };
    }
}

impl Facts {
    /// Replaces every time of it by what `truly` makes of it: the clock that stamped them was off.
    pub fn map_times(&mut self, truly: impl Fn(Wall) -> Wall) {
        let period = [&mut self.from, &mut self.to].into_iter();
        let outage = self.outage.as_mut().map(|outage| &mut outage.start);
        for at in period.chain(outage).chain(self.events.iter_mut().map(|event| &mut event.start)) {
            *at = truly(*at);
        }
    }

    /// Puts `events` in canonical order and cuts them to what a digest names.
    pub fn set_events(&mut self, mut events: Vec<EventFact>) {
        events.sort_by(|a, b| {
            b.severity.cmp(&a.severity).then(a.start.cmp(&b.start)).then_with(|| a.channel.cmp(&b.channel))
        });
        let more = events.len().saturating_sub(limits::FACT_EVENTS_MAX);
        events.truncate(limits::FACT_EVENTS_MAX);
        self.events_more = u32::try_from(more).unwrap_or(u32::MAX);
        self.events = events;
    }

    /// The rules' floor for the whole digest.
    pub fn severity(&self) -> Severity {
        self.events.iter().map(|e| e.severity).max().unwrap_or(Severity::Info)
    }
}
