//! What a log source keeps on disk: its templates, and where it reads each file, or the journal, on.
//!
//! Both are written when the spool has committed what came of them, see [`Keeper::promise`]. Templates change rarely and
//! take up to a megabyte, so they have a file of their own.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use smol::channel::{Receiver, TryRecvError};

use super::LogsOptions;
use super::files::Places;
use crate::facts::Citation;
use crate::files::replace_file;
use crate::limits;
use crate::observe::{emit, sensor as events};
use crate::sensor::outlet::Receipt;
use crate::templates::Memory;

/// What is there at a start.
#[derive(Default)]
pub(super) struct Kept {
    pub tally: Memory,
    /// None if nothing was ever read.
    pub places: Option<Places>,
    /// The journal's name for the entry that was read last.
    pub cursor: Option<String>,
}

/// Writes down what was promised.
pub(super) struct Keeper {
    source: Arc<str>,
    dir: Option<PathBuf>,
    /// What waits for its commit, in order: with windows of a quarter of an hour, one for each count of that time.
    pending: VecDeque<Pending>,
}

struct Pending {
    committed: Receiver<Vec<Citation>>,
    reached: Option<Reached>,
    tally: Option<Memory>,
}

/// How far a source has read.
pub(super) enum Reached {
    Files(Places),
    Journal(String),
}

impl Keeper {
    /// Reads what an earlier run has kept; what can't be read counts as nothing, with an event.
    pub fn open(options: &LogsOptions, source: &Arc<str>) -> (Self, Kept) {
        let keeper =
            Self { source: Arc::clone(source), dir: options.state_dir.clone(), pending: VecDeque::new() };
        let Some(dir) = &keeper.dir else { return (keeper, Kept::default()) };
        if let Err(error) = fs::create_dir_all(dir) {
            emit(&events::LogMemoryFailed { source, path: dir, error: &error });
        }
        let kept = Kept {
            tally: keeper.read(&keeper.file(dir, TEMPLATES)).unwrap_or_default(),
            places: keeper.read(&keeper.file(dir, PLACES)),
            cursor: keeper.read(&keeper.file(dir, CURSOR)),
        };
        (keeper, kept)
    }

    /// Writes down where reading begins, at the first look ever: what is said from then on is not before it.
    pub fn begin(&self, places: Places) {
        self.write(None, Some(&Reached::Files(places)));
    }

    /// To go along with the counts of a window: when the answer comes, this is written down. Of too many that wait every second
    /// one goes, for which the next stands in: the oldest stays, or windows that are long would never see one answered.
    pub fn promise(&mut self, reached: Option<Reached>, tally: Option<Memory>) -> Receipt {
        self.look();
        let (receipt, committed) = smol::channel::bounded(1);
        self.pending.push_back(Pending { committed, reached, tally });
        if self.pending.len() > limits::LOG_PROMISES_MAX {
            self.thin();
        }
        receipt
    }

    /// Writes down what has been committed by now.
    pub fn look(&mut self) {
        let mut committed = None;
        while let Some(answer) = self.pending.front().map(|first| first.committed.try_recv()) {
            match answer {
                Ok(_) => committed = self.pending.pop_front().map(|first| first.after(committed)),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Closed) => self.pass_on(),
            }
        }
        committed.iter().for_each(|pending| self.keep(pending));
    }

    /// The first will never be answered.
    fn pass_on(&mut self) {
        let first = self.pending.pop_front();
        if let Some(next) = self.pending.pop_front() {
            self.pending.push_front(next.after(first));
        }
    }

    fn thin(&mut self) {
        let mut before = None;
        for (place, pending) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            match place % 2 {
                0 => self.pending.push_back(pending.after(before.take())),
                _ => before = Some(pending),
            }
        }
        self.pending.extend(before);
    }

    fn keep(&self, pending: &Pending) {
        self.write(pending.tally.as_ref(), pending.reached.as_ref());
    }

    fn write(&self, tally: Option<&Memory>, reached: Option<&Reached>) {
        let Some(dir) = &self.dir else { return };
        if let Some(tally) = tally {
            self.put(&self.file(dir, TEMPLATES), tally);
        }
        match reached {
            Some(Reached::Files(places)) => self.put(&self.file(dir, PLACES), places),
            Some(Reached::Journal(cursor)) => self.put(&self.file(dir, CURSOR), cursor),
            None => {}
        }
    }

    fn put(&self, path: &Path, content: &impl Serialize) {
        let written = serde_json::to_vec(content).map_err(std::io::Error::from);
        if let Err(error) = written.and_then(|bytes| replace_file(path, &bytes)) {
            emit(&events::LogMemoryFailed { source: &self.source, path, error: &error });
        }
    }

    fn read<T: DeserializeOwned>(&self, path: &Path) -> Option<T> {
        let bytes = fs::read(path).ok()?;
        match serde_json::from_slice(&bytes) {
            Ok(content) => Some(content),
            Err(error) => {
                emit(&events::LogMemoryFailed { source: &self.source, path, error: &error.into() });
                None
            }
        }
    }

    fn file(&self, dir: &Path, what: &str) -> PathBuf {
        dir.join(format!("{}.{what}", self.source.replace('/', "_")))
    }
}

