//! Many databases as one journal: the newest takes every commit, the others are only read and disappear when nothing in
//! them is wanted any more. So the disk shrinks, a large spool opens as fast as a small one, and damage stays where it
//! happened.
//!
//! ```text
//! apply -> active database: blocks, books, and what each sealed one still holds
//! tidy  -> drop what is empty, seal what is full, move out what is left in nearly empty ones
//! ```
//!
//! A commit is one batch in one database, so it is atomic as before. Deleting a block in a sealed database is taking its
//! numbers off the list of what that one holds ([`Holding`]), which the active one keeps. Whatever is put shadows what
//! older databases hold of the same numbers; moving a block is therefore nothing but putting it again.
//!
//! After a commit that failed nobody knows whether it took effect, or whether the active database has rotted. So it is held
//! against what it should hold before it is used again. A damaged one is sealed as it is, a new one goes on with the books and
//! lists known here, and it is healed like any other.

mod merge;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::ops::Range;

use crate::limits;
use crate::wire::{BlockId, Lane};

use self::merge::Merge;
use super::entry::{Entry, lane_key};
use super::holding::{Holding, Loss};
use super::journal::{Journal, JournalError, Op};
use super::meta::META_KEY;
use super::shelf::{Promised, Shelf};

/// Several databases, one journal.
pub struct Segments<S: Shelf> {
    shelf: S,
    sizes: Sizes,
    active: Active<S::Db>,
    sealed: BTreeMap<u64, Holding>,
    /// Sealed databases that were dropped and still stand in the active one's list.
    dropped: BTreeSet<u64>,
    reading: RefCell<Reading<S::Db>>,
}

/// When a database is sealed, and how much is moved at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes on disk at which the active database is sealed.
    pub full_bytes: u64,
    /// Bytes on disk above which a database in which nothing is left is replaced by a new one.
    pub empty_bytes: u64,
    /// Bytes moved from a nearly empty database in one step.
    pub move_bytes: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            full_bytes: limits::SPOOL_DATABASE_BYTES,
            empty_bytes: limits::SPOOL_DATABASE_EMPTY_BYTES,
            move_bytes: limits::SPOOL_MOVE_BYTES,
        }
    }
}

struct Active<D> {
    id: u64,
    db: D,
    holding: Holding,
    /// The newest books in it, to go on with them elsewhere once it is damaged.
    books: Vec<u8>,
    /// It does not read any more, or has lost what it should hold.
    damaged: Cell<bool>,
    /// Reads that the medium failed.
    failed: Cell<u32>,
    /// Commits failed since the last that did not. Opened anew it may be well, or they may have met what has rotted.
    doubt: Option<Doubt>,
}

struct Doubt {
    /// What those commits may have deleted.
    deleted: HashSet<BlockId>,
    /// Keys of blocks that they may have put. Unless the next commit puts them too, it deletes them: what was to be moved and
    /// can't be read any more is declared lost, and a copy beside that gap would count twice.
    put: HashSet<Vec<u8>>,
    /// It was looked at since the last of them.
    looked: Cell<bool>,
}

/// Sealed databases that are open, the latest used last, those of which the medium failed reads, and those that turned out
/// damaged.
struct Reading<D> {
    open: VecDeque<(u64, D)>,
    failed: BTreeMap<u64, u32>,
    damaged: BTreeSet<u64>,
}

/// The books' changes of one commit, taken over once it is durable.
struct Changes {
    active: Holding,
    sealed: BTreeMap<u64, Holding>,
}

