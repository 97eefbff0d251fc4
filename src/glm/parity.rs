//! The engine against transformers: tiny checkpoints of both families, imported, mapped and run.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::bundle::Bundle;
use super::engine::{Batch, Engine, EngineOptions};
use super::import::{ImportOptions, import};
use super::kernels::{Format, Isa, KvFormat};

/// Largest difference of a logit to transformers', both in f32.
const WITHIN: f32 = 1e-4;

#[derive(Deserialize)]
struct Expected {
    prompt: Vec<u32>,
    greedy: Vec<u32>,
    vocab: usize,
}

struct Case {
    name: String,
    expected: Expected,
    logits: Vec<f32>,
    bundle: Bundle,
    _dir: tempfile::TempDir,
}

fn fixtures() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/glm");
    let entries = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    all.sort();
    assert_eq!(all.len(), 6, "the fixtures are not all here");
    all
}

impl Case {
    fn import(source: &Path, format: Format) -> Case {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("bundle");
        let options = ImportOptions { body: Some(format), ends: Some(format), ..ImportOptions::default() };
        import(source, &target, &options, &mut |_| {}).unwrap();
        let text = std::fs::read_to_string(source.join("expected.json")).unwrap();
        let bytes = std::fs::read(source.join("expected.bin")).unwrap();
        Case {
            name: source.file_name().unwrap().to_string_lossy().into_owned(),
            expected: serde_json::from_str(&text).unwrap(),
            logits: bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            bundle: Bundle::open(&target).unwrap(),
            _dir: dir,
        }
    }

    fn engine(&self, options: EngineOptions) -> Engine {
        Engine::new(&self.bundle.weights().unwrap(), options).unwrap()
    }

    fn row(&self, row: usize) -> &[f32] {
        &self.logits[row * self.expected.vocab..][..self.expected.vocab]
    }

    fn assert_row(&self, what: &str, row: usize, got: &[f32]) {
        let want = self.row(row);
        assert_eq!(got.len(), want.len());
        let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < WITHIN, "{} {what}, row {row}: off by {worst}", self.name);
    }
}

fn exact(isa: Isa) -> EngineOptions {
    EngineOptions {
        threads: 2,
        isa: Some(isa),
        slots: 3,
        context_tokens: 300,
        kv_format: KvFormat::F32,
        ..EngineOptions::default()
    }
}

fn best(logits: &[f32]) -> u32 {
    (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best }) as u32
}

fn one(slot: u32, position: usize, tokens: &[u32]) -> Batch {
    let mut batch = Batch::default();
    batch.push(slot, position as u32, tokens, true);
    batch
}

#[test]
fn logits_are_those_of_transformers_at_every_position_of_a_prompt_and_at_64_steps() {
    for source in fixtures() {
        let case = Case::import(&source, Format::F32);
        let prompt = &case.expected.prompt;
        for isa in Isa::available() {
            let mut engine = case.engine(exact(isa));
            let mut batch = one(0, 0, prompt);
            batch.logits = (0..prompt.len() as u32).collect();
            let logits = engine.run(&batch).unwrap();
            for (row, got) in logits.chunks_exact(case.expected.vocab).enumerate() {
                case.assert_row(isa.name(), row, got);
            }
            for (step, &token) in case.expected.greedy[..64].iter().enumerate() {
                let at = prompt.len() + step;
                case.assert_row(isa.name(), at, engine.run(&one(0, at, &[token])).unwrap());
            }
        }
    }
}

#[test]
fn greedy_tokens_are_those_of_transformers_for_256_steps() {
    for source in fixtures() {
        let case = Case::import(&source, Format::F32);
        let mut engine = case.engine(exact(Isa::detect()));
        let prompt = &case.expected.prompt;
        let mut token = best(engine.run(&one(0, 0, prompt)).unwrap());
        for (step, &want) in case.expected.greedy.iter().enumerate() {
            assert_eq!(token, want, "{} step {step}", case.name);
            token = best(engine.run(&one(0, prompt.len() + step, &[token])).unwrap());
        }
    }
}

