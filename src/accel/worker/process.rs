//! The agent's side: the process of one device, which is begun with the first model and again, beside whoever asks, after it ended.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::Duration;

use rustix::fs::MemfdFlags;

use super::live::{Live, OnLive};
use super::{OUTPUT_AT, Vendor};
use crate::accel::{Check, ModelFile, Placement, Refused, Stage};

/// How a device's worker is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerOptions {
    /// Name of the accelerator, for errors.
    pub name: String,
    /// This program.
    pub program: PathBuf,
    /// What it loads.
    pub vendor: Vendor,
    /// `key=value`, parted by commas, for the vendor's code.
    pub options: String,
    /// Longest time for one run.
    pub deadline: Duration,
}

/// A worker with the models that it has, or must have again before anybody uses it again.
#[derive(Debug)]
pub struct Process {
    options: Arc<WorkerOptions>,
    shared: Arc<File>,
    models: BTreeMap<u32, Kept>,
    /// Models that were given back while a process was begun with them; it still has them, until somebody has the time.
    given_back: Vec<u32>,
    state: State,
}

/// A model as it was when it was loaded first.
#[derive(Debug, Clone)]
struct Kept {
    file: ModelFile,
    placement: Placement,
    check: Option<Check>,
}

/// Memory for the tensors of device `name`. Errors: the system has no memory or no descriptor left.
pub(super) fn shared_memory(name: &str) -> Result<File, Refused> {
    let refuse = |e: io::Error| Refused::new(name, Stage::Worker, format_args!("no shared memory: {e}"));
    let memory =
        rustix::fs::memfd_create("outpost-tensors", MemfdFlags::CLOEXEC).map_err(|e| refuse(e.into()))?;
    let shared = File::from(memory);
    // Sparse: it takes what is written.
    shared.set_len(2 * OUTPUT_AT).map_err(refuse)?;
    Ok(shared)
}

#[derive(Debug)]
enum State {
    /// There is no process.
    Down,
    /// A thread begins one.
    Begun(Receiver<Result<Live, Refused>>),
    /// It answers.
    Up(Live),
}

impl Process {
    /// Nothing is begun yet. Errors: the system has no memory or no descriptor left.
    pub fn new(options: WorkerOptions) -> Result<Self, Refused> {
        let shared = shared_memory(&options.name)?;
        let (options, shared) = (Arc::new(options), Arc::new(shared));
        Ok(Self { options, shared, models: BTreeMap::new(), given_back: Vec::new(), state: State::Down })
    }

    /// Makes `model` ready and returns its number and what it claims. Blocks for [`limits::WORKER_LOAD_MS_MAX`] at most, and for
    /// the process to begin.
    ///
    /// [`limits::WORKER_LOAD_MS_MAX`]: crate::limits::WORKER_LOAD_MS_MAX
    pub fn load(&mut self, model: &ModelFile) -> Result<(u32, Placement), Refused> {
        let number = self.models.last_key_value().map_or(0, |(last, _)| last.wrapping_add(1));
        let placement = self.ask(|live| live.load(number, model))?;
        self.models.insert(number, Kept { file: model.clone(), placement, check: None });
        Ok((number, placement))
    }

    /// What model number `model` must stand before a process that is begun later answers for it.
    pub fn keep(&mut self, model: u32, check: Check) {
        if let Some(kept) = self.models.get_mut(&model) {
            kept.check = Some(check);
        }
    }

    /// Sees to it that the process answers. Blocks for it to begin if there is none. Errors: it does not begin.
    pub fn begin(&mut self) -> Result<(), Refused> {
        self.ask(|_| Ok(()))
    }

    /// Gives back what model number `model` takes. Blocks for the deadline at most.
    pub fn unload(&mut self, model: u32) {
        self.models.remove(&model);
        if !matches!(self.state, State::Down) {
            self.given_back.push(model);
        }
        self.give_back();
    }

    /// Has the process forget what was given back. One that can't is ended, and the next one does not have it.
    fn give_back(&mut self) {
        let State::Up(live) = &mut self.state else { return };
        for model in std::mem::take(&mut self.given_back) {
            live.unload(model);
            if live.is_gone() {
                self.state = State::Down;
                return;
            }
        }
    }

