//! The ledger as a table for people.

use std::fmt::Write as _;

use super::html::{count, time};
use super::{Device, View};
use crate::aggregator::ledger::{Finding, Ledger, records};
use crate::aggregator::store::{LaneHolding, StoreError, Trust};
use crate::http::Esc;
use crate::wire::block::epoch_text;

/// Table, faults, and how far the device's word can be trusted.
pub(super) fn section(view: &View<'_>, device: &Device) -> Result<String, StoreError> {
    let ledger = Ledger::read(view.reader, &device.row)?;
    let mut out = String::new();
    for fault in &ledger.faults {
        let _ = write!(
            out,
            "<p class=\"bad\">✗ {} <span class=\"muted\">(first {}, last {})</span></p>",
            Esc(&fault.text),
            time(fault.first_at),
            time(fault.last_at)
        );
    }
    table(&mut out, view, &ledger);
    if device.beat.is_some() {
        let _ = write!(out, "<p class=\"muted small\">{}</p>", trust(device.row.trust));
    }
    Ok(out)
}

fn trust(trust: Trust) -> &'static str {
    match trust {
        Trust::Verified => "The device's account is signed with the key of its certificate.",
        Trust::Unchecked => {
            "The device's account is signed; put its certificate into the folder that <code>certificates</code> names to \
             have it checked."
        }
        Trust::Unsigned => "The device's account is not signed: it has no key, or an earlier version.",
    }
}

fn table(out: &mut String, view: &View<'_>, ledger: &Ledger) {
    out.push_str(
        "<div class=\"scroll\"><table class=\"ledger\"><thead><tr><th colspan=\"2\"></th><th colspan=\"4\" class=\"group\">the device says</th>\
         <th colspan=\"3\" class=\"group\">the aggregator holds</th></tr><tr><th>Lane</th><th>Finding</th>\
         <th class=\"num\">admitted</th><th class=\"num\">= acknowledged</th><th class=\"num\">+ pending</th>\
         <th class=\"num\">+ evicted</th><th class=\"num\">records</th><th class=\"num\">declared lost</th>\
         <th class=\"num\">through</th></tr></thead><tbody>",
    );
    for entry in &ledger.entries {
        let _ = write!(
            out,
            "<tr><td><b>{}</b> <span class=\"muted small\" title=\"epoch {}\">{}</span></td><td>{}</td>",
            entry.lane,
            epoch_text(entry.epoch),
            &epoch_text(entry.epoch)[..4],
            mark(&entry.finding(view.grace))
        );
        match &entry.beat {
            None => out.push_str("<td colspan=\"4\" class=\"muted\">an earlier spool of this device</td>"),
            Some(beat) => {
                for n in [beat.admitted, beat.acknowledged, beat.pending] {
                    let _ = write!(out, "<td class=\"num\">{}</td>", count(n));
                }
                let reasons: Vec<String> = entry
                    .evicted_by_reason()
                    .iter()
                    .map(|(reason, n)| format!("{} {}", count(*n), reason.replace('_', " ")))
                    .collect();
                let _ = write!(
                    out,
                    "<td class=\"num\">{} <span class=\"muted small\">{}</span></td>",
                    count(beat.evicted),
                    reasons.join(", ")
                );
            }
        }
        let held = entry.held.as_ref();
        for n in [held.map(LaneHolding::records), held.map(LaneHolding::declared), held.map(|h| h.through)] {
            let _ = write!(out, "<td class=\"num\">{}</td>", count(n.unwrap_or(0)));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>");
}

fn mark(finding: &Finding) -> String {
    match finding {
        Finding::Complete => "<span class=\"good\">✓ nothing missing</span>".into(),
        Finding::Waiting(n) => format!("<span class=\"good\">✓ {} on their way</span>", records(*n)),
        Finding::Wrong { why, .. } => format!("<span class=\"bad\">✗ {}</span>", Esc(why)),
    }
}
