//! Streaming detectors behind one enum; scores and named reasons.
//!
//! | detector | finds | learns |
//! |---|---|---|
//! | [`Limits`] | a configured limit crossed for long enough | nothing |
//! | [`Rate`] | a configured bound on change crossed | nothing |
//! | [`Novelty`] | what the stream never did before | range, drift, course |
//! | [`Seasonal`] | an hour unlike the same hour on other days | means by hour of the day and the week |
//! | [`Cusum`] | a mean that creeps away within the range | mean and spread of blocks |
//! | [`Spike`] | one value far from its neighbours | how far they usually are |
//! | [`Stuck`] | a value that no longer moves | the longest usual rest |
//! | [`Flapping`] | a two-state channel that switches too often | the usual time between switches |
//! | [`Silence`] | no value any more; asked by the clock, not by a reading | the usual interval |
//!
//! [`Together`] judges a group of channels: what each says is expected from the others; [`Group`] makes its rows of channels
//! that have paces of their own. A [`Rule`] watches what is configured over several channels.
//!
//! All are causal, bounded (together [`STREAM_BYTES`], less than [`limits::STREAM_BYTES_MAX`]) and take a microsecond or
//! two per value at most. A [`Judge`] holds those of one channel. What several of those that learn say within
//! [`REST_READINGS`] is one occurrence: only the first verdict is fresh.

mod combine;
mod course;
mod cusum;
mod duty;
mod flapping;
mod group;
mod limit;
mod novelty;
mod rate;
mod seasonal;
mod silence;
mod spike;
mod stuck;
mod together;

pub use combine::{Condition, Rule, RuleOptions};
pub use cusum::Cusum;
pub use duty::Duty;
pub use flapping::Flapping;
pub use group::{Group, GroupOptions};
pub use limit::{LimitOptions, Limits};
pub use novelty::{Novelty, NoveltyOptions};
pub use rate::{Rate, RateOptions};
pub use seasonal::Seasonal;
pub use silence::Silence;
pub use spike::Spike;
pub use stuck::Stuck;
pub use together::{Finding, Together};

use std::sync::Arc;
use std::time::Duration;

use crate::frame::ModelName;
use crate::limits;
use crate::reading::{Pattern, Quantity, Severity, Unit, Value, value_from_f64};
use crate::time::{Wall, humane};

/// What a detector says of one value.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// How sure, 0 to 1; 0.5 is the threshold and nothing below it is told.
    pub score: f32,
    /// The shape of the deviation.
    pub pattern: Pattern,
    /// The least that it may be called.
    pub severity: Severity,
    /// Why.
    pub reason: Reason,
    /// Since when, if the deviation began before this value.
    pub since: Option<Wall>,
    /// The usual value before.
    pub baseline: Option<f64>,
    /// The most extreme value so far.
    pub peak: Option<f64>,
    /// The configured limit, if one was crossed.
    pub limit: Option<f64>,
    /// A new occurrence; the others say that the last one goes on.
    pub fresh: bool,
}

