//! Small convolutions of whole numbers, each as one operator of tract.
//!
//! tract lays one out as a dozen operators (patches, product, sums for the zero points, scaling). For models as small as a
//! gateway's, going from one to the next takes several times as long as computing. Large ones stay tract's, whose kernels know
//! the processor, and so do those in f32, of which tract makes little more than one.

mod planes;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat};
use tract_onnx::tract_core::ops::nn::DataFormat;

use planes::Planes;

/// Replaces every convolution in `model` that [`QuantConv`] can do. Constants must have been propagated: zero points and scales
/// pass through casts.
pub fn replace_convolutions(model: &mut TypedModel) -> TractResult<()> {
    replace_up_to(model, PRODUCTS_MAX)
}

/// Those of at most so many products.
fn replace_up_to(model: &mut TypedModel, products_max: usize) -> TractResult<()> {
    for id in 0..model.nodes.len() {
        let node = &model.nodes[id];
        let Some(op) = small(model, node, products_max).with_context(|| node.name.clone())? else { continue };
        TypedModelPatch::replace_single_op(model, node, &node.inputs[..1], op)?.apply(model)?;
    }
    model.compact()
}

/// What `node` computes as one operator, if all but its input is constant and it is small enough.
fn small(model: &TypedModel, node: &TypedNode, products_max: usize) -> TractResult<Option<QuantConv>> {
    let Some(op) = node.op_as::<Conv>() else { return Ok(None) };
    let fact = model.outlet_fact(node.inputs[0])?;
    let constant = |&input: &OutletId| model.outlet_fact(input).ok().and_then(|fact| fact.konst.as_deref());
    let constants: Option<Vec<&Tensor>> = node.inputs[1..].iter().map(constant).collect();
    let usual = op.kernel_fmt == KernelFormat::OIHW && op.pool_spec.data_format == DataFormat::NCHW;
    let planes = fact.shape.as_concrete().filter(|_| usual).and_then(|shape| Planes::of(op, shape));
    let (Some(constants), Some(planes), Some(element)) = (constants, planes, op.q_params) else {
        return Ok(None);
    };
    let [weights, rest @ ..] = &constants[..] else { return Ok(None) };
    let whole = |t: DatumType| t == DatumType::I8 || t == DatumType::U8;
    let is_whole = [element, fact.datum_type, weights.datum_type()].into_iter().all(whole);
    if !is_whole || planes.sums() * planes.per_sum() > products_max {
        return Ok(None);
    }
    QuantConv::new(planes, element, weights, rest).map(Some)
}

/// A convolution of whole numbers, ONNX's `QLinearConv`: int8 or uint8 on both sides.
///
/// It computes what the ONNX specification says, and in its rounding what onnxruntime does, so their answers are the same to
/// the last bit:
///
/// ```text
/// y = saturate(round_half_even((sum (x - x_zero) (w - w_zero) + bias) * (x_scale * w_scale / y_scale)) + y_zero)
/// ```
#[derive(Debug, Clone, PartialEq)]
struct QuantConv {
    planes: Planes,
    x_zero: i16,
    y_zero: i32,
    element: DatumType,
    /// Less their zero points.
    weights: Arc<[i16]>,
    /// Per output.
    bias: Arc<[i32]>,
    /// Per output: from the sum to steps of the output.
    scales: Arc<[f32]>,
}

impl Eq for QuantConv {}

impl QuantConv {
    /// `rest`: bias, then zero point and scale of input, weights and output.
    fn new(planes: Planes, element: DatumType, weights: &Tensor, rest: &[&Tensor]) -> TractResult<Self> {
        let [bias, x_zero, x_scale, w_zero, w_scale, y_zero, y_scale] = rest else {
            bail!("{} constants where seven are due", rest.len());
        };
        let outputs = planes.sums() / planes.positions();
        let w_zero = per_output::<i32>(w_zero, outputs)?;
        let (x_scale, y_scale) = (x_scale.cast_to_scalar::<f32>()?, y_scale.cast_to_scalar::<f32>()?);
        let scales = per_output::<f32>(w_scale, outputs)?.into_iter().map(|w| x_scale * w / y_scale);
        let scales: Arc<[f32]> = scales.collect();
        ensure!(scales.iter().all(|s| s.is_finite()), "a scale is no number");
        let weights = weights.cast_to::<i32>()?;
        Ok(Self {
            weights: planes.rows(numbers(&weights)?, &w_zero),
            x_zero: x_zero.cast_to_scalar::<i32>()? as i16,
            y_zero: y_zero.cast_to_scalar()?,
            element,
            bias: per_output(bias, outputs)?.into(),
            scales,
            planes,
        })
    }

    /// Sums into steps of the output.
    fn scaled<T: TryFrom<i32> + Default>(&self, sums: &[i32], low: i32, high: i32) -> Vec<T> {
        let (floor, ceiling) = ((low - self.y_zero) as f32, (high - self.y_zero) as f32);
        let mut out = Vec::with_capacity(sums.len());
        for (o, sums) in sums.chunks_exact(self.planes.positions()).enumerate() {
            let (bias, scale) = (self.bias[o], self.scales[o]);
            out.extend(sums.iter().map(|&sum| {
                let steps = (sum.wrapping_add(bias) as f32 * scale).clamp(floor, ceiling);
                T::try_from(rounded(steps) + self.y_zero).unwrap_or_default()
            }));
        }
        out
    }
}

impl Op for QuantConv {
    fn name(&self) -> StaticName {
        "QuantConv".into()
    }

    op_as_typed_op!();
}

impl EvalOp for QuantConv {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let x = match inputs[0].datum_type() {
            DatumType::U8 => self.planes.padded(numbers::<u8>(&inputs[0])?, self.x_zero),
            _ => self.planes.padded(numbers::<i8>(&inputs[0])?, self.x_zero),
        };
        let sums = self.planes.convolve(&x, &self.weights);
        let shape = self.planes.shape();
        let answer = match self.element {
            DatumType::U8 => Tensor::from_shape(&shape, &self.scaled::<u8>(&sums, 0, 255))?,
            _ => Tensor::from_shape(&shape, &self.scaled::<i8>(&sums, -128, 127))?,
        };
        Ok(tvec![answer.into()])
    }
}

impl TypedOp for QuantConv {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec![self.element.fact(self.planes.shape())])
    }

    as_op!();
}

fn numbers<T: Datum>(tensor: &Tensor) -> TractResult<&[T]> {
    tensor.try_as_plain_ram()?.as_slice()
}

/// One value for each output, given as such or as one for all.
fn per_output<T: Datum + Copy>(tensor: &Tensor, outputs: usize) -> TractResult<Vec<T>> {
    let values = tensor.cast_to::<T>()?;
    match numbers::<T>(&values)? {
        [one] => Ok(vec![*one; outputs]),
        values if values.len() == outputs => Ok(values.to_vec()),
        values => bail!("{} values for {outputs} outputs", values.len()),
    }
}

/// To the nearest whole number, halves to the even one, for what is well below 2^22: added to so large a number there is no
/// room for a fraction, and the processor rounds. Not every one that this runs on has an instruction for it.
fn rounded(x: f32) -> i32 {
    const LARGE: f32 = 12_582_912.0;
    (x + LARGE).to_bits() as i32 - LARGE.to_bits() as i32
}

/// Products in all up to which this is faster than what tract lays out (`cargo bench --bench infer`, the last table). So few
/// never overflow a sum.
const PRODUCTS_MAX: usize = 1 << 13;
