//! The agent's side: a process that is begun when it is needed, and ended when it does not answer in time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use rustix::fs::MemfdFlags;

use super::{Channel, OUTPUT_AT, Reply, Request, Side, Tensor, Vendor};
use crate::accel::{ModelFile, Placement, Refused, Stage};
use crate::clock;
use crate::limits;
use crate::observe::metrics;

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

/// A worker with the models that it has, or would have once it is begun again.
#[derive(Debug)]
pub struct Process {
    options: WorkerOptions,
    shared: File,
    models: BTreeMap<u32, ModelFile>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    channel: Channel,
}

impl Process {
    /// Nothing is begun yet. Errors: the system has no memory or no descriptor left.
    pub fn new(options: WorkerOptions) -> Result<Self, Refused> {
        let refuse =
            |e: io::Error| Refused::new(&options.name, Stage::Worker, format_args!("no shared memory: {e}"));
        let memory =
            rustix::fs::memfd_create("outpost-tensors", MemfdFlags::CLOEXEC).map_err(|e| refuse(e.into()))?;
        let shared = File::from(memory);
        // Sparse: it takes what is written.
        shared.set_len(2 * OUTPUT_AT).map_err(refuse)?;
        Ok(Self { options, shared, models: BTreeMap::new(), running: None })
    }

    /// Makes `model` ready and returns its number and what it claims. Blocks for [`limits::WORKER_LOAD_MS_MAX`] at most.
    pub fn load(&mut self, model: &ModelFile) -> Result<(u32, Placement), Refused> {
        self.ensure_running()?;
        let number = self.models.last_key_value().map_or(0, |(last, _)| last.wrapping_add(1));
        let placement = self.load_now(number, model)?;
        self.models.insert(number, model.clone());
        Ok((number, placement))
    }

    /// Gives back what model number `model` takes. Blocks for the deadline at most.
    pub fn unload(&mut self, model: u32) {
        self.models.remove(&model);
        if self.running.is_some() {
            // A process that can't do that is ended, and the next one does not have the model.
            match self.ask(&Request::Unload { model }, self.options.deadline, Stage::Worker) {
                Ok(Reply::Unloaded) | Err(_) => {}
                Ok(other) => drop(self.unexpected(&other)),
            }
        }
    }

    /// Which of `ops` the vendor's code computes as parts of a graph. Blocks for [`limits::WORKER_LOAD_MS_MAX`] at most.
    pub fn computes(&mut self, ops: &[&str]) -> Result<Vec<bool>, Refused> {
        self.ensure_running()?;
        let request = Request::Computes { ops: ops.iter().map(|op| (*op).to_owned()).collect() };
        match self.ask(&request, LOAD, Stage::Claim)? {
            Reply::Computes { answers } if answers.len() == ops.len() => Ok(answers),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Computes with model number `model`, in a new process if the last one is gone. Blocks for the deadline at most, and for the
    /// loading where it begins anew.
    pub fn run(&mut self, model: u32, input: &[u8], output: &mut Vec<u8>) -> Result<(), Refused> {
        self.ensure_running()?;
        let input =
            Tensor::put(input, &self.shared, Side::Input).map_err(|e| self.refuse(Stage::Worker, e))?;
        match self.ask(&Request::Run { model, input }, self.options.deadline, Stage::Invoke)? {
            Reply::Ran { output: tensor } => {
                tensor.take(&self.shared, Side::Output, output).map_err(|e| self.refuse(Stage::Worker, e))
            }
            other => Err(self.unexpected(&other)),
        }
    }

    fn load_now(&mut self, number: u32, model: &ModelFile) -> Result<Placement, Refused> {
        let request = Request::Load {
            model: number,
            origin: model.origin.clone(),
            format: model.format.clone(),
            bytes: model.bytes.to_vec(),
            input: model.input.clone(),
            output: model.output.clone(),
        };
        match self.ask(&request, LOAD, Stage::Prepare)? {
            Reply::Loaded { claimed, total } => {
                Ok(Placement { claimed: claimed as usize, total: total as usize })
            }
            other => Err(self.unexpected(&other)),
        }
    }

    /// Begins the process and gives it what it had.
    fn ensure_running(&mut self) -> Result<(), Refused> {
        reap();
        if self.running.is_some() {
            return Ok(());
        }
        let running = self.begin().map_err(|e| {
            self.refuse(Stage::Worker, format_args!("the worker process can't be started: {e}"))
        })?;
        self.running = Some(running);
        let open =
            Request::Open { vendor: self.options.vendor.clone(), options: self.options.options.clone() };
        match self.ask(&open, LOAD, Stage::Load)? {
            Reply::Opened => {}
            other => return Err(self.unexpected(&other)),
        }
        for (number, model) in self.models.clone() {
            self.load_now(number, &model)?;
        }
        Ok(())
    }

    fn begin(&self) -> io::Result<Running> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(&self.options.program);
        command
            .arg("worker")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(self.shared.try_clone()?));
        Ok(Running { child: spawn(command)?, channel: Channel::new(ours) })
    }

