//! What goes into the gateway's seat and what comes out of it.

use std::time::Duration;

use crate::limits;
use crate::reading::named_enum;
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
    /// Bytes without PUBACK behind which no other block goes. What the line has shown lowers it, so that an alarm does not
    /// wait behind them. Default [`limits::UPLINK_WINDOW_BYTES_MAX`].
    pub window_bytes: usize,
    /// Bytes without acknowledgement, at most. Default 4 MiB.
    pub unacked_bytes_max: usize,
    /// Share of a lane's bytes that backfill keeps while live blocks flow, in percent, 0 to 100. Default 20.
    pub backfill_share_percent: u8,
    /// A block with PUBACK and without acknowledgement is sent again after this; doubles up to eightfold. The first time it is
    /// as soon as one that has an eighth of it less is acknowledged. Default 30 s.
    pub ack_timeout: Duration,
    /// How long everything waits for an announced first block. Default 3 s.
    pub first_wait: Duration,
}

impl Default for UplinkOptions {
    fn default() -> Self {
        Self {
            ack: AckMode::Aggregator,
            window_blocks: 32,
            window_bytes: limits::UPLINK_WINDOW_BYTES_MAX,
            unacked_bytes_max: 4 * 1024 * 1024,
            backfill_share_percent: 20,
            ack_timeout: Duration::from_secs(30),
            first_wait: Duration::from_millis(limits::FIRST_WAIT_MS),
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

/// Who hears what the broker took, as far as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// It does not say: somebody, or MQTT 3.1.1.
    Unknown,
    /// "No matching subscribers" (MQTT 5, 3.4.2.1): it has thrown the message away.
    Nobody,
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
    LineDown {
        /// The MQTT 5 reason code if it was the broker that hung up, maybe on a block; unspecified error (0x80) where it
        /// said nothing.
        by_broker: Option<u8>,
    },
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
    /// The other answer to [`Output::Fetch`]: the disk can't be read now. It is asked for again in a second.
    Unreadable {
        /// The lane.
        lane: Lane,
    },
    /// The broker's answer to [`Output::Publish`].
    PubAck {
        /// The publish.
        token: u64,
        /// Who hears it, or the MQTT 5 reason code of a refusal.
        result: Result<Audience, u8>,
    },
    /// The aggregator's acknowledgement.
    Ack(AckMessage),
    /// Time passed; see [`super::Uplink::deadline`].
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
    /// The broker refused a block, or hung up on it. It stays in the spool, unless it is `poison`.
    Refused {
        /// The block.
        id: BlockId,
        /// MQTT 5 reason code.
        code: u8,
        /// Whether it is set aside until the line comes up again; otherwise it is tried again soon.
        set_aside: bool,
        /// Whether that happened often enough for what the block is, which no later session changes. Other refusals speak of
        /// the broker's limits or of our rights, and end when an operator changes those.
        poison: bool,
    },
    /// An acknowledgement beyond anything ever stored under this epoch: the spool's disk was rolled back, or the sender
    /// is mistaken. Nothing is released by it.
    AckBeyondTail {
        /// The entry.
        ack: LaneAck,
    },
}
