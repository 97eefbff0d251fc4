//! What the thread `glm` does: takes jobs by priority, lets the models run step by step, and keeps them in their bounds.
//!
//! ```text
//! digest of an outage ─────────────────────────────────────> student ──> words, or the reason why not
//! other digests ──> device's model ──> bigger model ── words fail ──^
//! conversations ──> device's model ──> bigger model ──> pieces
//! ```
//!
//! A device that runs a language model whole ([`super::teller`]) is asked first, if there is one and it is well; what it fails at
//! before it has said anything goes to the next one. The student and the bigger model take several jobs at a time and let new ones join between two steps, so nothing waits for a batch to fill. A step
//! is short; before each one the thread looks for more important jobs, and at the governor: while that says wait, only alarms
//! go on. The bigger model is loaded when it is first needed and gives its memory back after a while without work.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use super::accounts::{Load, account, refuse, say_end, told};
use super::engine::EngineOptions;
use super::generate::{Priority, Usage};
use super::governor::Governor;
use super::jobs::Jobs;
use super::memory;
use super::placing::DeviceOptions;
use super::returned::{Back, By, Returned, returning, take};
use super::speaker::{End, Form, Message, Role, Said, Speaker, Talk};
use super::student::{Bundle, Done, Model, ModelError, Task, Unworded, Writer};
use super::teller::{Teller, TellerOptions};
use super::worker::{DigestJob, GlmOptions, Job, SpeakerOptions, TalkJob};
use crate::clock;
use crate::digest::{Digest, DigestTiming, Engine, prose};
use crate::limits;
use crate::observe::glm::{GlmLoaded, GlmPaused, GlmUnavailable, GlmUnloaded, JobEnd};
use crate::observe::{emit, metrics};
use crate::time::Mono;

/// The models and what they are doing.
pub(super) struct Desk {
    options: GlmOptions,
    jobs: Jobs<Job>,
    governor: Governor,
    is_paused: bool,
    student: Result<Writer, String>,
    /// Digests that the student is wording.
    wording: Vec<DigestJob>,
    speaker: Seat,
    teller: Option<Teller>,
    /// What the bigger models are done with.
    returned: mpsc::Receiver<Returned>,
    back: Back,
    load: Load,
    /// When it was last looked how much memory is left.
    memory_looked: Mono,
}

/// The bigger model's place.
enum Seat {
    /// None is configured, or it is not loaded.
    Empty,
    /// It could not be loaded.
    Failed { at: Mono, reason: String },
    /// It is there; `used`: when it last did something.
    Taken { speaker: Box<Speaker>, used: Mono },
}

impl Desk {
    /// Loads the student; whatever fails, the template has to do it.
    pub(super) fn new(options: GlmOptions, jobs: Jobs<Job>) -> Desk {
        let teller = options.teller.clone().and_then(start_teller);
        let student = load_student(&options);
        let (back, returned) = Back::new(jobs.clone());
        let now = clock::mono();
        Desk {
            governor: Governor::new(options.governor.clone()),
            options,
            jobs,
            is_paused: false,
            student,
            wording: Vec::new(),
            speaker: Seat::Empty,
            teller,
            returned,
            back,
            load: Load::new(now),
            memory_looked: now,
        }
    }

    /// Until the queues are closed and everything that was taken is done.
    pub(super) fn run(mut self) {
        loop {
            let closed = self.jobs.is_closed();
            let (floor, worked) = self.turn(closed);
            if !worked {
                if closed && self.is_empty() {
                    return;
                }
                self.save_kept();
                self.unload_if_idle(clock::mono());
                self.jobs.wait(floor, self.patience());
            }
        }
    }

    /// Ends what is over, begins what there is room for, and lets both models take a step. Gives the least priority that may go
    /// on, and whether anything did.
    fn turn(&mut self, closed: bool) -> (Priority, bool) {
        let now = clock::mono();
        if closed {
            self.break_off();
        }
        let floor = if self.look(now) && !closed { Priority::Alarm } else { Priority::Periodic };
        if let Some(teller) = &self.teller {
            teller.set_floor(floor);
        }
        self.give_up(now);
        self.give_way(now);
        while let Some(job) = self.next(floor) {
            self.begin(job);
        }
        let stepped = self.step(floor);
        let worked = self.take_back() || stepped;
        self.tell(now);
        (floor, worked)
    }

