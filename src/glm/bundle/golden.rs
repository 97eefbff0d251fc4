//! What a model answered when it was imported, so that another machine, or the same one later, can find it again.
//!
//! Hashes show that the bytes are right; golden tokens show that the kernels of this machine make the same of them. Prompts are
//! drawn at random, so that they need no tokenizer. Kernels of different instruction sets add in different orders, so a step is
//! held to two rules that bear that: the logit of its token is within [`TOLERANCE`] of the row's range, and the token is the
//! most likely one again wherever it was so by a margin that two such differences can't close. The model is given the recorded
//! tokens to go on with, not its own, so one narrow choice does not spoil the rest.

use serde::{Deserialize, Serialize};

use super::{Bundle, BundleError};
use crate::glm::engine::{Batch, Engine, EngineError, EngineOptions};
use crate::glm::kernels::{Isa, KvFormat};
use crate::glm::weights::Weights;
use crate::limits;

/// Answers of the engine that imported the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// One per prompt.
    pub runs: Vec<GoldenRun>,
}

/// One prompt and how the model went on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenRun {
    /// Token ids that it read.
    pub prompt: Vec<u32>,
    /// Token after token that it wrote.
    pub steps: Vec<GoldenStep>,
}

/// One token that was the most likely.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenStep {
    /// Its id.
    pub token: u32,
    /// Its logit.
    pub logit: f32,
    /// How far ahead of the second.
    pub margin: f32,
    /// From the least logit to the greatest.
    pub range: f32,
}

/// A step that came out otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Departure {
    /// Which prompt, from 1.
    pub prompt: usize,
    /// Which step, from 1.
    pub step: usize,
    /// The token as recorded.
    pub token: u32,
    /// Its logit as recorded.
    pub recorded: f32,
    /// Its logit here.
    pub found: f32,
}

/// How far a logit may be off, as a share of its row's range.
pub const TOLERANCE: f32 = 0.02;

impl Golden {
    /// Lets a model answer. `None` where its logits are no numbers, or its context is too short to say anything.
    pub(in crate::glm) fn record(weights: &Weights, threads: usize) -> Result<Option<Golden>, EngineError> {
        let room = weights.arch.context_tokens_max.min(limits::GOLDEN_PROMPT_TOKENS + limits::GOLDEN_STEPS);
        let prompt_tokens = room / 2;
        if prompt_tokens == 0 {
            return Ok(None);
        }
        let mut engine = engine(weights, threads, None)?;
        let mut rng = fastrand::Rng::with_seed(weights.arch.vocab as u64);
        let vocab = u32::try_from(weights.arch.vocab).unwrap_or(u32::MAX);
        let mut runs = Vec::new();
        for _ in 0..limits::GOLDEN_PROMPTS {
            let prompt: Vec<u32> = (0..prompt_tokens).map(|_| rng.u32(0..vocab)).collect();
            let mut steps = Vec::new();
            let mut feed = prompt.clone();
            let mut position = 0;
            for _ in 0..room - prompt_tokens {
                let Some(step) = GoldenStep::of(run(&mut engine, position, &feed)?) else { return Ok(None) };
                position += feed.len();
                feed = vec![step.token];
                steps.push(step);
            }
            runs.push(GoldenRun { prompt, steps });
        }
        Ok(Some(Golden { runs }))
    }

    /// Lets the model answer again, on the kernels of `isa`, the fastest if none is said; gives the first departure.
    pub(in crate::glm) fn replay(
        &self,
        weights: &Weights,
        threads: usize,
        isa: Option<Isa>,
    ) -> Result<Option<Departure>, EngineError> {
        let mut engine = engine(weights, threads, isa)?;
        for (prompt, golden) in self.runs.iter().enumerate() {
            let mut feed = golden.prompt.clone();
            let mut position = 0;
            for (n, step) in golden.steps.iter().enumerate() {
                let row = run(&mut engine, position, &feed)?;
                let found = row.get(step.token as usize).copied().unwrap_or(f32::NAN);
                if !step.is_met(row, found) {
                    let (token, recorded) = (step.token, step.logit);
                    return Ok(Some(Departure { prompt: prompt + 1, step: n + 1, token, recorded, found }));
                }
                position += feed.len();
                feed = vec![step.token];
            }
        }
        Ok(None)
    }

    /// Tokens that were written.
    pub fn tokens(&self) -> usize {
        self.runs.iter().map(|run| run.steps.len()).sum()
    }
}

impl GoldenStep {
    /// The most likely token of a row; none where a logit is no number.
    fn of(row: &[f32]) -> Option<GoldenStep> {
        if !row.iter().all(|logit| logit.is_finite()) {
            return None;
        }
        let token = best(row)?;
        let logit = row[token];
        let others = row.iter().enumerate().filter(|(i, _)| *i != token).map(|(_, x)| *x);
        let second = others.fold(f32::NEG_INFINITY, f32::max);
        let least = row.iter().copied().fold(f32::INFINITY, f32::min);
        let margin = if second.is_finite() { logit - second } else { 0.0 };
        Some(GoldenStep { token: u32::try_from(token).ok()?, logit, margin, range: logit - least })
    }

