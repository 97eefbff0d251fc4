//! GGUF files of architecture `chatglm` or `glm4`.
//!
//! | tensor | rows |
//! |---|---|
//! | `attn_qkv`, or `attn_q`, `attn_k`, `attn_v` | head by head, pairs that turn side by side: GLM's own order |
//! | `ffn_up` | twice the MLP's width: the gate's rows, then those of up |
//! | `post_attention_norm`, `post_ffw_norm` | `glm4` only |

mod model;
mod reader;
#[cfg(test)]
mod tests;
mod tokenizer;

use std::path::Path;

use super::ImportError;
use super::blob::Blob;
use super::source::{Source, SourceFile, SourceKind, Tokenizer};
use reader::Gguf;

/// Opens a file: reads its keys and its table of tensors.
pub(super) fn open(path: &Path) -> Result<Source, ImportError> {
    let mut source = read(Blob::open(path)?)?;
    source.files.push(SourceFile::of(path)?);
    Ok(source)
}

/// Reads the front of a file, or of bytes.
pub(super) fn read(blob: Blob) -> Result<Source, ImportError> {
    let gguf = Gguf::open(blob)?;
    let (prefix, family) = model::family(&gguf)?;
    let roles = model::roles(&gguf, model::inter(&gguf, &prefix)?)?;
    let arch = model::arch(&gguf, &prefix, family, &roles)?;
    let made = tokenizer::make(&gguf, arch.vocab)?;
    let mut notes = Vec::new();
    if made.json.is_none() {
        notes.push("the file has no tokenizer: the model takes token ids only".to_owned());
    }
    if made.end_ids.is_empty() {
        notes.push("no end ids are known: answers end by their length only".to_owned());
    }
    Ok(Source {
        checkpoint: roles.checkpoint(arch, None)?,
        tokenizer: made.json.map(Tokenizer::Made),
        template: gguf.text("tokenizer.chat_template").map(str::to_owned),
        end_ids: made.end_ids,
        kind: SourceKind::Gguf,
        files: Vec::new(),
        notes,
    })
}