    /// Whether only alarms may go on.
    fn look(&mut self, now: Mono) -> bool {
        let pause = self.governor.look(now);
        if pause.is_some() != self.is_paused {
            self.is_paused = pause.is_some();
            let reason = pause.as_ref().map(|pause| pause as &dyn std::fmt::Display);
            emit(&GlmPaused { reason });
        }
        self.is_paused
    }

    /// What nobody waits for any more leaves the queue and the bigger model, also while that pauses: nobody waits past his time
    /// for a machine to cool.
    fn give_up(&mut self, now: Mono) {
        if let Seat::Taken { speaker, .. } = &mut self.speaker {
            speaker.end_what_is_due();
        }
        if let Some(teller) = &mut self.teller {
            teller.end_what_is_due(now);
        }
        for job in self.jobs.take_if(|job| job.is_over(now)) {
            if let Job::Talk(job) = job {
                let late = job.talk.deadline.is_some_and(|deadline| now > deadline);
                refuse(&job, if late { End::Late } else { End::Cancelled });
            }
        }
    }

    /// The bigger model gives its memory back before the kernel takes somebody's: its cache fills while it works, and who grows
    /// beside it has not asked. It is loaded again when it is needed and fits.
    fn give_way(&mut self, now: Mono) {
        let is_loaded = matches!(self.speaker, Seat::Taken { .. });
        if !is_loaded || now.since(self.memory_looked) < MEMORY_LOOK_EVERY {
            return;
        }
        self.memory_looked = now;
        let free = memory::available_bytes(&self.options.governor.root);
        let Some(free) = free.filter(|free| *free < limits::GLM_MEMORY_SPARE_BYTES) else { return };
        let reason = format!(
            "the machine has {} MiB of memory left, and the model gives way; configure a shorter context, a smaller batch_max or \
             an int8 cache, or take a smaller model",
            free >> 20
        );
        self.dismiss(now, reason);
    }

    /// Sends the bigger model away: its conversations end, its digests go to the student, and it is not loaded again at once.
    fn dismiss(&mut self, now: Mono, reason: String) {
        if let Seat::Taken { speaker, .. } = &mut self.speaker {
            speaker.end_all(&reason);
        }
        self.unload(&reason);
        self.speaker = Seat::Failed { at: now, reason };
    }

    /// The next job, while there is room for it; alarms always have room.
    fn next(&self, floor: Priority) -> Option<Job> {
        let slots = self.options.speaker.as_ref().map_or(0, |speaker| speaker.engine.slots);
        let (running, waiting) = self.speaker.running();
        let is_full = self.wording.len() + running + waiting >= limits::STUDENT_SLOTS + slots;
        self.jobs.pop(if is_full { Priority::Alarm } else { floor })
    }

    fn begin(&mut self, job: Job) {
        match job {
            Job::Digest(job) => match job.speaker_until {
                Some(until) => self.begin_prose_somewhere(job, until),
                None => self.begin_student(job),
            },
            Job::Talk(job) => match self.device_for(&job.talk, self.options.speaker.is_none()) {
                Ok(_) => self.begin_talk_on_device(job),
                Err(why) => self.begin_talk_on_cpu(job, why),
            },
        }
    }

    /// The device's name, if it takes a talk; else why not. `is_last`: nobody else can answer.
    fn device_for(&self, talk: &Talk, is_last: bool) -> Result<By, End> {
        let teller = self.teller.as_ref().ok_or_else(|| End::Failed(NO_MODEL.into()))?;
        let taken = teller.takes(talk, is_last, clock::mono());
        if taken.is_err() {
            teller.wake();
        }
        taken.map(|()| By::Device(teller.id()))
    }

    fn begin_prose_somewhere(&mut self, job: DigestJob, until: Mono) {
        let talk = self.talk_of(&job, until);
        match self.device_for(&talk, false) {
            Ok(by) => self.begin_prose(job, &talk, by),
            Err(_) => self.begin_prose_on_cpu(job, until),
        }
    }

