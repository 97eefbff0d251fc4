//! Each operator alone in a graph, against plain arithmetic in f64.

use std::sync::Arc;

use tract_onnx::prelude::*;

use super::*;
use crate::glm::kernels::{
    AttentionShape, Epilogue, Format, Isa, Kernels, KvFormat, KvShape, KvStore, Matrix, RopeTable, Span,
};

fn kernels() -> Kernels {
    Kernels::detect(2)
}

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| rng.f32() * 2.0 - 1.0).collect()
}

/// A graph of one operator, run by tract's plan as any other.
fn run(op: impl Into<Box<dyn TypedOp>>, facts: &[TypedFact], inputs: TVec<TValue>) -> TractResult<Vec<f32>> {
    let mut graph = TypedModel::default();
    let sources =
        facts.iter().enumerate().map(|(i, fact)| graph.add_source(format!("input{i}"), fact.clone()));
    let sources: Vec<OutletId> = sources.collect::<TractResult<_>>()?;
    let out = graph.wire_node("op", op, &sources)?;
    graph.select_output_outlets(&out)?;
    let output = graph.into_optimized()?.into_runnable()?.run(inputs)?.remove(0);
    Ok(floats(&output)?.to_vec())
}

fn rows(cols: usize, x: &[f32]) -> (TypedFact, TValue) {
    let shape = [x.len() / cols, cols];
    (f32::fact(shape), Tensor::from_shape(&shape, x).unwrap().into_tvalue())
}

fn assert_close(got: &[f32], want: &[f64], within: f64) {
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(*got) - want).abs() <= within, "{i}: {got} not {want}");
    }
}

#[test]
fn the_embedding_gives_rows_and_refuses_tokens_it_lacks() {
    let table = numbers(20 * 7, 1);
    let embed = Embed { table: Matrix::pack(20, 7, Format::F32, &table).unwrap() };
    let tokens = |ids: &[i64]| tvec![Tensor::from_shape(&[ids.len()], ids).unwrap().into_tvalue()];
    let fact = [i64::fact([3])];
    let got = run(embed.clone(), &fact, tokens(&[19, 0, 3])).unwrap();
    assert_eq!(got, [&table[19 * 7..], &table[..7], &table[21..28]].concat());
    for bad in [20, -1, i64::MAX] {
        let error = format!("{:#}", run(embed.clone(), &fact, tokens(&[0, bad, 1])).unwrap_err());
        assert!(error.contains(&format!("token {bad} of 20")), "{error}");
    }
}

#[test]
fn the_norm_divides_by_the_root_of_the_mean_square() {
    let (x, weight) = (numbers(3 * 20, 2), numbers(20, 3));
    let (fact, input) = rows(20, &x);
    let norm = RmsNorm { kernels: kernels(), weight: weight.clone().into(), eps: 0.01 };
    let want: Vec<f64> = x
        .chunks(20)
        .flat_map(|x| {
            let square: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
            let scale = 1.0 / (square / 20.0 + 0.01).sqrt();
            x.iter().zip(&weight).map(move |(x, w)| f64::from(*x) * scale * f64::from(*w)).collect::<Vec<_>>()
        })
        .collect();
    assert_close(&run(norm, &[fact], tvec![input]).unwrap(), &want, 1e-6);
}

