//! `outpost check`: what is wrong with a configuration and this machine, and what to do about it.
//!
//! Changes nothing: it creates no file, and at the broker it uses a client id of its own, so that a running agent is
//! not pushed off its session. Every finding stands alone; one that fails never keeps the others from being made.

mod broker;
mod certificates;
mod field;
mod hardware;
mod machine;
mod pages;
#[cfg(feature = "gateway")]
mod subscription;

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use self::broker::Visit;
use super::args::{CheckArgs, CheckWhat, Seat};
use super::exit::{self, Failure};
use super::{Style, print, sources};
use crate::config::{self, AGENT, AGGREGATOR, ConfigError, Loaded, MqttConfig, Problem, Schema};

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// As it should be.
    Ok,
    /// Works, and deserves a look.
    Warning,
    /// Does not work.
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it concerns: `config`, `certificates`, `broker`, `clock`, `disk`, `data`, `model`, `source`, `page`.
    pub area: &'static str,
    /// How grave.
    pub mark: Mark,
    /// What was found.
    pub what: String,
    /// What to do; empty when all is well.
    pub next: String,
}

impl Finding {
    pub(super) fn ok(area: &'static str, what: impl Into<String>) -> Self {
        Self { area, mark: Mark::Ok, what: what.into(), next: String::new() }
    }

    pub(super) fn warning(area: &'static str, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { area, mark: Mark::Warning, what: what.into(), next: next.into() }
    }

    pub(super) fn error(area: &'static str, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { area, mark: Mark::Error, what: what.into(), next: next.into() }
    }
}

/// Runs the command.
pub fn main(args: &CheckArgs, json: bool, style: Style) -> Result<ExitCode, Failure> {
    let seat = match args.what {
        CheckWhat::Example(seat) => return print(&config::example(schema(seat))),
        CheckWhat::Reference(seat) => return print(&config::markdown(schema(seat))),
        CheckWhat::Machine(seat) => seat.unwrap_or_else(|| seat_of(args.config.as_deref())),
    };
    let file = sources::file(schema(seat), args.config.as_deref());
    let findings = match seat {
        Seat::Agent => look(config::load_agent(&file), machine::agent, |c| &c.mqtt, args.offline),
        Seat::Aggregator => {
            look(config::load_aggregator(&file), machine::aggregator, |c| &c.mqtt, args.offline)
        }
    };
    let file = file.display().to_string();
    print(&if json {
        pages::json(seat, &file, &findings)
    } else {
        pages::table(seat, &file, &findings, style)
    })?;
    Ok(code(&findings))
}

fn look<T>(
    loaded: Result<Loaded<T>, ConfigError>,
    machine: impl FnOnce(&T) -> Vec<Finding>,
    mqtt: impl FnOnce(&T) -> &MqttConfig,
    offline: bool,
) -> Vec<Finding> {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(e) => return e.problems.iter().map(|p| told(p, Mark::Error)).collect(),
    };
    let mut findings = vec![Finding::ok("config", "every key known, every value in range")];
    findings.extend(loaded.warnings.iter().map(|p| told(p, Mark::Warning)));
    findings.extend(machine(&loaded.config));
    let mqtt = mqtt(&loaded.config);
    if let Some(files) = super::link::options(mqtt).tls {
        findings.extend(certificates::look(&files, crate::clock::wall()));
    }
    if !offline {
        findings.push(broker::knock(&Visit::to_cloud(mqtt)));
    }
    findings
}

/// A problem of the configuration as a finding: the hint is the next step.
fn told(problem: &Problem, mark: Mark) -> Finding {
    let what = Problem { hint: String::new(), ..problem.clone() }.to_string();
    Finding { area: "config", mark, what, next: problem.hint.clone() }
}

fn schema(seat: Seat) -> &'static Schema {
    match seat {
        Seat::Agent => &AGENT,
        Seat::Aggregator => &AGGREGATOR,
    }
}

fn seat_of(file: Option<&Path>) -> Seat {
    let name = file.and_then(Path::file_name).map(|n| n.to_string_lossy()).unwrap_or_default();
    if name.contains("aggregator") { Seat::Aggregator } else { Seat::Agent }
}

fn code(findings: &[Finding]) -> ExitCode {
    ExitCode::from(match findings.iter().map(|f| f.mark).max() {
        Some(Mark::Error) => exit::CHECK_ERRORS,
        Some(Mark::Warning) => exit::CHECK_WARNINGS,
        Some(Mark::Ok) | None => 0,
    })
}
