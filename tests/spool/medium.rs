//! A medium that does not give back what it holds: at one place for good, or all of it for a while.

use std::path::Path;

use outpost::limits::SPOOL_MEDIUM_TRIES;
use outpost::spool::{
    DiskSpool, Journal, JournalError, MemShelf, Options, Segments, Sizes, SledShelf, Spool, StoredBlock,
    open_dir,
};
use outpost::wire::{GapReason, Lane, Record};

use super::disk::Disk;
use super::{assert_balanced, noise, notice, records, stamp};

/// An ext4 on which a spool of one database, larger than what sled keeps in memory, lies behind what has just been deleted.
fn filled(blocks: u64) -> Option<(Disk, DiskSpool)> {
    let disk = Disk::ext4(192)?;
    let before = disk.path().join("something");
    std::fs::write(&before, vec![1; 90 << 20]).unwrap();
    let dir = disk.path().join("spool");
    std::fs::create_dir(&dir).unwrap();
    let shelf = SledShelf::new(dir.join("journal"), dir.join("journal.damaged-"));
    let sizes = Sizes { full_bytes: 1 << 30, ..Sizes::default() };
    let mut spool = Spool::open(Segments::open(shelf, sizes).unwrap(), Options::default()).unwrap();
    for n in 0..blocks {
        spool.admit(noise(6000));
        spool.admit(vec![notice(n)]);
        spool.commit(stamp(n as i64)).unwrap();
    }
    std::fs::remove_file(before).unwrap();
    Some((disk, spool))
}

fn database(disk: &Disk) -> std::path::PathBuf {
    disk.path().join("spool/journal/00000001/db")
}

/// Everything in `lane`, and how often the medium failed on the way.
fn walk<J: Journal>(spool: &mut Spool<J>, lane: Lane) -> (Vec<StoredBlock>, u32) {
    let (mut blocks, mut from, mut failed) = (Vec::new(), 1, 0);
    loop {
        match spool.fetch(lane, from, stamp(200)) {
            Ok(None) => return (blocks, failed),
            Ok(Some(block)) => {
                from = block.id.last + 1;
                blocks.push(block);
            }
            Err(JournalError::Medium(_)) if failed < 3 * SPOOL_MEDIUM_TRIES => failed += 1,
            Err(error) => panic!("after {failed} failures: {error}"),
        }
    }
}

/// What was read of alarms 0 to 99, each once and in order, as far as there is no gap.
fn is_part_of_the_alarms(found: &[Record]) -> bool {
    let alarms: Vec<Record> = (0..100).map(notice).collect();
    let mut rest = alarms.iter();
    found.iter().all(|record| rest.any(|alarm| alarm == record))
}

#[test]
fn a_start_goes_on_with_what_the_medium_still_gives() {
    let Some((disk, spool)) = filled(100) else { return };
    let epoch = spool.epoch();
    drop(spool);
    disk.spoil(&database(&disk));
    assert!(unreadable(&database(&disk)), "the test spoils nothing");
    let (mut spool, report) = open_dir(&disk.path().join("spool"), Options::default(), stamp(200)).unwrap();
    let damage = report.damage.unwrap();
    assert!(damage.salvaged_records > 100_000 && damage.salvaged_blocks > 20, "{damage:?}");
    assert_ne!(spool.epoch(), epoch);
    let (alarms, failed) = walk(&mut spool, Lane::Alarm);
    let alarms = records(&alarms);
    assert!(failed == 0 && alarms.len() > 20 && is_part_of_the_alarms(&alarms), "{alarms:?}");
    spool.admit(vec![notice(100)]);
    spool.commit(stamp(201)).unwrap();
    assert_balanced(&spool);
}

#[test]
fn a_place_that_goes_bad_in_service_costs_what_lies_there_and_the_spool_goes_on() {
    let Some((disk, mut spool)) = filled(1200) else { return };
    let epoch = spool.epoch();
    disk.spoil(&database(&disk));
    assert!(unreadable(&database(&disk)), "the test spoils nothing");
    let (raw, _) = walk(&mut spool, Lane::Raw);
    let (alarms, _) = walk(&mut spool, Lane::Alarm);
    let sound: Vec<StoredBlock> = alarms.iter().filter(|b| !b.gap).cloned().collect();
    assert!(raw.iter().filter(|b| !b.gap).count() > 20 && sound.len() > 20);
    let lost = spool.ledger()[Lane::Raw.index()].evicted[GapReason::Corrupt as usize];
    assert!((1_000_000..6_000_000).contains(&lost), "{lost}");
    assert_eq!(raw.last().unwrap().id.last, 7_200_000, "every number is accounted for");
    spool.admit(vec![notice(100)]);
    spool.commit(stamp(201)).unwrap();
    assert_balanced(&spool);
    assert_eq!(spool.epoch(), epoch, "what it should hold was known");
}

fn unreadable(path: &Path) -> bool {
    std::fs::read(path).is_err_and(|e| e.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()))
}

/// A stick that was pulled, a controller that is reset: what it holds must not be called lost for that.
#[test]
fn a_medium_that_is_away_for_however_long_costs_nothing() {
    let shelf = MemShelf::default();
    let sizes = Sizes { full_bytes: 20_000, empty_bytes: 5_000, move_bytes: 5_000 };
    let segments = Segments::open(shelf.clone(), sizes).unwrap();
    let mut spool = Spool::open(segments, Options::default()).unwrap();
    for n in 0..100 {
        spool.admit(noise(100));
        spool.admit(vec![notice(n)]);
        spool.commit(stamp(n as i64)).unwrap();
        spool.tidy().unwrap();
    }
    assert!(shelf.databases().len() > 2);
    shelf.set_away(true);
    spool.admit(vec![notice(100)]);
    for n in 0..10 * SPOOL_MEDIUM_TRIES {
        assert!(spool.fetch(Lane::Raw, 1 + u64::from(n) * 150, stamp(200)).is_err());
    }
    for _ in 0..10 * SPOOL_MEDIUM_TRIES {
        assert!(spool.commit(stamp(200)).is_err());
    }
    shelf.set_away(false);
    spool.commit(stamp(201)).unwrap();
    let (raw, failed) = walk(&mut spool, Lane::Raw);
    let (alarms, _) = walk(&mut spool, Lane::Alarm);
    assert_eq!((failed, raw.iter().filter(|b| b.gap).count(), records(&raw).len()), (0, 0, 10_000));
    let told = records(&alarms);
    assert_eq!(told[..101], (0..101).map(notice).collect::<Vec<_>>()[..]);
    assert_balanced(&spool);
}
