//! What is asked of a model that chats, and what comes back while it writes.

use crate::glm::constrain::BadGrammar;
use crate::glm::generate::{Ended, Priority, Refused, Usage};
use crate::glm::sample::Sampling;
use crate::glm::template::BadTemplate;
use crate::reading::named_enum;
use crate::time::Mono;

named_enum! {
    /// Whose words a message is.
    Role { System = "system", User = "user", Assistant = "assistant" }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What: plain text; marks such as `<|user|>` in it mean nothing.
    pub content: String,
}

impl Message {
    /// A message.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// What an answer may look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// Anything.
    Free,
    /// One JSON object.
    Json,
    /// What this grammar allows, in EBNF.
    Grammar(String),
    /// The same, as far as the model can be held to it while it writes: whoever asks checks the words himself.
    Guided(String),
}

/// A conversation to go on with.
#[derive(Debug, Clone, PartialEq)]
pub struct Talk {
    /// What was said so far, in order.
    pub messages: Vec<Message>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The answer ends where one of these begins.
    pub stops: Vec<String>,
    /// Longest answer in tokens.
    pub tokens_max: usize,
    /// What it may look like.
    pub form: Form,
    /// When to give up.
    pub deadline: Option<Mono>,
    /// Who goes first.
    pub priority: Priority,
    /// The answer is likely to copy from the messages.
    pub copies: bool,
}

impl Talk {
    /// A greedy answer to `messages`, as somebody waits for it.
    pub fn new(messages: Vec<Message>, tokens_max: usize) -> Self {
        Self {
            messages,
            sampling: Sampling::GREEDY,
            stops: Vec::new(),
            tokens_max,
            form: Form::Free,
            deadline: None,
            priority: Priority::Ask,
            copies: false,
        }
    }
}

/// A piece of an answer, or its end.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// Text, never empty.
    Text(String),
    /// Nothing follows.
    End {
        /// Why.
        why: End,
        /// What it took.
        usage: Usage,
    },
}

/// Why an answer ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The model was done, or came to a stop string.
    Stop,
    /// It is as long as it may be, or the context is full.
    Length,
    /// The time is up.
    Late,
    /// Nobody wants it any more.
    Cancelled,
    /// The conversation is not one that the model can go on with; the caller's fault.
    Refused(String),
    /// The model failed.
    Failed(String),
}

impl From<Ended> for End {
    fn from(ended: Ended) -> End {
        match ended {
            Ended::EndId(_) => End::Stop,
            Ended::Length | Ended::Context => End::Length,
            Ended::Deadline => End::Late,
            Ended::Cancelled => End::Cancelled,
            Ended::Stuck => End::Failed(
                "the model can't go on: its grammar leaves nothing open, or its logits are no numbers; try without a grammar, \
                 or verify the model"
                    .into(),
            ),
            Ended::Failed(reason) => End::Failed(reason),
        }
    }
}

/// A conversation that a model can't go on with; the caller's fault.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadTalk {
    /// The chat template refuses it.
    #[error(transparent)]
    Template(#[from] BadTemplate),
    /// The grammar can't be used.
    #[error(transparent)]
    Grammar(#[from] BadGrammar),
    /// Too long, or its numbers mean nothing.
    #[error(transparent)]
    Refused(#[from] Refused),
}
