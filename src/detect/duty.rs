//! When a rule is on duty: days of the week, and times of the day by a clock that is a fixed time off UTC.

use crate::sync::budget::parse_windows;
use crate::time::{Wall, in_day_span};

/// Days and times. A span that ends before it begins goes on over midnight, and belongs to the day on which it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duty {
    /// Monday is bit 0.
    days: u8,
    /// From and to in minutes of the day.
    spans: [Option<(u16, u16)>; 2],
    /// Minutes that the clock is ahead of UTC.
    ahead_min: i16,
}

impl Duty {
    /// Reads `06:00-22:00`, `Mon-Fri 06:00-12:00, 13:00-22:00 +01:00` or `Sat-Sun`: days, one or two spans and the clock's
    /// offset, each of which may be left out but not all. None where it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words: Vec<&str> = text.split_whitespace().collect();
        let ahead_min = match words.last() {
            Some(last) if last.starts_with(['+', '-']) => offset(words.pop()?)?,
            _ => 0,
        };
        let has_days =
            words.first().is_some_and(|first| first.starts_with(|c: char| c.is_ascii_alphabetic()));
        let days = if has_days { days(words.remove(0))? } else { EVERY_DAY };
        let spans = match words.concat() {
            none if none.is_empty() && has_days => [Some(ALL_DAY), None],
            some => match parse_windows(&some)?[..] {
                [one] => [Some(one), None],
                [one, two] => [Some(one), Some(two)],
                _ => return None,
            },
        };
        Some(Self { days, spans, ahead_min })
    }

    /// Whether it is on at `at`.
    pub fn holds(&self, at: Wall) -> bool {
        let local = Wall(at.0.saturating_add(i64::from(self.ahead_min) * MINUTE_US));
        let is_on = |(from, to): (u16, u16)| {
            // Behind midnight it is still the evening's span.
            let began =
                if from > to { Wall(local.0.saturating_sub(i64::from(to) * MINUTE_US)) } else { local };
            in_day_span(local, (from, to)) && self.days >> weekday(began) & 1 == 1
        };
        self.spans.into_iter().flatten().any(is_on)
    }
}

/// 0 is Monday; 1970 began with a Thursday.
fn weekday(at: Wall) -> i64 {
    (at.0.div_euclid(24 * 60 * MINUTE_US) + 3).rem_euclid(7)
}

/// One day, or from one to another.
fn days(text: &str) -> Option<u8> {
    let number = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    let count = (last + DAYS.len() - first) % DAYS.len();
    Some((0..=count).fold(0, |days, n| days | 1 << ((first + n) % DAYS.len())))
}

/// `+01:00` in minutes, at most 14 hours.
fn offset(text: &str) -> Option<i16> {
    let (sign, clock) = text.split_at_checked(1)?;
    let (hours, minutes) = clock.split_once(':')?;
    let (hours, minutes): (i16, i16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let is_offset = (0..=14).contains(&hours) && (0..60).contains(&minutes);
    let ahead = 60 * hours + minutes;
    is_offset.then_some(if sign == "-" { -ahead } else { ahead })
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const EVERY_DAY: u8 = 0x7f;
/// From midnight to midnight.
const ALL_DAY: (u16, u16) = (0, 0);
const MINUTE_US: i64 = 60_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// A Monday, 2026-11-23, at this hour and minute, and so many days later.
    fn at(days: i64, hour: i64, minute: i64) -> Wall {
        Wall::from_secs(1_795_392_000 + days * 86_400 + hour * 3600 + minute * 60)
    }

    #[test]
    fn days_spans_and_the_clocks_offset_are_kept_to() {
        let holds = |text: &str, at: Wall| Duty::parse(text).unwrap().holds(at);
        assert!(holds("06:00-22:00", at(6, 6, 0)) && !holds("06:00-22:00", at(0, 22, 0)));
        let two = "Mon-Fri 06:00-12:00, 13:00-22:00";
        let at_noon = [at(0, 11, 59), at(0, 12, 30), at(4, 13, 0), at(5, 13, 0)].map(|at| holds(two, at));
        assert_eq!(at_noon, [true, false, true, false]);
        assert!(holds("Sat-Sun", at(6, 23, 59)) && !holds("Sat-Sun", at(7, 0, 0)));
        // The night of Friday ends on Saturday.
        let night = [at(4, 23, 0), at(5, 5, 59), at(5, 6, 0), at(5, 23, 0), at(0, 3, 0)];
        assert_eq!(night.map(|at| holds("Fri 22:00-06:00", at)), [true, true, false, false, false]);
        // 05:30 UTC is 06:30 an hour ahead, and Sunday evening is Monday already, far in the east.
        assert!(holds("06:00-22:00 +01:00", at(0, 5, 30)) && !holds("06:00-22:00 -01:00", at(0, 6, 30)));
        assert!(holds("Mon +12:00", at(-1, 13, 0)) && holds("Sun-Mon", at(-1, 13, 0)));
    }

    #[test]
    fn what_says_no_time_is_refused() {
        for text in
            ["", "+01:00", "Mo", "Mon-", "06:00", "Mon-Fri 25:00-26:00", "06:00-07:00 +15:00", "six to ten "]
        {
            assert_eq!(Duty::parse(text), None, "{text}");
        }
        assert_eq!(Duty::parse("01:00-02:00, 03:00-04:00, 05:00-06:00"), None, "two are enough");
    }
}