impl Pending {
    /// Says all that `before` would have said: places go further, templates may be those of before.
    fn after(mut self, before: Option<Pending>) -> Self {
        self.tally = self.tally.take().or(before.and_then(|before| before.tally));
        self
    }
}

impl Drop for Keeper {
    /// The last window is on its way to the disk when a source is stopped: it is waited for, so that none of its lines is
    /// counted twice.
    fn drop(&mut self) {
        let Some(last) = self.pending.pop_back() else { return };
        let late = async {
            smol::Timer::after(PATIENCE).await;
            false
        };
        let committed = async { last.committed.recv().await.is_ok() };
        let committed = smol::block_on(smol::future::or(committed, late));
        self.look();
        if committed {
            self.keep(&last);
        }
    }
}

/// How long a stop waits for the last commit.
const PATIENCE: Duration = Duration::from_secs(2);
const TEMPLATES: &str = "templates.json";
const PLACES: &str = "places.json";
const CURSOR: &str = "cursor.json";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::logs::LogInput;

    /// Summaries of a quarter of an hour answer all counts that went into them at once: the newest promise once stood in the
    /// place of every earlier one, so that none was ever kept.
    #[test]
    fn what_is_durable_is_kept_while_later_counts_wait() {
        let dir = tempfile::tempdir().unwrap();
        let options = LogsOptions {
            input: LogInput::Files(Vec::new()),
            every: Duration::from_secs(1),
            learn: Duration::ZERO,
            state_dir: Some(dir.path().to_owned()),
        };
        let source: Arc<str> = "app".into();
        let places = |n: usize| Some(Places::from([(PathBuf::from(n.to_string()), None)]));
        let reached = |n: usize| places(n).map(Reached::Files);
        let kept = || Keeper::open(&options, &source).1.places;
        let (mut keeper, _) = Keeper::open(&options, &source);
        let receipts: Vec<Receipt> = (0..4).map(|n| keeper.promise(reached(n), None)).collect();
        keeper.look();
        assert_eq!(kept(), None, "nothing is durable yet");
        receipts[..2].iter().for_each(|receipt| receipt.try_send(Vec::new()).unwrap());
        keeper.look();
        assert_eq!(kept(), places(1));
        receipts[2].try_send(Vec::new()).unwrap();
        drop(receipts);
        drop(keeper);
        assert_eq!(kept(), places(2), "the last was never committed");

        let (mut keeper, _) = Keeper::open(&options, &source);
        let receipts: Vec<Receipt> =
            (0..limits::LOG_PROMISES_MAX + 9).map(|n| keeper.promise(reached(n), None)).collect();
        assert!(keeper.pending.len() <= limits::LOG_PROMISES_MAX);
        let waiting = receipts.iter().filter(|receipt| !receipt.is_closed()).count();
        assert_eq!((waiting, receipts[0].is_closed()), (keeper.pending.len(), false), "the oldest stays");
        receipts[0].try_send(Vec::new()).unwrap();
        keeper.look();
        assert_eq!(kept(), places(0));
    }
}
