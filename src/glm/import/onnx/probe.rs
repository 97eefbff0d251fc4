//! An ONNX graph's own answer against the engine's, on tokens drawn by chance.
//!
//! A graph says what it computes, and names of weights say only what they are called: an export with another activation, another
//! rotation or a scale somewhere would be read without complaint. So tract runs the graph as it stands, and both must agree.

use std::path::Path;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

use crate::glm::arch::Arch;
use crate::glm::engine::{Batch, Engine, EngineError, EngineOptions};
use crate::glm::import::ImportError;
use crate::glm::kernels::KvFormat;
use crate::glm::weights::Weights;

/// Tokens of the probe: rotations by more than a turn, several tiles of keys.
const TOKENS: usize = 24;
/// Largest difference of two logits, by the largest logit: sums of f32 in another order.
const WITHIN: f32 = 2e-4;

/// What came of it.
#[derive(Debug, PartialEq)]
pub(in crate::glm::import) enum Probe {
    /// Both say the same.
    Agrees,
    /// tract can't run the graph by itself; why.
    NotRun(String),
}

/// Runs the graph at `path` and the engine with its `weights`, which are in f32.
pub(in crate::glm::import) fn probe(path: &Path, weights: &Weights) -> Result<Probe, ImportError> {
    let mut rng = fastrand::Rng::with_seed(TOKENS as u64);
    let tokens_max = TOKENS.min(weights.arch.context_tokens_max);
    let tokens: Vec<u32> = (0..tokens_max).map(|_| rng.u32(0..weights.arch.vocab as u32)).collect();
    let theirs = match original(path, &weights.arch, &tokens) {
        Ok(logits) => logits,
        Err(error) => return Ok(Probe::NotRun(format!("{error:#}"))),
    };
    let ours = own(weights, &tokens).map_err(|error| failed(path, error.to_string()))?;
    let largest = theirs.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0_f32, f32::max);
    // Written so that a logit that is no number does not agree.
    if ours.len() == theirs.len() && worst <= WITHIN * largest {
        return Ok(Probe::Agrees);
    }
    let what =
        format!("its logits differ by up to {worst} of {largest} from those of a GLM with its weights");
    Err(failed(path, what))
}

fn failed(path: &Path, what: String) -> ImportError {
    ImportError::Probe { path: path.to_owned(), what }
}

fn own(weights: &Weights, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
    let options = EngineOptions {
        context_tokens: tokens.len(),
        chunk_tokens: tokens.len(),
        kv_format: KvFormat::F32,
        ..EngineOptions::default()
    };
    let mut engine = Engine::new(weights, options)?;
    let mut batch = Batch::default();
    batch.push(0, 0, tokens, false);
    batch.logits = (0..tokens.len() as u32).collect();
    Ok(engine.run(&batch)?.to_vec())
}

/// Logits at every position, by tract's run of the graph.
fn original(path: &Path, arch: &Arch, tokens: &[u32]) -> TractResult<Vec<f32>> {
    let graph = tract_onnx::onnx().model_for_path(path)?.into_typed()?;
    let inputs: Vec<TValue> = graph
        .inputs
        .iter()
        .map(|outlet| {
            let fact = graph.outlet_fact(*outlet)?;
            input(&graph.node(outlet.node).name, fact, arch, tokens)
        })
        .collect::<TractResult<_>>()?;
    let output = graph.into_optimized()?.into_runnable()?.run(inputs.into())?.remove(0);
    let logits = output.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
    if logits.len() != tokens.len() * arch.vocab {
        bail!("its first output has {} numbers, {} x {} are due", logits.len(), tokens.len(), arch.vocab);
    }
    Ok(logits)
}

/// What an export of a language model takes, by kind and name: tokens, their positions, a mask of ones, an empty cache.
fn input(name: &str, fact: &TypedFact, arch: &Arch, tokens: &[u32]) -> TractResult<TValue> {
    let count = tokens.len();
    let tensor = match fact.rank() {
        2 if name.contains("mask") => Tensor::from_shape(&[1, count], &vec![1_i64; count])?,
        2 if name.contains("position") => {
            Tensor::from_shape(&[1, count], &(0..count as i64).collect::<Vec<_>>())?
        }
        2 => Tensor::from_shape(&[1, count], &tokens.iter().map(|&t| i64::from(t)).collect::<Vec<_>>())?,
        4 => Tensor::zero::<f32>(&[1, arch.kv_heads, 0, arch.head_dim])?,
        _ => bail!("its input {name} is {fact:?}"),
    };
    Ok(tensor.cast_to_dt(fact.datum_type)?.into_owned().into_tvalue())
}
