//! How a tensor lies in a bundle's weights: vectors one after the other, matrices in panels, both in pieces that are packed,
//! hashed and verified one by one.

use serde::{Deserialize, Serialize};

use crate::glm::kernels::Format;
use crate::limits;

/// How a tensor lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// f32, one after the other, zeros up to a multiple of 64 bytes.
    Vector,
    /// A matrix's panels.
    Panels(Format),
}

impl Layout {
    /// Bytes of `rows` x `cols`, a multiple of 64; `None` where that can't be addressed. A vector has one column.
    pub fn bytes(self, rows: usize, cols: usize) -> Option<usize> {
        match self {
            Layout::Vector => rows.checked_mul(cols)?.checked_mul(4)?.checked_next_multiple_of(64),
            Layout::Panels(format) => format.matrix_bytes(rows, cols),
        }
    }

    /// Bytes of every piece but the last of `rows` x `cols`: as many whole panels as [`limits::IMPORT_PIECE_BYTES`] hold, at
    /// least one; a vector is one piece. `None` where that can't be addressed.
    pub fn piece_bytes(self, rows: usize, cols: usize) -> Option<usize> {
        match self {
            Layout::Vector => self.bytes(rows, cols),
            Layout::Panels(format) => {
                let panel = format.panel_bytes(cols).filter(|bytes| *bytes > 0)?;
                panel.checked_mul((limits::IMPORT_PIECE_BYTES / panel).max(1))
            }
        }
    }
}
