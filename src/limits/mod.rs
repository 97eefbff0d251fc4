//! Every bound of the program in one place, unit in its name, relations proved at compile time.
//!
//! A bound that an operator may change is a default here and a range in [`crate::config`]; the others are fixed. The
//! headings are the rooms, from the bottom of the layers to the top; those of the language model stand in files of their own.

mod glm;
mod kv;

pub use glm::*;
pub use kv::*;

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
/// Longest unit of measure.
pub const UNIT_BYTES_MAX: usize = 16;

const _: () = assert!(CHANNEL_NAME_BYTES_MAX < 256);

// Judging: windows, detectors, episodes.

/// Windows that one channel holds open; length, hop and lateness are cut to fit.
pub const WINDOWS_OPEN_MAX: usize = 64;
/// What a reading is reckoned as where what was sensed is held against what is sent: time and value, its name not counted.
pub const READING_BYTES: u64 = 16;
/// So many late readings of one channel in a row mean that its clock was set back.
pub const LATE_RUN_MAX: u32 = 20;
/// A stamp that is farther ahead of what its channel should show by now than this, in seconds, is doubted.
pub const STAMP_AHEAD_S_MAX: u64 = 24 * 3600;
/// So many such readings of one channel in a row mean that its clock was set forward.
pub const AHEAD_RUN_MAX: u32 = 3;
/// Longest lateness that is waited for, in seconds.
pub const LATENESS_S_MAX: u32 = 3600;
/// Readings of one channel that wait for late ones where order matters; 24 bytes each.
pub const ORDER_READINGS_MAX: usize = 4096;
/// Readings of one channel that a sliding window reaches back to.
pub const SLIDING_READINGS_MAX: usize = 4096;
/// Centroids of a quantile sketch: up to so many values quantiles are exact.
pub const QUANTILE_CENTROIDS: usize = 100;
/// Values that a quantile sketch takes before it merges them.
pub const QUANTILE_FRESH: usize = 64;
/// Shortest window and hop, in milliseconds.
pub const WINDOW_MS_MIN: u32 = 100;
/// Readings before a stream is judged by its past.
pub const NOVELTY_LEARN_READINGS: u64 = 150;
/// Steps of the past that a course remembers: at one step per 5 min, more than two days.
pub const COURSE_STEPS: usize = 688;
/// Channels of one group that are judged together; what is learnt of them grows with their square.
pub const GROUP_CHANNELS_MAX: usize = 32;
/// Groups of one agent.
pub const GROUPS_MAX: usize = 32;
/// Cells of a group that are open at a time: how long a member that is late is waited for.
pub const GROUP_WAIT_CELLS: usize = 16;
/// Rows after which a member that was never heard is told.
pub const GROUP_PATIENCE_ROWS: u64 = 64;
/// Rules over several channels of one agent.
pub const RULES_MAX: usize = 64;
/// Conditions of one such rule.
pub const RULE_CONDITIONS_MAX: usize = 16;
/// Episodes of one channel whose records are being numbered.
pub const WITNESSES_MAX: usize = 8;
/// Readings before and after the begin of an episode that may go along with it; 16 bytes each and channel.
pub const CLIP_READINGS_MAX: usize = 1000;
/// Most bytes of learnt state per stream.
pub const STREAM_BYTES_MAX: usize = 8 * 1024;

const _: () = assert!(COURSE_STEPS * 8 < STREAM_BYTES_MAX && COURSE_STEPS.is_multiple_of(16));

const _: () = assert!(AHEAD_RUN_MAX < LATE_RUN_MAX && STAMP_AHEAD_S_MAX > LATENESS_S_MAX as u64);

// Small models.

/// Small models of one agent.
pub const MODELS_MAX: usize = 16;
/// Longest name of a small model or of one of its classes, in bytes.
pub const MODEL_NAME_BYTES_MAX: usize = 24;
/// Channels that one small model looks at.
pub const MODEL_CHANNELS_MAX: usize = 16;

const _: () = assert!(MODEL_CHANNELS_MAX <= GROUP_CHANNELS_MAX && FRAME_HOLD_CELLS < GROUP_WAIT_CELLS as i64);

