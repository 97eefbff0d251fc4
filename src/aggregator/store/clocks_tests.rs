//! Devices that did not know the time, against real files.

use std::time::Duration;

use proptest::prelude::*;

use crate::aggregator::store::{Content, Delivery, Reader, Retention, Store};
use crate::digest::{Digest, DigestTiming, Engine, Lang};
use crate::episode::{EpisodeUpdate, Phase};
use crate::facts::Facts;
use crate::limits;
use crate::reading::{ChannelId, Pattern, Reading, Severity, Unit};
use crate::time::{BootId, ClockState, Mono, Stamp, Wall};
use crate::window::WindowSummary;
use crate::wire::block::{BlockHeader, Body, encode_block};
use crate::wire::{ClockFix, Lane, Notice, Record};

const NOW: Wall = Wall::from_secs(1_790_000_000);
/// When the boots of the story began, in seconds before `NOW`.
const BEGAN_S: [u64; 4] = [90_000, 80_000, 60_000, 20_000];

struct Site {
    dir: tempfile::TempDir,
    store: Store,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("fleet.db"), Retention::default()).unwrap();
        Self { dir, store }
    }

    fn take(&mut self, delivery: &Delivery) {
        self.store.commit(NOW, std::slice::from_ref(delivery)).unwrap();
    }

    /// A kill: nothing is closed in order.
    fn restart(&mut self) {
        let again = Store::open(&self.dir.path().join("fleet.db"), Retention::default()).unwrap();
        std::mem::forget(std::mem::replace(&mut self.store, again));
    }

    fn reader(&self) -> (Reader, i64) {
        let reader = Reader::open(&self.dir.path().join("fleet.db")).unwrap();
        let device = reader.device("d").unwrap().unwrap().key;
        (reader, device)
    }

    /// Starts of all windows by their value, in seconds before `NOW`; the value is the sequence number.
    fn windows(&self) -> Vec<(u64, i64)> {
        let (reader, device) = self.reader();
        let channel = reader.channels(device).unwrap().pop().unwrap();
        let sql = "SELECT start, mean FROM windows WHERE channel = ?1 ORDER BY mean";
        let connection = rusqlite::Connection::open(self.dir.path().join("fleet.db")).unwrap();
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([channel.key], |row| {
            Ok((row.get::<_, f64>(1)? as u64, NOW.micros_since(Wall(row.get(0)?)) / 1_000_000))
        });
        rows.unwrap().map(Result::unwrap).collect()
    }
}

fn boot(n: usize) -> BootId {
    BootId([n as u8 + 1; 16])
}

/// Second `mono_s` of boot `n`, whose clock shows `wall`.
fn stamp(n: usize, mono_s: u64, wall: Wall) -> Stamp {
    let state = if wall < limits::WALL_PLAUSIBLE_MIN { ClockState::Unset } else { ClockState::Free };
    Stamp { wall, mono: Mono(mono_s * 1_000_000), boot: boot(n), uncertainty_us: u32::MAX, state }
}

/// The same, by a clock that nobody has set.
fn in_1970(n: usize, mono_s: u64) -> Stamp {
    stamp(n, mono_s, Wall::from_secs(mono_s as i64))
}

fn deliver(lane: Lane, first: u64, sealed: Stamp, records: Vec<Record>) -> Delivery {
    let last = first + records.len() as u64 - 1;
    let header =
        BlockHeader { lane, epoch: 7, first, count: records.len() as u32, sealed, body: Body::Records };
    let payload = encode_block(&header, &records).unwrap();
    Delivery {
        device: "d".into(),
        lane,
        epoch: 7,
        first,
        last,
        sealed,
        content: Content::Records { records, payload },
    }
}

fn channel() -> ChannelId {
    ChannelId::new("pump.temp").unwrap()
}

/// A window of one minute that ends as the block is sealed.
fn window(seq: u64, sealed: Stamp) -> Delivery {
    let value = seq as f64;
    let window = WindowSummary {
        channel: channel(),
        unit: Unit("Cel".into()),
        start: sealed.wall - Duration::from_secs(60),
        length_ms: 60_000,
        count: 1,
        missing: 0,
        min: value,
        max: value,
        mean: value,
        std: 0.0,
        last: value,
        slope_per_h: 0.0,
        detail: None,
    };
    deliver(Lane::Metric, seq, sealed, vec![Record::Window(window)])
}

/// The device says in alarm record `seq` that boot `n` began `ago_s` before `NOW`.
fn fix(seq: u64, n: usize, ago_s: u64) -> Delivery {
    let offset_us = (NOW - Duration::from_secs(ago_s)).0;
    let fix = ClockFix { boot: boot(n), offset_us, uncertainty_us: 5, unset_offset_us: Some(0) };
    deliver(Lane::Alarm, seq, stamp(3, 10_000, NOW - Duration::from_secs(10_000)), vec![Record::Clock(fix)])
}

