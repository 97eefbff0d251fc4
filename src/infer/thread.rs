//! The thread `infer` and the way to it; and `infer-cpu`, which answers while that one loads devices.

use std::convert::Infallible;
use std::path::PathBuf;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;

use smol::channel::{Receiver, Sender, TrySendError, bounded};
use smol::future::or;

use super::bundle::Bundle;
use super::model::{Model, ModelError};
use super::onnx::{self, Onnx, OnnxOn};
use crate::accel::worker::{self, WorkerOptions};
use crate::accel::{ComputeBackend, Isolated, ModelFile, Refused, Runner, Stage};
use crate::clock;
use crate::frame::{Frame, FrameOptions, ModelName};
use crate::limits;
use crate::observe::{self, infer as events, metrics};
use crate::reading::{ChannelId, Unit, named_enum};

named_enum! {
    /// What becomes of a model whose first backend does not do.
    Policy {
        /// The next backend of the list takes over.
        Prefer = "prefer",
        /// The agent does not start.
        Require = "require",
    }
}

/// One small model and what it looks at.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelOptions {
    /// Unique among the models; alarms name it.
    pub name: ModelName,
    /// Name of a model of this program, or the folder of a bundle.
    pub bundle: PathBuf,
    /// What it looks at, in the order of the bundle's channels.
    pub channels: Vec<ChannelId>,
    /// Time from one frame to the next; at least one sample.
    pub every: Duration,
    /// Names of backends in order of preference.
    pub backends: Vec<String>,
    /// What becomes of it when the first one does not do.
    pub policy: Policy,
}

/// The small models of one agent; at most [`limits::MODELS_MAX`].
#[derive(Debug, Clone, Default)]
pub struct InferOptions {
    /// In the order of their numbers.
    pub models: Vec<ModelOptions>,
    /// Accelerators, and TensorFlow Lite, each with a name that `backends` may hold.
    pub workers: Vec<WorkerOptions>,
    /// [`Infer::start`] waits until all is loaded: a recording has the same judges from its beginning to its end.
    pub is_patient: bool,
}

/// Small models that can't be started; the configuration's fault.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// A model whose policy is `require` has no backend.
    #[error("model {name}: {error}; mend it, or set policy = \"prefer\"")]
    Required {
        /// Name of the model.
        name: ModelName,
        /// Why.
        error: ModelError,
    },
    /// The system has no thread left.
    #[error("cannot start the thread of small models: {0}; raise the process limit")]
    Thread(#[from] std::io::Error),
    /// The thread has ended.
    #[error("the thread of small models ended unexpectedly; see the log")]
    Gone,
}

/// A frame to be judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Number of the model.
    pub model: usize,
    /// Its samples.
    pub frame: Frame,
}

/// What a model says of a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// Number of the model.
    pub model: usize,
    /// What it judged.
    pub frame: Frame,
    /// How odd.
    pub score: f64,
    /// From this score on it is told.
    pub threshold: f64,
    /// The class, where the model tells classes.
    pub class: Option<ModelName>,
    /// Where it differs most: row, sample, and what was expected there.
    pub worst: Option<(usize, usize, f64)>,
}

/// The thread.
pub struct Infer {
    handle: InferHandle,
    thread: Option<JoinHandle<()>>,
}

/// The way to the thread; clones share it.
#[derive(Clone)]
pub struct InferHandle {
    jobs: Sender<Job>,
    judgements: Receiver<Option<Judgement>>,
}

impl ModelOptions {
    /// What the model wants its frames to be, and in which unit each row; the bundle says so. None if there is no such bundle, or
    /// it wants other channels: then the thread tells why. Blocks on the disk.
    pub fn frames(&self) -> Option<(FrameOptions, Vec<Unit>)> {
        let input = Bundle::open(&self.bundle).ok()?.manifest.input;
        let hop = self.every.as_millis() / u128::from(input.step_ms);
        let fits = input.channels.len() == self.channels.len();
        let frames = FrameOptions {
            channels: input.channels.len(),
            step_ms: input.step_ms,
            length: input.length,
            hop: usize::try_from(hop).unwrap_or(usize::MAX).max(1),
        };
        let units = input.channels.into_iter().map(|role| Unit(role.unit)).collect();
        fits.then_some((frames, units))
    }
}

