//! What comes back to the desk from the bigger models, whatever thread they are on.

use std::sync::{Arc, Mutex, PoisonError, mpsc};

use super::generate::Usage;
use super::jobs::Jobs;
use super::speaker::{End, Listener, Said};
use super::student::Unworded;
use super::worker::{DigestJob, Job, TalkJob};

/// What comes back from a bigger model.
pub(super) enum Returned {
    /// A digest that it is done with: its words, or why there are none.
    Digest { job: DigestJob, by: By, words: Result<String, String>, usage: Usage },
    /// A conversation of which the device has said nothing, and why.
    Talk { job: TalkJob, why: String },
}

/// The way back to the desk, from whatever thread.
#[derive(Clone)]
pub(super) struct Back {
    returned: mpsc::Sender<Returned>,
    jobs: Jobs<Job>,
}

impl Back {
    /// A way to whoever waits for `jobs`, and what comes along it.
    pub(super) fn new(jobs: Jobs<Job>) -> (Back, mpsc::Receiver<Returned>) {
        let (sender, returned) = mpsc::channel();
        (Back { returned: sender, jobs }, returned)
    }

    /// Should the desk be gone, nobody waits for it.
    pub(super) fn send(&self, returned: Returned) {
        let _ = self.returned.send(returned);
        self.jobs.nudge();
    }
}

/// Which of the bigger models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum By {
    /// The device's, with its name.
    Device(Arc<str>),
    /// The CPU's.
    Cpu,
}

/// Hears a bigger model out and sends what it has said to the desk, with the job from `slot`.
pub(super) fn returning(slot: Arc<Mutex<Option<DigestJob>>>, by: By, to_desk: Back) -> Listener {
    let mut text = String::new();
    Box::new(move |said| {
        match said {
            Said::Text(piece) => text.push_str(&piece),
            Said::End { why, usage } => {
                let words = match why {
                    End::Stop => Ok(std::mem::take(&mut text)),
                    End::Length => Err("the model did not come to an end".into()),
                    End::Late => Err(Unworded::OverBudget.to_string()),
                    End::Cancelled => Err("it was cancelled".into()),
                    End::Refused(reason) | End::Failed(reason) => Err(reason),
                };
                if let Some(job) = take(&slot) {
                    to_desk.send(Returned::Digest { job, by: by.clone(), words, usage });
                }
            }
        }
        true
    })
}

/// Takes what somebody else has not taken.
pub(super) fn take(slot: &Mutex<Option<DigestJob>>) -> Option<DigestJob> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}
