//! Other people's checkpoints: a Hugging Face directory, a GGUF file, an ONNX export, into one bundle.
//!
//! ```text
//! config.json, *.safetensors ─┐
//! *.gguf ─────────────────────┼─> Source (shape, tensors by role) ─> targets in pieces ─> NAME.partial ─> NAME
//! *.onnx ─────────────────────┘
//! ```
//!
//! Headers are read first and everything is checked against the shape; then weights flow piece by piece through a few threads:
//! memory is [`limits::IMPORT_THREADS_MAX`] times about 10 MiB at most, beside names and the tokenizer, whatever the model's
//! size. An ONNX graph is run once beforehand, with all its weights in memory several times over ([`PROBE_COPIES`]), if they have
//! no more than [`limits::IMPORT_PROBE_BYTES_MAX`] and the machine has room. Blocks that the engine knows (`Q4_0`, `Q8_0`) are kept to the bit; what else is a number is quantised; a weight that is
//! not finite is refused with its tensor and row. Nothing of a source is trusted: sizes are held against the file's own, counts
//! against [`limits`].

mod blob;
mod checkpoint;
mod error;
mod ggml;
mod gguf;
mod hf;
mod journal;
mod names;
mod onnx;
mod pack;
mod pool;
mod source;
mod tensor;
#[cfg(test)]
pub(in crate::glm) mod testing;
#[cfg(test)]
mod tests;
mod write;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use blob::Blob;
use checkpoint::Checkpoint;
use pack::{Formats, Scratch, Target};
use source::{Source, Tokenizer};
use write::{Pace, Partial};

use crate::glm::arch::Arch;
use crate::glm::bundle::{self, FORMAT, Layout, Manifest, Origin, Sha256, Words};
use crate::glm::kernels::{BytesMut, Format, Matrix};
use crate::glm::memory::available_bytes;
use crate::glm::weights::{TensorSource, Weights, tensors};
use crate::limits;

pub use error::{ImportError, TensorProblem};
pub use source::{SourceKind, kind_of};
pub use write::partial_dir;

/// What an operator may choose.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Format of the layers; `None`: the source's own blocks, else `Q4_0` for a model of
    /// [`limits::IMPORT_Q4_PARAMETERS_MIN`] weights or more and `Q8_0` for a smaller one.
    pub body: Option<Format>,
    /// Format of embedding and head; `None`: the source's own blocks, else `Q8_0`, or `F32` if the layers are.
    pub ends: Option<Format>,
    /// Threads that pack, at most [`limits::IMPORT_THREADS_MAX`].
    pub threads: usize,
    /// Take the place of a bundle that has the name already.
    pub replace: bool,
}

impl Default for ImportOptions {
    fn default() -> ImportOptions {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        ImportOptions { body: None, ends: None, threads, replace: false }
    }
}

/// How far an import is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// What is being done.
    pub step: Step,
    /// The tensor that was worked on last.
    pub tensor: &'a str,
    /// Bytes of the bundle that are done.
    pub done: u64,
    /// Bytes of the bundle.
    pub total: u64,
}

/// What an import does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Hashes what an interrupted import has left.
    Resume,
    /// Packs weights.
    Weights,
}

/// A bundle that was made.
#[derive(Debug, Clone)]
pub struct Imported {
    /// Its directory.
    pub dir: PathBuf,
    /// Its name in records and logs.
    pub id: String,
    /// Which kind of checkpoint it came from.
    pub kind: SourceKind,
    /// The model's shape.
    pub arch: Arch,
    /// Bytes of its weights.
    pub weights_bytes: u64,
    /// What an operator should know, a sentence each.
    pub notes: Vec<String>,
}

