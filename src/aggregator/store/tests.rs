//! The store against real files.

use super::*;
use crate::aggregator::ledger::Ledger;
use crate::episode::{EpisodeUpdate, Phase};
use crate::reading::{ChannelId, Pattern, Reading, Severity, Unit};
use crate::time::{BootId, ClockState, Mono, Stamp};
use crate::window::WindowSummary;
use crate::wire::Notice;
use crate::wire::heartbeat::{Health, LaneBeat};

const NOW: Wall = Wall::from_secs(1_780_000_000);

fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("fleet.db"), Retention::default()).unwrap();
    (dir, store)
}

fn channel() -> ChannelId {
    ChannelId::new("pump1.temp").unwrap()
}

fn window(n: u64) -> Record {
    let mean = n as f64;
    Record::Window(WindowSummary {
        channel: channel(),
        unit: Unit("Cel".into()),
        start: NOW + Duration::from_secs(10 * n),
        length_ms: 10_000,
        count: 10,
        missing: 1,
        min: mean - 1.0,
        max: mean + 1.0,
        mean,
        std: 0.5,
        last: mean,
        slope_per_h: 0.0,
        detail: None,
    })
}

fn sealed() -> Stamp {
    Stamp {
        wall: NOW,
        mono: Mono(1),
        boot: BootId([9; 16]),
        uncertainty_us: u32::MAX,
        state: ClockState::Free,
    }
}

/// Windows `first..=last` of epoch 7.
fn block(first: u64, last: u64) -> Delivery {
    Delivery {
        device: "d1".into(),
        lane: Lane::Metric,
        epoch: 7,
        first,
        last,
        sealed: sealed(),
        content: Content::Records { records: (first..=last).map(window).collect(), payload: Vec::new() },
    }
}

fn holding(dir: &tempfile::TempDir) -> LaneHolding {
    let reader = Reader::open(&dir.path().join("fleet.db")).unwrap();
    let device = reader.device("d1").unwrap().unwrap();
    reader.holdings(device.key).unwrap().pop().unwrap()
}

fn window_count(dir: &tempfile::TempDir) -> u64 {
    let reader = Reader::open(&dir.path().join("fleet.db")).unwrap();
    let device = reader.device("d1").unwrap().unwrap();
    let channel = reader.channels(device.key).unwrap().pop().unwrap();
    let all = reader.series(channel.key, NOW, NOW + Duration::from_secs(100_000)).unwrap();
    all.iter().map(|b| b.count / 10).sum()
}

#[test]
fn the_same_block_twice_is_kept_once() {
    let (dir, mut store) = open();
    assert_eq!(store.commit(NOW, &[block(1, 5), block(1, 5)]).unwrap(), [Outcome::Added(5), Outcome::Known]);
    assert_eq!(store.commit(NOW, &[block(1, 5)]).unwrap(), [Outcome::Known]);
    assert_eq!(window_count(&dir), 5);
}

/// A gateway that tells quantiles, beside one that does not.
#[test]
fn details_of_a_summary_are_kept_where_there_are_any() {
    let (_dir, mut store) = open();
    let detail = crate::window::Detail { p05: 1.0, p50: 2.0, p95: f64::NAN, changes: 7, rate_per_h: 3.5 };
    let mut delivery = block(1, 2);
    if let Content::Records { records, .. } = &mut delivery.content
        && let Record::Window(window) = &mut records[1]
    {
        window.detail = Some(detail);
    }
    store.commit(NOW, &[delivery]).unwrap();
    let sql = "SELECT p05, p50, p95, changes, rate FROM windows ORDER BY start";
    let mut statement = store.connection.prepare(sql).unwrap();
    let row = |row: &rusqlite::Row<'_>| -> rusqlite::Result<[Option<f64>; 5]> {
        Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?])
    };
    let kept: Vec<_> = statement.query_map([], row).unwrap().map(Result::unwrap).collect();
    assert_eq!(kept, [[None; 5], [Some(1.0), Some(2.0), Some(0.0), Some(7.0), Some(3.5)]]);
}

#[test]
fn an_overlapping_block_adds_only_what_is_new() {
    let (dir, mut store) = open();
    store.commit(NOW, &[block(3, 5), block(9, 9)]).unwrap();
    assert_eq!(store.commit(NOW, &[block(1, 10)]).unwrap(), [Outcome::Added(6)]);
    let held = holding(&dir);
    assert_eq!((held.through, held.settled, held.missing(), window_count(&dir)), (10, 10, 0, 10));
}

