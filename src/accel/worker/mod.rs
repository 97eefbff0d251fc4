//! A vendor's code in a process of its own: `outpost worker`, one per device.
//!
//! ```text
//!  agent, thread infer                        outpost worker
//!  Process ── requests, replies: a socket ──> serve: the plug-in, or TensorFlow Lite, alone or with a delegate
//!     │    ── large tensors: a memfd ───────>
//!     └ deadline over, error, end of file: killed, reaped without waiting, begun anew beside whoever asks again
//! ```
//!
//! Requests and replies are frames: four bytes of length, then postcard. Every request has one reply, a language model's pieces, too:
//! each is answered before the next one comes, so that who stops listening costs one more. A tensor of more than
//! [`limits::WORKER_INLINE_BYTES_MAX`] stands in the memfd, the input at its beginning, the output behind the largest input.

mod language;
mod live;
mod process;
mod serve;

pub use language::{Language, Patience};
pub use live::{pids, reap};
pub use process::{Process, WorkerOptions};
pub use serve::serve;

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Refused, Stage, Telling, TensorSpec, Told};
use crate::limits;

/// A vendor's code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Vendor {
    /// A plug-in behind `outpost_plugin.h`.
    Plugin {
        /// Its library.
        library: PathBuf,
    },
    /// An external delegate of TensorFlow Lite.
    Delegate {
        /// Its library.
        library: PathBuf,
        /// TensorFlow Lite's C library; none: where the system keeps libraries.
        tflite: Option<PathBuf>,
    },
    /// TensorFlow Lite on the CPU: the board's own build of it, or anybody's.
    Lite {
        /// Its C library; none: where the system keeps libraries.
        library: Option<PathBuf>,
        /// With its delegate for fast floats and whole numbers, which rounds in its own way.
        xnnpack: bool,
    },
    /// The language runtime of a plug-in, with the one model that it runs.
    Language {
        /// The plug-in's library.
        library: PathBuf,
        /// The model's file, which the runtime reads itself.
        model: PathBuf,
        /// Most memory of its own that the process may take.
        memory_bytes_max: u64,
    },
}

impl Vendor {
    /// Most memory of its own that a process may take which has loaded it.
    fn memory_bytes_max(&self) -> u64 {
        match self {
            Vendor::Language { memory_bytes_max, .. } => *memory_bytes_max,
            _ => limits::WORKER_DATA_BYTES_MAX,
        }
    }

    /// Longest time for it to be loaded, and for one model of it.
    fn load_time(&self) -> Duration {
        Duration::from_millis(match self {
            Vendor::Language { .. } => limits::LANGUAGE_LOAD_MS_MAX,
            _ => limits::WORKER_LOAD_MS_MAX,
        })
    }
}

/// What the agent asks for.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// Load the vendor's code.
    Open { vendor: Vendor, options: String },
    /// Which operators can be computed as parts of a graph?
    Computes { ops: Vec<String> },
    /// Make a model ready under a number that no other has.
    Load { model: u32, origin: String, format: String, bytes: Vec<u8>, input: TensorSpec, output: TensorSpec },
    /// Give back what model number `model` takes.
    Unload { model: u32 },
    /// Compute with model number `model`.
    Run { model: u32, input: Tensor },
    /// What of the language model runs on the device?
    Placement,
    /// Let the language model answer: pieces come, each of which is to be answered, then what it took.
    Tell(Telling),
    /// The piece was heard; whether another one is wanted.
    Heard { go_on: bool },
}

/// What the worker answers.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Opened,
    Computes { answers: Vec<bool> },
    Unloaded,
    Loaded { claimed: u64, total: u64 },
    Ran { output: Tensor },
    Piece(Vec<u8>),
    Told(Told),
    Failed { stage: Stage, reason: String },
}

impl Reply {
    fn failed(refused: Refused) -> Self {
        Reply::Failed { stage: refused.stage, reason: refused.reason }
    }
}

/// The bytes of a tensor, or how many of them stand in the memfd.
#[derive(Debug, Serialize, Deserialize)]
enum Tensor {
    Here(Vec<u8>),
    Shared(u64),
}

