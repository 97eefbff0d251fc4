//! Whether anybody is subscribed to one lane's topic, as far as the broker says.

use std::time::Duration;

use crate::time::Mono;

/// A lane that nobody hears tries with one block, ever more rarely.
#[derive(Debug, Clone, Default)]
pub(super) struct Hearing {
    /// In a row, that nobody heard; zero: somebody may.
    tries: u32,
    /// When it was tried last, and when it is tried again.
    tried: Mono,
    quiet_until: Mono,
    /// When there was reason to hurry last.
    hurried: Mono,
    /// It was said that nobody hears and then acknowledged: the broker does not know, as one node of a cluster may not.
    believed_from: Mono,
}

impl Hearing {
    pub(super) fn is_unheard(&self) -> bool {
        self.tries > 0
    }

    /// Whether a try has failed after the answer that began it: no mere moment between two subscriptions.
    pub(super) fn is_long_unheard(&self) -> bool {
        self.tries > 1
    }

    /// The broker says that nobody hears a block that left at `departed`. False: it is not to be believed.
    pub(super) fn nobody(&mut self, now: Mono, departed: Mono) -> bool {
        if now < self.believed_from {
            return false;
        }
        // What left before the answer that began this says nothing new.
        if self.tries == 0 || self.quiet_until <= departed {
            let ever_longer = Duration::from_secs(1 << self.tries.min(5)).min(QUIET_MAX);
            // The reason to hurry came while this was under way.
            let wait = if self.hurried > departed { HURRY_WAIT } else { ever_longer };
            (self.tried, self.quiet_until) = (now, now + wait);
            self.tries += 1;
        }
        true
    }

    /// Somebody may hear. Returns whether that is news.
    pub(super) fn heard(&mut self) -> bool {
        let is_news = self.is_unheard();
        *self = Self { believed_from: self.believed_from, ..Self::default() };
        is_news
    }

    /// An acknowledgement came all the same. Returns whether that is news.
    pub(super) fn heard_after_all(&mut self, now: Mono, doubt: Duration) -> bool {
        let is_news = self.heard();
        if is_news {
            self.believed_from = now + doubt;
        }
        is_news
    }

    /// There is reason to try soon, but not more than once a second.
    pub(super) fn hurry(&mut self, now: Mono) {
        self.hurried = now;
        self.quiet_until = self.quiet_until.min(self.tried + HURRY_WAIT);
    }

    /// Whether it is time to try, or nothing to try.
    pub(super) fn may_send(&self, now: Mono) -> bool {
        !self.is_unheard() || self.quiet_until <= now
    }

    /// When it is tried again.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.is_unheard().then_some(self.quiet_until)
    }
}

/// Longest time between two tries.
const QUIET_MAX: Duration = Duration::from_secs(30);
/// The same, where there is reason to hurry.
const HURRY_WAIT: Duration = Duration::from_secs(1);
