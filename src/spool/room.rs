//! What is given up when the quota of a lane or of all is reached, and how it is declared.
//!
//! Victims become gaps in the same commit that needs their room. Adjacent gaps of one reason melt into one, so a long
//! outage leaves one gap per lane and not millions; only a gap that was handed out already keeps its shape.

use std::collections::BTreeSet;

use crate::limits;
use crate::time::Stamp;
use crate::wire::{BlockId, GapReason, Lane, PerLane};

use super::WhenFull;
use super::entry::{Entry, cost_bytes, lane_key};
use super::journal::{Journal, JournalError, Op};
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

/// A commit in the making.
struct Draft<'a> {
    meta: &'a mut Meta,
    sealed: &'a mut Vec<Sealed>,
    ops: &'a mut Vec<Op>,
    stamp: Stamp,
    /// Why records are given up.
    reason: GapReason,
    /// Per lane: stored blocks up to here are already victims of this plan.
    seen: PerLane<u64>,
    /// Blocks that are already victims of this plan, wherever they stand.
    thinned: BTreeSet<(Lane, u64)>,
    /// Per lane: the last gap that this plan made of the oldest blocks; the next one melts into it.
    last_gap: PerLane<Option<TailGap>>,
    /// Per lane: nothing more to gain.
    exhausted: PerLane<bool>,
    evicted: u64,
}

impl Draft<'_> {
    /// What is given up from now on has this reason; no gap has two.
    fn because(&mut self, reason: GapReason) {
        if self.reason != reason {
            (self.reason, self.last_gap) = (reason, PerLane::default());
        }
    }
}

impl<J: Journal> Spool<J> {
    /// Gives up blocks until `sealed` fits into the quotas; returns the number of records given up.
    pub(super) fn make_room(
        &mut self,
        meta: &mut Meta,
        sealed: &mut Vec<Sealed>,
        ops: &mut Vec<Op>,
        stamp: Stamp,
    ) -> u64 {
        let (quota, reason) = self.quota();
        let mut draft = Draft {
            meta,
            sealed,
            ops,
            stamp,
            reason,
            seen: PerLane::default(),
            thinned: BTreeSet::new(),
            last_gap: PerLane::default(),
            exhausted: PerLane::default(),
            evicted: 0,
        };
        self.keep_refusing(quota, reason, &mut draft);
        draft.because(GapReason::Quota);
        for &lane in Lane::ALL {
            self.fit(self.lane_quota(lane), &[lane], &mut draft);
        }
        draft.because(reason);
        self.fit(quota, Lane::ALL, &mut draft);
        let evicted = draft.evicted;
        self.melt(meta, sealed, ops, stamp);
        evicted
    }

    /// Gives up blocks of `lanes` until these are within `quota`, as far as that goes.
    fn fit(&mut self, quota: u64, lanes: &[Lane], draft: &mut Draft<'_>) {
        loop {
            let excess = self.excess_bytes(quota, lanes, draft);
            let Some(lane) = self.victim_lane(lanes, draft).filter(|_| excess > 0) else { return };
            match self.give_way(lane, lanes, excess, draft) {
                // Over the quota until the damaged part is healed, which the next commit begins with.
                Err(JournalError::Damaged(_) | JournalError::Medium(_)) => return,
                Ok(true) => {}
                // A journal that can't be read will refuse the commit as well; the books stay right either way.
                Ok(false) | Err(_) => draft.exhausted[lane.index()] = !self.refuse_new(lane, draft),
            }
        }
    }

    /// Gives up what the policy of `lane` says for room in `lanes`, about `excess` bytes if that is stored blocks; false
    /// where there is none.
    fn give_way(
        &mut self,
        lane: Lane,
        lanes: &[Lane],
        excess: u64,
        draft: &mut Draft<'_>,
    ) -> Result<bool, JournalError> {
        match self.options.when_full[lane.index()] {
            WhenFull::RefuseNewest => {
                let refused = self.refuse_new(lane, draft);
                // What was promised of alarms stays.
                if refused || lane == Lane::Alarm {
                    match lanes {
                        _ if lane == Lane::Alarm => {}
                        [own] => self.refusing_own[own.index()] = true,
                        _ => self.refusing_all = true,
                    }
                    return Ok(refused);
                }
            }
            WhenFull::Thin => {
                if self.thin_stored(lane, excess, draft)? {
                    return Ok(true);
                }
            }
            WhenFull::DropOldest => {}
        }
        self.evict_oldest(lane, excess, draft)
    }

