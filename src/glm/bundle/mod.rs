//! A model on disk: weights that are mapped and used in place, the tokenizer, the template, and a manifest that says what they
//! must be.
//!
//! | file | content |
//! |---|---|
//! | `manifest.json` | shape, tensor table, end ids, hashes, golden tokens ([`Manifest`]) |
//! | `weights.bin` | every tensor as the kernels read it, one behind the other, each at a multiple of 64 bytes |
//! | `tokenizer.json` | as `tokenizers` writes it; may be missing |
//! | `template.jinja` | the chat template; may be missing |
//!
//! A bundle is written under another name and renamed when it is whole, and never changed after that: a directory that opens
//! is complete, and what is mapped stays as it is. [`Bundle::open`] reads the manifest and maps the weights without looking at
//! them; [`Bundle::verify`] reads everything. Tokenizer and template are parsed at the import and by whoever uses them ([`Words`]).

mod golden;
mod layout;
mod list;
mod manifest;
mod verify;
mod words;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::glm::arch::Arch;
use crate::glm::engine::EngineError;
use crate::glm::kernels::{Bytes, Isa, Matrix};
use crate::glm::weights::{TensorSource, Weights};
use crate::limits;

pub use crate::hash::Sha256;
pub use golden::{Departure, Golden, GoldenRun, GoldenStep, TOLERANCE};
pub use layout::Layout;
pub use list::{Listed, list};
pub use manifest::{ALIGN, FORMAT, FileEntry, Manifest, Origin, TensorEntry};
pub use verify::Verified;
pub use words::{BadWords, Words};

/// Name of the manifest.
pub const MANIFEST: &str = "manifest.json";
/// Name of the weights.
pub const WEIGHTS: &str = "weights.bin";
/// Name of the tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";
/// Name of the chat template.
pub const TEMPLATE: &str = "template.jinja";

/// A model on disk, opened.
#[derive(Debug, Clone)]
pub struct Bundle {
    dir: PathBuf,
    manifest: Manifest,
    weights: Bytes,
}

