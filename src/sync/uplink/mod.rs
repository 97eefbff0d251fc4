//! The gateway's seat: what to send, resend and release, and in which order. No clock, no socket, no disk inside.
//!
//! Order: the block named by [`Input::First`] after an outage; then lane by lane in their precedence (alarm, digest,
//! metric, raw); within a lane what was sealed since the line came up ("live") before what waited ("backfill", flagged
//! historical), backfill keeping a share of the bytes. A block is on the wire until its PUBACK and unacknowledged until
//! its acknowledgement; both are bounded, so memory does not grow with the backlog.
//!
//! The session is disposable: when the line drops everything in flight is forgotten, when it is up again sending starts
//! at the oldest unacknowledged block. Nothing is released that was not acknowledged for this epoch.
//!
//! ```
//! use outpost::sync::uplink::{Block, Input, Output, Uplink, UplinkOptions};
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
//!                 next.extend(uplink.step(Mono(1), Input::PubAck { token, result: Ok(()) }));
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

mod lane;

use std::time::Duration;

use lane::{Expired, Lanes, Turn};

use crate::limits::{ACK_LANES_MAX, UPLINK_REFUSALS_MAX};
use crate::reading::named_enum;
use crate::sync::ranges::SEQ_MAX;
use crate::time::Mono;
use crate::wire::ack::{AckMessage, LaneAck};
use crate::wire::{BlockId, Lane};

named_enum! {
    /// Whose word releases a block from the spool.
    AckMode {
        /// The aggregator's, after its commit. Proves delivery.
        Aggregator = "aggregator",
        /// The broker's PUBACK. For clouds without an aggregator: a broker that dies may lose what it acknowledged.
        Broker = "broker",
    }
}

/// How much may be under way, and how long to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkOptions {
    /// Whose word releases; default [`AckMode::Aggregator`].
    pub ack: AckMode,
    /// Blocks without PUBACK, at most; the broker's receive maximum lowers it. Default 32, at least 1.
    pub window_blocks: usize,
    /// Bytes without PUBACK, at most: what an alarm may have to wait behind. One block always passes. Default 256 KiB.
    pub window_bytes: usize,
    /// Bytes without acknowledgement, at most. Default 4 MiB.
    pub unacked_bytes_max: usize,
    /// Share of a lane's bytes that backfill keeps while live blocks flow, in percent, 0 to 100. Default 20.
    pub backfill_share_percent: u8,
    /// A block with PUBACK and without acknowledgement is sent again after this; doubles up to eightfold. Default 30 s.
    pub ack_timeout: Duration,
    /// How long everything waits for an announced first block. Default 3 s.
    pub first_wait: Duration,
}

impl Default for UplinkOptions {
    fn default() -> Self {
        Self {
            ack: AckMode::Aggregator,
            window_blocks: 32,
            window_bytes: 256 * 1024,
            unacked_bytes_max: 4 * 1024 * 1024,
            backfill_share_percent: 20,
            ack_timeout: Duration::from_secs(30),
            first_wait: Duration::from_secs(3),
        }
    }
}

