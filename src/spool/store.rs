//! The thread `store`: owns the spool, its database and every fsync; the rest of the agent holds a handle.
//!
//! Requests go through one bounded channel; a full channel makes the sender wait, which is the back-pressure of the
//! whole pipeline. A commit begins when the interval is over, when about [`limits::SPOOL_COMMIT_BYTES`] are collected, or at
//! once when an alarm comes or somebody waits for durability. What lies in the channel by then joins it, that is what came
//! while the commit before ran: at most [`limits::SPOOL_REQUESTS_MAX`] requests, and no further one once
//! [`limits::SPOOL_OPEN_RECORDS`] or [`limits::SPOOL_OPEN_BYTES`] are together. After a refused commit the next attempt comes
//! with the next tick.
//!
//! When the disk is full, a reserve is given up to write in, and the oldest database with it, but for its alarms; this goes
//! on until there is a reserve again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use smol::channel::{Receiver, Sender, bounded};

use crate::clock;
use crate::facts::Citation;
use crate::limits;
use crate::observe::{self, spool as events};
use crate::time::{Mono, Wall};
use crate::wire::{Lane, PerLane, Record};

use super::Options;
use super::dead;
use super::journal::JournalError;
use super::meta::LaneLedger;
use super::open::{DiskSpool, OpenError, OpenReport, open_dir};
use super::queue::StoredBlock;
use super::reserve::{Reserve, free_bytes};

/// The other end of the thread `store`. Cloning is cheap; when the last clone goes, the thread commits and ends.
#[derive(Clone)]
pub struct StoreHandle {
    requests: Sender<Request>,
}

/// News of the last commit; of several unread ones only the newest is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// Per lane the first number that is not released yet; `next` when nothing waits.
    pub oldest: PerLane<u64>,
    /// Per lane the number that the next promised record will get.
    pub next: PerLane<u64>,
}

/// The spool's state, for the status page and the heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolStatus {
    /// The epoch of all numbers.
    pub epoch: u64,
    /// The books per lane.
    pub ledger: PerLane<LaneLedger>,
    /// Where each lane begins and ends.
    pub tail: Tail,
    /// Bytes of blocks and gaps.
    pub bytes: u64,
    /// Bytes that the database takes.
    pub bytes_on_disk: u64,
    /// When the oldest pending block was sealed.
    pub oldest: Option<Wall>,
    /// Why the last commit failed, while none has succeeded since.
    pub last_error: Option<String>,
    /// Blocks that the far side will not take, in files of their own.
    pub dead_letters: usize,
}

/// A request could not be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The thread has ended: the agent is shutting down.
    #[error("the store has been closed")]
    Gone,
    /// The disk's fault; try again later.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A running store: the way to it, where each lane ends after every commit, and how opening went.
pub type Started = (StoreHandle, Receiver<Tail>, OpenReport);

/// Opens the spool in `dir` (blocks, see [`open_dir`]) and starts its thread.
pub fn start(dir: &Path, options: Options) -> Result<Started, OpenError> {
    let (spool, report) = open_dir(dir, options.clone(), clock::stamp())?;
    let (requests, inbox) = bounded(limits::SPOOL_REQUESTS_MAX);
    let (tail, tails) = bounded(1);
    let store = Store {
        spool,
        inbox,
        tail,
        reserve: Reserve::new(dir),
        full: None,
        dir: dir.to_owned(),
        options,
        waiting: Vec::new(),
        last_error: None,
        is_refused: false,
        deadline: None,
        joining: None,
        disk_checked: None,
        disk_low: false,
        evicting: false,
    };
    let thread = std::thread::Builder::new().name("store".into()).spawn(move || store.run());
    thread.map_err(|error| OpenError::Directory { dir: dir.to_owned(), error })?;
    Ok((StoreHandle { requests }, tails, report))
}