impl Infer {
    /// Starts the thread, which loads the models: this returns when all are loaded if a model is required or the options are
    /// patient, else at once, and the CPU answers until all devices are loaded.
    pub async fn start(options: InferOptions) -> Result<Self, InferError> {
        let (jobs, inbox) = bounded(limits::INFER_QUEUE_MAX);
        let (out, judgements) = bounded(limits::INFER_QUEUE_MAX);
        let handle = InferHandle { jobs, judgements };
        if options.models.is_empty() {
            return Ok(Self { handle, thread: None });
        }
        let waits = options.is_patient || options.models.iter().any(|model| model.policy == Policy::Require);
        let (ready, is_ready) = bounded(1);
        let work = move || {
            let meanwhile = if waits { None } else { Meanwhile::begin(&options, &inbox, &out) };
            let devices = Devices::new(&options);
            let load = |model| load(model, &devices);
            let loaded: Result<Vec<_>, _> =
                options.models.iter().take(limits::MODELS_MAX).map(load).collect();
            let (models, told) = match loaded {
                Ok(models) => (models, Ok(())),
                Err(error) => (Vec::new(), Err(error)),
            };
            if let Some(meanwhile) = meanwhile {
                meanwhile.end();
                // It may have shown where its own copies stood.
                models.iter().flatten().for_each(Model::show);
            }
            // Nobody listens who does not wait.
            let _ = ready.send_blocking(told);
            run(models, || inbox.recv_blocking().ok(), &out);
        };
        let thread = std::thread::Builder::new().name("infer".into()).spawn(work)?;
        let this = Self { handle, thread: Some(thread) };
        if waits {
            is_ready.recv().await.map_err(|_| InferError::Gone)??;
        }
        Ok(this)
    }

    /// The way to the thread.
    pub fn handle(&self) -> InferHandle {
        self.handle.clone()
    }

    /// Lets the thread finish the frames that it has and joins it. Blocks for a few runs, or for the loading.
    pub fn stop(mut self) {
        self.handle.jobs.close();
        self.handle.judgements.close();
        if let Some(thread) = self.thread.take() {
            // Its panic, if there was one, has been logged by its own thread.
            let _ = thread.join();
        }
    }
}

impl InferHandle {
    /// Hands a frame over; where too many wait it is skipped and counted.
    pub fn offer(&self, job: Job) {
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => metrics::INFER_SKIPPED.inc(),
        }
    }

    /// The next judgement; none once the thread has ended.
    pub async fn next(&self) -> Option<Judgement> {
        loop {
            if let Some(judgement) = self.judgements.recv().await.ok()? {
                return Some(judgement);
            }
        }
    }

    /// Judges `job` and waits for what becomes of it: for recordings, where nothing may be skipped. Blocks.
    pub fn judge_blocking(&self, job: Job) -> Option<Judgement> {
        self.jobs.send_blocking(job).ok()?;
        self.judgements.recv_blocking().ok()?
    }
}

/// The CPU's answers while devices are loaded, which takes as long as a driver that hangs may hold them up.
struct Meanwhile {
    over: Sender<Infallible>,
    thread: JoinHandle<()>,
}

