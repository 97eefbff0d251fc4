//! One worker process, from its beginning until it is dropped or does not answer.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use super::{Channel, Patience, Reply, Request, Side, Tensor, WorkerOptions};
use crate::accel::{ModelFile, Placement, Refused, Runner, Stage, Telling, Told};
use crate::clock;
use crate::limits;
use crate::observe::metrics;

/// A process that has loaded the vendor's code.
#[derive(Debug)]
pub(super) struct Live {
    options: Arc<WorkerOptions>,
    shared: Arc<File>,
    /// None once it has failed to answer.
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    channel: Channel,
}

impl Live {
    /// Begins a process, with `shared` for large tensors. Blocks for [`limits::WORKER_LOAD_MS_MAX`] at most, for a language model
    /// [`limits::LANGUAGE_LOAD_MS_MAX`].
    pub fn begin(options: &Arc<WorkerOptions>, shared: &Arc<File>) -> Result<Self, Refused> {
        reap();
        let mut live = Self { options: Arc::clone(options), shared: Arc::clone(shared), running: None };
        let running = live.start().map_err(|e| {
            live.refuse(Stage::Worker, format_args!("the worker process can't be started: {e}"))
        })?;
        live.running = Some(running);
        let open = Request::Open { vendor: options.vendor.clone(), options: options.options.clone() };
        match live.ask(&open, options.vendor.load_time(), Stage::Load)? {
            Reply::Opened => Ok(live),
            other => Err(live.unexpected(&other)),
        }
    }

    /// Whether it failed to answer and is no more.
    pub fn is_gone(&self) -> bool {
        self.running.is_none()
    }

    /// Makes `model` ready under a number that no other has. Blocks for [`limits::WORKER_LOAD_MS_MAX`] at most.
    pub fn load(&mut self, number: u32, model: &ModelFile) -> Result<Placement, Refused> {
        let request = Request::Load {
            model: number,
            origin: model.origin.clone(),
            format: model.format.clone(),
            bytes: model.bytes.to_vec(),
            input: model.input.clone(),
            output: model.output.clone(),
        };
        self.placed(&request, LOAD, Stage::Prepare)
    }

    /// Gives back what model number `model` takes. Blocks for the deadline at most.
    pub fn unload(&mut self, model: u32) {
        // A process that can't do that is ended, and the next one does not have the model.
        match self.ask(&Request::Unload { model }, self.options.deadline, Stage::Worker) {
            Ok(Reply::Unloaded) | Err(_) => {}
            Ok(other) => drop(self.unexpected(&other)),
        }
    }

    /// Which of `ops` the vendor's code computes as parts of a graph. Blocks for [`limits::WORKER_LOAD_MS_MAX`] at most.
    pub fn computes(&mut self, ops: &[&str]) -> Result<Vec<bool>, Refused> {
        let request = Request::Computes { ops: ops.iter().map(|op| (*op).to_owned()).collect() };
        match self.ask(&request, LOAD, Stage::Claim)? {
            Reply::Computes { answers } if answers.len() == ops.len() => Ok(answers),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Computes with model number `model`. Blocks for the deadline at most.
    pub fn run(&mut self, model: u32, input: &[u8], output: &mut Vec<u8>) -> Result<(), Refused> {
        let input =
            Tensor::put(input, &self.shared, Side::Input).map_err(|e| self.refuse(Stage::Worker, e))?;
        match self.ask(&Request::Run { model, input }, self.options.deadline, Stage::Invoke)? {
            Reply::Ran { output: tensor } => {
                tensor.take(&self.shared, Side::Output, output).map_err(|e| self.refuse(Stage::Worker, e))
            }
            other => Err(self.unexpected(&other)),
        }
    }

    /// What of its language model runs on the device. Blocks for the deadline at most.
    pub fn placement(&mut self) -> Result<Placement, Refused> {
        self.placed(&Request::Placement, self.options.deadline, Stage::Claim)
    }

    /// A request that is answered by where a model runs.
    fn placed(&mut self, request: &Request, time: Duration, stage: Stage) -> Result<Placement, Refused> {
        match self.ask(request, time, stage)? {
            Reply::Loaded { claimed, total } => {
                Ok(Placement { claimed: claimed as usize, total: total as usize })
            }
            other => Err(self.unexpected(&other)),
        }
    }

    /// Lets its language model answer; `listen` is given each piece and says whether it wants another one. Blocks for as long as
    /// that takes, for a piece no longer than `patience` says.
    pub fn tell(
        &mut self,
        telling: &Telling,
        patience: Patience,
        mut listen: impl FnMut(&[u8]) -> bool,
    ) -> Result<Told, Refused> {
        let (mut request, mut time) = (Request::Tell(telling.clone()), patience.first);
        loop {
            match self.ask(&request, time, Stage::Invoke)? {
                Reply::Piece(bytes) => request = Request::Heard { go_on: listen(&bytes) },
                Reply::Told(told) => return Ok(told),
                other => return Err(self.unexpected(&other)),
            }
            time = patience.next;
        }
    }

    fn start(&self) -> io::Result<Running> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(&self.options.program);
        command
            .arg("worker")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(self.shared.try_clone()?));
        let child = spawn(command)?;
        lock(&PIDS).push(child.id());
        Ok(Running { child, channel: Channel::new(ours) })
    }

    /// One request and its reply within `time`; `stage` is what a process is doing that dies of it.
    fn ask(&mut self, request: &Request, time: Duration, stage: Stage) -> Result<Reply, Refused> {
        let Some(Running { channel, .. }) = &mut self.running else {
            return Err(self.refuse(Stage::Worker, "the worker process is gone"));
        };
        match exchange(channel, request, time) {
            Ok(Reply::Failed { stage, reason }) => Err(self.refuse(stage, reason)),
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
        lock(&PIDS).retain(|pid| *pid != child.id());
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

impl Drop for Live {
    fn drop(&mut self) {
        self.end(LAST_WORDS);
    }
}

/// A model of a process that nobody else uses yet.
pub(super) struct OnLive<'a> {
    pub live: &'a mut Live,
    pub number: u32,
    pub placement: Placement,
}

impl Runner for OnLive<'_> {
    fn run(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), Refused> {
        self.live.run(self.number, input, output)
    }

    fn placement(&self) -> Placement {
        self.placement
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

/// Processes that are at work.
static PIDS: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// The processes that are at work for this one.
pub fn pids() -> Vec<u32> {
    lock(&PIDS).clone()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Processes that were killed and may not be gone yet.
static UNREAPED: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Leaves a process to itself.
fn let_go(child: Child) {
    lock(&UNREAPED).push(child);
    reap();
}

/// Forgets killed processes that are gone, and counts the others: a driver holds each of them. Never waits.
pub fn reap() {
    let mut children = lock(&UNREAPED);
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