/// Samples of one channel in a frame.
pub const FRAME_SAMPLES_MAX: usize = 4096;
/// Empty cells in a row that the sample before stands in for.
pub const FRAME_HOLD_CELLS: i64 = 3;
/// Largest file of a small model's bundle.
pub const SMALL_MODEL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Elements of a small model's input or output.
pub const SMALL_MODEL_ELEMENTS_MAX: usize = 1024 * 1024;
/// Variants of one bundle, and golden vectors of one, each.
pub const BUNDLE_ENTRIES_MAX: usize = 64;
/// Frames that wait for the small models; with more, frames are skipped and counted.
pub const INFER_QUEUE_MAX: usize = 32;
/// Runs that a backend is timed by when it is loaded.
pub const BACKEND_TIMED_RUNS: usize = 21;
/// Time after which a slow backend is timed no longer, in milliseconds.
pub const BACKEND_TIMED_MS_MAX: u64 = 200;
/// Entries of one folder that are looked at for accelerators.
pub const PROBE_ENTRIES_MAX: usize = 4096;
/// Largest tensor that travels through a worker's socket; larger ones stand in shared memory.
pub const WORKER_INLINE_BYTES_MAX: usize = 16 * 1024;
/// Largest frame between the agent and a worker: a model's file with its name.
pub const WORKER_FRAME_BYTES_MAX: usize = SMALL_MODEL_BYTES_MAX as usize + 64 * 1024;
/// Longest time for a worker to load its plug-in, or one model, in milliseconds.
pub const WORKER_LOAD_MS_MAX: u64 = 20_000;
/// Longest time for a vendor's runtime to load a language model, in milliseconds.
pub const LANGUAGE_LOAD_MS_MAX: u64 = 120_000;
/// Longest time from a prompt to the first piece of its answer, in milliseconds.
pub const LANGUAGE_FIRST_MS_MAX: u64 = 60_000;
/// Longest time for each further piece, in milliseconds.
pub const LANGUAGE_PIECE_MS_MAX: u64 = 10_000;
/// Least memory for the process of a vendor's language runtime; where there is less it is not begun.
pub const LANGUAGE_MEMORY_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// Conversations that wait for a vendor's runtime, which takes one at a time, while somebody else can answer.
pub const LANGUAGE_WAITING_MAX: usize = 4;
/// Most bytes of an answer per token that it may have; a runtime that writes more is stopped.
pub const LANGUAGE_TOKEN_BYTES_MAX: usize = 256;
/// Most memory of its own that a worker may take; a plug-in that leaks ends there.
pub const WORKER_DATA_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Models and segments of graphs that one worker has ready, those of models that share its device together.
pub const WORKER_MODELS_MAX: usize = 600;
/// Largest difference of a segment's answer on a device from the CPU's, as a share of the largest number of a tensor. A processor
/// that multiplies in 8 bits is off by 0.01 itself; what is computed wrongly is off by 1.
pub const SEGMENT_ERROR_MAX: f32 = 0.03;
/// First wait after a backend failed; waits double.
pub const BACKEND_BACKOFF_MS_MIN: u64 = 1000;
/// Longest wait after a backend failed.
pub const BACKEND_BACKOFF_MS_MAX: u64 = 5 * 60 * 1000;
/// Most that is kept of what a vendor's code says about a failure, in bytes.
pub const BACKEND_WORDS_BYTES_MAX: usize = 1024;
/// Failures in a row that end in quarantine.
pub const BACKEND_FAILURES_MAX: u32 = 5;

const _: () = assert!(WORKER_INLINE_BYTES_MAX < SMALL_MODEL_ELEMENTS_MAX);
// Two phases of a language model, and the small models.
const _: () = assert!(WORKER_MODELS_MAX >= 2 * (GLM_LAYERS_MAX + 2) + MODELS_MAX);

// Templates of log lines.

/// Templates of one stream of lines; beyond, the one that was not seen for longest goes. At most about 1 MiB.
pub const TEMPLATES_MAX: usize = 512;
/// Templates that had to go and are still known by their hash.
pub const TEMPLATES_GONE_MAX: usize = 8192;
/// Templates of one stream that have a channel each; further ones share one.
pub const TEMPLATE_CHANNELS_MAX: usize = 128;
/// New templates of one window that are told in words; further ones are counted.
pub const TEMPLATE_NEWS_MAX: usize = 3;
/// Tokens of a line that are looked at.
pub const TEMPLATE_TOKENS_MAX: usize = 64;
/// Bytes of a line that are looked at.
pub const TEMPLATE_LINE_BYTES_MAX: usize = 2048;

