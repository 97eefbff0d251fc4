//! The agent's configuration as meant: defaults filled in, relations between keys checked.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::common::{self, Ack, HttpConfig, LogConfig, MqttConfig, Payload};
use super::document::{Entry, Raw};
use super::field::{self, FieldConfig};
use super::glm::{self, GlmConfig};
use super::hardware::{self, ChipConfig, LineConfig};
use super::kind::bytes_text;
use super::modbus;
use super::model::{self, AcceleratorConfig, ModelConfig, TfliteConfig};
use super::together;
use crate::detect::{Duty, GroupOptions, RuleOptions};
use crate::digest::Lang;
use crate::glob;
use crate::limits;
use crate::reading::{Quantity, Unit};
use crate::sync::budget::{self, BudgetOptions};
use crate::units::{self, Conversion};
use crate::window::WindowKind;
use crate::wire::{Lane, PerLane};

/// Everything an agent can be told. Paths are absolute or count from the working directory.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentConfig {
    /// Name of this gateway: a level of every topic.
    pub device: String,
    /// Folder of the spool and of what is learnt.
    pub data_dir: PathBuf,
    /// Language of digests.
    pub language: Lang,
    /// The line.
    pub mqtt: MqttConfig,
    /// Time between heartbeats.
    pub heartbeat_every: Duration,
    /// Who releases what is kept.
    pub ack: Ack,
    /// What is published.
    pub payload: Payload,
    /// What is kept on disk.
    pub spool: SpoolConfig,
    /// What the line may carry.
    pub budget: BudgetOptions,
    /// What backfill keeps of a lane while live blocks flow, in percent.
    pub backfill_share_percent: u8,
    /// Whether single readings are kept and sent.
    pub raw_keep: bool,
    /// Readings on either side of the begin of an episode that are kept all the same.
    pub raw_clip: usize,
    /// Summaries.
    pub windows: WindowsConfig,
    /// Digests.
    pub digest: DigestConfig,
    /// A language model of the operator's own.
    pub glm: GlmConfig,
    /// The status page.
    pub http: HttpConfig,
    /// The log.
    pub log: LogConfig,
    /// At least one, at most [`limits::SOURCES_MAX`].
    pub sources: Vec<SourceConfig>,
    /// Small models, in the order of the file, at most [`limits::MODELS_MAX`].
    pub models: Vec<ModelConfig>,
    /// TensorFlow Lite on the CPU.
    pub tflite: TfliteConfig,
    /// Accelerators that models may name.
    pub accelerators: Vec<AcceleratorConfig>,
    /// Channels that are judged together, at most [`limits::GROUPS_MAX`].
    pub groups: Vec<GroupOptions>,
    /// Rules over several channels, at most [`limits::RULES_MAX`].
    pub rules: Vec<RuleOptions>,
    /// In the order of the file; see [`AgentConfig::channel`].
    pub channels: Vec<ChannelRule>,
}

/// Bounds of the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolConfig {
    /// Most bytes of kept blocks.
    pub bytes_max: u64,
    /// Most of them that each lane takes, within its reserve and `bytes_max`; none: what the others leave.
    pub lane_bytes_max: PerLane<Option<u64>>,
    /// What single readings give up at the bound, by the spool's name for it.
    pub raw_when_full: String,
    /// What summaries give up.
    pub metric_when_full: String,
    /// Free space on the file system that is left alone, in bytes.
    pub disk_free_bytes_min: u64,
    /// Records of so long share a commit.
    pub commit_interval: Duration,
}

/// Event-time windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowsConfig {
    /// What a window is.
    pub kind: WindowKind,
    /// Length of a window.
    pub length: Duration,
    /// From the start of one to the start of the next.
    pub hop: Duration,
    /// How late a reading may come.
    pub lateness: Duration,
    /// Silence that ends a session.
    pub gap: Duration,
    /// Quantiles, changes and rates too.
    pub detail: bool,
}

/// Digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestConfig {
    /// Word digests at all.
    pub enabled: bool,
    /// Longest time between two.
    pub every: Duration,
    /// Which model words them.
    pub model: ModelChoice,
    /// Name of the accelerator that may compute parts of the student.
    pub device: Option<String>,
    /// An outage of at least so long gets a digest of its own.
    pub offline_after: Duration,
}

