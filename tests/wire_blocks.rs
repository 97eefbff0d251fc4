//! The block format from outside: golden files, round trips, damage and hostility.
//!
//! A change of the format shows as a diff of `tests/golden/`. Write new ones with
//! `OUTPOST_BLESS=1 cargo test --test wire_blocks`; existing ones stay, readers of version 1 are kept for ever.

use std::collections::BTreeMap;
use std::path::PathBuf;

use outpost::digest::{Digest, DigestTiming, Engine, Lang};
use outpost::episode::{EpisodeUpdate, Evidence, Phase};
use outpost::facts::{Citation, EventFact, Facts, Outage};
use outpost::limits;
use outpost::reading::{ChannelId, NoData, Pattern, Quality, Quantity, Reading, Severity, Unit};
use outpost::templates::{Memory, Tally};
use outpost::time::{BootId, ClockState, Mono, Stamp, Wall};
use outpost::window::{Detail, WindowOptions, WindowSummary, Windows};
use outpost::wire::{
    Block, BlockHeader, Body, ClockFix, GapReason, Lane, Notice, Record, WireError, decode_block,
    decode_header, encode_block, json,
};
use proptest::prelude::*;

#[path = "../benches/support/logs.rs"]
mod log_lines;

fn channel(name: &str) -> ChannelId {
    ChannelId::new(name).unwrap()
}

fn stamp() -> Stamp {
    Stamp {
        wall: Wall(1_767_323_045_678_000),
        mono: Mono(123_456_789),
        boot: BootId([7; 16]),
        uncertainty_us: 1500,
        state: ClockState::Synced,
    }
}

fn header(lane: Lane, count: usize) -> BlockHeader {
    BlockHeader {
        lane,
        epoch: 0x00c0_ffee_0000_0001,
        first: 42,
        count: count as u32,
        sealed: stamp(),
        body: Body::Records,
    }
}

fn readings() -> Vec<Record> {
    (0..200)
        .map(|i: i64| {
            let name = ["pump1.bearing_temp", "pump1.vibration", "hall.door"][i as usize % 3];
            let value = match i {
                17 => Err(NoData::ReadFailed),
                18 => Err(NoData::Null),
                _ if i % 3 == 1 => Ok((i as f64 * 0.7).sin()),
                _ => Ok((2150 + i % 9) as f64 / 100.0),
            };
            Record::Reading(Reading::new(
                channel(name),
                Wall(1_767_323_045_000_000 + i / 3 * 250_000 + i % 3),
                value,
            ))
        })
        .collect()
}

fn windows() -> Vec<Record> {
    (0..4)
        .map(|i| {
            Record::Window(WindowSummary {
                channel: channel(&format!("pump{i}.bearing_temp")),
                unit: Unit("Cel".into()),
                start: Wall::from_secs(1_767_323_040),
                length_ms: 60_000,
                count: 600 - i,
                missing: i,
                min: 20.5,
                max: 21.25 + f64::from(i),
                mean: 20.9 + f64::from(i) / 3.0,
                std: 0.1234567891,
                last: 21.0,
                slope_per_h: -0.75,
                detail: None,
            })
        })
        .collect()
}

/// Readings of which some are beyond what their calibration knows.
fn doubted() -> Vec<Record> {
    let doubt = |(i, record)| match record {
        Record::Reading(r) if i % 50 == 3 && r.value.is_ok() => {
            Record::Reading(Reading { quality: Quality::Uncertain, ..r })
        }
        other => other,
    };
    readings().into_iter().enumerate().map(doubt).collect()
}

/// Summaries of which every second one has details.
fn detailed() -> Vec<Record> {
    let detail = Detail { p05: 20.5, p50: 20.75, p95: 21.125, changes: 17, rate_per_h: 3.5 };
    let with = |(i, record)| match record {
        Record::Window(window) if i % 2 == 1 => {
            Record::Window(WindowSummary { detail: Some(detail), ..window })
        }
        other => other,
    };
    windows().into_iter().enumerate().map(with).collect()
}

fn alarms() -> Vec<Record> {
    vec![
        Record::Episode(EpisodeUpdate {
            id: 7,
            phase: Phase::Opened,
            channel: channel("pump1.bearing_temp"),
            pattern: Pattern::Rise,
            severity: Severity::Critical,
            start: Wall::from_secs(1_767_323_000),
            at: Wall::from_secs(1_767_323_045),
            baseline: Some(21.5),
            peak: Some(88.25),
            last: None,
            limit: Some(80.0),
            count: 3,
            unit: Unit("Cel".into()),
            reason: "über dem Grenzwert".into(),
            evidence: None,
        }),
        Record::Notice(Notice {
            code: "spool_salvaged".into(),
            text: "The spool was damaged.".into(),
            at: Wall(1),
        }),
    ]
}

