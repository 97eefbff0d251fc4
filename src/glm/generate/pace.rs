//! How many tokens of a prompt one run may take, so that nobody waits for a run much longer than was agreed.

use std::time::Duration;

/// Fewest tokens of a piece: the kernels take weights once for so many.
const TOKENS_MIN: usize = 16;
/// Of the first piece, when nothing is known.
const TOKENS_FIRST: usize = 32;
/// Runs of fewer tokens say more about memory than about arithmetic.
const TELLING_TOKENS: usize = 8;
/// Weight of the newest run.
const NEWEST: f64 = 0.3;

/// Learns from runs how long a token takes.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    target_s: f64,
    tokens_max: usize,
    token_s: Option<f64>,
}

impl Pace {
    pub(super) fn new(target: Duration, tokens_max: usize) -> Pace {
        Pace { target_s: target.as_secs_f64(), tokens_max, token_s: None }
    }

    /// Tokens of the next run.
    pub(super) fn tokens(&self) -> usize {
        let wanted = self.token_s.map_or(TOKENS_FIRST, |token_s| (self.target_s / token_s) as usize);
        // Whole tiles of the kernels.
        let whole = wanted / TOKENS_MIN * TOKENS_MIN;
        whole.max(TOKENS_MIN).min(self.tokens_max)
    }

    /// A run of so many tokens took so long.
    pub(super) fn learn(&mut self, tokens: usize, took: Duration) {
        if tokens < TELLING_TOKENS.min(self.tokens_max) {
            return;
        }
        let now = (took.as_secs_f64() / tokens as f64).max(1e-9);
        self.token_s = Some(self.token_s.map_or(now, |then| then + NEWEST * (now - then)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_grow_and_shrink_with_the_speed_within_their_bounds() {
        let mut pace = Pace::new(Duration::from_millis(100), 256);
        assert_eq!(pace.tokens(), 32);
        pace.learn(32, Duration::from_millis(32));
        assert_eq!(pace.tokens(), 96);
        (0..20).for_each(|_| pace.learn(96, Duration::from_secs(9)));
        assert_eq!(pace.tokens(), 16);
        (0..40).for_each(|_| pace.learn(16, Duration::from_micros(16)));
        assert_eq!(pace.tokens(), 256);
        pace.learn(1, Duration::from_secs(9));
        assert_eq!(pace.tokens(), 256, "one token says nothing about prompts");
        assert_eq!(Pace::new(Duration::from_millis(100), 4).tokens(), 4);
    }
}
