//! Attention: every new token looks back at all tokens of its sequence, itself included.
//!
//! One call does all of a layer's work between two matrix products: queries and keys are turned ([`RopeTable`]), keys and
//! values go to the store ([`KvStore`]), and the new tokens attend. Scores are scaled by `head_dim^-0.5`; softmax is in f32
//! and online: no row of scores is ever longer than a step of keys.
//!
//! # Who does what
//! The heads that share keys and values are one group, and a [`Piece`] of work is one group of one span: a block of its new
//! tokens and a run of its keys. A prompt is many blocks, which all see the same keys, so those are stored first. A few
//! tokens (decoding) are one block: the piece with the last keys stores the new ones itself, and where there are fewer groups
//! than threads could use, a long past is cut into several runs whose results are put together in the end.

mod fns;
mod kernel;
mod pieces;
mod scratch;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

use super::Kernels;
use super::kv::{BadSpan, KvStore, Span};
use super::rope::RopeTable;
use super::team::Split;
use super::wide::LANES;
use fns::{AttentionFns, index};
use kernel::{KeyValue, Task};
use pieces::{Piece, Pieces};
use scratch::{Floats, Scratch};

pub(super) use fns::fns;

/// Heads of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttentionShape {
    /// Heads of queries; a multiple of `kv_heads`.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
}

impl AttentionShape {
    /// Heads of queries that share a head of keys and values.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Numbers of a token's queries, keys and values.
    fn qkv_row(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch::EMPTY) };
    /// Results of pieces whose span has several for the same rows.
    static PARTIALS: RefCell<Floats> = const { RefCell::new(Floats::EMPTY) };
}

impl Kernels {
    /// Attention of one layer for the new tokens of `spans`, one span after the other. `qkv` has a row per token: queries of
    /// all heads, keys, values. `out` gets a row per token: the outputs of all heads.
    ///
    /// Layers of a run are called in order. An error leaves the store as it was.
    ///
    /// # Panics
    /// Where lengths or shapes do not fit together.
    #[allow(clippy::too_many_arguments)]
    pub fn attention(
        &self,
        shape: AttentionShape,
        kv: &KvStore,
        layer: usize,
        rope: &RopeTable,
        spans: &[Span],
        qkv: &[f32],
        out: &mut [f32],
    ) -> Result<(), BadSpan> {
        let AttentionShape { heads, kv_heads, head_dim } = shape;
        let (row, group) = (shape.qkv_row(), shape.group());
        let tokens = qkv.len() / row;
        assert!(heads == group * kv_heads && rope.rotary_dim() <= head_dim, "{shape:?}, {rope:?}");
        assert_eq!((kv.shape().kv_heads, kv.shape().head_dim), (kv_heads, head_dim), "heads of the store");
        assert!(layer < kv.shape().layers, "layer {layer}");
        assert_eq!((qkv.len(), out.len()), (tokens * row, tokens * heads * head_dim), "{tokens} tokens");
        let mut state = kv.lock();
        kv.check_layer(&state, layer, spans, tokens)?;
        let max = rope.tokens_max();
        if let Some(&Span { slot, position, tokens }) =
            spans.iter().find(|s| u64::from(s.position) + u64::from(s.tokens) > max as u64)
        {
            return Err(BadSpan::Long { slot, position, tokens, max });
        }
        let pieces = Pieces::of(shape, self.threads(), spans, kv.rooms(&mut state, layer));
        PARTIALS.with_borrow_mut(|partials| {
            partials.grow(pieces.partials);
            let format = index(kv.shape().format);
            let (out, partials) = (Split::new(out), Split::new(partials));
            Call { kernels: self, fns: fns(self.isa()), format, shape, rope, qkv, out, partials }
                .run(&pieces);
        });
        kv.stored(&mut state, layer, spans);
        Ok(())
    }
}

/// One call, checked.
struct Call<'a> {
    kernels: &'a Kernels,
    fns: &'static AttentionFns,
    format: usize,
    shape: AttentionShape,
    rope: &'a RopeTable,
    qkv: &'a [f32],
    out: Split<'a, f32>,
    partials: Split<'a, f32>,
}

