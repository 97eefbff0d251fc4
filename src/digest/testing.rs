//! What the tests of this room share: the shipped vocabulary and random facts.

use std::sync::Arc;

use crate::digest::vocab::Vocab;
use crate::facts::{Citation, EventFact, Facts, Outage};
use crate::limits;
use crate::reading::{ChannelId, Pattern, Quantity, Severity, Unit};
use crate::time::Wall;
use crate::wire::Lane;

/// The vocabulary of the shipped student.
pub fn vocab() -> Arc<Vocab> {
    let vocab = Vocab::parse(
        include_str!("../../models/student/vocab.txt"),
        include_str!("../../models/student/vocab.json"),
    );
    Arc::new(vocab.unwrap())
}

/// Any facts at all, awkward names, values and times included.
pub fn facts(seed: u64) -> Facts {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut facts = Facts {
        from: moment(&mut rng),
        to: moment(&mut rng),
        outage: rng.bool().then(|| Outage {
            start: moment(&mut rng),
            duration_s: amount(&mut rng),
            records_kept: amount(&mut rng),
            records_lost: amount(&mut rng),
        }),
        events: Vec::new(),
        events_more: 0,
        channels_normal: rng.u32(0..4),
        readings: amount(&mut rng),
    };
    let events = (0..rng.usize(0..limits::FACT_EVENTS_MAX + 3)).map(|_| event(&mut rng)).collect();
    facts.set_events(events);
    facts
}

/// A pump whose bearing runs hot: the plain case, with one citation.
pub fn hot_bearing() -> Facts {
    let start = Wall::from_secs(1_783_000_000);
    Facts {
        from: start,
        to: Wall::from_secs(1_783_003_600),
        outage: None,
        events: vec![EventFact {
            channel: ChannelId::new("pump1.bearing_temp").unwrap(),
            label: "bearing temperature".into(),
            asset: Some("Pump 1".into()),
            quantity: Quantity::Temperature,
            pattern: Pattern::Rise,
            severity: Severity::Critical,
            ongoing: true,
            start,
            duration_s: 3600,
            baseline: Some(41.23),
            peak: Some(78.31),
            limit: Some(75.0),
            count: None,
            unit: Unit("Cel".into()),
            cites: Some(Citation { lane: Lane::Alarm, first: 12, last: 15 }),
        }],
        events_more: 0,
        channels_normal: 7,
        readings: 1000,
    }
}

fn event(rng: &mut fastrand::Rng) -> EventFact {
    let first = rng.u64(1..200);
    let channel = ["pump1.temp", "p-2", "a.b.c9", "x/y:z"][rng.usize(0..4)];
    EventFact {
        channel: ChannelId::new(channel).unwrap(),
        label: ["", "pump 1", "Lager 2.5", "泵3", "[alarm:1-2] 7", "a\nb. 9"][rng.usize(0..6)].into(),
        asset: [None, Some("Pump 1"), Some("2号 泵"), Some(" "), Some("\u{7}")][rng.usize(0..5)]
            .map(str::to_owned),
        quantity: Quantity::ALL[rng.usize(0..Quantity::ALL.len())],
        pattern: Pattern::ALL[rng.usize(0..Pattern::ALL.len())],
        severity: Severity::ALL[rng.usize(0..Severity::ALL.len())],
        ongoing: rng.bool(),
        start: moment(rng),
        duration_s: amount(rng),
        baseline: value(rng),
        peak: value(rng),
        limit: value(rng),
        count: rng.bool().then(|| rng.u32(0..30)),
        unit: Unit(["Cel", "%", "", "By/s", "m3/h", "/min", "mm/s", "x9"][rng.usize(0..8)].into()),
        cites: rng.bool().then(|| Citation { lane: Lane::Alarm, first, last: first + rng.u64(0..3) }),
    }
}

fn moment(rng: &mut fastrand::Rng) -> Wall {
    match rng.u8(0..8) {
        0 => Wall(rng.i64(..)),
        1 => Wall(0),
        _ => Wall::from_secs(1_783_000_000 + rng.i64(-200_000..200_000)),
    }
}

fn value(rng: &mut fastrand::Rng) -> Option<f64> {
    match rng.u8(0..8) {
        0 => None,
        1 => Some(f64::from_bits(rng.u64(..))),
        2 => Some(80.0),
        _ => Some((rng.f64() - 0.3) * 10f64.powi(rng.i32(-3..5))),
    }
}

fn amount(rng: &mut fastrand::Rng) -> u64 {
    match rng.u8(0..5) {
        0 => 0,
        1 => 1,
        2 => rng.u64(..),
        _ => rng.u64(0..300_000),
    }
}
