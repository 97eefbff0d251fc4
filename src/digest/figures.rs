//! Figures in words: numbers with units, durations, counts and times as a person would write them.
//!
//! Everything is a pure function of its arguments; times of day are UTC, because a gateway knows no other zone.

use time::OffsetDateTime;

use crate::digest::Lang;
use crate::limits;
use crate::reading::{Quantity, Unit};
use crate::time::Wall;

/// `x` with the digits that matter: three to four significant ones, `extra` more decimals, no trailing zeros.
///
/// Beyond 10^12 and below 10^-4 it is written in powers of ten (`3.2e-6`).
pub fn number(x: f64, extra: usize) -> String {
    let size = x.abs();
    if size == 0.0 {
        return "0".into();
    }
    let decimals = match size {
        s if !(1e-4..1e12).contains(&s) => return power_of_ten(x, 2 + extra),
        s if s >= 1000.0 => 0,
        s if s >= 10.0 => 1,
        s if s >= 1.0 => 2,
        s if s >= 0.1 => 3,
        s if s >= 0.01 => 4,
        _ => 6,
    };
    trimmed(format!("{x:.*}", decimals + extra))
}

/// The fewest extra decimals that keep values apart which differ: a peak of 80.04 over a limit of 80 must show.
pub fn decimals_to_tell_apart(values: &[f64]) -> usize {
    (0..=limits::FIGURE_EXTRA_DECIMALS_MAX)
        .find(|&extra| {
            values
                .iter()
                .enumerate()
                .all(|(i, &a)| values[..i].iter().all(|&b| a == b || number(a, extra) != number(b, extra)))
        })
        .unwrap_or(limits::FIGURE_EXTRA_DECIMALS_MAX)
}

/// A value with its unit: `81.5 °C`, `97%`, `1.5 GB`, in `zh` `2950转/分`.
pub fn with_unit(x: f64, extra: usize, unit: &Unit, quantity: Quantity, lang: Lang) -> String {
    if let Some(rest) = unit.0.strip_prefix("By") {
        let (scaled, prefix) = scale(x);
        return format!("{} {prefix}B{}", number(scaled, extra), plain(rest));
    }
    let symbol = match (unit.0.as_str(), quantity, lang) {
        ("/min", Quantity::Speed, Lang::En) => "rpm".into(),
        ("/min", Quantity::Speed, Lang::Zh) => "转/分".into(),
        ("m3/h", ..) => "m³/h".into(),
        ("m3", ..) => "m³".into(),
        _ => plain(unit.symbol()),
    };
    let space = if starts_tight(&symbol) { "" } else { " " };
    format!("{}{space}{symbol}", number(x, extra))
}

/// A duration, to the two largest units that matter: `41 seconds`, `3 hours 5 minutes`, `2天4小时`.
pub fn duration(seconds: u64, lang: Lang) -> String {
    if seconds == 0 {
        return if lang == Lang::En { "less than a second".into() } else { "不到一秒".into() };
    }
    let (d, h, m, s) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let parts = match (d, h, m) {
        (0, 0, 0) => [(s, Span::Second), (0, Span::Second)],
        (0, 0, _) if m < 5 => [(m, Span::Minute), (s, Span::Second)],
        (0, 0, _) => [(m, Span::Minute), (0, Span::Second)],
        (0, ..) => [(h, Span::Hour), (m, Span::Minute)],
        _ => [(d, Span::Day), (h, Span::Hour)],
    };
    let [(first, span), (second, lesser)] = parts;
    let mut text = span.say(first, lang);
    if second > 0 {
        if lang == Lang::En {
            text.push(' ');
        }
        text.push_str(&lesser.say(second, lang));
    }
    text
}

/// A count: English groups thousands by commas, Chinese writes it plain.
pub fn count(n: u64, lang: Lang) -> String {
    let digits = n.to_string();
    if lang == Lang::Zh {
        return digits;
    }
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time of day in UTC, with the date where it is not the day of `reference`, with the year where that differs.
///
/// Nothing before 1971 is believed: a clock that nobody set says so instead of naming a wrong date.
pub fn moment(at: Wall, reference: Wall, lang: Lang) -> String {
    let known = (at >= limits::FIGURE_MOMENT_MIN).then(|| date(at)).flatten();
    let Some(t) = known else {
        return match lang {
            Lang::En => "an unknown time".into(),
            Lang::Zh => "未知时间".into(),
        };
    };
    let near = date(reference);
    let same_year = near.is_some_and(|r| r.year() == t.year());
    let same_day = same_year && near.is_some_and(|r| r.ordinal() == t.ordinal());
    let (hour, minute, day, month, year) = (t.hour(), t.minute(), t.day(), u8::from(t.month()), t.year());
    let time = format!("{hour:02}:{minute:02}");
    match (lang, same_day, same_year) {
        (Lang::En, true, _) => format!("{time} UTC"),
        (Lang::En, _, true) => format!("{time} UTC on {day} {}", month_name(month)),
        (Lang::En, ..) => format!("{time} UTC on {day} {} {year}", month_name(month)),
        (Lang::Zh, true, _) => format!("{time} UTC"),
        (Lang::Zh, _, true) => format!("{month}月{day}日{time} UTC"),
        (Lang::Zh, ..) => format!("{year}年{month}月{day}日{time} UTC"),
    }
}

/// A name fit for a sentence: one line, no brackets that could pass for a citation, bounded; empty if nothing is left.
pub fn plain(name: &str) -> String {
    let mut text = String::with_capacity(name.len().min(limits::FIGURE_NAME_CHARS_MAX * 4));
    for c in name.trim().chars().take(limits::FIGURE_NAME_CHARS_MAX) {
        text.push(match c {
            '[' | '{' => '(',
            ']' | '}' => ')',
            c if c.is_control() || c.is_whitespace() => ' ',
            c => c,
        });
    }
    text.trim().to_owned()
}

#[derive(Clone, Copy)]
enum Span {
    Second,
    Minute,
    Hour,
    Day,
}

impl Span {
    fn say(self, n: u64, lang: Lang) -> String {
        let (one, many, zh) = match self {
            Span::Second => ("second", "seconds", "秒"),
            Span::Minute => ("minute", "minutes", "分钟"),
            Span::Hour => ("hour", "hours", "小时"),
            Span::Day => ("day", "days", "天"),
        };
        match lang {
            Lang::En => format!("{} {}", count(n, lang), if n == 1 { one } else { many }),
            Lang::Zh => format!("{n}{zh}"),
        }
    }
}

fn date(at: Wall) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(at.0.div_euclid(1_000_000)).ok()
}

