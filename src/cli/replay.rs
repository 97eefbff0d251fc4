//! `outpost replay`: what the agent would say of a recording, line by line.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use super::args::ReplayArgs;
use super::exit::Failure;
use super::{Style, run, sources};
use crate::agent::replay::{self, ReplayOptions, Summary, Told};
use crate::clock;
use crate::config::{self, AgentConfig};
use crate::digest::Digest;
use crate::episode::{EpisodeUpdate, Phase};
use crate::observe;
use crate::reading::Severity;
use crate::time::Mono;
use crate::wire::Record;
use crate::wire::json::record_value;

/// Goes through the recordings.
pub(super) fn main(args: &ReplayArgs, json: bool, style: Style) -> Result<ExitCode, Failure> {
    observe::init(observe::Format::Text, log::LevelFilter::Off);
    let config = configuration(args)?;
    let options = ReplayOptions {
        files: args.files.clone(),
        assemble: run::assemble(&config),
        speed: args.speed,
        every: args.every,
        lang: args.lang.unwrap_or(config.language),
        glm: run::glm(&config),
        infer: run::infer(&config),
    };
    let mut progress = Progress::new();
    let mut printed = Ok(ExitCode::SUCCESS);
    let summary = replay::run(options, &mut |told| {
        let text = match told {
            Told::Progress(done, total) => return progress.show(done, total),
            Told::Episode(step) if json => json_line(&Record::Episode(step.clone())),
            Told::Digest(digest) if json => json_line(&Record::Digest(digest.clone())),
            Told::Episode(step) if step.phase == Phase::Updated => return,
            Told::Episode(step) => episode(step, style),
            Told::Digest(digest) => paragraph(digest, style),
        };
        progress.clear();
        if printed.is_ok() {
            printed = super::print(&text);
        }
    });
    progress.clear();
    let summary = summary.map_err(|e| Failure::Failed(e.into()))?;
    printed?;
    if !json {
        eprintln!("{}", told(summary));
    }
    Ok(ExitCode::SUCCESS)
}

/// The file named, or the defaults.
fn configuration(args: &ReplayArgs) -> Result<AgentConfig, Failure> {
    match &args.config {
        Some(file) => Ok(sources::agent_config(Some(file))?.config),
        None => Ok(config::parse_agent("defaults", "", ".".as_ref())?.config),
    }
}

/// The record as the JSON payload has it, with its lane.
fn json_line(record: &Record) -> String {
    let mut value = record_value(record);
    if let Some(object) = value.as_object_mut() {
        object.insert("lane".into(), record.lane().name().into());
    }
    format!("{value}\n")
}

fn episode(step: &EpisodeUpdate, style: Style) -> String {
    let severity = match step.severity {
        Severity::Critical => style.red("critical"),
        Severity::Warning => style.yellow("warning "),
        Severity::Info => "info    ".to_owned(),
    };
    let (at, what) = match step.phase {
        Phase::Closed => (step.at, format!("over after {} flags", step.count)),
        _ => (step.start, step.reason.clone()),
    };
    format!("{}  {severity}  {}  {}: {what}\n", at.rfc3339(), style.bold(step.channel.as_str()), step.pattern)
}

fn paragraph(digest: &Digest, style: Style) -> String {
    let by = match digest.engine {
        crate::digest::Engine::Glm => {
            let t = digest.timing;
            format!("glm, {} ms", (t.encode_us + t.prefill_us + t.decode_us) / 1000)
        }
        crate::digest::Engine::Template => format!("template ({})", digest.fallback_reason),
    };
    let (from, to) = (digest.facts.from.rfc3339(), digest.facts.to.rfc3339());
    format!("\n{}  [{by}]\n{}\n\n", style.bold(&format!("{from} to {to}")), digest.text)
}

fn told(s: Summary) -> String {
    let malformed = if s.malformed > 0 { format!(", {} not understood", s.malformed) } else { String::new() };
    format!(
        "{} readings{malformed}, {} windows, {} episodes, {} digests",
        s.readings, s.windows, s.episodes, s.digests
    )
}

/// One line on the terminal, redrawn a few times a second; nothing where there is no terminal.
pub(super) struct Progress {
    visible: bool,
    drawn: Option<Mono>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { visible: std::io::stderr().is_terminal(), drawn: None }
    }

    pub(super) fn show(&mut self, done: u64, total: Option<u64>) {
        if !self.visible
            || self.drawn.is_some_and(|then| clock::mono().since(then) < Duration::from_millis(100))
        {
            return;
        }
        self.drawn = Some(clock::mono());
        let bar = total.filter(|t| *t > 0).map(|total| {
            let filled = usize::try_from(done.min(total) * 30 / total).unwrap_or(0);
            format!(
                "{}{} {:>3} %",
                "━".repeat(filled),
                "╌".repeat(30 - filled),
                done.min(total) * 100 / total
            )
        });
        let text = bar.unwrap_or_else(|| format!("{} MiB", done >> 20));
        // A terminal that went away must not stop the work.
        let _ = write!(std::io::stderr(), "\r\x1b[K  {text}");
    }

    pub(super) fn clear(&mut self) {
        if self.drawn.take().is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
