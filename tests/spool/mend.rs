//! Checking and mending by hand, dead letters, and records out and in again.

use std::fs;

use outpost::spool::{
    DiskSpool, Options, Segments, Sizes, SledShelf, Spool, dead_letters, export_blocks, fsck, mend, open_dir,
    replay, start,
};
use outpost::wire::{Lane, decode_block};
use tempfile::TempDir;

use super::{assert_balanced, noise, notice, reading, records, stamp, walk};

/// A spool of several databases.
fn filled(dir: &TempDir) -> DiskSpool {
    let sizes = Sizes { full_bytes: 5 << 20, empty_bytes: 1 << 20, move_bytes: 64 << 10 };
    let shelf = SledShelf::new(dir.path().join("journal"), dir.path().join("journal.damaged-"));
    let mut spool = Spool::open(Segments::open(shelf, sizes).unwrap(), Options::default()).unwrap();
    for turn in 0..120 {
        spool.admit(noise(6000));
        spool.admit(vec![notice(turn)]);
        spool.commit(stamp(turn as i64)).unwrap();
        spool.tidy().unwrap();
    }
    spool
}

#[test]
fn a_sound_spool_is_found_sound_and_left_as_it_is() {
    let dir = TempDir::new().unwrap();
    let mut spool = filled(&dir);
    let before = walk(&mut spool, Lane::Raw);
    drop(spool);
    let report = fsck(dir.path()).unwrap();
    assert!(report.whole && report.problems.is_empty(), "{report:?}");
    assert!(report.databases >= 2);
    assert_eq!(report.lanes[Lane::Raw.index()].records, 120 * 6000);
    assert_eq!(report.lanes[Lane::Alarm.index()].records, 120);
    assert_eq!(mend(dir.path(), stamp(200)).unwrap(), report);
    let (mut spool, _) = open_dir(dir.path(), Options::default(), stamp(200)).unwrap();
    assert_eq!(walk(&mut spool, Lane::Raw), before);
}

#[test]
fn damage_is_told_first_and_mended_on_request() {
    let dir = TempDir::new().unwrap();
    drop(filled(&dir));
    let first = dir.path().join("journal/00000001/db");
    let mut bytes = fs::read(&first).unwrap();
    for place in bytes.chunks_mut(200_000) {
        place.iter_mut().take(100).for_each(|byte| *byte = 0xa5);
    }
    fs::write(&first, bytes).unwrap();
    for _ in 0..2 {
        let report = fsck(dir.path()).unwrap();
        assert!(!report.whole && !report.problems.is_empty(), "telling mends nothing");
    }
    let mended = mend(dir.path(), stamp(200)).unwrap();
    assert!(mended.whole && !mended.problems.is_empty(), "{mended:?}");
    let after = fsck(dir.path()).unwrap();
    assert_eq!((after.whole, after.problems), (true, Vec::new()));
    let (spool, report) = open_dir(dir.path(), Options::default(), stamp(201)).unwrap();
    assert_eq!(report.damage, None);
    assert_balanced(&spool);
    assert!(spool.ledger()[Lane::Raw.index()].pending > 60 * 6000);
}

#[test]
fn books_that_are_gone_are_told_and_mended_into_a_new_epoch() {
    let dir = TempDir::new().unwrap();
    let epoch = filled(&dir).epoch();
    let active = fs::read_dir(dir.path().join("journal")).unwrap().map(|e| e.unwrap().path()).max().unwrap();
    fs::write(active.join("conf"), b"not a configuration").unwrap();
    let report = fsck(dir.path()).unwrap();
    assert!(!report.whole && report.problems[0].contains("books do not read"), "{report:?}");
    let mended = mend(dir.path(), stamp(200)).unwrap();
    assert!(mended.whole && mended.epoch != Some(epoch));
    assert_eq!(mended.lanes[Lane::Raw.index()].records, 120 * 6000);
}

#[test]
fn what_is_exported_as_blocks_comes_in_again_under_new_numbers() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut spool = filled(&from);
    let kept = records(&walk(&mut spool, Lane::Raw));
    drop(spool);
    let file = to.path().join("blocks");
    let mut out = Vec::new();
    assert_eq!(export_blocks(from.path(), &mut out).unwrap(), 120 * 6001);
    fs::write(&file, &out).unwrap();
    let dir = to.path().join("spool");
    let nowhere = replay(&dir, std::slice::from_ref(&file), stamp(300)).unwrap_err().to_string();
    assert!(nowhere.contains("there is no folder"), "{nowhere}");
    fs::create_dir(&dir).unwrap();
    assert_eq!(replay(&dir, std::slice::from_ref(&file), stamp(300)).unwrap(), 120 * 6001);
    let (mut spool, _) = open_dir(&dir, Options::default(), stamp(300)).unwrap();
    assert_eq!(records(&walk(&mut spool, Lane::Raw)), kept);
    drop(spool);

    out.truncate(out.len() - 10);
    fs::write(&file, &out).unwrap();
    let error = replay(&dir, &[file], stamp(300)).unwrap_err().to_string();
    assert!(error.contains("blocks, byte ") && error.contains("no block of records"), "{error}");
    let (spool, _) = open_dir(&dir, Options::default(), stamp(300)).unwrap();
    assert_eq!(spool.ledger()[Lane::Raw.index()].pending, 120 * 6000, "nothing of a broken file is taken");
}

#[test]
fn a_block_refused_for_good_is_kept_as_a_file_and_can_be_sent_again() {
    let dir = TempDir::new().unwrap();
    let (store, _tail, _) = start(dir.path(), Options::default()).unwrap();
    smol::block_on(async {
        store.admit_durable((0..10).map(reading).collect()).await.unwrap();
        store.refuse(Lane::Raw, 1, 0x99).await.unwrap();
        store.refuse(Lane::Raw, 1, 0x99).await.unwrap();
        let gap = store.fetch(Lane::Raw, 1).await.unwrap().unwrap();
        assert!(gap.gap && gap.id.last == 10);
        store.close().await.unwrap();
    });
    let letters = dead_letters(dir.path());
    assert_eq!(letters.len(), 1);
    let kept = decode_block(&fs::read(&letters[0].path).unwrap()).unwrap().records;
    assert_eq!(kept, (0..10).map(reading).collect::<Vec<_>>());
    assert_eq!(replay(dir.path(), std::slice::from_ref(&letters[0].path), stamp(9)).unwrap(), 10);
    let (mut spool, _) = open_dir(dir.path(), Options::default(), stamp(9)).unwrap();
    assert_eq!(records(&walk(&mut spool, Lane::Raw)), kept);
    assert_balanced(&spool);
}
