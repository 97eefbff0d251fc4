//! The trees of one sled database: blocks lie in drawers; books, lists and gaps in the default tree.
//!
//! sled writes a leaf anew, with all values in it, at its tenth change and again when it splits, and it splits at 17 values
//! whatever they weigh. In one tree full blocks would be written three to four times. So each lane has a row of small
//! trees, and one is left for the next before its only leaf would be rewritten: a block is written once. Of small
//! blocks, where that is cheap, a drawer takes more.
//!
//! A change over several trees is one transaction, which the log takes back or keeps as a whole.

use std::collections::{BTreeMap, BTreeSet};

use ::sled::transaction::{TransactionError, Transactional as _};
use ::sled::{Batch, Db, Error, IVec, Iter, Tree};

use crate::limits;
use crate::wire::{Lane, PerLane};

use super::entry::Entry;
use super::journal::Op;
use super::row::{Drawer, Key, Reach, Row};

/// An open database.
pub(super) struct Drawers {
    /// As a tree the default one. It may also hold blocks of a spool from before there were drawers, and these gaps.
    db: Db,
    lanes: PerLane<Row>,
}

/// Where a block lies: in the default tree, or in a lane's drawer.
type Place = Option<(usize, usize)>;

impl Drawers {
    /// Looks at every block in `db`.
    pub fn open(db: Db) -> Result<Self, Error> {
        let mut lanes: PerLane<Row> = Default::default();
        let names = db.tree_names();
        for &lane in Lane::ALL {
            let row = &mut lanes[lane.index()];
            let next = |row: &Row| name(lane, row.drawers.len());
            while names.iter().any(|known| known == next(row).as_bytes()) {
                row.drawers.push(Drawer::open(db.open_tree(next(row))?)?);
            }
            // Behind the last one in use there are those that were made with it.
            row.current = row.drawers.iter().rposition(|drawer| drawer.blocks > 0).unwrap_or(0);
            row.arrange();
        }
        Ok(Self { db, lanes })
    }

    /// All of `ops` or none of them, once the log is flushed. After an error what is known here may be wrong.
    pub fn apply(&mut self, ops: &[Op]) -> Result<(), Error> {
        let mut batches = BTreeMap::from([(None, Batch::default())]);
        // Where what these operations touch lies meanwhile, if anywhere.
        let mut placed: BTreeMap<Key, Option<Place>> = BTreeMap::new();
        for op in ops {
            let entry = Entry::from_key(op.key());
            let known = match &entry {
                None => Some(None),
                Some(entry) => match placed.get(&entry.key()) {
                    Some(known) => *known,
                    None => self.find(entry)?,
                },
            };
            let (place, value) = match op {
                Op::Put { value, .. } => (self.put(entry.as_ref(), known, value.len())?, Some(value)),
                Op::Delete { .. } => match known {
                    Some(place) => (self.delete(place), None),
                    None => continue,
                },
            };
            placed.extend(entry.map(|entry| (entry.key(), value.is_some().then_some(place))));
            let batch = batches.entry(place).or_default();
            match value {
                Some(value) => batch.insert(op.key(), value.as_slice()),
                None => batch.remove(op.key()),
            }
        }
        let lanes: BTreeSet<usize> = batches.keys().flatten().map(|(lane, _)| *lane).collect();
        lanes.into_iter().for_each(|lane| self.lanes[lane].arrange());
        self.commit(&batches)
    }

    /// The value under `key`.
    pub fn get(&self, key: &[u8]) -> Result<Option<IVec>, Error> {
        match Entry::from_key(key) {
            None => self.db.get(key),
            Some(entry) => self.find(&entry)?.map_or(Ok(None), |place| self.tree(place).get(key)),
        }
    }

