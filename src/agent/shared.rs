//! What the tasks of the seat share. They run on one thread, so cells do.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::assemble::{AssembleOptions, Assembler};
use super::meter::Meter;
use super::status::{DigestBrief, DoubtBrief, LedgerRow, LineStatus, SourceBrief, SpoolBrief, Status};
use super::{AgentError, AgentOptions};
use crate::ask::Outage;
use crate::clock;
use crate::digest::{Digest, Engine};
use crate::facts::Facts;
use crate::glm::GlmHandle;
use crate::infer::InferHandle;
use crate::limits;
use crate::observe::{backends, metrics};
use crate::spool::{Payload, SpoolStatus, StoreHandle};
use crate::time::{Mono, Stamp, Wall};
use crate::wire::{ClockFix, GapReason, Lane, PerLane};

pub(super) struct Shared {
    pub options: AgentOptions,
    pub started: Mono,
    /// Topic of each lane.
    pub up_topics: PerLane<String>,
    pub store: StoreHandle,
    pub glm: GlmHandle,
    pub infer: InferHandle,
    pub assembler: RefCell<Assembler>,
    pub line: RefCell<Line>,
    pub last_digest: RefCell<Option<DigestBrief>>,
    /// Outages of this run that were reported, in order.
    pub outages: RefCell<VecDeque<Outage>>,
    /// Records that had been given up when the line was lost.
    pub evicted_before: Cell<u64>,
    digest_id: Cell<u64>,
    pub model: Cell<ModelState>,
    /// Episodes that began or ended; a digest is due when it moves.
    pub news: Cell<u64>,
    pub sources: RefCell<Vec<SourceBrief>>,
    /// The broker refuses blocks for what they are; they wait in the spool.
    pub blocks_refused: Cell<bool>,
    /// Lanes of which the broker says that nobody is subscribed to them.
    pub unheard: RefCell<Vec<Lane>>,
    /// The spool was found damaged at this start.
    pub salvaged: bool,
    /// What the line may carry today.
    pub meter: RefCell<Meter>,
    /// Where boots stand in time, as far as that is known.
    pub boots: RefCell<Vec<ClockFix>>,
}

/// The ways to the threads of models.
pub(super) struct Engines {
    pub glm: GlmHandle,
    pub infer: InferHandle,
}

/// The language model as its latest digest shows it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ModelState {
    /// First bytes of the SHA-256 of the one in use; zero before the first digest.
    pub hash_prefix: [u8; 8],
    /// The template had to do it.
    pub out: bool,
}

/// The line as the seat sees it.
pub(super) struct Line {
    pub up: bool,
    pub since: Mono,
    pub downs: u64,
    pub reason: Option<String>,
}

impl Shared {
    pub async fn new(
        options: AgentOptions,
        started: Mono,
        store: StoreHandle,
        engines: Engines,
        salvaged: bool,
    ) -> Result<Self, AgentError> {
        let books = store.status().await?.ledger;
        // Every episode and every digest of an earlier run took a number of its lane: beyond them all ids are free.
        let first_episode_id = books[Lane::Alarm.index()].admitted + 1;
        let assemble = AssembleOptions {
            first_episode_id,
            watches: super::watches(&options.infer),
            ..options.assemble.clone()
        };
        let topic = |lane: usize| format!("{}/{}/up/{}", options.prefix, options.device, Lane::ALL[lane]);
        Ok(Self {
            started,
            up_topics: std::array::from_fn(topic),
            store,
            glm: engines.glm,
            infer: engines.infer,
            assembler: RefCell::new(Assembler::new(assemble)),
            line: RefCell::new(Line { up: false, since: clock::mono(), downs: 0, reason: None }),
            last_digest: RefCell::new(None),
            outages: RefCell::default(),
            evicted_before: Cell::new(0),
            digest_id: Cell::new(books[Lane::Digest.index()].admitted + 1),
            model: Cell::default(),
            news: Cell::new(0),
            sources: RefCell::new(Vec::new()),
            blocks_refused: Cell::new(false),
            unheard: RefCell::default(),
            salvaged,
            boots: RefCell::default(),
            meter: RefCell::new(Meter::open(&options.spool_dir, options.budget.clone())),
            options,
        })
    }