/// Which language model words digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelChoice {
    /// The one inside the binary.
    Builtin,
    /// The folder of another one.
    Folder(PathBuf),
}

/// One source of readings.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    /// Unique among the sources.
    pub name: String,
    /// What it is.
    pub kind: SourceKind,
}

/// What a source is.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceKind {
    /// The gateway's own vitals.
    Host { interval: Duration, mounts: Vec<PathBuf> },
    /// CSV recordings at `speed` times their own pace; 0 is as fast as possible.
    Replay { paths: Vec<PathBuf>, speed: f64, repeat: bool, channel_prefix: String },
    /// Lines from other programs; Influx times count in units of `precision_ns` nanoseconds.
    Lines { input: LinesInput, precision_ns: u64 },
    /// Chips on an I2C or SPI bus.
    Bus { spi: bool, device: PathBuf, chips: Vec<ChipConfig> },
    /// Files of kernel drivers: `hwmon`, `iio` or `w1`.
    Sysfs { kind: String, interval: Duration },
    /// One IIO device from its buffer, at so many samples per second; none: as it is set.
    IioBuffer { device: String, rate_hz: Option<f64> },
    /// Lines of a GPIO chip.
    Gpio { device: PathBuf, interval: Duration, lines: Vec<LineConfig> },
    /// Logs, field buses and other programs.
    Field(FieldConfig),
}

/// Where lines come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinesInput {
    /// Standard input.
    Stdin,
    /// A unix socket that the agent creates.
    Unix(PathBuf),
    /// A TCP socket.
    Tcp { listen: SocketAddr, allow_remote: bool },
}

/// What is known of the channels that match a pattern; a field that is none says nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChannelRule {
    /// Name or pattern: `*` any run of characters, `?` one.
    pub pattern: String,
    pub unit: Option<Unit>,
    /// What the source gives; converted into `unit`.
    pub source_unit: Option<Unit>,
    /// Raw values with their true ones.
    pub table: Option<Vec<(f64, f64)>>,
    pub scale: Option<f64>,
    pub offset: Option<f64>,
    pub range_low: Option<f64>,
    pub range_high: Option<f64>,
    pub quantity: Option<Quantity>,
    pub asset: Option<String>,
    pub label: Option<String>,
    pub limit_high_warn: Option<f64>,
    pub limit_high_critical: Option<f64>,
    pub limit_low_warn: Option<f64>,
    pub limit_low_critical: Option<f64>,
    /// In the channel's unit, not negative.
    pub hysteresis: Option<f64>,
    pub dwell: Option<Duration>,
    /// In the channel's unit per minute.
    pub rate_warn: Option<f64>,
    pub rate_critical: Option<f64>,
    /// When the limits hold; always, where it is absent.
    pub limit_times: Option<Duty>,
    pub detect: Option<bool>,
}

impl AgentConfig {
    /// What the matching entries say together about the channel `name`; later entries win.
    pub fn channel(&self, name: &str) -> ChannelRule {
        let matching = self.channels.iter().filter(|rule| glob::matches(&rule.pattern, name));
        matching.fold(ChannelRule { pattern: name.into(), ..Default::default() }, ChannelRule::overlaid)
    }

    pub(super) fn from_raw(raw: &mut Raw, base: &Path) -> Self {
        let top = raw.take_one("");
        let device = top.opt_text("device").unwrap_or_else(common::hostname_device);
        let line = raw.take_one("mqtt");
        let mqtt = common::mqtt(raw, &line, base, format!("outpost-{device}"));
        let (ack, payload) = delivery(raw, &line);
        let (budget, backfill_share_percent) = uplink(raw, &line, mqtt.keep_alive);
        let accelerators = model::accelerators(raw, base);
        let (digest, http) = (digest(raw, base, &accelerators), common::http(raw));
        let glm = glm::glm(raw, base, &accelerators, &digest, &http);
        let single = raw.take_one("raw");
        Self {
            device,
            data_dir: base.join(top.text("data_dir")),
            language: Lang::from_name(&top.text("language")).unwrap_or(Lang::En),
            mqtt,
            heartbeat_every: line.time("heartbeat_every"),
            ack,
            payload,
            spool: spool(raw),
            budget,
            backfill_share_percent,
            raw_keep: single.flag("keep"),
            raw_clip: usize::try_from(single.integer("clip")).unwrap_or(0),
            windows: windows(raw),
            digest,
            glm,
            http,
            log: common::log(raw),
            sources: sources(raw, base),
            models: model::models(raw, base),
            accelerators,
            tflite: model::tflite(raw, base),
            groups: together::groups(raw),
            rules: together::rules(raw),
            channels: channels(raw),
        }
    }
}

