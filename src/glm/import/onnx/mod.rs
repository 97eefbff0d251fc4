//! ONNX exports of a GLM with its cache as inputs and outputs: the weights by their names, the shape by the graph.

mod graph;
mod model;
mod probe;
mod rope;
#[cfg(test)]
mod tests;
mod wire;

use std::path::Path;

use super::ImportError;
use super::blob::Blob;
use super::checkpoint::Checkpoint;
use super::hf::{self, Companions, Config};
use super::source::{Source, SourceFile, SourceKind};

pub(super) use probe::{Probe, probe};

/// Opens a graph's file. What the graph does not say is taken from a `config.json` beside it, if there is one.
pub(super) fn open(path: &Path) -> Result<Source, ImportError> {
    let blob = Blob::open(path)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    let config = hf::optional(&dir.join("config.json"))?.map(|blob| Config::read(&blob)).transpose()?;
    let Companions { tokenizer, template, end_ids, notes } = hf::companions(dir, config.as_ref())?;
    let graph = graph::Graph::read(&blob)?;
    let checkpoint = model::checkpoint(&graph, &blob, config.as_ref())?;
    let beside = graph.files_beside().into_iter().map(|name| dir.join(name));
    Ok(Source {
        checkpoint,
        tokenizer,
        template,
        end_ids,
        kind: SourceKind::Onnx,
        files: std::iter::once(path.to_owned())
            .chain(beside)
            .map(|path| SourceFile::of(&path))
            .collect::<Result<_, _>>()?,
        notes,
    })
}

/// Reads a graph that is in memory with all its weights.
pub(super) fn checkpoint(blob: &Blob) -> Result<Checkpoint, ImportError> {
    model::checkpoint(&graph::Graph::read(blob)?, blob, None)
}
