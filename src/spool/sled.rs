//! sled 0.34 as a journal, with a commit that is durable.
//!
//! sled's own `flush` calls `sync_file_range`, which does not survive a power cut. fsync is per inode, so the file
//! `db` is opened a second time and synced after every flush. sled keeps pages over a quarter of a segment in files
//! under `blobs/` that nobody syncs; segment and block sizes in [`limits`] are chosen so that there are none.
//!
//! Where its log does not read any more, sled takes that for the end and goes on from there without a word. The newest
//! books are therefore written once more beside it, into the file `books`, after the commit that they belong to: a
//! database that is older than that has lost what was promised. Nobody syncs that file, so after a power cut it may
//! be old itself and see nothing; it never sees what is not there.
//!
//! sled panics on some kinds of damage, so no call into it is made without a net. After an error a database stays
//! refused for ever; it is closed, and opened anew by whoever comes next: on a full disk it can still be read. Before that it
//! is copied where there is room, as opening clears what follows a damaged place.

use std::cell::{Cell, OnceCell};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::limits;

use super::drawers::Drawers;
use super::entry::Entry;
use super::journal::{Journal, JournalError, Op};
use super::meta::{META_KEY, Meta};
use super::open::prune_damaged;
use super::reserve::free_bytes;
use super::salvage::Finds;
use super::shelf::{Promised, Shelf};

/// A database directory.
pub struct SledJournal {
    dir: PathBuf,
    /// Empty after an error, until it is used again.
    opened: OnceCell<Opened>,
    /// A copy was made after an error, and no commit has succeeded since: one is enough, more would wear the medium.
    copied: Cell<bool>,
}

struct Opened {
    drawers: Drawers,
    /// The file `db` once more, for its fsync.
    file: File,
    /// The file `books`.
    books: File,
}

impl SledJournal {
    /// Opens the database in `dir`, creating it where there is none. Blocks for the recovery of what lies there.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        Ok(Self { dir: dir.to_owned(), opened: OnceCell::from(open(dir)?), copied: Cell::new(false) })
    }

    /// The newest books that were promised to the database in `dir`, as far as the file beside it knows.
    pub(super) fn promised(dir: &Path) -> Option<Meta> {
        let mut bytes = Vec::new();
        File::open(dir.join(BOOKS)).ok()?.take(BOOKS_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Meta::decode(&bytes)
    }

    /// Opens once more after an error. sled takes a place that rotted meanwhile for its log's end, and whoever went on from
    /// there would write over what was promised.
    fn reopen(&self) -> Result<Opened, JournalError> {
        let copied_now = !self.copied.get() && keep_spare(&self.dir);
        self.copied.set(self.copied.get() || copied_now);
        if !copied_now {
            read_through(&self.dir)?;
        }
        let opened = open(&self.dir)?;
        let books = guarded(|| opened.drawers.get(META_KEY))?.and_then(|bytes| Meta::decode(&bytes));
        let reaches = |promised: &Meta| {
            books.as_ref().is_some_and(|b| b.epoch == promised.epoch && b.commit >= promised.commit)
        };
        match Self::promised(&self.dir).filter(|promised| !reaches(promised)) {
            Some(promised) => {
                Err(JournalError::Damaged(format!("its log breaks off before commit {}", promised.commit)))
            }
            None => {
                drop_spare(&self.dir);
                Ok(opened)
            }
        }
    }

    fn opened(&self) -> Result<&Opened, JournalError> {
        match self.opened.get() {
            Some(opened) => Ok(opened),
            None => self.reopen().map(|opened| self.opened.get_or_init(|| opened)),
        }
    }

    fn opened_mut(&mut self) -> Result<&mut Opened, JournalError> {
        self.opened()?;
        self.opened.get_mut().ok_or_else(|| JournalError::Io("it was closed meanwhile".into()))
    }

    /// sled flushes as it goes, and on a damaged database that may panic.
    fn close(&mut self) {
        let opened = self.opened.take();
        // What was promised is durable already.
        let _ = guarded(|| {
            drop(opened);
            Ok(())
        });
    }
}

impl Drop for SledJournal {
    fn drop(&mut self) {
        self.close();
    }
}

