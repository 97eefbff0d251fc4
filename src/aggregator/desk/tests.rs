//! Blocks as devices send them, against a real database.

use super::*;
use crate::aggregator::store::Retention;
use crate::reading::{ChannelId, Reading};
use crate::time::{BootId, ClockState, Mono, Stamp};
use crate::wire::block::{BlockHeader, encode_block};
use crate::wire::heartbeat::{Health, LaneBeat};
use crate::wire::{GapReason, Notice, Record};

const NOW: Wall = Wall::from_secs(1_780_000_000);

fn stamp() -> Stamp {
    Stamp {
        wall: NOW,
        mono: Mono(1),
        boot: BootId::default(),
        uncertainty_us: u32::MAX,
        state: ClockState::Free,
    }
}

fn desk(dir: &tempfile::TempDir) -> Desk {
    let store = Store::open(&dir.path().join("fleet.db"), Retention::default()).unwrap();
    Desk::new(store, "p", None).unwrap()
}

/// Readings `first..=last` of epoch 7.
fn block(first: u64, last: u64) -> (String, Vec<u8>) {
    let channel = ChannelId::new("pump1.temp").unwrap();
    let reading = |n: u64| {
        let at = NOW + Duration::from_secs(n);
        Record::Reading(Reading::new(channel.clone(), at, Ok(n as f64)))
    };
    let records: Vec<_> = (first..=last).map(reading).collect();
    let header = BlockHeader {
        lane: Lane::Raw,
        epoch: 7,
        first,
        count: u32::try_from(records.len()).unwrap(),
        sealed: stamp(),
        body: Body::Records,
    };
    ("p/d1/up/raw".into(), encode_block(&header, &records).unwrap())
}

fn gap(first: u64, last: u64) -> (String, Vec<u8>) {
    let body = Body::Gap { reason: GapReason::Quota, last };
    let header = BlockHeader { lane: Lane::Raw, epoch: 7, first, count: 0, sealed: stamp(), body };
    ("p/d1/up/raw".into(), encode_block(&header, &[]).unwrap())
}

/// (through, also) of the only lane of the only answer.
fn only(answers: &[Answer]) -> (u64, Vec<(u64, u64)>) {
    let [Answer { device, ack }] = answers else { panic!("{answers:?}") };
    assert_eq!((device.as_str(), ack.lanes.len(), ack.lanes[0].epoch), ("d1", 1, 7));
    (ack.lanes[0].through, ack.lanes[0].also.clone())
}

#[test]
fn many_blocks_are_committed_together_and_answered_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = desk(&dir);
    let answers = desk.take(NOW, vec![block(1, 3), block(4, 9), block(20, 22), gap(10, 12)]).unwrap();
    assert_eq!(only(&answers), (12, vec![(20, 22)]));
}

#[test]
fn a_duplicate_is_acknowledged_again_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = desk(&dir);
    desk.take(NOW, vec![block(1, 3)]).unwrap();
    let duplicates = metrics::INTAKE_DUPLICATES.value();
    assert_eq!(only(&desk.take(NOW, vec![block(1, 3)]).unwrap()), (3, vec![]));
    assert!(metrics::INTAKE_DUPLICATES.value() > duplicates);
}

/// The process dies after the commit and before the answer is sent: the device sends again, to a new process.
#[test]
fn a_kill_between_commit_and_acknowledgement_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut killed = desk(&dir);
    drop(killed.take(NOW, vec![block(1, 3), gap(4, 5), block(9, 9)]).unwrap());
    std::mem::forget(killed);

    let mut again = desk(&dir);
    assert_eq!(again.devices(), 1);
    assert_eq!(only(&again.take(NOW, vec![block(1, 3)]).unwrap()), (5, vec![(9, 9)]));
    assert_eq!(only(&again.take(NOW, vec![block(2, 9)]).unwrap()), (9, vec![]));
    let state = again.intake.state("d1", Lane::Raw, 7).unwrap().account();
    assert_eq!((state.committed, state.declared, state.holes), (9, 0, vec![]));
}

#[test]
fn the_rebuilt_intake_tells_declared_losses_from_records() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = desk(&dir);
    first.take(NOW, vec![block(1, 3), gap(4, 5), block(6, 6), block(9, 9)]).unwrap();
    let before = first.intake.state("d1", Lane::Raw, 7).unwrap().account();
    drop(first);
    let again = desk(&dir);
    assert_eq!(again.intake.state("d1", Lane::Raw, 7).unwrap().account(), before);
    assert_eq!((before.committed, before.declared, before.holes), (5, 2, vec![(7, 8)]));
}

