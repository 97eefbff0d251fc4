//! Ordered, bounded, durable lanes on sled behind a journal.
//!
//! Records come in, are collected per lane, sealed into blocks and committed with a real fsync; only then are they
//! promised. Blocks go out in order and are released when the far side has them. What has to be given up leaves a
//! gap block in its place, in the same commit, so at any moment and per lane
//! `admitted = acknowledged + pending + evicted`.
//!
//! ```text
//! admit -> open lanes -> commit: seal, make room, one durable apply -> fetch ... release
//! ```
//!
//! | file | role |
//! |---|---|
//! | `queue` | [`Spool`]: single-threaded, no clock |
//! | `seal` | records into blocks that fit |
//! | `room` | what is given up when a quota is reached |
//! | `entry`, `meta` | keys and books |
//! | `journal` | the seam to the disk |
//! | `segments`, `holding`, `shelf` | many databases as one journal: rotation, so that the disk shrinks |
//! | `sled`, `drawers` | what stands behind it, and in which of its trees a block lies |
//! | `salvage` | finding blocks in the files of a damaged database |
//! | `open` | opening a directory, damaged or not |
//! | `store` | the thread and its handle |
//! | `dead` | blocks that the far side refuses for good |
//! | `inspect`, `fsck`, `replay` | looking into a spool that no agent holds, mending it, filling it again |
//! | `reserve` | space to write in when the disk is full |
//!
//! Memory does not grow with the backlog: per lane there are counters and the records not yet committed, and per database
//! a few ranges of numbers.

mod dead;
mod drawers;
mod entry;
mod fsck;
mod holding;
mod inspect;
mod journal;
mod meta;
mod open;
mod queue;
mod replay;
mod reserve;
mod room;
mod row;
mod salvage;
mod seal;
mod segments;
mod shelf;
mod sled;
mod store;

pub use self::dead::{DeadLetter, dead_letters};
pub use self::entry::Entry;
pub use self::fsck::{FsckReport, LaneFound, fsck, mend};
pub use self::holding::Loss;
pub use self::inspect::{InspectError, Listed, SpoolStat, export, export_blocks, list, stat};
pub use self::journal::{Journal, JournalError, MemDisk, MemJournal, Op};
pub use self::meta::LaneLedger;
pub use self::open::{Damage, DiskSpool, OpenError, OpenReport, open_dir, open_whole};
pub use self::queue::{Committed, Spool, StoredBlock};
pub use self::replay::{ReplayError, replay};
pub use self::segments::{Segments, Sizes};
pub use self::shelf::{MemShelf, Promised, Shelf};
pub use self::sled::{SledJournal, SledShelf};
pub use self::store::{SpoolStatus, Started, StoreError, StoreHandle, Tail, start};

use std::time::Duration;

use crate::limits;
use crate::reading::named_enum;
use crate::wire::PerLane;

/// How a spool behaves. The defaults fit a gateway with 1 GiB of flash to spare.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Most bytes of blocks and gaps together. On the disk the databases take as much of full blocks, of small ones up to four times that.
    pub bytes_max: u64,
    /// Most of them that each lane takes, at least what is reserved for it; `None`: what the others leave.
    pub lane_bytes_max: PerLane<Option<u64>>,
    /// Percent of `bytes_max` that a lane keeps whatever the others need, by lane; at most 100 together.
    pub reserved_percent: PerLane<u8>,
    /// What each lane gives up at the bound.
    pub when_full: PerLane<WhenFull>,
    /// What a block is stored and published as.
    pub payload: Payload,
    /// How long records may wait for their commit. Losing power costs at most this much unpromised tail.
    pub commit_interval: Duration,
    /// Free bytes on the file system below which the spool stops growing and gives up its oldest instead.
    pub disk_free_bytes_min: u64,
}

impl Options {
    /// For whoever looks into a spool or mends it without its agent: gives nothing up for room. Bounds are the agent's,
    /// which may be wider than the defaults.
    pub(crate) fn offline() -> Self {
        Self { bytes_max: u64::MAX, ..Self::default() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bytes_max: limits::SPOOL_BYTES_DEFAULT,
            lane_bytes_max: [None; 4],
            reserved_percent: limits::SPOOL_RESERVED_PERCENT,
            when_full: [WhenFull::RefuseNewest, WhenFull::DropOldest, WhenFull::Thin, WhenFull::DropOldest],
            payload: Payload::Wire,
            commit_interval: Duration::from_millis(limits::SPOOL_COMMIT_INTERVAL_MS_DEFAULT),
            disk_free_bytes_min: limits::SPOOL_DISK_FREE_BYTES_MIN_DEFAULT,
        }
    }
}

named_enum! {
    /// What a lane gives up when its own quota or that of all is reached. Whatever it is, a gap says so.
    ///
    /// At its own quota a lane gives up nothing but its own. At that of all, whose turn it is, is the same for every choice: raw and metric down to their reserves; new alarms, if these are
    /// over theirs; what is left of raw and metric; digests; alarms. So a digest goes only once the lanes below are empty,
    /// and an alarm is refused only when its own reserve, or its own quota, is gone.
    WhenFull {
        /// The oldest blocks. Gives up history; what happens now is always kept.
        DropOldest = "drop_oldest",
        /// Every second block, the oldest first; the oldest where that has been done. Gives up resolution: a block holds
        /// the windows that closed together.
        Thin = "thin",
        /// The newest blocks are not taken. Gives up the present; keeps how it began.
        RefuseNewest = "refuse_newest",
    }
}

/// What a block is stored and published as.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Payload {
    /// The block format of [`crate::wire::block`]: small and checked; for an outpost aggregator.
    #[default]
    Wire,
    /// JSON documents with this device name in them, see [`crate::wire::json`]; several times as large.
    Json {
        /// The device's name.
        device: String,
    },
}