    fn excess_bytes(&self, quota: u64, lanes: &[Lane], draft: &Draft<'_>) -> u64 {
        let stored: u64 = lanes.iter().map(|lane| draft.meta.lanes[lane.index()].bytes).sum();
        let new = || draft.sealed.iter().filter(|s| lanes.contains(&s.entry.id.lane));
        let cost = |s: &Sealed| cost_bytes(s.bytes.len());
        let excess = (stored + new().map(cost).sum::<u64>()).saturating_sub(quota);
        if [Lane::Raw, Lane::Metric].iter().any(|lane| lanes.contains(lane) && self.refuses(*lane)) {
            // Old blocks make room for new records, not for the gaps in which newer ones ended.
            excess.min(new().filter(|s| s.entry.gap.is_none()).map(cost).sum::<u64>())
        } else {
            excess
        }
    }

    /// Once new blocks are refused, they are until an eighth is free: or every second block would fit by chance, and
    /// the history would be full of holes.
    fn keep_refusing(&mut self, quota: u64, reason: GapReason, draft: &mut Draft<'_>) {
        let is_tight = |bytes: u64, quota: u64| bytes > quota / 8 * 7;
        self.refusing_all &= is_tight(draft.meta.bytes(), quota);
        for lane in [Lane::Raw, Lane::Metric] {
            let bytes = draft.meta.lanes[lane.index()].bytes;
            let own = self.refusing_own[lane.index()] && is_tight(bytes, self.lane_quota(lane));
            self.refusing_own[lane.index()] = own;
            let by_all = self.refusing_all && bytes > self.reserve_bytes(lane);
            draft.because(if own { GapReason::Quota } else { reason });
            while self.refuses(lane) && (own || by_all) && self.refuse_new(lane, draft) {}
        }
    }

    fn refuses(&self, lane: Lane) -> bool {
        self.options.when_full[lane.index()] == WhenFull::RefuseNewest
    }

    /// Whether a tenth or less is free of what all lanes may take, or one of them.
    pub fn is_nearly_full(&self) -> bool {
        let is_near = |bytes: u64, quota: u64| bytes >= quota / 10 * 9;
        let is_lane_near = |lane: &Lane| is_near(self.meta.lanes[lane.index()].bytes, self.lane_quota(*lane));
        is_near(self.meta.bytes(), self.options.bytes_max) || Lane::ALL.iter().any(is_lane_near)
    }

    fn lane_quota(&self, lane: Lane) -> u64 {
        self.options.lane_bytes_max[lane.index()].unwrap_or(u64::MAX)
    }

