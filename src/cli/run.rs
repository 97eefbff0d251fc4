//! `outpost run`: the configuration into the options of the gateway seat's rooms.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::args::RunArgs;
use super::exit::Failure;
use super::{field, hardware, kv_format, link, signals, sources};
use crate::accel::TFLITE;
use crate::accel::worker::{Patience, Vendor, WorkerOptions};
use crate::agent::assemble::{AssembleOptions, ChannelBook, ChannelOptions};
use crate::agent::{self, AgentOptions, Order, Reload};
use crate::calibrate::Treatment;
use crate::config::{
    self, AcceleratorConfig, Ack, AgentConfig, ChannelRule, ConfigError, LinesInput, ModelChoice,
    ModelConfig, Payload, SourceConfig, SourceKind, SpoolConfig, TfliteConfig,
};
use crate::detect::{LimitOptions, RateOptions};
use crate::glm::bundle;
use crate::glm::engine::EngineOptions;
use crate::glm::{GlmOptions, GovernorOptions, SpeakerOptions, TellerOptions};
use crate::http::HttpOptions;
use crate::infer::{InferOptions, ModelOptions, Policy};
use crate::observe;
use crate::sensor::{CsvOptions, HostOptions, Input, LinesOptions, Precision, ReplayOptions, SourceOptions};
use crate::spool::{self, WhenFull};
use crate::sync::uplink::{AckMode, UplinkOptions};
use crate::window::WindowOptions;
use crate::wire::{Lane, PerLane};

/// Runs the seat until a signal.
pub(super) fn main(args: &RunArgs) -> Result<ExitCode, Failure> {
    let loaded = sources::agent_config(args.config.as_deref())?;
    observe::init(loaded.config.log.format, loaded.config.log.level);
    loaded.warnings.iter().for_each(|w| eprintln!("{w}"));
    let (told, orders) = smol::channel::bounded(1);
    let (file, running) = (sources::file(&config::AGENT, args.config.as_deref()), loaded.config.clone());
    // A seat that is ending takes no more orders, and none is needed.
    let reload = move || drop(told.send_blocking(order(&file, &running)));
    let stop = signals::stop_and(reload).map_err(|e| Failure::Failed(e.into()))?;
    agent::run(options(loaded.config), stop, orders).map_err(|e| Failure::Failed(e.into()))?;
    Ok(ExitCode::SUCCESS)
}

/// What the file says now, beside what the seat was started with.
fn order(file: &Path, running: &AgentConfig) -> Order {
    match config::load_agent(file) {
        Err(mistakes) => Order::Refuse(in_brief(&mistakes)),
        Ok(loaded) => {
            loaded.warnings.iter().for_each(|w| eprintln!("{w}"));
            let assemble = assemble(&loaded.config);
            Order::Apply(Reload {
                sources: loaded.config.sources.iter().flat_map(|one| source(one, &loaded.config)).collect(),
                channels: assemble.channels,
                raw: assemble.raw,
                restart: needs_restart(running, &loaded.config),
            })
        }
    }
}

/// The first mistakes on one line: `outpost check` tells them all.
fn in_brief(mistakes: &ConfigError) -> String {
    let told: Vec<String> = mistakes.problems.iter().take(PROBLEMS_TOLD).map(ToString::to_string).collect();
    match mistakes.problems.len().saturating_sub(PROBLEMS_TOLD) {
        0 => told.join(" | "),
        n => format!("{} | and {n} more", told.join(" | ")),
    }
}

/// A notice of them stays far below a block.
const PROBLEMS_TOLD: usize = 5;

