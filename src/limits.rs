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

// Judging: windows, detectors, episodes.

/// Windows that one channel holds open; length, hop and lateness are cut to fit.
pub const WINDOWS_OPEN_MAX: usize = 64;
/// So many late readings of one channel in a row mean that its clock was set back.
pub const LATE_RUN_MAX: u32 = 20;
/// Longest lateness that is waited for, in seconds.
pub const LATENESS_S_MAX: u32 = 3600;
/// Shortest window and hop, in milliseconds.
pub const WINDOW_MS_MIN: u32 = 100;
/// Readings before a stream is judged by its past.
pub const NOVELTY_LEARN_READINGS: u64 = 150;
/// Steps of the past that a course remembers: at one step per 5 min, nearly three days.
pub const COURSE_STEPS: usize = 800;
/// Most bytes of learnt state per stream.
pub const STREAM_BYTES_MAX: usize = 8 * 1024;
/// Sources of readings, each with its own event time.
pub const SOURCES_MAX: usize = 64;
/// Ended episodes that are remembered for the next digests; older ones are only counted.
pub const ENDED_EPISODES_MAX: usize = 256;

const _: () = assert!(COURSE_STEPS * 8 < STREAM_BYTES_MAX && COURSE_STEPS.is_multiple_of(16));
const _: () = assert!(ENDED_EPISODES_MAX >= FACT_EVENTS_MAX);

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