impl Call<'_> {
    fn run(&self, pieces: &Pieces) {
        let each = |count: usize, work: &(dyn Fn(usize) + Sync)| match pieces.are_shared {
            true => self.kernels.team.run(count, work),
            false => (0..count).for_each(work),
        };
        each(pieces.keep.len(), &|i| {
            SCRATCH.with_borrow_mut(|scratch| self.keep(&pieces.keep[i], scratch));
        });
        each(pieces.attend.len(), &|i| {
            SCRATCH.with_borrow_mut(|scratch| self.attend(&pieces.attend[i], scratch));
        });
        for parts in pieces.attend.chunk_by(|a, b| a.is_same_rows(b)).filter(|parts| parts.len() > 1) {
            self.put_together(parts);
        }
    }

    /// Stores the keys and values of a piece's tokens.
    fn keep(&self, piece: &Piece, scratch: &mut Scratch) {
        let AttentionShape { heads, kv_heads, head_dim } = self.shape;
        for token in 0..piece.tokens {
            let row = &self.qkv[(piece.first + token) * self.shape.qkv_row()..];
            let key = &row[(heads + piece.head) * head_dim..][..head_dim];
            let value = &row[(heads + kv_heads + piece.head) * head_dim..][..head_dim];
            let kv = KeyValue { token: piece.position + token, key, value };
            // SAFETY: the kernels are those of an instruction set that the machine has; the room is of the store's format
            // and was checked to have a place for the token; no other piece has this token and head.
            unsafe { (self.fns.keep[self.format])(piece.room, self.rope, kv, scratch) };
        }
    }

    fn attend(&self, piece: &Piece, scratch: &mut Scratch) {
        if piece.keeps {
            self.keep(piece, scratch);
        }
        let (head_dim, group, stride) = (self.shape.head_dim, self.shape.group(), self.shape.qkv_row());
        let task = Task {
            room: piece.room,
            rope: self.rope,
            queries: &self.qkv[piece.first * stride + piece.head * group * head_dim..],
            stride,
            head_dim,
            group,
            tokens: piece.tokens,
            position: piece.position,
            keys: piece.keys.clone(),
        };
        // SAFETY: the kernels are those of an instruction set that the machine has; keys were stored before, by `keep` or
        // by earlier calls, and other pieces store only keys that this one does not see.
        unsafe { (self.fns.attend[self.format])(&task, scratch) };
        match piece.partial {
            Some(at) => self.put_aside(at, scratch),
            None => self.finish(piece, scratch),
        }
    }

    /// Writes a piece's outputs.
    fn finish(&self, piece: &Piece, scratch: &Scratch) {
        let width = self.shape.head_dim.next_multiple_of(LANES);
        for (row, sums) in scratch.sums.iter().enumerate() {
            let scale = 1.0 / sums.0.iter().sum::<f32>();
            let gathered = &scratch.gathered[row * width..];
            self.output(piece, row).iter_mut().zip(gathered).for_each(|(out, x)| *out = x * scale);
        }
    }

    /// Where the output of a piece's row goes.
    #[allow(clippy::mut_from_ref)]
    fn output(&self, piece: &Piece, row: usize) -> &mut [f32] {
        let AttentionShape { heads, head_dim, .. } = self.shape;
        let group = self.shape.group();
        let head = (piece.first + row / group) * heads + piece.head * group + row % group;
        // SAFETY: pieces of the same rows write once, together; all others have other tokens or heads.
        unsafe { self.out.part(head * head_dim..(head + 1) * head_dim) }
    }

    /// Keeps a piece's result, per row what it gathered, the sum of weights, the largest score.
    fn put_aside(&self, at: usize, scratch: &Scratch) {
        let width = self.shape.head_dim.next_multiple_of(LANES);
        let rows = scratch.sums.len();
        // SAFETY: every piece has a part of its own (`Pieces::of`).
        let aside = unsafe { self.partials.part(at..at + rows * (width + 2)) };
        for (row, aside) in aside.chunks_exact_mut(width + 2).enumerate() {
            aside[..width].copy_from_slice(&scratch.gathered[row * width..][..width]);
            aside[width] = scratch.sums[row].0.iter().sum();
            aside[width + 1] = scratch.largest[row];
        }
    }

    /// Writes the outputs of rows whose keys were shared out.
    fn put_together(&self, parts: &[Piece]) {
        let (head_dim, width) = (self.shape.head_dim, self.shape.head_dim.next_multiple_of(LANES));
        let rows = parts[0].tokens * self.shape.group();
        for row in 0..rows {
            let aside = |part: &Piece| {
                let at = part.partial.unwrap_or_default() + row * (width + 2);
                // SAFETY: nobody writes any more.
                let [gathered @ .., sum, largest] = (unsafe { &*self.partials.part(at..at + width + 2) })
                else {
                    return (&[][..], 0.0, f32::MIN);
                };
                (gathered, *sum, *largest)
            };
            let largest = parts.iter().map(|part| aside(part).2).fold(f32::MIN, f32::max);
            let scale = |part: &Piece| (aside(part).2 - largest).exp2();
            let sum: f32 = parts.iter().map(|part| aside(part).1 * scale(part)).sum();
            let out = self.output(&parts[0], row);
            out.fill(0.0);
            for part in parts {
                let scale = scale(part) / sum;
                out.iter_mut().zip(&aside(part).0[..head_dim]).for_each(|(out, x)| *out += x * scale);
            }
        }
    }
}
