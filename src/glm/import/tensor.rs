//! One tensor of a source: where it stands, how it is encoded, and its rows as numbers or as blocks.

use std::ops::Range;

use half::{bf16, f16};

use super::blob::Blob;
use super::error::{ImportError, TensorProblem};
use super::ggml;
use crate::glm::kernels::{BLOCK_COLS, Block, Format};
use crate::limits;

/// How the numbers of a tensor stand in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    F32,
    F16,
    Bf16,
    /// Codes with a scale per row beside them.
    I8,
    Q4_0,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

/// `rows` x `cols` numbers in a file. A vector has one column.
#[derive(Clone)]
pub(super) struct Tensor {
    /// As the file calls it.
    pub(super) name: String,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) encoding: Encoding,
    place: Place,
    /// One per row, for [`Encoding::I8`].
    scales: Vec<f32>,
}

#[derive(Clone)]
struct Place {
    blob: Blob,
    at: u64,
    /// Stands column by column: the file's rows are our columns.
    across: bool,
}

impl Encoding {
    /// Numbers of a block, and its bytes.
    pub(super) fn block(self) -> (usize, usize) {
        match self {
            Encoding::F32 => (1, 4),
            Encoding::F16 | Encoding::Bf16 => (1, 2),
            Encoding::I8 => (1, 1),
            Encoding::Q4_0 => (BLOCK_COLS, 18),
            Encoding::Q8_0 => (BLOCK_COLS, 34),
            Encoding::Q4K => (ggml::SUPER_COLS, 144),
            Encoding::Q5K => (ggml::SUPER_COLS, 176),
            Encoding::Q6K => (ggml::SUPER_COLS, 210),
        }
    }

    /// Bytes of one row; `None` where a row is no whole number of blocks.
    pub(super) fn row_bytes(self, cols: usize) -> Option<u64> {
        let (numbers, bytes) = self.block();
        if !cols.is_multiple_of(numbers) {
            return None;
        }
        (cols as u64 / numbers as u64).checked_mul(bytes as u64)
    }

    /// `q4_k to q4_0`, where blocks of this kind become other blocks.
    pub(super) fn regrained(self, format: Format) -> Option<String> {
        let name = match self {
            Encoding::F32 | Encoding::F16 | Encoding::Bf16 | Encoding::I8 => return None,
            Encoding::Q4_0 => "q4_0",
            Encoding::Q8_0 => "q8_0",
            Encoding::Q4K => "q4_k",
            Encoding::Q5K => "q5_k",
            Encoding::Q6K => "q6_k",
        };
        (format != Format::F32 && !self.is_exact(format)).then(|| format!("{name} to {}", format.name()))
    }

    /// Whether `format` takes the blocks as they are.
    pub(super) fn is_exact(self, format: Format) -> bool {
        match self {
            Encoding::Q4_0 => format != Format::F32,
            Encoding::Q8_0 | Encoding::I8 => format == Format::Q8_0,
            _ => false,
        }
    }

    /// The format that keeps what this holds and wastes least, where there is one; plain numbers have none.
    pub(super) fn kept_by(self) -> Option<Format> {
        match self {
            Encoding::F32 | Encoding::F16 | Encoding::Bf16 => None,
            Encoding::Q4_0 | Encoding::Q4K => Some(Format::Q4_0),
            Encoding::Q8_0 | Encoding::Q5K | Encoding::Q6K | Encoding::I8 => Some(Format::Q8_0),
        }
    }
}

/// Where a tensor stands.
pub(super) struct At<'a> {
    pub(super) blob: &'a Blob,
    /// Offset of its first byte in the blob.
    pub(super) at: u64,
    /// How many bytes are set aside for it.
    pub(super) bytes: u64,
}