#[test]
fn the_same_number_in_another_epoch_is_another_record() {
    let (dir, mut store) = open();
    let other = Delivery { epoch: u64::MAX - 1, ..block(1, 2) };
    assert_eq!(store.commit(NOW, &[block(1, 2), other]).unwrap(), [Outcome::Added(2); 2]);
    let reader = Reader::open(&dir.path().join("fleet.db")).unwrap();
    let device = reader.device("d1").unwrap().unwrap();
    let epochs: Vec<_> = reader.holdings(device.key).unwrap().iter().map(|h| h.epoch).collect();
    assert!(epochs.contains(&7) && epochs.contains(&(u64::MAX - 1)), "{epochs:?}");
}

#[test]
fn what_was_committed_is_settled_after_a_restart() {
    let (dir, mut store) = open();
    store.commit(NOW, &[block(1, 5), block(8, 9)]).unwrap();
    // No orderly close: the connection is leaked, as a kill would leave it.
    std::mem::forget(store);
    let mut store = Store::open(&dir.path().join("fleet.db"), Retention::default()).unwrap();
    let mut settled = Vec::new();
    store.settled(|s| settled.push((s.device, s.lane, s.epoch, s.first, s.last))).unwrap();
    assert_eq!(settled, [("d1".into(), Lane::Metric, 7, 1, 5), ("d1".into(), Lane::Metric, 7, 8, 9)]);
    assert_eq!(store.commit(NOW, &[block(1, 9)]).unwrap(), [Outcome::Added(2)]);
}

#[test]
fn a_declared_loss_is_settled_counted_and_not_merged_with_records() {
    let (dir, mut store) = open();
    let gap = |first, last| Delivery { content: Content::Gap(GapReason::Quota), ..block(first, last) };
    store.commit(NOW, &[block(1, 3), gap(4, 6), gap(7, 8)]).unwrap();
    let held = holding(&dir);
    assert_eq!((held.through, held.records(), held.declared(), held.missing()), (8, 3, 5, 0));
    assert_eq!(held.lost, [("quota".to_owned(), 5)]);
    let reader = Reader::open(&dir.path().join("fleet.db")).unwrap();
    let gaps = reader.gaps(reader.device("d1").unwrap().unwrap().key).unwrap();
    assert_eq!(gaps.iter().map(|g| (g.first, g.last)).collect::<Vec<_>>(), [(4, 8)]);
}

/// The spool evicted a block whose acknowledgement was lost; a late copy of it arrives after the declaration.
#[test]
fn records_that_come_after_their_gap_are_kept_and_no_longer_lost() {
    let (dir, mut store) = open();
    let gap = Delivery { content: Content::Gap(GapReason::Quota), ..block(1, 9) };
    store.commit(NOW, &[gap]).unwrap();
    assert_eq!(store.commit(NOW, &[block(4, 6)]).unwrap(), [Outcome::Added(3)]);
    let held = holding(&dir);
    assert_eq!((held.records(), held.declared(), held.through), (3, 6, 9));
    assert_eq!(window_count(&dir), 3);
}

#[test]
fn a_hole_is_named() {
    let (dir, mut store) = open();
    store.commit(NOW, &[block(1, 3), block(6, 9), block(12, 12)]).unwrap();
    let held = holding(&dir);
    assert_eq!((held.through, held.highest, held.missing()), (3, 12, 4));
    assert_eq!(held.holes, [(4, 5), (10, 11)]);
}

#[test]
fn numbers_that_cannot_be_stored_are_refused_and_harm_nobody_else() {
    let (_dir, mut store) = open();
    let zero = Delivery { first: 0, last: 0, ..block(1, 1) };
    let huge = Delivery { first: u64::MAX, last: u64::MAX, ..block(1, 1) };
    let outcomes = store.commit(NOW, &[zero, huge, block(1, 1)]).unwrap();
    assert!(
        matches!(outcomes[..], [Outcome::Refused(_), Outcome::Refused(_), Outcome::Added(1)]),
        "{outcomes:?}"
    );
}

#[test]
fn endless_epochs_of_one_device_meet_a_bound() {
    let (_dir, mut store) = open();
    let many: Vec<_> =
        (0..=limits::AGGREGATOR_EPOCHS_MAX as u64).map(|epoch| Delivery { epoch, ..block(1, 1) }).collect();
    let outcomes = store.commit(NOW, &many).unwrap();
    let (last, others) = outcomes.split_last().unwrap();
    assert!(others.iter().all(|o| *o == Outcome::Added(1)));
    assert!(matches!(last, Outcome::Refused(_)));
}