impl Journal for SledJournal {
    fn apply(&mut self, ops: &[Op]) -> Result<(), JournalError> {
        let opened = self.opened_mut()?;
        let outcome = guarded(|| {
            opened.drawers.apply(ops)?;
            opened.drawers.flush()?;
            opened.file.sync_data()?;
            if let Some(books) = ops.iter().find_map(books) {
                // Without it the next start sees less; the commit stands all the same.
                let _ = opened.books.write_all_at(books, 0);
            }
            Ok(())
        });
        match outcome {
            Ok(()) => self.copied.set(false),
            Err(_) => self.close(),
        }
        outcome
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        let opened = self.opened()?;
        guarded(|| Ok(opened.drawers.get(key)?.map(|value| value.to_vec())))
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
        let opened = self.opened()?;
        guarded(|| opened.drawers.scan(from, to, visit))
    }

    fn last(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), JournalError> {
        if from >= to {
            return Ok(());
        }
        let opened = self.opened()?;
        if let Some((key, value)) = guarded(|| opened.drawers.last(from, to))? {
            visit(&key, &value);
        }
        Ok(())
    }

    fn bytes_on_disk(&self) -> u64 {
        std::fs::metadata(self.dir.join("db")).map_or(0, |m| m.blocks().saturating_mul(512))
    }
}

/// The new books, if this is the operation that writes them.
fn books(op: &Op) -> Option<&[u8]> {
    match op {
        Op::Put { key, value } if key == META_KEY => Some(value),
        _ => None,
    }
}

/// sled databases in a directory, each in one of its own, named by its number in eight digits.
pub struct SledShelf {
    dir: PathBuf,
    /// Where damaged ones are put.
    aside: PathBuf,
}

impl SledShelf {
    /// The databases in `dir`; damaged ones go beside it, to `aside` with their number appended.
    pub fn new(dir: PathBuf, aside: PathBuf) -> Self {
        Self { dir, aside }
    }

    fn at(&self, id: u64) -> PathBuf {
        self.dir.join(format!("{id:08}"))
    }
}

impl Shelf for SledShelf {
    type Db = SledJournal;

    fn ids(&self) -> Result<Vec<u64>, JournalError> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(io_error(e)),
        };
        let id = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        let mut ids: Vec<u64> = entries.flatten().filter_map(id).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Where sled finds its log broken off it clears what follows, readable or not. So there is a copy until the database
    /// has proved whole; after damage it stays for the salvage.
    fn open(&self, id: u64) -> Result<SledJournal, JournalError> {
        let dir = self.at(id);
        if !keep_spare(&dir) {
            read_through(&dir)?;
        }
        SledJournal::open(&dir)
    }

    fn proved(&self, id: u64) {
        drop_spare(&self.at(id));
    }

    fn remove(&self, id: u64) -> Result<(), JournalError> {
        match std::fs::remove_dir_all(self.at(id)) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(io_error(e)),
            _ => Ok(()),
        }
    }

    fn set_aside(&self, id: u64) -> Result<(), JournalError> {
        let mut target = self.aside.clone().into_os_string();
        target.push(format!("{id:08}"));
        match std::fs::rename(self.at(id), target) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(io_error(e)),
            _ => self.aside.parent().into_iter().for_each(prune_damaged),
        }
        Ok(())
    }

    fn salvage(&self, id: u64, take: &mut dyn FnMut(Entry, Vec<u8>)) {
        Finds::search(&[self.at(id)]).each(|block, bytes| {
            let crc = crc32fast::hash(&bytes);
            take(Entry { id: block.header.id(), gap: None, sealed: block.header.sealed.wall, crc }, bytes);
        });
    }

    fn promised(&self, id: u64) -> Option<Promised> {
        SledJournal::promised(&self.at(id)).map(|meta| Promised { epoch: meta.epoch, commit: meta.commit })
    }

    fn bytes_on_disk(&self, id: u64) -> u64 {
        std::fs::metadata(self.at(id).join("db")).map_or(0, |m| m.blocks().saturating_mul(512))
    }
}

/// Copies the database, unless there is a copy from a start that was cut short; says whether it did. Where there is no room
/// for it the salvage finds less.
fn keep_spare(dir: &Path) -> bool {
    let (database, spare, part) = (dir.join("db"), dir.join(SPARE), dir.join("db.part"));
    // A power cut may leave the name without the content.
    let kept = std::fs::metadata(&spare).is_ok_and(|meta| meta.len() > 0);
    let Ok(bytes) = std::fs::metadata(&database).map(|meta| meta.len()) else { return false };
    if kept || free_bytes(dir).is_some_and(|free| free < 2 * bytes) {
        return false;
    }
    let copied = std::fs::copy(&database, &part).and_then(|_| std::fs::rename(&part, &spare)).is_ok();
    if !copied {
        let _ = std::fs::remove_file(part);
    }
    copied
}

