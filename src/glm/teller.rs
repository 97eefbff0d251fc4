//! A language model that a vendor's runtime runs whole, on its device: conversations in, text out, one at a time.
//!
//! ```text
//! thread glm: begin ── Jobs, by priority ──> thread glm-device: Language ── socket ──> outpost worker: the vendor's runtime
//!      └ ends what is due ──> Hearing <── pieces: whole characters, the form's check, stop strings ──┘
//! ```
//!
//! Everything that may take long happens on the thread `glm-device`: loading, the first piece, an end that never comes. So the
//! thread `glm` can end what is due at any time, whatever the runtime does; what that says afterwards nobody hears. A runtime that
//! fails is begun again with the next conversation after a wait, and not any more after too many failures
//! ([`crate::accel::Health`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::constrain::{BadGrammar, Grammar, Recogniser};
use super::generate::{Priority, Stops, Usage};
use super::jobs::Jobs;
use super::memory;
use super::speaker::{End, Form, Listener, Message, Role, Said, Talk};
use super::tokenizer::Decoder;
use crate::accel::worker::{Language, Patience, Vendor, WorkerOptions};
use crate::accel::{Health, Placement, Refused, Stage, State, Telling, Told};
use crate::clock;
use crate::limits;
use crate::observe::glm::{TellerFailed, TellerReady};
use crate::observe::{backends, emit};
use crate::time::Mono;

/// How a vendor's language runtime is run.
#[derive(Debug, Clone)]
pub struct TellerOptions {
    /// Its worker, with [`Vendor::Language`]. Of memory it may take no more than the machine has free when it is begun.
    pub worker: WorkerOptions,
    /// What people call the model.
    pub model: String,
    /// How long pieces may take.
    pub patience: Patience,
    /// Longest answer, whatever is asked for.
    pub answer_tokens_max: usize,
    /// Time from the request to its words of a digest; then somebody else words it. Also the longest time for the few words that
    /// it is tried with.
    pub digest_budget: Duration,
    /// Time without work after which its process is ended.
    pub idle_unload: Duration,
}

/// A runtime that did what it was asked when it was begun.
#[derive(Debug, Clone, Copy)]
pub struct Tried {
    /// How many of the model's layers the device runs.
    pub placement: Placement,
    /// Time it took to load.
    pub load: Duration,
    /// From the prompt that it is tried with to the end of its words.
    pub first_words: Duration,
}

/// The way to the thread `glm-device`, which ends soon after this is dropped.
pub(super) struct Teller {
    model: Arc<str>,
    device: String,
    errands: Jobs<Errand>,
    standing: Arc<Mutex<Standing>>,
    /// Of all conversations that have not ended, the oldest first.
    hearings: Vec<Arc<Hearing>>,
}

/// How it does.
#[derive(Debug, Default)]
struct Standing {
    health: Health,
    /// The last failure.
    refused: Option<Refused>,
}

/// A conversation on its way.
struct Errand {
    telling: Telling,
    form: Option<Grammar>,
    stops: Vec<String>,
    hearing: Arc<Hearing>,
}

/// Who listens to one answer, until it has ended.
struct Hearing {
    listener: Mutex<Option<Listener>>,
    cancel: Arc<AtomicBool>,
    deadline: Option<Mono>,
    asked: Mono,
}

impl Teller {
    /// Begins the thread, and the runtime on it. Does not block. Errors: the system has no thread left.
    pub(super) fn start(options: TellerOptions) -> std::io::Result<Teller> {
        let teller = Teller {
            model: options.model.as_str().into(),
            device: options.worker.name.clone(),
            errands: Jobs::new(),
            standing: Arc::default(),
            hearings: Vec::new(),
        };
        let (errands, standing) = (teller.errands.clone(), Arc::clone(&teller.standing));
        let thread = move || Thread { options, errands, standing, language: None, used: clock::mono() }.run();
        std::thread::Builder::new().name("glm-device".into()).spawn(thread)?;
        Ok(teller)
    }

    /// What people call the model and the device.
    pub(super) fn id(&self) -> Arc<str> {
        format!("{} on {}", self.model, self.device).into()
    }

    /// Whether something of `priority` may be given to it now. Errors: why nothing may. An alarm does not wait behind anything.
    pub(super) fn takes(&self, priority: Priority, now: Mono) -> Result<(), String> {
        let Standing { health, refused } = &*lock(&self.standing);
        if !health.may_try(now) {
            return Err(refused.as_ref().map_or_else(|| "it has failed".into(), Refused::to_string));
        }
        if self.hearings.len() > limits::LANGUAGE_WAITING_MAX
            || priority == Priority::Alarm && !self.is_idle()
        {
            return Err(format!("{} is busy", self.device));
        }
        Ok(())
    }

