//! The files of a small model: within the program, or in a folder of the operator's. Every hash is checked before use.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::manifest::{Manifest, Variant};
use crate::accel::ModelFile;
use crate::files::read_file;
use crate::hash::Sha256;
use crate::limits;

/// A small model whose files are those that its manifest names.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// What it says of itself.
    pub manifest: Manifest,
    /// Inputs with the answers that every variant must give.
    pub golden: Vec<GoldenVector>,
    files: Files,
}

/// One input with its answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenVector {
    /// Samples as a sensor tells them, row by row.
    pub window: Vec<f64>,
    /// The score of the first variant.
    pub score: f64,
    /// The output by type of element: codes of whole numbers, or numbers.
    pub outputs: std::collections::BTreeMap<String, Vec<f64>>,
}

#[derive(Deserialize)]
struct GoldenFile {
    vectors: Vec<GoldenVector>,
}

#[derive(Debug, Clone)]
enum Files {
    Builtin(&'static [(&'static str, &'static [u8])]),
    Folder(PathBuf),
}

/// A bundle that can't be used; the fault of whoever put it there.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// There is no such model in the program, and no such folder.
    #[error("{0} is neither a folder nor a model of this program ({names}); name one of them", names = names())]
    Unknown(String),
    /// A file can't be read.
    #[error("{file} can't be read: {source}; copy the model again")]
    Read {
        /// Which file.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is larger than any small model.
    #[error("{file} is larger than {} bytes; this is no small model", limits::SMALL_MODEL_BYTES_MAX)]
    TooLarge {
        /// Which file.
        file: String,
    },
    /// The manifest, or the golden vectors, can't be understood.
    #[error("{file} can't be used: {what}; export the model again")]
    Malformed {
        /// Which file.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// A file is not the one that the manifest names.
    #[error(
        "{file} is not the file that manifest.json names (sha256 {found}, wanted {wanted}); copy the model again"
    )]
    Hash {
        /// Which file.
        file: String,
        /// Its hash.
        found: String,
        /// What the manifest says.
        wanted: String,
    },
}

const MANIFEST: &str = "manifest.json";

macro_rules! builtin {
    ($name:literal: $($file:literal),+) => {
        ($name, &[$(($file, include_bytes!(concat!("../../models/", $name, "/", $file)) as &[u8])),+])
    };
}

type Shipped = (&'static str, &'static [(&'static str, &'static [u8])]);

/// The models that ship inside the program.
static BUILTIN: &[Shipped] = &[builtin!(
    "cold_room": "manifest.json", "cold_room.tflite", "cold_room.int8.onnx", "cold_room.f32.onnx", "golden.json"
)];

