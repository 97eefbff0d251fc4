//! `outpost demo`: shows the report, for people or for machines.

use std::process::ExitCode;

use super::args::DemoArgs;
use super::exit::{FAILURE, Failure};
use super::signals;
use crate::demo::report::Report;
use crate::demo::{self, DemoOptions};
use crate::observe;

/// Plays the demo; fails if the ledger does not balance or no model digest arrived.
pub(super) fn main(args: &DemoArgs, json: bool) -> Result<ExitCode, Failure> {
    // The view owns the terminal; the seats log into files, and the broker in this process is not the subject.
    observe::init(observe::Format::Text, log::LevelFilter::Off);
    let stop = signals::stop().map_err(|e| Failure::Failed(e.into()))?;
    let options = DemoOptions { length: args.length, cut: args.cut, lang: args.lang, dir: args.dir.clone() };
    let mut printed = Ok(ExitCode::SUCCESS);
    let done = |report: &Report| printed = show(report, args, json);
    let report = demo::run(&options, stop, done).map_err(|e| Failure::Failed(e.into()))?;
    printed?;
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) })
}

fn show(report: &Report, args: &DemoArgs, json: bool) -> Result<ExitCode, Failure> {
    if json {
        let text = serde_json::to_string_pretty(report).map_err(|e| Failure::Failed(e.into()))?;
        return super::print(&format!("{text}\n"));
    }
    let mut text = String::new();
    if let Some(digest) = &report.outage.offline_digest {
        text += &format!("\nThe offline digest, first to arrive:\n  {digest}\n");
    }
    text += &format!("\n{}", report.evidence());
    text += &format!("\nThe ledger, both sides:\n{}\n", report.ledger_table());
    for problem in &report.problems {
        text += &format!("PROBLEM: {problem}\n");
    }
    if args.length.is_none() {
        text += &format!("The aggregator's page stays up at {} until Ctrl-C.\n", report.page);
    }
    super::print(&text)
}
