//! Where the numbers of a convolution's sums lie.

use std::sync::Arc;

use tract_onnx::tract_core::internal::{TVec, tvec};
use tract_onnx::tract_core::ops::cnn::Conv;

/// A convolution over one or two dimensions; over one, the height is 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planes {
    groups: usize,
    channels: usize,
    outputs: usize,
    /// Dimensions that it goes over.
    rank: usize,
    /// Height and width of the input, and noughts before it.
    input: [usize; 2],
    before: [usize; 2],
    /// The same with the noughts around it.
    padded: [usize; 2],
    output: [usize; 2],
    strides: [usize; 2],
    /// What belongs to one sum, counted from its first number in the padded planes of a group.
    offsets: Arc<[usize]>,
}

impl Planes {
    /// Of `op` on an input of `shape`: `[1, C, H, W]` or `[1, C, W]`.
    pub fn of(op: &Conv, shape: &[usize]) -> Option<Self> {
        let spec = &op.pool_spec;
        let rank = spec.rank();
        if !(1..=2).contains(&rank) || shape.len() != rank + 2 || shape[0] != 1 {
            return None;
        }
        let mut planes = Planes {
            groups: op.group,
            channels: op.input_channels(),
            outputs: op.output_channels(),
            rank,
            input: [1; 2],
            before: [0; 2],
            padded: [1; 2],
            output: [1; 2],
            strides: [1; 2],
            offsets: Arc::default(),
        };
        let (mut kernel, mut dilations) = ([1; 2], [1; 2]);
        for (axis, pad) in spec.computed_padding(&shape[2..]).into_iter().enumerate() {
            let to = axis + 2 - rank;
            planes.input[to] = shape[2 + axis];
            planes.before[to] = pad.pad_before;
            planes.padded[to] = shape[2 + axis] + pad.pad_before + pad.pad_after;
            planes.output[to] = pad.convoluted;
            planes.strides[to] = spec.stride(axis);
            (kernel[to], dilations[to]) = (spec.kernel_shape[axis], spec.dilation(axis));
        }
        let [height, width] = planes.padded;
        let mut offsets = Vec::new();
        for c in 0..planes.channels / planes.groups {
            for y in 0..kernel[0] {
                let row = (c * height + y * dilations[0]) * width;
                offsets.extend((0..kernel[1]).map(|x| row + x * dilations[1]));
            }
        }
        planes.offsets = offsets.into();
        let empty = planes.sums() == 0 || planes.per_sum() == 0 || planes.input.contains(&0);
        (!empty).then_some(planes)
    }

    /// Products in one sum.
    pub fn per_sum(&self) -> usize {
        self.offsets.len()
    }

    /// Sums per output.
    pub fn positions(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Sums in all.
    pub fn sums(&self) -> usize {
        self.outputs * self.positions()
    }

    /// Of the answer.
    pub fn shape(&self) -> TVec<usize> {
        let mut shape = tvec![1, self.outputs];
        shape.extend_from_slice(&self.output[2 - self.rank..]);
        shape
    }

    /// The input less its zero point, with noughts around every plane.
    pub fn padded<T: Copy + Into<i16>>(&self, x: &[T], zero: i16) -> Vec<i16> {
        if self.padded == self.input {
            return x.iter().map(|&x| x.into() - zero).collect();
        }
        let [height, width] = self.padded;
        let mut out = vec![0; self.channels * height * width];
        for (row, from) in x.chunks_exact(self.input[1]).enumerate() {
            let (c, y) = (row / self.input[0], row % self.input[0] + self.before[0]);
            let to = &mut out[(c * height + y) * width + self.before[1]..];
            to.iter_mut().zip(from).for_each(|(to, &x)| *to = x.into() - zero);
        }
        out
    }

    /// Every sum over the padded input `x`, output by output. Weights are as [`Self::rows`] lays them.
    pub fn convolve(&self, x: &[i16], weights: &[i16]) -> Vec<i32> {
        let k = self.per_sum().next_multiple_of(LANES);
        let (positions, outputs) = (self.positions(), self.outputs / self.groups);
        let (mut patch, mut out) = (vec![0; k], vec![0; self.sums()]);
        for group in 0..self.groups {
            let x = &x[group * (x.len() / self.groups)..];
            let these = group * outputs..(group + 1) * outputs;
            for at in 0..positions {
                let x = &x[self.first(at)..];
                for (to, &offset) in patch.iter_mut().zip(self.offsets.iter()) {
                    *to = x[offset];
                }
                for o in these.clone() {
                    out[o * positions + at] = dot(&patch, &weights[o * k..(o + 1) * k]);
                }
            }
        }
        out
    }

    /// Weights `[O, C / groups, H, W]` less the zero point of their output in rows, one for each output, filled up with noughts to
    /// whole [`LANES`].
    pub fn rows(&self, weights: &[i32], zeros: &[i32]) -> Arc<[i16]> {
        let mut rows = Vec::new();
        for (row, zero) in weights.chunks_exact(self.per_sum()).zip(zeros) {
            rows.extend(row.iter().map(|w| (w - zero) as i16));
            rows.resize(rows.len().next_multiple_of(LANES), 0);
        }
        rows.into()
    }

    /// The first number of the sum at a place of the output.
    fn first(&self, at: usize) -> usize {
        let (y, x) = (at / self.output[1], at % self.output[1]);
        y * self.strides[0] * self.padded[1] + x * self.strides[1]
    }
}

/// In this shape compilers see the instruction that multiplies 16-bit numbers and adds the products.
#[inline(always)]
fn dot(a: &[i16], b: &[i16]) -> i32 {
    let products = |(a, b): (&[i16], &[i16])| {
        a.iter().zip(b).fold(0_i32, |sum, (&a, &b)| sum.wrapping_add(i32::from(a) * i32::from(b)))
    };
    a.chunks_exact(LANES).zip(b.chunks_exact(LANES)).map(products).fold(0, i32::wrapping_add)
}

/// Products that compilers take for one instruction.
const LANES: usize = 8;