impl StoreHandle {
    /// Hands `records` over; they are promised within about one commit interval. Waits while the store is behind.
    pub async fn admit(&self, records: Vec<Record>) -> Result<(), StoreError> {
        self.send(Request::Admit { records, numbered: None, durable: None }).await
    }

    /// Like [`Self::admit`], and tells the numbers given, one range per lane, before they are durable.
    ///
    /// What cites them should be admitted later: it is then committed in the same commit or a later one.
    pub async fn admit_numbered(&self, records: Vec<Record>) -> Result<Vec<Citation>, StoreError> {
        self.ask(|reply| Request::Admit { records, numbered: Some(reply), durable: None }).await
    }

    /// Hands `records` over, commits at once and returns the numbers when they are durable.
    ///
    /// Waits for as long as the disk refuses.
    pub async fn admit_durable(&self, records: Vec<Record>) -> Result<Vec<Citation>, StoreError> {
        self.ask(|reply| Request::Admit { records, numbered: None, durable: Some(reply) }).await
    }

    /// Commits at once and answers `reply` when everything admitted so far is durable; does not wait for it.
    pub async fn tell_when_durable(&self, reply: Sender<Vec<Citation>>) -> Result<(), StoreError> {
        self.send(Request::Admit { records: Vec::new(), numbered: None, durable: Some(reply) }).await
    }

    /// The first promised block of `lane` whose last record is `from` or later; see [`Spool::fetch`](super::Spool::fetch).
    pub async fn fetch(&self, lane: Lane, from: u64) -> Result<Option<StoredBlock>, StoreError> {
        Ok(self.ask(|reply| Request::Fetch { lane, from, reply }).await??)
    }

    /// Up to `blocks_max` blocks in a row, the first as [`Self::fetch`] gives it: one way to the thread for all of them.
    pub async fn fetch_run(
        &self,
        lane: Lane,
        from: u64,
        blocks_max: usize,
    ) -> Result<Vec<StoredBlock>, StoreError> {
        Ok(self.ask(|reply| Request::FetchRun { lane, from, blocks_max, reply }).await??)
    }

    /// Up to `blocks_max` blocks in a row for a mere look; see [`Spool::peek`](super::Spool::peek).
    pub async fn peek_run(
        &self,
        lane: Lane,
        from: u64,
        blocks_max: usize,
    ) -> Result<Vec<StoredBlock>, StoreError> {
        Ok(self.ask(|reply| Request::PeekRun { lane, from, blocks_max, reply }).await??)
    }

    /// The far side has everything up to `through` and the ranges in `also`; see [`Spool::release`](super::Spool::release).
    pub async fn release(&self, lane: Lane, through: u64, also: Vec<(u64, u64)>) -> Result<(), StoreError> {
        self.send(Request::Release { lane, through, also }).await
    }

    /// The far side refuses the block that begins at `first` for good, with reason `code` (MQTT 5): it becomes a dead
    /// letter and a gap stands in for it; see [`Spool::refuse`](super::Spool::refuse).
    pub async fn refuse(&self, lane: Lane, first: u64, code: u8) -> Result<(), StoreError> {
        self.send(Request::Refuse { lane, first, code }).await
    }

    /// How things stand.
    pub async fn status(&self) -> Result<SpoolStatus, StoreError> {
        self.ask(|reply| Request::Status { reply }).await
    }

    /// Commits what is there and closes the database; it is free when this returns. Later requests find it gone.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.ask(|reply| Request::Close { reply }).await
    }

    async fn send(&self, request: Request) -> Result<(), StoreError> {
        self.requests.send(request).await.map_err(|_| StoreError::Gone)
    }

    async fn ask<T>(&self, request: impl FnOnce(Sender<T>) -> Request) -> Result<T, StoreError> {
        let (reply, answer) = bounded(1);
        self.send(request(reply)).await?;
        answer.recv().await.map_err(|_| StoreError::Gone)
    }
}