#[test]
fn malformed_messages_are_counted_and_harm_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = desk(&dir);
    let mut flipped = block(1, 3);
    *flipped.1.last_mut().unwrap() ^= 1;
    let wrong_lane = ("p/d1/up/alarm".to_owned(), block(1, 3).1);
    let bad = [
        flipped,
        wrong_lane,
        ("p/d1/up/raw".into(), Vec::new()),
        ("p/d1/hb".into(), vec![0xff; 40]),
        ("p/d1/state".into(), b"<b>".to_vec()),
        ("q/other".into(), Vec::new()),
    ];
    let before = metrics::PACKETS_MALFORMED.value();
    let count = bad.len() as u64;
    let answers = desk.take(NOW, bad.into_iter().chain([block(1, 2)]).collect()).unwrap();
    assert_eq!(only(&answers), (2, vec![]));
    assert!(metrics::PACKETS_MALFORMED.value() >= before + count);
}

/// A notice as a newer device might send it: a record of a kind that is unknown here.
fn notice(seq: u64, is_known: bool) -> (String, Vec<u8>) {
    let record = Record::Notice(Notice { code: "zz".into(), text: "of tomorrow".into(), at: NOW });
    let header = BlockHeader {
        lane: Lane::Alarm,
        epoch: 7,
        first: seq,
        count: 1,
        sealed: stamp(),
        body: Body::Records,
    };
    let mut bytes = encode_block(&header, &[record]).unwrap();
    let at = bytes.windows(4).position(|w| w == [1, 2, b'z', b'z']).expect("kind, length, code");
    bytes[at] = if is_known { 1 } else { 99 };
    let content = bytes.len() - 4;
    let crc = crc32fast::hash(&bytes[..content]).to_le_bytes();
    bytes[content..].copy_from_slice(&crc);
    ("p/d1/up/alarm".into(), bytes)
}

#[test]
fn a_block_of_a_newer_device_is_kept_acknowledged_and_read_by_a_newer_program() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fleet.db");
    let faults = || {
        let reader = crate::aggregator::store::Reader::open(&path).unwrap();
        let device = reader.device("d1").unwrap().unwrap().key;
        let codes: Vec<String> = reader.faults(device).unwrap().into_iter().map(|f| f.code).collect();
        (codes, reader.notices(device).unwrap().len())
    };
    let mut old = desk(&dir);
    // More than one transaction reads again.
    let last = 200;
    let answers = old.take(NOW, (1..=last).map(|seq| notice(seq, seq == 1)).collect()).unwrap();
    assert_eq!(only(&answers), (last, vec![]));
    assert_eq!(only(&old.take(NOW, vec![notice(2, false)]).unwrap()), (last, vec![]));
    assert_eq!(faults(), (vec!["unread".to_owned()], 1));
    drop(old);
    drop(desk(&dir));
    assert_eq!(faults(), (vec!["unread".to_owned()], 1), "still unknown");

    // What is unknown to this program can't be made known to it; what it kept can.
    let connection = rusqlite::Connection::open(&path).unwrap();
    for seq in 2..=last {
        let sound = notice(seq, true).1;
        let sql = "UPDATE unread SET payload = ?1 WHERE first = ?2";
        assert_eq!(connection.execute(sql, rusqlite::params![sound, seq.cast_signed()]).unwrap(), 1);
    }
    let mut new = desk(&dir);
    assert_eq!(faults(), (vec![], usize::try_from(last).unwrap().min(limits::PAGE_ROWS_MAX)));
    assert_eq!(only(&new.take(NOW, vec![notice(2, false)]).unwrap()), (last, vec![]));
}

#[test]
fn what_is_kept_unread_of_one_device_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = desk(&dir);
    let path = dir.path().join("fleet.db");
    desk.take(NOW, vec![notice(1, false)]).unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    let full = vec![0; limits::UNREAD_DEVICE_BYTES_MAX];
    connection.execute("UPDATE unread SET payload = ?1", [full]).unwrap();
    let refused = metrics::INTAKE_REFUSED.value();
    assert_eq!(desk.take(NOW, vec![notice(2, false)]).unwrap(), []);
    assert!(metrics::INTAKE_REFUSED.value() > refused);
    assert_eq!(only(&desk.take(NOW, vec![notice(3, true)]).unwrap()), (1, vec![(3, 3)]));
}

#[test]
fn what_is_kept_unread_of_all_devices_is_a_share_of_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let room = notice(1, false).1.len() as u64 * 3;
    let retention = Retention { bytes_max: room * limits::UNREAD_SHARE, ..Retention::default() };
    let store = Store::open(&dir.path().join("fleet.db"), retention).unwrap();
    let mut desk = Desk::new(store, "p", None).unwrap();
    let from = |device: u32, seq| (format!("p/d{device}/up/alarm"), notice(seq, false).1);
    let answers = desk.take(NOW, (1..=3).map(|device| from(device, 1)).collect()).unwrap();
    assert_eq!(answers.len(), 3);
    for _ in 0..3 {
        assert_eq!(desk.take(NOW, vec![from(4, 1)]).unwrap(), []);
    }
    assert_eq!(desk.take(NOW, vec![from(2, 1)]).unwrap().len(), 1, "known, and asked for again");
    assert_eq!(desk.take(NOW, vec![block(1, 3)]).unwrap().len(), 1, "what can be read is always taken");
}

