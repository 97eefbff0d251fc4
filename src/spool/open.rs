//! Opening a spool's directory, whatever state it is in.
//!
//! ```text
//! <dir>/journal              the database, with its newest books beside it in the file `books`
//! <dir>/journal/db.spare     what it was before it was opened, until it has proved whole
//! <dir>/journal.salvaging-T  a damaged one whose blocks are being taken over; if a start finds it, it begins again
//! <dir>/journal.damaged-T    a damaged one after that, kept for a look
//! ```
//!
//! What reads is admitted anew under new numbers in a new epoch; the report says what did not. A start fails only
//! where the directory itself can't be used.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::limits;
use crate::observe::{self, spool as events};
use crate::time::Stamp;

use super::Options;
use super::journal::JournalError;
use super::meta::Meta;
use super::queue::Spool;
use super::salvage::Finds;
use super::sled::SledJournal;

/// How opening went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReport {
    /// The epoch in which records are numbered from now on.
    pub epoch: u64,
    /// Records that wait for acknowledgement.
    pub pending: u64,
    /// What happened if the database was damaged; the agent puts it into a notice.
    pub damage: Option<Damage>,
}

/// A damaged database and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What was wrong.
    pub cause: String,
    /// Where the damaged database lies now.
    pub moved_to: PathBuf,
    /// The epoch that ended, if its books could be read.
    pub epoch_before: Option<u64>,
    /// Records admitted anew.
    pub salvaged_records: u64,
    /// Blocks that they were in.
    pub salvaged_blocks: u64,
    /// Promised records that could not be read; `None` where no books say how many there were.
    pub lost_records: Option<u64>,
}

/// The directory can't be used: the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It can't be created, written or renamed in.
    #[error("spool directory {dir}: {error}; create it, or let the agent's user write there")]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The database is there and can't be used now, although it is not damaged.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Opens the spool in `dir`, creating what is missing. Blocks: reads the database, or salvages it if need be.
pub fn open_dir(
    dir: &Path,
    options: Options,
    stamp: Stamp,
) -> Result<(Spool<SledJournal>, OpenReport), OpenError> {
    let at = |error| OpenError::Directory { dir: dir.to_owned(), error };
    // What a plant measures and says of itself is nobody else's business.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at)?;
    let live = dir.join(LIVE);
    if let Some(interrupted) = siblings(dir, SALVAGING).pop() {
        // Nothing of the half-filled new database was published yet.
        if live.exists() {
            fs::remove_dir_all(&live).map_err(at)?;
        }
        return take_over(dir, &interrupted, "salvage was interrupted".into(), options, stamp);
    }
    match open_live(&live, options.clone()) {
        Ok(spool) => {
            let report = report(&spool, None);
            Ok((spool, report))
        }
        Err(JournalError::Damaged(cause)) => {
            let aside = dir.join(format!("{SALVAGING}{}", stamp.wall.0));
            fs::rename(&live, &aside).map_err(at)?;
            take_over(dir, &aside, cause, options, stamp)
        }
        Err(other) => Err(other.into()),
    }
}

/// Opens a database that must be whole: readable, and not older than what was promised.
///
/// Where sled finds its log broken off it clears what follows, readable or not. So there is a copy until the database
/// has proved whole; after damage it stays for the salvage.
pub(super) fn open_live(live: &Path, options: Options) -> Result<Spool<SledJournal>, JournalError> {
    let promised = SledJournal::promised(live);
    keep_spare(live);
    let opened = open_whole(live, options, promised.as_ref());
    if !matches!(opened, Err(JournalError::Damaged(_))) {
        // There is none if the database is new or large.
        let _ = fs::remove_file(live.join(SPARE));
    }
    opened
}

fn open_whole(
    live: &Path,
    options: Options,
    promised: Option<&Meta>,
) -> Result<Spool<SledJournal>, JournalError> {
    let spool = Spool::open(SledJournal::open(live)?, options)?;
    spool.check()?;
    let (commit, epoch) = (spool.meta.commit, spool.meta.epoch);
    match promised.filter(|p| p.epoch != epoch || p.commit > commit) {
        Some(p) => {
            let read = if p.epoch == epoch { commit } else { 0 };
            Err(JournalError::Damaged(format!("its log breaks off at commit {read} of {}", p.commit)))
        }
        None => Ok(spool),
    }
}

/// Copies the database, unless there is a copy from a start that was cut short. Without one the salvage finds less.
fn keep_spare(live: &Path) {
    let (database, spare, part) = (live.join("db"), live.join(SPARE), live.join("db.part"));
    let small = fs::metadata(&database).is_ok_and(|m| m.len() <= limits::SPOOL_SPARE_BYTES_MAX);
    if small && !spare.exists() && fs::copy(&database, &part).and_then(|_| fs::rename(&part, &spare)).is_err()
    {
        let _ = fs::remove_file(part);
    }
}

/// Fills a new database with what reads of the one in `aside`.
fn take_over(
    dir: &Path,
    aside: &Path,
    cause: String,
    options: Options,
    stamp: Stamp,
) -> Result<(Spool<SledJournal>, OpenReport), OpenError> {
    let at = |error| OpenError::Directory { dir: dir.to_owned(), error };
    let finds = Finds::search(aside);
    let mut spool = open_live(&dir.join(LIVE), options)?;
    let mut outcome = Ok(());
    let (salvaged_records, salvaged_blocks) = finds.each(|records| {
        if outcome.is_ok() {
            spool.admit(records);
            if spool.open_records() >= limits::SPOOL_OPEN_RECORDS {
                outcome = spool.commit(stamp).map(drop);
            }
        }
    });
    outcome?;
    spool.commit(stamp)?;
    let moved_to = dir.join(format!("{DAMAGED}{}", stamp.wall.0));
    fs::rename(aside, &moved_to).map_err(at)?;
    fs::File::open(dir).and_then(|d| d.sync_all()).map_err(at)?;
    for old in siblings(dir, DAMAGED).iter().rev().skip(limits::SPOOL_DAMAGED_KEPT) {
        // What can't be deleted stays; it only takes space.
        let _ = fs::remove_dir_all(old);
    }
    let pending = |m: &Meta| m.lanes.iter().map(|l| l.pending).sum::<u64>();
    let damage = Damage {
        cause,
        moved_to,
        epoch_before: finds.meta.as_ref().map(|m| m.epoch),
        salvaged_records,
        salvaged_blocks,
        lost_records: finds.meta.as_ref().map(|m| pending(m).saturating_sub(salvaged_records)),
    };
    observe::emit(&events::SpoolDamaged {
        cause: &damage.cause,
        moved_to: &damage.moved_to,
        salvaged_records,
        lost_records: damage.lost_records,
    });
    let report = report(&spool, Some(damage));
    Ok((spool, report))
}

fn report(spool: &Spool<SledJournal>, damage: Option<Damage>) -> OpenReport {
    OpenReport { epoch: spool.epoch(), pending: spool.ledger().iter().map(|l| l.pending).sum(), damage }
}

/// Entries of `dir` whose name begins with `prefix`, oldest first as far as their names tell.
fn siblings(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.filter(|e| e.file_name().to_string_lossy().starts_with(prefix)).map(|e| e.path()).collect();
    found.sort();
    found
}

/// Name of the database's directory.
pub(super) const LIVE: &str = "journal";
/// The copy of the file `db`, beside it.
pub(super) const SPARE: &str = "db.spare";
const SALVAGING: &str = "journal.salvaging-";
const DAMAGED: &str = "journal.damaged-";
