//! What is asked of a model, and what comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::glm::constrain::Constraint;
use crate::glm::sample::{BadSampling, Sampling};
use crate::reading::named_enum;
use crate::time::Mono;

named_enum! {
    /// Who goes first. Later ones are more important.
    Priority {
        /// A summary that is due some time.
        Periodic = "periodic",
        /// Somebody waits for it.
        Ask = "ask",
        /// Something is wrong right now.
        Alarm = "alarm",
    }
}

/// A prompt and how to answer it.
pub struct Request {
    /// The prompt, at least one token.
    pub prompt: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// What may be written; `None`: anything.
    pub constraint: Option<Box<dyn Constraint>>,
    /// Tokens that end the answer and are not part of it.
    pub end_ids: Arc<[u32]>,
    /// Longest answer.
    pub tokens_max: usize,
    /// When to give up; looked at before every run.
    pub deadline: Option<Mono>,
    /// Who goes first.
    pub priority: Priority,
    /// Set by whoever does not want the answer any more; looked at before every run.
    pub cancel: Option<Arc<AtomicBool>>,
    /// The answer is likely to copy from the prompt.
    pub speculate: bool,
}

impl Request {
    /// A greedy answer to `prompt`, at most `tokens_max` long, that ends by one of `end_ids`.
    pub fn greedy(prompt: Vec<u32>, end_ids: Arc<[u32]>, tokens_max: usize) -> Request {
        Request {
            prompt,
            sampling: Sampling::GREEDY,
            constraint: None,
            end_ids,
            tokens_max,
            deadline: None,
            priority: Priority::Ask,
            cancel: None,
            speculate: false,
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed))
    }
}

/// A request's name, later ones are larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What a step brought.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The next token of an answer.
    Token {
        /// Whose.
        id: RequestId,
        /// Which.
        token: u32,
    },
    /// The last word on a request.
    Ended {
        /// Whose.
        id: RequestId,
        /// Why.
        why: Ended,
        /// What it took.
        usage: Usage,
    },
}

/// Why an answer is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The model said so, by this token.
    EndId(u32),
    /// It is as long as it may be.
    Length,
    /// The context is full.
    Context,
    /// The time is up.
    Deadline,
    /// Nobody wants it any more.
    Cancelled,
    /// Nothing that the model or the grammar leaves open is a number.
    Stuck,
    /// The engine failed.
    Failed(String),
}

/// What a request took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Those of them that the cache had already.
    pub cached_tokens: u32,
    /// Tokens of the answer.
    pub answer_tokens: u32,
    /// Tokens proposed from the prompt.
    pub drafted_tokens: u32,
    /// Those of them that were right.
    pub accepted_tokens: u32,
    /// Tokens that the grammar left no choice about.
    pub forced_tokens: u32,
    /// From the request to its place in the cache.
    pub queued_us: u64,
    /// From there to the first token of the answer.
    pub prefill_us: u64,
    /// From there to the end.
    pub decode_us: u64,
}

/// A request that is not taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refused {
    /// It has no prompt.
    #[error("the prompt is empty; give at least one token")]
    Empty,
    /// Prompt and a first token do not fit the context.
    #[error(
        "the prompt has {tokens} tokens and the context {max}; shorten the prompt or configure a longer context"
    )]
    Long {
        /// Of the prompt.
        tokens: usize,
        /// Of the context.
        max: usize,
    },
    /// A token is not the model's.
    #[error("token {token} is not one of the model's {vocab}; the tokenizer belongs to another model")]
    Token {
        /// Which.
        token: u32,
        /// How many there are.
        vocab: usize,
    },
    /// Too many wait already.
    #[error("{waiting} requests wait already; ask again later")]
    Full {
        /// How many.
        waiting: usize,
    },
    /// The sampling means nothing.
    #[error(transparent)]
    Sampling(#[from] BadSampling),
}
