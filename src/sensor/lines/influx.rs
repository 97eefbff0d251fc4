//! One line of Influx line protocol into its parts.
//!
//! ```text
//! measurement,tag=a,tag2=b field=1.2,other=3i,on=t,note="x, y" 1700000000000000000
//! |---------- series ----| |-------------- fields ---------| |------ time -----|
//! ```
//!
//! A channel is named `measurement.<tag values>.field`, tag values in the order of their tags' names, because the
//! order of writing means nothing in this protocol. A backslash takes the meaning from a comma, a space or an equals
//! sign in names and tags, and from a quote or a backslash in texts; before anything else it stands for itself.

use super::Malformed;
use super::number::{self, Number};
use crate::limits;

/// The three parts, still as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    pub(super) series: &'a str,
    pub(super) fields: &'a str,
    pub(super) time: Option<i64>,
}

/// Cuts a line at its unescaped spaces.
pub(super) fn split(line: &str) -> Result<Parts<'_>, Malformed> {
    let (series, rest) = cut(line, b' ', false).ok_or(Malformed::Influx)?;
    let rest = rest.trim_start_matches(' ');
    let (fields, time) = match cut(rest, b' ', true) {
        Some((fields, time)) => (fields, time.trim()),
        None => (rest.trim_end(), ""),
    };
    if series.is_empty() || series.starts_with(',') || fields.is_empty() {
        return Err(Malformed::Influx);
    }
    let time = match time {
        "" => None,
        text => Some(text.parse().map_err(|_| Malformed::Time)?),
    };
    Ok(Parts { series, fields, time })
}

/// Calls `each` with every field's key, as written, and its value; texts have none.
pub(super) fn fields<'a>(
    mut rest: &'a str,
    mut each: impl FnMut(&'a str, Option<f64>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    for _ in 0..limits::LINE_FIELDS_MAX {
        let (key, after) =
            cut(rest, b'=', false).filter(|(key, _)| !key.is_empty()).ok_or(Malformed::Influx)?;
        let (value, next) = cut(after, b',', true).map_or((after, None), |(value, next)| (value, Some(next)));
        each(key, field_value(value)?)?;
        match next {
            Some(next) => rest = next,
            None => return Ok(()),
        }
    }
    Err(Malformed::TooManyFields)
}

/// The channel's name before it is sanitised: `measurement.<tag values>.field`.
pub(super) fn channel_name(series: &str, field: &str) -> Result<String, Malformed> {
    let (measurement, mut rest) =
        cut(series, b',', false).map_or((series, None), |(m, rest)| (m, Some(rest)));
    let mut tags = Vec::new();
    while let Some(text) = rest {
        let (tag, next) = cut(text, b',', false).map_or((text, None), |(tag, next)| (tag, Some(next)));
        let (key, value) = cut(tag, b'=', false).ok_or(Malformed::Influx)?;
        if key.is_empty() || value.is_empty() || cut(value, b'=', false).is_some() {
            return Err(Malformed::Influx);
        }
        tags.push((unescaped(key), value));
        rest = next;
    }
    tags.sort();
    let mut name = unescaped(measurement);
    for part in tags.iter().map(|(_, value)| *value).chain([field]) {
        name.push('.');
        name.push_str(&unescaped(part));
    }
    Ok(name)
}

/// A float, `3i`, `3u`, a flag as 0 or 1, or nothing for a text.
fn field_value(text: &str) -> Result<Option<f64>, Malformed> {
    let bytes = text.as_bytes();
    if let Some((Number { value, .. }, end)) = number::scan(bytes) {
        match &bytes[end..] {
            [] => return Ok(Some(value)),
            [b'i' | b'u'] if bytes[..end].iter().all(|b| b.is_ascii_digit() || *b == b'-') => {
                return Ok(Some(value));
            }
            _ => {}
        }
    }
    match text {
        "t" | "T" | "true" | "True" | "TRUE" => Ok(Some(1.0)),
        "f" | "F" | "false" | "False" | "FALSE" => Ok(Some(0.0)),
        _ if bytes.len() >= 2
            && bytes.starts_with(b"\"")
            && closing_quote(bytes) == Some(bytes.len() - 1) =>
        {
            Ok(None)
        }
        // Spellings beyond JSON's: `+1`, `.5`, `1.`, `NaN`, `inf`.
        _ => text.parse().map(Some).map_err(|_| Malformed::Number),
    }
}

