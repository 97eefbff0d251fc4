//! Why a checkpoint can't be taken: what, where, and what to do next.

use std::io;
use std::path::{Path, PathBuf};

use crate::glm::arch::BadArch;
use crate::glm::bundle::BadWords;

/// A checkpoint that can't be imported. The file's fault, but for [`ImportError::Write`], [`ImportError::Disk`] and
/// [`ImportError::Exists`], which are the place's that it should go to.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file can't be read.
    #[error("{path} can't be read: {source}; check that it is there, readable, and not being written")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file can't be written.
    #[error("{path} can't be written: {source}; check the directory, its permissions and the space left")]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nothing that this reads.
    #[error(
        "{path} is no checkpoint that can be imported: {what}; give a Hugging Face directory (config.json and \
         *.safetensors), a .gguf file or an .onnx file of a dense GLM"
    )]
    NoCheckpoint {
        /// What was given.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A file that contradicts itself or ends early.
    #[error("{path} is damaged: {what}; download or export it again")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A whole and honest file of something else.
    #[error("{what} is not supported: {instead}")]
    Unsupported {
        /// What it is, by name.
        what: String,
        /// What is, or what to do.
        instead: String,
    },
    /// A tensor that is not what the model's shape asks for.
    #[error("tensor {name} {problem}; the checkpoint is incomplete, damaged, or not a dense GLM's")]
    Tensor {
        /// By the file's own name.
        name: String,
        /// What is wrong with it.
        problem: TensorProblem,
    },
    /// Tokenizer or template can't be used with the model.
    #[error("{path}: {source}")]
    Words {
        /// The checkpoint.
        path: PathBuf,
        /// Why not.
        source: BadWords,
    },
    /// Numbers that no dense GLM has.
    #[error(transparent)]
    Arch(#[from] BadArch),
    /// Not enough room for the bundle.
    #[error("{path} has {free} bytes free, the bundle takes {needed}; make room or choose another directory")]
    Disk {
        /// Where the bundle should go.
        path: PathBuf,
        /// Bytes it takes.
        needed: u64,
        /// Bytes there are.
        free: u64,
    },
    /// There is something already.
    #[error("{path} exists already; remove it, choose another name, or ask for it to be replaced")]
    Exists {
        /// What exists.
        path: PathBuf,
    },
    /// The original graph and the engine give different numbers.
    #[error(
        "the graph of {path} is not a plain GLM: {what}; export the model anew without changes, or give its checkpoint"
    )]
    Probe {
        /// The graph's file.
        path: PathBuf,
        /// What differs.
        what: String,
    },
}

/// What may be wrong with a tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorProblem {
    /// It is not there.
    #[error("is missing")]
    Missing,
    /// Two have its name or its role.
    #[error("is there twice")]
    Doubled,
    /// No dense GLM has it.
    #[error("belongs to no dense GLM")]
    Unknown,
    /// It has other dimensions.
    #[error("is {found} where {wanted} is due")]
    Shape {
        /// What the model's shape asks for.
        wanted: String,
        /// What it has.
        found: String,
    },
    /// A weight is infinite or not a number.
    #[error("holds a weight that is not a finite number, in row {row}")]
    NotFinite {
        /// Counted from 0.
        row: usize,
    },
    /// A weight is so large that its block's scale is infinite in half precision.
    #[error("holds a weight too large for {format}, in row {row}")]
    TooLarge {
        /// Counted from 0.
        row: usize,
        /// What it should become.
        format: &'static str,
    },
}

impl ImportError {
    /// Whether the same import would fail again: the checkpoint is wrong, not the disk that it is read from or written to.
    pub fn is_lasting(&self) -> bool {
        use ImportError as E;
        !matches!(self, E::Read { .. } | E::Write { .. } | E::Disk { .. } | E::Exists { .. })
    }

    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> ImportError {
        ImportError::Damaged { path: path.to_owned(), what: what.into() }
    }

    pub(super) fn unsupported(what: impl Into<String>, instead: impl Into<String>) -> ImportError {
        ImportError::Unsupported { what: what.into(), instead: instead.into() }
    }

    pub(super) fn tensor(name: &str, problem: TensorProblem) -> ImportError {
        ImportError::Tensor { name: clip(name), problem }
    }
}

/// A name out of a file, short and printable enough for a message.
pub(super) fn clip(name: &str) -> String {
    let mut short: String =
        name.chars().take(NAME_CHARS_MAX).map(|c| if c.is_control() { '?' } else { c }).collect();
    if name.chars().nth(NAME_CHARS_MAX).is_some() {
        short.push_str("..");
    }
    short
}

const NAME_CHARS_MAX: usize = 120;
