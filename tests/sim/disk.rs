//! A disk that does what disks do: logs of checked frames whose unsynced end is lost when the power goes.
//!
//! ```text
//! frame: length u32 LE | CRC-32 u32 LE | operations
//! ```
//!
//! As sled's, a log ends at its first damaged frame when it is opened; while it is open nobody notices.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use outpost::spool::{Entry, Journal, JournalError, Op, Promised, Shelf};
use outpost::wire::block::block_length_at;
use outpost::wire::{Body, decode_header};

use crate::Mistake;

/// The disk of one gateway. Clones share it.
#[derive(Clone)]
pub struct SimShelf {
    disk: Rc<RefCell<Disk>>,
}

/// One database on it.
pub struct SimDb {
    shelf: SimShelf,
    id: u64,
}

/// What lies on the disk and what is wrong with it.
pub struct Disk {
    rng: Rng,
    mistake: Mistake,
    logs: BTreeMap<u64, Log>,
    /// Deleted, in a directory that nobody has synced.
    deleted: BTreeMap<u64, Log>,
    /// No space.
    pub full: bool,
    /// Writes that fail, in percent.
    pub failing_percent: u32,
    /// Operations until the power goes.
    pub power_for: Option<u32>,
    /// The power is gone: nothing works until [`Disk::power_cut`].
    pub dead: bool,
    /// How long the next sync takes.
    pub sync_time: Duration,
    /// Time that syncs took since this was taken last.
    pub waited: Duration,
    /// Something on it was damaged, ever.
    pub is_damaged: bool,
    pub rotations: u64,
    pub writes_failed: u64,
}

#[derive(Default)]
struct Log {
    bytes: Vec<u8>,
    synced: usize,
    /// Where the values lie; none until opened, and after an error.
    index: Option<BTreeMap<Vec<u8>, Range<usize>>>,
    promised: Option<Promised>,
}

impl SimShelf {
    pub fn new(rng: Rng, mistake: Mistake) -> Self {
        let disk = Disk {
            rng,
            mistake,
            logs: BTreeMap::new(),
            deleted: BTreeMap::new(),
            full: false,
            failing_percent: 0,
            power_for: None,
            dead: false,
            sync_time: Duration::ZERO,
            waited: Duration::ZERO,
            is_damaged: false,
            rotations: 0,
            writes_failed: 0,
        };
        Self { disk: Rc::new(RefCell::new(disk)) }
    }

    pub fn disk(&self) -> RefMut<'_, Disk> {
        self.disk.borrow_mut()
    }
}

impl Disk {
    /// What was not synced is gone, or half of it; a file that was just deleted may be back.
    pub fn power_cut(&mut self) {
        for (id, log) in std::mem::take(&mut self.deleted) {
            if self.rng.u32(0..3) == 0 {
                self.logs.entry(id).or_insert(log);
            }
        }
        for log in self.logs.values_mut() {
            let kept = self.rng.usize(log.synced..=log.bytes.len());
            log.bytes.truncate(kept);
            if kept > log.synced && self.rng.bool() {
                let torn = self.rng.usize(log.synced..kept);
                log.bytes[torn] ^= 1 << self.rng.u32(0..8);
            }
            // The file with the promises is not synced; it may be as it was long ago.
            if !self.is_damaged && self.rng.u32(0..4) == 0 {
                log.promised = None;
            }
        }
        self.close();
    }

    /// Everybody who had files open is gone; the files are as they were.
    pub fn close(&mut self) {
        self.dead = false;
        self.power_for = None;
        self.logs.values_mut().for_each(|log| log.index = None);
    }

    /// One bit of what lies here becomes another one.
    pub fn rot(&mut self) {
        let at = self.rng.usize(0..self.logs.len().max(1));
        let Some(log) = self.logs.values_mut().nth(at).filter(|log| !log.bytes.is_empty()) else { return };
        let places: Vec<Range<usize>> = match &log.index {
            // Whoever has a file open reads its books from memory.
            Some(index) => {
                index.iter().filter(|(k, v)| k[0] == b'b' && !v.is_empty()).map(|(_, v)| v.clone()).collect()
            }
            None => std::iter::once(0..log.bytes.len()).collect(),
        };
        if places.is_empty() {
            return;
        }
        let place = places[self.rng.usize(0..places.len())].clone();
        log.bytes[self.rng.usize(place)] ^= 1 << self.rng.u32(0..8);
        self.is_damaged = true;
    }