/// The parts of the file that a running seat can't follow and that differ.
fn needs_restart(running: &AgentConfig, now: &AgentConfig) -> Vec<&'static str> {
    let (a, b) = (running, now);
    let line = |c: &AgentConfig| (c.mqtt.clone(), c.heartbeat_every, c.ack, c.payload);
    let parts = [
        ("device", a.device == b.device),
        ("data_dir", a.data_dir == b.data_dir),
        ("language", a.language == b.language),
        ("[mqtt]", line(a) == line(b)),
        ("[spool]", a.spool == b.spool),
        ("[uplink]", a.budget == b.budget),
        ("[windows]", a.windows == b.windows),
        ("[digest]", a.digest == b.digest),
        ("[glm]", a.glm == b.glm),
        ("[[model]]", a.models == b.models),
        ("[[group]]", a.groups == b.groups),
        ("[[rule]]", a.rules == b.rules),
        ("[[accelerator]]", a.accelerators == b.accelerators),
        ("[tflite]", a.tflite == b.tflite),
        ("[http]", a.http == b.http),
        ("[log]", a.log == b.log),
    ];
    parts.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}

/// What the configuration means for the seat.
pub(super) fn options(config: AgentConfig) -> AgentOptions {
    let link = link::options(&config.mqtt);
    AgentOptions {
        prefix: config.mqtt.prefix.clone(),
        lang: config.language,
        uplink: UplinkOptions {
            ack: match config.ack {
                Ack::Aggregator => AckMode::Aggregator,
                Ack::Broker => AckMode::Broker,
            },
            window_blocks: usize::from(config.mqtt.window),
            backfill_share_percent: config.backfill_share_percent,
            ..UplinkOptions::default()
        },
        link,
        budget: config.budget.clone(),
        heartbeat_every: config.heartbeat_every,
        spool_dir: config.data_dir.join("spool"),
        spool: spool::Options {
            bytes_max: config.spool.bytes_max,
            lane_bytes_max: config.spool.lane_bytes_max,
            commit_interval: config.spool.commit_interval,
            disk_free_bytes_min: config.spool.disk_free_bytes_min,
            when_full: when_full(&config.spool),
            payload: match config.payload {
                Payload::Blocks => spool::Payload::Wire,
                Payload::Json => spool::Payload::Json { device: config.device.clone() },
            },
            ..spool::Options::default()
        },
        sources: config.sources.iter().flat_map(|one| source(one, &config)).collect(),
        digests: config.digest.enabled,
        digest_every: config.digest.every,
        offline_after: config.digest.offline_after,
        glm: glm(&config),
        infer: infer(&config),
        chat: config.glm.chat && config.http.listen.ip().is_loopback(),
        http: HttpOptions {
            addr: config.http.listen,
            allow_remote: config.http.allow_remote,
            ..HttpOptions::default()
        },
        assemble: assemble(&config),
        device: config.device,
    }
}

/// Windows, limits and names for the assembler; `replay` judges by the same.
pub(super) fn assemble(config: &AgentConfig) -> AssembleOptions {
    let length_ms = millis(config.windows.length);
    let windows = WindowOptions {
        length_ms,
        hop_ms: millis(config.windows.hop),
        lateness_ms: millis(config.windows.lateness),
        kind: config.windows.kind,
        gap_ms: millis(config.windows.gap),
        detail: config.windows.detail,
    };
    let rules = config.clone();
    AssembleOptions {
        windows,
        raw: config.raw_keep,
        clip_readings: config.raw_clip,
        groups: config.groups.clone(),
        rules: config.rules.clone(),
        channels: ChannelBook::new(move |channel| channel_options(rules.channel(channel.as_str()))),
        ..AssembleOptions::default()
    }
}

/// The language models as configured: the student inside the program if nothing is said; a folder is an imported model, beside
/// which the student stays, or another student. None where digests are off.
pub(super) fn glm(config: &AgentConfig) -> GlmOptions {
    let dir = match &config.digest.model {
        ModelChoice::Builtin => None,
        ModelChoice::Folder(dir) => Some(dir.clone()),
    };
    let (speaker, dir) = match dir {
        Some(dir) if dir.join(bundle::WEIGHTS).exists() => (Some(speaker(config, dir)), None),
        dir => (None, dir),
    };
    let governor = GovernorOptions {
        temperature_max_celsius: Some(config.glm.temperature_max_celsius),
        load_max: config.glm.load_max,
        ..GovernorOptions::default()
    };
    let named = |name: &str| config.accelerators.iter().find(|accelerator| accelerator.name == name);
    let device = config.digest.device.as_deref().and_then(named).map(|named| accelerator(config, named));
    let teller = config.glm.device.as_ref();
    let teller = teller.and_then(|(name, model)| Some(teller_options(config, named(name)?, model)));
    let enabled = config.digest.enabled;
    GlmOptions { enabled, dir, speaker, teller, device, governor, ..GlmOptions::default() }
}

