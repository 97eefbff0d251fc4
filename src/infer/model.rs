//! A small model in service: the first backend that proved itself, and the others behind it.
//!
//! A backend serves when it has loaded the variant that is meant for it and its answers to the golden vectors are within the
//! variant's tolerance; one that runs on a device must also claim operators and be no slower than the CPU. When it fails later,
//! the next one gives the answer to the same window, and [`Health`] decides whether it is asked again. What must begin anew for
//! that does so beside, while the next one goes on answering, and proves itself again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::bundle::{Bundle, BundleError};
use super::manifest::Variant;
use super::window::{self, Prepared, Scored};
use crate::accel::{Check, ComputeBackend, Health, Refused, Runner, Stage, State};
use crate::clock;
use crate::frame::Frame;
use crate::limits;
use crate::observe::{self, backends, infer as events};

/// A bundle with the backends that serve it.
pub struct Model {
    name: String,
    bundle: Arc<Bundle>,
    /// Names of all that were to serve it.
    backends: Vec<String>,
    served: Vec<Served>,
    /// What is right and gave way to the CPU.
    slow: Vec<Serving>,
    refused: Vec<Refused>,
}

/// One backend with its variant.
struct Served {
    backend: String,
    variant: Variant,
    runner: Box<dyn Runner>,
    health: Health,
    p50: Duration,
    golden_error: f64,
}

/// What is known of one backend of a model, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Serving {
    /// Name of the backend.
    pub backend: String,
    /// Its file.
    pub file: String,
    /// Operators on a device, of how many.
    pub placement: crate::accel::Placement,
    /// Largest difference from the golden vectors, in the unit of the tolerance.
    pub golden_error: f64,
    /// Median time of one run.
    pub p50: Duration,
}

/// A model without a backend.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Its files.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The configuration and the bundle disagree.
    #[error(
        "it looks at {wanted} channels, but {given} are configured; name them in the order of its manifest"
    )]
    Channels {
        /// Channels of the bundle.
        wanted: usize,
        /// Channels of the configuration.
        given: usize,
    },
    /// No backend does.
    #[error("no backend that model {name} may use does: {reasons}")]
    NoBackend {
        /// Name of the model.
        name: String,
        /// Each one's stage and reason.
        reasons: String,
    },
}

impl Served {
    fn told(&self) -> Serving {
        Serving {
            backend: self.backend.clone(),
            file: self.variant.file.clone(),
            placement: self.runner.placement(),
            golden_error: self.golden_error,
            p50: self.p50,
        }
    }
}

impl Model {
    /// Loads the bundle with every backend of `backends`, in order of preference; those that do not do are told once. With
    /// `require`, the first one must do. Blocks: it loads, runs the golden vectors and takes times.
    pub fn load(
        name: &str,
        bundle: Bundle,
        backends: &[Box<dyn ComputeBackend>],
        require: bool,
    ) -> Result<Self, ModelError> {
        let model = Self::tried(name, bundle, backends, require);
        model.refused.iter().for_each(|refused| tell(name, refused));
        model.ready(require)
    }

    /// The same with `backend` alone, for as long as others are loaded: why it does not do is told when it is loaded behind them.
    pub fn load_meanwhile(
        name: &str,
        bundle: Bundle,
        backend: Box<dyn ComputeBackend>,
    ) -> Result<Self, ModelError> {
        Self::tried(name, bundle, &[backend], false).ready(false)
    }

    fn tried(name: &str, bundle: Bundle, backends: &[Box<dyn ComputeBackend>], require: bool) -> Self {
        let bundle = Arc::new(bundle);
        let names = backends.iter().map(|backend| backend.name().to_owned()).collect();
        let mut model = Self {
            name: name.into(),
            bundle,
            backends: names,
            served: Vec::new(),
            slow: Vec::new(),
            refused: Vec::new(),
        };
        for backend in backends {
            model.add(backend.as_ref());
            if require && model.served.is_empty() {
                break;
            }
        }
        model.refuse_slow();
        model
    }

    fn ready(self, require: bool) -> Result<Self, ModelError> {
        self.show();
        let wanted = self.backends.first().filter(|_| require);
        let may_be_first = |served: &&Served| wanted.is_none_or(|wanted| served.backend == *wanted);
        let Some(first) = self.served.first().filter(may_be_first) else {
            let reasons: Vec<String> = self.refused.iter().map(Refused::to_string).collect();
            return Err(ModelError::NoBackend { name: self.name, reasons: reasons.join("; ") });
        };
        observe::emit(&events::ModelReady {
            model: &self.name,
            backend: &first.backend,
            file: &first.variant.file,
            id: &self.bundle.id(&first.variant),
            placement: first.runner.placement(),
            golden_error: first.golden_error,
            p50_us: micros(first.p50),
        });
        Ok(self)
    }

