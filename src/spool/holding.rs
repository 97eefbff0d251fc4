//! What one database still holds: the numbers of its live blocks and gaps, per lane.
//!
//! Kept in memory for every database (a few ranges each, however many blocks there are), and on disk in the active one for
//! all that are no longer written to. So a spool opens without opening them, knows which of them holds a number, and
//! knows what a damaged one has lost.

use serde::{Deserialize, Serialize};

use crate::sync::ranges::RangeSet;
use crate::wire::{BlockId, Lane, PerLane};

use super::entry::Entry;

/// The live content of one database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Holding {
    lanes: PerLane<LaneHolding>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct LaneHolding {
    blocks: RangeSet,
    gaps: RangeSet,
    /// Numbers, and bytes of their blocks, that ever came in: their quotient is what a live number weighs.
    numbers: u64,
    bytes: u64,
}

/// Numbers of one lane that a damaged database held and that nobody found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The lane.
    pub lane: Lane,
    /// Ascending ranges; those of gaps included.
    pub ranges: Vec<(u64, u64)>,
    /// Records among them.
    pub records: u64,
}

impl Holding {
    pub fn insert(&mut self, entry: &Entry, value_bytes: usize) {
        let lane = &mut self.lanes[entry.id.lane.index()];
        let (first, last) = (entry.id.first, entry.id.last);
        if entry.gap.is_some() {
            lane.gaps.insert(first, last);
        } else {
            lane.numbers += lane.blocks.insert(first, last);
            lane.bytes += value_bytes as u64;
        }
    }

    pub fn remove(&mut self, id: BlockId) {
        let lane = &mut self.lanes[id.lane.index()];
        lane.blocks.remove(id.first, id.last);
        lane.gaps.remove(id.first, id.last);
    }

    /// Whether this very entry is live here.
    pub fn holds(&self, entry: &Entry) -> bool {
        let lane = &self.lanes[entry.id.lane.index()];
        let set = if entry.gap.is_some() { &lane.gaps } else { &lane.blocks };
        set.covers(entry.id.first, entry.id.last)
    }

    /// Whether any number of `id` is live here.
    pub fn touches(&self, id: BlockId) -> bool {
        let lane = &self.lanes[id.lane.index()];
        [&lane.blocks, &lane.gaps].iter().any(|set| set.intersects(id.first, id.last))
    }

    /// No live entry of `lane` that begins in `from..to` begins before this number; `None` where nothing live is there.
    pub fn first(&self, lane: Lane, from: u64, to: u64) -> Option<u64> {
        let lane = &self.lanes[lane.index()];
        let sets = [&lane.blocks, &lane.gaps];
        sets.iter().filter_map(|set| set.first_from(from)).min().filter(|&at| at < to)
    }

    /// No live entry of `lane` that begins in `from..to` begins behind this number; `None` where nothing live is there.
    pub fn last(&self, lane: Lane, from: u64, to: u64) -> Option<u64> {
        let lane = &self.lanes[lane.index()];
        let sets = [&lane.blocks, &lane.gaps];
        sets.iter().filter_map(|set| set.last_before(to)).max().filter(|&at| at >= from)
    }

    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.blocks.is_empty() && lane.gaps.is_empty())
    }

    /// Whether so little is left, or in so many pieces, that moving it out is worth the space that comes free.
    pub fn is_sparse(&self, ranges_max: usize) -> bool {
        let ranges = |lane: &LaneHolding| lane.blocks.ranges().len() + lane.gaps.ranges().len();
        let live: u64 = self.lanes.iter().map(LaneHolding::live_bytes).sum();
        let ever: u64 = self.lanes.iter().map(|lane| lane.bytes).sum();
        live < ever / 4 || self.lanes.iter().map(ranges).sum::<usize>() > ranges_max
    }

    /// Everything that is in here, as lost.
    pub fn losses(&self) -> Vec<Loss> {
        let loss = |&lane: &Lane| {
            let held = &self.lanes[lane.index()];
            let mut all = held.gaps.clone();
            for &(first, last) in held.blocks.ranges() {
                all.insert(first, last);
            }
            Loss { lane, ranges: all.into(), records: held.blocks.count() }
        };
        Lane::ALL.iter().map(loss).filter(|loss| !loss.ranges.is_empty()).collect()
    }

    /// What has to be given up so that no more than `bytes_max` are left: from the lowest lane up, and never alarms.
    pub fn ballast(&self, bytes_max: u64) -> Vec<Loss> {
        let mut left: u64 = self.lanes.iter().map(LaneHolding::live_bytes).sum();
        let mut ballast = self.losses();
        ballast.reverse();
        ballast.retain(|loss| {
            let goes = left > bytes_max && loss.lane != Lane::Alarm && loss.records > 0;
            if goes {
                left = left.saturating_sub(self.lanes[loss.lane.index()].live_bytes());
            }
            goes
        });
        ballast
    }

    /// Whether everything in here is in `other` as well.
    pub fn is_within(&self, other: &Holding) -> bool {
        let within =
            |a: &RangeSet, b: &RangeSet| a.ranges().iter().all(|&(first, last)| b.covers(first, last));
        self.lanes
            .iter()
            .zip(&other.lanes)
            .all(|(a, b)| within(&a.blocks, &b.blocks) && within(&a.gaps, &b.gaps))
    }

    pub fn encode(&self) -> Vec<u8> {
        // Numbers only: postcard has no way to fail on them.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

impl LaneHolding {
    fn live_bytes(&self) -> u64 {
        let bytes =
            u128::from(self.bytes) * u128::from(self.blocks.count()) / u128::from(self.numbers.max(1));
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Wall;
    use crate::wire::GapReason;

    fn entry(lane: Lane, first: u64, last: u64, gap: Option<GapReason>) -> Entry {
        Entry { id: BlockId { lane, first, last }, gap, sealed: Wall(0), crc: 0 }
    }

    #[test]
    fn a_holding_knows_what_is_live_and_where_to_look_next() {
        let mut held = Holding::default();
        let block = entry(Lane::Raw, 10, 19, None);
        held.insert(&block, 100);
        held.insert(&entry(Lane::Raw, 20, 99, Some(GapReason::Quota)), 40);
        held.insert(&entry(Lane::Raw, 100, 109, None), 100);
        assert!(held.holds(&block) && !held.holds(&Entry { gap: Some(GapReason::Quota), ..block }));
        let first = |from, to| held.first(Lane::Raw, from, to);
        let last = |from, to| held.last(Lane::Raw, from, to);
        assert_eq!((first(1, 500), last(1, 500)), (Some(10), Some(109)));
        assert_eq!((first(15, 500), first(110, 500)), (Some(15), None));
        assert_eq!((first(1, 10), last(1, 10)), (None, None));
        assert_eq!(held.first(Lane::Alarm, 1, 500), None);
        assert_eq!(Holding::decode(&held.encode()), Some(held.clone()));
        held.remove(block.id);
        assert!(!held.holds(&block) && !held.touches(block.id) && !held.is_sparse(9));
        assert_eq!(held.losses(), [Loss { lane: Lane::Raw, ranges: vec![(20, 109)], records: 10 }]);
        held.remove(BlockId { lane: Lane::Raw, first: 1, last: 500 });
        assert!(held.is_empty() && held.is_sparse(9));
    }

    #[test]
    fn many_pieces_are_sparse_however_much_they_weigh() {
        let mut held = Holding::default();
        for n in 1..20 {
            held.insert(&entry(Lane::Metric, 2 * n, 2 * n, None), 50);
        }
        assert!(held.is_sparse(10) && !held.is_sparse(19));
    }
}