/// A language model that the accelerator's runtime runs whole.
fn teller_options(config: &AgentConfig, named: &AcceleratorConfig, model: &Path) -> TellerOptions {
    let glm = &config.glm;
    let vendor = Vendor::Language {
        library: named.library.clone(),
        model: model.to_owned(),
        memory_bytes_max: glm.memory_bytes_max.unwrap_or(u64::MAX),
    };
    TellerOptions {
        worker: WorkerOptions { vendor, ..accelerator(config, named) },
        model: model.file_name().unwrap_or(model.as_os_str()).to_string_lossy().into_owned(),
        patience: Patience::default(),
        answer_tokens_max: glm.answer_tokens_max,
        digest_budget: glm.digest_budget,
        idle_unload: glm.idle_unload,
    }
}

/// The small models as configured.
pub(super) fn infer(config: &AgentConfig) -> InferOptions {
    let model = |model: &ModelConfig| ModelOptions {
        name: model.name,
        bundle: model.bundle.clone(),
        channels: model.channels.clone(),
        every: model.every,
        backends: model.backends.clone(),
        policy: if model.require { Policy::Require } else { Policy::Prefer },
    };
    let accelerators = config.accelerators.iter().map(|one| accelerator(config, one));
    InferOptions {
        models: config.models.iter().map(model).collect(),
        workers: accelerators.chain([tflite(&config.tflite)]).collect(),
        is_patient: false,
    }
}

fn tflite(TfliteConfig { library, xnnpack, deadline }: &TfliteConfig) -> WorkerOptions {
    let vendor = Vendor::Lite { library: library.clone(), xnnpack: *xnnpack };
    WorkerOptions { deadline: *deadline, ..worker(TFLITE, vendor) }
}

fn accelerator(config: &AgentConfig, accelerator: &AcceleratorConfig) -> WorkerOptions {
    let library = accelerator.library.clone();
    let vendor = match accelerator.is_delegate {
        true => Vendor::Delegate { library, tflite: config.tflite.library.clone() },
        false => Vendor::Plugin { library },
    };
    WorkerOptions {
        options: accelerator.options.clone(),
        deadline: accelerator.deadline,
        ..worker(&accelerator.name, vendor)
    }
}

/// A worker process for the accelerator `name`, with nothing to tell its vendor's code.
pub(super) fn worker(name: &str, vendor: Vendor) -> WorkerOptions {
    WorkerOptions {
        name: name.into(),
        // A program whose file was replaced while it runs is not found again: then its accelerators are missing.
        program: std::env::current_exe().unwrap_or_default(),
        vendor,
        options: String::new(),
        deadline: Duration::from_millis(500),
    }
}

fn speaker(config: &AgentConfig, dir: PathBuf) -> SpeakerOptions {
    let glm = &config.glm;
    let defaults = EngineOptions::default();
    let engine = EngineOptions {
        threads: glm.threads.unwrap_or(defaults.threads.min(MODEL_THREADS_MAX)),
        // One more for the instruction of digests.
        slots: glm.batch_max + 1,
        context_tokens: glm.context_tokens,
        kv_format: kv_format(glm.kv),
        memory_bytes_max: glm.memory_bytes_max,
        ..defaults
    };
    SpeakerOptions {
        dir,
        engine,
        answer_tokens_max: glm.answer_tokens_max,
        digest_budget: glm.digest_budget,
        idle_unload: glm.idle_unload,
        lang: config.language,
        prefix_file: Some(config.data_dir.join(PREFIX_FILE)),
    }
}

