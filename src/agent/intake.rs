//! Readings from the sources through the assembler into the spool.
//!
//! A source may want to know when what it gave is durable. Where single readings are kept that is with the next commit; else
//! when the windows that they went into have ended, and those of a source that is to end are ended for it.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use smol::channel::Receiver;
use smol::future::FutureExt as _;

use super::assemble::Source;
use super::clocks::{SourceClock, StepWatch};
use super::sources::{Order, Sources, Trouble, Wanted};
use super::status::SourceBrief;
use super::{AgentError, Shared};
use crate::clock;
use crate::episode::Phase;
use crate::infer::Judgement;
use crate::limits;
use crate::observe::{self, agent as events};
use crate::reading::Reading;
use crate::sensor::{Batch, Receipt, Stop};
use crate::time::{Mono, Wall, humane};
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

/// Starts the sources. What is returned judges what comes until the seat ends and every source has ended, then ends all
/// windows and episodes.
///
/// Errors: too many sources, or two of one name; one that can't be opened is told of and tried again.
pub(super) fn start(
    shared: Rc<Shared>,
    orders: Receiver<Order>,
    stop: Stop,
) -> Result<impl Future<Output = Result<(), AgentError>>, AgentError> {
    let mut intake = Intake {
        clocks: Vec::new(),
        steps: StepWatch::new(&clock::stamp()),
        sources: Sources::new(&shared.options.sources)?,
        owed: Vec::new(),
        shared,
    };
    let mut out = Vec::new();
    intake.begin(&mut out);
    Ok(run(intake, out, orders, stop))
}