fn names() -> String {
    BUILTIN.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

impl Bundle {
    /// The model `name` of this program, else the bundle in the folder `name`. Blocks on the disk.
    pub fn open(name: &Path) -> Result<Self, BundleError> {
        let builtin = BUILTIN.iter().find(|(builtin, _)| Path::new(builtin) == name);
        match builtin {
            Some((_, files)) => Self::read(Files::Builtin(files)),
            None if name.is_dir() => Self::read(Files::Folder(name.to_owned())),
            None => Err(BundleError::Unknown(name.display().to_string())),
        }
    }

    fn read(files: Files) -> Result<Self, BundleError> {
        let malformed = |name: &str, what| BundleError::Malformed { file: files.origin(name), what };
        let manifest = Manifest::parse(&files.bytes(MANIFEST)?).map_err(|what| malformed(MANIFEST, what))?;
        // What no variant and no check needs is not read: a bundle may carry documents beside.
        let golden = checked(&files, &manifest, &manifest.golden)?;
        let golden: GoldenFile =
            serde_json::from_slice(&golden).map_err(|e| malformed(&manifest.golden, e.to_string()))?;
        let elements = manifest.input.channels.len() * manifest.input.length;
        let usable = |v: &GoldenVector| v.window.len() == elements && v.window.iter().all(|x| x.is_finite());
        let vectors = golden.vectors;
        if vectors.is_empty() || vectors.len() > limits::BUNDLE_ENTRIES_MAX || !vectors.iter().all(usable) {
            let what =
                format!("it does not hold 1 to {} windows of {elements} samples", limits::BUNDLE_ENTRIES_MAX);
            return Err(malformed(&manifest.golden, what));
        }
        Ok(Self { manifest, golden: vectors, files })
    }

    /// The file of `variant`, its hash checked. Blocks on the disk.
    pub fn file(&self, variant: &Variant) -> Result<ModelFile, BundleError> {
        let bytes = checked(&self.files, &self.manifest, &variant.file)?;
        let origin = self.files.origin(&variant.file);
        Ok(ModelFile {
            origin,
            format: variant.backend.clone(),
            bytes: bytes.into(),
            input: variant.input(),
            output: variant.output(),
        })
    }

    /// The hash of `variant`'s file, first 16 hex digits: the model's name in every log line about it.
    pub fn id(&self, variant: &Variant) -> String {
        self.manifest.files.get(&variant.file).map(|hash| hash.chars().take(16).collect()).unwrap_or_default()
    }
}

impl Files {
    fn origin(&self, name: &str) -> String {
        match self {
            Files::Builtin(_) => format!("{name} of this program"),
            Files::Folder(dir) => dir.join(name).display().to_string(),
        }
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, BundleError> {
        match self {
            Files::Builtin(files) => match files.iter().find(|(file, _)| *file == name) {
                Some((_, bytes)) => Ok(bytes.to_vec()),
                None => {
                    Err(BundleError::Read { file: self.origin(name), source: ErrorKind::NotFound.into() })
                }
            },
            Files::Folder(dir) => read(&dir.join(name)),
        }
    }
}

fn checked(files: &Files, manifest: &Manifest, name: &str) -> Result<Vec<u8>, BundleError> {
    let bytes = files.bytes(name)?;
    let (found, wanted) =
        (Sha256::of(&bytes).to_string(), manifest.files.get(name).cloned().unwrap_or_default());
    if found == wanted {
        Ok(bytes)
    } else {
        Err(BundleError::Hash { file: files.origin(name), found, wanted })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, BundleError> {
    let file = path.display().to_string();
    read_file(path, limits::SMALL_MODEL_BYTES_MAX).map_err(|source| match source.kind() {
        ErrorKind::FileTooLarge => BundleError::TooLarge { file },
        _ => BundleError::Read { file, source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A copy of the shipped bundle in a folder of its own.
    fn copied() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in BUILTIN[0].1 {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        dir
    }

    #[test]
    fn the_shipped_bundle_is_whole() {
        let bundle = Bundle::open(Path::new("cold_room")).unwrap();
        for variant in &bundle.manifest.variants {
            assert!(!bundle.file(variant).unwrap().bytes.is_empty());
            assert_eq!(bundle.id(variant).len(), 16);
        }
    }

    #[test]
    fn a_spoilt_file_is_named_with_both_hashes() {
        let dir = copied();
        let bundle = Bundle::open(dir.path()).unwrap();
        let file = dir.path().join("cold_room.int8.onnx");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[100] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let error = bundle.file(&bundle.manifest.variants[1]).unwrap_err().to_string();
        assert!(error.contains("cold_room.int8.onnx") && error.contains("wanted"), "{error}");
        assert!(bundle.file(&bundle.manifest.variants[0]).is_ok());
    }

    #[test]
    fn what_is_missing_or_no_manifest_is_named() {
        let dir = copied();
        std::fs::remove_file(dir.path().join("golden.json")).unwrap();
        assert!(
            matches!(Bundle::open(dir.path()), Err(BundleError::Read { file, .. }) if file.ends_with("golden.json"))
        );
        std::fs::write(dir.path().join("manifest.json"), "{").unwrap();
        assert!(
            matches!(Bundle::open(dir.path()), Err(BundleError::Malformed { file, .. }) if file.ends_with("manifest.json"))
        );
        let error = Bundle::open(Path::new("warm_room")).unwrap_err().to_string();
        assert!(error.contains("warm_room") && error.contains("cold_room"), "{error}");
    }
}
