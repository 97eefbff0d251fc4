//! `outpost backends`: which accelerators this machine has, and what runs each small model and the student.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::exit::Failure;
use super::machine_args::BackendsArgs;
use super::{print, run, sources};
use crate::accel::claim::Verified;
use crate::accel::worker::Vendor;
use crate::accel::{self, Found, Npu, Placement, Refused, Route, State};
use crate::config::{self, AgentConfig};
use crate::glm::placing::{DeviceOptions, Placed};
use crate::glm::teller::{self, Tried};
use crate::glm::{GlmOptions, student};
use crate::infer::{Bundle, Devices, InferOptions, Model, ModelOptions, Serving};
use crate::observe;

/// What became of a model: a configured one, or the shipped one on an accelerator that is tried.
struct Row {
    name: String,
    loaded: Result<Model, String>,
}

/// Looks, loads the configured models as the agent would, tries what it is asked to try, and tells.
pub(super) fn main(args: &BackendsArgs, json: bool) -> Result<ExitCode, Failure> {
    observe::init(observe::Format::Text, log::LevelFilter::Off);
    let found = accel::probe(args.root.as_deref().unwrap_or(Path::new("/")));
    if let Some(name) = &args.example {
        return print(&example(name, &found)?);
    }
    let config = configuration(args)?;
    let options = run::infer(&config);
    let devices = Devices::new(&options);
    let rows: Vec<Row> = options.models.iter().map(|model| row(model, &devices)).collect();
    let tried = found.iter().filter(|_| args.verify).filter_map(|found| trial(found, &config, &options));
    let glm = run::glm(&config);
    let (student, language) = (student(&glm), language(&glm));
    let report = Report { trials: tried.collect(), found, rows, student, language };
    print(&if json { format!("{}\n", report.as_json()) } else { report.as_text() })
}

/// A configuration that lets the shipped model, or one of the accelerator's own format, run on the accelerator `name`.
fn example(name: &str, found: &[Found]) -> Result<String, Failure> {
    let known = || found.iter().map(|f| f.npu.id).collect::<Vec<_>>().join(", ");
    let found = found.iter().find(|f| f.npu.id == name).ok_or_else(|| {
        Failure::Failed(anyhow::anyhow!("no accelerator is called {name}; known are {}", known()))
    })?;
    let Npu { id, name, library, route, model, options, .. } = *found.npu;
    let usual = || Path::new("/usr/lib").join(library);
    let vendor = match route {
        Route::Delegate => found.library.clone().unwrap_or_else(usual),
        Route::Plugin => format!("/usr/lib/outpost/{id}.so").into(),
    };
    let origin = match route {
        Route::Delegate => "of the board's system",
        Route::Plugin => "yours: see outpost_plugin.h",
    };
    let is_plain = model.starts_with("int8");
    let bundle = if is_plain { "cold_room" } else { "/etc/outpost/freezer" };
    let takes = if is_plain {
        "the plain file of a bundle will do".into()
    } else {
        format!("put it into the bundle as a variant with \"backend\": \"{id}\"")
    };
    let (route, vendor) = (route.name(), vendor.display());
    let options = match options {
        "" => String::new(),
        told => format!("options = \"{told}\"  # at least; the board's documents tell the rest\n"),
    };
    let whole = found.npu.language.map_or(String::new(), |(_, kind)| {
        format!("\n[glm]  # a language model that its runtime runs whole, if the plug-in has the functions for it\ndevice = \"{id}\"\ndevice_model = \"/etc/outpost/chat{kind}\"\n")
    });
    Ok(format!(
        "# {name}. It takes {model}: {takes}.\n[accelerator.{id}]\n{route} = \"{vendor}\"  # {origin}\n{options}\n[[model]]\n\
         name = \"freezer\"\nbundle = \"{bundle}\"\nchannels = [\"cold1.temp\"]\nbackends = \"{id}, onnx\"\n{whole}"
    ))
}

/// The shipped model on an accelerator that was found, as configured, else with the delegate that was found.
fn trial(found: &Found, config: &AgentConfig, options: &InferOptions) -> Option<Row> {
    let id = found.npu.id;
    let configured = options.workers.iter().find(|worker| worker.name == id).cloned();
    let worker = configured.or_else(|| {
        let library = found.library.clone().filter(|_| found.npu.route == Route::Delegate)?;
        Some(run::worker(id, Vendor::Delegate { library, tflite: config.tflite.library.clone() }))
    })?;
    let options = InferOptions { workers: vec![worker], ..options.clone() };
    let loaded = load(id, Path::new(TRIED_WITH), &Devices::new(&options), &[id.into()]);
    Some(Row { name: id.into(), loaded })
}

