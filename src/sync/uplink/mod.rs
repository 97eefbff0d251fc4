//! The gateway's seat: what to send, resend and release, and in which order. No clock, no socket, no disk inside.
//!
//! Order: the block named by [`Input::First`] after an outage; then lane by lane in their precedence (alarm, digest,
//! metric, raw); within a lane what was sealed since the line came up ("live") before what waited ("backfill", flagged
//! historical), backfill keeping a share of the bytes. A block is on the wire until its PUBACK and unacknowledged until
//! its acknowledgement; both are bounded, so memory does not grow with the backlog.
//!
//! A block can be lost behind the broker, with the aggregator or for want of one. Where the broker says that nobody listens to
//! a lane, the lane rests, then one block tries, and so on until somebody does; what had no acknowledgement goes again. A block
//! is lost, too, when one that the broker took an eighth of [`UplinkOptions::ack_timeout`] later is acknowledged and it is not
//! (the idea of RFC 8985), or else when that timeout is over.
//!
//! The session is disposable: when the line drops everything in flight is forgotten, when it is up again sending starts
//! at the oldest unacknowledged block. What outlives it is which blocks the broker refused or hung up on, so that one which
//! it will never take can't come first for ever. Nothing is released that was not acknowledged for this epoch.
//!
//! ```
//! use outpost::sync::uplink::{Audience, Block, Input, Output, Uplink, UplinkOptions};
//! use outpost::time::Mono;
//! use outpost::wire::{BlockId, Lane, ack::{AckMessage, LaneAck}};
//!
//! let epoch = 0xe;
//! let mut uplink = Uplink::new(UplinkOptions::default(), epoch);
//! // The spool holds one block of alarms, records 1 to 3. Tails come before the line.
//! let mut todo = uplink.step(Mono(0), Input::Tail { lane: Lane::Alarm, oldest: 1, next_seq: 4 });
//! todo.extend(uplink.step(Mono(0), Input::LineUp { receive_max: 20, packet_bytes_max: u32::MAX }));
//! let mut released = 0;
//! while !todo.is_empty() {
//!     let mut next = Vec::new();
//!     for output in todo {
//!         let input = match output {
//!             // store.fetch(lane, from).await
//!             Output::Fetch { lane, .. } => Input::Fetched {
//!                 lane,
//!                 block: Some(Block { id: BlockId { lane, first: 1, last: 3 }, payload: vec![0; 64] }),
//!             },
//!             // link.commands.send(Command::Publish { .. }).await; the PUBACK and the acknowledgement come later.
//!             Output::Publish { token, id, .. } => {
//!                 next.extend(uplink.step(Mono(1), Input::PubAck { token, result: Ok(Audience::Unknown) }));
//!                 let lane = LaneAck { lane: id.lane, epoch, through: id.last, also: vec![] };
//!                 Input::Ack(AckMessage { lanes: vec![lane] })
//!             }
//!             // store.release(lane, through, &also).await
//!             Output::Release { through, .. } => { released = through; Input::Tick }
//!             other => panic!("{other:?}"),
//!         };
//!         next.extend(uplink.step(Mono(2), input));
//!     }
//!     todo = next;
//! }
//! assert_eq!(released, 3);
//! ```

mod doubt;
mod flight;
mod hearing;
mod lane;
mod lanes;
mod pace;
mod words;

pub use words::{AckMode, Audience, Block, Input, Output, UplinkOptions};

use std::time::Duration;

use doubt::{Blame, Verdict};
use lane::Expired;
use lanes::{Lanes, Room, Turn};

use crate::limits::ACK_LANES_MAX;
use crate::sync::ranges::SEQ_MAX;
use crate::time::Mono;
use crate::wire::ack::AckMessage;
use crate::wire::{BlockId, Lane, PerLane};

/// The gateway's seat of the protocol.
#[derive(Debug, Clone)]
pub struct Uplink {
    options: UplinkOptions,
    epoch: u64,
    lanes: Lanes,
    line: Option<Line>,
    first: Option<First>,
    expect_first: bool,
    /// Set while a broker that is busy or out of quota is left alone.
    paused_until: Option<Mono>,
    /// Since it took a block.
    pauses: u32,
    /// Of the last step.
    now: Mono,
}

