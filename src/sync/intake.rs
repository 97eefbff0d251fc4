//! The aggregator's seat: what has been committed of every device, what is a duplicate, what may be acknowledged.
//!
//! A block is first offered ([`Intake::offer`], changes nothing), then stored durably by the caller, and only then
//! reported ([`Intake::committed`]), which yields the acknowledgement. A crash between the two costs a repetition, never
//! a record. The caller's store must bear the same record twice, since a block may be offered again before its first
//! copy is committed; [`Verdict::Commit`] names the sequence numbers that are new, so that a block that overlaps
//! another in part adds only the rest.
//!
//! Per lane and epoch every number is in exactly one state: unseen, committed, or declared (given up by the device in
//! a gap block). Numbers unseen below the highest seen are holes: either still on their way or lost undeclared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ranges::{RangeSet, SEQ_MAX};
use crate::limits::{
    ACK_RANGES_MAX, BLOCK_RECORDS_MAX, INTAKE_DEVICES_MAX, INTAKE_EPOCHS_MAX, INTAKE_RANGES_MAX,
};
use crate::wire::ack::LaneAck;
use crate::wire::{BlockId, Lane};

/// A block as far as the intake cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// The device's epoch.
    pub epoch: u64,
    /// Lane and sequence numbers.
    pub id: BlockId,
    /// Whether it stands in for records that the device gave up.
    pub gap: bool,
}

/// What to do with a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Store the records with these numbers, then call [`Intake::committed`].
    Commit {
        /// Ascending ranges; the whole block unless it overlaps an earlier one.
        unseen: Vec<(u64, u64)>,
    },
    /// Nothing new; acknowledge again with [`Intake::ack`], the first answer may have been lost.
    Duplicate,
    /// Neither store nor acknowledge.
    Refuse(Refusal),
}

/// Why a block is refused; the sender's fault, except for the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Numbers that no spool can have made.
    #[error("sequence numbers are impossible")]
    BadNumbers,
    /// More devices than this aggregator follows.
    #[error("more than {INTAKE_DEVICES_MAX} devices; start another aggregator")]
    TooManyDevices,
    /// The lane has more holes than are followed; it must deliver older blocks first.
    #[error("more than {INTAKE_RANGES_MAX} separate ranges in one lane; older blocks must come first")]
    TooFragmented,
}

/// What has been seen of one lane in one epoch. Serialises for the store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LaneState {
    /// Committed or declared.
    settled: RangeSet,
    /// Declared as given up and never received.
    declared: RangeSet,
}

/// One lane's account as the aggregator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LaneAccount {
    /// Everything from 1 to this number is committed or declared.
    pub through: u64,
    /// Highest number seen.
    pub highest: u64,
    /// Records committed.
    pub committed: u64,
    /// Records that the device declared as given up.
    pub declared: u64,
    /// Ranges below `highest` that are neither.
    pub holes: Vec<(u64, u64)>,
}

impl LaneState {
    /// The numbers of `id` that are worth storing: unseen, or declared as lost and now here after all.
    fn unseen(&self, offer: &Offer) -> Vec<(u64, u64)> {
        let (first, last) = (offer.id.first, offer.id.last);
        let missing = self.settled.missing(first, last);
        let revived = if offer.gap { Vec::new() } else { self.declared.within(first, last) };
        if revived.is_empty() {
            return missing;
        }
        let mut all = RangeSet::new();
        for (a, b) in missing.into_iter().chain(revived) {
            all.insert(a, b);
        }
        all.into()
    }

    fn commit(&mut self, offer: &Offer) {
        let (first, last) = (offer.id.first, offer.id.last);
        if offer.gap {
            for (a, b) in self.settled.missing(first, last) {
                self.declared.insert(a, b);
            }
        } else {
            self.declared.remove(first, last);
        }
        self.settled.insert(first, last);
    }

    /// The account.
    pub fn account(&self) -> LaneAccount {
        let highest = self.settled.last();
        LaneAccount {
            through: self.settled.through(0),
            highest,
            committed: self.settled.count() - self.declared.count(),
            declared: self.declared.count(),
            holes: self.settled.missing(1, highest),
        }
    }
}

