//! `outpost backends`: which accelerators this machine has, and what runs each small model.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::exit::Failure;
use super::machine_args::BackendsArgs;
use super::{print, run, sources};
use crate::accel::{self, Found, Placement, State};
use crate::config::{self, AgentConfig};
use crate::infer::{Bundle, Devices, Model, ModelOptions};
use crate::observe;

/// What became of one configured model.
struct Row {
    name: String,
    loaded: Result<Model, String>,
}

/// Looks, loads the configured models as the agent would, and tells.
pub(super) fn main(args: &BackendsArgs, json: bool) -> Result<ExitCode, Failure> {
    observe::init(observe::Format::Text, log::LevelFilter::Off);
    let config = configuration(args)?;
    let found = accel::probe(args.root.as_deref().unwrap_or(Path::new("/")));
    let options = run::infer(&config);
    let devices = Devices::new(&options);
    let rows: Vec<Row> = options.models.iter().map(|model| row(model, &devices)).collect();
    print(&if json { format!("{}\n", as_json(&found, &rows)) } else { as_text(&found, &rows) })
}

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
    let loaded = Bundle::open(&options.bundle).map_err(|e| e.to_string()).and_then(|bundle| {
        Model::load(&name, bundle, &devices.backends(&options.backends), false).map_err(|e| e.to_string())
    });
    Row { name, loaded }
}

/// Where a model runs. "NPU" stands here only if one has taken operators.
fn place(placement: Placement) -> String {
    match placement {
        Placement { claimed: 0, .. } => "CPU".into(),
        Placement { claimed, total } => format!("NPU, {claimed} of {total} operators"),
    }
}

fn as_text(found: &[Found], rows: &[Row]) -> String {
    let mut out = String::new();
    let (present, absent): (Vec<&Found>, Vec<&Found>) = found.iter().partition(|f| f.state != State::Absent);
    for Found { npu, state, devices, library, problems } in &present {
        let shown: Vec<String> = devices.iter().map(|d| d.display().to_string()).collect();
        let library = library.as_ref().map_or("no usable library".into(), |l| l.display().to_string());
        let _ =
            writeln!(out, "{:<8} {:<9} {}: {}, {library}", npu.id, state.name(), npu.name, shown.join(" "));
        problems.iter().for_each(|problem| {
            let _ = writeln!(out, "         {problem}");
        });
        let _ = writeln!(
            out,
            "         takes {}, through a {} of [accelerator.{}]",
            npu.model,
            npu.route.name(),
            npu.id
        );
    }
    if present.is_empty() {
        out.push_str("No accelerator was found; everything runs on the CPU.\n");
    }
    let names: Vec<&str> = absent.iter().map(|f| f.npu.id).collect();
    let _ = writeln!(out, "Looked for in vain: {}.\n", names.join(", "));
    for Row { name, loaded } in rows {
        match loaded {
            Ok(model) => model_text(&mut out, name, model),
            Err(error) => {
                let _ = writeln!(out, "{name}: {error}");
            }
        }
    }
    if rows.is_empty() {
        out.push_str("No small model is configured; [[model]] in outpost.toml brings one.\n");
    }
    out
}

fn model_text(out: &mut String, name: &str, model: &Model) {
    let serving: Vec<_> = model.serving().collect();
    for (rank, s) in serving.iter().enumerate() {
        let rank = if rank == 0 { "serves" } else { "stands by" };
        let _ = writeln!(
            out,
            "{name}: {} {rank} with {} on the {}, off by {} from the golden vectors, {:?} per run",
            s.backend,
            s.file,
            place(s.placement),
            s.golden_error,
            s.p50
        );
    }
    model.refused().iter().for_each(|refused| {
        let _ = writeln!(out, "{name}: {refused}");
    });
}

fn as_json(found: &[Found], rows: &[Row]) -> Value {
    let accelerators = found.iter().map(|Found { npu, state, devices, library, problems }| {
        json!({
            "id": npu.id, "name": npu.name, "state": state.name(), "devices": devices, "library": npu.library,
            "library_found": library, "route": npu.route.name(), "model": npu.model, "problems": problems,
        })
    });
    let models = rows.iter().map(|Row { name, loaded }| match loaded {
        Ok(model) => json!({
            "name": name,
            "backends": model.serving().map(|s| json!({
                "backend": s.backend, "file": s.file, "placement": place(s.placement),
                "claimed": s.placement.claimed, "operators": s.placement.total,
                "golden_error": s.golden_error, "p50_us": s.p50.as_nanos() as f64 / 1000.0,
            })).collect::<Vec<_>>(),
            "refused": model.refused().iter().map(|r| json!({
                "backend": r.backend, "stage": r.stage.name(), "reason": r.reason,
            })).collect::<Vec<_>>(),
        }),
        Err(error) => json!({ "name": name, "error": error }),
    });
    json!({ "accelerators": accelerators.collect::<Vec<_>>(), "models": models.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npu_is_never_said_of_what_claims_nothing() {
        assert_eq!(place(Placement { claimed: 0, total: 8 }), "CPU");
        assert_eq!(place(Placement { claimed: 3, total: 8 }), "NPU, 3 of 8 operators");
    }
}
