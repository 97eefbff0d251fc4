//! What comes over the line or from the operator: blocks, small messages, configuration, and whatever order the seats of
//! the protocol are told things in.

use std::collections::BTreeMap;
use std::path::Path;

use outpost::config::{self, Loaded};
use outpost::sync::intake::{Intake, Offer, Verdict};
use outpost::sync::uplink::{Audience, Block, Input, Output, Uplink, UplinkOptions};
use outpost::time::Mono;
use outpost::wire::ack::{AckMessage, LaneAck};
use outpost::wire::heartbeat::{Heartbeat, signed_parts};
use outpost::wire::{BlockId, Lane, decode_block, decode_header, encode_block, json};

use super::{Reader, golden, refused};

/// All of them.
pub const READERS: &[Reader] = &[
    Reader { name: "block", read: block, seeds: blocks },
    Reader { name: "ack", read: ack, seeds: acks },
    Reader { name: "heartbeat", read: heartbeat, seeds: heartbeats },
    Reader { name: "agent", read: agent, seeds: || vec![example("outpost.toml")] },
    Reader { name: "aggregator", read: aggregator, seeds: || vec![example("aggregator.toml")] },
    Reader { name: "uplink", read: uplink, seeds: steps },
    Reader { name: "intake", read: intake, seeds: steps },
];

/// A block, as it comes and with the checksum that it should have.
pub fn block(bytes: &[u8]) -> bool {
    let taken = |bytes: &[u8]| match decode_block(bytes) {
        Ok(block) => {
            assert_eq!(decode_header(bytes).ok(), Some(block.header));
            let document = json::encode_document("gw-1", &block.header, &block.records);
            assert!(
                serde_json::from_slice::<serde_json::Value>(&document).is_ok(),
                "a document that is no JSON"
            );
            if let Ok(again) = encode_block(&block.header, &block.records) {
                let again = decode_block(&again).expect("what was written reads");
                assert_eq!(json::encode_document("gw-1", &again.header, &again.records), document);
            }
            true
        }
        Err(error) => refused(&error),
    };
    either(bytes, taken)
}

/// An acknowledgement.
pub fn ack(bytes: &[u8]) -> bool {
    either(bytes, |bytes| match AckMessage::decode(bytes) {
        Ok(message) => {
            assert_eq!(AckMessage::decode(&message.encode()), Ok(message));
            true
        }
        Err(error) => refused(&error),
    })
}

/// A heartbeat.
pub fn heartbeat(bytes: &[u8]) -> bool {
    either(bytes, |bytes| {
        let _ = signed_parts(bytes);
        match Heartbeat::decode(bytes) {
            Ok(beat) => {
                let again = Heartbeat::decode(&beat.encode()).expect("what was written reads");
                assert_eq!(again.encode(), beat.encode());
                true
            }
            Err(error) => refused(&error),
        }
    })
}

/// An agent's configuration.
pub fn agent(bytes: &[u8]) -> bool {
    loaded(config::parse_agent("file", &String::from_utf8_lossy(bytes), Path::new("/")))
}

/// An aggregator's configuration.
pub fn aggregator(bytes: &[u8]) -> bool {
    loaded(config::parse_aggregator("file", &String::from_utf8_lossy(bytes), Path::new("/")))
}

fn loaded<T>(outcome: Result<Loaded<T>, config::ConfigError>) -> bool {
    if let Err(error) = &outcome {
        assert!(!error.to_string().is_empty());
    }
    outcome.is_ok()
}

/// Whether it is taken as it is, or with the CRC-32 at its end made right, which none would guess.
fn either(bytes: &[u8], taken: impl Fn(&[u8]) -> bool) -> bool {
    let mended = bytes
        .split_last_chunk::<4>()
        .map(|(content, _)| taken(&[content, &crc32fast::hash(content).to_le_bytes()].concat()));
    taken(bytes) || mended == Some(true)
}

/// The gateway's seat, told anything in any order.
pub fn uplink(bytes: &[u8]) -> bool {
    let options = UplinkOptions { window_blocks: 4, unacked_bytes_max: 4096, ..UplinkOptions::default() };
    let (unacked_max, window) = (options.unacked_bytes_max, options.window_blocks);
    let mut uplink = Uplink::new(options, EPOCH);
    let (mut now, mut last_token) = (0, None);
    let mut next = [1; 4];
    for step in bytes.as_chunks().0 {
        let Some(input) = input(step, &mut next) else { return false };
        now += u64::from(step[5]) * 1_000_000;
        for output in uplink.step(Mono(now), input) {
            match output {
                Output::Publish { token, .. } => {
                    assert!(last_token < Some(token), "{token} after {last_token:?}");
                    last_token = Some(token);
                }
                Output::Release { lane, through, also } => {
                    let end = next[lane.index()];
                    assert!(
                        through < end && also.iter().all(|&(_, last)| last < end),
                        "{lane}: nobody stored that"
                    );
                }
                _ => {}
            }
        }
        assert!(uplink.on_wire() <= window, "{} on the wire", uplink.on_wire());
        let unacked = uplink.unacked_bytes();
        assert!(unacked <= unacked_max.max(BLOCK_BYTES_MAX), "{unacked} bytes without a word");
    }
    true
}

