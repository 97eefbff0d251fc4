//! Space set aside for the moment when the disk is full: without room to write, nothing can be given up or released.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

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

    /// Takes the space; false where that much is not free, or the file system can't set any aside.
    pub fn fill(&self) -> bool {
        let take = |file: File| fallocate(&file, FallocateFlags::empty(), 0, limits::SPOOL_RESERVE_BYTES);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&self.path);
        let filled = file.is_ok_and(|file| take(file).is_ok());
        if !filled {
            self.give_up();
        }
        filled
    }

    /// Gives the space back, for what has to be written now.
    pub fn give_up(&self) {
        // There is none if it has been given up before.
        let _ = std::fs::remove_file(&self.path);
    }
}

const FILE: &str = "reserve";
