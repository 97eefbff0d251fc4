//! Readings from the sources through the assembler into the spool.

use std::rc::Rc;
use std::time::Duration;

use smol::channel::Receiver;
use smol::future::FutureExt as _;

use super::assemble::Source;
use super::clocks::{SourceClock, StepWatch};
use super::sources::{Order, Sources};
use super::status::SourceBrief;
use super::{AgentError, Shared};
use crate::clock;
use crate::episode::Phase;
use crate::infer::Judgement;
use crate::limits;
use crate::observe::{self, agent as events};
use crate::reading::Reading;
use crate::sensor::{Batch, SourceHandle, SourceOptions, Stop};
use crate::time::{Mono, humane};
use crate::wire::{Lane, Notice, Record};

/// What comes to the intake.
enum Heard {
    Batch(Batch),
    Judgement(Judgement),
    Order(Order),
    Tick,
    /// The seat ends.
    Stop,
    /// Every source has ended after the stop.
    Over,
}

/// Judges what comes until the seat ends and every source has ended, then ends all windows and episodes.
pub(super) async fn run(
    shared: Rc<Shared>,
    inbox: Receiver<Batch>,
    sources: Sources,
    orders: Receiver<Order>,
    stop: Stop,
) -> Result<(), AgentError> {
    let mut intake = Intake {
        clocks: shared.options.sources.iter().map(SourceClock::new).collect(),
        steps: StepWatch::new(&clock::stamp()),
        shared: shared.clone(),
    };
    let (mut sources, mut ending) = (Some(sources), Vec::new());
    let mut next_tick = clock::mono() + TICK;
    loop {
        let mut out = Vec::new();
        let listened = async {
            match sources {
                Some(_) => asked(&orders, &stop).await,
                None => smol::future::pending().await,
            }
        };
        let arrived = async { inbox.recv().await.map_or(Heard::Over, Heard::Batch) };
        let heard = listened.or(judgement(&shared)).or(arrived).or(tick_at(next_tick)).await;
        intake.watch_clock(&mut out);
        let mut receipt = None;
        match heard {
            Heard::Batch(mut batch) => {
                receipt = batch.receipt.take();
                intake.judge(batch, &mut out);
            }
            Heard::Judgement(judgement) => shared.assembler.borrow_mut().judged(&judgement, &mut out),
            Heard::Order(order) => intake.obey(order, sources.as_mut(), &mut out),
            Heard::Tick => {
                intake.tick(&mut out);
                // What a source sent before its end is judged before its end.
                if let Some(sources) = sources.as_mut().filter(|_| inbox.is_empty()) {
                    sources.gone().for_each(|source| intake.gone(source, &mut out));
                    intake.change(sources, &mut out);
                }
                let soon = sources.as_ref().is_some_and(Sources::is_changing);
                next_tick = clock::mono() + if soon { SOON } else { TICK };
            }
            Heard::Stop => ending = sources.take().map(Sources::stop).unwrap_or_default(),
            Heard::Over => {
                shared.assembler.borrow_mut().flush(&mut out);
                admit(&shared, out).await?;
                // Their ends of the channel are gone, so the threads are at their end.
                ending.into_iter().for_each(SourceHandle::join);
                return Ok(());
            }
        }
        admit(&shared, out).await?;
        if sources.as_ref().is_some_and(Sources::is_changing) {
            next_tick = next_tick.min(clock::mono() + SOON);
        }
        if let Some(receipt) = receipt {
            shared.store.tell_when_durable(receipt).await?;
        }
    }
}

/// Between two looks at sources that are to end or to begin.
const SOON: Duration = Duration::from_millis(20);

async fn asked(orders: &Receiver<Order>, stop: &Stop) -> Heard {
    let stopped = async {
        stop.requested().await;
        Heard::Stop
    };
    let ordered = async {
        match orders.recv().await {
            Ok(order) => Heard::Order(order),
            // Nobody is left who could give any.
            Err(_) => smol::future::pending().await,
        }
    };
    stopped.or(ordered).await
}

const TICK: Duration = Duration::from_secs(1);

async fn tick_at(at: Mono) -> Heard {
    smol::Timer::after(at.since(clock::mono())).await;
    Heard::Tick
}

/// The next word of a small model; never, where there is none any more.
async fn judgement(shared: &Shared) -> Heard {
    match shared.infer.next().await {
        Some(judgement) => Heard::Judgement(judgement),
        None => smol::future::pending().await,
    }
}

fn source_id(index: usize) -> Source {
    Source(u8::try_from(index).unwrap_or(u8::MAX))
}

