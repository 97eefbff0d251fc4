//! The books: epoch, next numbers and the ledger, written in the same commit as the blocks that they count.
//!
//! ```text
//! "OPM1" | length of the rest u16 LE | postcard | CRC-32 LE
//! ```
//!
//! Framed like a block, so that a salvage finds the newest copy in a damaged file.

use serde::{Deserialize, Serialize};

use crate::wire::{GapReason, PerLane};

/// What one lane has admitted and what became of it. Always `admitted = acknowledged + pending + evicted`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaneLedger {
    /// The epoch whose records these are.
    pub epoch: u64,
    /// Records promised (durable) since the epoch began; the last has this sequence number.
    pub admitted: u64,
    /// Records released by the far side's acknowledgement.
    pub acknowledged: u64,
    /// Records waiting.
    pub pending: u64,
    /// Records given up, by [`GapReason`] in its order; each lies in a declared gap.
    pub evicted: [u64; GapReason::ALL.len()],
    /// Bytes that the lane's blocks and gaps take of the quota.
    pub bytes: u64,
}

impl LaneLedger {
    /// Records given up, for whatever reason.
    pub fn evicted_total(&self) -> u64 {
        self.evicted.iter().sum()
    }

    /// Whether the books are closed; false would be a bug of the spool.
    pub fn balances(&self) -> bool {
        self.admitted == self.acknowledged + self.pending + self.evicted_total()
    }
}

/// Everything the spool remembers apart from the blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// Counts commits; the copy with the highest is the newest.
    pub commit: u64,
    pub epoch: u64,
    pub lanes: PerLane<LaneMeta>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LaneMeta {
    /// Sequence number of the next record. Survives an emptied spool.
    pub next: u64,
    /// Everything up to here is released.
    pub through: u64,
    pub acknowledged: u64,
    pub pending: u64,
    pub bytes: u64,
    /// By reason; a list, so that a new reason does not change the format.
    evicted: Vec<u64>,
}

impl Meta {
    pub fn new(epoch: u64) -> Self {
        let lane =
            || LaneMeta { next: 1, through: 0, acknowledged: 0, pending: 0, bytes: 0, evicted: Vec::new() };
        Self { commit: 0, epoch, lanes: [lane(), lane(), lane(), lane()] }
    }

    pub fn bytes(&self) -> u64 {
        self.lanes.iter().map(|l| l.bytes).sum()
    }

    pub fn ledger(&self) -> PerLane<LaneLedger> {
        std::array::from_fn(|i| self.lanes[i].ledger(self.epoch))
    }

    pub fn encode(&self) -> Vec<u8> {
        // Numbers only: postcard has no way to fail on them.
        let body = postcard::to_stdvec(self).unwrap_or_default();
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&((body.len() + 4) as u16).to_le_bytes());
        out.extend_from_slice(&body);
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// The books at the start of `bytes`; `None` if that is not what stands there.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let length = usize::from(u16::from_le_bytes([*rest.first()?, *rest.get(1)?]));
        let (content, crc) = bytes.get(..6 + length)?.split_last_chunk::<4>()?;
        if crc32fast::hash(content).to_le_bytes() != *crc {
            return None;
        }
        let meta: Meta = postcard::from_bytes(content.get(6..)?).ok()?;
        meta.ledger().iter().all(LaneLedger::balances).then_some(meta)
    }
}

impl LaneMeta {
    /// Moves `records` from pending to evicted.
    pub fn evict(&mut self, reason: GapReason, records: u64) {
        self.evicted.resize(self.evicted.len().max(reason as usize + 1), 0);
        self.evicted[reason as usize] += records;
        self.pending = self.pending.saturating_sub(records);
    }

    fn ledger(&self, epoch: u64) -> LaneLedger {
        LaneLedger {
            epoch,
            admitted: self.next.saturating_sub(1),
            acknowledged: self.acknowledged,
            pending: self.pending,
            evicted: std::array::from_fn(|i| self.evicted.get(i).copied().unwrap_or(0)),
            bytes: self.bytes,
        }
    }
}

/// Where the books lie in the journal: before all blocks. sled writes a page anew every few changes; behind the blocks
/// the books would share theirs with the newest and largest ones.
pub(super) const META_KEY: &[u8] = b"Meta";

const MAGIC: &[u8; 4] = b"OPM1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_books_come_back_and_damaged_ones_do_not() {
        let mut meta = Meta::new(7);
        meta.lanes[3].next = 11;
        meta.lanes[3].pending = 10;
        meta.lanes[3].evict(GapReason::Corrupt, 4);
        let mut bytes = meta.encode();
        assert_eq!(Meta::decode(&bytes), Some(meta));
        bytes[9] ^= 1;
        assert_eq!(Meta::decode(&bytes), None);
    }

    #[test]
    fn books_that_do_not_balance_are_no_books() {
        let mut meta = Meta::new(7);
        meta.lanes[0].pending = 1;
        assert_eq!(Meta::decode(&meta.encode()), None);
    }
}
