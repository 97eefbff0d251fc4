//! Arguments of `outpost model`.

use std::path::PathBuf;

use super::args::{LowArgs, UsageError, WeightFormat, usage};
use crate::config::KvKind;
use crate::limits;

/// One action of `outpost model`.
#[derive(Debug, PartialEq)]
pub enum ModelArgs {
    /// Make a bundle.
    Import(ImportArgs),
    /// Check one.
    Verify {
        /// The bundle.
        dir: PathBuf,
        /// Threads; none: one per processor.
        threads: Option<usize>,
    },
    /// List those in a folder.
    List {
        /// The folder.
        dir: PathBuf,
    },
    /// Measure a model.
    Bench(BenchArgs),
    /// Talk with one.
    Chat(ChatArgs),
}

/// Arguments of `outpost model import`.
#[derive(Debug, PartialEq)]
pub struct ImportArgs {
    /// The checkpoint.
    pub source: PathBuf,
    /// Where the bundle goes; none: beside the working directory's other files, named like the source.
    pub to: Option<PathBuf>,
    /// Format of the layers.
    pub body: Option<WeightFormat>,
    /// Format of embedding and head.
    pub ends: Option<WeightFormat>,
    /// Threads; none: one per processor.
    pub threads: Option<usize>,
    /// Take the place of a bundle of that name.
    pub replace: bool,
}

/// Arguments of `outpost model bench`.
#[derive(Debug, PartialEq)]
pub struct BenchArgs {
    /// The bundle; none: the student inside the program.
    pub dir: Option<PathBuf>,
    /// Tokens of the prompt; none: what suits the model.
    pub prompt: Option<usize>,
    /// Tokens written.
    pub generate: Option<usize>,
    /// Tokens in the context before.
    pub depth: usize,
    /// Repetitions, at least one.
    pub repeat: usize,
    /// Threads; none: one per processor.
    pub threads: Option<usize>,
    /// Keys and values.
    pub kv: KvKind,
    /// Instruction set by name; none: the best.
    pub isa: Option<String>,
}

/// Arguments of `outpost model chat`.
#[derive(Debug, PartialEq)]
pub struct ChatArgs {
    /// The bundle.
    pub dir: PathBuf,
    /// Instruction before the conversation.
    pub system: Option<String>,
    /// 0 to 5; 0 is greedy.
    pub temperature: f32,
    /// 0 is all.
    pub top_k: usize,
    /// 0 to 1.
    pub top_p: f32,
    /// 0 to 1.
    pub min_p: f32,
    /// 0.1 to 10.
    pub repetition_penalty: f32,
    /// None: another one every time.
    pub seed: Option<u64>,
    /// Longest answer in tokens.
    pub max_tokens: usize,
    /// Longest conversation in tokens.
    pub context: usize,
    /// File with a grammar.
    pub grammar: Option<PathBuf>,
    /// Threads; none: one per processor.
    pub threads: Option<usize>,
    /// Keys and values.
    pub kv: KvKind,
}

impl ModelArgs {
    pub(super) fn from_low(low: &LowArgs) -> Result<Self, UsageError> {
        Ok(match low.spec.name {
            "model import" => ModelArgs::Import(ImportArgs {
                source: one(low, "say which checkpoint: a folder or a file")?,
                to: low.path("to"),
                body: low.word("format", WeightFormat::from_name, FORMATS)?,
                ends: low.word("ends", WeightFormat::from_name, FORMATS)?,
                threads: threads(low)?,
                replace: low.has("replace"),
            }),
            "model verify" => {
                ModelArgs::Verify { dir: one(low, "say which bundle: one folder")?, threads: threads(low)? }
            }
            "model list" if low.operands.is_empty() => ModelArgs::List { dir: ".".into() },
            "model list" => ModelArgs::List { dir: one(low, "name at most one folder")? },
            "model bench" => ModelArgs::Bench(bench(low)?),
            "model chat" => ModelArgs::Chat(chat(low)?),
            _ => return Err(usage(low.spec, &format!("say what to do: {}", low.spec.operands))),
        })
    }
}

fn bench(low: &LowArgs) -> Result<BenchArgs, UsageError> {
    let model = one(low, "say which bundle: one folder, or builtin")?;
    let tokens = limits::GLM_CONTEXT_TOKENS_MAX;
    Ok(BenchArgs {
        dir: Some(model).filter(|dir| dir.as_os_str() != "builtin"),
        prompt: count(low, "prompt", 0, tokens)?,
        generate: count(low, "generate", 0, tokens)?,
        depth: count(low, "depth", 0, tokens)?.unwrap_or(0),
        repeat: count(low, "repeat", 1, 1000)?.unwrap_or(3),
        threads: threads(low)?,
        kv: kv(low)?,
        isa: low.word("isa", |s| Some(s.to_owned()), "a name")?,
    })
}

fn chat(low: &LowArgs) -> Result<ChatArgs, UsageError> {
    let tokens = limits::GLM_CONTEXT_TOKENS_MAX;
    Ok(ChatArgs {
        dir: one(low, "say which bundle: one folder")?,
        system: low.word("system", |s| Some(s.to_owned()), "text")?,
        temperature: number(low, "temperature", 0.0, 5.0)?.unwrap_or(0.7),
        top_k: count(low, "top-k", 0, limits::GLM_VOCAB_MAX)?.unwrap_or(40),
        top_p: number(low, "top-p", 0.0, 1.0)?.unwrap_or(0.9),
        min_p: number(low, "min-p", 0.0, 1.0)?.unwrap_or(0.0),
        repetition_penalty: number(low, "repetition-penalty", 0.1, 10.0)?.unwrap_or(1.0),
        seed: low.word("seed", |s| s.parse().ok(), "a whole number, 0 or more")?,
        max_tokens: count(low, "max-tokens", 1, tokens)?.unwrap_or(512),
        context: count(low, "context", 16, tokens)?.unwrap_or(4096),
        grammar: low.path("grammar"),
        threads: threads(low)?,
        kv: kv(low)?,
    })
}

const FORMATS: &str = "q4_0, q8_0 or f32";
/// More threads than any gateway has.
const THREADS_MAX: usize = 256;

fn one(low: &LowArgs, otherwise: &str) -> Result<PathBuf, UsageError> {
    match &low.operands[..] {
        [path] => Ok(path.into()),
        _ => Err(usage(low.spec, otherwise)),
    }
}

fn threads(low: &LowArgs) -> Result<Option<usize>, UsageError> {
    count(low, "threads", 1, THREADS_MAX)
}

fn kv(low: &LowArgs) -> Result<KvKind, UsageError> {
    Ok(low.word("kv", KvKind::from_name, "f16, int8 or f32")?.unwrap_or(KvKind::F16))
}

fn count(low: &LowArgs, option: &str, min: usize, max: usize) -> Result<Option<usize>, UsageError> {
    let read = |s: &str| s.parse().ok().filter(|n| (min..=max).contains(n));
    low.word(option, read, &format!("a whole number from {min} to {max}"))
}

fn number(low: &LowArgs, option: &str, min: f32, max: f32) -> Result<Option<f32>, UsageError> {
    let read = |s: &str| s.parse().ok().filter(|x| (min..=max).contains(x));
    low.word(option, read, &format!("a number from {min} to {max}"))
}
