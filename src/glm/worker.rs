//! The thread `glm`: loads the student, then words one digest after the other.
//!
//! The queue is bounded; when it is full, the caller's digest is worded by the template at once (`busy`). A digest never fails
//! and never waits longer than its budget: whatever goes wrong, the template words it and `fallback_reason` says why.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use smol::channel::{Receiver, Sender, TrySendError, bounded};

use crate::clock;
use crate::digest::{Digest, Lang};
use crate::facts::Facts;
use crate::glm::bundle::Bundle;
use crate::glm::model::{Model, ModelError};
use crate::glm::writer::{Unworded, Writer, by_template};
use crate::limits;
use crate::observe::emit;
use crate::observe::glm::{DigestWorded, GlmLoaded, GlmUnavailable};
use crate::time::Mono;

/// How the language model is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlmOptions {
    /// False: the template words everything and nothing is loaded.
    pub enabled: bool,
    /// Directory of a student; the embedded one where there is none.
    pub dir: Option<PathBuf>,
    /// Time from the request to the words, waiting included.
    pub budget: Duration,
}

impl Default for GlmOptions {
    fn default() -> Self {
        Self { enabled: true, dir: None, budget: Duration::from_millis(limits::DIGEST_BUDGET_MS) }
    }
}

/// The thread and the way to it.
pub struct Glm {
    handle: GlmHandle,
    thread: Option<JoinHandle<()>>,
}

/// The way to the thread; clones share it.
#[derive(Debug, Clone)]
pub struct GlmHandle {
    requests: Sender<Request>,
    budget: Duration,
}

#[derive(Debug)]
struct Request {
    facts: Arc<Facts>,
    lang: Lang,
    id: u64,
    deadline: Mono,
    reply: Sender<Result<Digest, String>>,
}

impl Glm {
    /// Starts the thread; loading happens there, so this returns at once. Without a thread (the system has none left, or the
    /// options say off) the template words everything.
    pub fn start(options: GlmOptions) -> Glm {
        let (requests, queue) = bounded(limits::DIGEST_QUEUE_MAX);
        let handle = GlmHandle { requests, budget: options.budget };
        if !options.enabled {
            return Glm { handle, thread: None };
        }
        let spawned = std::thread::Builder::new().name("glm".into()).spawn(move || serve(&options, &queue));
        let thread = spawned
            .map_err(|e| emit(&GlmUnavailable { reason: &format!("the thread can't start: {e}") }))
            .ok();
        Glm { handle, thread }
    }

    /// The way to the thread.
    pub fn handle(&self) -> GlmHandle {
        self.handle.clone()
    }

    /// Lets the thread finish what it is wording and joins it; later requests are worded by the template. Blocks for at most
    /// one digest or the loading.
    pub fn stop(mut self) {
        self.handle.requests.close();
        if let Some(thread) = self.thread.take() {
            // Its panics are caught inside; there is nothing to learn from the result.
            let _ = thread.join();
        }
    }
}

impl GlmHandle {
    /// Words `facts` in `lang` as digest `id`. Never fails, never takes much longer than the budget.
    pub async fn word(&self, facts: Facts, lang: Lang, id: u64) -> Digest {
        let facts = Arc::new(facts);
        let digest = match self.ask(Arc::clone(&facts), lang, id).await {
            Ok(digest) => digest,
            Err(reason) => by_template(Arc::unwrap_or_clone(facts), lang, id, &reason),
        };
        emit(&DigestWorded { digest: &digest });
        digest
    }

    async fn ask(&self, facts: Arc<Facts>, lang: Lang, id: u64) -> Result<Digest, String> {
        let (reply, answer) = bounded(1);
        let deadline = Mono(clock::mono().0.saturating_add(self.budget.as_micros() as u64));
        let request = Request { facts, lang, id, deadline, reply };
        self.requests.try_send(request).map_err(|e| match e {
            TrySendError::Full(_) => "busy",
            TrySendError::Closed(_) => "off",
        })?;
        let answered = async { answer.recv().await.unwrap_or_else(|_| Err("stopped".into())) };
        let late = async {
            smol::Timer::after(self.budget).await;
            Err(Unworded::OverBudget.to_string())
        };
        smol::future::or(answered, late).await
    }
}

/// The life of the thread. Ends when the queue is closed and empty.
fn serve(options: &GlmOptions, queue: &Receiver<Request>) {
    let mut writer = load(options);
    if let Err(reason) = &writer {
        emit(&GlmUnavailable { reason });
    }
    while let Ok(request) = queue.recv_blocking() {
        let answer = match &mut writer {
            Ok(writer) => answer(writer, &request),
            Err(reason) => Err(reason.clone()),
        };
        if answer.as_ref().is_err_and(|reason| reason == PANICKED) {
            // What a panic leaves behind can't be trusted.
            writer = load(options);
        }
        // A caller that has gone has its digest from the template already.
        let _ = request.reply.try_send(answer);
    }
}

fn load(options: &GlmOptions) -> Result<Writer, String> {
    let started = clock::mono();
    let model = caught(|| {
        let bundle = match &options.dir {
            Some(dir) => Bundle::from_dir(dir),
            None => Bundle::embedded(),
        };
        Model::load(bundle.map_err(ModelError::from)?)
    });
    let model = model?.map_err(|e| e.to_string())?;
    let load_ms = clock::mono().since(started).as_millis() as u64;
    emit(&GlmLoaded { model: model.id(), load_ms });
    Ok(Writer::new(model))
}

fn answer(writer: &mut Writer, request: &Request) -> Result<Digest, String> {
    if clock::mono() > request.deadline {
        return Err(Unworded::OverBudget.to_string());
    }
    caught(|| writer.word(&request.facts, request.lang, request.id, request.deadline))?
        .map_err(|e| e.to_string())
}

/// A panic inside the engine costs one digest its words, not the agent its life.
fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|_| PANICKED.to_owned())
}

const PANICKED: &str = "the engine panicked";
