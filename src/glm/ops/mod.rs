//! What a GLM needs of tract beyond tract's own operators.
//!
//! | operator | takes | gives |
//! |---|---|---|
//! | [`Embed`] | tokens `[T]` i64 | `[T, hidden]` |
//! | [`RmsNorm`] | `[T, n]` | `[T, n]` |
//! | [`Linear`] | `[T, cols]` | `[T, rows]`, or what its epilogue leaves |
//! | [`Attention`] | queries, keys and values `[T, ..]`, spans `[N, 3]` i64 | `[T, heads * head_dim]` |
//!
//! Everything else is f32. Each is an ordinary operator: it can be wired into any typed model and evaluated alone. The
//! arithmetic is in [`kernels`](crate::glm::kernels), where the plain kernel of every operation is the reference that the
//! fast ones are held to.

mod attention;
mod embed;
mod linear;
mod norm;
#[cfg(test)]
mod tests;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

pub use attention::{Attention, to_rows};
pub use embed::Embed;
pub use linear::Linear;
pub use norm::RmsNorm;

/// The numbers of an f32 tensor.
fn floats(tensor: &Tensor) -> TractResult<&[f32]> {
    tensor.try_as_plain_ram()?.as_slice()
}

/// The numbers of an i64 tensor.
fn whole_numbers(tensor: &Tensor) -> TractResult<&[i64]> {
    tensor.try_as_plain_ram()?.as_slice()
}

/// A tensor of `rows` x `cols` that `fill` has written.
fn made(
    rows: usize,
    cols: usize,
    fill: impl FnOnce(&mut [f32]) -> TractResult<()>,
) -> TractResult<TVec<TValue>> {
    let mut tensor = Tensor::zero::<f32>(&[rows, cols])?;
    fill(tensor.try_as_plain_ram_mut()?.as_slice_mut()?)?;
    Ok(tvec![tensor.into_tvalue()])
}

/// The fact of `[rows, cols]` in f32, with as many rows as `input` has.
fn rows_like(input: &TypedFact, cols: usize) -> TractResult<TVec<TypedFact>> {
    let rows = input.shape.first().cloned().ok_or_else(|| format_err!("no rows in {input:?}"))?;
    Ok(tvec![f32::fact([rows, cols.to_dim()])])
}

/// Refuses an input that is not `[_, cols]` in f32.
fn expect_rows(input: &TypedFact, cols: usize) -> TractResult<()> {
    let fits = input.datum_type == f32::datum_type()
        && input.shape.rank() == 2
        && input.shape.last() == Some(&cols.to_dim());
    if !fits {
        bail!("{input:?} where rows of {cols} numbers are due");
    }
    Ok(())
}