/// Why a value was flagged.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// Beyond `edge`, the extreme of the last `span_s` seconds.
    OutOfRange {
        /// Above, not below.
        up: bool,
        /// What had been the extreme.
        edge: f64,
        /// Seconds of the past that were looked at.
        span_s: u64,
    },
    /// The last steps resemble nothing in the past.
    OddCourse {
        /// Standard deviations beyond the usual distance to the past.
        sigmas: f32,
        /// Stretches of the past that it was held against.
        past: u32,
    },
    /// Unlike what is usual at this hour.
    OddHour {
        /// The usual value.
        usual: f64,
        /// Days learnt from.
        days: u32,
    },
    /// The mean has crept away.
    Drifted {
        /// Upwards.
        up: bool,
        /// From this mean.
        from: f64,
    },
    /// Far from its neighbours.
    Jumped {
        /// Their median.
        from: f64,
        /// The usual distance to it.
        usual: f64,
    },
    /// Unlike what the other channels of the group make one expect.
    OddAmongOthers {
        /// The group, where it has a name.
        group: Option<ModelName>,
        /// The value that they make one expect.
        expected: f64,
        /// The channel's share of the group's deviation, 0 to 1.
        share: f32,
    },
    /// A configured limit was crossed.
    OverLimit {
        /// Above a high limit, not below a low one.
        up: bool,
        /// The limit.
        limit: f64,
    },
    /// A configured rule over several channels holds.
    Combined {
        /// Its name and its conditions.
        said: Arc<str>,
    },
    /// Changes faster than a configured bound.
    TooFast {
        /// Change per minute.
        per_min: f64,
        /// The bound on it, in either direction.
        bound: f64,
    },
    /// The value did not move.
    Flat {
        /// For so many seconds.
        for_s: u64,
        /// Readings of the longest usual rest.
        usual_readings: u32,
    },
    /// Too many switches.
    Switching {
        /// So many switches
        switches: u32,
        /// within so many seconds,
        within_s: u64,
        /// where so many seconds between two are usual.
        usual_s: u64,
    },
    /// A small model found a window odd.
    Model {
        /// Which model.
        model: ModelName,
        /// What it takes the window for, where it tells classes.
        class: Option<ModelName>,
        /// How odd.
        score: f32,
        /// From this score on it is told.
        threshold: f32,
    },
    /// No value.
    Silent {
        /// For so many seconds.
        for_s: u64,
        /// Usual interval in milliseconds.
        usual_ms: u64,
    },
}

impl Reason {
    /// One clause for a person, without line breaks; numbers with `unit`.
    pub fn words(&self, unit: &Unit) -> String {
        let symbol = unit.symbol();
        let space = if symbol.is_empty() || symbol == "%" { "" } else { " " };
        let value = |x: f64| format!("{}{space}{symbol}", plain(x));
        let seconds = |s: u64| humane(Duration::from_secs(s.max(1)));
        match *self {
            Reason::OutOfRange { up: true, edge, span_s } => {
                format!(
                    "above every value of the last {} (until now at most {})",
                    seconds(span_s),
                    value(edge)
                )
            }
            Reason::OutOfRange { up: false, edge, span_s } => {
                format!(
                    "below every value of the last {} (until now at least {})",
                    seconds(span_s),
                    value(edge)
                )
            }
            Reason::OddCourse { sigmas, past } => {
                format!(
                    "a course unlike any of the last {past} ({sigmas:.0} standard deviations from the usual)"
                )
            }
            Reason::OddHour { usual, days } => {
                format!("unlike this hour on the last {days} days (usually {})", value(usual))
            }
            Reason::Drifted { up, from } => {
                format!("drifting {} from a mean of {}", if up { "up" } else { "down" }, value(from))
            }
            Reason::Jumped { from, usual } => format!(
                "a jump away from {} (usually within {} of its neighbours)",
                value(from),
                value(usual)
            ),
            Reason::OddAmongOthers { group, expected, share } => format!(
                "does not fit the other channels{} (they suggest {}; {:.0} % of the deviation is here)",
                group.map(|name| format!(" of {name}")).unwrap_or_default(),
                value(expected),
                share * 100.0
            ),
            Reason::OverLimit { up: true, limit } => format!("above the limit of {}", value(limit)),
            Reason::OverLimit { up: false, limit } => format!("below the limit of {}", value(limit)),
            Reason::Combined { ref said } => format!("rule {said}"),
            Reason::TooFast { per_min, bound } => {
                format!("changes by {} per minute (at most {})", value(per_min), value(bound))
            }
            Reason::Flat { for_s, usual_readings } => {
                format!("flat for {} (usually moves within {usual_readings} readings)", seconds(for_s))
            }
            Reason::Switching { switches, within_s, usual_s } => format!(
                "{switches} switches in {} (usually {} between two)",
                seconds(within_s),
                seconds(usual_s)
            ),
            Reason::Model { model, class, score, threshold } => {
                let seen = class.map(|class| format!(" sees {class}:")).unwrap_or_default();
                format!(
                    "model {model}{seen} scores {} (odd from {})",
                    plain(score.into()),
                    plain(threshold.into())
                )
            }
            Reason::Silent { for_s, usual_ms } => format!(
                "no value for {} (usually every {})",
                seconds(for_s),
                humane(Duration::from_millis(usual_ms))
            ),
        }
    }
}

