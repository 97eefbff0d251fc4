//! Questions about what happened: from words to a query, from a query to facts, from facts to an answer.
//!
//! ```text
//! question --read / parse--> Query --resolve--> Span --facts--> Facts --(digest)--> words with citations
//! ```
//!
//! A question is read by rules in English and Chinese ([`read`]), or written by a language model in the small language of
//! [`Query::written`] under the grammar of [`grammar`]. Either way the answer is made of facts, so it is held to the rules of
//! every digest: no figure and no name that is not a fact. Nothing here asks a clock or touches a disk.

pub mod answer;
mod book;
pub mod grammar;
mod language;
mod read;
mod tokens;

pub use book::{Book, Named, Subject};
pub use language::BadQuery;
pub use read::{Reading, read};

use crate::limits;
use crate::reading::Severity;
use crate::time::Wall;

/// What a question asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Only while the line was down: the latest outage within the period.
    pub line_down: bool,
    /// When.
    pub period: Period,
    /// Which channels and assets; empty for all.
    pub about: Vec<Subject>,
    /// The least severity that counts.
    pub severity: Severity,
}

/// When, as people say it. Days and times of day are UTC, because a gateway knows no other zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// Nothing was said: the last [`limits::ASK_PERIOD_S_DEFAULT`].
    Unsaid,
    /// What is going on at this moment.
    Now,
    /// As far back as anything is known.
    All,
    /// The last so many seconds.
    Last {
        /// How many, at most [`limits::ASK_PERIOD_S_MAX`].
        seconds: u64,
    },
    /// A part of a day.
    Day {
        /// 0 is today.
        days_ago: u32,
        /// Minutes since its midnight.
        from_min: u32,
        /// Minutes since its midnight; beyond 1440 it is the day after.
        to_min: u32,
    },
}

/// A stretch of the agent's own wall time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its start.
    pub from: Wall,
    /// Its end.
    pub to: Wall,
}

/// A time without a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// When the line was lost.
    pub from: Wall,
    /// When it came back; none: it is still away.
    pub to: Option<Wall>,
    /// Records that were kept, as far as is known.
    pub records_kept: u64,
    /// Records that were given up meanwhile.
    pub records_lost: u64,
}

/// The line was not down in the period asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the line was not down in that time")]
pub struct NoOutage;

impl Default for Query {
    fn default() -> Self {
        Self { line_down: false, period: Period::Unsaid, about: Vec::new(), severity: Severity::Info }
    }
}

impl Query {
    /// The stretch of time that is meant at `now`, and the outage if the question is about one.
    pub fn resolve(&self, now: Wall, outages: &[Outage]) -> Result<(Span, Option<Outage>), NoOutage> {
        let span = self.period.span(now);
        if !self.line_down {
            return Ok((span, None));
        }
        let open = Span { from: Wall(i64::MIN), to: now };
        let within = if self.period == Period::Unsaid { open } else { span };
        let outage = outages.iter().rev().find(|o| within.touches(o.from, o.to)).ok_or(NoOutage)?;
        Ok((Span { from: outage.from, to: outage.to.unwrap_or(now) }, Some(*outage)))
    }
}

impl Period {
    fn span(self, now: Wall) -> Span {
        let back = |seconds: u64| Span { from: now - std::time::Duration::from_secs(seconds), to: now };
        match self {
            Period::Unsaid => back(limits::ASK_PERIOD_S_DEFAULT),
            Period::Now => Span { from: now, to: now },
            Period::All => Span { from: Wall(0).min(now), to: now },
            Period::Last { seconds } => back(seconds.min(limits::ASK_PERIOD_S_MAX)),
            Period::Day { days_ago, from_min, to_min } => {
                let day = now.0.div_euclid(DAY_US).saturating_sub(i64::from(days_ago));
                let midnight = day.saturating_mul(DAY_US);
                let at = |minutes: u32| Wall(midnight.saturating_add(i64::from(minutes) * MINUTE_US));
                let span = Span { from: at(from_min), to: at(to_min).max(at(from_min)) };
                // Who says "since 22:00" in the morning means yesterday's.
                let span = if span.from > now { span.earlier(DAY_US) } else { span };
                Span { from: span.from, to: span.to.min(now) }
            }
        }
    }
}

