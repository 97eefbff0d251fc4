//! Looking into a spool that no agent holds: what is in it, block by block or record by record.
//!
//! Nothing is admitted or released. sled has no read-only mode: opening may tidy up its files, the content stays.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::wire::{BlockHeader, Lane, PerLane, Record, decode_block, epoch_text, json};

use super::Options;
use super::dead::{DeadLetter, dead_letters};
use super::entry::{Entry, lane_key};
use super::journal::{Journal, JournalError};
use super::meta::LaneLedger;
use super::open::{DiskSpool, LIVE, OpenError, open_live};

/// A spool at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolStat {
    /// Its epoch; print it with [`epoch_text`].
    pub epoch: u64,
    /// The books per lane.
    pub ledger: PerLane<LaneLedger>,
    /// Bytes of blocks and gaps.
    pub bytes: u64,
    /// Bytes that the databases take.
    pub bytes_on_disk: u64,
    /// Databases that make up the spool.
    pub databases: usize,
    /// Blocks that the far side refused for what they are, kept as files; the oldest first.
    pub dead_letters: Vec<DeadLetter>,
}

/// A stored block, as listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Its place, kind and time.
    pub entry: Entry,
    /// Bytes of its payload.
    pub bytes: usize,
    /// Whether the payload matches its checksum.
    pub sound: bool,
}

/// The spool can't be looked into.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The operator's: another path.
    #[error("there is no spool in {0}: name the directory that `spool.dir` names")]
    Missing(PathBuf),
    /// The database's.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The directory's.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The writer's.
    #[error("writing the export: {0}")]
    Write(#[from] io::Error),
}

/// The books of the spool in `dir`.
pub fn stat(dir: &Path) -> Result<SpoolStat, InspectError> {
    let spool = open(dir)?;
    Ok(SpoolStat {
        epoch: spool.epoch(),
        ledger: spool.ledger(),
        bytes: spool.bytes(),
        bytes_on_disk: spool.bytes_on_disk(),
        databases: spool.journal.databases(),
        dead_letters: dead_letters(dir),
    })
}

/// Shows `visit` each block of the spool in `dir`, lane by lane in order of sequence.
pub fn list(dir: &Path, mut visit: impl FnMut(Listed)) -> Result<(), InspectError> {
    let spool = open(dir)?;
    each(&spool, &mut |entry, value| {
        visit(Listed { entry, bytes: value.len(), sound: crc32fast::hash(value) == entry.crc });
        true
    })
}

/// Writes every pending record of the spool in `dir` as one JSON line; returns the number of records.
///
/// A line is `{lane, epoch, seq, record}`; a gap is `{lane, epoch, first, last, gap}`. Blocks that were stored as JSON
/// documents are written as they are, one line each.
pub fn export(dir: &Path, out: &mut dyn Write) -> Result<u64, InspectError> {
    let spool = open(dir)?;
    let (mut written, mut outcome) = (0, Ok(()));
    each(&spool, &mut |entry, value| {
        outcome = export_block(spool.epoch(), &entry, value, out).map(|n| written += n);
        outcome.is_ok()
    })?;
    outcome?;
    Ok(written)
}

/// Writes every pending block that holds records as it lies in the spool in `dir`, one behind the other; returns the number
/// of records. [`super::replay`] reads that again. Blocks that do not read, gaps and JSON documents are left out.
pub fn export_blocks(dir: &Path, out: &mut dyn Write) -> Result<u64, InspectError> {
    let spool = open(dir)?;
    let (mut written, mut outcome) = (0, Ok(()));
    each(&spool, &mut |entry, value| {
        if entry.gap.is_none() && decode_block(value).is_ok() {
            outcome = out.write_all(value).map(|()| written += entry.records());
        }
        outcome.is_ok()
    })?;
    outcome?;
    Ok(written)
}

fn export_block(epoch: u64, entry: &Entry, value: &[u8], out: &mut dyn Write) -> io::Result<u64> {
    if value.first() == Some(&b'{') {
        out.write_all(value)?;
        out.write_all(b"\n")?;
        return Ok(entry.records());
    }
    match decode_block(value) {
        Ok(block) if entry.gap.is_none() => {
            for (seq, record) in (block.header.first..).zip(&block.records) {
                writeln!(out, "{}", line(&block.header, seq, record))?;
            }
            Ok(block.records.len() as u64)
        }
        decoded => {
            // A block that does not read is exported as what it has become: a gap.
            let reason = entry.gap.filter(|_| decoded.is_ok()).map_or("corrupt", |reason| reason.name());
            let (first, last) = (entry.id.first, entry.id.last);
            let gap = serde_json::json!({
                "lane": entry.id.lane.name(), "epoch": epoch_text(epoch), "first": first, "last": last, "gap": reason,
            });
            writeln!(out, "{gap}")?;
            Ok(0)
        }
    }
}

fn line(header: &BlockHeader, seq: u64, record: &Record) -> serde_json::Value {
    serde_json::json!({
        "lane": header.lane.name(), "epoch": header.epoch_text(), "seq": seq, "record": json::record_value(record),
    })
}

fn each(spool: &DiskSpool, visit: &mut dyn FnMut(Entry, &[u8]) -> bool) -> Result<(), InspectError> {
    for &lane in Lane::ALL {
        let (from, to) = (lane_key(lane, 0), lane_key(lane, u64::MAX));
        spool.journal.scan(&from, &to, &mut |key, value| {
            Entry::from_key(key).is_none_or(|entry| visit(entry, value))
        })?;
    }
    Ok(())
}

fn open(dir: &Path) -> Result<DiskSpool, InspectError> {
    if !dir.join(LIVE).is_dir() {
        return Err(InspectError::Missing(dir.to_owned()));
    }
    Ok(open_live(dir, Options::offline())?)
}
