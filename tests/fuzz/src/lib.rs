//! Every reader of foreign files, and in `seats` of what comes over the line, behind one door each: bytes in, and whatever they are, no panic, no hang, no giant
//! allocation, no half-written bundle.
//!
//! A [`Reader`] stands in for one file of an otherwise sound checkpoint. Two things feed them:
//!
//! - `tests/readers.rs` spoils the golden files a few hundred times in the same way every time, with every `cargo test`;
//! - cargo-fuzz looks for more, as long as it is let. From this folder, with a nightly compiler:
//!
//! ```text
//! cargo install cargo-fuzz
//! SEEDS=1 cargo test --manifest-path ../../Cargo.toml --test readers seeds    # golden files into corpus/
//! FUZZ_READER=gguf TMPDIR=/dev/shm cargo +nightly fuzz run --fuzz-dir . reader corpus/gguf -- \
//!     -max_total_time=300 -malloc_limit_mb=256 -timeout=20
//! ```
//!
//! Where most of a file is weights, the reader takes its front alone and the golden file's weights are put behind it, so that
//! what is spoiled is what is read with care.

pub mod field;
pub mod infer;
pub mod seats;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use outpost::glm::bundle::{self, Bundle};
use outpost::glm::constrain::{Constraint, Grammar, GrammarConstraint, Schema, TokenTrie};
use outpost::glm::engine::{Batch, Engine, EngineOptions};
use outpost::glm::import::{self, ImportError, ImportOptions};
use outpost::glm::kernels::{Format, KvFormat, KvShape, KvStore};
use outpost::glm::template::{Message, Template};
use outpost::glm::tokenizer::Tokenizer;
use outpost::glm::weights::Weights;
use tempfile::TempDir;

/// A reader, and files that it takes.
pub struct Reader {
    /// What `FUZZ_READER` calls it.
    pub name: &'static str,
    /// Whether it takes the bytes. Panics where something is wrong with the reader.
    pub read: fn(&[u8]) -> bool,
    /// What is spoiled.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All readers.
pub fn readers() -> impl Iterator<Item = &'static Reader> {
    READERS.iter().chain(infer::READERS).chain(seats::READERS).chain(field::READERS)
}

/// Those of models' files.
pub const READERS: &[Reader] = &[
    Reader {
        name: "safetensors",
        read: safetensors,
        seeds: || vec![front("glm/glm_edge/model.safetensors")],
    },
    Reader {
        name: "index",
        read: index,
        seeds: || vec![golden("glm/glm_sharded/model.safetensors.index.json")],
    },
    Reader { name: "config", read: config, seeds: configs },
    Reader {
        name: "generation",
        read: generation,
        seeds: || vec![golden("glm/glm_edge/generation_config.json")],
    },
    Reader { name: "gguf", read: gguf, seeds: || vec![front("gguf/tiny.gguf")] },
    Reader { name: "onnx", read: onnx, seeds: || vec![golden("onnx/tiny.onnx")] },
    Reader { name: "manifest", read: manifest, seeds: || vec![bundle_manifest()] },
    Reader { name: "kv", read: kv, seeds: saved_tokens },
    Reader { name: "tokenizer", read: tokenizer, seeds: || vec![small_tokenizer()] },
    Reader { name: "template", read: template, seeds: templates },
    Reader { name: "grammar", read: grammar, seeds: grammars },
    Reader { name: "schema", read: schema, seeds: schemas },
];

/// The header of a safetensors file.
pub fn safetensors(bytes: &[u8]) -> bool {
    let weights = tail("glm/glm_edge/model.safetensors");
    in_checkpoint("glm/glm_edge", "model.safetensors", &[bytes, &weights].concat())
}

/// The index of a model in several files.
pub fn index(bytes: &[u8]) -> bool {
    in_checkpoint("glm/glm_sharded", "model.safetensors.index.json", bytes)
}

/// A model's configuration.
pub fn config(bytes: &[u8]) -> bool {
    in_checkpoint("glm/glm_edge", "config.json", bytes)
}

/// How a model is to be sampled, of which the end ids are read.
pub fn generation(bytes: &[u8]) -> bool {
    in_checkpoint("glm/glm_edge", "generation_config.json", bytes)
}

/// A GGUF file up to its weights.
pub fn gguf(bytes: &[u8]) -> bool {
    let dir = scratch();
    let path = dir.path().join("model.gguf");
    std::fs::write(&path, [bytes, &tail("gguf/tiny.gguf")].concat()).expect("a file can be written");
    import_from(&path, &dir.path().join("bundle"))
}

