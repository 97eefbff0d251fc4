//! Convolutions as the specification says them, and as tract computes them.

use proptest::prelude::*;
use tract_onnx::tract_core::ops::cnn::{PaddingSpec, PoolSpec};

use super::*;

/// A convolution over one row of a plane, or over a plane.
#[derive(Debug, Clone)]
struct Case {
    groups: usize,
    ins: usize,
    outs: usize,
    size: Vec<usize>,
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    before: Vec<usize>,
    after: Vec<usize>,
    seed: u64,
    x_zero: i8,
    y_zero: i8,
    /// Small enough for sums that saturate.
    y_scale: f32,
}

prop_compose! {
    fn case()(rank in 1..=2_usize)(
        groups in 1..=3_usize,
        ins in 1..=3_usize,
        outs in 1..=5_usize,
        kernel in prop::collection::vec(1..=4_usize, rank),
        strides in prop::collection::vec(1..=3_usize, rank),
        dilations in prop::collection::vec(1..=2_usize, rank),
        before in prop::collection::vec(0..=2_usize, rank),
        after in prop::collection::vec(0..=2_usize, rank),
        more in prop::collection::vec(0..=6_usize, rank),
        seed in any::<u64>(),
        x_zero in any::<i8>(),
        y_zero in any::<i8>(),
        y_scale in 0.02_f32..3.0,
    ) -> Case {
        let size = (0..kernel.len()).map(|i| (kernel[i] - 1) * dilations[i] + 1 + more[i]).collect();
        Case { groups, ins, outs, size, kernel, strides, dilations, before, after, seed, x_zero, y_zero, y_scale }
    }
}

struct Numbers {
    x: Vec<i8>,
    w: Vec<i8>,
    bias: Vec<i32>,
    w_scale: Vec<f32>,
}

impl Case {
    fn outputs(&self) -> usize {
        self.groups * self.outs
    }

    fn numbers(&self) -> Numbers {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let (xs, ws) = (self.groups * self.ins * self.size.iter().product::<usize>(), self.per_sum());
        Numbers {
            x: (0..xs).map(|_| random.i8(..)).collect(),
            w: (0..self.outputs() * ws).map(|_| random.i8(..)).collect(),
            bias: (0..self.outputs()).map(|_| random.i32(-20_000..20_000)).collect(),
            w_scale: (0..self.outputs()).map(|_| random.f32() * 0.02 + 0.001).collect(),
        }
    }

    fn per_sum(&self) -> usize {
        self.ins * self.kernel.iter().product::<usize>()
    }

    fn op(&self, q_params: Option<DatumType>) -> Conv {
        let spec = PoolSpec {
            data_format: DataFormat::NCHW,
            kernel_shape: self.kernel.clone().into(),
            padding: PaddingSpec::Explicit(self.before.clone().into(), self.after.clone().into()),
            dilations: Some(self.dilations.clone().into()),
            strides: Some(self.strides.clone().into()),
            input_channels: self.groups * self.ins,
            output_channels: self.outputs(),
        };
        Conv::new(spec, KernelFormat::OIHW, self.groups, q_params)
    }

    fn input(&self) -> Vec<usize> {
        [&[1, self.groups * self.ins], &self.size[..]].concat()
    }

    fn weights(&self) -> Vec<usize> {
        [&[self.outputs(), self.ins], &self.kernel[..]].concat()
    }

    fn model(&self, n: &Numbers) -> TypedModel {
        let constants = vec![
            Tensor::from_shape(&self.weights(), &n.w).unwrap(),
            tensor1(&n.bias),
            tensor0(i32::from(self.x_zero)),
            tensor0(0.5_f32),
            tensor0(0_i32),
            tensor1(&n.w_scale),
            tensor0(i32::from(self.y_zero)),
            tensor0(self.y_scale),
        ];
        modelled(self.op(Some(DatumType::I8)), i8::fact(self.input()), constants)
    }

    fn run(&self, model: TypedModel, n: &Numbers) -> Vec<i8> {
        computed(model, Tensor::from_shape(&self.input(), &n.x).unwrap())
    }

