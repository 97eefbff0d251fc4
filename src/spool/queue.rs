//! The spool itself: single-threaded, without a clock, over any journal.
//!
//! A commit is planned in full (seal, make room, new books) and applied once. If the journal refuses, the plan is kept
//! and the very same operations are tried again before anything else: they are idempotent, so it does not matter
//! whether the refused attempt left traces. Numbers are given at admission and promised at commit; a crash in between
//! costs records that nobody was promised, and their numbers are given again.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher};

use crate::facts::Citation;
use crate::limits;
use crate::observe::{self, spool as events};
use crate::time::{Stamp, Wall};
use crate::wire::block::estimate_bytes;
use crate::wire::{BlockEncoder, BlockId, GapReason, Lane, Notice, PerLane, Record};

use super::Options;
use super::entry::{Entry, KEY_BYTES, cost_bytes, lane_key};
use super::holding::Loss;
use super::journal::{Journal, JournalError, Op};
use super::meta::{LaneLedger, META_KEY, Meta};
use super::seal::Sealed;

/// Ordered, bounded lanes over a journal.
pub struct Spool<J> {
    pub(super) journal: J,
    pub(super) options: Options,
    pub(super) encoder: BlockEncoder,
    pub(super) meta: Meta,
    open: PerLane<OpenLane>,
    stuck: Option<Plan>,
    /// Keys released and not yet deleted.
    released: BTreeSet<[u8; KEY_BYTES]>,
    /// Acknowledgements that came while a plan was stuck or the journal could not be read.
    through_waiting: PerLane<u64>,
    /// Last number handed out per lane; a gap seen by the other side is not changed under its hands.
    pub(super) handed: PerLane<u64>,
    /// The last block of a lane if that is a gap, to let the next one melt into it.
    pub(super) tail_gap: PerLane<Option<TailGap>>,
    pub(super) disk_low: bool,
    /// Per lane: blocks before this number have been thinned, see [`super::WhenFull::Thin`].
    pub(super) thin_from: PerLane<u64>,
    /// New raw or metric blocks are being refused for want of room in all, see [`super::WhenFull::RefuseNewest`].
    pub(super) refusing_all: bool,
    /// Likewise, in the lane's own quota.
    pub(super) refusing_own: PerLane<bool>,
}

/// Records without a block yet.
#[derive(Default)]
struct OpenLane {
    /// Records given up before the first of `records`.
    dropped: u64,
    records: Vec<Record>,
    /// What they will take as blocks, as estimated.
    bytes: usize,
}

/// A commit that is ready to be applied, again and again if need be.
pub(super) struct Plan {
    ops: Vec<Op>,
    meta: Meta,
    done: Committed,
    tail_gap: PerLane<Option<TailGap>>,
}

/// A gap and what it costs of the quota.
pub(super) type TailGap = (Entry, u64);

/// What a commit did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Committed {
    /// Blocks and gaps appended, in order of lane and sequence.
    pub blocks: Vec<BlockId>,
    /// Records given up to make room or because they could not be stored.
    pub evicted: u64,
}

/// A block as it is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlock {
    /// Its place. A gap may have grown since it was fetched last: same first, later last.
    pub id: BlockId,
    /// The payload, byte for byte as it was sealed.
    pub bytes: Vec<u8>,
    /// Wall time of the seal.
    pub sealed: Wall,
    /// The records are gone; the payload says why.
    pub gap: bool,
}

impl<J: Journal> Spool<J> {
    /// Opens what lies in `journal`, or begins a new epoch where there are no books.
    pub fn open(journal: J, options: Options) -> Result<Self, JournalError> {
        Self::open_or_begin(journal, options, mint_epoch())
    }

    /// As [`Self::open`]; where there are no books the new epoch is `epoch`, a number that no spool had before.
    pub fn open_or_begin(journal: J, options: Options, epoch: u64) -> Result<Self, JournalError> {
        let books = journal.get(META_KEY)?;
        let meta = match books {
            Some(bytes) => {
                Meta::decode(&bytes).ok_or(JournalError::Damaged("the books do not read".into()))?
            }
            None => Meta::new(epoch),
        };
        Ok(Self {
            journal,
            options,
            encoder: BlockEncoder::new(),
            meta,
            open: PerLane::default(),
            stuck: None,
            released: BTreeSet::new(),
            through_waiting: [0; 4],
            handed: [0; 4],
            tail_gap: [None; 4],
            disk_low: false,
            thin_from: [1; 4],
            refusing_all: false,
            refusing_own: [false; 4],
        })
    }

