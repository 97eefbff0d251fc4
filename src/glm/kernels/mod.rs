//! Arithmetic of the language model: weights in blocks, and the kernels that multiply, attend and normalise.
//!
//! This is the one room of the engine that holds `unsafe`. Everything it gives out is safe: shapes are checked once per
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

#![allow(unsafe_code)]

mod bytes;
mod matrix;

pub use bytes::{Bytes, BytesMut};
pub use matrix::{BLOCK_COLS, BadMatrix, Block, Format, Matrix, PANEL_ROWS, PanelWriter};
