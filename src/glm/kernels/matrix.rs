//! Weights in panels of 16 rows: sizes, packing, and reading a row back.

use half::f16;

use super::bytes::{Bytes, BytesMut};
use crate::named::named_enum;

/// Rows of a panel.
pub const PANEL_ROWS: usize = 16;
/// Columns of a quantised block; one scale each.
pub const BLOCK_COLS: usize = 32;

/// Columns that stand together in a quantised panel.
const GROUP_COLS: usize = 4;
/// Bytes of one group: 16 rows x 4 columns.
const GROUP_BYTES: usize = PANEL_ROWS * GROUP_COLS;
/// Bytes of one block's scales.
const SCALES_BYTES: usize = PANEL_ROWS * 2;

named_enum! {
    /// How weights lie.
    Format {
        /// Single precision, for small models and as the yardstick.
        F32 = "f32",
        /// Blocks of 32 x i8 and a scale: 8.5 bits per weight.
        Q8_0 = "q8_0",
        /// Blocks of 32 x 4 bits and a scale: 4.5 bits per weight.
        Q4_0 = "q4_0",
    }
}

/// Bytes that can't be the matrix they are said to be; the file's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMatrix {
    /// Nothing, or more than can be addressed.
    #[error("a matrix of {rows} x {cols} can't be")]
    Shape {
        /// Rows.
        rows: usize,
        /// Columns.
        cols: usize,
    },
    /// Too few or too many bytes.
    #[error("{rows} x {cols} in {format} takes {wanted} bytes, there are {found}", format = format.name())]
    Length {
        /// Rows.
        rows: usize,
        /// Columns.
        cols: usize,
        /// How it lies.
        format: Format,
        /// Bytes it takes.
        wanted: usize,
        /// Bytes there are.
        found: usize,
    },
    /// The bytes do not begin at a multiple of 64.
    #[error("the bytes do not begin at a multiple of 64")]
    Alignment,
}

/// `rows` x `cols` weights.
#[derive(Debug, Clone)]
pub struct Matrix {
    rows: usize,
    cols: usize,
    format: Format,
    bytes: Bytes,
}

impl Format {
    /// Bytes of one panel over `cols` columns, a multiple of 64; `None` where that can't be addressed.
    pub fn panel_bytes(self, cols: usize) -> Option<usize> {
        let blocks = cols.div_ceil(BLOCK_COLS);
        let bytes = match self {
            Format::F32 => cols.checked_mul(PANEL_ROWS * 4)?,
            Format::Q8_0 | Format::Q4_0 => blocks.checked_mul(self.block_bytes() + SCALES_BYTES)?,
        };
        bytes.checked_next_multiple_of(64)
    }

    /// Bytes of a matrix; `None` where that can't be addressed.
    pub fn matrix_bytes(self, rows: usize, cols: usize) -> Option<usize> {
        let bytes = self.panel_bytes(cols)?.checked_mul(rows.div_ceil(PANEL_ROWS))?;
        (bytes <= isize::MAX as usize).then_some(bytes)
    }

    /// Bytes of the numbers of one block of a panel, without scales; 0 for `F32`.
    pub(super) fn block_bytes(self) -> usize {
        match self {
            Format::F32 => 0,
            Format::Q8_0 => GROUP_BYTES * BLOCK_COLS / GROUP_COLS,
            Format::Q4_0 => GROUP_BYTES * BLOCK_COLS / GROUP_COLS / 2,
        }
    }
}

impl Matrix {
    /// Takes bytes as weights; they are not looked at.
    pub fn new(rows: usize, cols: usize, format: Format, bytes: Bytes) -> Result<Matrix, BadMatrix> {
        let shape = BadMatrix::Shape { rows, cols };
        let wanted = format.matrix_bytes(rows, cols).filter(|_| rows > 0 && cols > 0).ok_or(shape)?;
        if bytes.len() != wanted {
            return Err(BadMatrix::Length { rows, cols, format, wanted, found: bytes.len() });
        }
        if bytes.as_ptr().align_offset(64) != 0 {
            return Err(BadMatrix::Alignment);
        }
        Ok(Matrix { rows, cols, format, bytes })
    }

    /// Packs rows of numbers, row after row.
    pub fn pack(rows: usize, cols: usize, format: Format, numbers: &[f32]) -> Result<Matrix, BadMatrix> {
        let shape = BadMatrix::Shape { rows, cols };
        let len = format.matrix_bytes(rows, cols).ok_or(shape.clone())?;
        if rows.checked_mul(cols) != Some(numbers.len()) {
            return Err(shape);
        }
        let mut bytes = BytesMut::zeroed(len);
        let mut writer = PanelWriter::new(format, cols).ok_or(shape)?;
        let panels = bytes.chunks_exact_mut(writer.panel().len());
        for (panel, numbers) in panels.zip(numbers.chunks(PANEL_ROWS * cols)) {
            writer.clear();
            for (row, numbers) in numbers.chunks_exact(cols).enumerate() {
                writer.set_row(row, numbers);
            }
            panel.copy_from_slice(writer.panel());
        }
        Matrix::new(rows, cols, format, bytes.into())
    }