/// The step of an episode with the readings that prove it, beside one without.
fn proven() -> Vec<Record> {
    let mut both: Vec<Record> = alarms().into_iter().take(1).chain(alarms()).collect();
    if let Record::Episode(step) = &mut both[0] {
        step.evidence = Some(Evidence { first: 120, last: 5_000_000_000 });
    }
    both
}

fn clocks() -> Vec<Record> {
    let fix = ClockFix {
        boot: BootId([7; 16]),
        offset_us: 1_767_322_922_221_211,
        uncertainty_us: 1500,
        unset_offset_us: None,
    };
    let inferred =
        ClockFix { boot: BootId([6; 16]), uncertainty_us: u64::MAX, unset_offset_us: Some(-3), ..fix };
    vec![Record::Clock(inferred), Record::Clock(fix)]
}

fn digests() -> Vec<Record> {
    let event = EventFact {
        channel: channel("pump1.bearing_temp"),
        label: "Lager 1".into(),
        asset: Some("pump1".into()),
        quantity: Quantity::Temperature,
        pattern: Pattern::High,
        severity: Severity::Warning,
        ongoing: true,
        start: Wall::from_secs(1_767_323_000),
        duration_s: 45,
        baseline: Some(21.5),
        peak: Some(88.25),
        limit: None,
        count: Some(3),
        unit: Unit("Cel".into()),
        cites: Some(Citation { lane: Lane::Raw, first: 5, last: 99 }),
    };
    let outage = Outage {
        start: Wall::from_secs(1_767_000_000),
        duration_s: 259_200,
        records_kept: 9,
        records_lost: 1,
    };
    let facts = Facts {
        from: Wall::from_secs(1_767_000_000),
        to: Wall::from_secs(1_767_323_045),
        outage: Some(outage),
        events: vec![event],
        events_more: 2,
        channels_normal: 11,
        readings: 123_456,
    };
    vec![Record::Digest(Digest {
        id: 3,
        engine: Engine::Template,
        model: String::new(),
        fallback_reason: "no model".into(),
        lang: Lang::En,
        verdict: Severity::Warning,
        cause: "bearing wear".into(),
        text: "Bearing temperature of pump 1 is high [raw 5-99].".into(),
        facts,
        timing: DigestTiming { encode_us: 5, ..DigestTiming::default() },
    })]
}

fn gap(reason: GapReason) -> BlockHeader {
    BlockHeader { count: 0, body: Body::Gap { reason, last: 5_000_000_000 }, ..header(Lane::Raw, 0) }
}

fn examples() -> Vec<(&'static str, BlockHeader, Vec<Record>)> {
    vec![
        ("raw", header(Lane::Raw, 200), readings()),
        ("metric", header(Lane::Metric, 4), windows()),
        ("alarm", header(Lane::Alarm, 2), alarms()),
        ("digest", header(Lane::Digest, 1), digests()),
        ("gap", gap(GapReason::Quota), Vec::new()),
        ("clock", header(Lane::Alarm, 2), clocks()),
        ("raw_doubted", header(Lane::Raw, 200), doubted()),
        ("alarm_proven", header(Lane::Alarm, 3), proven()),
        ("metric_detail", header(Lane::Metric, 4), detailed()),
    ]
}

fn golden(name: &str, now: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("OUTPOST_BLESS").is_some() && !path.exists() {
        std::fs::write(&path, now).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; write it with OUTPOST_BLESS=1", path.display()))
}

#[test]
fn the_golden_blocks_of_version_1_are_read_for_ever() {
    for (name, header, records) in examples() {
        let now = encode_block(&header, &records).unwrap();
        let kept = golden(&format!("block_v1_{name}.bin"), &now);
        assert_eq!(decode_block(&kept).unwrap(), Block { header, records }, "{name}");
        assert_eq!(kept, now, "{name}: the writer no longer writes version 1 as it was");
    }
}

#[test]
fn the_json_documents_say_what_they_always_said() {
    for (name, header, records) in examples() {
        let now = json::encode_document("gw-1", &header, &records);
        let kept = golden(&format!("document_v1_{name}.json"), &now);
        assert_eq!(String::from_utf8_lossy(&kept), String::from_utf8_lossy(&now), "{name}");
    }
    let document: serde_json::Value =
        serde_json::from_slice(&json::encode_document("gw-1", &gap(GapReason::Quota), &[])).unwrap();
    assert_eq!(document["gap"], "quota");
    assert_eq!(document["epoch"], "00c0ffee00000001");
}

#[test]
fn any_single_flipped_bit_in_a_block_is_refused() {
    for (name, header, records) in examples() {
        let mut bytes = encode_block(&header, &records).unwrap();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_block(&bytes).is_err(), "{name}: bit {bit}");
            assert!(decode_header(&bytes).is_err(), "{name}: bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for cut in 0..bytes.len() {
            assert!(decode_block(&bytes[..cut]).is_err(), "{name}: cut at {cut}");
        }
    }
}