enum Request {
    Admit {
        records: Vec<Record>,
        numbered: Option<Sender<Vec<Citation>>>,
        durable: Option<Sender<Vec<Citation>>>,
    },
    Fetch {
        lane: Lane,
        from: u64,
        reply: Sender<Result<Option<StoredBlock>, JournalError>>,
    },
    FetchRun {
        lane: Lane,
        from: u64,
        blocks_max: usize,
        reply: Sender<Result<Vec<StoredBlock>, JournalError>>,
    },
    PeekRun {
        lane: Lane,
        from: u64,
        blocks_max: usize,
        reply: Sender<Result<Vec<StoredBlock>, JournalError>>,
    },
    Release {
        lane: Lane,
        through: u64,
        also: Vec<(u64, u64)>,
    },
    Refuse {
        lane: Lane,
        first: u64,
        code: u8,
    },
    Status {
        reply: Sender<SpoolStatus>,
    },
    Close {
        reply: Sender<()>,
    },
}

struct Store {
    spool: DiskSpool,
    inbox: Receiver<Request>,
    tail: Sender<Tail>,
    dir: PathBuf,
    options: Options,
    reserve: Reserve,
    /// Records given up since the disk is full, while it is.
    full: Option<u64>,
    /// Those who wait for their numbers to be durable.
    waiting: Vec<(Vec<Citation>, Sender<Vec<Citation>>)>,
    last_error: Option<String>,
    /// The disk has refused the last commit; it is asked again with the next tick.
    is_refused: bool,
    /// When the next commit is due; `None` while there is nothing to commit.
    deadline: Option<Mono>,
    /// Requests that still join the commit that is due before; `None` while none is.
    joining: Option<usize>,
    disk_checked: Option<Mono>,
    disk_low: bool,
    evicting: bool,
}

/// What became of waiting for a request.
enum Next {
    Got(Request),
    Due,
    Gone,
}

impl Store {
    fn run(mut self) {
        self.reserve.fill();
        loop {
            match self.next() {
                Next::Got(Request::Close { reply }) => {
                    self.last_commit();
                    // The database closes, and only then is the reply given.
                    drop(self);
                    let _ = reply.try_send(());
                    return;
                }
                Next::Got(request) => {
                    self.joining = self.joining.map(|more| more.saturating_sub(1));
                    self.serve(request);
                }
                Next::Due => self.commit(),
                Next::Gone => return self.last_commit(),
            }
            if self.spool.open_bytes() >= limits::SPOOL_COMMIT_BYTES && !self.is_refused {
                self.call_commit();
            }
            let is_crowded = self.spool.is_crowded() && !self.is_refused;
            if self.joining.is_some_and(|more| more == 0 || is_crowded) {
                self.commit();
            }
            if self.deadline.is_none() && self.spool.is_dirty() {
                self.deadline = Some(clock::mono() + self.options.commit_interval);
            }
        }
    }

    fn next(&self) -> Next {
        let got = |request: Result<Request, _>| request.map_or(Next::Gone, Next::Got);
        let Some(deadline) = self.deadline else { return got(self.inbox.recv_blocking()) };
        let left = deadline.since(clock::mono());
        if left.is_zero() {
            return Next::Due;
        }
        if let Ok(request) = self.inbox.try_recv() {
            return Next::Got(request);
        }
        smol::block_on(smol::future::or(async { got(self.inbox.recv().await) }, async {
            smol::Timer::after(left).await;
            Next::Due
        }))
    }

