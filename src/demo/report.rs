//! What the demo found, for people and for machines, and whether it is good.

use std::fmt::Write as _;

use serde::Serialize;

use crate::wire::Lane;

/// The result of one demo.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// No problem was found.
    pub ok: bool,
    /// What was not as it should be; empty when `ok`.
    pub problems: Vec<String>,
    /// Readings that the agent took.
    pub readings: u64,
    /// What they would take as they are, in bytes.
    pub sensed_bytes: u64,
    /// What went over the line of records before the end, digests and TLS included.
    pub sent_bytes: u64,
    /// What the session itself took: handshakes, heartbeats, acknowledgements. It does not grow with what is sensed.
    pub session_bytes: u64,
    /// By how much that is less, in percent.
    pub saved_percent: Option<f64>,
    /// The plant's faults, in order.
    pub faults: Vec<FaultCheck>,
    /// Windows that it judged.
    pub windows: u64,
    /// Digests that the model worded.
    pub digests_glm: u64,
    /// Digests that the template worded.
    pub digests_template: u64,
    /// Encode, prefill and decode times of the latest digest in microseconds.
    pub digest_stage_us: Option<[u32; 3]>,
    /// How the outage went.
    pub outage: OutageReport,
    /// The ledger of both sides, one row per lane.
    pub ledger: Vec<LedgerCheck>,
    /// Where the aggregator's page is or was.
    pub page: String,
}

/// A fault of the plant, and whether an alarm told it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FaultCheck {
    /// What was wrong.
    pub kind: &'static str,
    /// Where it shows most.
    pub channel: &'static str,
    /// An episode of the channel began while it lasted.
    pub told: bool,
    /// First and last record of lane `raw` that prove it.
    pub evidence: Option<(u64, u64)>,
}

/// How the outage went.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct OutageReport {
    /// Length of the cut in seconds.
    pub cut_s: f64,
    /// Most records that waited in the spool.
    pub peak_pending_records: u64,
    /// Their bytes.
    pub peak_pending_bytes: u64,
    /// Lanes of the first blocks that arrived after the cut.
    pub first_arrivals: Vec<Lane>,
    /// The offline digest, as it arrived.
    pub offline_digest: Option<String>,
    /// Seconds from mending the line to an empty backlog.
    pub drained_s: Option<f64>,
}

/// One lane on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LedgerCheck {
    /// The lane.
    pub lane: Lane,
    /// The epoch, 16 hex digits.
    pub epoch: String,
    /// The agent's side: taken in.
    pub admitted: u64,
    /// Confirmed by the aggregator.
    pub acknowledged: u64,
    /// Still in the spool.
    pub pending: u64,
    /// Given up in declared gaps.
    pub evicted: u64,
    /// The aggregator's side: records that it holds.
    pub held: u64,
    /// Records in gaps that were declared to it.
    pub gaps: u64,
    /// Records that it misses below the highest it holds, with no gap declared.
    pub holes: u64,
    /// Whether the two sides agree and nothing is missing.
    pub balanced: bool,
}

impl LedgerCheck {
    /// Nothing is missing on the agent's side; the aggregator holds all that it acknowledged; what neither holds nor
    /// waits was declared.
    pub fn judge(mut self) -> Self {
        let own = self.admitted == self.acknowledged + self.pending + self.evicted;
        let far = self.held >= self.acknowledged
            && self.holes == 0
            && self.held + self.gaps + self.pending >= self.admitted
            && self.held + self.gaps <= self.admitted;
        self.balanced = own && far;
        self
    }
}

impl Report {
    /// Collects what is wrong and decides.
    pub fn judge(mut self) -> Self {
        if self.ledger.is_empty() {
            self.problems.push("no ledger could be read".into());
        }
        for row in self.ledger.iter().filter(|row| !row.balanced) {
            self.problems.push(format!("the ledger of lane {} does not balance", row.lane));
        }
        if self.digests_glm == 0 {
            self.problems.push("no digest was worded by the language model".into());
        }
        if self.outage.offline_digest.is_none() {
            self.problems.push("no offline digest arrived after the cut".into());
        } else if self.outage.first_arrivals.first() != Some(&Lane::Digest) {
            self.problems.push("the offline digest was not the first to arrive after the cut".into());
        }
        for fault in self.faults.iter().filter(|fault| !fault.told) {
            self.problems.push(format!("no alarm told the {} on {}", fault.kind, fault.channel));
        }
        self.ok = self.problems.is_empty();
        self
    }