    /// `<prefix>/<device>/<leaf>`.
    pub fn topic(&self, leaf: &str) -> String {
        format!("{}/{}/{leaf}", self.options.prefix, self.options.device)
    }

    pub fn content_type(&self) -> Option<&'static str> {
        matches!(self.options.spool.payload, Payload::Json { .. }).then_some("application/json")
    }

    pub fn uptime(&self) -> Duration {
        clock::mono().since(self.started)
    }

    /// What the time really was at `stamp`, as far as it is known `now`: by today's clock in this boot, by the place of an
    /// earlier one; else what its clock showed.
    pub fn time_of(&self, stamp: &Stamp, now: &Stamp) -> Wall {
        if stamp.boot == now.boot {
            return now.wall_of(stamp.mono);
        }
        let boots = self.boots.borrow();
        let placed = boots.iter().find(|fix| fix.boot == stamp.boot);
        placed.map_or(stamp.wall, |fix| Wall(fix.offset_us.saturating_add_unsigned(stamp.mono.0)))
    }

    /// Sets right what this boot stamped before its clock was set, once it is known where it stands in time.
    pub fn set_right(&self, facts: &mut Facts) {
        let boots = self.boots.borrow();
        if let Some(fix) = boots.iter().find(|fix| fix.boot == clock::boot_id()) {
            facts.map_times(|at| fix.truly(at));
        }
    }

    pub fn next_digest_id(&self) -> u64 {
        self.digest_id.replace(self.digest_id.get() + 1)
    }

    pub fn line_is_up(&self) {
        let mut line = self.line.borrow_mut();
        *line = Line { up: true, since: clock::mono(), downs: line.downs, reason: line.reason.take() };
    }

    /// Takes note of a failed attempt or a lost line; true if it was up before.
    pub fn line_is_down(&self, reason: String) -> bool {
        let mut line = self.line.borrow_mut();
        let was_up = line.up;
        if was_up {
            line.since = clock::mono();
            line.downs += 1;
        }
        line.up = false;
        line.reason = Some(reason);
        was_up
    }

    /// Records given up so far in this epoch.
    pub async fn evicted(&self) -> Result<u64, AgentError> {
        Ok(evicted(&self.store.status().await?))
    }

    /// Remembers an outage that is over.
    pub fn keep_outage(&self, outage: Outage) {
        let mut outages = self.outages.borrow_mut();
        if outages.len() == limits::ASK_OUTAGES_MAX {
            outages.pop_front();
        }
        outages.push_back(outage);
    }

    pub fn keep_brief(&self, digest: &Digest) {
        let mut model = self.model.get();
        model.out = digest.engine == Engine::Template && self.options.glm.enabled;
        if let Ok(hash) = u64::from_str_radix(&digest.model, 16) {
            model.hash_prefix = hash.to_be_bytes();
        }
        self.model.set(model);
        *self.last_digest.borrow_mut() = Some(DigestBrief {
            engine: digest.engine,
            verdict: digest.verdict,
            cause: digest.cause.clone(),
            text: digest.text.clone(),
            fallback_reason: digest.fallback_reason.clone(),
            stage_us: [digest.timing.encode_us, digest.timing.prefill_us, digest.timing.decode_us],
        });
    }

    /// Takes note of a source that runs now, in the place of an earlier one of its name.
    pub fn set_source(&self, brief: SourceBrief) {
        let mut sources = self.sources.borrow_mut();
        match sources.iter_mut().find(|known| known.name == brief.name) {
            Some(known) => *known = brief,
            None => sources.push(brief),
        }
    }

    /// A source is gone for good.
    pub fn forget_source(&self, name: &str) {
        self.sources.borrow_mut().retain(|known| known.name != name);
    }

    pub fn set_source_state(&self, name: &str, state: &str) {
        if let Some(source) = self.sources.borrow_mut().iter_mut().find(|source| source.name == name) {
            source.state = state.to_owned();
        }
    }

    /// Everything at once, for the page.
    pub async fn status(self: &Rc<Self>) -> Result<Status, AgentError> {
        let spool = self.store.status().await?;
        let now = clock::stamp();
        let line = self.line.borrow();
        Ok(Status {
            device: self.options.device.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_s: self.uptime().as_secs(),
            clock: now.state.name().into(),
            line: LineStatus {
                up: line.up,
                since_s: now.mono.since(line.since).as_secs(),
                downs: line.downs,
                reason: line.reason.clone(),
                unheard: self.unheard.borrow().iter().map(|lane| lane.name().to_owned()).collect(),
            },
            meter: self.meter.borrow().brief(),
            readings: metrics::READINGS.value(),
            sensed_bytes: metrics::SENSED_BYTES.value(),
            sent_bytes: metrics::LINK_BYTES_BLOCKS.value(),
            session_bytes: metrics::LINK_BYTES_OTHER.value(),
            malformed: metrics::MALFORMED.value(),
            windows: metrics::WINDOWS.value(),
            episodes_open: self.assembler.borrow().episodes_open(),
            digests_glm: metrics::DIGESTS_GLM.value(),
            digests_template: metrics::DIGESTS_TEMPLATE.value(),
            last_digest: self.last_digest.borrow().clone(),
            spool: SpoolBrief {
                pending_records: spool.ledger.iter().map(|lane| lane.pending).sum(),
                pending_bytes: spool.bytes,
                oldest_age_s: oldest_age_s(&spool, now.wall),
                error: spool.last_error.clone(),
                dead_letters: spool.dead_letters,
            },
            ledger: ledger(&spool, self.options.spool.lane_bytes_max),
            sources: self.sources.borrow().clone(),
            doubtful: doubtful(&self.assembler.borrow()),
            backends: backends::all(),
        })
    }
}

