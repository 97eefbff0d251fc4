//! One lane's sending: two streams in order, what is in flight, what is acknowledged, what waits after a refusal.
//!
//! ```text
//!  released |  backfill ->          | live ->            | next_seq
//! ----------+-----------------------+--------------------+
//!         base                   boundary (tail when the line came up)
//! ```
//!
//! A stream's cursor is the lowest number that it has not passed. Going back is always allowed: numbers that are
//! acknowledged, in flight, waiting or set aside are skipped.

use std::collections::VecDeque;
use std::time::Duration;

use super::pace::Departure;
use super::{Block, Output};
use crate::limits::{UPLINK_RANGES_MAX, UPLINK_REFUSED_MAX};
use crate::sync::ranges::RangeSet;
use crate::time::Mono;
use crate::wire::{BlockId, Lane};

/// Whether blocks are due to be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    Some,
    None,
}

#[derive(Debug, Clone)]
pub(super) struct LaneUp {
    lane: Lane,
    /// Whether the spool has spoken yet.
    known: bool,
    next_seq: u64,
    /// Everything up to here is released.
    base: u64,
    /// Acknowledged beyond `base`.
    acked: RangeSet,
    /// Refused for this session.
    aside: RangeSet,
    boundary: u64,
    backfill: Stream,
    live: Stream,
    fetch: Option<Fetch>,
    /// A block fetched out of its stream: the first, or one to retry.
    special: Option<(Block, u32)>,
    retries: Vec<Retry>,
    /// Published, ascending by token.
    flights: VecDeque<Flight>,
    /// The numbers of `flights`.
    aloft: RangeSet,
    ack_timeout: Duration,
    ack_wait: Duration,
}

#[derive(Debug, Clone, Default)]
struct Stream {
    cursor: u64,
    ready: Option<Block>,
    /// Sent while the other stream wanted to send as well.
    contended_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Backfill,
    Live,
    First,
    Retry,
}

#[derive(Debug, Clone)]
struct Fetch {
    purpose: Purpose,
    from: u64,
    /// The lane's end when it was asked: the answer knows nothing of what came later.
    end: u64,
    /// The answer no longer matters: the line was cut or the cursors went back.
    stale: bool,
}

#[derive(Debug, Clone)]
struct Retry {
    id: BlockId,
    due: Mono,
    attempts: u32,
}

#[derive(Debug, Clone)]
struct Flight {
    token: u64,
    id: BlockId,
    bytes: usize,
    attempts: u32,
    /// When the PUBACK came; `None` while on the wire.
    on_broker: Option<Mono>,
    departure: Departure,
}

impl LaneUp {
    pub(super) fn new(lane: Lane, ack_timeout: Duration) -> Self {
        let stream = || Stream { cursor: 1, ..Stream::default() };
        Self {
            lane,
            known: false,
            next_seq: 1,
            base: 0,
            acked: RangeSet::new(),
            aside: RangeSet::new(),
            boundary: 1,
            backfill: stream(),
            live: stream(),
            fetch: None,
            special: None,
            retries: Vec::new(),
            flights: VecDeque::new(),
            aloft: RangeSet::new(),
            ack_timeout,
            ack_wait: ack_timeout,
        }
    }

    pub(super) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    pub(super) fn tail(&mut self, oldest: u64, next_seq: u64) {
        self.next_seq = self.next_seq.max(next_seq);
        self.settle(oldest.min(next_seq).saturating_sub(1));
        if !self.known {
            // Told after the line came up: what is here was sealed before.
            self.known = true;
            self.line_up();
        }
    }

    pub(super) fn line_up(&mut self) {
        self.boundary = self.next_seq;
        self.backfill = Stream { cursor: self.base + 1, ..Stream::default() };
        self.live = Stream { cursor: self.boundary, ..Stream::default() };
    }

    pub(super) fn line_down(&mut self) {
        self.flights.clear();
        self.aloft = RangeSet::new();
        self.aside = RangeSet::new();
        self.retries.clear();
        self.special = None;
        self.ack_wait = self.ack_timeout;
        self.go_back(self.base + 1);
    }