    fn begin_prose_on_cpu(&mut self, job: DigestJob, until: Mono) {
        if self.options.speaker.is_none() || clock::mono() >= until {
            return self.begin_student(job);
        }
        let talk = self.talk_of(&job, until);
        self.begin_prose(job, &talk, By::Cpu);
    }

    fn begin_talk_on_cpu(&mut self, job: TalkJob, why: End) {
        match self.options.speaker {
            Some(_) => self.begin_talk(job),
            None => refuse(&job, why),
        }
    }

    fn begin_student(&mut self, job: DigestJob) {
        let task = Task {
            facts: job.facts.clone(),
            lang: job.lang,
            id: job.id,
            deadline: job.deadline,
            priority: job.priority,
        };
        let begun = match &mut self.student {
            Ok(_) if clock::mono() > job.deadline => Err(Unworded::OverBudget.to_string()),
            Ok(writer) => caught(|| writer.begin(task)).and_then(|begun| begun.map_err(|e| e.to_string())),
            Err(reason) => Err(reason.clone()),
        };
        match begun {
            Ok(()) => self.wording.push(job),
            // A caller that has gone has its digest from the template already.
            Err(reason) => _ = job.reply.try_send(Err(reason)),
        }
    }

    /// What a bigger model is told so that it words a digest.
    fn talk_of(&self, job: &DigestJob, until: Mono) -> Talk {
        let brief = prose::brief(&job.facts, job.lang, None);
        let messages = vec![Message::new(Role::System, brief.system), Message::new(Role::User, brief.user)];
        Talk {
            form: Form::Guided(brief.grammar),
            deadline: Some(until),
            priority: job.priority,
            copies: true,
            ..Talk::new(messages, self.answer_tokens_max())
        }
    }

    /// Lets a bigger model word a digest; it comes back through the channel, whatever becomes of it.
    fn begin_prose(&mut self, job: DigestJob, talk: &Talk, by: By) {
        // Given back by whoever has it last: the listener, or this function if the talk is refused.
        let slot = Arc::new(Mutex::new(Some(job)));
        let listener = returning(Arc::clone(&slot), by.clone(), self.back.clone());
        let begun = match &by {
            By::Device(_) => match &mut self.teller {
                Some(teller) => teller.begin(talk, Arc::default(), listener).map_err(|e| e.to_string()),
                None => Err(NO_MODEL.into()),
            },
            By::Cpu => self.speaker().and_then(|speaker| {
                caught(|| speaker.begin(talk, None, listener))
                    .and_then(|begun| begun.map_err(|e| e.to_string()))
            }),
        };
        if let Err(reason) = begun
            && let Some(job) = take(&slot)
        {
            self.back.send(Returned::Digest { job, by, words: Err(reason), usage: Usage::default() });
        }
    }

    /// Lets the device go on with a conversation; one of which it says nothing comes back through the channel.
    fn begin_talk_on_device(&mut self, job: TalkJob) {
        let Some(teller) = &mut self.teller else { return refuse(&job, End::Failed(NO_MODEL.into())) };
        let (talk, cancel) = (job.talk.clone(), Arc::clone(&job.cancel));
        let waited = clock::mono().since(job.asked);
        let (back, kind) = (self.back.clone(), job.kind);
        let (pieces, ours) = (job.pieces.clone(), job.pieces.clone());
        let mut untold = Some(job);
        let listener = move |said: Said| {
            match (&said, untold.take()) {
                (Said::End { why: End::Failed(why), .. }, Some(job)) => {
                    back.send(Returned::Talk { job, why: why.clone() });
                    return false;
                }
                (Said::End { why, usage }, _) => account(kind, why, usage, waited),
                (Said::Text(_), _) => {}
            }
            pieces.try_send(said).is_ok()
        };
        if let Err(e) = teller.begin(&talk, cancel, Box::new(listener)) {
            say_end(kind, &ours, End::Refused(e.to_string()), waited);
        }
    }

