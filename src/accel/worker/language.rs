//! The agent's side of a language runtime: one process with one model, begun and ended by whoever has it.

use std::sync::Arc;
use std::time::Duration;

use super::WorkerOptions;
use super::live::Live;
use super::process::shared_memory;
use crate::accel::{Placement, Refused, Stage, Telling, Told};
use crate::limits;

/// How long pieces of an answer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The first one: the whole prompt is read for it.
    pub first: Duration,
    /// Each further one, and the end.
    pub next: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(limits::LANGUAGE_FIRST_MS_MAX),
            next: Duration::from_millis(limits::LANGUAGE_PIECE_MS_MAX),
        }
    }
}

/// A language model that a vendor's runtime has loaded, in a process of its own until this is dropped.
#[derive(Debug)]
pub struct Language {
    live: Live,
    placement: Placement,
}

impl Language {
    /// Begins the process and loads the model that `options` name. Blocks for [`limits::LANGUAGE_LOAD_MS_MAX`] at most. Errors:
    /// with the stage and the reason; among others that the device runs nothing of it. Nothing stays behind.
    pub fn begin(options: &WorkerOptions) -> Result<Self, Refused> {
        let shared = shared_memory(&options.name)?;
        let mut live = Live::begin(&Arc::new(options.clone()), &Arc::new(shared))?;
        let placement = live.placement()?;
        if placement.claimed == 0 {
            let reason = format!("it takes none of the model's {} layers", placement.total);
            return Err(Refused::new(&options.name, Stage::Claim, reason));
        }
        Ok(Self { live, placement })
    }

    /// How many of its layers the device runs.
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// Lets it answer; `listen` is given each piece, which may end within a character, and says whether it wants another one.
    /// Blocks for as long as that takes, for a piece no longer than `patience` says. Errors: the runtime failed or did not answer.
    pub fn tell(
        &mut self,
        telling: &Telling,
        patience: Patience,
        listen: impl FnMut(&[u8]) -> bool,
    ) -> Result<Told, Refused> {
        self.live.tell(telling, patience, listen)
    }

    /// Whether its process is no more.
    pub fn is_gone(&self) -> bool {
        self.live.is_gone()
    }
}
