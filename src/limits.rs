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

// Words of a digest.

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
/// Most tokens of a prompt: the head and nine or fewer per event.
pub const PROMPT_TOKENS_MAX: usize = 8 + 10 * FACT_EVENTS_MAX;
/// Tokens kept back to finish an answer properly: a name and a comma per event, the outage, what is not listed, the end.
pub const ANSWER_RESERVE_TOKENS: usize = 2 * (FACT_EVENTS_MAX + 3) + 2;
/// Most tokens of an answer, verdict, cause and end included: the longest that a student is taught (150), and the reserve.
pub const ANSWER_TOKENS_MAX: usize = 150 + ANSWER_RESERVE_TOKENS;

const _: () = assert!(PROMPT_TOKENS_MAX + ANSWER_TOKENS_MAX <= CONTEXT_TOKENS_MAX);

// Language model.

/// Largest file of a student.
pub const MODEL_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Digests that wait for the language model; further ones are worded by the template.
pub const DIGEST_QUEUE_MAX: usize = 8;
/// Time from the request to the words, by default; after that the template words it.
pub const DIGEST_BUDGET_MS: u64 = 5_000;
