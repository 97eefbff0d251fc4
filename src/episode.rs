//! Verdicts into episodes: one fault gives one opening, a few updates and one end.
//!
//! A channel has at most one open episode per [`Family`] of patterns. It opens with the first verdict, is updated when
//! it grows graver, or at most once per [`EpisodeOptions::update_every`] when its peak or its shape has changed
//! considerably, and ends when nothing was flagged for [`EpisodeOptions::close_after`]. All times are event times.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::detect::{Reason, Verdict};
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
    /// The readings that prove it so far, where readings are kept. Behind everything else, and written only if there: a
    /// program that knows none reads the rest. The lane reads it by itself.
    #[serde(skip_serializing_if = "Option::is_none", skip_deserializing)]
    pub evidence: Option<Evidence>,
}

/// Records of lane `raw`, both ends included, that hold the readings of an episode; others may lie between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Number of the first.
    pub first: u64,
    /// Number of the last.
    pub last: u64,
}

/// When episodes are updated and closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpisodeOptions {
    /// Quiet time that ends an episode; never less than five usual intervals of the channel.
    pub close_after: Duration,
    /// Least time between two updates that are not about a graver severity.
    pub update_every: Duration,
}

impl Default for EpisodeOptions {
    fn default() -> Self {
        Self { close_after: Duration::from_secs(120), update_every: Duration::from_secs(300) }
    }
}

/// Patterns that are told as one fault: what spikes, climbs and stays high is one episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// High, low, rise, fall, spike.
    Level,
    /// Stuck.
    Stuck,
    /// Missing.
    Missing,
    /// Flapping.
    Flapping,
}

impl Family {
    /// The family of `pattern`.
    pub const fn of(pattern: Pattern) -> Self {
        match pattern {
            Pattern::High | Pattern::Low | Pattern::Rise | Pattern::Fall | Pattern::Spike => Family::Level,
            Pattern::Stuck => Family::Stuck,
            Pattern::Missing => Family::Missing,
            Pattern::Flapping => Family::Flapping,
        }
    }
}

/// An episode as far as it has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode {
    /// Identifies it on this device.
    pub id: u64,
    /// Its latest shape.
    pub pattern: Pattern,
    /// The gravest so far.
    pub severity: Severity,
    /// When it began, event time.
    pub start: Wall,
    /// When it was flagged last, event time.
    pub flagged_at: Wall,
    /// The usual value before.
    pub baseline: Option<f64>,
    /// The most extreme value so far, seen from the baseline.
    pub peak: Option<f64>,
    /// The configured limit, if one was crossed.
    pub limit: Option<f64>,
    /// Occurrences.
    pub count: u32,
    reason: Reason,
    told: Told,
}

/// What the last step said.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Told {
    at: Wall,
    peak: Option<f64>,
    pattern: Pattern,
}

/// The open episodes of one channel: at most one per family.
#[derive(Debug, Clone, Default)]
pub struct Episodes {
    open: [Option<Box<Episode>>; 4],
}

/// What one step of an episode is told about.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The channel.
    pub channel: &'a ChannelId,
    /// Unit of its values.
    pub unit: &'a Unit,
    /// The latest value.
    pub last: Option<f64>,
}

impl Episodes {
    /// The open ones.
    pub fn open(&self) -> impl Iterator<Item = &Episode> {
        self.open.iter().flatten().map(Box::as_ref)
    }

    /// Takes a verdict on the value at `at`; returns a step if it is worth telling. A new episode takes `*next_id`
    /// and increments it.
    pub fn flag(
        &mut self,
        verdict: &Verdict,
        at: Wall,
        subject: Subject<'_>,
        options: &EpisodeOptions,
        next_id: &mut u64,
    ) -> Option<EpisodeUpdate> {
        let slot = &mut self.open[Family::of(verdict.pattern) as usize];
        let Some(episode) = slot else {
            let episode = slot.insert(Box::new(Episode::new(*next_id, verdict, at)));
            *next_id += 1;
            return Some(episode.step(Phase::Opened, at, subject));
        };
        let graver = verdict.severity > episode.severity;
        episode.take(verdict, at);
        let due = at.micros_since(episode.told.at) >= micros(options.update_every);
        (graver || (due && episode.has_news())).then(|| {
            episode.told = Told { at, peak: episode.peak, pattern: episode.pattern };
            episode.step(Phase::Updated, at, subject)
        })
    }

