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

// Sync and wire.

/// Most entries (lane and epoch) in one acknowledgement.
pub const ACK_LANES_MAX: usize = 8;
/// Most separate ranges beyond the contiguous run in one entry of an acknowledgement.
pub const ACK_RANGES_MAX: usize = 8;
/// Longest acknowledgement: every number at its longest as a varint.
pub const ACK_BYTES_MAX: usize = 7 + 2 + ACK_LANES_MAX * (1 + 10 + 10 + 1 + ACK_RANGES_MAX * 20);
/// Longest heartbeat: metered lines pay for it twice a minute.
pub const HEARTBEAT_BYTES_MAX: usize = 300;
/// Most bytes of the program's version in a heartbeat.
pub const HEARTBEAT_VERSION_BYTES_MAX: usize = 16;
/// Blocks of one lane that wait to be offered again after a refusal; the lane pauses when there are more.
pub const UPLINK_REFUSED_MAX: usize = 16;
/// Times that a refused block is offered again within one session.
pub const UPLINK_REFUSALS_MAX: u32 = 5;
/// Separate ranges per lane that one session follows as acknowledged out of order or set aside.
pub const UPLINK_RANGES_MAX: usize = 1024;
/// Devices that one aggregator follows.
pub const INTAKE_DEVICES_MAX: usize = 10_000;
/// Epochs followed per device and lane; a new one comes only with a new spool.
pub const INTAKE_EPOCHS_MAX: usize = 16;
/// Separate ranges followed per lane and epoch.
pub const INTAKE_RANGES_MAX: usize = 4096;

// Link.

/// Largest PEM file that is read.
pub const TLS_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Messages from the broker that wait for the seat; further ones are dropped unacknowledged and come again.
pub const LINK_MESSAGES_MAX: usize = 256;
/// Publishes that wait for room in the broker's window; a fuller link takes no further commands.
pub const LINK_QUEUE_MAX: usize = 64;
/// Commands and events under way between a seat and its link.
pub const LINK_CHANNEL_MAX: usize = 256;
/// Most messages at QoS 1 that the broker may send ahead of our acknowledgements.
pub const LINK_RECEIVE_MAX: u16 = 64;

const _: () = assert!(BLOCK_SEAL_BYTES * 3 / 2 < BLOCK_BYTES_MAX);
const _: () = assert!(CHANNEL_NAME_BYTES_MAX < 256);
