//! The spool from outside: against a model, on a disk that lies, on a disk that is damaged, and behind its thread.

mod damage;
mod disk;
mod flips;
mod full;
mod medium;
mod mend;
mod model;
mod power;
mod queue;
mod rotation;
mod store;

use outpost::digest::{Digest, DigestTiming, Engine, Lang};
use outpost::facts::Facts;
use outpost::reading::{ChannelId, Reading, Severity};
use outpost::spool::{Journal, LaneLedger, Spool, StoredBlock};
use outpost::time::{BootId, ClockState, Mono, Stamp, Wall};
use outpost::wire::{Lane, Notice, Record, decode_block};

fn stamp(n: i64) -> Stamp {
    Stamp {
        wall: Wall::from_secs(1_767_323_045 + n),
        mono: Mono(n as u64),
        boot: BootId([1; 16]),
        uncertainty_us: 0,
        state: ClockState::Free,
    }
}

/// A reading that can be told from every other one.
fn reading(n: u64) -> Record {
    Record::Reading(Reading::new(ChannelId::new("pump1.temp").unwrap(), Wall(n as i64), Ok(n as f64)))
}

fn notice(n: u64) -> Record {
    Record::Notice(Notice { code: format!("n{n}"), text: "something to say".into(), at: Wall(n as i64) })
}

/// A record of some 16 KiB that is no alarm.
fn large(n: u64) -> Record {
    let at = Wall(n as i64);
    let facts = Facts {
        from: at,
        to: at,
        outage: None,
        events: Vec::new(),
        events_more: 0,
        channels_normal: 1,
        readings: 1,
    };
    Record::Digest(Digest {
        id: n,
        engine: Engine::Template,
        model: String::new(),
        fallback_reason: String::new(),
        lang: Lang::En,
        verdict: Severity::Info,
        cause: String::new(),
        text: "All is calm. ".repeat(16 * 1024 / 13),
        facts,
        timing: DigestTiming::default(),
    })
}

fn readings(n: u64) -> Vec<Record> {
    (0..n).map(reading).collect()
}

/// Everything that waits in `lane`, oldest first.
fn walk<J: Journal>(spool: &mut Spool<J>, lane: Lane) -> Vec<StoredBlock> {
    let (mut blocks, mut from) = (Vec::new(), 1);
    while let Some(block) = spool.fetch(lane, from, stamp(0)).unwrap() {
        assert!(block.id.last >= from && block.id.lane == lane);
        from = block.id.last + 1;
        blocks.push(block);
    }
    blocks
}

fn records(blocks: &[StoredBlock]) -> Vec<Record> {
    blocks.iter().flat_map(|b| decode_block(&b.bytes).unwrap().records).collect()
}

fn assert_balanced<J: Journal>(spool: &Spool<J>) {
    assert!(spool.ledger().iter().all(LaneLedger::balances), "{:?}", spool.ledger());
}

/// Readings that no compressor makes small.
fn noise(n: usize) -> Vec<Record> {
    let mut state = n as u64;
    let mut bits = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state ^ state >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9) & !(1 << 62)
    };
    let reading = |_| {
        let Record::Reading(r) = reading(1) else { unreachable!() };
        Record::Reading(Reading { value: Ok(f64::from_bits(bits())), ..r })
    };
    (0..n).map(reading).collect()
}

/// A record that tells its own number and that no compressor makes small.
fn numbered(seq: u64) -> Record {
    let value = f64::from_bits(seq.wrapping_mul(0x9E37_79B9_7F4A_7C15) & !(1 << 62));
    Record::Reading(Reading::new(ChannelId::new("pump1.temp").unwrap(), Wall(seq as i64), Ok(value)))
}