#[derive(Debug, Clone)]
struct Line {
    window_blocks: usize,
    packet_bytes_max: usize,
    /// Nothing but the first block goes before this time.
    hold_until: Option<Mono>,
}

#[derive(Debug, Clone)]
struct First {
    id: BlockId,
    sent: bool,
}

impl Uplink {
    /// A seat for the spool with this epoch; nothing is sent before the tails and the line are told.
    pub fn new(options: UplinkOptions, epoch: u64) -> Self {
        let lanes = Lanes::new(&options);
        Self {
            options,
            epoch,
            lanes,
            line: None,
            first: None,
            expect_first: false,
            paused_until: None,
            pauses: 0,
            now: Mono(0),
        }
    }

    /// Takes one input and returns what to do, in order.
    pub fn step(&mut self, now: Mono, input: Input) -> Vec<Output> {
        self.now = now;
        let mut out = Vec::new();
        match input {
            Input::ExpectFirst => {
                self.expect_first = true;
                self.first = None;
            }
            Input::First(id) => self.name_first(id),
            Input::LineUp { receive_max, packet_bytes_max } => {
                self.line_down(now, None, &mut out);
                self.line_up(now, receive_max, packet_bytes_max);
            }
            Input::LineDown { by_broker } => self.line_down(now, by_broker, &mut out),
            Input::Tail { lane, oldest, next_seq } => self.lanes[lane].tail(now, oldest, next_seq),
            Input::Fetched { lane, block } => self.fetched(lane, block, &mut out),
            Input::Unreadable { lane } => self.lanes[lane].unreadable(now + UNREADABLE_PAUSE),
            Input::PubAck { token, result } => self.pub_ack(now, token, result, &mut out),
            Input::Ack(message) => self.ack(message, &mut out),
            Input::Tick => {}
        }
        self.expire(now);
        self.pump(now, &mut out);
        out
    }

    /// Bounds what each lane may send from the next step on, in bytes; see [`crate::sync::budget`]. A lane whose next block
    /// does not fit is not its turn; the block stays where it is.
    pub fn allow(&mut self, bytes: PerLane<u64>) {
        self.lanes.allow(bytes);
    }

    /// When to call [`Uplink::step`] with [`Input::Tick`] if nothing else happens before.
    pub fn deadline(&self) -> Option<Mono> {
        let line = self.line.as_ref()?;
        let waits = [line.hold_until, self.paused_until];
        let lanes = self.lanes.iter().filter_map(|lane| lane.deadline(self.now));
        waits.into_iter().flatten().chain(lanes).min()
    }

    /// Blocks without PUBACK now.
    pub fn on_wire(&self) -> usize {
        self.lanes.wire_blocks()
    }

    /// Bytes without acknowledgement now; at most [`UplinkOptions::unacked_bytes_max`] or one block.
    pub fn unacked_bytes(&self) -> usize {
        self.lanes.iter().map(|lane| lane.unacked_bytes()).sum()
    }

    /// Whether blocks that the broker refused, or hung up on, wait for their next turn or the next session.
    pub fn has_set_aside(&self) -> bool {
        self.lanes.iter().any(|lane| lane.has_aside())
    }

    /// The lanes of which the broker says, again and again, that nobody listens.
    pub fn unheard(&self) -> impl Iterator<Item = Lane> {
        Lane::ALL.iter().copied().filter(|lane| self.lanes[*lane].is_long_unheard())
    }

    fn name_first(&mut self, id: BlockId) {
        self.expect_first = false;
        self.lanes[id.lane].forget_first_fetch();
        self.first = Some(First { id, sent: false });
        if let Some(line) = &mut self.line {
            line.hold_until = None;
        }
    }

    fn line_up(&mut self, now: Mono, receive_max: u16, packet_bytes_max: u32) {
        self.line = Some(Line {
            window_blocks: self.options.window_blocks.min(usize::from(receive_max)).max(1),
            packet_bytes_max: usize::try_from(packet_bytes_max).unwrap_or(usize::MAX),
            hold_until: self.expect_first.then(|| now + self.options.first_wait),
        });
        self.lanes.line_up(now);
    }