/// A block that claims a body of `claim` bytes and carries `packed`, with every outer check satisfied.
fn forged(lane: Lane, count: u32, codec: u8, claim: usize, packed: &[u8]) -> Vec<u8> {
    let header = BlockHeader { count, ..header(lane, 0) };
    let mut bytes = b"OPB1\0\0\0\0".to_vec();
    bytes.extend(postcard::to_stdvec(&header).unwrap());
    bytes.push(codec);
    bytes.extend(postcard::to_stdvec(&claim).unwrap());
    bytes.extend_from_slice(packed);
    let length = (bytes.len() + 4) as u32;
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn a_decompression_bomb_is_refused_before_it_is_unpacked() {
    let bomb = zstd::bulk::compress(&vec![0_u8; 64 << 20], 19).unwrap();
    assert!(bomb.len() < limits::BLOCK_BYTES_MAX);
    for claim in [64 << 20, limits::BLOCK_BODY_BYTES_MAX, 10] {
        let refused = decode_block(&forged(Lane::Raw, 1000, 1, claim, &bomb));
        assert!(matches!(refused, Err(WireError::Malformed(_))), "{claim}: {refused:?}");
    }
    let more_records_than_allowed = forged(Lane::Raw, limits::BLOCK_RECORDS_MAX as u32 + 1, 0, 0, &[]);
    assert!(decode_block(&more_records_than_allowed).is_err());
}

#[test]
fn records_of_another_lane_are_the_callers_fault() {
    assert_eq!(encode_block(&header(Lane::Raw, 1), &windows()[..1]), Err(WireError::WrongLane));
    assert_eq!(encode_block(&header(Lane::Alarm, 1), &windows()[..1]), Err(WireError::WrongLane));
    assert_eq!(encode_block(&header(Lane::Metric, 3), &windows()), Err(WireError::WrongLane));
}

#[test]
fn a_block_that_would_be_too_large_is_refused_not_truncated() {
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from_bits((state ^ state >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9) & !(1 << 62))
    };
    let records: Vec<Record> = (0..limits::BLOCK_RECORDS_MAX)
        .map(|_| Record::Reading(Reading::new(channel("c"), Wall(0), Ok(noise()))))
        .collect();
    let refused = encode_block(&header(Lane::Raw, records.len()), &records);
    assert!(matches!(refused, Err(WireError::TooLarge { .. })));
    assert!(encode_block(&header(Lane::Raw, 8192), &records[..8192]).is_ok());
}

#[test]
fn slowly_changing_decimals_take_well_under_four_bytes_a_reading() {
    let records: Vec<Record> = (0..10_000_i64)
        .map(|i| {
            let (c, t) = (i % 50, i / 50);
            Record::Reading(Reading::new(
                channel(&format!("line{}.temp{c}", c % 7)),
                Wall(1_767_323_045_000_000 + t * 100_000 + c * 37),
                Ok((2000 + c * 10 + (t * 7 + c * 3) % 5) as f64 / 100.0),
            ))
        })
        .collect();
    let bytes = encode_block(&header(Lane::Raw, records.len()), &records).unwrap();
    assert!(bytes.len() < records.len() * 2, "{} bytes", bytes.len());
}

/// A plant of fifty channels, ten readings a second each, as sensors of two decimals give them.
fn plant(seconds: i64) -> Vec<Reading> {
    let mut random = fastrand::Rng::with_seed(5);
    let mut level: Vec<f64> = (0..50).map(|c| 20.0 + f64::from(c)).collect();
    let mut out = Vec::new();
    for tick in 0..seconds * 10 {
        for (c, level) in level.iter_mut().enumerate() {
            *level += (random.f64() - 0.5) * 0.02;
            let value = ((*level + (random.f64() - 0.5) * 0.05) * 100.0).round() / 100.0;
            let at = Wall(1_767_323_045_000_000 + tick * 100_000 + c as i64 * 37);
            out.push(Reading::new(channel(&format!("line{}.temp{c}", c % 7)), at, Ok(value)));
        }
    }
    out
}

