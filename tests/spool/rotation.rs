//! Many databases: the disk shrinks, damage stays where it is, and what is left in old ones moves on.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use outpost::spool::{DiskSpool, MemShelf, Options, Segments, Sizes, SledShelf, Spool};
use outpost::wire::{GapReason, Lane};
use tempfile::TempDir;

use super::disk::Disk;
use super::{assert_balanced, noise, notice, records, stamp, walk};

const SIZES: Sizes = Sizes { full_bytes: 5 << 20, empty_bytes: 128 << 10, move_bytes: 64 << 10 };

fn open(dir: &Path) -> DiskSpool {
    let shelf = SledShelf::new(dir.join("journal"), dir.join("journal.damaged-"));
    Spool::open(Segments::open(shelf, SIZES).unwrap(), Options::default()).unwrap()
}

/// Commits `n` times 6000 readings that no compressor makes small, and one alarm.
fn fill(spool: &mut DiskSpool, n: u64) {
    for turn in 0..n {
        spool.admit(noise(6000));
        spool.admit(vec![notice(turn)]);
        spool.commit(stamp(turn as i64)).unwrap();
        spool.tidy().unwrap();
    }
}

fn databases(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("journal")).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn release_all(spool: &mut DiskSpool, lane: Lane) {
    for block in walk(spool, lane) {
        spool.release(lane, block.id.last, &[]).unwrap();
        spool.commit(stamp(0)).unwrap();
        spool.tidy().unwrap();
    }
}

#[test]
fn the_disk_shrinks_as_the_backlog_drains_and_order_spans_the_databases() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(dir.path());
    fill(&mut spool, 3);
    let small = spool.bytes_on_disk();
    fill(&mut spool, 318);
    assert!(databases(dir.path()).len() >= 3, "{:?}", databases(dir.path()));
    let large = spool.bytes_on_disk();
    drop(spool);
    let mut spool = open(dir.path());
    let kept = records(&walk(&mut spool, Lane::Raw));
    assert_eq!(kept.len(), 321 * 6000);
    assert!(kept.chunks(6000).all(|chunk| chunk == noise(6000)));
    for lane in [Lane::Alarm, Lane::Raw] {
        release_all(&mut spool, lane);
    }
    assert_balanced(&spool);
    assert!(spool.bytes_on_disk() <= 2 * small, "{} of {large} bytes are left", spool.bytes_on_disk());
    assert_eq!(databases(dir.path()).len(), 1);
}

#[test]
fn a_full_block_is_written_once() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(dir.path());
    fill(&mut spool, 80);
    let (blocks, disk) = (spool.bytes(), spool.bytes_on_disk());
    assert!(disk < blocks * 5 / 4, "{blocks} bytes of blocks, {disk} on disk");
}

#[test]
fn a_spool_with_all_blocks_in_one_tree_is_read_and_goes_on() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(dir.path());
    fill(&mut spool, 20);
    let before = [walk(&mut spool, Lane::Alarm), walk(&mut spool, Lane::Raw)];
    drop(spool);
    into_one_tree(&dir.path().join("journal/00000001"));

    let mut spool = open(dir.path());
    assert_eq!([walk(&mut spool, Lane::Alarm), walk(&mut spool, Lane::Raw)], before);
    spool.release(Lane::Raw, 5 * 6000, &[]).unwrap();
    fill(&mut spool, 3);
    assert_balanced(&spool);
    let after = walk(&mut spool, Lane::Raw);
    assert_eq!(after[..15], before[1][5..]);
    assert_eq!(after.iter().map(|b| b.id.count()).sum::<u64>(), 18 * 6000);
    drop(spool);
    assert_eq!(walk(&mut open(dir.path()), Lane::Raw), after);
}

/// As they were written at first.
fn into_one_tree(database: &Path) {
    // A process that another test is just starting may hold a copy of the file, and the lock with it.
    let config = sled::Config::default().path(database).segment_size(4 << 20);
    let tries =
        (0..100).map(|_| config.open().inspect_err(|_| std::thread::sleep(Duration::from_millis(20))));
    let db = tries.flatten().next().unwrap();
    for name in db.tree_names() {
        if name != b"__sled__default" {
            for item in db.open_tree(&name).unwrap().iter() {
                let (key, value) = item.unwrap();
                db.insert(key, value).unwrap();
            }
            assert!(db.drop_tree(name).unwrap());
        }
    }
    db.flush().unwrap();
}