    /// Takes the answer to a fetch. Returns whether the first block turned out to be gone.
    pub(super) fn fetched(&mut self, block: Option<Block>) -> bool {
        let Some(fetch) = self.fetch.take().filter(|f| !f.stale) else { return false };
        let block = block.filter(|b| b.id.last >= fetch.from);
        if let Some(block) = &block {
            self.next_seq = self.next_seq.max(block.id.last + 1);
        }
        match fetch.purpose {
            Purpose::First | Purpose::Retry => {
                let waiting = self.take_retry(fetch.from);
                self.special = block.filter(|b| b.id.first <= fetch.from).map(|b| (b, waiting));
                fetch.purpose == Purpose::First && self.special.is_none()
            }
            Purpose::Backfill => {
                let block = block.filter(|b| b.id.first < self.boundary);
                self.backfill.cursor = block.as_ref().map_or(self.boundary, |b| b.id.first.max(fetch.from));
                self.backfill.ready = block;
                false
            }
            Purpose::Live => {
                self.live.cursor = block.as_ref().map_or(fetch.end, |b| b.id.first.max(fetch.from));
                self.live.ready = block;
                false
            }
        }
    }

    /// The answer to a fetch of another first block no longer matters.
    pub(super) fn forget_first_fetch(&mut self) {
        if let Some(fetch) = self.fetch.as_mut().filter(|f| f.purpose == Purpose::First) {
            fetch.stale = true;
        }
    }

    /// Takes a fetched block out of this session. Returns whether that is news.
    pub(super) fn set_aside(&mut self, id: BlockId) -> bool {
        let fresh = self.fetch.take().is_some_and(|f| !f.stale);
        self.retries.retain(|r| r.id.first > id.last || r.id.last < id.first);
        self.aside.insert(id.first, id.last);
        fresh
    }

    pub(super) fn has_on_wire(&self, token: u64) -> bool {
        self.find(token).is_some()
    }

    /// The broker has it: which block, how it left, and its bytes.
    pub(super) fn on_broker(&mut self, now: Mono, token: u64) -> Option<(BlockId, Departure, usize)> {
        let at = self.find(token)?;
        let flight = &mut self.flights[at];
        flight.on_broker = Some(now);
        Some((flight.id, flight.departure, flight.bytes))
    }

    /// The broker refused it. Returns the block and whether it is set aside.
    pub(super) fn refused(
        &mut self,
        now: Mono,
        token: u64,
        busy: bool,
        attempts_max: u32,
    ) -> Option<(BlockId, bool)> {
        let at = self.find(token)?;
        let Flight { id, attempts, .. } = self.flights.remove(at)?;
        self.aloft.remove(id.first, id.last);
        if busy {
            self.go_back(id.first);
            return Some((id, false));
        }
        let attempts = attempts + 1;
        if attempts >= attempts_max {
            self.aside.insert(id.first, id.last);
            return Some((id, true));
        }
        let due = now + Duration::from_secs(1 << attempts.min(6));
        self.retries.push(Retry { id, due, attempts });
        Some((id, false))
    }

    /// Takes note of an acknowledgement and says what may be released, if anything is new. `through`
    /// counts from the lane's beginning.
    pub(super) fn acknowledge(&mut self, through: Option<u64>, also: &[(u64, u64)]) -> Option<Output> {
        let before = self.base;
        let fresh: Vec<u64> =
            also.iter().filter(|r| r.1 > self.base && self.acked.insert(r.0, r.1) > 0).map(|r| r.0).collect();
        self.settle(through.unwrap_or(self.base));
        if fresh.is_empty() && self.base == before {
            return None;
        }
        self.ack_wait = self.ack_timeout;
        self.land();
        let mut also: Vec<(u64, u64)> =
            fresh.iter().filter_map(|&first| self.acked.containing(first)).collect();
        also.dedup();
        self.bound_acked();
        Some(Output::Release { lane: self.lane, through: self.base, also })
    }

    pub(super) fn is_acknowledged(&self, id: BlockId) -> bool {
        id.last <= self.base || self.acked.covers(id.first.max(self.base + 1), id.last)
    }