const _: () = assert!(TEMPLATE_CHANNELS_MAX < TEMPLATES_MAX && TEMPLATE_CHANNELS_MAX < CHANNELS_MAX);

// Facts.

/// Events that one digest names; further ones are counted.
pub const FACT_EVENTS_MAX: usize = 6;

// Digest.

/// Most decimals beyond the usual ones that are spent to tell two values apart.
pub const FIGURE_EXTRA_DECIMALS_MAX: usize = 6;
/// Longest name of a channel or asset in a text; the rest is cut.
pub const FIGURE_NAME_CHARS_MAX: usize = 64;
/// Moments before 1971 are a clock that nobody set, not a date.
pub const FIGURE_MOMENT_MIN: Wall = Wall::from_secs(31_536_000);
/// Most tokens of a vocabulary.
pub const VOCAB_TOKENS_MAX: usize = 16 * 1024;
/// Most tokens of a prompt and its answer together.
pub const CONTEXT_TOKENS_MAX: usize = 256;
/// Most tokens of a prompt: the head and nine per event.
pub const PROMPT_TOKENS_MAX: usize = 8 + 9 * FACT_EVENTS_MAX;
/// Tokens kept back to finish an answer properly: a name and a comma per event, the outage, what is not listed, the end.
pub const ANSWER_RESERVE_TOKENS: usize = 2 * (FACT_EVENTS_MAX + 3) + 2;
/// Most tokens of an answer, verdict, cause and end included: the longest that a student is taught (150), and the reserve.
pub const ANSWER_TOKENS_MAX: usize = 150 + ANSWER_RESERVE_TOKENS;

const _: () = assert!(PROMPT_TOKENS_MAX + ANSWER_TOKENS_MAX <= CONTEXT_TOKENS_MAX);

// Ask.

/// Longest question.
pub const ASK_QUESTION_BYTES_MAX: usize = 2000;
/// Most channels and assets that one question is about.
pub const ASK_SUBJECTS_MAX: usize = 8;
/// Names that a language model may choose from.
pub const ASK_NAMES_MAX: usize = 256;
/// How far back a question looks that says nothing of the time, in seconds.
pub const ASK_PERIOD_S_DEFAULT: u64 = 24 * 3600;
/// Records of the lane `alarm` that a question looks at, the newest.
pub const ASK_ALARMS_MAX: u64 = 20_000;
/// Records of the lane `digest` that a question looks at, the newest.
pub const ASK_DIGESTS_MAX: u64 = 1_000;
/// Outages of one run that are remembered.
pub const ASK_OUTAGES_MAX: usize = 64;
/// The longest period of a question, in seconds.
pub const ASK_PERIOD_S_MAX: u64 = 366 * 24 * 3600;

const _: () = assert!(ASK_PERIOD_S_DEFAULT <= ASK_PERIOD_S_MAX);

// Wire.

/// Most bytes of one encoded block: fits every common broker's default packet limit (AWS IoT: 128 KiB).
pub const BLOCK_BYTES_MAX: usize = 120 * 1024;
/// Most records in one block.
pub const BLOCK_RECORDS_MAX: usize = 16 * 1024;
/// A lane's open block is sealed when its records are estimated to reach this size, encoded.
pub const BLOCK_SEAL_BYTES: usize = 64 * 1024;
/// Most entries (lane and epoch) in one acknowledgement.
pub const ACK_LANES_MAX: usize = 8;
/// Most separate ranges beyond the contiguous run in one entry of an acknowledgement.
pub const ACK_RANGES_MAX: usize = 8;
/// Longest acknowledgement: every number at its longest as a varint.
pub const ACK_BYTES_MAX: usize = 7 + 2 + ACK_LANES_MAX * (1 + 10 + 10 + 1 + ACK_RANGES_MAX * 20);
/// Longest heartbeat. A usual one with a signature over P-256 stays below 300 bytes, since metered lines pay for it twice
/// a minute; the rest is room for every number at its longest and for the signature of an RSA key of 4096 bits.
pub const HEARTBEAT_BYTES_MAX: usize = 1024;
/// Longest signature of a heartbeat: that of an RSA key of 4096 bits.
pub const SIGNATURE_BYTES_MAX: usize = 512;
/// Most reasons for giving records up that a heartbeat may name, those of later programs included.
pub const GAP_REASONS_MAX: usize = 32;
/// Most bytes of the program's version in a heartbeat.
pub const HEARTBEAT_VERSION_BYTES_MAX: usize = 16;
/// Most bytes of a block's body before compression: what reading a hostile block may cost.
pub const BLOCK_BODY_BYTES_MAX: usize = 1024 * 1024;