impl<S: Shelf> Segments<S> {
    /// Opens what stands on `shelf`; makes the first database where there is none.
    pub fn open(shelf: S, sizes: Sizes) -> Result<Self, JournalError> {
        let mut ids = shelf.ids()?;
        let active = loop {
            let id = ids.pop().unwrap_or(1);
            let db = shelf.open(id)?;
            let (books, holding) = (db.get(META_KEY)?, holding_of(&db)?);
            if books.is_none() && !holding.is_empty() {
                return Err(JournalError::Damaged("it holds blocks, and its books are missing".into()));
            }
            if ids.is_empty() || books.is_some() {
                break Active::new(id, holding, books.unwrap_or_default(), db);
            }
            if shelf.promised(id).is_some() {
                return Err(JournalError::Damaged("its log breaks off before the first commit".into()));
            }
            // Made for a rotation whose first commit never came: everything is still in the one before.
            drop(db);
            shelf.remove(id)?;
        };
        let mut sealed = listed(&active.db)?;
        let missing = |id: &&u64| !ids.contains(id);
        let damaged = sealed.iter().filter(|(_, held)| !held.is_empty()).map(|(id, _)| id).filter(missing);
        let damaged = damaged.copied().collect();
        let dropped = sealed.iter().filter(|(_, held)| held.is_empty()).map(|(id, _)| *id).collect();
        for &id in &ids {
            // Dropped before the last stop, or never in use.
            if sealed.get(&id).is_none_or(Holding::is_empty) {
                shelf.remove(id)?;
            }
        }
        sealed.retain(|_, held| !held.is_empty());
        let reading = RefCell::new(Reading { open: VecDeque::new(), failed: BTreeMap::new(), damaged });
        Ok(Self { shelf, sizes, active, sealed, dropped, reading })
    }

    /// The books and the databases agree: copies made before opening may go.
    pub(super) fn proved(&self) {
        self.shelf.proved(self.active.id);
    }

    /// The newest books that the active database should have.
    pub(super) fn promised(&self) -> Option<Promised> {
        self.shelf.promised(self.active.id)
    }

    /// Databases that stand on the shelf.
    pub fn databases(&self) -> usize {
        1 + self.sealed.len()
    }

    /// What `ops` mean for the lists, and for the active database.
    fn translate(&self, ops: &[Op]) -> (Vec<Op>, Changes) {
        let mut changes = Changes { active: self.active.holding.clone(), sealed: BTreeMap::new() };
        let mut batch = Vec::with_capacity(ops.len() + 1);
        for op in ops {
            match op {
                Op::Put { key, value } => {
                    if let Some(entry) = Entry::from_key(key) {
                        self.shadow(&entry, &mut changes);
                        changes.active.insert(&entry, value.len());
                    }
                    batch.push(op.clone());
                }
                Op::Delete { key } => match Entry::from_key(key) {
                    // It may have been deleted by an attempt that took effect and failed nevertheless.
                    Some(entry) if changes.active.holds(&entry) => {
                        changes.active.remove(entry.id);
                        batch.push(op.clone());
                    }
                    Some(entry) => self.shadow(&entry, &mut changes),
                    None => batch.push(op.clone()),
                },
            }
        }
        let lists =
            changes.sealed.iter().map(|(&id, held)| Op::Put { key: list_key(id), value: held.encode() });
        batch.extend(lists);
        batch.extend(self.dropped.iter().map(|&id| Op::Delete { key: list_key(id) }));
        (batch, changes)
    }

    /// Takes the numbers of `entry` off the lists of sealed databases.
    fn shadow(&self, entry: &Entry, changes: &mut Changes) {
        for (&id, held) in &self.sealed {
            if changes.sealed.get(&id).unwrap_or(held).touches(entry.id) {
                changes.sealed.entry(id).or_insert_with(|| held.clone()).remove(entry.id);
            }
        }
    }

    /// Drops the sealed databases that hold nothing any more.
    fn drop_empty(&mut self) -> Result<(), JournalError> {
        let empty: Vec<u64> =
            self.sealed.iter().filter(|(_, held)| held.is_empty()).map(|(id, _)| *id).collect();
        for id in empty {
            let reading = self.reading.get_mut();
            reading.open.retain(|(open, _)| *open != id);
            if reading.damaged.contains(&id) {
                self.shelf.set_aside(id)?;
            } else {
                self.shelf.remove(id)?;
            }
            reading.damaged.remove(&id);
            reading.failed.remove(&id);
            self.sealed.remove(&id);
            self.dropped.insert(id);
        }
        Ok(())
    }

    /// Seals the active database and goes on in a new one.
    fn rotate(&mut self) -> Result<(), JournalError> {
        if !self.active.books.is_empty() {
            let before = self.succeed()?;
            self.reading.get_mut().keep(before.id, before.db);
        }
        Ok(())
    }