    /// Everything in `from..to` in order until `visit` returns false. No drawer is opened before its turn.
    pub fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        // The key of a block begins with its lane, so the rows follow each other.
        let mut waiting = self.lanes.iter().flat_map(|row| row.touching(from, to)).peekable();
        let mut heads: Vec<Head> = Vec::new();
        heads.extend(Head::of(&self.db, from, to)?);
        loop {
            let foremost = (0..heads.len()).min_by(|&a, &b| heads[a].key.cmp(&heads[b].key));
            let turn = |reach: &Reach| foremost.is_none_or(|at| reach.first[..] <= *heads[at].key);
            if let Some((_, drawer)) = waiting.next_if(|(reach, _)| turn(reach)) {
                heads.extend(Head::of(&drawer.tree, from, to)?);
                continue;
            }
            let Some(at) = foremost else { return Ok(()) };
            let head = &mut heads[at];
            if !visit(&head.key, &head.value) {
                return Ok(());
            }
            match head.rest.next() {
                Some(item) => (head.key, head.value) = item?,
                None => drop(heads.swap_remove(at)),
            }
        }
    }

    /// The greatest key in `from..to` and its value.
    pub fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<(IVec, IVec)>, Error> {
        let mut last = last_in(&self.db, from, to)?;
        for row in self.lanes.iter().rev() {
            for (reach, drawer) in row.touching(from, to).rev() {
                let behind = |end: &Key| last.as_ref().is_some_and(|(key, _)| **key >= end[..]);
                if behind(&reach.furthest) {
                    break;
                }
                if behind(&reach.last) {
                    continue;
                }
                let from = last.as_ref().map_or(from, |(key, _)| key);
                last = last_in(&drawer.tree, from, to)?.or(last);
            }
        }
        Ok(last)
    }

    /// Writes what is in memory, which is not yet a sync.
    pub fn flush(&self) -> Result<(), Error> {
        self.db.flush().map(drop)
    }

    fn tree(&self, place: Place) -> &Tree {
        place.map_or(&self.db, |(lane, at)| &self.lanes[lane].drawers[at].tree)
    }

    /// Where the very same block lies already.
    fn find(&self, entry: &Entry) -> Result<Option<Place>, Error> {
        let (key, lane) = (entry.key(), entry.id.lane.index());
        let behind: Vec<u8> = key.iter().copied().chain([0]).collect();
        for (reach, drawer) in self.lanes[lane].touching(&key, &behind) {
            if drawer.tree.contains_key(key)? {
                return Ok(Some(Some((lane, reach.drawer))));
            }
        }
        Ok(self.db.contains_key(key)?.then_some(None))
    }

    /// Where a value goes: what lies somewhere stays there. A gap takes the place of old blocks, and among new ones it would
    /// have that drawer, and all after it, looked into for each of them.
    fn put(&mut self, entry: Option<&Entry>, known: Option<Place>, bytes: usize) -> Result<Place, Error> {
        let Some(entry) = entry else { return Ok(None) };
        let place = match known {
            Some(place) => place,
            None if entry.gap.is_some() => None,
            None => Some(self.roomy(entry.id.lane)?),
        };
        if let Some((lane, at)) = place {
            let drawer = &mut self.lanes[lane].drawers[at];
            drawer.put(entry.key(), bytes, known.is_none());
        }
        Ok(place)
    }

    fn delete(&mut self, place: Place) -> Place {
        if let Some((lane, at)) = place {
            self.lanes[lane].drawers[at].blocks -= 1;
        }
        place
    }

    /// A drawer of `lane` that takes one more: the current one, an empty one, a new one. Where there are too many, the
    /// current one overflows: that is slower and nothing else.
    fn roomy(&mut self, lane: Lane) -> Result<(usize, usize), Error> {
        let count: usize = self.lanes.iter().map(|row| row.drawers.len()).sum();
        let row = &mut self.lanes[lane.index()];
        if row.drawers.get(row.current).is_none_or(Drawer::is_full) {
            if let Some(at) = row.drawers.iter().position(|drawer| drawer.blocks == 0) {
                row.drawers[at].clear();
                row.current = at;
            } else if count + limits::SPOOL_DRAWERS_AT_ONCE <= limits::SPOOL_DRAWERS_MAX
                || row.drawers.is_empty()
            {
                row.current = row.drawers.len();
                for _ in 0..limits::SPOOL_DRAWERS_AT_ONCE {
                    row.drawers.push(Drawer::new(self.db.open_tree(name(lane, row.drawers.len()))?));
                }
            }
        }
        Ok((lane.index(), row.current))
    }

    fn commit(&self, batches: &BTreeMap<Place, Batch>) -> Result<(), Error> {
        let trees: Vec<&Tree> = batches.keys().map(|place| self.tree(*place)).collect();
        let outcome = trees.as_slice().transaction(|views| {
            for (view, batch) in views.iter().zip(batches.values()) {
                view.apply_batch(batch)?;
            }
            Ok(())
        });
        outcome.map_err(|error| match error {
            TransactionError::Abort(error) | TransactionError::Storage(error) => error,
        })
    }
}

/// Where a walk over several trees stands in one of them.
struct Head {
    key: IVec,
    value: IVec,
    rest: Iter,
}

impl Head {
    fn of(tree: &Tree, from: &[u8], to: &[u8]) -> Result<Option<Self>, Error> {
        let mut rest = tree.range(from..to);
        let first = rest.next().transpose()?;
        Ok(first.map(|(key, value)| Self { key, value, rest }))
    }
}

