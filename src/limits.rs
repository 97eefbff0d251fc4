//! Every bound of the program in one place, unit in its name, relations proved at compile time.
//!
//! A bound that an operator may change is a default here and a range in [`crate::config`]; the others are fixed.

use crate::time::Wall;

// Words.

/// Longest channel name. MQTT topics and page columns stay readable below it.
pub const CHANNEL_NAME_BYTES_MAX: usize = 96;
/// Longest device name; it is a level of every topic.
pub const DEVICE_NAME_BYTES_MAX: usize = 64;
/// Channels one agent tracks; further ones are counted and refused.
pub const CHANNELS_MAX: usize = 4096;
/// Wall times before this (2025-01-01) mean that nobody has set the clock.
pub const WALL_PLAUSIBLE_MIN: Wall = Wall::from_secs(1_735_689_600);

// Facts and digests.

/// Events that one digest names; further ones are counted.
pub const FACT_EVENTS_MAX: usize = 6;

// Blocks.

/// Most bytes of one encoded block: fits every common broker's default packet limit (AWS IoT: 128 KiB).
pub const BLOCK_BYTES_MAX: usize = 120 * 1024;
/// Most records in one block.
pub const BLOCK_RECORDS_MAX: usize = 16 * 1024;
/// A lane's open block is sealed when its records are estimated to reach this size, encoded.
pub const BLOCK_SEAL_BYTES: usize = 64 * 1024;

const _: () = assert!(BLOCK_SEAL_BYTES * 3 / 2 < BLOCK_BYTES_MAX);
const _: () = assert!(CHANNEL_NAME_BYTES_MAX < 256);

/// Most bytes of a block's body before compression: what reading a hostile block may cost.
pub const BLOCK_BODY_BYTES_MAX: usize = 1024 * 1024;

const _: () = assert!(BLOCK_BODY_BYTES_MAX > BLOCK_BYTES_MAX);

// Spool.

/// Default bound of the spool's blocks.
pub const SPOOL_BYTES_DEFAULT: u64 = 256 * 1024 * 1024;
/// Smallest bound that an operator may set.
pub const SPOOL_BYTES_MIN: u64 = 1024 * 1024;
/// Default commit interval.
pub const SPOOL_COMMIT_INTERVAL_MS_DEFAULT: u64 = 50;
/// Default floor of free space on the spool's file system.
pub const SPOOL_DISK_FREE_BYTES_MIN_DEFAULT: u64 = 64 * 1024 * 1024;
/// Largest stored block. sled keeps up to 18 values in a page and writes pages over a quarter of a segment into
/// files that it never syncs: no page may become so large.
pub const SPOOL_BLOCK_BYTES_MAX: usize = 48 * 1024;
/// Segment of sled's file.
pub const SPOOL_SEGMENT_BYTES: usize = 4 * 1024 * 1024;
/// Cache of sled; its memory is several times that.
pub const SPOOL_CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// Records collected for a commit; reaching it commits at once.
pub const SPOOL_OPEN_RECORDS: usize = 16 * 1024;
/// Records waiting for a disk that refuses to commit; beyond, the oldest raw ones go.
pub const SPOOL_OPEN_RECORDS_MAX: usize = 32 * 1024;
/// Releases remembered until they ride with a commit; more make a commit of their own.
pub const SPOOL_RELEASES_MAX: usize = 1024;
/// Requests waiting for the store's thread.
pub const SPOOL_REQUESTS_MAX: usize = 64;
/// Blocks that a salvage of a damaged spool remembers (32 bytes each).
pub const SPOOL_SALVAGE_BLOCKS_MAX: usize = 1024 * 1024;
/// Damaged databases kept for a look; older ones are deleted.
pub const SPOOL_DAMAGED_KEPT: usize = 1;

const _: () = assert!(SPOOL_BLOCK_BYTES_MAX <= BLOCK_BYTES_MAX);
const _: () = assert!(18 * (SPOOL_BLOCK_BYTES_MAX + 64) < SPOOL_SEGMENT_BYTES / 4 - 64);
const _: () = assert!(SPOOL_OPEN_RECORDS < SPOOL_OPEN_RECORDS_MAX);
const _: () = assert!(SPOOL_BYTES_MIN > 4 * SPOOL_BLOCK_BYTES_MAX as u64);
