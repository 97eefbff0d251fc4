//! Single promises of the queue, on a journal in memory.

use outpost::limits;
use outpost::reading::{ChannelId, Unit};
use outpost::spool::{JournalError, MemJournal, Options, Payload, Spool, WhenFull};
use outpost::time::Wall;
use outpost::window::WindowSummary;
use outpost::wire::{Body, GapReason, Lane, Notice, Record, decode_block};

use super::{assert_balanced, large, noise, notice, reading, readings, records, stamp, walk};

fn spool(options: Options) -> (Spool<MemJournal>, MemJournal) {
    let journal = MemJournal::default();
    (Spool::open(journal.clone(), options).unwrap(), journal)
}

fn small(raw: WhenFull) -> Options {
    let when_full = [WhenFull::RefuseNewest, WhenFull::DropOldest, WhenFull::Thin, raw];
    Options { bytes_max: 20_000, reserved_percent: [20, 0, 0, 30], when_full, ..Options::default() }
}

#[test]
fn what_was_admitted_comes_back_in_order_and_byte_for_byte() {
    let (mut spool, journal) = spool(Options::default());
    let ranges = spool.admit([readings(100), vec![notice(1)]].concat());
    assert_eq!((ranges[0].lane, ranges[0].first, ranges[0].last), (Lane::Alarm, 1, 1));
    assert_eq!((ranges[1].lane, ranges[1].first, ranges[1].last), (Lane::Raw, 1, 100));
    spool.commit(stamp(1)).unwrap();
    let blocks = walk(&mut spool, Lane::Raw);
    assert_eq!(records(&blocks), readings(100));
    let reopened = walk(&mut Spool::open(journal, Options::default()).unwrap(), Lane::Raw);
    assert_eq!(reopened, blocks);
}

#[test]
fn nothing_is_promised_before_the_commit() {
    let (mut spool, journal) = spool(Options::default());
    spool.admit(readings(10));
    assert_eq!(spool.durable_through(Lane::Raw), 0);
    assert_eq!(spool.fetch(Lane::Raw, 1, stamp(0)).unwrap(), None);
    drop(spool);
    let mut spool = Spool::open(journal, Options::default()).unwrap();
    let ranges = spool.admit(readings(1));
    assert_eq!(ranges[0].first, 1);
}

#[test]
fn numbers_go_on_after_the_spool_was_emptied_and_reopened() {
    let (mut spool, journal) = spool(Options::default());
    let epoch = spool.epoch();
    spool.admit(readings(10));
    spool.commit(stamp(1)).unwrap();
    spool.release(Lane::Raw, 10, &[]).unwrap();
    spool.commit(stamp(2)).unwrap();
    assert_eq!(journal.disk().map.len(), 1, "only the books are left");
    let mut spool = Spool::open(journal, Options::default()).unwrap();
    assert_eq!(spool.admit(readings(1))[0].first, 11);
    assert_eq!(spool.epoch(), epoch);
    assert_ne!(Spool::open(MemJournal::default(), Options::default()).unwrap().epoch(), epoch);
}

#[test]
fn the_lowest_lane_gives_way_and_one_gap_says_so() {
    let (mut spool, _) = spool(small(WhenFull::DropOldest));
    for n in 0..400 {
        spool.admit([readings(20), vec![notice(n)]].concat());
        spool.commit(stamp(n as i64)).unwrap();
        assert_balanced(&spool);
        assert!(spool.bytes() <= 20_000, "{} bytes", spool.bytes());
    }
    let raw = walk(&mut spool, Lane::Raw);
    let Body::Gap { reason, last } = decode_block(&raw[0].bytes).unwrap().header.body else {
        panic!("the oldest is no gap")
    };
    assert_eq!((reason, raw[0].id.first, raw[0].gap), (GapReason::Quota, 1, true));
    assert_eq!(raw.iter().filter(|b| b.gap).count(), 1);
    assert_eq!(raw[1].id.first, last + 1);
    assert!(spool.ledger()[Lane::Raw.index()].bytes > 5_000, "raw keeps its reserve");
    assert_eq!(spool.ledger()[Lane::Raw.index()].evicted_total(), last);
}

