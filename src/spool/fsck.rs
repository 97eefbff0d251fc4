//! Checking a stopped agent's spool, and mending it as a start would.
//!
//! Every block is read, held against its checksum and decoded, and the books are held against what is there. Mending puts
//! a gap in the place of what does not read, salvages what reads of a damaged database, and begins a new epoch only where
//! the books themselves are gone.

use std::path::Path;

use crate::time::Stamp;
use crate::wire::{Lane, PerLane, decode_block};

use super::Options;
use super::dead::dead_letters;
use super::entry::{Entry, lane_key};
use super::inspect::InspectError;
use super::journal::{Journal, JournalError};
use super::meta::LaneLedger;
use super::open::{Damage, DiskSpool, LIVE, open_dir, open_live};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FsckReport {
    /// The epoch, if books could be read.
    pub epoch: Option<u64>,
    /// Databases that make up the spool.
    pub databases: usize,
    /// Per lane, what was read.
    pub lanes: PerLane<LaneFound>,
    /// What is wrong, or was before it was mended: one sentence each.
    pub problems: Vec<String>,
    /// Whether the spool is whole now; what is wrong with one that was mended and is not, begins with "still".
    pub whole: bool,
    /// Blocks that the far side had refused, kept as files.
    pub dead_letters: usize,
}

/// What was read of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaneFound {
    /// Blocks with records.
    pub blocks: u64,
    /// Records in them.
    pub records: u64,
    /// Gaps.
    pub gaps: u64,
}

/// Checks the spool in `dir`; changes nothing but sled's own housekeeping. Blocks: reads everything.
pub fn fsck(dir: &Path) -> Result<FsckReport, InspectError> {
    if !dir.join(LIVE).is_dir() {
        return Err(InspectError::Missing(dir.to_owned()));
    }
    match open_live(dir, Options::offline()) {
        Ok(mut spool) => look(dir, &mut spool, None),
        Err(JournalError::Damaged(cause)) => Ok(FsckReport {
            problems: vec![format!("the books do not read: {cause}")],
            dead_letters: dead_letters(dir).len(),
            ..FsckReport::default()
        }),
        Err(other) => Err(other.into()),
    }
}

/// Checks the spool in `dir` and mends it. Blocks: reads everything, syncs what it changes.
pub fn mend(dir: &Path, stamp: Stamp) -> Result<FsckReport, InspectError> {
    if !dir.join(LIVE).is_dir() {
        return Err(InspectError::Missing(dir.to_owned()));
    }
    let (mut spool, opened) = open_dir(dir, Options::offline(), stamp)?;
    let found = look(dir, &mut spool, Some(stamp))?;
    spool.commit(stamp)?;
    spool.tidy()?;
    let mut report = look(dir, &mut spool, None)?;
    let left = std::mem::take(&mut report.problems);
    report.problems.extend(opened.damage.iter().map(damage_text).chain(found.problems));
    report.problems.extend(left.into_iter().map(|problem| format!("still: {problem}")));
    Ok(report)
}

fn damage_text(damage: &Damage) -> String {
    let lost = damage.lost_records.map_or("an unknown number".to_owned(), |n| n.to_string());
    format!(
        "the books did not read: {}; {} records were taken over into a new epoch, {lost} were lost, the damaged files are \
         in {}",
        damage.cause,
        damage.salvaged_records,
        damage.moved_to.display()
    )
}

/// Reads everything; with a stamp, mends what it finds.
fn look(dir: &Path, spool: &mut DiskSpool, mend: Option<Stamp>) -> Result<FsckReport, InspectError> {
    let mut report = FsckReport {
        epoch: Some(spool.epoch()),
        databases: spool.journal.databases(),
        dead_letters: dead_letters(dir).len(),
        ..FsckReport::default()
    };
    for &lane in Lane::ALL {
        let mut scanned = scan(spool, lane);
        while let (Err(JournalError::Damaged(cause) | JournalError::Medium(cause)), Some(stamp)) =
            (&scanned, mend)
        {
            let before = spool.ledger()[lane.index()].evicted_total();
            report.problems.push(cause.clone());
            spool.heal(stamp)?;
            let lost = spool.ledger()[lane.index()].evicted_total() - before;
            report.problems.push(format!("lane {lane}: {lost} records of it were lost, a gap says so"));
            scanned = scan(spool, lane);
        }
        match scanned {
            Ok((found, rotten)) => {
                report.lanes[lane.index()] = found;
                judge(spool, lane, found, &rotten, mend, &mut report)?;
            }
            Err(JournalError::Damaged(cause) | JournalError::Medium(cause)) => {
                report.problems.push(format!("lane {lane}: {cause}"));
            }
            Err(other) => return Err(other.into()),
        }
    }
    report.whole = report.problems.is_empty();
    Ok(report)
}

fn judge(
    spool: &mut DiskSpool,
    lane: Lane,
    found: LaneFound,
    rotten: &[Entry],
    mend: Option<Stamp>,
    report: &mut FsckReport,
) -> Result<(), InspectError> {
    for entry in rotten {
        let (first, last) = (entry.id.first, entry.id.last);
        report.problems.push(format!("lane {lane}: the block of records {first} to {last} does not read"));
        if let Some(stamp) = mend {
            // Fetching what does not match its checksum puts a gap in its place.
            spool.fetch(lane, first, stamp)?;
        }
    }
    let lost: u64 = rotten.iter().map(Entry::records).sum();
    let books: LaneLedger = spool.ledger()[lane.index()];
    let waiting = books.pending + if mend.is_some() { lost } else { 0 };
    if !books.balances() {
        report.problems.push(format!("lane {lane}: the books do not close"));
    }
    if found.records + lost != waiting {
        let there = found.records + lost;
        report.problems.push(format!("lane {lane}: {waiting} records wait by the books, {there} are there"));
    }
    Ok(())
}

/// What reads of a lane, and the blocks that do not.
fn scan(spool: &DiskSpool, lane: Lane) -> Result<(LaneFound, Vec<Entry>), JournalError> {
    let (mut found, mut rotten) = (LaneFound::default(), Vec::new());
    spool.journal.scan(&lane_key(lane, 0), &lane_key(lane, u64::MAX), &mut |key, value| {
        let Some(entry) = Entry::from_key(key) else { return true };
        let json = value.first() == Some(&b'{');
        let reads = || json || decode_block(value).is_ok_and(|block| block.header.id() == entry.id);
        if entry.crc != crc32fast::hash(value) || !reads() {
            rotten.push(entry);
        } else if entry.gap.is_some() {
            found.gaps += 1;
        } else {
            found.blocks += 1;
            found.records += entry.records();
        }
        true
    })?;
    Ok((found, rotten))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::{MemJournal, Spool};
    use crate::time::Wall;
    use crate::wire::{Notice, Record};

    #[test]
    fn nothing_is_given_up_for_room_without_the_agent() {
        let mut spool = Spool::open(MemJournal::default(), Options::offline()).unwrap();
        for n in 0..2 {
            let notice = Notice { code: "n".into(), text: "something".into(), at: Wall(n) };
            spool.admit(vec![Record::Notice(notice)]);
            spool.commit(crate::clock::stamp()).unwrap();
            // An agent may have been allowed more than the default.
            spool.meta.lanes[Lane::Raw.index()].bytes = 1 << 40;
        }
        assert!(spool.ledger().iter().all(|books| books.evicted_total() == 0), "{:?}", spool.ledger());
    }
}
