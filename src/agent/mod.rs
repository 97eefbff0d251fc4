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

mod ask;
pub mod assemble;
pub mod boots;
mod chat;
mod clip;
mod clocks;
mod digests;
mod heartbeat;
mod intake;
mod line;
mod meter;
mod page;
mod relay;
pub mod replay;
mod serial;
mod shared;
mod sources;
pub mod status;
mod supervisor;
mod tally;
mod timekeeper;
mod witness;

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use smol::LocalExecutor;
use smol::channel::{Receiver, Sender};
use smol::future::FutureExt as _;

use assemble::{AssembleOptions, WatchOptions};
use shared::Shared;
pub use sources::{Order, Reload};
use supervisor::Supervisor;

use crate::clock;
use crate::digest::Lang;
use crate::glm::{Glm, GlmOptions};
use crate::http::{HttpError, HttpOptions, Server};
use crate::infer::{Infer, InferError, InferOptions, ModelOptions};
use crate::limits;
use crate::link::{self, Announcement, Command, Link, LinkOptions, Will};
use crate::observe::{self, agent as events};
use crate::sensor::{self, SourceOptions};
use crate::spool::{self, Damage, StoreError, StoreHandle};
use crate::sync::budget::BudgetOptions;
use crate::sync::uplink::{Uplink, UplinkOptions};
use crate::wire::{Notice, Record};

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
    /// What the line may carry.
    pub budget: BudgetOptions,
    /// Time between heartbeats.
    pub heartbeat_every: Duration,
    /// Folder of the spool.
    pub spool_dir: PathBuf,
    /// The spool.
    pub spool: spool::Options,
    /// Windows, detectors, limits.
    pub assemble: AssembleOptions,
    /// Name and kind of each source, at most [`limits::SOURCE_CLOCKS_MAX`], no name twice.
    pub sources: Vec<(String, SourceOptions)>,
    /// Whether periods are worded; an outage always is.
    pub digests: bool,
    /// Longest time between two digests.
    pub digest_every: Duration,
    /// The shortest outage that gets a digest of its own.
    pub offline_after: Duration,
    /// The language model.
    pub glm: GlmOptions,
    /// Small models; what they look at is added to `assemble`.
    pub infer: InferOptions,
    /// Programs on this machine may talk with the bigger model; only on a loopback address.
    pub chat: bool,
    /// The status page.
    pub http: HttpOptions,
}

