//! Where the keys and values of a slot lie.
//!
//! A slot is one run of bytes, so that it is given back to the system in one go: layer by layer, and in a layer head by head,
//! each with room for `tokens_max` tokens. A head's room holds
//!
//! | | order | why |
//! |---|---|---|
//! | keys | tiles of 16 tokens: element by element, 16 tokens each | one register holds the same element of 16 keys, so the sums of 16 scores need no adding up across a register |
//! | values | token by token | one register holds 16 elements of the sum that is wanted |
//! | scales of keys, scales of values | one f32 per token | `Int8` only |
//!
//! Elements are rounded up to 16 per head, tokens to whole tiles.

use std::ops::Range;

use super::super::wide::LANES;
use super::{KvFormat, KvShape};

/// Keys that lie together.
pub(super) const TILE_TOKENS: usize = LANES;
/// Slots begin at a multiple of this, which is a multiple of every page size in use.
const SLOT_STEP: usize = 64 * 1024;

impl KvFormat {
    /// Bytes of one number.
    pub(super) fn number_bytes(self) -> usize {
        match self {
            KvFormat::F32 => 4,
            KvFormat::F16 => 2,
            KvFormat::Int8 => 1,
        }
    }
}

/// Places within a store of one shape.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) format: KvFormat,
    /// Elements of a head, rounded up.
    pub(super) width: usize,
    layers: usize,
    kv_heads: usize,
    values_at: usize,
    scales_at: usize,
    scales_bytes: usize,
    head_bytes: usize,
    slot_bytes: usize,
    /// Bytes of all slots.
    pub(super) bytes: usize,
}

impl Layout {
    /// Of a store of that shape; `None` where it is larger than an address space.
    pub(super) fn of(shape: &KvShape) -> Option<Layout> {
        let width = shape.head_dim.checked_next_multiple_of(LANES)?;
        let tokens = shape.tokens_max.checked_next_multiple_of(TILE_TOKENS)?;
        let plane = tokens.checked_mul(width)?.checked_mul(shape.format.number_bytes())?;
        let scales_bytes = match shape.format {
            KvFormat::F32 | KvFormat::F16 => 0,
            KvFormat::Int8 => tokens.checked_mul(size_of::<f32>())?,
        };
        let head_bytes = plane.checked_add(scales_bytes)?.checked_mul(2)?;
        let slot_bytes = head_bytes
            .checked_mul(shape.kv_heads)?
            .checked_mul(shape.layers)?
            .checked_next_multiple_of(SLOT_STEP)?;
        let bytes = slot_bytes.checked_mul(shape.slots).filter(|&bytes| isize::try_from(bytes).is_ok())?;
        Some(Layout {
            format: shape.format,
            width,
            layers: shape.layers,
            kv_heads: shape.kv_heads,
            values_at: plane,
            scales_at: 2 * plane,
            scales_bytes,
            head_bytes,
            slot_bytes,
            bytes,
        })
    }

    /// A slot's bytes.
    pub(super) fn slot(&self, slot: usize) -> Range<usize> {
        slot * self.slot_bytes..(slot + 1) * self.slot_bytes
    }

    /// Where a head's room begins.
    pub(super) fn head_at(&self, slot: usize, layer: usize, head: usize) -> usize {
        slot * self.slot_bytes + (layer * self.kv_heads + head) * self.head_bytes
    }

    /// A head in `bytes`, which begin where its room does.
    pub(super) fn head(&self, room: *mut u8) -> Head {
        let scales = |at: usize| room.wrapping_add(self.scales_at + at).cast();
        Head {
            keys: room,
            values: room.wrapping_add(self.values_at),
            key_scales: scales(0),
            value_scales: scales(self.scales_bytes),
        }
    }

    /// What `len` tokens of a slot take of it, relative to its beginning; a last tile of keys that is not full is whole.
    pub(super) fn pieces(&self, len: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let layout = *self;
        let row = layout.width * layout.format.number_bytes();
        (0..layout.layers * layout.kv_heads).flat_map(move |head| {
            let room = head * layout.head_bytes;
            let piece = move |at: usize, bytes: usize| room + at..room + at + bytes;
            let scales = len * layout.scales_bytes.min(size_of::<f32>());
            [
                piece(0, len.next_multiple_of(TILE_TOKENS) * row),
                piece(layout.values_at, len * row),
                piece(layout.scales_at, scales),
                piece(layout.scales_at + layout.scales_bytes, scales),
            ]
        })
    }
}

/// The keys and values of one head in one layer of one slot, as the kernels see them.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Head {
    pub(in super::super) keys: *mut u8,
    pub(in super::super) values: *mut u8,
    /// Of `Int8` only.
    pub(in super::super) key_scales: *mut f32,
    /// Of `Int8` only.
    pub(in super::super) value_scales: *mut f32,
}

// SAFETY: a `Head` is a bundle of addresses; every use of them has a reason of its own.
unsafe impl Send for Head {}
// SAFETY: as above.
unsafe impl Sync for Head {}