    fn begin_talk(&mut self, job: TalkJob) {
        let speaker = match self.speaker() {
            Ok(speaker) => speaker,
            Err(reason) => return refuse(&job, End::Failed(reason)),
        };
        let TalkJob { kind, talk, pieces, cancel, asked } = job;
        let waited = clock::mono().since(asked);
        let (listener, refused) = (pieces.clone(), pieces);
        let begun = caught(|| {
            let listener = move |said: Said| {
                if let Said::End { why, usage } = &said {
                    account(kind, why, usage, waited);
                }
                listener.try_send(said).is_ok()
            };
            speaker.begin(&talk, Some(cancel), Box::new(listener))
        });
        let end = match begun {
            Ok(Ok(())) => return,
            Ok(Err(e)) => End::Refused(e.to_string()),
            Err(reason) => End::Failed(reason),
        };
        say_end(kind, &refused, end, waited);
    }

    /// One step of both models; whether there was anything to do.
    fn step(&mut self, floor: Priority) -> bool {
        let begun = clock::mono();
        let student = self.step_student(floor);
        let speaker = self.step_speaker(floor);
        if student || speaker {
            self.load.worked(clock::mono().since(begun));
        }
        student || speaker
    }

    fn step_student(&mut self, floor: Priority) -> bool {
        if !self.wording.iter().any(|job| job.priority >= floor) {
            return false;
        }
        let Ok(writer) = &mut self.student else { return false };
        let mut done: Vec<Done> = Vec::new();
        if let Err(reason) = caught(|| writer.step(floor, &mut done)) {
            self.wording.drain(..).for_each(|job| _ = job.reply.try_send(Err(reason.clone())));
            // What a panic leaves behind can't be trusted.
            self.student = load_student(&self.options);
            return true;
        }
        for (id, outcome) in done {
            if let Some(at) = self.wording.iter().position(|job| job.id == id) {
                let job = self.wording.swap_remove(at);
                let _ = job.reply.try_send(outcome.map_err(|e| e.to_string()));
            }
        }
        true
    }

    fn step_speaker(&mut self, floor: Priority) -> bool {
        let Seat::Taken { speaker, used } = &mut self.speaker else { return false };
        if !speaker.has_work(floor) {
            return false;
        }
        if let Err(cut) = speaker.check() {
            self.dismiss(clock::mono(), cut.to_string());
            return true;
        }
        let stepped = caught(|| speaker.step(floor));
        *used = clock::mono();
        if let Err(reason) = stepped {
            // Its listeners go with it: digests are worded by the template, clients learn that it has failed.
            self.unload(&reason);
        } else if let Err(cut) = speaker.check() {
            self.dismiss(clock::mono(), cut.to_string());
        }
        true
    }

    /// Digests that the bigger models are done with: checked, or handed to the next one, as are conversations. Whether there were any.
    fn take_back(&mut self) -> bool {
        let mut is_any = false;
        while let Ok(returned) = self.returned.try_recv() {
            is_any = true;
            let (job, by, words, usage) = match returned {
                Returned::Digest { job, by, words, usage } => (job, by, words, usage),
                Returned::Talk { job, why } => {
                    self.begin_talk_on_cpu(job, End::Failed(why));
                    continue;
                }
            };
            let worded = words.and_then(|words| {
                let prose = prose::read(&words, &job.facts, job.lang).map_err(|e| e.to_string())?;
                Ok(self.digest(&job, &by, prose, usage))
            });
            let (end, reason) = match &worded {
                Ok(_) => (JobEnd::Done, ""),
                Err(reason) => (JobEnd::Failed, reason.as_str()),
            };
            told("digest", end, reason, &usage, Duration::ZERO);
            match (worded, job.speaker_until) {
                (Ok(digest), _) => _ = job.reply.try_send(Ok(digest)),
                (Err(_), Some(until)) if by != By::Cpu => self.begin_prose_on_cpu(job, until),
                (Err(_), _) => self.begin_student(job),
            }
        }
        is_any
    }

