//! What a vendor's language runtime is asked, and what it says of its answer.

use serde::{Deserialize, Serialize};

/// A conversation to go on with. How it becomes a prompt the runtime knows: its model has a template of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Telling {
    /// Who said it (`system`, `user`, `assistant`) and what, in order.
    pub messages: Vec<(String, String)>,
    /// Longest answer in tokens.
    pub tokens_max: u32,
    /// How tokens are drawn; 0: the likeliest is taken.
    pub temperature: f32,
    /// From so many of the likeliest; 0: from all.
    pub top_k: u32,
    /// From the likeliest that have this probability together.
    pub top_p: f32,
    /// Where chance begins.
    pub seed: u64,
}

/// What an answer took.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Told {
    /// Tokens of the prompt; 0 where the runtime does not say.
    pub prompt_tokens: u32,
    /// Tokens of the answer; 0 where it does not say.
    pub answer_tokens: u32,
    /// The answer was at its longest, or the context full, before the model came to an end.
    pub is_cut: bool,
    /// The conversation is not one that the model can go on with, and why; nothing is wrong with the model.
    pub refused: Option<String>,
}
