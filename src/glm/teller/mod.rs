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

mod answer;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use answer::{Answer, Errand, Hearing};

use super::constrain::{BadGrammar, Grammar};
use super::generate::{Priority, Usage};
use super::jobs::Jobs;
use super::memory;
use super::sample::Sampling;
use super::speaker::{End, Form, Listener, Message, Role, Talk};
use super::tokenizer::Decoder;
use crate::accel::worker::{Language, Patience, Vendor, WorkerOptions};
use crate::accel::{Health, Placement, Refused, Stage, State, Telling};
use crate::clock;
use crate::limits;
use crate::observe::accel::{TellerFailed, TellerReady};
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
    wishes: Jobs<Wish>,
    standing: Arc<Mutex<Standing>>,
    /// Of all conversations that have not ended, the oldest first.
    hearings: Vec<Arc<Hearing>>,
}

/// How it does.
#[derive(Debug)]
struct Standing {
    health: Health,
    /// The last failure.
    refused: Option<Refused>,
    /// The machine has no memory for it until then at least.
    is_short_until: Option<Mono>,
    /// It is loaded and does nothing.
    is_free: bool,
    /// The least priority that may go on.
    floor: Priority,
}

impl Standing {
    /// Whether it may be asked. Errors: the last failure, if one is known.
    fn may_try(&self, now: Mono) -> Result<(), Option<Refused>> {
        let is_short = self.is_short_until.is_some_and(|until| now < until);
        if self.health.may_try(now) && !is_short { Ok(()) } else { Err(self.refused.clone()) }
    }
}

/// What the thread is to do.
enum Wish {
    /// Load the model, so that the next one need not wait for that.
    BeThere,
    /// Go on with a conversation.
    Tell(Errand),
}

impl Teller {
    /// Begins the thread, and the runtime on it. Does not block. Errors: the system has no thread left.
    pub(super) fn start(options: TellerOptions) -> std::io::Result<Teller> {
        let teller = Teller {
            model: options.model.as_str().into(),
            device: options.worker.name.clone(),
            wishes: Jobs::new(),
            standing: Arc::new(Mutex::new(Standing {
                health: Health::default(),
                refused: None,
                is_short_until: None,
                is_free: false,
                floor: Priority::Periodic,
            })),
            hearings: Vec::new(),
        };
        let (wishes, standing) = (teller.wishes.clone(), Arc::clone(&teller.standing));
        let thread = move || Thread { options, wishes, standing, language: None, used: clock::mono() }.run();
        std::thread::Builder::new().name("glm-device".into()).spawn(thread)?;
        Ok(teller)
    }

    /// What people call the model and the device.
    pub(super) fn id(&self) -> Arc<str> {
        format!("{} on {}", self.model, self.device).into()
    }

    /// Whether a talk may be given to it now. `is_last`: nobody else can answer, so that it waits rather. Errors: why it may not.
    pub(super) fn takes(&self, talk: &Talk, is_last: bool, now: Mono) -> Result<(), End> {
        let standing = lock(&self.standing);
        if let Err(refused) = standing.may_try(now) {
            let why = refused.as_ref().map_or_else(|| "it has failed".into(), Refused::to_string);
            return Err(End::Failed(why));
        }
        let Sampling { min_p, repetition_penalty, .. } = talk.sampling;
        if min_p != Sampling::GREEDY.min_p || repetition_penalty != Sampling::GREEDY.repetition_penalty {
            let device = &self.device;
            return Err(End::Refused(format!(
                "{device} can't be told of min_p and a repetition penalty; ask without them"
            )));
        }
        let is_alarm = talk.priority == Priority::Alarm;
        let must_wait = !standing.is_free || !self.is_idle();
        if !is_last && (is_alarm && must_wait || self.hearings.len() > limits::LANGUAGE_WAITING_MAX) {
            return Err(End::Failed(format!("{} is busy", self.device)));
        }
        Ok(())
    }

    /// Sees to it that the model is loaded for the next one, if it is not. Does not block.
    pub(super) fn wake(&self) {
        if self.wishes.waiting() == [0; 3] {
            // A thread that is gone loads nothing any more.
            let _ = self.wishes.push(Priority::Periodic, Wish::BeThere);
        }
    }

