//! From parts of a source to the tensors of a bundle: which rows go where, and their packing into panels.
//!
//! A target is packed in *pieces* of whole panels, about [`limits::IMPORT_PIECE_BYTES`] each, so that threads share it and
//! memory does not depend on the model: a piece takes its own bytes, the source's bytes of its rows, and those rows as
//! numbers or blocks.

use std::collections::BTreeSet;
use std::ops::Range;

use super::checkpoint::{Checkpoint, LayerParts, Part};
use super::error::{ImportError, TensorProblem};
use crate::glm::bundle::Layout;
use crate::glm::kernels::{BLOCK_COLS, Block, Format, PANEL_ROWS, PanelWriter};
use crate::glm::weights::{self, TensorShape};
use crate::limits;

/// One tensor of a bundle, not packed yet.
pub(super) struct Target {
    pub(super) name: String,
    pub(super) layout: Layout,
    pub(super) rows: usize,
    pub(super) cols: usize,
    parts: Vec<Part>,
    /// Two parts whose panels stand in turns.
    woven: bool,
}

/// Which format the matrices get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Formats {
    /// The layers; `None`: whatever keeps the source's blocks.
    pub(super) body: Option<Format>,
    /// Embedding and head; `None`: whatever keeps the source's blocks.
    pub(super) ends: Option<Format>,
    /// What the layers' plain numbers become where nothing is asked for.
    pub(super) plain_body: Format,
    /// What embedding's and head's become.
    pub(super) plain_ends: Format,
}

/// Buffers that are used again from piece to piece.
#[derive(Default)]
pub(super) struct Scratch {
    raw: Vec<u8>,
    numbers: Vec<f32>,
    blocks: Vec<Block>,
}

/// A row of a piece and where it comes from. Sorted, neighbours in the source stand side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct RowSource {
    part: usize,
    /// In the part's tensor.
    row: usize,
    /// In the piece.
    to: usize,
}

/// All targets of a checkpoint, in a bundle's order.
pub(super) fn targets(checkpoint: Checkpoint, formats: Formats) -> Vec<Target> {
    let Checkpoint { arch, embed, norm, layers, head } = checkpoint;
    let body = |parts: &[Part]| format_of(parts, formats.body, formats.plain_body);
    let ends = |parts: &[Part]| format_of(parts, formats.ends, formats.plain_ends);
    let mut all = vec![Target::matrix("embed".to_owned(), vec![embed], ends)];
    for (n, layer) in layers.into_iter().enumerate() {
        layer_targets(n, layer, body, &mut all);
    }
    all.push(Target::vector("norm".to_owned(), vec![norm]));
    all.extend(head.map(|head| Target::matrix("head".to_owned(), vec![head], ends)));
    // What is packed here and what is read there must be the same list.
    assert!(all.iter().map(Target::listed).eq(weights::tensors(&arch)), "targets do not follow the list");
    all
}

/// What changes blocks of one kind into blocks of another, for the operator: the engine has not every kind.
pub(super) fn regrained(targets: &[Target]) -> Option<String> {
    let changes: BTreeSet<String> = targets
        .iter()
        .filter_map(|target| match target.layout {
            Layout::Panels(format) => Some((format, &target.parts)),
            Layout::Vector => None,
        })
        .flat_map(|(format, parts)| parts.iter().map(move |part| (part.tensor.encoding, format)))
        .filter_map(|(encoding, format)| encoding.regrained(format))
        .collect();
    let changes: Vec<String> = changes.into_iter().collect();
    (!changes.is_empty()).then(|| {
        format!(
            "blocks are made anew, which costs a little of what the file holds: {}; for the least loss import the original \
             checkpoint",
            changes.join(", ")
        )
    })
}