    /// Rows: elements of the product.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: elements of what it is multiplied by.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// How it lies.
    pub fn format(&self) -> Format {
        self.format
    }

    /// All panels.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether both are the very same weights in memory.
    pub fn is_same(&self, other: &Matrix) -> bool {
        let shape = |m: &Matrix| (m.rows, m.cols, m.format, m.bytes.as_ptr());
        shape(self) == shape(other)
    }

    /// One row as numbers, `out.len() == cols`.
    ///
    /// # Panics
    /// Where there is no such row, or `out` has another length.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols, "row {row} of {} x {}", self.rows, self.cols);
        let stride = self.bytes.len() / self.rows.div_ceil(PANEL_ROWS);
        let panel = &self.bytes[row / PANEL_ROWS * stride..][..stride];
        let lane = row % PANEL_ROWS;
        match self.format {
            Format::F32 => {
                let column = panel.chunks_exact(PANEL_ROWS * 4);
                for (out, column) in out.iter_mut().zip(column) {
                    *out = f32::from_le_bytes(four(&column[lane * 4..]));
                }
            }
            Format::Q8_0 | Format::Q4_0 => {
                let blocks = self.cols.div_ceil(BLOCK_COLS);
                for (b, out) in out.chunks_mut(BLOCK_COLS).enumerate() {
                    let block = read_block(self.format, panel, blocks, b, lane);
                    let scale = block.scale.to_f32();
                    out.iter_mut().zip(block.q).for_each(|(out, q)| *out = f32::from(q) * scale);
                }
            }
        }
    }
}

/// Thirty-two weights of one row: `scale * q`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Block {
    /// What every `q` is multiplied by.
    pub scale: f16,
    /// -127..=127 for `Q8_0`, -8..=7 for `Q4_0`.
    pub q: [i8; BLOCK_COLS],
}

impl Block {
    /// Nothing but zeros.
    pub const ZERO: Block = Block { scale: f16::ZERO, q: [0; BLOCK_COLS] };

    /// The nearest block of `format`, as ggml rounds (`quantize_row_q8_0_ref`, `quantize_row_q4_0_ref`). Up to 32 numbers;
    /// missing ones are zeros. `F32` has no blocks and gives that of `Q8_0`.
    pub fn quantised(format: Format, numbers: &[f32]) -> Block {
        let mut block = Block::ZERO;
        let extreme = numbers.iter().copied().fold(0.0, |m: f32, x| if x.abs() > m.abs() { x } else { m });
        let scale = match format {
            Format::Q4_0 => extreme / -8.0,
            Format::F32 | Format::Q8_0 => extreme.abs() / 127.0,
        };
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        for (q, x) in block.q.iter_mut().zip(numbers) {
            *q = match format {
                Format::Q4_0 => ((x * inverse + 8.5) as i8).clamp(0, 15) - 8,
                Format::F32 | Format::Q8_0 => (x * inverse).round() as i8,
            };
        }
        block.scale = f16::from_f32(scale);
        block
    }
}

/// One panel being filled.
pub struct PanelWriter {
    format: Format,
    cols: usize,
    panel: BytesMut,
}

impl PanelWriter {
    /// An empty panel over `cols` columns; `None` where that can't be addressed.
    pub fn new(format: Format, cols: usize) -> Option<PanelWriter> {
        let mut writer = PanelWriter { format, cols, panel: BytesMut::zeroed(format.panel_bytes(cols)?) };
        writer.clear();
        Some(writer)
    }

    /// All zeros again.
    pub fn clear(&mut self) {
        self.panel.fill(0);
        if self.format == Format::Q4_0 {
            // Both nibbles of a zero are 8.
            let numbers = self.cols.div_ceil(BLOCK_COLS) * self.format.block_bytes();
            self.panel[..numbers].fill(0x88);
        }
    }

    /// Quantises one row of at most `cols` numbers into lane `row` of the panel.
    ///
    /// # Panics
    /// Where `row` is not below [`PANEL_ROWS`].
    pub fn set_row(&mut self, row: usize, numbers: &[f32]) {
        assert!(row < PANEL_ROWS && numbers.len() <= self.cols);
        if self.format == Format::F32 {
            for (column, x) in self.panel.chunks_exact_mut(PANEL_ROWS * 4).zip(numbers) {
                column[row * 4..][..4].copy_from_slice(&x.to_le_bytes());
            }
            return;
        }
        for (b, numbers) in numbers.chunks(BLOCK_COLS).enumerate() {
            self.set_block(row, b, &Block::quantised(self.format, numbers));
        }
    }

