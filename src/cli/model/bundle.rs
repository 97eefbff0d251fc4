//! `outpost model import`, `verify` and `list`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::progress::Progress;
use super::{failed, parameters_text, size_text, threads};
use crate::cli::args::WeightFormat;
use crate::cli::exit::Failure;
use crate::cli::model_args::ImportArgs;
use crate::cli::{Style, print};
use crate::glm::bundle::{self, Bundle, Verified};
use crate::glm::import::{self, ImportError, ImportOptions, SourceKind, Step};
use crate::glm::kernels::Format;
use crate::limits;

/// Makes a bundle and says what it made.
pub(super) fn import(args: &ImportArgs, as_json: bool, style: Style) -> Result<ExitCode, Failure> {
    let target = args.to.clone().unwrap_or_else(|| beside(&args.source));
    let options = ImportOptions {
        body: args.body.map(format),
        ends: args.ends.map(format),
        threads: threads(args.threads),
        replace: args.replace,
    };
    if !as_json {
        let (from, to) = (args.source.display(), target.display());
        eprintln!("{from} into {to}, in pieces: {}", memory_text(&args.source, options.threads));
    }
    let mut shown: Option<(Step, Progress)> = None;
    let imported = import::import(&args.source, &target, &options, &mut |progress| {
        let what = match progress.step {
            Step::Resume => "checking what an interrupted import has left",
            Step::Weights => "weights",
        };
        if shown.as_ref().is_none_or(|(step, _)| *step != progress.step)
            && let Some((_, before)) = shown.replace((progress.step, Progress::new(what, as_json)))
        {
            before.finish();
        }
        if let Some((_, bar)) = &mut shown {
            bar.tell(progress.done, progress.total);
        }
    });
    if let Some((_, bar)) = shown {
        bar.finish();
    }
    if let Err(error) = &imported
        && !error.is_lasting()
        && !matches!(error, ImportError::Exists { .. })
        && let Some(left) = import::partial_dir(&target).filter(|dir| dir.exists())
    {
        eprintln!(
            "What there is so far is kept in {}: the same command goes on there, or remove it.",
            left.display()
        );
    }
    let imported = imported.map_err(failed)?;
    let bundle = Bundle::open(&imported.dir).map_err(failed)?;
    if as_json {
        let mut value = described(&bundle);
        value["dir"] = imported.dir.display().to_string().into();
        value["notes"] = json!(imported.notes);
        return print(&format!("{value}\n"));
    }
    let notes: String = imported.notes.iter().map(|note| format!("  {note}\n")).collect();
    print(&format!(
        "{} {}\n{notes}try it: outpost model chat {}\nuse it: model = \"{}\" under [digest] in outpost.toml\n",
        style.green(&imported.dir.display().to_string()),
        told(&bundle),
        imported.dir.display(),
        imported.dir.display(),
    ))
}

/// Reads all of a bundle and compares.
pub(super) fn verify(
    dir: &Path,
    asked: Option<usize>,
    as_json: bool,
    style: Style,
) -> Result<ExitCode, Failure> {
    let bundle = Bundle::open(dir).map_err(failed)?;
    let mut progress = Progress::new("hashes", as_json);
    let verified = bundle.verify(threads(asked), &mut |done, total| progress.tell(done, total));
    progress.finish();
    let Verified { bytes, golden } = verified.map_err(failed)?;
    if as_json {
        let mut value = described(&bundle);
        value["ok"] = true.into();
        value["bytes_hashed"] = bytes.into();
        value["golden_tokens"] = golden.into();
        return print(&format!("{value}\n"));
    }
    let golden = match golden {
        Some(tokens) => format!("{tokens} golden tokens found again"),
        None => "no golden tokens to compare".into(),
    };
    print(&format!("{} {}, {} hashed, {golden}\n", style.green("sound:"), told(&bundle), size_text(bytes)))
}

/// One line per bundle below `dir`.
pub(super) fn list(dir: &Path, as_json: bool, style: Style) -> Result<ExitCode, Failure> {
    let listed = bundle::list(dir).map_err(failed)?;
    if as_json {
        let rows: Vec<Value> = listed
            .iter()
            .map(|row| {
                let mut value = match &row.bundle {
                    Ok(bundle) => described(bundle),
                    Err(e) => json!({ "error": e.to_string() }),
                };
                value["name"] = row.name.clone().into();
                value["dir"] = row.path.display().to_string().into();
                value
            })
            .collect();
        return print(&format!("{}\n", Value::from(rows)));
    }
    if listed.is_empty() {
        eprintln!("no bundle in {}; `outpost model import` makes one", dir.display());
    }
    let width = listed.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let rows = listed.iter().map(|row| {
        let name = style.bold(&format!("{:width$}", row.name));
        match &row.bundle {
            Ok(bundle) => format!("{name}  {}\n", told(bundle)),
            Err(e) => format!("{name}  {}\n", style.red(&e.to_string())),
        }
    });
    print(&rows.collect::<String>())
}

/// What a bundle is, in one line.
fn told(bundle: &Bundle) -> String {
    let (arch, origin) = (bundle.arch(), &bundle.manifest().source);
    format!(
        "{} of {} weights in {}, {} layers, {} on disk, model {}, from {} {}",
        arch.family.name(),
        parameters_text(bundle.parameters()),
        bundle.body_format(),
        arch.layers,
        size_text(bundle.bytes()),
        bundle.id(),
        origin.kind,
        origin.name,
    )
}

fn described(bundle: &Bundle) -> Value {
    let (arch, origin) = (bundle.arch(), &bundle.manifest().source);
    json!({
        "model": bundle.id(),
        "family": arch.family.name(),
        "parameters": bundle.parameters(),
        "format": bundle.body_format(),
        "layers": arch.layers,
        "hidden": arch.hidden,
        "vocab": arch.vocab,
        "context_tokens": arch.context_tokens_max,
        "bytes": bundle.bytes(),
        "tokenizer": bundle.manifest().tokenizer.is_some(),
        "template": bundle.manifest().template.is_some(),
        "source": { "kind": origin.kind, "name": origin.name },
    })
}

/// How much memory an import takes at most.
fn memory_text(source: &Path, threads: usize) -> String {
    let pieces = threads.min(limits::IMPORT_THREADS_MAX) * MIB_PER_THREAD;
    match import::kind_of(source) {
        Ok(SourceKind::Onnx) => format!(
            "at most about {pieces} MiB of memory; before, the graph is run for comparison, which takes {} times the size of its \
             weights in f32, if those are no more than {} MiB and there is room",
            import::PROBE_COPIES,
            limits::IMPORT_PROBE_BYTES_MAX >> 20,
        ),
        // What is no checkpoint is told by the import itself.
        _ => format!("at most about {pieces} MiB of memory"),
    }
}

/// `glm-edge.bundle` in the working directory for `/models/glm-edge.gguf`.
fn beside(source: &Path) -> PathBuf {
    let name = match source.extension() {
        Some(_) if source.is_file() => source.file_stem(),
        _ => source.file_name(),
    };
    let name = name.map_or_else(|| "model".into(), |name| name.to_string_lossy());
    PathBuf::from(format!("{name}.bundle"))
}

fn format(format: WeightFormat) -> Format {
    match format {
        WeightFormat::Q4 => Format::Q4_0,
        WeightFormat::Q8 => Format::Q8_0,
        WeightFormat::F32 => Format::F32,
    }
}

/// What one thread of the import holds at most, beside names and the tokenizer.
const MIB_PER_THREAD: usize = 10;