    /// Goes on with a conversation; `listener` is told everything, the end last. Errors: its grammar can't be used.
    pub(super) fn begin(
        &mut self,
        talk: &Talk,
        cancel: Arc<AtomicBool>,
        listener: Listener,
    ) -> Result<(), BadGrammar> {
        let form = match &talk.form {
            Form::Free | Form::Guided(_) => None,
            Form::Json => Some(Grammar::json()?),
            Form::Grammar(text) => Some(Grammar::ebnf(text)?),
        };
        let listener = Mutex::new(Some(listener));
        let hearing = Arc::new(Hearing { listener, cancel, deadline: talk.deadline, asked: clock::mono() });
        let errand =
            Errand { telling: telling(talk), form, stops: talk.stops.clone(), hearing: Arc::clone(&hearing) };
        if self.errands.push(talk.priority, errand).is_err() {
            hearing.end(End::Failed("the device's thread takes nothing any more".into()), Usage::default());
        }
        self.hearings.push(hearing);
        Ok(())
    }

    /// Ends every conversation whose time is up or that nobody wants any more, and forgets what has ended.
    pub(super) fn end_what_is_due(&mut self, now: Mono) {
        for hearing in &self.hearings {
            if let Some(why) = hearing.due(now) {
                hearing.end(why, Usage::default());
            }
        }
        self.hearings.retain(|hearing| !hearing.has_ended());
    }

    /// Ends every conversation with `reason`.
    pub(super) fn end_all(&mut self, reason: &str) {
        let hearings = self.hearings.drain(..);
        hearings.for_each(|hearing| hearing.end(End::Failed(reason.into()), Usage::default()));
    }

    /// How many have not ended.
    pub(super) fn running(&self) -> usize {
        self.hearings.len()
    }

    /// Whether nobody waits for anything.
    pub(super) fn is_idle(&self) -> bool {
        self.hearings.iter().all(|hearing| hearing.has_ended())
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.end_all("the agent stops");
        // The thread may be deep in its driver; nobody waits for it.
        self.errands.close();
    }
}

fn telling(talk: &Talk) -> Telling {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Telling {
        messages: talk.messages.iter().map(|m| (m.role.name().to_owned(), m.content.clone())).collect(),
        tokens_max: count(talk.tokens_max),
        temperature: talk.sampling.temperature,
        top_k: count(talk.sampling.top_k),
        top_p: talk.sampling.top_p,
        seed: talk.sampling.seed,
    }
}

impl Hearing {
    /// Why it is to be ended at `now`, if it is.
    fn due(&self, now: Mono) -> Option<End> {
        match self.deadline {
            _ if self.cancel.load(Ordering::Relaxed) => Some(End::Cancelled),
            Some(deadline) if now > deadline => Some(End::Late),
            _ => None,
        }
    }

    fn has_ended(&self) -> bool {
        lock(&self.listener).is_none()
    }

    fn say(&self, text: String) {
        if text.is_empty() {
            return;
        }
        let is_heard = lock(&self.listener).as_mut().is_some_and(|listener| listener(Said::Text(text)));
        if !is_heard {
            self.cancel.store(true, Ordering::Relaxed);
        }
    }

