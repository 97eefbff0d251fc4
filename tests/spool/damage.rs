//! sled underneath: kills, damage, locks.

use std::fs;
use std::path::Path;

use outpost::spool::{
    DiskSpool, Journal, Op, OpenReport, Options, SledJournal, export, list, open_dir, stat,
};
use outpost::wire::Lane;
use tempfile::TempDir;

use super::{assert_balanced, noise, notice, reading, readings, records, stamp, walk};

fn open(dir: &Path) -> (DiskSpool, OpenReport) {
    open_dir(dir, Options::default(), stamp(0)).unwrap()
}

/// A spool with raw records 1 to 400 in it, of which 100 are released.
fn filled(dir: &Path) -> u64 {
    let (mut spool, _) = open(dir);
    for n in 0..40_u64 {
        spool.admit((n * 10..n * 10 + 10).map(reading).collect());
        spool.commit(stamp(n as i64)).unwrap();
    }
    spool.release(Lane::Raw, 100, &[]).unwrap();
    spool.commit(stamp(50)).unwrap();
    spool.epoch()
}

#[test]
fn a_spool_that_was_dropped_without_a_word_comes_back_whole() {
    let dir = TempDir::new().unwrap();
    let epoch = filled(dir.path());
    let (mut spool, report) = open(dir.path());
    assert_eq!(report, OpenReport { epoch, pending: 300, damage: None });
    assert_eq!(records(&walk(&mut spool, Lane::Raw)), (100..400).map(reading).collect::<Vec<_>>());
    assert_eq!(spool.admit(readings(1))[0].first, 401);
}

/// Taken for a new spool, its old blocks would stand under numbers that are given again.
#[test]
fn books_that_are_missing_are_damage_and_what_they_told_of_is_salvaged() {
    let dir = TempDir::new().unwrap();
    let epoch = filled(dir.path());
    let database = dir.path().join("journal/00000001");
    let mut journal = SledJournal::open(&database).unwrap();
    journal.apply(&[Op::Delete { key: b"Meta".to_vec() }]).unwrap();
    drop(journal);
    fs::remove_file(database.join("books")).unwrap();
    let (mut spool, report) = open(dir.path());
    let damage = report.damage.unwrap();
    assert!(damage.cause.contains("its books are missing"), "{damage:?}");
    assert_ne!(report.epoch, epoch);
    let found = records(&walk(&mut spool, Lane::Raw));
    assert!((100..400).map(reading).all(|record| found.contains(&record)));
    assert_eq!(spool.admit(readings(1))[0].first, found.len() as u64 + 1, "numbers begin anew");
}

