//! Lines into readings: which form a line has, which channel it speaks of, when.
//!
//! | line begins with | form |
//! |---|---|
//! | `{` or `[` | JSON: `{"channel":"x","value":1.2,"ts":..,"unit":"Cel"}`, or flat `{"ts":..,"a.x":1,"a.y":2}` |
//! | `#`, or nothing | a comment, skipped |
//! | anything else | Influx line protocol |
//!
//! A line is taken whole or refused whole. Times are read as [`super::super::timestamp`] describes; a line without one
//! is as old as its arrival. Texts and nested values where a number belongs are ignored and counted, `"NaN"` and
//! `"inf"` excepted. Of equal keys in the channel form the last one counts.

use std::collections::HashMap;

use super::json::{self, Member, Scalar};
use super::{Malformed, Precision, influx};
use crate::limits;
use crate::reading::{ChannelId, ChannelInfo, NoData, Reading, Value, value_from_f64};
use crate::sensor::{names, timestamp};
use crate::time::Wall;

/// Understands lines and remembers the channels they speak of, at most [`limits::CHANNELS_MAX`].
#[derive(Debug, Default)]
pub struct LineParser {
    precision: Precision,
    channels: Channels,
    /// Spellings in line protocol, `series LF field`, a cache over composing the name.
    influx_names: HashMap<Box<str>, usize>,
    /// The spelling being looked up; kept for its memory.
    spelling: String,
    ignored: u64,
}

impl LineParser {
    /// `precision` is the unit of times in line protocol; JSON times show their unit by their size.
    pub fn new(precision: Precision) -> Self {
        Self { precision, ..Self::default() }
    }

    /// Appends the readings of `line` to `out`; `arrival` dates those that bear no time.
    ///
    /// Errors: the sender's fault; nothing of the line was taken.
    pub fn parse(&mut self, line: &[u8], arrival: Wall, out: &mut Vec<Reading>) -> Result<(), Malformed> {
        let before = out.len();
        let result = match line.trim_ascii_start().first() {
            None | Some(b'#') => Ok(()),
            Some(b'{' | b'[') => json::objects(line, |members| self.object(members, arrival, out)),
            Some(_) => self.influx(line.trim_ascii_start(), arrival, out),
        };
        if result.is_err() {
            out.truncate(before);
        }
        result
    }

    /// Descriptions of channels that are new or have changed since the last call.
    pub fn take_infos(&mut self) -> Vec<ChannelInfo> {
        std::mem::take(&mut self.channels.news)
    }

    /// Texts and nested values that were passed over so far.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    fn object(
        &mut self,
        members: &[Member<'_>],
        arrival: Wall,
        out: &mut Vec<Reading>,
    ) -> Result<(), Malformed> {
        let mut at = arrival;
        let (mut channel, mut value, mut unit) = (None, None, None);
        for Member { key, value: scalar } in members {
            match (key.as_ref(), scalar) {
                ("channel", Scalar::Text(name)) => channel = Some(name.as_ref()),
                ("value", scalar) => value = Some(scalar),
                ("unit", Scalar::Text(text)) => unit = Some(text.as_ref()),
                (key, scalar) if is_time_key(key) => at = json_time(scalar, arrival)?,
                _ => {}
            }
        }
        let Some(channel) = channel else { return self.flat(members, at, out) };
        let Some(value) = value.ok_or(Malformed::NoValue)?.reading_value() else {
            self.ignored += 1;
            return Ok(());
        };
        let channel = self.channels.named(channel, unit)?;
        out.push(Reading::new(channel, at, value));
        Ok(())
    }

    fn flat(&mut self, members: &[Member<'_>], at: Wall, out: &mut Vec<Reading>) -> Result<(), Malformed> {
        for Member { key, value } in members.iter().filter(|m| !is_time_key(&m.key)) {
            match value.reading_value() {
                Some(value) => out.push(Reading::new(self.channels.named(key, None)?, at, value)),
                None => self.ignored += 1,
            }
        }
        Ok(())
    }

    fn influx(&mut self, line: &[u8], arrival: Wall, out: &mut Vec<Reading>) -> Result<(), Malformed> {
        let line = std::str::from_utf8(line).map_err(|_| Malformed::Influx)?;
        let parts = influx::split(line)?;
        let at = match parts.time {
            Some(n) => self.precision.wall(n).ok_or(Malformed::Time)?,
            None => arrival,
        };
        influx::fields(parts.fields, |key, value| {
            match value {
                Some(value) => {
                    let channel = self.influx_channel(parts.series, key)?;
                    out.push(Reading::new(channel, at, value_from_f64(value)));
                }
                None => self.ignored += 1,
            }
            Ok(())
        })
    }

    fn influx_channel(&mut self, series: &str, field: &str) -> Result<ChannelId, Malformed> {
        self.spelling.clear();
        self.spelling.extend([series, "\n", field]);
        if let Some(&index) = self.influx_names.get(self.spelling.as_str()) {
            return Ok(self.channels.known[index].id.clone());
        }
        let index = self.channels.index(&influx::channel_name(series, field)?)?;
        if self.spelling.len() <= limits::LINE_ALIAS_BYTES_MAX {
            if self.influx_names.len() >= limits::LINE_ALIASES_MAX {
                self.influx_names.clear();
            }
            self.influx_names.insert(self.spelling.as_str().into(), index);
        }
        Ok(self.channels.known[index].id.clone())
    }
}

/// The channels of one source.
#[derive(Debug, Default)]
struct Channels {
    by_name: HashMap<Box<str>, usize>,
    known: Vec<Known>,
    news: Vec<ChannelInfo>,
}

#[derive(Debug)]
struct Known {
    id: ChannelId,
    unit: Option<Box<str>>,
}

impl Channels {
    /// The channel that the source calls `raw`, with the unit it gives, if it gives one.
    fn named(&mut self, raw: &str, unit: Option<&str>) -> Result<ChannelId, Malformed> {
        let index = self.index(raw)?;
        let known = &mut self.known[index];
        if unit.is_some() && known.unit.as_deref() != unit {
            let unit = unit.filter(|u| u.len() <= limits::UNIT_BYTES_MAX).ok_or(Malformed::Unit)?;
            known.unit = Some(unit.into());
            let id = known.id.clone();
            self.announce(names::described(&id, raw, Some(unit)));
        }
        Ok(self.known[index].id.clone())
    }