    /// What its bundle says.
    pub fn manifest(&self) -> &super::manifest::Manifest {
        &self.bundle.manifest
    }

    /// The backends that serve it, the preferred one first.
    pub fn serving(&self) -> impl Iterator<Item = Serving> {
        self.served.iter().map(Served::told)
    }

    /// How those did that were right and slower than the CPU.
    pub fn slow(&self) -> &[Serving] {
        &self.slow
    }

    /// Why the others do not.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// How far `backend` has come; none where it was not even loaded.
    pub fn state_of(&self, backend: &str) -> Option<State> {
        let mut is_first = true;
        for served in &self.served {
            let state = match (served.health.is_quarantined(), is_first) {
                (true, _) => State::Quarantined,
                (false, true) => State::Serving,
                (false, false) => State::Verified,
            };
            if served.backend == backend {
                return Some(state);
            }
            is_first &= state == State::Quarantined;
        }
        let had_loaded = |refused: &Refused| {
            refused.backend == backend && (Stage::Claim..=Stage::Invoke).contains(&refused.stage)
        };
        self.refused.iter().any(had_loaded).then_some(State::Loaded)
    }

    /// Shows where its backends stand.
    pub fn show(&self) {
        for backend in &self.backends {
            let is_missing = |refused: &Refused| refused.backend == *backend && refused.stage == Stage::Find;
            let before = if self.refused.iter().any(is_missing) { State::Absent } else { State::Probed };
            backends::set(backend, &self.name, self.state_of(backend).unwrap_or(before).name());
        }
    }

    /// Judges a frame. None if every backend failed. Blocks for one run, or one per backend that fails: what must be begun again is
    /// not waited for.
    pub fn judge(&mut self, frame: &Frame) -> Option<Scored> {
        let prepared = window::prepare(&self.bundle.manifest.input, &frame.rows);
        let mut answer = Vec::new();
        for index in 0..self.served.len() {
            let served = &mut self.served[index];
            let now = clock::mono();
            if !served.health.may_try(now) {
                continue;
            }
            let scored = match served.runner.ready() {
                Ok(true) => score(&self.bundle, served, &prepared, &mut answer),
                Ok(false) => continue,
                Err(refused) => Err(refused),
            };
            match scored {
                Ok(scored) => {
                    served.health.succeeded();
                    return Some(scored);
                }
                Err(refused) => {
                    let quarantined = served.health.failed(clock::mono());
                    let model = self.name.as_str();
                    observe::emit(&events::BackendFailed { model, refused: &refused, quarantined });
                    if quarantined {
                        self.show();
                    }
                }
            }
        }
        None
    }

    /// Loads every variant that is meant for `backend` until one does.
    fn add(&mut self, backend: &dyn ComputeBackend) {
        let mut variants: Vec<Variant> =
            self.bundle.manifest.variants.iter().filter(|v| backend.takes(&v.backend)).cloned().collect();
        // What was made for it goes before what it takes as well.
        variants.sort_by_key(|variant| variant.backend != backend.name());
        if variants.is_empty() {
            let reason = format!("the bundle has no file for {}", backend.name());
            self.refused.push(Refused::new(backend.name(), Stage::Load, reason));
        }
        for variant in variants {
            match self.load_variant(backend, variant) {
                Ok(served) => {
                    self.served.push(served);
                    break;
                }
                Err(refused) => self.refused.push(refused),
            }
        }
    }

    fn load_variant(&self, backend: &dyn ComputeBackend, variant: Variant) -> Result<Served, Refused> {
        let refuse = |error: BundleError| Refused::new(backend.name(), Stage::Load, error);
        let mut runner = backend.load(&self.bundle.file(&variant).map_err(refuse)?)?;
        // Another model of the same device may have ended its process meanwhile.
        runner.begin()?;
        let golden_error = golden(&self.bundle, &variant, backend.name(), runner.as_mut())?;
        runner.keep(self.check(backend.name(), &variant));
        let p50 = timed(&self.bundle, &variant, runner.as_mut())?;
        let backend = backend.name().to_owned();
        Ok(Served { backend, variant, runner, health: Health::default(), p50, golden_error })
    }

    /// The golden vectors once more.
    fn check(&self, backend: &str, variant: &Variant) -> Check {
        let (bundle, backend, variant) = (Arc::clone(&self.bundle), backend.to_owned(), variant.clone());
        Check::new(move |runner| golden(&bundle, &variant, &backend, runner).map(drop))
    }