    /// All logs, moved out of the way: a start found the spool damaged.
    pub fn put_aside(&mut self) -> Vec<Vec<u8>> {
        self.deleted.clear();
        std::mem::take(&mut self.logs).into_values().map(|log| log.bytes).collect()
    }

    /// Forgets the numbers that were given: the next one is told from the blocks that are here.
    pub fn count_from_blocks(&mut self) {
        let Some(log) = self.logs.values_mut().next_back() else { return };
        log.open();
        let Some(index) = &log.index else { return };
        let Some(range) = index.get(b"Meta".as_slice()).cloned() else { return };
        let mut books = Books::decode(&log.bytes[range]);
        for (i, lane) in books.lanes.iter_mut().enumerate() {
            let last = index.keys().filter_map(|k| Entry::from_key(k)).filter(|e| e.id.lane.index() == i);
            let next = last.map(|e| e.id.last).max().unwrap_or(0) + 1;
            lane.acknowledged = (next - 1).saturating_sub(lane.pending);
            lane.pending = next - 1 - lane.acknowledged;
            lane.evicted.clear();
            lane.through = lane.through.min(next - 1);
            lane.next = next;
        }
        let put = Op::Put { key: b"Meta".to_vec(), value: books.encode() };
        log.append(&[put]);
        log.synced = log.bytes.len();
        log.index = None;
    }

    pub fn databases(&self) -> usize {
        self.logs.len()
    }

    /// One operation; `Err` once the power is gone.
    fn operate(&mut self) -> Result<(), JournalError> {
        if let Some(left) = &mut self.power_for {
            self.dead = *left == 0;
            *left = left.saturating_sub(1);
        }
        if self.dead { Err(JournalError::Io("the power is gone".into())) } else { Ok(()) }
    }

    fn apply(&mut self, id: u64, ops: &[Op]) -> Result<(), JournalError> {
        let ops: Vec<Op> = ops.iter().filter(|op| !self.is_dropped(op)).cloned().collect();
        let power = self.operate();
        let fails = self.full || self.rng.u32(0..100) < self.failing_percent;
        let log = self.logs.entry(id).or_default();
        if log.index.is_none() {
            log.reopen()?;
        }
        if power.is_err() || fails {
            self.writes_failed += 1;
            // Nothing of it, a part of it, or all of it reaches the file, and none of it surely the medium.
            let before = log.bytes.len();
            if !self.full || power.is_err() {
                log.append(&ops);
                if self.rng.bool() {
                    log.bytes.truncate(self.rng.usize(before..=log.bytes.len()));
                }
            }
            log.index = None;
            power?;
            return Err(if self.full { JournalError::Full } else { JournalError::Io("injected".into()) });
        }
        if self.mistake == Mistake::TearBatches {
            ops.iter().for_each(|op| log.append(std::slice::from_ref(op)));
            if self.power_for == Some(0) {
                let kept = self.rng.usize(log.synced..=log.bytes.len());
                log.synced = kept;
            }
        } else {
            log.append(&ops);
        }
        self.waited += std::mem::take(&mut self.sync_time);
        if self.mistake != Mistake::SkipTheSync {
            log.synced = log.bytes.len();
            self.deleted.clear();
        }
        log.promised = books_in(&ops).or(log.promised);
        Ok(())
    }

    fn is_dropped(&self, op: &Op) -> bool {
        let Op::Put { key, .. } = op else { return false };
        self.mistake == Mistake::DropGaps && Entry::from_key(key).is_some_and(|e| e.gap.is_some())
    }
}

