//! What was not understood: every offence counts, few are logged.

use std::fmt;
use std::sync::Arc;

use crate::clock;
use crate::limits;
use crate::observe::{emit, sensor as events};
use crate::time::Mono;

/// Counts the malformed input of one source and logs a sample of it, at most one per
/// [`limits::MALFORMED_LOG_S_MIN`].
pub(super) struct MalformedLog {
    source: Arc<str>,
    total: u64,
    unreported: u64,
    logged: Option<Mono>,
}

impl MalformedLog {
    pub(super) fn new(source: &Arc<str>) -> Self {
        Self { source: Arc::clone(source), total: 0, unreported: 0, logged: None }
    }

    /// Takes note of one offence; `sample` is the line, or its start.
    pub(super) fn note(&mut self, reason: &dyn fmt::Display, sample: &[u8]) {
        self.note_many(1, reason, sample);
    }

    /// Takes note of `count` offences, of which `sample` is the latest.
    pub(super) fn note_many(&mut self, count: u64, reason: &dyn fmt::Display, sample: &[u8]) {
        emit(&events::MalformedSeen { count });
        self.total += count;
        self.unreported += count;
        let now = clock::mono();
        if self.logged.is_some_and(|last| now.since(last).as_secs() < limits::MALFORMED_LOG_S_MIN) {
            return;
        }
        self.logged = Some(now);
        let shown = &sample[..sample.len().min(limits::MALFORMED_SAMPLE_BYTES_MAX)];
        let sample = &String::from_utf8_lossy(shown);
        emit(&events::MalformedInput { source: &self.source, reason, sample, count: self.unreported });
        self.unreported = 0;
    }

    /// Offences so far.
    pub(super) fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_whole_and_logged_once() {
        let mut log = MalformedLog::new(&Arc::from("feed"));
        for _ in 0..1000 {
            log.note(&"nonsense", &[0xff; 500]);
        }
        log.note_many(5, &"nonsense", b"");
        assert_eq!((log.total(), log.unreported), (1005, 1004));
    }
}