/// The last of a tree in `from..to`. sled walks backwards too, but with a megabyte of the greatest key compiled into the
/// program for that.
fn last_in(tree: &Tree, from: &[u8], to: &[u8]) -> Result<Option<(IVec, IVec)>, Error> {
    let mut found = None;
    let mut start = from.to_vec();
    let mut end = number(to);
    loop {
        let mut steps = 0;
        for item in tree.range(&*start..to).take(STRIDE) {
            found = Some(item?);
            steps += 1;
        }
        let Some((key, _)) = found.as_ref().filter(|_| steps == STRIDE) else { return Ok(found) };
        start = [key, [0].as_slice()].concat();
        // Halfway to the end as often as there is something behind, from where it walks on.
        let begin = number(key);
        while end - begin > 1 {
            let middle = begin + (end - begin) / 2;
            let leap = middle.to_be_bytes();
            if tree.range(leap.as_slice()..to).next().transpose()?.is_some() {
                start = leap.to_vec();
                break;
            }
            end = middle;
        }
    }
}

/// Where a key lies among all others, by its first sixteen bytes.
fn number(key: &[u8]) -> u128 {
    u128::from_be_bytes(std::array::from_fn(|i| key.get(i).copied().unwrap_or(0)))
}

/// Most that [`last_in`] walks before it leaps: more than a drawer of full blocks holds.
const STRIDE: usize = 64;

fn name(lane: Lane, number: usize) -> String {
    format!("{}-{number:06}", lane.name())
}

#[cfg(test)]
mod tests {
    use super::super::entry::lane_key;
    use super::*;
    use crate::time::Wall;
    use crate::wire::{BlockId, GapReason};

    #[test]
    fn however_often_one_commit_puts_and_deletes_a_block_the_last_word_counts() {
        let db = ::sled::Config::default().temporary(true).open().unwrap();
        let mut drawers = Drawers::open(db).unwrap();
        let id = BlockId { lane: Lane::Raw, first: 1, last: 9 };
        let key = Entry { id, gap: None, sealed: Wall(7), crc: 1 }.key().to_vec();
        let put = || Op::Put { key: key.clone(), value: vec![1] };
        let delete = || Op::Delete { key: key.clone() };
        let runs = [
            (vec![delete(), put(), delete(), put()], true),
            (vec![delete(), put()], true),
            (vec![put(), delete(), delete()], false),
            (vec![put(), delete(), put()], true),
            (vec![delete(), delete()], false),
        ];
        for (ops, there) in runs {
            drawers.apply(&ops).unwrap();
            assert_eq!(drawers.get(&key).unwrap().is_some(), there, "{ops:?}");
            let row = &drawers.lanes[Lane::Raw.index()];
            assert_eq!(row.drawers[row.current].blocks, usize::from(there), "{ops:?}");
        }
    }

    #[test]
    fn drawers_read_as_one_map_however_their_blocks_lie() {
        const LANES: [Lane; 3] = [Lane::Alarm, Lane::Raw, Lane::Digest];
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..24 {
            let db = ::sled::Config::default().temporary(true).open().unwrap();
            let mut drawers = Drawers::open(db.clone()).unwrap();
            let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            // From a few numbers, so that drawers overlap, to so many that one holds hundreds.
            let numbers = [40, 400, u64::MAX >> 8][round % 3];
            for _ in 0..60 {
                let count = random.usize(1..12);
                let mut ops = Vec::new();
                for _ in 0..count {
                    let first = random.u64(1..numbers);
                    let id = BlockId { lane: random.choice(LANES).unwrap(), first, last: first + 1 };
                    // Gaps lie elsewhere.
                    let gap = (random.u8(..) < 32).then_some(GapReason::Quota);
                    let key = Entry { id, gap, sealed: Wall(7), crc: 1 }.key().to_vec();
                    let bytes = if random.u8(..) < 64 { 20 * 1024 } else { 8 };
                    ops.push(Op::Put { key, value: vec![random.u8(..); bytes] });
                }
                let known: Vec<_> = model.keys().cloned().collect();
                for _ in 0..random.usize(0..count) {
                    ops.extend(random.choice(&known).map(|key| Op::Delete { key: key.clone() }));
                }
                drawers.apply(&ops).unwrap();
                for op in ops {
                    match op {
                        Op::Put { key, value } => drop(model.insert(key, value)),
                        Op::Delete { key } => drop(model.remove(&key)),
                    }
                }
                let lane = random.choice(LANES).unwrap();
                let (from, to) = (random.u64(0..numbers), random.u64(0..numbers));
                compare(&drawers, &model, &lane_key(lane, from.min(to)), &lane_key(lane, from.max(to)));
            }
            compare(&Drawers::open(db).unwrap(), &model, &[], &[0xff]);
        }
    }