impl Log {
    fn append(&mut self, ops: &[Op]) {
        let begins = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 8]);
        for op in ops {
            let (key, value) = match op {
                Op::Put { key, value } => (key, Some(value)),
                Op::Delete { key } => (key, None),
            };
            self.bytes.push(u8::from(value.is_some()));
            self.bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
            self.bytes.extend_from_slice(key);
            if let Some(value) = value {
                self.bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
                self.bytes.extend_from_slice(value);
            }
        }
        let body = &self.bytes[begins + 8..];
        let (length, crc) = (body.len() as u32, crc32fast::hash(body));
        self.bytes[begins..begins + 4].copy_from_slice(&length.to_le_bytes());
        self.bytes[begins + 4..begins + 8].copy_from_slice(&crc.to_le_bytes());
        if let Some(index) = &mut self.index {
            note(&self.bytes, begins + 8, self.bytes.len(), index);
        }
    }

    /// Reads the log up to its first damaged frame; what is behind that is no more.
    fn open(&mut self) {
        let (mut index, mut at) = (BTreeMap::new(), 0);
        while let Some(end) = frame_end(&self.bytes, at) {
            note(&self.bytes, at + 8, end, &mut index);
            at = end;
        }
        self.bytes.truncate(at);
        // Whatever is read is synced first, or it could be gone after the next power cut.
        self.synced = at;
        // What is read is promised from now on.
        let read = index.get(b"Meta".as_slice()).and_then(|at| promise(&self.bytes[at.clone()]));
        if let Some(read) = read {
            let newer = |p: Promised| read.epoch == p.epoch && read.commit > p.commit;
            self.promised = Some(self.promised.filter(|p| !newer(*p)).unwrap_or(read));
        }
        self.index = Some(index);
    }

    /// Opens once more after an error, as the journal on sled does: what was promised must be there.
    fn reopen(&mut self) -> Result<(), JournalError> {
        self.open();
        let books = self.index()?.get(b"Meta".as_slice()).and_then(|at| promise(&self.bytes[at.clone()]));
        let whole =
            self.promised.is_none_or(|p| books.is_some_and(|b| b.epoch == p.epoch && b.commit >= p.commit));
        if whole {
            return Ok(());
        }
        self.index = None;
        Err(JournalError::Damaged("its log breaks off".into()))
    }

    fn index(&self) -> Result<&BTreeMap<Vec<u8>, Range<usize>>, JournalError> {
        self.index.as_ref().ok_or_else(|| JournalError::Io("closed after an error".into()))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize)
}

fn frame_end(bytes: &[u8], at: usize) -> Option<usize> {
    let end = (at + 8).checked_add(word(bytes, at)?)?;
    let sound = crc32fast::hash(bytes.get(at + 8..end)?) as usize == word(bytes, at + 4)?;
    sound.then_some(end)
}

/// Takes the operations of one sound frame into `index`.
fn note(bytes: &[u8], mut at: usize, end: usize, index: &mut BTreeMap<Vec<u8>, Range<usize>>) {
    while at < end {
        let puts = bytes[at] == 1;
        let key_end = at + 5 + word(bytes, at + 1).expect("a sound frame");
        let key = &bytes[at + 5..key_end];
        at = key_end;
        if puts {
            let value_end = at + 4 + word(bytes, at).expect("a sound frame");
            index.insert(key.to_vec(), at + 4..value_end);
            at = value_end;
        } else {
            index.remove(key);
        }
    }
}

fn books_in(ops: &[Op]) -> Option<Promised> {
    ops.iter().find_map(|op| match op {
        Op::Put { value, .. } => promise(value),
        Op::Delete { .. } => None,
    })
}

/// What these books promise.
fn promise(value: &[u8]) -> Option<Promised> {
    let body = value.strip_prefix(b"OPM1")?.get(2..)?;
    let ((commit, epoch), _) = postcard::take_from_bytes(body).ok()?;
    Some(Promised { epoch, commit })
}

impl SimDb {
    /// Opened once more if it was closed after an error.
    fn disk(&self) -> Result<RefMut<'_, Disk>, JournalError> {
        let mut disk = self.shelf.disk();
        let dead = disk.dead;
        match disk.logs.get_mut(&self.id) {
            Some(log) if log.index.is_none() && !dead => log.reopen()?,
            _ => {}
        }
        Ok(disk)
    }
}

