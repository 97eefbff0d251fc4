//! TensorFlow Lite files through tflitec, which calls the library that the machine brings: on the CPU, with XNNPACK where that is
//! wanted, or with a vendor's external delegate. Only a worker process loads either.

use std::path::{Path, PathBuf};

use tflitec::interpreter::{Interpreter, Options};
use tflitec::model::Model;
use tflitec::tensor::{DataType, Tensor};

use super::backend::{
    ComputeBackend, Element, ModelFile, Placement, Quantisation, Refused, Runner, Stage, TensorSpec,
};
use super::ffi::{self, Delegate, DelegateLibrary, load_tflite};
use super::fit::{Problem, compare};
use super::{TFLITE as NAME, library_folders, look_at_library};

/// TensorFlow Lite on the CPU.
#[derive(Debug)]
pub struct Tflite {
    xnnpack: bool,
}

impl Tflite {
    /// Loads TensorFlow Lite from `library`, or where the system keeps libraries; with `xnnpack` it computes faster, and rounds in its
    /// own way.
    pub fn open(library: Option<PathBuf>, xnnpack: bool) -> Result<Self, Refused> {
        load_tflite(|| find(library))?;
        Ok(Self { xnnpack })
    }
}

impl ComputeBackend for Tflite {
    fn name(&self) -> &str {
        NAME
    }

    fn load(&self, model: &ModelFile) -> Result<Box<dyn Runner>, Refused> {
        let delegate = self.xnnpack.then(ffi::xnnpack).transpose();
        let delegate = delegate.map_err(|what| Refused::new(NAME, Stage::Create, what))?;
        let mut loaded = Lite::load(NAME, model, delegate)?;
        // XNNPACK is the CPU, however much of the graph it takes.
        loaded.placement.claimed = 0;
        Ok(Box::new(loaded))
    }
}

/// TensorFlow Lite with a vendor's external delegate; what that does not claim runs on TensorFlow Lite's own kernels.
#[derive(Debug)]
pub struct Delegated {
    library: DelegateLibrary,
    options: String,
}

impl Delegated {
    /// Loads TensorFlow Lite from `tflite`, or where the system keeps libraries, and the delegate from `library`.
    pub fn open(library: &Path, tflite: Option<PathBuf>, options: String) -> Result<Self, Refused> {
        // Without TensorFlow Lite the delegate is of no use, but it is there.
        load_tflite(|| find(tflite)).map_err(|refused| Refused { stage: Stage::Load, ..refused })?;
        look_at_library(DELEGATE, library)?;
        Ok(Self { library: DelegateLibrary::open(library)?, options })
    }
}

impl ComputeBackend for Delegated {
    fn name(&self) -> &str {
        DELEGATE
    }

    fn load(&self, model: &ModelFile) -> Result<Box<dyn Runner>, Refused> {
        let delegate = self.library.create(&self.options)?;
        Ok(Box::new(Lite::load(DELEGATE, model, Some(delegate))?))
    }
}

/// What a delegate is called within its process; the agent knows the accelerator's name.
const DELEGATE: &str = "delegate";

/// The file of TensorFlow Lite's C library: `named`, or where the system keeps libraries.
fn find(named: Option<PathBuf>) -> Result<PathBuf, Refused> {
    let searched = || library_folders(Path::new("/")).map(|dir| dir.join(FILE)).find(|path| path.exists());
    let path = named.or_else(searched).ok_or_else(|| {
        let next = "install the board's package, or set tflite.library in outpost.toml";
        Refused::new(NAME, Stage::Find, format_args!("{FILE} is not installed; {next}"))
    })?;
    look_at_library(NAME, &path).map(|()| path)
}

const FILE: &str = "libtensorflowlite_c.so";

/// An interpreter with its model, and with the delegate that must outlive it.
struct Lite {
    name: &'static str,
    interpreter: Interpreter<'static>,
    _delegate: Option<Delegate>,
    placement: Placement,
    output_bytes: usize,
}

