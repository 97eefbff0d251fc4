//! The worker's side: whatever the vendor's code does to this process, the agent is another one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::process::{Resource, Rlimit, Signal};

use super::{Channel, Reply, Request, Side, Tensor, Vendor};
use crate::accel::ffi::{LanguageModel, Plugin};
use crate::accel::{ComputeBackend, ModelFile, Placement, Refused, Runner, Stage, Telling, look_at_library};
#[cfg(feature = "tflite")]
use crate::accel::{Delegated, Tflite};
use crate::limits;

/// Serves the agent that has started this process, with the socket as standard input and the memfd as standard output, until
/// the agent hangs up. Blocks. Errors: standard input is no socket, so that nobody has started it as a worker.
pub fn serve() -> io::Result<()> {
    let (socket, shared) = inherited()?;
    let mut channel = Channel::new(socket);
    restrain();
    let mut worker = Worker { backend: None, language: None, models: BTreeMap::new(), input: Vec::new() };
    loop {
        let request = match channel.receive(|_| Ok(())) {
            Ok(request) => request,
            // The agent is gone, or wants no more.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let answered = match request {
            Request::Tell(telling) => worker.tell(&telling, &mut channel),
            request => worker.answer(request, &shared),
        };
        channel.send(&answered.unwrap_or_else(Reply::failed))?;
    }
}

/// Takes the two descriptors from where the plug-in would print and read.
fn inherited() -> io::Result<(UnixStream, File)> {
    let socket: OwnedFd = rustix::io::dup(rustix::stdio::stdin())?;
    let shared: OwnedFd = rustix::io::dup(rustix::stdio::stdout())?;
    rustix::net::sockopt::socket_domain(&socket)?;
    let nowhere = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nowhere)?;
    rustix::stdio::dup2_stdout(&nowhere)?;
    Ok((socket.into(), shared.into()))
}

/// Ends with the agent, and is the first to go when memory is short. Each is a precaution: what the system does not grant is done
/// without.
fn restrain() {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let _ = std::fs::write("/proc/self/oom_score_adj", "900");
}

/// Takes no more memory than `most`; a precaution, too.
fn restrain_memory(most: u64) {
    let most = Some(most);
    let _ = rustix::process::setrlimit(Resource::Data, Rlimit { current: most, maximum: most });
}

struct Worker {
    backend: Option<Box<dyn ComputeBackend>>,
    language: Option<LanguageModel>,
    models: BTreeMap<u32, (Box<dyn Runner>, Vec<u8>)>,
    input: Vec<u8>,
}

impl Worker {
    fn answer(&mut self, request: Request, shared: &File) -> Result<Reply, Refused> {
        match request {
            Request::Open { vendor, options } => {
                restrain_memory(vendor.memory_bytes_max());
                match vendor {
                    Vendor::Language { library, model, .. } => {
                        look_at_library("plugin", &library)?;
                        self.language = Some(LanguageModel::open(&library, &model, &options)?);
                    }
                    vendor => self.backend = Some(open(vendor, options)?),
                }
                Ok(Reply::Opened)
            }
            Request::Placement => Ok(loaded(self.language()?.placement())),
            Request::Tell(_) | Request::Heard { .. } => Err(protocol("a piece of no answer")),
            Request::Computes { ops } => {
                let backend =
                    self.backend.as_ref().ok_or_else(|| protocol("operators before the vendor's code"))?;
                Ok(Reply::Computes { answers: ops.iter().map(|op| backend.computes(op)).collect() })
            }
            Request::Load { model: number, origin, format, bytes, input, output } => {
                let backend =
                    self.backend.as_ref().ok_or_else(|| protocol("a model before the vendor's code"))?;
                if self.models.len() >= limits::WORKER_MODELS_MAX {
                    return Err(protocol("too many models"));
                }
                let model =
                    backend.load(&ModelFile { origin, format, bytes: bytes.into(), input, output })?;
                let placement = model.placement();
                self.models.insert(number, (model, Vec::new()));
                Ok(loaded(placement))
            }
            Request::Unload { model } => {
                self.models.remove(&model);
                Ok(Reply::Unloaded)
            }
            Request::Run { model, input } => {
                let failed = |e: io::Error| Refused::new("worker", Stage::Worker, e);
                let Self { models, input: buffer, .. } = self;
                let (model, output) =
                    models.get_mut(&model).ok_or_else(|| protocol("a model that was not loaded"))?;
                input.take(shared, Side::Input, buffer).map_err(failed)?;
                model.run(buffer, output)?;
                Ok(Reply::Ran { output: Tensor::put(output, shared, Side::Output).map_err(failed)? })
            }
        }
    }
}

impl Worker {
    /// Lets the language model answer, piece by piece. A runtime that does not stop when it is told to is not heard any more.
    fn tell(&mut self, telling: &Telling, channel: &mut Channel) -> Result<Reply, Refused> {
        let mut goes_on = true;
        let told = self.language()?.tell(telling, &mut |piece| {
            for part in piece.chunks(limits::WORKER_INLINE_BYTES_MAX) {
                // An agent that is gone wants no more; the next request tells.
                goes_on = goes_on && heard(channel, part).unwrap_or(false);
            }
            goes_on
        });
        told.map(Reply::Told)
    }

    fn language(&mut self) -> Result<&mut LanguageModel, Refused> {
        self.language.as_mut().ok_or_else(|| protocol("an answer, and there is no language model"))
    }
}

/// Hands a piece to the agent; whether that wants another one. Blocks until it says so.
fn heard(channel: &mut Channel, piece: &[u8]) -> io::Result<bool> {
    channel.send(&Reply::Piece(piece.to_vec()))?;
    Ok(matches!(channel.receive(|_| Ok(()))?, Request::Heard { go_on: true }))
}

fn loaded(Placement { claimed, total }: Placement) -> Reply {
    Reply::Loaded { claimed: claimed as u64, total: total as u64 }
}

fn open(vendor: Vendor, options: String) -> Result<Box<dyn ComputeBackend>, Refused> {
    match vendor {
        Vendor::Plugin { library } => {
            // In words that name the next step, before the loader says what it has to say.
            look_at_library("plugin", &library)?;
            Ok(Box::new(Plugin::open(&library, &options)?))
        }
        #[cfg(feature = "tflite")]
        Vendor::Delegate { library, tflite } => Ok(Box::new(Delegated::open(&library, tflite, options)?)),
        #[cfg(feature = "tflite")]
        Vendor::Lite { library, xnnpack } => Ok(Box::new(Tflite::open(library, xnnpack)?)),
        #[cfg(not(feature = "tflite"))]
        Vendor::Delegate { .. } | Vendor::Lite { .. } => {
            let why = "this build has no TensorFlow Lite; build it with --features tflite";
            Err(Refused::new("worker", Stage::Find, why))
        }
        Vendor::Language { .. } => Err(protocol("a language model as a backend")),
    }
}

fn protocol(what: &str) -> Refused {
    Refused::new("worker", Stage::Worker, format_args!("the agent asked for {what}"))
}
