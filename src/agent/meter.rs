//! The line's meter: it counts what goes over the line, keeps the day's count over a restart and says what may go.
//!
//! The count is written once a minute and at the end. A crash forgets less than a minute of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::files::replace_file;
use crate::observe::{self, agent as events, metrics};
use crate::sync::budget::{Budget, BudgetOptions, Fidelity, Used};
use crate::time::{Mono, Wall};
use crate::wire::{Lane, Notice, PerLane, Record};

/// The meter of one line.
pub(super) struct Meter {
    budget: Budget,
    file: PathBuf,
    written: (Mono, Used),
    /// Of [`metrics::LINK_BYTES_OTHER`], what is in the budget's books.
    other_seen: u64,
}

/// The meter for the page.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MeterBrief {
    /// Bytes per day of UTC, TLS included; none without a budget.
    pub bytes_per_day: Option<u64>,
    /// Bytes of today.
    pub used_bytes: u64,
    /// `raw`, `metrics` or `digests`: the finest that is sent.
    pub fidelity: String,
}

impl Meter {
    /// Goes on where the file in `spool_dir` ends; from 0 where it is missing or damaged.
    pub fn open(spool_dir: &Path, options: BudgetOptions) -> Self {
        let file = spool_dir.join(FILE);
        let known = fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let used: Used = known.unwrap_or_default();
        metrics::UPLINK_BUDGET_BYTES.set(options.bytes_per_day.unwrap_or(0));
        let budget = Budget::new(options).resumed(used);
        Self { budget, file, written: (clock::mono(), used), other_seen: metrics::LINK_BYTES_OTHER.value() }
    }

    /// What each lane may send now, in bytes, and what there is to tell when the fidelity has changed.
    pub fn look(&mut self, now: Wall) -> (PerLane<u64>, Option<Record>) {
        let other = metrics::LINK_BYTES_OTHER.value();
        self.budget.sent(now, None, other - std::mem::replace(&mut self.other_seen, other));
        let before = self.budget.fidelity();
        let allowance = self.budget.allowance(now);
        let fidelity = self.budget.fidelity();
        metrics::UPLINK_USED_BYTES.set(self.budget.used().total());
        metrics::UPLINK_FIDELITY.set(fidelity as u64);
        (allowance, (before != fidelity).then(|| self.tell(now)))
    }

    /// Which lanes the budget lets go at all.
    pub fn may_go(&mut self, now: Wall) -> PerLane<bool> {
        self.budget.allowance(now).map(|bytes| bytes > 0)
    }

    /// A block of `lane` goes out.
    pub fn sent(&mut self, now: Wall, lane: Lane, bytes: u64) {
        self.budget.sent(now, Some(lane), bytes);
    }

    /// When to look again though nothing happens: a window may open, a day begin.
    pub fn look_every(&self) -> Option<Duration> {
        (!self.budget.options().is_unbounded()).then_some(LOOK_EVERY)
    }

    /// What writes the count, if that is due; it blocks for the medium's sync.
    pub fn save_if_due(&mut self, due: bool) -> Option<impl FnOnce() + Send + 'static> {
        let (at, written) = self.written;
        let used = self.budget.used();
        let unsaved = self.budget.options().bytes_per_day.is_some() && written != used;
        if !unsaved || !(due || clock::mono().since(at) >= WRITE_EVERY) {
            return None;
        }
        self.written = (clock::mono(), used);
        let file = self.file.clone();
        Some(move || {
            let bytes = serde_json::to_vec(&used).map_err(Into::into);
            if let Err(reason) = bytes.and_then(|bytes| replace_file(&file, &bytes)) {
                observe::emit(&events::MeterNotKept { reason: &reason });
            }
        })
    }

    /// For the page.
    pub fn brief(&self) -> MeterBrief {
        MeterBrief {
            bytes_per_day: self.budget.options().bytes_per_day,
            used_bytes: self.budget.used().total(),
            fidelity: self.budget.fidelity().name().into(),
        }
    }

    /// Whether less than everything is sent.
    pub fn is_short(&self) -> bool {
        self.budget.fidelity() > Fidelity::Raw
    }

    fn tell(&self, now: Wall) -> Record {
        let brief = self.brief();
        observe::emit(&events::FidelityChanged {
            fidelity: self.budget.fidelity().name(),
            used_bytes: brief.used_bytes,
            bytes_per_day: brief.bytes_per_day.unwrap_or(0),
        });
        let budget = brief.bytes_per_day.unwrap_or(0) >> 10;
        let used = brief.used_bytes >> 10;
        let what = match self.budget.fidelity() {
            Fidelity::Raw => "Sends everything again",
            Fidelity::Metrics => "Sends no single readings until there is slack or 00:00 UTC",
            Fidelity::Digests => "Sends only digests and alarms until there is slack or 00:00 UTC",
        };
        let text = format!("{what}: {used} of today's {budget} KiB are used. What waits is kept.");
        Record::Notice(Notice { code: "uplink_fidelity".into(), text, at: now })
    }
}

const FILE: &str = "uplink-day";
const LOOK_EVERY: Duration = Duration::from_secs(10);
const WRITE_EVERY: Duration = Duration::from_secs(60);
