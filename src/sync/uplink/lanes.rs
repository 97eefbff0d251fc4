//! All lanes together: whose turn it is, and whether there is room.

use std::ops::{Index, IndexMut};
use std::time::Duration;

use super::lane::{LaneUp, Purpose};
use super::pace::Pace;
use super::{Output, UplinkOptions};
use crate::time::Mono;
use crate::wire::{BlockId, Lane, PerLane};

/// All lanes and the token counter.
#[derive(Debug, Clone)]
pub(super) struct Lanes {
    lanes: PerLane<LaneUp>,
    next_token: u64,
    /// Bytes that each lane may still send.
    allowance: PerLane<u64>,
    pace: Pace,
}

/// What a turn goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room<'a> {
    pub(super) now: Mono,
    /// Blocks without PUBACK, at most.
    pub(super) window_blocks: usize,
    pub(super) options: &'a UplinkOptions,
}

/// What a lane did with its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Published one block; ask again.
    Sent,
    /// Nothing to send; the next lane may.
    Idle,
    /// Has something to send and can't now; lower lanes must wait with it.
    Wait,
}

impl Index<Lane> for Lanes {
    type Output = LaneUp;
    fn index(&self, lane: Lane) -> &LaneUp {
        &self.lanes[lane.index()]
    }
}

impl IndexMut<Lane> for Lanes {
    fn index_mut(&mut self, lane: Lane) -> &mut LaneUp {
        &mut self.lanes[lane.index()]
    }
}

impl Lanes {
    pub(super) fn new(options: &UplinkOptions) -> Self {
        let lane = |i: usize| LaneUp::new(Lane::ALL[i], options.ack_timeout);
        Self {
            lanes: std::array::from_fn(lane),
            next_token: 1,
            allowance: [u64::MAX; Lane::ALL.len()],
            pace: Pace::new(Mono(0)),
        }
    }