    /// After an error: whether the active database still holds what it should, once it is opened anew. A place that has rotted
    /// ends its log without a word.
    fn look_again(&self) -> Result<(), JournalError> {
        let active = &self.active;
        let Some(doubt) = active.doubt.as_ref().filter(|doubt| !doubt.looked.get()) else { return Ok(()) };
        let mut kept = active.holding.clone();
        doubt.deleted.iter().for_each(|&id| kept.remove(id));
        if !kept.is_within(&active.read(holding_of(&active.db))?) {
            return active.read(Err(JournalError::Damaged("it has lost what was stored in it".into())));
        }
        doubt.looked.set(true);
        Ok(())
    }

    /// A new database in the place of an active one that turned out damaged, which then is healed as a sealed one is. What
    /// it should hold is known here, whatever it says itself: nothing is numbered anew as after a start without books.
    fn replace_damaged(&mut self) -> Result<(), JournalError> {
        if self.active.damaged.get() {
            let before = self.succeed()?;
            self.reading.get_mut().damaged.insert(before.id);
        }
        Ok(())
    }

    /// A new active database: books and lists move there, blocks stay where they are. Gives the one before.
    fn succeed(&mut self) -> Result<Active<S::Db>, JournalError> {
        let id = self.active.id + 1;
        let mut db = self.shelf.open(id)?;
        let mut ops = Vec::new();
        // Before the first commit there are none, and a start takes a database without books for one never in use.
        if !self.active.books.is_empty() {
            ops.push(Op::Put { key: META_KEY.to_vec(), value: self.active.books.clone() });
        }
        let before = (&self.active.id, &self.active.holding);
        for (&id, held) in self.sealed.iter().chain([before]) {
            ops.push(Op::Put { key: list_key(id), value: held.encode() });
        }
        if let Err(error) = db.apply(&ops) {
            drop(db);
            // Without books in it the next start removes it if this can't.
            let _ = self.shelf.remove(id);
            return Err(error);
        }
        self.shelf.proved(id);
        let next = Active::new(id, Holding::default(), self.active.books.clone(), db);
        let mut before = std::mem::replace(&mut self.active, next);
        self.sealed.insert(before.id, std::mem::take(&mut before.holding));
        self.dropped.clear();
        Ok(before)
    }

    /// Puts a part of what `id` still holds into the active database.
    fn move_out(&mut self, id: u64) -> Result<(), JournalError> {
        let (mut ops, mut bytes) = (Vec::new(), 0);
        let held = self.sealed.get(&id).cloned().unwrap_or_default();
        self.with_sealed(id, &mut |db| {
            each_entry(db, &mut |entry, value| {
                if held.holds(&entry) {
                    bytes += value.len();
                    ops.push(Op::Put { key: entry.key().to_vec(), value: value.to_vec() });
                }
                bytes < self.sizes.move_bytes
            })
        })?;
        self.apply(&ops)
    }

    /// Puts what is found of the damaged database `id` into the active one: what still reads by its keys, then what is found in
    /// its files.
    fn salvage(&mut self, id: u64) -> Result<(), JournalError> {
        self.reading.get_mut().open.retain(|(open, _)| *open != id);
        self.prove_medium(id)?;
        // Opening one that is not there would make it.
        if self.shelf.ids()?.contains(&id)
            && let Some(db) = as_far_as_it_reads(self.shelf.open(id))?
        {
            Lane::ALL.iter().try_for_each(|&lane| self.move_readable(id, &db, lane))?;
        }
        let held = self.sealed.get(&id).cloned().unwrap_or_default();
        if held.is_empty() {
            return Ok(());
        }
        let (mut seen, mut ops) = (BTreeSet::new(), Vec::new());
        self.shelf.salvage(id, &mut |entry, value| {
            if held.holds(&entry) && seen.insert(entry.key()) {
                ops.push(Op::Put { key: entry.key().to_vec(), value });
            }
        });
        ops.chunks(limits::SPOOL_SALVAGE_BATCH_BLOCKS).try_for_each(|batch| self.apply(batch))
    }

    /// A medium that takes no commit gives nothing back either, and what it holds would be declared lost once it is back.
    fn prove_medium(&mut self, id: u64) -> Result<(), JournalError> {
        let held = self.sealed.get(&id).map(Holding::encode);
        let ops: Vec<Op> = held.map(|value| Op::Put { key: list_key(id), value }).into_iter().collect();
        self.apply(&ops)
    }

