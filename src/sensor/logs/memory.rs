//! What a log source keeps on disk: its templates, and where it reads each file on.
//!
//! Both are written when the spool has committed what came of them, see [`Keeper::promise`]. Templates change rarely and
//! take up to a megabyte, so they have a file of their own.

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
use crate::observe::{emit, sensor as events};
use crate::sensor::outlet::Receipt;
use crate::templates::Memory;

/// What is there at a start.
#[derive(Default)]
pub(super) struct Kept {
    pub tally: Memory,
    /// None if nothing was ever read.
    pub places: Option<Places>,
}

/// Writes down what was promised.
pub(super) struct Keeper {
    source: Arc<str>,
    dir: Option<PathBuf>,
    /// What waits for its commit.
    pending: Option<Pending>,
}

struct Pending {
    committed: Receiver<Vec<Citation>>,
    places: Option<Places>,
    tally: Option<Memory>,
}

impl Keeper {
    /// Reads what an earlier run has kept; what can't be read counts as nothing, with an event.
    pub fn open(options: &LogsOptions, source: &Arc<str>) -> (Self, Kept) {
        let keeper = Self { source: Arc::clone(source), dir: options.state_dir.clone(), pending: None };
        let Some(dir) = &keeper.dir else { return (keeper, Kept::default()) };
        if let Err(error) = fs::create_dir_all(dir) {
            emit(&events::LogMemoryFailed { source, path: dir, error: &error });
        }
        let kept = Kept {
            tally: keeper.read(&keeper.file(dir, TEMPLATES)).unwrap_or_default(),
            places: keeper.read(&keeper.file(dir, PLACES)),
        };
        (keeper, kept)
    }

    /// To go along with the counts of a window: when the answer comes, this is written down. What an earlier call has
    /// promised and nobody answered yet is part of it.
    pub fn promise(&mut self, places: Option<Places>, tally: Option<Memory>) -> Receipt {
        self.look();
        let earlier = self.pending.take().and_then(|pending| pending.tally);
        let (receipt, committed) = smol::channel::bounded(1);
        self.pending = Some(Pending { committed, places, tally: tally.or(earlier) });
        receipt
    }

    /// Writes down what has been committed by now.
    pub fn look(&mut self) {
        let Some(pending) = self.pending.take() else { return };
        match pending.committed.try_recv() {
            Ok(_) => self.write(&pending),
            Err(TryRecvError::Empty) => self.pending = Some(pending),
            // The pipeline ended without a commit.
            Err(TryRecvError::Closed) => {}
        }
    }

    fn write(&self, pending: &Pending) {
        let Some(dir) = &self.dir else { return };
        if let Some(tally) = &pending.tally {
            self.put(&self.file(dir, TEMPLATES), tally);
        }
        if let Some(places) = &pending.places {
            self.put(&self.file(dir, PLACES), places);
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

impl Drop for Keeper {
    /// The last window is on its way to the disk when a source is stopped: it is waited for, so that none of its lines is
    /// counted twice.
    fn drop(&mut self) {
        let Some(pending) = self.pending.take() else { return };
        let late = async {
            smol::Timer::after(PATIENCE).await;
            None
        };
        let committed = async { pending.committed.recv().await.ok() };
        if smol::block_on(smol::future::or(committed, late)).is_some() {
            self.write(&pending);
        }
    }
}

/// How long a stop waits for the last commit.
const PATIENCE: Duration = Duration::from_secs(2);
const TEMPLATES: &str = "templates.json";
const PLACES: &str = "places.json";