    fn serve(&mut self, request: Request) {
        // A caller that no longer waits for its answer is no error: hence the unused results.
        match request {
            Request::Admit { records, numbered, durable } => {
                let ranges = self.spool.admit(records);
                let is_alarm = ranges.iter().any(|range| range.lane == Lane::Alarm);
                if durable.is_some() || is_alarm && !self.is_refused {
                    self.call_commit();
                }
                if let Some(reply) = numbered {
                    let _ = reply.try_send(ranges.clone());
                }
                if let Some(reply) = durable {
                    self.waiting.push((ranges, reply));
                }
            }
            Request::Fetch { lane, from, reply } => {
                let _ = reply.try_send(self.spool.fetch(lane, from, clock::stamp()));
            }
            Request::FetchRun { lane, from, blocks_max, reply } => {
                let spool = &mut self.spool;
                let _ = reply.try_send(run(from, blocks_max, spool.durable_through(lane), |next| {
                    spool.fetch(lane, next, clock::stamp())
                }));
            }
            Request::PeekRun { lane, from, blocks_max, reply } => {
                let spool = &self.spool;
                let last = spool.durable_through(lane);
                let _ = reply.try_send(run(from, blocks_max, last, |next| spool.peek(lane, next)));
            }
            Request::Release { lane, through, also } => {
                // Success says nothing of the disk: it is written with the next commit.
                if let Err(error) = self.spool.release(lane, through, &also) {
                    self.note(Err(error));
                }
            }
            Request::Refuse { lane, first, code } => {
                let outcome = self.bury(lane, first, code);
                self.note(outcome);
            }
            Request::Status { reply } => {
                let _ = reply.try_send(self.status());
            }
            // Handled by the loop, which ends with it.
            Request::Close { .. } => {}
        }
    }

    /// Makes a dead letter of a block. Where that fails the block stays, and is refused again in the next session.
    fn bury(&mut self, lane: Lane, first: u64, code: u8) -> Result<(), JournalError> {
        let Some(block) = self.spool.peek(lane, first)?.filter(|b| b.id.first == first && !b.gap) else {
            return Ok(());
        };
        let path = dead::bury(&self.dir, self.spool.epoch(), &block, code)
            .map_err(|e| JournalError::Io(format!("keeping a refused block: {e}")))?;
        self.spool.refuse(lane, first, clock::stamp())?;
        observe::emit(&events::DeadLetter { id: block.id, code, path: &path });
        Ok(())
    }

    /// A commit is to begin as soon as what lies in the channel now has joined it.
    fn call_commit(&mut self) {
        self.joining.get_or_insert(self.inbox.len());
    }

    fn commit(&mut self) {
        self.check_disk();
        (self.deadline, self.joining) = (None, None);
        let outcome = self.spool.commit(clock::stamp());
        let evicted = outcome.as_ref().map_or(0, |done| done.evicted);
        self.is_refused = outcome.is_err();
        self.note(outcome.map(drop));
        self.answer_waiting(!self.is_refused);
        if self.is_refused {
            self.deadline = Some(clock::mono() + self.options.commit_interval.max(RETRY_MIN));
            return;
        }
        let ledger = self.spool.ledger();
        let pending = ledger.iter().map(|l| l.pending).sum();
        observe::emit(&events::Committed { evicted, bytes: self.spool.bytes(), pending });
        self.note_evicting(evicted > 0, ledger.iter().map(LaneLedger::evicted_total).sum());
        let _ = self.tail.force_send(self.tail_now());
        self.tidy();
        self.relieve();
    }

    /// A step towards space on a full disk.
    fn relieve(&mut self) {
        let Some(lost) = self.full else { return };
        match self.spool.relieve(clock::stamp()) {
            Ok(more) => self.full = Some(lost + more),
            Err(error) => self.note(Err(error)),
        }
        if self.reserve.fill() {
            observe::emit(&events::DiskFull { now: false, lost_records: self.full.take().unwrap_or(lost) });
        }
        self.deadline.get_or_insert(clock::mono() + self.options.commit_interval.max(RETRY_MIN));
    }

    fn tidy(&mut self) {
        if let Err(error) = self.spool.tidy() {
            observe::emit(&events::TidyFailed { error: &error.to_string() });
        }
    }

    /// A line in the log when giving up begins and when it ends, not for every block.
    fn note_evicting(&mut self, now: bool, evicted: u64) {
        if now != self.evicting && (now || !self.spool.is_nearly_full()) {
            self.evicting = now;
            observe::emit(&events::Evicting { now, evicted });
        }
    }