impl Span {
    /// Whether something that lasted from `from` to `to` (none: still does) lies at least partly in it.
    pub fn touches(&self, from: Wall, to: Option<Wall>) -> bool {
        from <= self.to && to.is_none_or(|to| to >= self.from)
    }

    fn earlier(self, us: i64) -> Self {
        Self { from: Wall(self.from.0.saturating_sub(us)), to: Wall(self.to.0.saturating_sub(us)) }
    }
}

const MINUTE_US: i64 = 60_000_000;
const DAY_US: i64 = 24 * 60 * MINUTE_US;
/// Minutes of a day.
const DAY_MIN: u32 = 24 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-07-02T13:46:40Z.
    const NOW: Wall = Wall::from_secs(1_783_000_000);

    fn span(period: Period) -> (String, String) {
        let span = period.span(NOW);
        (span.from.rfc3339(), span.to.rfc3339())
    }

    #[test]
    fn a_part_of_a_day_is_cut_at_now_and_never_lies_ahead() {
        let day = |days_ago, from_min, to_min| span(Period::Day { days_ago, from_min, to_min });
        let utc = |a: &str, b: &str| (format!("2026-07-{a}:00.000Z"), format!("2026-07-{b}.000Z"));
        assert_eq!(day(0, 0, DAY_MIN), utc("02T00:00", "02T13:46:40"));
        assert_eq!(day(1, 0, DAY_MIN), utc("01T00:00", "02T00:00:00"));
        assert_eq!(day(1, 18 * 60, DAY_MIN + 6 * 60), utc("01T18:00", "02T06:00:00"));
        assert_eq!(day(0, 22 * 60, DAY_MIN), utc("01T22:00", "02T00:00:00"), "tonight has not come yet");
    }

    #[test]
    fn a_question_about_the_outage_gets_the_latest_one_of_its_time() {
        let at = |s: i64| Wall::from_secs(1_783_000_000 + s);
        let outage = |from, to: Option<i64>| Outage {
            from: at(from),
            to: to.map(at),
            records_kept: 0,
            records_lost: 0,
        };
        let outages = [outage(-90_000, Some(-80_000)), outage(-500, Some(-200))];
        let asked = |period| {
            let query = Query { line_down: true, period, ..Query::default() };
            query.resolve(NOW, &outages).map(|(span, _)| (span.from, span.to))
        };
        assert_eq!(asked(Period::Unsaid), Ok((at(-500), at(-200))));
        let yesterday = Period::Day { days_ago: 1, from_min: 0, to_min: DAY_MIN };
        assert_eq!(asked(yesterday), Ok((at(-90_000), at(-80_000))));
        assert_eq!(asked(Period::Last { seconds: 60 }), Err(NoOutage));
        let open = [outage(-30, None)];
        let query = Query { line_down: true, ..Query::default() };
        let (span, outage) = query.resolve(NOW, &open).unwrap();
        assert_eq!((span.to, outage), (NOW, Some(open[0])));
    }

    #[test]
    fn no_time_at_all_makes_it_panic() {
        for now in [Wall(i64::MIN), Wall(i64::MAX), Wall(0)] {
            for period in [
                Period::All,
                Period::Now,
                Period::Last { seconds: u64::MAX },
                Period::Day { days_ago: u32::MAX, from_min: u32::MAX, to_min: 0 },
            ] {
                let span = period.span(now);
                assert!(span.from <= span.to || span.from > now, "{period:?} at {now:?}: {span:?}");
            }
        }
    }
}
