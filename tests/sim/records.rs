//! Records that carry one number each, so that every one can be told from every other after its journey.

use outpost::digest::{Digest, DigestTiming, Engine, Lang};
use outpost::facts::Facts;
use outpost::reading::{ChannelId, Reading, Severity, Unit};
use outpost::time::Wall;
use outpost::window::WindowSummary;
use outpost::wire::{Lane, Notice, Record};

/// The record of `lane` that carries `serial`.
pub fn record(lane: Lane, serial: u64, channel: &ChannelId, at: Wall) -> Record {
    match lane {
        Lane::Raw => Record::Reading(Reading::new(channel.clone(), at, Ok(serial as f64))),
        Lane::Metric => Record::Window(window(serial, channel, at)),
        Lane::Alarm => Record::Notice(Notice { code: serial.to_string(), text: "simulated".into(), at }),
        Lane::Digest => Record::Digest(digest(serial, at)),
    }
}

/// The number that a record carries; none in what the spool says of itself.
pub fn serial_of(record: &Record) -> Option<u64> {
    match record {
        Record::Reading(reading) => reading.value.ok().map(|value| value as u64),
        Record::Window(window) => Some(window.last as u64),
        Record::Notice(notice) => notice.code.parse().ok(),
        Record::Digest(digest) => Some(digest.id),
        Record::Episode(_) | Record::Clock(_) => None,
    }
}

fn window(serial: u64, channel: &ChannelId, start: Wall) -> WindowSummary {
    WindowSummary {
        channel: channel.clone(),
        unit: Unit("Cel".into()),
        start,
        length_ms: 1000,
        count: 1,
        missing: 0,
        min: 0.0,
        max: 0.0,
        mean: 0.0,
        std: 0.0,
        last: serial as f64,
        slope_per_h: 0.0,
        detail: None,
    }
}

fn digest(serial: u64, at: Wall) -> Digest {
    let facts = Facts {
        from: at,
        to: at,
        outage: None,
        events: Vec::new(),
        events_more: 0,
        channels_normal: 1,
        readings: 1,
    };
    Digest {
        id: serial,
        engine: Engine::Template,
        model: String::new(),
        fallback_reason: String::new(),
        lang: Lang::En,
        verdict: Severity::Info,
        cause: String::new(),
        text: "All is calm.".into(),
        facts,
        timing: DigestTiming::default(),
    }
}