#[test]
fn refusing_the_newest_keeps_how_it_began() {
    let (mut spool, _) = spool(small(WhenFull::RefuseNewest));
    for n in 0..400 {
        spool.admit(readings(20));
        spool.commit(stamp(n)).unwrap();
        assert_balanced(&spool);
    }
    let raw = walk(&mut spool, Lane::Raw);
    let (kept, gaps): (Vec<_>, Vec<_>) = raw.into_iter().partition(|b| !b.gap);
    assert_eq!(kept[0].id.first, 1);
    assert_eq!((gaps.len(), gaps[0].id.last), (1, 8000));
    assert_eq!(gaps[0].id.first, kept.last().unwrap().id.last + 1);
    spool.admit((0..300).map(notice).collect());
    spool.commit(stamp(1)).unwrap();
    assert_eq!(records(&walk(&mut spool, Lane::Alarm)).len(), 300, "alarms still find room");
}

#[test]
fn a_refused_commit_promises_nothing_loses_nothing_and_is_tried_again() {
    let (mut spool, journal) = spool(Options::default());
    spool.admit(readings(10));
    journal.disk().full = true;
    for n in 0..3 {
        assert_eq!(spool.commit(stamp(n)), Err(JournalError::Full));
        assert_eq!(spool.admit(vec![reading(10 + n as u64)])[0].first, 11 + n as u64);
    }
    assert_eq!(spool.durable_through(Lane::Raw), 0);
    journal.disk().full = false;
    let done = spool.commit(stamp(9)).unwrap();
    assert_eq!((done.blocks.len(), done.evicted), (2, 0));
    assert_eq!(records(&walk(&mut spool, Lane::Raw)), readings(13));
}

#[test]
fn a_disk_that_refuses_for_long_costs_the_oldest_raw_records_and_says_so() {
    let (mut spool, journal) = spool(Options::default());
    journal.disk().full = true;
    for n in 0..100 {
        spool.admit([readings(1000), vec![notice(n)]].concat());
        let _ = spool.commit(stamp(0));
        assert!(spool.open_records() <= limits::SPOOL_OPEN_RECORDS_MAX);
    }
    journal.disk().full = false;
    spool.commit(stamp(1)).unwrap();
    assert_balanced(&spool);
    let raw = spool.ledger()[Lane::Raw.index()];
    assert_eq!(raw.admitted, 100_000);
    assert!(raw.evicted[GapReason::DiskFull as usize] > 50_000);
    assert_eq!(records(&walk(&mut spool, Lane::Alarm)).len(), 100);
    assert_eq!(records(&walk(&mut spool, Lane::Raw)).len() as u64, raw.pending);
}

#[test]
fn a_low_disk_stops_growth_and_names_the_reason() {
    for raw in [WhenFull::DropOldest, WhenFull::RefuseNewest] {
        let mut options = Options { bytes_max: 8 << 20, ..Options::default() };
        options.when_full[Lane::Raw.index()] = raw;
        let (mut spool, _) = spool(options);
        spool.set_disk_low(true);
        for n in 0..100 {
            spool.admit(noise(4000));
            spool.commit(stamp(n)).unwrap();
            assert!(spool.bytes() <= limits::SPOOL_BYTES_MIN);
        }
        let evicted = spool.ledger()[Lane::Raw.index()].evicted;
        assert!(evicted[GapReason::DiskFull as usize] > 0, "{raw}");
        assert_eq!(evicted[GapReason::Quota as usize], 0, "{raw}");
        assert_balanced(&spool);
    }
}

