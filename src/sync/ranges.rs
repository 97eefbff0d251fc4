//! A set of sequence numbers as few inclusive ranges.
//!
//! The ranges are ascending, disjoint and never adjacent, so equal sets look equal. Numbers run from 1 to
//! [`SEQ_MAX`]; 0 means "nothing yet" everywhere and is never a member.

use serde::{Deserialize, Serialize};

/// Highest sequence number: leaves room for arithmetic, and 2^63 records are never reached.
pub const SEQ_MAX: u64 = u64::MAX / 2;

/// A set of sequence numbers. Memory and time grow with the number of ranges, not of members.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct RangeSet {
    ranges: Vec<(u64, u64)>,
}

/// A stored set that is out of order, overlapping or out of range; the store's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sequence ranges are not ascending and disjoint; the stored state is damaged")]
pub struct BadRanges;

impl RangeSet {
    /// Nothing.
    pub const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// Adds `first..=last` and returns how many members are new. An empty or impossible range adds nothing.
    pub fn insert(&mut self, first: u64, last: u64) -> u64 {
        if first == 0 || last < first || last > SEQ_MAX {
            return 0;
        }
        // Neighbours that overlap or touch melt into one.
        let from = self.ranges.partition_point(|r| r.1 + 1 < first);
        let to = self.ranges.partition_point(|r| r.0 <= last + 1);
        let melted = &self.ranges[from..to];
        let before: u64 = melted.iter().map(|r| r.1 - r.0 + 1).sum();
        let whole = match (melted.first(), melted.last()) {
            (Some(low), Some(high)) => (first.min(low.0), last.max(high.1)),
            _ => (first, last),
        };
        self.ranges.splice(from..to, [whole]);
        whole.1 - whole.0 + 1 - before
    }

    /// Takes `first..=last` out.
    pub fn remove(&mut self, first: u64, last: u64) {
        let from = self.ranges.partition_point(|r| r.1 < first);
        let to = self.ranges.partition_point(|r| r.0 <= last);
        if last < first || from >= to {
            return;
        }
        let (low, high) = (self.ranges[from], self.ranges[to - 1]);
        let left = (low.0 < first).then(|| (low.0, first - 1));
        let right = (high.1 > last).then(|| (last + 1, high.1));
        self.ranges.splice(from..to, left.into_iter().chain(right));
    }

    /// Whether every number of `first..=last` is a member.
    pub fn covers(&self, first: u64, last: u64) -> bool {
        self.containing(first).is_some_and(|r| last <= r.1)
    }

    /// The range that holds `seq`, if any.
    pub fn containing(&self, seq: u64) -> Option<(u64, u64)> {
        let at = self.ranges.partition_point(|r| r.1 < seq);
        self.ranges.get(at).copied().filter(|r| r.0 <= seq)
    }

    /// Whether any number of `first..=last` is a member.
    pub fn intersects(&self, first: u64, last: u64) -> bool {
        self.first_from(first).is_some_and(|at| at <= last)
    }

    /// Lowest member that is `from` or more.
    pub fn first_from(&self, from: u64) -> Option<u64> {
        let at = self.ranges.partition_point(|r| r.1 < from);
        self.ranges.get(at).map(|r| r.0.max(from))
    }

    /// Highest member below `to`.
    pub fn last_before(&self, to: u64) -> Option<u64> {
        let at = self.ranges.partition_point(|r| r.0 < to);
        self.ranges[..at].last().map(|r| r.1.min(to - 1))
    }

    /// Members of `first..=last`, ascending ranges.
    pub fn within(&self, first: u64, last: u64) -> Vec<(u64, u64)> {
        let from = self.ranges.partition_point(|r| r.1 < first);
        self.ranges[from..]
            .iter()
            .take_while(|r| r.0 <= last)
            .map(|r| (r.0.max(first), r.1.min(last)))
            .collect()
    }

    /// What is missing in `first..=last`, ascending ranges; at most one more than this set has.
    pub fn missing(&self, first: u64, last: u64) -> Vec<(u64, u64)> {
        let mut next = first.max(1);
        let mut out = Vec::new();
        for (low, high) in self.within(next, last) {
            if next < low {
                out.push((next, low - 1));
            }
            next = high + 1;
        }
        if next <= last {
            out.push((next, last));
        }
        out
    }

    /// The last number of the run that starts right after `base`; `base` where that number is missing.
    pub fn through(&self, base: u64) -> u64 {
        self.containing(base.saturating_add(1)).map_or(base, |r| r.1)
    }

    /// Highest member, 0 for none.
    pub fn last(&self) -> u64 {
        self.ranges.last().map_or(0, |r| r.1)
    }

    /// Number of members.
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|r| r.1 - r.0 + 1).sum()
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

impl TryFrom<Vec<(u64, u64)>> for RangeSet {
    type Error = BadRanges;
    fn try_from(ranges: Vec<(u64, u64)>) -> Result<Self, BadRanges> {
        let each = ranges.iter().all(|r| 1 <= r.0 && r.0 <= r.1 && r.1 <= SEQ_MAX);
        let apart = each && ranges.windows(2).all(|w| w[0].1 + 1 < w[1].0);
        if apart { Ok(Self { ranges }) } else { Err(BadRanges) }
    }
}

impl From<RangeSet> for Vec<(u64, u64)> {
    fn from(set: RangeSet) -> Self {
        set.ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_behaves_like_a_set_of_numbers(steps in proptest::collection::vec((any::<bool>(), 1u64..60, 0u64..9), 1..60)) {
            let mut set = RangeSet::new();
            let mut model = BTreeSet::new();
            for (add, first, more) in steps {
                let last = first + more;
                if add {
                    let before = model.len();
                    model.extend(first..=last);
                    prop_assert_eq!(set.insert(first, last), (model.len() - before) as u64);
                } else {
                    set.remove(first, last);
                    model.retain(|n| !(first..=last).contains(n));
                }
                prop_assert_eq!(set.count(), model.len() as u64);
                prop_assert_eq!(RangeSet::try_from(set.ranges().to_vec()), Ok(set.clone()));
                let missing: Vec<u64> = set.missing(1, 70).into_iter().flat_map(|(a, b)| a..=b).collect();
                let expected: Vec<u64> = (1..=70).filter(|n| !model.contains(n)).collect();
                prop_assert_eq!(missing, expected);
                prop_assert_eq!(set.covers(first, last), (first..=last).all(|n| model.contains(&n)));
                prop_assert_eq!(set.intersects(first, last), (first..=last).any(|n| model.contains(&n)));
                prop_assert_eq!(set.first_from(first), model.range(first..).next().copied());
                prop_assert_eq!(set.last_before(first), model.range(..first).next_back().copied());
                prop_assert_eq!(set.through(0), (1..).take_while(|n| model.contains(n)).last().unwrap_or(0));
            }
        }
    }

    #[test]
    fn impossible_ranges_add_nothing() {
        let mut set = RangeSet::new();
        for (first, last) in [(0, 5), (5, 4), (1, u64::MAX)] {
            assert_eq!(set.insert(first, last), 0);
        }
        assert!(set.is_empty());
        assert_eq!(set.insert(SEQ_MAX, SEQ_MAX), 1);
    }

    #[test]
    fn a_damaged_stored_set_is_refused() {
        for bad in
            [vec![(0, 1)], vec![(5, 4)], vec![(1, 4), (5, 9)], vec![(6, 9), (1, 2)], vec![(1, u64::MAX)]]
        {
            assert_eq!(RangeSet::try_from(bad), Err(BadRanges));
        }
    }
}