    /// One request and its reply within `time`; `stage` is what a process is doing that dies of it.
    fn ask(&mut self, request: &Request, time: Duration, stage: Stage) -> Result<Reply, Refused> {
        let Some(Running { channel, .. }) = &mut self.running else {
            return Err(self.refuse(Stage::Worker, "the worker process is gone"));
        };
        match exchange(channel, request, time) {
            Ok(Reply::Failed { stage, reason }) => {
                // What failed to begin has nothing to give back; a failed run leaves the process as it is.
                if stage != Stage::Invoke {
                    self.end(Duration::ZERO);
                }
                Err(self.refuse(stage, reason))
            }
            Ok(reply) => Ok(reply),
            Err(error) => Err(self.lost(&error, time, stage)),
        }
    }

    /// The process did not answer: why, as far as can be told.
    fn lost(&mut self, error: &io::Error, time: Duration, stage: Stage) -> Refused {
        let why = if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) {
            self.end(Duration::ZERO);
            format!("no answer within {time:?}; the worker process was killed")
        } else {
            match self.end(LAST_WORDS) {
                Some(status) => format!("the worker process died ({status})"),
                None => format!("the worker process does not answer ({error})"),
            }
        };
        self.refuse(stage, why)
    }

    /// Ends the process and does not wait for it longer than `patience`: one that hangs in its driver can't be ended by
    /// anybody. Returns how it ended by itself, if it did.
    fn end(&mut self, patience: Duration) -> Option<ExitStatus> {
        let Running { mut child, channel } = self.running.take()?;
        drop(channel);
        let patience = clock::mono() + patience;
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Some(status),
                _ if clock::mono() >= patience => break,
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        // It may have ended meanwhile.
        let _ = child.kill();
        let_go(child);
        None
    }

    fn unexpected(&mut self, reply: &Reply) -> Refused {
        self.end(Duration::ZERO);
        self.refuse(Stage::Worker, format_args!("the worker process answered something else: {reply:?}"))
    }

    fn refuse(&self, stage: Stage, reason: impl std::fmt::Display) -> Refused {
        Refused::new(&self.options.name, stage, reason)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end(LAST_WORDS);
    }
}

const LOAD: Duration = Duration::from_millis(limits::WORKER_LOAD_MS_MAX);
/// How long a process that hangs up may take to be gone by itself, so that its end can be told.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Starts a process from a thread that lives as long as this program: the system ends a worker with the *thread* that has begun
/// it, and who shares a device may outlive who used it first.
fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::SyncSender<io::Result<Child>>);
    static PARENT: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let parent = PARENT.get_or_init(|| {
        let (orders, taken) = mpsc::channel::<Order>();
        let serve = move || {
            for (mut command, reply) in taken {
                // Who asked waits for it.
                let _ = reply.send(command.spawn());
            }
        };
        // Without a thread nobody takes the orders, which says so to everyone who gives one.
        let _ = std::thread::Builder::new().name("workers".into()).spawn(serve);
        orders
    });
    let (reply, child) = mpsc::sync_channel(1);
    let gone = || io::Error::other("the thread that begins processes could not be started");
    parent.send((command, reply)).map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}

/// Processes that were killed and may not be gone yet.
static UNREAPED: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Leaves a process to itself.
fn let_go(child: Child) {
    UNREAPED.lock().unwrap_or_else(PoisonError::into_inner).push(child);
    reap();
}

/// Forgets killed processes that are gone, and counts the others: a driver holds each of them. Never waits.
pub fn reap() {
    let mut children = UNREAPED.lock().unwrap_or_else(PoisonError::into_inner);
    children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    metrics::INFER_UNREAPED.set(children.len() as u64);
}

/// One request and its reply; a reply in pieces has no more time than one in whole.
fn exchange(channel: &mut Channel, request: &Request, time: Duration) -> io::Result<Reply> {
    let until = clock::mono() + time;
    channel.set_patience(time)?;
    channel.send(request)?;
    channel.receive(|channel| {
        let now = clock::mono();
        if now >= until {
            return Err(ErrorKind::TimedOut.into());
        }
        channel.set_patience(until.since(now).max(Duration::from_millis(1)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_does_not_go_is_counted_until_it_is_gone() {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let_go(child);
        assert_eq!(metrics::INFER_UNREAPED.value(), 1);
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        while metrics::INFER_UNREAPED.value() > 0 {
            reap();
        }
    }
}
