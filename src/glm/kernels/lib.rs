//! Arithmetic of the language model: weights in blocks, and the kernels that multiply, attend and normalise.
//!
//! This is the one crate of the engine that holds `unsafe`. Everything it gives out is safe: shapes are checked once per
//! call at the door, the kernels behind it trust them. Kernels are chosen at run time ([`Isa`]); every one of them must
//! agree with the portable one, which is the reference that the tests hold them to.
//!
//! # Weights
//!
//! A [`Matrix`] of `rows` x `cols` (`y = W x`) lies in *panels* of 16 rows, the same on every machine, so that a file of
//! weights is mapped and used in place:
//!
//! | format | a panel | bytes per weight |
//! |---|---|---|
//! | `F32` | column by column, 16 numbers each | 4 |
//! | `Q8_0` | per block of 32 columns 8 groups of 16 rows x 4 columns as i8; behind all blocks their scales, 16 x f16 each | 1.0625 |
//! | `Q4_0` | per block of 32 columns 4 groups of 16 rows x 4 bytes: low nibble = columns 4g.., high nibble = columns 16 + 4g.., both + 8; behind all blocks their scales, 16 x f16 each | 0.5625 |
//!
//! Sixteen rows by four columns are one AVX-512 register, four NEON registers, or one row of an AMX tile: each lane sums
//! four products of one row, which is what `vpdpbusd`, `sdot` and `tdpbssd` compute. Rows and columns beyond the matrix are
//! zeros. A panel begins at a multiple of 64 bytes.
//!
//! # Keys and values
//!
//! A [`KvStore`] keeps what attention looks back at, in slots of bounded length: `F32` (for comparisons), `F16`, or `Int8`
//! with a scale per token and head. [`Kernels::attention`] is everything between two matrix products of a layer. It is written
//! once, in values of sixteen numbers (`wide`), and compiled for every instruction set.

mod attention;
mod bytes;
mod isa;
mod kv;
#[path = "../../limits/kv.rs"]
mod limits;
mod linear;
mod mapped;
mod matrix;
#[path = "../../named.rs"]
mod named;
mod norm;
mod rope;
mod selftest;
mod team;
mod wide;

use std::fmt;
use std::sync::Arc;

use team::Team;

pub use attention::AttentionShape;
pub use bytes::{Bytes, BytesMut};
pub use isa::Isa;
pub use kv::{BadKvShape, BadSaved, BadSlot, BadSpan, KvFormat, KvShape, KvStore, Span};
pub use linear::Epilogue;
pub use matrix::{BLOCK_COLS, BadMatrix, Block, Format, Matrix, PANEL_ROWS, PanelWriter};
pub use rope::RopeTable;
pub use selftest::{Unlike, selftest};

/// The kernels of one instruction set and the threads that run them. Clones share the threads.
///
/// One call at a time has the threads; a second one at the same time runs on its caller alone.
#[derive(Clone)]
pub struct Kernels {
    isa: Isa,
    team: Arc<Team>,
}

impl Kernels {
    /// Kernels for `isa`, or the fastest of this machine where it lacks that, on `threads` threads, the caller included:
    /// at least 1, at most what the machine runs at once.
    pub fn new(isa: Isa, threads: usize) -> Kernels {
        let isa = if isa.is_available() { isa } else { Isa::detect() };
        let at_once = std::thread::available_parallelism().map_or(1, usize::from);
        Kernels { isa, team: Arc::new(Team::new(threads.clamp(1, at_once))) }
    }

    /// The fastest kernels of this machine.
    pub fn detect(threads: usize) -> Kernels {
        Kernels::new(Isa::detect(), threads)
    }

    /// Which instruction set they use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// How many threads work at once, the caller included.
    pub fn threads(&self) -> usize {
        self.team.threads()
    }
}

impl fmt::Debug for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.isa, self.threads())
    }
}
