//! Readings that wait for those that are late, so that what follows sees them in order of event time.

use std::collections::VecDeque;

use crate::limits;
use crate::reading::Value;
use crate::time::Wall;

/// At most [`limits::ORDER_READINGS_MAX`], in order of time.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting(VecDeque<(Wall, Value)>);

impl Waiting {
    /// Adds a reading behind those of the same time. One that is too many gives the first back: it waits no longer.
    pub fn push(&mut self, at: Wall, value: Value) -> Option<(Wall, Value)> {
        let first = if self.0.len() >= limits::ORDER_READINGS_MAX { self.0.pop_front() } else { None };
        let index = match self.0.back() {
            Some((last, _)) if *last > at => self.0.partition_point(|(t, _)| *t <= at),
            _ => self.0.len(),
        };
        self.0.insert(index, (at, value));
        first
    }

    /// Whether one of `at` or before waits.
    pub fn holds(&self, at: Wall) -> bool {
        self.0.front().is_some_and(|(first, _)| *first <= at)
    }

    /// The first, if it is not later than `to`.
    pub fn pop(&mut self, to: Wall) -> Option<(Wall, Value)> {
        if self.0.front()?.0 <= to { self.0.pop_front() } else { None }
    }
}