/// Reads the database from end to end before sled does: what the medium does not give back sled takes for the end of its log,
/// and clears what follows.
fn read_through(dir: &Path) -> Result<(), JournalError> {
    match File::open(dir.join("db")).and_then(|mut file| std::io::copy(&mut file, &mut std::io::sink())) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(io_error(e)),
        _ => Ok(()),
    }
}

fn drop_spare(dir: &Path) {
    // There is none if the database is new.
    let _ = std::fs::remove_file(dir.join(SPARE));
}

fn io_error(error: std::io::Error) -> JournalError {
    sorted(::sled::Error::Io(error))
}

fn open(dir: &Path) -> Result<Opened, JournalError> {
    guarded(|| {
        let db = open_unlocked(dir)?;
        let file = OpenOptions::new().read(true).write(true).open(dir.join("db"))?;
        file.sync_all()?;
        let books = OpenOptions::new().write(true).create(true).truncate(false).open(dir.join(BOOKS))?;
        // A new file is durable only once its directory is, and that one in its parent.
        File::open(dir.join("conf"))?.sync_all()?;
        File::open(dir)?.sync_all()?;
        if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        // What is read is promised from now on. The file may be older: a power cut took the newest, or a commit that was
        // refused is here nevertheless. What rots before the next commit would go unnoticed.
        if let Some(bytes) = db.get(META_KEY)? {
            let newer =
                |p: Meta| Meta::decode(&bytes).is_some_and(|m| m.epoch == p.epoch && m.commit > p.commit);
            if SledJournal::promised(dir).is_none_or(newer) {
                let _ = books.write_all_at(&bytes, 0);
            }
        }
        Ok(Opened { drawers: Drawers::open(db)?, file, books })
    })
}

/// The lock goes with the last copy of the file, and a process that somebody is just starting has copies of all of ours for a
/// moment. So a database that was closed here may seem to be in use.
fn open_unlocked(dir: &Path) -> Result<::sled::Db, ::sled::Error> {
    let config = ::sled::Config::default()
        .path(dir)
        .cache_capacity(limits::SPOOL_CACHE_BYTES)
        .segment_size(limits::SPOOL_SEGMENT_BYTES)
        // Every commit flushes; a thread that does it again would only wear the flash.
        .flush_every_ms(None)
        .mode(::sled::Mode::LowSpace);
    for _ in 1..limits::SPOOL_LOCK_TRIES {
        match config.open() {
            Err(::sled::Error::Io(e)) if is_locked(&e) => std::thread::sleep(LOCK_PAUSE),
            outcome => return outcome,
        }
    }
    config.open()
}

/// sled puts it into words alone.
fn is_locked(error: &std::io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

/// Calls into sled, with a panic as one more way of saying that the database is damaged.
fn guarded<T>(call: impl FnOnce() -> Result<T, ::sled::Error>) -> Result<T, JournalError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(outcome) => outcome.map_err(sorted),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(JournalError::Damaged(format!("sled panicked: {text}")))
        }
    }
}

fn sorted(error: ::sled::Error) -> JournalError {
    match error {
        ::sled::Error::Io(e) if is_locked(&e) => JournalError::Locked { path: lock_path(&e.to_string()) },
        ::sled::Error::Io(e) => match e.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => JournalError::Full,
            ErrorKind::ReadOnlyFilesystem => JournalError::ReadOnly,
            ErrorKind::UnexpectedEof | ErrorKind::InvalidData => JournalError::Damaged(e.to_string()),
            _ if e.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                JournalError::Medium(e.to_string())
            }
            _ => JournalError::Io(e.to_string()),
        },
        other => JournalError::Damaged(other.to_string()),
    }
}

/// The quoted path in sled's message.
fn lock_path(message: &str) -> String {
    message.split('"').nth(1).unwrap_or("the spool").to_owned()
}

/// The copy of the file `db`, beside it.
pub(super) const SPARE: &str = "db.spare";
const BOOKS: &str = "books";
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Many times what books take.
const BOOKS_BYTES_MAX: u64 = 4096;