fn doubtful(assembler: &Assembler) -> Vec<DoubtBrief> {
    let doubts = assembler.doubtful().take(limits::STATUS_DOUBTS_MAX);
    doubts
        .map(|(info, quality, why)| DoubtBrief {
            channel: info.id.to_string(),
            quality: quality.name().into(),
            missing: why.map(|why| why.name().into()),
        })
        .collect()
}

pub(super) fn evicted(spool: &SpoolStatus) -> u64 {
    spool.ledger.iter().map(|lane| lane.evicted_total()).sum()
}

/// Records that the spool lost to damage of its medium.
pub(super) fn corrupt(spool: &SpoolStatus) -> u64 {
    spool.ledger.iter().map(|books| books.evicted[GapReason::Corrupt as usize]).sum()
}

/// Records that the spool, or its disk, had no room for.
pub(super) fn crowded_out(spool: &SpoolStatus) -> u64 {
    let room = [GapReason::Quota, GapReason::DiskFull, GapReason::Thinned];
    spool.ledger.iter().flat_map(|books| room.map(|reason| books.evicted[reason as usize])).sum()
}

/// Alarms that the spool had no room for.
pub(super) fn alarms_refused(spool: &SpoolStatus) -> u64 {
    let alarms = &spool.ledger[Lane::Alarm.index()];
    alarms.evicted[GapReason::Quota as usize] + alarms.evicted[GapReason::DiskFull as usize]
}

/// Age of the oldest pending block in seconds; 0 for one sealed in the future by a clock that was set back, and for one
/// sealed in 1970 once the time is known: nobody takes a gateway to be half a century behind.
pub(super) fn oldest_age_s(spool: &SpoolStatus, now: Wall) -> Option<u64> {
    let same_clock =
        |sealed: Wall| (sealed < limits::WALL_PLAUSIBLE_MIN) == (now < limits::WALL_PLAUSIBLE_MIN);
    let age = |sealed: Wall| if same_clock(sealed) { now.micros_since(sealed) / 1_000_000 } else { 0 };
    spool.oldest.map(|sealed| u64::try_from(age(sealed)).unwrap_or(0))
}

fn ledger(spool: &SpoolStatus, bytes_max: PerLane<Option<u64>>) -> Vec<LedgerRow> {
    let row = |&lane: &Lane| LedgerRow {
        bytes_max: bytes_max[lane.index()],
        ..LedgerRow::of(lane, &spool.ledger[lane.index()])
    };
    Lane::ALL.iter().map(row).collect()
}
