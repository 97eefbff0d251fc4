//! A student as a tract graph: prompt in, logits out, one token after the other.
//!
//! The cache of keys and values is a graph output that becomes the next call's input: it changes hands and is never copied
//! here. Lengths stay symbolic (S new tokens, P past ones), so one plan serves the prompt and every step after it; the plan's
//! state is kept between calls.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::plan::{SimplePlan, SimpleState};

use crate::digest::vocab::{BadVocab, TokenId, Vocab};
use crate::glm::memory;
use crate::glm::student::{BadBundle, Bundle, Shape};
use crate::limits;

/// A loaded student.
pub struct Model {
    vocab: Arc<Vocab>,
    id: String,
    shape: Shape,
    state: SimpleState<TypedFact, Box<dyn TypedOp>>,
    /// Keys and values by layer, as the graph gave them; empty before a prompt.
    cache: TVec<TValue>,
    /// Tokens in the cache.
    past: usize,
    logits: Vec<f32>,
}

/// A student that can't be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Its files.
    #[error(transparent)]
    Bundle(#[from] BadBundle),
    /// Its vocabulary.
    #[error(transparent)]
    Vocab(#[from] BadVocab),
    /// The graph is not what the manifest says.
    #[error("the graph does not fit its manifest: {0}; export the model again")]
    Shape(String),
    /// The engine refuses the graph or fails on it.
    #[error("the engine can't run the model: {0}")]
    Engine(String),
    /// More tokens than the graph has positions for.
    #[error("{tokens} tokens do not fit the context of {}", limits::CONTEXT_TOKENS_MAX)]
    TooLong {
        /// Past and new tokens together.
        tokens: usize,
    },
}

impl Model {
    /// Loads a student and runs it once. Takes some ten to hundred milliseconds; blocks.
    pub fn load(bundle: Bundle) -> Result<Model, ModelError> {
        let vocab = Arc::new(Vocab::parse(&bundle.vocab_txt, &bundle.vocab_json)?);
        let graph = graph(&bundle).map_err(engine)?;
        check(&graph, &bundle.shape, &vocab)?;
        let options =
            RunOptions { executor: Some(multithread::Executor::SingleThread), ..Default::default() };
        let plan = SimplePlan::new_with_options(graph, &options).map_err(engine)?;
        let mut model = Model {
            logits: Vec::with_capacity(vocab.len()),
            state: plan.spawn().map_err(engine)?,
            id: bundle.id,
            shape: bundle.shape,
            cache: TVec::new(),
            past: 0,
            vocab,
        };
        // A graph that loads may still fail to run: better now than at the first alarm.
        let prompt = [model.vocab.bos(), model.vocab.sep()];
        model.prompt(&prompt)?;
        model.step(model.vocab.sep())?;
        memory::trim();
        Ok(model)
    }

    /// The vocabulary, shared so that a grammar can hold it while the model runs.
    pub fn vocab(&self) -> &Arc<Vocab> {
        &self.vocab
    }

    /// First 16 hex digits of the SHA-256 of the graph's file.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Forgets everything and reads a prompt; the logits are those of the token after it.
    pub fn prompt(&mut self, tokens: &[TokenId]) -> Result<&[f32], ModelError> {
        let empty = [1, self.shape.kv_heads, 0, self.shape.head_dim];
        self.cache.clear();
        for _ in 0..2 * self.shape.layers {
            self.cache.push(Tensor::zero::<f32>(&empty).map_err(engine)?.into_tvalue());
        }
        self.past = 0;
        self.run(tokens)
    }

    /// Reads one more token; the logits are those of the token after it.
    pub fn step(&mut self, token: TokenId) -> Result<&[f32], ModelError> {
        self.run(&[token])
    }

    fn run(&mut self, tokens: &[TokenId]) -> Result<&[f32], ModelError> {
        let total = self.past + tokens.len();
        if total > self.shape.context_tokens_max.min(limits::CONTEXT_TOKENS_MAX) || tokens.is_empty() {
            return Err(ModelError::TooLong { tokens: total });
        }
        let ids: Vec<i64> = tokens.iter().map(|&t| i64::from(t)).collect();
        let mut inputs: TVec<TValue> = tvec![];
        inputs.push(Tensor::from_shape(&[1, ids.len()], &ids).map_err(engine)?.into_tvalue());
        inputs.append(&mut self.cache);
        let mut outputs = match self.state.run(inputs) {
            Ok(outputs) => outputs,
            Err(error) => {
                // A turn that broke off must not leak its values into the next one.
                let _ = self.state.reset_turn();
                return Err(engine(error));
            }
        };
        let all = outputs.remove(0);
        self.cache = outputs;
        self.past = total;
        let all = all.try_as_plain_ram().and_then(|plain| plain.as_slice::<f32>()).map_err(engine)?;
        let last = all.len().saturating_sub(self.vocab.len());
        self.logits.clear();
        self.logits.extend_from_slice(&all[last..]);
        Ok(&self.logits)
    }
}

fn graph(bundle: &Bundle) -> TractResult<TypedModel> {
    let mut bytes: &[u8] = &bundle.onnx;
    tract_onnx::onnx().model_for_read(&mut bytes)?.into_typed()?.into_optimized()
}

fn check(graph: &TypedModel, shape: &Shape, vocab: &Vocab) -> Result<(), ModelError> {
    let wrong = |what: String| Err(ModelError::Shape(what));
    let (inputs, outputs) = (graph.inputs.len(), graph.outputs.len());
    let tensors = 1 + 2 * shape.layers;
    if shape.layers == 0 || inputs != tensors || outputs != tensors {
        return wrong(format!("{inputs} inputs and {outputs} outputs where {tensors} are due"));
    }
    if shape.vocab != vocab.len() {
        return wrong(format!("{} tokens in the manifest, {} in vocab.txt", shape.vocab, vocab.len()));
    }
    let logits = graph.output_fact(0).map_err(engine)?;
    if logits.datum_type != f32::datum_type() || logits.shape.last() != Some(&vocab.len().into()) {
        return wrong(format!("logits are {logits:?} where f32 over {} tokens are due", vocab.len()));
    }
    for input in 1..inputs {
        let past = graph.input_fact(input).map_err(engine)?;
        let dims = &past.shape;
        let fits = dims.rank() == 4 && dims[1] == shape.kv_heads.into() && dims[3] == shape.head_dim.into();
        if !fits || past.datum_type != f32::datum_type() {
            return wrong(format!("input {input} is {past:?}"));
        }
    }
    if shape.context_tokens_max < limits::CONTEXT_TOKENS_MAX {
        return wrong(format!(
            "{} positions, {} are due",
            shape.context_tokens_max,
            limits::CONTEXT_TOKENS_MAX
        ));
    }
    Ok(())
}

fn engine(error: impl std::fmt::Display) -> ModelError {
    ModelError::Engine(format!("{error:#}"))
}