/// The model that accelerators are tried with.
const TRIED_WITH: &str = "cold_room";

/// The file named or found; without any there are no models, and the machine can be looked at all the same.
fn configuration(args: &BackendsArgs) -> Result<AgentConfig, Failure> {
    match &args.config {
        Some(file) => Ok(sources::agent_config(Some(file))?.config),
        None => match sources::agent_config(None) {
            Ok(loaded) => Ok(loaded.config),
            Err(_) => Ok(config::parse_agent("defaults", "", ".".as_ref())?.config),
        },
    }
}

fn row(options: &ModelOptions, devices: &Devices) -> Row {
    let name = options.name.to_string();
    let loaded = load(&name, &options.bundle, devices, &options.backends);
    Row { name, loaded }
}

/// The model `name` as the agent would load it.
fn load(name: &str, bundle: &Path, devices: &Devices, backends: &[String]) -> Result<Model, String> {
    let bundle = Bundle::open(bundle).map_err(|e| e.to_string())?;
    Model::load(name, bundle, &devices.backends(backends), false).map_err(|e| e.to_string())
}

/// The student, if it may use a device.
struct Student {
    device: String,
    placed: Result<Vec<Placed>, String>,
}

/// Loads the student as the agent would, if it has a device.
fn student(options: &GlmOptions) -> Option<Student> {
    let device = options.device.as_ref().filter(|_| options.enabled)?;
    let bundle =
        options.dir.as_ref().map_or_else(student::Bundle::embedded, |dir| student::Bundle::from_dir(dir));
    let model = bundle
        .map_err(student::ModelError::from)
        .and_then(|bundle| student::Model::load_on(bundle, Some(DeviceOptions::worker(device))));
    let placed = model.map(|model| model.placed().to_vec()).map_err(|e| e.to_string());
    Some(Student { device: device.name.clone(), placed })
}

impl Student {
    /// How far the device has come with it.
    fn state(&self) -> Option<State> {
        self.placed.as_ref().ok()?.iter().map(Placed::state).max()
    }

    fn text(&self, out: &mut String) {
        let phases = match &self.placed {
            Ok(phases) => phases,
            Err(error) => {
                let _ = writeln!(out, "student: {error}");
                return;
            }
        };
        for Placed { phase, placement, tokens, verified, refused } in phases {
            let _ = write!(out, "student: {phase} on the {}", place(*placement));
            if placement.claimed > 0 {
                let _ =
                    write!(out, " of {}, runs of {} to {} tokens", self.device, tokens.start(), tokens.end());
            }
            if let Some(Verified { error, device_p50, cpu_p50 }) = verified {
                let _ = write!(
                    out,
                    "; with the device off by {error} from the CPU, {device_p50:?} per run, {cpu_p50:?} on the CPU"
                );
            }
            out.push('\n');
            refused.iter().for_each(|refused| {
                let _ = writeln!(out, "student: {phase}: {refused}");
            });
        }
    }

    fn json(&self) -> Value {
        let phase = |placed: &Placed| {
            let verified = placed.verified;
            let micros = |of: fn(Verified) -> Duration| verified.map(|v| of(v).as_nanos() as f64 / 1000.0);
            json!({
                "phase": placed.phase.name(), "placement": place(placed.placement),
                "claimed": placed.placement.claimed, "operators": placed.placement.total,
                "tokens_min": placed.tokens.start(), "tokens_max": placed.tokens.end(),
                "golden_error": verified.map(|v| v.error),
                "p50_us": micros(|v| v.device_p50), "cpu_p50_us": micros(|v| v.cpu_p50),
                "refused": placed.refused.iter().map(refused_json).collect::<Vec<_>>(),
            })
        };
        match &self.placed {
            Ok(phases) => {
                json!({ "device": self.device, "phases": phases.iter().map(phase).collect::<Vec<_>>() })
            }
            Err(error) => json!({ "device": self.device, "error": error }),
        }
    }
}

/// A language model that a device runs whole.
struct Whole {
    device: String,
    model: String,
    tried: Result<Tried, Refused>,
}