const _: () = assert!(BLOCK_SEAL_BYTES * 3 / 2 < BLOCK_BYTES_MAX);
const _: () = assert!(BLOCK_BODY_BYTES_MAX > BLOCK_BYTES_MAX);
const _: () = assert!(SIGNATURE_BYTES_MAX < HEARTBEAT_BYTES_MAX);
const _: () = assert!(HEARTBEAT_VERSION_BYTES_MAX < HEARTBEAT_BYTES_MAX && ACK_BYTES_MAX < BLOCK_BYTES_MAX);

// Time.

/// Boots whose place in time is followed; the oldest are forgotten first.
pub const BOOTS_MAX: usize = 64;
/// How often it is noted on disk that a boot still runs, in seconds.
pub const BOOT_WRITE_S: u64 = 30;
/// Clocks (a boot, and a setting of its wall clock) of one device that the aggregator can still set right.
pub const CLOCKS_MAX: usize = 1024;
/// What a block holds was stamped by the clock that sealed it if it is not older than this when it is sealed, in seconds.
pub const OWN_TIME_S_MAX: u64 = 2 * 3600;

// Sync.

/// Blocks of one lane that wait to be offered again out of their order; the lane pauses when there are more.
pub const UPLINK_REFUSED_MAX: usize = 16;
/// Times that a block is offered to a broker that refuses it, or hangs up on it alone.
pub const UPLINK_REFUSALS_MAX: u32 = 5;
/// Times that the broker hangs up while a block is on the wire before that block has to go alone.
pub const UPLINK_CUTS_MAX: u32 = 3;
/// Blocks of one lane of which it is remembered that the broker refused them or hung up on them.
pub const UPLINK_DOUBTS_MAX: usize = 64;
/// How long blocks may take that are on the wire already when another one goes, beyond the way to the broker and back.
pub const UPLINK_QUEUE_MS: u64 = 400;
/// Bytes without PUBACK behind which another block may go before the line has shown what it carries: two blocks.
pub const UPLINK_WINDOW_BYTES_START: usize = 64 * 1024;
/// Fewer bytes say nothing about the rate of a line.
pub const UPLINK_PACE_BYTES_MIN: u64 = 16 * 1024;
/// Bytes without PUBACK, whatever the line carries: enough for 14 Mbit/s over a satellite.
pub const UPLINK_WINDOW_BYTES_MAX: usize = 1024 * 1024;
/// The rate of the line is the best of this time and of as much before it.
pub const UPLINK_PACE_PERIOD_MS: u64 = 10_000;
/// Separate ranges per lane that one session follows as acknowledged out of order or set aside.
pub const UPLINK_RANGES_MAX: usize = 1024;
/// Devices that one aggregator follows.
pub const INTAKE_DEVICES_MAX: usize = 10_000;
/// Epochs followed per device and lane; a new one comes only with a new spool.
pub const INTAKE_EPOCHS_MAX: usize = 16;
/// Separate ranges followed per lane and epoch.
pub const INTAKE_RANGES_MAX: usize = 4096;
/// How long everything else waits for the offline digest after an outage.
pub const FIRST_WAIT_MS: u64 = 3_000;

const _: () = assert!(ACK_RANGES_MAX < UPLINK_RANGES_MAX && UPLINK_REFUSED_MAX < UPLINK_RANGES_MAX);
const _: () = assert!(UPLINK_REFUSED_MAX < UPLINK_DOUBTS_MAX);