    fn digest(&self, job: &DigestJob, by: &By, prose: prose::Prose, usage: Usage) -> Digest {
        let micros = |us: u64| u32::try_from(us).unwrap_or(u32::MAX);
        Digest {
            id: job.id,
            engine: Engine::Glm,
            model: match by {
                By::Device(name) => name.to_string(),
                By::Cpu => self.speaker.id().unwrap_or_default().to_owned(),
            },
            fallback_reason: String::new(),
            lang: job.lang,
            verdict: prose.verdict,
            cause: prose.cause.name().to_owned(),
            text: prose.text,
            facts: (*job.facts).clone(),
            timing: DigestTiming {
                encode_us: 0,
                prefill_us: micros(usage.queued_us.saturating_add(usage.prefill_us)),
                decode_us: micros(usage.decode_us),
                prompt_tokens: usage.prompt_tokens,
                answer_tokens: usage.answer_tokens,
            },
        }
    }

    /// The bigger model, loaded if need be.
    fn speaker(&mut self) -> Result<&mut Speaker, String> {
        let now = clock::mono();
        let must_load = match &self.speaker {
            Seat::Taken { .. } => false,
            Seat::Failed { at, reason } if now.since(*at) < RETRY => return Err(reason.clone()),
            Seat::Failed { .. } | Seat::Empty => true,
        };
        if must_load {
            let Some(options) = &self.options.speaker else { return Err(NO_MODEL.into()) };
            let engine = options.engine_within_memory(&self.options.governor.root);
            match caught(|| load_speaker(options, engine)).and_then(|loaded| loaded) {
                Ok(speaker) => self.speaker = Seat::Taken { speaker: Box::new(speaker), used: clock::mono() },
                Err(reason) => {
                    emit(&GlmUnavailable { reason: &reason });
                    self.speaker = Seat::Failed { at: now, reason };
                }
            }
        }
        match &mut self.speaker {
            Seat::Taken { speaker, used } => {
                *used = now;
                Ok(speaker)
            }
            Seat::Failed { reason, .. } => Err(reason.clone()),
            Seat::Empty => Err(NO_MODEL.into()),
        }
    }

    /// What a restart need not read again goes to disk while nobody waits.
    fn save_kept(&mut self) {
        if let Seat::Taken { speaker, .. } = &mut self.speaker
            && speaker.is_idle()
        {
            // A full disk costs the next start a while, nothing else.
            let _ = speaker.save_kept();
        }
    }

    fn unload_if_idle(&mut self, now: Mono) {
        let Some(options) = &self.options.speaker else { return };
        if let Seat::Taken { speaker, used } = &self.speaker
            && speaker.is_idle()
            && now.since(*used) >= options.idle_unload
        {
            self.unload("idle");
        }
    }

    fn unload(&mut self, reason: &str) {
        if let Seat::Taken { speaker, .. } = std::mem::replace(&mut self.speaker, Seat::Empty) {
            emit(&GlmUnloaded { model: speaker.id(), reason });
            drop(speaker);
            memory::trim();
        }
    }

    /// Conversations end, digests of the bigger model go back to the student.
    fn break_off(&mut self) {
        if let Seat::Taken { speaker, .. } = &mut self.speaker
            && !speaker.is_idle()
        {
            speaker.end_all("the agent stops");
        }
        // Its conversations end with it.
        self.teller = None;
        for job in self.jobs.take_if(|job| matches!(job, Job::Talk(_))) {
            if let Job::Talk(job) = job {
                refuse(&job, End::Failed("the agent stops".into()));
            }
        }
        self.options.speaker = None;
        self.take_back();
    }

    fn is_empty(&self) -> bool {
        self.wording.is_empty() && self.jobs.waiting() == [0; 3] && self.are_bigger_idle()
    }

    fn are_bigger_idle(&self) -> bool {
        self.speaker.is_idle() && self.teller.as_ref().is_none_or(Teller::is_idle)
    }

    fn answer_tokens_max(&self) -> usize {
        let of_teller = self.options.teller.as_ref().map(|teller| teller.answer_tokens_max);
        let of_speaker = self.options.speaker.as_ref().map(|speaker| speaker.answer_tokens_max);
        of_teller.or(of_speaker).unwrap_or(1)
    }

