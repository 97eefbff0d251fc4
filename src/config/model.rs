//! What an operator says of small models.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::document::{Entry, Raw};
use super::kind::is_name;
use crate::frame::ModelName;
use crate::limits;
use crate::reading::ChannelId;

/// One small model and what it looks at.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Unique among the models.
    pub name: ModelName,
    /// Name of a model of this program, or the folder of a bundle.
    pub bundle: PathBuf,
    /// In the order of the bundle's manifest.
    pub channels: Vec<ChannelId>,
    /// Time from one judgement to the next.
    pub every: Duration,
    /// Names of backends in order of preference.
    pub backends: Vec<String>,
    /// The agent does not start unless the first backend does.
    pub require: bool,
}

/// TensorFlow Lite on the CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TfliteConfig {
    /// Its C library; none: where the system keeps libraries.
    pub library: Option<PathBuf>,
    /// With XNNPACK.
    pub xnnpack: bool,
    /// Longest time for one run.
    pub deadline: Duration,
}

/// An accelerator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceleratorConfig {
    /// What models call it.
    pub name: String,
    /// The vendor's code.
    pub library: PathBuf,
    /// It is an external delegate of TensorFlow Lite, else a plug-in.
    pub is_delegate: bool,
    /// For the vendor's code.
    pub options: String,
    /// Longest time for one run.
    pub deadline: Duration,
}

pub(super) fn tflite(raw: &mut Raw, base: &Path) -> TfliteConfig {
    let entry = raw.take_one("tflite");
    let library = entry.opt_text("library").map(|path| base.join(path));
    TfliteConfig { library, xnnpack: entry.flag("xnnpack"), deadline: entry.time("deadline") }
}

/// The accelerator that an entry names as its `device`, whose plug-in it needs.
pub(super) fn plugin_named(
    raw: &mut Raw,
    entry: &Entry,
    accelerators: &[AcceleratorConfig],
) -> Option<String> {
    let device = entry.opt_text("device")?;
    let hint = "bring one of this name as [accelerator.NAME], with its plugin";
    match accelerators.iter().find(|known| known.name == device) {
        None => raw.error(entry, "device", "no such accelerator", hint),
        Some(known) if known.is_delegate => {
            raw.error(entry, "device", "a delegate, which computes whole .tflite files alone", hint);
        }
        Some(_) => {}
    }
    Some(device)
}

pub(super) fn accelerators(raw: &mut Raw, base: &Path) -> Vec<AcceleratorConfig> {
    let mut accelerators = Vec::new();
    for entry in raw.take("accelerator") {
        let name = entry.name.clone();
        if !is_name(&name) || ["onnx", "tflite"].contains(&name.as_str()) {
            let hint = "use its id from `outpost backends`, such as hailo";
            raw.error(&entry, "", "not a name for an accelerator", hint);
        }
        let (options, deadline) = (entry.text("options"), entry.time("deadline"));
        let (library, is_delegate) = match (entry.opt_text("delegate"), entry.opt_text("plugin")) {
            (Some(delegate), None) => (delegate, true),
            (None, Some(plugin)) => (plugin, false),
            (found, _) => {
                if !raw.is_flawed(&entry, "delegate") && !raw.is_flawed(&entry, "plugin") {
                    let problem =
                        if found.is_some() { "beside a plugin" } else { "missing, and no plugin either" };
                    let hint = "name one of them; `outpost backends` says which the accelerator has";
                    raw.error(&entry, "delegate", problem, hint);
                }
                continue;
            }
        };
        accelerators.push(AcceleratorConfig {
            name,
            library: base.join(library),
            is_delegate,
            options,
            deadline,
        });
    }
    accelerators
}

pub(super) fn models(raw: &mut Raw, base: &Path) -> Vec<ModelConfig> {
    let entries = raw.take("model");
    if let Some(first_beyond) = entries.get(limits::MODELS_MAX) {
        let problem = format!("more than {} models", limits::MODELS_MAX);
        raw.error(first_beyond, "", problem, "look at fewer channels with them");
    }
    let mut names = BTreeSet::new();
    let mut models = Vec::new();
    for entry in entries.iter().take(limits::MODELS_MAX) {
        let Some(model) = model(raw, entry, base) else { continue };
        if !names.insert(model.name) {
            raw.error(entry, "name", "used twice", "give each model a name of its own");
        }
        models.push(model);
    }
    models
}

fn model(raw: &mut Raw, entry: &Entry, base: &Path) -> Option<ModelConfig> {
    for (key, example) in
        [("name", "\"cold_room\""), ("bundle", "\"cold_room\""), ("channels", "[\"cold1.temp\"]")]
    {
        if !entry.is_written(key) && !raw.is_flawed(entry, key) {
            raw.error(entry, key, "missing", format!("write for example {key} = {example}"));
        }
    }
    let name = entry.opt_text("name")?;
    let parsed = ModelName::new(&name);
    if parsed.is_none() {
        let allowed = format!("use 1 to {} characters of A-Z a-z 0-9 _ - .", limits::MODEL_NAME_BYTES_MAX);
        raw.error(entry, "name", "not a name for a model", allowed);
    }
    let backends: Vec<String> =
        entry.text("backends").split(',').map(|name| name.trim().to_owned()).collect();
    if backends.iter().any(String::is_empty) {
        raw.error(
            entry,
            "backends",
            "an empty name",
            "write names parted by single commas: \"tflite, onnx\"",
        );
    }
    let bundle = entry.opt_text("bundle")?;
    Some(ModelConfig {
        name: parsed?,
        // One word is a model of this program; a folder has a slash, or stands beside the file.
        bundle: if base.join(&bundle).is_dir() { base.join(bundle) } else { bundle.into() },
        channels: entry.opt_texts("channels")?.iter().filter_map(|name| ChannelId::new(name).ok()).collect(),
        every: entry.time("every"),
        backends,
        require: entry.text("policy") == "require",
    })
}
