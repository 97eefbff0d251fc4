//! The ledger: what a device says it promised, beside what is here, and whether the two agree.

use std::fmt::Write as _;

use super::html::count;
use super::{Device, View};
use crate::aggregator::store::{LaneHolding, StoreError};
use crate::http::Esc;
use crate::wire::Lane;
use crate::wire::block::epoch_text;
use crate::wire::heartbeat::LaneBeat;

/// One lane of one spool, from both sides.
pub(super) struct Entry {
    /// The lane.
    pub lane: Lane,
    /// The spool.
    pub epoch: u64,
    /// The device's side, by its latest heartbeat; none for an earlier spool.
    pub beat: Option<LaneBeat>,
    /// The aggregator's side; none when nothing has arrived.
    pub held: Option<LaneHolding>,
}

/// What the two sides say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// Everything that was admitted is here or declared lost.
    Complete,
    /// Nothing is wrong; this many records still wait on the device.
    Waiting(u64),
    /// Something is wrong, or can't be explained: a sentence.
    Wrong(String),
}

/// Every lane of every spool of `device`, the current spool first.
pub(super) fn entries(view: &View<'_>, device: &Device) -> Result<Vec<Entry>, StoreError> {
    let mut holdings = view.reader.holdings(device.row.key)?;
    let mut entries = Vec::new();
    if let Some(beat) = &device.beat {
        for (lane, beat) in Lane::ALL.iter().zip(&beat.beat.lanes) {
            let epoch = beat.epoch();
            let at = holdings.iter().position(|h| h.lane == *lane && h.epoch == epoch);
            let held = at.map(|at| holdings.remove(at));
            entries.push(Entry { lane: *lane, epoch, beat: Some(*beat), held });
        }
    }
    entries.extend(holdings.into_iter().map(|held| Entry {
        lane: held.lane,
        epoch: held.epoch,
        beat: None,
        held: Some(held),
    }));
    Ok(entries)
}

impl Entry {
    /// Compares the two sides. The heartbeat is older than what is here, so more may be here than it knows of.
    pub fn finding(&self) -> Finding {
        let none = LaneHolding {
            lane: self.lane,
            epoch: self.epoch,
            through: 0,
            highest: 0,
            settled: 0,
            lost: Vec::new(),
            holes: Vec::new(),
        };
        let held = self.held.as_ref().unwrap_or(&none);
        let holes = || ranges(&held.holes, held.missing());
        let Some(beat) = self.beat else {
            return match held.missing() {
                0 => Finding::Complete,
                n => Finding::Wrong(format!(
                    "{} never arrived and were not declared lost: {}",
                    records(n),
                    holes()
                )),
            };
        };
        if !beat.is_even() {
            return Finding::Wrong("the device's own account does not add up".into());
        }
        if let short @ 1.. = beat.acknowledged.saturating_sub(held.records()) {
            return Finding::Wrong(format!("{} acknowledged and not here", records(short)));
        }
        if held.missing() > beat.pending.saturating_add(beat.evicted.saturating_sub(held.declared())) {
            return Finding::Wrong(format!(
                "{} missing, not here and not declared lost: {}",
                records(held.missing()),
                holes()
            ));
        }
        // Evicted, but the declaration is still on its way.
        let undeclared = beat.evicted.saturating_sub(held.declared());
        match beat.admitted.saturating_sub(held.settled).min(beat.pending.saturating_add(undeclared)) {
            0 => Finding::Complete,
            n => Finding::Waiting(n),
        }
    }
}

