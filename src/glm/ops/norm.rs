//! RMSNorm: every row divided by the root of its mean square, times a weight per element.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

use super::{floats, made};
use crate::glm::kernels::Kernels;

/// `[T, n]` -> `[T, n]`, in f32.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    /// Who computes.
    pub kernels: Kernels,
    /// One per element of a row.
    pub weight: Arc<[f32]>,
    /// Added to the mean square.
    pub eps: f32,
}

impl PartialEq for RmsNorm {
    fn eq(&self, other: &Self) -> bool {
        self.weight == other.weight && self.eps.to_bits() == other.eps.to_bits()
    }
}

impl Eq for RmsNorm {}

impl Op for RmsNorm {
    fn name(&self) -> StaticName {
        "GlmRmsNorm".into()
    }

    op_as_typed_op!();
}

impl EvalOp for RmsNorm {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (x, cols) = (floats(&inputs[0])?, self.weight.len());
        made(x.len() / cols, cols, |out| {
            self.kernels.rms_norm(x, &self.weight, self.eps, out);
            Ok(())
        })
    }
}

impl TypedOp for RmsNorm {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        super::expect_rows(inputs[0], self.weight.len())?;
        super::rows_like(inputs[0], self.weight.len())
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        Ok(tvec![(Cost::FMA(f32::datum_type()), inputs[0].shape.volume() * 2)])
    }

    as_op!();
}