    /// Which of `ops` the vendor's code computes as parts of a graph. Blocks like [`Process::load`].
    pub fn computes(&mut self, ops: &[&str]) -> Result<Vec<bool>, Refused> {
        self.ask(|live| live.computes(ops))
    }

    /// Whether the process answers. One that ended is begun again by a thread of its own, with all that it had: until each model
    /// claims what it claimed and its check holds, the answer is no. Does not block. Errors: that thread did not succeed; whoever
    /// asks next begins it again.
    pub fn ready(&mut self) -> Result<bool, Refused> {
        let outcome = match &self.state {
            State::Up(_) => return Ok(true),
            State::Begun(outcome) => outcome.try_recv(),
            State::Down => {
                self.state = State::Begun(self.begin_beside()?);
                return Ok(false);
            }
        };
        match outcome {
            Ok(begun) => self.settle(begun).map(|()| true),
            Err(TryRecvError::Empty) => Ok(false),
            Err(TryRecvError::Disconnected) => self.settle(Err(self.no_thread())).map(|()| false),
        }
    }

    /// Computes with model number `model`. Blocks for the deadline at most. Errors: among others that there is no process, which
    /// only [`Process::ready`] begins again.
    pub fn run(&mut self, model: u32, input: &[u8], output: &mut Vec<u8>) -> Result<(), Refused> {
        let State::Up(live) = &mut self.state else {
            return Err(Refused::new(&self.options.name, Stage::Worker, "the worker process is gone"));
        };
        let ran = live.run(model, input, output);
        if live.is_gone() {
            self.state = State::Down;
        }
        ran
    }

    /// Asks the process, which is begun first if there is none. Blocks for that, too.
    fn ask<T>(&mut self, question: impl FnOnce(&mut Live) -> Result<T, Refused>) -> Result<T, Refused> {
        let begun = match std::mem::replace(&mut self.state, State::Down) {
            State::Up(live) => Ok(live),
            State::Begun(outcome) => outcome.recv().unwrap_or_else(|_| Err(self.no_thread())),
            State::Down => self.beginning()(),
        };
        self.settle(begun)?;
        self.give_back();
        if matches!(self.state, State::Down) {
            let begun = self.beginning()();
            self.settle(begun)?;
        }
        let State::Up(live) = &mut self.state else { return Err(self.no_thread()) };
        let answer = question(live);
        // One that has nothing to do is not kept.
        if live.is_gone() || answer.is_err() && self.models.is_empty() {
            self.state = State::Down;
        }
        answer
    }

    /// What came of a beginning.
    fn settle(&mut self, begun: Result<Live, Refused>) -> Result<(), Refused> {
        self.state = State::Down;
        self.state = State::Up(begun?);
        Ok(())
    }

    fn begin_beside(&self) -> Result<Receiver<Result<Live, Refused>>, Refused> {
        let (sender, outcome) = mpsc::sync_channel(1);
        let beginning = self.beginning();
        // Whoever does not want it any more drops it, which ends the process.
        let work = move || drop(sender.send(beginning()));
        let begun = std::thread::Builder::new().name("worker-start".into()).spawn(work);
        begun.map(|_| outcome).map_err(|_| self.no_thread())
    }

    /// Begins a process with everything that this one has, and holds each model against what it was before.
    fn beginning(&self) -> impl FnOnce() -> Result<Live, Refused> + Send + use<> {
        let (options, shared, models) =
            (Arc::clone(&self.options), Arc::clone(&self.shared), self.models.clone());
        move || {
            let mut live = Live::begin(&options, &shared)?;
            for (number, Kept { file, placement, check }) in models {
                let found = live.load(number, &file)?;
                if found != placement {
                    let reason = format!(
                        "{}: begun again, it takes {} of {} operators, and {} before",
                        file.origin, found.claimed, found.total, placement.claimed
                    );
                    return Err(Refused::new(&options.name, Stage::Claim, reason));
                }
                if let Some(check) = check {
                    check.hold(&mut OnLive { live: &mut live, number, placement })?;
                }
            }
            Ok(live)
        }
    }

    fn no_thread(&self) -> Refused {
        let reason =
            "the worker process can't be started: the system has no thread for that; raise the process limit";
        Refused::new(&self.options.name, Stage::Worker, reason)
    }
}
