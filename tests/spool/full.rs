//! The disk is full, by the spool itself or by others, or cannot be written to: the store goes on, keeps the alarms,
//! says what is wrong, and is well again by itself.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use outpost::spool::{LaneLedger, Options, SpoolStatus, StoreHandle, StoredBlock, start};
use outpost::wire::{GapReason, Lane, Record};

use super::disk::Disk;
use super::{noise, notice, records};

/// Without a floor of free space, which would keep the spool from ever filling so small a disk.
fn options() -> Options {
    Options { commit_interval: Duration::from_millis(5), disk_free_bytes_min: 0, ..Options::default() }
}

#[test]
fn a_spool_that_fills_its_disk_gives_up_what_is_worth_least_and_keeps_the_alarms() {
    let Some(disk) = Disk::tmpfs(40) else { return };
    let (store, _tail, _) = start(&disk.path().join("spool"), options()).unwrap();
    for n in 0..1200 {
        admit(&store, noise(6000));
        alarm(&store, n);
    }
    let status = status(&store);
    let raw = status.ledger[Lane::Raw.index()];
    assert!(raw.evicted[GapReason::DiskFull as usize] > 0 && raw.pending > 0, "{status:?}");
    assert!(status.ledger.iter().all(LaneLedger::balances), "{status:?}");
    assert_eq!(records(&drain(&store, Lane::Alarm)), (0..1200).map(notice).collect::<Vec<_>>());
}

#[test]
fn what_others_leave_of_the_disk_is_enough_to_drain_and_to_keep_alarms_and_all_is_well_when_they_have_gone() {
    let Some(disk) = Disk::tmpfs(64) else { return };
    let (store, _tail, _) = start(&disk.path().join("spool"), options()).unwrap();
    for n in 0..80 {
        admit(&store, noise(6000));
        alarm(&store, n);
    }
    let filler = disk.path().join("log of somebody else");
    fill(&filler);
    for n in 80..200 {
        admit(&store, noise(6000));
        alarm(&store, n);
    }
    // The spool has given up enough by now to be well again; they want that too.
    eventually("a word on the disk", &store, |status| {
        fill(&filler);
        admit(&store, noise(6000));
        status.last_error.as_ref().is_some_and(|e| e.contains("no space left"))
    });
    assert_eq!(records(&drain(&store, Lane::Alarm)), (0..200).map(notice).collect::<Vec<_>>());
    drain(&store, Lane::Raw);

    std::fs::remove_file(filler).unwrap();
    eventually("health", &store, |status| status.last_error.is_none());
    // What waited for space in memory.
    drain(&store, Lane::Raw);
    let evicted = status(&store).ledger[Lane::Raw.index()].evicted_total();
    admit(&store, noise(6000));
    alarm(&store, 200);
    drain(&store, Lane::Raw);
    let status = status(&store);
    assert!(status.ledger.iter().all(LaneLedger::balances), "{status:?}");
    let raw = status.ledger[Lane::Raw.index()];
    assert_eq!(
        (raw.evicted_total(), raw.pending),
        (evicted, 0),
        "nothing more is given up, all else is gone"
    );
}

/// A file system that finds itself damaged turns read-only. Mounting it so takes that nobody has a file open to write,
/// which is so between two attempts of a store whose disk is full.
#[test]
fn a_disk_that_cannot_be_written_to_is_waited_for() {
    let Some(disk) = Disk::tmpfs(24) else { return };
    let (store, _tail, _) = start(&disk.path().join("spool"), options()).unwrap();
    alarm(&store, 0);
    let filler = disk.path().join("log of somebody else");
    let begun = Instant::now();
    while !disk.remount("ro") {
        assert!(begun.elapsed() < Duration::from_secs(60), "the disk is always in use");
        admit(&store, noise(1000));
        fill(&filler);
    }
    admit(&store, vec![notice(1)]);
    eventually("a word on the disk", &store, |status| {
        status.last_error.as_ref().is_some_and(|e| e.contains("Read-only"))
    });
    let (receipt, answer) = smol::channel::bounded(1);
    smol::block_on(store.tell_when_durable(receipt)).unwrap();
    std::thread::sleep(Duration::from_millis(600));
    assert!(answer.is_empty(), "the disk took nothing, and whoever waits for it was told that it did");
    assert!(disk.remount("rw"));
    std::fs::remove_file(filler).unwrap();
    eventually("health", &store, |status| status.last_error.is_none());
    smol::block_on(answer.recv()).unwrap();
    alarm(&store, 2);
    assert_eq!(records(&drain(&store, Lane::Alarm)), (0..3).map(notice).collect::<Vec<_>>());
}

/// Takes what is free, to the last block.
fn fill(path: &Path) {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    for bytes in [vec![1; 64 << 10], vec![1; 512]] {
        while file.write_all(&bytes).is_ok() {}
    }
}

fn eventually(what: &str, store: &StoreHandle, is_so: impl Fn(&SpoolStatus) -> bool) {
    let begun = Instant::now();
    while !is_so(&status(store)) {
        assert!(begun.elapsed() < Duration::from_secs(60), "never seen: {what}: {:?}", status(store));
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn admit(store: &StoreHandle, records: Vec<Record>) {
    smol::block_on(store.admit(records)).unwrap();
}

/// One alarm that is on the disk before this returns.
fn alarm(store: &StoreHandle, n: u64) {
    let late = async {
        smol::Timer::after(Duration::from_secs(30)).await;
        panic!("alarm {n} did not get to the disk: {:?}", store.status().await)
    };
    let durable = async { drop(store.admit_durable(vec![notice(n)]).await.unwrap()) };
    smol::block_on(smol::future::or(durable, late));
}

fn status(store: &StoreHandle) -> SpoolStatus {
    smol::block_on(store.status()).unwrap()
}

/// Takes everything out of `lane` and releases it.
fn drain(store: &StoreHandle, lane: Lane) -> Vec<StoredBlock> {
    let (mut blocks, mut next) = (Vec::new(), 1);
    while let Some(block) = smol::block_on(store.fetch(lane, next)).unwrap() {
        smol::block_on(store.release(lane, block.id.last, Vec::new())).unwrap();
        next = block.id.last + 1;
        blocks.push(block);
    }
    blocks
}
