//! What an operator says of a language model of his own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::agent::{DigestConfig, ModelChoice};
use super::common::HttpConfig;
use super::document::{Entry, Raw};
use super::model::{self, AcceleratorConfig};
use crate::reading::named_enum;

named_enum! {
    /// How keys and values are kept.
    KvKind { F16 = "f16", Int8 = "int8", F32 = "f32" }
}

/// How an imported model is run.
#[derive(Debug, Clone, PartialEq)]
pub struct GlmConfig {
    /// The accelerator whose runtime runs a language model whole, and the model's file.
    pub device: Option<(String, PathBuf)>,
    /// Threads; none: one per processor.
    pub threads: Option<usize>,
    /// Most bytes, weights included; none: what is free.
    pub memory_bytes_max: Option<u64>,
    /// Tokens of a prompt and its answer.
    pub context_tokens: usize,
    /// Keys and values.
    pub kv: KvKind,
    /// Most sequences at a time.
    pub batch_max: usize,
    /// Longest answer.
    pub answer_tokens_max: usize,
    /// Longest time for the words of a digest.
    pub digest_budget: Duration,
    /// Time without work after which it is unloaded.
    pub idle_unload: Duration,
    /// Above this it waits.
    pub temperature_max_celsius: f64,
    /// Share of the processors; none: it never waits for others.
    pub load_max: Option<f64>,
    /// The chat endpoint is served.
    pub chat: bool,
}

pub(super) fn glm(
    raw: &mut Raw,
    base: &Path,
    accelerators: &[AcceleratorConfig],
    digest: &DigestConfig,
    http: &HttpConfig,
) -> GlmConfig {
    let entry = raw.take_one("glm");
    let count = |n: i64| usize::try_from(n).unwrap_or(usize::MAX);
    let config = GlmConfig {
        device: device(raw, &entry, base, accelerators),
        threads: entry.opt_integer("threads").map(count),
        memory_bytes_max: entry.opt_size("memory_max"),
        context_tokens: count(entry.integer("context_tokens")),
        kv: KvKind::from_name(&entry.text("kv_format")).unwrap_or(KvKind::F16),
        batch_max: count(entry.integer("batch_max")),
        answer_tokens_max: count(entry.integer("answer_tokens_max")),
        digest_budget: entry.time("digest_budget"),
        idle_unload: entry.time("idle_unload"),
        temperature_max_celsius: entry.number("temperature_max"),
        load_max: Some(entry.number("load_max")).filter(|share| *share < 1.0),
        chat: entry.flag("chat"),
    };
    if config.answer_tokens_max >= config.context_tokens {
        let hint = "leave room for the prompt: make it half of context_tokens at most";
        raw.error(&entry, "answer_tokens_max", "not below context_tokens", hint);
    }
    let is_there = digest.model != ModelChoice::Builtin || config.device.is_some();
    if config.chat && !(is_there && digest.enabled) {
        let hint =
            "set digest.model to the folder of a model that `outpost model import` made, or glm.device";
        raw.error(&entry, "chat", "there is no model that can chat", hint);
    }
    if config.chat && !http.listen.ip().is_loopback() {
        let hint = "let http.listen be a loopback address such as 127.0.0.1, or leave chat off";
        raw.error(&entry, "chat", "others could use the model without a password", hint);
    }
    config
}

fn device(
    raw: &mut Raw,
    entry: &Entry,
    base: &Path,
    accelerators: &[AcceleratorConfig],
) -> Option<(String, PathBuf)> {
    let device = model::plugin_named(raw, entry, accelerators);
    match (device, entry.opt_text("device_model")) {
        (Some(device), Some(model)) => Some((device, base.join(model))),
        (Some(_), None) => {
            let hint = "name the file that the vendor's converter made, such as a .rkllm";
            raw.error(entry, "device_model", "missing: the device needs a model of its own", hint);
            None
        }
        (None, Some(_)) => {
            let hint = "name the accelerator that runs it as glm.device";
            raw.error(entry, "device_model", "there is no device to run it", hint);
            None
        }
        (None, None) => None,
    }
}
