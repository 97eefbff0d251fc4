//! Dead letters: blocks that the far side refuses for what they are, as files of their own.
//!
//! ```text
//! <spool>/dead/<lane>-<epoch>-<first>-<last>.<reason code>.block     the payload, byte for byte
//! ```
//!
//! A block goes there before a gap takes its place in the lane, so it is never nowhere. The oldest files go when there is
//! too much of it. `outpost spool replay` takes them in again.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::limits;
use crate::observe::{self, spool as events};
use crate::wire::epoch_text;

use super::queue::StoredBlock;
use crate::files::replace_file;

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
}

/// The dead letters of the spool in `dir`, the oldest first. Reads a directory; blocks shortly.
pub fn dead_letters(dir: &Path) -> Vec<DeadLetter> {
    let entries = fs::read_dir(dir.join(DEAD)).into_iter().flatten().flatten();
    let mut letters: Vec<((i64, i64), DeadLetter)> = entries
        .filter(|entry| entry.path().extension().is_some_and(|e| e == EXTENSION))
        .filter_map(|entry| {
            let meta = entry.metadata().ok()?;
            Some(((meta.mtime(), meta.mtime_nsec()), DeadLetter { path: entry.path(), bytes: meta.len() }))
        })
        .collect();
    letters.sort_by(|a, b| (a.0, &a.1.path).cmp(&(b.0, &b.1.path)));
    letters.into_iter().map(|(_, letter)| letter).collect()
}

/// Writes `block` to a file, durably, and makes room for it by deleting the oldest ones.
pub(super) fn bury(dir: &Path, epoch: u64, block: &StoredBlock, code: u8) -> io::Result<PathBuf> {
    let dead = dir.join(DEAD);
    fs::create_dir_all(&dead)?;
    make_room(dir, block.bytes.len() as u64);
    let id = block.id;
    let (lane, epoch) = (id.lane.name(), epoch_text(epoch));
    let path = dead.join(format!("{lane}-{epoch}-{}-{}.{code:02x}.{EXTENSION}", id.first, id.last));
    replace_file(&path, &block.bytes)?;
    // The folder may be new.
    File::open(dir)?.sync_all()?;
    Ok(path)
}

fn make_room(dir: &Path, bytes: u64) {
    let letters = dead_letters(dir);
    let mut total = bytes + letters.iter().map(|l| l.bytes).sum::<u64>();
    let mut count = letters.len() + 1;
    for letter in letters {
        if total <= limits::SPOOL_DEAD_BYTES_MAX && count <= limits::SPOOL_DEAD_FILES_MAX {
            return;
        }
        // What can't be deleted stays; it only takes space.
        if fs::remove_file(&letter.path).is_ok() {
            observe::emit(&events::DeadLetterDropped { path: &letter.path });
        }
        total -= letter.bytes;
        count -= 1;
    }
}

const DEAD: &str = "dead";
const EXTENSION: &str = "block";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Wall;
    use crate::wire::{BlockId, Lane};

    #[test]
    fn letters_are_kept_byte_for_byte_and_their_room_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let block = |n: u64| StoredBlock {
            id: BlockId { lane: Lane::Raw, first: n, last: n },
            bytes: vec![n as u8; limits::SPOOL_BLOCK_BYTES_MAX],
            sealed: Wall(0),
            gap: false,
        };
        let path = bury(dir.path(), 7, &block(1), 0x99).unwrap();
        assert_eq!(path.file_name().unwrap(), "raw-0000000000000007-1-1.99.block");
        assert_eq!(fs::read(&path).unwrap(), block(1).bytes);
        let most = limits::SPOOL_DEAD_BYTES_MAX as usize / limits::SPOOL_BLOCK_BYTES_MAX;
        for n in 2..most as u64 + 20 {
            bury(dir.path(), 7, &block(n), 0x99).unwrap();
        }
        let letters = dead_letters(dir.path());
        assert_eq!(letters.len(), most);
        assert!(!path.exists(), "the oldest went");
        assert!(letters.last().unwrap().path.to_string_lossy().contains(&format!("-{}-", most + 19)));
    }
}