#[test]
fn the_product_adds_its_bias_and_gates() {
    let (inter, cols) = (20, 40);
    let (gate, up) = (numbers(inter * cols, 4), numbers(inter * cols, 5));
    let mut fused = vec![0.0; 64 * cols];
    for row in 0..inter {
        let at = (row / 16 * 32 + row % 16) * cols;
        fused[at..at + cols].copy_from_slice(&gate[row * cols..][..cols]);
        fused[at + 16 * cols..][..cols].copy_from_slice(&up[row * cols..][..cols]);
    }
    let x = numbers(3 * cols, 6);
    let (fact, input) = rows(cols, &x);
    let dot =
        |w: &[f32], x: &[f32]| -> f64 { w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum() };
    let matrix = Matrix::pack(64, cols, Format::F32, &fused).unwrap();
    let gated = Linear { kernels: kernels(), matrix, bias: None, epilogue: Epilogue::SiluGate { inter } };
    let want: Vec<f64> = x
        .chunks(cols)
        .flat_map(|x| {
            let silu = |g: f64| g / (1.0 + (-g).exp());
            gate.chunks(cols).zip(up.chunks(cols)).map(move |(g, u)| silu(dot(g, x)) * dot(u, x))
        })
        .collect();
    assert_close(&run(gated, std::slice::from_ref(&fact), tvec![input.clone()]).unwrap(), &want, 1e-4);

    let bias = numbers(inter, 7);
    let matrix = Matrix::pack(inter, cols, Format::F32, &gate).unwrap();
    let plain =
        Linear { kernels: kernels(), matrix, bias: Some(bias.clone().into()), epilogue: Epilogue::None };
    let rows_and_bias = || gate.chunks(cols).zip(&bias);
    let want: Vec<f64> =
        x.chunks(cols).flat_map(|x| rows_and_bias().map(move |(g, b)| dot(g, x) + f64::from(*b))).collect();
    assert_close(&run(plain.clone(), &[fact], tvec![input]).unwrap(), &want, 1e-5);

    let (fact, input) = rows(cols + 1, &numbers(cols + 1, 8));
    assert!(run(plain, &[fact], tvec![input]).is_err(), "rows of another length");
}

#[test]
fn attention_looks_back_at_what_earlier_turns_stored() {
    let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 8 };
    let kv_shape =
        KvShape { layers: 1, kv_heads: 2, head_dim: 8, slots: 2, tokens_max: 32, format: KvFormat::F32 };
    let qkv = numbers(9 * 64, 9);
    let by_turns = |isa: Isa, turns: &[usize]| -> Vec<f32> {
        let kv = Arc::new(KvStore::new(kv_shape).unwrap());
        let rope = Arc::new(RopeTable::new(4, 10_000.0, 32));
        let attention = Attention { kernels: Kernels::new(isa, 1), shape, kv, layer: 0, rope };
        let (mut at, mut out) = (0, Vec::new());
        for &tokens in turns {
            let (fact, input) = rows(64, &qkv[at * 64..(at + tokens) * 64]);
            let span = Span { slot: 1, position: at as u32, tokens: tokens as u32 };
            let spans = Tensor::from_shape(&[1, 3], &to_rows(&[span])).unwrap().into_tvalue();
            out.extend(run(attention.clone(), &[fact, i64::fact([1, 3])], tvec![input, spans]).unwrap());
            at += tokens;
        }
        out
    };
    let want: Vec<f64> = by_turns(Isa::Portable, &[9]).into_iter().map(f64::from).collect();
    for isa in Isa::available() {
        for turns in [&[9][..], &[4, 5], &[1, 1, 1, 6], &[7, 1, 1]] {
            assert_close(&by_turns(isa, turns), &want, 1e-5);
        }
    }
}

#[test]
fn spans_that_do_not_fit_end_a_turn_with_a_reason() {
    let kv_shape =
        KvShape { layers: 1, kv_heads: 1, head_dim: 8, slots: 1, tokens_max: 8, format: KvFormat::F16 };
    let attention = Attention {
        kernels: kernels(),
        shape: AttentionShape { heads: 1, kv_heads: 1, head_dim: 8 },
        kv: Arc::new(KvStore::new(kv_shape).unwrap()),
        layer: 0,
        rope: Arc::new(RopeTable::new(8, 10_000.0, 8)),
    };
    let (fact, input) = rows(24, &numbers(2 * 24, 10));
    for (spans, reason) in [([0, 3, 2], "begins at 3"), ([-1, 0, 2], "out of range"), ([0, 0, 1], "1 tokens")]
    {
        let spans = Tensor::from_shape(&[1, 3], &spans.map(i64::from)).unwrap().into_tvalue();
        let facts = [fact.clone(), i64::fact([1, 3])];
        let error = run(attention.clone(), &facts, tvec![input.clone(), spans]).unwrap_err();
        assert!(format!("{error:#}").contains(reason), "{error:#}");
    }
}