/// A copy of the files while they are in use is what a power cut leaves behind, bar the cache.
#[test]
fn the_files_hold_every_commit_while_the_spool_is_still_open() {
    let (dir, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (mut spool, _) = open(dir.path());
    for n in 0..50_u64 {
        spool.admit(vec![reading(n), notice(n)]);
        spool.commit(stamp(n as i64)).unwrap();
    }
    copy_dir(dir.path(), copy.path());
    let (mut revived, report) = open(copy.path());
    assert_eq!(report.damage, None);
    assert_eq!(records(&walk(&mut revived, Lane::Raw)), readings(50));
    assert_eq!(records(&walk(&mut revived, Lane::Alarm)).len(), 50);
}

pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn no_damage_to_the_files_keeps_the_spool_from_starting() {
    let whole = TempDir::new().unwrap();
    filled(whole.path());
    let length = fs::metadata(whole.path().join("journal/00000001/db")).unwrap().len();
    for cut in 0..24_u64 {
        let dir = TempDir::new().unwrap();
        copy_dir(whole.path(), dir.path());
        let db = dir.path().join("journal/00000001/db");
        let mut bytes = fs::read(&db).unwrap();
        match cut % 4 {
            0 => bytes.truncate((length * cut / 24) as usize),
            1 => (0..8).for_each(|i| bytes[((cut * 977 + i * 131) % length) as usize] ^= 0xff),
            2 => bytes[(cut * 500) as usize..][..600].fill(0),
            _ => fs::write(dir.path().join("journal/00000001/conf"), b"not a configuration").unwrap(),
        }
        fs::write(&db, &bytes).unwrap();
        let (mut spool, report) = open(dir.path());
        assert_balanced(&spool);
        let kept = records(&walk(&mut spool, Lane::Raw));
        assert!(
            kept.iter().all(|r| (0..400).map(reading).any(|known| known == *r)),
            "cut {cut}: invented records"
        );
        assert_balanced(&spool);
        let ledger = spool.ledger()[Lane::Raw.index()];
        assert_eq!(ledger.pending, kept.len() as u64, "cut {cut}: {report:?}");
        spool.admit(readings(1));
        spool.commit(stamp(99)).unwrap();
    }
}

#[test]
fn what_reads_of_a_damaged_spool_is_salvaged_and_the_rest_is_declared() {
    let dir = TempDir::new().unwrap();
    let epoch = filled(dir.path());
    // Its configuration gone bad, sled refuses; the log is whole.
    fs::write(dir.path().join("journal/00000001/conf"), b"not a configuration").unwrap();
    let (mut spool, report) = open(dir.path());
    let damage = report.damage.unwrap();
    assert_eq!(damage.epoch_before, Some(epoch));
    assert_eq!((damage.salvaged_records, damage.lost_records), (300, Some(0)));
    assert!(damage.moved_to.is_dir());
    assert_ne!(report.epoch, epoch);
    assert_eq!(records(&walk(&mut spool, Lane::Raw)), (100..400).map(reading).collect::<Vec<_>>());
    drop(spool);
    let (spool, report) = open(dir.path());
    assert_eq!((report.damage, report.pending), (None, 300));
    assert_balanced(&spool);
}

/// One flipped bit ended the log for sled: it opened, had forgotten every later commit, and said nothing. Worse, the
/// forgotten numbers were given again, so that the aggregator took new records for known ones.
#[test]
fn a_log_that_breaks_off_in_the_middle_is_salvaged_instead_of_going_back_in_silence() {
    let whole = TempDir::new().unwrap();
    let epoch = filled(whole.path());
    let database = fs::read(whole.path().join("journal/00000001/db")).unwrap();
    let (mut went_back, mut salvaged) = (0, 0);
    for at in (0..database.len()).step_by(database.len() / 40) {
        let dir = TempDir::new().unwrap();
        copy_dir(whole.path(), dir.path());
        let mut bytes = database.clone();
        bytes[at] ^= 0x10;
        fs::write(dir.path().join("journal/00000001/db"), bytes).unwrap();
        let (mut spool, report) = open(dir.path());
        let kept = records(&walk(&mut spool, Lane::Raw)).len() as u64;
        match report.damage {
            Some(damage) => {
                assert_ne!(report.epoch, epoch, "byte {at}: numbers would be given twice");
                assert_eq!(damage.lost_records, Some(300 - kept), "byte {at}: {}", damage.cause);
                went_back += u64::from(damage.cause.contains("breaks off"));
                salvaged += kept;
            }
            None => assert_eq!((kept, report.epoch), (300, epoch), "byte {at}: lost in silence"),
        }
    }
    assert!(went_back >= 5, "only {went_back} of the flips ended the log");
    // One block of ten records at most was hit itself.
    assert!(salvaged >= 290 * went_back, "what followed the break was lost: {salvaged} in {went_back} runs");
}

#[test]
fn a_salvage_that_was_cut_short_begins_again() {
    let dir = TempDir::new().unwrap();
    filled(dir.path());
    fs::rename(dir.path().join("journal"), dir.path().join("journal.salvaging-1")).unwrap();
    // What the first attempt had taken over before it was killed.
    drop(SledJournal::open(&dir.path().join("journal/00000001")).unwrap());
    let (mut spool, report) = open(dir.path());
    assert_eq!(report.damage.unwrap().salvaged_records, 300);
    assert_eq!(records(&walk(&mut spool, Lane::Raw)).len(), 300);
}

#[test]
fn a_running_agents_spool_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let (_running, _) = open(dir.path());
    let second = open_dir(dir.path(), Options::default(), stamp(0)).map(drop).unwrap_err().to_string();
    assert!(second.contains("a running agent holds it"), "{second}");
    let looked = stat(dir.path()).unwrap_err().to_string();
    assert!(looked.contains("a running agent holds it"), "{looked}");
    assert!(dir.path().join("journal").is_dir());
}

#[test]
fn a_directory_that_cannot_be_made_is_named_with_what_to_do() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("file"), b"").unwrap();
    let error = open_dir(&dir.path().join("file/spool"), Options::default(), stamp(0)).map(drop).unwrap_err();
    assert!(error.to_string().contains("create it"), "{error}");
}

#[test]
fn an_offline_spool_can_be_looked_into() {
    let dir = TempDir::new().unwrap();
    let epoch = filled(dir.path());
    let glance = stat(dir.path()).unwrap();
    assert_eq!((glance.epoch, glance.ledger[Lane::Raw.index()].pending), (epoch, 300));
    let mut listed = Vec::new();
    list(dir.path(), |block| listed.push(block)).unwrap();
    assert!(listed.len() == 30 && listed.iter().all(|b| b.sound));
    let mut out = Vec::new();
    assert_eq!(export(dir.path(), &mut out).unwrap(), 300);
    let first: serde_json::Value =
        serde_json::from_slice(out.split(|b| *b == b'\n').next().unwrap()).unwrap();
    assert_eq!((first["seq"].as_u64(), first["record"]["value"].as_f64()), (Some(101), Some(100.0)));
    assert!(stat(&dir.path().join("nowhere")).unwrap_err().to_string().contains("no spool"));
    let (mut spool, _) = open(dir.path());
    assert_eq!(records(&walk(&mut spool, Lane::Raw)).len(), 300, "looking took nothing away");
}

/// A page of sled with more than a quarter of a segment in it goes to a file that sled never syncs.
#[test]
fn sled_never_keeps_blocks_outside_the_file_that_is_synced() {
    let dir = TempDir::new().unwrap();
    let (mut spool, _) = open(dir.path());
    for turn in 0..60 {
        spool.admit(noise(6000));
        spool.commit(stamp(turn)).unwrap();
    }
    assert!(spool.bytes() > 2_000_000);
    assert_eq!(fs::read_dir(dir.path().join("journal/00000001/blobs")).unwrap().count(), 0);
}
