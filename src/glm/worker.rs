//! The thread `glm` and the way to it.
//!
//! Jobs wait in bounded queues by priority ([`super::jobs`]); what becomes of them is decided on the thread ([`super::desk`]).
//! A digest never fails and never waits longer than its budget: whatever goes wrong, the template words it and
//! `fallback_reason` says why. A conversation may be refused, and says so at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use smol::channel::{Receiver, Sender, bounded};

use super::desk::Desk;
use super::engine::EngineOptions;
use super::generate::{Priority, Usage};
use super::governor::GovernorOptions;
use super::jobs::{Jobs, Refused};
use super::memory;
use super::speaker::{End, Said, Talk};
use super::student::{Unworded, by_template};
use super::teller::TellerOptions;
use crate::accel::worker::WorkerOptions;
use crate::clock;
use crate::digest::{Digest, Lang};
use crate::facts::Facts;
use crate::limits;
use crate::observe::emit;
use crate::observe::glm::{DigestWorded, GlmUnavailable};
use crate::reading::Severity;
use crate::time::Mono;

/// How the language models are run.
#[derive(Debug, Clone)]
pub struct GlmOptions {
    /// False: the template words everything and nothing is loaded.
    pub enabled: bool,
    /// Directory of a student; the embedded one where there is none.
    pub dir: Option<PathBuf>,
    /// Time from the request to the student's words, waiting included.
    pub budget: Duration,
    /// A bigger model, if there is one.
    pub speaker: Option<SpeakerOptions>,
    /// A language model on a device whose runtime runs it whole: asked before the bigger model.
    pub teller: Option<TellerOptions>,
    /// What may compute parts of the student beside the CPU.
    pub device: Option<WorkerOptions>,
    /// When models wait.
    pub governor: GovernorOptions,
}

/// How a bigger model is run.
#[derive(Debug, Clone)]
pub struct SpeakerOptions {
    /// Its bundle.
    pub dir: PathBuf,
    /// What it may use; of memory no more than the machine has free when it is loaded.
    pub engine: EngineOptions,
    /// Longest answer, whatever is asked for.
    pub answer_tokens_max: usize,
    /// Time from the request to its words of a digest; then the student words it.
    pub digest_budget: Duration,
    /// Time without work after which it gives its memory back.
    pub idle_unload: Duration,
    /// Language of digests: the instruction for them is kept in the cache.
    pub lang: Lang,
    /// Where the cache's part of that instruction is kept over a restart.
    pub prefix_file: Option<PathBuf>,
}

impl SpeakerOptions {
    /// What the engine may use: never more than can be taken at this moment without anybody being killed for it. `root` is the
    /// directory under which `proc` and `sys` are.
    pub fn engine_within_memory(&self, root: &Path) -> EngineOptions {
        let free = memory::available_bytes(root);
        let free = free.map(|bytes| bytes.saturating_sub(limits::GLM_MEMORY_SPARE_BYTES));
        let memory_bytes_max = [self.engine.memory_bytes_max, free].into_iter().flatten().min();
        EngineOptions { memory_bytes_max, ..self.engine.clone() }
    }

    /// What people call it: the name of its folder, without the ending.
    pub fn name(&self) -> String {
        let whole = self.dir.canonicalize().unwrap_or_else(|_| self.dir.clone());
        let name =
            whole.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
        name.strip_suffix(".bundle").map(str::to_owned).unwrap_or(name)
    }
}

impl Default for GlmOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            dir: None,
            budget: Duration::from_millis(limits::DIGEST_BUDGET_MS),
            speaker: None,
            teller: None,
            device: None,
            governor: GovernorOptions::default(),
        }
    }
}

/// The thread and the way to it.
pub struct Glm {
    handle: GlmHandle,
    thread: Option<JoinHandle<()>>,
}

/// The way to the thread; clones share it.
#[derive(Clone)]
pub struct GlmHandle {
    jobs: Jobs<Job>,
    budget: Duration,
    speaker: Option<Speaks>,
}