    /// Puts what reads of one lane in `db`, the damaged database `id`, into the active one, up to the first place that does not.
    fn move_readable(&mut self, id: u64, db: &S::Db, lane: Lane) -> Result<(), JournalError> {
        let mut from = 0;
        loop {
            let held = self.sealed.get(&id).cloned().unwrap_or_default();
            let (mut ops, mut bytes) = (Vec::new(), 0);
            let (start, end) = (lane_key(lane, from), lane_key(lane, u64::MAX));
            let read = db.scan(&start, &end, &mut |key, value| {
                let Some(entry) = Entry::from_key(key) else { return true };
                from = entry.id.first + 1;
                if held.holds(&entry) && entry.crc == crc32fast::hash(value) {
                    bytes += value.len();
                    ops.push(Op::Put { key: key.to_vec(), value: value.to_vec() });
                }
                bytes < self.sizes.move_bytes
            });
            let more = as_far_as_it_reads(read)?.is_some() && bytes >= self.sizes.move_bytes;
            self.apply(&ops)?;
            if !more {
                return Ok(());
            }
        }
    }

    /// Runs `look` on a sealed database, opening it if need be.
    fn with_sealed(
        &self,
        id: u64,
        look: &mut dyn FnMut(&S::Db) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        let mut reading = self.reading.borrow_mut();
        if reading.damaged.contains(&id) {
            return Err(JournalError::Damaged(format!("database {id} waits to be salvaged")));
        }
        let outcome = match reading.open.iter().position(|(open, _)| *open == id) {
            Some(at) => Ok(reading.open.remove(at)),
            None => self.open_sealed(id).map(|db| Some((id, db))),
        };
        let outcome = outcome.and_then(|found| {
            let Some((_, db)) = found else { return Ok(()) };
            let outcome = look(&db);
            reading.keep(id, db);
            outcome
        });
        if let Err(error) = &outcome {
            reading.open.retain(|(open, _)| *open != id);
            let failed = reading.failed.entry(id).or_default();
            if is_lasting(error, failed) {
                reading.damaged.insert(id);
            }
        }
        outcome
    }

    /// Opens a sealed database, which must hold all that is on its list: sled takes a damaged place for its log's end.
    fn open_sealed(&self, id: u64) -> Result<S::Db, JournalError> {
        let db = self.shelf.open(id)?;
        let listed = self.sealed.get(&id).cloned().unwrap_or_default();
        if !listed.is_within(&holding_of(&db)?) {
            return Err(JournalError::Damaged(format!("database {id} holds less than was sealed in it")));
        }
        self.shelf.proved(id);
        Ok(db)
    }
}

impl<D> Active<D> {
    fn new(id: u64, holding: Holding, books: Vec<u8>, db: D) -> Self {
        Self { id, db, holding, books, damaged: Cell::new(false), failed: Cell::new(0), doubt: None }
    }

    /// Remembers a commit that failed.
    fn failed(&mut self, ops: &[Op]) {
        let deleted = ops.iter().filter(|op| matches!(op, Op::Delete { .. }));
        let deleted =
            deleted.filter_map(|op| Entry::from_key(op.key()).filter(|entry| self.holding.holds(entry)));
        let deleted: Vec<BlockId> = deleted.map(|entry| entry.id).collect();
        let (mut known, mut put) =
            self.doubt.take().map(|doubt| (doubt.deleted, doubt.put)).unwrap_or_default();
        known.extend(deleted);
        let blocks = |op: &&Op| matches!(op, Op::Put { key, .. } if Entry::from_key(key).is_some());
        put.extend(ops.iter().filter(blocks).map(|op| op.key().to_vec()));
        self.doubt = Some(Doubt { deleted: known, put, looked: Cell::new(false) });
    }

    /// What a commit with `ops` has to take back of those that failed before.
    fn leftovers(&self, ops: &[Op]) -> Vec<Op> {
        let mut left = self.doubt.as_ref().map(|doubt| doubt.put.clone()).unwrap_or_default();
        for op in ops.iter().filter(|op| matches!(op, Op::Put { .. })) {
            left.remove(op.key());
        }
        let is_held = |key: &Vec<u8>| Entry::from_key(key).is_some_and(|entry| self.holding.holds(&entry));
        left.into_iter().filter(|key| !is_held(key)).map(|key| Op::Delete { key }).collect()
    }