// Sensor.

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
/// Connections served at once by one source of lines; a further one takes the place of an idle one, or is closed at once.
pub const LINE_CONNECTIONS_MAX: usize = 16;
/// Shortest silence after which a connection gives way to another when all places are taken, in seconds.
pub const LINE_IDLE_S_MIN: u64 = 60;
/// Shortest time between two log lines about malformed input of one source, in seconds.
pub const MALFORMED_LOG_S_MIN: u64 = 10;
/// Bytes of an offending line that a log line shows.
pub const MALFORMED_SAMPLE_BYTES_MAX: usize = 80;
/// Columns of a recording.
pub const CSV_COLUMNS_MAX: usize = 1024;
/// Largest file under `/proc` or `/sys` that host vitals read; the rest is cut off.
pub const HOST_FILE_BYTES_MAX: u64 = 256 * 1024;
/// Directory entries, such as network interfaces or thermal zones, that host vitals look at per directory.
pub const HOST_ENTRIES_MAX: usize = 256;
/// Polls after which a vital that is gone is no longer reported as unreadable.
pub const HOST_MISSES_MAX: u32 = 60;
/// Chips on one bus.
pub const CHIPS_MAX: usize = 64;
/// Failures in a row after which a chip is left alone for a while.
pub const CHIP_FAILURES_MAX: u32 = 3;
/// Longest time that a failing chip is left alone, in seconds, unless its interval is longer.
pub const CHIP_REST_S_MAX: u64 = 60;

/// Time between two looks for an IIO device that is gone, in seconds.
pub const IIO_RETRY_S: u64 = 1;
/// Lines of one GPIO chip that one source reads; the kernel gives no more with one request.
pub const GPIO_LINES_MAX: usize = 64;

/// Values of one Modbus device.
pub const MODBUS_REGISTERS_MAX: usize = 1024;
/// Steps of a path into a JSON document.
pub const JSON_STEPS_MAX: usize = 16;
/// Signals of one DBC file.
pub const DBC_SIGNALS_MAX: usize = 2048;
/// Bytes of a file that a source begins with, such as a DBC file.
pub const SOURCE_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How often a connection looks whether the certificates that it began with have been replaced.
pub const CERTIFICATES_EVERY: std::time::Duration = std::time::Duration::from_secs(60);
/// Messages from a broker in the field that wait to be read; then its socket is left unread.
pub const SUBSCRIBE_MESSAGES_MAX: usize = 64;
/// Largest message from a broker in the field that is read; others are counted and passed over.
pub const SUBSCRIBE_MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Largest packet from a broker in the field. At a larger one the connection ends, and one that the broker has retained would
/// end it again and again.
pub const SUBSCRIBE_PACKET_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Messages of a broker in the field by which one that comes again is known.
pub const SUBSCRIBE_RECENT_MAX: usize = 256;
/// Output of one run of a program that is read.
pub const EXEC_OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// Longest body of lines that is posted at once.
pub const PUSH_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest token or password in a file.
pub const SECRET_BYTES_MAX: usize = 4096;
/// Log files that one source follows; each is kept open.
pub const LOG_FILES_MAX: usize = 64;
/// Entries of a folder that are looked at for log files.
pub const LOG_ENTRIES_MAX: usize = 4096;
/// Rotated files of one log that are looked at, the newest.
pub const LOG_ROTATED_MAX: usize = 64;
/// Bytes of one log file that are read before it is the turn of the next.
pub const LOG_TURN_BYTES: u64 = 1024 * 1024;
/// Counts of one log that wait to be durable.
pub const LOG_PROMISES_MAX: usize = 64;
/// Shortest time between two notices about what is new in a log, in seconds.
pub const LOG_NEWS_S_MIN: u64 = 60;
/// Characters of a template that a label or a notice shows.
pub const TEMPLATE_LABEL_CHARS_MAX: usize = 120;

const _: () = assert!(LINE_ALIAS_BYTES_MAX > CHANNEL_NAME_BYTES_MAX && LINE_ALIAS_BYTES_MAX < LINE_BYTES_MAX);
const _: () = assert!(CSV_COLUMNS_MAX <= CHANNELS_MAX && CSV_COLUMNS_MAX <= SENSOR_BATCH_READINGS_MAX);
const _: () = assert!(MALFORMED_SAMPLE_BYTES_MAX < LINE_BYTES_MAX);

// Spool.

