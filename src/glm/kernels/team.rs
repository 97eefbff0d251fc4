//! A few threads that share one piece of work at a time.

use std::marker::PhantomData;
use std::ops::Range;

/// Threads that work on the parts of one job together; the caller is one of them.
#[derive(Debug)]
pub(super) struct Team {
    threads: usize,
}

impl Team {
    /// A team of `threads`, the caller included: one spawns none.
    pub(super) fn new(_threads: usize) -> Team {
        Team { threads: 1 }
    }

    /// How many work at once, the caller included.
    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `work` once with every number below `parts`, on any thread and in any order; returns when all are done.
    /// One part runs on the caller and wakes nobody.
    ///
    /// # Panics
    /// On the caller, after all parts have ended, where one of them did.
    pub(super) fn run(&self, parts: usize, work: &(dyn Fn(usize) + Sync)) {
        (0..parts).for_each(work);
    }

    /// Calls `work` once with every `len` elements of `all` (the last may have fewer) and their number.
    pub(super) fn run_chunks<T: Send>(
        &self,
        all: &mut [T],
        len: usize,
        work: &(dyn Fn(usize, &mut [T]) + Sync),
    ) {
        let (total, parts) = (all.len(), all.len().div_ceil(len));
        let split = Split::new(all);
        self.run(parts, &|part| {
            let start = part * len;
            // SAFETY: chunks of different parts do not overlap, and every part runs once.
            work(part, unsafe { split.part(start..total.min(start + len)) });
        });
    }
}

/// A slice whose parts are handed to different threads.
pub(super) struct Split<'a, T> {
    start: *mut T,
    len: usize,
    all: PhantomData<&'a mut [T]>,
}

// SAFETY: it gives out `&mut [T]` of disjoint parts only (the contract of `part`), which is sending `T`s.
unsafe impl<T: Send> Sync for Split<'_, T> {}

impl<'a, T> Split<'a, T> {
    /// Takes all of it.
    pub(super) fn new(all: &'a mut [T]) -> Split<'a, T> {
        Split { start: all.as_mut_ptr(), len: all.len(), all: PhantomData }
    }

    /// One part.
    ///
    /// # Safety
    /// No two parts that live at the same time overlap.
    ///
    /// # Panics
    /// Where it is not inside the slice.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        // SAFETY: inside the slice by the assertion; the only reference to it by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
