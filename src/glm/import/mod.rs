//! Other people's checkpoints: a Hugging Face directory, a GGUF file, an ONNX export, into one bundle.

// The readers of GGUF and Hugging Face files come next and use what is not used yet.
#![allow(dead_code)]

mod blob;
mod checkpoint;
mod error;
mod ggml;
mod names;
mod onnx;
mod pack;
mod tensor;

use std::collections::HashMap;

use blob::Blob;
use pack::{Formats, Scratch, Target};

use crate::glm::bundle::Layout;
use crate::glm::kernels::{BytesMut, Format, Matrix};
use crate::glm::weights::{TensorSource, Weights};

pub use error::{ImportError, TensorProblem};

/// Reads an ONNX model with its weights inside it, all matrices in `format`; `F32` gives exactly the numbers that the graph
/// computes with. `name` stands for the file in messages. Rows of queries and keys come in GLM's own order.
pub fn read_onnx(name: &str, bytes: &[u8], format: Format) -> Result<Weights, ImportError> {
    let checkpoint = onnx::checkpoint(&Blob::memory(name, bytes.to_vec()))?;
    let arch = checkpoint.arch.clone();
    let formats = Formats { body: Some(format), ends: Some(format), plain_body: format, plain_ends: format };
    let targets = pack::targets(checkpoint, formats).into_iter().map(|target| (target.name.clone(), target));
    Weights::collect(&arch, &mut InMemory { targets: targets.collect(), scratch: Scratch::default() })
}

/// Packs each tensor when it is asked for.
struct InMemory {
    targets: HashMap<String, Target>,
    scratch: Scratch,
}

impl InMemory {
    fn packed(&mut self, name: &str) -> Result<(Target, BytesMut), ImportError> {
        let missing = || ImportError::tensor(name, TensorProblem::Missing);
        let target = self.targets.remove(name).ok_or_else(missing)?;
        let (bytes, piece) = target.bytes().zip(target.piece_bytes()).ok_or_else(missing)?;
        let mut packed = BytesMut::zeroed(bytes);
        for (n, out) in packed.chunks_mut(piece).enumerate() {
            target.pack(n * piece, &mut self.scratch, out)?;
        }
        Ok((target, packed))
    }
}

impl TensorSource for InMemory {
    type Error = ImportError;

    fn matrix(&mut self, name: &str) -> Result<Matrix, ImportError> {
        let (Target { layout, rows, cols, .. }, packed) = self.packed(name)?;
        let Layout::Panels(format) = layout else {
            return Err(ImportError::tensor(name, TensorProblem::Missing));
        };
        Matrix::new(rows, cols, format, packed.into())
            .map_err(|_| ImportError::tensor(name, TensorProblem::Missing))
    }

    fn vector(&mut self, name: &str) -> Result<Vec<f32>, ImportError> {
        let (Target { rows, .. }, packed) = self.packed(name)?;
        let (numbers, _) = packed.as_chunks();
        Ok(numbers.iter().take(rows).map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}