/// A stored block with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Lane and sequence numbers; a gap block spans what it stands in for.
    pub id: BlockId,
    /// What is published, byte for byte.
    pub payload: Vec<u8>,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A first block will be named: hold everything after the next [`Input::LineUp`] until [`Input::First`] or
    /// [`UplinkOptions::first_wait`].
    ExpectFirst,
    /// Send this block before anything else, now and after every cut until it is acknowledged.
    First(BlockId),
    /// The line is up. Tell every lane's [`Input::Tail`] before.
    LineUp {
        /// The broker's receive maximum, 1 to 65 535.
        receive_max: u16,
        /// Largest packet the broker takes, in bytes.
        packet_bytes_max: u32,
    },
    /// The line is down; whatever was in flight is unknown.
    LineDown,
    /// The spool committed or was opened.
    Tail {
        /// The lane.
        lane: Lane,
        /// Oldest pending sequence number; `next_seq` when nothing is pending.
        oldest: u64,
        /// The number that the lane's next record gets.
        next_seq: u64,
    },
    /// The answer to [`Output::Fetch`]: the first block whose last number is at or after the one asked for.
    Fetched {
        /// The lane.
        lane: Lane,
        /// `None` when there is no such block.
        block: Option<Block>,
    },
    /// The broker's answer to [`Output::Publish`].
    PubAck {
        /// The publish.
        token: u64,
        /// The MQTT 5 reason code when it failed.
        result: Result<(), u8>,
    },
    /// The aggregator's acknowledgement.
    Ack(AckMessage),
    /// Time passed; see [`Uplink::deadline`].
    Tick,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Fetch the first block whose last number is `from` or more, and answer with [`Input::Fetched`]. At most one per
    /// lane is outstanding.
    Fetch {
        /// The lane.
        lane: Lane,
        /// Lowest number wanted.
        from: u64,
    },
    /// Publish at QoS 1 on the topic of `id.lane`.
    Publish {
        /// Comes back in [`Input::PubAck`]; never used twice.
        token: u64,
        /// The block.
        id: BlockId,
        /// Its bytes.
        payload: Vec<u8>,
        /// Whether it was sealed before the line came up.
        historical: bool,
    },
    /// The spool may forget these.
    Release {
        /// The lane.
        lane: Lane,
        /// Everything up to this number; may repeat an earlier one.
        through: u64,
        /// Ranges beyond it, newly acknowledged.
        also: Vec<(u64, u64)>,
    },
    /// The broker refused a block. It stays in the spool.
    Refused {
        /// The block.
        id: BlockId,
        /// MQTT 5 reason code.
        code: u8,
        /// Whether it is set aside until the line comes up again; otherwise it is tried again soon.
        set_aside: bool,
    },
    /// An acknowledgement beyond anything ever stored under this epoch: the spool's disk was rolled back, or the sender
    /// is mistaken. Nothing is released by it.
    AckBeyondTail {
        /// The entry.
        ack: LaneAck,
    },
}

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
                self.line_up(now, receive_max, packet_bytes_max)
            }
            Input::LineDown => self.line_down(),
            Input::Tail { lane, oldest, next_seq } => self.lanes[lane].tail(oldest, next_seq),
            Input::Fetched { lane, block } => self.fetched(lane, block, &mut out),
            Input::PubAck { token, result } => self.pub_ack(now, token, result, &mut out),
            Input::Ack(message) => self.ack(message, &mut out),
            Input::Tick => {}
        }
        self.expire(now);
        self.pump(now, &mut out);
        out
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
        self.lanes.iter().map(|lane| lane.wire_blocks()).sum()
    }

    /// Bytes without acknowledgement now; at most [`UplinkOptions::unacked_bytes_max`] or one block.
    pub fn unacked_bytes(&self) -> usize {
        self.lanes.iter().map(|lane| lane.unacked_bytes()).sum()
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
        self.line_down();
        self.line = Some(Line {
            window_blocks: self.options.window_blocks.min(usize::from(receive_max)).max(1),
            packet_bytes_max: usize::try_from(packet_bytes_max).unwrap_or(usize::MAX),
            hold_until: self.expect_first.then(|| now + self.options.first_wait),
        });
        self.lanes.iter_mut().for_each(|lane| lane.line_up());
    }

    fn line_down(&mut self) {
        self.line = None;
        self.paused_until = None;
        self.lanes.iter_mut().for_each(|lane| lane.line_down());
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
                out.push(Output::Refused { id: block.id, code: reason::PACKET_TOO_LARGE, set_aside: true });
            }
            if let Some(first) =
                self.first.as_mut().filter(|f| f.id.lane == lane && f.id.first <= block.id.last)
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

    fn pub_ack(&mut self, now: Mono, token: u64, result: Result<(), u8>, out: &mut Vec<Output>) {
        // A token of an earlier session, or one that was given up, is nobody's.
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.has_on_wire(token)) else { return };
        let Err(code) = result else {
            self.pauses = 0;
            let id = lane.on_broker(now, token);
            if let (AckMode::Broker, Some(id)) = (self.options.ack, id) {
                out.extend(lane.acknowledge(None, &[(id.first, id.last)]));
                self.forget_first();
            }
            return;
        };
        let busy = is_busy(code);
        let Some((id, set_aside)) = lane.refused(now, token, busy, UPLINK_REFUSALS_MAX) else { return };
        if busy {
            let wait = Duration::from_secs(1u64 << self.pauses.min(6)).min(BUSY_PAUSE_MAX);
            self.pauses += 1;
            self.paused_until = Some(now + wait);
        }
        out.push(Output::Refused { id, code, set_aside });
    }

    fn ack(&mut self, message: AckMessage, out: &mut Vec<Output>) {
        // Another epoch's numbers mean other records; with PUBACKs in charge nobody else's word counts.
        let mine = message.lanes.into_iter().take(ACK_LANES_MAX).filter(|ack| ack.epoch == self.epoch);
        for ack in mine.filter(|_| self.options.ack == AckMode::Aggregator) {
            let lane = &mut self.lanes[ack.lane];
            let highest = ack.also.iter().map(|r| r.1).max().unwrap_or(0).max(ack.through);
            if highest >= lane.next_seq() {
                out.push(Output::AckBeyondTail { ack });
                continue;
            }
            out.extend(lane.acknowledge(Some(ack.through), &ack.also));
        }
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
        let window = line.window_blocks;
        if let Some(first) = self.first.as_ref().filter(|f| !f.sent) {
            let id = first.id;
            match self.lanes.turn_first(id, window, &self.options, out) {
                Turn::Sent => self.first = Some(First { id, sent: true }),
                Turn::Wait => return,
                // Acknowledged long since, or gone from the spool.
                Turn::Idle => self.first = None,
            }
        } else if line.hold_until.is_some() {
            return;
        }
        for &lane in Lane::ALL {
            loop {
                match self.lanes.turn(lane, now, window, &self.options, out) {
                    Turn::Sent => {}
                    Turn::Idle => break,
                    Turn::Wait => return,
                }
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
}

/// Whether a refusal speaks of the broker's state rather than of the block.
const fn is_busy(code: u8) -> bool {
    matches!(
        code,
        reason::UNSPECIFIED
            | reason::IMPLEMENTATION_SPECIFIC
            | reason::SERVER_BUSY
            | reason::PACKET_ID_IN_USE
            | reason::QUOTA_EXCEEDED
    )
}

/// Whether a spool can have made these numbers.
const fn possible(id: BlockId) -> bool {
    1 <= id.first && id.first <= id.last && id.last < SEQ_MAX
}

/// Fixed header, topic, packet id and properties of a publish, generously.
const PACKET_OVERHEAD_BYTES: usize = 512;
/// Longest pause for a busy broker.
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
