//! Space set aside for the moment when the disk is full: without room to write, nothing can be given up or released.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use crate::limits;

/// A file that takes [`limits::SPOOL_RESERVE_BYTES`] and holds nothing.
pub(super) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// The one of the spool in `dir`, which need not be there yet.
    pub fn new(dir: &Path) -> Self {
        Self { path: dir.join(FILE) }
    }

    /// Takes the space; false where that much is not free. Where the file system can't set any aside, it only has to be
    /// free: nothing may be given up for a reserve that can never be had.
    pub fn fill(&self) -> bool {
        let take = |file: File| fallocate(&file, FallocateFlags::empty(), 0, limits::SPOOL_RESERVE_BYTES);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&self.path);
        let taken = file.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO)).and_then(take);
        if taken.is_err() {
            self.give_up();
        }
        match taken {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.is_free(),
            taken => taken.is_ok(),
        }
    }

    fn is_free(&self) -> bool {
        let free_bytes = self.path.parent().and_then(free_bytes);
        free_bytes.is_some_and(|free| free >= limits::SPOOL_RESERVE_BYTES)
    }

    /// Gives the space back, for what has to be written now.
    pub fn give_up(&self) {
        // There is none if it has been given up before.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Free bytes on the file system of `dir`; `None` if it does not say.
pub(super) fn free_bytes(dir: &Path) -> Option<u64> {
    let fs = statvfs(dir).ok()?;
    Some(fs.f_bavail.saturating_mul(fs.f_frsize))
}

const FILE: &str = "reserve";
