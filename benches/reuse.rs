//! What reuse, batching and a small model are worth, beside the figures that the literature gives:
//! `cargo bench --bench reuse [ISA]`.
//!
//! The prompts and answers are the shipped student's golden ones. Each part compares two ways of doing the same work in turn,
//! [`ROUNDS`] times, and tells the medians. The teacher's weights are not shipped: random ones of its shape take as long.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use outpost::glm::arch::{Arch, Family};
use outpost::glm::engine::{Batch, Engine, EngineOptions};
use outpost::glm::generate::{Batcher, BatcherOptions, Priority, Request};
use outpost::glm::import::read_onnx;
use outpost::glm::kernels::{Format, Isa, Matrix};
use outpost::glm::student::Bundle;
use outpost::glm::weights::{TensorShape, TensorSource, Weights, tensors};

const ROUNDS: usize = 15;
/// Digests that wait at the same time.
const BATCH: usize = 4;
/// Of the one that the student was distilled from last: `deep_teacher` in `models/student/train.py`.
const TEACHER_LAYERS: usize = 12;
/// Tokens that every prompt of a bigger model begins with, its own ones, and the answer's.
const SHARED: (usize, usize, usize) = (256, 32, 32);

fn main() {
    let bundle = Bundle::embedded().expect("the program holds a student");
    let student = read_onnx("student.onnx", &bundle.onnx, Format::Q8_0).expect("the student can be read");
    let digests = digests();
    let [prompts, answers] =
        [0, 1].map(|part| digests.iter().map(|(prompt, answer)| [prompt, answer][part].len()).sum::<usize>());
    let count = digests.len();
    println!(
        "{count} digests, prompts of {} tokens, answers of {}, {}",
        prompts / count,
        answers / count,
        isa()
    );
    keys_and_values(&student, &digests);
    prefix();
    batching(&student, &digests);
    teacher(&student, &digests);
}

type Digest = (Vec<u32>, Vec<u32>);

fn digests() -> Vec<Digest> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/models/student/golden.json");
    let golden: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path).expect("golden answers")).expect("JSON");
    let ids = |value: &serde_json::Value| -> Vec<u32> {
        let ids = value.as_array().into_iter().flatten();
        ids.filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect()
    };
    let cases = golden.as_array().or_else(|| golden["cases"].as_array()).expect("a list of cases");
    let digests = cases.iter().map(|case| (ids(&case["prompt_ids"]), ids(&case["answer_ids"])));
    let digests: Vec<_> =
        digests.filter(|(prompt, answer)| !prompt.is_empty() && !answer.is_empty()).take(24).collect();
    assert!(!digests.is_empty(), "golden answers hold token ids");
    digests
}

/// Keys and values of what was read are kept, or everything is read anew for every token.
fn keys_and_values(weights: &Weights, digests: &[Digest]) {
    let mut engine = engine(weights, 1, 1);
    let [anew, kept] = compare(|is_kept| {
        let begun = Instant::now();
        digests.iter().for_each(|(prompt, answer)| write(&mut engine, prompt, answer, is_kept));
        begun.elapsed().as_secs_f64() / digests.len() as f64
    });
    tell("a digest, everything read anew for every token", anew, "keys and values kept", kept);
    wanted("latency", 1.0 - kept / anew, 0.44);
}

fn write(engine: &mut Engine, prompt: &[u32], answer: &[u32], is_kept: bool) {
    let mut tokens = prompt.to_vec();
    let mut read = 0;
    for token in answer {
        let mut batch = Batch::default();
        batch.push(0, read as u32, &tokens[read..], true);
        engine.run(&batch).expect("a digest fits");
        read = if is_kept { tokens.len() } else { 0 };
        tokens.push(*token);
    }
}

/// A constant prompt is pinned, or read with every request. The model has the shape of a 100 M student.
fn prefix() {
    let arch = Arch {
        hidden: 768,
        layers: 12,
        heads: 12,
        kv_heads: 4,
        head_dim: 64,
        inter: 2048,
        vocab: 8192,
        rotary_dim: 32,
        context_tokens_max: 1024,
        ..student_arch(4)
    };
    let weights = random(&arch);
    let (shared, own, answer) = SHARED;
    let asked = |n: usize| -> Digest {
        let own = (0..own).map(|i| (i * 7 + n * 131) as u32);
        ((0..shared as u32).chain(own).collect(), vec![0; answer])
    };
    let [anew, kept] = compare(|is_kept| {
        let mut batcher = Batcher::new(engine(&weights, 2, 2), BatcherOptions::default());
        if is_kept {
            batcher.pin(&asked(0).0[..shared], "", None).expect("a prefix can be pinned");
            // The first one that begins with it reads it for all.
            answer_all(&mut batcher, &[asked(0)]);
        }
        let begun = Instant::now();
        answer_all(&mut batcher, &[asked(1)]);
        begun.elapsed().as_secs_f64()
    });
    tell("100 M: an answer of 32 tokens to 256 + 32, all of it read", anew, "the 256 kept", kept);
    wanted("latency", 1.0 - kept / anew, 0.44);
}

