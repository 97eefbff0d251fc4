//! Log lines to standard error: `2026-01-02T03:04:05.678Z INFO link_up broker=...`, or one JSON object per line.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::Fields;
use crate::clock;

/// Shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people: `time LEVEL name key=value`.
    Text,
    /// For machines: one JSON object per line.
    Json,
}

/// Sets shape and verbosity, and takes over the lines of libraries at `warn` and above. Later calls change the shape only.
pub fn init(format: Format, level: LevelFilter) {
    JSON.store(format == Format::Json, Ordering::Relaxed);
    // A second logger is refused by `log`; the first is this same one.
    let _ = log::set_logger(&Libraries);
    log::set_max_level(level);
}

static JSON: AtomicBool = AtomicBool::new(false);

pub(super) fn write(name: &str, level: Level, fill: impl FnOnce(&mut Fields<'_>)) {
    let json = JSON.load(Ordering::Relaxed);
    let mut line = String::with_capacity(160);
    let now = clock::wall().rfc3339();
    // Writing to a String cannot fail.
    let _ = if json {
        write!(line, "{{\"time\":\"{now}\",\"level\":\"{level}\",\"event\":\"{name}\"")
    } else {
        write!(line, "{now} {level:<5} {name}")
    };
    let mut put = |key: &'static str, value: &dyn fmt::Display| push_field(&mut line, json, key, value);
    fill(&mut Fields { put: &mut put });
    line.push_str(if json { "}\n" } else { "\n" });
    // A closed standard error must not stop the agent.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

fn push_field(line: &mut String, json: bool, key: &str, value: &dyn fmt::Display) {
    let text = value.to_string();
    let quoted = serde_json::Value::from(text.as_str()).to_string();
    let bare = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"');
    let _ = match (json, bare) {
        (true, _) => write!(line, ",\"{key}\":{quoted}"),
        (false, true) => write!(line, " {key}={text}"),
        (false, false) => write!(line, " {key}={quoted}"),
    };
}

/// Lines of libraries that use the `log` crate.
struct Libraries;

impl Log for Libraries {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // tract warns at every load that it was tested with older operator sets; the golden answers test it with ours.
        let least = if metadata.target().starts_with("tract") { Level::Error } else { Level::Warn };
        metadata.level() <= least
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            write("library", record.level(), |fields| {
                fields.put("target", record.target()).put("message", record.args());
            });
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_with_spaces_or_controls_is_quoted() {
        let mut line = String::new();
        push_field(&mut line, false, "why", &"no route\nto host");
        push_field(&mut line, false, "n", &5);
        assert_eq!(line, " why=\"no route\\nto host\" n=5");
    }

    #[test]
    fn a_json_field_is_valid_json() {
        let mut line = String::from("{\"a\":1");
        push_field(&mut line, true, "text", &"a \"b\"\u{1}");
        line.push('}');
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["text"], "a \"b\"\u{1}");
    }
}
