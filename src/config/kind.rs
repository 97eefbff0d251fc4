//! The kinds of values a key may take, their ranges, and how people write them: `30 s`, `64 MiB`, `127.0.0.1:9750`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use toml::de::DeValue;

use crate::limits;
use crate::reading::ChannelId;

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number, both ends included.
    Integer { min: i64, max: i64 },
    /// A finite number, both ends included.
    Number { min: f64, max: f64 },
    /// A length of time in milliseconds, both ends included, written as text: `30 s`.
    Time { min_ms: u64, max_ms: u64 },
    /// A size in bytes, both ends included, written as text: `64 MiB`.
    Size { min: u64, max: u64 },
    /// Text of a bounded length in bytes, without control characters.
    Text { min: usize, max: usize },
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Name of a device or a group: a level of an MQTT topic.
    Name,
    /// An MQTT topic prefix: levels without wildcards.
    Topic,
    /// A path; relative ones count from the folder of the file.
    Path,
    /// A list of paths.
    Paths,
    /// A list of channels by name, each once.
    Channels,
    /// A list of texts, none of them empty.
    Texts,
    /// An IP address with a port.
    Address,
    /// Points of a curve: a list of pairs, rising in their first numbers.
    Points,
}

/// A value that is of its key's kind and in its range.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Flag(bool),
    Integer(i64),
    Number(f64),
    Time(Duration),
    Size(u64),
    Text(String),
    Texts(Vec<String>),
    Address(SocketAddr),
    Points(Vec<(f64, f64)>),
}

impl Kind {
    /// Sorts a written value into a checked one; `None` when it is of another kind or out of range.
    pub fn read(&self, value: &DeValue<'_>) -> Option<Value> {
        match (*self, value) {
            (Kind::Flag, DeValue::Boolean(b)) => Some(Value::Flag(*b)),
            (Kind::Integer { min, max }, DeValue::Integer(_)) => {
                integer(value).filter(|n| (min..=max).contains(n)).map(Value::Integer)
            }
            (Kind::Number { min, max }, DeValue::Integer(_) | DeValue::Float(_)) => {
                number(value).filter(|n| (min..=max).contains(n)).map(Value::Number)
            }
            (Kind::Paths, DeValue::Array(list)) => {
                let paths: Option<Vec<String>> = list.iter().map(|v| path(v.get_ref().as_str()?)).collect();
                paths.filter(|p| (1..=limits::CONFIG_LIST_MAX).contains(&p.len())).map(Value::Texts)
            }
            (Kind::Points, DeValue::Array(list)) => {
                let points: Option<Vec<_>> = list.iter().map(|v| point(v.get_ref())).collect();
                points.filter(|p| is_curve(p)).map(Value::Points)
            }
            (Kind::Channels, DeValue::Array(list)) => {
                let names: Option<Vec<&str>> = list.iter().map(|v| v.get_ref().as_str()).collect();
                names.and_then(|names| channels(&names))
            }
            (Kind::Channels, DeValue::String(s)) => channels(&[&**s]),
            (Kind::Texts, DeValue::Array(list)) => {
                let sound =
                    |s: &str| !s.is_empty() && !s.contains('\0') && s.len() <= limits::CONFIG_PATH_BYTES_MAX;
                let texts = list.iter().map(|v| v.get_ref().as_str().filter(|s| sound(s)).map(str::to_owned));
                let texts: Option<Vec<String>> = texts.collect();
                texts.filter(|t| (1..=limits::CONFIG_LIST_MAX).contains(&t.len())).map(Value::Texts)
            }
            (Kind::Paths, DeValue::String(s)) => path(s).map(|p| Value::Texts(vec![p])),
            (_, DeValue::String(s)) => self.read_text(s),
            _ => None,
        }
    }

    fn read_text(&self, s: &str) -> Option<Value> {
        let text = |ok: bool| ok.then(|| Value::Text(s.to_owned()));
        match *self {
            Kind::Time { min_ms, max_ms } => parse_duration(s)
                .filter(|d| (u128::from(min_ms)..=u128::from(max_ms)).contains(&d.as_millis()))
                .map(Value::Time),
            Kind::Size { min, max } => parse_bytes(s).filter(|n| (min..=max).contains(n)).map(Value::Size),
            Kind::Text { min, max } => {
                text((min..=max).contains(&s.len()) && !s.chars().any(char::is_control))
            }
            Kind::OneOf(words) => text(words.contains(&s)),
            Kind::Name => text(is_name(s)),
            Kind::Topic => text(is_topic(s)),
            Kind::Path => path(s).map(Value::Text),
            Kind::Address => s.parse::<SocketAddr>().ok().map(Value::Address),
            Kind::Flag
            | Kind::Integer { .. }
            | Kind::Number { .. }
            | Kind::Paths
            | Kind::Points
            | Kind::Texts
            | Kind::Channels => None,
        }
    }