fn episode(phase: Phase, at_s: u64, severity: Severity) -> Record {
    Record::Episode(step(phase, at_s, severity))
}

fn step(phase: Phase, at_s: u64, severity: Severity) -> EpisodeUpdate {
    EpisodeUpdate {
        id: 1,
        phase,
        channel: channel(),
        pattern: Pattern::High,
        severity,
        start: NOW,
        at: NOW + Duration::from_secs(at_s),
        baseline: Some(40.0),
        peak: Some(80.0 + at_s as f64),
        last: Some(70.0),
        limit: None,
        count: u32::try_from(at_s).unwrap(),
        unit: Unit("Cel".into()),
        reason: "above its limit".into(),
        evidence: None,
    }
}

fn alarm(seq: u64, record: Record) -> Delivery {
    let content = Content::Records { records: vec![record], payload: Vec::new() };
    Delivery { lane: Lane::Alarm, content, ..block(seq, seq) }
}

#[test]
fn an_episode_shows_its_latest_step_whatever_the_order_of_arrival() {
    let (dir, mut store) = open();
    store
        .commit(
            NOW,
            &[
                alarm(3, episode(Phase::Closed, 90, Severity::Warning)),
                alarm(1, episode(Phase::Opened, 1, Severity::Warning)),
                alarm(2, episode(Phase::Updated, 50, Severity::Critical)),
            ],
        )
        .unwrap();
    let reader = Reader::open(&dir.path().join("fleet.db")).unwrap();
    let device = reader.device("d1").unwrap().unwrap();
    let episodes = reader.episodes(device.key, Wall(0), Wall(i64::MAX)).unwrap();
    assert_eq!(episodes.len(), 1);
    assert_eq!((episodes[0].open, episodes[0].severity), (false, Severity::Critical));
    assert_eq!((episodes[0].at, episodes[0].peak), (NOW + Duration::from_secs(90), Some(170.0)));
    let phases: Vec<_> = reader.steps(episodes[0].key).unwrap().into_iter().map(|s| s.phase).collect();
    assert_eq!(phases, ["opened", "updated", "closed"]);
    assert_eq!(reader.episode_of(device.key, 7, 2, 2).unwrap(), Some(episodes[0].key));
    assert_eq!(device.open, [0, 0, 0]);
}

/// A gateway lost its power with an alarm open. Started anew it knew nothing of it, and the fleet page showed the alarm
/// as open for ever.
#[test]
fn the_readings_that_prove_an_episode_are_those_of_all_its_steps() {
    let (dir, mut store) = open();
    let proven = |phase, at_s, first, last| {
        let evidence = Some(crate::episode::Evidence { first, last });
        Record::Episode(EpisodeUpdate { evidence, ..step(phase, at_s, Severity::Warning) })
    };
    let steps = [
        proven(Phase::Closed, 90, 120, 180),
        proven(Phase::Opened, 10, 118, 130),
        episode(Phase::Updated, 50, Severity::Warning),
    ];
    for (seq, record) in (1..).zip(steps) {
        store.commit(NOW, &[alarm(seq, record)]).unwrap();
    }
    let reader = Reader::open(&dir.path().join("fleet.db")).unwrap();
    let device = reader.device("d1").unwrap().unwrap();
    let episodes = reader.episodes(device.key, Wall(i64::MIN), Wall(i64::MAX)).unwrap();
    assert_eq!(episodes.iter().map(|e| e.evidence).collect::<Vec<_>>(), [Some((118, 180))]);
}

