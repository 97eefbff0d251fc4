//! Facts into words: prompt, grammar, verification, rendering, and the template that always works.

pub mod clauses;
pub mod figures;
pub mod grammar;
pub mod mask;
pub mod prompt;
pub mod prose;
mod prose_words;
pub mod render;
pub mod slots;
pub mod template;
#[cfg(test)]
pub(crate) mod testing;
pub mod verify;
pub mod vocab;

use serde::{Deserialize, Serialize};

use crate::facts::Facts;
use crate::reading::{Severity, named_enum};

named_enum! {
    /// Language of a digest.
    Lang { En = "en", Zh = "zh" }
}

named_enum! {
    /// Who worded it.
    Engine { Glm = "glm", Template = "template" }
}

/// A worded period: lane `digest`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Digest {
    /// Identifies the digest on this device; increases.
    pub id: u64,
    /// Who worded it.
    pub engine: Engine,
    /// SHA-256 prefix (16 hex digits) of the model, empty for the template.
    pub model: String,
    /// Why the template had to do it, empty otherwise.
    pub fallback_reason: String,
    /// Language of `text`.
    pub lang: Lang,
    /// The verdict: never below the rules' floor.
    pub verdict: Severity,
    /// The likely cause, by its name in the model's closed list.
    pub cause: String,
    /// The words, with citations in brackets.
    pub text: String,
    /// What it speaks of.
    pub facts: Facts,
    /// Where the time went.
    pub timing: DigestTiming,
}

/// Per-stage times of one digest, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DigestTiming {
    /// Facts to prompt.
    pub encode_us: u32,
    /// Prompt through the model.
    pub prefill_us: u32,
    /// Words out of the model.
    pub decode_us: u32,
    /// Prompt length in tokens.
    pub prompt_tokens: u32,
    /// Answer length in tokens.
    pub answer_tokens: u32,
}
