//! How jobs of the language models ended, and how busy the models were.

use std::time::Duration;

use smol::channel::Sender;

use super::generate::Usage;
use super::speaker::{End, Said};
use super::worker::TalkJob;
use crate::clock;
use crate::observe::emit;
use crate::observe::glm::{GlmJob, JobEnd};
use crate::time::Mono;

/// Ends a conversation before it began.
pub(super) fn refuse(job: &TalkJob, why: End) {
    say_end(job.kind, &job.pieces, why, clock::mono().since(job.asked));
}

/// Says the end of a conversation of kind `kind` that never began, and keeps account of it.
pub(super) fn say_end(kind: &'static str, pieces: &Sender<Said>, why: End, waited: Duration) {
    account(kind, &why, &Usage::default(), waited);
    // A caller that has gone need not know.
    let _ = pieces.try_send(Said::End { why, usage: Usage::default() });
}

/// Keeps account of a conversation that has ended.
pub(super) fn account(kind: &'static str, why: &End, usage: &Usage, waited: Duration) {
    let (end, reason) = match why {
        End::Stop | End::Length => (JobEnd::Done, ""),
        End::Late => (JobEnd::Late, "its time was up"),
        End::Cancelled => (JobEnd::Cancelled, "nobody wants it any more"),
        End::Refused(reason) => (JobEnd::Refused, reason.as_str()),
        End::Failed(reason) => (JobEnd::Failed, reason.as_str()),
    };
    told(kind, end, reason, usage, waited);
}

/// Keeps account of any job.
pub(super) fn told(kind: &'static str, end: JobEnd, reason: &str, usage: &Usage, waited: Duration) {
    emit(&GlmJob {
        kind,
        end,
        reason,
        wait_us: u64::try_from(waited.as_micros()).unwrap_or(u64::MAX).saturating_add(usage.queued_us),
        prefill_us: usage.prefill_us,
        decode_us: usage.decode_us,
        prompt_tokens: usage.prompt_tokens.into(),
        cached_tokens: usage.cached_tokens.into(),
        answer_tokens: usage.answer_tokens.into(),
    });
}

/// The share of the time that models were at work, over about a minute.
pub(super) struct Load {
    since: Mono,
    busy: Duration,
    share: f64,
}

impl Load {
    pub(super) fn new(now: Mono) -> Load {
        Load { since: now, busy: Duration::ZERO, share: 0.0 }
    }

    /// Something worked for `time`.
    pub(super) fn worked(&mut self, time: Duration) {
        self.busy += time;
    }

    /// Anew every second.
    pub(super) fn percent(&mut self, now: Mono) -> Option<u64> {
        let elapsed = now.since(self.since).as_secs_f64();
        if elapsed < 1.0 {
            return None;
        }
        let share = (self.busy.as_secs_f64() / elapsed).min(1.0);
        self.share += (share - self.share) * (elapsed / LOAD_WINDOW_S).min(1.0);
        *self = Load { since: now, busy: Duration::ZERO, share: self.share };
        Some((self.share * 100.0).round() as u64)
    }

    /// Whether there is anything to tell.
    pub(super) fn is_noticeable(&self) -> bool {
        self.share >= 0.005 || self.busy > Duration::ZERO
    }
}

const LOAD_WINDOW_S: f64 = 60.0;
