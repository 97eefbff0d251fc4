//! The seam between models and what runs them.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::reading::named_enum;

named_enum! {
    /// How far a backend had come when it failed.
    Stage {
        /// Its device or library was looked for.
        Find = "find",
        /// Its library or the model's file was read.
        Load = "load",
        /// Its delegate or runtime was created.
        Create = "create",
        /// The model was prepared for it.
        Prepare = "prepare",
        /// It said which operators it takes.
        Claim = "claim",
        /// It computed the golden vectors.
        Golden = "golden",
        /// It was held against the CPU.
        Speed = "speed",
        /// It computed.
        Invoke = "invoke",
        /// Its process was spoken with.
        Worker = "worker",
    }
}

/// A backend that does not do; the next one takes over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{backend}, stage {stage}: {reason}")]
pub struct Refused {
    /// Which backend.
    pub backend: String,
    /// How far it had come.
    pub stage: Stage,
    /// Why, with the file and the next step.
    pub reason: String,
}

impl Refused {
    /// `backend` failed at `stage` because of `reason`.
    pub fn new(backend: &str, stage: Stage, reason: impl fmt::Display) -> Self {
        Self { backend: backend.into(), stage, reason: reason.to_string() }
    }
}

/// Type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    /// Signed, 8 bits.
    Int8,
    /// Unsigned, 8 bits.
    Uint8,
    /// 32-bit floating point.
    F32,
}

impl Element {
    /// Stable lower-case name, as in manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Element::Int8 => "int8",
            Element::Uint8 => "uint8",
            Element::F32 => "f32",
        }
    }

    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Element::Int8 | Element::Uint8 => 1,
            Element::F32 => 4,
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the whole numbers of a tensor stand for: `real = (number - zero_point) * scale`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quantisation {
    /// Size of one step.
    pub scale: f32,
    /// The number that stands for nought.
    pub zero_point: i32,
}

impl fmt::Display for Quantisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scale {} and zero point {}", self.scale, self.zero_point)
    }
}

/// Shape, type and meaning of one tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Type of its elements.
    pub element: Element,
    /// Of whole numbers.
    pub quantisation: Option<Quantisation>,
}

impl TensorSpec {
    /// Number of elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of all elements.
    pub fn bytes(&self) -> usize {
        self.count() * self.element.bytes()
    }
}

/// A model's file with what its manifest says of it.
#[derive(Debug, Clone)]
pub struct ModelFile {
    /// Where it comes from, for errors: a path, or a name within the program.
    pub origin: String,
    /// The backend that it is meant for, as its manifest says.
    pub format: String,
    /// Its content.
    pub bytes: Arc<[u8]>,
    /// Its one input.
    pub input: TensorSpec,
    /// Its one output.
    pub output: TensorSpec,
}

/// How much of a model's graph a device has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Placement {
    /// Operators that the device runs; 0 where everything runs on the CPU.
    pub claimed: usize,
    /// Operators of the model.
    pub total: usize,
}

/// A loaded model, ready to compute.
pub trait Runner {
    /// Computes: `input` has exactly the bytes of the model's input, `output` is filled with those of its output. Blocks.
    fn run(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), Refused>;

    /// What runs on a device.
    fn placement(&self) -> Placement;

    /// Whether it can run now. Where it can't, what that takes has begun beside, or somebody else uses its device. Does not block.
    /// Errors: what was begun did not succeed.
    fn ready(&mut self) -> Result<bool, Refused> {
        Ok(true)
    }

    /// Sees to it that it can run. Blocks for what that takes. Errors: it did not succeed.
    fn begin(&mut self) -> Result<(), Refused> {
        Ok(())
    }

    /// Keeps what its answers must stand, should it have to be begun again.
    fn keep(&mut self, _check: Check) {}
}

/// Holds a runner's answers against those that are right.
#[derive(Clone)]
pub struct Check(Arc<Hold>);

type Hold = dyn Fn(&mut dyn Runner) -> Result<(), Refused> + Send + Sync;

impl Check {
    /// A check that `hold` makes. Errors of that: the answers are wrong, or there are none.
    pub fn new(hold: impl Fn(&mut dyn Runner) -> Result<(), Refused> + Send + Sync + 'static) -> Self {
        Self(Arc::new(hold))
    }

    /// Makes the check. Blocks for some runs.
    pub fn hold(&self, runner: &mut dyn Runner) -> Result<(), Refused> {
        self.0(runner)
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Check")
    }
}

/// Something that can run a model file.
pub trait ComputeBackend {
    /// Short name, for logs and `outpost backends`.
    fn name(&self) -> &str;

    /// Whether a variant that its manifest gives to `format` is for this backend.
    fn takes(&self, format: &str) -> bool {
        format == self.name()
    }

    /// Whether it computes the operator `op` of a segment, as `outpost_plugin.h` names it.
    fn computes(&self, _op: &str) -> bool {
        false
    }

    /// Makes a file ready. Blocks. Errors: with the stage and the reason; nothing of it stays behind.
    fn load(&self, model: &ModelFile) -> Result<Box<dyn Runner>, Refused>;
}

impl<T: ComputeBackend> ComputeBackend for Rc<T> {
    fn name(&self) -> &str {
        self.as_ref().name()
    }

    fn takes(&self, format: &str) -> bool {
        self.as_ref().takes(format)
    }

    fn computes(&self, op: &str) -> bool {
        self.as_ref().computes(op)
    }

    fn load(&self, model: &ModelFile) -> Result<Box<dyn Runner>, Refused> {
        self.as_ref().load(model)
    }
}
