//! How a tensor lies in a bundle's weights: vectors one after the other, matrices in panels, both in pieces that are packed,
//! hashed and verified one by one.

use serde::{Deserialize, Serialize};

use crate::glm::kernels::Format;

/// How a tensor lies; written as `vector` or as the name of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "&str", try_from = "String")]
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

    /// Bytes of every piece but the last of `rows` x `cols`: as many whole panels as `target` bytes hold, at least one; a
    /// vector is one piece. `None` where that can't be addressed.
    pub fn piece_bytes(self, rows: usize, cols: usize, target: usize) -> Option<usize> {
        match self {
            Layout::Vector => self.bytes(rows, cols),
            Layout::Panels(format) => {
                let panel = format.panel_bytes(cols).filter(|bytes| *bytes > 0)?;
                panel.checked_mul((target / panel).max(1))
            }
        }
    }

    /// As a manifest writes it.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Vector => "vector",
            Layout::Panels(format) => format.name(),
        }
    }
}

impl From<Layout> for &'static str {
    fn from(layout: Layout) -> &'static str {
        layout.name()
    }
}

impl TryFrom<String> for Layout {
    type Error = String;

    fn try_from(name: String) -> Result<Layout, String> {
        match name.as_str() {
            "vector" => Ok(Layout::Vector),
            other => {
                Format::from_name(other).map(Layout::Panels).ok_or_else(|| "no format of weights".to_owned())
            }
        }
    }
}
