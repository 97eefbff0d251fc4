//! Rows of the embedding, by token.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

use super::{made, whole_numbers};
use crate::glm::kernels::Matrix;

/// `[T]` tokens, i64 -> `[T, hidden]`. A token that the table lacks is an error.
#[derive(Debug, Clone)]
pub struct Embed {
    /// One row per token.
    pub table: Matrix,
}

impl PartialEq for Embed {
    fn eq(&self, other: &Self) -> bool {
        self.table.is_same(&other.table)
    }
}

impl Eq for Embed {}

impl Op for Embed {
    fn name(&self) -> StaticName {
        "GlmEmbed".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Embed {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let tokens = whole_numbers(&inputs[0])?;
        let cols = self.table.cols();
        made(tokens.len(), cols, |out| {
            for (&token, out) in tokens.iter().zip(out.chunks_exact_mut(cols)) {
                let row = usize::try_from(token).ok().filter(|&row| row < self.table.rows());
                let row = row.with_context(|| format!("token {token} of {}", self.table.rows()))?;
                self.table.row(row, out);
            }
            Ok(())
        })
    }
}

impl TypedOp for Embed {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 1 && inputs[0].datum_type == i64::datum_type(), "tokens are due");
        super::rows_like(inputs[0], self.table.cols())
    }

    as_op!();
}
