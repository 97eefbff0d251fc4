//! Counters and gauges under their Prometheus names, all in one table.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number with a name; a counter only grows, a gauge is set.
pub struct Metric {
    name: &'static str,
    /// `key="value"` pairs, or empty.
    labels: &'static str,
    help: &'static str,
    kind: Kind,
    value: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

impl Metric {
    const fn new(name: &'static str, labels: &'static str, help: &'static str, kind: Kind) -> Self {
        Self { name, labels, help, kind, value: AtomicU64::new(0) }
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.value.fetch_add(n, Ordering::Relaxed);
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Sets a gauge.
    pub fn set(&self, n: u64) {
        self.value.store(n, Ordering::Relaxed);
    }

    /// The number now.
    pub fn value(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $kind:ident $ident:ident = $name:literal $({ $labels:literal })?;)+) => {
        $($(#[doc = $help])+ pub static $ident: Metric =
            Metric::new($name, concat!($($labels)?), concat!($($help),+), Kind::$kind);)+
        /// Every metric, in the order of the table; those of one name stand together.
        pub static ALL: &[&Metric] = &[$(&$ident),+];
    };
}

metrics! {
    /// Readings taken from sources.
    Counter READINGS = "outpost_readings_total";
    /// Bytes that the readings would take as they are: 16 each, for time and value.
    Counter SENSED_BYTES = "outpost_sensed_bytes_total";
    /// Readings that carried no value.
    Counter READINGS_NO_DATA = "outpost_readings_no_data_total";
    /// Readings refused because they lie outside the range of their channel.
    Counter READINGS_OUT_OF_RANGE = "outpost_readings_out_of_range_total";
    /// Values beyond the calibration of their channel.
    Counter READINGS_UNCERTAIN = "outpost_readings_uncertain_total";
    /// Input that could not be understood.
    Counter MALFORMED = "outpost_input_malformed_total";
    /// Readings older than their channel's watermark.
    Counter LATE = "outpost_readings_late_total";
    /// Readings so far ahead of their channel that they were left out.
    Counter AHEAD = "outpost_readings_ahead_total";
    /// Log files that patterns match and that are too many to be followed.
    Counter LOG_FILES_LEFT_OUT = "outpost_log_files_left_out_total";
    /// Readings dropped because the pipeline was full.
    Counter READINGS_DROPPED = "outpost_readings_dropped_total";
    /// Questions to devices that had no answer, by the reason.
    Counter FIELD_TIMEOUTS = "outpost_field_faults_total" {"kind=\"timeout\""};
    /// Questions to devices that had no answer, by the reason.
    Counter FIELD_CHECKSUMS = "outpost_field_faults_total" {"kind=\"checksum\""};
    /// Questions to devices that had no answer, by the reason.
    Counter FIELD_CONNECTIONS = "outpost_field_faults_total" {"kind=\"connection\""};
    /// Questions to devices that had no answer, by the reason.
    Counter FIELD_REFUSED = "outpost_field_faults_total" {"kind=\"refused\""};
    /// Messages from brokers in the field that were passed over: sent twice, or retained without a time of their own.
    Counter FIELD_DUPLICATES = "outpost_field_messages_dropped_total" {"kind=\"duplicate\""};
    /// Messages from brokers in the field that were passed over: sent twice, or retained without a time of their own.
    Counter FIELD_RETAINED = "outpost_field_messages_dropped_total" {"kind=\"retained\""};
    /// Messages from brokers in the field that were passed over: longer than any reading.
    Counter FIELD_OVERSIZE = "outpost_field_messages_dropped_total" {"kind=\"oversize\""};
    /// Times that lines of a log file were rotated away before they were read.
    Counter LOG_GAPS = "outpost_log_gaps_total";
    /// Windows closed and judged.
    Counter WINDOWS = "outpost_windows_total";
    /// Episodes opened.
    Counter EPISODES = "outpost_episodes_opened_total";
    /// Frames for small models by their end: skipped where too many waited or no backend could answer.
    Counter INFER_JUDGED = "outpost_infer_frames_total" {"end=\"judged\""};
    /// Frames for small models by their end: skipped where too many waited or no backend could answer.
    Counter INFER_SKIPPED = "outpost_infer_frames_total" {"end=\"skipped\""};
    /// Frames that a small model found odd.
    Counter INFER_ODD = "outpost_infer_odd_total";
    /// Time that small models took.
    Counter INFER_US = "outpost_infer_microseconds_total";
    /// Times that a backend failed and the next one answered.
    Counter INFER_BACKEND_FAILURES = "outpost_infer_backend_failures_total";
    /// Times that a backend had failed so often that it is asked no more.
    Counter INFER_QUARANTINES = "outpost_infer_backend_quarantines_total";
    /// Worker processes that were killed and are not gone: a driver holds each of them.
    Gauge INFER_UNREAPED = "outpost_infer_workers_unreaped";
    /// Digests by engine.
    Counter DIGESTS_GLM = "outpost_digests_total" {"engine=\"glm\""};
    /// Digests by engine.
    Counter DIGESTS_TEMPLATE = "outpost_digests_total" {"engine=\"template\""};
    /// Time of the last digest by stage.
    Gauge DIGEST_ENCODE_US = "outpost_digest_stage_microseconds" {"stage=\"encode\""};
    /// Time of the last digest by stage.
    Gauge DIGEST_PREFILL_US = "outpost_digest_stage_microseconds" {"stage=\"prefill\""};
    /// Time of the last digest by stage.
    Gauge DIGEST_DECODE_US = "outpost_digest_stage_microseconds" {"stage=\"decode\""};
    /// Questions answered.
    Counter QUESTIONS = "outpost_questions_total";
    /// Jobs that wait for the language model.
    Gauge GLM_WAITING_ALARM = "outpost_glm_waiting_jobs" {"priority=\"alarm\""};
    /// Jobs that wait for the language model.
    Gauge GLM_WAITING_ASK = "outpost_glm_waiting_jobs" {"priority=\"ask\""};
    /// Jobs that wait for the language model.
    Gauge GLM_WAITING_PERIODIC = "outpost_glm_waiting_jobs" {"priority=\"periodic\""};
    /// Answers that the language model is writing.
    Gauge GLM_RUNNING = "outpost_glm_running_jobs";
    /// Share of the last minute that the language model was at work: at 100 it is saturated.
    Gauge GLM_BUSY_PERCENT = "outpost_glm_busy_percent";
    /// Jobs of the language model by their end.
    Counter GLM_DONE = "outpost_glm_jobs_total" {"end=\"done\""};
    /// Jobs of the language model by their end.
    Counter GLM_FAILED = "outpost_glm_jobs_total" {"end=\"failed\""};
    /// Jobs of the language model by their end.
    Counter GLM_LATE = "outpost_glm_jobs_total" {"end=\"late\""};
    /// Jobs of the language model by their end.
    Counter GLM_CANCELLED = "outpost_glm_jobs_total" {"end=\"cancelled\""};
    /// Jobs of the language model by their end.
    Counter GLM_REFUSED = "outpost_glm_jobs_total" {"end=\"refused\""};
    /// Tokens of the language model: read, taken from what was read before, written.
    Counter GLM_TOKENS_PROMPT = "outpost_glm_tokens_total" {"kind=\"prompt\""};
    /// Tokens of the language model: read, taken from what was read before, written.
    Counter GLM_TOKENS_CACHED = "outpost_glm_tokens_total" {"kind=\"cached\""};
    /// Tokens of the language model: read, taken from what was read before, written.
    Counter GLM_TOKENS_ANSWER = "outpost_glm_tokens_total" {"kind=\"answer\""};
    /// Time that jobs of the language model spent in each stage.
    Counter GLM_WAIT_US = "outpost_glm_stage_microseconds_total" {"stage=\"wait\""};
    /// Time that jobs of the language model spent in each stage.
    Counter GLM_PREFILL_US = "outpost_glm_stage_microseconds_total" {"stage=\"prefill\""};
    /// Time that jobs of the language model spent in each stage.
    Counter GLM_DECODE_US = "outpost_glm_stage_microseconds_total" {"stage=\"decode\""};
    /// 1 while a language model is in memory.
    Gauge GLM_LOADED = "outpost_glm_loaded";
    /// Memory that the language model in use may take.
    Gauge GLM_MEMORY_BYTES = "outpost_glm_memory_bytes";
    /// Times a language model was loaded.
    Counter GLM_LOADS = "outpost_glm_loads_total";
    /// Times a language model gave its memory back because there was no work.
    Counter GLM_UNLOADS = "outpost_glm_unloads_total";
    /// 1 while the language model waits because of temperature or load.
    Gauge GLM_PAUSED = "outpost_glm_paused";
    /// Times the language model began to wait because of temperature or load.
    Counter GLM_PAUSES = "outpost_glm_pauses_total";
    /// Durable commits of the spool.
    Counter SPOOL_COMMITS = "outpost_spool_commits_total";
    /// Commits that the disk refused.
    Counter SPOOL_COMMIT_ERRORS = "outpost_spool_commit_errors_total";
    /// Bytes of pending blocks.
    Gauge SPOOL_BYTES = "outpost_spool_bytes";
    /// Records waiting for acknowledgement.
    Gauge SPOOL_PENDING = "outpost_spool_pending_records";
    /// Records given up, each in a declared gap.
    Counter SPOOL_EVICTED = "outpost_spool_evicted_records_total";
    /// Blocks that the far side refused for what they are, each kept in a file.
    Counter SPOOL_DEAD_LETTERS = "outpost_spool_dead_letters_total";
    /// Of those files, deleted to make room for newer ones.
    Counter SPOOL_DEAD_LETTERS_DROPPED = "outpost_spool_dead_letters_dropped_total";
    /// 1 while the line is up.
    Gauge LINK_UP = "outpost_link_up";
    /// Times the line went down.
    Counter LINK_DOWNS = "outpost_link_downs_total";
    /// Messages published, heartbeats and announcements included.
    Counter LINK_PUBLISHED = "outpost_link_published_total";
    /// Payload bytes published.
    Counter LINK_PUBLISHED_BYTES = "outpost_link_published_bytes_total";
    /// Bytes on the line, TLS included, as reckoned by packet.
    Counter LINK_BYTES_BLOCKS = "outpost_link_bytes_total" {"what=\"blocks\""};
    /// Bytes on the line, TLS included, as reckoned by packet.
    Counter LINK_BYTES_OTHER = "outpost_link_bytes_total" {"what=\"other\""};
    /// Bytes that may be on the line per day of UTC; 0 is without bound.
    Gauge UPLINK_BUDGET_BYTES = "outpost_uplink_budget_bytes";
    /// Bytes on the line today.
    Gauge UPLINK_USED_BYTES = "outpost_uplink_used_bytes";
    /// What is sent: 0 everything, 1 no single readings, 2 only digests and alarms.
    Gauge UPLINK_FIDELITY = "outpost_uplink_fidelity";
    /// Messages dropped because the seat is slower than the broker.
    Counter LINK_MESSAGES_DROPPED = "outpost_link_messages_dropped_total";
    /// Packets from the broker that could not be understood.
    Counter PACKETS_MALFORMED = "outpost_packets_malformed_total";
    /// Blocks committed by the aggregator.
    Counter INTAKE_BLOCKS = "outpost_intake_blocks_total";
    /// Records committed by the aggregator.
    Counter INTAKE_RECORDS = "outpost_intake_records_total";
    /// Blocks that the aggregator already had.
    Counter INTAKE_DUPLICATES = "outpost_intake_duplicate_blocks_total";
    /// Devices whose ledger is not good.
    Gauge LEDGERS_WRONG = "outpost_ledger_wrong_devices";
    /// Records that devices promised and that are neither here, nor declared lost, nor held by them any more.
    Gauge LEDGER_UNDECLARED = "outpost_ledger_undeclared_records";
    /// Blocks of devices that are newer than the aggregator, kept until a newer one reads them.
    Counter INTAKE_UNREAD = "outpost_intake_unread_blocks_total";
    /// Blocks that the aggregator refused.
    Counter INTAKE_REFUSED = "outpost_intake_refused_blocks_total";
}

/// The whole table in Prometheus' text format, version 0.0.4.
pub fn render() -> String {
    let mut out = String::with_capacity(4096);
    let mut previous = "";
    for m in ALL {
        if m.name != previous {
            let kind = if m.kind == Kind::Counter { "counter" } else { "gauge" };
            let _ = writeln!(out, "# HELP {} {}\n# TYPE {} {kind}", m.name, m.help.trim(), m.name);
            previous = m.name;
        }
        let _ = match m.labels {
            "" => writeln!(out, "{} {}", m.name, m.value()),
            labels => writeln!(out, "{}{{{labels}}} {}", m.name, m.value()),
        };
    }
    super::backends::render(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_of_one_name_stand_together_and_counters_end_in_total() {
        let mut seen: Vec<&str> = Vec::new();
        for m in ALL {
            assert_eq!(m.kind == Kind::Counter, m.name.ends_with("_total"), "{}", m.name);
            if seen.last() != Some(&m.name) {
                assert!(!seen.contains(&m.name), "{} is split", m.name);
                seen.push(m.name);
            }
        }
    }

    #[test]
    fn the_text_format_has_one_header_per_name() {
        let text = render();
        assert_eq!(text.matches("# TYPE outpost_digests_total counter").count(), 1);
        assert!(text.contains("outpost_digests_total{engine=\"glm\"} "));
    }
}
