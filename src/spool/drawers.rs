//! The trees of one sled database: blocks lie in drawers, books and lists in the default tree.
//!
//! sled writes a leaf anew, with all values in it, at its tenth change and again when it splits, and it splits at 17 values
//! whatever they weigh. In one tree full blocks would be written three to four times. So each lane has a row of small
//! trees, and one is left for the next before its only leaf would be rewritten: a block is written once. Of small
//! blocks, where that is cheap, a drawer takes more.
//!
//! A change over several trees is one transaction, which the log takes back or keeps as a whole.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use ::sled::transaction::{TransactionError, Transactional as _};
use ::sled::{Batch, Db, Error, IVec, Iter, Tree};

use crate::limits;
use crate::wire::{Lane, PerLane};

use super::entry::{Entry, KEY_BYTES};
use super::journal::{Op, Order};

/// An open database.
pub(super) struct Drawers {
    /// As a tree the default one. It may also hold blocks: of a spool from before there were drawers.
    db: Db,
    lanes: PerLane<Row>,
}

/// The drawers of one lane, by their numbers.
#[derive(Default)]
struct Row {
    drawers: Vec<Drawer>,
    /// Which one is being filled.
    current: usize,
}

struct Drawer {
    tree: Tree,
    /// What was put since it was last empty.
    puts: usize,
    put_bytes: usize,
    blocks: usize,
    /// Smallest and greatest key since it was last empty.
    bounds: Option<(Key, Key)>,
}

type Key = [u8; KEY_BYTES];

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
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        let edge = if order == Order::Up { from } else { to };
        let mut heads = vec![Head { at: edge.into(), tree: &self.db, goes: None }];
        for drawer in self.lanes.iter().flat_map(|row| &row.drawers) {
            let within = |(first, last): &&(Key, Key)| first.as_slice() < to && last.as_slice() >= from;
            if let Some((first, last)) = drawer.bounds.as_ref().filter(within) {
                let edge = if order == Order::Up { first } else { last };
                heads.push(Head { at: edge.as_slice().into(), tree: &drawer.tree, goes: None });
            }
        }
        while let Some(at) = foremost(&heads, order) {
            let Head { at, tree, goes } = heads.swap_remove(at);
            let mut iter = match goes {
                None => tree.range(from..to),
                Some((iter, value)) => {
                    if !visit(&at, &value) {
                        return Ok(());
                    }
                    iter
                }
            };
            if let Some(item) = if order == Order::Up { iter.next() } else { iter.next_back() } {
                let (at, value) = item?;
                heads.push(Head { at, tree, goes: Some((iter, value)) });
            }
        }
        Ok(())
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
        for (at, drawer) in self.lanes[lane].drawers.iter().enumerate() {
            let may = drawer.bounds.as_ref().is_some_and(|(first, last)| (first..=last).contains(&&key));
            if may && drawer.tree.contains_key(key)? {
                return Ok(Some(Some((lane, at))));
            }
        }
        Ok(self.db.contains_key(key)?.then_some(None))
    }

    /// Where a value goes: what lies somewhere stays there.
    fn put(&mut self, entry: Option<&Entry>, known: Option<Place>, bytes: usize) -> Result<Place, Error> {
        let Some(entry) = entry else { return Ok(None) };
        let place = match known {
            Some(place) => place,
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

impl Drawer {
    fn new(tree: Tree) -> Self {
        Self { tree, puts: 0, put_bytes: 0, blocks: 0, bounds: None }
    }

    fn open(tree: Tree) -> Result<Self, Error> {
        let mut drawer = Self::new(tree);
        for item in drawer.tree.iter() {
            let (key, value) = item?;
            // Whatever else lies there is no block and is never looked for.
            if let Some(entry) = Entry::from_key(&key) {
                drawer.put(entry.key(), value.len(), true);
            }
        }
        Ok(drawer)
    }

    fn put(&mut self, key: Key, bytes: usize, new: bool) {
        self.puts += 1;
        self.put_bytes += bytes;
        self.blocks += usize::from(new);
        let (first, last) = self.bounds.unwrap_or((key, key));
        self.bounds = Some((first.min(key), last.max(key)));
    }

    fn is_full(&self) -> bool {
        self.puts >= limits::SPOOL_DRAWER_BLOCKS && self.put_bytes >= limits::SPOOL_DRAWER_BYTES
    }

    fn clear(&mut self) {
        self.puts = 0;
        self.put_bytes = 0;
        self.bounds = None;
    }
}

/// Where a tree goes on, in a walk over several.
struct Head<'a> {
    /// Its next key, or no later than that.
    at: IVec,
    tree: &'a Tree,
    /// The value under that key and what follows; nothing before the tree's turn has come.
    goes: Option<(Iter, IVec)>,
}

/// The head whose turn it is; of equal ones one that waits, to learn whether it stays there.
fn foremost(heads: &[Head<'_>], order: Order) -> Option<usize> {
    let turn = |a: &usize, b: &usize| -> Ordering {
        let (a, b) = (&heads[*a], &heads[*b]);
        let by_key = if order == Order::Up { a.at.cmp(&b.at) } else { b.at.cmp(&a.at) };
        by_key.then(a.goes.is_some().cmp(&b.goes.is_some()))
    };
    (0..heads.len()).min_by(turn)
}

fn name(lane: Lane, number: usize) -> String {
    format!("{}-{number:06}", lane.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Wall;
    use crate::wire::BlockId;

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