#[test]
fn an_episode_of_the_run_before_is_interrupted_whatever_arrives_first() {
    let started = |seq| {
        let code = Notice::AGENT_STARTED.into();
        alarm(seq, Record::Notice(Notice { code, text: "started".into(), at: NOW }))
    };
    let before = alarm(1, episode(Phase::Opened, 1, Severity::Warning));
    let after = alarm(3, Record::Episode(EpisodeUpdate { id: 3, ..step(Phase::Opened, 9, Severity::Info) }));
    let closed = alarm(4, episode(Phase::Closed, 90, Severity::Warning));
    let seen = |deliveries: &[Delivery]| {
        let (dir, mut store) = open();
        deliveries.iter().for_each(|one| drop(store.commit(NOW, std::slice::from_ref(one)).unwrap()));
        let reader = Reader::open(&dir.path().join("fleet.db")).unwrap();
        let device = reader.device("d1").unwrap().unwrap();
        let episodes = reader.episodes(device.key, Wall(0), Wall(i64::MAX)).unwrap();
        let rows: Vec<_> = episodes.iter().map(|e| (e.severity, e.open, e.interrupted)).collect();
        (rows, device.open)
    };
    let expected = (vec![(Severity::Info, true, false), (Severity::Warning, false, true)], [1, 0, 0]);
    assert_eq!(seen(&[before.clone(), started(2), after.clone()]), expected);
    assert_eq!(seen(&[after.clone(), started(2), before.clone()]), expected);
    assert_eq!(seen(&[started(2), before.clone(), closed.clone()]).0, [(Severity::Warning, false, false)]);
    assert_eq!(seen(&[closed, started(2), before]).0, [(Severity::Warning, false, false)]);
    assert_eq!(seen(&[started(2), after]).1, [1, 0, 0]);
}

/// Numbers near the end of the range in two lanes of one device made the sum overflow, and nobody's row was shown.
#[test]
fn one_device_with_absurd_numbers_does_not_take_the_fleet_page_from_the_others() {
    let (dir, mut store) = open();
    let last = i64::MAX.unsigned_abs();
    let gap = |lane| Delivery { lane, last, content: Content::Gap(GapReason::Quota), ..block(1, 1) };
    let far = |lane, epoch| Delivery { lane, epoch, first: last, last, ..block(1, 1) };
    let all = [gap(Lane::Raw), gap(Lane::Metric), far(Lane::Raw, 8), far(Lane::Raw, 9)];
    store.commit(NOW, &all).unwrap();
    let fleet = Reader::open(&dir.path().join("fleet.db")).unwrap().fleet().unwrap();
    assert!(fleet[0].lost >= last && fleet[0].holes >= last - 1, "{fleet:?}");
}

#[test]
fn readings_are_found_again_by_the_time_they_cover() {
    let (dir, mut store) = open();
    let reading = |s| Record::Reading(Reading::new(channel(), NOW + Duration::from_secs(s), Ok(1.0)));
    let content =
        Content::Records { records: vec![reading(5), reading(2)], payload: b"as published".to_vec() };
    store.commit(NOW, &[Delivery { lane: Lane::Raw, content, ..block(1, 2) }]).unwrap();
    let reader = Reader::open(&dir.path().join("fleet.db")).unwrap();
    let device = reader.device("d1").unwrap().unwrap().key;
    let at = |s| NOW + Duration::from_secs(s);
    assert_eq!(
        reader.raw(device, at(4), at(9), 9).unwrap(),
        [RawBlock { first: 1, last: 2, payload: b"as published".to_vec(), shift_us: 0 }]
    );
    assert_eq!(reader.raw(device, at(6), at(9), 9).unwrap(), []);
}

#[test]
fn retention_deletes_old_readings_but_never_what_settled_them() {
    let (dir, mut store) = open();
    let reading = Record::Reading(Reading::new(channel(), NOW, Ok(1.0)));
    let content = Content::Records { records: vec![reading], payload: vec![1] };
    let delivery = Delivery { lane: Lane::Raw, content, ..block(1, 1) };
    store.commit(NOW, std::slice::from_ref(&delivery)).unwrap();
    assert!(!store.retain(NOW + Retention::default().raw + Duration::from_secs(1)).unwrap());
    let reader = Reader::open(&dir.path().join("fleet.db")).unwrap();
    let device = reader.device("d1").unwrap().unwrap().key;
    assert_eq!(reader.raw(device, Wall(0), Wall(i64::MAX), 9).unwrap(), []);
    assert_eq!(store.commit(NOW, &[delivery]).unwrap(), [Outcome::Known]);
}

