//! The key of a stored block: everything that must be known of it without touching the payload.
//!
//! ```text
//! 'b' | lane u8 | first u64 BE | last u64 BE | kind u8 | sealed i64 BE | CRC-32 of the value, BE
//! ```
//!
//! Keys sort by lane, then by first sequence number. The value is byte for byte what is published.

use crate::time::Wall;
use crate::wire::{BlockId, GapReason, Lane};

/// A stored block without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the sequence.
    pub id: BlockId,
    /// Why the records are gone, or `None` where they are there.
    pub gap: Option<GapReason>,
    /// Wall time of the seal.
    pub sealed: Wall,
    /// CRC-32 of the value.
    pub crc: u32,
}

/// Bytes of one key.
pub const KEY_BYTES: usize = 1 + 1 + 8 + 8 + 1 + 8 + 4;

impl Entry {
    /// The key under which the block lies.
    pub fn key(&self) -> [u8; KEY_BYTES] {
        let mut key = [0; KEY_BYTES];
        key[..10].copy_from_slice(&lane_key(self.id.lane, self.id.first));
        key[10..18].copy_from_slice(&self.id.last.to_be_bytes());
        key[18] = self.gap.map_or(0, |reason| reason as u8 + 1);
        key[19..27].copy_from_slice(&self.sealed.0.to_be_bytes());
        key[27..].copy_from_slice(&self.crc.to_be_bytes());
        key
    }

    /// The entry whose key this is; `None` for anything that is no key of a block.
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let key: &[u8; KEY_BYTES] = key.try_into().ok()?;
        let number = |at: usize| u64::from_be_bytes(std::array::from_fn(|i| key[at + i]));
        let id = BlockId { lane: *Lane::ALL.get(usize::from(key[1]))?, first: number(2), last: number(10) };
        let gap = match key[18] {
            0 => None,
            code => Some(*GapReason::ALL.get(usize::from(code) - 1)?),
        };
        let crc = u32::from_be_bytes(std::array::from_fn(|i| key[27 + i]));
        let sound = key[0] == TAG && id.first >= 1 && id.last >= id.first && id.last < u64::MAX;
        sound.then_some(Entry { id, gap, sealed: Wall(number(19) as i64), crc })
    }

    /// Records that this block keeps: none in a gap.
    pub fn records(&self) -> u64 {
        if self.gap.is_some() { 0 } else { self.id.count() }
    }
}

/// Lower bound of the keys of `lane` whose first record is `first` or later.
pub fn lane_key(lane: Lane, first: u64) -> [u8; 10] {
    let mut key = [0; 10];
    key[0] = TAG;
    key[1] = lane as u8;
    key[2..].copy_from_slice(&first.to_be_bytes());
    key
}

/// What a block costs of the quota, in bytes.
pub const fn cost_bytes(value_bytes: usize) -> u64 {
    (value_bytes + KEY_BYTES) as u64
}

const TAG: u8 = b'b';

// Lanes and reasons stand in keys as one byte each.
const _: () = assert!(Lane::ALL.len() < 255 && GapReason::ALL.len() < 255);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_what_the_entry_was_and_sorts_by_sequence() {
        let mut previous = Vec::new();
        for (first, last, gap) in
            [(1, 1, None), (2, 300, Some(GapReason::Oversize)), (301, 301, Some(GapReason::Quota))]
        {
            let id = BlockId { lane: Lane::Metric, first, last };
            let entry = Entry { id, gap, sealed: Wall(-5), crc: 0xdead_beef };
            assert_eq!(Entry::from_key(&entry.key()), Some(entry));
            assert!(entry.key().to_vec() > previous);
            previous = entry.key().to_vec();
        }
        assert_eq!(Entry::from_key(b"meta"), None);
        assert_eq!(Entry::from_key(&[0xff; KEY_BYTES]), None);
    }
}
