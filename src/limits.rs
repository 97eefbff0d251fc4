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

// Sensors.

/// Readings in one batch from a source; about 160 KiB of memory.
pub const SENSOR_BATCH_READINGS_MAX: usize = 4096;
/// Longest wait of a reading in a batch that is not full, in milliseconds.
pub const SENSOR_BATCH_WAIT_MS_MAX: u64 = 10;
/// Shortest interval of a polled source in milliseconds; a zero would burn a core.
pub const POLL_INTERVAL_MS_MIN: u64 = 1;
/// Longest line of JSON, line protocol or CSV; a longer one is skipped without being kept.
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// Members of one JSON object, or fields of one line of line protocol.
pub const LINE_FIELDS_MAX: usize = 4096;
/// Longest spelling of a channel in line protocol that is remembered; longer ones are composed anew each time.
pub const LINE_ALIAS_BYTES_MAX: usize = 512;
/// Spellings of channels that are remembered per source; the table starts over when it is full.
pub const LINE_ALIASES_MAX: usize = 2 * CHANNELS_MAX;
/// Connections served at once by one source of lines; further ones are closed at once.
pub const LINE_CONNECTIONS_MAX: usize = 16;
/// Shortest time between two log lines about malformed input of one source, in seconds.
pub const MALFORMED_LOG_S_MIN: u64 = 10;
/// Bytes of an offending line that a log line shows.
pub const MALFORMED_SAMPLE_BYTES_MAX: usize = 80;
/// Longest unit of measure.
pub const UNIT_BYTES_MAX: usize = 16;
/// Columns of a recording.
pub const CSV_COLUMNS_MAX: usize = 1024;
/// Largest file under `/proc` or `/sys` that host vitals read; the rest is cut off.
pub const HOST_FILE_BYTES_MAX: u64 = 256 * 1024;
/// Directory entries, such as network interfaces or thermal zones, that host vitals look at per directory.
pub const HOST_ENTRIES_MAX: usize = 256;
/// Polls after which a vital that is gone is no longer reported as unreadable.
pub const HOST_MISSES_MAX: u32 = 60;

const _: () = assert!(LINE_ALIAS_BYTES_MAX > CHANNEL_NAME_BYTES_MAX && LINE_ALIAS_BYTES_MAX < LINE_BYTES_MAX);
const _: () = assert!(CSV_COLUMNS_MAX <= CHANNELS_MAX && CSV_COLUMNS_MAX <= SENSOR_BATCH_READINGS_MAX);
