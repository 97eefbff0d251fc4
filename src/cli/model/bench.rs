//! `outpost model bench`: how fast a model is on this machine.
//!
//! Prompts and answers are random tokens: what they say does not matter to the time. Reading a prompt and writing an answer are
//! each measured behind `depth` tokens, `repeat` times after one run that is not counted. Loading is measured from the opening
//! of the bundle, the tokenizer included, as a start of the agent would see it.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use serde_json::{Value, json};

use super::{failed, parameters_text, size_text, threads};
use crate::cli::exit::Failure;
use crate::cli::model_args::BenchArgs;
use crate::cli::{kv_format, print};
use crate::clock;
use crate::glm::bundle::Bundle;
use crate::glm::engine::{Batch, Engine, EngineError, EngineOptions};
use crate::glm::import;
use crate::glm::kernels::{Format, Isa};
use crate::glm::student;
use crate::glm::tokenizer::Tokenizer;
use crate::glm::weights::Weights;

/// Measures and tells.
pub(super) fn main(args: &BenchArgs, as_json: bool) -> Result<ExitCode, Failure> {
    let begun = clock::mono();
    let subject = Subject::open(args.dir.as_deref()).map_err(Failure::Failed)?;
    let mut bench = Bench::new(args, &subject).map_err(Failure::Failed)?;
    let load = clock::mono().since(begun);
    bench.read(0, 1).map_err(failed)?;
    let first_token = clock::mono().since(begun);
    let figures = bench.measure(args.repeat).map_err(failed)?;
    let value = described(&subject, &bench, &figures, load, first_token, args.repeat);
    print(&if as_json { format!("{value}\n") } else { told(&value) })
}

/// A model to measure.
struct Subject {
    id: String,
    parameters: u64,
    format: String,
    weights: Weights,
    /// Kept, not used: whoever starts with this model reads it, so its time and memory count.
    _tokenizer: Option<Tokenizer>,
    /// Lengths of prompt and answer that suit it.
    lengths: usize,
}

impl Subject {
    /// The bundle in `dir`, or the student inside the program.
    fn open(dir: Option<&Path>) -> anyhow::Result<Self> {
        match dir {
            Some(dir) => {
                let bundle = Bundle::open(dir)?;
                Ok(Self {
                    id: bundle.id(),
                    parameters: bundle.parameters(),
                    format: bundle.body_format().to_owned(),
                    weights: bundle.weights()?,
                    _tokenizer: bundle
                        .tokenizer_json()?
                        .map(|json| Tokenizer::from_json(&json))
                        .transpose()?,
                    lengths: 512,
                })
            }
            None => {
                let student = student::Bundle::embedded()?;
                let weights = import::read_onnx("student.onnx", &student.onnx, Format::F32)?;
                let parameters = weights.matrix_bytes() as u64 / 4;
                Ok(Self {
                    id: "builtin".into(),
                    parameters,
                    format: "f32".into(),
                    weights,
                    _tokenizer: None,
                    lengths: 64,
                })
            }
        }
    }

    /// Bytes of the matrices that one token goes through; of an embedding of its own it reads one row only.
    fn bytes_per_token(&self) -> u64 {
        let idle = self.weights.head.as_ref().map_or(0, |_| self.weights.embed.bytes().len());
        (self.weights.matrix_bytes() - idle) as u64
    }
}

/// An engine with one sequence.
struct Bench {
    engine: Engine,
    prompt: usize,
    generate: usize,
    depth: usize,
    rng: fastrand::Rng,
    batch: Batch,
}

/// Tokens per second of each repetition.
struct Figures {
    prefill: Vec<f64>,
    decode: Vec<f64>,
}

impl Bench {
    fn new(args: &BenchArgs, subject: &Subject) -> anyhow::Result<Self> {
        let prompt = args.prompt.unwrap_or(subject.lengths);
        let generate = args.generate.unwrap_or(subject.lengths.min(128));
        let context_tokens = (args.depth + prompt.max(generate)).max(1);
        let isa = args.isa.as_deref().map(isa).transpose()?;
        let defaults = EngineOptions::default();
        let options = EngineOptions {
            threads: threads(args.threads),
            isa,
            context_tokens,
            kv_format: kv_format(args.kv),
            chunk_tokens: defaults.chunk_tokens.min(context_tokens),
            ..defaults
        };
        let engine = Engine::new(&subject.weights, options)?;
        // The same tokens every time, so that two calls compare.
        let rng = fastrand::Rng::with_seed(1);
        Ok(Self { engine, prompt, generate, depth: args.depth, rng, batch: Batch::default() })
    }

    fn measure(&mut self, repeat: usize) -> Result<Figures, EngineError> {
        let mut figures = Figures { prefill: Vec::new(), decode: Vec::new() };
        for round in 0..=repeat {
            let prefill = self.timed(self.prompt, Self::read)?;
            let decode = self.timed(self.generate, Self::write)?;
            // The first round warms caches and threads up.
            if round > 0 {
                figures.prefill.extend(prefill);
                figures.decode.extend(decode);
            }
        }
        Ok(figures)
    }

    /// Tokens per second of `work` behind `depth` tokens; none where there is nothing to do.
    fn timed(
        &mut self,
        tokens: usize,
        work: fn(&mut Self, usize, usize) -> Result<(), EngineError>,
    ) -> Result<Option<f64>, EngineError> {
        if tokens == 0 {
            return Ok(None);
        }
        self.read(0, self.depth)?;
        let begun = clock::mono();
        work(self, self.depth, tokens)?;
        let took = clock::mono().since(begun).max(Duration::from_micros(1));
        Ok(Some(tokens as f64 / took.as_secs_f64()))
    }