#[test]
fn the_newest_heartbeat_and_state_of_a_device_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = desk(&dir);
    let beat = |uptime_s| Heartbeat {
        serial: u64::from(uptime_s),
        at: Stamp { mono: Mono(u64::from(uptime_s)), ..stamp() },
        uptime_s,
        version: "1".into(),
        model_hash_prefix: [0; 8],
        health: Health(0),
        lanes: [LaneBeat::default(); 4],
        oldest_age_s: 0,
        spool_bytes: 0,
        episodes_open: 0,
    };
    let message = |topic: &str, payload: Vec<u8>| (format!("p/d1/{topic}"), payload);
    let messages = vec![
        message("hb", beat(1).encode()),
        message("hb", beat(2).encode()),
        message("state", b"sleeping".to_vec()),
    ];
    assert_eq!(desk.take(NOW, messages).unwrap(), []);
    let reader = crate::aggregator::store::Reader::open(&dir.path().join("fleet.db")).unwrap();
    let device = reader.device("d1").unwrap().unwrap();
    assert_eq!(device.state, "sleeping");
    assert_eq!(Heartbeat::decode(&device.heartbeat.unwrap().1).unwrap().uptime_s, 2);
}

#[test]
fn the_desk_finishes_what_is_queued_before_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let desk = desk(&dir);
    let (jobs_tx, jobs) = smol::channel::bounded(8);
    let (answers_tx, answers) = smol::channel::bounded(8);
    for (topic, payload) in [block(1, 2), block(3, 4)] {
        jobs_tx.try_send(Job::Message { topic, payload }).unwrap();
    }
    jobs_tx.try_send(Job::Retain).unwrap();
    jobs_tx.close();
    desk.work(&jobs, &answers_tx);
    drop(answers_tx);
    let mut last = None;
    while let Ok(answer) = answers.try_recv() {
        last = Some(answer);
    }
    assert_eq!(only(&[last.unwrap()]).0, 4);
}

#[cfg(feature = "demo")]
#[test]
fn a_device_whose_certificate_is_here_must_sign() {
    let dir = tempfile::tempdir().unwrap();
    let pki = crate::demo::pki::throwaway(&dir.path().join("pki"), &["d1", "thief"]).unwrap();
    let devices = dir.path().join("devices");
    std::fs::create_dir(&devices).unwrap();
    std::fs::copy(dir.path().join("pki/d1.pem"), devices.join("d1.pem")).unwrap();
    let path = dir.path().join("fleet.db");
    let mut desk = Desk::new(Store::open(&path, Retention::default()).unwrap(), "p", Some(devices)).unwrap();
    let mut serial = 0;
    let mut say = |device: &str, signer: Option<&str>| {
        serial += 1;
        let beat = Heartbeat {
            serial,
            at: Stamp { mono: Mono(serial), ..stamp() },
            uptime_s: 1,
            version: "1".into(),
            model_hash_prefix: [0; 8],
            health: Health(0),
            lanes: [LaneBeat::default(); 4],
            oldest_age_s: 0,
            spool_bytes: 0,
            episodes_open: 0,
        };
        let payload = beat.encode_signed(|state| match signer {
            Some(name) => pki.tls_files(name).sign(&signed_message(device, state)).unwrap().unwrap(),
            None => Vec::new(),
        });
        desk.take(NOW, vec![(format!("p/{device}/hb"), payload)]).unwrap();
        let reader = crate::aggregator::store::Reader::open(&path).unwrap();
        let row = reader.device(device).unwrap().unwrap();
        let heard = row.heartbeat.map(|(_, bytes)| Heartbeat::decode(&bytes).unwrap().serial);
        let faults: Vec<String> = reader.faults(row.key).unwrap().into_iter().map(|f| f.code).collect();
        (heard, row.trust, faults)
    };
    assert_eq!(say("d1", Some("d1")), (Some(1), Trust::Verified, vec![]));
    assert_eq!(say("d1", Some("thief")), (Some(1), Trust::Verified, vec!["forged".to_owned()]));
    assert_eq!(say("d1", None).0, Some(1));
    assert_eq!(say("d2", Some("thief")), (Some(4), Trust::Unchecked, vec![]));
    assert_eq!(say("d3", None), (Some(5), Trust::Unsigned, vec![]));
}
