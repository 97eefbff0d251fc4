//! Readings from the sources through the assembler into the spool.

use std::rc::Rc;
use std::time::Duration;

use smol::channel::{Receiver, Sender};
use smol::future::FutureExt as _;

use super::assemble::Source;
use super::status::SourceBrief;
use super::{AgentError, Shared};
use crate::clock;
use crate::episode::Phase;
use crate::observe::{self, agent as events};
use crate::sensor::{self, Batch, SourceHandle, SourceOptions, Stop};
use crate::time::Wall;
use crate::wire::{Lane, Record};

/// Opens every source and starts its thread.
pub(super) fn start(
    shared: &Shared,
    out: &Sender<Batch>,
    stop: &Stop,
) -> Result<Vec<SourceHandle>, AgentError> {
    let mut handles = Vec::with_capacity(shared.options.sources.len());
    for (name, options) in &shared.options.sources {
        let handle = sensor::spawn(name, options.clone(), out.clone(), stop.clone())
            .map_err(|error| AgentError::Source { name: name.clone(), error })?;
        let state = handle.address().map_or("running".into(), |addr| format!("running on {addr}"));
        shared.sources.borrow_mut().push(SourceBrief { name: name.clone(), state });
        handles.push(handle);
    }
    Ok(handles)
}

/// Judges what comes until every source has ended, then ends all windows and episodes.
pub(super) async fn run(shared: Rc<Shared>, inbox: Receiver<Batch>) -> Result<(), AgentError> {
    let mut clocks: Vec<SourceClock> = shared.options.sources.iter().map(SourceClock::new).collect();
    let mut next_tick = clock::mono() + TICK;
    loop {
        let mut out = Vec::new();
        let heard = async { inbox.recv().await.ok().map(Some) }.or(tick_at(next_tick)).await;
        match heard {
            Some(Some(batch)) => judge(&shared, &mut clocks, batch, &mut out),
            Some(None) => {
                next_tick = clock::mono() + TICK;
                let mut assembler = shared.assembler.borrow_mut();
                for (index, source) in clocks.iter().enumerate() {
                    if let Some(now) = source.now() {
                        assembler.tick(source_id(index), now, &mut out);
                    }
                }
            }
            None => {
                shared.assembler.borrow_mut().flush(&mut out);
                return admit(&shared, out).await;
            }
        }
        admit(&shared, out).await?;
    }
}

const TICK: Duration = Duration::from_secs(1);

async fn tick_at(at: crate::time::Mono) -> Option<Option<Batch>> {
    smol::Timer::after(at.since(clock::mono())).await;
    Some(None)
}

/// Whose time a source lives in.
struct SourceClock {
    name: String,
    /// A recording has the time of its newest row; everything else has ours.
    recorded: bool,
    newest: Option<Wall>,
    ended: bool,
}

impl SourceClock {
    fn new((name, options): &(String, SourceOptions)) -> Self {
        let recorded = matches!(options, SourceOptions::Replay(_));
        Self { name: name.clone(), recorded, newest: None, ended: false }
    }

    fn now(&self) -> Option<Wall> {
        match (self.ended, self.recorded) {
            (true, _) => None,
            (false, true) => self.newest,
            (false, false) => Some(clock::wall()),
        }
    }
}

fn source_id(index: usize) -> Source {
    Source(u8::try_from(index).unwrap_or(u8::MAX))
}

fn judge(shared: &Shared, clocks: &mut [SourceClock], batch: Batch, out: &mut Vec<Record>) {
    let Some(index) = clocks.iter().position(|c| *c.name == *batch.source) else { return };
    let (source, clock) = (source_id(index), &mut clocks[index]);
    let mut assembler = shared.assembler.borrow_mut();
    for info in batch.infos {
        assembler.describe(source, info);
    }
    for reading in &batch.readings {
        assembler.push(source, reading, out);
    }
    if let Some(newest) = batch.readings.iter().map(|r| r.at).max() {
        clock.newest = Some(clock.newest.map_or(newest, |n| n.max(newest)));
        if clock.recorded {
            assembler.tick(source, newest, out);
        }
    }
    if batch.end {
        clock.ended = true;
        assembler.end(source, out);
        shared.set_source_state(&batch.source, "ended");
    }
}

/// Hands records to the spool. Steps of episodes are numbered on the way, so that facts can cite them.
async fn admit(shared: &Shared, out: Vec<Record>) -> Result<(), AgentError> {
    let (alarms, rest): (Vec<_>, Vec<_>) = out.into_iter().partition(|record| record.lane() == Lane::Alarm);
    if !alarms.is_empty() {
        let ids: Vec<Option<u64>> = alarms.iter().map(|record| told_episode(shared, record)).collect();
        let numbered = shared.store.admit_numbered(alarms).await?;
        let numbers = numbered.iter().flat_map(|c| (c.first..=c.last).map(|n| (c.lane, n)));
        let mut assembler = shared.assembler.borrow_mut();
        for (id, (lane, n)) in ids.into_iter().zip(numbers) {
            if let Some(id) = id {
                assembler.cite(id, crate::facts::Citation { lane, first: n, last: n });
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
