//! The operators of small f32 models in the words of `outpost_plugin.h`: what tract makes of ONNX's `Conv`, `MatMul`, `Gemm`, `Relu`,
//! `Add`, and of what only gives a tensor another shape.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat, PaddingSpec};
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::nn::DataFormat;

use crate::accel::claim::NodeDescription;

/// What a node is, if a device may know it. All sizes are fixed.
pub fn describe(model: &TypedModel, node: &TypedNode) -> Option<NodeDescription> {
    let facts = model.node_input_facts(node.id).ok()?;
    let (op, attributes) = if let Some(conv) = node.op_as::<Conv>() {
        ("conv", conv_attributes(conv, &facts)?)
    } else if let Some(product) = node.op_as::<EinSum>() {
        let is_plain = product.q_params.is_none() && product.axes.to_string() == "mk,kn->mn";
        (is_plain.then_some("matmul")?, Vec::new())
    } else if let Some(op) = node.op_as::<TypedBinOp>() {
        let is_nought = |fact: &TypedFact| {
            fact.konst.as_ref().is_some_and(|number| number.cast_to_scalar::<f32>().is_ok_and(|x| x == 0.0))
        };
        match op.0.name() {
            "Add" if facts[0].shape == facts[1].shape => ("add", Vec::new()),
            // The nought comes along as a second input.
            "Max" if is_nought(facts[1]) && facts[1].shape.volume() == 1.to_dim() => ("relu", Vec::new()),
            _ => return None,
        }
    } else if node.op_is::<AxisOp>() {
        let keeps_order =
            matches!(node.op_as::<AxisOp>(), Some(AxisOp::Add(_) | AxisOp::Rm(_) | AxisOp::Reshape(..)));
        (keeps_order.then_some("reshape")?, Vec::new())
    } else {
        return None;
    };
    Some(NodeDescription { op, attributes, constants: Vec::new() })
}

/// Of two dimensions, images in ONNX's order, with a bias.
fn conv_attributes(conv: &Conv, facts: &[&TypedFact]) -> Option<Vec<(&'static str, f64)>> {
    let pool = &conv.pool_spec;
    let [x, kernel, bias] = facts else { return None };
    let pads = match &pool.padding {
        PaddingSpec::Explicit(before, _) => before.to_vec(),
        PaddingSpec::Valid => vec![0, 0],
        _ => return None,
    };
    let is_plain = conv.q_params.is_none()
        && conv.kernel_fmt == KernelFormat::OIHW
        && pool.data_format == DataFormat::NCHW
        && [x.rank(), kernel.rank(), bias.rank(), pads.len()] == [4, 4, 1, 2];
    let number = |n: usize| n as f64;
    is_plain.then(|| {
        vec![
            ("groups", number(conv.group)),
            ("stride_h", number(pool.stride(0))),
            ("stride_w", number(pool.stride(1))),
            ("dilation_h", number(pool.dilation(0))),
            ("dilation_w", number(pool.dilation(1))),
            ("pad_top", number(pads[0])),
            ("pad_left", number(pads[1])),
        ]
    })
}