/// The cache of the bigger model's instruction, beside the spool.
const PREFIX_FILE: &str = "glm-prefix";
/// More threads than memory can feed.
const MODEL_THREADS_MAX: usize = 8;

fn channel_options(rule: ChannelRule) -> ChannelOptions {
    let limits = LimitOptions {
        warn_high: rule.limit_high_warn,
        alarm_high: rule.limit_high_critical,
        warn_low: rule.limit_low_warn,
        alarm_low: rule.limit_low_critical,
        hysteresis: rule.hysteresis.unwrap_or(0.0),
        dwell_s: rule.dwell.map_or(0, |d| u32::try_from(d.as_secs()).unwrap_or(u32::MAX)),
        rate: RateOptions { warn: rule.rate_warn, alarm: rule.rate_critical },
        times: rule.limit_times,
    };
    let any = LimitOptions { hysteresis: 0.0, dwell_s: 0, times: None, ..limits } != LimitOptions::default();
    ChannelOptions {
        label: rule.label,
        asset: rule.asset,
        unit: rule.unit,
        source_unit: rule.source_unit,
        treatment: Treatment {
            table: rule.table.map(Into::into),
            scale: rule.scale,
            offset: rule.offset,
            conversion: None,
            range_low: rule.range_low,
            range_high: rule.range_high,
        },
        quantity: rule.quantity,
        limits: any.then_some(limits),
        raw: None,
        learning: rule.detect,
    }
}

/// A source of several recordings is one source per recording.
fn source(source: &SourceConfig, agent: &AgentConfig) -> Vec<(String, SourceOptions)> {
    let one = |options| vec![(source.name.clone(), options)];
    match &source.kind {
        SourceKind::Host { interval, mounts } => one(SourceOptions::Host(HostOptions {
            interval: *interval,
            mounts: mounts.clone(),
            ..HostOptions::default()
        })),
        SourceKind::Replay { paths, speed, repeat, channel_prefix } => paths
            .iter()
            .enumerate()
            .map(|(index, path)| {
                let name =
                    if index == 0 { source.name.clone() } else { format!("{}-{}", source.name, index + 1) };
                let options = ReplayOptions {
                    path: path.clone(),
                    csv: CsvOptions { channel_prefix: channel_prefix.clone() },
                    speed: *speed,
                    repeat: *repeat,
                    shift_to: None,
                };
                (name, SourceOptions::Replay(options))
            })
            .collect(),
        SourceKind::Lines { input, precision_ns } => {
            let (input, allow_remote) = match input {
                LinesInput::Stdin => (Input::Stdin, false),
                LinesInput::Unix(path) => (Input::Unix(path.clone()), false),
                LinesInput::Tcp { listen, allow_remote } => (Input::Tcp(*listen), *allow_remote),
            };
            one(SourceOptions::Lines(LinesOptions {
                input,
                precision: precision(*precision_ns),
                allow_remote,
            }))
        }
        SourceKind::Field(config) => one(field::source(&source.name, config, agent)),
        kind => hardware::source(&source.name, kind).into_iter().map(|o| (source.name.clone(), o)).collect(),
    }
}

pub(super) fn precision(ns: u64) -> Precision {
    match ns {
        1_000_000_000 => Precision::Seconds,
        1_000_000 => Precision::Millis,
        1_000 => Precision::Micros,
        _ => Precision::Nanos,
    }
}

fn millis(d: Duration) -> u32 {
    u32::try_from(d.as_millis()).unwrap_or(u32::MAX)
}

fn when_full(config: &SpoolConfig) -> PerLane<WhenFull> {
    let mut policies = spool::Options::default().when_full;
    let named = [(Lane::Raw, &config.raw_when_full), (Lane::Metric, &config.metric_when_full)];
    for (lane, name) in named {
        if let Some(policy) = WhenFull::from_name(name) {
            policies[lane.index()] = policy;
        }
    }
    policies
}