/// The ledger's table.
pub(super) fn table(entries: &[Entry]) -> String {
    let mut out = String::from(
        "<div class=\"scroll\"><table class=\"ledger\"><thead><tr><th colspan=\"2\"></th><th colspan=\"4\" class=\"group\">the device says</th>\
         <th colspan=\"3\" class=\"group\">the aggregator holds</th></tr><tr><th>Lane</th><th>Finding</th>\
         <th class=\"num\">admitted</th><th class=\"num\">= acknowledged</th><th class=\"num\">+ pending</th>\
         <th class=\"num\">+ evicted</th><th class=\"num\">records</th><th class=\"num\">declared lost</th>\
         <th class=\"num\">through</th></tr></thead><tbody>",
    );
    for entry in entries {
        let _ = write!(
            out,
            "<tr><td><b>{}</b> <span class=\"muted small\" title=\"epoch {}\">{}</span></td><td>{}</td>",
            entry.lane,
            epoch_text(entry.epoch),
            &epoch_text(entry.epoch)[..4],
            mark(&entry.finding())
        );
        match &entry.beat {
            None => out.push_str("<td colspan=\"4\" class=\"muted\">an earlier spool of this device</td>"),
            Some(beat) => {
                for n in [beat.admitted, beat.acknowledged, beat.pending, beat.evicted] {
                    let _ = write!(out, "<td class=\"num\">{}</td>", count(n));
                }
            }
        }
        let held = entry.held.as_ref();
        for n in [held.map(LaneHolding::records), held.map(LaneHolding::declared), held.map(|h| h.through)] {
            let _ = write!(out, "<td class=\"num\">{}</td>", count(n.unwrap_or(0)));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>");
    out
}

fn mark(finding: &Finding) -> String {
    match finding {
        Finding::Complete => "<span class=\"good\">✓ nothing missing</span>".into(),
        Finding::Waiting(n) => format!("<span class=\"good\">✓ {} on their way</span>", records(*n)),
        Finding::Wrong(why) => format!("<span class=\"bad\">✗ {}</span>", Esc(why)),
    }
}

fn records(n: u64) -> String {
    if n == 1 { "1 record".into() } else { format!("{} records", count(n)) }
}

fn ranges(holes: &[(u64, u64)], missing: u64) -> String {
    let named: u64 = holes.iter().map(|(a, b)| b - a + 1).sum();
    let mut text: Vec<String> =
        holes.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}–{b}") }).collect();
    if missing > named {
        text.push("…".into());
    }
    text.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(beat: [u64; 4], ranges: &[(u64, u64)], lost: u64) -> Entry {
        let [admitted, acknowledged, pending, evicted] = beat;
        let highest = ranges.last().map_or(0, |r| r.1);
        let settled = ranges.iter().map(|(a, b)| b - a + 1).sum();
        let holes = ranges.windows(2).map(|w| (w[0].1 + 1, w[1].0 - 1)).collect();
        let lost = vec![("quota".to_owned(), lost)];
        let through = ranges.first().map_or(0, |r| r.1);
        let held = LaneHolding { lane: Lane::Raw, epoch: 7, through, highest, settled, lost, holes };
        let beat = LaneBeat { epoch: 7u64.to_be_bytes(), admitted, acknowledged, pending, evicted };
        Entry { lane: Lane::Raw, epoch: 7, beat: Some(beat), held: Some(held) }
    }

    #[test]
    fn both_sides_even_is_complete() {
        assert_eq!(entry([10, 8, 0, 2], &[(1, 10)], 2).finding(), Finding::Complete);
        // More has arrived since the heartbeat.
        assert_eq!(entry([10, 4, 6, 0], &[(1, 20)], 0).finding(), Finding::Complete);
    }

    #[test]
    fn what_the_device_still_holds_is_waiting() {
        assert_eq!(entry([10, 6, 4, 0], &[(1, 6)], 0).finding(), Finding::Waiting(4));
        // Live before backfill: a hole that the device still holds.
        assert_eq!(entry([10, 4, 6, 0], &[(1, 2), (9, 10)], 0).finding(), Finding::Waiting(6));
    }

    #[test]
    fn an_undeclared_hole_is_stated_with_its_numbers() {
        let Finding::Wrong(why) = entry([10, 8, 2, 0], &[(1, 4), (8, 12)], 0).finding() else { panic!() };
        assert_eq!(why, "3 records missing, not here and not declared lost: 5–7");
    }

    #[test]
    fn acknowledged_records_that_are_not_here_are_the_worst_finding() {
        let Finding::Wrong(why) = entry([10, 10, 0, 0], &[(1, 9)], 0).finding() else { panic!() };
        assert_eq!(why, "1 record acknowledged and not here");
    }

    #[test]
    fn an_account_that_does_not_add_up_is_said() {
        let Finding::Wrong(why) = entry([10, 3, 3, 3], &[(1, 3)], 0).finding() else { panic!() };
        assert!(why.contains("does not add up"));
        let Finding::Wrong(_) = entry([u64::MAX, u64::MAX, u64::MAX, 2], &[(1, 3)], 0).finding() else {
            panic!()
        };
    }

    #[test]
    fn an_earlier_spool_is_judged_by_what_is_here() {
        let earlier = Entry { beat: None, ..entry([0; 4], &[(1, 3), (6, 6)], 0) };
        let Finding::Wrong(why) = earlier.finding() else { panic!() };
        assert!(why.contains("4–5"), "{why}");
    }
}
