//! The sources that run, and how another configuration changes them: what it leaves alone is not touched.
//!
//! A source that is changed ends first and begins anew when its thread has ended and what it sent has been judged, since
//! two can't listen in one place. The others go on meanwhile.

use std::rc::Rc;

use smol::channel::Sender;

use super::assemble::ChannelBook;
use super::status::SourceBrief;
use super::{AgentError, Shared};
use crate::limits;
use crate::sensor::{self, Batch, SourceError, SourceHandle, SourceOptions, Stopper};

/// What can change while the seat runs.
#[derive(Debug, Clone)]
pub struct Reload {
    /// Name and kind of each source, no name twice.
    pub sources: Vec<(String, SourceOptions)>,
    /// What is known of channels.
    pub channels: ChannelBook,
    /// Whether single readings are kept.
    pub raw: bool,
    /// What differs besides and waits for a restart, as the file calls it.
    pub restart: Vec<&'static str>,
}

/// What somebody asks of a running seat.
#[derive(Debug, Clone)]
pub enum Order {
    /// Another configuration, which has been checked.
    Apply(Reload),
    /// Another configuration was there and can't be used; the old one stays. The mistakes in words.
    Refuse(String),
}

/// What an order changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Change {
    pub kept: usize,
    pub stopped: usize,
    pub started: usize,
}

/// Every source of the seat.
pub(super) struct Sources {
    out: Sender<Batch>,
    running: Vec<Running>,
    /// To be started as soon as nothing of that name runs.
    waiting: Vec<(String, SourceOptions)>,
}

struct Running {
    handle: SourceHandle,
    options: SourceOptions,
    /// None once it was asked to end.
    stopper: Option<Stopper>,
}

impl Sources {
    /// Opens every source and starts its thread.
    pub fn start(shared: &Shared, out: Sender<Batch>) -> Result<Self, AgentError> {
        let wanted = &shared.options.sources;
        if wanted.len() > limits::SOURCE_CLOCKS_MAX {
            return Err(AgentError::TooManySources { sources: wanted.len() });
        }
        let mut sources = Self { out, running: Vec::with_capacity(wanted.len()), waiting: Vec::new() };
        for (name, options) in wanted {
            if sources.running.iter().any(|known| known.handle.name() == name) {
                return Err(AgentError::SourceTwice { name: name.clone() });
            }
            sources
                .open(shared, name, options)
                .map_err(|error| AgentError::Source { name: name.clone(), error })?;
        }
        Ok(sources)
    }

    /// Takes leave of what `wanted` no longer has and remembers what it has besides.
    pub fn change(&mut self, wanted: Vec<(String, SourceOptions)>) -> Change {
        let mut change = Change::default();
        for source in &mut self.running {
            let stays = wanted.iter().any(|(name, options)| source.is(name, options));
            if !stays && source.stopper.take().is_some() {
                change.stopped += 1;
            }
        }
        let stays = |(name, options): &(String, SourceOptions)| {
            self.running.iter().any(|source| source.stopper.is_some() && source.is(name, options))
        };
        let (kept, waiting): (Vec<_>, Vec<_>) = wanted.into_iter().partition(stays);
        (change.kept, change.started) = (kept.len(), waiting.len());
        self.waiting = waiting;
        change
    }

    /// Whether something waits for an end or a beginning.
    pub fn is_changing(&self) -> bool {
        !self.waiting.is_empty() || self.running.iter().any(|source| source.stopper.is_none())
    }

    /// Those that were asked to end and have; they are forgotten.
    pub fn ended(&mut self) -> Vec<String> {
        let is_over = |source: &mut Running| source.stopper.is_none() && source.handle.is_finished();
        let over: Vec<_> = self.running.extract_if(.., is_over).collect();
        over.into_iter()
            .map(|source| {
                let name = source.handle.name().to_owned();
                source.handle.join();
                name
            })
            .collect()
    }

    /// Starts what waits and whose name is free; says how each went.
    pub fn begin(&mut self, shared: &Rc<Shared>) -> Vec<((String, SourceOptions), Result<(), SourceError>)> {
        let taken =
            |(name, _): &(String, SourceOptions)| self.running.iter().any(|s| s.handle.name() == name);
        let (waiting, free): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(taken);
        self.waiting = waiting;
        let mut begun = Vec::new();
        for (name, options) in free {
            let opened = self.open(shared, &name, &options);
            begun.push(((name, options), opened));
        }
        begun
    }

    /// Those whose threads have ended though nobody asked.
    pub fn gone(&self) -> impl Iterator<Item = &SourceHandle> {
        let asked = self.running.iter().filter(|source| source.stopper.is_some());
        asked.map(|source| &source.handle).filter(|handle| handle.is_finished())
    }

    /// Asks all to end. The channel closes when the last one has.
    pub fn stop(self) -> Vec<SourceHandle> {
        self.running.into_iter().map(|source| source.handle).collect()
    }

    fn open(&mut self, shared: &Shared, name: &str, options: &SourceOptions) -> Result<(), SourceError> {
        let (stopper, stop) = sensor::stopper();
        let handle = sensor::spawn(name, options.clone(), self.out.clone(), stop)?;
        let state = handle.address().map_or("running".into(), |addr| format!("running on {addr}"));
        shared.set_source(SourceBrief { name: name.to_owned(), state });
        self.running.push(Running { handle, options: options.clone(), stopper: Some(stopper) });
        Ok(())
    }
}

impl Running {
    /// Whether it is what is wanted, and need not be started again because it has failed.
    fn is(&self, name: &str, options: &SourceOptions) -> bool {
        self.handle.name() == name && self.options == *options && self.handle.failure().is_none()
    }
}