/// A refusal for want of room in all was kept up for as long as the lane's own quota was tight, and the other way round.
#[test]
fn a_lane_that_was_refused_for_its_own_quota_is_not_for_what_others_take() {
    let mut options = Options { bytes_max: 8 << 20, ..Options::default() };
    options.when_full[Lane::Raw.index()] = WhenFull::RefuseNewest;
    options.lane_bytes_max[Lane::Raw.index()] = Some(3 << 19);
    let (mut spool, _) = spool(options);
    for n in 0..100 {
        spool.admit(noise(4000));
        spool.commit(stamp(n)).unwrap();
    }
    let refused = |spool: &Spool<_>| spool.ledger()[Lane::Raw.index()].evicted[GapReason::Quota as usize];
    let before = refused(&spool);
    assert!(before > 0);
    // Alarms take nearly all the rest; then raw is drained to a little above its reserve.
    let mut rng = fastrand::Rng::with_seed(1);
    while spool.bytes() < (31 << 20) / 4 {
        let text = |_| (0..240).map(|_| rng.char('!'..='~')).collect();
        let alarm = |text| Record::Notice(Notice { code: "n".into(), text, at: Wall(0) });
        spool.admit((0..200).map(text).map(alarm).collect());
        spool.commit(stamp(200)).unwrap();
    }
    while spool.ledger()[Lane::Raw.index()].bytes > 5 << 18 {
        let next = spool.released_through(Lane::Raw) + 1;
        let block = spool.fetch(Lane::Raw, next, stamp(201)).unwrap().unwrap();
        spool.release(Lane::Raw, block.id.last, &[]).unwrap();
    }
    assert!(spool.bytes() > 7 << 20);
    spool.admit(noise(100));
    spool.commit(stamp(202)).unwrap();
    assert_eq!(refused(&spool), before, "there is room in both");
    assert_balanced(&spool);
}

/// Only records were counted: of large ones as many as of readings waited, without a bound in bytes.
#[test]
fn a_disk_that_refuses_for_long_does_not_fill_the_memory_with_large_records() {
    let (mut spool, journal) = spool(Options::default());
    journal.disk().full = true;
    for n in 0..2000 {
        spool.admit(vec![reading(n), large(n), notice(n)]);
        let _ = spool.commit(stamp(0));
        assert!(spool.open_bytes() <= limits::SPOOL_OPEN_BYTES_MAX);
    }
    journal.disk().full = false;
    spool.commit(stamp(1)).unwrap();
    assert_balanced(&spool);
    let digests = spool.ledger()[Lane::Digest.index()];
    assert!(digests.evicted[GapReason::DiskFull as usize] > 1000 && digests.pending > 300, "{digests:?}");
    assert_eq!(records(&walk(&mut spool, Lane::Alarm)).len(), 2000);
}

