//! A student in the engine: the weights of its ONNX file, and the vocabulary that says what its tokens mean.

use std::sync::Arc;

use crate::digest::vocab::{BadVocab, Vocab};
use crate::glm::arch::Arch;
use crate::glm::engine::{Batch, Engine, EngineError, EngineOptions};
use crate::glm::import::{ImportError, read_onnx};
use crate::glm::kernels::{Format, KvFormat};
use crate::glm::placing::{DeviceOptions, Placed};
use crate::glm::student::{BadBundle, Bundle, Shape};
use crate::limits;

/// A loaded student.
pub struct Model {
    vocab: Arc<Vocab>,
    id: String,
    engine: Engine,
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
    /// Its weights.
    #[error(transparent)]
    Weights(#[from] ImportError),
    /// The graph is not what the manifest says.
    #[error("the graph does not fit its manifest: {0}; export the model again")]
    Shape(String),
    /// The engine refuses it or fails on it.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Eight bits cost a student nothing that its golden answers would show.
const FORMAT: Format = Format::Q8_0;

impl Model {
    /// Loads a student and runs it once. Takes some milliseconds; blocks.
    pub fn load(bundle: Bundle) -> Result<Model, ModelError> {
        Model::load_as(bundle, FORMAT)
    }

    /// The same with a device that may compute parts of it, which is measured first: that takes seconds.
    pub fn load_on(bundle: Bundle, device: Option<DeviceOptions>) -> Result<Model, ModelError> {
        Model::make(bundle, FORMAT, device)
    }

    /// The same with weights in `format`.
    pub fn load_as(bundle: Bundle, format: Format) -> Result<Model, ModelError> {
        Model::make(bundle, format, None)
    }

    fn make(bundle: Bundle, format: Format, device: Option<DeviceOptions>) -> Result<Model, ModelError> {
        let vocab = Arc::new(Vocab::parse(&bundle.vocab_txt, &bundle.vocab_json)?);
        let weights = read_onnx("student.onnx", &bundle.onnx, format)?;
        check(&weights.arch, &bundle.shape, &vocab)?;
        let options = EngineOptions {
            // A product of this size is done before a second thread is awake.
            threads: 1,
            slots: limits::STUDENT_SLOTS,
            context_tokens: limits::CONTEXT_TOKENS_MAX,
            chunk_tokens: limits::CONTEXT_TOKENS_MAX,
            kv_format: KvFormat::F16,
            device,
            ..EngineOptions::default()
        };
        let mut engine = Engine::new(&weights, options)?;
        // A model that loads may still fail to run: better now than at the first alarm.
        let mut batch = Batch::default();
        batch.push(0, 0, &[vocab.bos(), vocab.sep()], true);
        engine.run(&batch)?;
        Ok(Model { vocab, id: bundle.id, engine })
    }

    /// What its tokens mean.
    pub fn vocab(&self) -> &Arc<Vocab> {
        &self.vocab
    }

    /// First 16 hex digits of the SHA-256 of the graph's file.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where its phases run; nothing where there is no device.
    pub fn placed(&self) -> &[Placed] {
        self.engine.placed()
    }

    /// What runs it.
    pub fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// The same, for keeps.
    pub fn into_engine(self) -> Engine {
        self.engine
    }
}

fn check(arch: &Arch, shape: &Shape, vocab: &Vocab) -> Result<(), ModelError> {
    let wrong = |what: String| Err(ModelError::Shape(what));
    if shape.vocab != vocab.len() {
        return wrong(format!("{} tokens in the manifest, {} in vocab.txt", shape.vocab, vocab.len()));
    }
    let numbers = [
        ("layers", arch.layers, shape.layers),
        ("kv_heads", arch.kv_heads, shape.kv_heads),
        ("head_dim", arch.head_dim, shape.head_dim),
        ("vocab", arch.vocab, shape.vocab),
    ];
    if let Some((name, found, due)) = numbers.into_iter().find(|(_, found, due)| found != due) {
        return wrong(format!("{name} = {found} where {due} is due"));
    }
    let positions = shape.context_tokens_max.min(arch.context_tokens_max);
    if positions < limits::CONTEXT_TOKENS_MAX {
        return wrong(format!("{positions} positions, {} are due", limits::CONTEXT_TOKENS_MAX));
    }
    Ok(())
}
