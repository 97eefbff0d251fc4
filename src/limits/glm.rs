//! Bounds of the language model: its memory, its answers, its text, its import.

use super::*;

/// Largest file of a student.
pub const MODEL_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Widest residual stream or MLP of a GLM.
pub const GLM_WIDTH_MAX: usize = 64 * 1024;
/// Most tokens of a GLM's vocabulary.
pub const GLM_VOCAB_MAX: usize = 1024 * 1024;
/// Tokens of one run of a GLM, if nothing else is said: enough to be bound by arithmetic, few enough that an alarm is not kept waiting.
pub const GLM_CHUNK_TOKENS: usize = 256;
/// Most rows of logits of one run of a GLM.
pub const GLM_ROWS_MAX: usize = 4096;
/// Largest weights in f32 of an ONNX graph that is run for comparison when it is imported.
pub const IMPORT_PROBE_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Longest text of a grammar or pattern.
pub const GRAMMAR_TEXT_BYTES_MAX: usize = 256 * 1024;
/// Most rules of a grammar.
pub const GRAMMAR_RULES_MAX: usize = 1024;
/// Most places of a grammar.
pub const GRAMMAR_NODES_MAX: usize = 64 * 1024;
/// Most brackets within each other, in a grammar and, as rules within rules, in a text: an object in a JSON takes two.
pub const GRAMMAR_DEPTH_MAX: usize = 64;
/// Largest number of a repetition.
pub const GRAMMAR_REPEAT_MAX: u32 = 1000;
/// Places of a grammar where one text may be at a time; where there are more, some are given up.
pub const GRAMMAR_PLACES_MAX: usize = 1024;
/// Memory of the states that one answer remembers; then it forgets them. A single walk may take twice that.
pub const GRAMMAR_TABLE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Answers whose states and masks are kept for the next ones under the same grammars.
pub const GRAMMAR_IDLE_MAX: usize = 16;
/// Memory of the states and masks of all answers under all grammars of one model.
pub const GRAMMAR_BYTES_MAX: usize = 48 * 1024 * 1024;
/// Most masks that are kept; 19 kB each for a vocabulary of 150 000.
pub const GRAMMAR_MASKS_MAX: usize = 256;
/// Digests that the student words side by side.
pub const STUDENT_SLOTS: usize = 4;
/// Most requests that a language model has at a time.
pub const GLM_REQUESTS_MAX: usize = 64;
/// How long one run of a language model should take at most: what an alarm waits for.
pub const GLM_STEP_TARGET_MS: u64 = 200;
/// Tokens of a language model's run that a device is made ready for: a student's prompt.
pub const GLM_DEVICE_TOKENS: usize = 64;
/// Largest difference of logits with a device in the graph from the CPU's alone, as a share of the largest logit.
pub const GLM_DEVICE_ERROR_MAX: f32 = 0.05;
const _: () = assert!(GLM_DEVICE_TOKENS >= PROMPT_TOKENS_MAX);
/// Most stop strings of a request.
pub const STOPS_MAX: usize = 16;
/// Jobs of one priority that wait for the language model; further digests are worded by the template, others refused.
pub const GLM_QUEUE_MAX: usize = 8;
/// Shortest time between two looks at temperature and load, in milliseconds.
pub const GOVERNOR_LOOK_MS: u64 = 1000;
/// Memory of the machine that a language model of an operator's own leaves to others: below it gives its own back.
pub const GLM_MEMORY_SPARE_BYTES: u64 = 32 * 1024 * 1024;
/// Shortest time between two looks at the memory that is left, in milliseconds.
pub const GLM_MEMORY_LOOK_MS: u64 = 250;
/// Time after which a language model that could not be loaded is tried again, in seconds.
pub const GLM_RETRY_S: u64 = 60;
/// Messages of one conversation.
pub const GLM_MESSAGES_MAX: usize = 512;
/// Grammars that a language model keeps ready; a mask takes an eighth of its vocabulary in bytes.
pub const GLM_GUIDES_MAX: usize = 8;
/// Tokens of a query that a language model writes.
pub const GLM_QUERY_TOKENS_MAX: usize = 160;
/// Time from the request to the words, by default; after that the template words it.
pub const DIGEST_BUDGET_MS: u64 = 2_000;

// The words come by the budget at the latest; what is left is for their commit.
const _: () = assert!(DIGEST_BUDGET_MS + 500 < FIRST_WAIT_MS);

// Text.