    /// The epoch in which records are numbered now.
    pub fn epoch(&self) -> u64 {
        self.meta.epoch
    }

    /// Collects `records` for the next commit and numbers them; one range per lane. Nothing is promised yet.
    ///
    /// While the disk refuses, at most [`limits::SPOOL_OPEN_RECORDS_MAX`] of them wait, of an estimated
    /// [`limits::SPOOL_OPEN_BYTES_MAX`]; beyond, the oldest go, raw ones first.
    pub fn admit(&mut self, records: Vec<Record>) -> Vec<Citation> {
        let before: PerLane<u64> = std::array::from_fn(|i| self.next_open(i));
        self.sort_in(records);
        let ranges = Lane::ALL.iter().filter_map(|&lane| {
            let (first, next) = (before[lane.index()], self.next_open(lane.index()));
            (next > first).then(|| Citation { lane, first, last: next - 1 })
        });
        let ranges = ranges.collect();
        self.bound_open();
        ranges
    }

    fn sort_in(&mut self, records: Vec<Record>) {
        let Some(lane) = records.first().map(Record::lane) else { return };
        for record in &records {
            self.open[record.lane().index()].bytes += estimate_bytes(record);
        }
        let open = &mut self.open[lane.index()].records;
        // Most of what comes is for one lane that is empty: it stays where it is.
        if open.is_empty() && records.iter().all(|record| record.lane() == lane) {
            *open = records;
            return;
        }
        for record in records {
            self.open[record.lane().index()].records.push(record);
        }
    }

    /// Records collected and not yet committed.
    pub fn open_records(&self) -> usize {
        self.open.iter().map(|o| o.records.len()).sum()
    }

    /// About what they will take as blocks.
    pub fn open_bytes(&self) -> usize {
        self.open.iter().map(|o| o.bytes).sum()
    }

    /// Whether more must not be collected for one commit.
    pub fn is_crowded(&self) -> bool {
        self.open_records() >= limits::SPOOL_OPEN_RECORDS || self.open_bytes() >= limits::SPOOL_OPEN_BYTES
    }

    /// Whether a commit would change anything.
    pub fn is_dirty(&self) -> bool {
        self.stuck.is_some()
            || !self.released.is_empty()
            || self.through_waiting.iter().any(|&through| through > 0)
            || self.open.iter().any(|o| o.dropped > 0 || !o.records.is_empty())
    }

    /// The last promised number of a lane; 0 before the first.
    pub fn durable_through(&self, lane: Lane) -> u64 {
        self.meta.lanes[lane.index()].next - 1
    }

    /// Seals what was collected, makes room and applies it durably. Blocks for the medium's sync.
    ///
    /// After an error nothing is lost and nothing promised: call again at the next tick.
    pub fn commit(&mut self, stamp: Stamp) -> Result<Committed, JournalError> {
        let mut done = match self.stuck.take() {
            Some(plan) => self.run(plan)?,
            None => Committed::default(),
        };
        self.heal(stamp)?;
        if self.is_dirty() {
            let plan = self.plan(stamp);
            let more = self.run(plan)?;
            done.blocks.extend(more.blocks);
            done.evicted += more.evicted;
        }
        Ok(done)
    }

    /// The first block of `lane` whose last record is `from` or later.
    ///
    /// A block that does not match its checksum is replaced by a gap on the way; that gap is returned.
    pub fn fetch(
        &mut self,
        lane: Lane,
        from: u64,
        stamp: Stamp,
    ) -> Result<Option<StoredBlock>, JournalError> {
        let mut found = self.find(lane, from);
        while found.is_err() && self.journal.is_damaged() {
            self.heal(stamp)?;
            found = self.find(lane, from);
        }
        let Some((entry, bytes)) = found? else {
            return self.close_hole(lane, stamp);
        };
        let (entry, bytes) = if crc32fast::hash(&bytes) == entry.crc {
            (entry, bytes)
        } else if self.stuck.is_some() {
            // What waits behind the refused commit may release this very block.
            self.unstick()?;
            return self.fetch(lane, from, stamp);
        } else {
            let sealed = self.give_up(entry, bytes.len(), GapReason::Corrupt, stamp)?;
            (sealed.entry, sealed.bytes)
        };
        self.handed[lane.index()] = self.handed[lane.index()].max(entry.id.last);
        Ok(Some(StoredBlock { id: entry.id, bytes, sealed: entry.sealed, gap: entry.gap.is_some() }))
    }