/// Everything seen of all devices. Memory is bounded by devices, epochs and ranges, not by records.
#[derive(Debug, Clone, Default)]
pub struct Intake {
    devices: BTreeMap<String, Device>,
}

#[derive(Debug, Clone, Default)]
struct Device {
    lanes: BTreeMap<(Lane, u64), Tracked>,
    /// Grows with every use; finds the epoch unused for longest.
    uses: u64,
}

#[derive(Debug, Clone, Default)]
struct Tracked {
    state: LaneState,
    used: u64,
}

impl Intake {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts back what the store kept of a lane; replaces what was known of it.
    pub fn restore(&mut self, device: &str, lane: Lane, epoch: u64, state: LaneState) {
        self.device_mut(device).track(lane, epoch).state = state;
    }

    /// Judges a block. Changes nothing: an offer that is never committed leaves no trace.
    pub fn offer(&self, device: &str, offer: &Offer) -> Verdict {
        let BlockId { first, last, .. } = offer.id;
        // Evicted neighbours coalesce, so a gap may span more than a block ever holds.
        let span_max = if offer.gap { SEQ_MAX } else { BLOCK_RECORDS_MAX as u64 };
        if first == 0 || last < first || last > SEQ_MAX || last - first >= span_max {
            return Verdict::Refuse(Refusal::BadNumbers);
        }
        let Some(device) = self.devices.get(device) else {
            let full = self.devices.len() >= INTAKE_DEVICES_MAX;
            return if full { Verdict::Refuse(Refusal::TooManyDevices) } else { whole(offer) };
        };
        let Some(tracked) = device.lanes.get(&(offer.id.lane, offer.epoch)) else { return whole(offer) };
        let unseen = tracked.state.unseen(offer);
        let touching = tracked.state.settled.within(first.saturating_sub(1), last + 1);
        if unseen.is_empty() {
            Verdict::Duplicate
        } else if touching.is_empty() && tracked.state.settled.ranges().len() >= INTAKE_RANGES_MAX {
            Verdict::Refuse(Refusal::TooFragmented)
        } else {
            Verdict::Commit { unseen }
        }
    }

    /// Takes note that blocks of one device are stored durably, and returns what to acknowledge: one entry per lane and
    /// epoch touched. Send them in messages of at most [`crate::limits::ACK_LANES_MAX`] entries.
    pub fn committed(&mut self, device: &str, offers: &[Offer]) -> Vec<LaneAck> {
        let entry = self.device_mut(device);
        for offer in offers {
            entry.track(offer.id.lane, offer.epoch).state.commit(offer);
        }
        self.ack(device, offers)
    }

    /// The acknowledgement for blocks that are held already: one entry per lane and epoch. Blocks that are not held are
    /// not acknowledged, whatever is asked.
    pub fn ack(&self, device: &str, offers: &[Offer]) -> Vec<LaneAck> {
        let Some(device) = self.devices.get(device) else { return Vec::new() };
        let mut touched: BTreeMap<(Lane, u64), Vec<u64>> = BTreeMap::new();
        for offer in offers {
            touched.entry((offer.id.lane, offer.epoch)).or_default().push(offer.id.first);
        }
        let lane_ack = |((lane, epoch), firsts): ((Lane, u64), Vec<u64>)| {
            let settled = &device.lanes.get(&(lane, epoch))?.state.settled;
            let through = settled.through(0);
            Some(LaneAck { lane, epoch, through, also: also(settled, through, &firsts) })
        };
        touched.into_iter().filter_map(lane_ack).collect()
    }

    /// Every lane followed of `device`, with its epoch.
    pub fn lanes(&self, device: &str) -> impl Iterator<Item = (Lane, u64, &LaneState)> {
        let lanes = self.devices.get(device).into_iter().flat_map(|d| &d.lanes);
        lanes.map(|(&(lane, epoch), tracked)| (lane, epoch, &tracked.state))
    }