/// Default bound of the spool's blocks.
pub const SPOOL_BYTES_DEFAULT: u64 = 256 * 1024 * 1024;
/// Smallest bound that an operator may set.
pub const SPOOL_BYTES_MIN: u64 = 1024 * 1024;
/// Smallest bound of one lane.
pub const SPOOL_LANE_BYTES_MIN: u64 = 64 * 1024;
/// Percent of the bound that each lane keeps whatever the others need: alarms, digests, summaries, single readings.
pub const SPOOL_RESERVED_PERCENT: [u8; 4] = [20, 10, 20, 10];
/// Default commit interval.
pub const SPOOL_COMMIT_INTERVAL_MS_DEFAULT: u64 = 50;
/// Default floor of free space on the spool's file system.
pub const SPOOL_DISK_FREE_BYTES_MIN_DEFAULT: u64 = 64 * 1024 * 1024;
/// Largest stored block. sled keeps up to 18 values in a page and writes pages over a quarter of a segment into
/// files that it never syncs: no page may become so large.
pub const SPOOL_BLOCK_BYTES_MAX: usize = 48 * 1024;
/// Reads of a database that its medium fails before what does not read of it is given up. A medium that is away for a moment
/// fails as often as one that is worn.
pub const SPOOL_MEDIUM_TRIES: u32 = 5;
/// Pages that a medium does not give back before the search of a damaged database gives up the rest of a file: each may cost
/// seconds.
pub const SPOOL_BAD_PAGES_MAX: u32 = 1000;
/// How often a database is tried whose lock seems to be held; pauses between them come to less than half a second.
pub const SPOOL_LOCK_TRIES: u32 = 20;
/// Segment of sled's file.
pub const SPOOL_SEGMENT_BYTES: usize = 4 * 1024 * 1024;
/// Cache of sled; its memory is several times that.
pub const SPOOL_CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// Estimated bytes of records that begin a commit before its interval is over: 16,384 readings, or 1,365 windows.
pub const SPOOL_COMMIT_BYTES: usize = 64 * 1024;
/// Records collected for one commit, those among them that came while the one before ran.
pub const SPOOL_OPEN_RECORDS: usize = 16 * 1024;
/// Estimated bytes of them: what an alarm may wait behind.
pub const SPOOL_OPEN_BYTES: usize = 1024 * 1024;
/// Records waiting for a disk that refuses to commit; beyond, the oldest go, raw ones first.
pub const SPOOL_OPEN_RECORDS_MAX: usize = 32 * 1024;
/// Estimated bytes of them.
pub const SPOOL_OPEN_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Releases remembered until they ride with a commit; more make a commit of their own.
pub const SPOOL_RELEASES_MAX: usize = 1024;
/// Requests waiting for the store's thread.
pub const SPOOL_REQUESTS_MAX: usize = 64;
/// Blocks that a salvage of a damaged spool remembers (32 bytes each).
pub const SPOOL_SALVAGE_BLOCKS_MAX: usize = 1024 * 1024;
/// Blocks that a salvage puts into the active database in one commit; at most 48 KiB each.
pub const SPOOL_SALVAGE_BATCH_BLOCKS: usize = 64;
/// Bytes on disk at which the active database is sealed and the next one begun. A copy of one is made when it is opened.
pub const SPOOL_DATABASE_BYTES: u64 = 32 * 1024 * 1024;
/// Bytes on disk above which a database with nothing left in it gives way to a new one.
pub const SPOOL_DATABASE_EMPTY_BYTES: u64 = 2 * 1024 * 1024;
/// Sealed databases that are open at a time, for reading.
pub const SPOOL_DATABASES_OPEN_MAX: usize = 2;
/// Bytes moved out of a nearly empty database in one commit: what an alarm may wait behind.
pub const SPOOL_MOVE_BYTES: usize = 1024 * 1024;
/// Separate ranges of numbers in one sealed database; what is left of a more fragmented one is moved out.
pub const SPOOL_RANGES_MAX: usize = 1024;
/// Bytes of blocks that the far side refused for good and that are kept as files; beyond, the oldest are deleted.
pub const SPOOL_DEAD_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Number of such files.
pub const SPOOL_DEAD_FILES_MAX: usize = 1024;
/// Bytes set aside on the disk, to write in what is given up when there is no other space left.
pub const SPOOL_RESERVE_BYTES: u64 = 8 * 1024 * 1024;
/// Damaged databases kept for a look; older ones are deleted.
pub const SPOOL_DAMAGED_KEPT: usize = 1;
/// Blocks put into one tree of a database before the next one: sled writes a leaf anew at its tenth change.
pub const SPOOL_DRAWER_BLOCKS: usize = 9;
/// Bytes below which a tree takes more of them: small blocks are cheap to write anew, and trees are not free.
pub const SPOOL_DRAWER_BYTES: usize = 96 * 1024;
/// Trees made at a time: making one is a write of its own before the commit.
pub const SPOOL_DRAWERS_AT_ONCE: usize = 8;
/// Trees for blocks in one database: more than one that is full needs.
pub const SPOOL_DRAWERS_MAX: usize = 512;