    /// Ends what has been quiet for long enough at `now`; `interval_us` is the channel's usual interval.
    pub fn close_quiet(
        &mut self,
        now: Wall,
        interval_us: i64,
        subject: Subject<'_>,
        options: &EpisodeOptions,
        ended: &mut impl FnMut(Episode, EpisodeUpdate),
    ) {
        let patience_us = micros(options.close_after).max(interval_us.saturating_mul(5));
        self.close_if(subject, |e| now.micros_since(e.flagged_at) > patience_us, ended);
    }

    /// Ends the episode of `family`, for instance because a silent channel speaks again.
    pub fn close(
        &mut self,
        family: Family,
        subject: Subject<'_>,
        ended: &mut impl FnMut(Episode, EpisodeUpdate),
    ) {
        self.close_if(subject, |e| Family::of(e.pattern) == family, ended);
    }

    /// Ends all, for instance because the channel's time has no meaning any more.
    pub fn close_all(&mut self, subject: Subject<'_>, ended: &mut impl FnMut(Episode, EpisodeUpdate)) {
        self.close_if(subject, |_| true, ended);
    }

    /// The open episode `id`, if it is one of these.
    pub fn has(&self, id: u64) -> bool {
        self.open().any(|e| e.id == id)
    }

    fn close_if(
        &mut self,
        subject: Subject<'_>,
        over: impl Fn(&Episode) -> bool,
        ended: &mut impl FnMut(Episode, EpisodeUpdate),
    ) {
        for slot in &mut self.open {
            if slot.as_deref().is_some_and(&over)
                && let Some(episode) = slot.take()
            {
                let update = episode.step(Phase::Closed, episode.flagged_at, subject);
                ended(*episode, update);
            }
        }
    }
}

impl Episode {
    fn new(id: u64, verdict: &Verdict, at: Wall) -> Self {
        Self {
            id,
            pattern: verdict.pattern,
            severity: verdict.severity,
            start: verdict.since.unwrap_or(at).min(at),
            flagged_at: at,
            baseline: verdict.baseline,
            peak: verdict.peak,
            limit: verdict.limit,
            count: 1,
            reason: verdict.reason.clone(),
            told: Told { at, peak: verdict.peak, pattern: verdict.pattern },
        }
    }

    fn take(&mut self, verdict: &Verdict, at: Wall) {
        // The words and the shape are those of the gravest verdict; among equals, of a limit, then of the latest.
        let weighs = (verdict.severity, verdict.limit.is_some()) >= (self.severity, self.limit.is_some());
        if weighs && verdict.pattern != Pattern::Spike {
            (self.pattern, self.reason) = (verdict.pattern, verdict.reason.clone());
        }
        self.severity = self.severity.max(verdict.severity);
        self.flagged_at = self.flagged_at.max(at);
        self.baseline = self.baseline.or(verdict.baseline);
        self.limit = if weighs { verdict.limit.or(self.limit) } else { self.limit };
        self.count = self.count.saturating_add(u32::from(verdict.fresh));
        self.peak = match (self.peak, verdict.peak) {
            (Some(a), Some(b)) => {
                let from = self.baseline.or(self.limit).unwrap_or(a);
                Some(if (b - from).abs() > (a - from).abs() { b } else { a })
            }
            (a, b) => a.or(b),
        };
    }

    /// The shape has changed, or the peak is a fifth farther out than was told.
    fn has_news(&self) -> bool {
        let from = self.baseline.or(self.limit);
        let grown = match (from, self.told.peak, self.peak) {
            (Some(from), Some(told), Some(peak)) => (peak - from).abs() > 1.2 * (told - from).abs(),
            _ => false,
        };
        grown || self.pattern != self.told.pattern
    }

    fn step(&self, phase: Phase, at: Wall, subject: Subject<'_>) -> EpisodeUpdate {
        EpisodeUpdate {
            id: self.id,
            phase,
            channel: subject.channel.clone(),
            pattern: self.pattern,
            severity: self.severity,
            start: self.start,
            at,
            baseline: self.baseline,
            peak: self.peak,
            last: subject.last,
            limit: self.limit,
            count: self.count,
            unit: subject.unit.clone(),
            reason: self.reason.words(subject.unit),
            evidence: None,
        }
    }
}

