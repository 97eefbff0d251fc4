//! The cloud seat: takes what devices deliver, keeps it, acknowledges it, shows it.
//!
//! ```text
//! link --events--> receive --jobs--> desk (thread sqlite) --answers--> answer --commands--> link
//!                     |                  |
//!                  silence            database <--- pages (read-only) <--- http
//! ```
//!
//! Backpressure: when the database is slow, `jobs` fills, `receive` waits, the link's event channel fills, and the
//! broker's own window does the rest. What a broker drops meanwhile was never acknowledged: the device sends it again.

mod desk;
pub mod ledger;
mod pages;
mod silence;
pub mod store;
mod topic;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use smol::channel::{Receiver, Sender};
use smol::future::FutureExt as _;
use smol::{LocalExecutor, Timer};

use crate::clock;
use crate::http::{self, HttpError, HttpOptions, Request, Response, Server};
use crate::limits;
use crate::link::{self, Command, Link, LinkEvent, LinkOptions, Publish, Qos};
use crate::observe;
use crate::observe::aggregator::{AggregatorReady, LedgerWrong, LedgersRead};
use desk::{Answer, Desk, Job};
use pages::Pages;
use silence::Silence;
use store::{Reader, Retention, Store, StoreError};

/// Everything the seat needs to know.
#[derive(Debug, Clone)]
pub struct AggregatorOptions {
    /// The line; its subscriptions are set by [`run`].
    pub link: LinkOptions,
    /// First levels of every topic, without a slash at the end.
    pub prefix: String,
    /// Name of the shared subscription; `None` subscribes plainly.
    pub shared_group: Option<String>,
    /// The pages.
    pub http: HttpOptions,
    /// The database.
    pub database: PathBuf,
    /// What it keeps.
    pub retention: Retention,
    /// A device is silent after so long without a heartbeat; three heartbeats are a good measure.
    pub silent_after: Duration,
    /// What a device owes is missing after so long.
    pub undeclared_after: Duration,
    /// Folder with the devices' certificates, `<device>.pem` each; heartbeats of those devices must be signed.
    pub certificates: Option<PathBuf>,
}

/// Why the seat could not start; the configuration's or the machine's fault. Once it runs, it runs.
#[derive(Debug, thiserror::Error)]
pub enum AggregatorError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The pages.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A thread.
    #[error("cannot start a thread: {0}; check the limits of this user")]
    Thread(#[from] io::Error),
}

/// Runs until `stop` yields or closes; then finishes the commit, sends its acknowledgements and says goodbye.
pub fn run(options: AggregatorOptions, stop: Receiver<()>) -> Result<(), AggregatorError> {
    let server = smol::block_on(Server::bind(options.http.clone()))?;
    let store = Store::open(&options.database, options.retention)?;
    let pages = Arc::new(Pages::new(
        Reader::open(&options.database)?,
        options.silent_after,
        options.undeclared_after,
    ));
    let desk = Desk::new(store, &options.prefix, options.certificates.clone())?;
    let ready =
        AggregatorReady { pages: server.addr(), database: &options.database, devices: desk.devices() };
    observe::emit(&ready);

    let (jobs, jobs_rx) = smol::channel::bounded(limits::AGGREGATOR_QUEUE_MAX);
    let (answers_tx, answers) = smol::channel::bounded(limits::AGGREGATOR_QUEUE_MAX);
    let sqlite =
        std::thread::Builder::new().name("sqlite".into()).spawn(move || desk.work(&jobs_rx, &answers_tx))?;
    let mut link_options = options.link.clone();
    link_options.subscriptions = topic::subscriptions(&options.prefix, options.shared_group.as_deref());
    let link = link::spawn(link_options)?;

    let executor = LocalExecutor::new();
    smol::block_on(executor.run(seat(&options, &executor, server, pages, &link, jobs, answers, &stop)));
    drop(executor);
    // Both threads have been told to end, and neither waits for anything any more.
    let Link { commands, events, join } = link;
    drop((commands, events));
    let _ = join.join();
    let _ = sqlite.join();
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the wiring is the one place where everything meets")]
async fn seat<'a>(
    options: &'a AggregatorOptions,
    executor: &LocalExecutor<'a>,
    server: Server,
    pages: Arc<Pages>,
    link: &'a Link,
    jobs: Sender<Job>,
    answers: Receiver<Answer>,
    stop: &Receiver<()>,
) {
    let audit_task = executor.spawn(audit(pages.clone()));
    let page_task = executor.spawn(serve(server, pages, link));
    let answer_task = executor.spawn(answer(&options.prefix, answers, &link.commands));
    let sweep_task = executor.spawn(sweep(jobs.clone()));
    let mut silence = Silence::new(options.silent_after);
    let stopped = async {
        let _ = stop.recv().await;
    };
    stopped.or(receive(&options.prefix, link, &jobs, &mut silence)).await;

    // What is queued is committed and answered; what still comes is not taken any more and comes again.
    sweep_task.cancel().await;
    jobs.close();
    let drain = async { while link.events.recv().await.is_ok() {} };
    answer_task.or(drain).await;
    let goodbye = async {
        let _ = link.commands.send(Command::Stop).await;
        while link.events.recv().await.is_ok() {}
    };
    let patience = async {
        Timer::after(Duration::from_secs(5)).await;
    };
    goodbye.or(patience).await;
    page_task.cancel().await;
    audit_task.cancel().await;
}