#[test]
fn a_prompt_in_pieces_among_other_sequences_gives_the_same_logits() {
    for source in fixtures() {
        let case = Case::import(&source, Format::F32);
        let (prompt, greedy) = (&case.expected.prompt, &case.expected.greedy);
        let mut engine = case.engine(exact(Isa::detect()));
        // Slot 1 is ahead by a token at a time; slot 2 reads the prompt in pieces of 5 beside it.
        engine.run(&one(1, 0, prompt)).unwrap();
        for (n, piece) in prompt.chunks(5).enumerate() {
            let mut batch = one(1, prompt.len() + n, &greedy[n..=n]);
            batch.push(2, n as u32 * 5, piece, true);
            let logits = engine.run(&batch).unwrap();
            let (ahead, behind) = logits.split_at(case.expected.vocab);
            case.assert_row("ahead", prompt.len() + n, ahead);
            case.assert_row("behind", n * 5 + piece.len() - 1, behind);
        }
        // What was read wrongly is forgotten, and a copy goes on where its source stood.
        engine.run(&one(1, prompt.len(), &[1, 2, 3])).unwrap();
        engine.kv().copy_prefix(1, 0, prompt.len() as u32).unwrap();
        for slot in [1, 0] {
            let logits = engine.run(&one(slot, prompt.len(), &greedy[..1])).unwrap();
            case.assert_row("again", prompt.len(), logits);
        }
    }
}

#[test]
fn f16_and_int8_caches_stay_near() {
    for source in fixtures() {
        let case = Case::import(&source, Format::F32);
        for (kv_format, within) in [(KvFormat::F16, 0.05), (KvFormat::Int8, 0.6)] {
            let mut engine = case.engine(EngineOptions { kv_format, ..exact(Isa::detect()) });
            let prompt = &case.expected.prompt;
            engine.run(&one(0, 0, prompt)).unwrap();
            let mut square = (0.0, 0);
            for (step, &token) in case.expected.greedy[..64].iter().enumerate() {
                let at = prompt.len() + step;
                let got = engine.run(&one(0, at, &[token])).unwrap();
                square.0 += got.iter().zip(case.row(at)).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
                square.1 += got.len();
            }
            let off = (square.0 / square.1 as f32).sqrt();
            assert!(off < within && off > 0.0, "{} {kv_format}: off by {off}", case.name);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_before_it_runs() {
    let case = Case::import(&fixtures()[0], Format::Q8_0);
    let weights = case.bundle.weights().unwrap();
    let options =
        EngineOptions { context_tokens: 64, chunk_tokens: 16, rows_max: 2, ..EngineOptions::default() };
    let needed = Engine::memory_needed(&weights, &options).unwrap().total();
    let bounded = |max| EngineOptions { memory_bytes_max: Some(max), ..options.clone() };
    assert!(Engine::new(&weights, bounded(needed)).is_ok());
    let refused = Engine::new(&weights, bounded(needed - 1)).err().unwrap().to_string();
    assert!(refused.contains("configure a shorter context"), "{refused}");
    for spoil in [
        |o: &mut EngineOptions| o.context_tokens = usize::MAX,
        |o: &mut EngineOptions| o.chunk_tokens = 0,
        |o: &mut EngineOptions| o.slots = usize::MAX,
    ] {
        let mut bad = options.clone();
        spoil(&mut bad);
        assert!(Engine::new(&weights, bad).is_err());
    }
    let mut engine = Engine::new(&weights, options).unwrap();
    let too_many_rows = Batch { logits: vec![0, 1, 2], ..one(0, 0, &[1, 2, 3]) };
    let no_such_row = Batch { logits: vec![3], ..one(0, 0, &[1, 2, 3]) };
    for (batch, reason) in [
        (one(0, 0, &[1; 17]), "17 tokens"),
        (one(0, 1, &[1]), "begins at 1"),
        (one(1, 0, &[1]), "slot 1"),
        (one(0, 0, &[1, 100_000]), "token 100000"),
        (too_many_rows, "3 rows"),
        (no_such_row, "logits of token 3"),
    ] {
        let error = engine.run(&batch).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        assert_eq!(engine.kv().len(0), 0);
    }
    assert!(engine.run(&Batch::default()).unwrap().is_empty());
    assert_eq!(engine.run(&one(0, 0, &[1, 2])).unwrap().len(), case.expected.vocab);
}