/// What one step tells the gateway's seat; `None` for what means nothing.
fn input(step: &Step, next: &mut [u64; 4]) -> Option<Input> {
    let &[kind, lane, a, b, c, _] = step;
    let lane = Lane::ALL[usize::from(lane % 4)];
    let (first, more) = (u64::from(a), u64::from(b));
    let id = BlockId { lane, first, last: first + more };
    Some(match kind {
        0 => Input::ExpectFirst,
        1 => Input::First(id),
        2 => Input::LineUp { receive_max: u16::from(a) + 1, packet_bytes_max: u32::from(b) * 256 },
        3 => Input::LineDown { by_broker: (b > 0).then_some(b) },
        4 => {
            // A spool never takes a number back.
            let next = &mut next[lane.index()];
            *next += first;
            Input::Tail { lane, oldest: more.clamp(1, *next), next_seq: *next }
        }
        5 => {
            // What the spool hands out it has stored.
            let next = &mut next[lane.index()];
            *next = (*next).max(if c > 0 { id.last + 1 } else { 0 });
            let payload = vec![0; usize::from(c) * BLOCK_BYTES_MAX / 255];
            Input::Fetched { lane, block: (c > 0).then_some(Block { id, payload }) }
        }
        6 => Input::PubAck {
            token: first,
            result: match b {
                0..64 => Ok(Audience::Unknown),
                64..128 => Ok(Audience::Nobody),
                _ => Err(b),
            },
        },
        7 => {
            let epoch = EPOCH + u64::from(c % 8 == 7);
            Input::Ack(AckMessage {
                lanes: vec![LaneAck {
                    lane,
                    epoch,
                    through: first,
                    also: vec![(first + 2, first + 2 + more)],
                }],
            })
        }
        8 => Input::Tick,
        9 => Input::Unreadable { lane },
        _ => return None,
    })
}

/// The aggregator's seat, offered anything in any order; some of it is lost before it is committed.
pub fn intake(bytes: &[u8]) -> bool {
    let mut intake = Intake::new();
    // Per device, lane and epoch: every number seen, and whether it is there or only declared.
    let mut seen: BTreeMap<(u8, Lane, u64), BTreeMap<u64, bool>> = BTreeMap::new();
    for &[kind, lane, a, b, device, epoch] in bytes.as_chunks().0 {
        if kind > 8 {
            return false;
        }
        let id = BlockId {
            lane: Lane::ALL[usize::from(lane % 4)],
            first: u64::from(a),
            last: u64::from(a) + u64::from(b),
        };
        let offer = Offer { epoch: u64::from(epoch % 2), id, gap: kind % 2 == 1 };
        let (key, name) = ((device % 3, id.lane, offer.epoch), format!("gw-{}", device % 3));
        let known = seen.entry(key).or_default();
        let is_new = |seq: &u64| known.get(seq).is_none_or(|here| !here && !offer.gap);
        let wanted: Vec<u64> = (id.first..=id.last).filter(is_new).collect();
        match intake.offer(&name, &offer) {
            Verdict::Commit { unseen } => {
                assert_eq!(unseen.iter().flat_map(|&(first, last)| first..=last).collect::<Vec<_>>(), wanted);
                if kind == 8 {
                    continue;
                }
                known.extend(wanted.into_iter().map(|seq| (seq, !offer.gap)));
                let through = (1..).find(|seq| !known.contains_key(seq)).unwrap_or(1) - 1;
                assert_eq!(intake.committed(&name, &[offer])[0].through, through);
            }
            Verdict::Duplicate => assert!(wanted.is_empty(), "{wanted:?}"),
            Verdict::Refuse(_) => assert_eq!(id.first, 0, "nothing else is impossible here"),
        }
    }
    true
}

fn example(name: &str) -> Vec<u8> {
    golden(&format!("../../examples/{name}"))
}

fn blocks() -> Vec<Vec<u8>> {
    ["raw", "metric", "digest", "alarm", "gap", "clock"]
        .map(|kind| golden(&format!("block_v1_{kind}.bin")))
        .into()
}

fn acks() -> Vec<Vec<u8>> {
    let lane = |lane| LaneAck { lane, epoch: EPOCH, through: 300, also: vec![(305, 400), (500, 500)] };
    vec![AckMessage { lanes: vec![lane(Lane::Raw), lane(Lane::Alarm)] }.encode()]
}

fn heartbeats() -> Vec<Vec<u8>> {
    ["heartbeat_v2.bin", "heartbeat_v1.bin"].map(golden).into()
}

/// A backlog that comes up, is fetched, published and acknowledged, with a cut in between.
fn steps() -> Vec<Vec<u8>> {
    let steps: &[Step] = &[
        [4, 3, 90, 1, 0, 0],
        [2, 0, 20, 200, 0, 1],
        [5, 3, 1, 29, 200, 0],
        [5, 3, 31, 29, 100, 0],
        [6, 3, 1, 0, 0, 1],
        [7, 3, 30, 3, 0, 0],
        [3, 0, 0, 0, 0, 5],
        [0, 0, 0, 0, 0, 0],
        [2, 0, 1, 250, 0, 1],
        [4, 1, 7, 1, 0, 0],
        [1, 1, 1, 4, 0, 0],
        [5, 1, 1, 4, 30, 1],
        [5, 3, 31, 29, 255, 1],
        [6, 1, 3, 151, 0, 1],
        [8, 0, 0, 0, 0, 200],
        [7, 1, 5, 0, 0, 0],
        [8, 0, 0, 0, 0, 40],
    ];
    // The spool hands out more than it had told of, and that is acknowledged.
    let longer: &[Step] =
        &[[2, 0, 20, 200, 0, 1], [4, 1, 7, 1, 0, 0], [5, 1, 1, 76, 30, 1], [7, 1, 61, 0, 0, 0]];
    vec![steps.concat(), longer.concat()]
}

/// Kind, lane, three numbers, and seconds that have passed.
type Step = [u8; 6];
const EPOCH: u64 = 7;
/// Of a block in the steps.
const BLOCK_BYTES_MAX: usize = 2048;