    /// What is allowed, in words: the right half of every error and a column of the reference.
    pub fn allowed(&self) -> String {
        match *self {
            Kind::Flag => "true or false".into(),
            Kind::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Kind::Number { min, max } if min == f64::MIN && max == f64::MAX => "a number".into(),
            Kind::Number { min, max: f64::MAX } => format!("a number, {min} or more"),
            Kind::Number { min, max } => format!("a number from {min} to {max}"),
            Kind::Time { min_ms, max_ms } => format!(
                "a time from \"{}\" to \"{}\"",
                duration_text(Duration::from_millis(min_ms)),
                duration_text(Duration::from_millis(max_ms))
            ),
            Kind::Size { min, max } => {
                format!("a size from \"{}\" to \"{}\"", bytes_text(min), bytes_text(max))
            }
            Kind::Text { min: 0, max } => format!("text of at most {max} bytes"),
            Kind::Text { min, max } => format!("text of {min} to {max} bytes"),
            Kind::OneOf(words) => words.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(" or "),
            Kind::Name => format!("1 to {} characters of A-Z a-z 0-9 _ - .", limits::DEVICE_NAME_BYTES_MAX),
            Kind::Topic => format!(
                "1 to {} characters; levels parted by single slashes, without + # $ and spaces",
                limits::TOPIC_PREFIX_BYTES_MAX
            ),
            Kind::Path => "a path".into(),
            Kind::Paths => format!("a path, or a list of 1 to {} paths", limits::CONFIG_LIST_MAX),
            Kind::Points => {
                format!("a list of 2 to {} pairs, rising in their first numbers", limits::CONFIG_LIST_MAX)
            }
            Kind::Channels => format!(
                "a channel, or a list of 1 to {} channels, each once and without wildcards",
                limits::MODEL_CHANNELS_MAX
            ),
            Kind::Texts => format!("a list of 1 to {} texts", limits::CONFIG_LIST_MAX),
            Kind::Address => "an IP address with a port, such as \"127.0.0.1:9750\" or \"[::1]:9750\"".into(),
        }
    }
}

/// Whether `s` can be a device name, a level of every topic: `A-Z a-z 0-9 _ - .`, at most
/// [`limits::DEVICE_NAME_BYTES_MAX`] bytes.
pub fn is_name(s: &str) -> bool {
    (1..=limits::DEVICE_NAME_BYTES_MAX).contains(&s.len())
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

fn is_topic(s: &str) -> bool {
    (1..=limits::TOPIC_PREFIX_BYTES_MAX).contains(&s.len())
        && s.split('/').all(|level| !level.is_empty())
        && !s.starts_with('$')
        && s.bytes().all(|b| b.is_ascii_graphic() && b != b'+' && b != b'#')
}

fn path(s: &str) -> Option<String> {
    (s.len() <= limits::CONFIG_PATH_BYTES_MAX && !s.contains('\0')).then(|| s.to_owned())
}

fn point(value: &DeValue<'_>) -> Option<(f64, f64)> {
    match value.as_array()?.iter().map(|v| number(v.get_ref())).collect::<Option<Vec<f64>>>()?.as_slice() {
        [x, y] => Some((*x, *y)),
        _ => None,
    }
}

fn is_curve(points: &[(f64, f64)]) -> bool {
    (2..=limits::CONFIG_LIST_MAX).contains(&points.len())
        && points.windows(2).all(|pair| pair[0].0 < pair[1].0)
}

fn channels(names: &[&str]) -> Option<Value> {
    let sound = (1..=limits::MODEL_CHANNELS_MAX).contains(&names.len())
        && names.iter().all(|name| ChannelId::new(name).is_ok())
        && names.iter().collect::<BTreeSet<_>>().len() == names.len();
    sound.then(|| Value::Texts(names.iter().map(ToString::to_string).collect()))
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let n = value.as_integer()?;
    i64::from_str_radix(n.as_str(), n.radix()).ok()
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Float(f) => f.as_str().parse().ok().filter(|x: &f64| x.is_finite()),
        // Whole numbers beyond 2^53 lose their last digits, as everywhere in floating point.
        _ => integer(value).map(|n| n as f64),
    }
}