    #[test]
    fn a_look_for_one_block_is_into_one_drawer_whatever_was_given_up_meanwhile() {
        let db = ::sled::Config::default().temporary(true).open().unwrap();
        let mut drawers = Drawers::open(db.clone()).unwrap();
        let key = |first, gap| {
            let id = BlockId { lane: Lane::Raw, first, last: first };
            Entry { id, gap, sealed: Wall(7), crc: 1 }.key().to_vec()
        };
        for first in 1..=100 {
            let block = Op::Put { key: key(first, None), value: vec![1; 32 * 1024] };
            // The oldest give way to gaps.
            let gap = Op::Put { key: key(first / 2, Some(GapReason::Quota)), value: Vec::new() };
            drawers.apply(&[block, gap]).unwrap();
        }
        for drawers in [drawers, Drawers::open(db).unwrap()] {
            let row = &drawers.lanes[Lane::Raw.index()];
            let into = |n| row.touching(&lane_key(Lane::Raw, n), &lane_key(Lane::Raw, n + 1)).count();
            assert!((1..=100).all(|n| into(n) == 1), "{:?}", (1..=100).map(into).collect::<Vec<_>>());
        }
    }

    fn compare(drawers: &Drawers, model: &BTreeMap<Vec<u8>, Vec<u8>>, from: &[u8], to: &[u8]) {
        let expected: Vec<_> = model.range(from.to_vec()..to.to_vec()).collect();
        let mut seen = Vec::new();
        drawers
            .scan(from, to, &mut |key, value| {
                seen.push((key.to_vec(), value.to_vec()));
                true
            })
            .unwrap();
        assert_eq!(seen.iter().map(|(key, value)| (key, value)).collect::<Vec<_>>(), expected);
        let last = drawers.last(from, to).unwrap().map(|(key, value)| (key.to_vec(), value.to_vec()));
        assert_eq!(last, seen.pop());
    }

    #[test]
    fn the_last_of_many_is_found() {
        let tree = ::sled::Config::default().temporary(true).open().unwrap();
        // Close together, far apart, and more under one number than are walked.
        for n in 0..3_000u64 {
            tree.insert(lane_key(Lane::Raw, if n < 2_000 { n } else { n << 40 }), b"").unwrap();
            tree.insert([lane_key(Lane::Alarm, 7).as_slice(), &[0; 8], &n.to_be_bytes()].concat(), b"")
                .unwrap();
        }
        let mut ends: Vec<Vec<u8>> = tree.iter().keys().map(|key| key.unwrap().to_vec()).collect();
        ends.extend([vec![0xff], vec![0xff; 40], lane_key(Lane::Raw, u64::MAX).to_vec()]);
        let keys = ends[..6_000].to_vec();
        for to in ends.iter().step_by(41).chain(&ends[6_000..]) {
            for from in [&[][..], &keys[10], &keys[3_500], to] {
                let expected = keys.iter().rfind(|key| key.as_slice() >= from && *key < to);
                let found = last_in(&tree, from, to).unwrap().map(|(key, _)| key.to_vec());
                assert_eq!(found.as_ref(), expected);
            }
        }
    }

    /// A tree that is made writes to the disk before the commit does.
    #[test]
    fn trees_are_made_some_at_a_time_and_filled_one_after_the_other() {
        let db = ::sled::Config::default().temporary(true).open().unwrap();
        let mut drawers = Drawers::open(db.clone()).unwrap();
        let mut trees = Vec::new();
        for first in 1..=200 {
            let id = BlockId { lane: Lane::Raw, first, last: first };
            let key = Entry { id, gap: None, sealed: Wall(7), crc: 1 }.key().to_vec();
            drawers.apply(&[Op::Put { key, value: vec![1; 32 * 1024] }]).unwrap();
            let row = &drawers.lanes[Lane::Raw.index()];
            trees.push((row.drawers.len(), row.current));
        }
        let made = trees.windows(2).filter(|pair| pair[0].0 < pair[1].0).count();
        assert_eq!((trees[0], trees[199], made), ((8, 0), (24, 22), 2));
        let again = Drawers::open(db).unwrap();
        assert_eq!(again.lanes[Lane::Raw.index()].current, 22, "it goes on where it was");
        assert!(
            trees.iter().enumerate().all(|(n, (_, current))| *current == n / limits::SPOOL_DRAWER_BLOCKS)
        );
    }
}