/// Where an output stands in the memfd.
const OUTPUT_AT: u64 = (limits::SMALL_MODEL_ELEMENTS_MAX * 4) as u64;

/// Where a tensor stands in the memfd.
#[derive(Debug, Clone, Copy)]
enum Side {
    Input = 0,
    Output = OUTPUT_AT as isize,
}

impl Tensor {
    fn put(bytes: &[u8], shared: &File, side: Side) -> io::Result<Self> {
        if bytes.len() <= limits::WORKER_INLINE_BYTES_MAX {
            return Ok(Tensor::Here(bytes.to_vec()));
        }
        shared.write_all_at(bytes, side as u64)?;
        Ok(Tensor::Shared(bytes.len() as u64))
    }

    fn take(self, shared: &File, side: Side, into: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Tensor::Here(bytes) => *into = bytes,
            Tensor::Shared(count) if count <= OUTPUT_AT => {
                into.clear();
                into.resize(count as usize, 0);
                shared.read_exact_at(into, side as u64)?;
            }
            Tensor::Shared(_) => return Err(io::Error::other("a tensor is larger than any may be")),
        }
        Ok(())
    }
}

/// Room for every frame but those that load something.
const USUAL_BYTES: usize = limits::WORKER_INLINE_BYTES_MAX + 64;

/// One end of the socket, with its buffers: what is asked and answered often takes one system call on each side.
#[derive(Debug)]
struct Channel {
    socket: UnixStream,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    /// Bytes of `incoming` that have arrived.
    arrived: usize,
    /// Longest wait of one read or write, as the socket knows it.
    patience: Option<Duration>,
}

impl Channel {
    fn new(socket: UnixStream) -> Self {
        Self { socket, outgoing: Vec::new(), incoming: vec![0; USUAL_BYTES], arrived: 0, patience: None }
    }

    /// How long one read or write may take from now on.
    fn set_patience(&mut self, patience: Duration) -> io::Result<()> {
        if self.patience != Some(patience) {
            self.socket.set_read_timeout(Some(patience))?;
            self.socket.set_write_timeout(Some(patience))?;
            self.patience = Some(patience);
        }
        Ok(())
    }

    fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut frame = std::mem::take(&mut self.outgoing);
        frame.clear();
        frame.extend([0; 4]);
        frame = postcard::to_extend(message, frame).map_err(io::Error::other)?;
        let length = u32::try_from(frame.len() - 4).map_err(io::Error::other)?;
        frame[..4].copy_from_slice(&length.to_le_bytes());
        self.socket.write_all(&frame)?;
        // A model's file is not kept.
        frame.shrink_to(USUAL_BYTES);
        self.outgoing = frame;
        Ok(())
    }

    /// The next message. `again` is asked before every read but the first, and may set another patience.
    fn receive<T: DeserializeOwned>(
        &mut self,
        mut again: impl FnMut(&mut Self) -> io::Result<()>,
    ) -> io::Result<T> {
        let mut is_first = true;
        let length = loop {
            if let Some(length) = self.length()? {
                if self.arrived >= 4 + length {
                    break length;
                }
                let wanted = self.incoming.len().max(4 + length);
                self.incoming.resize(wanted, 0);
            }
            if !std::mem::replace(&mut is_first, false) {
                again(self)?;
            }
            match self.socket.read(&mut self.incoming[self.arrived..])? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => self.arrived += count,
            }
        };
        let message = postcard::from_bytes(&self.incoming[4..4 + length]).map_err(io::Error::other);
        // Who asks waits for the answer: nothing comes behind it but the next one's beginning.
        self.incoming.copy_within(4 + length..self.arrived, 0);
        self.arrived -= 4 + length;
        self.incoming.truncate(USUAL_BYTES.max(self.arrived));
        self.incoming.shrink_to(USUAL_BYTES);
        message
    }

    /// Length of the frame that arrives, once its head is there.
    fn length(&self) -> io::Result<Option<usize>> {
        let Some(head) = self.incoming[..self.arrived].first_chunk() else { return Ok(None) };
        let length = u32::from_le_bytes(*head) as usize;
        if length > limits::WORKER_FRAME_BYTES_MAX {
            return Err(io::Error::other("a frame is larger than any may be"));
        }
        Ok(Some(length))
    }
}
