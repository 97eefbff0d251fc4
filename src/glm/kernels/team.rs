//! A few threads that share one piece of work at a time.
//!
//! A token of a small model is a hundred short products, so what counts is how soon a thread hears of the next one. Threads
//! that find nothing to do therefore look again for some tens of microseconds before they sleep: while a model runs they
//! are always awake (handing over a job costs well below a microsecond), and an idle agent burns nothing.
//!
//! A job is a function and a number of parts. Every thread has a range of them and takes from its beginning, always the
//! same range of the same job, so that what it reads and writes is in its own cache the next time; who has done with their own
//! takes from the ends of the others'. A thread that is late, or held up by something else on the machine, thus leaves its
//! share to the others: nobody ever waits for a thread that has claimed nothing.
//!
//! # Protocol
//! The caller writes the job and a range of parts to the desk of every thread (release). Claiming is taking a part out of a
//! range (acquire): from then on the job cannot end before the claimed part has, so the function on that desk may be called.
//! Every member counts the parts it has done, ever (release); once they and the caller's own add up (acquire), the caller
//! returns, and only then may desks be written again. A desk is one cache line, as moving a line from one processor to
//! another is what handing over a job costs.

use std::any::Any;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// How often a thread without work looks again before it sleeps; each time is 10 to 60 ns, according to the machine.
const LOOKS_BEFORE_SLEEP: u32 = 2000;
/// How often the caller looks whether the last parts are done before it lends its processor to whoever is doing them.
const LOOKS_BEFORE_YIELD: u32 = 2000;

/// Threads that work on the parts of one job together; the caller is one of them.
pub(super) struct Team {
    shared: Arc<Shared>,
    members: Vec<JoinHandle<()>>,
}

/// A cache line of its own (two, as they are fetched in pairs).
#[repr(align(128))]
struct Apart<T>(T);

struct Shared {
    /// The caller's, then one for each member.
    desks: Vec<Apart<Desk>>,
    /// Parts that each member has done, ever; wraps around.
    done: Vec<Apart<AtomicUsize>>,
    /// Which members sleep, or are about to.
    asleep: Vec<Apart<AtomicBool>>,
    /// Whether somebody has the team.
    taken: AtomicBool,
    ends: AtomicBool,
    /// What the first part that panicked said.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

struct Desk {
    /// Unclaimed parts: the first in the high half, the one behind the last in the low half.
    range: AtomicU64,
    work: UnsafeCell<*const Work>,
}

/// A job's function, with the number of a part.
type Work = dyn Fn(usize) + Sync;

// SAFETY: `work` is written by whoever holds `taken` while no part is claimed, and read only by who has claimed one (see
// Protocol). What it points at is `Sync` and outlives the job.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer is used by whoever has claimed a part, on any thread.
unsafe impl Send for Shared {}

impl Team {
    /// A team of `threads`, the caller included: one spawns none. Fewer where the machine refuses more.
    pub(super) fn new(threads: usize) -> Team {
        let wanted = threads.saturating_sub(1);
        let shared = Arc::new(Shared {
            desks: (0..=wanted).map(|_| Apart(Desk::empty())).collect(),
            done: (0..wanted).map(|_| Apart(AtomicUsize::new(0))).collect(),
            asleep: (0..wanted).map(|_| Apart(AtomicBool::new(false))).collect(),
            taken: AtomicBool::new(false),
            ends: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let spawn = |member: usize| {
            let shared = Arc::clone(&shared);
            let name = format!("glm:{}", member + 1);
            thread::Builder::new().name(name).spawn(move || shared.serve(member)).ok()
        };
        let members = (0..wanted).map_while(spawn).collect();
        Team { shared, members }
    }

    /// How many work at once, the caller included.
    pub(super) fn threads(&self) -> usize {
        self.members.len() + 1
    }

    /// Calls `work` once with every number below `parts`, on any thread; returns when all are done. A single part runs on the
    /// caller and wakes nobody. While another caller has the team, or from inside a part, all of them run on the caller.
    ///
    /// # Panics
    /// On the caller, after all parts have ended, where one of them did.
    pub(super) fn run(&self, parts: usize, work: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        let fits = u32::try_from(parts).is_ok();
        if parts < 2 || !fits || self.members.is_empty() || shared.taken.swap(true, Ordering::Acquire) {
            return (0..parts).for_each(work);
        }
        // SAFETY: a lifetime is cut off; `work` outlives this call, and no part is claimed or running after it.
        let work = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static Work>(work) };
        let before = shared.done();
        let threads = self.threads().min(parts);
        for (thread, desk) in shared.desks.iter().enumerate().take(threads) {
            // SAFETY: this thread has the team, and the job before has ended: nobody reads it.
            unsafe { *desk.0.work.get() = work };
            let (start, end) = (thread * parts / threads, (thread + 1) * parts / threads);
            // Sequentially consistent with `Shared::sleep`: either the member sees the parts or we see that it sleeps.
            desk.0.range.store((start as u64) << 32 | end as u64, Ordering::SeqCst);
        }
        for (member, asleep) in self.members.iter().zip(&shared.asleep).take(threads - 1) {
            if asleep.0.load(Ordering::SeqCst) && asleep.0.swap(false, Ordering::Relaxed) {
                member.thread().unpark();
            }
        }
        let own = shared.work_on(0, || ());
        shared.wait(before.wrapping_add(parts - own));
        let panic =
            shared.panic.lock().map_or_else(|poisoned| poisoned.into_inner().take(), |mut p| p.take());
        shared.taken.store(false, Ordering::Release);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Calls `work` once with every `len` elements of `all` (the last may have fewer) and their number.
    #[allow(dead_code)]
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

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        for member in self.members.drain(..) {
            member.thread().unpark();
            // Parts' panics are caught, so a member has none of its own to tell of.
            let _ = member.join();
        }
    }
}

impl std::fmt::Debug for Team {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} threads", self.threads())
    }
}

