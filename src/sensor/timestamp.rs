//! Times as recordings and devices write them: RFC 3339, its everyday relatives, Unix time in any of four units.

use crate::time::Wall;

/// The time that `text` stands for, or nothing.
///
/// Taken are `YYYY-MM-DD`, `YYYY-MM-DD HH:MM[:SS[.fff]]` with a space, `T` or `t` between and an optional `Z` or
/// `+HH:MM` behind (UTC when absent), and Unix time as [`from_unix`] reads it.
pub fn parse(text: &str) -> Option<Wall> {
    let text = text.trim();
    calendar(text.as_bytes()).or_else(|| unix_text(text))
}

/// Like [`parse`], but takes a bare number only from 2001-09-09 on, so that a measurement isn't mistaken for a time.
pub fn parse_unmistakable(text: &str) -> Option<Wall> {
    let text = text.trim();
    calendar(text.as_bytes())
        .or_else(|| unix_text(text).filter(|_| text.parse().is_ok_and(|x: f64| x >= 1e9)))
}

/// Unix time whose unit shows in its size: below 10^11 seconds, below 10^14 milliseconds, below 10^17 microseconds,
/// nanoseconds beyond. Right for every time between 1973 and 5138 that is not written in seconds, and for all seconds.
pub fn from_unix(n: i64) -> Wall {
    match n.unsigned_abs() {
        ..SECONDS_END => Wall(n * 1_000_000),
        SECONDS_END..MILLIS_END => Wall(n * 1000),
        MILLIS_END..MICROS_END => Wall(n),
        _ => Wall(n.div_euclid(1000)),
    }
}

/// [`from_unix`] for a number with a fraction; microseconds are what remains of it.
pub fn from_unix_f64(x: f64) -> Option<Wall> {
    let micros = match x.abs() {
        a if a < SECONDS_END as f64 => x * 1e6,
        a if a < MILLIS_END as f64 => x * 1e3,
        a if a < MICROS_END as f64 => x,
        _ => x / 1e3,
    };
    // Beyond this a float no longer names a microsecond, and no calendar reaches.
    (micros.abs() < 9e18).then_some(Wall(micros.round() as i64))
}

const SECONDS_END: u64 = 100_000_000_000;
const MILLIS_END: u64 = 100_000_000_000_000;
const MICROS_END: u64 = 100_000_000_000_000_000;

fn unix_text(text: &str) -> Option<Wall> {
    if !text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) {
        return None;
    }
    match text.parse::<i64>() {
        Ok(n) => Some(from_unix(n)),
        Err(_) => text.parse::<f64>().ok().and_then(from_unix_f64),
    }
}

fn calendar(b: &[u8]) -> Option<Wall> {
    let (date, rest) = b.split_at_checked(10)?;
    if date[4] != b'-' || date[7] != b'-' {
        return None;
    }
    let (year, month, day) = (digits(&date[..4])?, digits(&date[5..7])?, digits(&date[8..])?);
    if !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    let micros = match rest {
        [] => 0,
        [b' ' | b'T' | b't', clock @ ..] => time_of_day(clock)?,
        _ => return None,
    };
    Some(Wall(days_since_1970(year, month, day) * 86_400_000_000 + micros))
}

/// `HH:MM[:SS[.fff]]` and an optional offset, in microseconds since midnight UTC.
fn time_of_day(b: &[u8]) -> Option<i64> {
    let (hh_mm, mut rest) = b.split_at_checked(5)?;
    let (hour, minute) = (digits(&hh_mm[..2])?, digits(&hh_mm[3..])?);
    if hh_mm[2] != b':' || hour > 23 || minute > 59 {
        return None;
    }
    let mut micros = (hour * 60 + minute) * 60_000_000;
    if let [b':', s1, s0, tail @ ..] = rest {
        let second = digits(&[*s1, *s0])?;
        // 60 is a leap second.
        if second > 60 {
            return None;
        }
        micros += second * 1_000_000;
        rest = tail;
        if let [b'.' | b',', tail @ ..] = rest {
            let len = tail.iter().take_while(|b| b.is_ascii_digit()).count();
            let kept = len.min(6);
            micros += digits(&tail[..kept])? * 10_i64.pow(6 - kept as u32);
            rest = &tail[len..];
        }
    }
    Some(micros - offset(rest.trim_ascii_start())?)
}

/// `Z`, nothing, `+HH:MM`, `+HHMM` or `+HH`, in microseconds.
fn offset(b: &[u8]) -> Option<i64> {
    let (sign, rest) = match b {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match rest {
        [h1, h0] => (digits(&[*h1, *h0])?, 0),
        [h1, h0, b':', m1, m0] | [h1, h0, m1, m0] => (digits(&[*h1, *h0])?, digits(&[*m1, *m0])?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000_000)
}

/// One to nine decimal digits.
fn digits(b: &[u8]) -> Option<i64> {
    let ok = (1..=9).contains(&b.len()) && b.iter().all(u8::is_ascii_digit);
    ok.then(|| b.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0')))
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms").
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(text: &str) -> Option<String> {
        parse(text).map(Wall::rfc3339)
    }

    #[test]
    fn the_everyday_spellings_of_one_instant_agree() {
        for text in [
            "2014-04-01T00:05:00Z",
            "2014-04-01 00:05:00",
            "2014-04-01 00:05",
            " 2014-04-01T02:05:00.000+02:00 ",
            "2014-03-31 20:05:00 -0400",
            "1396310700",
            "1396310700.0",
            "1396310700000",
            "1396310700000000",
            "1396310700000000000",
        ] {
            assert_eq!(said(text).as_deref(), Some("2014-04-01T00:05:00.000Z"), "{text}");
        }
    }

    #[test]
    fn fractions_are_kept_to_the_microsecond() {
        assert_eq!(parse("1970-01-01T00:00:01.5"), Some(Wall(1_500_000)));
        assert_eq!(parse("1970-01-01 00:00:00.1234567"), Some(Wall(123_456)));
        assert_eq!(parse("1700000000.25"), Some(Wall(1_700_000_000_250_000)));
    }

    #[test]
    fn days_that_do_not_exist_are_refused() {
        for text in
            ["2023-02-29", "2024-13-01", "2024-00-10", "2024-04-31", "2024-04-01 24:00:00", "2024-04-01 1:00"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert!(parse("2024-02-29").is_some());
    }

    #[test]
    fn a_measurement_is_not_mistaken_for_a_time() {
        assert_eq!(parse_unmistakable("20.5"), None);
        assert!(parse_unmistakable("1396310700").is_some());
        assert!(parse_unmistakable("2014-04-01").is_some());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}", shaped in "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.+Zé-]{0,14}") {
            let _ = (parse(&text), parse(&shaped));
        }

        #[test]
        fn every_printed_time_is_read_back(micros in -60_000_000_000_000_000_i64..250_000_000_000_000_000) {
            let at = Wall(micros - micros.rem_euclid(1000));
            prop_assert_eq!(parse(&at.rfc3339()), Some(at));
        }

        #[test]
        fn any_integer_is_some_time(n in any::<i64>(), x in any::<f64>()) {
            let _ = (from_unix(n), from_unix_f64(x));
        }
    }
}
