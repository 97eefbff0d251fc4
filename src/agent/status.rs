//! What the agent tells of itself at `/api/status`: the shape is part of the interface, fields are only added.

use std::collections::BTreeMap;

pub use super::meter::MeterBrief;
pub use crate::observe::backends::BackendBrief;
use serde::{Deserialize, Serialize};

use crate::digest::Engine;
use crate::reading::Severity;
use crate::spool::LaneLedger;
use crate::wire::{GapReason, Lane, epoch_text};

/// The agent at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Device name.
    pub device: String,
    /// Program version.
    pub version: String,
    /// Seconds since the agent started.
    pub uptime_s: u64,
    /// What is known of the wall clock: `unset`, `free`, `synced`.
    pub clock: String,
    /// The line to the broker.
    pub line: LineStatus,
    /// What the line carried today, and may.
    pub meter: MeterBrief,
    /// Readings taken since the start.
    pub readings: u64,
    /// What they would take as they are, 16 bytes each.
    #[serde(default)]
    pub sensed_bytes: u64,
    /// What went over the line of records since the start, TLS included, as reckoned by packet.
    #[serde(default)]
    pub sent_bytes: u64,
    /// The rest of what went over it in either direction: handshakes, heartbeats, acknowledgements.
    #[serde(default)]
    pub session_bytes: u64,
    /// Inputs that could not be understood.
    pub malformed: u64,
    /// Windows judged since the start.
    pub windows: u64,
    /// Episodes that are open now.
    pub episodes_open: usize,
    /// Digests worded by the model.
    pub digests_glm: u64,
    /// Digests worded by the template.
    pub digests_template: u64,
    /// The latest digest.
    pub last_digest: Option<DigestBrief>,
    /// The spool.
    pub spool: SpoolBrief,
    /// The ledger, one row per lane.
    pub ledger: Vec<LedgerRow>,
    /// Names of the sources and whether each is still running.
    pub sources: Vec<SourceBrief>,
    /// Channels whose latest reading is not as it should be, at most [`crate::limits::STATUS_DOUBTS_MAX`] of them.
    #[serde(default)]
    pub doubtful: Vec<DoubtBrief>,
    /// Where each backend of each small model stands, and a device of the language model.
    #[serde(default)]
    pub backends: Vec<BackendBrief>,
}

/// The line to the broker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LineStatus {
    /// Connected.
    pub up: bool,
    /// For how long it has been so, in seconds.
    pub since_s: u64,
    /// How often it went down since the start.
    pub downs: u64,
    /// Why it is down, or why it went down last.
    pub reason: Option<String>,
    /// Lanes of which the broker says that nobody is subscribed to them; they wait in the spool.
    #[serde(default)]
    pub unheard: Vec<String>,
}

/// A digest in brief.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DigestBrief {
    /// Who worded it.
    pub engine: Engine,
    /// The verdict.
    pub verdict: Severity,
    /// The likely cause.
    pub cause: String,
    /// The words.
    pub text: String,
    /// Why the template had to do it, or empty.
    pub fallback_reason: String,
    /// Encode, prefill and decode times in microseconds.
    pub stage_us: [u32; 3],
}

/// The spool in brief.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SpoolBrief {
    /// Records that wait for acknowledgement.
    pub pending_records: u64,
    /// Their bytes, encoded.
    pub pending_bytes: u64,
    /// Age of the oldest block in seconds, if one waits.
    pub oldest_age_s: Option<u64>,
    /// What the disk last refused, if the latest commit failed.
    pub error: Option<String>,
    /// Blocks that the far side will not take, in files of their own.
    #[serde(default)]
    pub dead_letters: usize,
}

/// One lane of the ledger: `admitted = acknowledged + pending + evicted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRow {
    /// The lane.
    pub lane: Lane,
    /// The epoch, 16 hex digits.
    pub epoch: String,
    /// Records taken into the spool in this epoch.
    pub admitted: u64,
    /// Records that the far side has confirmed.
    pub acknowledged: u64,
    /// Records that still wait.
    pub pending: u64,
    /// Records given up, each in a declared gap.
    pub evicted: u64,
    /// The same by reason; reasons that gave up nothing are left out.
    #[serde(default)]
    pub evicted_by_reason: BTreeMap<String, u64>,
    /// What they take, encoded.
    #[serde(default)]
    pub bytes: u64,
    /// The lane's own bound of that, if it has one.
    #[serde(default)]
    pub bytes_max: Option<u64>,
}

impl Status {
    /// By how much what is sent is less than what was sensed, in percent; none before anything was sensed.
    pub fn saved_percent(&self) -> Option<f64> {
        saved_percent(self.sensed_bytes, self.sent_bytes)
    }
}

/// By how much `sent` is less than `sensed`, in percent.
pub fn saved_percent(sensed: u64, sent: u64) -> Option<f64> {
    (sensed > 0).then(|| 100.0 * (1.0 - sent as f64 / sensed as f64))
}

impl LedgerRow {
    /// The row of `lane` out of its books.
    pub fn of(lane: Lane, books: &LaneLedger) -> Self {
        let by_reason = GapReason::ALL.iter().zip(books.evicted).filter(|(_, n)| *n > 0);
        LedgerRow {
            lane,
            epoch: epoch_text(books.epoch),
            admitted: books.admitted,
            acknowledged: books.acknowledged,
            pending: books.pending,
            evicted: books.evicted_total(),
            evicted_by_reason: by_reason.map(|(why, n)| (why.name().to_owned(), n)).collect(),
            bytes: books.bytes,
            bytes_max: None,
        }
    }

    /// Whether nothing is missing.
    pub fn balances(&self) -> bool {
        self.admitted == self.acknowledged + self.pending + self.evicted
    }
}

/// A source in brief.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceBrief {
    /// Its name.
    pub name: String,
    /// `running`, `ended` or `failed: why`.
    pub state: String,
}

/// A channel whose latest reading is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoubtBrief {
    /// Its name.
    pub channel: String,
    /// `uncertain` or `bad`.
    pub quality: String,
    /// Why it has no value: `no_answer`, `out_of_range` and so on.
    pub missing: Option<String>,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn example() -> Status {
        Status {
            device: "gw-1".into(),
            version: "0".into(),
            uptime_s: 5,
            clock: "free".into(),
            line: LineStatus::default(),
            meter: MeterBrief::default(),
            readings: 1,
            sensed_bytes: 16,
            sent_bytes: 4,
            session_bytes: 1,
            malformed: 0,
            windows: 0,
            episodes_open: 0,
            digests_glm: 0,
            digests_template: 0,
            last_digest: None,
            spool: SpoolBrief::default(),
            ledger: vec![row()],
            sources: Vec::new(),
            doubtful: Vec::new(),
            backends: Vec::new(),
        }
    }

    fn row() -> LedgerRow {
        LedgerRow {
            lane: Lane::Raw,
            epoch: "0".into(),
            admitted: 6,
            acknowledged: 3,
            pending: 2,
            evicted: 1,
            evicted_by_reason: BTreeMap::new(),
            bytes: 4096,
            bytes_max: Some(8192),
        }
    }

    #[test]
    fn a_row_balances_only_if_every_record_is_somewhere() {
        assert!(row().balances());
        assert!(!LedgerRow { pending: 1, ..row() }.balances());
    }

    #[test]
    fn what_is_sent_is_held_against_what_was_sensed() {
        assert_eq!(example().saved_percent(), Some(75.0));
        assert_eq!(saved_percent(0, 5), None);
    }

    #[test]
    fn a_status_survives_the_way_through_json() {
        let text = serde_json::to_string(&example()).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), example());
    }
}