impl Shared {
    /// Does parts from the beginning of a thread's own range, then from the ends of the others', as long as there are any;
    /// says after each that it is done, and gives how many there were.
    fn work_on(&self, thread: usize, done: impl Fn()) -> usize {
        let mut count = 0;
        for offset in 0..self.desks.len() {
            let desk = &self.desks[(thread + offset) % self.desks.len()].0;
            while let Some((part, work)) = desk.claim(offset == 0) {
                if let Err(said) = catch_unwind(AssertUnwindSafe(|| work(part))) {
                    let mut panic = self.panic.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    panic.get_or_insert(said);
                }
                count += 1;
                done();
            }
        }
        count
    }

    /// Parts that members have done, ever.
    fn done(&self) -> usize {
        self.done.iter().fold(0, |sum, done| sum.wrapping_add(done.0.load(Ordering::Acquire)))
    }

    /// Until members have done so many.
    fn wait(&self, wanted: usize) {
        let mut looks = 0;
        while self.done() != wanted {
            if looks < LOOKS_BEFORE_YIELD {
                looks += 1;
                std::hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
    }

    /// What a member does all its life.
    fn serve(&self, member: usize) {
        let desk = &self.desks[member + 1].0;
        let mut looks = 0;
        while !self.ends.load(Ordering::Relaxed) {
            if !desk.is_empty() {
                self.work_on(member + 1, || {
                    self.done[member].0.fetch_add(1, Ordering::Release);
                });
                looks = 0;
            } else if looks < LOOKS_BEFORE_SLEEP {
                looks += 1;
                std::hint::spin_loop();
            } else {
                self.sleep(desk, &self.asleep[member].0);
                looks = 0;
            }
        }
    }

    fn sleep(&self, desk: &Desk, asleep: &AtomicBool) {
        asleep.store(true, Ordering::SeqCst);
        while asleep.load(Ordering::Relaxed) && desk.is_empty() && !self.ends.load(Ordering::SeqCst) {
            thread::park();
        }
        asleep.store(false, Ordering::Relaxed);
    }
}

impl Desk {
    fn empty() -> Desk {
        Desk { range: AtomicU64::new(0), work: UnsafeCell::new(&|_| ()) }
    }

    fn is_empty(&self) -> bool {
        let range = self.range.load(Ordering::SeqCst);
        range >> 32 >= range & u64::from(u32::MAX)
    }

    /// Takes the first or the last part of the range, with its function.
    fn claim(&self, first: bool) -> Option<(usize, &Work)> {
        let mut range = self.range.load(Ordering::Relaxed);
        loop {
            let (start, end) = (range >> 32, range & u64::from(u32::MAX));
            if start >= end {
                return None;
            }
            let (part, left) =
                if first { (start, (start + 1) << 32 | end) } else { (end - 1, start << 32 | (end - 1)) };
            match self.range.compare_exchange_weak(range, left, Ordering::Acquire, Ordering::Relaxed) {
                // SAFETY: with a part claimed the desk stays as it is until the part is counted as done (see Protocol), and
                // `Team::run`, which lent the function, does not return before.
                Ok(_) => return Some((part as usize, unsafe { &**self.work.get() })),
                Err(now) => range = now,
            }
        }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// How often each of `parts` ran.
    fn count(team: &Team, parts: usize) -> Vec<usize> {
        let counts: Vec<_> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
        team.run(parts, &|part| _ = counts[part].fetch_add(1, Ordering::Relaxed));
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_part_runs_once_whether_the_members_are_awake_or_asleep() {
        for threads in 1..=4 {
            let team = Team::new(threads);
            assert_eq!(team.threads(), threads);
            for round in 0..2000 {
                let parts = round % 37;
                assert_eq!(count(&team, parts), vec![1; parts], "{threads} threads, round {round}");
                if round % 400 == 0 {
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }

    #[test]
    fn members_take_part() {
        let team = Team::new(2);
        let both = std::sync::Barrier::new(2);
        // Would never end on one thread.
        team.run(2, &|_| _ = both.wait());
        thread::sleep(Duration::from_millis(20));
        team.run(2, &|_| _ = both.wait());
    }

    #[test]
    fn nobody_returns_before_the_last_part_has_ended() {
        let (team, both, caller) = (Team::new(2), std::sync::Barrier::new(2), thread::current().id());
        let ended = AtomicUsize::new(0);
        team.run(2, &|_| {
            both.wait();
            if thread::current().id() != caller {
                thread::sleep(Duration::from_millis(30));
            }
            ended.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(ended.into_inner(), 2);
    }

    #[test]
    fn a_panic_in_a_part_reaches_the_caller_after_all_others_are_done_and_the_team_goes_on() {
        let team = Team::new(3);
        for bad in 0..8 {
            let done = AtomicUsize::new(0);
            let run = catch_unwind(AssertUnwindSafe(|| {
                team.run(8, &|part| {
                    if part == bad {
                        resume_unwind(Box::new("no"));
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }));
            assert_eq!(run.unwrap_err().downcast_ref(), Some(&"no"));
            assert_eq!(done.into_inner(), 7);
            assert_eq!(count(&team, 5), [1; 5]);
        }
    }

    #[test]
    fn a_second_caller_and_a_call_from_inside_a_part_run_alone() {
        let team = Team::new(2);
        let inside = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        team.run(4, &|_| team.run(3, &|_| _ = inside.fetch_add(1, Ordering::Relaxed)));
                    }
                });
            }
        });
        assert_eq!(inside.into_inner(), 3 * 200 * 12);
    }

    #[test]
    fn chunks_cover_a_slice_once() {
        let mut all = [0_u32; 103];
        Team::new(2).run_chunks(&mut all, 10, &|part, chunk| chunk.fill(part as u32 + 1));
        assert!(all.iter().enumerate().all(|(i, &part)| part == i as u32 / 10 + 1));
    }
}