    /// As [`Self::fetch`] for a mere look: nothing is handed out, and a block that does not read is left where it is and
    /// called a gap.
    pub fn peek(&self, lane: Lane, from: u64) -> Result<Option<StoredBlock>, JournalError> {
        Ok(self.find(lane, from)?.map(|(entry, bytes)| {
            let gap = entry.gap.is_some() || crc32fast::hash(&bytes) != entry.crc;
            StoredBlock { id: entry.id, bytes, sealed: entry.sealed, gap }
        }))
    }

    /// Everything of `lane` up to here has been released.
    pub fn released_through(&self, lane: Lane) -> u64 {
        self.meta.lanes[lane.index()].through
    }

    /// The far side has everything of `lane` up to `through` and the ranges in `also`: forget those blocks.
    ///
    /// They disappear at once and are deleted with the next commit; after a crash in between they are sent again.
    pub fn release(&mut self, lane: Lane, through: u64, also: &[(u64, u64)]) -> Result<(), JournalError> {
        let i = lane.index();
        // A far side that acknowledges what was never sent must not be believed.
        let through = through.min(self.durable_through(lane));
        if self.stuck.is_some() {
            // Its evictions are counted already. `also` comes round again with a later `through`.
            self.through_waiting[i] = self.through_waiting[i].max(through);
            return Ok(());
        }
        let outcome = self.release_blocks(lane, through, also);
        if outcome.is_err() {
            // The journal can't be read now, and the far side will not say it again.
            self.through_waiting[i] = self.through_waiting[i].max(through);
        }
        outcome
    }

    fn release_blocks(&mut self, lane: Lane, through: u64, also: &[(u64, u64)]) -> Result<(), JournalError> {
        let from = self.last_begun(lane, self.released_through(lane) + 1)?;
        self.release_range(lane, from, through)?;
        for &(first, last) in also {
            self.release_range(lane, first, last.min(self.durable_through(lane)))?;
        }
        let books = &mut self.meta.lanes[lane.index()];
        books.through = books.through.max(through);
        if self.released.len() >= limits::SPOOL_RELEASES_MAX {
            let plan = self.finish_plan(Vec::new(), self.meta.clone(), Vec::new(), 0);
            self.run(plan)?;
        }
        Ok(())
    }

