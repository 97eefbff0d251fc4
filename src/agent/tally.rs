//! What was heard and what has ended, kept until a digest asks for it.

use std::collections::{HashMap, VecDeque};

use super::assemble::Source;
use crate::episode::Episode;
use crate::facts::{Citation, EventFact, Facts};
use crate::limits;
use crate::reading::{ChannelInfo, Pattern};
use crate::time::Wall;

/// A moment in the life of an assembler, independent of any clock. The default is the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mark {
    readings: u64,
    ended: u64,
    /// Newest event time by source, where one was heard.
    newest: HashMap<Source, Wall>,
}

/// When a channel was heard.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Heard {
    /// Number of its last reading among all readings; 0 before the first.
    stamp: u64,
    first: Wall,
    newest: Wall,
}

impl Heard {
    pub(super) fn note(&mut self, stamp: u64, at: Wall) {
        if self.stamp == 0 {
            self.first = at;
        }
        // The latest in order of arrival: after a clock was set back, that is the present.
        (self.stamp, self.newest) = (stamp, at);
    }
}

/// Counts and ended episodes of one assembler.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) readings: u64,
    /// The newest, in order of their end.
    ended: VecDeque<Ended>,
    ended_total: u64,
    /// Citations by episode id, of episodes that are open or remembered.
    cites: HashMap<u64, Citation>,
}

#[derive(Debug)]
struct Ended {
    info: ChannelInfo,
    source: Source,
    episode: Episode,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self { readings: 0, ended: VecDeque::new(), ended_total: 0, cites: HashMap::new() }
    }

    pub(super) fn ended(&mut self, info: &ChannelInfo, source: Source, episode: Episode) {
        if self.ended.len() == limits::ENDED_EPISODES_MAX
            && let Some(oldest) = self.ended.pop_front()
        {
            self.cites.remove(&oldest.episode.id);
        }
        self.ended.push_back(Ended { info: info.clone(), source, episode });
        self.ended_total += 1;
    }

    pub(super) fn mark(&self, channels: impl Iterator<Item = (Source, Heard)>) -> Mark {
        let mut newest: HashMap<Source, (u64, Wall)> = HashMap::new();
        for (source, heard) in channels.filter(|(_, heard)| heard.stamp > 0) {
            let entry = newest.entry(source).or_insert((0, heard.newest));
            *entry = (*entry).max((heard.stamp, heard.newest));
        }
        let newest = newest.into_iter().map(|(source, (_, at))| (source, at)).collect();
        Mark { readings: self.readings, ended: self.ended_total, newest }
    }

    /// Widens the citation of an episode; one that is neither open nor remembered is not kept.
    pub(super) fn cite(&mut self, id: u64, citation: Citation, is_open: impl Fn(u64) -> bool) {
        if let Some(known) = self.cites.get_mut(&id) {
            if known.lane == citation.lane {
                known.first = known.first.min(citation.first);
                known.last = known.last.max(citation.last);
            }
        } else if is_open(id) || self.ended.iter().any(|e| e.episode.id == id) {
            self.cites.insert(id, citation);
        }
    }
}

/// Collects the facts since a mark.
pub(super) struct Period<'a> {
    tally: &'a Tally,
    mark: &'a Mark,
    events: Vec<(Source, EventFact)>,
    channels_normal: u32,
    /// By source: channels heard, first and newest event time.
    heard: HashMap<Source, (u32, u64, Wall, Wall)>,
}

impl<'a> Period<'a> {
    pub(super) fn new(tally: &'a Tally, mark: &'a Mark) -> Self {
        let mut period = Self { tally, mark, events: Vec::new(), channels_normal: 0, heard: HashMap::new() };
        for e in period.fresh() {
            period.event(&e.info, e.source, &e.episode, e.episode.flagged_at, false);
        }
        period
    }