impl Meanwhile {
    /// None where nothing but the CPU is loaded, or the system has no thread left: then frames wait. Blocks until the CPU's models
    /// are loaded, so that nothing runs beside devices when their times are taken but a frame's one run now and then.
    fn begin(options: &InferOptions, inbox: &Receiver<Job>, out: &Sender<Option<Judgement>>) -> Option<Self> {
        let has_device = |model: &ModelOptions| model.backends.iter().any(|name| name != onnx::NAME);
        if !options.models.iter().any(has_device) {
            return None;
        }
        let (models, inbox, out) = (options.models.clone(), inbox.clone(), out.clone());
        let (over, is_over) = bounded::<Infallible>(1);
        let (loaded, are_loaded) = bounded(1);
        let work = move || {
            let models = models.iter().take(limits::MODELS_MAX).map(on_cpu).collect();
            let _ = loaded.send_blocking(());
            // Nothing is ever sent through it: it ends.
            let over = || async { is_over.recv().await.ok().map(|never| match never {}) };
            let job = || async { inbox.recv().await.ok() };
            run(models, || smol::block_on(or(over(), job())), &out);
        };
        let thread = std::thread::Builder::new().name("infer-cpu".into()).spawn(work).ok()?;
        // A panic ends the wait, too.
        let _ = are_loaded.recv_blocking();
        Some(Self { over, thread })
    }

    /// Blocks for the run that it is in.
    fn end(self) {
        drop(self.over);
        // Its panic, if there was one, has been logged by its own thread.
        let _ = self.thread.join();
    }
}

/// A model that has a file for the CPU. What is wrong with it is told by who loads it with its devices.
fn on_cpu(options: &ModelOptions) -> Option<Model> {
    let bundle = open(options).ok()?;
    let is_there = bundle.manifest.variants.iter().any(|variant| variant.backend == onnx::NAME);
    let loaded = is_there.then(|| Model::load_meanwhile(options.name.as_str(), bundle, Box::new(Onnx)));
    loaded?.ok()
}

fn open(options: &ModelOptions) -> Result<Bundle, ModelError> {
    let bundle = Bundle::open(&options.bundle)?;
    let (wanted, given) = (bundle.manifest.input.channels.len(), options.channels.len());
    if wanted == given { Ok(bundle) } else { Err(ModelError::Channels { wanted, given }) }
}

/// Loads one model. None: it has no backend, which has been told, and the others go on.
fn load(options: &ModelOptions, devices: &Devices) -> Result<Option<Model>, InferError> {
    let require = options.policy == Policy::Require;
    let backends = devices.backends(&options.backends);
    let loaded =
        open(options).and_then(|bundle| Model::load(options.name.as_str(), bundle, &backends, require));
    match loaded {
        Ok(model) => Ok(Some(model)),
        Err(error) if require => Err(InferError::Required { name: options.name, error }),
        Err(error) => {
            observe::emit(&events::ModelUnavailable { model: options.name.as_str(), reason: &error });
            Ok(None)
        }
    }
}

/// What runs in processes of its own; models that name the same one share its process.
pub struct Devices(Vec<Rc<Isolated>>);

impl Devices {
    /// Nothing is begun or loaded yet.
    pub fn new(options: &InferOptions) -> Self {
        let isolated = |options: &WorkerOptions| Rc::new(Isolated::shared(options));
        Self(options.workers.iter().map(isolated).collect())
    }

    /// The backends of those names in that order, and the CPU behind them; a name that this program does not know says so when it
    /// is to load something.
    pub fn backends(&self, names: &[String]) -> Vec<Box<dyn ComputeBackend>> {
        let backend = |name: &String| -> Box<dyn ComputeBackend> {
            match self.0.iter().find(|device| device.name() == name) {
                _ if name == onnx::NAME => Box::new(Onnx),
                Some(device) if device.is_plugin() => Box::new(OnnxOn::new(device)),
                Some(device) => Box::new(device.clone()),
                None => Box::new(Unknown { name: name.clone() }),
            }
        };
        let last = Some(onnx::NAME.to_owned()).filter(|last| !names.contains(last));
        names.iter().chain(&last).map(backend).collect()
    }
}

const NO_SUCH: &str =
    "this program knows no such backend; write onnx, tflite, or the name of an [accelerator.\"name\"]";

/// A name that nothing stands behind.
struct Unknown {
    name: String,
}