/// A bundle that can't be used; the fault of whoever put it there.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file can't be read.
    #[error("{path} can't be read: {source}; check the path, or import the model again")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The manifest can't be right.
    #[error("{path} can't be used: {what}; import the model again")]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A file is not what the manifest describes.
    #[error("{path} is not what the manifest describes: {what}; import the model again")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Tokenizer or template, whole as they are, can't be used with the model.
    #[error("the model in {dir}: {source}")]
    Words {
        /// The bundle's directory.
        dir: PathBuf,
        /// Why not.
        source: BadWords,
    },
    /// The bytes are right and the model answers otherwise; this program's or this machine's fault.
    #[error(
        "the model does not answer as when it was imported: at token {} of prompt {} the logit of {} is {} and was {}; its \
         hashes are right, so report this with the processor's name and {isa}",
        departure.step, departure.prompt, departure.token, departure.found, departure.recorded
    )]
    Golden {
        /// Where.
        departure: Departure,
        /// The kernels that were used.
        isa: Isa,
    },
    /// The model can't be run.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Bundle {
    /// Opens a bundle's directory: reads the manifest, maps the weights. Takes milliseconds whatever the size.
    pub fn open(dir: &Path) -> Result<Bundle, BundleError> {
        let path = dir.join(MANIFEST);
        let text = read(&path, limits::BUNDLE_MANIFEST_BYTES_MAX)?;
        let manifest = parse(&text).map_err(|what| BundleError::Manifest { path, what })?;
        let path = dir.join(WEIGHTS);
        let failed = |source| BundleError::Read { path: path.clone(), source };
        let file = File::open(&path).map_err(failed)?;
        let weights = Bytes::map(file).map_err(failed)?;
        let bundle = Bundle { dir: dir.to_owned(), manifest, weights };
        bundle.check_length()?;
        Ok(bundle)
    }

    /// Whether the file of the weights is as long as it has to be, and was whenever it was read. Who uses the weights for long
    /// asks before each use; what goes within a use is zeros from then on, and an engine's run that meets them fails.
    pub fn check_length(&self) -> Result<(), BundleError> {
        let path = self.dir.join(WEIGHTS);
        if self.weights.is_cut() {
            let what = "a part of it was gone when it was read: it was shortened, or its disk cannot be read"
                .to_owned();
            return Err(BundleError::Damaged { path, what });
        }
        let found =
            self.weights.file_bytes().map_err(|source| BundleError::Read { path: path.clone(), source })?;
        let due = self.manifest.weights_bytes;
        match found.is_none_or(|found| found == due) {
            true => Ok(()),
            false => {
                let what = format!("it has {} bytes where {due} are due", found.unwrap_or(0));
                Err(BundleError::Damaged { path, what })
            }
        }
    }

    /// Where it lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The model's shape.
    pub fn arch(&self) -> &Arch {
        &self.manifest.arch
    }

    /// Ids that end an answer.
    pub fn end_ids(&self) -> &[u32] {
        &self.manifest.end_ids
    }

    /// Sixteen hex digits: the model's name in records and logs.
    pub fn id(&self) -> String {
        self.manifest.id()
    }

    /// All weights; matrices stay in the mapped file.
    pub fn weights(&self) -> Result<Weights, BundleError> {
        Weights::collect(&self.manifest.arch, &mut InPlace(self))
    }

    /// `tokenizer.json`, hashed and compared; `None` where the bundle has none.
    pub fn tokenizer_json(&self) -> Result<Option<Vec<u8>>, BundleError> {
        self.small_file(TOKENIZER, self.manifest.tokenizer.as_ref(), limits::IMPORT_TOKENIZER_BYTES_MAX)
    }

    /// The chat template, hashed and compared; `None` where the bundle has none.
    pub fn chat_template(&self) -> Result<Option<String>, BundleError> {
        let entry = self.manifest.template.as_ref();
        let Some(bytes) = self.small_file(TEMPLATE, entry, limits::IMPORT_CONFIG_BYTES_MAX)? else {
            return Ok(None);
        };
        let path = self.dir.join(TEMPLATE);
        let what = "it is not UTF-8".to_owned();
        String::from_utf8(bytes).map(Some).map_err(|_| BundleError::Damaged { path, what })
    }

    fn small_file(
        &self,
        name: &str,
        entry: Option<&FileEntry>,
        max: u64,
    ) -> Result<Option<Vec<u8>>, BundleError> {
        let Some(entry) = entry else { return Ok(None) };
        let path = self.dir.join(name);
        let bytes = read(&path, max)?;
        match Sha256::of(&bytes) == entry.sha256 {
            true => Ok(Some(bytes)),
            false => Err(BundleError::Damaged { path, what: "its hash differs".to_owned() }),
        }
    }

    fn tensor(&self, name: &str) -> Result<(&TensorEntry, Bytes), BundleError> {
        let path = || self.dir.join(WEIGHTS);
        let missing = || BundleError::Damaged { path: path(), what: format!("tensor {name} is missing") };
        let entry = self.manifest.tensors.iter().find(|t| t.name == name).ok_or_else(missing)?;
        let place = usize::try_from(entry.offset).ok().zip(usize::try_from(entry.bytes).ok());
        let part = place.and_then(|(at, len)| self.weights.slice(at..at.checked_add(len)?));
        Ok((entry, part.ok_or_else(missing)?))
    }
}

/// Reads a manifest's text and checks it against itself.
pub fn parse(text: &[u8]) -> Result<Manifest, String> {
    let manifest: Manifest = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    manifest.check()?;
    Ok(manifest)
}

/// Weights where they lie.
struct InPlace<'a>(&'a Bundle);

impl TensorSource for InPlace<'_> {
    type Error = BundleError;

    fn matrix(&mut self, name: &str) -> Result<Matrix, BundleError> {
        let (entry, bytes) = self.0.tensor(name)?;
        let bad = |what: String| BundleError::Damaged { path: self.0.dir.join(WEIGHTS), what };
        let Layout::Panels(format) = entry.layout else {
            return Err(bad(format!("tensor {name} is a vector")));
        };
        Matrix::new(entry.rows, entry.cols, format, bytes).map_err(|e| bad(format!("tensor {name}: {e}")))
    }

    fn vector(&mut self, name: &str) -> Result<Vec<f32>, BundleError> {
        let (entry, bytes) = self.0.tensor(name)?;
        let (numbers, _) = bytes.as_chunks();
        Ok(numbers.iter().take(entry.rows).map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}

fn read(path: &Path, max: u64) -> Result<Vec<u8>, BundleError> {
    let failed = |source| BundleError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > max {
        let what = format!("it has more than {max} bytes");
        return Err(BundleError::Damaged { path: path.to_owned(), what });
    }
    Ok(bytes)
}