#[test]
fn damage_in_a_sealed_database_costs_what_was_hit_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(dir.path());
    fill(&mut spool, 160);
    let (epoch, alarms) = (spool.epoch(), walk(&mut spool, Lane::Alarm));
    let whole = walk(&mut spool, Lane::Raw);
    drop(spool);
    let first = dir.path().join("journal/00000001/db");
    let mut bytes = fs::read(&first).unwrap();
    let places = bytes.len().div_ceil(200_000) as u64;
    for place in bytes.chunks_mut(200_000) {
        place.iter_mut().take(100).for_each(|byte| *byte = 0xa5);
    }
    fs::write(&first, bytes).unwrap();

    let mut spool = open(dir.path());
    let kept = walk(&mut spool, Lane::Raw);
    assert_eq!(spool.epoch(), epoch, "the books are whole");
    assert_balanced(&spool);
    let gaps: Vec<_> = kept.iter().filter(|b| b.gap).collect();
    let lost: u64 = gaps.iter().map(|b| b.id.count()).sum();
    // A block at each place, and at most once or twice its neighbour too.
    assert!((1..=(places + 2) * 6000).contains(&lost), "{lost} lost at {places} places");
    assert_eq!(spool.ledger()[Lane::Raw.index()].evicted[GapReason::Corrupt as usize], lost);
    assert!(kept.iter().filter(|b| !b.gap).all(|b| whole.contains(b)), "the others are as they were");
    assert_eq!(kept.iter().map(|b| b.id.count()).sum::<u64>(), 160 * 6000);
    assert_eq!(walk(&mut spool, Lane::Alarm), alarms);
    spool.commit(stamp(1)).unwrap();
    spool.tidy().unwrap();
    assert_eq!(records(&walk(&mut spool, Lane::Alarm)).len(), 161, "a notice says so");
    assert!(dir.path().join("journal.damaged-00000001").is_dir(), "kept for a look");
    drop(spool);
    assert_eq!(walk(&mut open(dir.path()), Lane::Raw), kept);
}

/// sled reads what it has in memory, so the rot shows once the database has to be opened anew: here after the disk was full.
#[test]
fn a_database_that_rots_under_a_running_spool_is_replaced_and_costs_what_was_hit() {
    let Some(disk) = Disk::tmpfs(96) else { return };
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 80 << 20]).unwrap();
    let shelf = SledShelf::new(disk.path().join("journal"), disk.path().join("journal.damaged-"));
    let sizes = Sizes { full_bytes: 64 << 20, ..SIZES };
    let mut spool = Spool::open(Segments::open(shelf, sizes).unwrap(), Options::default()).unwrap();
    let mut turns = 0;
    while {
        spool.admit(noise(6000));
        spool.commit(stamp(turns)).is_ok()
    } {
        turns += 1;
    }
    let (epoch, promised) = (spool.epoch(), turns as u64 * 6000);
    assert_eq!(spool.durable_through(Lane::Raw), promised);
    let file = fs::OpenOptions::new().write(true).open(disk.path().join("journal/00000001/db")).unwrap();
    let places = [3_u64, 5, 7].map(|mib| mib << 20);
    places.iter().for_each(|&at| file.write_all_at(&[0xa5; 100], at).unwrap());
    fs::remove_file(&ballast).unwrap();

    spool.commit(stamp(turns)).unwrap();
    let kept = walk(&mut spool, Lane::Raw);
    let lost: u64 = kept.iter().filter(|b| b.gap).map(|b| b.id.count()).sum();
    assert!((1..=2 * 6000 * places.len() as u64).contains(&lost), "{lost} of {promised} lost");
    assert_eq!(kept.iter().map(|b| b.id.count()).sum::<u64>(), promised + 6000, "what waited is there too");
    assert_eq!(
        (spool.epoch(), spool.ledger()[Lane::Raw.index()].evicted[GapReason::Corrupt as usize]),
        (epoch, lost)
    );
    assert_balanced(&spool);
    assert_eq!(records(&walk(&mut spool, Lane::Alarm)).len(), 1, "a notice says so");
    spool.tidy().unwrap();
    assert!(disk.path().join("journal.damaged-00000001").is_dir(), "kept for a look");
    drop(spool);
    assert_eq!(walk(&mut open(&disk.path()), Lane::Raw), kept);
}

#[test]
fn a_block_that_cannot_be_read_where_commits_go_is_declared_at_once() {
    let shelf = MemShelf::default();
    let mut spool = Spool::open(Segments::open(shelf.clone(), SIZES).unwrap(), Options::default()).unwrap();
    for n in [10, 7] {
        spool.admit(noise(n));
        spool.commit(stamp(0)).unwrap();
    }
    {
        let db = shelf.databases()[&1].clone();
        let mut disk = db.disk();
        let first = disk.map.keys().find(|key| key[0] == b'b').unwrap().clone();
        disk.map.get_mut(&first).unwrap()[20] ^= 1;
        disk.unopenable = true;
    }
    let kept = walk(&mut spool, Lane::Raw);
    assert_eq!(
        kept.iter().map(|b| (b.id.first, b.id.last, b.gap)).collect::<Vec<_>>(),
        [(1, 10, true), (11, 17, false)]
    );
    assert_balanced(&spool);
}