/// A number with about four significant digits, as people write it.
fn plain(x: f64) -> String {
    let magnitude = x.abs();
    if magnitude != 0.0 && !(1e-3..1e7).contains(&magnitude) {
        return format!("{x:.3e}");
    }
    let decimals = match magnitude {
        1000.0.. => 0,
        100.0.. => 1,
        1.0.. => 2,
        _ => 4,
    };
    let text = format!("{x:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// 0.5 at the threshold, towards 1 beyond it.
fn squash(strength: f64) -> f32 {
    (strength / (1.0 + strength)).clamp(0.5, 1.0) as f32
}

/// One detector of one stream.
#[derive(Debug, Clone)]
pub enum Detector {
    /// Configured limits.
    Limits(Box<Limits>),
    /// A configured bound on change.
    Rate(Rate),
    /// Leaving one's own past.
    Novelty(Box<Novelty>),
    /// Unlike the hour.
    Seasonal(Box<Seasonal>),
    /// Creeping away.
    Cusum(Cusum),
    /// One value far from its neighbours.
    Spike(Spike),
    /// No longer moving.
    Stuck(Stuck),
    /// Switching too often.
    Flapping(Flapping),
}

impl Detector {
    /// Judges one finite value; readings come in order of event time.
    pub fn step(&mut self, at: Wall, x: f64) -> Option<Verdict> {
        match self {
            Detector::Limits(d) => d.step(at, x),
            Detector::Rate(d) => d.step(at, x),
            Detector::Novelty(d) => d.step(at, x),
            Detector::Seasonal(d) => d.step(at, x),
            Detector::Cusum(d) => d.step(at, x),
            Detector::Spike(d) => d.step(at, x),
            Detector::Stuck(d) => d.step(at, x),
            Detector::Flapping(d) => d.step(at, x),
        }
    }

    /// Drops what depends on event time: the channel's clock was set back.
    pub fn clock_set_back(&mut self) {
        match self {
            Detector::Limits(d) => d.release(),
            Detector::Rate(d) => d.release(),
            Detector::Novelty(d) => d.release(),
            Detector::Seasonal(d) => d.release(),
            Detector::Cusum(d) => d.release(),
            Detector::Spike(_) => {}
            Detector::Stuck(d) => d.release(),
            Detector::Flapping(d) => d.release(),
        }
    }
}

/// All detectors of one channel.
#[derive(Debug, Clone)]
pub struct Judge {
    detectors: Vec<Detector>,
    states: States,
    readings: u64,
    /// No new occurrence of what is learnt before this reading.
    rested_at: u64,
    /// The last occurrence of what is learnt.
    found_at: Option<Wall>,
    /// When rules hold; always, where there is none.
    times: Option<Duty>,
}

impl Judge {
    /// `learning` switches the detectors that learn; limits are watched regardless.
    pub fn new(quantity: Quantity, limit: Option<LimitOptions>, learning: bool) -> Self {
        Self::tuned(quantity, limit, learning, NoveltyOptions::default())
    }

    /// With other bounds of what is novel.
    pub fn tuned(
        quantity: Quantity,
        limit: Option<LimitOptions>,
        learning: bool,
        novelty: NoveltyOptions,
    ) -> Self {
        let two_state = matches!(quantity, Quantity::Door | Quantity::Link);
        let mut detectors = Vec::with_capacity(LEARNING + if limit.is_some() { 2 } else { 0 });
        if let Some(options) = limit {
            detectors.push(Detector::Limits(Box::new(Limits::new(options))));
            let any = options.rate.warn.or(options.rate.alarm).is_some();
            detectors.extend(any.then(|| Detector::Rate(Rate::new(options.rate))));
        }
        if learning {
            detectors.push(Detector::Flapping(Flapping::new()));
            if !two_state {
                detectors.push(Detector::Novelty(Box::new(Novelty::new(novelty))));
                detectors.push(Detector::Seasonal(Box::default()));
                detectors.push(Detector::Cusum(Cusum::default()));
                detectors.push(Detector::Spike(Spike::new()));
                detectors.push(Detector::Stuck(Stuck::new()));
            }
        }
        let states = States { two_state, ..States::default() };
        Self {
            detectors,
            states,
            readings: 0,
            rested_at: 0,
            found_at: None,
            times: limit.and_then(|l| l.times),
        }
    }

    /// Judges one reading and hands each verdict to `tell`; a missing value says nothing here (see [`Silence`]).
    pub fn step(&mut self, at: Wall, value: Value, tell: &mut impl FnMut(Verdict)) {
        let Ok(x) = value.and_then(value_from_f64) else { return };
        let two_state = self.states.step(x);
        self.readings += 1;
        let on_duty = self.times.is_none_or(|duty| duty.holds(at));
        for detector in &mut self.detectors {
            let applies = match detector {
                Detector::Limits(_) | Detector::Rate(_) => on_duty,
                Detector::Flapping(_) => two_state,
                // Two states have no range, no course, and may rest for years.
                _ => !two_state,
            };
            if !on_duty && matches!(detector, Detector::Limits(_) | Detector::Rate(_)) {
                // What was under way when the rules went off duty begins anew.
                detector.clock_set_back();
            }
            if applies && let Some(mut verdict) = detector.step(at, x) {
                if !matches!(detector, Detector::Limits(_) | Detector::Rate(_) | Detector::Flapping(_)) {
                    verdict.fresh &= self.readings >= self.rested_at && !is_part_of(self.found_at, &verdict);
                    if verdict.fresh {
                        (self.rested_at, self.found_at) = (self.readings + REST_READINGS, Some(at));
                    }
                }
                // A spike within another finding is a part of it.
                if verdict.fresh || !matches!(detector, Detector::Spike(_)) {
                    tell(verdict);
                }
            }
        }
    }

    /// The channel's clock was set back.
    pub fn clock_set_back(&mut self) {
        self.found_at = None;
        self.detectors.iter_mut().for_each(Detector::clock_set_back);
    }
}

/// Whether a verdict speaks of a time in which something was found already: a drift has gathered the excursion that
/// another detector told at once.
fn is_part_of(found_at: Option<Wall>, verdict: &Verdict) -> bool {
    found_at.zip(verdict.since).is_some_and(|(found, since)| since <= found)
}

/// Whether a channel has two states: nought and one other value, and both were seen.
#[derive(Debug, Clone, Default)]
struct States {
    /// Known from the channel's quantity.
    two_state: bool,
    zero: bool,
    other: Option<f64>,
    many: bool,
}

impl States {
    fn step(&mut self, x: f64) -> bool {
        if self.two_state || self.many {
            return self.two_state;
        }
        match self.other {
            _ if x == 0.0 => self.zero = true,
            None => self.other = Some(x),
            Some(other) => self.many = other != x,
        }
        self.zero && self.other.is_some() && !self.many
    }
}

/// Readings after a finding in which what is learnt finds no other occurrence.
pub const REST_READINGS: u64 = 60;
/// Detectors that learn.
const LEARNING: usize = 6;
/// What one stream costs: the judge, its detectors and what they keep elsewhere; configured rules come on top.
pub const STREAM_BYTES: usize = size_of::<Judge>()
    + LEARNING * size_of::<Detector>()
    + size_of::<Novelty>()
    + size_of::<Seasonal>()
    + limits::COURSE_STEPS * 8
    + seasonal::WEEK_BYTES;

const _: () = assert!(STREAM_BYTES <= limits::STREAM_BYTES_MAX);

#[cfg(test)]
mod tests;