impl ChannelRule {
    fn overlaid(self, top: &ChannelRule) -> ChannelRule {
        let over = top.clone();
        ChannelRule {
            pattern: self.pattern,
            unit: over.unit.or(self.unit),
            source_unit: over.source_unit.or(self.source_unit),
            table: over.table.or(self.table),
            scale: over.scale.or(self.scale),
            offset: over.offset.or(self.offset),
            range_low: over.range_low.or(self.range_low),
            range_high: over.range_high.or(self.range_high),
            quantity: over.quantity.or(self.quantity),
            asset: over.asset.or(self.asset),
            label: over.label.or(self.label),
            limit_high_warn: over.limit_high_warn.or(self.limit_high_warn),
            limit_high_critical: over.limit_high_critical.or(self.limit_high_critical),
            limit_low_warn: over.limit_low_warn.or(self.limit_low_warn),
            limit_low_critical: over.limit_low_critical.or(self.limit_low_critical),
            hysteresis: over.hysteresis.or(self.hysteresis),
            dwell: over.dwell.or(self.dwell),
            rate_warn: over.rate_warn.or(self.rate_warn),
            rate_critical: over.rate_critical.or(self.rate_critical),
            limit_times: over.limit_times.or(self.limit_times),
            detect: over.detect.or(self.detect),
        }
    }
}

fn delivery(raw: &mut Raw, line: &Entry) -> (Ack, Payload) {
    let ack = Ack::from_name(&line.text("ack")).unwrap_or(Ack::Aggregator);
    let payload = Payload::from_name(&line.text("payload")).unwrap_or(Payload::Blocks);
    if (ack, payload) == (Ack::Aggregator, Payload::Json) {
        raw.error(
            line,
            "payload",
            "an aggregator reads blocks, not JSON",
            "set ack = \"broker\" too, or send blocks",
        );
    }
    if ack == Ack::Broker {
        raw.warn(
            line,
            "ack",
            "what the broker loses after its PUBACK is lost for good",
            "make sure that it keeps its messages on disk",
        );
    }
    (ack, payload)
}

fn spool(raw: &mut Raw) -> SpoolConfig {
    let entry = raw.take_one("spool");
    let bytes_max = entry.size("bytes_max");
    SpoolConfig {
        bytes_max,
        lane_bytes_max: std::array::from_fn(|i| lane_bytes_max(raw, &entry, Lane::ALL[i], bytes_max)),
        raw_when_full: entry.text("raw_when_full"),
        metric_when_full: entry.text("metric_when_full"),
        disk_free_bytes_min: entry.size("disk_free_min"),
        commit_interval: entry.time("commit_interval"),
    }
}

/// The bound of one lane, between what is reserved for it and what all may take.
fn lane_bytes_max(raw: &mut Raw, entry: &Entry, lane: Lane, bytes_max: u64) -> Option<u64> {
    let key = format!("{lane}_bytes_max");
    let max = entry.opt_size(&key)?;
    let percent = u64::from(limits::SPOOL_RESERVED_PERCENT[lane.index()]);
    let reserve = bytes_max / 100 * percent;
    if raw.is_flawed(entry, "bytes_max") {
        return None;
    }
    if max > bytes_max {
        let problem = format!("more than all kinds of records together may take, {}", bytes_text(bytes_max));
        raw.error(entry, &key, problem, "lower it, or raise spool.bytes_max");
    } else if max < reserve {
        let problem = format!("less than what is reserved for them, {percent} % of spool.bytes_max");
        let least = bytes_text(reserve.next_multiple_of(1 << 10));
        raw.error(entry, &key, problem, format!("write at least {least:?}, or lower spool.bytes_max"));
    }
    Some(max)
}