    /// Forgets flights whose acknowledgement is overdue, so that they are sent again.
    pub(super) fn expire(&mut self, now: Mono) -> Expired {
        let wait = self.ack_wait;
        let overdue = |f: &Flight| f.on_broker.is_some_and(|at| at + wait <= now);
        if !self.flights.iter().any(overdue) {
            return Expired::None;
        }
        for flight in self.flights.iter().filter(|f| overdue(f)) {
            self.aloft.remove(flight.id.first, flight.id.last);
        }
        self.flights.retain(|f| !overdue(f));
        self.go_back(self.base + 1);
        Expired::Some
    }

    /// Doubles the wait for acknowledgements, up to eightfold.
    pub(super) fn slow_down(&mut self) {
        self.ack_wait = (self.ack_wait * 2).min(self.ack_timeout * 8);
    }

    /// The next time that matters; what is due before `now` waits for something else.
    pub(super) fn deadline(&self, now: Mono) -> Option<Mono> {
        let overdue = self.flights.iter().filter_map(|f| f.on_broker).min().map(|at| at + self.ack_wait);
        let retries = self.retries.iter().map(|r| r.due);
        overdue.into_iter().chain(retries).filter(|at| *at > now).min()
    }

    /// Whether blocks that are not acknowledged wait for the next session.
    pub(super) fn has_aside(&self) -> bool {
        self.aside
            .ranges()
            .iter()
            .any(|&(first, last)| last > self.base && !self.acked.covers(first.max(self.base + 1), last))
    }

    pub(super) fn wire_blocks(&self) -> usize {
        self.flights.iter().filter(|f| f.on_broker.is_none()).count()
    }

    pub(super) fn wire_bytes(&self) -> usize {
        self.flights.iter().filter(|f| f.on_broker.is_none()).map(|f| f.bytes).sum()
    }

    pub(super) fn unacked_bytes(&self) -> usize {
        self.flights.iter().map(|f| f.bytes).sum()
    }

    fn find(&self, token: u64) -> Option<usize> {
        let at = self.flights.binary_search_by_key(&token, |f| f.token).ok()?;
        self.flights[at].on_broker.is_none().then_some(at)
    }

    /// What goes before the streams: a retry that is here or due. The streams wait while too much waits already.
    pub(super) fn next(&mut self, now: Mono, share_percent: u8) -> Option<(Purpose, u64)> {
        let choked =
            self.retries.len() >= UPLINK_REFUSED_MAX || self.aside.ranges().len() >= UPLINK_RANGES_MAX;
        if self.special.is_some() {
            return Some((Purpose::Retry, 0));
        }
        match self.retries.iter().find(|r| r.due <= now) {
            Some(retry) => Some((Purpose::Retry, retry.id.first)),
            None if choked => None,
            None => self.next_in_stream(share_percent),
        }
    }

    /// Whether a block other than the one of `id` holds the slot of blocks out of their stream.
    pub(super) fn holds_other(&self, id: BlockId) -> bool {
        self.special.as_ref().is_some_and(|(b, _)| b.id.last < id.first || id.first < b.id.first)
    }

    /// Blocks without acknowledgement.
    pub(super) fn unacked_blocks(&self) -> usize {
        self.flights.len()
    }

    /// Lets `base` rise to `through` and on over what is acknowledged already.
    fn settle(&mut self, through: u64) {
        self.base = self.acked.through(self.base.max(through));
        self.acked.remove(1, self.base);
    }

    /// Drops flights that are acknowledged whole.
    fn land(&mut self) {
        let (base, acked) = (self.base, &self.acked);
        let landed = |id: BlockId| id.last <= base || acked.covers(id.first.max(base + 1), id.last);
        for flight in self.flights.iter().filter(|f| landed(f.id)) {
            self.aloft.remove(flight.id.first, flight.id.last);
        }
        self.flights.retain(|f| !landed(f.id));
        self.retries.retain(|r| !landed(r.id));
    }

    /// Forgetting an acknowledged range costs at most a repetition: the spool has released it.
    fn bound_acked(&mut self) {
        while let Some(&(first, last)) = self.acked.ranges().get(UPLINK_RANGES_MAX) {
            self.acked.remove(first, last);
        }
    }