impl Tensor {
    /// A tensor that lies row by row at `at`; its bytes must be exactly those of its shape and lie within the file.
    pub(super) fn new(
        name: &str,
        [rows, cols]: [usize; 2],
        encoding: Encoding,
        at: At<'_>,
    ) -> Result<Tensor, ImportError> {
        let At { blob, at, bytes } = at;
        let place = Place { blob: blob.clone(), at, across: false };
        let tensor = Tensor { name: name.to_owned(), rows, cols, encoding, place, scales: Vec::new() };
        let bad = |what: String| blob.damaged(format!("tensor {} {what}", super::error::clip(name)));
        if rows == 0 || cols == 0 {
            return Err(bad("has no elements".into()));
        }
        let row = encoding.row_bytes(cols).ok_or_else(|| {
            bad(format!("has rows of {cols} numbers, its blocks have {}", encoding.block().0))
        })?;
        let wanted = row.checked_mul(rows as u64).ok_or_else(|| bad("is too large".into()))?;
        if bytes != wanted {
            return Err(bad(format!("has {bytes} bytes, {rows} x {cols} numbers take {wanted}")));
        }
        if at.checked_add(bytes).is_none_or(|end| end > blob.len()) {
            return Err(bad("lies outside the file".into()));
        }
        Ok(tensor)
    }

    /// The same bytes read the other way: what was a row is a column.
    pub(super) fn across(mut self) -> Tensor {
        assert!(self.encoding.block().0 == 1, "blocks can't be read across");
        (self.rows, self.cols) = (self.cols, self.rows);
        self.place.across = !self.place.across;
        self
    }

    /// The same bytes as rows of one number: a vector.
    pub(super) fn into_vector(mut self) -> Tensor {
        assert!(self.encoding.block().0 == 1 && !self.place.across, "only plain numbers are vectors");
        (self.rows, self.cols) = (self.rows * self.cols, 1);
        self
    }

    /// What the codes of each row are multiplied by.
    pub(super) fn with_scales(mut self, scales: Vec<f32>) -> Tensor {
        assert!(scales.len() == self.rows && self.encoding == Encoding::I8);
        self.scales = scales;
        self
    }

    /// Bytes in the file.
    pub(super) fn bytes(&self) -> u64 {
        self.encoding.row_bytes(self.cols).unwrap_or(0).saturating_mul(self.rows as u64)
    }

    /// Dimensions, for messages.
    pub(super) fn shape(&self) -> String {
        shape(self.rows, self.cols)
    }

    /// Some rows as numbers, one after the other; `out` has room for exactly these.
    pub(super) fn numbers(
        &self,
        rows: Range<usize>,
        raw: &mut Vec<u8>,
        out: &mut [f32],
    ) -> Result<(), ImportError> {
        assert!(rows.end <= self.rows && out.len() == rows.len() * self.cols);
        self.fetch(rows.clone(), raw)?;
        match self.encoding {
            Encoding::F32 => plain::<4>(raw, out, f32::from_le_bytes),
            Encoding::F16 => plain::<2>(raw, out, |b| f16::from_le_bytes(b).to_f32()),
            Encoding::Bf16 => plain::<2>(raw, out, |b| bf16::from_le_bytes(b).to_f32()),
            Encoding::I8 => {
                plain::<1>(raw, out, |[b]| f32::from(b as i8));
                for (out, scale) in out.chunks_exact_mut(self.cols).zip(&self.scales[rows.clone()]) {
                    out.iter_mut().for_each(|x| *x *= scale);
                }
            }
            Encoding::Q4_0 => blocks(raw, 18, out, |b, out| spread(&ggml::q4_0(b), out)),
            Encoding::Q8_0 => blocks(raw, 34, out, |b, out| spread(&ggml::q8_0(b), out)),
            Encoding::Q4K => blocks(raw, 144, out, ggml::q4_k),
            Encoding::Q5K => blocks(raw, 176, out, ggml::q5_k),
            Encoding::Q6K => blocks(raw, 210, out, ggml::q6_k),
        }
        for (row, out) in rows.zip(out.chunks_exact(self.cols)) {
            // All of them, without a way out before the end: that is what becomes SIMD.
            if out.iter().fold(false, |bad, x| bad | !x.is_finite()) {
                return Err(self.problem(TensorProblem::NotFinite { row }));
            }
        }
        Ok(())
    }