/// Makes a bundle at `target` from the checkpoint at `source`. Blocks; goes on where an interrupted one stopped. Whatever
/// fails, there is no bundle at `target` that is not whole; what could go on lies in [`partial_dir`], what never could is removed.
pub fn import(
    source: &Path,
    target: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Imported, ImportError> {
    let pace = Pace { threads: options.threads, sync_bytes: limits::IMPORT_SYNC_BYTES };
    import_at(pace, source, target, options, progress)
}

fn import_at(
    pace: Pace,
    source: &Path,
    target: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Imported, ImportError> {
    if !options.replace && target.symlink_metadata().is_ok() {
        return Err(ImportError::Exists { path: target.to_owned() });
    }
    let Source { checkpoint, tokenizer, template, end_ids, kind, files, mut notes } = open(source)?;
    if kind == SourceKind::Onnx {
        notes.extend(probed(source, &checkpoint.arch)?);
    }
    let arch = checkpoint.arch.clone();
    let formats = formats(&checkpoint, options);
    let targets = pack::targets(checkpoint, formats);
    notes.extend(pack::regrained(&targets));
    let (placed, weights_bytes) = write::place(targets)?;
    let tokenizer = tokenizer.as_ref().map(Tokenizer::bytes).transpose()?;
    let mut manifest = Manifest {
        format: FORMAT,
        arch: arch.clone(),
        end_ids,
        source: Origin { kind: kind.name().to_owned(), name: file_name(source) },
        weights_bytes,
        piece_bytes: limits::IMPORT_PIECE_BYTES as u64,
        tokenizer: None,
        template: None,
        golden: None,
        tensors: placed.iter().map(|p| p.entry(Sha256::of(b""))).collect(),
    };
    manifest.check().map_err(|what| ImportError::damaged(source, what))?;
    Words::read(tokenizer.as_deref(), template.as_deref(), arch.vocab, &manifest.end_ids)
        .map_err(|bad| ImportError::Words { path: source.to_owned(), source: bad })?;
    let small = [tokenizer.as_deref(), template.as_deref().map(str::as_bytes)];
    let others = small.into_iter().flatten().map(|bytes| bytes.len() as u64).sum::<u64>();
    let this = Sha256::of(&json(&(&manifest, &files)));
    let mut partial = Partial::open(target, this, weights_bytes, others + limits::IMPORT_ROOM_BYTES)?;
    let hashes = partial.write(&placed, pace, progress).inspect_err(|error| {
        if error.is_lasting() {
            partial.discard();
        }
    })?;
    manifest.tensors = placed.iter().zip(hashes).map(|(p, hash)| p.entry(hash)).collect();
    let keep = |name, bytes: Option<&[u8]>| bytes.map(|bytes| partial.small_file(name, bytes)).transpose();
    manifest.tokenizer = keep(bundle::TOKENIZER, small[0])?;
    manifest.template = keep(bundle::TEMPLATE, small[1])?;
    keep(bundle::MANIFEST, Some(&json(&manifest)))?;
    match partial.golden(options.threads) {
        Ok(Some(golden)) => manifest.golden = Some(golden),
        Ok(None) => notes.push(
            "The model's logits are no numbers or its context is too short: it has no golden tokens.".into(),
        ),
        Err(e) => notes.push(format!("The model has no golden tokens, because it can't be run here: {e}")),
    }
    keep(bundle::MANIFEST, Some(&json(&manifest)))?;
    partial.finish(options.replace)?;
    Ok(Imported { dir: target.to_owned(), id: manifest.id(), kind, arch, weights_bytes, notes })
}

fn open(path: &Path) -> Result<Source, ImportError> {
    match source::kind_of(path)? {
        SourceKind::HuggingFace => hf::open(path),
        SourceKind::Gguf => gguf::open(path),
        SourceKind::Onnx => onnx::open(path),
    }
}

/// What was asked for, or what suits a model of this size.
fn formats(checkpoint: &Checkpoint, options: &ImportOptions) -> Formats {
    let parameters: u64 = tensors(&checkpoint.arch).iter().map(|(_, shape)| shape.numbers()).sum();
    let small = parameters < limits::IMPORT_Q4_PARAMETERS_MIN;
    let asked_for_f32 = options.body == Some(Format::F32);
    Formats {
        body: options.body,
        ends: options.ends.or(asked_for_f32.then_some(Format::F32)),
        plain_body: if small { Format::Q8_0 } else { Format::Q4_0 },
        plain_ends: Format::Q8_0,
    }
}

/// Holds a graph against the engine; a sentence for the operator where that is not possible.
fn probed(path: &Path, arch: &Arch) -> Result<Option<String>, ImportError> {
    let bytes = tensors(arch).iter().map(|(_, shape)| shape.numbers()).sum::<u64>().saturating_mul(4);
    let free = available_bytes(Path::new("/")).unwrap_or(u64::MAX);
    if bytes > limits::IMPORT_PROBE_BYTES_MAX {
        return Ok(Some(
            "the graph is too large to be run for comparison; compare its answers yourself".into(),
        ));
    }
    let needed = bytes.saturating_mul(PROBE_COPIES);
    if needed > free {
        return Ok(Some(format!(
            "the graph was not run for comparison, which takes {} MiB of memory where {} MiB are free; free some and import it \
             anew, or compare its answers yourself",
            needed >> 20,
            free >> 20
        )));
    }
    let weights = in_memory(open(path)?.checkpoint, Format::F32)?;
    Ok(match onnx::probe(path, &weights)? {
        onnx::Probe::Agrees => None,
        onnx::Probe::NotRun(why) => {
            Some(format!("the graph could not be run for comparison ({why}); compare its answers yourself"))
        }
    })
}

/// How often the weights of a graph lie in memory while it is compared: ours, the file's, tract's before and after it optimises.
pub const PROBE_COPIES: u64 = 4;

fn file_name(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    whole.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    // Derived types with names for keys are always written.
    serde_json::to_vec_pretty(value).unwrap_or_default()
}

/// Reads an ONNX model with its weights inside it, all matrices in `format`; `F32` gives exactly the numbers that the graph
/// computes with. `name` stands for the file in messages. Rows of queries and keys come in GLM's own order.
pub fn read_onnx(name: &str, bytes: &[u8], format: Format) -> Result<Weights, ImportError> {
    in_memory(onnx::checkpoint(&Blob::memory(name, bytes.to_vec()))?, format)
}

fn in_memory(checkpoint: Checkpoint, format: Format) -> Result<Weights, ImportError> {
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