    /// Reads `tokens` in pieces from position `at` on, as a prompt.
    fn read(&mut self, at: usize, tokens: usize) -> Result<(), EngineError> {
        let chunk = self.engine.options().chunk_tokens;
        let end = at + tokens;
        for from in (at..end).step_by(chunk) {
            let count = chunk.min(end - from);
            self.step(from, count, from + count == end)?;
        }
        Ok(())
    }

    /// Writes `tokens` one by one.
    fn write(&mut self, at: usize, tokens: usize) -> Result<(), EngineError> {
        (at..at + tokens).try_for_each(|position| self.step(position, 1, true))
    }

    fn step(&mut self, position: usize, count: usize, wants_logits: bool) -> Result<(), EngineError> {
        let vocab = u32::try_from(self.engine.arch().vocab).unwrap_or(u32::MAX);
        let tokens: Vec<u32> = (0..count).map(|_| self.rng.u32(0..vocab)).collect();
        self.batch.clear();
        // A context is at most a million tokens.
        self.batch.push(0, position as u32, &tokens, wants_logits);
        self.engine.run(&self.batch).map(|_| ())
    }
}

fn isa(name: &str) -> anyhow::Result<Isa> {
    let available = Isa::available();
    available.iter().copied().find(|isa| isa.name() == name).ok_or_else(|| {
        let names: Vec<&str> = available.iter().map(|isa| isa.name()).collect();
        anyhow!("this machine has no kernels for {name:?}; use one of {}", names.join(", "))
    })
}

fn described(
    subject: &Subject,
    bench: &Bench,
    figures: &Figures,
    load: Duration,
    first_token: Duration,
    repeat: usize,
) -> Value {
    let engine = &bench.engine;
    let [rss, peak] = resident_bytes();
    json!({
        "model": subject.id,
        "family": engine.arch().family.name(),
        "parameters": subject.parameters,
        "format": subject.format,
        "weight_bytes": engine.memory().weights,
        "isa": engine.kernels().isa().name(),
        "threads": engine.kernels().threads(),
        "kv_format": engine.options().kv_format.name(),
        "kv_bytes": engine.memory().kv,
        "prompt_tokens": bench.prompt,
        "generate_tokens": bench.generate,
        "depth_tokens": bench.depth,
        "repeat": repeat,
        "load_ms": millis(load),
        "first_token_ms": millis(first_token),
        "prefill_tokens_per_s": spread(&figures.prefill),
        "decode_tokens_per_s": spread(&figures.decode),
        "weight_bytes_per_s": mean(&figures.decode).map(|mean| mean * subject.bytes_per_token() as f64),
        "rss_bytes": rss,
        "rss_bytes_peak": peak,
    })
}

fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

fn mean(all: &[f64]) -> Option<f64> {
    (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
}

/// Mean, standard deviation (of a sample) and the figures themselves.
fn spread(all: &[f64]) -> Value {
    let stddev = mean(all).map(|mean| {
        let squares: f64 = all.iter().map(|x| (x - mean).powi(2)).sum();
        (squares / (all.len().max(2) - 1) as f64).sqrt()
    });
    json!({ "mean": mean(all), "stddev": stddev, "all": all })
}

/// Resident memory now and at its peak; 0 where the system does not tell.
fn resident_bytes() -> [u64; 2] {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ["VmRSS:", "VmHWM:"].map(|key| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib: Option<u64> = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
        kib.unwrap_or(0) * 1024
    })
}

fn told(value: &Value) -> String {
    let text = |key: &str| value[key].as_str().unwrap_or("").to_owned();
    let count = |key: &str| value[key].as_u64().unwrap_or(0);
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let speed = |key: &str| {
        let of = &value[key];
        format!("{:.1} tokens/s (± {:.1})", number(&of["mean"]), number(&of["stddev"]))
    };
    let depth = match count("depth_tokens") {
        0 => String::new(),
        n => format!(" behind {n}"),
    };
    let rows = [
        (
            "model",
            format!(
                "{}, {} of {} weights in {}, {}",
                text("model"),
                text("family"),
                parameters_text(count("parameters")),
                text("format"),
                size_text(count("weight_bytes"))
            ),
        ),
        (
            "kernels",
            format!("{} on {} threads, cache in {}", text("isa"), count("threads"), text("kv_format")),
        ),
        (
            "load",
            format!(
                "{:.0} ms, first token after {:.0} ms",
                number(&value["load_ms"]),
                number(&value["first_token_ms"])
            ),
        ),
        ("read", format!("{} tokens{depth}: {}", count("prompt_tokens"), speed("prefill_tokens_per_s"))),
        ("write", format!("{} tokens{depth}: {}", count("generate_tokens"), speed("decode_tokens_per_s"))),
        ("weights", format!("{:.2} GB/s", number(&value["weight_bytes_per_s"]) / 1e9)),
        (
            "memory",
            format!(
                "{} resident, {} at the peak",
                size_text(count("rss_bytes")),
                size_text(count("rss_bytes_peak"))
            ),
        ),
    ];
    rows.iter().map(|(name, what)| format!("{name:8} {what}\n")).collect()
}