    fn reserve_bytes(&self, lane: Lane) -> u64 {
        self.options.bytes_max / 100 * u64::from(self.options.reserved_percent[lane.index()])
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

    /// Whose turn it is among `lanes` to give something up, see [`WhenFull`].
    fn victim_lane(&self, lanes: &[Lane], draft: &Draft<'_>) -> Option<Lane> {
        let new = |lane: Lane| draft.sealed.iter().filter(move |s| s.entry.id.lane == lane);
        let over = |lane: Lane| {
            let added: u64 = new(lane).map(|s| cost_bytes(s.bytes.len())).sum();
            draft.meta.lanes[lane.index()].bytes + added > self.reserve_bytes(lane)
        };
        let refusable = || new(Lane::Alarm).any(|s| s.entry.gap.is_none());
        let turns = [
            (Lane::Raw, over(Lane::Raw)),
            (Lane::Metric, over(Lane::Metric)),
            (Lane::Alarm, self.refuses(Lane::Alarm) && over(Lane::Alarm) && refusable()),
            (Lane::Raw, true),
            (Lane::Metric, true),
            (Lane::Digest, true),
            (Lane::Alarm, true),
        ];
        let is_able = |lane: &Lane| lanes.contains(lane) && !draft.exhausted[lane.index()];
        turns.into_iter().find(|(lane, now)| *now && is_able(lane)).map(|(lane, _)| lane)
    }

    /// Turns the oldest stored blocks of `lane` into gaps until `excess` bytes are won; false if there are none.
    fn evict_oldest(&mut self, lane: Lane, excess: u64, draft: &mut Draft<'_>) -> Result<bool, JournalError> {
        let runs = self.oldest_runs(lane, draft, excess)?;
        let any = !runs.is_empty();
        for run in runs {
            draft.seen[lane.index()] = draft.seen[lane.index()].max(run.id.last);
            draft.last_gap[lane.index()] = Some(self.give_up_run(run, draft.reason, draft));
        }
        Ok(any)
    }

    /// Turns every second stored block of `lane` into a gap, from where this ended last, until `excess` bytes are won;
    /// false if all of them have been through it.
    fn thin_stored(&mut self, lane: Lane, excess: u64, draft: &mut Draft<'_>) -> Result<bool, JournalError> {
        let (mut runs, mut won) = (Vec::new(), 0);
        let mut kept: Option<Entry> = None;
        let mut from = self.thin_from[lane.index()].max(draft.seen[lane.index()] + 1);
        let bounds = (lane_key(lane, from), lane_key(lane, self.meta.lanes[lane.index()].next));
        self.journal.scan(&bounds.0, &bounds.1, &mut |key, value| {
            let Some(entry) = Entry::from_key(key).filter(|e| !self.is_released(e)) else { return true };
            if won >= excess || runs.len() >= RUNS_MAX {
                return false;
            }
            let cost = cost_bytes(value.len());
            let pair = kept.is_some_and(|k| k.id.last + 1 == entry.id.first);
            (from, kept) = if entry.gap.is_some() {
                (entry.id.last + 1, None)
            } else if pair && cost >= THINNED_BYTES_MIN {
                won += cost;
                runs.push(Run { id: entry.id, records: entry.records(), gone: vec![(entry, cost)] });
                (entry.id.last + 1, None)
            } else {
                (entry.id.first, Some(entry))
            };
            true
        })?;
        self.thin_from[lane.index()] = from;
        let any = !runs.is_empty();
        for run in runs {
            draft.thinned.insert((lane, run.id.first));
            self.give_up_run(run, GapReason::Thinned, draft);
        }
        Ok(any)
    }

    /// Puts a gap in the place of `run`, in the books as well.
    fn give_up_run(&mut self, run: Run, reason: GapReason, draft: &mut Draft<'_>) -> TailGap {
        let i = run.id.lane.index();
        let freed: u64 = run.gone.iter().map(|(_, cost)| cost).sum();
        for (entry, _) in &run.gone {
            draft.ops.push(Op::Delete { key: entry.key().to_vec() });
            forget(&mut self.tail_gap[i], entry);
        }
        let gap = self.seal_gap(run.id, reason, draft.stamp);
        let cost = cost_bytes(gap.bytes.len());
        let books = &mut draft.meta.lanes[i];
        books.evict(reason, run.records);
        books.bytes = books.bytes.saturating_sub(freed) + cost;
        if run.id.last + 1 == self.meta.lanes[i].next {
            self.tail_gap[i] = Some((gap.entry, cost));
        }
        draft.ops.push(Op::Put { key: gap.entry.key().to_vec(), value: gap.bytes });
        draft.evicted += run.records;
        (gap.entry, cost)
    }

    /// The oldest blocks of `lane` that `draft` has not seen, as runs of neighbours, worth `excess` bytes.
    fn oldest_runs(&self, lane: Lane, draft: &Draft<'_>, excess: u64) -> Result<Vec<Run>, JournalError> {
        let mut runs: Vec<Run> = Vec::new();
        let mut gap_before = draft.last_gap[lane.index()];
        let from = lane_key(lane, draft.seen[lane.index()] + 1);
        let mut won = 0;
        let handed = self.handed[lane.index()];
        let to = lane_key(lane, self.meta.lanes[lane.index()].next);
        self.journal.scan(&from, &to, &mut |key, value| {
            let Some(entry) = Entry::from_key(key).filter(|e| !self.is_released(e)) else { return true };
            let cost = cost_bytes(value.len());
            let begins_at = entry.id.first;
            let enough = won >= excess || runs.len() >= RUNS_MAX;
            if draft.thinned.contains(&(lane, begins_at)) {
                return true;
            }
            if entry.gap.is_some() {
                // What was thinned out before the rest went is gone all the same.
                let melts = entry.gap.is_some_and(|gap| [draft.reason, GapReason::Thinned].contains(&gap))
                    && begins_at > handed;
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

    /// Turns the newest new block of `lane` into a gap; false if there is none left.
    fn refuse_new(&mut self, lane: Lane, draft: &mut Draft<'_>) -> bool {
        let newest = draft.sealed.iter_mut().rev().find(|s| s.entry.id.lane == lane && s.entry.gap.is_none());
        let Some(block) = newest else { return false };
        let records = block.entry.records();
        *block = self.seal_gap(block.entry.id, draft.reason, draft.stamp);
        draft.meta.lanes[lane.index()].evict(draft.reason, records);
        draft.evicted += records;
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
/// A smaller block is hardly larger than the gap that would stand in for it.
const THINNED_BYTES_MIN: u64 = 256;