fn layer_targets(
    n: usize,
    layer: LayerParts,
    body: impl Fn(&[Part]) -> Format + Copy,
    all: &mut Vec<Target>,
) {
    let name = |tensor: &str| format!("layers.{n}.{tensor}");
    all.push(Target::vector(name("attn_norm"), vec![layer.attn_norm]));
    all.push(Target::matrix(name("qkv"), layer.qkv, body));
    if !layer.qkv_bias.is_empty() {
        all.push(Target::vector(name("qkv_bias"), layer.qkv_bias));
    }
    all.push(Target::matrix(name("o"), vec![layer.o], body));
    all.extend(layer.post_attn_norm.map(|norm| Target::vector(name("post_attn_norm"), vec![norm])));
    all.push(Target::vector(name("mlp_norm"), vec![layer.mlp_norm]));
    let gate_up = Target::matrix(name("gate_up"), vec![layer.gate, layer.up], body);
    let rows = 2 * gate_up.parts[0].rows.next_multiple_of(PANEL_ROWS);
    all.push(Target { woven: true, rows, ..gate_up });
    all.push(Target::matrix(name("down"), vec![layer.down], body));
    all.extend(layer.post_mlp_norm.map(|norm| Target::vector(name("post_mlp_norm"), vec![norm])));
}

/// The narrowest format that keeps every part as well as its blocks do.
fn format_of(parts: &[Part], asked: Option<Format>, plain: Format) -> Format {
    let width = |format: &Format| format.panel_bytes(BLOCK_COLS);
    let kept = parts.iter().map(|part| part.tensor.encoding.kept_by().unwrap_or(plain));
    asked.or(kept.max_by_key(width)).unwrap_or(plain)
}

impl Target {
    fn vector(name: String, parts: Vec<Part>) -> Target {
        let rows = parts.iter().map(|part| part.rows).sum();
        Target { name, layout: Layout::Vector, rows, cols: 1, parts, woven: false }
    }

    fn matrix(name: String, parts: Vec<Part>, format: impl Fn(&[Part]) -> Format) -> Target {
        let rows = parts.iter().map(|part| part.rows).sum();
        let (layout, cols) =
            (Layout::Panels(format(&parts)), parts.first().map_or(0, |part| part.tensor.cols));
        Target { name, layout, rows, cols, parts, woven: false }
    }

    /// As the list of tensors has it.
    fn listed(&self) -> (String, TensorShape) {
        let shape = match self.layout {
            Layout::Vector => TensorShape::Vector(self.rows),
            Layout::Panels(_) => TensorShape::Matrix { rows: self.rows, cols: self.cols },
        };
        (self.name.clone(), shape)
    }

    /// Bytes in the bundle; `None` where that can't be addressed.
    pub(super) fn bytes(&self) -> Option<usize> {
        self.layout.bytes(self.rows, self.cols)
    }

    /// Bytes of every piece but the last, which may be shorter.
    pub(super) fn piece_bytes(&self) -> Option<usize> {
        self.layout.piece_bytes(self.rows, self.cols, limits::IMPORT_PIECE_BYTES)
    }

    /// Packs the piece that begins at byte `at`, a multiple of [`Target::piece_bytes`]; `out` is as long as the piece.
    pub(super) fn pack(&self, at: usize, scratch: &mut Scratch, out: &mut [u8]) -> Result<(), ImportError> {
        let format = match self.layout {
            Layout::Vector => return self.pack_vector(scratch, out),
            Layout::Panels(format) => format,
        };
        let stride = format.panel_bytes(self.cols).unwrap_or(out.len());
        let (first, panels) = (at / stride * PANEL_ROWS, out.len() / stride);
        let writers = (0..panels).map(|_| PanelWriter::new(format, self.cols));
        // Its bytes are there already, so that they can be addressed.
        let mut writers: Vec<PanelWriter> = writers.flatten().collect();
        assert_eq!(writers.len(), panels);
        let rows = self.row_sources(first..first + panels * PANEL_ROWS);
        for run in runs(&rows) {
            self.pack_run(run, format, scratch, &mut writers)?;
        }
        for (out, writer) in out.chunks_exact_mut(stride).zip(&writers) {
            out.copy_from_slice(writer.panel());
        }
        Ok(())
    }