/// Why the agent could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The spool can't be used at all: the operator's to mend.
    #[error(transparent)]
    Spool(#[from] spool::OpenError),
    /// A small model that is required can't be used: the configuration's fault.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// The status page can't be served: the configuration's fault.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// More sources than there are source clocks: the configuration's fault.
    #[error(
        "{sources} sources are more than {}; let one source carry several channels",
        limits::SOURCE_CLOCKS_MAX
    )]
    TooManySources {
        /// How many.
        sources: usize,
    },
    /// Two sources of one name: the configuration's fault. A list of recordings names them `x`, `x-2`, `x-3`.
    #[error("two sources are named {name}; give each a name of its own")]
    SourceTwice {
        /// The name.
        name: String,
    },
    /// The system has no thread left.
    #[error("cannot start a thread: {0}; raise the process limit")]
    Thread(#[from] std::io::Error),
    /// The store refuses or is gone.
    #[error("the spool: {0}; restart the agent, what was promised is on disk")]
    Store(#[from] StoreError),
    /// The link's thread is gone.
    #[error("the line's thread ended unexpectedly; restart the agent, what was promised is on disk")]
    LinkGone,
}

/// Runs the seat until `stop` says something or closes, then ends it in good order. Meanwhile it obeys `orders`. Blocks.
pub fn run(options: AgentOptions, stop: Receiver<()>, orders: Receiver<Order>) -> Result<(), AgentError> {
    let executor = LocalExecutor::new();
    smol::block_on(executor.run(seat(&executor, options, stop, orders)))
}

async fn seat(
    executor: &LocalExecutor<'_>,
    options: AgentOptions,
    stop: Receiver<()>,
    orders: Receiver<Order>,
) -> Result<(), AgentError> {
    let begun = clock::mono();
    let supervisor = Rc::new(Supervisor::from_env());
    let Some((store, tails, opened)) = open_spool(&options, &supervisor, &stop).await? else { return Ok(()) };
    let http = HttpOptions { posts: page::POSTS, slow: page::POSTS, ..options.http.clone() };
    let server = Server::bind(http).await?;
    let http = server.addr();
    let glm = Glm::start(options.glm.clone());
    let infer = Infer::start(options.infer.clone()).await?;
    let engines = shared::Engines { glm: glm.handle(), infer: infer.handle() };
    let shared = Rc::new(Shared::new(options, begun, store.clone(), engines, opened.damage.is_some()).await?);
    // Not waited for: a disk that refuses must not keep the page from coming up and saying so.
    let notices = opened.damage.iter().map(salvage_notice).chain([started_notice()]);
    store.admit(notices.collect()).await?;
    let page = executor.spawn(page::serve(shared.clone(), server));

    let (stopper, told) = sensor::stopper();
    let intake = executor.spawn(intake::start(shared.clone(), orders, told)?);

    let Link { commands, events: line, join } = link::spawn(link_options(&shared.options))?;
    let (outages, asked) = smol::channel::bounded(1);
    let (first, firsts) = smol::channel::bounded(1);
    let uplink = Uplink::new(shared.options.uplink.clone(), opened.epoch);
    let ends =
        line::Ends { store: store.clone(), tails, commands: commands.clone(), line, outages, first: firsts };
    let line = executor.spawn(line::run(shared.clone(), uplink, ends));
    let digests = executor.spawn(digests::run(shared.clone(), asked, first));
    let heartbeat = executor.spawn(heartbeat::run(shared.clone(), commands.clone()));
    let mut timekeeper = executor.spawn(timekeeper::run(shared.clone(), opened.epoch));
    supervisor.ready();
    let watchdog = executor.spawn(watchdog(supervisor.clone(), store.clone()));
    observe::emit(&events::AgentStarted {
        device: &shared.options.device,
        http: &http,
        start_ms: u64::try_from(clock::mono().since(begun).as_millis()).unwrap_or(u64::MAX),
    });

    // Until somebody asks, or a task that should not end ends.
    let asked_to_stop = async {
        let _ = stop.recv().await;
        Ok(())
    };
    let (mut line, mut digests, mut heartbeat) = (line, digests, heartbeat);
    let result = asked_to_stop.or(&mut line).or(&mut digests).or(&mut heartbeat).or(&mut timekeeper).await;

    supervisor.stopping();
    // Sources first: what they left is judged and admitted.
    drop(stopper);
    let judged = intake.await;
    digests.cancel().await;
    heartbeat.cancel().await;
    timekeeper.cancel().await;
    smol::unblock(move || (glm.stop(), infer.stop())).await;
    // Then the line drains for as long as it is worth waiting.
    let drained = drain(&shared, &store).or(patience(DRAIN_PATIENCE)).await;
    stop_link(&commands, join).await;
    line.cancel().await;
    let save = shared.meter.borrow_mut().save_if_due(true);
    if let Some(save) = save {
        smol::unblock(save).await;
    }
    page.cancel().await;
    // The spool closes last: everything admitted is committed.
    let pending = store.status().await.map(|s| s.ledger.iter().map(|l| l.pending).sum()).unwrap_or(0);
    watchdog.cancel().await;
    store.close().await?;
    observe::emit(&events::AgentStopped { pending });
    result.and(judged).and(drained)
}

/// Opens the spool. A disk that is full, read-only or out of reach is waited for: a new start would mend none of that.
/// `None`: asked to stop meanwhile.
async fn open_spool(
    options: &AgentOptions,
    supervisor: &Supervisor,
    stop: &Receiver<()>,
) -> Result<Option<spool::Started>, AgentError> {
    let mut wait = SPOOL_WAIT_MIN;
    let mut told = String::new();
    loop {
        let (dir, spool) = (options.spool_dir.clone(), options.spool.clone());
        let error = match smol::unblock(move || spool::start(&dir, spool)).await {
            Ok(started) => return Ok(Some(started)),
            Err(error) if error.may_pass() => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        supervisor.waiting(&error, wait + SPOOL_OPEN_TIME);
        if told != error {
            observe::emit(&observe::spool::SpoolAwaited { error: &error });
            told = error;
        }
        let asked_to_stop = async {
            let _ = stop.recv().await;
            true
        };
        let waited = async {
            smol::Timer::after(wait).await;
            false
        };
        if asked_to_stop.or(waited).await {
            return Ok(None);
        }
        wait = (2 * wait).min(SPOOL_WAIT_MAX);
    }
}

/// Between two attempts to open the spool; doubles.
const SPOOL_WAIT_MIN: Duration = Duration::from_secs(1);
const SPOOL_WAIT_MAX: Duration = Duration::from_secs(30);
/// What an attempt may take that salvages a damaged spool, as the unit has it.
const SPOOL_OPEN_TIME: Duration = Duration::from_secs(600);

/// What the small models look at; a model whose bundle can't be read is told of by their thread.
fn watches(options: &InferOptions) -> Vec<WatchOptions> {
    let watch = |(number, model): (usize, &ModelOptions)| {
        let (frames, units) = model.frames()?;
        let channels = model.channels.clone();
        Some(WatchOptions { model: number, name: model.name, channels, units, frames })
    };
    options.models.iter().enumerate().filter_map(watch).collect()
}

/// All is well where this task runs and the spool answers.
async fn watchdog(supervisor: Rc<Supervisor>, store: StoreHandle) {
    supervisor.watch(async || store.status().await.is_ok()).await;
}

/// How long an orderly stop waits for acknowledgements.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

async fn patience(time: Duration) -> Result<(), AgentError> {
    smol::Timer::after(time).await;
    Ok(())
}

/// Commits what is there and waits until nothing is pending that may go, if there is a line.
async fn drain(shared: &Shared, store: &StoreHandle) -> Result<(), AgentError> {
    store.admit_durable(Vec::new()).await?;
    while shared.line.borrow().up {
        let ledger = store.status().await?.ledger;
        let may_go = shared.meter.borrow_mut().may_go(clock::wall());
        if !ledger.iter().zip(may_go).any(|(lane, may_go)| may_go && lane.pending > 0) {
            break;
        }
        smol::Timer::after(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn stop_link(commands: &Sender<Command>, join: std::thread::JoinHandle<()>) {
    // A link that has ended already needs no telling.
    let _ = commands.send(Command::Stop).await;
    // Its panic, if there was one, has been logged by its own thread.
    let _ = smol::unblock(move || join.join()).await;
}

fn link_options(options: &AgentOptions) -> LinkOptions {
    let state = |text: &str| Announcement {
        topic: format!("{}/{}/state", options.prefix, options.device),
        payload: text.as_bytes().to_vec(),
    };
    LinkOptions {
        will: Some(Will { say: state("offline"), delay: WILL_DELAY }),
        on_up: Some(state("online")),
        on_stop: Some(state("offline")),
        subscriptions: vec![format!("{}/{}/ack", options.prefix, options.device)],
        ..options.link.clone()
    }
}

/// A line that comes back sooner was never away.
const WILL_DELAY: Duration = Duration::from_secs(10);

/// Tells the far side that nobody follows the episodes of the run before any more.
fn started_notice() -> Record {
    Record::Notice(Notice {
        code: Notice::AGENT_STARTED.into(),
        text: format!("The agent, version {}, has started.", env!("CARGO_PKG_VERSION")),
        at: clock::wall(),
    })
}

fn salvage_notice(damage: &Damage) -> Record {
    let lost = damage.lost_records.map_or("an unknown number of".to_owned(), |n| n.to_string());
    Record::Notice(Notice {
        code: "spool_salvaged".into(),
        text: format!(
            "The spool was damaged ({}). {} records were salvaged, {lost} were lost. The damaged files are in {}; \
             look at the disk's health.",
            damage.cause,
            damage.salvaged_records,
            damage.moved_to.display()
        ),
        at: clock::wall(),
    })
}
