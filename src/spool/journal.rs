//! The seam to the disk: five methods, sled behind them in life and a disk that lies in tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::holding::Loss;

/// One change; a slice of them is applied as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Writes `value` under `key`, whatever was there.
    Put {
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// Removes `key`, if it is there.
    Delete {
        /// The key.
        key: Vec<u8>,
    },
}

impl Op {
    /// Of what it changes.
    pub fn key(&self) -> &[u8] {
        match self {
            Op::Put { key, .. } | Op::Delete { key } => key,
        }
    }
}

/// An ordered map of bytes on something that survives power cuts.
pub trait Journal {
    /// Applies all of `ops` or none of them; durable when it returns `Ok`.
    ///
    /// After `Err` nobody knows whether they took effect; applying the same ops again is always right. Blocks for
    /// as long as the medium takes to sync.
    fn apply(&mut self, ops: &[Op]) -> Result<(), JournalError>;

    /// The value under `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError>;

    /// Shows `visit` each key and value in `from..to` (end exclusive), smallest key first, until it returns false.
    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), JournalError>;

    /// Shows `visit` the greatest key in `from..to` (end exclusive) and its value; nothing where there is none.
    fn last(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), JournalError>;

    /// What the journal takes on its medium now, in bytes.
    fn bytes_on_disk(&self) -> u64;

    /// Housekeeping between commits, a small step at a time. An error costs space and nothing else.
    fn tidy(&mut self) -> Result<(), JournalError> {
        Ok(())
    }

    /// The medium is full. Goes a step towards freeing some of it, and tells what has to be given up before the next one:
    /// the caller puts gaps there. Tells nothing where nothing can be gained that way.
    fn relieve(&mut self) -> Result<Vec<Loss>, JournalError> {
        Ok(Vec::new())
    }

    /// Whether a part turned out damaged and was not healed yet.
    fn is_damaged(&self) -> bool {
        false
    }

    /// Takes over what can be found of a part that turned out damaged, under its old keys, and tells what can't: the
    /// caller puts gaps there. Until then it tells the same again.
    fn heal(&mut self) -> Result<Vec<Loss>, JournalError> {
        Ok(Vec::new())
    }
}

/// The disk or the database on it did not do what was asked. Never the caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Another process holds the database.
    #[error("{path} is in use: a running agent holds it; ask it with `outpost status`, or stop it first")]
    Locked {
        /// The database's directory.
        path: String,
    },
    /// No space left.
    #[error("no space left for the spool: free some, or lower `spool.bytes_max`")]
    Full,
    /// Mounted so, or the file system has found itself damaged.
    #[error(
        "the spool's disk is read-only (Read-only file system): look at dmesg, and mount it writable again"
    )]
    ReadOnly,
    /// The operating system refused.
    #[error("the spool's disk failed: {0}; check the medium (dmesg) and the directory's permissions")]
    Io(String),
    /// The medium itself failed to read or write.
    #[error("the spool's medium failed: {0}; look at dmesg and replace the medium")]
    Medium(String),
    /// The database does not read as one.
    #[error(
        "the spool's database is damaged: {0}; the next commit or start goes on in a new one and salvages what reads"
    )]
    Damaged(String),
}

/// A journal in memory for tests. Clones share one content, as two opens of one directory would.
#[derive(Debug, Clone, Default)]
pub struct MemJournal {
    disk: Arc<Mutex<MemDisk>>,
}

/// What a [`MemJournal`] holds and which faults wait in it.
#[derive(Debug, Default)]
pub struct MemDisk {
    /// The content.
    pub map: BTreeMap<Vec<u8>, Vec<u8>>,
    /// As many coming applies fail without effect.
    pub applies_failing: u32,
    /// As many coming applies take effect and report failure nevertheless.
    pub applies_lying: u32,
    /// Every apply fails for want of space while this is set.
    pub full: bool,
    /// It does not open, and no open one can be read or written.
    pub unopenable: bool,
    /// The medium is out of reach; all is well when it is back.
    pub away: bool,
    /// Applies that succeeded.
    pub applies: u64,
}

impl MemDisk {
    pub(super) fn reachable(&self) -> Result<(), JournalError> {
        match (self.away, self.unopenable) {
            (true, _) => Err(JournalError::Medium("injected".into())),
            (_, true) => Err(JournalError::Damaged("injected".into())),
            _ => Ok(()),
        }
    }
}

impl MemJournal {
    /// Looks into the disk, to inject faults or flip bytes.
    pub fn disk(&self) -> MutexGuard<'_, MemDisk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal for MemJournal {
    fn apply(&mut self, ops: &[Op]) -> Result<(), JournalError> {
        let mut disk = self.disk();
        if disk.full {
            return Err(JournalError::Full);
        }
        disk.reachable()?;
        if disk.applies_failing > 0 {
            disk.applies_failing -= 1;
            return Err(JournalError::Io("injected".into()));
        }
        for op in ops {
            match op {
                Op::Put { key, value } => drop(disk.map.insert(key.clone(), value.clone())),
                Op::Delete { key } => drop(disk.map.remove(key)),
            }
        }
        if disk.applies_lying > 0 {
            disk.applies_lying -= 1;
            return Err(JournalError::Io("injected after the fact".into()));
        }
        disk.applies += 1;
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        let disk = self.disk();
        disk.reachable()?;
        Ok(disk.map.get(key).cloned())
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
        let disk = self.disk();
        disk.reachable()?;
        for (key, value) in disk.map.range(from.to_vec()..to.to_vec()) {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn last(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), JournalError> {
        if from >= to {
            return Ok(());
        }
        let disk = self.disk();
        disk.reachable()?;
        if let Some((key, value)) = disk.map.range(from.to_vec()..to.to_vec()).next_back() {
            visit(key, value);
        }
        Ok(())
    }

    fn bytes_on_disk(&self) -> u64 {
        self.disk().map.iter().map(|(k, v)| (k.len() + v.len()) as u64).sum()
    }
}