    /// Adds a channel and its open episodes.
    pub(super) fn channel<'e>(
        &mut self,
        info: &ChannelInfo,
        source: Source,
        heard: &Heard,
        open: impl Iterator<Item = &'e Episode>,
    ) {
        for episode in open {
            self.event(info, source, episode, heard.newest.max(episode.flagged_at), true);
        }
        if heard.stamp <= self.mark.readings {
            return;
        }
        let known = self.heard.entry(source).or_insert((0, 0, heard.first, heard.newest));
        known.0 += 1;
        known.2 = known.2.min(heard.first);
        if heard.stamp > known.1 {
            (known.1, known.3) = (heard.stamp, heard.newest);
        }
        let eventful = self.events.iter().any(|(_, e)| e.channel == info.id);
        self.channels_normal += u32::from(!eventful);
    }

    /// The facts, in canonical order.
    pub(super) fn facts(self) -> Facts {
        let fresh_total = self.tally.ended_total - self.mark.ended.min(self.tally.ended_total);
        let forgotten = fresh_total.saturating_sub(self.tally.ended.len() as u64);
        let (from, to) = self.span();
        let mut facts = Facts {
            from,
            to,
            outage: None,
            events: Vec::new(),
            events_more: 0,
            channels_normal: self.channels_normal,
            readings: self.tally.readings.saturating_sub(self.mark.readings),
        };
        facts.set_events(self.events.into_iter().map(|(_, event)| event).collect());
        facts.events_more = facts.events_more.saturating_add(u32::try_from(forgotten).unwrap_or(u32::MAX));
        facts
    }

    /// Ended episodes since the mark.
    fn fresh(&self) -> impl Iterator<Item = &'a Ended> + use<'a> {
        let count = self.tally.ended_total.saturating_sub(self.mark.ended);
        let skip = self.tally.ended.len().saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
        self.tally.ended.iter().skip(skip)
    }

    fn event(&mut self, info: &ChannelInfo, source: Source, episode: &Episode, until: Wall, ongoing: bool) {
        let event = EventFact {
            channel: info.id.clone(),
            label: info.label.clone(),
            asset: info.asset.clone(),
            quantity: info.quantity,
            pattern: episode.pattern,
            severity: episode.severity,
            ongoing,
            start: episode.start,
            duration_s: u64::try_from(until.micros_since(episode.start) / 1_000_000).unwrap_or(0),
            baseline: episode.baseline,
            peak: episode.peak,
            limit: episode.limit,
            count: countable(episode.pattern).then_some(episode.count),
            unit: info.unit.clone(),
            cites: self.tally.cites.get(&episode.id).copied(),
        };
        match self.events.iter_mut().find(|(_, e)| e.channel == event.channel && e.pattern == event.pattern) {
            Some((_, known)) => merge(known, event),
            None => self.events.push((source, event)),
        }
    }

    /// Event time of the source that matters most: that of the gravest event, otherwise the one with most channels.
    fn span(&self) -> (Wall, Wall) {
        let gravest = self.events.iter().max_by_key(|(_, e)| e.severity).map(|&(source, _)| source);
        let busiest = self.heard.iter().max_by_key(|(source, h)| (h.0, source.0)).map(|(&source, _)| source);
        let Some(source) = gravest.or(busiest) else { return (Wall(0), Wall(0)) };
        let marked = self.mark.newest.get(&source).copied();
        let (first, newest) = match self.heard.get(&source) {
            Some(&(_, _, first, newest)) => (first, newest),
            None => (marked.unwrap_or_default(), marked.unwrap_or_default()),
        };
        let from = marked.unwrap_or(first).min(newest);
        (from, newest)
    }
}

/// Patterns of which one says how often.
const fn countable(pattern: Pattern) -> bool {
    matches!(pattern, Pattern::Spike | Pattern::Flapping)
}

/// A later event of the same kind on the same channel is told as one with the earlier.
fn merge(known: &mut EventFact, later: EventFact) {
    let farther = |a: f64, b: f64, from: f64| if (b - from).abs() > (a - from).abs() { b } else { a };
    known.count = Some(known.count.unwrap_or(1).saturating_add(later.count.unwrap_or(1)));
    known.severity = known.severity.max(later.severity);
    known.ongoing |= later.ongoing;
    known.start = known.start.min(later.start);
    known.duration_s = known.duration_s.saturating_add(later.duration_s);
    known.peak = match (known.peak, later.peak) {
        (Some(a), Some(b)) => Some(farther(a, b, known.baseline.or(known.limit).unwrap_or(a))),
        (a, b) => a.or(b),
    };
    known.limit = known.limit.or(later.limit);
    known.cites = match (known.cites, later.cites) {
        (Some(a), Some(b)) if a.lane == b.lane => {
            Some(Citation { lane: a.lane, first: a.first.min(b.first), last: a.last.max(b.last) })
        }
        (a, b) => a.or(b),
    };
}
