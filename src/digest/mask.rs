//! A set of tokens: what may be written next.

use super::vocab::TokenId;

/// A set of tokens of one vocabulary, one bit each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenMask {
    bits: Vec<u64>,
    tokens: usize,
}

impl TokenMask {
    /// No token of a vocabulary of `tokens`.
    pub fn none(tokens: usize) -> Self {
        Self { bits: vec![0; tokens.div_ceil(64)], tokens }
    }

    /// How many tokens the vocabulary has; ids from there on are never in the set.
    pub fn vocab(&self) -> usize {
        self.tokens
    }

    /// How many tokens are in the set.
    pub fn count(&self) -> usize {
        self.bits.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.bits.iter().all(|&word| word == 0)
    }

    /// Whether `id` is in the set.
    pub fn contains(&self, id: TokenId) -> bool {
        self.bits.get(id as usize / 64).is_some_and(|word| word >> (id % 64) & 1 == 1)
    }

    /// The tokens of the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = TokenId> + '_ {
        self.bits.iter().zip((0..).step_by(64)).flat_map(|(&word, first)| {
            let without_lowest = |rest: &u64| Some(rest & (rest - 1)).filter(|&rest| rest != 0);
            std::iter::successors(Some(word).filter(|&word| word != 0), without_lowest)
                .map(move |rest| first + rest.trailing_zeros())
        })
    }

    /// The only token of the set.
    pub fn single(&self) -> Option<TokenId> {
        let mut tokens = self.iter();
        tokens.next().filter(|_| tokens.next().is_none())
    }

    /// The token of the set with the highest logit, the first of equals; NaN loses. `None` for an empty set.
    pub fn argmax(&self, logits: &[f32]) -> Option<TokenId> {
        let score = |id: TokenId| {
            logits.get(id as usize).copied().filter(|x| !x.is_nan()).unwrap_or(f32::NEG_INFINITY)
        };
        self.iter().reduce(|best, id| if score(id) > score(best) { id } else { best })
    }

    /// Puts `id` into the set, or takes it out; an id beyond the vocabulary is left out.
    pub fn set(&mut self, id: TokenId, allowed: bool) {
        let word = self.bits.get_mut(id as usize / 64).filter(|_| (id as usize) < self.tokens);
        if let Some(word) = word {
            let bit = 1 << (id % 64);
            *word = if allowed { *word | bit } else { *word & !bit };
        }
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        self.bits.fill(0);
    }

    /// Puts in everything that is in `other`, a set of the same vocabulary.
    pub fn add(&mut self, other: &TokenMask) {
        debug_assert_eq!(self.tokens, other.tokens);
        for (word, more) in self.bits.iter_mut().zip(&other.bits) {
            *word |= more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_and_nothing_beyond_the_vocabulary() {
        let mut mask = TokenMask::none(131);
        for id in [0, 63, 64, 130, 131, 191, 4_000_000] {
            mask.set(id, true);
        }
        assert_eq!((mask.iter().collect::<Vec<_>>(), mask.count()), (vec![0, 63, 64, 130], 4));
        assert!(mask.contains(64) && !mask.contains(65) && !mask.contains(131) && mask.single().is_none());
        mask.set(64, false);
        let mut other = TokenMask::none(131);
        other.set(65, true);
        assert_eq!(other.single(), Some(65));
        other.add(&mask);
        assert_eq!(other.iter().collect::<Vec<_>>(), [0, 63, 65, 130]);
        other.clear();
        assert!(other.is_empty() && other.single().is_none());
    }

    #[test]
    fn what_is_shut_out_can_not_win() {
        let mut mask = TokenMask::none(130);
        let mut logits: Vec<f32> = (0..140u8).map(f32::from).collect();
        assert_eq!(mask.argmax(&logits), None);
        for id in [3, 7, 129] {
            mask.set(id, true);
        }
        assert_eq!(mask.argmax(&logits), Some(129));
        logits[129] = f32::NAN;
        assert_eq!(mask.argmax(&logits), Some(7));
        logits[129] = 1.0;
    }
}