/// Begins it as the agent would, if one is configured.
fn language(options: &GlmOptions) -> Option<Whole> {
    let options = options.teller.as_ref().filter(|_| options.enabled)?;
    let tried = teller::begin(options).map(|(_, tried)| tried);
    Some(Whole { device: options.worker.name.clone(), model: options.model.clone(), tried })
}

impl Whole {
    fn text(&self, out: &mut String) {
        let Self { device, model, tried } = self;
        let _ = match tried {
            Ok(Tried { placement: Placement { claimed, total }, load, first_words }) => writeln!(
                out,
                "{model}: on the NPU of {device}, {claimed} of {total} layers, loaded in {load:.1?}, a few words in {first_words:.1?}"
            ),
            Err(refused) => writeln!(out, "{model}: {refused}"),
        };
    }

    fn json(&self) -> Value {
        let millis = |time: Duration| time.as_nanos() as f64 / 1e6;
        let tried = self.tried.as_ref();
        json!({
            "device": self.device, "model": self.model,
            "claimed": tried.map_or(0, |tried| tried.placement.claimed),
            "layers": tried.map_or(0, |tried| tried.placement.total),
            "load_ms": tried.ok().map(|tried| millis(tried.load)),
            "first_words_ms": tried.ok().map(|tried| millis(tried.first_words)),
            "refused": tried.err().map(refused_json),
        })
    }
}

/// Where a model runs. "NPU" stands here only if one has taken operators.
fn place(placement: Placement) -> String {
    match placement {
        Placement { claimed: 0, .. } => "CPU".into(),
        Placement { claimed, total } => format!("NPU, {claimed} of {total} operators"),
    }
}

/// Everything that is told.
struct Report {
    found: Vec<Found>,
    rows: Vec<Row>,
    trials: Vec<Row>,
    student: Option<Student>,
    language: Option<Whole>,
}

impl Report {
    /// How far an accelerator has come with any model. One that does well when it is tried serves nobody yet.
    fn state(&self, found: &Found) -> State {
        let of = |rows: &[Row]| {
            let models = rows.iter().filter_map(|row| row.loaded.as_ref().ok());
            models.filter_map(|model| model.state_of(found.npu.id)).max()
        };
        let tried = of(&self.trials).map(|state| state.min(State::Verified));
        let student = self.student.as_ref().filter(|student| student.device == found.npu.id);
        let student = student.and_then(Student::state);
        let language = self.language.as_ref().filter(|whole| whole.device == found.npu.id);
        let language = language.and_then(|whole| whole.tried.is_ok().then_some(State::Serving));
        let states = [Some(found.state), tried, of(&self.rows), student, language];
        states.into_iter().flatten().max().unwrap_or(found.state)
    }

    fn as_text(&self) -> String {
        let mut out = String::new();
        let (present, absent): (Vec<&Found>, Vec<&Found>) =
            self.found.iter().partition(|f| f.state != State::Absent);
        present.iter().for_each(|found| self.found_text(&mut out, found));
        if present.is_empty() {
            out.push_str("No accelerator was found; everything runs on the CPU.\n");
        }
        let names: Vec<&str> = absent.iter().map(|f| f.npu.id).collect();
        let _ = writeln!(out, "Looked for in vain: {}.\n", names.join(", "));
        self.rows.iter().for_each(|row| row_text(&mut out, row, ""));
        if self.rows.is_empty() {
            out.push_str("No small model is configured; [[model]] in outpost.toml brings one.\n");
        }
        self.student.iter().for_each(|student| student.text(&mut out));
        self.language.iter().for_each(|whole| whole.text(&mut out));
        out
    }

    fn found_text(&self, out: &mut String, found: &Found) {
        let Found { npu, devices, library, language, problems, .. } = found;
        let shown: Vec<String> = devices.iter().map(|d| d.display().to_string()).collect();
        let library = library.as_ref().map_or("no usable library".into(), |l| l.display().to_string());
        let state = self.state(found).name();
        let _ = writeln!(out, "{:<8} {state:<9} {}: {}, {library}", npu.id, npu.name, shown.join(" "));
        problems.iter().for_each(|problem| {
            let _ = writeln!(out, "         {problem}");
        });
        let (model, route) = (npu.model, npu.route.name());
        let _ =
            writeln!(out, "         takes {model}, through a {route}: outpost backends --example {}", npu.id);
        if let (Some(found), Some((_, model))) = (language, npu.language) {
            let found = found.display();
            let _ = writeln!(
                out,
                "         {found} runs language models ({model}): glm.device, through a plugin"
            );
        }
        for row in self.trials.iter().filter(|row| row.name == npu.id) {
            row_text(out, row, "         tried with cold_room on ");
        }
    }

