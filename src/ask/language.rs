//! The small language in which a query is written: by a language model under the grammar, and for people to see what was
//! understood.
//!
//! ```text
//! line: any
//! period: yesterday 18:00-23:30
//! about: Pump 1, tank1.level
//! severity: warning
//! ```
//!
//! `line` is `any` or `down`; `period` is `unsaid`, `now`, `all`, `last 3 hours`, or a day (`today`, `yesterday`, `2 days ago`)
//! with a stretch of it; `about` is `everything` or names; `severity` is `any`, `warning` or `critical`.

use super::book::{Book, Subject};
use super::{DAY_MIN, Period, Query};
use crate::limits;
use crate::reading::Severity;

/// A text that is no query; the model's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is no part of a query: {text:?}")]
pub struct BadQuery {
    /// Which line, from 1.
    pub line: usize,
    /// What it says.
    pub text: String,
}

pub(super) const KEYS: [&str; 4] = ["line: ", "period: ", "about: ", "severity: "];

impl Query {
    /// The query as four lines.
    pub fn written(&self) -> String {
        let about = match &self.about[..] {
            [] => "everything".to_owned(),
            subjects => subjects.iter().map(name).collect::<Vec<_>>().join(", "),
        };
        let severity = match self.severity {
            Severity::Info => "any",
            other => other.name(),
        };
        let line = if self.line_down { "down" } else { "any" };
        let values = [line.to_owned(), self.period.written(), about, severity.to_owned()];
        KEYS.iter().zip(values).map(|(key, value)| format!("{key}{value}\n")).collect()
    }

    /// Reads what [`Query::written`] writes; names must be in `book`.
    pub fn parse(text: &str, book: &Book) -> Result<Self, BadQuery> {
        let mut lines = text.trim_end().split('\n');
        let mut value = |n: usize| {
            let line = lines.next().unwrap_or("");
            let bad = BadQuery { line: n + 1, text: line.chars().take(80).collect() };
            line.strip_prefix(KEYS[n]).map(|value| (value.to_owned(), bad.clone())).ok_or(bad)
        };
        let (line, bad) = value(0)?;
        let line_down = match line.as_str() {
            "down" => true,
            "any" => false,
            _ => return Err(bad),
        };
        let (period, bad) = value(1)?;
        let period = Period::parse(&period).ok_or(bad)?;
        let (about, bad) = value(2)?;
        let about = match about.as_str() {
            "everything" => Vec::new(),
            names => {
                let subjects = names.split(", ").map(|name| book.named(name));
                subjects
                    .collect::<Option<Vec<_>>>()
                    .filter(|s| s.len() <= limits::ASK_SUBJECTS_MAX)
                    .ok_or(bad)?
            }
        };
        let (severity, bad) = value(3)?;
        let severity = match severity.as_str() {
            "any" => Severity::Info,
            name => Severity::from_name(name).ok_or(bad)?,
        };
        match lines.next() {
            Some(more) => Err(BadQuery { line: KEYS.len() + 1, text: more.chars().take(80).collect() }),
            None => Ok(Self { line_down, period, about, severity }),
        }
    }
}