    fn line_down(&mut self, now: Mono, by_broker: Option<u8>, out: &mut Vec<Output>) {
        self.line = None;
        self.paused_until = None;
        let alone = self.lanes.wire_blocks() == 1;
        for lane in self.lanes.iter_mut() {
            let guilty = lane.line_down(now, by_broker.is_some(), alone);
            let code = by_broker.unwrap_or(reason::UNSPECIFIED);
            out.extend(guilty.into_iter().map(|id| Output::Refused {
                id,
                code,
                set_aside: true,
                poison: true,
            }));
        }
        if let Some(first) = &mut self.first {
            first.sent = false;
        }
    }

    fn fetched(&mut self, lane: Lane, block: Option<Block>, out: &mut Vec<Output>) {
        let block = block.filter(|b| b.id.lane == lane && possible(b.id));
        let packet_bytes_max = self.line.as_ref().map_or(usize::MAX, |line| line.packet_bytes_max);
        if let Some(block) =
            block.as_ref().filter(|b| b.payload.len() + PACKET_OVERHEAD_BYTES > packet_bytes_max)
        {
            if self.lanes[lane].set_aside(block.id) {
                out.push(Output::Refused {
                    id: block.id,
                    code: reason::PACKET_TOO_LARGE,
                    set_aside: true,
                    poison: false,
                });
            }
            if let Some(first) = self
                .first
                .as_mut()
                .filter(|f| f.id.lane == lane && block.id.first <= f.id.last && f.id.first <= block.id.last)
            {
                first.sent = true;
            }
            return;
        }
        let first_gone = self.lanes[lane].fetched(block);
        if first_gone {
            self.first = None;
        }
    }

    fn pub_ack(&mut self, now: Mono, token: u64, result: Result<Audience, u8>, out: &mut Vec<Output>) {
        if result.is_ok() {
            self.pauses = 0;
        }
        match result {
            // Where the broker's word counts, nobody listening is no reason to keep a block.
            Ok(Audience::Nobody)
                if self.options.ack == AckMode::Aggregator && self.lanes.nobody(now, token) =>
            {
                self.send_first_again();
            }
            Ok(_) => self.taken(now, token, out),
            Err(code) => self.refused(now, token, code, out),
        }
    }

    fn taken(&mut self, now: Mono, token: u64, out: &mut Vec<Output>) {
        let Some(id) = self.lanes.on_broker(now, token) else { return };
        if self.lanes[id.lane].heard() {
            self.lanes.hurry(now);
        }
        if self.options.ack == AckMode::Broker {
            out.extend(self.lanes[id.lane].acknowledge(None, &[(id.first, id.last)]));
            self.forget_first();
        }
    }

    /// If it was lost with others.
    fn send_first_again(&mut self) {
        if let Some(first) = &mut self.first {
            first.sent &= !self.lanes[first.id.lane].is_at_hand(first.id);
        }
    }

    /// Leaves the broker alone for a while, longer every time. What is refused meanwhile had left before and says nothing new.
    fn pause(&mut self, now: Mono) {
        if self.paused_until.is_none() {
            let wait = Duration::from_secs(1u64 << self.pauses.min(6)).min(BUSY_PAUSE_MAX);
            self.paused_until = Some(now + wait);
            self.pauses += 1;
        }
    }