fn micros(d: Duration) -> i64 {
    i64::try_from(d.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(severity: Severity, peak: f64) -> Verdict {
        Verdict {
            score: 0.9,
            pattern: Pattern::High,
            severity,
            reason: Reason::OverLimit { up: true, limit: 80.0 },
            since: None,
            baseline: Some(60.0),
            peak: Some(peak),
            limit: Some(80.0),
            fresh: false,
        }
    }

    struct Bench {
        channel: ChannelId,
        unit: Unit,
        episodes: Episodes,
        next_id: u64,
        said: Vec<EpisodeUpdate>,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                channel: ChannelId::new("pump1.temp").unwrap(),
                unit: Unit("Cel".into()),
                episodes: Episodes::default(),
                next_id: 7,
                said: Vec::new(),
            }
        }

        fn flag(&mut self, s: i64, verdict: &Verdict) {
            let subject = Subject { channel: &self.channel, unit: &self.unit, last: verdict.peak };
            let options = EpisodeOptions::default();
            let at = Wall::from_secs(s);
            self.said.extend(self.episodes.flag(verdict, at, subject, &options, &mut self.next_id));
        }

        fn quiet(&mut self, s: i64) {
            let subject = Subject { channel: &self.channel, unit: &self.unit, last: None };
            let options = EpisodeOptions::default();
            let said = &mut self.said;
            let mut ended = |_, update| said.push(update);
            self.episodes.close_quiet(Wall::from_secs(s), 1_000_000, subject, &options, &mut ended);
        }

        fn phases(&self) -> Vec<Phase> {
            self.said.iter().map(|u| u.phase).collect()
        }
    }

    #[test]
    fn an_hour_of_flags_is_one_opening_few_updates_and_one_end() {
        let mut bench = Bench::new();
        for s in 0..3600 {
            bench.flag(s, &verdict(Severity::Warning, 81.0 * 1.001_f64.powi(s as i32)));
            bench.quiet(s);
        }
        (3600..4000).for_each(|s| bench.quiet(s));
        let phases = bench.phases();
        assert_eq!((phases[0], *phases.last().unwrap()), (Phase::Opened, Phase::Closed));
        let updates = phases.iter().filter(|&&p| p == Phase::Updated).count();
        assert!((1..=12).contains(&updates) && phases.len() == updates + 2, "{phases:?}");
        assert_eq!((bench.said[0].id, bench.next_id), (7, 8));
        let end = bench.said.last().unwrap();
        assert_eq!((end.start, end.at), (Wall::from_secs(0), Wall::from_secs(3599)));
    }

    #[test]
    fn an_unchanging_fault_is_not_told_again() {
        let mut bench = Bench::new();
        (0..3600).for_each(|s| bench.flag(s, &verdict(Severity::Warning, 81.0)));
        assert_eq!(bench.phases(), [Phase::Opened]);
    }

    #[test]
    fn a_graver_severity_is_told_at_once_and_never_taken_back() {
        let mut bench = Bench::new();
        bench.flag(0, &verdict(Severity::Warning, 81.0));
        bench.flag(1, &verdict(Severity::Critical, 95.0));
        bench.flag(2, &verdict(Severity::Warning, 82.0));
        bench.quiet(200);
        assert_eq!(bench.phases(), [Phase::Opened, Phase::Updated, Phase::Closed]);
        let end = &bench.said[2];
        assert_eq!((end.severity, end.peak, end.limit), (Severity::Critical, Some(95.0), Some(80.0)));
        assert_eq!(end.reason, "above the limit of 80 °C");
    }

    #[test]
    fn a_stuck_and_a_high_channel_are_two_episodes() {
        let mut bench = Bench::new();
        bench.flag(0, &verdict(Severity::Info, 81.0));
        bench.flag(1, &Verdict { pattern: Pattern::Stuck, ..verdict(Severity::Warning, 81.0) });
        assert_eq!(bench.phases(), [Phase::Opened, Phase::Opened]);
        assert_ne!(bench.said[0].id, bench.said[1].id);
    }
}
