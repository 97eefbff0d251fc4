//! What templates expect of Python: methods of strings and dictionaries, `tojson` with its options, `True` and `None`.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, escape_formatter};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

/// Teaches it.
pub(super) fn add(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(method);
    environment.add_filter("tojson", to_json);
    environment.set_formatter(|out, state, value| match value.kind() {
        ValueKind::Bool if value.is_true() => out.write_str("True").map_err(Error::from),
        ValueKind::Bool => out.write_str("False").map_err(Error::from),
        ValueKind::None => out.write_str("None").map_err(Error::from),
        _ => escape_formatter(out, state, value),
    });
}

fn method(_: &State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let found = match (value.as_str(), value.kind()) {
        (Some(text), _) => of_text(text, name, args)?,
        (None, ValueKind::Map) => of_map(value, name, args)?,
        _ => None,
    };
    found.ok_or_else(|| Error::new(ErrorKind::UnknownMethod, format!("no method {name}")))
}

fn of_text(text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let first = args.first().and_then(Value::as_str);
    let needed =
        || first.ok_or_else(|| Error::new(ErrorKind::MissingArgument, format!("{name} takes a text")));
    // Without an argument blanks are stripped, else any of its characters.
    let is_stripped = |c: char| first.map_or(c.is_whitespace(), |set| set.contains(c));
    Ok(Some(match name {
        "strip" => text.trim_matches(is_stripped).into(),
        "lstrip" => text.trim_start_matches(is_stripped).into(),
        "rstrip" => text.trim_end_matches(is_stripped).into(),
        "startswith" => text.starts_with(needed()?).into(),
        "endswith" => text.ends_with(needed()?).into(),
        "upper" => text.to_uppercase().into(),
        "lower" => text.to_lowercase().into(),
        "capitalize" => {
            let mut chars = text.chars();
            let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
            (first + &chars.as_str().to_lowercase()).into()
        }
        "replace" => {
            let to = args.get(1).and_then(Value::as_str).unwrap_or_default();
            text.replace(needed()?, to).into()
        }
        "find" => match text.find(needed()?) {
            Some(at) => text[..at].chars().count().into(),
            None => (-1).into(),
        },
        "count" => text.matches(needed()?).count().into(),
        "splitlines" => text.lines().map(Value::from).collect(),
        "split" => match first {
            Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "split at nothing")),
            Some(at) => {
                let most = args.get(1).and_then(|most| usize::try_from(most.clone()).ok());
                text.splitn(most.map_or(usize::MAX, |most| most.saturating_add(1)), at)
                    .map(Value::from)
                    .collect()
            }
            None => text.split_whitespace().map(Value::from).collect(),
        },
        "isdigit" => (!text.is_empty() && text.chars().all(char::is_numeric)).into(),
        _ => return Ok(None),
    }))
}

fn of_map(map: &Value, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let keys = || map.try_iter();
    Ok(Some(match name {
        "get" => {
            let key = args.first().ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
            match map.get_item(key)? {
                found if found.is_undefined() => args.get(1).cloned().unwrap_or(Value::from(())),
                found => found,
            }
        }
        "keys" => keys()?.collect(),
        "values" => keys()?.map(|key| map.get_item(&key)).collect::<Result<Value, Error>>()?,
        "items" => {
            let pair = |key: Value| Ok(Value::from(vec![key.clone(), map.get_item(&key)?]));
            keys()?.map(pair).collect::<Result<Value, Error>>()?
        }
        _ => return Ok(None),
    }))
}

/// `json.dumps` with the options that `transformers` lets through.
fn to_json(value: Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    let _: Option<Value> = options.get("sort_keys")?;
    let _: Option<Value> = options.get("separators")?;
    options.assert_all_used()?;
    let mut out = Vec::new();
    let done = match indent {
        Some(indent) => {
            let blanks = " ".repeat(indent.min(16));
            value.serialize(&mut Serializer::with_formatter(
                &mut out,
                PrettyFormatter::with_indent(blanks.as_bytes()),
            ))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut out, Spaced)),
    };
    done.map_err(|e| Error::new(ErrorKind::InvalidOperation, "no JSON").with_source(e))?;
    let text = String::from_utf8_lossy(&out).into_owned();
    Ok(Value::from(if ascii == Some(true) { escaped(&text) } else { text }))
}

/// Everything beyond ASCII as `\uXXXX`, but for the guard that keeps marks apart.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() || c == crate::glm::tokenizer::GUARD {
            out.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out
}

/// Python's blanks: behind a comma and behind a colon.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        CompactFormatter.begin_object_value(out)?;
        out.write_all(b" ")
    }
}
