//! Blocks that the broker may never take, and what speaks for and against that.
//!
//! A refusal names its block. A broker that hangs up names none, and it may only have been restarted. So a block that was
//! on the wire several times when the broker hung up goes alone from then on, when nothing else is on the wire, ever more
//! rarely: then the next time tells. It is the block's own fault only if others of its lane, which has a topic of its own,
//! were taken meanwhile; a broker that takes none of them is to be mended, and nothing is given up for it.
//!
//! What is known outlives the session, or a line that comes and goes would let one block come first for ever.

use std::time::Duration;

use crate::limits::{UPLINK_CUTS_MAX, UPLINK_DOUBTS_MAX, UPLINK_REFUSALS_MAX};
use crate::time::Mono;
use crate::wire::BlockId;

/// The doubtful blocks of one lane.
#[derive(Debug, Clone, Default)]
pub(super) struct Doubts {
    all: Vec<Doubt>,
    /// The lowest number of blocks that waited and had to make room for others: they go in their order now.
    made_room: Option<u64>,
}

#[derive(Debug, Clone)]
struct Doubt {
    id: BlockId,
    refused: u32,
    /// Times that the broker hung up while the block was on the wire with others.
    cuts: u32,
    /// Times that it hung up while nothing else was on the wire.
    trials: u32,
    /// Others of the lane were taken since.
    others_taken: bool,
    /// When it is sent again, out of its order; none: in its order.
    due: Option<Mono>,
}

/// Of what a refusal speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// The broker's state: it will take the block later.
    Broker,
    /// It does not say.
    Unclear,
    /// The block, or our rights.
    Block,
}

/// What becomes of a block that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Sent again in its order.
    InOrder,
    /// Sent again by itself.
    Later,
    /// Not sent again in this session.
    Aside,
}

impl Doubt {
    fn goes_alone(&self) -> bool {
        self.cuts >= UPLINK_CUTS_MAX
    }
}

impl Doubts {
    /// The broker refused `id`.
    pub(super) fn refused(&mut self, id: BlockId, now: Mono, blame: Blame) -> Verdict {
        if blame == Blame::Broker {
            return Verdict::InOrder;
        }
        let doubt = self.of(id);
        doubt.refused += 1;
        let (refused, others_taken) = (doubt.refused, doubt.others_taken);
        if blame == Blame::Unclear && refused < UNCLEAR_MIN {
            return Verdict::InOrder;
        }
        if refused >= UPLINK_REFUSALS_MAX && (blame == Blame::Block || others_taken) {
            return Verdict::Aside;
        }
        doubt.due = Some(now + Duration::from_secs(1 << refused.min(6)));
        Verdict::Later
    }

    /// The broker hung up on `id`. Whether that was once too often, while others of the lane were taken.
    pub(super) fn cut(&mut self, id: BlockId, now: Mono, alone: bool) -> bool {
        let doubt = self.of(id);
        if doubt.goes_alone() && alone {
            doubt.trials += 1;
        } else {
            doubt.cuts += 1;
        }
        if !doubt.goes_alone() {
            return false;
        }
        let due = now + TRIAL_WAIT * (1 << doubt.trials.min(5));
        doubt.due = Some(due);
        let guilty = doubt.trials >= UPLINK_REFUSALS_MAX && doubt.others_taken;
        // A topic on which nothing may be published makes all its blocks doubtful: each trial costs everybody the session, so
        // the lane's wait for each other, and the next one's turn comes before this one's.
        let tried = self.all.extract_if(.., |d| d.id == id).collect::<Vec<_>>();
        for other in self.all.iter_mut().filter(|d| d.goes_alone()) {
            other.due = other.due.max(Some(due));
        }
        self.all.extend(tried.into_iter().filter(|_| !guilty));
        guilty
    }

    /// The broker took `id`.
    pub(super) fn taken(&mut self, id: BlockId) {
        self.all.retain(|d| d.id != id);
        for doubt in &mut self.all {
            doubt.others_taken = true;
        }
    }

    /// Forgets what is acknowledged.
    pub(super) fn retain(&mut self, keep: impl Fn(BlockId) -> bool) {
        self.all.retain(|d| keep(d.id));
    }

    /// The next session sends what was refused in its order, and once more only if it was refused as often as may be.
    pub(super) fn session_over(&mut self) {
        for doubt in &mut self.all {
            doubt.refused = doubt.refused.min(UPLINK_REFUSALS_MAX - 1);
            if !doubt.goes_alone() {
                doubt.due = None;
            }
        }
    }