    /// One lane's state, to be stored in the same transaction as the records.
    pub fn state(&self, device: &str, lane: Lane, epoch: u64) -> Option<&LaneState> {
        Some(&self.devices.get(device)?.lanes.get(&(lane, epoch))?.state)
    }

    /// The devices followed.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        self.devices.keys().map(String::as_str)
    }

    fn device_mut(&mut self, device: &str) -> &mut Device {
        self.devices.entry(device.to_owned()).or_default()
    }
}

impl Device {
    /// The lane's state; makes room by forgetting the epoch of that lane that was unused for longest. What is forgotten
    /// is stored, and a repetition of it is stored again at no harm.
    fn track(&mut self, lane: Lane, epoch: u64) -> &mut Tracked {
        self.uses += 1;
        if !self.lanes.contains_key(&(lane, epoch)) {
            let of_lane = self.lanes.range((lane, 0)..=(lane, u64::MAX));
            let (count, oldest) =
                of_lane.fold((0, None), |(n, old): (usize, Option<(u64, u64)>), (key, t)| {
                    (n + 1, Some(old.map_or((t.used, key.1), |o| o.min((t.used, key.1)))))
                });
            if let Some((_, forgotten)) = oldest.filter(|_| count >= INTAKE_EPOCHS_MAX) {
                self.lanes.remove(&(lane, forgotten));
            }
        }
        let tracked = self.lanes.entry((lane, epoch)).or_default();
        tracked.used = self.uses;
        tracked
    }
}

fn whole(offer: &Offer) -> Verdict {
    Verdict::Commit { unseen: vec![(offer.id.first, offer.id.last)] }
}