    fn index(&mut self, raw: &str) -> Result<usize, Malformed> {
        if let Some(&index) = self.by_name.get(raw) {
            return Ok(index);
        }
        if raw.len() > limits::CHANNEL_NAME_BYTES_MAX {
            return Err(Malformed::Name);
        }
        if self.known.len() >= limits::CHANNELS_MAX {
            return Err(Malformed::TooManyChannels);
        }
        let id = names::channel(raw).map_err(|_| Malformed::Name)?;
        self.announce(names::described(&id, raw, None));
        self.known.push(Known { id, unit: None });
        self.by_name.insert(raw.into(), self.known.len() - 1);
        Ok(self.known.len() - 1)
    }

    /// Keeps the newest description of a channel only, so that a unit that changes with every line stays bounded.
    fn announce(&mut self, info: ChannelInfo) {
        match self.news.iter_mut().find(|old| old.id == info.id) {
            Some(old) => *old = info,
            None => self.news.push(info),
        }
    }
}

impl Scalar<'_> {
    /// As a reading; nothing if it is no number by nature.
    fn reading_value(&self) -> Option<Value> {
        match self {
            Scalar::Number(number) => Some(value_from_f64(number.value)),
            Scalar::Flag(flag) => Some(Ok(f64::from(u8::from(*flag)))),
            Scalar::Null => Some(Err(NoData::Null)),
            Scalar::Text(text) => no_number(text).map(Err),
            Scalar::Nested => None,
        }
    }
}

/// The reason that a text such as `NaN` or `-inf` stands for.
fn no_number(text: &str) -> Option<NoData> {
    // All words for it have this letter and no numeral has; a numeral that overflows is a text like any other.
    let is_word = text.contains(['n', 'N']);
    text.parse().ok().filter(|_| is_word).and_then(|x| value_from_f64(x).err())
}

fn is_time_key(key: &str) -> bool {
    matches!(key, "ts" | "time" | "timestamp")
}