    /// The far side will never take the block that begins at `first`: a gap stands in for it from now on.
    pub fn refuse(&mut self, lane: Lane, first: u64, stamp: Stamp) -> Result<(), JournalError> {
        self.unstick()?;
        match self.find(lane, first)? {
            Some((entry, bytes)) if entry.id.first == first && entry.gap.is_none() => {
                self.give_up(entry, bytes.len(), GapReason::Refused, stamp).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Takes over what reads of a damaged part of the journal and puts gaps where the rest was. Says so with a notice.
    pub fn heal(&mut self, stamp: Stamp) -> Result<(), JournalError> {
        while self.journal.is_damaged() {
            self.heal_part(stamp)?;
        }
        Ok(())
    }

    fn heal_part(&mut self, stamp: Stamp) -> Result<(), JournalError> {
        self.settle()?;
        let losses = self.journal.heal()?;
        let lost = self.declare(&losses, GapReason::Corrupt, stamp)?;
        observe::emit(&events::PartDamaged { lost_records: lost });
        self.admit(vec![damage_notice(lost, stamp)]);
        match self.recount() {
            // The next part to be healed; lanes are counted again after it.
            Err(_) if self.journal.is_damaged() => Ok(()),
            counted => counted,
        }
    }

    /// A step towards freeing space on a full medium; returns the number of records given up for it.
    pub fn relieve(&mut self, stamp: Stamp) -> Result<u64, JournalError> {
        self.settle()?;
        let losses = self.journal.relieve()?;
        if losses.is_empty() {
            return Ok(0);
        }
        let cost = |loss: &Loss| {
            loss.ranges
                .iter()
                .map(|&(first, last)| self.cost_of(loss.lane, first, last))
                .sum::<Result<u64, _>>()
        };
        let freed = losses.iter().map(cost).collect::<Result<Vec<u64>, _>>()?;
        for (loss, freed) in losses.iter().zip(freed) {
            let books = &mut self.meta.lanes[loss.lane.index()];
            books.bytes = books.bytes.saturating_sub(freed);
        }
        self.declare(&losses, GapReason::DiskFull, stamp)
    }

    /// What the entries between two numbers of a lane take of the quota.
    fn cost_of(&self, lane: Lane, first: u64, last: u64) -> Result<u64, JournalError> {
        let mut bytes = 0;
        let (from, to) = (lane_key(lane, first), lane_key(lane, last.saturating_add(1)));
        self.journal.scan(&from, &to, &mut |_, value| {
            bytes += cost_bytes(value.len());
            true
        })?;
        Ok(bytes)
    }

    /// Puts gaps where `losses` were, durably; returns the number of records in them.
    fn declare(&mut self, losses: &[Loss], reason: GapReason, stamp: Stamp) -> Result<u64, JournalError> {
        let mut meta = self.meta.clone();
        let (mut gaps, mut tail_gap) = (Vec::new(), self.tail_gap);
        for loss in losses {
            meta.lanes[loss.lane.index()].evict(reason, loss.records);
            for &(first, last) in &loss.ranges {
                gaps.push(self.seal_gap(BlockId { lane: loss.lane, first, last }, reason, stamp));
                let tail = &mut tail_gap[loss.lane.index()];
                *tail = tail.filter(|(gap, _)| gap.id.last < first || last < gap.id.first);
            }
        }
        let lost = losses.iter().map(|loss| loss.records).sum();
        let mut plan = self.finish_plan(Vec::new(), meta, gaps, lost);
        // They stand in the middle, not at the tail.
        plan.tail_gap = tail_gap;
        plan.done.blocks.clear();
        self.run(plan)?;
        Ok(lost)
    }

    /// Applies what is half done, so that books and journal agree.
    fn settle(&mut self) -> Result<(), JournalError> {
        self.unstick()?;
        if !self.released.is_empty() {
            let plan = self.finish_plan(Vec::new(), self.meta.clone(), Vec::new(), 0);
            self.run(plan)?;
        }
        Ok(())
    }

    /// Tries the refused commit again, if there is one.
    fn unstick(&mut self) -> Result<(), JournalError> {
        self.stuck.take().map_or(Ok(()), |plan| self.run(plan).map(drop))
    }

    /// Counts the lanes' bytes anew: nobody knows what weight was lost.
    fn recount(&mut self) -> Result<(), JournalError> {
        for &lane in Lane::ALL {
            self.meta.lanes[lane.index()].bytes = self.cost_of(lane, 0, u64::MAX)?;
        }
        let plan = self.finish_plan(Vec::new(), self.meta.clone(), Vec::new(), 0);
        self.run(plan).map(drop)
    }

    /// Housekeeping of the journal, a small step; see [`Journal::tidy`].
    ///
    /// Waits for a refused commit: nobody knows yet which books are the ones on the disk.
    pub fn tidy(&mut self) -> Result<(), JournalError> {
        if self.stuck.is_some() { Ok(()) } else { self.journal.tidy() }
    }

    /// The books, per lane.
    pub fn ledger(&self) -> PerLane<LaneLedger> {
        self.meta.ledger()
    }

    /// Bytes of blocks and gaps, as counted against the quota.
    pub fn bytes(&self) -> u64 {
        self.meta.bytes()
    }

    /// What the journal takes on its medium, in bytes.
    pub fn bytes_on_disk(&self) -> u64 {
        self.journal.bytes_on_disk()
    }

    /// When the oldest pending block of `lane` was sealed.
    pub fn oldest(&self, lane: Lane) -> Result<Option<Wall>, JournalError> {
        Ok(self.find(lane, 1)?.map(|(entry, _)| entry.sealed))
    }

    /// While set, the spool does not grow: it gives up its oldest with [`GapReason::DiskFull`].
    pub fn set_disk_low(&mut self, low: bool) {
        self.disk_low = low;
    }

    /// Number of the next record to be admitted, counting what is planned and what is open.
    fn next_open(&self, i: usize) -> u64 {
        let meta = self.stuck.as_ref().map_or(&self.meta, |plan| &plan.meta);
        meta.lanes[i].next + self.open[i].dropped + self.open[i].records.len() as u64
    }

    /// Drops the oldest records, raw first, once more wait than memory is set aside for.
    fn bound_open(&mut self) {
        let bounds = (limits::SPOOL_OPEN_RECORDS_MAX, limits::SPOOL_OPEN_BYTES_MAX);
        for lane in Lane::ALL.iter().rev() {
            let (mut records, mut bytes) = (self.open_records(), self.open_bytes());
            if records <= bounds.0 && bytes <= bounds.1 {
                return;
            }
            let open = &mut self.open[lane.index()];
            // Dropping in large steps keeps the cost of moving the rest low.
            let goes = open.records.iter().take_while(|record| {
                let goes = records > bounds.0 / 8 * 7 || bytes > bounds.1 / 8 * 7;
                if goes {
                    let record_bytes = estimate_bytes(record);
                    (records, bytes) = (records - 1, bytes - record_bytes);
                    open.bytes -= record_bytes;
                }
                goes
            });
            let n = goes.count();
            open.records.drain(..n);
            open.dropped += n as u64;
        }
    }

    /// Seals everything open and decides what has to go for it.
    fn plan(&mut self, stamp: Stamp) -> Plan {
        let mut meta = self.meta.clone();
        let mut sealed = Vec::new();
        let mut lost = 0;
        for &lane in Lane::ALL {
            let open = std::mem::take(&mut self.open[lane.index()]);
            let first = meta.lanes[lane.index()].next;
            let kept = open.records.len() as u64;
            let books = &mut meta.lanes[lane.index()];
            books.next += open.dropped + kept;
            books.pending += open.dropped + kept;
            if open.dropped > 0 {
                let gone = BlockId { lane, first, last: first + open.dropped - 1 };
                sealed.push(self.seal_gap(gone, GapReason::DiskFull, stamp));
            }
            self.seal(lane, first + open.dropped, &open.records, stamp, &mut sealed);
        }
        for block in &sealed {
            if let Some(reason) = block.entry.gap {
                meta.lanes[block.entry.id.lane.index()].evict(reason, block.entry.id.count());
                lost += block.entry.id.count();
            }
        }
        let mut ops = Vec::new();
        let evicted = self.make_room(&mut meta, &mut sealed, &mut ops, stamp);
        self.finish_plan(ops, meta, sealed, lost + evicted)
    }

    fn finish_plan(&mut self, mut ops: Vec<Op>, mut meta: Meta, sealed: Vec<Sealed>, evicted: u64) -> Plan {
        let mut tail_gap = self.tail_gap;
        let mut blocks = Vec::with_capacity(sealed.len());
        for Sealed { entry, bytes } in sealed {
            let i = entry.id.lane.index();
            let cost = cost_bytes(bytes.len());
            meta.lanes[i].bytes += cost;
            tail_gap[i] = entry.gap.map(|_| (entry, cost));
            blocks.push(entry.id);
            ops.push(Op::Put { key: entry.key().to_vec(), value: bytes });
        }
        ops.extend(self.released.iter().map(|key| Op::Delete { key: key.to_vec() }));
        meta.commit += 1;
        ops.push(Op::Put { key: META_KEY.to_vec(), value: meta.encode() });
        Plan { ops, meta, done: Committed { blocks, evicted }, tail_gap }
    }

    /// Applies `plan`; keeps it for the next attempt if the journal refuses.
    fn run(&mut self, plan: Plan) -> Result<Committed, JournalError> {
        if let Err(error) = self.journal.apply(&plan.ops) {
            self.stuck = Some(plan);
            return Err(error);
        }
        self.meta = plan.meta;
        self.tail_gap = plan.tail_gap;
        self.released.clear();
        for &lane in Lane::ALL {
            let through = std::mem::take(&mut self.through_waiting[lane.index()]);
            if through > 0 {
                self.release(lane, through, &[])?;
            }
        }
        Ok(plan.done)
    }

    /// The first stored block whose last record is `from` or later, with its value.
    fn find(&self, lane: Lane, from: u64) -> Result<Option<(Entry, Vec<u8>)>, JournalError> {
        let next = self.meta.lanes[lane.index()].next;
        let split = lane_key(lane, from.saturating_add(1));
        let mut hit = None;
        // The block that holds `from` is the last that begins at or before it.
        self.journal.last(&lane_key(lane, 0), &split, &mut |key, value| {
            let entry = Entry::from_key(key).filter(|e| e.id.last >= from && e.id.last < next);
            hit = entry.filter(|e| !self.is_released(e)).map(|e| (e, value.to_vec()));
        })?;
        if hit.is_none() {
            self.journal.scan(&split, &lane_key(lane, next), &mut |key, value| {
                let entry = Entry::from_key(key).filter(|e| e.id.last < next);
                hit = entry.filter(|e| !self.is_released(e)).map(|e| (e, value.to_vec()));
                hit.is_none()
            })?;
        }
        Ok(hit)
    }

    pub(super) fn is_released(&self, entry: &Entry) -> bool {
        self.released.contains(&entry.key())
    }

    /// Where the block begins that holds `seq`, or the last one before it; `seq` where there is none.
    ///
    /// Blocks that were released since the last commit still lie in the journal: whoever looked at all of them with
    /// every acknowledgement would take longer for each the faster they come.
    fn last_begun(&self, lane: Lane, seq: u64) -> Result<u64, JournalError> {
        let mut first = seq;
        let end = lane_key(lane, seq.saturating_add(1));
        self.journal.last(&lane_key(lane, 0), &end, &mut |key, _| {
            first = Entry::from_key(key).map_or(seq, |entry| entry.id.first);
        })?;
        Ok(first)
    }

    fn release_range(&mut self, lane: Lane, first: u64, last: u64) -> Result<(), JournalError> {
        let mut found = Vec::new();
        self.journal.scan(
            &lane_key(lane, first),
            &lane_key(lane, last.saturating_add(1)),
            &mut |key, value| {
                found.extend(Entry::from_key(key).filter(|e| e.id.last <= last).map(|e| (e, value.len())));
                true
            },
        )?;
        let books = &mut self.meta.lanes[lane.index()];
        for (entry, bytes) in found {
            if self.released.insert(entry.key()) {
                books.acknowledged += entry.records();
                books.pending = books.pending.saturating_sub(entry.records());
                books.bytes = books.bytes.saturating_sub(cost_bytes(bytes));
                forget(&mut self.tail_gap[lane.index()], &entry);
            }
        }
        Ok(())
    }

    /// Replaces a stored block by a gap, durably. No commit may be stuck.
    fn give_up(
        &mut self,
        entry: Entry,
        value_bytes: usize,
        reason: GapReason,
        stamp: Stamp,
    ) -> Result<Sealed, JournalError> {
        let gap = self.seal_gap(entry.id, reason, stamp);
        let mut meta = self.meta.clone();
        let books = &mut meta.lanes[entry.id.lane.index()];
        books.bytes = books.bytes.saturating_sub(cost_bytes(value_bytes));
        books.evict(reason, entry.records());
        let copy = Sealed { entry: gap.entry, bytes: gap.bytes.clone() };
        let ops = vec![Op::Delete { key: entry.key().to_vec() }];
        let mut tail_gap = self.tail_gap;
        forget(&mut tail_gap[entry.id.lane.index()], &entry);
        let mut plan = self.finish_plan(ops, meta, vec![gap], entry.records());
        // The gap stands in the middle, not at the tail.
        plan.tail_gap = tail_gap;
        plan.done.blocks.clear();
        self.run(plan)?;
        Ok(copy)
    }

    /// The books say that records wait and no block is there: the medium lost them. Says so with a gap.
    fn close_hole(&mut self, lane: Lane, stamp: Stamp) -> Result<Option<StoredBlock>, JournalError> {
        let books = &self.meta.lanes[lane.index()];
        if books.pending == 0 || self.stuck.is_some() || self.find(lane, 1)?.is_some() {
            return Ok(None);
        }
        let id = BlockId { lane, first: (books.through + 1).min(books.next - 1), last: books.next - 1 };
        let mut meta = self.meta.clone();
        let lost = books.pending;
        meta.lanes[lane.index()].evict(GapReason::Corrupt, lost);
        meta.lanes[lane.index()].bytes = 0;
        let gap = self.seal_gap(id, GapReason::Corrupt, stamp);
        let block = StoredBlock { id, bytes: gap.bytes.clone(), sealed: gap.entry.sealed, gap: true };
        let plan = self.finish_plan(Vec::new(), meta, vec![gap], lost);
        self.run(plan)?;
        Ok(Some(block))
    }
}

fn damage_notice(lost: u64, stamp: Stamp) -> Record {
    Record::Notice(Notice {
        code: "spool_damaged".into(),
        text: format!(
            "A part of the spool was damaged. {lost} records in it did not read and are declared as lost."
        ),
        at: stamp.wall,
    })
}

/// Drops the memory of a tail gap that is no more.
pub(super) fn forget(tail: &mut Option<TailGap>, gone: &Entry) {
    if tail.is_some_and(|(entry, _)| entry == *gone) {
        *tail = None;
    }
}

/// A number that no spool had before: the standard library seeds its hashers from the system's randomness.
pub(super) fn mint_epoch() -> u64 {
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_u64(u64::from(std::process::id()));
    hasher.finish().max(1)
}
