//! Many databases read as one.

use super::Segments;
use crate::spool::entry::{Entry, lane_key};
use crate::spool::journal::{Journal as _, JournalError, Order};
use crate::spool::shelf::Shelf;
use crate::wire::Lane;

/// A walk over the live entries of one lane in all databases, in order, that opens none before its turn.
pub(super) struct Merge<'a, S: Shelf> {
    segments: &'a Segments<S>,
    lane: Lane,
    order: Order,
    heads: Vec<Head>,
}

/// Where a database goes on.
struct Head {
    id: u64,
    from: u64,
    to: u64,
    /// No live entry of it begins before (or after, downwards) this number.
    at: u64,
    entry: Option<(Entry, Vec<u8>)>,
}

impl<'a, S: Shelf> Merge<'a, S> {
    pub(super) fn new(segments: &'a Segments<S>, lane: Lane, from: u64, to: u64, order: Order) -> Self {
        let mut merge = Self { segments, lane, order, heads: Vec::new() };
        for id in segments.sealed.keys().copied().chain([segments.active.id]) {
            merge.push(id, from, to);
        }
        merge
    }

    fn push(&mut self, id: u64, from: u64, to: u64) {
        if let Some(at) = self.segments.holding(id).next(self.lane, from, to, self.order) {
            self.heads.push(Head { id, from, to, at, entry: None });
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
                    match self.order {
                        Order::Up => self.push(head.id, entry.id.last + 1, head.to),
                        Order::Down => self.push(head.id, head.from, entry.id.first),
                    }
                }
            }
        }
        Ok(())
    }

    /// The head whose turn it is; of equal ones one that is only a bound, to learn whether it stays there.
    fn foremost(&self) -> Option<usize> {
        let key = |i: &usize| {
            let head = &self.heads[*i];
            let at = if self.order == Order::Up { head.at } else { u64::MAX - head.at };
            (at, head.entry.is_some())
        };
        (0..self.heads.len()).min_by_key(key)
    }

    /// Looks up what the head stands for.
    fn resolve(&mut self, mut head: Head) -> Result<(), JournalError> {
        let segments = self.segments;
        let held = segments.holding(head.id);
        let (from, to) = (lane_key(self.lane, head.from), lane_key(self.lane, head.to));
        let mut found = None;
        let mut look = |db: &S::Db| {
            db.scan(&from, &to, self.order, &mut |key, value| {
                found = Entry::from_key(key).filter(|e| held.holds(e)).map(|e| (e, value.to_vec()));
                found.is_none()
            })
        };
        if head.id == segments.active.id {
            segments.active.read(look(&segments.active.db))?;
            let met = found.as_ref().map(|(entry, _)| entry.id.first);
            let passed = match self.order {
                Order::Up => head.from..met.unwrap_or(head.to),
                Order::Down => met.map_or(head.from, |met| met + 1)..head.to,
            };
            if segments.active.is_unsettled(self.lane, passed) {
                return Err(JournalError::Io("the last commit failed and has to be repeated first".into()));
            }
        } else {
            segments.with_sealed(head.id, &mut look)?;
        }
        if let Some((entry, _)) = &found {
            head.at = entry.id.first;
            head.entry = found;
            self.heads.push(head);
        }
        Ok(())
    }
}