    fn refused(&mut self, now: Mono, token: u64, code: u8, out: &mut Vec<Output>) {
        let blame = blame(code);
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.has_on_wire(token)) else { return };
        let Some((id, verdict)) = lane.refused(now, token, blame) else { return };
        if blame != Blame::Block {
            self.pause(now);
        }
        let set_aside = verdict == Verdict::Aside;
        let poison = set_aside && (code == reason::PAYLOAD_FORMAT_INVALID || blame == Blame::Unclear);
        out.push(Output::Refused { id, code, set_aside, poison });
    }

    fn ack(&mut self, message: AckMessage, out: &mut Vec<Output>) {
        // Another epoch's numbers mean other records; with PUBACKs in charge nobody else's word counts.
        let mine = message.lanes.into_iter().take(ACK_LANES_MAX).filter(|ack| ack.epoch == self.epoch);
        let mut is_heard = false;
        for ack in mine.filter(|_| self.options.ack == AckMode::Aggregator) {
            let lane = &mut self.lanes[ack.lane];
            let highest = ack.also.iter().map(|r| r.1).max().unwrap_or(0).max(ack.through);
            if highest >= lane.next_seq() {
                out.push(Output::AckBeyondTail { ack });
                continue;
            }
            let release = lane.acknowledge(Some(ack.through), &ack.also);
            is_heard |= release.is_some() && lane.heard_after_all(self.now);
            out.extend(release);
        }
        if is_heard {
            self.lanes.hurry(self.now);
        }
        self.lanes.lose_overtaken(self.options.ack_timeout / OVERTAKEN_PART);
        self.forget_first();
    }

    fn forget_first(&mut self) {
        if self.first.as_ref().is_some_and(|f| self.lanes[f.id.lane].is_acknowledged(f.id)) {
            self.first = None;
        }
    }

    fn expire(&mut self, now: Mono) {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        if let Some(line) =
            self.line.as_mut().filter(|line| line.hold_until.is_some_and(|until| until <= now))
        {
            line.hold_until = None;
            self.expect_first = false;
        }
        if self.options.ack == AckMode::Aggregator {
            for lane in self.lanes.iter_mut() {
                if lane.expire(now) == Expired::Some {
                    lane.slow_down();
                }
            }
        }
    }

    /// Sends as much as the windows allow, strictly in order of precedence.
    fn pump(&mut self, now: Mono, out: &mut Vec<Output>) {
        let Some(line) = self.line.as_ref().filter(|_| self.paused_until.is_none()) else { return };
        // After a pause one block shows whether it is over.
        let window_blocks = if self.pauses > 0 { 1 } else { line.window_blocks };
        let room = Room { now, window_blocks, options: &self.options };
        // One that can't be read now is asked for again later, and the others go on meanwhile.
        let may_go = |f: &&First| !f.sent && self.lanes[f.id.lane].may_send(now);
        match self.first.as_ref().filter(may_go).map(|first| first.id) {
            Some(id) => match self.lanes.turn_first(id, room, out) {
                Turn::Sent => self.first = Some(First { id, sent: true }),
                Turn::Wait => return,
                // Acknowledged long since, or gone from the spool.
                Turn::Idle => self.first = None,
            },
            None if line.hold_until.is_some() => return,
            None => {}
        }
        for &lane in Lane::ALL {
            // The wire is to be empty for a block that goes alone; alarms wait for nobody.
            if lane != Lane::Alarm
                && let Some(id) = self.lanes.trial(now)
                && self.lanes.turn_trial(id, room, out) != Turn::Idle
            {
                return;
            }
            if !self.lanes.drain(lane, room, out) {
                return;
            }
        }
    }
}

/// Reason codes of MQTT 5 (section 2.4) that are told apart here.
mod reason {
    pub const UNSPECIFIED: u8 = 0x80;
    pub const IMPLEMENTATION_SPECIFIC: u8 = 0x83;
    pub const SERVER_BUSY: u8 = 0x89;
    pub const PACKET_ID_IN_USE: u8 = 0x91;
    pub const PACKET_TOO_LARGE: u8 = 0x95;
    pub const QUOTA_EXCEEDED: u8 = 0x97;
    pub const PAYLOAD_FORMAT_INVALID: u8 = 0x99;
}

const fn blame(code: u8) -> Blame {
    match code {
        reason::SERVER_BUSY | reason::PACKET_ID_IN_USE | reason::QUOTA_EXCEEDED => Blame::Broker,
        reason::UNSPECIFIED | reason::IMPLEMENTATION_SPECIFIC => Blame::Unclear,
        _ => Blame::Block,
    }
}

/// Whether a spool can have made these numbers.
const fn possible(id: BlockId) -> bool {
    1 <= id.first && id.first <= id.last && id.last < SEQ_MAX
}

/// Fixed header, topic, packet id and properties of a publish, generously.
const PACKET_OVERHEAD_BYTES: usize = 512;
/// Between two attempts to read what can't be read.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause for a busy broker.
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(60);
/// A block that was overtaken by so large a part of the time for an acknowledgement is lost: aggregators that share the
/// deliveries are not that far behind each other.
const OVERTAKEN_PART: u32 = 8;

#[cfg(test)]
mod tests;
