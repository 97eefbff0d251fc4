//! What waits for the thread `glm`: one bounded queue per priority.
//!
//! A full queue refuses at once, and a flood of questions takes no place from an alarm. The thread takes the highest priority
//! first, within one priority the oldest; while the model is paused it takes alarms only.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::glm::generate::Priority;
use crate::limits;

/// Why a job was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Too many of its priority wait.
    Full,
    /// The thread has ended or never was.
    Closed,
}

/// The queues; clones share them.
pub(super) struct Jobs<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    news: Condvar,
}

struct State<T> {
    waiting: [VecDeque<T>; 3],
    closed: bool,
    /// Whoever waits next need not.
    nudged: bool,
}

impl<T> Clone for Jobs<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Jobs<T> {
    pub fn new() -> Self {
        let state = State { waiting: Default::default(), closed: false, nudged: false };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), news: Condvar::new() }) }
    }

    /// Takes `job` unless its queue is full.
    pub fn push(&self, priority: Priority, job: T) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        let queue = &mut state.waiting[priority as usize];
        if queue.len() >= limits::GLM_QUEUE_MAX {
            return Err(Refused::Full);
        }
        queue.push_back(job);
        self.shared.news.notify_one();
        Ok(())
    }

    /// The next job of priority `floor` or higher.
    pub fn pop(&self, floor: Priority) -> Option<T> {
        self.lock().waiting[floor as usize..].iter_mut().rev().find_map(VecDeque::pop_front)
    }

    /// Takes out every job that `is_over`, oldest first: whoever asked has given up, or its time is up.
    pub fn take_if(&self, mut is_over: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut over = Vec::new();
        for queue in self.lock().waiting.iter_mut().rev() {
            let (gone, left): (VecDeque<T>, VecDeque<T>) = queue.drain(..).partition(|job| is_over(job));
            *queue = left;
            over.extend(gone);
        }
        over
    }

    /// Waits until a job of priority `floor` or higher is there, the queues are closed, somebody [nudges](Jobs::nudge), or
    /// `patience` is over. Blocks.
    pub fn wait(&self, floor: Priority, patience: Duration) {
        let state = self.lock();
        let idle = |state: &mut State<T>| {
            !state.closed && !state.nudged && state.waiting[floor as usize..].iter().all(VecDeque::is_empty)
        };
        let waited = self.shared.news.wait_timeout_while(state, patience, idle);
        // A panic elsewhere leaves the queues as they were.
        waited.unwrap_or_else(PoisonError::into_inner).0.nudged = false;
    }

    /// Wakes who waits, or spares him the next wait: there is something to do that is no job.
    pub fn nudge(&self) {
        self.lock().nudged = true;
        self.shared.news.notify_all();
    }

    /// How many wait, by priority, the least first.
    pub fn waiting(&self) -> [usize; 3] {
        let state = self.lock();
        std::array::from_fn(|i| state.waiting[i].len())
    }

    /// Refuses everything from now on; what waits can still be taken.
    pub fn close(&self) {
        self.lock().closed = true;
        self.shared.news.notify_all();
    }

    /// Whether nothing more will come.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_overtakes_and_a_flood_of_questions_takes_no_place_from_it() {
        let jobs = Jobs::new();
        jobs.push(Priority::Periodic, "due").unwrap();
        for _ in 0..limits::GLM_QUEUE_MAX {
            jobs.push(Priority::Ask, "question").unwrap();
        }
        assert_eq!(jobs.push(Priority::Ask, "one more"), Err(Refused::Full));
        jobs.push(Priority::Alarm, "alarm").unwrap();
        assert_eq!(jobs.waiting(), [1, limits::GLM_QUEUE_MAX, 1]);
        assert_eq!(jobs.pop(Priority::Periodic), Some("alarm"));
        assert_eq!(jobs.pop(Priority::Alarm), None, "while paused, nothing else is taken");
        assert_eq!(jobs.pop(Priority::Periodic), Some("question"));
        assert_eq!(jobs.take_if(|job| *job == "due"), ["due"]);
    }

    #[test]
    fn waiting_ends_with_a_job_that_may_be_taken_or_with_the_end_of_all() {
        let jobs: Jobs<u8> = Jobs::new();
        jobs.push(Priority::Ask, 1).unwrap();
        jobs.wait(Priority::Ask, Duration::from_secs(60));
        jobs.wait(Priority::Alarm, Duration::from_millis(1));
        let other = jobs.clone();
        let thread = std::thread::spawn(move || other.wait(Priority::Alarm, Duration::from_secs(60)));
        jobs.close();
        thread.join().unwrap();
        let other: Jobs<u8> = Jobs::new();
        other.nudge();
        other.wait(Priority::Periodic, Duration::from_secs(60));
        assert_eq!(jobs.push(Priority::Alarm, 2), Err(Refused::Closed));
        assert_eq!(jobs.pop(Priority::Periodic), Some(1), "what was taken is still served");
    }
}
