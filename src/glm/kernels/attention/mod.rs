//! Attention: every new token looks back at all tokens of its sequence, itself included.
//!
//! One call does all of a layer's work between two matrix products: queries and keys are turned ([`RopeTable`]), keys and
//! values go to the store ([`KvStore`]), and the new tokens attend. Scores are scaled by `head_dim^-0.5`; softmax is in f32.

#[cfg(test)]
mod tests;

use half::f16;

use super::Kernels;
use super::kv::{BadSpan, Head, KvFormat, KvStore, Layout, Span, TILE_TOKENS};
use super::rope::{RopeTable, turn};

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
        let row = (heads + 2 * kv_heads) * head_dim;
        let tokens = qkv.len() / row;
        assert!(heads.is_multiple_of(kv_heads) && rope.rotary_dim() <= head_dim, "{shape:?}");
        assert_eq!((kv.shape().kv_heads, kv.shape().head_dim), (kv_heads, head_dim), "heads of the store");
        assert!(layer < kv.shape().layers, "layer {layer}");
        assert_eq!((qkv.len(), out.len()), (tokens * row, tokens * heads * head_dim), "{tokens} tokens");
        let mut state = kv.lock();
        kv.check_layer(&state, layer, spans, tokens)?;
        for &Span { slot, position, tokens } in spans {
            let max = rope.tokens_max();
            if position as usize + tokens as usize > max {
                return Err(BadSpan::Long { slot, position, tokens, max });
            }
        }
        let mut first = 0;
        for span in spans {
            for head in 0..kv_heads {
                let room = kv.head(&mut state, span.slot, layer, head);
                for t in 0..span.tokens as usize {
                    let position = span.position as usize + t;
                    let row = &qkv[(first + t) * row..][..row];
                    let mut k = row[(heads + head) * head_dim..][..head_dim].to_vec();
                    turn(&mut k, rope.row(position));
                    let v = &row[(heads + kv_heads + head) * head_dim..][..head_dim];
                    store(room, kv.layout(), position, &k, v);
                    let group = heads / kv_heads;
                    for h in head * group..(head + 1) * group {
                        let mut q = row[h * head_dim..][..head_dim].to_vec();
                        turn(&mut q, rope.row(position));
                        let out = &mut out[(first + t) * heads * head_dim..][h * head_dim..][..head_dim];
                        attend(room, kv.layout(), position, &q, out);
                    }
                }
            }
            first += span.tokens as usize;
        }
        kv.stored(&mut state, layer, spans);
        Ok(())
    }
}

fn attend(room: Head, layout: &Layout, position: usize, q: &[f32], out: &mut [f32]) {
    let scale = 1.0 / (q.len() as f32).sqrt();
    let mut p: Vec<f32> = (0..=position)
        .map(|t| q.iter().zip(keys(room, layout, t)).map(|(q, k)| q * k).sum::<f32>() * scale)
        .collect();
    let max = p.iter().fold(f32::MIN, |m, &p| m.max(p));
    p.iter_mut().for_each(|p| *p = (*p - max).exp());
    let sum: f32 = p.iter().sum();
    out.fill(0.0);
    for (t, p) in p.iter().enumerate() {
        for (out, v) in out.iter_mut().zip(values(room, layout, t)) {
            *out += p / sum * v;
        }
    }
}

fn key_at(layout: &Layout, token: usize, element: usize) -> usize {
    (token / TILE_TOKENS * layout.width + element) * TILE_TOKENS + token % TILE_TOKENS
}

fn store(room: Head, layout: &Layout, token: usize, k: &[f32], v: &[f32]) {
    let scale = |x: &[f32]| x.iter().fold(0.0, |m: f32, x| m.max(x.abs())) / 127.0;
    let (ks, vs) = (scale(k), scale(v));
    if layout.format == KvFormat::Int8 {
        // SAFETY: the token is within the room, which the lock guards.
        unsafe {
            *room.key_scales.add(token) = ks;
            *room.value_scales.add(token) = vs;
        }
    }
    for (i, (&k, &v)) in k.iter().zip(v).enumerate() {
        // SAFETY: as above.
        unsafe {
            put(layout.format, room.keys, key_at(layout, token, i), k, ks);
            put(layout.format, room.values, token * layout.width + i, v, vs);
        }
    }
}

unsafe fn put(format: KvFormat, to: *mut u8, at: usize, x: f32, scale: f32) {
    // SAFETY: the caller's promise.
    unsafe {
        match format {
            KvFormat::F32 => *to.cast::<f32>().add(at) = x,
            KvFormat::F16 => *to.cast::<f16>().add(at) = f16::from_f32(x.clamp(-65504.0, 65504.0)),
            KvFormat::Int8 => *to.cast::<i8>().add(at) = (x / scale).round_ties_even() as i8,
        }
    }
}

unsafe fn get(format: KvFormat, from: *const u8, at: usize) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        match format {
            KvFormat::F32 => *from.cast::<f32>().add(at),
            KvFormat::F16 => (*from.cast::<f16>().add(at)).to_f32(),
            KvFormat::Int8 => f32::from(*from.cast::<i8>().add(at)),
        }
    }
}

fn keys(room: Head, layout: &Layout, token: usize) -> impl Iterator<Item = f32> {
    // SAFETY: the token is within the room, which the lock guards.
    let scale = if layout.format == KvFormat::Int8 { unsafe { *room.key_scales.add(token) } } else { 1.0 };
    // SAFETY: as above.
    (0..layout.width).map(move |i| unsafe { get(layout.format, room.keys, key_at(layout, token, i)) } * scale)
}

fn values(room: Head, layout: &Layout, token: usize) -> impl Iterator<Item = f32> {
    // SAFETY: the token is within the room, which the lock guards.
    let scale = if layout.format == KvFormat::Int8 { unsafe { *room.value_scales.add(token) } } else { 1.0 };
    // SAFETY: as above.
    (0..layout.width)
        .map(move |i| unsafe { get(layout.format, room.values, token * layout.width + i) } * scale)
}