/// A whole ONNX file.
pub fn onnx(bytes: &[u8]) -> bool {
    match import::read_onnx("model.onnx", bytes, Format::Q8_0) {
        Ok(weights) => run(&weights),
        Err(error) => refused(&error),
    }
}

/// The manifest of a bundle whose other files are sound.
pub fn manifest(bytes: &[u8]) -> bool {
    let (_keep, dir) = sound_bundle();
    std::fs::write(dir.join(bundle::MANIFEST), bytes).expect("a file can be written");
    let _ = bundle::list(dir.parent().expect("a bundle lies in a directory"));
    match Bundle::open(&dir) {
        Ok(bundle) => look_at(&bundle),
        Err(error) => refused(&error),
    }
}

/// Saved tokens, once as they are and once with the checksum that they should have, which none would guess.
pub fn kv(bytes: &[u8]) -> bool {
    let checked = bytes
        .split_last_chunk::<4>()
        .map(|(content, _)| load_tokens(&[content, &crc32fast::hash(content).to_le_bytes()].concat()));
    load_tokens(bytes) || checked == Some(true)
}

/// A `tokenizer.json`.
pub fn tokenizer(bytes: &[u8]) -> bool {
    let Ok(tokenizer) = Tokenizer::from_json(bytes) else { return false };
    let text = "It's 12345 \u{2103}:\n\n  <|user|>\u{1f525} \u{6e29}\u{5ea6}\t";
    for ids in [tokenizer.encode(text), tokenizer.encode_with_special(text), tokenizer.encode_prompt(text)] {
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.len()), "an id beyond the vocabulary");
        let _ = tokenizer.decode(&ids);
    }
    let guarded = tokenizer.encode_with_special(&tokenizer.guarded(text));
    assert!(!guarded.iter().any(|&id| tokenizer.is_special(id)), "a mark in spite of its guard");
    true
}

/// A chat template.
pub fn template(bytes: &[u8]) -> bool {
    let Ok(template) = Template::new(&String::from_utf8_lossy(bytes)) else { return false };
    let talk =
        ["system", "user", "assistant", "user"].map(|role| Message { role, content: " a </think> b\n" });
    template.render(&talk, true).is_ok()
}

/// A grammar, as EBNF and as a pattern.
pub fn grammar(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let ebnf = Grammar::ebnf(&text);
    let is_taken = ebnf.is_ok();
    [ebnf, Grammar::regex(&text)].into_iter().flatten().for_each(|grammar| answer_under(&grammar));
    is_taken
}

/// A JSON Schema, as a client of the chat sends it.
pub fn schema(bytes: &[u8]) -> bool {
    let Ok(schema) = serde_json::from_slice::<Schema>(bytes) else { return false };
    match schema.ebnf() {
        Ok(text) => Grammar::ebnf(&text).is_ok_and(|grammar| {
            answer_under(&grammar);
            true
        }),
        Err(error) => refused(&error),
    }
}

/// Sixty bytes that a grammar allows.
fn answer_under(grammar: &Grammar) {
    let bytes: Vec<[u8; 1]> = (0..=u8::MAX).map(|byte| [byte]).collect();
    let texts = (0..).zip(bytes.iter().map(|byte| &byte[..]));
    let trie = Arc::new(TokenTrie::new(257, texts));
    let mut answer = GrammarConstraint::new(grammar, trie, Arc::new([256]));
    for n in 0..60 {
        let allowed: Vec<u32> = answer.mask().iter().collect();
        assert_eq!(allowed.contains(&256), answer.is_done(), "the end is allowed where it is");
        assert!(!allowed.is_empty(), "a dead end");
        let Some(&token) = allowed.get(n % allowed.len().max(1)).filter(|&&token| token != 256) else {
            break;
        };
        answer.advance(token).expect("what is allowed is taken");
    }
}

/// The same bytes cut, flipped, doubled, or with other numbers in them.
pub fn spoiled(rng: &mut fastrand::Rng, whole: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..rng.usize(1..4) {
        if bytes.is_empty() {
            return bytes;
        }
        let at = rng.usize(0..bytes.len());
        let part = at..(at + rng.usize(0..64)).min(bytes.len());
        match rng.u8(0..8) {
            0 if rng.bool() => bytes.truncate(at),
            0 | 1 => bytes[at] = rng.u8(..),
            2 => bytes[at] ^= 1 << rng.u8(0..8),
            3 => {
                let number = [0, 1, u64::MAX, i64::MAX as u64, 1 << 32, rng.u64(..)][rng.usize(0..6)];
                let len = 8.min(bytes.len() - at);
                bytes[at..at + len].copy_from_slice(&number.to_le_bytes()[..len]);
            }
            4 => drop(bytes.drain(part)),
            5 => {
                let part = bytes[part].to_vec();
                bytes.splice(at..at, part);
            }
            _ => spoil_number(rng, &mut bytes, at),
        }
    }
    bytes
}

