//! Rotary embedding, the cache of keys and values, causal attention: all between a layer's two projections.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

use super::{floats, made, whole_numbers};
use crate::glm::kernels::{AttentionShape, Kernels, KvStore, RopeTable, Span};

/// Queries, keys and values of new tokens `[T, ..]` and the spans `[N, 3]` they belong to (slot, position, tokens; i64) ->
/// `[T, heads * head_dim]`. Writes keys and values of its layer to the store, which it shares with the other layers and with
/// whoever truncates it: its effect is part of its result, so it runs only within a plan.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Who computes.
    pub kernels: Kernels,
    /// The heads.
    pub shape: AttentionShape,
    /// Where keys and values are.
    pub kv: Arc<KvStore>,
    /// Which layer of the store.
    pub layer: usize,
    /// The angles.
    pub rope: Arc<RopeTable>,
}

impl Attention {
    fn qkv_cols(&self) -> usize {
        (self.shape.heads + 2 * self.shape.kv_heads) * self.shape.head_dim
    }

    fn out_cols(&self) -> usize {
        self.shape.heads * self.shape.head_dim
    }
}

impl PartialEq for Attention {
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape && self.layer == other.layer && Arc::ptr_eq(&self.kv, &other.kv)
    }
}

impl Eq for Attention {}

/// Spans as a tensor's rows.
pub fn to_rows(spans: &[Span]) -> Vec<i64> {
    spans.iter().flat_map(|span| [span.slot, span.position, span.tokens].map(i64::from)).collect()
}

fn from_rows(rows: &[i64]) -> TractResult<Vec<Span>> {
    let (rows, _) = rows.as_chunks::<3>();
    let spans = rows.iter().map(|&[slot, position, tokens]| {
        Ok(Span { slot: slot.try_into()?, position: position.try_into()?, tokens: tokens.try_into()? })
    });
    spans.collect()
}

impl Op for Attention {
    fn name(&self) -> StaticName {
        "GlmAttention".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("layer {}, {:?}, {:?}", self.layer, self.shape, self.kv)])
    }

    op_as_typed_op!();
}

impl EvalOp for Attention {
    not_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let qkv = floats(&inputs[0])?;
        let spans = from_rows(whole_numbers(&inputs[1])?)?;
        made(qkv.len() / self.qkv_cols(), self.out_cols(), |out| {
            self.kernels.attention(self.shape, &self.kv, self.layer, &self.rope, &spans, qkv, out)?;
            Ok(())
        })
    }
}

impl TypedOp for Attention {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        super::expect_rows(inputs[0], self.qkv_cols())?;
        let spans = inputs[1];
        ensure!(
            spans.datum_type == i64::datum_type() && spans.shape.last() == Some(&3.to_dim()),
            "spans are due"
        );
        super::rows_like(inputs[0], self.out_cols())
    }

    as_op!();
}
