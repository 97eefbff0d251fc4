//! Where databases stand: one directory each, by number. sled's in life, maps in tests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::entry::Entry;
use super::journal::{Journal, JournalError, MemJournal};

/// A row of databases. A later number was made later.
pub trait Shelf {
    /// One database.
    type Db: Journal;

    /// The numbers of all databases, ascending.
    fn ids(&self) -> Result<Vec<u64>, JournalError>;

    /// Opens database `id`, creating it where there is none. Blocks for the recovery of what lies there.
    ///
    /// Until [`Self::proved`] is called a copy of what it was before is kept where that is possible.
    fn open(&self, id: u64) -> Result<Self::Db, JournalError>;

    /// Database `id` was opened and holds what it should.
    fn proved(&self, id: u64);

    /// Deletes database `id`, which nobody has open.
    fn remove(&self, id: u64) -> Result<(), JournalError>;

    /// Puts the damaged database `id` out of the way, for a look.
    fn set_aside(&self, id: u64) -> Result<(), JournalError>;

    /// Shows `take` every block that can be found in the files of database `id`, in whatever state they are and in
    /// whatever order, copies included.
    fn salvage(&self, id: u64, take: &mut dyn FnMut(Entry, Vec<u8>));

    /// The newest books promised to database `id`, as far as anybody beside it knows.
    fn promised(&self, id: u64) -> Option<Promised>;

    /// What database `id` takes on its medium now, in bytes.
    fn bytes_on_disk(&self, id: u64) -> u64;
}

/// How far the books of a database had got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promised {
    /// Their epoch.
    pub epoch: u64,
    /// Number of the commit.
    pub commit: u64,
}

/// A shelf in memory for tests. Clones share one content.
#[derive(Debug, Clone, Default)]
pub struct MemShelf {
    databases: Arc<Mutex<BTreeMap<u64, MemJournal>>>,
    away: Arc<AtomicBool>,
}

impl MemShelf {
    /// The databases, to inject faults or flip bytes.
    pub fn databases(&self) -> MutexGuard<'_, BTreeMap<u64, MemJournal>> {
        self.databases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the medium out of reach, or brings it back as it was.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
        self.databases().values().for_each(|db| db.disk().away = away);
    }

    fn reachable(&self) -> Result<(), JournalError> {
        let away = self.away.load(Ordering::Relaxed);
        if away { Err(JournalError::Medium("injected".into())) } else { Ok(()) }
    }
}

impl Shelf for MemShelf {
    type Db = MemJournal;

    fn ids(&self) -> Result<Vec<u64>, JournalError> {
        // A directory that was just read is read from memory.
        Ok(self.databases().keys().copied().collect())
    }

    fn open(&self, id: u64) -> Result<MemJournal, JournalError> {
        self.reachable()?;
        let db = self.databases().entry(id).or_default().clone();
        db.disk().reachable()?;
        Ok(db)
    }

    fn proved(&self, _id: u64) {}

    fn remove(&self, id: u64) -> Result<(), JournalError> {
        self.databases().remove(&id);
        Ok(())
    }

    fn set_aside(&self, id: u64) -> Result<(), JournalError> {
        self.remove(id)
    }

    fn salvage(&self, id: u64, take: &mut dyn FnMut(Entry, Vec<u8>)) {
        let Some(db) = self.databases().get(&id).cloned().filter(|db| !db.disk().away) else { return };
        for (key, value) in &db.disk().map {
            if let Some(entry) =
                Entry::from_key(key).filter(|e| e.gap.is_none() && e.crc == crc32fast::hash(value))
            {
                take(entry, value.clone());
            }
        }
    }

    fn promised(&self, _id: u64) -> Option<Promised> {
        None
    }

    fn bytes_on_disk(&self, id: u64) -> u64 {
        self.databases().get(&id).map_or(0, Journal::bytes_on_disk)
    }
}
