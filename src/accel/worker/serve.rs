//! The worker's side: whatever the vendor's code does to this process, the agent is another one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::process::{Resource, Rlimit, Signal};

use super::{Channel, Reply, Request, Side, Tensor, Vendor};
use crate::accel::ffi::Plugin;
use crate::accel::{ComputeBackend, ModelFile, Refused, Runner, Stage, look_at_library};
#[cfg(feature = "tflite")]
use crate::accel::{Delegated, Tflite};
use crate::limits;

/// Serves the agent that has started this process, with the socket as standard input and the memfd as standard output, until
/// the agent hangs up. Blocks. Errors: standard input is no socket, so that nobody has started it as a worker.
pub fn serve() -> io::Result<()> {
    let (socket, shared) = inherited()?;
    let mut channel = Channel::new(socket);
    restrain();
    let mut worker = Worker { backend: None, models: BTreeMap::new(), input: Vec::new() };
    loop {
        let request = match channel.receive(|_| Ok(())) {
            Ok(request) => request,
            // The agent is gone, or wants no more.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        channel.send(&worker.answer(request, &shared).unwrap_or_else(Reply::failed))?;
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

/// Ends with the agent, takes no more memory than it may, and is the first to go when memory is short. Each is a precaution: what
/// the system does not grant is done without.
fn restrain() {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let most = Some(limits::WORKER_DATA_BYTES_MAX);
    let _ = rustix::process::setrlimit(Resource::Data, Rlimit { current: most, maximum: most });
    let _ = std::fs::write("/proc/self/oom_score_adj", "900");
}

struct Worker {
    backend: Option<Box<dyn ComputeBackend>>,
    models: BTreeMap<u32, (Box<dyn Runner>, Vec<u8>)>,
    input: Vec<u8>,
}

impl Worker {
    fn answer(&mut self, request: Request, shared: &File) -> Result<Reply, Refused> {
        match request {
            Request::Open { vendor, options } => {
                self.backend = Some(open(vendor, options)?);
                Ok(Reply::Opened)
            }
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
                Ok(Reply::Loaded { claimed: placement.claimed as u64, total: placement.total as u64 })
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
    }
}

fn protocol(what: &str) -> Refused {
    Refused::new("worker", Stage::Worker, format_args!("the agent asked for {what}"))
}
