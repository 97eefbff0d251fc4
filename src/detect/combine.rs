//! Rules over several channels: what is harmless on one of them and a fault together.
//!
//! ```text
//! all = ["pump2.current > 14", "pump2.flow < 3"]     one clause: holds while both do
//! any = ["pump2.temp > 90", "pump2.temp rate > 5"]   a clause each, along with all of `all`
//! ```
//!
//! A condition that was met holds until the value is back by its hysteresis (`pump2.flow < 3 hysteresis 0.2`); without one
//! to the bound, and for a rate to half of it, as for a single channel.
//!
//! A clause is told of the channel of its first condition, in the time of that channel, once it has held for the dwell. A
//! channel that is not heard, has no value, or is missing meets no condition.

use std::fmt;
use std::sync::Arc;

use super::limit::is_back;
use super::rate::{self, Change};
use super::{Duty, Reason, Verdict};
use crate::frame::ModelName;
use crate::limits;
use crate::reading::{ChannelId, Pattern, Severity, Value, value_from_f64};
use crate::time::Wall;

/// One rule. At least one condition, at most [`limits::RULE_CONDITIONS_MAX`].
#[derive(Debug, Clone, PartialEq)]
pub struct RuleOptions {
    /// Its name, for alarms.
    pub name: ModelName,
    /// All of these must hold,
    pub all: Vec<Condition>,
    /// and one of these, if there are any.
    pub any: Vec<Condition>,
    /// How grave it is.
    pub severity: Severity,
    /// Event time for which it must hold before it counts, in seconds.
    pub dwell_s: u32,
    /// When it holds; absent: always.
    pub times: Option<Duty>,
}

/// What one channel must do, in its unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The channel.
    pub channel: ChannelId,
    /// The change per minute is meant, not the value.
    pub rate: bool,
    /// Above the bound, not below it.
    pub above: bool,
    /// The bound.
    pub bound: f64,
    /// How far back inside it must be to be met no longer; not negative.
    pub hysteresis: f64,
}

impl Condition {
    /// Reads `pump2.current > 14.5` or `pump2.temp rate > 2`, either with `hysteresis 0.5` behind it; none if it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (said, back) = match words.as_slice() {
            [said @ .., "hysteresis", back] => (said, Some(*back)),
            said => (said, None),
        };
        let (channel, rate, sign, bound) = match said {
            [channel, sign, bound] => (channel, false, sign, bound),
            [channel, "rate", sign, bound] => (channel, true, sign, bound),
            _ => return None,
        };
        let above = match *sign {
            ">" => true,
            "<" => false,
            _ => return None,
        };
        let number = |text: &str| text.parse().ok().filter(|x: &f64| x.is_finite());
        let bound = number(bound)?;
        let hysteresis = match back {
            Some(text) => number(text).filter(|x| *x >= 0.0)?,
            None if rate => rate::hysteresis(bound),
            None => 0.0,
        };
        Some(Self { channel: ChannelId::new(channel).ok()?, rate, above, bound, hysteresis })
    }
}

/// What must happen, as alarms say it.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { channel, rate, above, bound, .. } = self;
        let what = if *rate { " rate" } else { "" };
        write!(f, "{channel}{what} {} {}", if *above { ">" } else { "<" }, super::plain(*bound))
    }
}

/// Watches one rule.
#[derive(Debug, Clone)]
pub struct Rule {
    options: RuleOptions,
    watched: Vec<Watched>,
    clauses: Vec<Clause>,
}

/// A condition and how it stands.
#[derive(Debug, Clone)]
struct Watched {
    condition: Condition,
    change: Change,
    at: Wall,
    /// The channel's last value.
    value: f64,
    met: bool,
}

#[derive(Debug, Clone)]
struct Clause {
    /// Places of its conditions; it is told of the first one's channel.
    conditions: Vec<usize>,
    said: Arc<str>,
    since: Option<Wall>,
    peak: f64,
    told: bool,
}

impl Rule {
    /// Watches `options`; conditions beyond the bound are not looked at.
    pub fn new(options: RuleOptions) -> Self {
        let conditions = options.all.iter().chain(&options.any).take(limits::RULE_CONDITIONS_MAX);
        let watched: Vec<Watched> = conditions.cloned().map(Watched::new).collect();
        let all: Vec<usize> = (0..options.all.len().min(watched.len())).collect();
        let any = all.len()..watched.len();
        let places: Vec<Vec<usize>> = if any.is_empty() {
            vec![all]
        } else {
            any.map(|one| all.iter().copied().chain([one]).collect()).collect()
        };
        let clauses = places.into_iter().map(|places| Clause::new(&options, &watched, places)).collect();
        Self { options, watched, clauses }
    }

    /// Whether it looks at `channel`.
    pub fn watches(&self, channel: &ChannelId) -> bool {
        self.watched.iter().any(|w| w.condition.channel == *channel)
    }

