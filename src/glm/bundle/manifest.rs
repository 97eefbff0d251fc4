//! `manifest.json`: what the files of a bundle are, and what they must hash to.

use serde::{Deserialize, Serialize};

use super::golden::Golden;
use super::layout::Layout;
use crate::glm::arch::Arch;
use crate::glm::weights::{self, TensorShape};
use crate::hash::Sha256;

/// The only version there is.
pub const FORMAT: u32 = 1;
/// Multiple at which tensors begin.
pub const ALIGN: u64 = 64;

/// What a bundle says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format.
    pub format: u32,
    /// The model's shape.
    pub arch: Arch,
    /// Ids that end an answer.
    pub end_ids: Vec<u32>,
    /// Where it came from.
    pub source: Origin,
    /// Bytes of `weights.bin`.
    pub weights_bytes: u64,
    /// Bytes that a piece has, as far as whole panels allow; a tensor is hashed piece by piece.
    pub piece_bytes: u64,
    /// `tokenizer.json`, where there is one.
    pub tokenizer: Option<FileEntry>,
    /// `template.jinja`, where there is one.
    pub template: Option<FileEntry>,
    /// What the model answered when it was imported.
    pub golden: Option<Golden>,
    /// Every tensor of `weights.bin`, one behind the other.
    pub tensors: Vec<TensorEntry>,
}

/// Where a bundle came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// `hugging_face`, `gguf` or `onnx`.
    pub kind: String,
    /// Name of the directory or file.
    pub name: String,
}

/// A small file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// How large.
    pub bytes: u64,
    /// What it hashes to.
    pub sha256: Sha256,
}

/// One tensor of `weights.bin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorEntry {
    /// Its name in the list of tensors.
    pub name: String,
    /// How it lies.
    pub layout: Layout,
    /// Rows, or elements of a vector.
    pub rows: usize,
    /// Columns; 1 for a vector.
    pub cols: usize,
    /// Where it begins.
    pub offset: u64,
    /// How many bytes it has.
    pub bytes: u64,
    /// SHA-256 over the SHA-256 of its pieces.
    pub sha256: Sha256,
}

impl Manifest {
    /// Checks that the tensors are those of the shape, and lie one behind the other; says what is not so.
    pub fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("its format is {}, this program reads {FORMAT}", self.format));
        }
        self.arch.validate().map_err(|e| e.to_string())?;
        if let Some(id) = self.end_ids.iter().find(|id| **id as usize >= self.arch.vocab) {
            return Err(format!("end id {id} is behind the vocabulary of {}", self.arch.vocab));
        }
        if self.piece_bytes == 0 || self.piece_bytes > PIECE_BYTES_MAX {
            return Err(format!("pieces of {} bytes", self.piece_bytes));
        }
        let list = weights::tensors(&self.arch);
        if list.len() != self.tensors.len() {
            return Err(format!("{} tensors where {} are due", self.tensors.len(), list.len()));
        }
        let mut at = 0;
        for (tensor, (name, shape)) in self.tensors.iter().zip(list) {
            let found = match tensor.layout {
                Layout::Vector => TensorShape::Vector(tensor.rows),
                Layout::Panels(_) => TensorShape::Matrix { rows: tensor.rows, cols: tensor.cols },
            };
            let vector_of_columns = tensor.layout == Layout::Vector && tensor.cols != 1;
            if tensor.name != name || found != shape || vector_of_columns {
                return Err(format!("tensor {:?} where {name} of {shape:?} is due", tensor.name));
            }
            let bytes = tensor.layout.bytes(tensor.rows, tensor.cols).map(|bytes| bytes as u64);
            if bytes != Some(tensor.bytes) || tensor.offset != at {
                let (bytes, offset) = (tensor.bytes, tensor.offset);
                return Err(format!(
                    "tensor {name} has {bytes} bytes at {offset}, {bytes:?} at {at} are due"
                ));
            }
            at = at.checked_add(tensor.bytes).ok_or("more bytes than there can be")?;
        }
        match at == self.weights_bytes {
            true => Ok(()),
            false => Err(format!("{} bytes of weights where {at} are due", self.weights_bytes)),
        }
    }

    /// Sixteen hex digits that are the same for two bundles only if they answer alike.
    pub fn id(&self) -> String {
        let tensors: Vec<Sha256> = self.tensors.iter().map(|tensor| tensor.sha256).collect();
        let arch = serde_json::to_vec(&self.arch).unwrap_or_default();
        let file = |file: &Option<FileEntry>| file.as_ref().map_or(Sha256::of(b""), |file| file.sha256);
        let parts =
            [Sha256::of_pieces(&tensors), Sha256::of(&arch), file(&self.tokenizer), file(&self.template)];
        Sha256::of_pieces(&parts).short()
    }
}

const PIECE_BYTES_MAX: u64 = 64 * 1024 * 1024;