    /// What runs on a device and is slower than the CPU gives way to it.
    fn refuse_slow(&mut self) {
        let on_cpu = |served: &Served| served.runner.placement().claimed == 0;
        let Some(cpu) = self.served.iter().filter(|s| on_cpu(s)).map(|s| s.p50).min() else { return };
        let (kept, slow): (Vec<_>, Vec<_>) =
            self.served.drain(..).partition(|served| on_cpu(served) || served.p50 <= cpu);
        self.served = kept;
        self.slow = slow.iter().map(Served::told).collect();
        self.refused.extend(slow.iter().map(|served| {
            let reason = format!("a run takes {} us, {} us on the CPU", micros(served.p50), micros(cpu));
            Refused::new(&served.backend, Stage::Speed, reason)
        }));
    }
}

/// Tells why a backend does not do for a model; one that is missing does for none, which is told once.
fn tell(model: &str, refused: &Refused) {
    static MISSING: Mutex<Vec<Refused>> = Mutex::new(Vec::new());
    if refused.stage != Stage::Find {
        observe::emit(&events::BackendRefused { model, refused });
        return;
    }
    let mut told = MISSING.lock().unwrap_or_else(PoisonError::into_inner);
    if !told.contains(refused) {
        observe::emit(&events::BackendMissing { refused });
        told.push(refused.clone());
    }
}

fn score(
    bundle: &Bundle,
    served: &mut Served,
    prepared: &Prepared,
    answer: &mut Vec<u8>,
) -> Result<Scored, Refused> {
    let manifest = &bundle.manifest;
    served.runner.run(&window::encode(&prepared.values, &served.variant.input()), answer)?;
    window::score(&manifest.input, &manifest.output, prepared, &served.variant.output(), answer).ok_or_else(
        || {
            Refused::new(
                &served.backend,
                Stage::Invoke,
                "the answer has the wrong size or holds what is no number",
            )
        },
    )
}

/// Holds the answers to the golden vectors against the tolerance; returns the largest difference.
fn golden(
    bundle: &Bundle,
    variant: &Variant,
    backend: &str,
    runner: &mut dyn Runner,
) -> Result<f64, Refused> {
    let fail =
        |reason: String| Refused::new(backend, Stage::Golden, format_args!("{}: {reason}", variant.file));
    let (mut worst, mut answer) = (0.0_f64, Vec::new());
    for (n, vector) in bundle.golden.iter().enumerate() {
        let input = window::encode(&prepared(bundle, &vector.window).values, &variant.input());
        runner.run(&input, &mut answer)?;
        let output = variant.output();
        let wanted = vector.outputs.get(output.element.name());
        let (Some(found), Some(wanted)) = (window::codes(&answer, &output), wanted) else {
            return Err(fail(format!("golden vector {n} has no answer of type {}", output.element)));
        };
        let apart = || found.iter().zip(wanted).map(|(a, b)| (a - b).abs());
        let off = apart().fold(0.0, f64::max);
        // What is no number is within nothing.
        if found.len() != wanted.len() || !apart().all(|d| d <= variant.tolerance) {
            let tolerance = variant.tolerance;
            return Err(fail(format!(
                "golden vector {n} is off by {off}, {tolerance} is tolerated: wrong numbers"
            )));
        }
        worst = worst.max(off);
    }
    Ok(worst)
}

/// The median time of some runs.
fn timed(bundle: &Bundle, variant: &Variant, runner: &mut dyn Runner) -> Result<Duration, Refused> {
    let window = bundle.golden.first().map(|v| v.window.as_slice()).unwrap_or_default();
    let input = window::encode(&prepared(bundle, window).values, &variant.input());
    let mut answer = Vec::new();
    let mut times = Vec::with_capacity(limits::BACKEND_TIMED_RUNS);
    let until = clock::mono() + Duration::from_millis(limits::BACKEND_TIMED_MS_MAX);
    while times.len() < limits::BACKEND_TIMED_RUNS && (times.len() < 3 || clock::mono() < until) {
        let begun = clock::mono();
        for _ in 0..RUNS_PER_TIME {
            runner.run(&input, &mut answer)?;
        }
        times.push(clock::mono().since(begun) / RUNS_PER_TIME);
    }
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

/// The clock counts microseconds, and a run may take fewer.
const RUNS_PER_TIME: u32 = 8;

fn prepared(bundle: &Bundle, window: &[f64]) -> Prepared {
    let input = &bundle.manifest.input;
    let rows: Vec<Vec<f64>> = window.chunks(input.length).map(<[f64]>::to_vec).collect();
    window::prepare(input, &rows)
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