    /// Takes the newest reading of a channel; hands what holds to `tell`, with the channel and its time.
    pub fn step(
        &mut self,
        channel: &ChannelId,
        at: Wall,
        value: Value,
        tell: &mut impl FnMut(&ChannelId, Wall, Verdict),
    ) {
        let Ok(x) = value.and_then(value_from_f64) else { return self.forget(channel) };
        self.watched.iter_mut().filter(|w| w.condition.channel == *channel).for_each(|w| w.step(at, x));
        for clause in &mut self.clauses {
            if let Some((first, verdict)) = clause.step(&self.options, &self.watched) {
                tell(&first.condition.channel, first.at, verdict);
            }
        }
    }

    /// The channel is missing, or its time has no meaning any more.
    pub fn forget(&mut self, channel: &ChannelId) {
        for watched in self.watched.iter_mut().filter(|w| w.condition.channel == *channel) {
            *watched = Watched::new(watched.condition.clone());
        }
        for clause in &mut self.clauses {
            if !clause.conditions.iter().all(|place| self.watched[*place].met) {
                (clause.since, clause.told) = (None, false);
            }
        }
    }
}

impl Watched {
    fn new(condition: Condition) -> Self {
        Self { condition, change: Change::default(), at: Wall(0), value: 0.0, met: false }
    }

    fn step(&mut self, at: Wall, x: f64) {
        (self.at, self.value) = (at, x);
        let change = if self.condition.rate { self.change.step(at, x) } else { None };
        let measured = if self.condition.rate { change.map(|c| c.per_min) } else { Some(x) };
        let Condition { above, bound, hysteresis, .. } = self.condition;
        let beyond = |m: f64| if above { m > bound } else { m < bound };
        self.met = measured.is_some_and(|m| beyond(m) || self.met && !is_back(m, above, bound, hysteresis));
    }
}

impl Clause {
    fn new(options: &RuleOptions, watched: &[Watched], conditions: Vec<usize>) -> Self {
        let words: Vec<String> = conditions.iter().map(|i| watched[*i].condition.to_string()).collect();
        let said = format!("{}: {}", options.name, words.join(" and ")).into();
        Self { conditions, said, since: None, peak: 0.0, told: false }
    }

