//! The files of a student, checked against its manifest: embedded in the program, or in a directory of the operator's.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::files::read_file;
use crate::hash::Sha256;
use crate::limits;

/// A student's files, whose digests match its manifest.
pub struct Bundle {
    /// The graph with its weights, ONNX.
    pub onnx: Cow<'static, [u8]>,
    /// One token per line.
    pub vocab_txt: Cow<'static, str>,
    /// Groups of tokens.
    pub vocab_json: Cow<'static, str>,
    /// First 16 hex digits of the SHA-256 of `onnx`: the model's name in every digest.
    pub id: String,
    /// What the manifest says of the shapes.
    pub shape: Shape,
}

/// The numbers of the manifest that the graph must agree with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Shape {
    /// Transformer blocks.
    pub layers: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Elements of one head.
    pub head_dim: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Positions that the graph knows.
    pub context_tokens_max: usize,
}

/// A student whose files can't be used; the fault of whoever put them there.
#[derive(Debug, thiserror::Error)]
pub enum BadBundle {
    /// A file can't be read.
    #[error("{path} can't be read: {source}; check the directory of the language model")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is larger than any student.
    #[error("{path} is larger than {} bytes; this is no student", limits::MODEL_FILE_BYTES_MAX)]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// The manifest can't be understood.
    #[error("manifest.json can't be understood: {0}; export the model again")]
    Manifest(String),
    /// A file is not the one that the manifest describes.
    #[error("{file} is not the file that manifest.json describes; copy the model again")]
    Damaged {
        /// Which file.
        file: &'static str,
    },
}

#[derive(Deserialize)]
struct Manifest {
    files: std::collections::HashMap<String, String>,
    #[serde(flatten)]
    shape: Shape,
}

impl Bundle {
    /// The student that ships inside the program.
    pub fn embedded() -> Result<Bundle, BadBundle> {
        Self::check(
            Cow::Borrowed(include_bytes!("../../../models/student/student.onnx")),
            Cow::Borrowed(include_str!("../../../models/student/vocab.txt")),
            Cow::Borrowed(include_str!("../../../models/student/vocab.json")),
            include_str!("../../../models/student/manifest.json"),
        )
    }

    /// A student in a directory: `student.onnx`, `vocab.txt`, `vocab.json`, `manifest.json`. Blocks on the disk.
    pub fn from_dir(dir: &Path) -> Result<Bundle, BadBundle> {
        let text = |name: &str| -> Result<String, BadBundle> {
            let bytes = read(&dir.join(name))?;
            String::from_utf8(bytes).map_err(|e| BadBundle::Read {
                path: dir.join(name),
                source: std::io::Error::new(std::io::ErrorKind::InvalidData, e),
            })
        };
        Self::check(
            Cow::Owned(read(&dir.join("student.onnx"))?),
            Cow::Owned(text("vocab.txt")?),
            Cow::Owned(text("vocab.json")?),
            &text("manifest.json")?,
        )
    }

    fn check(
        onnx: Cow<'static, [u8]>,
        vocab_txt: Cow<'static, str>,
        vocab_json: Cow<'static, str>,
        manifest: &str,
    ) -> Result<Bundle, BadBundle> {
        let manifest: Manifest =
            serde_json::from_str(manifest).map_err(|e| BadBundle::Manifest(e.to_string()))?;
        let hash = Sha256::of(&onnx);
        let found = [
            ("student.onnx", hash),
            ("vocab.txt", Sha256::of(vocab_txt.as_bytes())),
            ("vocab.json", Sha256::of(vocab_json.as_bytes())),
        ];
        for (file, hash) in found {
            if manifest.files.get(file) != Some(&hash.to_string()) {
                return Err(BadBundle::Damaged { file });
            }
        }
        let id = hash.short();
        Ok(Bundle { onnx, vocab_txt, vocab_json, id, shape: manifest.shape })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, BadBundle> {
    let path = path.to_owned();
    read_file(&path, limits::MODEL_FILE_BYTES_MAX).map_err(|source| match source.kind() {
        std::io::ErrorKind::FileTooLarge => BadBundle::TooLarge { path },
        _ => BadBundle::Read { path, source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_files_match_their_manifest() {
        let bundle = Bundle::embedded().unwrap();
        assert_eq!(bundle.id.len(), 16);
        assert_eq!(bundle.vocab_txt.lines().count(), bundle.shape.vocab);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/student");
        for file in ["student.onnx", "vocab.txt", "vocab.json", "manifest.json"] {
            std::fs::copy(source.join(file), dir.path().join(file)).unwrap();
        }
        assert!(Bundle::from_dir(dir.path()).is_ok());
        std::fs::write(dir.path().join("vocab.txt"), "x\n").unwrap();
        assert!(matches!(Bundle::from_dir(dir.path()), Err(BadBundle::Damaged { file: "vocab.txt" })));
        std::fs::remove_file(dir.path().join("student.onnx")).unwrap();
        assert!(matches!(Bundle::from_dir(dir.path()), Err(BadBundle::Read { .. })));
    }
}