/// Tokens that stand for themselves in a text; GLM-4 has some thirty.
pub const TOKENIZER_ADDED_MAX: usize = 4096;
/// Steps in which a text is parted before its bytes are merged.
pub const TOKENIZER_STEPS_MAX: usize = 16;
/// Tokens that a post-processor puts before a text.
pub const TOKENIZER_PREFIX_MAX: usize = 16;
/// Merges of one tokenizer.
pub const TOKENIZER_MERGES_MAX: usize = 4 * 1024 * 1024;
/// Longest token; whole runs of blanks are tokens.
pub const TOKEN_BYTES_MAX: usize = 4096;
/// Longest split pattern; GPT-4's has 120 bytes.
pub const TOKENIZER_PATTERN_BYTES_MAX: usize = 4096;
/// Memory for the states of a split pattern; those of GLM-4 and GPT-4o take 62 and 145 KiB.
pub const TOKENIZER_PATTERN_STATES_BYTES_MAX: usize = 512 * 1024;
/// Memory for the states of a pattern's lazy DFA, for each thread that parts a text. Fewer than twice those of the pattern may not
/// suffice for its first ones, and then the library recurs without an end.
pub const TOKENIZER_PATTERN_CACHE_BYTES: usize = 2 * 1024 * 1024;
const _: () = assert!(TOKENIZER_PATTERN_CACHE_BYTES >= 4 * TOKENIZER_PATTERN_STATES_BYTES_MAX);
/// How often a step may read a text over to part it; GLM-4's pattern takes at most about 5 times.
pub const TOKENIZER_READINGS_MAX: usize = 16;

/// Most bytes of a chat template; GLM-4's has 4 KiB.
pub const TEMPLATE_BYTES_MAX: usize = 256 * 1024;
/// Steps that a chat template may take for one conversation.
pub const TEMPLATE_STEPS_MAX: u64 = 4_000_000;
/// Calls within calls of a chat template.
pub const TEMPLATE_DEPTH_MAX: usize = 64;
/// Most bytes of one conversation as a text.
pub const PROMPT_BYTES_MAX: usize = 8 * 1024 * 1024;

// Import.

/// Longest side of a tensor in a checkpoint.
pub const IMPORT_SIDE_MAX: usize = GLM_VOCAB_MAX;
/// Most bytes of `config.json`, its companions and a template, each.
pub const IMPORT_CONFIG_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Most bytes of the index of a checkpoint in several files.
pub const IMPORT_INDEX_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Most bytes of the header of a safetensors file.
pub const IMPORT_HEADER_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Most bytes of `tokenizer.json`.
pub const IMPORT_TOKENIZER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Files that the weights of one checkpoint stand in.
pub const IMPORT_SHARDS_MAX: usize = 1024;
/// Entries of a directory that are looked at for weights.
pub const IMPORT_ENTRIES_MAX: usize = 4096;
/// Tensors in one file.
pub const IMPORT_TENSORS_MAX: usize = 16 * 1024;
/// Keys of a GGUF file.
pub const IMPORT_KEYS_MAX: usize = 4096;
/// Longest name of a key, a tensor, or a token.
pub const IMPORT_NAME_BYTES_MAX: u64 = 4096;
/// Elements of one list in a GGUF file; merges are the longest.
pub const IMPORT_LIST_MAX: u64 = 4 * 1024 * 1024;
/// Operators, constants, inputs of an ONNX graph, each.
pub const IMPORT_NODES_MAX: usize = 64 * 1024;
/// Inputs, outputs and attributes of all operators of an ONNX graph together.
pub const IMPORT_VALUES_MAX: usize = 16 * IMPORT_NODES_MAX;
/// Bytes of a bundle's weights that are packed and hashed at once, as far as whole panels allow.
pub const IMPORT_PIECE_BYTES: usize = 512 * 1024;
/// Weights from which on a model is quantised to 4 bits unless told otherwise; a smaller one loses too much.
pub const IMPORT_Q4_PARAMETERS_MIN: u64 = 300_000_000;
/// Threads of an import; each holds a piece, its rows as they stand in the source, and as numbers: up to about 10 MiB.
pub const IMPORT_THREADS_MAX: usize = 8;
/// Bytes of weights that are synced at once; what was not synced is packed again after an interruption.
pub const IMPORT_SYNC_BYTES: u64 = 64 * 1024 * 1024;
/// Room on the disk for a manifest and a file system's own books.
pub const IMPORT_ROOM_BYTES: u64 = 1024 * 1024;
/// End of the name of a bundle's directory while it is made.
pub const IMPORT_PARTIAL_SUFFIX: &str = ".partial";
/// Prompts whose answers a bundle keeps, to be found again.
pub const GOLDEN_PROMPTS: usize = 2;
/// Tokens of each of them.
pub const GOLDEN_PROMPT_TOKENS: usize = 16;
/// Tokens of each answer.
pub const GOLDEN_STEPS: usize = 16;
/// Most bytes of a bundle's manifest.
pub const BUNDLE_MANIFEST_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bundles of one directory that are listed.
pub const BUNDLES_LISTED_MAX: usize = 1000;