fn closing_quote(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return Some(at),
            _ => at += 1,
        }
    }
    None
}

/// Both sides of the first `at` that no backslash precedes and, if `quotes`, no text encloses.
fn cut(text: &str, at: u8, quotes: bool) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let (mut i, mut quoted) = (0, false);
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 1,
            b'"' if quotes => quoted = !quoted,
            // An ASCII byte is never part of a longer character, so both sides are whole.
            b if b == at && !quoted => return Some((&text[..i], &text[i + 1..])),
            _ => {}
        }
        i += 1;
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some(&next) if c == '\\' && matches!(next, ',' | ' ' | '=' | '\\') => {
                out.push(next);
                chars.next();
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(line: &str) -> Result<Vec<(String, Option<f64>)>, Malformed> {
        let parts = split(line)?;
        let mut seen = Vec::new();
        fields(parts.fields, |key, value| {
            seen.push((channel_name(parts.series, key)?, value));
            Ok(())
        })?;
        Ok(seen)
    }

    #[test]
    fn a_channel_is_named_by_measurement_sorted_tag_values_and_field() {
        let seen = read("pump,site=b,id=7 temp=61.5,starts=3i 1").unwrap();
        assert_eq!(seen, [("pump.7.b.temp".into(), Some(61.5)), ("pump.7.b.starts".into(), Some(3.0))]);
        assert_eq!(read("m x=1").unwrap()[0].0, "m.x");
    }

    #[test]
    fn every_type_of_the_protocol_is_known_and_texts_have_no_value() {
        let seen = read(r#"m a=-1.5e2,b=3i,c=4u,d=t,e=FALSE,f="x, \"y\" = z",g=.5"#).unwrap();
        let values: Vec<_> = seen.into_iter().map(|(_, v)| v).collect();
        assert_eq!(values, [Some(-150.0), Some(3.0), Some(4.0), Some(1.0), Some(0.0), None, Some(0.5)]);
    }

    #[test]
    fn a_backslash_takes_the_meaning_from_separators() {
        let seen = read(r"my\ pump\,big,t\=ag=a\ b fi\ eld=1").unwrap();
        assert_eq!(seen[0].0, "my pump,big.a b.fi eld");
    }

    #[test]
    fn spaces_inside_a_text_end_nothing() {
        let parts = split(r#"m a="one two",b=2 17"#).unwrap();
        assert_eq!((parts.fields, parts.time), (r#"a="one two",b=2"#, Some(17)));
    }

    #[test]
    fn what_is_not_line_protocol_is_refused() {
        for line in [
            "",
            "m",
            "m ",
            ",t=1 a=1",
            "m a",
            "m a=",
            "m a=1 x",
            "m a=1 2 3",
            "m a=1x",
            "m =1",
            "m a=1,",
            "m,t a=1",
            "m,t= a=1",
            "m a=\"x",
        ] {
            assert!(read(line).is_err(), "{line:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}", shaped in "[a-c\\\\,=\" 0-9.ietfé]{0,60}") {
            let _ = (read(&text), read(&shaped));
        }

        #[test]
        fn any_name_survives_being_escaped(name in "[a-z ,=é]{1,12}") {
            let written = name.replace(',', "\\,").replace(' ', "\\ ").replace('=', "\\=");
            let seen = read(&format!("{written},k={written} {written}=1")).unwrap();
            prop_assert_eq!(&seen[0].0, &format!("{name}.{name}.{name}"));
        }
    }
}