impl Period {
    fn written(self) -> String {
        match self {
            Period::Unsaid => "unsaid".into(),
            Period::Now => "now".into(),
            Period::All => "all".into(),
            Period::Last { seconds } => {
                let (count, unit) = UNITS
                    .iter()
                    .rev()
                    .find(|(_, s)| seconds.is_multiple_of(*s))
                    .map_or((seconds.div_ceil(60), "minutes"), |(unit, s)| (seconds / s, *unit));
                format!("last {count} {unit}")
            }
            Period::Day { days_ago, from_min, to_min } => {
                let day = match days_ago {
                    0 => "today".into(),
                    1 => "yesterday".into(),
                    n => format!("{n} days ago"),
                };
                format!("{day} {}-{}", clock(from_min), clock(to_min))
            }
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "unsaid" => return Some(Period::Unsaid),
            "now" => return Some(Period::Now),
            "all" => return Some(Period::All),
            _ => {}
        }
        if let Some(rest) = text.strip_prefix("last ") {
            let (count, unit) = rest.split_once(' ')?;
            let (_, unit_s) = UNITS.iter().find(|(name, _)| *name == unit)?;
            let seconds = count.parse::<u64>().ok()?.checked_mul(*unit_s)?;
            return (1..=limits::ASK_PERIOD_S_MAX).contains(&seconds).then_some(Period::Last { seconds });
        }
        let (day, stretch) = text.rsplit_once(' ')?;
        let days_ago = match day {
            "today" => 0,
            "yesterday" => 1,
            other => other.strip_suffix(" days ago")?.parse().ok()?,
        };
        let (from, to) = stretch.split_once('-')?;
        let (from_min, to_min) = (minutes(from)?, minutes(to)?);
        // Past midnight: into the day after.
        let to_min = if to_min <= from_min { to_min + DAY_MIN } else { to_min };
        Some(Period::Day { days_ago, from_min, to_min })
    }
}

fn name(subject: &Subject) -> &str {
    match subject {
        Subject::Channel(id) => id.as_str(),
        Subject::Asset(asset) => asset,
    }
}

fn clock(minutes: u32) -> String {
    let within = if minutes > DAY_MIN { minutes % DAY_MIN } else { minutes };
    format!("{:02}:{:02}", within / 60, within % 60)
}

fn minutes(clock: &str) -> Option<u32> {
    let (hour, minute) = clock.split_once(':')?;
    let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
    let fits = minute < 60 && hour * 60 + minute <= DAY_MIN && clock.len() == 5;
    fits.then_some(hour * 60 + minute)
}

/// Units of a length of time with their seconds, ascending.
pub(super) const UNITS: [(&str, u64); 3] = [("minutes", 60), ("hours", 3600), ("days", 86_400)];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::Named;
    use crate::reading::ChannelId;

    fn book() -> Book {
        let id = ChannelId::new("tank1.level").unwrap();
        Book::new([Named { id, label: "level".into(), asset: Some("Tank, the 1st".into()) }])
    }

    #[test]
    fn what_is_written_is_read_back() {
        let about = vec![Subject::Channel(ChannelId::new("tank1.level").unwrap())];
        for line_down in [false, true] {
            for period in [
                Period::Unsaid,
                Period::Now,
                Period::All,
                Period::Last { seconds: 60 },
                Period::Last { seconds: 7200 },
                Period::Last { seconds: 5 * 86_400 },
                Period::Day { days_ago: 0, from_min: 0, to_min: DAY_MIN },
                Period::Day { days_ago: 1, from_min: 1080, to_min: DAY_MIN + 360 },
                Period::Day { days_ago: 12, from_min: 605, to_min: 606 },
            ] {
                for about in [Vec::new(), about.clone()] {
                    for &severity in Severity::ALL {
                        let query = Query { line_down, period, about: about.clone(), severity };
                        assert_eq!(Query::parse(&query.written(), &book()), Ok(query));
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_query_is_refused_with_its_line() {
        let good = Query::default().written();
        for (from, to, line) in [
            ("any", "up", 1),
            ("unsaid", "last 0 hours", 2),
            ("unsaid", "last 99999999999999999999 days", 2),
            ("unsaid", "today 25:00-26:00", 2),
            ("unsaid", "today 9:00-10:00", 2),
            ("everything", "pump9", 3),
            ("severity: any", "severity: bad", 4),
            ("severity: any\n", "severity: any\nmore", 5),
        ] {
            let refused = Query::parse(&good.replacen(from, to, 1), &book());
            assert_eq!(refused.map_err(|e| e.line), Err(line), "{to}");
        }
        assert!(Query::parse("", &book()).is_err());
    }
}
