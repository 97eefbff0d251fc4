//! A GLM that runs: weights, a cache of bounded size, threads, and tract's plan over them.
//!
//! One run takes new tokens of any number of sequences ([`Batch`]): a piece of a prompt, the next token of five others. What a
//! run needs of memory is bounded by [`EngineOptions`] and declared before anything is taken ([`Memory`]).

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::plan::SimplePlan;

use super::arch::Arch;
use super::graph;
use super::kernels::{BadKvShape, BadSpan, Isa, Kernels, KvFormat, KvShape, KvStore, Matrix, Span};
use super::memory;
use super::ops::to_rows;
use super::placing::{DeviceOptions, OnDevice, Placed, Placing};
use super::weights::{Weights, gate_up_rows};
use crate::limits;

/// What an engine may use.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Threads that compute, the caller's included; at most what the machine runs at once.
    pub threads: usize,
    /// Kernels to use; `None`: the fastest of this machine.
    pub isa: Option<Isa>,
    /// Sequences that the cache holds at a time.
    pub slots: usize,
    /// Longest sequence; at most what the model was made for.
    pub context_tokens: usize,
    /// How keys and values are kept.
    pub kv_format: KvFormat,
    /// Most tokens of one run.
    pub chunk_tokens: usize,
    /// Most rows of logits of one run.
    pub rows_max: usize,
    /// Most memory of weights, cache, work and words together; `None`: no bound.
    pub memory_bytes_max: Option<u64>,
    /// Memory that whoever speaks through it takes beside it, for tokens, texts and grammars: declared and bounded with the rest.
    pub words_bytes: usize,
    /// What may compute parts of the graph beside the CPU.
    pub device: Option<DeviceOptions>,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            isa: None,
            slots: 1,
            context_tokens: 4096,
            kv_format: KvFormat::F16,
            chunk_tokens: limits::GLM_CHUNK_TOKENS,
            rows_max: 32,
            memory_bytes_max: None,
            words_bytes: 0,
            device: None,
        }
    }
}

/// Bytes that an engine takes when everything in it is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Weights: mapped from a file and shared with whoever maps it too, if they come from a bundle.
    pub weights: u64,
    /// Keys and values of all slots; backed by pages only as they fill.
    pub kv: u64,
    /// Activations and logits of the largest run.
    pub work: u64,
    /// Tokenizer and grammars ([`EngineOptions::words_bytes`]).
    pub words: u64,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> u64 {
        [self.weights, self.kv, self.work, self.words].into_iter().fold(0, u64::saturating_add)
    }
}

/// An engine that can't be made, or a run that can't be done.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It would take more than it may.
    #[error(
        "the model needs {} MiB (weights {}, cache {}, work {}, tokens and grammars {}) and may use {}; allow more memory, configure \
         a shorter context, fewer slots or an int8 cache, or take a smaller model",
        mib(.needed.total()), mib(.needed.weights), mib(.needed.kv), mib(.needed.work), mib(.needed.words), mib(*.allowed)
    )]
    Memory {
        /// What it would take.
        needed: Memory,
        /// What it may.
        allowed: u64,
    },
    /// The cache can't be made.
    #[error(transparent)]
    Kv(#[from] BadKvShape),
    /// An option that is zero or beyond what the model can.
    #[error("{field} = {value} is not possible (1 to {max}); change the configuration")]
    Option {
        /// Which.
        field: &'static str,
        /// What it is.
        value: usize,
        /// What it may be.
        max: usize,
    },
    /// The weights' file.
    #[error(
        "a part of the weights was gone when it was read: the file was shortened under the program, or its disk cannot be read; \
         put the bundle back whole, by renaming it into place, and see what `outpost model verify` says"
    )]
    Cut,
    /// Spans that do not fit the cache.
    #[error(transparent)]
    Span(#[from] BadSpan),
    /// Too much at once.
    #[error("{value} {field} in one run, {max} are possible; run them in pieces")]
    Batch {
        /// Of what.
        field: &'static str,
        /// How many.
        value: usize,
        /// How many may be.
        max: usize,
    },
    /// No token of the model.
    #[error("token {token} is not one of the model's {vocab}; the tokenizer belongs to another model")]
    Token {
        /// Which.
        token: u32,
        /// How many there are.
        vocab: usize,
    },
    /// Logits are wanted of a token that is not in the run.
    #[error("logits of token {row} are wanted in a run of {tokens}; ask for tokens of the run")]
    Row {
        /// Which.
        row: u32,
        /// How many there are.
        tokens: usize,
    },
    /// tract refuses or fails.
    #[error("the language model failed: {0}; report this with the model's name")]
    Failed(String),
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1024 * 1024)
}