/// Windows 1 to 9 of three boots in 1970, at the same seconds of each, and the fixes of the boots.
fn story() -> Vec<Delivery> {
    let windows = (0..9).map(|i| window(i + 1, in_1970((i / 3) as usize, 60 * (i % 3 + 1))));
    windows.chain((0..3).map(|n| fix(n as u64 + 1, n, BEGAN_S[n]))).collect()
}

fn told() -> Vec<(u64, i64)> {
    (0..9).map(|i| (i + 1, BEGAN_S[(i / 3) as usize] as i64 - 60 * (i % 3) as i64)).collect()
}

#[test]
fn three_boots_in_1970_keep_every_window_and_are_set_right_together() {
    let mut site = Site::new();
    let story = story();
    story[..9].iter().for_each(|delivery| site.take(delivery));
    let kept = site.windows();
    assert_eq!(kept.len(), 9, "boots with the same times must not overwrite each other");
    assert!(kept.windows(2).all(|two| two[0].1 > two[1].1), "{kept:?}");
    site.restart();
    story[9..].iter().for_each(|delivery| site.take(delivery));
    assert_eq!(site.windows(), told());
    let (reader, device) = site.reader();
    let boots = reader.boots(device).unwrap();
    assert_eq!(
        boots.iter().map(|b| (b.boot, b.uncertainty_us)).collect::<Vec<_>>(),
        [2, 1, 0].map(|n| (boot(n), Some(5)))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Blocks before, after and between the words of the device, with the aggregator killed anywhere.
    #[test]
    fn the_order_of_arrival_makes_no_difference(order in Just(story()).prop_shuffle(), kill in 0usize..12) {
        let mut site = Site::new();
        for (at, delivery) in order.iter().enumerate() {
            site.take(delivery);
            if at == kill {
                site.restart();
                site.take(delivery);
            }
        }
        prop_assert_eq!(site.windows(), told());
    }
}

#[test]
fn a_better_word_replaces_the_one_before_and_a_late_one_does_not() {
    let mut site = Site::new();
    site.take(&window(1, in_1970(0, 60)));
    site.take(&fix(5, 0, 90_000));
    site.take(&fix(6, 0, 89_000));
    assert_eq!(site.windows(), [(1, 89_000)]);
    site.take(&fix(4, 0, 70_000));
    assert_eq!(site.windows(), [(1, 89_000)]);
    // What comes now is told apart by its clock and set right at once.
    site.take(&window(2, in_1970(0, 120)));
    assert_eq!(site.windows(), [(1, 89_000), (2, 88_940)]);
}

#[test]
fn neighbours_that_move_onto_each_others_places_are_all_kept() {
    let mut site = Site::new();
    (1..=5).for_each(|i| site.take(&window(i, in_1970(0, 60 * i))));
    site.take(&fix(1, 0, 90_000));
    // One minute: every window moves onto the place of the next.
    site.take(&fix(2, 0, 89_940));
    assert_eq!(site.windows(), (1..=5).map(|i| (i, 89_940 - 60 * (i as i64 - 1))).collect::<Vec<_>>());
}

#[test]
fn a_clock_that_was_ahead_and_stepped_back_does_not_invert_the_order() {
    let mut site = Site::new();
    let began = NOW - Duration::from_secs(20_000);
    let at = |s: u64, ahead_s: u64| stamp(3, s, began + Duration::from_secs(s + ahead_s));
    // Ten minutes ahead until second 500, then right.
    (1..=4).for_each(|i| site.take(&window(i, at(100 * i, 600))));
    site.take(&fix(1, 3, 20_000));
    (5..=12).for_each(|i| site.take(&window(i, at(100 * i, 0))));
    let kept = site.windows();
    assert_eq!(kept.len(), 12);
    assert!(kept.windows(2).all(|two| two[0].1 - two[1].1 == 100), "{kept:?}");
}

#[test]
fn a_clock_that_is_right_and_one_of_its_own_are_left_alone() {
    let mut site = Site::new();
    let right = stamp(3, 100, NOW - Duration::from_secs(19_900));
    site.take(&window(1, right));
    // A recording of last year, replayed by a gateway in 1970.
    let mut recorded = window(2, in_1970(0, 60));
    let Content::Records { records, .. } = &mut recorded.content else { unreachable!() };
    let Record::Window(window) = &mut records[0] else { unreachable!() };
    window.start = NOW - Duration::from_secs(400 * 86_400);
    site.take(&recorded);
    site.take(&fix(1, 3, 20_000));
    site.take(&fix(2, 0, 90_000));
    assert_eq!(site.windows(), [(1, 19_960), (2, 400 * 86_400)]);
}

#[test]
fn alarms_digests_notices_and_readings_of_1970_are_set_right_and_an_episode_stays_one() {
    let mut site = Site::new();
    let step = |phase, start: Wall, at: Wall| {
        Record::Episode(EpisodeUpdate {
            id: 1,
            phase,
            channel: channel(),
            pattern: Pattern::Rise,
            severity: Severity::Critical,
            start,
            at,
            baseline: None,
            peak: None,
            last: None,
            limit: None,
            count: 1,
            unit: Unit("Cel".into()),
            reason: String::new(),
            evidence: None,
        })
    };
    let set = NOW - Duration::from_secs(79_000);
    let (opened, closed) = (Wall::from_secs(300), Wall::from_secs(400));
    let live = stamp(1, 1000, set);
    let digest = Record::Digest(Digest {
        id: 1,
        engine: Engine::Template,
        model: String::new(),
        fallback_reason: String::new(),
        lang: Lang::En,
        verdict: Severity::Critical,
        cause: String::new(),
        text: String::new(),
        facts: Facts { from: opened, to: closed, ..no_facts() },
        timing: DigestTiming::default(),
    });
    let notice = Record::Notice(Notice { code: "n".into(), text: "x".into(), at: closed });
    let reading = Record::Reading(Reading::new(channel(), closed, Ok(1.0)));
    // The fix overtakes what was stamped before, and so does the step that was sealed after the clock was set.
    site.take(&fix(4, 1, 80_000));
    site.take(&deliver(Lane::Alarm, 5, live, vec![step(Phase::Closed, opened, set)]));
    site.take(&deliver(Lane::Alarm, 1, in_1970(1, 300), vec![step(Phase::Opened, opened, opened)]));
    site.take(&deliver(Lane::Alarm, 2, in_1970(1, 400), vec![notice]));
    site.take(&deliver(Lane::Digest, 1, in_1970(1, 400), vec![digest]));
    site.take(&deliver(Lane::Raw, 1, in_1970(1, 400), vec![reading]));

    let (reader, device) = site.reader();
    let ago = |at: Wall| NOW.micros_since(at) / 1_000_000;
    let all = (Wall(i64::MIN), Wall(i64::MAX));
    let episodes = reader.episodes(device, all.0, all.1).unwrap();
    let [episode] = &episodes[..] else { panic!("{episodes:?}") };
    assert_eq!((ago(episode.start), ago(episode.at), episode.open), (79_700, 79_000, false));
    let facts = reader.digests(device, all.0, all.1).unwrap().remove(0).digest.facts;
    assert_eq!((ago(facts.from), ago(facts.to)), (79_700, 79_600));
    assert_eq!(ago(reader.notices(device).unwrap()[0].at), 79_600);
    let from = NOW - Duration::from_secs(79_601);
    let raw = reader.raw(device, from, from + Duration::from_secs(2), 9).unwrap();
    assert_eq!(
        raw.iter().map(|block| block.shift_us).collect::<Vec<_>>(),
        [(NOW - Duration::from_secs(80_000)).0]
    );
}

fn no_facts() -> Facts {
    Facts {
        from: Wall(0),
        to: Wall(0),
        outage: None,
        events: Vec::new(),
        events_more: 0,
        channels_normal: 0,
        readings: 0,
    }
}

#[test]
fn hostile_times_move_nothing_and_clocks_are_bounded() {
    let mut site = Site::new();
    for (at, offset_us) in [i64::MIN, i64::MAX, 1 << 57].into_iter().enumerate() {
        let fix = ClockFix { boot: boot(0), offset_us, uncertainty_us: 0, unset_offset_us: Some(offset_us) };
        site.take(&deliver(Lane::Alarm, at as u64 + 1, in_1970(0, 1), vec![Record::Clock(fix)]));
    }
    let mut hostile = window(1, stamp(0, 60, Wall(i64::MAX)));
    hostile.sealed.mono = Mono(u64::MAX);
    site.take(&hostile);
    let (reader, device) = site.reader();
    assert_eq!(reader.boots(device).unwrap(), []);
    for n in 0..limits::CLOCKS_MAX as u64 + 50 {
        site.take(&window(n + 2, stamp(3, 60, NOW + Duration::from_secs(n * 100))));
    }
    let connection = rusqlite::Connection::open(site.dir.path().join("fleet.db")).unwrap();
    let clocks: i64 = connection.query_row("SELECT count(*) FROM clocks", [], |row| row.get(0)).unwrap();
    assert_eq!(clocks, limits::CLOCKS_MAX as i64);
}