/// How many times smaller a block is than the document that says the same.
fn times_smaller(lane: Lane, records: &[Record]) -> f64 {
    let header = header(lane, records.len());
    let block = encode_block(&header, records).unwrap();
    json::encode_document("gw-1", &header, records).len() as f64 / block.len() as f64
}

/// Notices of 200 letters each, as many as a block of the spool holds, and how many bytes are left of each in a block.
fn bytes_a_notice(letters: &[u8]) -> f64 {
    let mut random = fastrand::Rng::with_seed(7);
    let mut text = || (0..200).map(|_| char::from(letters[random.usize(..letters.len())])).collect();
    let notice = |i| Record::Notice(Notice { code: "n".into(), text: text(), at: Wall(i) });
    let records: Vec<Record> = (0..150).map(notice).collect();
    let bytes = encode_block(&header(Lane::Alarm, records.len()), &records).unwrap();
    assert_eq!(decode_block(&bytes).unwrap().records, records);
    bytes.len() as f64 / records.len() as f64
}

/// zstd took a quarter of the time of an append for a fifth of what no more than Huffman's code makes smaller.
#[test]
fn rows_in_which_hardly_anything_repeats_are_stored_plain_and_others_are_compressed() {
    let printable: Vec<u8> = (b'!'..=b'~').collect();
    assert!(bytes_a_notice(&printable) > 205.0);
    assert!(bytes_a_notice(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") < 165.0);
    assert!(bytes_a_notice(b"0123456789abcdef") < 110.0);
}

#[test]
fn readings_take_an_eighth_of_their_json_at_most() {
    let records: Vec<Record> = plant(30).into_iter().map(Record::Reading).collect();
    for per_block in [500, 15_000] {
        let times = times_smaller(Lane::Raw, &records[..per_block]);
        assert!(times >= 8.0, "{per_block} a block: {times:.1} times smaller");
    }
}

/// Means, deviations and slopes are numbers without an end; half of each is worth keeping.
#[test]
fn summaries_take_an_eighth_of_their_json_at_most() {
    let mut windows = BTreeMap::new();
    let mut records = Vec::new();
    let unit = Unit("Cel".into());
    for reading in plant(330) {
        let of_channel =
            windows.entry(reading.channel.clone()).or_insert_with(|| Windows::new(WindowOptions::default()));
        of_channel.push(reading.at, reading.value, &mut |window| {
            records.push(Record::Window(WindowSummary::new(&reading.channel, &unit, window)));
        });
    }
    assert!(records.len() >= 200, "{}", records.len());
    for per_block in [50, 200] {
        let times = times_smaller(Lane::Metric, &records[..per_block]);
        assert!(times >= 8.0, "{per_block} a block: {times:.1} times smaller");
    }
}

/// Four hours of a line per second, told as the agent does it: how many of each kind, in summaries of its usual length.
#[test]
fn logs_take_a_twentieth_of_their_json_at_most() {
    const LINES: usize = 4 * 3600;
    const WINDOW: usize = 60;
    let options = WindowOptions { length_ms: 900_000, hop_ms: 900_000, ..WindowOptions::default() };
    let mut tally = Tally::new(&Memory::default(), 0);
    let mut windows = BTreeMap::new();
    let (mut document_bytes, mut records) = (0, Vec::new());
    for (second, (_, line)) in log_lines::lines(LINES, 1).into_iter().enumerate() {
        let at = Wall(1_767_323_400_000_000 + second as i64 * 1_000_000);
        document_bytes +=
            serde_json::json!({"at": at.rfc3339(), "source": "syslog", "line": line}).to_string().len();
        tally.take(&line);
        if (second + 1) % WINDOW > 0 {
            continue;
        }
        let counts = tally.close();
        for text in counts.news {
            records.push(Record::Notice(Notice { code: "log_new".into(), text, at }));
        }
        for (id, count) in counts.own {
            let channel = channel(&format!("syslog.t{:08x}", id.0));
            let of_channel = windows.entry(channel.clone()).or_insert_with(|| Windows::new(options));
            of_channel.push(at, Ok(count as f64), &mut |window| {
                records.push(Record::Window(WindowSummary::new(&channel, &Unit::default(), window)));
            });
        }
    }
    let (summaries, news): (Vec<Record>, Vec<Record>) =
        records.into_iter().partition(|record| matches!(record, Record::Window(_)));
    assert!(summaries.len() > 300 && !news.is_empty(), "{} and {}", summaries.len(), news.len());
    let of = |lane, records: &[Record]| encode_block(&header(lane, records.len()), records).unwrap().len();
    // A block for each length of a window, and one for what was new.
    let blocks: usize = summaries.chunks(40).map(|chunk| of(Lane::Metric, chunk)).sum();
    let bytes = blocks + of(news[0].lane(), &news);
    let times = document_bytes as f64 / bytes as f64;
    assert!(times >= 20.0, "{times:.1} times smaller: {document_bytes} to {bytes} bytes");
}

fn any_value() -> impl Strategy<Value = Result<f64, NoData>> {
    prop_oneof![
        4 => (-100_000_i64..100_000, 0..7).prop_map(|(m, d)| Ok(m as f64 / 10_f64.powi(d))),
        2 => any::<f32>().prop_filter("finite", |v| v.is_finite()).prop_map(|v| Ok(f64::from(v))),
        2 => any::<f64>().prop_filter("finite", |v| v.is_finite()).prop_map(Ok),
        1 => prop_oneof![
            Just(Err(NoData::NotANumber)),
            Just(Err(NoData::Infinite)),
            Just(Err(NoData::ReadFailed)),
            Just(Err(NoData::Null)),
        ],
    ]
}

fn any_readings() -> impl Strategy<Value = Vec<Record>> {
    let at = prop_oneof![3 => 0..2_000_000_i64, 1 => (0..2_000_i64).prop_map(|s| s * 1_000_000), 1 => any::<i64>()];
    let row = ("[a-c][0-9]?", at, any_value(), prop::bool::weighted(0.1));
    prop::collection::vec(row, 1..200).prop_map(|rows| {
        rows.into_iter()
            .map(|(name, at, value, doubted)| {
                let reading = Reading::new(channel(&name), Wall(at), value);
                let quality = if doubted && value.is_ok() { Quality::Uncertain } else { reading.quality };
                Record::Reading(Reading { quality, ..reading })
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn readings_come_back_bit_for_bit(records in any_readings(), first in 1_u64..u64::MAX / 2) {
        let header = BlockHeader { first, ..header(Lane::Raw, records.len()) };
        let block = decode_block(&encode_block(&header, &records).unwrap()).unwrap();
        prop_assert_eq!(&block.header, &header);
        for (a, b) in block.records.iter().zip(&records) {
            let (Record::Reading(a), Record::Reading(b)) = (a, b) else { panic!("another lane") };
            prop_assert_eq!((&a.channel, a.at), (&b.channel, b.at));
            prop_assert_eq!(a.value.map(f64::to_bits), b.value.map(f64::to_bits));
            prop_assert_eq!(a.quality, b.quality);
        }
        prop_assert_eq!(block.records.len(), records.len());
    }

    #[test]
    fn windows_come_back_bit_for_bit(bits in prop::collection::vec(any::<[u64; 6]>(), 1..40), start in any::<i64>()) {
        let records: Vec<Record> = bits.iter().enumerate().map(|(i, b)| {
            let [min, max, mean, std, last, slope_per_h] = b.map(|b| f64::from_bits(b & !(1 << 62)));
            Record::Window(WindowSummary {
                channel: channel(&format!("c{}", i % 5)), unit: Unit(["", "Cel"][i % 2].into()),
                start: Wall(start.wrapping_add(i as i64)), length_ms: u32::MAX - i as u32, count: b[0] as u32,
                missing: b[1] as u32, min, max, mean, std, last, slope_per_h,
                detail: (b[2] % 2 == 0).then_some(Detail {
                    p05: min, p50: mean, p95: max, changes: b[3] as u32, rate_per_h: last,
                }),
            })
        }).collect();
        let block = decode_block(&encode_block(&header(Lane::Metric, records.len()), &records).unwrap()).unwrap();
        prop_assert_eq!(block.records, records);
    }

    #[test]
    fn a_well_framed_hostile_body_never_panics(
        lane in 0..4_usize, count in 1..20_000_u32, body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = forged(Lane::ALL[lane], count, 0, body.len(), &body);
        if let Ok(block) = decode_block(&bytes) {
            prop_assert_eq!(block.records.len(), count as usize);
        }
    }
}