    fn patience(&self) -> Duration {
        let is_working = !self.wording.is_empty() || !self.are_bigger_idle();
        match self.speaker {
            // Paused: the governor is asked again.
            _ if is_working => Duration::from_millis(limits::GOVERNOR_LOOK_MS / 4),
            Seat::Taken { .. } => Duration::from_secs(1),
            _ if self.load.is_noticeable() || self.is_paused => Duration::from_secs(1),
            _ => Duration::from_secs(60),
        }
    }

    fn tell(&mut self, now: Mono) {
        let waiting = self.jobs.waiting();
        metrics::GLM_WAITING_PERIODIC.set(waiting[Priority::Periodic as usize] as u64);
        metrics::GLM_WAITING_ASK.set(waiting[Priority::Ask as usize] as u64);
        metrics::GLM_WAITING_ALARM.set(waiting[Priority::Alarm as usize] as u64);
        let told = self.teller.as_ref().map_or(0, Teller::running);
        metrics::GLM_RUNNING.set((self.wording.len() + self.speaker.running().0 + told) as u64);
        if let Some(percent) = self.load.percent(now) {
            metrics::GLM_BUSY_PERCENT.set(percent);
        }
    }
}

impl Seat {
    fn id(&self) -> Option<&str> {
        match self {
            Seat::Taken { speaker, .. } => Some(speaker.id()),
            _ => None,
        }
    }

    /// Answers that have a place in the cache, and those that wait for one.
    fn running(&self) -> (usize, usize) {
        match self {
            Seat::Taken { speaker, .. } => speaker.running(),
            _ => (0, 0),
        }
    }

    fn is_idle(&self) -> bool {
        match self {
            Seat::Taken { speaker, .. } => speaker.is_idle(),
            _ => true,
        }
    }
}

fn load_student(options: &GlmOptions) -> Result<Writer, String> {
    let started = clock::mono();
    let model = caught(|| {
        let bundle = match &options.dir {
            Some(dir) => Bundle::from_dir(dir),
            None => Bundle::embedded(),
        };
        let device = options.device.as_ref().map(DeviceOptions::worker);
        Model::load_on(bundle.map_err(ModelError::from)?, device)
    });
    let model = model.and_then(|model| model.map_err(|e| e.to_string()));
    match &model {
        Ok(model) => {
            emit(&GlmLoaded { model: model.id(), load_ms: millis_since(started), memory_bytes: 0 });
            for placed in model.placed() {
                placed.tell(options.device.as_ref().map_or("", |device| &device.name));
            }
        }
        Err(reason) => emit(&GlmUnavailable { reason }),
    }
    model.map(Writer::new)
}

fn start_teller(options: TellerOptions) -> Option<Teller> {
    let started = Teller::start(options).map_err(|e| {
        let reason = format!("the device's thread can't start: {e}; raise the process limit");
        emit(&GlmUnavailable { reason: &reason });
    });
    started.ok()
}

fn load_speaker(options: &SpeakerOptions, engine: EngineOptions) -> Result<Speaker, String> {
    let started = clock::mono();
    let mut speaker = Speaker::open(&options.dir, engine).map_err(|e| e.to_string())?;
    // An instruction that can't be kept is read with every digest: slower, not wrong.
    let _ = speaker.keep(prose::system(options.lang), options.prefix_file.as_deref());
    let memory_bytes = speaker.memory().total();
    emit(&GlmLoaded { model: speaker.id(), load_ms: millis_since(started), memory_bytes });
    Ok(speaker)
}

fn millis_since(started: Mono) -> u64 {
    u64::try_from(clock::mono().since(started).as_millis()).unwrap_or(u64::MAX)
}

/// A panic inside an engine costs a few answers, not the agent its life.
fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|_| PANICKED.to_owned())
}

const PANICKED: &str = "the engine panicked";
const NO_MODEL: &str = "there is no such model";
const RETRY: Duration = Duration::from_secs(limits::GLM_RETRY_S);
const MEMORY_LOOK_EVERY: Duration = Duration::from_millis(limits::GLM_MEMORY_LOOK_MS);

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