/// The ranges beyond `through` that hold `firsts`, then the highest others, as many as an acknowledgement bears.
fn also(settled: &RangeSet, through: u64, firsts: &[u64]) -> Vec<(u64, u64)> {
    let asked = firsts.iter().rev().filter_map(|&first| settled.containing(first));
    let highest = settled.ranges().iter().rev().copied();
    let mut out: Vec<(u64, u64)> = Vec::with_capacity(ACK_RANGES_MAX);
    for range in asked.chain(highest.take(ACK_RANGES_MAX)).filter(|r| r.0 > through) {
        if out.len() < ACK_RANGES_MAX && !out.contains(&range) {
            out.push(range);
        }
    }
    out.sort_unstable();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(first: u64, last: u64) -> Offer {
        Offer { epoch: 7, id: BlockId { lane: Lane::Metric, first, last }, gap: false }
    }

    fn gap(first: u64, last: u64) -> Offer {
        Offer { gap: true, ..offer(first, last) }
    }

    fn account(intake: &Intake) -> LaneAccount {
        intake.state("pump", Lane::Metric, 7).unwrap().account()
    }

    #[test]
    fn an_overlapping_block_adds_only_its_unseen_numbers() {
        let mut intake = Intake::new();
        intake.committed("pump", &[offer(1, 10), offer(21, 30)]);
        assert_eq!(intake.offer("pump", &offer(8, 24)), Verdict::Commit { unseen: vec![(11, 20)] });
        assert_eq!(intake.offer("pump", &offer(3, 9)), Verdict::Duplicate);
        assert_eq!(intake.offer("other", &offer(3, 9)), Verdict::Commit { unseen: vec![(3, 9)] });
        let acks = intake.committed("pump", &[offer(8, 24)]);
        assert_eq!(acks, [LaneAck { lane: Lane::Metric, epoch: 7, through: 30, also: vec![] }]);
    }

    #[test]
    fn holes_are_visible_until_filled_or_declared() {
        let mut intake = Intake::new();
        intake.committed("pump", &[offer(1, 10), offer(21, 30)]);
        assert_eq!(account(&intake).holes, [(11, 20)]);
        intake.committed("pump", &[gap(11, 15)]);
        let now = account(&intake);
        assert_eq!((now.through, now.committed, now.declared), (15, 20, 5));
        assert_eq!(now.holes, [(16, 20)]);
    }

    /// A block overtaken by its own gap: the answer to it was lost, the spool evicted it, a late copy arrived.
    #[test]
    fn records_that_come_after_their_gap_are_kept_and_no_longer_declared() {
        let mut intake = Intake::new();
        intake.committed("pump", &[gap(1, 20)]);
        assert_eq!(intake.offer("pump", &offer(5, 9)), Verdict::Commit { unseen: vec![(5, 9)] });
        intake.committed("pump", &[offer(5, 9)]);
        assert_eq!((account(&intake).committed, account(&intake).declared), (5, 15));
        assert_eq!(intake.offer("pump", &gap(1, 20)), Verdict::Duplicate);
    }

    #[test]
    fn a_gap_over_records_already_held_declares_only_the_rest() {
        let mut intake = Intake::new();
        intake.committed("pump", &[offer(1, 10)]);
        intake.committed("pump", &[gap(6, 14)]);
        assert_eq!((account(&intake).committed, account(&intake).declared), (10, 4));
    }

    #[test]
    fn an_epoch_is_a_lane_of_its_own() {
        let mut intake = Intake::new();
        intake.committed("pump", &[offer(1, 10)]);
        let reborn = Offer { epoch: 8, ..offer(1, 10) };
        assert_eq!(intake.offer("pump", &reborn), Verdict::Commit { unseen: vec![(1, 10)] });
        assert_eq!(intake.ack("pump", &[reborn]), []);
    }

    #[test]
    fn what_was_stored_brings_the_same_state_back() {
        let mut intake = Intake::new();
        intake.committed("pump", &[offer(1, 10), gap(21, 30)]);
        let stored = serde_json::to_string(intake.state("pump", Lane::Metric, 7).unwrap()).unwrap();
        let mut again = Intake::new();
        again.restore("pump", Lane::Metric, 7, serde_json::from_str(&stored).unwrap());
        assert_eq!(account(&again), account(&intake));
        assert_eq!(again.offer("pump", &offer(1, 10)), Verdict::Duplicate);
    }

    #[test]
    fn impossible_numbers_are_refused() {
        let intake = Intake::new();
        let over = BLOCK_RECORDS_MAX as u64 + 1;
        for bad in [offer(0, 3), offer(4, 3), offer(1, over), offer(1, u64::MAX), gap(1, u64::MAX)] {
            assert_eq!(intake.offer("pump", &bad), Verdict::Refuse(Refusal::BadNumbers), "{bad:?}");
        }
    }

    #[test]
    fn a_hostile_device_cannot_grow_the_state_without_bound() {
        let mut intake = Intake::new();
        for i in 1..=INTAKE_RANGES_MAX as u64 {
            intake.committed("pump", &[offer(2 * i, 2 * i)]);
        }
        let beyond = 2 * INTAKE_RANGES_MAX as u64 + 2;
        assert_eq!(intake.offer("pump", &offer(beyond, beyond)), Verdict::Refuse(Refusal::TooFragmented));
        assert_eq!(intake.offer("pump", &offer(1, 1)), Verdict::Commit { unseen: vec![(1, 1)] });
        for epoch in 0..2 * INTAKE_EPOCHS_MAX as u64 {
            intake.committed("pump", &[Offer { epoch, ..offer(1, 1) }]);
        }
        assert_eq!(intake.lanes("pump").count(), INTAKE_EPOCHS_MAX);
    }

    #[test]
    fn an_acknowledgement_names_what_was_asked_for_before_anything_else() {
        let mut intake = Intake::new();
        let scattered: Vec<Offer> = (1..40).map(|i| offer(10 * i, 10 * i + 1)).collect();
        intake.committed("pump", &scattered);
        let acks = intake.ack("pump", &scattered[..2]);
        assert_eq!((acks[0].through, acks[0].also.len()), (0, ACK_RANGES_MAX));
        assert_eq!(acks[0].also[..2], [(10, 11), (20, 21)]);
    }
}