/// New tokens of some sequences.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// All tokens, span after span.
    pub tokens: Vec<u32>,
    /// Whose they are.
    pub spans: Vec<Span>,
    /// Indices of the tokens whose logits are wanted.
    pub logits: Vec<u32>,
}

impl Batch {
    /// No tokens.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.spans.clear();
        self.logits.clear();
    }

    /// Adds a span; the logits of its last token if `wants_logits`.
    pub fn push(&mut self, slot: u32, position: u32, tokens: &[u32], wants_logits: bool) {
        self.tokens.extend_from_slice(tokens);
        self.spans.push(Span { slot, position, tokens: tokens.len() as u32 });
        if wants_logits && !tokens.is_empty() {
            self.logits.push(self.tokens.len() as u32 - 1);
        }
    }
}

/// A loaded model.
pub struct Engine {
    arch: Arch,
    options: EngineOptions,
    memory: Memory,
    kernels: Kernels,
    kv: Arc<KvStore>,
    cpu: TypedSimpleState,
    on_device: Vec<OnDevice>,
    placed: Vec<Placed>,
    /// Logits of the last run.
    logits: Option<TValue>,
    /// Of all weights, which lie in one file.
    embed: Matrix,
}

impl Engine {
    /// What an engine of this shape would take.
    pub fn memory_needed(weights: &Weights, options: &EngineOptions) -> Option<Memory> {
        let arch = &weights.arch;
        let kv = kv_shape(arch, options).bytes()?;
        // The largest moment: residual stream, its sum and its norm beside the widest projection's input and output.
        let widest = arch.qkv_rows().max(gate_up_rows(arch)) + arch.inter.max(arch.attention_dim());
        let row = 3 * arch.hidden + widest;
        let numbers =
            options.chunk_tokens.checked_mul(row)?.checked_add(options.rows_max.checked_mul(arch.vocab)?)?;
        Some(Memory {
            weights: weights.matrix_bytes() as u64,
            kv: kv as u64,
            work: numbers.checked_mul(4)? as u64,
            words: options.words_bytes as u64,
        })
    }

    /// Builds the plan; takes milliseconds, as weights are used where they lie. With a device it takes seconds: that is measured.
    pub fn new(weights: &Weights, options: EngineOptions) -> Result<Engine, EngineError> {
        let arch = weights.arch.clone();
        let between = |field, value: usize, max: usize| match (1..=max).contains(&value) {
            true => Ok(()),
            false => Err(EngineError::Option { field, value, max }),
        };
        between("context_tokens", options.context_tokens, arch.context_tokens_max)?;
        between("chunk_tokens", options.chunk_tokens, arch.context_tokens_max)?;
        between("rows_max", options.rows_max, limits::GLM_ROWS_MAX)?;
        let needed = Engine::memory_needed(weights, &options).ok_or(BadKvShape::Unaddressable)?;
        if let Some(allowed) = options.memory_bytes_max.filter(|&max| needed.total() > max) {
            return Err(EngineError::Memory { needed, allowed });
        }
        let kernels = match options.isa {
            Some(isa) => Kernels::new(isa, options.threads),
            None => Kernels::detect(options.threads),
        };
        let kv = Arc::new(KvStore::new(kv_shape(&arch, &options))?);
        let graph = graph::build(weights, &kernels, &kv).map_err(failed)?;
        let plan = graph.clone().into_optimized().and_then(SimplePlan::new);
        let mut cpu = plan.and_then(|plan| plan.spawn()).map_err(failed)?;
        let (placed, on_device) = match &options.device {
            Some(device) => Placing {
                graph: &graph,
                cpu: &mut cpu,
                kv: &kv,
                vocab: arch.vocab,
                tokens_max: options.chunk_tokens,
                context_tokens: options.context_tokens,
            }
            .place(device)
            .map_err(failed)?,
            None => Default::default(),
        };
        memory::trim();
        let embed = weights.embed.clone();
        Ok(Engine { arch, options, memory: needed, kernels, kv, cpu, on_device, placed, logits: None, embed })
    }