fn month_name(month: u8) -> &'static str {
    let index = usize::from(month.saturating_sub(1)).min(MONTHS.len() - 1);
    MONTHS[index]
}

fn power_of_ten(x: f64, decimals: usize) -> String {
    let text = format!("{x:.decimals$e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => format!("{}e{exponent}", trimmed(mantissa.to_owned())),
        None => text,
    }
}

fn trimmed(mut text: String) -> String {
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    if text == "-0" { "0".into() } else { text }
}

fn scale(x: f64) -> (f64, &'static str) {
    match x.abs() {
        s if s >= 1e12 => (x / 1e12, "T"),
        s if s >= 1e9 => (x / 1e9, "G"),
        s if s >= 1e6 => (x / 1e6, "M"),
        s if s >= 1e3 => (x / 1e3, "k"),
        _ => (x, ""),
    }
}

fn starts_tight(symbol: &str) -> bool {
    symbol.is_empty() || symbol.starts_with(['%', '/', '转'])
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_keeps_the_digits_that_matter() {
        let said: Vec<String> = [0.0, -0.0, 71.34, 7.126, 132.4, 2950.4, 0.0421, 3.2e-6, 1.5e15, -4.0]
            .map(|x| number(x, 0))
            .into();
        assert_eq!(said, ["0", "0", "71.3", "7.13", "132.4", "2950", "0.0421", "3.2e-6", "1.5e15", "-4"]);
    }

    #[test]
    fn values_that_differ_look_different() {
        let extra = decimals_to_tell_apart(&[80.0, 80.04, 71.0]);
        assert_eq!((number(80.0, extra), number(80.04, extra)), ("80".into(), "80.04".into()));
        assert_eq!(decimals_to_tell_apart(&[5.0, 5.0, 6.0]), 0);
    }

    #[test]
    fn units_are_written_as_people_write_them() {
        let say = |x, unit: &str, q, lang| with_unit(x, 0, &Unit(unit.into()), q, lang);
        assert_eq!(say(81.52, "Cel", Quantity::Temperature, Lang::En), "81.5 °C");
        assert_eq!(say(97.0, "%", Quantity::Disk, Lang::Zh), "97%");
        assert_eq!(say(1.53e9, "By/s", Quantity::Network, Lang::En), "1.53 GB/s");
        assert_eq!(say(2950.0, "/min", Quantity::Speed, Lang::En), "2950 rpm");
        assert_eq!(say(2950.0, "/min", Quantity::Speed, Lang::Zh), "2950转/分");
        assert_eq!(say(3.0, "", Quantity::Count, Lang::En), "3");
    }

    #[test]
    fn durations_are_words_of_the_language() {
        let en: Vec<String> =
            [0, 1, 41, 61, 600, 3600, 11_100, 187_200].map(|s| duration(s, Lang::En)).into();
        let want = [
            "less than a second",
            "1 second",
            "41 seconds",
            "1 minute 1 second",
            "10 minutes",
            "1 hour",
            "3 hours 5 minutes",
            "2 days 4 hours",
        ];
        assert_eq!(en, want);
        assert_eq!(duration(187_200, Lang::Zh), "2天4小时");
        assert_eq!(duration(u64::MAX, Lang::Zh), "213503982334601天7小时");
    }

    #[test]
    fn counts_are_grouped_in_english_only() {
        assert_eq!(count(1_234_567, Lang::En), "1,234,567");
        assert_eq!(count(999, Lang::En), "999");
        assert_eq!(count(1_234_567, Lang::Zh), "1234567");
    }

    #[test]
    fn a_moment_names_the_date_only_where_it_differs() {
        let reference = Wall::from_secs(1_783_000_000); // 2026-07-02T13:46:40Z
        assert_eq!(moment(Wall::from_secs(1_782_990_000), reference, Lang::En), "11:00 UTC");
        assert_eq!(moment(Wall::from_secs(1_782_900_000), reference, Lang::En), "10:00 UTC on 1 Jul");
        assert_eq!(moment(Wall::from_secs(1_782_900_000), reference, Lang::Zh), "7月1日10:00 UTC");
        assert_eq!(moment(Wall::from_secs(1_400_000_000), reference, Lang::En), "16:53 UTC on 13 May 2014");
        assert_eq!(moment(Wall::from_secs(60), reference, Lang::En), "an unknown time");
        assert_eq!(moment(Wall(i64::MAX), Wall(i64::MIN), Lang::Zh), "未知时间");
    }

    #[test]
    fn a_name_can_not_pass_for_a_citation_or_break_a_line() {
        assert_eq!(plain(" pump\n1 [alarm:1-2] "), "pump 1 (alarm:1-2)");
        assert_eq!(plain(&"x".repeat(500)).len(), limits::FIGURE_NAME_CHARS_MAX);
        assert_eq!(plain("\t"), "");
    }
}