const _: () = assert!(SPOOL_BLOCK_BYTES_MAX <= BLOCK_BYTES_MAX);
const _: () = assert!(SPOOL_BLOCK_BYTES_MAX < UPLINK_WINDOW_BYTES_START * 7 / 8);
const _: () = assert!(UPLINK_PACE_BYTES_MIN < SPOOL_BLOCK_BYTES_MAX as u64);
const _: () = assert!(18 * (SPOOL_BLOCK_BYTES_MAX + 64) < SPOOL_SEGMENT_BYTES / 4 - 64);
const _: () = assert!(SPOOL_OPEN_RECORDS < SPOOL_OPEN_RECORDS_MAX);
const _: () = assert!(SPOOL_COMMIT_BYTES < SPOOL_OPEN_BYTES && SPOOL_OPEN_BYTES < SPOOL_OPEN_BYTES_MAX);
const _: () = assert!(SPOOL_RESERVE_BYTES > (SPOOL_SEGMENT_BYTES + 2 * SPOOL_MOVE_BYTES) as u64);
const _: () = assert!(SPOOL_BYTES_MIN > 4 * SPOOL_BLOCK_BYTES_MAX as u64);
const _: () = assert!(SPOOL_LANE_BYTES_MIN > SPOOL_BLOCK_BYTES_MAX as u64);

// Link.

/// Largest PEM file that is read.
pub const TLS_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Messages from the broker that wait for the seat; with more the socket is left unread.
pub const LINK_MESSAGES_MAX: usize = 256;
/// Publishes that wait for room in the broker's window; a fuller link takes no further commands.
pub const LINK_QUEUE_MAX: usize = 64;
/// Commands and events under way between a seat and its link.
pub const LINK_CHANNEL_MAX: usize = 256;
/// Most messages at QoS 1 that the broker may send ahead of our acknowledgements.
pub const LINK_RECEIVE_MAX: u16 = 64;

const _: () = assert!(LINK_MESSAGES_MAX >= LINK_RECEIVE_MAX as usize);

// Http.

/// Connections served at once; further ones wait in the kernel's backlog.
pub const HTTP_CONNECTIONS_MAX: usize = 32;
/// Most bytes of a request's line and headers together.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most headers of a request.
pub const HTTP_HEADERS_MAX: usize = 64;
/// Most bytes of a request's body: a long conversation with every character escaped.
pub const HTTP_BODY_BYTES_MAX: usize = 256 * 1024;
/// Longest wait for the head of a request, idle keep-alive time included, in seconds.
pub const HTTP_HEAD_S_MAX: u64 = 15;
/// Longest wait for a request's body and for the answer of its handler, in seconds.
pub const HTTP_ANSWER_S_MAX: u64 = 30;
/// Longest life of one connection, in seconds: a peer that reads nothing can't hold its slot for ever.
pub const HTTP_CONNECTION_S_MAX: u64 = 120;
/// Longest wait for an answer that a language model writes, and for all of its pieces, in seconds.
pub const HTTP_SLOW_S_MAX: u64 = 600;

// hyper refuses a smaller buffer by panicking.
const _: () = assert!(HTTP_HEAD_BYTES_MAX >= 8192);
const _: () = assert!(HTTP_CONNECTION_S_MAX > HTTP_HEAD_S_MAX + HTTP_ANSWER_S_MAX);
const _: () = assert!(HTTP_SLOW_S_MAX > HTTP_ANSWER_S_MAX);