/// The budget, and the share of backfill.
fn uplink(raw: &mut Raw, line: &Entry, keep_alive: Duration) -> (BudgetOptions, u8) {
    let entry = raw.take_one("uplink");
    let options = budget(raw, &entry);
    let upkeep = budget::upkeep_per_day(line.time("heartbeat_every"), keep_alive);
    if options.bytes_per_day.is_some_and(|bytes| bytes < 2 * upkeep) {
        let what = format!("heartbeats and pings alone take some {} KiB of it", upkeep >> 10);
        raw.warn(&entry, "bytes_per_day", what, "raise mqtt.heartbeat_every and mqtt.keep_alive");
    }
    (options, u8::try_from(entry.integer("backfill_share")).unwrap_or(0))
}

fn budget(raw: &mut Raw, entry: &Entry) -> BudgetOptions {
    let mut options =
        BudgetOptions { bytes_per_day: entry.opt_size("bytes_per_day"), ..BudgetOptions::default() };
    for (lane, key) in
        [(Lane::Raw, "share_raw"), (Lane::Metric, "share_metric"), (Lane::Digest, "share_digest")]
    {
        options.shares_percent[lane.index()] = u8::try_from(entry.integer(key)).unwrap_or(100);
    }
    if let Some(text) = entry.opt_text("raw_windows") {
        match budget::parse_windows(&text) {
            Some(windows) => options.raw_windows = windows,
            None => raw.error(
                entry,
                "raw_windows",
                "no times of the day",
                "write spans of UTC such as \"22:00-06:00\" or \"22:00-06:00, 12:00-13:00\"",
            ),
        }
    }
    options
}

fn windows(raw: &mut Raw) -> WindowsConfig {
    let entry = raw.take_one("windows");
    let length = entry.time("length");
    let hop = entry.opt_time("hop").unwrap_or(length);
    if hop > length {
        raw.error(
            &entry,
            "hop",
            "longer than a window",
            "windows may overlap or touch, but leave nothing out",
        );
    }
    let kind = WindowKind::from_name(&entry.text("kind")).unwrap_or(WindowKind::Fixed);
    if kind == WindowKind::Session && entry.is_written("hop") {
        raw.error(&entry, "hop", "has no meaning for kind = \"session\"", "remove it");
    }
    WindowsConfig {
        kind,
        length,
        hop,
        lateness: entry.time("lateness"),
        gap: entry.time("gap"),
        detail: entry.flag("detail"),
    }
}

fn digest(raw: &mut Raw, base: &Path, accelerators: &[AcceleratorConfig]) -> DigestConfig {
    let entry = raw.take_one("digest");
    let model = match entry.text("model").as_str() {
        "builtin" => ModelChoice::Builtin,
        folder => ModelChoice::Folder(base.join(folder)),
    };
    let device = model::plugin_named(raw, &entry, accelerators);
    DigestConfig {
        enabled: entry.flag("enabled"),
        every: entry.time("every"),
        model,
        device,
        offline_after: entry.time("offline_after"),
    }
}

fn sources(raw: &mut Raw, base: &Path) -> Vec<SourceConfig> {
    let entries = raw.take("source");
    let parts = field::Parts::take(raw);
    parts.homeless(raw, &entries);
    if let Some(first_beyond) = entries.get(limits::SOURCES_MAX) {
        let problem = format!("more than {} sources", limits::SOURCES_MAX);
        raw.error(first_beyond, "", problem, "let one source carry several channels");
    }
    let mut names = BTreeSet::new();
    let mut sources = Vec::new();
    let mut stdin = false;
    for entry in entries.iter().take(limits::SOURCES_MAX) {
        let Some(source) = source(raw, entry, base, &parts) else { continue };
        if !names.insert(source.name.clone()) {
            raw.error(entry, "name", "used twice", "give each source a name of its own");
        }
        if matches!(source.kind, SourceKind::Lines { input: LinesInput::Stdin, .. })
            && std::mem::replace(&mut stdin, true)
        {
            raw.error(entry, "stdin", "two sources read standard input", "keep one of them");
        }
        if let SourceKind::Field(FieldConfig::Modbus(device)) = &source.kind {
            modbus::alike_on_one_line(raw, entry, device, &sources);
        }
        sources.push(source);
    }
    hardware::attach(raw, &mut sources);
    if entries.is_empty() {
        let kind = SourceKind::Host { interval: HOST_INTERVAL, mounts: vec!["/".into()] };
        sources.push(SourceConfig { name: "host".into(), kind });
    }
    sources
}

