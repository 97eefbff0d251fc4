//! A model that chats: messages in, text out, several conversations at a time.
//!
//! ```text
//! Talk ─ template, tokenizer ─> Request ─ Batcher ─> tokens ─ whole characters ─ stop strings ─> Said
//! ```
//!
//! Whoever listens is given pieces as they come and says whether it goes on listening; who stops costs one more run at most.
//! Opening maps the weights; what the engine would take of memory is held against its bound before anything is taken.

mod talk;
mod voice;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use talk::{BadTalk, End, Form, Message, Role, Said, Talk};
pub use voice::BadVoice;
use voice::Voice;

use crate::glm::bundle::{Bundle, BundleError};
use crate::glm::engine::{Engine, EngineError, EngineOptions, Memory};
use crate::glm::generate::{
    BadPrefix, Batcher, BatcherOptions, Ended, Event, PrefixSource, Priority, Request, RequestId, Stops,
};
use crate::glm::tokenizer::Decoder;
use crate::limits;

/// A model that can't be opened for conversations; the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum BadSpeaker {
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Tokenizer or template.
    #[error(transparent)]
    Voice(#[from] BadVoice),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// An instruction that is not kept; conversations read it themselves.
#[derive(Debug, thiserror::Error)]
pub enum BadKeep {
    /// The template refuses it.
    #[error(transparent)]
    Talk(#[from] BadTalk),
    /// The cache or the file.
    #[error(transparent)]
    Prefix(#[from] BadPrefix),
}

/// Is given every piece of an answer; `false`: nobody listens any more.
pub type Listener = Box<dyn FnMut(Said) -> bool + Send>;

/// A loaded model and the conversations that it goes on with.
pub struct Speaker {
    id: String,
    bundle: Bundle,
    voice: Voice,
    end_ids: Arc<[u32]>,
    batcher: Batcher,
    answers: Vec<Answer>,
    events: Vec<Event>,
}

/// An answer under way.
struct Answer {
    request: RequestId,
    priority: Priority,
    decoder: Decoder,
    stops: Stops,
    cancel: Arc<AtomicBool>,
    listener: Listener,
}

impl Speaker {
    /// Opens the bundle in `dir`. Takes milliseconds, and a few tenths of a second for a large vocabulary. Blocks.
    pub fn open(dir: &Path, options: EngineOptions) -> Result<Speaker, BadSpeaker> {
        let bundle = Bundle::open(dir)?;
        let context_tokens = options.context_tokens.min(bundle.arch().context_tokens_max);
        let chunk_tokens = options.chunk_tokens.min(context_tokens);
        let voice = Voice::of(&bundle)?;
        let options =
            EngineOptions { context_tokens, chunk_tokens, words_bytes: voice.bytes_max(), ..options };
        let engine = Engine::new(&bundle.weights()?, options)?;
        let batcher = Batcher::new(engine, BatcherOptions::default());
        Ok(Speaker {
            id: bundle.id(),
            voice,
            end_ids: bundle.end_ids().into(),
            bundle,
            batcher,
            answers: Vec::new(),
            events: Vec::new(),
        })
    }

    /// The model's name: 16 hex digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it takes of memory when its cache is full and its grammars have learnt all they may.
    pub fn memory(&self) -> Memory {
        self.batcher.engine().memory()
    }

    /// Longest prompt and answer together.
    pub fn context_tokens(&self) -> usize {
        self.batcher.engine().options().context_tokens
    }

    /// Whether its weights are still whole; to be asked before a step ([`Bundle::check_length`]).
    pub fn check(&self) -> Result<(), BundleError> {
        self.bundle.check_length()
    }

    /// Whether nobody waits for anything.
    pub fn is_idle(&self) -> bool {
        self.answers.is_empty()
    }

    /// Whether somebody of at least `floor` waits for something.
    pub fn has_work(&self, floor: Priority) -> bool {
        self.answers.iter().any(|answer| answer.priority >= floor)
    }

    /// Answers that have begun, and those that wait for a place in the cache.
    pub fn running(&self) -> (usize, usize) {
        (self.batcher.running(), self.batcher.waiting())
    }

    /// Tokens of a conversation as the model is given it.
    pub fn prompt_tokens(&self, messages: &[Message]) -> Result<usize, BadTalk> {
        Ok(self.voice.prompt(messages)?.len())
    }

    /// Keeps the instruction that many conversations begin with in a place of its own in the cache, so that only the first of them
    /// reads it: from `file` if that holds it for this model. Blocks for reading the file at most.
    pub fn keep(&mut self, system: &str, file: Option<&Path>) -> Result<PrefixSource, BadKeep> {
        let begun = |user: &str| {
            self.voice.prompt(&[Message::new(Role::System, system), Message::new(Role::User, user)])
        };
        let (one, other) = (begun("1")?, begun("a")?);
        let shared = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
        Ok(self.batcher.pin(&one[..shared], &self.id, file)?)
    }

    /// Writes the file of an instruction that was read since it was to be kept. Blocks; for a moment in which nobody waits.
    pub fn save_kept(&mut self) -> Result<(), BadKeep> {
        Ok(self.batcher.save_pinned()?)
    }

    /// Goes on with a conversation; `listener` is told everything, the end last. `cancel`, if there is one, ends it from outside.
    pub fn begin(
        &mut self,
        talk: &Talk,
        cancel: Option<Arc<AtomicBool>>,
        listener: Listener,
    ) -> Result<(), BadTalk> {
        let cancel = cancel.unwrap_or_default();
        let request = self.batcher.submit(Request {
            prompt: self.voice.prompt(&talk.messages)?,
            sampling: talk.sampling,
            constraint: self.voice.constraint(&talk.form, &self.end_ids)?,
            end_ids: Arc::clone(&self.end_ids),
            tokens_max: talk.tokens_max,
            deadline: talk.deadline,
            priority: talk.priority,
            cancel: Some(Arc::clone(&cancel)),
            speculate: talk.copies,
        })?;
        self.answers.push(Answer {
            request,
            priority: talk.priority,
            decoder: Decoder::default(),
            stops: Stops::new(talk.stops.iter().cloned()),
            cancel,
            listener,
        });
        Ok(())
    }

    /// One run of the model for conversations of at least `floor`. Blocks for about [`limits::GLM_STEP_TARGET_MS`].
    pub fn step(&mut self, floor: Priority) {
        self.passing_on(|batcher, events| batcher.step(floor, events));
    }

    /// Ends every conversation whose time is up or that nobody wants any more, for a time in which no step is taken.
    pub fn end_what_is_due(&mut self) {
        self.passing_on(Batcher::end_what_is_due);
    }

    /// Ends every conversation with `reason`.
    pub fn end_all(&mut self, reason: &str) {
        let why = Ended::Failed(reason.to_owned());
        self.passing_on(|batcher, events| batcher.end_all(&why, events));
    }

    /// Lets the batcher do something and passes on what came of it.
    fn passing_on(&mut self, work: impl FnOnce(&mut Batcher, &mut Vec<Event>)) {
        let mut events = std::mem::take(&mut self.events);
        work(&mut self.batcher, &mut events);
        for event in events.drain(..) {
            self.pass_on(event);
        }
        self.events = events;
    }

    fn pass_on(&mut self, event: Event) {
        match event {
            Event::Token { id, token } => {
                let bytes = self.voice.text_bytes(token);
                if let Some(answer) = self.answers.iter_mut().find(|answer| answer.request == id) {
                    answer.take(bytes);
                }
            }
            Event::Ended { id, why, usage } => {
                let Some(at) = self.answers.iter().position(|answer| answer.request == id) else { return };
                let mut answer = self.answers.swap_remove(at);
                let why = if answer.stops.has_stopped() { End::Stop } else { why.into() };
                answer.finish();
                (answer.listener)(Said::End { why, usage });
            }
        }
    }
}

impl Answer {
    fn take(&mut self, bytes: &[u8]) {
        if self.stops.has_stopped() {
            return;
        }
        let text = self.stops.push(self.decoder.push(bytes));
        self.say(text);
        if self.stops.has_stopped() {
            // What the model would write behind it nobody sees.
            self.cancel.store(true, Ordering::Relaxed);
        }
    }

    fn finish(&mut self) {
        if !self.stops.has_stopped() {
            let mut text = self.stops.push(self.decoder.finish());
            text.push_str(&self.stops.finish());
            self.say(text);
        }
    }

    fn say(&mut self, text: String) {
        if !text.is_empty() && !(self.listener)(Said::Text(text)) {
            self.cancel.store(true, Ordering::Relaxed);
        }
    }
}

// One run is what a cancellation waits for; a person should not notice it.
const _: () = assert!(limits::GLM_STEP_TARGET_MS <= 500);

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::glm::generate::Usage;
    use crate::glm::import::{ImportOptions, import};

    fn open(dir: &Path) -> Speaker {
        let target = dir.join("tiny.bundle");
        if !target.exists() {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/glm/glm_edge");
            import(&source, &target, &ImportOptions::default(), &mut |_| {}).unwrap();
        }
        let options = EngineOptions { threads: 1, slots: 2, context_tokens: 512, ..EngineOptions::default() };
        Speaker::open(&target, options).unwrap()
    }

    fn talk(user: &str) -> Talk {
        Talk::new(vec![Message::new(Role::System, SYSTEM), Message::new(Role::User, user)], 20)
    }

    /// The pieces of an answer and what it took; the listener leaves after `pieces_max` of them.
    fn answer(speaker: &mut Speaker, talk: &Talk, pieces_max: usize) -> (Vec<String>, End, Usage) {
        let heard = Arc::new(Mutex::new((Vec::new(), None)));
        let mine = Arc::clone(&heard);
        let listener = move |said| {
            let mut heard = mine.lock().unwrap();
            match said {
                Said::Text(text) => heard.0.push(text),
                Said::End { why, usage } => heard.1 = Some((why, usage)),
            }
            heard.0.len() < pieces_max
        };
        speaker.begin(talk, None, Box::new(listener)).unwrap();
        while !speaker.is_idle() {
            speaker.step(Priority::Periodic);
        }
        let (pieces, end) = std::mem::take(&mut *heard.lock().unwrap());
        let (why, usage) = end.expect("an end");
        (pieces, why, usage)
    }

    const SYSTEM: &str = "You are the voice of a pumping station. Say little.";

    #[test]
    fn a_kept_instruction_is_read_once_and_after_a_restart_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("prefix");
        let (plain, _, cold) = answer(&mut open(dir.path()), &talk("hello"), usize::MAX);
        for source in [PrefixSource::Model, PrefixSource::File] {
            let mut speaker = open(dir.path());
            assert_eq!(speaker.keep(SYSTEM, Some(&file)).unwrap(), source);
            if source == PrefixSource::Model {
                answer(&mut speaker, &talk("who are you?"), usize::MAX);
                let other = Talk::new(vec![Message::new(Role::User, "x".repeat(90))], 2);
                answer(&mut speaker, &other, usize::MAX);
            }
            let (pieces, _, usage) = answer(&mut speaker, &talk("hello"), usize::MAX);
            assert_eq!(pieces, plain, "{source:?}");
            assert!(usage.cached_tokens > usage.prompt_tokens / 2, "{source:?}: {usage:?} after {cold:?}");
            speaker.save_kept().unwrap();
        }
    }

    #[test]
    fn who_stops_listening_costs_one_more_token_at_most() {
        let dir = tempfile::tempdir().unwrap();
        let mut speaker = open(dir.path());
        let long = Talk { tokens_max: 200, ..talk("hello") };
        let (pieces, why, usage) = answer(&mut speaker, &long, 3);
        assert_eq!((pieces.len(), why), (3, End::Cancelled));
        let (_, _, whole) = answer(&mut speaker, &long, usize::MAX);
        assert!(usage.answer_tokens < whole.answer_tokens / 2, "{usage:?} of {whole:?}");
    }

    #[test]
    fn an_answer_ends_before_a_stop_string_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut speaker = open(dir.path());
        let (pieces, _, _) = answer(&mut speaker, &talk("hello"), usize::MAX);
        let text = pieces.concat();
        let at = text.char_indices().nth(6).unwrap().0;
        let stop: String = text[at..].chars().take(2).collect();
        let stopping = Talk { stops: vec![stop.clone()], ..talk("hello") };
        let (pieces, why, _) = answer(&mut speaker, &stopping, usize::MAX);
        let until = text.find(&stop).unwrap();
        assert_eq!((pieces.concat().as_str(), why), (&text[..until], End::Stop));
    }
}