    fn as_json(&self) -> Value {
        let accelerators = self.found.iter().map(|found| {
            let Found { npu, devices, library, language, problems, .. } = found;
            json!({
                "id": npu.id, "name": npu.name, "state": self.state(found).name(), "devices": devices,
                "library": npu.library, "library_found": library, "language_library_found": language, "route": npu.route.name(), "model": npu.model,
                "problems": problems, "tried": self.trials.iter().find(|row| row.name == npu.id).map(row_json),
            })
        });
        let models = self.rows.iter().map(row_json);
        json!({
            "accelerators": accelerators.collect::<Vec<_>>(), "models": models.collect::<Vec<_>>(),
            "student": self.student.as_ref().map(Student::json),
            "language": self.language.as_ref().map(Whole::json),
        })
    }
}

fn row_text(out: &mut String, Row { name, loaded }: &Row, before: &str) {
    let model = match loaded {
        Ok(model) => model,
        Err(error) => {
            let _ = writeln!(out, "{before}{name}: {error}");
            return;
        }
    };
    let serving = model.serving().enumerate();
    let serving = serving.map(|(rank, s)| (if rank == 0 { "serves" } else { "stands by" }, s));
    for (rank, s) in serving.chain(model.slow().iter().cloned().map(|s| ("is slower than the CPU", s))) {
        let _ = writeln!(
            out,
            "{before}{name}: {} {rank} with {} on the {}, off by {} from the golden vectors, {:?} per run",
            s.backend,
            s.file,
            place(s.placement),
            s.golden_error,
            s.p50
        );
    }
    model.refused().iter().for_each(|refused| {
        let _ = writeln!(out, "{before}{name}: {refused}");
    });
}

fn row_json(Row { name, loaded }: &Row) -> Value {
    match loaded {
        Ok(model) => json!({
            "name": name,
            "backends": model.serving().map(|s| measured(&s)).collect::<Vec<_>>(),
            "slower_than_the_cpu": model.slow().iter().map(measured).collect::<Vec<_>>(),
            "refused": model.refused().iter().map(refused_json).collect::<Vec<_>>(),
        }),
        Err(error) => json!({ "name": name, "error": error }),
    }
}

/// How a backend did.
fn measured(s: &Serving) -> Value {
    json!({
        "backend": s.backend, "file": s.file, "placement": place(s.placement),
        "claimed": s.placement.claimed, "operators": s.placement.total,
        "golden_error": s.golden_error, "p50_us": s.p50.as_nanos() as f64 / 1000.0,
    })
}

fn refused_json(refused: &Refused) -> Value {
    json!({ "backend": refused.backend, "stage": refused.stage.name(), "reason": refused.reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_accelerator_has_a_configuration_that_can_be_read() {
        let found = accel::probe(Path::new("/nowhere"));
        assert_eq!(found.len(), 10);
        for id in found.iter().map(|f| f.npu.id) {
            let text = example(id, &found).unwrap();
            let config = config::parse_agent("example", &text, ".".as_ref())
                .unwrap_or_else(|e| panic!("{text}{e}"))
                .config;
            let (accelerator, model) = (&config.accelerators[0], &config.models[0]);
            assert_eq!((accelerator.name.as_str(), model.backends[0].as_str()), (id, id));
            assert_eq!(accelerator.is_delegate, text.contains("\ndelegate = "), "{text}");
            let told = found.iter().find(|f| f.npu.id == id).unwrap().npu.options;
            assert_eq!(accelerator.options, told);
            assert_eq!(told.is_empty(), !["qnn", "tidl"].contains(&id));
        }
        let error = example("gpu", &found).unwrap_err().to_string();
        assert!(error.contains("gpu") && error.contains("vx, ethosu"), "{error}");
    }

    #[test]
    fn npu_is_never_said_of_what_claims_nothing() {
        assert_eq!(place(Placement { claimed: 0, total: 8 }), "CPU");
        assert_eq!(place(Placement { claimed: 3, total: 8 }), "NPU, 3 of 8 operators");
    }
}
