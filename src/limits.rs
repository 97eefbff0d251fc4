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

// Configuration.

/// Most bytes of a configuration file.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// Most problems reported of one file; who has more has given the wrong file.
pub const CONFIG_PROBLEMS_MAX: usize = 100;
/// Most elements of a list of values.
pub const CONFIG_LIST_MAX: usize = 64;
/// Longest path in a configuration file (Linux: PATH_MAX).
pub const CONFIG_PATH_BYTES_MAX: usize = 4096;
/// Most sources of one agent; each has a thread.
pub const SOURCES_MAX: usize = 16;
/// Most entries under `[channels]`; each new channel is held against all of them.
pub const CHANNEL_RULES_MAX: usize = 1024;
/// Longest topic prefix; with device and lane a topic stays far below MQTT's 65 535 bytes.
pub const TOPIC_PREFIX_BYTES_MAX: usize = 128;

// `outpost check`.

/// Longest wait for one step at the broker: name, TCP, TLS, MQTT.
pub const CHECK_STEP_TIME: std::time::Duration = std::time::Duration::from_secs(5);
/// Addresses of one broker name that are tried.
pub const CHECK_ADDRESSES_MAX: usize = 4;
/// A certificate with fewer days left is warned of.
pub const CHECK_CERTIFICATE_DAYS_MIN: i64 = 30;
/// Less free disk than this is an error.
pub const CHECK_DISK_BYTES_MIN: u64 = 64 << 20;
/// Free disk that an aggregator's database should find.
pub const CHECK_STORE_FREE_BYTES: u64 = 1 << 30;