    fn note(&mut self, outcome: Result<(), JournalError>) {
        let Err(error) = outcome else {
            self.last_error = None;
            return;
        };
        if error == JournalError::Full {
            self.reserve.give_up();
            if self.full.is_none() {
                self.full = Some(0);
                observe::emit(&events::DiskFull { now: true, lost_records: 0 });
            }
        }
        let text = error.to_string();
        observe::emit(&events::CommitFailed { error: &text, waiting: self.spool.open_records() });
        self.last_error = Some(text);
        // What failed may be mended by a commit, which heals what is damaged.
        self.deadline.get_or_insert(clock::mono() + self.options.commit_interval.max(RETRY_MIN));
    }

    /// Who gave no records of his own waits for all that came before his word, which a commit that succeeds holds.
    fn answer_waiting(&mut self, committed: bool) {
        let spool = &self.spool;
        self.waiting.retain_mut(|(ranges, reply)| {
            let durable = match &ranges[..] {
                [] => committed,
                ranges => ranges.iter().all(|r| r.last <= spool.durable_through(r.lane)),
            };
            if durable {
                let _ = reply.try_send(std::mem::take(ranges));
            }
            !durable && !reply.is_closed()
        });
    }

    fn status(&self) -> SpoolStatus {
        let oldest = Lane::ALL.iter().filter_map(|&lane| self.spool.oldest(lane).ok().flatten());
        SpoolStatus {
            epoch: self.spool.epoch(),
            ledger: self.spool.ledger(),
            tail: self.tail_now(),
            bytes: self.spool.bytes(),
            bytes_on_disk: self.spool.bytes_on_disk(),
            oldest: oldest.min(),
            // Somebody may have taken them away.
            dead_letters: dead::dead_letters(&self.dir).len(),
            last_error: self.last_error.clone().or(self.full.map(|_| JournalError::Full.to_string())),
        }
    }

    fn tail_now(&self) -> Tail {
        Tail {
            oldest: std::array::from_fn(|i| self.spool.released_through(Lane::ALL[i]) + 1),
            next: self.spool.ledger().map(|books| books.admitted + 1),
        }
    }

    fn check_disk(&mut self) {
        let now = clock::mono();
        if self.disk_checked.is_some_and(|then| now.since(then) < DISK_CHECK_INTERVAL) {
            return;
        }
        self.disk_checked = Some(now);
        let Some(free_bytes) = free_bytes(&self.dir) else { return };
        let low = free_bytes < self.options.disk_free_bytes_min;
        if low != self.disk_low {
            self.disk_low = low;
            self.spool.set_disk_low(low);
            observe::emit(&events::DiskLow { low, free_bytes });
        }
    }

    fn last_commit(&mut self) {
        for _ in 0..LAST_ATTEMPTS {
            self.commit();
            if !self.spool.is_dirty() {
                return;
            }
        }
    }
}

/// Blocks in a row up to record `last`; the first may be one that says where the lane has a hole.
fn run(
    from: u64,
    blocks_max: usize,
    last: u64,
    mut fetch: impl FnMut(u64) -> Result<Option<StoredBlock>, JournalError>,
) -> Result<Vec<StoredBlock>, JournalError> {
    let mut blocks = Vec::with_capacity(blocks_max);
    let mut next = from;
    while blocks.len() < blocks_max && (blocks.is_empty() || next <= last) {
        let Some(block) = fetch(next)? else { break };
        next = block.id.last + 1;
        blocks.push(block);
    }
    Ok(blocks)
}

/// A disk that refused is not asked again sooner than this.
const RETRY_MIN: Duration = Duration::from_millis(250);
const DISK_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Commits tried at the end before what is left is given up; nobody was promised it.
const LAST_ATTEMPTS: u32 = 3;
