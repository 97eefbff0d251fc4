//! What is given up when the quota is reached, and how it is declared.
//!
//! Victims become gaps in the same commit that needs their room. Adjacent gaps of one reason melt into one, so a long
//! outage leaves one gap per lane and not millions; only a gap that was handed out already keeps its shape.

use crate::limits;
use crate::time::Stamp;
use crate::wire::{BlockId, GapReason, Lane, PerLane};

use super::WhenFull;
use super::entry::{Entry, cost_bytes, lane_key};
use super::journal::{Journal, JournalError, Op, Order};
use super::meta::Meta;
use super::queue::{Spool, TailGap, forget};
use super::seal::Sealed;

/// A run of neighbouring victims.
struct Run {
    /// From the first victim (or the gap that it melts into) to the last.
    id: BlockId,
    records: u64,
    /// Keys to delete, with the cost that each gives back.
    gone: Vec<(Entry, u64)>,
}

/// How far a plan has got.
#[derive(Default)]
struct Progress {
    /// Per lane: stored blocks up to here are already victims of this plan.
    seen: PerLane<u64>,
    /// Per lane: the last gap that this plan made of stored blocks; the next one melts into it.
    last_gap: PerLane<Option<TailGap>>,
    /// Per lane: nothing more to gain.
    exhausted: PerLane<bool>,
    evicted: u64,
}

impl<J: Journal> Spool<J> {
    /// Gives up blocks until `sealed` fits into the quota; returns the number of records given up.
    pub(super) fn make_room(
        &mut self,
        meta: &mut Meta,
        sealed: &mut Vec<Sealed>,
        ops: &mut Vec<Op>,
        stamp: Stamp,
    ) -> u64 {
        let (quota, reason) = self.quota();
        let mut progress = Progress::default();
        self.keep_refusing(quota, reason, meta, sealed, stamp, &mut progress);
        loop {
            let excess = self.excess_bytes(quota, meta, sealed);
            let Some(lane) = self.victim_lane(meta, sealed, &progress.exhausted).filter(|_| excess > 0)
            else {
                break;
            };
            let newest_first =
                self.options.when_full == WhenFull::RefuseNewest && matches!(lane, Lane::Raw | Lane::Metric);
            if newest_first && self.refuse_new(lane, reason, meta, sealed, stamp, &mut progress) {
                continue;
            }
            let won = match self.evict_stored(lane, excess, reason, meta, ops, stamp, &mut progress) {
                // Over the quota until the damaged part is healed, which the next commit begins with.
                Err(JournalError::Damaged(_)) => break,
                // A journal that can't be read will refuse the commit as well; the books stay right either way.
                won => won.unwrap_or(0),
            };
            if won == 0 && !self.refuse_new(lane, reason, meta, sealed, stamp, &mut progress) {
                progress.exhausted[lane.index()] = true;
            }
        }
        self.melt(meta, sealed, ops, stamp);
        progress.evicted
    }

    fn excess_bytes(&self, quota: u64, meta: &Meta, sealed: &[Sealed]) -> u64 {
        let cost = |s: &Sealed| cost_bytes(s.bytes.len());
        let excess = (meta.bytes() + sealed.iter().map(cost).sum::<u64>()).saturating_sub(quota);
        match self.options.when_full {
            WhenFull::EvictOldest => excess,
            // Old blocks make room for new records, not for the gaps in which newer ones ended.
            WhenFull::RefuseNewest => {
                excess.min(sealed.iter().filter(|s| s.entry.gap.is_none()).map(cost).sum::<u64>())
            }
        }
    }

    /// Once new blocks are refused, they are until an eighth is free: or every second block would fit by chance, and
    /// the history would be full of holes.
    fn keep_refusing(
        &mut self,
        quota: u64,
        reason: GapReason,
        meta: &mut Meta,
        sealed: &mut [Sealed],
        stamp: Stamp,
        progress: &mut Progress,
    ) {
        self.refusing &= meta.bytes() > quota / 8 * 7;
        for lane in [Lane::Raw, Lane::Metric] {
            let percent = u64::from(self.options.reserved_percent[lane.index()]);
            let over = meta.lanes[lane.index()].bytes > self.options.bytes_max / 100 * percent;
            while self.refusing && over && self.refuse_new(lane, reason, meta, sealed, stamp, progress) {}
        }
    }

    fn quota(&self) -> (u64, GapReason) {
        let configured = self.options.bytes_max;
        if self.disk_low && self.meta.bytes() < configured {
            // Room for a few blocks always stays: an empty spool on a full disk still has to carry alarms.
            (self.meta.bytes().max(limits::SPOOL_BYTES_MIN).min(configured), GapReason::DiskFull)
        } else {
            (configured, GapReason::Quota)
        }
    }

    /// The lowest lane over its reserve; the lowest with anything left if none is.
    fn victim_lane(&self, meta: &Meta, sealed: &[Sealed], exhausted: &PerLane<bool>) -> Option<Lane> {
        let left = || Lane::ALL.iter().rev().copied().filter(|l| !exhausted[l.index()]);
        let over = |lane: &Lane| {
            let percent = u64::from(self.options.reserved_percent[lane.index()]);
            let new = sealed.iter().filter(|s| s.entry.id.lane == *lane);
            let bytes = meta.lanes[lane.index()].bytes + new.map(|s| cost_bytes(s.bytes.len())).sum::<u64>();
            bytes > self.options.bytes_max / 100 * percent
        };
        left().find(over).or_else(|| left().next())
    }

