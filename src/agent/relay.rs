//! The store as the line's loop uses it: blocks are read a few ahead, releases are handed over together.
//!
//! Every word to the store's thread costs two thread switches. While a backlog drains, the next blocks are known and many
//! acknowledgements come at once, so both are gathered; nothing is held back while the line is idle.

use std::collections::VecDeque;

use crate::limits;
use crate::spool::{StoreError, StoreHandle, StoredBlock};
use crate::wire::{Lane, PerLane};

/// The way to the store.
pub(super) struct Relay {
    store: StoreHandle,
    ahead: PerLane<Ahead>,
    releases: PerLane<Release>,
}

/// Blocks of one lane that are likely to be asked for next.
#[derive(Default)]
struct Ahead {
    blocks: VecDeque<StoredBlock>,
    /// Where the next fetch begins if it goes on where the last one ended.
    next: u64,
}

#[derive(Default)]
struct Release {
    through: u64,
    also: Vec<(u64, u64)>,
}

impl Relay {
    pub fn new(store: StoreHandle) -> Self {
        Self { store, ahead: Default::default(), releases: Default::default() }
    }

    /// As [`StoreHandle::fetch`].
    pub async fn fetch(&mut self, lane: Lane, from: u64) -> Result<Option<StoredBlock>, StoreError> {
        let ahead = &mut self.ahead[lane.index()];
        while ahead.blocks.front().is_some_and(|block| block.id.last < from) {
            ahead.blocks.pop_front();
        }
        // A block that begins later is not the first after `from` for sure: something may lie in between.
        if ahead.blocks.front().is_none_or(|block| block.id.first > from) {
            let blocks_max = if from == ahead.next { limits::READ_AHEAD_BLOCKS } else { 1 };
            ahead.blocks = self.store.fetch_run(lane, from, blocks_max).await?.into();
        }
        let block = ahead.blocks.pop_front();
        if let Some(block) = &block {
            ahead.next = block.id.last + 1;
        }
        Ok(block)
    }

    /// Takes note of a release; [`Relay::settle`] hands it over.
    pub fn release(&mut self, lane: Lane, through: u64, also: Vec<(u64, u64)>) {
        let release = &mut self.releases[lane.index()];
        release.through = release.through.max(through);
        release.also.extend(also);
    }

    /// Hands all releases over.
    pub async fn settle(&mut self) -> Result<(), StoreError> {
        for lane in Lane::ALL {
            let release = std::mem::take(&mut self.releases[lane.index()]);
            if release.through > 0 || !release.also.is_empty() {
                self.store.release(*lane, release.through, release.also).await?;
            }
        }
        Ok(())
    }

    /// Forgets what was read ahead: in the next session it may have been given up.
    pub fn forget(&mut self) {
        self.ahead = Default::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::{ChannelId, Reading};
    use crate::spool::{self, Options};
    use crate::time::Wall;
    use crate::wire::Record;

    fn reading(n: i64) -> Record {
        Record::Reading(Reading::new(ChannelId::new("a.b").unwrap(), Wall(n), Ok(n as f64)))
    }

    #[test]
    fn what_is_read_ahead_is_what_the_store_holds_and_releases_arrive_together() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _tails, _) = spool::start(dir.path(), Options::default()).unwrap();
        smol::block_on(async {
            for n in 0..30 {
                store.admit_durable(vec![reading(2 * n), reading(2 * n + 1)]).await.unwrap();
            }
            let mut relay = Relay::new(store.clone());
            let mut from = 1;
            while let Some(block) = relay.fetch(Lane::Raw, from).await.unwrap() {
                assert_eq!(Some(&block), store.fetch(Lane::Raw, from).await.unwrap().as_ref());
                relay.release(Lane::Raw, block.id.last, Vec::new());
                from = block.id.last + 1;
            }
            assert_eq!(from, 61);
            for from in [1, 3, 5] {
                relay.fetch(Lane::Raw, from).await.unwrap();
            }
            assert!(!relay.ahead[Lane::Raw.index()].blocks.is_empty(), "the next ones are here already");
            assert_eq!(relay.fetch(Lane::Raw, 1).await.unwrap().unwrap().id.first, 1, "back where it began");
            assert_eq!(store.status().await.unwrap().ledger[Lane::Raw.index()].pending, 60);
            relay.settle().await.unwrap();
            assert_eq!(store.status().await.unwrap().ledger[Lane::Raw.index()].pending, 0);
            store.close().await.unwrap();
        });
    }
}
