//! What was heard and what has ended, kept until a digest asks for it.

use std::collections::{HashMap, VecDeque};

use super::assemble::Source;
use crate::ask::answer::Known;
use crate::episode::Episode;
use crate::facts::{Citation, EventFact, Facts};
use crate::limits;
use crate::reading::ChannelInfo;
use crate::time::{Mono, Stamp, Wall};

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
    pub(super) const fn newest(&self) -> Wall {
        self.newest
    }

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
    /// By episode id, of episodes that are open or remembered.
    told: HashMap<u64, Told>,
}

/// What became of an episode's records.
#[derive(Debug, Clone, Copy)]
struct Told {
    cites: Citation,
    /// When the first one was admitted.
    from: Mono,
    /// When the latest one was admitted.
    at: Mono,
}

#[derive(Debug)]
struct Ended {
    info: ChannelInfo,
    source: Source,
    episode: Episode,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self { readings: 0, ended: VecDeque::new(), ended_total: 0, told: HashMap::new() }
    }

    pub(super) fn ended(&mut self, info: &ChannelInfo, source: Source, episode: Episode) {
        if self.ended.len() == limits::ENDED_EPISODES_MAX
            && let Some(oldest) = self.ended.pop_front()
        {
            self.told.remove(&oldest.episode.id);
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

    /// Widens the citation of an episode, told at `at`; one that is neither open nor remembered is not kept.
    pub(super) fn cite(&mut self, id: u64, citation: Citation, at: Mono, is_open: impl Fn(u64) -> bool) {
        if let Some(told) = self.told.get_mut(&id) {
            told.at = at;
            if told.cites.lane == citation.lane {
                told.cites.first = told.cites.first.min(citation.first);
                told.cites.last = told.cites.last.max(citation.last);
            }
        } else if is_open(id) || self.ended.iter().any(|e| e.episode.id == id) {
            self.told.insert(id, Told { cites: citation, from: at, at });
        }
    }

    /// An episode as it stands; none before its first record was admitted.
    pub(super) fn known(
        &self,
        info: &ChannelInfo,
        episode: &Episode,
        until: Wall,
        ongoing: bool,
        now: &Stamp,
    ) -> Option<(u64, Known)> {
        let told = self.told.get(&episode.id)?;
        let event = event(info, episode, until, ongoing, Some(told.cites));
        let to = (!ongoing).then(|| now.wall_of(told.at));
        Some((episode.id, Known { event, from: now.wall_of(told.from), to }))
    }

    /// Every remembered episode that has ended.
    pub(super) fn ended_known(&self, now: &Stamp) -> impl Iterator<Item = (u64, Known)> {
        self.ended.iter().filter_map(|e| self.known(&e.info, &e.episode, e.episode.flagged_at, false, now))
    }
}

fn event(
    info: &ChannelInfo,
    episode: &Episode,
    until: Wall,
    ongoing: bool,
    cites: Option<Citation>,
) -> EventFact {
    EventFact {
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
        count: episode.pattern.is_counted().then_some(episode.count),
        unit: info.unit.clone(),
        cites,
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
        let cites = self.tally.told.get(&episode.id).map(|told| told.cites);
        let event = event(info, episode, until, ongoing, cites);
        match self.events.iter_mut().find(|(_, e)| e.channel == event.channel && e.pattern == event.pattern) {
            Some((_, known)) => known.merge(event),
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