#[test]
fn a_rotten_block_becomes_a_gap_and_the_rest_goes_on() {
    let (mut spool, journal) = spool(Options::default());
    for n in 0..3 {
        spool.admit(readings(10));
        spool.commit(stamp(n)).unwrap();
    }
    let second = journal.disk().map.keys().filter(|k| k[0] == b'b').nth(1).unwrap().clone();
    journal.disk().map.get_mut(&second).unwrap()[20] ^= 1;
    let blocks = walk(&mut spool, Lane::Raw);
    assert_eq!(blocks.iter().map(|b| b.gap).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!((blocks[1].id.first, blocks[1].id.last), (11, 20));
    assert_eq!(spool.ledger()[Lane::Raw.index()].evicted[GapReason::Corrupt as usize], 10);
    assert_balanced(&spool);
}

#[test]
fn blocks_that_vanished_are_declared() {
    let (mut spool, journal) = spool(Options::default());
    spool.admit(readings(10));
    spool.commit(stamp(1)).unwrap();
    journal.disk().map.retain(|key, _| key[0] != b'b');
    let blocks = walk(&mut spool, Lane::Raw);
    assert!(blocks.len() == 1 && blocks[0].gap && blocks[0].id.last == 10);
    assert_balanced(&spool);
}

#[test]
fn a_block_refused_by_the_far_side_becomes_a_gap() {
    let (mut spool, _) = spool(Options::default());
    spool.admit(readings(10));
    spool.commit(stamp(1)).unwrap();
    spool.refuse(Lane::Raw, 1, stamp(2)).unwrap();
    spool.refuse(Lane::Raw, 1, stamp(3)).unwrap();
    let blocks = walk(&mut spool, Lane::Raw);
    assert!(blocks.len() == 1 && blocks[0].gap);
    assert_eq!(spool.ledger()[Lane::Raw.index()].evicted[GapReason::Refused as usize], 10);
    assert_balanced(&spool);
}

/// A commit was refused, the block was acknowledged meanwhile, and then the far side's refusal or a rotten bit made the spool
/// try the commit again before it gave the block up: it was counted as acknowledged and as evicted.
#[test]
fn a_block_acknowledged_behind_a_refused_commit_is_not_given_up_as_well() {
    for rotten in [false, true] {
        let (mut spool, journal) = spool(Options::default());
        spool.admit(readings(10));
        spool.commit(stamp(1)).unwrap();
        journal.disk().applies_failing = 1;
        spool.admit(readings(5));
        spool.commit(stamp(2)).unwrap_err();
        spool.release(Lane::Raw, 10, &[]).unwrap();
        if rotten {
            journal
                .disk()
                .map
                .iter_mut()
                .filter(|(key, _)| key[0] == b'b')
                .for_each(|(_, value)| value[30] ^= 1);
            spool.fetch(Lane::Raw, 1, stamp(3)).unwrap();
        } else {
            spool.refuse(Lane::Raw, 1, stamp(3)).unwrap();
        }
        assert_balanced(&spool);
        assert_eq!(spool.ledger()[Lane::Raw.index()].acknowledged, 10);
    }
}

/// A part of the journal was damaged just when the last acknowledgement came: it was forgotten, and what it let go waited for
/// the next start.
#[test]
fn an_acknowledgement_that_finds_the_journal_unreadable_is_taken_up_by_the_next_commit() {
    let (mut spool, journal) = spool(Options::default());
    spool.admit(readings(10));
    spool.commit(stamp(1)).unwrap();
    journal.disk().unopenable = true;
    spool.release(Lane::Raw, 10, &[]).unwrap_err();
    journal.disk().unopenable = false;
    assert!(spool.is_dirty());
    spool.commit(stamp(2)).unwrap();
    assert_eq!((walk(&mut spool, Lane::Raw), spool.ledger()[Lane::Raw.index()].acknowledged), (vec![], 10));
}

#[test]
fn a_record_larger_than_a_block_is_declared_and_does_not_stop_the_others() {
    let (mut spool, _) = spool(Options::default());
    let Record::Notice(mut huge) = notice(1) else { unreachable!() };
    // Incompressible, or it would fit after all.
    let mut n = 1_u64;
    huge.text = (0..200_000)
        .map(|_| {
            n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b' ' + (n >> 57) as u8 % 90)
        })
        .collect();
    spool.admit(vec![notice(0), Record::Notice(huge), notice(2)]);
    spool.commit(stamp(1)).unwrap();
    let blocks = walk(&mut spool, Lane::Alarm);
    assert_eq!(records(&blocks), [notice(0), notice(2)]);
    assert_eq!(spool.ledger()[Lane::Alarm.index()].evicted[GapReason::Oversize as usize], 1);
    assert_balanced(&spool);
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_not_believed() {
    let (mut spool, _) = spool(Options::default());
    spool.admit(readings(10));
    spool.commit(stamp(1)).unwrap();
    spool.release(Lane::Raw, u64::MAX, &[(0, u64::MAX), (7, 3)]).unwrap();
    assert_eq!(spool.ledger()[Lane::Raw.index()].acknowledged, 10);
    spool.admit(readings(5));
    spool.commit(stamp(2)).unwrap();
    assert_eq!(records(&walk(&mut spool, Lane::Raw)).len(), 5);
    assert_balanced(&spool);
}

#[test]
fn json_payloads_are_documents_and_keep_their_place() {
    let payload = Payload::Json { device: "gw-1".into() };
    let (mut spool, _) = spool(Options { payload, ..Options::default() });
    spool.admit(readings(5000));
    spool.commit(stamp(1)).unwrap();
    let mut next = 1;
    for block in walk(&mut spool, Lane::Raw) {
        let document: serde_json::Value = serde_json::from_slice(&block.bytes).unwrap();
        assert_eq!((document["first"].as_u64(), block.id.first), (Some(next), next));
        assert_eq!(document["records"].as_array().unwrap().len() as u64, block.id.count());
        assert!(block.bytes.len() <= limits::SPOOL_BLOCK_BYTES_MAX);
        next = block.id.last + 1;
    }
    assert_eq!(next, 5001);
}

/// Summaries, each of its own window.
fn windows(n: i64) -> Vec<Record> {
    let window = |n| WindowSummary {
        channel: ChannelId::new("pump1.temp").unwrap(),
        unit: Unit("Cel".into()),
        start: Wall(n * 1_000_000),
        length_ms: 1000,
        count: 1,
        missing: 0,
        min: 0.0,
        max: 0.0,
        mean: 0.0,
        std: 0.0,
        last: 0.0,
        slope_per_h: 0.0,
        detail: None,
    };
    (0..n).map(window).map(Record::Window).collect()
}

/// One block of about 900 bytes per commit.
fn commit_noise<J: outpost::spool::Journal>(spool: &mut Spool<J>, n: i64) {
    for turn in 0..n {
        spool.admit(noise(100));
        spool.commit(stamp(turn)).unwrap();
        assert_balanced(spool);
    }
}

#[test]
fn a_thinned_lane_keeps_every_second_block_before_it_gives_up_the_oldest() {
    let options = small(WhenFull::Thin);
    let (mut spool, journal) = spool(options.clone());
    commit_noise(&mut spool, 30);
    let blocks = walk(&mut spool, Lane::Raw);
    let thinned = blocks.iter().filter(|b| b.gap).count();
    assert!(thinned >= 5 && !blocks[0].gap, "the oldest is still there");
    assert!(blocks[..2 * thinned].iter().enumerate().all(|(i, b)| b.gap == (i % 2 == 1)));
    let evicted = spool.ledger()[Lane::Raw.index()].evicted;
    assert_eq!(evicted[GapReason::Thinned as usize], 100 * thinned as u64);
    assert_eq!(evicted[GapReason::Quota as usize], 0);

    let mut spool = Spool::open(journal, options).unwrap();
    commit_noise(&mut spool, 400);
    let blocks = walk(&mut spool, Lane::Raw);
    assert!(spool.bytes() <= 20_000);
    let kept = blocks.iter().filter(|b| !b.gap).count();
    assert!(kept >= 15, "gaps must not take the room: {kept} of {}", blocks.len());
    assert!(
        blocks[0].gap && blocks[0].id.first == 1 && blocks[0].id.count() > 20_000,
        "one gap for all before"
    );
    let first_kept = blocks.iter().find(|b| !b.gap).unwrap().id.first;
    assert!(43_000 - first_kept > 100 * 25, "at half the resolution the history is longer than the room");
}

#[test]
fn a_lane_at_its_own_quota_gives_up_its_own_by_its_policy() {
    for policy in WhenFull::ALL {
        let lane_bytes_max = [None, None, None, Some(10_000)];
        let (mut spool, _) = spool(Options { bytes_max: 1 << 20, lane_bytes_max, ..small(*policy) });
        spool.admit((0..300).map(notice).collect());
        for n in 0..60 {
            spool.admit(noise(100));
            spool.commit(stamp(n)).unwrap();
            assert_balanced(&spool);
            let bytes = spool.ledger()[Lane::Raw.index()].bytes;
            assert!(bytes <= 10_000 + 120, "{policy}: {bytes} bytes");
        }
        let books = spool.ledger();
        assert_eq!(
            (books[Lane::Alarm.index()].pending, books[Lane::Alarm.index()].evicted_total()),
            (300, 0)
        );
        let raw = walk(&mut spool, Lane::Raw);
        let gaps: Vec<_> = raw.iter().filter(|b| b.gap).map(|b| (b.id.first, b.id.last)).collect();
        let evicted = books[Lane::Raw.index()].evicted;
        let [quota, thinned] = [GapReason::Quota, GapReason::Thinned].map(|why| evicted[why as usize]);
        match policy {
            WhenFull::DropOldest => assert_eq!((gaps, thinned), (vec![(1, quota)], 0)),
            WhenFull::RefuseNewest => assert_eq!((gaps, thinned), (vec![(6001 - quota, 6000)], 0)),
            WhenFull::Thin => assert!(thinned > 0 && gaps.len() > 1, "{gaps:?}"),
        }
    }
}

#[test]
fn alarms_at_their_own_quota_are_refused_and_what_was_promised_stays() {
    let lane_bytes_max = [Some(5_000), None, None, None];
    let options = Options { bytes_max: 1 << 20, lane_bytes_max, ..small(WhenFull::DropOldest) };
    let (mut spool, _) = spool(options);
    spool.admit(readings(100));
    for n in 0..200 {
        spool.admit(vec![notice(n)]);
        spool.commit(stamp(0)).unwrap();
        assert_balanced(&spool);
        assert!(spool.ledger()[Lane::Alarm.index()].bytes <= 5_000 + 120, "{:?}", spool.ledger());
    }
    let books = spool.ledger();
    let refused = books[Lane::Alarm.index()].evicted[GapReason::Quota as usize];
    assert!(refused > 100 && books[Lane::Raw.index()].pending == 100, "{books:?}");
    let kept = records(&walk(&mut spool, Lane::Alarm));
    assert_eq!(kept, (0..200 - refused).map(notice).collect::<Vec<_>>());
}

/// Two lanes refuse what is new: one at its own quota says nothing of the other.
#[test]
fn a_lane_that_refuses_at_its_own_quota_leaves_the_others_alone() {
    let mut options = Options { bytes_max: 1 << 20, ..small(WhenFull::RefuseNewest) };
    options.when_full[Lane::Metric.index()] = WhenFull::RefuseNewest;
    options.lane_bytes_max[Lane::Raw.index()] = Some(2_000);
    let (mut spool, _) = spool(options);
    for n in 0..20 {
        spool.admit([noise(100), windows(10)].concat());
        spool.commit(stamp(n)).unwrap();
    }
    let books = spool.ledger();
    assert!(books[Lane::Raw.index()].evicted[GapReason::Quota as usize] >= 1_800, "{books:?}");
    assert_eq!(books[Lane::Metric.index()].pending, 200);
}

#[test]
fn alarms_are_refused_only_when_their_reserve_is_gone_and_the_lanes_below_are_at_theirs() {
    let (mut spool, _) = spool(small(WhenFull::DropOldest));
    commit_noise(&mut spool, 30);
    let mut n = 0;
    while spool.ledger()[Lane::Alarm.index()].evicted_total() == 0 {
        spool.admit(vec![notice(n)]);
        spool.commit(stamp(0)).unwrap();
        n += 1;
    }
    let books = spool.ledger();
    assert!(books[Lane::Alarm.index()].bytes > 4000, "more than the reserve of a fifth");
    assert!((4000..=6000).contains(&books[Lane::Raw.index()].bytes), "{books:?}");
    let alarms = records(&walk(&mut spool, Lane::Alarm));
    assert_eq!(alarms, (0..n - 1).map(notice).collect::<Vec<_>>(), "those that were promised stay");
    // What the line takes makes room for new ones.
    spool.release(Lane::Alarm, 50, &[]).unwrap();
    spool.admit(vec![notice(n)]);
    spool.commit(stamp(0)).unwrap();
    assert_eq!(records(&walk(&mut spool, Lane::Alarm)).last(), Some(&notice(n)));
    assert_balanced(&spool);
}
