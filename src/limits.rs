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

const _: () = assert!(BLOCK_SEAL_BYTES * 3 / 2 < BLOCK_BYTES_MAX);
const _: () = assert!(CHANNEL_NAME_BYTES_MAX < 256);

/// Most bytes of a block's body before compression: what reading a hostile block may cost.
pub const BLOCK_BODY_BYTES_MAX: usize = 1024 * 1024;

const _: () = assert!(BLOCK_BODY_BYTES_MAX > BLOCK_BYTES_MAX);
// HTTP.

/// Connections served at once; further ones wait in the kernel's backlog.
pub const HTTP_CONNECTIONS_MAX: usize = 32;
/// Most bytes of a request's line and headers together.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most headers of a request.
pub const HTTP_HEADERS_MAX: usize = 64;
/// Most bytes of a request's body.
pub const HTTP_BODY_BYTES_MAX: usize = 64 * 1024;
/// Longest wait for the head of a request, idle keep-alive time included, in seconds.
pub const HTTP_HEAD_S_MAX: u64 = 15;
/// Longest wait for a request's body and for the answer of its handler, in seconds.
pub const HTTP_ANSWER_S_MAX: u64 = 30;
/// Longest life of one connection, in seconds: a peer that reads nothing can't hold its slot for ever.
pub const HTTP_CONNECTION_S_MAX: u64 = 120;

// hyper refuses a smaller buffer by panicking.
const _: () = assert!(HTTP_HEAD_BYTES_MAX >= 8192);
const _: () = assert!(HTTP_CONNECTION_S_MAX > HTTP_HEAD_S_MAX + HTTP_ANSWER_S_MAX);

// Aggregator.

/// Messages waiting for the store; when full, the link is no longer read and the broker holds back.
pub const AGGREGATOR_QUEUE_MAX: usize = 256;
/// Most deliveries in one transaction.
pub const AGGREGATOR_COMMIT_BLOCKS_MAX: usize = 256;
/// Most payload bytes in one transaction.
pub const AGGREGATOR_COMMIT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest time that one transaction collects from its queue, in milliseconds.
pub const AGGREGATOR_COMMIT_MS_MAX: u64 = 20;
/// Spools (epochs) that one device may have in the store; a delivery from a further one is refused. A device that loses its
/// spool every day reaches it after five years.
pub const AGGREGATOR_EPOCHS_MAX: usize = 2048;
/// Rows of one list on a page.
pub const PAGE_ROWS_MAX: usize = 200;
/// Points of one line in a chart; more are merged into their minimum, maximum and mean.
pub const CHART_POINTS_MAX: usize = 240;
/// Charts on one page.
pub const PAGE_CHARTS_MAX: usize = 6;

const _: () = assert!(AGGREGATOR_COMMIT_BYTES_MAX > BLOCK_BYTES_MAX);
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