#[test]
fn a_database_that_takes_no_commit_any_more_is_replaced_and_the_commit_is_made() {
    let shelf = MemShelf::default();
    let mut spool = Spool::open(Segments::open(shelf.clone(), SIZES).unwrap(), Options::default()).unwrap();
    spool.admit(noise(10));
    spool.commit(stamp(0)).unwrap();
    shelf.databases()[&1].disk().unopenable = true;
    spool.admit(noise(7));
    assert!(spool.commit(stamp(1)).is_err(), "opening it anew may help");
    assert_eq!(spool.durable_through(Lane::Raw), 10);
    spool.commit(stamp(2)).unwrap();
    assert_eq!(spool.durable_through(Lane::Raw), 17);
    assert_eq!(records(&walk(&mut spool, Lane::Raw)), [noise(10), noise(7)].concat());
    assert_balanced(&spool);
    spool.tidy().unwrap();
    assert_eq!(shelf.databases().len(), 1);
}

/// The move is done and nobody knows; the block is acknowledged, and must not be there again after a restart.
#[test]
fn a_move_that_took_effect_and_failed_brings_nothing_back() {
    let shelf = MemShelf::default();
    let sizes = Sizes { full_bytes: 20_000, empty_bytes: 5_000, move_bytes: 500 };
    let open = || {
        let segments = Segments::open(shelf.clone(), sizes).unwrap();
        Spool::open(segments, Options::default()).unwrap()
    };
    let mut spool = open();
    for n in 0..100 {
        spool.admit(noise(100));
        spool.admit(vec![notice(n)]);
        spool.commit(stamp(n as i64)).unwrap();
        spool.tidy().unwrap();
    }
    spool.release(Lane::Raw, 10_000, &[]).unwrap();
    spool.commit(stamp(100)).unwrap();
    let (mut left, mut lied): (Vec<u64>, u32) = ((1..=100).collect(), 0);
    for turn in 0..60 {
        let active = shelf.databases().values().next_back().unwrap().clone();
        active.disk().applies_lying = 1;
        lied += u32::from(spool.tidy().is_err());
        active.disk().applies_lying = 0;
        // The oldest two, which are what is moved.
        for number in left.drain(..2).collect::<Vec<_>>() {
            spool.release(Lane::Alarm, 0, &[(number, number)]).unwrap();
        }
        spool.admit(vec![notice(turn)]);
        left.push(101 + turn);
        spool.commit(stamp(200)).unwrap();
        drop(spool);
        spool = open();
        let found: Vec<u64> = walk(&mut spool, Lane::Alarm).iter().map(|block| block.id.first).collect();
        assert_eq!(found, left, "turn {turn}");
        assert_balanced(&spool);
        assert_eq!(spool.ledger()[Lane::Alarm.index()].pending, left.len() as u64);
    }
    assert!(lied > 5, "{lied}");
}

#[test]
fn a_database_that_is_gone_is_declared() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(dir.path());
    fill(&mut spool, 160);
    drop(spool);
    fs::remove_dir_all(dir.path().join("journal/00000001")).unwrap();
    let mut spool = open(dir.path());
    let kept = walk(&mut spool, Lane::Raw);
    assert!(kept[0].gap && kept[0].id.first == 1 && !kept[1].gap);
    assert_eq!(kept.last().unwrap().id.last, 160 * 6000);
    assert_balanced(&spool);
}

#[test]
fn a_few_old_alarms_do_not_keep_the_disk_full() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(dir.path());
    fill(&mut spool, 240);
    let full = databases(dir.path()).len();
    let alarms = records(&walk(&mut spool, Lane::Alarm));
    release_all(&mut spool, Lane::Raw);
    for turn in 0..full as u64 {
        spool.admit(vec![notice(turn)]);
        spool.commit(stamp(0)).unwrap();
        spool.tidy().unwrap();
    }
    assert!(databases(dir.path()).len() <= 4, "{full} databases, now {:?}", databases(dir.path()));
    assert_eq!(records(&walk(&mut spool, Lane::Alarm))[..240], alarms);
    drop(spool);
    assert_eq!(records(&walk(&mut open(dir.path()), Lane::Alarm))[..240], alarms);
}

#[test]
fn a_rotation_that_was_cut_short_is_as_if_it_had_not_begun() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(dir.path());
    fill(&mut spool, 30);
    let kept = walk(&mut spool, Lane::Raw);
    drop(spool);
    let next = databases(dir.path()).len() as u64 + 1;
    fs::create_dir(dir.path().join(format!("journal/{next:08}"))).unwrap();
    let mut spool = open(dir.path());
    assert_eq!(walk(&mut spool, Lane::Raw), kept);
    fill(&mut spool, 1);
    assert_balanced(&spool);
}

/// A process holds copies of all files of the one that starts it until it is a program of its own, and so their locks.
#[test]
fn a_lock_that_is_held_for_a_moment_is_waited_for() {
    let dir = TempDir::new().unwrap();
    drop(open(dir.path()));
    let held = fs::File::open(dir.path().join("journal/00000001/db")).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let holder = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(150));
        drop(held);
    });
    fill(&mut open(dir.path()), 1);
    holder.join().unwrap();
}
