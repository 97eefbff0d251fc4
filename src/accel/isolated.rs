//! A vendor's code as a backend: a plug-in, or TensorFlow Lite, alone or with a delegate, in a worker process, which is begun anew,
//! beside, when it is asked after a failure.

use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};

use super::TFLITE;
use super::backend::{Check, ComputeBackend, ModelFile, Placement, Refused, Runner, Stage};
use super::worker::{Process, Vendor, WorkerOptions};

/// One device, or TensorFlow Lite; its models share one process.
#[derive(Debug, Clone)]
pub struct Isolated {
    name: String,
    vendor: Vendor,
    process: Result<Arc<Mutex<Process>>, Refused>,
}

impl Isolated {
    /// Nothing is begun before a model is loaded.
    pub fn new(options: WorkerOptions) -> Self {
        let (name, vendor) = (options.name.clone(), options.vendor.clone());
        Self { name, vendor, process: Process::new(options).map(|p| Arc::new(Mutex::new(p))) }
    }

    /// The same, in the process of whoever else shares a device of these options: a driver may serve one process alone, and small
    /// models and the language model live on different threads.
    pub fn shared(options: &WorkerOptions) -> Self {
        let mut all = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, process)| process.strong_count() > 0);
        let mut device = Self::new(options.clone());
        let other = all.iter().find(|(known, _)| known == options).and_then(|(_, process)| process.upgrade());
        match (other, &device.process) {
            (Some(process), _) => device.process = Ok(process),
            (None, Ok(process)) => all.push((options.clone(), Arc::downgrade(process))),
            (None, Err(_)) => {}
        }
        device
    }

    /// Whether it is a plug-in, else TensorFlow Lite.
    pub fn is_plugin(&self) -> bool {
        matches!(self.vendor, Vendor::Plugin { .. })
    }

    /// Whether its process answers; one that ended is begun again beside. No where somebody else uses the device: neither a run
    /// of the language model nor the loading of another model is waited for. Errors: it could not be begun again.
    pub fn ready(&self) -> Result<bool, Refused> {
        let process = self.process.clone()?;
        at_once(&process)
    }

    /// Sees to it that its process answers. Blocks for it to begin, and while somebody else uses the device. Errors: it does not
    /// begin.
    pub fn begin(&self) -> Result<(), Refused> {
        self.process.clone()?.lock().unwrap_or_else(PoisonError::into_inner).begin()
    }

    /// Which operators of a segment it computes. Blocks. Errors: the vendor's code can't be loaded.
    pub fn which_computed(&self, ops: &[&str]) -> Result<Vec<bool>, Refused> {
        self.process.clone()?.lock().unwrap_or_else(PoisonError::into_inner).computes(ops)
    }

    /// Makes a file ready, as [`ComputeBackend::load`] does.
    pub fn model(&self, model: &ModelFile) -> Result<IsolatedModel, Refused> {
        let process = self.process.clone()?;
        let (number, placement) = process.lock().unwrap_or_else(PoisonError::into_inner).load(model)?;
        let loaded = IsolatedModel { process, number, placement };
        let is_device = !matches!(self.vendor, Vendor::Lite { .. });
        if is_device && placement.claimed == 0 {
            let reason = format!("{}: it takes none of {} operators", model.origin, placement.total);
            return Err(Refused::new(&self.name, Stage::Claim, reason));
        }
        Ok(loaded)
    }
}

fn at_once(process: &Mutex<Process>) -> Result<bool, Refused> {
    match process.try_lock() {
        Ok(mut process) => process.ready(),
        Err(TryLockError::Poisoned(process)) => process.into_inner().ready(),
        Err(TryLockError::WouldBlock) => Ok(false),
    }
}

/// Processes that are shared, for as long as somebody has them.
static SHARED: Mutex<Vec<(WorkerOptions, Weak<Mutex<Process>>)>> = Mutex::new(Vec::new());

impl ComputeBackend for Isolated {
    fn name(&self) -> &str {
        &self.name
    }

    /// Its own variants; TensorFlow Lite takes plain files of its own with a delegate, too, which claims of them what it can.
    fn takes(&self, format: &str) -> bool {
        format == self.name || !self.is_plugin() && format == TFLITE
    }

    /// Errors: among others that it claims nothing, since a device that does nothing is none.
    fn load(&self, model: &ModelFile) -> Result<Box<dyn Runner>, Refused> {
        Ok(Box::new(self.model(model)?))
    }
}

/// A file that is ready on a device, until this is dropped.
#[derive(Debug)]
pub struct IsolatedModel {
    process: Arc<Mutex<Process>>,
    number: u32,
    placement: Placement,
}

impl Drop for IsolatedModel {
    fn drop(&mut self) {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).unload(self.number);
    }
}

impl Runner for IsolatedModel {
    fn run(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), Refused> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).run(self.number, input, output)
    }

    fn placement(&self) -> Placement {
        self.placement
    }

    fn ready(&mut self) -> Result<bool, Refused> {
        at_once(&self.process)
    }

    fn begin(&mut self) -> Result<(), Refused> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).begin()
    }

    fn keep(&mut self, check: Check) {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).keep(self.number, check);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn options(name: &str) -> WorkerOptions {
        WorkerOptions {
            name: name.into(),
            program: "/nowhere".into(),
            vendor: Vendor::Plugin { library: "/nowhere".into() },
            options: String::new(),
            deadline: Duration::ZERO,
        }
    }

    #[test]
    fn who_shares_a_device_of_the_same_options_shares_its_process_and_nobody_else_does() {
        let process = |device: &Isolated| Arc::as_ptr(device.process.as_ref().unwrap());
        let [one, same, other] = ["a", "a", "b"].map(|name| Isolated::shared(&options(name)));
        let own = Isolated::new(options("a"));
        assert_eq!(process(&one), process(&same));
        assert!(process(&one) != process(&other) && process(&one) != process(&own));
        drop((one, same));
        assert_eq!(SHARED.lock().unwrap().iter().filter(|(_, p)| p.strong_count() > 0).count(), 1);
    }
}