    /// The last number of the block that holds `number` and does not go in its order.
    pub(super) fn waiting(&self, number: u64) -> Option<u64> {
        let waits = |d: &&Doubt| d.due.is_some() && d.id.first <= number && number <= d.id.last;
        self.all.iter().find(waits).map(|d| d.id.last)
    }

    /// How many do not go in their order.
    pub(super) fn waiting_count(&self) -> usize {
        self.all.iter().filter(|d| d.due.is_some()).count()
    }

    /// One to be sent again by itself now; with `alone`, one that needs the wire for itself.
    pub(super) fn due(&self, now: Mono, alone: bool) -> impl Iterator<Item = BlockId> {
        let due = move |d: &&Doubt| d.due.is_some_and(|at| at <= now) && d.goes_alone() == alone;
        self.all.iter().filter(due).map(|d| d.id)
    }

    /// Whether `id` needs the wire for itself.
    pub(super) fn goes_alone(&self, id: BlockId) -> bool {
        self.all.iter().any(|d| d.id == id && d.goes_alone())
    }

    /// When the next one is due.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Mono> {
        self.all.iter().filter_map(|d| d.due)
    }

    fn of(&mut self, id: BlockId) -> &mut Doubt {
        let at = self.all.iter().position(|d| d.id == id).unwrap_or_else(|| {
            self.make_room();
            self.all.push(Doubt { id, refused: 0, cuts: 0, trials: 0, others_taken: false, due: None });
            self.all.len() - 1
        });
        &mut self.all[at]
    }

    /// Where the order has to be taken up again for blocks that made room for others.
    pub(super) fn take_made_room(&mut self) -> Option<u64> {
        self.made_room.take()
    }

    /// Forgets the block that least speaks against, of equals the newest: it is the oldest that a lane does not get past.
    fn make_room(&mut self) {
        if self.all.len() >= UPLINK_DOUBTS_MAX {
            let against = |i: &usize| (self.all[*i].trials, self.all[*i].refused, self.all[*i].cuts);
            if let Some(least) = (0..self.all.len()).rev().min_by_key(against) {
                let doubt = self.all.remove(least);
                let first = doubt.due.map(|_| doubt.id.first);
                self.made_room = self.made_room.into_iter().chain(first).min();
            }
        }
    }
}

/// So often a refusal without a reason is taken for the broker's own trouble.
const UNCLEAR_MIN: u32 = 3;
/// Between two hang-ups on the same block; doubles up to 32-fold.
const TRIAL_WAIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Lane;

    fn ids(count: u64) -> Vec<BlockId> {
        (1..=count).map(|n| BlockId { lane: Lane::Digest, first: n, last: n }).collect()
    }

    /// On the wire together until each goes alone.
    fn all_in_doubt(count: u64) -> Doubts {
        let mut doubts = Doubts::default();
        for _ in 0..UPLINK_CUTS_MAX {
            assert!(!ids(count).into_iter().any(|id| doubts.cut(id, Mono(0), false)));
        }
        doubts
    }

    #[test]
    fn a_forbidden_topic_costs_a_session_now_and_then_and_its_blocks_take_turns() {
        let mut doubts = all_in_doubt(20);
        let (mut now, mut trials) = (Mono(0), vec![0_u32; 20]);
        while now < Mono(0) + Duration::from_secs(7200) {
            let due = doubts.due(now, true).next();
            match due {
                Some(id) => {
                    assert!(!doubts.cut(id, now, true));
                    trials[id.first as usize - 1] += 1;
                }
                None => now = doubts.deadlines().filter(|at| *at > now).min().unwrap(),
            }
        }
        assert!(trials.iter().sum::<u32>() < 100, "{trials:?}");
        assert!(trials.iter().max().unwrap() - trials.iter().min().unwrap() <= 1, "{trials:?}");
    }

    #[test]
    fn a_block_that_waits_and_makes_room_is_told_once() {
        let (mut doubts, count) = (Doubts::default(), UPLINK_DOUBTS_MAX as u64);
        for id in ids(count) {
            assert_eq!(doubts.refused(id, Mono(0), Blame::Block), Verdict::Later);
        }
        assert_eq!(doubts.take_made_room(), None);
        let late = BlockId { lane: Lane::Digest, first: count + 1, last: count + 1 };
        doubts.refused(late, Mono(0), Blame::Block);
        assert_eq!((doubts.take_made_room(), doubts.take_made_room()), (Some(count), None));
        assert_eq!(doubts.waiting(count), None);
    }

    /// It is the one that the lane does not get past.
    #[test]
    fn with_more_than_are_remembered_the_oldest_is() {
        let doubts = all_in_doubt(UPLINK_DOUBTS_MAX as u64 + 20);
        assert!(doubts.goes_alone(ids(1)[0]));
    }
}