    /// Some rows as blocks, where [`Encoding::is_exact`] says so; `out` has room for exactly these.
    pub(super) fn blocks(
        &self,
        rows: Range<usize>,
        raw: &mut Vec<u8>,
        out: &mut [Block],
    ) -> Result<(), ImportError> {
        let per_row = self.cols.div_ceil(BLOCK_COLS);
        assert!(rows.end <= self.rows && out.len() == rows.len() * per_row);
        self.fetch(rows.clone(), raw)?;
        match self.encoding {
            Encoding::Q4_0 => raw.chunks_exact(18).zip(&mut *out).for_each(|(b, out)| *out = ggml::q4_0(b)),
            Encoding::Q8_0 => raw.chunks_exact(34).zip(&mut *out).for_each(|(b, out)| *out = ggml::q8_0(b)),
            _ => self.codes(rows.clone(), raw, out),
        }
        for (row, blocks) in rows.zip(out.chunks_exact(per_row)) {
            if blocks.iter().any(|b| !b.scale.is_finite()) {
                return Err(self.problem(TensorProblem::NotFinite { row }));
            }
        }
        Ok(())
    }

    /// An error that names this tensor.
    pub(super) fn problem(&self, problem: TensorProblem) -> ImportError {
        ImportError::tensor(&self.name, problem)
    }

    fn codes(&self, rows: Range<usize>, raw: &[u8], out: &mut [Block]) {
        let out = out.chunks_exact_mut(self.cols.div_ceil(BLOCK_COLS));
        for ((raw, out), scale) in raw.chunks_exact(self.cols).zip(out).zip(&self.scales[rows]) {
            for (raw, out) in raw.chunks(BLOCK_COLS).zip(out) {
                *out = Block { scale: f16::from_f32(*scale), ..Block::ZERO };
                out.q.iter_mut().zip(raw).for_each(|(q, byte)| *q = *byte as i8);
            }
        }
    }

    /// The bytes of some rows, row by row, whichever way they stand in the file.
    fn fetch(&self, rows: Range<usize>, raw: &mut Vec<u8>) -> Result<(), ImportError> {
        let Place { blob, at, across } = &self.place;
        let (_, size) = self.encoding.block();
        let row = self.encoding.row_bytes(self.cols).unwrap_or(0);
        raw.clear();
        raw.resize(rows.len() * row as usize, 0);
        if !across {
            return blob.read(at + rows.start as u64 * row, raw);
        }
        // A band of columns of the file: every line of it gives one number to each of our rows.
        let mut line = vec![0; rows.len() * size];
        for col in 0..self.cols {
            blob.read(at + ((col * self.rows + rows.start) * size) as u64, &mut line)?;
            for (row, number) in line.chunks_exact(size).enumerate() {
                raw[(row * self.cols + col) * size..][..size].copy_from_slice(number);
            }
        }
        Ok(())
    }
}

/// Dimensions, for messages.
pub(super) fn shape(rows: usize, cols: usize) -> String {
    if cols == 1 { format!("a vector of {rows}") } else { format!("{rows} x {cols}") }
}

/// Two dimensions out of a file's one or two (a vector is a column), refused where no model has them.
pub(super) fn dimensions(blob: &Blob, name: &str, dims: &[u64]) -> Result<[usize; 2], ImportError> {
    let bad = |what: &str| blob.damaged(format!("tensor {} {what}", super::error::clip(name)));
    let side = |n: u64| match usize::try_from(n) {
        Ok(n) if (1..=limits::IMPORT_SIDE_MAX).contains(&n) => Ok(n),
        _ => Err(bad(&format!("has a side of {n}, it may have 1 to {}", limits::IMPORT_SIDE_MAX))),
    };
    match *dims {
        [n] => Ok([side(n)?, 1]),
        [rows, cols] => Ok([side(rows)?, side(cols)?]),
        _ => Err(bad(&format!("has {} dimensions, a GLM's have one or two", dims.len()))),
    }
}

fn plain<const N: usize>(raw: &[u8], out: &mut [f32], number: impl Fn([u8; N]) -> f32) {
    let (raw, _) = raw.as_chunks::<N>();
    raw.iter().zip(out).for_each(|(bytes, out)| *out = number(*bytes));
}

fn blocks(raw: &[u8], bytes: usize, out: &mut [f32], decode: impl Fn(&[u8], &mut [f32])) {
    let count = raw.len() / bytes;
    let per_block = out.len() / count.max(1);
    raw.chunks_exact(bytes)
        .zip(out.chunks_exact_mut(per_block.max(1)))
        .for_each(|(raw, out)| decode(raw, out));
}

fn spread(block: &Block, out: &mut [f32]) {
    let scale = block.scale.to_f32();
    out.iter_mut().zip(block.q).for_each(|(out, q)| *out = f32::from(q) * scale);
}