    fn step<'a>(&mut self, options: &RuleOptions, watched: &'a [Watched]) -> Option<(&'a Watched, Verdict)> {
        let first = watched.get(*self.conditions.first()?)?;
        let holds = self.conditions.iter().all(|place| watched[*place].met)
            && options.times.is_none_or(|duty| duty.holds(first.at));
        if !holds {
            (self.since, self.told) = (None, false);
            return None;
        }
        let Condition { rate, above, bound, .. } = first.condition;
        let before = self.since;
        let since = *self.since.get_or_insert(first.at);
        self.peak = match before {
            Some(_) if above => self.peak.max(first.value),
            Some(_) => self.peak.min(first.value),
            None => first.value,
        };
        if first.at.micros_since(since) < i64::from(options.dwell_s) * 1_000_000 {
            return None;
        }
        let pattern = match (rate, above) {
            (false, true) => Pattern::High,
            (false, false) => Pattern::Low,
            (true, true) => Pattern::Rise,
            (true, false) => Pattern::Fall,
        };
        let verdict = Verdict {
            score: if options.severity == Severity::Critical { 1.0 } else { 0.9 },
            pattern,
            severity: options.severity,
            reason: Reason::Combined { said: self.said.clone() },
            since: Some(since),
            baseline: None,
            peak: Some(self.peak),
            limit: (!rate).then_some(bound),
            fresh: !std::mem::replace(&mut self.told, true),
        };
        Some((first, verdict))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::{NoData, Unit};

    fn rule(all: &[&str], any: &[&str], dwell_s: u32) -> RuleOptions {
        let read = |texts: &[&str]| texts.iter().map(|t| Condition::parse(t).unwrap()).collect();
        let name = ModelName::new("dry_run").unwrap();
        RuleOptions {
            name,
            all: read(all),
            any: read(any),
            severity: Severity::Critical,
            dwell_s,
            times: None,
        }
    }

    /// Second, channel and whether it is a new occurrence, of everything told.
    fn told(options: RuleOptions, readings: &[(i64, &str, Value)]) -> Vec<(i64, String, bool)> {
        let mut rule = Rule::new(options);
        let mut told = Vec::new();
        for (s, channel, value) in readings {
            let channel = ChannelId::new(channel).unwrap();
            rule.step(&channel, Wall::from_secs(*s), *value, &mut |of, at, verdict| {
                told.push((at.0 / 1_000_000, of.to_string(), verdict.fresh));
            });
        }
        told
    }

    #[test]
    fn all_conditions_must_hold_for_the_dwell_and_the_first_channel_is_told() {
        let options = || rule(&["p.current > 14", "p.flow < 3"], &[], 10);
        let readings = |flow_at: i64| -> Vec<(i64, &'static str, Value)> {
            let flow = |s| Ok(if s >= flow_at { 1.0 } else { 5.0 });
            (0..40)
                .flat_map(|s| [(s, "p.current", Ok(15.0)), (s, "p.flow", flow(s)), (s, "p.x", Ok(0.0))])
                .collect()
        };
        let all = told(options(), &readings(20));
        assert_eq!(all[0], (30, "p.current".to_owned(), true));
        assert!(all[1..].iter().all(|(.., fresh)| !fresh) && all.len() > 10, "{all:?}");
        assert_eq!(told(options(), &readings(35)), [], "shorter than the dwell");
    }

    #[test]
    fn any_condition_is_enough_and_each_is_told_of_its_own_channel() {
        let options = rule(&[], &["a.t > 90", "b.t rate < -5"], 0);
        let falling = (0..90).map(|s| (s, "b.t", Ok(50.0 - s as f64)));
        let mut readings: Vec<_> = falling.collect();
        readings.push((90, "a.t", Ok(91.0)));
        let all = told(options, &readings);
        assert_eq!((all[0].1.as_str(), all.last().unwrap().1.as_str()), ("b.t", "b.t"));
        assert!(all.contains(&(90, "a.t".to_owned(), true)), "{all:?}");
    }

    /// Seconds at which something is told, of values of `a.t`, one a second.
    fn seconds(condition: &str, values: impl IntoIterator<Item = f64>) -> Vec<i64> {
        let readings: Vec<_> = (0..).zip(values).map(|(s, x)| (s, "a.t", Ok(x))).collect();
        told(rule(&[condition], &[], 0), &readings).into_iter().map(|(s, ..)| s).collect()
    }

    #[test]
    fn a_condition_that_is_met_holds_until_the_value_is_back_by_the_hysteresis() {
        let around = [89.0, 91.0, 89.0, 91.0, 87.9, 89.0];
        assert_eq!(seconds("a.t > 90", around), [1, 3]);
        assert_eq!(seconds("a.t > 90 hysteresis 2", around), [1, 2, 3]);
        assert_eq!(seconds("a.t < -90 hysteresis 2", around.map(|x| -x)), [1, 2, 3]);
        // 6 and 4 a minute in turns: a rate ends at half of its bound, or as is said.
        let climb = |n: usize| {
            (0..n)
                .scan(0.0, |x, s| Some(std::mem::replace(x, *x + if s / 60 % 2 == 0 { 0.1 } else { 0.066 })))
        };
        let gaps = |told: &[i64]| told.windows(2).filter(|pair| pair[1] - pair[0] > 1).count();
        assert_eq!(gaps(&seconds("a.t rate > 5", climb(600))), 0);
        assert!(gaps(&seconds("a.t rate > 5 hysteresis 0", climb(600))) > 2);
    }

    #[test]
    fn a_channel_without_a_value_meets_no_condition() {
        let options = rule(&["a.t > 90", "b.t > 1"], &[], 0);
        let hot = (1, "a.t", Ok(95.0));
        let readings =
            [hot, (1, "b.t", Ok(2.0)), (2, "b.t", Err(NoData::NoAnswer)), hot, (3, "b.t", Ok(2.0))];
        assert_eq!(told(options, &readings).len(), 2);
    }

    #[test]
    fn a_rule_holds_at_its_times_only_and_says_its_conditions() {
        let mut options = rule(&["a.t > 90"], &["b.t > 1", "b.t < -1"], 0);
        options.times = Duty::parse("06:00-22:00");
        let mut rule = Rule::new(options);
        let (a, b) = (ChannelId::new("a.t").unwrap(), ChannelId::new("b.t").unwrap());
        let mut said = Vec::new();
        for (hour, x) in [(5, 2.0), (7, 2.0), (8, 0.0), (9, -2.0), (23, 2.0)] {
            let at = Wall::from_secs(hour * 3600);
            rule.step(&a, at, Ok(95.0), &mut |_, _, _| ());
            rule.step(&b, at, Ok(x), &mut |of, at, v| {
                said.push((at.0 / 3_600_000_000, of.to_string(), v.reason.words(&Unit::default())));
            });
        }
        let hours: Vec<i64> = said.iter().map(|s| s.0).collect();
        assert_eq!(hours, [7, 9], "{said:?}");
        assert_eq!(said[0].2, "rule dry_run: a.t > 90 and b.t > 1");
        assert_eq!(said[1].1, "a.t");
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for bad in [
            "",
            "a.t",
            "a.t >",
            "a.t > x",
            "a.t >= 3",
            "a t > 3 4",
            "ä > 3",
            "a.t rate 3",
            "a.t > inf",
            "> 3",
            "a.t > 3 hysteresis",
            "a.t > 3 hysteresis -1",
            "hysteresis 3",
            "a.t > 3 hysteresis 1 2",
        ] {
            assert_eq!(Condition::parse(bad), None, "{bad:?}");
        }
        assert_eq!(Condition::parse(" a.t  rate < -2.5 ").unwrap().to_string(), "a.t rate < -2.5");
    }
}
