//! `outpost ledger`: whether every record is accounted for, on either side.

#[cfg(feature = "aggregator")]
mod fleet;
#[cfg(feature = "gateway")]
mod gateway;

use std::process::ExitCode;

use serde_json::Value;

use super::args::{LedgerArgs, LedgerOf, Seat};
use super::exit::{self, Failure};
use super::print;
use super::style::Style;

/// What was found, for people and for machines.
struct Report {
    good: bool,
    text: String,
    json: Value,
}

/// Prints the ledger; fails where it does not balance or something is missing undeclared.
pub(super) fn main(args: &LedgerArgs, json: bool, style: Style) -> Result<ExitCode, Failure> {
    let report = match &args.of {
        #[cfg(feature = "gateway")]
        LedgerOf::Spool(dir) => gateway::spool(dir, style)?,
        #[cfg(feature = "gateway")]
        LedgerOf::Page(addr) => gateway::page(*addr, style).map_err(Failure::Failed)?,
        #[cfg(feature = "gateway")]
        LedgerOf::Seat(Seat::Agent) => gateway::configured(args.config.as_deref(), style)?,
        #[cfg(feature = "aggregator")]
        LedgerOf::Store(file) => fleet::store(file, args.grace, args.device.as_deref(), style)?,
        #[cfg(feature = "aggregator")]
        LedgerOf::Seat(Seat::Aggregator) => fleet::configured(args, style)?,
        #[allow(unreachable_patterns, reason = "with every feature each side has an arm of its own")]
        _ => return Err(Failure::NotBuilt("ledger of that side")),
    };
    print(&if json { format!("{}\n", report.json) } else { report.text })?;
    Ok(if report.good { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILURE) })
}
