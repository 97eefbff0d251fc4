//! What travels: records, grouped into blocks that are encoded once and never touched again.
//!
//! A block is one spool value, one MQTT payload, one step of acknowledgement. A record is identified by
//! (device, lane, epoch, seq). Enums here are append-only; golden files keep every version readable.

pub mod ack;
pub mod block;
mod columns;
mod envelope;
pub mod heartbeat;
pub mod json;
mod metric;
mod raw;

pub use block::{
    Block, BlockEncoder, BlockHeader, Body, WireError, decode_block, decode_header, encode_block, epoch_text,
};
pub use envelope::EnvelopeError;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::episode::EpisodeUpdate;
use crate::limits;
use crate::reading::{Reading, named_enum};
use crate::time::{BootId, Wall};
use crate::window::WindowSummary;

named_enum! {
    /// The lanes in order of precedence.
    Lane { Alarm = "alarm", Digest = "digest", Metric = "metric", Raw = "raw" }
}

impl Lane {
    /// Position in per-lane tables, 0 to 3.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// One value per lane, indexed by [`Lane::index`].
pub type PerLane<T> = [T; 4];

/// What the agent promises to keep and deliver. Append only.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// Lane `raw`.
    Reading(Reading),
    /// Lane `metric`.
    Window(WindowSummary),
    /// Lane `alarm`.
    Episode(EpisodeUpdate),
    /// Lane `digest`.
    Digest(Digest),
    /// Lane `alarm`: the agent speaks about itself (spool salvaged, clock stepped).
    Notice(Notice),
    /// Lane `alarm`: where a boot of the device stands in time, known later than what it sent.
    Clock(ClockFix),
}

/// Where one boot of the device stands in time.
///
/// Every block says which boot sealed it, and the wall and the monotonic time of that moment. Once it is known what the
/// time really was, the difference is the error of everything that the same clock stamped: stored blocks stay as they are,
/// and whoever reads them adds the difference. A later fix of the same boot replaces the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockFix {
    /// The boot.
    pub boot: BootId,
    /// True wall time less monotonic time, in microseconds: when the boot began.
    pub offset_us: i64,
    /// How far that may be off, in microseconds; `u64::MAX` when nobody knows.
    pub uncertainty_us: u64,
    /// The same difference by the clock of this boot while it was not set; none if it always was.
    pub unset_offset_us: Option<i64>,
}

impl ClockFix {
    /// What `at` really was, if this boot stamped it before its clock was set.
    pub fn truly(&self, at: Wall) -> Wall {
        match self.unset_offset_us {
            Some(unset_us) if at < limits::WALL_PLAUSIBLE_MIN => {
                Wall(at.0.saturating_add(self.offset_us.saturating_sub(unset_us)))
            }
            _ => at,
        }
    }

    /// How far it may be off, in microseconds; `None` when nobody knows.
    pub const fn known_uncertainty_us(&self) -> Option<u64> {
        match self.uncertainty_us {
            u64::MAX => None,
            us => Some(us),
        }
    }
}

/// A remark of the agent about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Stable machine name, such as `spool_salvaged`.
    pub code: String,
    /// One sentence for a person, with the next step.
    pub text: String,
    /// When, the agent's wall time.
    pub at: Wall,
}

impl Notice {
    /// Code of the first record of every run. An agent follows no episode of the run before: one that was open when
    /// this was admitted is never closed.
    pub const AGENT_STARTED: &'static str = "agent_started";
}

impl Record {
    /// The lane that carries it.
    pub const fn lane(&self) -> Lane {
        match self {
            Record::Reading(_) => Lane::Raw,
            Record::Window(_) => Lane::Metric,
            Record::Episode(_) | Record::Notice(_) | Record::Clock(_) => Lane::Alarm,
            Record::Digest(_) => Lane::Digest,
        }
    }
}

named_enum! {
    /// Why records were given up. Append only.
    GapReason {
        /// The lane's byte quota was full.
        Quota = "quota",
        /// The disk's free-space floor was reached.
        DiskFull = "disk_full",
        /// A stored block did not match its checksum.
        Corrupt = "corrupt",
        /// The far side refused the block for good.
        Refused = "refused",
        /// A single record was larger than a block may be.
        Oversize = "oversize",
        /// Every second block of a lane whose quota was full went, so that the others could stay.
        Thinned = "thinned",
    }
}

/// Where a block stands in its lane, without its payload: everything the protocol needs to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlockId {
    /// The lane.
    pub lane: Lane,
    /// Sequence number of the first record; a lane's numbers start at 1 in each epoch.
    pub first: u64,
    /// Sequence number of the last record, inclusive.
    pub last: u64,
}

impl BlockId {
    /// Number of records.
    pub const fn count(&self) -> u64 {
        self.last - self.first + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_stamped_in_1970_by_a_boot_that_began_there_is_set_right() {
        let began = Wall::from_secs(1_790_000_000);
        let fix = ClockFix {
            boot: BootId([1; 16]),
            offset_us: began.0,
            uncertainty_us: 0,
            unset_offset_us: Some(5_000_000),
        };
        assert_eq!(fix.truly(Wall::from_secs(65)), Wall::from_secs(1_790_000_060));
        assert_eq!(fix.truly(began), began);
        let never_unset = ClockFix { unset_offset_us: None, ..fix };
        assert_eq!(never_unset.truly(Wall::from_secs(65)), Wall::from_secs(65));
    }
}