/// Puts another value in place of the first number in digits behind `at`.
fn spoil_number(rng: &mut fastrand::Rng, bytes: &mut Vec<u8>, at: usize) {
    let Some(begin) = bytes[at..].iter().position(u8::is_ascii_digit).map(|n| at + n) else { return };
    let len = bytes[begin..].iter().take_while(|b| b.is_ascii_digit()).count();
    let other = VALUES[rng.usize(0..VALUES.len())];
    bytes.splice(begin..begin + len, other.bytes());
}

const VALUES: &[&str] = &[
    "0",
    "1",
    "3",
    "-1",
    "1.5",
    "1e308",
    "-1e-320",
    "4294967296",
    "9007199254740993",
    "18446744073709551615",
    "99999999999999999999999",
    "null",
    "true",
    "\"7\"",
    "[]",
    "[[[[[[[[[[[[[[[[[[",
    "{}",
    "4096",
    "1048576",
];

/// Imports a golden directory with one file of it replaced.
fn in_checkpoint(name: &str, file: &str, bytes: &[u8]) -> bool {
    let dir = scratch();
    let source = dir.path().join("source");
    std::fs::create_dir(&source).expect("a directory can be made");
    for entry in std::fs::read_dir(golden_dir().join(name)).expect("golden files are there") {
        let path = entry.expect("golden files are there").path();
        let name = path.file_name().expect("a file has a name");
        if name != file && !name.to_string_lossy().starts_with("expected") {
            std::fs::copy(&path, source.join(name)).expect("a file can be copied");
        }
    }
    std::fs::write(source.join(file), bytes).expect("a file can be written");
    import_from(&source, &dir.path().join("bundle"))
}

/// What is imported is whole and can be run; what is not leaves nothing under the bundle's name.
fn import_from(source: &Path, target: &Path) -> bool {
    let options = ImportOptions { threads: 1, ..ImportOptions::default() };
    match import::import(source, target, &options, &mut |_| {}) {
        Ok(_) => look_at(&Bundle::open(target).expect("what was imported opens")),
        Err(error) => {
            assert!(!target.exists(), "a half-written bundle after: {error}");
            refused(&error)
        }
    }
}

fn look_at(bundle: &Bundle) -> bool {
    let _ = bundle.verify_hashes(1, &mut |_, _| {});
    let _ = bundle.tokenizer_json();
    let _ = bundle.chat_template();
    bundle.weights().is_ok_and(|weights| run(&weights))
}

/// Three tokens: whatever shape was taken as sound computes, or is refused.
fn run(weights: &Weights) -> bool {
    let context_tokens = 4.min(weights.arch.context_tokens_max);
    let options = EngineOptions {
        threads: 1,
        context_tokens,
        chunk_tokens: context_tokens,
        rows_max: 1,
        memory_bytes_max: Some(256 << 20),
        ..EngineOptions::default()
    };
    let Ok(mut engine) = Engine::new(weights, options) else { return false };
    let mut batch = Batch::default();
    batch.push(0, 0, &[0, 1, 2], true);
    engine.run(&batch).is_ok()
}

fn load_tokens(bytes: &[u8]) -> bool {
    thread_local!(static STORE: KvStore = store());
    STORE.with(|store| match store.load(0, &mut &bytes[..]) {
        Ok(len) => {
            assert!(len == store.len(0) && len as usize <= store.shape().tokens_max);
            true
        }
        Err(error) => {
            assert_eq!(store.len(0), 0, "what can't be loaded leaves nothing");
            refused(&error)
        }
    })
}

fn store() -> KvStore {
    let shape =
        KvShape { layers: 2, kv_heads: 1, head_dim: 16, slots: 1, tokens_max: 40, format: KvFormat::Int8 };
    KvStore::new(shape).expect("a small store can be made")
}

/// With a message that says something, on one screen.
fn refused(error: &dyn std::error::Error) -> bool {
    let text = error.to_string();
    assert!(!text.is_empty() && text.len() < 4096, "{} bytes of message", text.len());
    false
}

fn saved_tokens() -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    store().save(0, 0, &mut bytes).expect("an empty slot can be saved");
    // 33 tokens of zeros: three tiles of keys of 16 elements, values and two scales per token, in two layers.
    let mut longer = bytes[..bytes.len() - 8].to_vec();
    longer.extend(33_u32.to_le_bytes());
    longer.resize(longer.len() + 2 * (48 * 16 + 33 * 16 + 2 * 48 * 4), 0);
    longer.extend([0; 4]);
    vec![bytes, longer]
}