impl Journal for SimDb {
    fn apply(&mut self, ops: &[Op]) -> Result<(), JournalError> {
        self.shelf.disk().apply(self.id, ops)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        let disk = self.disk()?;
        let Some(log) = disk.logs.get(&self.id) else { return Ok(None) };
        Ok(log.index()?.get(key).map(|at| log.bytes[at.clone()].to_vec()))
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), JournalError> {
        if from >= to {
            return Ok(());
        }
        let disk = self.disk()?;
        let Some(log) = disk.logs.get(&self.id) else { return Ok(()) };
        for (key, at) in log.index()?.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to))) {
            if !visit(key, &log.bytes[at.clone()]) {
                break;
            }
        }
        Ok(())
    }

    fn last(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), JournalError> {
        if from >= to {
            return Ok(());
        }
        let disk = self.disk()?;
        let Some(log) = disk.logs.get(&self.id) else { return Ok(()) };
        let mut range = log.index()?.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        if let Some((key, at)) = range.next_back() {
            visit(key, &log.bytes[at.clone()]);
        }
        Ok(())
    }

    fn bytes_on_disk(&self) -> u64 {
        self.shelf.bytes_on_disk(self.id)
    }
}

impl Shelf for SimShelf {
    type Db = SimDb;

    fn ids(&self) -> Result<Vec<u64>, JournalError> {
        Ok(self.disk.borrow().logs.keys().copied().collect())
    }

    fn open(&self, id: u64) -> Result<SimDb, JournalError> {
        let mut disk = self.disk();
        disk.operate()?;
        disk.rotations += u64::from(!disk.logs.contains_key(&id));
        disk.logs.entry(id).or_default().open();
        Ok(SimDb { shelf: self.clone(), id })
    }

    fn proved(&self, _id: u64) {}

    fn remove(&self, id: u64) -> Result<(), JournalError> {
        let mut disk = self.disk();
        disk.operate()?;
        if let Some(log) = disk.logs.remove(&id) {
            disk.deleted.insert(id, log);
        }
        Ok(())
    }

    fn set_aside(&self, id: u64) -> Result<(), JournalError> {
        self.remove(id)
    }

    fn salvage(&self, id: u64, take: &mut dyn FnMut(Entry, Vec<u8>)) {
        let disk = self.disk.borrow();
        let Some(log) = disk.logs.get(&id) else { return };
        for bytes in blocks_in(&log.bytes) {
            let Ok(header) = decode_header(bytes) else { continue };
            let crc = crc32fast::hash(bytes);
            take(Entry { id: header.id(), gap: None, sealed: header.sealed.wall, crc }, bytes.to_vec());
        }
    }

    fn promised(&self, id: u64) -> Option<Promised> {
        self.disk.borrow().logs.get(&id)?.promised
    }

    fn bytes_on_disk(&self, id: u64) -> u64 {
        self.disk.borrow().logs.get(&id).map_or(0, |log| log.bytes.len() as u64)
    }
}

/// Every undamaged block of records that can be found in a file in any state.
pub fn blocks_in(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    let starts = file.windows(4).enumerate().filter(|(_, w)| *w == b"OPB1").map(|(at, _)| at);
    starts.filter_map(|at| {
        let block = file.get(at..at + block_length_at(&file[at..])?)?;
        decode_header(block).is_ok_and(|h| h.body == Body::Records).then_some(block)
    })
}

/// The spool's books as they lie on the disk; for the mistake of not keeping numbers in them.
#[derive(serde::Serialize, serde::Deserialize)]
struct Books {
    commit: u64,
    epoch: u64,
    lanes: [BookLane; 4],
}

#[derive(serde::Serialize, serde::Deserialize)]
struct BookLane {
    next: u64,
    through: u64,
    acknowledged: u64,
    pending: u64,
    bytes: u64,
    evicted: Vec<u64>,
}

impl Books {
    fn decode(bytes: &[u8]) -> Self {
        postcard::take_from_bytes(&bytes[6..]).expect("sound books").0
    }

    fn encode(&self) -> Vec<u8> {
        let body = postcard::to_stdvec(self).expect("numbers only");
        let mut out = b"OPM1".to_vec();
        out.extend_from_slice(&((body.len() + 4) as u16).to_le_bytes());
        out.extend_from_slice(&body);
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }
}