/// Pace of the source that stands in when none is configured; equal to the table's default.
const HOST_INTERVAL: Duration = Duration::from_secs(1);

fn source(raw: &mut Raw, entry: &Entry, base: &Path, parts: &field::Parts) -> Option<SourceConfig> {
    let (name, kind) = (entry.opt_text("name"), entry.opt_text("kind"));
    for (key, example) in [("name", "plant"), ("kind", "host")] {
        if entry.opt_text(key).is_none() && !raw.is_flawed(entry, key) {
            raw.error(entry, key, "missing", format!("write for example {key} = \"{example}\""));
        }
    }
    let kind = match kind?.as_str() {
        "host" => SourceKind::Host {
            interval: entry.time("interval"),
            mounts: paths(base, entry.opt_texts("mounts").unwrap_or_default()),
        },
        "replay" => replay(raw, entry, base)?,
        kind @ ("i2c" | "spi") => hardware::bus(raw, entry, base, kind == "spi")?,
        "iio" => hardware::iio(raw, entry),
        kind @ ("hwmon" | "w1") => SourceKind::Sysfs { kind: kind.into(), interval: entry.time("interval") },
        "gpio" => hardware::gpio(raw, entry, base)?,
        kind if field::KINDS.contains(&kind) => {
            SourceKind::Field(field::source(raw, entry, base, kind, parts)?)
        }
        _ => lines(raw, entry, base)?,
    };
    Some(SourceConfig { name: name?, kind })
}

fn replay(raw: &mut Raw, entry: &Entry, base: &Path) -> Option<SourceKind> {
    let files = entry.opt_texts("paths");
    if files.is_none() && !raw.is_flawed(entry, "paths") {
        raw.error(entry, "paths", "missing", "name at least one CSV file");
    }
    Some(SourceKind::Replay {
        paths: paths(base, files?),
        speed: entry.number("speed"),
        repeat: entry.flag("loop"),
        channel_prefix: entry.text("channel_prefix"),
    })
}

fn lines(raw: &mut Raw, entry: &Entry, base: &Path) -> Option<SourceKind> {
    let allow_remote = entry.flag("allow_remote");
    let inputs = [
        entry.flag("stdin").then_some(LinesInput::Stdin),
        entry.opt_text("unix").map(|path| LinesInput::Unix(base.join(path))),
        entry.opt_address("tcp").map(|listen| LinesInput::Tcp { listen, allow_remote }),
    ];
    let mut given = inputs.into_iter().flatten();
    let input = match (given.next(), given.next()) {
        (Some(input), None) => Some(input),
        (None, _) => {
            if !raw.is_flawed(entry, "unix") && !raw.is_flawed(entry, "tcp") {
                raw.error(entry, "", "no input", "give one of stdin = true, unix and tcp");
            }
            None
        }
        (Some(_), Some(_)) => {
            raw.error(
                entry,
                "",
                "more than one input",
                "give one of stdin, unix and tcp, and a source for each other",
            );
            None
        }
    };
    if let Some(LinesInput::Tcp { listen, .. }) = &input {
        common::remote_allowed(raw, entry, "tcp", *listen, allow_remote);
    }
    Some(SourceKind::Lines { input: input?, precision_ns: precision_ns(entry) })
}

pub(super) fn precision_ns(entry: &Entry) -> u64 {
    match entry.text("precision").as_str() {
        "s" => 1_000_000_000,
        "ms" => 1_000_000,
        "us" => 1000,
        _ => 1,
    }
}

fn channels(raw: &mut Raw) -> Vec<ChannelRule> {
    let entries = raw.take("channels");
    if let Some(first_beyond) = entries.get(limits::CHANNEL_RULES_MAX) {
        let problem = format!("more than {} entries", limits::CHANNEL_RULES_MAX);
        raw.error(first_beyond, "", problem, "use patterns");
    }
    entries.iter().take(limits::CHANNEL_RULES_MAX).map(|entry| channel(raw, entry)).collect()
}