fn json_time(scalar: &Scalar<'_>, arrival: Wall) -> Result<Wall, Malformed> {
    let at = match scalar {
        Scalar::Null => Some(arrival),
        Scalar::Text(text) => timestamp::parse(text),
        Scalar::Number(number) => {
            number.integer.map(timestamp::from_unix).or_else(|| timestamp::from_unix_f64(number.value))
        }
        Scalar::Flag(_) | Scalar::Nested => None,
    };
    at.ok_or(Malformed::Time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ARRIVAL: Wall = Wall::from_secs(1_800_000_000);

    fn parse(line: &str) -> Result<Vec<(String, i64, Value)>, Malformed> {
        let mut out = Vec::new();
        LineParser::default().parse(line.as_bytes(), ARRIVAL, &mut out)?;
        Ok(out.into_iter().map(|r| (r.channel.to_string(), r.at.0, r.value)).collect())
    }

    fn one(name: &str, at: i64, value: Value) -> Vec<(String, i64, Value)> {
        vec![(name.into(), at, value)]
    }

    #[test]
    fn the_three_forms_of_one_reading_agree() {
        let expected = one("pump1.temp", 1_700_000_000_000_000, Ok(61.25));
        for line in [
            r#"{"channel":"pump1.temp","value":61.25,"ts":1700000000}"#,
            r#"{"unit":"Cel","ts":1700000000000,"value":6125e-2,"channel":"pump1\u002etemp"}"#,
            r#"{"ts":"2023-11-14T22:13:20Z","pump1.temp":61.25}"#,
            r#" [{"time":1700000000.0,"pump1.temp":61.25}] "#,
            "pump1 temp=61.25 1700000000000000000",
        ] {
            assert_eq!(parse(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn a_line_without_a_time_is_as_old_as_its_arrival() {
        assert_eq!(parse(r#"{"channel":"x","value":1}"#).unwrap(), one("x", ARRIVAL.0, Ok(1.0)));
        assert_eq!(parse("m x=1").unwrap(), one("m.x", ARRIVAL.0, Ok(1.0)));
    }

    #[test]
    fn a_value_that_is_missing_keeps_its_reason() {
        for (text, reason) in [
            ("null", NoData::Null),
            ("NaN", NoData::NotANumber),
            ("\"nan\"", NoData::NotANumber),
            ("\"-inf\"", NoData::Infinite),
            ("1e999", NoData::Infinite),
        ] {
            let line = format!("{{\"channel\":\"x\",\"value\":{text}}}");
            assert_eq!(parse(&line).unwrap(), one("x", ARRIVAL.0, Err(reason)), "{line}");
        }
        assert_eq!(parse("m x=NaN").unwrap(), one("m.x", ARRIVAL.0, Err(NoData::NotANumber)));
    }

    #[test]
    fn a_malformed_line_says_why_and_leaves_nothing_behind() {
        for (line, why) in [
            (r#"{"channel":"x"}"#, Malformed::NoValue),
            (r#"{"channel":"","value":1}"#, Malformed::Name),
            (r#"{"a":1,"ts":"yesterday"}"#, Malformed::Time),
            (r#"[{"a":1},{"b":2"#, Malformed::Json),
            (r#"[{"a":1},7]"#, Malformed::Json),
            (r#"{"channel":"x","value":1,"unit":"a unit without end"}"#, Malformed::Unit),
            ("m x=1,y=2z", Malformed::Number),
            ("garbage", Malformed::Influx),
        ] {
            let mut out = Vec::new();
            let result = LineParser::default().parse(line.as_bytes(), ARRIVAL, &mut out);
            assert_eq!((result, out.len()), (Err(why), 0), "{line}");
        }
    }

    #[test]
    fn texts_among_the_fields_are_ignored_and_counted() {
        let (mut parser, mut out) = (LineParser::default(), Vec::new());
        parser.parse(br#"{"device":"p","a":1,"list":[1]}"#, ARRIVAL, &mut out).unwrap();
        parser.parse(br#"m x=1,note="hi""#, ARRIVAL, &mut out).unwrap();
        parser.parse(b"# a comment", ARRIVAL, &mut out).unwrap();
        assert_eq!((out.len(), parser.ignored()), (2, 3));
    }

    #[test]
    fn a_channel_is_described_once_and_again_when_its_unit_changes() {
        let (mut parser, mut out) = (LineParser::default(), Vec::new());
        let mut units = |line: &str| {
            parser.parse(line.as_bytes(), ARRIVAL, &mut out).unwrap();
            parser.take_infos().into_iter().map(|i| i.unit.0).collect::<Vec<_>>()
        };
        assert_eq!(units(r#"{"channel":"p.temp","value":1}"#), ["Cel"]);
        assert_eq!(units(r#"{"channel":"p.temp","value":1,"unit":"K"}"#), ["K"]);
        assert_eq!(units(r#"{"channel":"p.temp","value":1,"unit":"K"}"#), Vec::<String>::new());
    }

    #[test]
    fn channels_are_bounded_and_the_known_ones_keep_working() {
        let (mut parser, mut out) = (LineParser::default(), Vec::new());
        for n in 0..limits::CHANNELS_MAX {
            parser.parse(format!("m c{n}=1").as_bytes(), ARRIVAL, &mut out).unwrap();
        }
        let result = parser.parse(b"{\"fresh\":1}", ARRIVAL, &mut out);
        assert_eq!(result, Err(Malformed::TooManyChannels));
        assert_eq!(parser.parse(b"{\"m.c7\":1}", ARRIVAL, &mut out), Ok(()));
    }

    #[test]
    fn line_protocol_times_have_the_configured_precision() {
        for (precision, text) in
            [(Precision::Seconds, "5"), (Precision::Millis, "5000"), (Precision::Nanos, "5000000000")]
        {
            let mut out = Vec::new();
            LineParser::new(precision).parse(format!("m x=1 {text}").as_bytes(), ARRIVAL, &mut out).unwrap();
            assert_eq!(out[0].at, Wall::from_secs(5));
        }
        let mut out = Vec::new();
        let huge = LineParser::new(Precision::Seconds).parse(b"m x=1 9223372036854775807", ARRIVAL, &mut out);
        assert_eq!(huge, Err(Malformed::Time));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), shaped in "[{\\[]?(\"(ts|channel|value|unit|a)\":?|[0-9ntf\"]|[,}=\\] ]){0,12}") {
            let (mut parser, mut out) = (LineParser::default(), Vec::new());
            for line in [&bytes, shaped.as_bytes()] {
                let before = out.len();
                if parser.parse(line, ARRIVAL, &mut out).is_err() {
                    prop_assert_eq!(out.len(), before);
                }
            }
            prop_assert!(out.iter().all(|r| r.value.is_ok_and(f64::is_finite) || r.value.is_err()));
        }
    }
}