impl Lite {
    fn load(name: &'static str, file: &ModelFile, delegate: Option<Delegate>) -> Result<Self, Refused> {
        Self::try_load(name, file, delegate)
            .map_err(|(stage, what)| Refused::new(name, stage, format_args!("{}: {what}", file.origin)))
    }

    fn try_load(name: &'static str, file: &ModelFile, delegate: Option<Delegate>) -> Result<Self, Problem> {
        ffi::words();
        // An interpreter borrows its model and that its bytes: both live as long as the process, like the agent's models do.
        let bytes: &'static [u8] = Box::leak(file.bytes.to_vec().into_boxed_slice());
        let model =
            Model::from_bytes(bytes).map_err(|e| (Stage::Load, why("it is no TensorFlow Lite model", &e)))?;
        let model: &'static Model<'static> = Box::leak(Box::new(model));
        let prepare = |e: tflitec::Error| (Stage::Prepare, why("TensorFlow Lite can't run it", &e));
        let make = || Interpreter::new(model, Some(Options { thread_count: 1 }));
        let (made, claimed) = match &delegate {
            Some(delegate) => delegate.attach(make),
            None => (make(), Ok(Placement::default())),
        };
        let placement = claimed.map_err(|status| {
            let what = ffi::words().unwrap_or_else(|| "it does not say why".into());
            (Stage::Prepare, format!("the delegate can't be prepared for it (status {status}: {what})"))
        })?;
        let interpreter = made.map_err(prepare)?;
        interpreter.allocate_tensors().map_err(prepare)?;
        let counts = (interpreter.input_tensor_count(), interpreter.output_tensor_count());
        if counts != (1, 1) {
            let what = format!("it has {} inputs and {} outputs, not one of each", counts.0, counts.1);
            return Err((Stage::Load, what));
        }
        check("input", &interpreter.input(0).map_err(prepare)?, &file.input)?;
        check("output", &interpreter.output(0).map_err(prepare)?, &file.output)?;
        Ok(Self { name, interpreter, _delegate: delegate, placement, output_bytes: file.output.bytes() })
    }
}

/// The library's own words, else those of tflitec, which often are about something else.
fn why(what: &str, error: &tflitec::Error) -> String {
    format!("{what} ({})", ffi::words().unwrap_or_else(|| error.to_string()))
}

impl Runner for Lite {
    fn run(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), Refused> {
        let failed = |what: String| Refused::new(self.name, Stage::Invoke, what);
        let told = |e: tflitec::Error| failed(why("the run failed", &e));
        self.interpreter.copy(input, 0).map_err(told)?;
        self.interpreter.invoke().map_err(told)?;
        let answer = self.interpreter.output(0).map_err(told)?;
        output.clear();
        output.extend_from_slice(answer.data::<u8>());
        if output.len() == self.output_bytes {
            Ok(())
        } else {
            Err(failed("the answer has another size".into()))
        }
    }

    fn placement(&self) -> Placement {
        self.placement
    }
}

fn check(side: &str, tensor: &Tensor<'_>, spec: &TensorSpec) -> Result<(), Problem> {
    let element = match tensor.data_type() {
        DataType::Int8 => Element::Int8.name().to_owned(),
        DataType::UInt8 => Element::Uint8.name().to_owned(),
        DataType::Float32 => Element::F32.name().to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    compare(side, "shape", format!("{:?}", tensor.shape().dimensions()), format!("{:?}", spec.shape))?;
    compare(side, "type", element, spec.element.name().into())?;
    let quantisation = tensor.quantization_parameters();
    let quantisation = quantisation.map(|q| Quantisation { scale: q.scale, zero_point: q.zero_point });
    let words = |q: Option<Quantisation>| q.map_or("none".to_owned(), |q| q.to_string());
    compare(side, "quantisation", words(quantisation), words(spec.quantisation))
}