async fn run(
    mut intake: Intake,
    begun: Vec<Record>,
    orders: Receiver<Order>,
    stop: Stop,
) -> Result<(), AgentError> {
    let shared = intake.shared.clone();
    admit(&shared, begun).await?;
    let mut next_tick = clock::mono() + TICK;
    loop {
        let mut out = Vec::new();
        let is_ending = intake.sources.is_ending();
        let asked =
            async { if is_ending { smol::future::pending().await } else { asked(&orders, &stop).await } };
        let arrived = async { intake.sources.next().await.map_or(Heard::Over, Heard::Batch) };
        // A source that always has more must not keep time from passing.
        let heard = asked.or(judgement(&shared)).or(tick_at(next_tick)).or(arrived).await;
        let may_settle = !matches!(&heard, Heard::Batch(batch) if batch.receipt.is_none());
        intake.watch_clock(&mut out);
        match heard {
            Heard::Batch(batch) => intake.judge(batch, &mut out),
            Heard::Judgement(judgement) => shared.assembler.borrow_mut().judged(&judgement, &mut out),
            Heard::Order(order) => intake.obey(order, &mut out),
            Heard::Tick => {
                intake.tick(&mut out);
                next_tick = clock::mono() + TICK;
            }
            Heard::Stop => intake.sources.stop(),
            Heard::Over => {
                shared.assembler.borrow_mut().flush(&mut out);
                admit(&shared, out).await?;
                intake.sources.join();
                return Ok(());
            }
        }
        if may_settle {
            intake.settle(&mut out);
        }
        admit(&shared, out).await?;
        if may_settle {
            intake.answer().await?;
        }
        if intake.sources.is_changing() {
            next_tick = next_tick.min(clock::mono() + SOON);
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
    sources: Sources,
    clocks: Vec<SourceClock>,
    steps: StepWatch,
    owed: Vec<Owed>,
}

/// A source waits to hear that what it gave is durable.
struct Owed {
    source: Source,
    /// Time of the newest reading that it is about.
    at: Wall,
    receipt: Receipt,
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
        if let Some(receipt) = batch.receipt {
            let at = batch.readings.iter().map(|reading| reading.at).max().unwrap_or(Wall(i64::MIN));
            self.owed.push(Owed { source, at, receipt });
        }
        if batch.end {
            clock.ended = true;
            assembler.end(source, out);
            self.shared.set_source_state(&batch.source, "ended");
        }
    }

    fn tick(&mut self, out: &mut Vec<Record>) {
        {
            let mut assembler = self.shared.assembler.borrow_mut();
            for (index, clock) in self.clocks.iter().enumerate() {
                if let Some(now) = clock.now() {
                    assembler.tick(source_id(index), now, out);
                }
            }
        }
        if self.sources.is_ending() {
            return;
        }
        for trouble in self.sources.failed() {
            self.end(&trouble.name, out);
            self.tell(trouble, out);
        }
        for name in self.sources.ended() {
            self.end(&name, out);
            self.shared.forget_source(&name);
        }
        self.begin(out);
    }

    /// Nothing more comes from the source of that name.
    fn end(&mut self, name: &str, out: &mut Vec<Record>) {
        if let Some(index) = self.clocks.iter().position(|clock| clock.name == name) {
            self.clocks[index].ended = true;
            self.shared.assembler.borrow_mut().end(source_id(index), out);
        }
    }

    /// Welcomes the sources that can begin.
    fn begin(&mut self, out: &mut Vec<Record>) {
        for wanted in self.sources.due() {
            let opened = if self.seat(&wanted) {
                self.sources.open(wanted)
            } else {
                Err(self.sources.put_off(wanted, "there are too many sources".into()))
            };
            match opened {
                Ok(brief) => self.shared.set_source(brief),
                Err(trouble) => {
                    // It has its place and gives nothing: its channels are not missed.
                    self.end(&trouble.name, out);
                    self.tell(trouble, out);
                }
            }
        }
    }

    /// A source does not run, and is tried again.
    fn tell(&self, trouble: Trouble, out: &mut Vec<Record>) {
        let Trouble { name, why, is_news } = trouble;
        self.shared.set_source(SourceBrief { name: name.clone(), state: format!("failed: {why}") });
        if is_news {
            observe::emit(&events::SourceNotRunning { source: &name, error: &why });
            out.push(Record::Notice(Notice {
                code: "source_failed".into(),
                text: format!("Source {name} does not run: {why}. It is tried again and again."),
                at: clock::wall(),
            }));
        }
    }

    /// Another configuration: channels change at once, sources as soon as they can.
    fn obey(&mut self, order: Order, out: &mut Vec<Record>) {
        let (code, text) = match order {
            Order::Apply(reload) => {
                self.shared.assembler.borrow_mut().reconfigure(reload.channels, reload.raw);
                let change = self.sources.change(reload.sources);
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
            Order::Refuse(problems) => {
                observe::emit(&events::ConfigurationRefused { problems: &problems });
                let text = format!("Another configuration cannot be used, the old one stays: {problems}");
                ("configuration_refused", text)
            }
        };
        out.push(Record::Notice(Notice { code: code.into(), text, at: clock::wall() }));
    }

    /// Gives a source that begins the place of an earlier one of its name, or of one that has ended, or a new one.
    fn seat(&mut self, source: &Wanted) -> bool {
        let own = self.clocks.iter().position(|clock| clock.name == source.name);
        let free = own.or_else(|| self.clocks.iter().position(|clock| clock.ended));
        let clock = SourceClock::new(&source.name, &source.options);
        let index = free.unwrap_or(self.clocks.len());
        if index == limits::SOURCE_CLOCKS_MAX {
            return false;
        }
        self.shared.assembler.borrow_mut().set_live(source_id(index), !clock.recorded);
        match self.clocks.get_mut(index) {
            Some(place) => *place = clock,
            None => self.clocks.push(clock),
        }
        true
    }

    /// Ends the windows of sources that are to end and wait for what they gave.
    fn settle(&mut self, out: &mut Vec<Record>) {
        let is_leaving = |source: &Source| {
            self.clocks.get(usize::from(source.0)).is_some_and(|c| self.sources.is_leaving(&c.name))
        };
        let leaving: BTreeSet<Source> = self.owed.iter().map(|owed| owed.source).filter(is_leaving).collect();
        let mut assembler = self.shared.assembler.borrow_mut();
        leaving.into_iter().for_each(|source| assembler.settle(source, out));
    }

    /// Has those answered by the store whose readings are with it by now.
    async fn answer(&mut self) -> Result<(), AgentError> {
        // Who no longer waits has others that stand in.
        self.owed.retain(|owed| !owed.receipt.is_closed());
        let due: Vec<Owed> = {
            let assembler = self.shared.assembler.borrow();
            self.owed.extract_if(.., |owed| !assembler.holds(owed.source, owed.at)).collect()
        };
        for owed in due {
            self.shared.store.tell_when_durable(owed.receipt).await?;
        }
        Ok(())
    }

    /// Live sources are measured by the wall clock: a step of it is no silence of theirs.
    fn watch_clock(&mut self, out: &mut Vec<Record>) {
        let now = clock::stamp();
        let Some(step_us) = self.steps.look(&now) else { return };
        observe::emit(&events::ClockStepped { step_ms: step_us / 1000 });
        let mut assembler = self.shared.assembler.borrow_mut();
        for (index, _) in self.clocks.iter().enumerate().filter(|(_, clock)| !clock.recorded) {
            let source = source_id(index);
            assembler.clock_set(source, step_us);
            // Times of before say nothing any more of what is told and what is not: it is told now.
            let mut owed = self.owed.iter_mut().filter(|owed| owed.source == source).peekable();
            if owed.peek().is_some() {
                assembler.settle(source, out);
            }
            owed.for_each(|owed| owed.at = Wall(i64::MIN));
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