    /// Puts a block of the same format into lane `row`; for `F32` there are none and nothing happens.
    ///
    /// # Panics
    /// Where `row` is not below [`PANEL_ROWS`] or there is no such block.
    pub fn set_block(&mut self, row: usize, block: usize, Block { scale, q }: &Block) {
        let blocks = self.cols.div_ceil(BLOCK_COLS);
        assert!(row < PANEL_ROWS && block < blocks);
        let len = self.format.block_bytes();
        let (numbers, scales) = self.panel.split_at_mut(blocks * len);
        for (group, bytes) in numbers[block * len..][..len].chunks_exact_mut(GROUP_BYTES).enumerate() {
            for (c, byte) in bytes[row * GROUP_COLS..][..GROUP_COLS].iter_mut().enumerate() {
                let low = group * GROUP_COLS + c;
                *byte = match self.format {
                    Format::Q4_0 => ((q[low] + 8) as u8 & 15) | ((q[low + BLOCK_COLS / 2] + 8) as u8) << 4,
                    Format::F32 | Format::Q8_0 => q[low] as u8,
                };
            }
        }
        if self.format != Format::F32 {
            scales[(block * PANEL_ROWS + row) * 2..][..2].copy_from_slice(&scale.to_le_bytes());
        }
    }

    /// The panel as it stands in a matrix.
    pub fn panel(&self) -> &[u8] {
        &self.panel
    }
}

fn read_block(format: Format, panel: &[u8], blocks: usize, block: usize, lane: usize) -> Block {
    let len = format.block_bytes();
    let (numbers, scales) = panel.split_at(blocks * len);
    let mut out = Block::ZERO;
    for (group, bytes) in numbers[block * len..][..len].chunks_exact(GROUP_BYTES).enumerate() {
        for (c, &byte) in bytes[lane * GROUP_COLS..][..GROUP_COLS].iter().enumerate() {
            let low = group * GROUP_COLS + c;
            match format {
                Format::Q4_0 => {
                    out.q[low] = (byte & 15) as i8 - 8;
                    out.q[low + BLOCK_COLS / 2] = (byte >> 4) as i8 - 8;
                }
                Format::F32 | Format::Q8_0 => out.q[low] = byte as i8,
            }
        }
    }
    let at = (block * PANEL_ROWS + lane) * 2;
    out.scale = f16::from_le_bytes([scales[at], scales[at + 1]]);
    out
}

fn four(bytes: &[u8]) -> [u8; 4] {
    [bytes[0], bytes[1], bytes[2], bytes[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(rows: usize, cols: usize) -> Vec<f32> {
        let mut rng = fastrand::Rng::with_seed(7);
        (0..rows * cols).map(|_| rng.f32() * 2.0 - 1.0).collect()
    }

    #[test]
    fn every_format_gives_back_what_was_packed_up_to_its_rounding() {
        for (rows, cols) in [(1, 1), (16, 32), (35, 70), (17, 352)] {
            let numbers = numbers(rows, cols);
            for (format, error) in
                [(Format::F32, 0.0), (Format::Q8_0, 0.5 / 127.0 + 1e-3), (Format::Q4_0, 0.13)]
            {
                let matrix = Matrix::pack(rows, cols, format, &numbers).unwrap();
                let mut out = vec![0.0; cols];
                for (row, want) in numbers.chunks(cols).enumerate() {
                    matrix.row(row, &mut out);
                    let worst = out.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(worst <= error, "{} {rows} x {cols} row {row}: off by {worst}", format.name());
                }
            }
        }
    }

    #[test]
    fn blocks_come_back_to_the_bit() {
        let mut rng = fastrand::Rng::with_seed(8);
        for (format, low, high) in [(Format::Q8_0, -127, 127), (Format::Q4_0, -8, 7)] {
            let mut writer = PanelWriter::new(format, 96).unwrap();
            let mut blocks = Vec::new();
            for row in 0..PANEL_ROWS {
                for b in 0..3 {
                    let q = std::array::from_fn(|_| rng.i8(low..=high));
                    blocks.push(Block { scale: f16::from_f32(rng.f32()), q });
                    writer.set_block(row, b, &blocks[row * 3 + b]);
                }
            }
            for row in 0..PANEL_ROWS {
                for b in 0..3 {
                    assert_eq!(read_block(format, writer.panel(), 3, b, row), blocks[row * 3 + b]);
                }
            }
        }
    }

    #[test]
    fn bytes_that_do_not_fit_are_refused() {
        let bytes = || Bytes::from(BytesMut::zeroed(64 * 32));
        assert!(Matrix::new(16, 32, Format::F32, bytes()).is_ok());
        assert!(matches!(Matrix::new(17, 32, Format::F32, bytes()), Err(BadMatrix::Length { .. })));
        assert!(matches!(Matrix::new(0, 32, Format::F32, bytes()), Err(BadMatrix::Shape { .. })));
        assert!(matches!(
            Matrix::new(usize::MAX, usize::MAX, Format::Q4_0, bytes()),
            Err(BadMatrix::Shape { .. })
        ));
        let shifted = Bytes::from(BytesMut::zeroed(64 * 33)).slice(8..64 * 32 + 8).unwrap();
        assert!(matches!(Matrix::new(16, 32, Format::F32, shifted), Err(BadMatrix::Alignment)));
    }
}