    /// Turns the oldest stored blocks of `lane` into gaps until `excess` bytes are won; returns the bytes won.
    #[expect(clippy::too_many_arguments, reason = "the parts of one plan, borrowed separately")]
    fn evict_stored(
        &mut self,
        lane: Lane,
        excess: u64,
        reason: GapReason,
        meta: &mut Meta,
        ops: &mut Vec<Op>,
        stamp: Stamp,
        progress: &mut Progress,
    ) -> Result<u64, JournalError> {
        let i = lane.index();
        let runs = self.victims(lane, progress, excess, reason)?;
        let mut won = 0;
        for run in runs {
            let freed: u64 = run.gone.iter().map(|(_, cost)| cost).sum();
            for (entry, _) in &run.gone {
                ops.push(Op::Delete { key: entry.key().to_vec() });
                forget(&mut self.tail_gap[i], entry);
            }
            let gap = self.seal_gap(run.id, reason, stamp);
            let cost = cost_bytes(gap.bytes.len());
            meta.lanes[i].evict(reason, run.records);
            meta.lanes[i].bytes = meta.lanes[i].bytes.saturating_sub(freed) + cost;
            if run.id.last + 1 == self.meta.lanes[i].next {
                self.tail_gap[i] = Some((gap.entry, cost));
            }
            progress.last_gap[i] = Some((gap.entry, cost));
            ops.push(Op::Put { key: gap.entry.key().to_vec(), value: gap.bytes });
            progress.evicted += run.records;
            progress.seen[i] = progress.seen[i].max(run.id.last);
            won += freed.saturating_sub(cost).max(1);
        }
        Ok(won)
    }

    /// The oldest blocks of `lane` that `progress` has not seen, as runs of neighbours, worth `excess` bytes.
    fn victims(
        &self,
        lane: Lane,
        progress: &Progress,
        excess: u64,
        reason: GapReason,
    ) -> Result<Vec<Run>, JournalError> {
        let mut runs: Vec<Run> = Vec::new();
        let mut gap_before = progress.last_gap[lane.index()];
        let from = lane_key(lane, progress.seen[lane.index()] + 1);
        let mut won = 0;
        let handed = self.handed[lane.index()];
        let to = lane_key(lane, self.meta.lanes[lane.index()].next);
        self.journal.scan(&from, &to, Order::Up, &mut |key, value| {
            let Some(entry) = Entry::from_key(key).filter(|e| !self.is_released(e)) else { return true };
            let cost = cost_bytes(value.len());
            let begins_at = entry.id.first;
            let enough = won >= excess || runs.len() >= RUNS_MAX;
            if entry.gap.is_some() {
                let melts = entry.gap == Some(reason) && begins_at > handed;
                match runs.last_mut().filter(|run| melts && run.id.last + 1 == begins_at) {
                    Some(run) => run.extend(entry, cost),
                    None => gap_before = Some((entry, cost)).filter(|_| melts),
                }
                return !enough;
            }
            if enough {
                return false;
            }
            match runs.last_mut().filter(|run| run.id.last + 1 == begins_at) {
                Some(run) => run.extend(entry, cost),
                None => {
                    let mut run = Run { id: entry.id, records: 0, gone: Vec::new() };
                    if let Some((gap, cost)) = gap_before.take().filter(|(g, _)| g.id.last + 1 == begins_at) {
                        run.id.first = gap.id.first;
                        run.gone.push((gap, cost));
                    }
                    run.extend(entry, cost);
                    runs.push(run);
                }
            }
            won += cost;
            true
        })?;
        Ok(runs)
    }

    /// Turns the newest block of `lane` in `sealed` into a gap; false if there is none left.
    fn refuse_new(
        &mut self,
        lane: Lane,
        reason: GapReason,
        meta: &mut Meta,
        sealed: &mut [Sealed],
        stamp: Stamp,
        progress: &mut Progress,
    ) -> bool {
        let newest = sealed.iter_mut().rev().find(|s| s.entry.id.lane == lane && s.entry.gap.is_none());
        let Some(block) = newest else { return false };
        let records = block.entry.records();
        *block = self.seal_gap(block.entry.id, reason, stamp);
        meta.lanes[lane.index()].evict(reason, records);
        progress.evicted += records;
        true
    }

    /// Melts neighbouring gaps of one reason in `sealed`, and the first of a lane into the stored gap before it.
    fn melt(&mut self, meta: &mut Meta, sealed: &mut Vec<Sealed>, ops: &mut Vec<Op>, stamp: Stamp) {
        let mut tails = self.tail_gap;
        let mut melted: Vec<Sealed> = Vec::with_capacity(sealed.len());
        for mut block in sealed.drain(..) {
            let i = block.entry.id.lane.index();
            let reason = block.entry.gap;
            let joins = |before: &Entry| {
                before.id.lane == block.entry.id.lane
                    && before.gap == reason
                    && before.id.last + 1 == block.entry.id.first
                    && before.id.first > self.handed[i]
            };
            if let Some(reason) = reason {
                if let Some(before) = melted.last().map(|b| b.entry).filter(joins) {
                    melted.pop();
                    block =
                        self.seal_gap(BlockId { first: before.id.first, ..block.entry.id }, reason, stamp);
                } else if let Some((before, cost)) = tails[i].take().filter(|(before, _)| joins(before)) {
                    meta.lanes[i].bytes = meta.lanes[i].bytes.saturating_sub(cost);
                    ops.push(Op::Delete { key: before.key().to_vec() });
                    block =
                        self.seal_gap(BlockId { first: before.id.first, ..block.entry.id }, reason, stamp);
                }
            }
            tails[i] = None;
            melted.push(block);
        }
        *sealed = melted;
    }
}

impl Run {
    fn extend(&mut self, entry: Entry, cost: u64) {
        self.id.last = entry.id.last;
        self.records += entry.records();
        self.gone.push((entry, cost));
    }
}

/// Runs given up in one go: bounds the memory of a plan.
const RUNS_MAX: usize = 256;