/// Days and times of the day, of a key that says when something holds.
pub(super) fn duty(raw: &mut Raw, entry: &Entry, key: &str) -> Option<Duty> {
    let duty = Duty::parse(&entry.opt_text(key)?);
    if duty.is_none() {
        let hint = "write for example \"06:00-22:00\" (UTC) or \"Mon-Fri 06:00-12:00, 13:00-22:00 +01:00\"";
        raw.error(entry, key, "no days or times of the day", hint);
    }
    duty
}

fn channel(raw: &mut Raw, entry: &Entry) -> ChannelRule {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_-./:*?".contains(&b);
    if !(1..=limits::CHANNEL_NAME_BYTES_MAX).contains(&entry.name.len()) || !entry.name.bytes().all(fits) {
        let hint = format!(
            "use 1 to {} characters of A-Z a-z 0-9 _ - . / : and the wildcards * and ?",
            limits::CHANNEL_NAME_BYTES_MAX
        );
        raw.error(entry, "", "no channel can have this name", hint);
    }
    const ASCENDING: [&str; 4] =
        ["limit_low_critical", "limit_low_warn", "limit_high_warn", "limit_high_critical"];
    let limits = ASCENDING.map(|key| entry.opt_number(key));
    let given: Vec<usize> = (0..4).filter(|i| limits[*i].is_some()).collect();
    for pair in given.windows(2) {
        if limits[pair[0]] > limits[pair[1]] {
            let problem = format!("above {}", ASCENDING[pair[1]]);
            raw.error(
                entry,
                ASCENDING[pair[0]],
                problem,
                format!("keep the order {}", ASCENDING.join(" <= ")),
            );
        }
    }
    let [limit_low_critical, limit_low_warn, limit_high_warn, limit_high_critical] = limits;
    ChannelRule {
        pattern: entry.name.clone(),
        unit: unit(entry, "unit"),
        source_unit: source_unit(raw, entry),
        table: entry.opt_points("table"),
        scale: entry.opt_number("scale"),
        offset: entry.opt_number("offset"),
        range_low: entry.opt_number("range_low"),
        range_high: range_high(raw, entry),
        quantity: entry.opt_text("quantity").and_then(|q| Quantity::from_name(&q)),
        asset: entry.opt_text("asset"),
        label: entry.opt_text("label"),
        limit_high_warn,
        limit_high_critical,
        limit_low_warn,
        limit_low_critical,
        hysteresis: entry.opt_number("hysteresis"),
        dwell: entry.opt_time("dwell"),
        rate_warn: entry.opt_number("rate_warn"),
        rate_critical: entry.opt_number("rate_critical"),
        limit_times: duty(raw, entry, "limit_times"),
        detect: entry.opt_flag("detect"),
    }
}

/// As written or, where people have another spelling, its UCUM code.
fn unit(entry: &Entry, key: &str) -> Option<Unit> {
    entry.opt_text(key).map(|text| Unit(units::canonical(&text).to_owned()))
}

fn source_unit(raw: &mut Raw, entry: &Entry) -> Option<Unit> {
    let from = unit(entry, "source_unit")?;
    if let Some(to) =
        unit(entry, "unit").filter(|to| *to != from && Conversion::between(&from.0, &to.0).is_none())
    {
        let problem = format!("cannot be converted into {}", to.0);
        raw.error(
            entry,
            "source_unit",
            problem,
            "use UCUM codes of one quantity, such as \"[psi]\" and \"kPa\"",
        );
    }
    Some(from)
}

fn range_high(raw: &mut Raw, entry: &Entry) -> Option<f64> {
    let high = entry.opt_number("range_high")?;
    if entry.opt_number("range_low").is_some_and(|low| low >= high) {
        raw.error(entry, "range_high", "not above range_low", "no value would be possible");
    }
    Some(high)
}

pub(super) fn paths(base: &Path, paths: Vec<String>) -> Vec<PathBuf> {
    paths.into_iter().map(|path| base.join(path)).collect()
}
