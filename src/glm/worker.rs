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
use crate::glm::student::Bundle;
use crate::glm::student::{Model, ModelError};
use crate::glm::student::{Unworded, Writer, by_template};
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Engine, testing, verify};
    use crate::reading::Severity;

    fn word(handle: &GlmHandle, facts: Facts, lang: Lang) -> Digest {
        let digest = smol::block_on(handle.word(facts, lang, 7));
        verify::complete(digest.verdict, &digest.text, &digest.facts, lang).unwrap();
        verify::figures_are_facts(&digest.text, &digest.facts, lang).unwrap();
        assert_eq!((digest.id, digest.lang), (7, lang));
        digest
    }

    #[test]
    fn a_model_that_can_not_be_loaded_leaves_the_words_to_the_template() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("student.onnx"), b"not a graph").unwrap();
        let glm = Glm::start(GlmOptions { dir: Some(dir.path().into()), ..GlmOptions::default() });
        let digest = word(&glm.handle(), testing::hot_bearing(), Lang::En);
        assert_eq!((digest.engine, digest.verdict), (Engine::Template, Severity::Critical));
        assert!(digest.fallback_reason.contains("can't be read"), "{}", digest.fallback_reason);
        glm.stop();
    }

    #[test]
    fn a_graph_that_is_garbage_gives_the_template_and_no_panic() {
        let bundle = Bundle::embedded().unwrap();
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..6 {
            let mut onnx = bundle.onnx.to_vec();
            let from = rng.usize(0..onnx.len());
            onnx[from..].iter_mut().step_by(97).for_each(|b| *b ^= rng.u8(1..));
            let damaged = Bundle {
                onnx: onnx.into(),
                vocab_txt: bundle.vocab_txt.clone(),
                vocab_json: bundle.vocab_json.clone(),
                id: String::new(),
                shape: bundle.shape,
            };
            // Weights may be damaged and the graph still run; then the words are checked like any others.
            if let Ok(Ok(model)) = caught(|| Model::load(damaged)) {
                let deadline = Mono(u64::MAX);
                if let Ok(digest) = Writer::new(model).word(&testing::hot_bearing(), Lang::En, 1, deadline) {
                    verify::complete(digest.verdict, &digest.text, &digest.facts, Lang::En).unwrap();
                }
            }
        }
    }

    #[test]
    fn every_facts_get_words_in_both_languages() {
        let glm = Glm::start(GlmOptions { budget: Duration::from_secs(60), ..GlmOptions::default() });
        for seed in 0..8 {
            for &lang in Lang::ALL {
                word(&glm.handle(), testing::facts(seed), lang);
            }
        }
        glm.stop();
    }

    #[test]
    fn a_period_with_next_to_nothing_in_it_is_left_to_the_template() {
        let glm = Glm::start(GlmOptions { budget: Duration::from_secs(60), ..GlmOptions::default() });
        for (normal, engine) in [(0, Engine::Template), (1, Engine::Template), (2, Engine::Glm)] {
            let facts = Facts { events: Vec::new(), channels_normal: normal, ..testing::hot_bearing() };
            let digest = word(&glm.handle(), facts, Lang::Zh);
            assert_eq!(digest.engine, engine, "{normal} normal channels: {}", digest.fallback_reason);
        }
        glm.stop();
    }

    #[test]
    fn a_budget_that_is_up_gives_the_template_at_once() {
        let glm = Glm::start(GlmOptions { budget: Duration::ZERO, ..GlmOptions::default() });
        let digest = word(&glm.handle(), testing::hot_bearing(), Lang::Zh);
        assert_eq!(
            (digest.engine, digest.fallback_reason.as_str()),
            (Engine::Template, "the time budget was exceeded")
        );
        glm.stop();
    }

    #[test]
    fn a_full_queue_and_a_stopped_thread_say_so() {
        let (requests, queue) = bounded(1);
        let handle = GlmHandle { requests, budget: Duration::from_millis(20) };
        let first = word(&handle, testing::hot_bearing(), Lang::En);
        assert_eq!(first.fallback_reason, "the time budget was exceeded");
        assert_eq!(word(&handle, testing::hot_bearing(), Lang::En).fallback_reason, "busy");
        drop(queue);
        assert_eq!(word(&handle, testing::hot_bearing(), Lang::En).fallback_reason, "off");
        let off = Glm::start(GlmOptions { enabled: false, ..GlmOptions::default() });
        assert_eq!(word(&off.handle(), testing::hot_bearing(), Lang::En).fallback_reason, "off");
    }

    #[test]
    fn a_panic_costs_one_digest_its_words() {
        assert_eq!(caught(|| -> u8 { panic!("an engine's bug") }), Err(PANICKED.to_owned()));
        assert_eq!(caught(|| 1), Ok(1));
    }
}
