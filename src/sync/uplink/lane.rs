//! One lane's sending: two streams in order, what is in flight, what is acknowledged, what waits out of its order.
//!
//! ```text
//!  released |  backfill ->          | live ->            | next_seq
//! ----------+-----------------------+--------------------+
//!         base                   boundary (tail when the line came up)
//! ```
//!
//! A stream's cursor is the lowest number that it has not passed. Going back is always allowed: numbers that are
//! acknowledged, in flight, waiting or set aside are skipped.

use std::time::Duration;

use super::doubt::{Blame, Doubts, Verdict};
use super::flight::{Flight, Flights};
use super::hearing::Hearing;
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
    /// Nothing can be fetched before this time.
    unreadable_until: Option<Mono>,
    /// A block fetched out of its stream: the first, or a doubtful one.
    special: Option<Block>,
    doubts: Doubts,
    flights: Flights,
    hearing: Hearing,
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
            unreadable_until: None,
            special: None,
            doubts: Doubts::default(),
            flights: Flights::default(),
            hearing: Hearing::default(),
            ack_timeout,
            ack_wait: ack_timeout,
        }
    }

    pub(super) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    pub(super) fn tail(&mut self, now: Mono, oldest: u64, next_seq: u64) {
        if next_seq > self.next_seq && self.lane == Lane::Alarm {
            self.hearing.hurry(now);
        }
        self.next_seq = self.next_seq.max(next_seq);
        let before = self.base;
        self.settle(oldest.min(next_seq).saturating_sub(1));
        if self.base > before {
            // The spool gave up what was under way.
            self.land();
        }
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

    /// Forgets the session. `by_broker`: it hung up; `alone`: no more than one block was on the wire of all lanes. Returns
    /// the blocks that it hung up on once too often.
    pub(super) fn line_down(&mut self, now: Mono, by_broker: bool, alone: bool) -> Vec<BlockId> {
        let on_wire = self.flights.on_wire().filter(|_| by_broker).map(|f| f.id);
        let guilty = on_wire.filter(|&id| self.doubts.cut(id, now, alone)).collect();
        self.doubts.session_over();
        self.flights = Flights::default();
        self.hearing = Hearing::default();
        self.aside = RangeSet::new();
        self.special = None;
        self.unreadable_until = None;
        self.ack_wait = self.ack_timeout;
        self.go_back(self.base + 1);
        guilty
    }

    /// Takes the answer to a fetch. Returns whether the first block turned out to be gone.
    pub(super) fn fetched(&mut self, block: Option<Block>) -> bool {
        let Some(fetch) = self.fetch.take().filter(|f| !f.stale) else { return false };
        self.unreadable_until = None;
        let block = block.filter(|b| b.id.last >= fetch.from);
        if let Some(block) = &block {
            self.next_seq = self.next_seq.max(block.id.last + 1);
        }
        match fetch.purpose {
            Purpose::First | Purpose::Retry => {
                self.special = block.filter(|b| b.id.first <= fetch.from);
                // Given up meanwhile, or another block stands there now: that one is not doubtful.
                let there = self.special.as_ref().map(|b| b.id);
                self.doubts.retain(|d| fetch.from < d.first || d.last < fetch.from || Some(d) == there);
                if there.is_none() {
                    // A part of it may still be there.
                    self.go_back(fetch.from);
                }
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

    /// The spool could not read: it is asked again after a while, and the other lanes go on.
    pub(super) fn unreadable(&mut self, until: Mono) {
        self.fetch = None;
        self.unreadable_until = Some(until);
    }

    /// The answer to a fetch of another first block no longer matters.
    pub(super) fn forget_first_fetch(&mut self) {
        if let Some(fetch) = self.fetch.as_mut().filter(|f| f.purpose == Purpose::First) {
            fetch.stale = true;
        }
    }

    /// Takes a fetched block out of this session. Returns whether that is news.
    pub(super) fn set_aside(&mut self, id: BlockId) -> bool {
        let fetch = self.fetch.take().filter(|f| !f.stale);
        // What was asked for before it is not there: asked for again, it would be this block again.
        match &fetch {
            Some(Fetch { purpose: Purpose::Backfill, from, .. }) => {
                self.backfill.cursor = id.first.max(*from).min(self.boundary);
            }
            Some(Fetch { purpose: Purpose::Live, from, .. }) => self.live.cursor = id.first.max(*from),
            _ => {}
        }
        self.doubts.retain(|d| d.first > id.last || d.last < id.first);
        self.aside.insert(id.first, id.last);
        fetch.is_some()
    }

    pub(super) fn has_on_wire(&self, token: u64) -> bool {
        self.flights.has_on_wire(token)
    }

    /// The broker has it: which block, how it left, and its bytes.
    pub(super) fn on_broker(&mut self, now: Mono, token: u64) -> Option<(BlockId, Departure, usize)> {
        let flight = self.flights.taken(now, token)?;
        self.doubts.taken(flight.id);
        Some((flight.id, flight.departure, flight.bytes))
    }

    /// The broker refused it: which block, and what becomes of it.
    pub(super) fn refused(&mut self, now: Mono, token: u64, blame: Blame) -> Option<(BlockId, Verdict)> {
        let id = self.flights.refused(token)?;
        let verdict = self.doubts.refused(id, now, blame);
        match verdict {
            Verdict::InOrder => self.go_back(id.first),
            Verdict::Later => {}
            Verdict::Aside => drop(self.aside.insert(id.first, id.last)),
        }
        if let Some(first) = self.doubts.take_made_room() {
            self.go_back(first);
        }
        Some((id, verdict))
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

    /// Gives up flights whose acknowledgement is overdue, so that they are sent again.
    pub(super) fn expire(&mut self, now: Mono) -> Expired {
        let lost = self.flights.lose_taken(now, self.ack_wait);
        self.send_lost(lost);
        if lost { Expired::Some } else { Expired::None }
    }

    /// Gives up flights that another, which the broker took at `newest`, has overtaken by `margin` and more.
    pub(super) fn lose_overtaken(&mut self, newest: Mono, margin: Duration) {
        let lost = self.flights.lose_overtaken(newest, margin);
        self.send_lost(lost);
    }

    /// Gives up all flights that the broker took.
    pub(super) fn lose_taken(&mut self, now: Mono) {
        let lost = self.flights.lose_taken(now, Duration::ZERO);
        self.send_lost(lost);
    }

    /// When the broker took the last of those flights that are acknowledged.
    pub(super) fn newest_landed(&self) -> Mono {
        self.flights.newest_landed()
    }

    fn send_lost(&mut self, lost: bool) {
        if lost {
            self.go_back(self.base + 1);
        }
    }

    /// Doubles the wait for acknowledgements, up to eightfold.
    pub(super) fn slow_down(&mut self) {
        self.ack_wait = (self.ack_wait * 2).min(self.ack_timeout * 8);
    }

    /// The next time that matters; what is due before `now` waits for something else.
    pub(super) fn deadline(&self, now: Mono) -> Option<Mono> {
        let overdue = self.flights.oldest_taken().map(|at| at + self.ack_wait);
        let others = self.doubts.deadlines().chain(self.unreadable_until).chain(self.hearing.deadline());
        overdue.into_iter().chain(others).filter(|at| *at > now).min()
    }

    /// Whether blocks that are not acknowledged wait out of their order or for the next session.
    pub(super) fn has_aside(&self) -> bool {
        let mut aside = self.aside.ranges().iter();
        self.doubts.waiting_count() > 0
            || aside
                .any(|&(first, last)| last > self.base && !self.acked.covers(first.max(self.base + 1), last))
    }

    pub(super) fn wire_blocks(&self) -> usize {
        self.flights.on_wire().count()
    }

    pub(super) fn wire_bytes(&self) -> usize {
        self.flights.on_wire().map(|f| f.bytes).sum()
    }

    pub(super) fn unacked_bytes(&self) -> usize {
        self.flights.bytes()
    }

    /// What is next: a doubtful block that is here or due, else where a stream goes on, which wait while too much waits
    /// already. Blocks that have to go alone are not among them.
    pub(super) fn next(&mut self, now: Mono, share_percent: u8) -> Option<(Purpose, u64)> {
        if !self.may_send(now) {
            return None;
        }
        if self.special.as_ref().is_some_and(|block| !self.doubts.goes_alone(block.id)) {
            return Some((Purpose::Retry, 0));
        }
        let choked = self.doubts.waiting_count() >= UPLINK_REFUSED_MAX
            || self.aside.ranges().len() >= UPLINK_RANGES_MAX;
        let due = self.doubts.due(now, false).find(|id| self.is_at_hand(*id));
        match due {
            Some(id) if self.special.is_none() => Some((Purpose::Retry, id.first)),
            _ if choked => None,
            _ => self.next_in_stream(share_percent),
        }
    }

    /// A block that has to go alone and is due, or is on the wire already.
    pub(super) fn trial(&self, now: Mono) -> Option<BlockId> {
        let on_wire = self.flights.on_wire().map(|f| f.id);
        let due = self.doubts.due(now, true).filter(|id| self.may_send(now) && self.is_at_hand(*id));
        on_wire.filter(|id| self.doubts.goes_alone(*id)).chain(due).next()
    }

    /// Whether something may be fetched, and there may be somebody to hear it. Where nobody was, one block at a time tries.
    pub(super) fn may_send(&self, now: Mono) -> bool {
        self.unreadable_until.is_none_or(|until| until <= now)
            && self.hearing.may_send(now)
            && (!self.hearing.is_unheard() || self.wire_blocks() == 0)
    }

    pub(super) fn is_unheard(&self) -> bool {
        self.hearing.is_unheard()
    }

    pub(super) fn is_long_unheard(&self) -> bool {
        self.hearing.is_long_unheard()
    }

    /// The broker says that nobody hears this lane, in answer to a token. False: it is not to be believed.
    pub(super) fn nobody(&mut self, now: Mono, token: u64) -> bool {
        let departed = self.flights.departed(token).unwrap_or(now);
        self.hearing.nobody(now, departed)
    }

    /// Somebody may hear it. Returns whether that is news.
    pub(super) fn heard(&mut self) -> bool {
        self.hearing.heard()
    }

    /// Somebody has heard it, whatever the broker said. Returns whether that is news.
    pub(super) fn heard_after_all(&mut self, now: Mono) -> bool {
        self.hearing.heard_after_all(now, self.ack_timeout)
    }

    /// There is reason to try soon.
    pub(super) fn hurry(&mut self, now: Mono) {
        self.hearing.hurry(now);
    }

    /// Whether it is neither under way nor set aside.
    pub(super) fn is_at_hand(&self, id: BlockId) -> bool {
        !self.flights.covers(id) && !self.aside.covers(id.first, id.last)
    }

    /// Whether `id` does not go in its order.
    pub(super) fn is_waiting(&self, id: BlockId) -> bool {
        self.doubts.waiting(id.first).is_some()
    }

    /// Puts back a block other than the one of `id` that was fetched to be sent again; it is asked for again when its turn comes.
    pub(super) fn make_way(&mut self, id: BlockId) {
        self.special.take_if(|b| b.id.last < id.first || id.first < b.id.first);
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

    /// Ends flights that are acknowledged whole.
    fn land(&mut self) {
        let (base, acked) = (self.base, &self.acked);
        let landed = |id: BlockId| id.last <= base || acked.covers(id.first.max(base + 1), id.last);
        self.flights.land(landed);
        self.doubts.retain(|id| !landed(id));
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
            let taken = [&self.acked, self.flights.numbers(), &self.aside]
                .into_iter()
                .find_map(|set| set.containing(cursor));
            match taken.map(|range| range.1).or_else(|| self.doubts.waiting(cursor)) {
                Some(last) => cursor = last + 1,
                None => return cursor,
            }
        }
        end
    }

    pub(super) fn slot(&self, purpose: Purpose) -> Option<&Block> {
        match purpose {
            Purpose::Backfill => self.backfill.ready.as_ref(),
            Purpose::Live => self.live.ready.as_ref(),
            Purpose::First | Purpose::Retry => self.special.as_ref(),
        }
    }

    pub(super) fn ask(&mut self, purpose: Purpose, from: u64, out: &mut Vec<Output>) {
        if self.fetch.is_none() {
            self.fetch = Some(Fetch { purpose, from, end: self.next_seq, stale: false });
            out.push(Output::Fetch { lane: self.lane, from });
        }
    }

    pub(super) fn publish(&mut self, purpose: Purpose, token: u64, departure: Departure) -> Option<Output> {
        let block = match purpose {
            Purpose::Backfill => self.backfill.ready.take()?,
            Purpose::Live => self.live.ready.take()?,
            Purpose::First | Purpose::Retry => self.special.take()?,
        };
        let (id, bytes) = (block.id, block.payload.len());
        match purpose {
            Purpose::Backfill => self.backfill.contended_bytes += bytes as u64,
            Purpose::Live => self.live.contended_bytes += bytes as u64,
            Purpose::First | Purpose::Retry => {}
        }
        // Acknowledged or sent while it waited here.
        if self.is_acknowledged(id) || self.flights.covers(id) {
            return None;
        }
        self.flights.begin(Flight::new(token, id, bytes, departure));
        let historical = id.first < self.boundary;
        Some(Output::Publish { token, id, payload: block.payload, historical })
    }
}
