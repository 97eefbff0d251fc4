//! TensorFlow Lite files on the CPU through tflitec, which calls the library that the machine brings.

use std::path::{Path, PathBuf};

use tflitec::interpreter::{Interpreter, Options};
use tflitec::model::Model;
use tflitec::tensor::{DataType, Tensor};

use crate::accel::{
    self, ComputeBackend, Element, ModelFile, Placement, Quantisation, Refused, Runner, Stage, TensorSpec,
};

use super::TFLITE as NAME;
use super::fit::{Problem, compare};

/// TensorFlow Lite's own kernels.
#[derive(Debug, Default)]
pub struct Tflite {
    /// Its library; none: where the system keeps libraries.
    pub library: Option<PathBuf>,
}

impl ComputeBackend for Tflite {
    fn name(&self) -> &str {
        NAME
    }

    fn load(&self, model: &ModelFile) -> Result<Box<dyn Runner>, Refused> {
        let refuse = |stage, what: String| Refused::new(NAME, stage, what);
        accel::load_tflite(|| self.find()).map_err(|what| refuse(Stage::Load, what))?;
        let loaded =
            Lite::load(model).map_err(|(stage, what)| refuse(stage, format!("{}: {what}", model.origin)))?;
        Ok(Box::new(loaded))
    }
}

impl Tflite {
    fn find(&self) -> Result<PathBuf, String> {
        let found = match &self.library {
            Some(path) => Some(path.clone()),
            None => {
                accel::library_folders(Path::new("/")).map(|dir| dir.join(FILE)).find(|path| path.exists())
            }
        };
        let path = found.ok_or_else(|| {
            format!(
                "{FILE} is not installed; install the board's package, or set tflite.library in outpost.toml"
            )
        })?;
        accel::check_library(&path).map(|()| path)
    }
}

const FILE: &str = "libtensorflowlite_c.so";

/// An interpreter with its model.
struct Lite {
    interpreter: Interpreter<'static>,
    output_bytes: usize,
}

impl Lite {
    fn load(file: &ModelFile) -> Result<Self, Problem> {
        let load = |e: tflitec::Error| (Stage::Load, format!("it is no TensorFlow Lite model ({e})"));
        let prepare = |e: tflitec::Error| (Stage::Prepare, format!("TensorFlow Lite can't run it ({e})"));
        // An interpreter borrows its model and that its bytes: both live as long as the process, like the agent's models do.
        let bytes: &'static [u8] = Box::leak(file.bytes.to_vec().into_boxed_slice());
        let model: &'static Model<'static> = Box::leak(Box::new(Model::from_bytes(bytes).map_err(load)?));
        let options = Options { thread_count: 1 };
        let interpreter = Interpreter::new(model, Some(options)).map_err(prepare)?;
        interpreter.allocate_tensors().map_err(prepare)?;
        let counts = (interpreter.input_tensor_count(), interpreter.output_tensor_count());
        if counts != (1, 1) {
            return Err((
                Stage::Load,
                format!("it has {} inputs and {} outputs, not one of each", counts.0, counts.1),
            ));
        }
        check("input", &interpreter.input(0).map_err(prepare)?, &file.input)?;
        check("output", &interpreter.output(0).map_err(prepare)?, &file.output)?;
        Ok(Self { interpreter, output_bytes: file.output.bytes() })
    }
}

impl Runner for Lite {
    fn run(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), Refused> {
        // tflitec's words for a failed run are those of one that was not prepared.
        let invoke = |what: &str| Refused::new(NAME, Stage::Invoke, what);
        self.interpreter.copy(input, 0).map_err(|e| invoke(&e.to_string()))?;
        self.interpreter.invoke().map_err(|_| invoke("the run failed"))?;
        let answer = self.interpreter.output(0).map_err(|e| invoke(&e.to_string()))?;
        output.clear();
        output.extend_from_slice(answer.data::<u8>());
        if output.len() == self.output_bytes { Ok(()) } else { Err(invoke("the answer has another size")) }
    }

    fn placement(&self) -> Placement {
        // The C interface does not tell how many operators there are.
        Placement { claimed: 0, total: 0 }
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