/// What is known of the bigger model without asking it.
#[derive(Debug, Clone)]
struct Speaks {
    name: Arc<str>,
    digest_budget: Duration,
    answer_tokens_max: usize,
}

impl Speaks {
    /// A model on a device goes by its own name: what stands by on the CPU does the same.
    fn of(options: &GlmOptions) -> Option<Self> {
        let of_teller = |teller: &TellerOptions| Speaks {
            name: teller.model.as_str().into(),
            digest_budget: teller.digest_budget,
            answer_tokens_max: teller.answer_tokens_max,
        };
        let of_speaker = |speaker: &SpeakerOptions| Speaks {
            name: speaker.name().into(),
            digest_budget: speaker.digest_budget,
            answer_tokens_max: speaker.answer_tokens_max,
        };
        options.teller.as_ref().map(of_teller).or_else(|| options.speaker.as_ref().map(of_speaker))
    }
}

/// Something for the thread to do.
pub(super) enum Job {
    /// Facts to be worded.
    Digest(DigestJob),
    /// A conversation to go on with.
    Talk(TalkJob),
}

/// Facts to be worded.
pub(super) struct DigestJob {
    pub facts: Arc<Facts>,
    pub lang: Lang,
    pub id: u64,
    pub priority: Priority,
    /// Until when the bigger model may try; none: this is the student's.
    pub speaker_until: Option<Mono>,
    /// Until when there must be words.
    pub deadline: Mono,
    pub reply: Sender<Result<Digest, String>>,
}

/// A conversation to go on with.
pub(super) struct TalkJob {
    /// What for: `ask`, `chat`.
    pub kind: &'static str,
    pub talk: Talk,
    pub pieces: Sender<Said>,
    pub cancel: Arc<AtomicBool>,
    pub asked: Mono,
}

impl Job {
    /// Whether nobody waits for it any more.
    pub(super) fn is_over(&self, now: Mono) -> bool {
        match self {
            Job::Digest(job) => job.reply.is_closed(),
            Job::Talk(job) => {
                job.cancel.load(Ordering::Relaxed) || job.talk.deadline.is_some_and(|deadline| now > deadline)
            }
        }
    }
}

/// An answer as it is written. Dropping it tells the model to stop.
#[derive(Debug)]
pub struct Listening {
    pieces: Receiver<Said>,
    cancel: Arc<AtomicBool>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
}

impl Listening {
    /// The next piece; none behind the end, or if the thread is gone.
    pub async fn next(&mut self) -> Option<Said> {
        self.pieces.recv().await.ok()
    }

    /// The whole answer.
    pub async fn all(mut self) -> Result<(String, End, Usage), Unheard> {
        let mut text = String::new();
        loop {
            match self.next().await {
                Some(Said::Text(piece)) => text.push_str(&piece),
                Some(Said::End { why: End::Failed(reason), .. }) => return Err(Unheard::Failed(reason)),
                Some(Said::End { why: End::Refused(reason), .. }) => return Err(Unheard::Refused(reason)),
                Some(Said::End { why, usage }) => return Ok((text, why, usage)),
                None => return Err(Unheard::Failed("the language model's thread has ended".into())),
            }
        }
    }
}

/// A conversation that is not gone on with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unheard {
    /// Too many wait already.
    #[error("the language model is busy: {} requests wait already; ask again later", limits::GLM_QUEUE_MAX)]
    Busy,
    /// There is no model that talks.
    #[error(
        "there is no language model that can talk; import one with `outpost model import` and name its folder as digest.model, \
         or let a device run one (glm.device)"
    )]
    NoModel,
    /// It can't be loaded, or failed.
    #[error("{0}")]
    Failed(String),
    /// It does not take this conversation; the caller's fault.
    #[error("{0}")]
    Refused(String),
}