    fn is_met(&self, row: &[f32], found: f32) -> bool {
        let tolerance = TOLERANCE * self.range;
        // Written so that what is no number never passes.
        let near = (found - self.logit).abs() <= tolerance;
        near && (self.margin <= 2.0 * tolerance || best(row) == usize::try_from(self.token).ok())
    }
}

impl Bundle {
    /// Lets the model answer its golden prompts again; how many tokens were found again, `None` where the bundle has none.
    pub(super) fn verify_golden(&self, threads: usize) -> Result<Option<usize>, BundleError> {
        let Some(golden) = &self.manifest.golden else { return Ok(None) };
        match golden.replay(&self.weights()?, threads, None)? {
            Some(departure) => Err(BundleError::Golden { departure, isa: Isa::detect() }),
            None => Ok(Some(golden.tokens())),
        }
    }
}

/// Exact keys and values, so that only the kernels can differ.
fn engine(weights: &Weights, threads: usize, isa: Option<Isa>) -> Result<Engine, EngineError> {
    let context_tokens =
        weights.arch.context_tokens_max.min(limits::GOLDEN_PROMPT_TOKENS + limits::GOLDEN_STEPS);
    let options = EngineOptions {
        threads,
        isa,
        slots: 1,
        context_tokens,
        kv_format: KvFormat::F32,
        chunk_tokens: context_tokens,
        rows_max: 1,
        memory_bytes_max: None,
        words_bytes: 0,
        device: None,
    };
    Engine::new(weights, options)
}

/// The logits behind `tokens`, which stand at `position`.
fn run<'e>(engine: &'e mut Engine, position: usize, tokens: &[u32]) -> Result<&'e [f32], EngineError> {
    let mut batch = Batch::default();
    batch.push(0, position as u32, tokens, true);
    engine.run(&batch)
}

fn best(row: &[f32]) -> Option<usize> {
    (0..row.len()).reduce(|best, i| if row[i] > row[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::glm::import::{ImportOptions, import};
    use crate::glm::kernels::Format;

    fn bundle(name: &str, format: Format) -> (tempfile::TempDir, Bundle) {
        let dir = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/glm").join(name);
        let options = ImportOptions { body: Some(format), ends: Some(format), ..ImportOptions::default() };
        let target = dir.path().join("bundle");
        import(&source, &target, &options, &mut |_| {}).unwrap();
        let bundle = Bundle::open(&target).unwrap();
        (dir, bundle)
    }

    #[test]
    fn every_instruction_set_of_this_machine_finds_the_tokens_again() {
        for (name, format) in
            [("glm_edge", Format::Q4_0), ("glm4_odd", Format::Q8_0), ("glm4_deep", Format::F32)]
        {
            let (_dir, bundle) = bundle(name, format);
            let golden = bundle.manifest().golden.as_ref().expect("golden tokens");
            assert_eq!(golden.tokens(), limits::GOLDEN_PROMPTS * limits::GOLDEN_STEPS, "{name}");
            let weights = bundle.weights().unwrap();
            for isa in Isa::available() {
                let departure = golden.replay(&weights, 1, Some(isa)).unwrap();
                assert_eq!(departure, None, "{name} on {}", isa.name());
            }
        }
    }

    #[test]
    fn a_model_that_is_off_by_one_matrix_or_one_norm_is_found_out() {
        let (_dir, bundle) = bundle("glm4_bias", Format::Q8_0);
        let golden = bundle.manifest().golden.as_ref().unwrap();
        let right = bundle.weights().unwrap();
        let mut exchanged = right.clone();
        exchanged.layers[0].o = right.layers[1].o.clone();
        let mut louder = right.clone();
        louder.norm.iter_mut().for_each(|x| *x *= 1.05);
        let mut biased = right.clone();
        biased.layers[0].qkv_bias = None;
        for (what, wrong) in [("exchanged", exchanged), ("louder", louder), ("no bias", biased)] {
            let departure = golden.replay(&wrong, 1, None);
            assert!(departure.is_err() || departure.unwrap().is_some(), "{what}");
        }
    }

    #[test]
    fn a_narrow_choice_may_fall_the_other_way_and_a_wide_one_may_not() {
        let step = GoldenStep::of(&[0.0, 10.0, 9.9]).unwrap();
        assert_eq!((step.token, step.range), (1, 10.0));
        assert!(step.is_met(&[0.0, 9.95, 10.0], 9.95));
        assert!(!step.is_met(&[0.0, 9.7, 9.9], 9.7), "a logit that is far off");
        let wide = GoldenStep::of(&[0.0, 10.0, 5.0]).unwrap();
        assert!(!wide.is_met(&[0.0, 9.9, 10.0], 9.9));
        assert!(!wide.is_met(&[0.0, f32::NAN, 5.0], f32::NAN));
        assert_eq!(GoldenStep::of(&[0.0, f32::NAN]), None);
    }
}