    /// Lets conversations of less than `floor` wait that have not begun.
    pub(super) fn set_floor(&self, floor: Priority) {
        let before = std::mem::replace(&mut lock(&self.standing).floor, floor);
        if before != floor {
            self.wishes.nudge();
        }
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
        if self.wishes.push(talk.priority, Wish::Tell(errand)).is_err() {
            let why = format!("{} is busy: {} requests wait already", self.device, limits::GLM_QUEUE_MAX);
            hearing.end(End::Failed(why), Usage::default());
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
        self.wishes.close();
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread `glm-device`.
struct Thread {
    options: TellerOptions,
    wishes: Jobs<Wish>,
    standing: Arc<Mutex<Standing>>,
    language: Option<Language>,
    used: Mono,
}

impl Thread {
    fn run(mut self) {
        self.show(State::Probed);
        // Whoever comes first should not wait for it; what went wrong is told.
        let _ = self.language();
        while !self.wishes.is_closed() {
            let floor = lock(&self.standing).floor;
            match self.wishes.pop(floor) {
                Some(Wish::BeThere) => _ = self.language(),
                Some(Wish::Tell(errand)) => self.serve(&errand),
                None => {
                    self.rest();
                    self.wishes.wait(floor, self.options.idle_unload);
                }
            }
        }
    }

    /// Gives the memory back after a while without work.
    fn rest(&mut self) {
        if self.language.is_some() && clock::mono().since(self.used) >= self.options.idle_unload {
            lock(&self.standing).is_free = false;
            self.language = None;
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
        lock(&self.standing).is_free = false;
        let mut answer = Answer::new(errand);
        let told = language.tell(&errand.telling, self.options.patience, |piece| answer.take(piece));
        if !language.is_gone() {
            self.language = Some(language);
        }
        self.used = clock::mono();
        let outcome = told.and_then(|told| match answer.lateness(self.options.digest_budget) {
            None => {
                answer.finish(told);
                Ok(())
            }
            Some(why) => Err(Refused::new(&self.options.worker.name, Stage::Speed, why)),
        });
        lock(&self.standing).is_free = self.language.is_some();
        match outcome {
            Ok(()) => {
                lock(&self.standing).health.succeeded();
                self.show(State::Serving);
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
        let now = clock::mono();
        if let Err(refused) = lock(&self.standing).may_try(now) {
            return Err(refused.unwrap_or_else(|| {
                Refused::new(&self.options.worker.name, Stage::Worker, "it has failed too often")
            }));
        }
        if let Err(refused) = self.options.memory_bytes_max() {
            // The device can't do anything for that.
            lock(&self.standing).is_short_until = Some(now + RETRY);
            self.tell_of(&refused, false);
            return Err(refused);
        }
        self.used = now;
        match begin(&self.options) {
            Ok((language, tried)) => {
                self.language = Some(language);
                lock(&self.standing).is_free = true;
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

    fn failed(&self, refused: &Refused) {
        let quarantined = lock(&self.standing).health.failed(clock::mono());
        self.tell_of(refused, quarantined);
    }

    fn tell_of(&self, refused: &Refused, quarantined: bool) {
        lock(&self.standing).refused = Some(refused.clone());
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

impl TellerOptions {
    /// What its process may take of memory now. Errors: too little for any model.
    fn memory_bytes_max(&self) -> Result<u64, Refused> {
        let Vendor::Language { memory_bytes_max, .. } = self.worker.vendor else { return Ok(u64::MAX) };
        let free = memory::available_bytes("/".as_ref()).unwrap_or(u64::MAX);
        let most = memory_bytes_max.min(free.saturating_sub(limits::GLM_MEMORY_SPARE_BYTES));
        if most >= limits::LANGUAGE_MEMORY_BYTES_MIN {
            return Ok(most);
        }
        let (mib, least) = (most >> 20, limits::LANGUAGE_MEMORY_BYTES_MIN >> 20);
        let why = format!(
            "of glm.memory_max and of what the machine has free there are {mib} MiB for it; the process of a language model needs {least}"
        );
        Err(Refused::new(&self.worker.name, Stage::Load, why))
    }
}

/// Begins the runtime and tries it with a few words. Blocks for as long as that takes. Errors: with the stage and the reason.
pub fn begin(options: &TellerOptions) -> Result<(Language, Tried), Refused> {
    let mut worker = options.worker.clone();
    let most = options.memory_bytes_max()?;
    if let Vendor::Language { memory_bytes_max, .. } = &mut worker.vendor {
        *memory_bytes_max = most;
    }
    let begun = clock::mono();
    let mut language = Language::begin(&worker)?;
    let load = clock::mono().since(begun);
    let first_words = few_words(&mut language, options).map_err(|(stage, why)| {
        Refused::new(&worker.name, stage, format_args!("{}: {why}", options.model))
    })?;
    let tried = Tried { placement: language.placement(), load, first_words };
    Ok((language, tried))
}

/// Asks for a few words and gives the time that they take.
fn few_words(language: &mut Language, options: &TellerOptions) -> Result<Duration, (Stage, String)> {
    let begun = clock::mono();
    let talk = Talk::new(vec![Message::new(Role::User, TRIED_WITH)], TRIED_TOKENS);
    let budget = options.digest_budget;
    let patience = Patience { first: options.patience.first.min(budget), ..options.patience };
    let (mut decoder, mut words, mut pieces) = (Decoder::default(), String::new(), 0);
    let told = language.tell(&telling(&talk), patience, |piece| {
        words.push_str(decoder.push(piece));
        pieces += 1;
        pieces < TRIED_TOKENS && clock::mono().since(begun) <= budget
    });
    let told = told.map_err(|refused| (refused.stage, refused.reason))?;
    if let Some(why) = told.refused {
        return Err((Stage::Golden, format!("asked for a few words, it refuses: {why}")));
    }
    let took = clock::mono().since(begun);
    // What is cut off may end within a character.
    if words.trim().is_empty() || words.contains(char::REPLACEMENT_CHARACTER) {
        return Err((
            Stage::Golden,
            format!("asked for a few words, it wrote {words:?}; convert the model anew"),
        ));
    }
    if took > budget {
        return Err((
            Stage::Speed,
            format!("a few words took {took:?}, and glm.digest_budget is {budget:?}"),
        ));
    }
    Ok(took)
}

const TRIED_WITH: &str = "Say in a few words what a pump does.";
const TRIED_TOKENS: usize = 16;
const RETRY: Duration = Duration::from_secs(limits::GLM_RETRY_S);
