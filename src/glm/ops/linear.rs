//! The matrix product with weights in blocks and activations in int8, its bias, and the SiLU gate.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

use super::{floats, made};
use crate::glm::kernels::{Epilogue, Kernels, Matrix};

/// `[T, cols]` -> `[T, rows]`, or `[T, inter]` behind a gate. Weights are used where they lie.
#[derive(Debug, Clone)]
pub struct Linear {
    /// Who computes.
    pub kernels: Kernels,
    /// The weights.
    pub matrix: Matrix,
    /// One per row.
    pub bias: Option<Arc<[f32]>>,
    /// What becomes of the product.
    pub epilogue: Epilogue,
}

impl Linear {
    fn out_cols(&self) -> usize {
        match self.epilogue {
            Epilogue::None => self.matrix.rows(),
            Epilogue::SiluGate { inter } => inter,
        }
    }
}

impl PartialEq for Linear {
    fn eq(&self, other: &Self) -> bool {
        self.matrix.is_same(&other.matrix) && self.bias == other.bias && self.epilogue == other.epilogue
    }
}

impl Eq for Linear {}

impl Op for Linear {
    fn name(&self) -> StaticName {
        "GlmLinear".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        let (rows, cols, format) = (self.matrix.rows(), self.matrix.cols(), self.matrix.format());
        Ok(vec![format!("{rows} x {cols} {format}, {:?}, {:?}", self.epilogue, self.kernels)])
    }

    op_as_typed_op!();
}

impl EvalOp for Linear {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let x = floats(&inputs[0])?;
        let tokens = x.len() / self.matrix.cols();
        made(tokens, self.out_cols(), |out| {
            self.kernels.linear(&self.matrix, self.bias.as_deref(), self.epilogue, x, tokens, out);
            Ok(())
        })
    }
}

impl TypedOp for Linear {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        super::expect_rows(inputs[0], self.matrix.cols())?;
        super::rows_like(inputs[0], self.out_cols())
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        Ok(tvec![
            (Cost::FMA(f32::datum_type()), inputs[0].shape.volume() * self.matrix.rows()),
            (Cost::Params(u8::datum_type()), self.matrix.bytes().len().to_dim()),
        ])
    }

    as_op!();
}