/// Messages to the desk, in order.
async fn receive(prefix: &str, link: &Link, jobs: &Sender<Job>, silence: &mut Silence) {
    loop {
        let tick = async {
            Timer::after(Duration::from_secs(5)).await;
            None
        };
        let event = async { Some(link.events.recv().await) };
        match event.or(tick).await {
            Some(Ok(LinkEvent::Message { topic, payload, .. })) => {
                if let Some((device, topic::Subject::Heartbeat)) = topic::parse(prefix, &topic) {
                    silence.heard(device, clock::mono());
                }
                if jobs.send(Job::Message { topic, payload }).await.is_err() {
                    return;
                }
            }
            // The link counts and logs its own ups and downs.
            Some(Ok(_)) => {}
            Some(Err(_)) => return,
            None => silence.look(clock::mono()),
        }
    }
}

/// Acknowledgements to the line. One that is lost with the line is repeated when the device repeats the block.
async fn answer(prefix: &str, answers: Receiver<Answer>, commands: &Sender<Command>) {
    while let Ok(Answer { device, ack }) = answers.recv().await {
        let publish = Publish {
            token: None,
            topic: topic::ack(prefix, &device),
            payload: ack.encode(),
            qos: Qos::AtLeastOnce,
            retain: false,
            historical: false,
            content_type: None,
        };
        if commands.send(Command::Publish(publish)).await.is_err() {
            return;
        }
    }
}

async fn sweep(jobs: Sender<Job>) {
    // A full queue means that there is more urgent work; the next round will do.
    while !matches!(jobs.try_send(Job::Retain), Err(smol::channel::TrySendError::Closed(_))) {
        Timer::after(Duration::from_secs(60)).await;
    }
}

/// Looks at every ledger now and then: what is wrong is counted, and told once.
async fn audit(pages: Arc<Pages>) {
    let mut told: BTreeSet<String> = BTreeSet::new();
    loop {
        let asked = pages.clone();
        // A database that is busy or full is the desk's to tell.
        if let Ok(wrong) = smol::unblock(move || asked.survey()).await {
            let undeclared = wrong.values().fold(0, |sum: u64, n| sum.saturating_add(*n));
            observe::emit(&LedgersRead { wrong: wrong.len() as u64, undeclared });
            for (device, undeclared) in wrong.iter().filter(|(device, _)| !told.contains(*device)) {
                observe::emit(&LedgerWrong { device, undeclared: *undeclared });
            }
            told = wrong.into_keys().collect();
        }
        Timer::after(Duration::from_secs(30)).await;
    }
}

async fn serve(server: Server, pages: Arc<Pages>, link: &Link) {
    let handler = async |request: Request| -> Response {
        let ready = || match observe::metrics::LINK_UP.value() {
            _ if link.events.is_closed() => Err("the line has ended".to_owned()),
            0 => Err("the line to the broker is down".to_owned()),
            _ => Ok(()),
        };
        match http::common(&request, ready) {
            Some(response) => response,
            None => {
                let pages = pages.clone();
                smol::unblock(move || pages.respond(&request, clock::wall())).await
            }
        }
    };
    server.serve(handler).await;
}