const MS_PER: &[(&str, u64)] =
    &[("ms", 1), ("s", 1000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const BYTES_PER: &[(&str, u64)] = &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// A length of time as people write it: a number, a space if liked, `ms`, `s`, `min`, `h` or `d`.
pub fn parse_duration(s: &str) -> Option<Duration> {
    scaled(s, MS_PER).map(Duration::from_millis)
}

/// A size as people write it: a number, a space if liked, `B`, `KiB`, `MiB` or `GiB`.
pub fn parse_bytes(s: &str) -> Option<u64> {
    scaled(s, BYTES_PER)
}

/// `d` in the largest unit that keeps it whole: `30 s`, `500 ms`; below a millisecond it is cut off.
pub fn duration_text(d: Duration) -> String {
    unscaled(u64::try_from(d.as_millis()).unwrap_or(u64::MAX), MS_PER, "s")
}

/// `n` bytes in the largest unit that keeps it whole: `64 MiB`.
pub fn bytes_text(n: u64) -> String {
    unscaled(n, BYTES_PER, "B")
}

fn scaled(s: &str, units: &[(&str, u64)]) -> Option<u64> {
    let s = s.trim();
    let digits = s.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = (s[..digits].parse::<u64>().ok()?, s[digits..].trim_start());
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    count.checked_mul(*factor)
}

fn unscaled(n: u64, units: &[(&str, u64)], zero: &str) -> String {
    let whole = units.iter().rev().find(|(_, factor)| n > 0 && n.is_multiple_of(*factor));
    whole.map_or_else(|| format!("0 {zero}"), |(name, factor)| format!("{} {name}", n / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_with_a_unit_and_nothing_else() {
        for (text, ms) in
            [("30 s", 30_000), ("500ms", 500), ("5min", 300_000), (" 2 h ", 7_200_000), ("1d", 86_400_000)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for bad in [
            "30",
            "s",
            "",
            "1.5 s",
            "-1 s",
            "1 m",
            "1 sec",
            "99999999999999999999 s",
            "18446744073709551615 d",
        ] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_size_is_written_in_powers_of_two() {
        assert_eq!(parse_bytes("64 MiB"), Some(64 << 20));
        assert_eq!(parse_bytes("64 MB"), None);
        assert_eq!(bytes_text(64 << 20), "64 MiB");
        assert_eq!(bytes_text(1500), "1500 B");
    }

    #[test]
    fn what_is_printed_can_be_read_back() {
        for ms in [0, 1, 999, 1000, 60_000, 90_000, 86_400_000] {
            let d = Duration::from_millis(ms);
            assert_eq!(parse_duration(&duration_text(d)), Some(d));
        }
        for n in [0, 1, 1023, 1024, 3 << 30] {
            assert_eq!(parse_bytes(&bytes_text(n)), Some(n));
        }
    }

    #[test]
    fn a_curve_is_a_list_of_pairs_that_rise() {
        let read = |text: &str| Kind::Points.read(DeValue::parse(text).unwrap().get_ref());
        assert_eq!(read("[[0, 1.5], [2, -3]]"), Some(Value::Points(vec![(0.0, 1.5), (2.0, -3.0)])));
        for bad in [
            "[]",
            "[[0, 1]]",
            "[[0, 1], [0, 2]]",
            "[[1, 1], [0, 2]]",
            "[[0], [1]]",
            "[[0, 1, 2], [1, 2, 3]]",
            "[0, 1]",
            "\"x\"",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_address_is_a_number_with_a_port_and_no_name() {
        let read = |s: &str| Kind::Address.read_text(s);
        assert!(read("127.0.0.1:9750").is_some() && read("[::1]:0").is_some());
        for bad in ["localhost:80", "127.0.0.1", ":80", "127.0.0.1:99999"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_topic_prefix_has_no_wildcard_and_no_empty_level() {
        assert!(is_topic("outpost/v1") && is_topic("a"));
        for bad in ["", "/a", "a/", "a//b", "a/+/b", "#", "$SYS/x", "a b", "ä"] {
            assert!(!is_topic(bad), "{bad}");
        }
    }
}
