//! What a source brings besides its weights, and which kind of source a path is.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::blob::Blob;
use super::checkpoint::Checkpoint;
use super::error::ImportError;
use crate::limits;
use crate::reading::named_enum;

named_enum! {
    /// Kinds of checkpoints.
    SourceKind {
        /// A directory with `config.json` and safetensors.
        HuggingFace = "hugging_face",
        /// One GGUF file.
        Gguf = "gguf",
        /// An ONNX graph.
        Onnx = "onnx",
    }
}

/// One checkpoint, opened: nothing but headers has been read.
pub(super) struct Source {
    pub(super) checkpoint: Checkpoint,
    /// `tokenizer.json`, or what stands for it.
    pub(super) tokenizer: Option<Tokenizer>,
    /// A Jinja template.
    pub(super) template: Option<String>,
    /// Ids that end an answer.
    pub(super) end_ids: Vec<u32>,
    pub(super) kind: SourceKind,
    /// Every file that was opened.
    pub(super) files: Vec<SourceFile>,
    /// What an operator should know.
    pub(super) notes: Vec<String>,
}

/// Where `tokenizer.json` comes from.
pub(super) enum Tokenizer {
    /// It is a file of the source.
    File(Blob),
    /// It was made of something else.
    Made(Vec<u8>),
}

/// How a file is told from another of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Without its directory.
    pub name: String,
    /// How large.
    pub bytes: u64,
    /// When it was last changed, in nanoseconds since 1970.
    pub changed_ns: i64,
}

impl SourceFile {
    /// Looks at a file.
    pub(super) fn of(path: &Path) -> Result<SourceFile, ImportError> {
        let meta =
            std::fs::metadata(path).map_err(|source| ImportError::Read { path: path.to_owned(), source })?;
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let changed_ns = meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec());
        Ok(SourceFile { name, bytes: meta.len(), changed_ns })
    }
}

impl Tokenizer {
    /// All of it.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, ImportError> {
        match self {
            Tokenizer::File(blob) => blob.whole(limits::IMPORT_TOKENIZER_BYTES_MAX),
            Tokenizer::Made(bytes) => Ok(bytes.clone()),
        }
    }
}

/// Tells what `path` is: a directory, or a file by its first bytes.
pub fn kind_of(path: &Path) -> Result<SourceKind, ImportError> {
    let failed = |source| ImportError::Read { path: path.to_owned(), source };
    let no = |what: &str| Err(ImportError::NoCheckpoint { path: path.to_owned(), what: what.to_owned() });
    let meta = std::fs::metadata(path).map_err(failed)?;
    if meta.is_dir() {
        return match path.join("config.json").exists() {
            true => Ok(SourceKind::HuggingFace),
            false => no("the directory has no config.json"),
        };
    }
    if !meta.is_file() {
        return no("it is neither a directory nor a regular file");
    }
    let mut first = [0; 8];
    let mut file = std::fs::File::open(path).map_err(failed)?.take(8);
    let mut have = 0;
    while have < first.len() {
        match file.read(&mut first[have..]).map_err(failed)? {
            0 => break,
            n => have += n,
        }
    }
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    match name.rsplit_once('.').map_or("", |(_, end)| end) {
        _ if first.starts_with(b"GGUF") => Ok(SourceKind::Gguf),
        "onnx" => Ok(SourceKind::Onnx),
        "gguf" => no("it does not begin as a GGUF file does"),
        "safetensors" => no("a safetensors file alone has no configuration; give its directory"),
        "bin" | "pt" | "pth" => {
            no("pickled weights are not read, as they could run code; save them as safetensors")
        }
        _ => no("its name ends neither in .gguf nor in .onnx"),
    }
}

#[derive(Deserialize)]
struct AddedTokens {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}

/// The tokens that end an answer of a GLM, where only the tokenizer tells.
pub(super) const END_TOKENS: [&str; 3] = ["<|endoftext|>", "<|user|>", "<|observation|>"];

/// Ids of [`END_TOKENS`] in a `tokenizer.json`.
pub(super) fn end_ids(tokenizer: &Tokenizer) -> Result<Vec<u32>, ImportError> {
    let bytes = tokenizer.bytes()?;
    let path = match tokenizer {
        Tokenizer::File(blob) => blob.path(),
        Tokenizer::Made(_) => Path::new("tokenizer.json"),
    };
    let tokens: AddedTokens = serde_json::from_slice(&bytes)
        .map_err(|e| ImportError::damaged(path, format!("it can't be understood ({e})")))?;
    let is_end = |token: &AddedToken| END_TOKENS.contains(&token.content.as_str());
    Ok(tokens.added_tokens.iter().filter(|token| is_end(token)).map(|token| token.id).collect())
}
