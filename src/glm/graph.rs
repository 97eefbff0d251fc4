//! The model as tract's graph: one for prompts, single tokens and batches of both.
//!
//! ```text
//! tokens [T] ─ Embed ─┬─ RmsNorm ─ Linear qkv ─ Attention ─ Linear o ─(RmsNorm)─ + ─┬─ RmsNorm ─ Linear gate, up ─ Linear down ─(RmsNorm)─ + ─ ..
//! spans [N, 3] ───────┼──────────────────────────┘                               │   └──────────────────────────────────────────────────┘
//!                     └───────────────────────────────────────────────────────────┘
//! .. ─ rows [R] of it ─ RmsNorm ─ Linear head ─ logits [R, vocab]
//! ```
//!
//! Norms in brackets are `glm4`'s. Only the rows whose logits are asked for go through the head, which is the largest matrix
//! of a small model.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::Gather;
use tract_onnx::tract_core::ops::math;

use super::kernels::{AttentionShape, Epilogue, Kernels, KvStore, Matrix, RopeTable};
use super::ops::{Attention, Embed, Linear, RmsNorm};
use super::weights::{LayerWeights, Weights};

/// How many tokens, as the graph calls it.
pub const TOKENS: &str = "T";
/// How many rows of logits, as the graph calls it.
pub const ROWS: &str = "R";

/// Builds the graph of `weights`, whose attention looks back into `kv`. Positions reach to the store's longest sequence. Whoever
/// runs it optimises it.
pub fn build(weights: &Weights, kernels: &Kernels, kv: &Arc<KvStore>) -> TractResult<TypedModel> {
    let arch = &weights.arch;
    let mut graph = TypedModel::default();
    let dim = |name: &str| graph.symbols.sym(name).to_dim();
    let (tokens, spans, rows) = (dim(TOKENS), dim("N"), dim(ROWS));
    let tokens = graph.add_source("tokens", i64::fact([tokens]))?;
    let spans = graph.add_source("spans", i64::fact([spans, 3.to_dim()]))?;
    let rows = graph.add_source("rows", i64::fact([rows]))?;
    let rope = RopeTable::new(arch.rotary_dim, arch.rope_theta, kv.shape().tokens_max);
    let mut builder = Builder { graph, weights, kernels, kv, rope: Arc::new(rope) };
    let mut x = builder.wire("embed", Embed { table: weights.embed.clone() }, &[tokens])?;
    for (n, layer) in weights.layers.iter().enumerate() {
        x = builder.layer(n, layer, x, spans)?;
    }
    let x = builder.wire("last", Gather::new(0), &[x, rows])?;
    let x = builder.norm("norm", &weights.norm, x)?;
    let logits = builder.linear("head", weights.head(), None, Epilogue::None, x)?;
    builder.graph.select_output_outlets(&[logits])?;
    Ok(builder.graph)
}

struct Builder<'a> {
    graph: TypedModel,
    weights: &'a Weights,
    kernels: &'a Kernels,
    kv: &'a Arc<KvStore>,
    rope: Arc<RopeTable>,
}

impl Builder<'_> {
    fn layer(
        &mut self,
        n: usize,
        layer: &LayerWeights,
        x: OutletId,
        spans: OutletId,
    ) -> TractResult<OutletId> {
        let name = |part: &str| format!("layers.{n}.{part}");
        let h = self.norm(&name("attn_norm"), &layer.attn_norm, x)?;
        let h = self.linear(&name("qkv"), &layer.qkv, layer.qkv_bias.as_deref(), Epilogue::None, h)?;
        let h = self.attention(&name("attention"), n, h, spans)?;
        let h = self.linear(&name("o"), &layer.o, None, Epilogue::None, h)?;
        let h = self.optional_norm(&name("post_attn_norm"), layer.post_attn_norm.as_deref(), h)?;
        let x = self.wire(&name("attn_sum"), math::add(), &[x, h])?;
        let h = self.norm(&name("mlp_norm"), &layer.mlp_norm, x)?;
        let gate = Epilogue::SiluGate { inter: self.weights.arch.inter };
        let h = self.linear(&name("gate_up"), &layer.gate_up, None, gate, h)?;
        let h = self.linear(&name("down"), &layer.down, None, Epilogue::None, h)?;
        let h = self.optional_norm(&name("post_mlp_norm"), layer.post_mlp_norm.as_deref(), h)?;
        self.wire(&name("mlp_sum"), math::add(), &[x, h])
    }

    fn attention(
        &mut self,
        name: &str,
        layer: usize,
        qkv: OutletId,
        spans: OutletId,
    ) -> TractResult<OutletId> {
        let arch = &self.weights.arch;
        let shape = AttentionShape { heads: arch.heads, kv_heads: arch.kv_heads, head_dim: arch.head_dim };
        let (kernels, kv, rope) = (self.kernels.clone(), Arc::clone(self.kv), Arc::clone(&self.rope));
        self.wire(name, Attention { kernels, shape, kv, layer, rope }, &[qkv, spans])
    }

    fn linear(
        &mut self,
        name: &str,
        matrix: &Matrix,
        bias: Option<&[f32]>,
        epilogue: Epilogue,
        x: OutletId,
    ) -> TractResult<OutletId> {
        let (kernels, matrix) = (self.kernels.clone(), matrix.clone());
        self.wire(name, Linear { kernels, matrix, bias: bias.map(Arc::from), epilogue }, &[x])
    }

    fn norm(&mut self, name: &str, weight: &[f32], x: OutletId) -> TractResult<OutletId> {
        let (kernels, eps) = (self.kernels.clone(), self.weights.arch.rms_eps);
        self.wire(name, RmsNorm { kernels, weight: weight.into(), eps }, &[x])
    }

    fn optional_norm(&mut self, name: &str, weight: Option<&[f32]>, x: OutletId) -> TractResult<OutletId> {
        weight.map_or(Ok(x), |weight| self.norm(name, weight, x))
    }

    fn wire(
        &mut self,
        name: &str,
        op: impl Into<Box<dyn TypedOp>>,
        inputs: &[OutletId],
    ) -> TractResult<OutletId> {
        Ok(self.graph.wire_node(name, op, inputs)?[0])
    }
}
