//! What the grammars of one model have learnt, within one bound.
//!
//! A machine learns while an answer is written under its grammar, and is of use to the next one: it stands on the shelf until
//! then. What stands there and what is at work count together. When there is no more room the oldest go first, and machines at
//! work forget before they learn anew: slower, not wrong.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::machine::{Machine, Program};
use crate::limits;

/// Room for the machines of all grammars of one model.
pub struct Shelf {
    bytes_max: usize,
    /// Of all machines, at work or not.
    bytes: AtomicUsize,
    /// The oldest first.
    idle: Mutex<VecDeque<Idle>>,
}

/// A machine whose answer has ended.
struct Idle {
    machine: Machine,
    end_ids: Arc<[u32]>,
    bytes: usize,
}

impl Shelf {
    /// A shelf that is full at [`limits::GRAMMAR_BYTES_MAX`], less what one machine may learn at a time.
    pub fn new() -> Shelf {
        Shelf::with_room(limits::GRAMMAR_BYTES_MAX - limits::GRAMMAR_TABLE_BYTES_MAX)
    }

    /// One that is full at `bytes_max`.
    pub(super) fn with_room(bytes_max: usize) -> Shelf {
        Shelf { bytes_max, bytes: AtomicUsize::new(0), idle: Mutex::default() }
    }

    /// Bytes that all machines take, about.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether a machine must forget before it learns.
    pub(super) fn is_full(&self) -> bool {
        self.bytes() > self.bytes_max
    }

    /// A machine of this grammar that knows something already, and the bytes that were counted for it.
    pub(super) fn take(&self, program: &Arc<Program>, end_ids: &[u32]) -> Option<(Machine, usize)> {
        let mut idle = self.lock();
        let at = idle.iter().position(|it| it.machine.is_of(program) && *it.end_ids == *end_ids)?;
        idle.remove(at).map(|it| (it.machine, it.bytes))
    }

    /// A machine whose answer has ended, and the bytes that were counted for it.
    pub(super) fn put(&self, machine: Machine, end_ids: Arc<[u32]>, bytes: usize) {
        let mut idle = self.lock();
        idle.push_back(Idle { machine, end_ids, bytes });
        self.tidy(&mut idle);
    }

    /// A machine that took `before` takes `after` now.
    pub(super) fn count(&self, before: usize, after: usize) {
        self.bytes.fetch_add(after, Ordering::Relaxed);
        self.bytes.fetch_sub(before, Ordering::Relaxed);
        if self.is_full() {
            self.tidy(&mut self.lock());
        }
    }

    fn tidy(&self, idle: &mut VecDeque<Idle>) {
        while (self.is_full() || idle.len() > limits::GRAMMAR_IDLE_MAX)
            && let Some(oldest) = idle.pop_front()
        {
            self.bytes.fetch_sub(oldest.bytes, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Shelf {
    fn default() -> Shelf {
        Shelf::new()
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of {} at most", self.bytes(), self.bytes_max)
    }
}

// A shelf that is full leaves what is declared room for one walk of the usual measure.
const _: () = assert!(limits::GRAMMAR_BYTES_MAX >= 2 * limits::GRAMMAR_TABLE_BYTES_MAX);
