//! Many databases read as one.

use std::ops::Range;

use super::Segments;
use crate::spool::entry::{Entry, lane_key};
use crate::spool::holding::Holding;
use crate::spool::journal::{Journal as _, JournalError};
use crate::spool::shelf::Shelf;
use crate::wire::Lane;

type Block = (Entry, Vec<u8>);

/// A walk over the live entries of one lane in all databases, in order, that opens none before its turn.
pub(super) struct Merge<'a, S: Shelf> {
    segments: &'a Segments<S>,
    lane: Lane,
    to: u64,
    heads: Vec<Head>,
}

/// Where a database goes on.
struct Head {
    id: u64,
    from: u64,
    /// No live entry of it from there on begins before this number.
    at: u64,
    entry: Option<Block>,
}

impl<'a, S: Shelf> Merge<'a, S> {
    pub(super) fn new(segments: &'a Segments<S>, lane: Lane, from: u64, to: u64) -> Self {
        let mut merge = Self { segments, lane, to, heads: Vec::new() };
        for id in ids(segments) {
            merge.push(id, from);
        }
        merge
    }

    fn push(&mut self, id: u64, from: u64) {
        if let Some(at) = self.segments.holding(id).first(self.lane, from, self.to) {
            self.heads.push(Head { id, from, at, entry: None });
        }
    }

    pub(super) fn run(mut self, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), JournalError> {
        while let Some(at) = self.foremost() {
            let head = self.heads.swap_remove(at);
            match head.entry {
                None => self.resolve(head)?,
                Some((entry, value)) => {
                    if !visit(&entry.key(), &value) {
                        return Ok(());
                    }
                    self.push(head.id, entry.id.last + 1);
                }
            }
        }
        Ok(())
    }

    /// The head whose turn it is; of equal ones one that is only a bound, to learn whether it stays there.
    fn foremost(&self) -> Option<usize> {
        (0..self.heads.len()).min_by_key(|&i| (self.heads[i].at, self.heads[i].entry.is_some()))
    }

    /// Looks up what the head stands for.
    fn resolve(&mut self, mut head: Head) -> Result<(), JournalError> {
        // What lies before it is no longer live, and may be much.
        let (from, to) = (lane_key(self.lane, head.at), lane_key(self.lane, self.to));
        let held = self.segments.holding(head.id);
        let mut found = None;
        look(self.segments, head.id, &mut |db| {
            db.scan(&from, &to, &mut |key, value| {
                found = live(held, key, value);
                found.is_none()
            })
        })?;
        let met = found.as_ref().map(|(entry, _)| entry.id.first);
        passed(self.segments, head.id, self.lane, head.from..met.unwrap_or(self.to))?;
        if let Some(at) = met {
            head.at = at;
            head.entry = found;
            self.heads.push(head);
        }
        Ok(())
    }
}

/// The live entry of `lane` that begins last in `from..to`. Opens no database that has none behind what is found.
pub(super) fn last<S: Shelf>(
    segments: &Segments<S>,
    lane: Lane,
    from: u64,
    to: u64,
) -> Result<Option<Block>, JournalError> {
    let bound = |id| Some((segments.holding(id).last(lane, from, to)?, id));
    let mut bounds: Vec<(u64, u64)> = ids(segments).filter_map(bound).collect();
    bounds.sort_unstable_by(|a, b| b.cmp(a));
    let mut best: Option<Block> = None;
    for (bound, id) in bounds {
        let begun = best.as_ref().map(|(entry, _)| entry.id.first);
        if begun.is_some_and(|begun| bound <= begun) {
            break;
        }
        let found = last_in(segments, id, lane, from..to, bound)?;
        if found.as_ref().map(|(entry, _)| entry.id.first) > begun {
            best = found;
        }
    }
    Ok(best)
}

/// As [`last`], in one database, where nothing live begins behind `bound`.
fn last_in<S: Shelf>(
    segments: &Segments<S>,
    id: u64,
    lane: Lane,
    numbers: Range<u64>,
    bound: u64,
) -> Result<Option<Block>, JournalError> {
    let held = segments.holding(id);
    let start = lane_key(lane, numbers.start);
    let mut found = None;
    // What is no longer live may still lie between.
    let mut end = Some(lane_key(lane, bound + 1).to_vec());
    while let Some(before) = end.take().filter(|_| found.is_none()) {
        look(segments, id, &mut |db| {
            db.last(&start, &before, &mut |key, value| {
                found = live(held, key, value);
                end = Some(key.to_vec());
            })
        })?;
    }
    let met = found.as_ref().map(|(entry, _)| entry.id.first);
    passed(segments, id, lane, met.map_or(numbers.start, |met| met + 1)..numbers.end)?;
    Ok(found)
}

fn ids<S: Shelf>(segments: &Segments<S>) -> impl Iterator<Item = u64> {
    segments.sealed.keys().copied().chain([segments.active.id])
}

fn live(held: &Holding, key: &[u8], value: &[u8]) -> Option<Block> {
    Entry::from_key(key).filter(|entry| held.holds(entry)).map(|entry| (entry, value.to_vec()))
}

/// Reads in a database, however it is to be opened.
fn look<S: Shelf>(
    segments: &Segments<S>,
    id: u64,
    read: &mut dyn FnMut(&S::Db) -> Result<(), JournalError>,
) -> Result<(), JournalError> {
    if id == segments.active.id {
        segments.active.read(read(&segments.active.db))
    } else {
        segments.with_sealed(id, read)
    }
}

/// Fails where it can't be believed that nothing else is live in `numbers` of that database.
fn passed<S: Shelf>(
    segments: &Segments<S>,
    id: u64,
    lane: Lane,
    numbers: Range<u64>,
) -> Result<(), JournalError> {
    if id == segments.active.id && segments.active.is_unsettled(lane, numbers) {
        return Err(JournalError::Io("the last commit failed and has to be repeated first".into()));
    }
    Ok(())
}