/// Digests that wait together are worded one by one, or together.
fn batching(weights: &Weights, digests: &[Digest]) {
    let mut batcher = Batcher::new(engine(weights, 1, BATCH), BatcherOptions::default());
    let [alone, together] = compare(|is_together| {
        let begun = Instant::now();
        for four in digests.chunks_exact(BATCH) {
            four.chunks(if is_together { BATCH } else { 1 }).for_each(|some| answer_all(&mut batcher, some));
        }
        begun.elapsed().as_secs_f64() / (digests.len() / BATCH * BATCH) as f64
    });
    tell("a digest of four that wait, one after the other", alone, "together", together);
    wanted("time per digest", 1.0 - together / alone, 0.34);
}

/// Student and teacher word the same digests.
fn teacher(student: &Weights, digests: &[Digest]) {
    let mut big = engine(&random(&student_arch(TEACHER_LAYERS)), 1, 1);
    let mut small = engine(student, 1, 1);
    let [slow, fast] = compare(|is_student| {
        let engine = if is_student { &mut small } else { &mut big };
        let begun = Instant::now();
        digests.iter().for_each(|(prompt, answer)| write(engine, prompt, answer, true));
        begun.elapsed().as_secs_f64() / digests.len() as f64
    });
    tell("a digest by the teacher (2.37 M weights)", slow, "by the student (0.89 M)", fast);
    println!("  speed: {:.2} x (wanted: 2.80 x)", slow / fast);
}

fn answer_all(batcher: &mut Batcher, digests: &[Digest]) {
    for (prompt, answer) in digests {
        let request = Request::greedy(prompt.clone(), Arc::from([]), answer.len());
        batcher.submit(request).expect("a place in the queue");
    }
    let mut events = Vec::new();
    while !batcher.is_idle() {
        batcher.step(Priority::Periodic, &mut events);
    }
}

/// The one that is asked for, or the fastest.
fn isa() -> Isa {
    // Cargo adds an argument of its own that begins with a dash.
    let asked = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let isa =
        asked.map_or(Isa::detect(), |name| Isa::from_name(&name).expect("the name of an instruction set"));
    assert!(isa.is_available(), "this machine has no kernels for {isa}");
    isa
}

fn engine(weights: &Weights, threads: usize, slots: usize) -> Engine {
    let context_tokens = weights.arch.context_tokens_max;
    let options = EngineOptions {
        threads,
        isa: Some(isa()),
        slots,
        context_tokens,
        chunk_tokens: context_tokens,
        ..EngineOptions::default()
    };
    Engine::new(weights, options).expect("an engine of this shape")
}

/// Median seconds of both ways, asked in turn after one round that does not count.
fn compare(mut way: impl FnMut(bool) -> f64) -> [f64; 2] {
    let rounds: Vec<[f64; 2]> = (0..=ROUNDS).map(|_| [way(false), way(true)]).skip(1).collect();
    [0, 1].map(|column| {
        let mut all: Vec<f64> = rounds.iter().map(|round| round[column]).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    })
}

fn tell(first: &str, seconds: f64, second: &str, other: f64) {
    println!("{first}: {:.2} ms; {second}: {:.2} ms", seconds * 1e3, other * 1e3);
}

fn wanted(what: &str, saved: f64, target: f64) {
    println!("  {what}: {:.0} % less (wanted: {:.0} %)", saved * 100.0, target * 100.0);
}

/// The student's shape, with as many layers as asked for.
fn student_arch(layers: usize) -> Arch {
    Arch {
        family: Family::Glm,
        hidden: 128,
        layers,
        heads: 4,
        kv_heads: 2,
        head_dim: 32,
        inter: 352,
        vocab: 598,
        rotary_dim: 16,
        rope_theta: 10_000.0,
        rms_eps: 1e-5,
        qkv_bias: false,
        tied_head: false,
        context_tokens_max: 256,
    }
}

/// Weights of a shape in the student's format.
fn random(arch: &Arch) -> Weights {
    let shapes = tensors(arch).into_iter().collect();
    let Ok(weights) = Weights::collect(arch, &mut Random { shapes, rng: fastrand::Rng::with_seed(1) });
    weights
}

struct Random {
    shapes: HashMap<String, TensorShape>,
    rng: fastrand::Rng,
}

impl TensorSource for Random {
    type Error = Infallible;

    fn matrix(&mut self, name: &str) -> Result<Matrix, Infallible> {
        let TensorShape::Matrix { rows, cols } = self.shapes[name] else { panic!("{name} is a matrix") };
        let numbers: Vec<f32> = (0..rows * cols).map(|_| (self.rng.f32() - 0.5) * 0.2).collect();
        Ok(Matrix::pack(rows, cols, Format::Q8_0, &numbers).expect("numbers of this shape"))
    }

    fn vector(&mut self, name: &str) -> Result<Vec<f32>, Infallible> {
        Ok(vec![1.0; self.shapes[name].numbers() as usize])
    }
}