    /// As the specification says it, one number after the other.
    fn reference(&self, n: &Numbers) -> Vec<i8> {
        let two = |v: &[usize], fill: usize| if v.len() == 2 { [v[0], v[1]] } else { [fill, v[0]] };
        let (size, kernel) = (two(&self.size, 1), two(&self.kernel, 1));
        let (strides, dilations) = (two(&self.strides, 1), two(&self.dilations, 1));
        let (before, after) = (two(&self.before, 0), two(&self.after, 0));
        let out: Vec<usize> = (0..2)
            .map(|i| (size[i] + before[i] + after[i] - (kernel[i] - 1) * dilations[i] - 1) / strides[i] + 1)
            .collect();
        let mut answer = Vec::new();
        for o in 0..self.outputs() {
            for (y, x) in (0..out[0]).flat_map(|y| (0..out[1]).map(move |x| (y, x))) {
                let mut sum = i64::from(n.bias[o]);
                for i in 0..self.per_sum() {
                    let (c, ky, kx) = (i / (kernel[0] * kernel[1]), i / kernel[1] % kernel[0], i % kernel[1]);
                    let at = [y * strides[0] + ky * dilations[0], x * strides[1] + kx * dilations[1]];
                    let inside = (0..2).all(|i| at[i] >= before[i] && at[i] - before[i] < size[i]);
                    if inside {
                        let channel = o / self.outs * self.ins + c;
                        let place = (channel * size[0] + at[0] - before[0]) * size[1] + at[1] - before[1];
                        sum += (i64::from(n.x[place]) - i64::from(self.x_zero))
                            * i64::from(n.w[o * self.per_sum() + i]);
                    }
                }
                let scale = 0.5 * n.w_scale[o] / self.y_scale;
                let steps = (sum as f32 * scale).round_ties_even() + f32::from(self.y_zero);
                answer.push(steps.clamp(-128.0, 127.0) as i8);
            }
        }
        answer
    }
}

fn modelled(op: Conv, input: TypedFact, constants: Vec<Tensor>) -> TypedModel {
    let mut model = TypedModel::default();
    let mut inputs = vec![model.add_source("x", input).unwrap()];
    for (i, constant) in constants.into_iter().enumerate() {
        inputs.push(model.add_const(format!("c{i}"), constant).unwrap());
    }
    let y = model.wire_node("conv", op, &inputs).unwrap();
    model.select_output_outlets(&y).unwrap();
    model
}

fn computed<T: Datum + Copy>(model: TypedModel, x: Tensor) -> Vec<T> {
    let answer = model.into_runnable().unwrap().run(tvec![x.into()]).unwrap().remove(0);
    numbers(&answer).unwrap().to_vec()
}

proptest! {
    #[test]
    fn every_convolution_is_what_the_specification_says(case in case()) {
        let numbers = case.numbers();
        let mut ours = case.model(&numbers);
        replace_up_to(&mut ours, usize::MAX).unwrap();
        prop_assert!(ours.nodes.iter().any(|node| node.op_is::<QuantConv>()));
        let ours = case.run(ours.into_optimized().unwrap(), &numbers);
        prop_assert_eq!(ours, case.reference(&numbers));
    }

    #[test]
    fn tracts_own_differ_by_their_rounding_alone(case in case()) {
        let numbers = case.numbers();
        let mut ours = case.model(&numbers);
        replace_up_to(&mut ours, usize::MAX).unwrap();
        let ours = case.run(ours, &numbers);
        let tracts = case.run(case.model(&numbers), &numbers);
        prop_assert_eq!(ours.len(), tracts.len());
        for (a, b) in ours.iter().zip(&tracts) {
            prop_assert!(a.abs_diff(*b) <= 1, "{} and {}", a, b);
        }
    }
}

#[test]
fn numbers_are_rounded_to_the_even_one_at_halves() {
    for (x, wanted) in
        [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (-2.5, -2), (0.49, 0), (300.51, 301)]
    {
        assert_eq!(rounded(x), wanted, "{x}");
    }
}

#[test]
fn what_is_too_large_stays_with_tract() {
    let mut case = Case {
        groups: 1,
        ins: 1,
        outs: 1,
        size: vec![PRODUCTS_MAX + 1],
        kernel: vec![PRODUCTS_MAX + 1],
        strides: vec![1],
        dilations: vec![1],
        before: vec![0],
        after: vec![0],
        seed: 7,
        x_zero: 0,
        y_zero: 0,
        y_scale: 1.0,
    };
    for (k, ours) in [(PRODUCTS_MAX + 1, false), (PRODUCTS_MAX, true)] {
        (case.size, case.kernel) = (vec![k], vec![k]);
        let mut model = case.model(&case.numbers());
        replace_convolutions(&mut model).unwrap();
        assert_eq!(model.nodes.iter().any(|node| node.op_is::<QuantConv>()), ours);
    }
}