    fn pack_run(
        &self,
        run: &[RowSource],
        format: Format,
        scratch: &mut Scratch,
        writers: &mut [PanelWriter],
    ) -> Result<(), ImportError> {
        let Scratch { raw, numbers, blocks } = scratch;
        let tensor = &self.parts[run[0].part].tensor;
        let rows = run[0].row..run[0].row + run.len();
        if tensor.encoding.is_exact(format) {
            let per_row = self.cols.div_ceil(BLOCK_COLS);
            blocks.resize(rows.len() * per_row, Block::ZERO);
            tensor.blocks(rows, raw, blocks)?;
            for (row, blocks) in run.iter().zip(blocks.chunks_exact(per_row)) {
                for (b, block) in blocks.iter().enumerate() {
                    writers[row.to / PANEL_ROWS].set_block(row.to % PANEL_ROWS, b, block);
                }
            }
            return Ok(());
        }
        numbers.resize(rows.len() * self.cols, 0.0);
        tensor.numbers(rows, raw, numbers)?;
        for (row, numbers) in run.iter().zip(numbers.chunks_exact(self.cols)) {
            if format != Format::F32 && numbers.iter().fold(false, |large, x| large | (x.abs() > LARGEST)) {
                let problem = TensorProblem::TooLarge { row: row.row, format: format.name() };
                return Err(tensor.problem(problem));
            }
            writers[row.to / PANEL_ROWS].set_row(row.to % PANEL_ROWS, numbers);
        }
        Ok(())
    }

    fn pack_vector(&self, scratch: &mut Scratch, out: &mut [u8]) -> Result<(), ImportError> {
        out.fill(0);
        let Scratch { raw, numbers, .. } = scratch;
        for run in runs(&self.row_sources(0..self.rows)) {
            numbers.resize(run.len(), 0.0);
            let rows = run[0].row..run[0].row + run.len();
            self.parts[run[0].part].tensor.numbers(rows, raw, numbers)?;
            for (row, number) in run.iter().zip(&*numbers) {
                out[row.to * 4..][..4].copy_from_slice(&number.to_le_bytes());
            }
        }
        Ok(())
    }

    /// Where some rows come from, in the source's order; padding comes from nowhere.
    fn row_sources(&self, rows: Range<usize>) -> Vec<RowSource> {
        let source = |row: usize| {
            let (part, within) = if self.woven { self.woven_row(row) } else { self.stacked_row(row) }?;
            let source = self.parts[part].row(within);
            Some(RowSource { part, row: source, to: row - rows.start })
        };
        let mut sources: Vec<RowSource> = rows.clone().filter_map(source).collect();
        sources.sort_unstable();
        sources
    }

    fn stacked_row(&self, mut row: usize) -> Option<(usize, usize)> {
        for (p, part) in self.parts.iter().enumerate() {
            if row < part.rows {
                return Some((p, row));
            }
            row -= part.rows;
        }
        None
    }

    fn woven_row(&self, row: usize) -> Option<(usize, usize)> {
        let (panel, lane) = (row / PANEL_ROWS, row % PANEL_ROWS);
        let (part, within) = (panel % 2, panel / 2 * PANEL_ROWS + lane);
        (within < self.parts[part].rows).then_some((part, within))
    }
}

/// Rows that stand side by side in one part, so that they can be read at once.
fn runs(rows: &[RowSource]) -> impl Iterator<Item = &[RowSource]> {
    rows.chunk_by(|a, b| a.part == b.part && a.row + 1 == b.row)
}

/// Weights beyond this could have an infinite scale in half precision: 8 steps of `Q4_0` at their largest.
const LARGEST: f32 = 8.0 * 65_504.0;