impl ComputeBackend for Unknown {
    fn name(&self) -> &str {
        &self.name
    }

    fn takes(&self, _format: &str) -> bool {
        true
    }

    fn load(&self, _model: &ModelFile) -> Result<Box<dyn Runner>, Refused> {
        Err(Refused::new(&self.name, Stage::Find, NO_SUCH))
    }
}

/// Every job is answered, if only with nothing: who waits for one may rely on it.
fn run(
    mut models: Vec<Option<Model>>,
    mut next: impl FnMut() -> Option<Job>,
    out: &Sender<Option<Judgement>>,
) {
    while let Some(job) = next() {
        let judgement =
            models.get_mut(job.model).and_then(Option::as_mut).and_then(|model| judge(model, job));
        if judgement.is_none() {
            metrics::INFER_SKIPPED.inc();
        }
        if out.send_blocking(judgement).is_err() {
            return;
        }
    }
}

fn judge(served: &mut Model, Job { model, frame }: Job) -> Option<Judgement> {
    // Also where no device is asked any more.
    worker::reap();
    let begun = clock::mono();
    let scored = served.judge(&frame)?;
    metrics::INFER_JUDGED.inc();
    metrics::INFER_US.add(u64::try_from(clock::mono().since(begun).as_micros()).unwrap_or(u64::MAX));
    let threshold = served.manifest().output.threshold();
    Some(Judgement { model, frame, score: scored.score, threshold, class: scored.class, worst: scored.worst })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Wall;

    fn job() -> Job {
        Job { model: 0, frame: Frame { at: Wall(0), start: Wall(0), rows: vec![vec![0.0; 64]] } }
    }

    #[test]
    fn a_full_queue_skips_frames_and_counts_them() {
        let (jobs, inbox) = bounded(limits::INFER_QUEUE_MAX);
        let (_out, judgements) = bounded(1);
        let handle = InferHandle { jobs, judgements };
        let before = metrics::INFER_SKIPPED.value();
        (0..limits::INFER_QUEUE_MAX + 3).for_each(|_| handle.offer(job()));
        assert!(metrics::INFER_SKIPPED.value() >= before + 3);
        assert_eq!(inbox.len(), limits::INFER_QUEUE_MAX);
    }

    fn options(bundle: &str, backend: &str) -> InferOptions {
        let model = ModelOptions {
            name: ModelName::new("some").unwrap(),
            bundle: bundle.into(),
            channels: vec![ChannelId::new("a.x").unwrap()],
            every: Duration::from_secs(1),
            backends: vec![backend.into()],
            policy: Policy::Prefer,
        };
        InferOptions { models: vec![model], ..InferOptions::default() }
    }

    #[test]
    fn the_cpu_answers_until_the_devices_are_loaded_and_then_leaves_the_frames_to_them() {
        let (jobs, inbox) = bounded(limits::INFER_QUEUE_MAX);
        let (out, judgements) = bounded(limits::INFER_QUEUE_MAX);
        assert!(Meanwhile::begin(&options("cold_room", onnx::NAME), &inbox, &out).is_none());
        let meanwhile = Meanwhile::begin(&options("cold_room", "vx"), &inbox, &out).unwrap();
        jobs.send_blocking(job()).unwrap();
        assert!(judgements.recv_blocking().unwrap().is_some());
        meanwhile.end();
        jobs.send_blocking(job()).unwrap();
        assert_eq!((inbox.len(), judgements.len()), (1, 0));
    }

    #[test]
    fn a_frame_that_no_model_can_judge_is_answered_with_nothing() {
        let infer = smol::block_on(Infer::start(options("no/such/folder", onnx::NAME))).unwrap();
        assert_eq!(infer.handle().judge_blocking(job()), None);
        infer.stop();
        let none = smol::block_on(Infer::start(InferOptions::default())).unwrap();
        assert_eq!(none.handle().judge_blocking(job()), None);
        none.stop();
    }
}
