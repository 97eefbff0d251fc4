//! The gateway seat: wiring, tasks, and the order in which they start and stop.
//!
//! ```text
//! sources --batches--> assemble --records--> store --tails--> line <--events-- link <--> broker
//!                          |                   ^ |              ^ \--commands--^
//!                          +--facts--> digests-+ +----blocks----+
//! ```
//!
//! One `LocalExecutor` runs every task; each task's handle is kept and awaited. Start: spool, page, sources, line, so
//! that a reading is taken before anything else can be slow. Stop: sources first, then what they left is judged and
//! committed, then the line drains for a bounded time, the spool closes last.

pub mod assemble;
mod digests;
mod heartbeat;
mod line;
mod page;
pub mod status;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use smol::LocalExecutor;
use smol::channel::Receiver;
use smol::future::FutureExt as _;

use assemble::{AssembleOptions, Assembler};
use status::{DigestBrief, LineStatus, SourceBrief};

use crate::clock;
use crate::digest::Lang;
use crate::glm::GlmOptions;
use crate::http::{HttpError, HttpOptions, Server};
use crate::link::{self, Command, LinkOptions};
use crate::observe::{self, agent as events, metrics};
use crate::sensor::{Batch, SourceOptions};
use crate::spool::{self, SpoolError, StoreHandle, StoreOptions};
use crate::sync::uplink::{Uplink, UplinkOptions};
use crate::time::Mono;
use crate::wire::{Lane, Record};

/// Everything the seat needs to know; the configuration fills it.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// Device name: a level of every topic.
    pub device: String,
    /// First levels of every topic.
    pub prefix: String,
    /// Language of digests.
    pub lang: Lang,
    /// The line; the agent adds will, presence and subscription.
    pub link: LinkOptions,
    /// The protocol.
    pub uplink: UplinkOptions,
    /// Time between heartbeats.
    pub heartbeat_every: Duration,
    /// The spool.
    pub store: StoreOptions,
    /// Windows, detectors, limits.
    pub assemble: AssembleOptions,
    /// Name and kind of each source.
    pub sources: Vec<(String, SourceOptions)>,
    /// Whether periods are worded; an outage always is.
    pub digests: bool,
    /// Longest time between two looks at whether there is something to word.
    pub digest_every: Duration,
    /// The shortest outage that gets a digest of its own.
    pub offline_after: Duration,
    /// The language model.
    pub glm: GlmOptions,
    /// The status page.
    pub http: HttpOptions,
}

/// Why the agent could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The spool can't be used at all.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The status page can't be served.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The line can't even be attempted: the certificates can't be used.
    #[error(transparent)]
    Link(#[from] link::LinkError),
    /// The store's thread is gone.
    #[error("the spool's thread ended unexpectedly; restart the agent, what was promised is on disk")]
    StoreGone,
    /// The link's thread is gone.
    #[error("the line's thread ended unexpectedly; restart the agent, what was promised is on disk")]
    LinkGone,
}
