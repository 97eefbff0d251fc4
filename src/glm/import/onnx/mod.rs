//! ONNX exports of a GLM with its cache as inputs and outputs: the weights by their names, the shape by the graph.

mod graph;
mod model;
mod rope;
#[cfg(test)]
mod tests;
mod wire;

use super::ImportError;
use super::blob::Blob;
use super::checkpoint::Checkpoint;

/// Reads a graph that is in memory or in a file.
pub(super) fn checkpoint(blob: &Blob) -> Result<Checkpoint, ImportError> {
    let graph = graph::Graph::read(blob)?;
    model::checkpoint(&graph, blob, model::Known::default())
}