/// What turns batches and the passing of time into records.
struct Intake {
    shared: Rc<Shared>,
    clocks: Vec<SourceClock>,
    steps: StepWatch,
}

impl Intake {
    fn judge(&mut self, batch: Batch, out: &mut Vec<Record>) {
        let Some(index) = self.clocks.iter().position(|c| *c.name == *batch.source) else { return };
        let (source, clock) = (source_id(index), &mut self.clocks[index]);
        let mut assembler = self.shared.assembler.borrow_mut();
        for info in batch.infos {
            assembler.describe(source, info);
        }
        out.extend(batch.notices.into_iter().map(Record::Notice));
        for reading in &batch.readings {
            clock.heard(reading.at);
            assembler.push(source, reading, out);
        }
        batch.ended.iter().for_each(|channel| assembler.retire(channel, out));
        assembler.take_frames().into_iter().for_each(|job| self.shared.infer.offer(job));
        if let (true, false, Some(now)) = (clock.recorded, batch.readings.is_empty(), clock.now()) {
            assembler.tick(source, now, out);
        }
        if batch.end {
            clock.ended = true;
            assembler.end(source, out);
            self.shared.set_source_state(&batch.source, "ended");
        }
    }

    fn tick(&mut self, out: &mut Vec<Record>) {
        let mut assembler = self.shared.assembler.borrow_mut();
        for (index, clock) in self.clocks.iter().enumerate() {
            if let Some(now) = clock.now() {
                assembler.tick(source_id(index), now, out);
            }
        }
    }

    /// A source's thread is at its end: unless it said so itself, something failed.
    fn gone(&mut self, handle: &SourceHandle, out: &mut Vec<Record>) {
        let found = self.clocks.iter_mut().enumerate().find(|(_, c)| c.name == handle.name() && !c.ended);
        let Some((index, clock)) = found else { return };
        clock.ended = true;
        self.shared.assembler.borrow_mut().end(source_id(index), out);
        let why = handle.failure().unwrap_or("its thread ended unexpectedly; see the log");
        self.shared.set_source_state(handle.name(), &format!("failed: {why}"));
        out.push(Record::Notice(Notice {
            code: "source_failed".into(),
            text: format!(
                "Source {} has failed: {why}. Nothing is read from it until the agent is restarted or told to reload.",
                handle.name()
            ),
            at: clock::wall(),
        }));
    }

    /// Another configuration: channels change at once, sources as soon as they can.
    fn obey(&mut self, order: Order, sources: Option<&mut Sources>, out: &mut Vec<Record>) {
        let (code, text) = match (order, sources) {
            (Order::Apply(reload), Some(sources)) => {
                self.shared.assembler.borrow_mut().reconfigure(reload.channels, reload.raw);
                let change = sources.change(reload.sources);
                observe::emit(&events::ConfigurationApplied {
                    kept: change.kept,
                    stopped: change.stopped,
                    started: change.started,
                    restart: &reload.restart.join(" "),
                });
                let rest = match reload.restart.as_slice() {
                    [] => String::new(),
                    some => format!(" A restart is needed for {}.", some.join(", ")),
                };
                let text = format!(
                    "Another configuration applies: {} sources go on untouched, {} end, {} begin.{rest}",
                    change.kept, change.stopped, change.started
                );
                ("configuration_applied", text)
            }
            (Order::Refuse(problems), _) => {
                observe::emit(&events::ConfigurationRefused { problems: &problems });
                let text = format!("Another configuration cannot be used, the old one stays: {problems}");
                ("configuration_refused", text)
            }
            (Order::Apply(_), None) => return,
        };
        out.push(Record::Notice(Notice { code: code.into(), text, at: clock::wall() }));
    }

    /// Takes leave of sources that have ended as they were asked to, and welcomes those that can begin.
    fn change(&mut self, sources: &mut Sources, out: &mut Vec<Record>) {
        for name in sources.ended() {
            if let Some(index) = self.clocks.iter().position(|clock| clock.name == name) {
                self.clocks[index].ended = true;
                self.shared.assembler.borrow_mut().end(source_id(index), out);
            }
            self.shared.forget_source(&name);
        }
        let shared = self.shared.clone();
        for (source, begun) in sources.begin(&shared) {
            let error = match begun {
                Ok(()) if self.seat(&source) => continue,
                Ok(()) => "there are too many sources".to_owned(),
                Err(error) => error.to_string(),
            };
            observe::emit(&events::SourceNotStarted { source: &source.0, error: &error });
            shared.set_source(SourceBrief { name: source.0.clone(), state: format!("failed: {error}") });
            out.push(Record::Notice(Notice {
                code: "source_failed".into(),
                text: format!("Source {} cannot be started: {error}", source.0),
                at: clock::wall(),
            }));
        }
    }