impl Glm {
    /// Starts the thread; loading happens there, so this returns at once. Without a thread (the system has none left, or the
    /// options say off) the template words everything.
    pub fn start(options: GlmOptions) -> Glm {
        let jobs = Jobs::new();
        let speaker = Speaks::of(&options);
        let handle = GlmHandle { jobs: jobs.clone(), budget: options.budget, speaker };
        if !options.enabled {
            jobs.close();
            return Glm { handle, thread: None };
        }
        let queue = jobs.clone();
        let spawned =
            std::thread::Builder::new().name("glm".into()).spawn(move || Desk::new(options, queue).run());
        let thread = spawned.map_err(|e| {
            jobs.close();
            emit(&GlmUnavailable { reason: &format!("the thread can't start: {e}") });
        });
        Glm { handle, thread: thread.ok() }
    }

    /// The way to the thread.
    pub fn handle(&self) -> GlmHandle {
        self.handle.clone()
    }

    /// Lets the thread finish the digests that it has and joins it; conversations are broken off, later digests worded by the
    /// template. Blocks for a few digests or the loading at most.
    pub fn stop(mut self) {
        self.handle.jobs.close();
        if let Some(thread) = self.thread.take() {
            // Its panics are caught inside; there is nothing to learn from the result.
            let _ = thread.join();
        }
    }
}

impl GlmHandle {
    /// Words `facts` in `lang` as digest `id`. Never fails, never takes much longer than the budget. An outage is always the
    /// student's: everything else waits for its digest.
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
        let now = clock::mono();
        let is_alarm = facts.outage.is_some() || facts.severity() == Severity::Critical;
        let speaker =
            self.speaker.as_ref().filter(|_| facts.outage.is_none()).map(|speaks| speaks.digest_budget);
        let budget = self.budget + speaker.unwrap_or_default();
        let job = DigestJob {
            facts,
            lang,
            id,
            priority: if is_alarm { Priority::Alarm } else { Priority::Periodic },
            speaker_until: speaker.map(|budget| now + budget),
            deadline: now + budget,
            reply,
        };
        self.jobs.push(job.priority, Job::Digest(job)).map_err(|e| match e {
            Refused::Full => "busy",
            Refused::Closed => "off",
        })?;
        let answered = async { answer.recv().await.unwrap_or_else(|_| Err("stopped".into())) };
        let late = async {
            smol::Timer::after(budget).await;
            Err(Unworded::OverBudget.to_string())
        };
        smol::future::or(answered, late).await
    }

    /// The name of the model that talks, loaded or not; none where there is none.
    pub fn model(&self) -> Option<&str> {
        self.speaker.as_ref().map(|speaks| &*speaks.name)
    }

    /// How long the model that talks may take for words that somebody waits for.
    pub fn patience(&self) -> Duration {
        self.speaker.as_ref().map_or(Duration::ZERO, |speaks| speaks.digest_budget)
    }

    /// Goes on with a conversation; `kind` says what for in logs and metrics.
    pub fn talk(&self, kind: &'static str, mut talk: Talk) -> Result<Listening, Unheard> {
        let speaks = self.speaker.as_ref().ok_or(Unheard::NoModel)?;
        talk.tokens_max = talk.tokens_max.clamp(1, speaks.answer_tokens_max);
        // Every token is a piece at most, so a listener that is slow never holds the thread up.
        let (sender, pieces) = bounded(talk.tokens_max + 4);
        let cancel = Arc::new(AtomicBool::new(false));
        let priority = talk.priority;
        let job = TalkJob { kind, talk, pieces: sender, cancel: Arc::clone(&cancel), asked: clock::mono() };
        self.jobs.push(priority, Job::Talk(job)).map_err(|e| match e {
            Refused::Full => Unheard::Busy,
            Refused::Closed => Unheard::Failed("the agent stops".into()),
        })?;
        Ok(Listening { pieces, cancel })
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
pub(super) mod tests;