    /// Whether a commit that failed may have deleted what begins in `numbers`: whoever finds nothing there must not go on to
    /// what follows, as what is to stand in its place is not promised yet.
    fn is_unsettled(&self, lane: Lane, numbers: Range<u64>) -> bool {
        let deleted = self.doubt.iter().flat_map(|doubt| &doubt.deleted);
        deleted.filter(|id| id.lane == lane).any(|id| numbers.contains(&id.first))
    }

    /// What came of reading it, remembered where it is damaged.
    fn read<T>(&self, outcome: Result<T, JournalError>) -> Result<T, JournalError> {
        if let Err(error) = &outcome {
            let mut failed = self.failed.get();
            self.damaged.set(self.damaged.get() || is_lasting(error, &mut failed));
            self.failed.set(failed);
        }
        outcome
    }
}

/// None where the damage is; other errors say nothing of what lies there, and are for a later attempt.
fn as_far_as_it_reads<T>(outcome: Result<T, JournalError>) -> Result<Option<T>, JournalError> {
    match outcome {
        Ok(read) => Ok(Some(read)),
        Err(JournalError::Damaged(_) | JournalError::Medium(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether what does not read is to be given up, with `failed` reads that the medium failed before. It may be back at the
/// next attempt, and giving up at once would lose what is only out of reach; never giving up would hold up all that follows.
fn is_lasting(error: &JournalError, failed: &mut u32) -> bool {
    match error {
        JournalError::Damaged(_) => true,
        JournalError::Medium(_) => {
            *failed += 1;
            *failed >= limits::SPOOL_MEDIUM_TRIES
        }
        _ => false,
    }
}

impl<D> Reading<D> {
    fn keep(&mut self, id: u64, db: D) {
        self.open.push_back((id, db));
        while self.open.len() > limits::SPOOL_DATABASES_OPEN_MAX {
            self.open.pop_front();
        }
    }
}

impl<S: Shelf> Journal for Segments<S> {
    fn apply(&mut self, ops: &[Op]) -> Result<(), JournalError> {
        let looked = self.look_again();
        if !self.active.damaged.get() {
            looked?;
        }
        self.replace_damaged()?;
        let (translated, changes) = self.translate(ops);
        let mut batch = self.active.leftovers(ops);
        if !batch.is_empty() {
            // With what they put they may have taken it off the lists.
            batch.extend(
                self.sealed.iter().map(|(&id, held)| Op::Put { key: list_key(id), value: held.encode() }),
            );
        }
        batch.extend(translated);
        if let Err(error) = self.active.db.apply(&batch) {
            self.active.failed(ops);
            return Err(error);
        }
        self.active.doubt = None;
        if let Some(Op::Put { value, .. }) = ops.iter().rfind(|op| op.key() == META_KEY) {
            self.active.books.clone_from(value);
        }
        self.active.holding = changes.active;
        self.sealed.extend(changes.sealed);
        self.dropped.clear();
        Ok(())
    }

    /// Only of the active database: the books.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        self.active.db.get(key)
    }

    /// Live blocks of one lane: both bounds are made by [`lane_key`].
    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), JournalError> {
        let Some((lane, from, to)) = bounds(from, to) else { return Ok(()) };
        self.look_again()?;
        Merge::new(self, lane, from, to).run(visit)
    }

    /// As [`Journal::scan`]: the live block of that lane that begins last.
    fn last(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), JournalError> {
        let Some((lane, from, to)) = bounds(from, to) else { return Ok(()) };
        self.look_again()?;
        if let Some((entry, value)) = merge::last(self, lane, from, to)? {
            visit(&entry.key(), &value);
        }
        Ok(())
    }

    fn bytes_on_disk(&self) -> u64 {
        self.sealed.keys().chain([&self.active.id]).map(|&id| self.shelf.bytes_on_disk(id)).sum()
    }

    fn tidy(&mut self) -> Result<(), JournalError> {
        self.drop_empty()?;
        let bytes = self.shelf.bytes_on_disk(self.active.id);
        let drained = self.active.holding.is_empty() && bytes > self.sizes.empty_bytes;
        if drained || bytes > self.sizes.full_bytes {
            self.rotate()?;
            self.drop_empty()?;
        }
        let sound = |id: &u64| !self.reading.borrow().damaged.contains(id);
        let mut sparse =
            self.sealed.iter().filter(|(id, held)| sound(id) && held.is_sparse(limits::SPOOL_RANGES_MAX));
        // The last few are being drained, most likely, and go without being moved.
        let nearly_empty = sparse.next().map(|(id, _)| *id).filter(|_| sparse.count() >= SPARSE_KEPT);
        match nearly_empty {
            Some(id) => self.move_out(id),
            None => Ok(()),
        }
    }

    /// Deleting blocks frees nothing, only whole databases do: the oldest has to go, and what little is not given up of it
    /// moves on.
    fn relieve(&mut self) -> Result<Vec<Loss>, JournalError> {
        self.drop_empty()?;
        let worth_it = self.shelf.bytes_on_disk(self.active.id) > self.sizes.empty_bytes;
        if self.sealed.is_empty() && worth_it {
            self.rotate()?;
        }
        let Some((&id, held)) = self.sealed.first_key_value() else { return Ok(Vec::new()) };
        let ballast = held.ballast(self.sizes.move_bytes as u64);
        if ballast.is_empty() {
            self.move_out(id)?;
            self.drop_empty()?;
        }
        Ok(ballast)
    }

    fn is_damaged(&self) -> bool {
        let lossy = |id| self.sealed.get(id).is_some_and(|held| !held.is_empty());
        self.active.damaged.get() || self.reading.borrow().damaged.iter().any(lossy)
    }

    fn heal(&mut self) -> Result<Vec<Loss>, JournalError> {
        self.replace_damaged()?;
        let damaged: Vec<u64> = self.reading.get_mut().damaged.iter().copied().collect();
        let mut losses = Vec::new();
        for id in damaged {
            self.salvage(id)?;
            losses.extend(self.sealed.get(&id).map(Holding::losses).unwrap_or_default());
        }
        Ok(losses)
    }
}

impl<S: Shelf> Segments<S> {
    fn holding(&self, id: u64) -> &Holding {
        self.sealed.get(&id).unwrap_or(&self.active.holding)
    }
}

/// Lane and numbers that two keys of [`lane_key`] bound; `None` where nothing can lie between them.
fn bounds(from: &[u8], to: &[u8]) -> Option<(Lane, u64, u64)> {
    let number = |key: &[u8]| Some(u64::from_be_bytes(*key.get(2..)?.first_chunk()?));
    let lane = *Lane::ALL.get(usize::from(*from.get(1)?))?;
    let (from, to) = (number(from)?, number(to)?);
    (from < to).then_some((lane, from, to))
}

/// Everything in a database, live or not, lane by lane, until `visit` returns false.
fn each_entry(db: &impl Journal, visit: &mut dyn FnMut(Entry, &[u8]) -> bool) -> Result<(), JournalError> {
    let mut more = true;
    for &lane in Lane::ALL {
        if more {
            db.scan(&lane_key(lane, 0), &lane_key(lane, u64::MAX), &mut |key, value| {
                more = Entry::from_key(key).is_none_or(|entry| visit(entry, value));
                more
            })?;
        }
    }
    Ok(())
}

/// What a database holds by its own keys.
fn holding_of(db: &impl Journal) -> Result<Holding, JournalError> {
    let mut holding = Holding::default();
    each_entry(db, &mut |entry, value| {
        holding.insert(&entry, value.len());
        true
    })?;
    Ok(holding)
}

/// The lists of the sealed databases in the active one.
fn listed(db: &impl Journal) -> Result<BTreeMap<u64, Holding>, JournalError> {
    let mut lists = BTreeMap::new();
    let mut sound = true;
    db.scan(LIST_PREFIX, LIST_END, &mut |key, value| {
        let id = key.strip_prefix(LIST_PREFIX).and_then(|id| Some(u64::from_be_bytes(id.try_into().ok()?)));
        match id.zip(Holding::decode(value)) {
            Some((id, holding)) => drop(lists.insert(id, holding)),
            None => sound = false,
        }
        true
    })?;
    if sound { Ok(lists) } else { Err(JournalError::Damaged("a list of blocks does not read".into())) }
}

fn list_key(id: u64) -> Vec<u8> {
    [LIST_PREFIX, &id.to_be_bytes()].concat()
}

/// Before all blocks, as the books.
const LIST_PREFIX: &[u8] = b"L";
const LIST_END: &[u8] = b"M";
/// Nearly empty databases that are left alone.
const SPARSE_KEPT: usize = 2;