    /// Gives a source that begins the place of an earlier one of its name, or of one that has ended, or a new one.
    fn seat(&mut self, source: &(String, SourceOptions)) -> bool {
        let own = self.clocks.iter().position(|clock| clock.name == source.0);
        let free = own.or_else(|| self.clocks.iter().position(|clock| clock.ended));
        match free {
            Some(index) => self.clocks[index] = SourceClock::new(source),
            None if self.clocks.len() < limits::SOURCE_CLOCKS_MAX => {
                self.clocks.push(SourceClock::new(source))
            }
            None => return false,
        }
        true
    }

    /// Live sources are measured by the wall clock: a step of it is no silence of theirs.
    fn watch_clock(&mut self, out: &mut Vec<Record>) {
        let now = clock::stamp();
        let Some(step_us) = self.steps.look(&now) else { return };
        observe::emit(&events::ClockStepped { step_ms: step_us / 1000 });
        let mut assembler = self.shared.assembler.borrow_mut();
        for (index, _) in self.clocks.iter().enumerate().filter(|(_, clock)| !clock.recorded) {
            assembler.clock_set(source_id(index), step_us);
        }
        let direction = if step_us < 0 { "back" } else { "forward" };
        let by = humane(Duration::from_micros(step_us.unsigned_abs()));
        out.push(Record::Notice(Notice {
            code: "clock_stepped".into(),
            text: format!(
                "The clock of this device was set {direction} by {by}; times before are off by as much. If this \
                 repeats, check its time source."
            ),
            at: now.wall,
        }));
    }
}

/// Hands records to the spool. Steps of episodes are numbered on the way, so that facts can cite them, and readings where an
/// episode is under way, so that its steps can.
async fn admit(shared: &Shared, out: Vec<Record>) -> Result<(), AgentError> {
    let (mut alarms, mut rest): (Vec<_>, Vec<_>) =
        out.into_iter().partition(|record| record.lane() == Lane::Alarm);
    if shared.assembler.borrow().wants_numbers() {
        number(shared, std::mem::take(&mut rest)).await?;
        let mut assembler = shared.assembler.borrow_mut();
        for alarm in &mut alarms {
            if let Record::Episode(step) = alarm {
                assembler.prove(step);
            }
        }
    }
    if !alarms.is_empty() {
        let ids: Vec<Option<u64>> = alarms.iter().map(|record| told_episode(shared, record)).collect();
        let numbered = shared.store.admit_numbered(alarms).await?;
        let numbers = numbered.iter().flat_map(|c| (c.first..=c.last).map(|n| (c.lane, n)));
        let (mut assembler, at) = (shared.assembler.borrow_mut(), clock::mono());
        for (id, (lane, n)) in ids.into_iter().zip(numbers) {
            if let Some(id) = id {
                assembler.cite(id, crate::facts::Citation { lane, first: n, last: n }, at);
            }
        }
    }
    if !rest.is_empty() {
        shared.store.admit(rest).await?;
    }
    Ok(())
}

/// Hands records to the spool and tells the assembler the numbers of the readings among them.
async fn number(shared: &Shared, records: Vec<Record>) -> Result<(), AgentError> {
    let reading = |record: &Record| if let Record::Reading(r) = record { Some(r.clone()) } else { None };
    let readings: Vec<Reading> = records.iter().filter_map(reading).collect();
    if readings.is_empty() {
        return if records.is_empty() { Ok(()) } else { Ok(shared.store.admit(records).await?) };
    }
    let given = shared.store.admit_numbered(records).await?;
    let numbers = given.iter().filter(|c| c.lane == Lane::Raw).flat_map(|c| c.first..=c.last);
    let mut assembler = shared.assembler.borrow_mut();
    readings.iter().zip(numbers).for_each(|(reading, number)| assembler.numbered(reading, number));
    Ok(())
}

/// Logs and counts a step of an episode; returns its id.
fn told_episode(shared: &Shared, record: &Record) -> Option<u64> {
    let Record::Episode(step) = record else { return None };
    if step.phase != Phase::Updated {
        observe::emit(&events::EpisodeStep { step });
        shared.news.set(shared.news.get() + 1);
    }
    Some(step.id)
}
