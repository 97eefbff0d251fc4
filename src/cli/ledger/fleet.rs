//! The aggregator's side: every device's account beside what the database holds.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::Report;
use crate::aggregator::ledger::{Entry, Finding, Ledger};
use crate::aggregator::store::{DeviceRow, LaneHolding, Reader, StoreError, Trust};
use crate::cli::args::LedgerArgs;
use crate::cli::exit::Failure;
use crate::cli::sources;
use crate::cli::style::Style;
use crate::wire::epoch_text;

/// The configured aggregator's database.
pub(super) fn configured(args: &LedgerArgs, style: Style) -> Result<Report, Failure> {
    let config = sources::aggregator_config(args.config.as_deref())?.config;
    let grace = args.grace.or(Some(config.undeclared_after));
    store(&config.store.path, grace, args.device.as_deref(), style)
}

/// The database `file`; an aggregator may be running on it.
pub(super) fn store(
    file: &Path,
    grace: Option<Duration>,
    device: Option<&str>,
    style: Style,
) -> Result<Report, Failure> {
    let failed = |e: StoreError| Failure::Failed(e.into());
    let reader = Reader::open(file).map_err(failed)?;
    let devices = match device {
        None => reader.fleet().map_err(failed)?,
        Some(name) => match reader.device(name).map_err(failed)? {
            Some(device) => vec![device],
            None => {
                let why = anyhow::anyhow!(
                    "no device {name} was ever heard; `outpost ledger` without --device lists them"
                );
                return Err(Failure::Failed(why));
            }
        },
    };
    let grace = grace.unwrap_or(GRACE);
    let mut report = Report { good: true, text: String::new(), json: json!({}) };
    let mut all = Vec::with_capacity(devices.len());
    for device in &devices {
        let ledger = Ledger::read(&reader, device).map_err(failed)?;
        report.good &= ledger.is_good(grace);
        tell(&mut report.text, device, &ledger, grace, style);
        all.push(ledger.json(device, grace));
    }
    let verdict = match (devices.len(), report.good) {
        (0, _) => "no device has been heard yet".into(),
        (_, true) => style.green("✓ every record is here, declared lost, or on its way"),
        (_, false) => style.red("✗ something is missing or contradicts itself, see above"),
    };
    let _ = writeln!(report.text, "{verdict}");
    report.json = json!({ "ok": report.good, "devices": all });
    Ok(report)
}

/// As configured by default.
const GRACE: Duration = Duration::from_secs(300);

fn tell(out: &mut String, device: &DeviceRow, ledger: &Ledger, grace: Duration, style: Style) {
    let trust = match device.trust {
        Trust::Verified => "signed and verified",
        Trust::Unchecked => "signed; without a certificate here nobody checks it",
        Trust::Unsigned => "not signed",
    };
    let _ = writeln!(
        out,
        "{}: account {trust}\n  {:8}{:18}{:>12} ={:>14} +{:>10} +{:>10} |{:>12}{:>10}",
        style.bold(&device.name),
        "lane",
        "epoch",
        "admitted",
        "acknowledged",
        "pending",
        "evicted",
        "here",
        "declared"
    );
    for fault in &ledger.faults {
        let since = fault.first_at.rfc3339();
        let _ = writeln!(out, "  {}", style.red(&format!("✗ since {since}: {}", fault.text)));
    }
    for entry in &ledger.entries {
        lane(out, entry, grace, style);
    }
    out.push('\n');
}

fn lane(out: &mut String, entry: &Entry, grace: Duration, style: Style) {
    let said = entry.beat.map(|b| [b.admitted, b.acknowledged, b.pending, b.evicted].map(|n| n.to_string()));
    let [admitted, acknowledged, pending, evicted] =
        said.unwrap_or_else(|| std::array::from_fn(|_| "-".into()));
    let held = entry.held.as_ref();
    let (here, declared) = (held.map_or(0, LaneHolding::records), held.map_or(0, LaneHolding::declared));
    let finding = entry.finding(grace);
    let text = match &finding {
        Finding::Wrong { .. } => style.red(&format!("✗ {}", finding.text())),
        _ => style.green(&format!("✓ {}", finding.text())),
    };
    let reasons: Vec<String> =
        entry.evicted_by_reason().into_iter().map(|(why, n)| format!("; {why}: {n}")).collect();
    let _ = writeln!(
        out,
        "  {:8}{:18}{admitted:>12}  {acknowledged:>14}  {pending:>10}  {evicted:>10} |{here:>12}{declared:>10}  {text}{}",
        entry.lane.name(),
        epoch_text(entry.epoch),
        reasons.concat()
    );
}