    fn go_back(&mut self, to: u64) {
        self.backfill.cursor = self.backfill.cursor.min(to);
        self.live.cursor = self.live.cursor.min(to.max(self.boundary));
        self.backfill.ready = None;
        self.live.ready = None;
        if let Some(fetch) = &mut self.fetch {
            fetch.stale = true;
        }
    }

    /// The stream whose turn it is and where it goes on; `None` when both are through.
    fn next_in_stream(&mut self, share_percent: u8) -> Option<(Purpose, u64)> {
        self.backfill.cursor = self.skip(self.backfill.cursor.max(self.base + 1), self.boundary);
        self.live.cursor = self.skip(self.live.cursor.max(self.base + 1), self.next_seq);
        let backfill = self.backfill.cursor < self.boundary;
        let live = self.live.cursor < self.next_seq;
        if backfill && live {
            let (old, new) = (self.backfill.contended_bytes, self.live.contended_bytes);
            let owed = old.saturating_mul(100) < u64::from(share_percent.min(100)).saturating_mul(old + new);
            return Some(if owed { self.go(Purpose::Backfill) } else { self.go(Purpose::Live) });
        }
        self.backfill.contended_bytes = 0;
        self.live.contended_bytes = 0;
        match (backfill, live) {
            (true, _) => Some(self.go(Purpose::Backfill)),
            (_, true) => Some(self.go(Purpose::Live)),
            _ => None,
        }
    }

    fn go(&self, purpose: Purpose) -> (Purpose, u64) {
        let stream = if purpose == Purpose::Live { &self.live } else { &self.backfill };
        (purpose, stream.cursor)
    }

    /// The lowest number from `cursor` on that is neither acknowledged, in flight, set aside nor waiting; at most `end`.
    fn skip(&self, mut cursor: u64, end: u64) -> u64 {
        while cursor < end {
            let waiting = self.retries.iter().map(|r| (r.id.first, r.id.last));
            let taken =
                [&self.acked, &self.aloft, &self.aside].into_iter().find_map(|set| set.containing(cursor));
            match taken.or_else(|| waiting.into_iter().find(|r| r.0 <= cursor && cursor <= r.1)) {
                Some((_, last)) => cursor = last + 1,
                None => return cursor,
            }
        }
        end
    }

    pub(super) fn slot(&self, purpose: Purpose) -> Option<&Block> {
        match purpose {
            Purpose::Backfill => self.backfill.ready.as_ref(),
            Purpose::Live => self.live.ready.as_ref(),
            Purpose::First | Purpose::Retry => self.special.as_ref().map(|s| &s.0),
        }
    }

    pub(super) fn ask(&mut self, purpose: Purpose, from: u64, out: &mut Vec<Output>) {
        if self.fetch.is_none() {
            self.fetch = Some(Fetch { purpose, from, end: self.next_seq, stale: false });
            out.push(Output::Fetch { lane: self.lane, from });
        }
    }

    pub(super) fn publish(&mut self, purpose: Purpose, token: u64, departure: Departure) -> Option<Output> {
        let (block, attempts) = match purpose {
            Purpose::Backfill => (self.backfill.ready.take()?, 0),
            Purpose::Live => (self.live.ready.take()?, 0),
            Purpose::First | Purpose::Retry => self.special.take()?,
        };
        let (id, bytes) = (block.id, block.payload.len());
        match purpose {
            Purpose::Backfill => self.backfill.contended_bytes += bytes as u64,
            Purpose::Live => self.live.contended_bytes += bytes as u64,
            Purpose::First | Purpose::Retry => {}
        }
        // Acknowledged or sent while it waited here.
        if self.is_acknowledged(id) || self.aloft.covers(id.first, id.last) {
            return None;
        }
        self.aloft.insert(id.first, id.last);
        self.flights.push_back(Flight { token, id, bytes, attempts, on_broker: None, departure });
        let historical = id.first < self.boundary;
        Some(Output::Publish { token, id, payload: block.payload, historical })
    }

    fn take_retry(&mut self, first: u64) -> u32 {
        let at = self.retries.iter().position(|r| r.id.first == first);
        at.map_or(0, |at| self.retries.remove(at).attempts)
    }
}
