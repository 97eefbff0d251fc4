//! A vendor's code as a backend: a plug-in or a delegate in a worker process, which is begun anew when it is asked after a failure.

use std::sync::{Arc, Mutex, PoisonError};

use super::TFLITE;
use super::backend::{ComputeBackend, ModelFile, Placement, Refused, Runner, Stage};
use super::worker::{Process, Vendor, WorkerOptions};

/// One device; its models share one process.
pub struct Isolated {
    name: String,
    is_delegate: bool,
    process: Result<Arc<Mutex<Process>>, Refused>,
}

impl Isolated {
    /// Nothing is begun before a model is loaded.
    pub fn new(options: WorkerOptions) -> Self {
        Self {
            name: options.name.clone(),
            is_delegate: matches!(options.vendor, Vendor::Delegate { .. }),
            process: Process::new(options).map(|p| Arc::new(Mutex::new(p))),
        }
    }
}

impl ComputeBackend for Isolated {
    fn name(&self) -> &str {
        &self.name
    }

    /// Its own variants; a delegate takes plain TensorFlow Lite files, too, as far as it can.
    fn takes(&self, format: &str) -> bool {
        format == self.name || self.is_delegate && format == TFLITE
    }

    /// Errors: among others that it claims nothing, since a device that does nothing is none.
    fn load(&self, model: &ModelFile) -> Result<Box<dyn Runner>, Refused> {
        let process = self.process.clone()?;
        let (number, placement) = process.lock().unwrap_or_else(PoisonError::into_inner).load(model)?;
        if placement.claimed == 0 {
            let reason = format!("{}: it takes none of {} operators", model.origin, placement.total);
            return Err(Refused::new(&self.name, Stage::Claim, reason));
        }
        Ok(Box::new(IsolatedModel { process, number, placement }))
    }
}

struct IsolatedModel {
    process: Arc<Mutex<Process>>,
    number: u32,
    placement: Placement,
}

impl Runner for IsolatedModel {
    fn run(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), Refused> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).run(self.number, input, output)
    }

    fn placement(&self) -> Placement {
        self.placement
    }
}
