//! The serial numbers of heartbeats: they grow for as long as the spool lives, over restarts too.
//!
//! A number is on disk before the heartbeat that carries it leaves. So an older image of the spool's folder, put in
//! place of a newer one, gives numbers that the aggregator has seen, however much was admitted since.
//!
//! ```text
//! "OPN1" | epoch u64 LE | serial u64 LE | CRC-32 LE
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files::replace_file;

/// The counter of one spool.
pub(super) struct Serials {
    file: PathBuf,
    epoch: u64,
    last: u64,
}

impl Serials {
    /// Goes on where the file in `spool_dir` ends; from 0 for a new spool, and where the file is missing or damaged.
    pub fn open(spool_dir: &Path, epoch: u64) -> Self {
        let file = spool_dir.join(FILE);
        let known = fs::read(&file).ok().and_then(|bytes| decode(&bytes));
        let last = known.filter(|(of, _)| *of == epoch).map_or(0, |(_, last)| last);
        Self { file, epoch, last }
    }

    /// The next number. Blocks for the medium's sync. Where the disk refuses, the number is given all the same: a
    /// heartbeat that says so is worth more than a silent device.
    pub fn next(&mut self) -> (u64, io::Result<()>) {
        self.last += 1;
        (self.last, replace_file(&self.file, &encode(self.epoch, self.last)))
    }
}

fn encode(epoch: u64, last: u64) -> Vec<u8> {
    let mut out = [MAGIC, &epoch.to_le_bytes()[..], &last.to_le_bytes()[..]].concat();
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<(u64, u64)> {
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    let numbers: &[u8; 16] = content.strip_prefix(MAGIC)?.try_into().ok()?;
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| numbers[at + i]));
    (crc32fast::hash(content).to_le_bytes() == *crc).then(|| (number(0), number(8)))
}

const FILE: &str = "heartbeats";
const MAGIC: &[u8] = b"OPN1";

#[cfg(test)]
mod tests {
    use super::*;

    fn next(serials: &mut Serials) -> u64 {
        let (serial, written) = serials.next();
        written.unwrap();
        serial
    }

    #[test]
    fn numbers_go_on_after_a_restart_and_begin_anew_with_a_new_spool() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Serials::open(dir.path(), 7);
        assert_eq!((next(&mut first), next(&mut first)), (1, 2));
        assert_eq!(next(&mut Serials::open(dir.path(), 7)), 3);
        assert_eq!(next(&mut Serials::open(dir.path(), 8)), 1);
    }

    #[test]
    fn a_damaged_file_is_no_file_and_a_folder_that_is_gone_costs_no_heartbeat() {
        let dir = tempfile::tempdir().unwrap();
        let mut serials = Serials::open(dir.path(), 7);
        next(&mut serials);
        let mut bytes = fs::read(dir.path().join(FILE)).unwrap();
        bytes[12] ^= 1;
        assert_eq!(decode(&bytes), None);
        assert_eq!(decode(&bytes[..9]), None);
        drop(dir);
        let (serial, written) = serials.next();
        assert!(serial == 2 && written.is_err());
    }
}