#[test]
fn a_full_database_gives_up_its_oldest_readings_first() {
    let dir = tempfile::tempdir().unwrap();
    let retention = Retention { bytes_max: 2 << 20, ..Retention::default() };
    let mut store = Store::open(&dir.path().join("fleet.db"), retention).unwrap();
    for seq in 1..=64 {
        let at = NOW + Duration::from_secs(seq);
        let reading = Record::Reading(Reading::new(channel(), at, Ok(1.0)));
        let content = Content::Records { records: vec![reading], payload: vec![7; 100_000] };
        store
            .commit(at, &[Delivery { lane: Lane::Raw, content, ..block(seq, seq) }, block(seq, seq)])
            .unwrap();
    }
    let now = NOW + Duration::from_secs(100);
    for _ in 0..10_000 {
        if !store.retain(now).unwrap() {
            break;
        }
    }
    let bytes = retention::bytes_used(&store.connection).unwrap();
    assert!(bytes <= 2 << 20, "{bytes} bytes are left");
    assert_eq!(window_count(&dir), 64);
}

#[test]
fn a_notice_and_a_window_with_hostile_numbers_are_kept() {
    let (dir, mut store) = open();
    let Record::Window(mut hostile) = window(1) else { unreachable!() };
    (hostile.min, hostile.max, hostile.mean) = (f64::NAN, f64::INFINITY, f64::NAN);
    let content = Content::Records { records: vec![Record::Window(hostile)], payload: Vec::new() };
    let notice = Record::Notice(Notice { code: "x".into(), text: "<script>".into(), at: NOW });
    let outcomes = store.commit(NOW, &[Delivery { content, ..block(1, 1) }, alarm(1, notice)]).unwrap();
    assert_eq!(outcomes, [Outcome::Added(1); 2]);
    let reader = Reader::open(&dir.path().join("fleet.db")).unwrap();
    let device = reader.device("d1").unwrap().unwrap().key;
    assert_eq!(reader.notices(device).unwrap()[0].text, "<script>");
}

#[test]
fn a_database_of_a_later_program_is_left_alone() {
    let (dir, store) = open();
    store.connection.pragma_update(None, "user_version", 99).unwrap();
    drop(store);
    let refused = Store::open(&dir.path().join("fleet.db"), Retention::default());
    assert!(matches!(refused, Err(StoreError::Newer { found: 99, .. })));
}

/// Heartbeat `serial` of epoch 7: lane metric has promised `admitted` records, given up `evicted`, and holds `pending`.
fn beat(serial: u64, admitted: u64, pending: u64, evicted: u64) -> Heartbeat {
    let metric = LaneBeat {
        epoch: 7u64.to_be_bytes(),
        admitted,
        acknowledged: admitted - pending - evicted,
        pending,
        evicted,
        by_reason: [evicted, 0, 0, 0, 0, 0],
    };
    let mut lanes = [LaneBeat { epoch: 7u64.to_be_bytes(), ..LaneBeat::default() }; 4];
    lanes[Lane::Metric.index()] = metric;
    Heartbeat {
        serial,
        at: Stamp {
            wall: NOW,
            mono: Mono(serial),
            boot: BootId([1; 16]),
            uncertainty_us: u32::MAX,
            state: ClockState::Free,
        },
        uptime_s: 1,
        version: "1".into(),
        model_hash_prefix: [0; 8],
        health: Health(0),
        lanes,
        oldest_age_s: 0,
        spool_bytes: 0,
        episodes_open: 0,
    }
}

/// The device says `beat` at `s` seconds.
fn say(store: &mut Store, s: u64, beat: &Heartbeat) {
    let signs = Signs { heartbeat: Some((beat.encode(), Trust::Unsigned)), ..Signs::default() };
    let signs = BTreeMap::from([("d1".to_owned(), signs)]);
    store.write(NOW + Duration::from_secs(s), &[], &signs).unwrap();
}

fn faults(dir: &tempfile::TempDir) -> Vec<String> {
    let reader = Reader::open(&dir.path().join("fleet.db")).unwrap();
    let device = reader.device("d1").unwrap().unwrap();
    reader.faults(device.key).unwrap().into_iter().map(|f| f.code).collect()
}

fn ledger(dir: &tempfile::TempDir) -> Ledger {
    let reader = Reader::open(&dir.path().join("fleet.db")).unwrap();
    Ledger::read(&reader, &reader.device("d1").unwrap().unwrap()).unwrap()
}

#[test]
fn an_account_that_grows_is_without_fault_and_survives_a_kill_of_either_side() {
    let (dir, mut store) = open();
    say(&mut store, 0, &beat(1, 10, 10, 0));
    store.commit(NOW, &[block(1, 10)]).unwrap();
    say(&mut store, 30, &beat(2, 20, 5, 5));
    // What was acknowledged and not yet committed is waiting again after a cut; another boot counts from zero.
    let mut rebooted = beat(3, 20, 15, 5);
    (rebooted.at.boot, rebooted.at.mono) = (BootId([2; 16]), Mono(1));
    say(&mut store, 60, &rebooted);
    assert_eq!(faults(&dir), [""; 0]);
}

