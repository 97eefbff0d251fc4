//! Blocks from files back into a spool: dead letters, and what `export --blocks` wrote.
//!
//! Their records are admitted anew, under the numbers and the epoch of the spool that takes them.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::time::Stamp;
use crate::wire::block::block_length_at;
use crate::wire::{Block, decode_block};

use super::Options;
use super::journal::JournalError;
use super::open::{OpenError, open_dir};

/// A file could not be taken in. What stood before the place that is named was.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file can't be read.
    #[error("{path}: {error}; check the path and its permissions")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What stands there is no block.
    #[error(
        "{path}, byte {offset}: no block of records: {why}; replay takes files that `outpost spool export --blocks` wrote, \
         and dead letters"
    )]
    NotABlock {
        /// The file.
        path: PathBuf,
        /// Bytes before the place.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// The operator's: another path.
    #[error("there is no folder {0}: name the one that `spool` in the agent's data_dir is, or create it")]
    Missing(PathBuf),
    /// The spool can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its disk failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Admits the records of all blocks in `files` to the stopped spool in `dir`; returns how many. Blocks for the disk.
///
/// Every file is read to its end before the first record is admitted.
pub fn replay(dir: &Path, files: &[PathBuf], stamp: Stamp) -> Result<u64, ReplayError> {
    if !dir.is_dir() {
        return Err(ReplayError::Missing(dir.to_owned()));
    }
    for path in files {
        each_block(path, &mut |_| Ok(()))?;
    }
    let (mut spool, _) = open_dir(dir, Options::offline(), stamp)?;
    let mut records = 0;
    for path in files {
        each_block(path, &mut |block| {
            records += block.records.len() as u64;
            spool.admit(block.records);
            if spool.is_crowded() {
                spool.commit(stamp)?;
                spool.tidy()?;
            }
            Ok(())
        })?;
    }
    spool.commit(stamp)?;
    Ok(records)
}

fn each_block(
    path: &Path,
    take: &mut dyn FnMut(Block) -> Result<(), ReplayError>,
) -> Result<(), ReplayError> {
    let read = |error| ReplayError::Read { path: path.to_owned(), error };
    let mut file = BufReader::new(File::open(path).map_err(read)?);
    let mut offset = 0;
    loop {
        let wrong = |why: String| ReplayError::NotABlock { path: path.to_owned(), offset, why };
        let mut bytes = Vec::new();
        if (&mut file).take(PREFIX_BYTES).read_to_end(&mut bytes).map_err(read)? == 0 {
            return Ok(());
        }
        let length = block_length_at(&bytes).ok_or_else(|| wrong("no block begins here".into()))? as u64;
        (&mut file).take(length.saturating_sub(PREFIX_BYTES)).read_to_end(&mut bytes).map_err(read)?;
        let block = decode_block(&bytes).map_err(|e| wrong(e.to_string()))?;
        take(block)?;
        offset += length;
    }
}

/// Bytes in which a block says how long it is.
const PREFIX_BYTES: u64 = 8;
