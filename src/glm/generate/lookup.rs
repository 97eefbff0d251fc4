//! Prompt lookup: what followed the same words before is likely to follow them again (A. Saxena, "Prompt Lookup Decoding", 2023).

/// Longest run of tokens that must be found again, tried first.
const NGRAM_MAX: usize = 3;
/// Shortest.
const NGRAM_MIN: usize = 2;
/// Most tokens proposed at once.
const DRAFT_MAX: usize = 16;
const DRAFT_FIRST: usize = 4;

/// Proposes the next tokens of one sequence; fewer after being wrong, more after being right.
#[derive(Debug, Clone)]
pub(super) struct Lookup {
    draft_tokens: usize,
    /// Runs to sit out, after proposals that were all wrong.
    rest: usize,
    misses: usize,
}

impl Lookup {
    pub(super) fn new() -> Lookup {
        Lookup { draft_tokens: DRAFT_FIRST, rest: 0, misses: 0 }
    }

    /// At most `max` tokens that may follow `tokens`.
    pub(super) fn draft(&mut self, tokens: &[u32], max: usize) -> Vec<u32> {
        if self.rest > 0 {
            self.rest -= 1;
            return Vec::new();
        }
        let max = max.min(self.draft_tokens);
        (NGRAM_MIN..=NGRAM_MAX).rev().find_map(|n| follow(tokens, n, max)).unwrap_or_default()
    }

    /// Of `drafted` tokens so many were right.
    pub(super) fn learn(&mut self, drafted: usize, accepted: usize) {
        if drafted == 0 {
            return;
        }
        if accepted == 0 {
            self.misses += 1;
            self.draft_tokens = 1;
            self.rest = self.misses.min(DRAFT_MAX);
        } else {
            self.misses = 0;
            let next = if accepted == drafted { 2 * self.draft_tokens.max(drafted) } else { accepted + 1 };
            self.draft_tokens = next.clamp(1, DRAFT_MAX);
        }
    }
}

/// What followed the last `n` tokens where they were there before, the latest such place.
fn follow(tokens: &[u32], n: usize, max: usize) -> Option<Vec<u32>> {
    let (before, pattern) = tokens.split_at_checked(tokens.len().checked_sub(n)?)?;
    let windows = tokens.get(..tokens.len() - 1)?.windows(n);
    let at = windows.rev().position(|window| window == pattern).map(|back| tokens.len() - 1 - back)?;
    let known = tokens.get(at..(at + max).min(tokens.len()))?;
    (!before.is_empty() && !known.is_empty()).then(|| known.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_the_latest_same_words_is_proposed() {
        let mut lookup = Lookup::new();
        assert_eq!(lookup.draft(&[1, 2, 3, 9, 8, 7, 6, 5, 1, 2, 3], 8), [9, 8, 7, 6]);
        assert_eq!(lookup.draft(&[1, 2, 3, 9, 4, 1, 2, 3, 7, 6, 1, 2, 3], 2), [7, 6], "the latest");
        assert_eq!(lookup.draft(&[5, 2, 3, 9, 4, 1, 2, 3], 8), [9, 4, 1, 2], "two words are enough");
        assert_eq!(lookup.draft(&[4, 4, 4], 8), [4], "a run goes on");
        assert!(lookup.draft(&[1, 2, 3, 4], 8).is_empty());
        assert!(lookup.draft(&[], 8).is_empty() && lookup.draft(&[1], 8).is_empty());
        assert!(lookup.draft(&[1, 2, 1, 2], 0).is_empty());
    }

    #[test]
    fn being_wrong_makes_modest_and_being_right_bold() {
        let tokens: Vec<u32> = (0..40).chain(0..3).collect();
        let mut lookup = Lookup::new();
        lookup.learn(4, 4);
        assert_eq!(lookup.draft(&tokens, 100).len(), 8);
        lookup.learn(8, 3);
        assert_eq!(lookup.draft(&tokens, 100).len(), 4);
        lookup.learn(4, 0);
        assert_eq!(lookup.draft(&tokens, 100).len(), 0, "sits one out");
        assert_eq!(lookup.draft(&tokens, 100).len(), 1);
        lookup.learn(1, 0);
        let rest = (0..10).take_while(|_| lookup.draft(&tokens, 100).is_empty()).count();
        assert_eq!(rest, 2);
    }
}