// Agent.

/// Source clocks of the assembler, each with its own event time.
pub const SOURCE_CLOCKS_MAX: usize = 64;
/// Ended episodes that are remembered for the next digests; older ones are only counted.
pub const ENDED_EPISODES_MAX: usize = 256;
/// Blocks of a lane that are read ahead while a backlog drains; at most 48 KiB each.
pub const READ_AHEAD_BLOCKS: usize = 8;
/// Batches of one source that wait for the assembler; then it waits or drops by its own policy.
pub const BATCHES_MAX: usize = 8;
/// Channels in doubt that the status page names.
pub const STATUS_DOUBTS_MAX: usize = 64;
/// Time in which episodes that begin or end together are gathered into one digest.
pub const DIGEST_SETTLE_MS: u64 = 2_000;

const _: () = assert!(SOURCES_MAX <= SOURCE_CLOCKS_MAX && SOURCE_CLOCKS_MAX <= 256);
const _: () = assert!(ENDED_EPISODES_MAX >= FACT_EVENTS_MAX);

// Aggregator.

/// Messages waiting for the store; when full, the link is no longer read and the broker holds back.
pub const AGGREGATOR_QUEUE_MAX: usize = 256;
/// Most deliveries in one transaction.
pub const AGGREGATOR_COMMIT_BLOCKS_MAX: usize = 256;
/// Most payload bytes in one transaction.
pub const AGGREGATOR_COMMIT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most bytes of blocks of one device that this version can't read and keeps for a newer one.
pub const UNREAD_DEVICE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How many of these blocks.
pub const UNREAD_DEVICE_BLOCKS_MAX: i64 = 1024;
/// Of the database's bound, what all devices together may fill with them: one part in so many.
pub const UNREAD_SHARE: u64 = 8;
/// Longest time that one transaction collects from its queue, in milliseconds.
pub const AGGREGATOR_COMMIT_MS_MAX: u64 = 20;
/// Spools (epochs) that one device may have in the store; a delivery from a further one is refused. A device that loses its
/// spool every day reaches it after five years.
pub const AGGREGATOR_EPOCHS_MAX: usize = 2048;
/// Rows of one list on a page.
pub const PAGE_ROWS_MAX: usize = 200;
/// Points of one line in a chart; more are merged into their minimum, maximum and mean.
pub const CHART_POINTS_MAX: usize = 240;
/// Raw blocks that one page decodes for its charts; where a period holds more, windows are shown.
pub const CHART_BLOCKS_MAX: usize = 4000;
/// Charts on one page.
pub const PAGE_CHARTS_MAX: usize = 6;

const _: () =
    assert!(AGGREGATOR_COMMIT_BYTES_MAX > BLOCK_BYTES_MAX && UNREAD_DEVICE_BYTES_MAX > BLOCK_BYTES_MAX);

// Config.

/// Most bytes of a configuration file.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// Most problems reported of one file; who has more has given the wrong file.
pub const CONFIG_PROBLEMS_MAX: usize = 100;
/// Most elements of a list of values.
pub const CONFIG_LIST_MAX: usize = 64;
/// Longest path in a configuration file (Linux: PATH_MAX).
pub const CONFIG_PATH_BYTES_MAX: usize = 4096;
/// Most sources of one agent; each has a thread and its own event time.
pub const SOURCES_MAX: usize = 32;
/// Most entries under `[channels]`; each new channel is held against all of them.
pub const CHANNEL_RULES_MAX: usize = 1024;
/// Longest topic prefix; with device and lane a topic stays far below MQTT's 65 535 bytes.
pub const TOPIC_PREFIX_BYTES_MAX: usize = 128;

// Cli.

/// Longest wait of `outpost selftest` for anything of its own on loopback.
pub const SELFTEST_STEP_TIME: std::time::Duration = std::time::Duration::from_secs(20);
/// Commits that the process to be killed makes at most; it ends by itself where nobody kills it.
pub const SELFTEST_COMMITS_MAX: u64 = 10_000;
/// Largest MQTT packet that the answerer of `outpost selftest` reads, in bytes.
pub const SELFTEST_PACKET_BYTES_MAX: usize = 4096;
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
