//! Readings from the sources through the assembler into the spool.

use std::rc::Rc;
use std::time::Duration;

use smol::channel::{Receiver, Sender};
use smol::future::FutureExt as _;

use super::assemble::Source;
use super::clocks::{SourceClock, StepWatch};
use super::status::SourceBrief;
use super::{AgentError, Shared};
use crate::clock;
use crate::episode::Phase;
use crate::limits;
use crate::observe::{self, agent as events};
use crate::sensor::{self, Batch, SourceHandle, Stop};
use crate::time::{Mono, humane};
use crate::wire::{Lane, Notice, Record};

/// Opens every source and starts its thread.
pub(super) fn start(
    shared: &Shared,
    out: &Sender<Batch>,
    stop: &Stop,
) -> Result<Vec<SourceHandle>, AgentError> {
    let sources = &shared.options.sources;
    if sources.len() > limits::SOURCE_CLOCKS_MAX {
        return Err(AgentError::TooManySources { sources: sources.len() });
    }
    let mut handles: Vec<SourceHandle> = Vec::with_capacity(sources.len());
    for (name, options) in sources {
        if handles.iter().any(|known| known.name() == name) {
            return Err(AgentError::SourceTwice { name: name.clone() });
        }
        let handle = sensor::spawn(name, options.clone(), out.clone(), stop.clone())
            .map_err(|error| AgentError::Source { name: name.clone(), error })?;
        let state = handle.address().map_or("running".into(), |addr| format!("running on {addr}"));
        shared.sources.borrow_mut().push(SourceBrief { name: name.clone(), state });
        handles.push(handle);
    }
    Ok(handles)
}

/// Judges what comes until every source has ended, then ends all windows and episodes.
pub(super) async fn run(
    shared: Rc<Shared>,
    inbox: Receiver<Batch>,
    sources: Vec<SourceHandle>,
) -> Result<(), AgentError> {
    let mut intake = Intake {
        clocks: shared.options.sources.iter().map(SourceClock::new).collect(),
        steps: StepWatch::new(&clock::stamp()),
        shared: shared.clone(),
    };
    let mut next_tick = clock::mono() + TICK;
    loop {
        let mut out = Vec::new();
        let heard = async { inbox.recv().await.ok().map(Some) }.or(tick_at(next_tick)).await;
        intake.watch_clock(&mut out);
        match heard {
            Some(Some(batch)) => intake.judge(batch, &mut out),
            Some(None) => {
                next_tick = clock::mono() + TICK;
                intake.tick(&mut out);
                // What a source sent before its end is judged before its end.
                let gone: Vec<&SourceHandle> = sources.iter().filter(|s| s.is_finished()).collect();
                if inbox.is_empty() {
                    gone.into_iter().for_each(|source| intake.gone(source, &mut out));
                }
            }
            None => {
                shared.assembler.borrow_mut().flush(&mut out);
                admit(&shared, out).await?;
                // Their ends of the channel are gone, so the threads are at their end.
                sources.into_iter().for_each(SourceHandle::join);
                return Ok(());
            }
        }
        admit(&shared, out).await?;
    }
}

const TICK: Duration = Duration::from_secs(1);

async fn tick_at(at: Mono) -> Option<Option<Batch>> {
    smol::Timer::after(at.since(clock::mono())).await;
    Some(None)
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
        for reading in &batch.readings {
            clock.heard(reading.at);
            assembler.push(source, reading, out);
        }
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
                "Source {} has failed: {why}. Nothing is read from it until the agent is restarted.",
                handle.name()
            ),
            at: clock::wall(),
        }));
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

/// Hands records to the spool. Steps of episodes are numbered on the way, so that facts can cite them.
async fn admit(shared: &Shared, out: Vec<Record>) -> Result<(), AgentError> {
    let (alarms, rest): (Vec<_>, Vec<_>) = out.into_iter().partition(|record| record.lane() == Lane::Alarm);
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

/// Logs and counts a step of an episode; returns its id.
fn told_episode(shared: &Shared, record: &Record) -> Option<u64> {
    let Record::Episode(step) = record else { return None };
    if step.phase != Phase::Updated {
        observe::emit(&events::EpisodeStep { step });
        shared.news.set(shared.news.get() + 1);
    }
    Some(step.id)
}