fn configs() -> Vec<Vec<u8>> {
    let names = ["glm_edge", "glm_bias", "glm_sharded", "glm4_bias", "glm4_odd"];
    names.iter().map(|name| golden(&format!("glm/{name}/config.json"))).collect()
}

/// A bundle of the smallest golden file, of which only the manifest may be changed.
fn sound_bundle() -> (TempDir, PathBuf) {
    thread_local!(static MADE: RefCell<Option<(TempDir, PathBuf)>> = const { RefCell::new(None) });
    MADE.with_borrow_mut(|made| {
        let (_, made) = made.get_or_insert_with(|| {
            let dir = scratch();
            let target = dir.path().join("bundle");
            let imported = import::import(
                &golden_dir().join("glm/glm_edge"),
                &target,
                &ImportOptions::default(),
                &mut |_| {},
            );
            let _: Result<_, ImportError> = imported.map(|_| ()).map_err(|e| panic!("{e}"));
            (dir, target)
        });
        let dir = scratch();
        let target = dir.path().join("bundle");
        std::fs::create_dir(&target).expect("a directory can be made");
        for name in [bundle::MANIFEST, bundle::WEIGHTS, bundle::TOKENIZER] {
            std::fs::copy(made.join(name), target.join(name)).expect("a file can be copied");
        }
        (dir, target)
    })
}

fn bundle_manifest() -> Vec<u8> {
    let (_keep, dir) = sound_bundle();
    std::fs::read(dir.join(bundle::MANIFEST)).expect("a bundle has a manifest")
}

fn scratch() -> TempDir {
    tempfile::tempdir().expect("a directory can be made")
}

/// A golden file up to its weights.
fn front(path: &str) -> Vec<u8> {
    let mut bytes = golden(path);
    bytes.truncate(weights_at(path, &bytes));
    bytes
}

/// A golden file's weights.
fn tail(path: &str) -> Vec<u8> {
    let bytes = golden(path);
    bytes[weights_at(path, &bytes)..].to_vec()
}

fn weights_at(path: &str, bytes: &[u8]) -> usize {
    match bytes.first_chunk() {
        Some(length) if path.ends_with(".safetensors") => 8 + u64::from_le_bytes(*length) as usize,
        // Where `gguf` says that the weights of tests/golden/gguf/tiny.gguf begin.
        _ => 6944,
    }
}

/// The golden tokenizer with its first merges only, so that a round takes no time.
fn small_tokenizer() -> Vec<u8> {
    let mut file: serde_json::Value =
        serde_json::from_slice(&golden("tokenizer/tokenizer.json")).expect("the golden file is JSON");
    let model = &mut file["model"];
    model["vocab"].as_object_mut().expect("tokens").retain(|_, id| id.as_u64() < Some(300));
    model["merges"].as_array_mut().expect("merges").truncate(44);
    file.to_string().into_bytes()
}

fn templates() -> Vec<Vec<u8>> {
    ["glm_edge", "glm4_chat", "glm4_0414"]
        .map(|name| golden(&format!("tokenizer/templates/{name}.jinja")))
        .into()
}

fn grammars() -> Vec<Vec<u8>> {
    let texts = [
        "root ::= \"(\" root \")\" root | item{1,3} [^a-y\\n]? # blank\nitem ::= \"\\u2103\" | [0-9]+ \".\"",
        "root ::= name ( \", \" name )*\nname ::= [a-z] name | ( \"x\" | . ){2,}",
        "(?i:ab|[^c]{2,5})*\\d+\\.\u{2103}?",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

fn schemas() -> Vec<Vec<u8>> {
    let texts = [
        r##"{"type":"object","properties":{"id":{"type":"integer"},"of":{"$ref":"#/$defs/a"},"note":{"type":["string","null"]}},
            "required":["id"],"additionalProperties":false,"$defs":{"a":{"enum":["x",1,null],"title":"A"}}}"##,
        r##"{"type":"array","items":{"anyOf":[{"const":"y"},{"$ref":"#"},{"type":"number"},{"properties":{"b":{}}}]}}"##,
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

fn golden(path: &str) -> Vec<u8> {
    std::fs::read(golden_dir().join(path)).expect("golden files are there")
}

/// This file is built in two crates.
fn golden_dir() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().find(|dir| dir.join("tests/golden").is_dir());
    root.expect("golden files are there").join("tests/golden")
}
