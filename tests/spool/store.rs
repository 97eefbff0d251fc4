//! The thread and its handle.

use std::time::Duration;

use outpost::spool::{Options, StoreError, start};
use outpost::wire::{Lane, decode_block};
use smol::future::FutureExt;
use tempfile::TempDir;

use super::{large, notice, readings};

fn options() -> Options {
    Options { commit_interval: Duration::from_millis(5), ..Options::default() }
}

#[test]
fn records_go_in_are_announced_and_come_out() {
    let dir = TempDir::new().unwrap();
    let (store, tail, _) = start(dir.path(), options()).unwrap();
    smol::block_on(async {
        store.admit(readings(1000)).await.unwrap();
        let news = tail.recv().await.unwrap();
        assert_eq!(news.next[Lane::Raw.index()], 1001);
        let block = store.fetch(Lane::Raw, 1).await.unwrap().unwrap();
        assert_eq!(decode_block(&block.bytes).unwrap().records, readings(1000));
        store.release(Lane::Raw, 1000, Vec::new()).await.unwrap();
        assert_eq!(store.fetch(Lane::Raw, 1).await.unwrap(), None);
        let status = store.status().await.unwrap();
        assert_eq!(status.ledger[Lane::Raw.index()].acknowledged, 1000);
        assert_eq!((status.oldest, status.last_error), (None, None));
        store.close().await.unwrap();
        assert_eq!(store.admit(readings(1)).await, Err(StoreError::Gone));
    });
}

#[test]
fn a_durable_admission_does_not_wait_for_the_interval() {
    let dir = TempDir::new().unwrap();
    let slow = Options { commit_interval: Duration::from_secs(3600), ..Options::default() };
    let (store, _tail, _) = start(dir.path(), slow).unwrap();
    smol::block_on(async {
        let numbered = store.admit_numbered(readings(10)).await.unwrap();
        assert_eq!((numbered[0].first, numbered[0].last), (1, 10));
        assert_eq!(store.fetch(Lane::Raw, 1).await.unwrap(), None, "not promised yet");
        let too_late = async {
            smol::Timer::after(Duration::from_secs(60)).await;
            Err(StoreError::Gone)
        };
        let durable = store.admit_durable(vec![notice(1)]).or(too_late).await.unwrap();
        assert_eq!((durable[0].lane, durable[0].first), (Lane::Alarm, 1));
        assert!(store.fetch(Lane::Raw, 1).await.unwrap().is_some(), "what waited rides along");
    });
}

/// Commits began after 50 ms or 16,384 records, and megabytes of larger ones waited as long; so did alarms.
#[test]
fn an_alarm_begins_a_commit_and_so_do_64_kib() {
    let dir = TempDir::new().unwrap();
    let slow = Options { commit_interval: Duration::from_secs(3600), ..Options::default() };
    let (store, tail, _) = start(dir.path(), slow).unwrap();
    let news = || {
        let too_late = async {
            smol::Timer::after(Duration::from_secs(60)).await;
            panic!("nothing was committed")
        };
        smol::block_on(async { tail.recv().await.unwrap() }.or(too_late)).next
    };
    smol::block_on(async {
        store.admit(readings(10)).await.unwrap();
        for n in 0..3 {
            store.admit(vec![large(n)]).await.unwrap();
        }
        assert_eq!(store.fetch(Lane::Digest, 1).await.unwrap(), None, "48 KiB wait");
        store.admit(vec![large(3)]).await.unwrap();
    });
    assert_eq!(news(), [1, 5, 1, 11]);
    smol::block_on(async {
        store.admit(readings(10)).await.unwrap();
        assert_eq!(store.fetch(Lane::Raw, 11).await.unwrap(), None, "nothing waits for these");
        store.admit(vec![notice(1)]).await.unwrap();
    });
    assert_eq!(news(), [2, 5, 1, 21]);
}

#[test]
fn closing_keeps_what_was_handed_over_and_frees_the_directory() {
    let dir = TempDir::new().unwrap();
    let slow = Options { commit_interval: Duration::from_secs(3600), ..Options::default() };
    let (store, _tail, first) = start(dir.path(), slow.clone()).unwrap();
    smol::block_on(async {
        store.admit(readings(77)).await.unwrap();
        store.close().await.unwrap();
        let (_store, _tail, second) = start(dir.path(), slow).unwrap();
        assert_eq!((second.epoch, second.pending), (first.epoch, 77));
    });
}