    /// Where prompts and single tokens are computed; nothing where there is no device.
    pub fn placed(&self) -> &[Placed] {
        &self.placed
    }

    /// The model's shape.
    pub fn arch(&self) -> &Arch {
        &self.arch
    }

    /// What it was made with.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// What it takes when full.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// The cache: to truncate, copy and save sequences.
    pub fn kv(&self) -> &KvStore {
        &self.kv
    }

    /// What computes.
    pub fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    /// Reads new tokens; gives the logits asked for, a row of `vocab` numbers each, in the order of [`Batch::logits`]. Blocks.
    /// A run that fails leaves every sequence where it was, but for [`EngineError::Cut`], after which none goes on.
    pub fn run(&mut self, batch: &Batch) -> Result<&[f32], EngineError> {
        self.check(batch)?;
        if batch.tokens.is_empty() {
            return Ok(&[]);
        }
        let tokens = batch.tokens.len();
        let on_device = self.on_device.iter_mut().find(|phase| phase.tokens.contains(&tokens));
        let state = on_device.map_or(&mut self.cpu, |phase| &mut phase.state);
        let output = forward(state, batch).map_err(failed)?;
        if self.embed.bytes().is_cut() {
            return Err(EngineError::Cut);
        }
        let plain = self.logits.insert(output).try_as_plain_ram();
        plain.and_then(|plain| plain.as_slice()).map_err(failed)
    }

    fn check(&self, batch: &Batch) -> Result<(), EngineError> {
        let at_most = |field, value: usize, max: usize| match value <= max {
            true => Ok(()),
            false => Err(EngineError::Batch { field, value, max }),
        };
        let (tokens, vocab) = (batch.tokens.len(), self.arch.vocab);
        at_most("tokens", tokens, self.options.chunk_tokens)?;
        at_most("rows of logits", batch.logits.len(), self.options.rows_max)?;
        if let Some(&token) = batch.tokens.iter().find(|&&token| token as usize >= vocab) {
            return Err(EngineError::Token { token, vocab });
        }
        if let Some(&row) = batch.logits.iter().find(|&&row| row as usize >= tokens) {
            return Err(EngineError::Row { row, tokens });
        }
        Ok(self.kv.check(&batch.spans, tokens)?)
    }
}

/// One run of the graph.
pub(super) fn forward(state: &mut TypedSimpleState, batch: &Batch) -> TractResult<TValue> {
    let tokens: Vec<i64> = batch.tokens.iter().map(|&token| token.into()).collect();
    let rows: Vec<i64> = batch.logits.iter().map(|&row| row.into()).collect();
    let spans = to_rows(&batch.spans);
    let inputs = tvec![
        Tensor::from_shape(&[tokens.len()], &tokens)?.into_tvalue(),
        Tensor::from_shape(&[batch.spans.len(), 3], &spans)?.into_tvalue(),
        Tensor::from_shape(&[rows.len()], &rows)?.into_tvalue(),
    ];
    let outputs = state.run(inputs);
    if outputs.is_err() {
        // A turn that broke off must not leak its values into the next one.
        let _ = state.reset_turn();
    }
    Ok(outputs?.remove(0))
}

fn kv_shape(arch: &Arch, options: &EngineOptions) -> KvShape {
    KvShape {
        layers: arch.layers,
        kv_heads: arch.kv_heads,
        head_dim: arch.head_dim,
        slots: options.slots,
        tokens_max: options.context_tokens,
        format: options.kv_format,
    }
}

fn failed(error: impl std::fmt::Display) -> EngineError {
    EngineError::Failed(format!("{error:#}"))
}