    /// Says the end to whoever still listens.
    fn end(&self, why: End, usage: Usage) {
        let listener = lock(&self.listener).take();
        if let Some(mut listener) = listener {
            listener(Said::End { why, usage });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread `glm-device`.
struct Thread {
    options: TellerOptions,
    errands: Jobs<Errand>,
    standing: Arc<Mutex<Standing>>,
    language: Option<Language>,
    used: Mono,
}

impl Thread {
    fn run(mut self) {
        self.show(State::Probed);
        // Whoever comes first should not wait for it; what went wrong is told.
        let _ = self.language();
        while !self.errands.is_closed() {
            self.errands.wait(Priority::Periodic, self.options.idle_unload);
            if let Some(errand) = self.errands.pop(Priority::Periodic) {
                self.serve(&errand);
                self.used = clock::mono();
            } else if clock::mono().since(self.used) >= self.options.idle_unload {
                self.language = None;
            }
        }
    }

    fn serve(&mut self, errand: &Errand) {
        if errand.hearing.has_ended() {
            return;
        }
        if let Err(refused) = self.language() {
            return errand.hearing.end(End::Failed(refused.to_string()), Usage::default());
        }
        let Some(mut language) = self.language.take() else { return };
        let mut answer = Answer::new(errand);
        let told = language.tell(&errand.telling, self.options.patience, |piece| answer.take(piece));
        if !language.is_gone() {
            self.language = Some(language);
        }
        match told {
            Ok(told) => {
                lock(&self.standing).health.succeeded();
                answer.finish(told);
            }
            Err(refused) => {
                self.failed(&refused);
                errand.hearing.end(End::Failed(refused.to_string()), Usage::default());
            }
        }
    }

    /// Sees to it that the runtime is there: loaded, and tried. Blocks for as long as that takes.
    fn language(&mut self) -> Result<(), Refused> {
        if self.language.is_some() {
            return Ok(());
        }
        if !lock(&self.standing).health.may_try(clock::mono()) {
            let last = lock(&self.standing).refused.clone();
            return Err(last.unwrap_or_else(|| {
                Refused::new(&self.options.worker.name, Stage::Worker, "it has failed too often")
            }));
        }
        self.used = clock::mono();
        match begin(&self.options) {
            Ok((language, tried)) => {
                self.language = Some(language);
                let Tried { placement, load, first_words } = tried;
                let TellerOptions { model, worker, .. } = &self.options;
                emit(&TellerReady { model, device: &worker.name, placement, load, first_words });
                self.show(State::Serving);
                Ok(())
            }
            Err(refused) => {
                self.failed(&refused);
                Err(refused)
            }
        }
    }

    fn failed(&mut self, refused: &Refused) {
        let mut standing = lock(&self.standing);
        let quarantined = standing.health.failed(clock::mono());
        standing.refused = Some(refused.clone());
        drop(standing);
        emit(&TellerFailed { model: &self.options.model, refused, quarantined });
        self.show(match refused.stage {
            _ if quarantined => State::Quarantined,
            Stage::Find => State::Absent,
            stage if stage >= Stage::Golden => State::Loaded,
            _ => State::Probed,
        });
    }

    fn show(&self, state: State) {
        backends::set(&self.options.worker.name, &self.options.model, state.name());
    }
}

/// Begins the runtime and tries it with a few words. Blocks for as long as that takes. Errors: with the stage and the reason.
pub fn begin(options: &TellerOptions) -> Result<(Language, Tried), Refused> {
    let mut worker = options.worker.clone();
    if let Vendor::Language { memory_bytes_max, .. } = &mut worker.vendor {
        let free = memory::available_bytes("/".as_ref()).unwrap_or(u64::MAX);
        *memory_bytes_max = (*memory_bytes_max).min(free.saturating_sub(limits::GLM_MEMORY_SPARE_BYTES));
    }
    let begun = clock::mono();
    let mut language = Language::begin(&worker)?;
    let loaded = clock::mono();
    let refuse =
        |stage, why: String| Refused::new(&worker.name, stage, format_args!("{}: {why}", options.model));
    let mut talk = Talk::new(vec![Message::new(Role::User, TRIED_WITH)], TRIED_TOKENS);
    talk.priority = Priority::Periodic;
    let (mut decoder, mut words) = (Decoder::default(), String::new());
    let patience = Patience { first: options.patience.first.min(options.digest_budget), ..options.patience };
    language.tell(&telling(&talk), patience, |piece| {
        words.push_str(decoder.push(piece));
        words.len() < TRIED_TOKENS * limits::LANGUAGE_TOKEN_BYTES_MAX
    })?;
    words.push_str(decoder.finish());
    let first_words = clock::mono().since(loaded);
    if words.trim().is_empty() || words.contains(char::REPLACEMENT_CHARACTER) {
        return Err(refuse(
            Stage::Golden,
            format!("asked for a few words, it wrote {words:?}; convert the model anew"),
        ));
    }
    if first_words > options.digest_budget {
        let why =
            format!("a few words took {first_words:?}, and glm.digest_budget is {:?}", options.digest_budget);
        return Err(refuse(Stage::Speed, why));
    }
    let tried = Tried { placement: language.placement(), load: loaded.since(begun), first_words };
    Ok((language, tried))
}

const TRIED_WITH: &str = "Say in a few words what a pump does.";
const TRIED_TOKENS: usize = 16;

/// An answer under way: from bytes to what its listener is told.
struct Answer<'a> {
    errand: &'a Errand,
    decoder: Decoder,
    form: Option<Held>,
    stops: Stops,
    bytes: usize,
    pieces: u32,
    /// Why it is at an end here, whatever the runtime goes on to say.
    ended: Option<End>,
    begun: Mono,
    first: Option<Mono>,
}

/// A text that is held to a grammar, blanks around it aside: no model can be kept from ending its line.
struct Held {
    recogniser: Recogniser,
    /// Blanks that belong to the text if something comes behind them.
    blanks: String,
    has_begun: bool,
}

impl<'a> Answer<'a> {
    fn new(errand: &'a Errand) -> Self {
        let held = |grammar: &Grammar| Held {
            recogniser: Recogniser::new(grammar.clone()),
            blanks: String::new(),
            has_begun: false,
        };
        Self {
            decoder: Decoder::default(),
            form: errand.form.as_ref().map(held),
            stops: Stops::new(errand.stops.iter().cloned()),
            bytes: 0,
            pieces: 0,
            ended: None,
            begun: clock::mono(),
            first: None,
            errand,
        }
    }

    /// Takes a piece; whether another one is wanted.
    fn take(&mut self, piece: &[u8]) -> bool {
        self.first.get_or_insert_with(clock::mono);
        self.bytes += piece.len();
        self.pieces += 1;
        let tokens_max = self.errand.telling.tokens_max;
        let bytes_max = (tokens_max as usize).saturating_mul(limits::LANGUAGE_TOKEN_BYTES_MAX);
        if self.pieces > tokens_max || self.bytes > bytes_max {
            // Who listens has room for so many.
            self.ended.get_or_insert(End::Length);
        }
        let text = self.decoder.push(piece).to_owned();
        self.hear(text);
        let hearing = &self.errand.hearing;
        if self.ended.is_none() {
            self.ended = hearing.due(clock::mono());
        }
        // Whoever waits need not wait for the runtime to see that it is over.
        if let Some(why) = self.ended.clone() {
            hearing.end(why, self.usage(Told::default()));
        }
        self.ended.is_none() && !hearing.has_ended()
    }

    fn hear(&mut self, text: String) {
        if self.ended.is_some() {
            return;
        }
        let text = match &mut self.form {
            None => text,
            Some(held) => match held.push(&text) {
                Some(text) => text,
                None => {
                    self.ended = Some(End::Failed(LEFT_ITS_FORM.into()));
                    return;
                }
            },
        };
        let text = self.stops.push(&text);
        self.errand.hearing.say(text);
        if self.stops.has_stopped() {
            self.ended = Some(End::Stop);
        }
    }

    /// The runtime is done.
    fn finish(mut self, told: Told) {
        let rest = self.decoder.finish().to_owned();
        self.hear(rest);
        if self.ended.is_none() {
            let rest = self.stops.finish();
            self.errand.hearing.say(rest);
        }
        let is_whole = self.form.as_ref().is_none_or(|held| held.recogniser.is_done());
        let why = match self.ended.take() {
            Some(why) => why,
            None if told.is_cut => End::Length,
            None if !is_whole => End::Failed(LEFT_ITS_FORM.into()),
            None => End::Stop,
        };
        self.errand.hearing.end(why, self.usage(told));
    }

    fn usage(&self, told: Told) -> Usage {
        let now = clock::mono();
        let micros = |from: Mono, to: Mono| u64::try_from(to.since(from).as_micros()).unwrap_or(u64::MAX);
        let first = self.first.unwrap_or(now);
        Usage {
            prompt_tokens: told.prompt_tokens,
            answer_tokens: if told.answer_tokens == 0 { self.pieces } else { told.answer_tokens },
            queued_us: micros(self.errand.hearing.asked, self.begun),
            prefill_us: micros(self.begun, first),
            decode_us: micros(first, now),
            ..Usage::default()
        }
    }
}

impl Held {
    /// What of `text` is the answer's; none: the grammar does not allow it.
    fn push(&mut self, text: &str) -> Option<String> {
        let text = if self.has_begun { text } else { text.trim_start() };
        self.has_begun |= !text.is_empty();
        let body = text.trim_end();
        if body.is_empty() {
            self.blanks.push_str(text);
            return Some(String::new());
        }
        let whole = std::mem::take(&mut self.blanks) + body;
        self.blanks.push_str(&text[body.len()..]);
        self.recogniser.push(&whole).then_some(whole)
    }
}

const LEFT_ITS_FORM: &str = "the device's model does not keep to the form that was asked for; ask without it, or let the CPU's model answer (digest.model)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_around_a_text_are_not_held_to_its_grammar_and_those_within_are() {
        let mut held = Held {
            recogniser: Recogniser::new(Grammar::ebnf("root ::= \"a b\\nc\"").unwrap()),
            blanks: String::new(),
            has_begun: false,
        };
        let said: Vec<_> =
            [" \n", "a ", "b", "\n", "c\n", "\n "].map(|piece| held.push(piece).unwrap()).into();
        assert_eq!(said, ["", "a", " b", "", "\nc", ""]);
        assert!(held.recogniser.is_done());
        assert_eq!(held.push("d"), None);
    }
}