    pub(super) fn allow(&mut self, allowance: PerLane<u64>) {
        self.allowance = allowance;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &LaneUp> {
        self.lanes.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut LaneUp> {
        self.lanes.iter_mut()
    }

    /// A line came up: what another one carried says nothing.
    pub(super) fn line_up(&mut self, now: Mono) {
        self.pace = Pace::new(now);
        self.lanes.iter_mut().for_each(LaneUp::line_up);
    }

    /// The broker has the block of a token; `None` for a token of an earlier session, or one that was given up.
    pub(super) fn on_broker(&mut self, now: Mono, token: u64) -> Option<BlockId> {
        let lane = self.lanes.iter_mut().find(|lane| lane.has_on_wire(token))?;
        let (id, departure, bytes) = lane.on_broker(now, token)?;
        self.pace.arrive(now, departure, bytes);
        Some(id)
    }

    /// The broker has nobody for the block of a token: it has thrown it away. False where that is not to be believed.
    pub(super) fn nobody(&mut self, now: Mono, token: u64) -> bool {
        let Some(at) = self.lanes.iter().position(|lane| lane.has_on_wire(token)) else { return true };
        let is_news = !self.lanes[at].is_unheard();
        if !self.lanes[at].nobody(now, token) {
            return false;
        }
        self.on_broker(now, token);
        self.lanes[at].lose_taken(now);
        if is_news {
            // With the aggregator may have gone what it was given of other lanes.
            self.iter_mut().for_each(|lane| lane.lose_taken(now));
        }
        true
    }

    /// Somebody hears a lane again: the others try soon.
    pub(super) fn hurry(&mut self, now: Mono) {
        self.iter_mut().for_each(|lane| lane.hurry(now));
    }

    /// Gives up flights that others, of whichever lane, have overtaken by `margin` and more.
    pub(super) fn lose_overtaken(&mut self, margin: Duration) {
        let newest = self.iter().map(LaneUp::newest_landed).max().unwrap_or_default();
        self.iter_mut().for_each(|lane| lane.lose_overtaken(newest, margin));
    }

    /// The block that has to go alone and is due or under way; none for which there is no leave, as nobody should wait for it.
    pub(super) fn trial(&self, now: Mono) -> Option<BlockId> {
        let may_go = |lane: &&LaneUp, bytes: u64| match lane.slot(Purpose::Retry) {
            Some(block) => cost(block.payload.len()) <= bytes,
            None => bytes > 0,
        };
        let lanes = self.lanes.iter().zip(self.allowance);
        lanes.filter(|(lane, bytes)| may_go(lane, *bytes)).find_map(|(lane, _)| lane.trial(now))
    }

    /// The turn of a block that has to go alone.
    pub(super) fn turn_trial(&mut self, id: BlockId, room: Room<'_>, out: &mut Vec<Output>) -> Turn {
        if self.wire_blocks() > 0 {
            return Turn::Wait;
        }
        self.send(id.lane, Purpose::Retry, id.first, room, out)
    }

    /// Blocks without PUBACK in all lanes.
    pub(super) fn wire_blocks(&self) -> usize {
        self.iter().map(LaneUp::wire_blocks).sum()
    }

    /// One lane's turn: a due retry, else the stream whose turn it is.
    fn turn(&mut self, lane: Lane, room: Room<'_>, out: &mut Vec<Output>) -> Turn {
        match self[lane].next(room.now, room.options.backfill_share_percent) {
            Some((purpose, from)) => self.send(lane, purpose, from, room, out),
            None => Turn::Idle,
        }
    }

    /// Sends of one lane what may go now. False: it has more, and lower lanes must wait with it.
    pub(super) fn drain(&mut self, lane: Lane, room: Room<'_>, out: &mut Vec<Output>) -> bool {
        loop {
            match self.turn(lane, room, out) {
                Turn::Sent => {}
                Turn::Idle => return true,
                Turn::Wait => return false,
            }
        }
    }

    /// The first block's turn.
    pub(super) fn turn_first(&mut self, id: BlockId, room: Room<'_>, out: &mut Vec<Output>) -> Turn {
        if self[id.lane].is_acknowledged(id) || self[id.lane].is_waiting(id) {
            return Turn::Idle;
        }
        self[id.lane].make_way(id);
        self.send(id.lane, Purpose::First, id.first, room, out)
    }

    /// Publishes the block of `purpose` if it is here and there is room, else sees to it that it comes.
    fn send(
        &mut self,
        lane: Lane,
        purpose: Purpose,
        from: u64,
        room: Room<'_>,
        out: &mut Vec<Output>,
    ) -> Turn {
        let Some(bytes) = self[lane].slot(purpose).map(|block| block.payload.len()) else {
            self[lane].ask(purpose, from, out);
            return Turn::Wait;
        };
        let cost = cost(bytes);
        if cost > self.allowance[lane.index()] {
            // Its order is kept: this block goes before the others of its lane, once there is leave.
            return Turn::Idle;
        }
        if !self.has_room(lane, purpose, bytes, room) {
            return Turn::Wait;
        }
        let token = self.next_token;
        self.next_token += 1;
        for left in &mut self.allowance {
            *left = left.saturating_sub(cost);
        }
        let wire_is_empty = self.wire_blocks() == 0;
        let departure = self.pace.depart(room.now, wire_is_empty);
        out.extend(self[lane].publish(purpose, token, departure));
        Turn::Sent
    }

    /// Whether one more block may go. An eighth of every window is kept for alarms and the first block.
    fn has_room(&self, lane: Lane, purpose: Purpose, bytes: usize, room: Room<'_>) -> bool {
        let Room { window_blocks, options, .. } = room;
        let urgent = lane == Lane::Alarm || purpose == Purpose::First;
        // What is urgent goes at once; the pace keeps the wire free for it.
        let pace = if urgent { usize::MAX } else { self.pace.window_bytes() };
        let window_bytes = options.window_bytes.min(pace);
        let bound = |max: usize| if urgent { max } else { max - max / 8 };
        let sum = |of: fn(&LaneUp) -> usize| self.iter().map(of).sum::<usize>();
        let (wire, wire_bytes) = (self.wire_blocks(), sum(LaneUp::wire_bytes));
        let (unacked, unacked_bytes) = (sum(LaneUp::unacked_blocks), sum(LaneUp::unacked_bytes));
        wire < bound(window_blocks)
            && (wire == 0 || wire_bytes < bound(window_bytes))
            && unacked < bound(options.window_blocks.saturating_mul(UNACKED_WINDOWS).max(UNACKED_WINDOWS))
            && (unacked == 0 || unacked_bytes + bytes <= bound(options.unacked_bytes_max))
    }
}

/// What a block takes of its lane's leave.
const fn cost(bytes: usize) -> u64 {
    (bytes + super::PACKET_OVERHEAD_BYTES) as u64
}

/// Blocks without acknowledgement, in windows without PUBACK.
const UNACKED_WINDOWS: usize = 8;
