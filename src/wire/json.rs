//! The same blocks as JSON documents, for clouds without an outpost aggregator (`payload = "json"`).
//!
//! ```json
//! {"device":"gw-1","lane":"raw","epoch":"00c0ffee00c0ffee","first":1,"count":2,"sealed":"2026-01-02T03:04:05.678Z",
//!  "records":[{"channel":"p1.temp","at_us":1767323045000000,"value":21.5},
//!             {"channel":"p1.temp","at_us":1767323046000000,"missing":"read_failed"}]}
//! ```
//!
//! A gap has `"gap":"quota"` and no records; its `count` is the number of records given up. Times are microseconds
//! since 1970 unless they are strings.

use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};

use super::{BlockHeader, Body, Record};
use crate::reading::Quality;

/// One block as one JSON document, without line breaks.
pub fn encode_document(device: &str, header: &BlockHeader, records: &[Record]) -> Vec<u8> {
    let gap = match header.body {
        Body::Records => None,
        Body::Gap { reason, .. } => Some(reason.name()),
    };
    let document = Document {
        device,
        lane: header.lane.name(),
        epoch: header.epoch_text(),
        first: header.first,
        count: header.id().count(),
        sealed: header.sealed.wall.rfc3339(),
        gap,
        records: Rows(records),
    };
    // Strings, numbers and string keys only: there is nothing in it that JSON can't say.
    serde_json::to_vec(&document).unwrap_or_default()
}

/// One record as one JSON value, tagged with its type where a lane carries several.
pub fn record_value(record: &Record) -> serde_json::Value {
    serde_json::to_value(Row(record)).unwrap_or_default()
}

#[derive(Serialize)]
struct Document<'a> {
    device: &'a str,
    lane: &'static str,
    epoch: String,
    first: u64,
    count: u64,
    sealed: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gap: Option<&'static str>,
    records: Rows<'a>,
}

struct Rows<'a>(&'a [Record]);

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rows = serializer.serialize_seq(Some(self.0.len()))?;
        for record in self.0 {
            rows.serialize_element(&Row(record))?;
        }
        rows.end()
    }
}

struct Row<'a>(&'a Record);

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Record::Reading(reading) => {
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("channel", reading.channel.as_str())?;
                map.serialize_entry("at_us", &reading.at.0)?;
                match reading.value {
                    Ok(value) => map.serialize_entry("value", &value)?,
                    Err(why) => map.serialize_entry("missing", why.name())?,
                }
                if reading.value.is_ok() && reading.quality == Quality::Uncertain {
                    map.serialize_entry("quality", reading.quality.name())?;
                }
                map.end()
            }
            Record::Window(window) => window.serialize(serializer),
            Record::Digest(digest) => digest.serialize(serializer),
            Record::Episode(episode) => Tagged { kind: "episode", of: episode }.serialize(serializer),
            Record::Notice(notice) => Tagged { kind: "notice", of: notice }.serialize(serializer),
            Record::Clock(fix) => {
                let mut map = serializer.serialize_map(Some(5))?;
                map.serialize_entry("type", "clock")?;
                map.serialize_entry("boot", &fix.boot.to_string())?;
                map.serialize_entry("offset_us", &fix.offset_us)?;
                // Beyond 2^53 a number of JSON is not what it looks like.
                map.serialize_entry("uncertainty_us", &fix.known_uncertainty_us())?;
                map.serialize_entry("unset_offset_us", &fix.unset_offset_us)?;
                map.end()
            }
        }
    }
}

#[derive(Serialize)]
struct Tagged<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    of: &'a T,
}