#[test]
fn an_older_image_of_the_spool_is_noticed_by_its_account() {
    let (dir, mut store) = open();
    say(&mut store, 0, &beat(5, 100, 0, 10));
    say(&mut store, 30, &Heartbeat { serial: 6, ..beat(6, 60, 0, 4) });
    let mut found = faults(&dir);
    found.sort();
    assert_eq!(found, ["account_back", "evicted_back"]);
    assert!(!ledger(&dir).is_good(Duration::from_secs(300)));
}

#[test]
fn an_older_image_that_has_admitted_more_since_is_noticed_by_its_serial_number() {
    let (dir, mut store) = open();
    say(&mut store, 0, &beat(5, 100, 0, 0));
    let mut grown = beat(3, 900, 0, 0);
    grown.at.mono = Mono(99);
    say(&mut store, 30, &grown);
    assert_eq!(faults(&dir), ["serial_back"]);
    // It stays, however long things go well since.
    say(&mut store, 60, &Heartbeat { serial: 6, ..beat(100, 901, 0, 0) });
    assert_eq!(faults(&dir), ["serial_back"]);
}

#[test]
fn a_heartbeat_that_is_heard_twice_or_late_tells_nothing() {
    let (dir, mut store) = open();
    for serial in [5, 5, 4, 5] {
        say(&mut store, serial, &beat(serial, 10 * serial, 0, 0));
    }
    assert_eq!(faults(&dir), [""; 0]);
    let reader = Reader::open(&dir.path().join("fleet.db")).unwrap();
    let (at, bytes) = reader.device("d1").unwrap().unwrap().heartbeat.unwrap();
    assert_eq!((at, Heartbeat::decode(&bytes).unwrap().serial), (NOW + Duration::from_secs(5), 5));
}

#[test]
fn what_is_owed_becomes_a_gap_after_the_grace_period_and_ends_when_it_arrives() {
    let (dir, mut store) = open();
    let grace = Duration::from_secs(300);
    store.commit(NOW, &[block(1, 4), block(8, 10)]).unwrap();
    for (serial, s, owed) in [(1, 0, 0), (2, 299, 0), (3, 300, 3)] {
        say(&mut store, s, &beat(serial, 10, 0, 3));
        assert_eq!(ledger(&dir).undeclared(grace), owed, "after {s} s");
    }
    store.commit(NOW, &[Delivery { content: Content::Gap(GapReason::Quota), ..block(5, 7) }]).unwrap();
    assert!(ledger(&dir).is_good(grace) && ledger(&dir).undeclared(grace) == 0);
    // The same again later begins anew.
    say(&mut store, 330, &beat(4, 10, 0, 3));
    say(&mut store, 900, &beat(5, 13, 0, 6));
    assert_eq!(ledger(&dir).undeclared(grace), 0);
}

#[test]
fn a_wiped_disk_shows_what_it_took_along() {
    let (dir, mut store) = open();
    store.commit(NOW, &[block(1, 10)]).unwrap();
    say(&mut store, 0, &beat(1, 25, 15, 0));
    let mut fresh = beat(2, 0, 0, 0);
    fresh.lanes.iter_mut().for_each(|lane| lane.epoch = 8u64.to_be_bytes());
    say(&mut store, 30, &fresh);
    assert_eq!(ledger(&dir).undeclared(Duration::from_secs(300)), 15);
}

/// The first program's database, as it made it.
#[test]
fn a_database_of_the_first_version_is_brought_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fleet.db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(&format!("{}\nPRAGMA user_version = 1;", SCHEMA[0])).unwrap();
    old.execute_batch("INSERT INTO devices (name, first_seen, last_seen) VALUES ('d1', 1, 1)").unwrap();
    drop(old);
    let early = Reader::open(&path).err().expect("a file that a reader must not touch").to_string();
    assert!(early.contains("outpost aggregate"), "{early}");
    let mut store = Store::open(&path, Retention::default()).unwrap();
    say(&mut store, 0, &beat(1, 10, 10, 0));
    assert_eq!(Reader::open(&path).unwrap().device("d1").unwrap().unwrap().trust, Trust::Unsigned);
    drop(store);
    Store::open(&path, Retention::default()).unwrap();
}
