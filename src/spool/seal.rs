//! Records into blocks that fit: cut by estimate, halved where the estimate was too low.
//!
//! A single record that is larger than a block becomes a gap of its own; the others are not held up by it.

use crate::limits;
use crate::time::Stamp;
use crate::wire::block::estimate_bytes;
use crate::wire::{BlockHeader, BlockId, Body, GapReason, Lane, Record, WireError, json};

use super::Payload;
use super::entry::Entry;
use super::queue::Spool;

/// A block about to be written.
pub(super) struct Sealed {
    pub entry: Entry,
    pub bytes: Vec<u8>,
}

impl<J> Spool<J> {
    /// Cuts `records` into blocks that fit.
    pub(super) fn seal(
        &mut self,
        lane: Lane,
        mut first: u64,
        records: &[Record],
        stamp: Stamp,
        out: &mut Vec<Sealed>,
    ) {
        let mut rest = records;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take(limits::BLOCK_RECORDS_MAX).take_while(|record| {
                bytes += self.options.payload.estimate_bytes(record);
                bytes <= SEAL_BYTES
            });
            let (head, tail) = rest.split_at(fits.count().max(1));
            self.seal_fitting(lane, first, head, stamp, out);
            first += head.len() as u64;
            rest = tail;
        }
    }

    /// Seals `records` as one block, or as halves where the estimate was too low.
    fn seal_fitting(
        &mut self,
        lane: Lane,
        first: u64,
        records: &[Record],
        stamp: Stamp,
        out: &mut Vec<Sealed>,
    ) {
        let header = BlockHeader {
            lane,
            epoch: self.meta.epoch,
            first,
            count: records.len() as u32,
            sealed: stamp,
            body: Body::Records,
        };
        match self.payload(&header, records) {
            Ok(bytes) => out.push(sealed(&header, bytes)),
            Err(_) if records.len() > 1 => {
                let (head, tail) = records.split_at(records.len() / 2);
                self.seal_fitting(lane, first, head, stamp, out);
                self.seal_fitting(lane, first + head.len() as u64, tail, stamp, out);
            }
            Err(_) => {
                let gone = BlockId { lane, first, last: first };
                out.push(self.seal_gap(gone, GapReason::Oversize, stamp));
            }
        }
    }

    /// A gap in the place of `id`.
    pub(super) fn seal_gap(&mut self, id: BlockId, reason: GapReason, stamp: Stamp) -> Sealed {
        let header = BlockHeader {
            lane: id.lane,
            epoch: self.meta.epoch,
            first: id.first,
            count: 0,
            sealed: stamp,
            body: Body::Gap { reason, last: id.last },
        };
        let bytes = self.payload(&header, &[]);
        debug_assert!(bytes.is_ok(), "a gap always encodes: {bytes:?}");
        sealed(&header, bytes.unwrap_or_default())
    }

    fn payload(&mut self, header: &BlockHeader, records: &[Record]) -> Result<Vec<u8>, WireError> {
        let bytes = match &self.options.payload {
            Payload::Wire => self.encoder.encode(header, records)?,
            Payload::Json { device } => json::encode_document(device, header, records),
        };
        let max = limits::SPOOL_BLOCK_BYTES_MAX;
        if bytes.len() <= max { Ok(bytes) } else { Err(WireError::TooLarge { bytes: bytes.len(), max }) }
    }
}

impl Payload {
    /// About what `record` will take, in bytes; costs no more than a look at it.
    pub(super) fn estimate_bytes(&self, record: &Record) -> usize {
        let factor = if *self == Payload::Wire { 1 } else { JSON_SIZE_FACTOR };
        estimate_bytes(record) * factor
    }
}

fn sealed(header: &BlockHeader, bytes: Vec<u8>) -> Sealed {
    let gap = match header.body {
        Body::Records => None,
        Body::Gap { reason, .. } => Some(reason),
    };
    let crc = crc32fast::hash(&bytes);
    Sealed { entry: Entry { id: header.id(), gap, sealed: header.sealed.wall, crc }, bytes }
}

/// Estimated size at which a block is closed; leaves room for estimates that are half too low.
const SEAL_BYTES: usize = limits::SPOOL_BLOCK_BYTES_MAX * 2 / 3;
/// How much larger a record is in JSON than in a block.
const JSON_SIZE_FACTOR: usize = 16;