    /// What was sent against what was sensed, and the faults that were told, in one line each.
    pub fn evidence(&self) -> String {
        let saved = self.saved_percent.map(|saved| format!(", {saved:.1} % less")).unwrap_or_default();
        let told = self.faults.iter().map(|fault| {
            let told = match (fault.told, fault.evidence) {
                (false, _) => "NOT TOLD".to_owned(),
                (true, Some((first, last))) => format!("told, proven by raw {first}–{last}"),
                (true, None) => "told".to_owned(),
            };
            format!("  {} on {}: {told}\n", fault.kind, fault.channel)
        });
        format!(
            "{} KiB were sensed and {} KiB sent{saved}; the session itself took {} KiB.\nThe plant's faults:\n{}",
            self.sensed_bytes >> 10,
            self.sent_bytes >> 10,
            self.session_bytes >> 10,
            told.collect::<String>()
        )
    }

    /// The ledger as a table.
    pub fn ledger_table(&self) -> String {
        let mut out = String::from(
            "  lane    admitted = acknowledged + pending + evicted   |   aggregator holds   gaps  holes\n",
        );
        for r in &self.ledger {
            let mark = if r.balanced { "balanced" } else { "DOES NOT BALANCE" };
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "  {:<7} {:>8} = {:>12} + {:>7} + {:>7}   |   {:>16} {:>6} {:>6}  {mark}",
                r.lane.name(),
                r.admitted,
                r.acknowledged,
                r.pending,
                r.evicted,
                r.held,
                r.gaps,
                r.holes
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> LedgerCheck {
        LedgerCheck {
            lane: Lane::Metric,
            epoch: "0".into(),
            admitted: 10,
            acknowledged: 7,
            pending: 2,
            evicted: 1,
            held: 7,
            gaps: 1,
            holes: 0,
            balanced: false,
        }
    }

    #[test]
    fn a_ledger_balances_only_if_both_sides_agree() {
        assert!(row().judge().balanced);
        assert!(LedgerCheck { held: 9, ..row() }.judge().balanced, "an acknowledgement under way is no loss");
        assert!(!LedgerCheck { pending: 3, ..row() }.judge().balanced);
        assert!(!LedgerCheck { held: 6, ..row() }.judge().balanced);
        assert!(!LedgerCheck { holes: 1, ..row() }.judge().balanced);
        assert!(!LedgerCheck { gaps: 0, ..row() }.judge().balanced, "an undeclared eviction");
        assert!(!LedgerCheck { held: 30, ..row() }.judge().balanced, "more than was ever admitted");
    }

    #[test]
    fn a_demo_is_good_only_with_a_model_digest_a_first_offline_digest_a_ledger_and_every_fault_told() {
        let outage = OutageReport {
            first_arrivals: vec![Lane::Digest, Lane::Alarm],
            offline_digest: Some("x".into()),
            ..OutageReport::default()
        };
        let good = Report { digests_glm: 1, outage, ledger: vec![row().judge()], ..Report::default() };
        assert!(good.clone().judge().ok);
        assert!(!Report { digests_glm: 0, ..good.clone() }.judge().ok);
        assert!(!Report { ledger: vec![], ..good.clone() }.judge().ok);
        let fault = |told| FaultCheck { kind: "hot bearing", channel: "a", told, evidence: None };
        assert!(Report { faults: vec![fault(true)], ..good.clone() }.judge().ok);
        assert!(!Report { faults: vec![fault(true), fault(false)], ..good.clone() }.judge().ok);
        let mut late = good;
        late.outage.first_arrivals = vec![Lane::Metric, Lane::Digest];
        assert_eq!(late.judge().problems.len(), 1);
    }
}
