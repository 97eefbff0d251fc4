//! Opening a spool's directory, whatever state it is in.
//!
//! ```text
//! <dir>/journal/N            databases; the highest takes the commits, with its newest books beside it in the file `books`
//! <dir>/journal/N/db.spare   what it was before it was opened, until it has proved whole
//! <dir>/journal.salvaging-T  damaged ones whose blocks are being taken over; if a start finds them, it begins again
//! <dir>/journal.damaged-T    damaged ones after that, kept for a look
//! ```
//!
//! Without its active database the spool has no books: what reads is admitted anew under new numbers in a new epoch; the
//! report says what did not. A damaged database among the others costs what does not read in it, see
//! [`Spool::heal`](super::Spool::heal). A start fails only where the directory itself can't be used.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::limits;
use crate::observe::{self, spool as events};
use crate::time::Stamp;

use super::Options;
use super::journal::JournalError;
use super::meta::Meta;
use super::queue::{Spool, mint_epoch};
use super::salvage::Finds;
use super::segments::{Segments, Sizes};
use super::shelf::Shelf;
use super::sled::SledShelf;

/// A spool on disk.
pub type DiskSpool = Spool<Segments<SledShelf>>;

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

impl OpenError {
    /// Whether the disk can be as it should again without anybody changing the configuration: then it is worth waiting for.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Directory { error, .. } => {
                let failed = error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
                let kinds = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::ReadOnlyFilesystem];
                failed || kinds.contains(&error.kind())
            }
            Self::Journal(error) => {
                matches!(error, JournalError::Full | JournalError::ReadOnly | JournalError::Medium(_))
            }
        }
    }
}

/// Opens the spool in `dir`, creating what is missing. Blocks: reads the database, or salvages it if need be.
pub fn open_dir(dir: &Path, options: Options, stamp: Stamp) -> Result<(DiskSpool, OpenReport), OpenError> {
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
    let mut opened = open_live(dir, options.clone());
    for _ in 1..limits::SPOOL_MEDIUM_TRIES {
        if matches!(opened, Err(JournalError::Medium(_))) {
            std::thread::sleep(MEDIUM_PAUSE);
            opened = open_live(dir, options.clone());
        }
    }
    match opened {
        Ok(spool) => {
            let report = report(&spool, None);
            Ok((spool, report))
        }
        Err(JournalError::Damaged(cause) | JournalError::Medium(cause)) => {
            let aside = dir.join(format!("{SALVAGING}{}", stamp.wall.0));
            fs::rename(&live, &aside).map_err(at)?;
            take_over(dir, &aside, cause, options, stamp)
        }
        Err(other) => Err(other.into()),
    }
}

/// Opens databases that must be whole: readable, and not older than what was promised.
pub(super) fn open_live(dir: &Path, options: Options) -> Result<DiskSpool, JournalError> {
    let live = dir.join(LIVE);
    if live.join("db").is_file() {
        return Err(JournalError::Damaged("an earlier version made it".into()));
    }
    open_whole(SledShelf::new(live, dir.join(DAMAGED)), Sizes::default(), options, mint_epoch())
}

/// Opens what stands on `shelf`, or begins `epoch` where nothing does. [`JournalError::Damaged`] where it does not read, or
/// is older than what was promised.
pub fn open_whole<S: Shelf>(
    shelf: S,
    sizes: Sizes,
    options: Options,
    epoch: u64,
) -> Result<Spool<Segments<S>>, JournalError> {
    let segments = Segments::open(shelf, sizes)?;
    let promised = segments.promised();
    let spool = Spool::open_or_begin(segments, options, epoch)?;
    let (commit, epoch) = (spool.meta.commit, spool.meta.epoch);
    match promised.filter(|p| p.epoch != epoch || p.commit > commit) {
        Some(p) => {
            let read = if p.epoch == epoch { commit } else { 0 };
            Err(JournalError::Damaged(format!("its log breaks off at commit {read} of {}", p.commit)))
        }
        None => {
            spool.journal.proved();
            Ok(spool)
        }
    }
}

/// Fills a new database with what reads of the one in `aside`.
fn take_over(
    dir: &Path,
    aside: &Path,
    cause: String,
    options: Options,
    stamp: Stamp,
) -> Result<(DiskSpool, OpenReport), OpenError> {
    let at = |error| OpenError::Directory { dir: dir.to_owned(), error };
    let mut databases = vec![aside.to_owned()];
    databases.extend(siblings(aside, ""));
    // First, as it syncs: a medium that is away can't be written to either, and nothing would be found on it.
    let mut spool = open_live(dir, options)?;
    let finds = Finds::search(&databases);
    let (mut salvaged_records, mut salvaged_blocks) = (0, 0);
    let mut outcome = Ok(());
    finds.each(|block, _| {
        if outcome.is_ok() {
            salvaged_records += block.records.len() as u64;
            salvaged_blocks += 1;
            spool.admit(block.records);
            if spool.is_crowded() {
                outcome = spool.commit(stamp).and_then(|_| spool.tidy());
            }
        }
    });
    outcome?;
    spool.commit(stamp)?;
    let moved_to = dir.join(format!("{DAMAGED}{}", stamp.wall.0));
    fs::rename(aside, &moved_to).map_err(at)?;
    fs::File::open(dir).and_then(|d| d.sync_all()).map_err(at)?;
    prune_damaged(dir);
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

fn report(spool: &DiskSpool, damage: Option<Damage>) -> OpenReport {
    OpenReport { epoch: spool.epoch(), pending: spool.ledger().iter().map(|l| l.pending).sum(), damage }
}

/// Deletes all but the newest of the damaged databases that were put aside.
pub(super) fn prune_damaged(dir: &Path) {
    for old in siblings(dir, DAMAGED).iter().rev().skip(limits::SPOOL_DAMAGED_KEPT) {
        // What can't be deleted stays; it only takes space.
        let _ = fs::remove_dir_all(old);
    }
}

/// Entries of `dir` whose name begins with `prefix`, oldest first as far as their names tell.
fn siblings(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.filter(|e| e.file_name().to_string_lossy().starts_with(prefix)).map(|e| e.path()).collect();
    found.sort();
    found
}

/// Between two attempts to open what the medium does not read.
const MEDIUM_PAUSE: Duration = Duration::from_millis(300);
/// Name of the directory with the databases.
pub(super) const LIVE: &str = "journal";
const SALVAGING: &str = "journal.salvaging-";
const DAMAGED: &str = "journal.damaged-";
