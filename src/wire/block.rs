//! The block: records of one lane with consecutive numbers, encoded once.
//!
//! ```text
//! "OPB1" | length of all, u32 LE | header, postcard | codec | length of the plain body, varint | body | CRC-32, LE
//! ```
//!
//! The magic ends in the version. The length in front lets a salvage find blocks in a damaged file. The CRC covers
//! everything before it, so any single flipped bit is noticed. Bodies: `raw` and `metric` are columns, the other
//! lanes postcard; then zstd where it makes the body smaller and a sample of many rows says that this is worth its time.
//! Readers of version 1 are kept for ever (golden files).

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::episode::{EpisodeUpdate, Evidence};
use crate::limits;
use crate::time::Stamp;

use super::columns::{Cursor, put_varint};
use super::{BlockId, ClockFix, GapReason, Lane, Notice, Record, metric, raw};

/// Everything about a block but its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockHeader {
    /// The lane.
    pub lane: Lane,
    /// The epoch of the spool that numbered the records; printed as 16 hex digits.
    pub epoch: u64,
    /// Sequence number of the first record, from 1.
    pub first: u64,
    /// Records in the body, at most [`limits::BLOCK_RECORDS_MAX`]; 0 in a gap.
    pub count: u32,
    /// When the block was closed.
    pub sealed: Stamp,
    /// Records or the declaration that there are none.
    pub body: Body,
}

/// What a block holds. Append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// `count` records.
    Records,
    /// Stands in for records that were given up, at their place in the sequence.
    Gap {
        /// Why.
        reason: GapReason,
        /// Sequence number of the last record given up, inclusive.
        last: u64,
    },
}

/// A decoded block.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Where it stands.
    pub header: BlockHeader,
    /// Its records, in order; empty in a gap.
    pub records: Vec<Record>,
}

/// A block that can't be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The caller's fault: a record of another lane, or a header that does not fit the records.
    #[error("a record does not belong into this block: one lane per block, count as in the header")]
    WrongLane,
    /// The caller has to use fewer records.
    #[error("block of {bytes} bytes is over the limit of {max}: put fewer records into it")]
    TooLarge {
        /// Its size, encoded or plain.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The bytes are no block.
    #[error("not a block: magic missing; is another program publishing to this topic?")]
    NotABlock,
    /// The sender is newer than this reader.
    #[error("block format version {0} is unknown here: upgrade the reader")]
    Version(char),
    /// The bytes changed on the way or on the disk.
    #[error("block damaged: checksum does not match")]
    Checksum,
    /// The checksum is right and the content is not: the sender's fault.
    #[error("block malformed: {0}; report it with the sender's version")]
    Malformed(&'static str),
}

impl BlockHeader {
    /// Sequence number of the last record, inclusive; saturates on a header that makes no sense.
    pub fn last(&self) -> u64 {
        match self.body {
            Body::Records => self.first.saturating_add(u64::from(self.count)).saturating_sub(1),
            Body::Gap { last, .. } => last,
        }
    }

    /// Place in the sequence.
    pub fn id(&self) -> BlockId {
        BlockId { lane: self.lane, first: self.first, last: self.last() }
    }

    /// The epoch as it is printed everywhere: 16 hex digits.
    pub fn epoch_text(&self) -> String {
        epoch_text(self.epoch)
    }

    /// Refuses headers that no writer makes: numbers from 1, `first <= last` and no overflow.
    fn check(&self) -> Result<(), WireError> {
        let shape = match self.body {
            Body::Records => (1..=limits::BLOCK_RECORDS_MAX).contains(&(self.count as usize)),
            Body::Gap { last, .. } => self.count == 0 && last >= self.first,
        };
        let room = self.first >= 1 && self.first.checked_add(u64::from(self.count)).is_some();
        if shape && room && self.last() < u64::MAX { Ok(()) } else { Err(WireError::Malformed("header")) }
    }
}

/// An epoch as it is printed everywhere: 16 hex digits.
pub fn epoch_text(epoch: u64) -> String {
    format!("{epoch:016x}")
}

/// Encodes blocks; keeps the compressor's tables between them (about 1 MiB).
pub struct BlockEncoder {
    zstd: Zstd,
    body: Vec<u8>,
}

impl Default for BlockEncoder {
    fn default() -> Self {
        Self::new()
    }
}

impl BlockEncoder {
    /// An encoder without state that matters: the same records give the same bytes.
    pub fn new() -> Self {
        Self { zstd: Zstd::new(), body: Vec::new() }
    }

    /// One block of at most [`limits::BLOCK_BYTES_MAX`] bytes.
    ///
    /// Fails with [`WireError::TooLarge`] where the records do not fit; halve them and try again.
    pub fn encode(&mut self, header: &BlockHeader, records: &[Record]) -> Result<Vec<u8>, WireError> {
        header.check()?;
        if records.len() != header.count as usize {
            return Err(WireError::WrongLane);
        }
        self.body.clear();
        if !records.is_empty() {
            encode_body(header.lane, records, &mut self.body)?;
        }
        check_size(self.body.len(), limits::BLOCK_BODY_BYTES_MAX)?;
        let mut out = Vec::with_capacity(HEAD_BYTES + self.body.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[0; 4]);
        let mut out = postcard::to_extend(header, out).map_err(|_| WireError::Malformed("header"))?;
        self.put_body(header.lane, &mut out);
        let length = out.len() + 4;
        check_size(length, limits::BLOCK_BYTES_MAX)?;
        out[4..8].copy_from_slice(&(length as u32).to_le_bytes());
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        Ok(out)
    }

    fn put_body(&mut self, lane: Lane, out: &mut Vec<u8>) {
        let small = if is_worth_zstd(lane, &self.body) { self.zstd.smaller(&self.body) } else { None };
        out.push(if small.is_some() { CODEC_ZSTD } else { CODEC_PLAIN });
        put_varint(out, self.body.len() as u64);
        out.extend_from_slice(small.unwrap_or(&self.body));
    }
}

/// Columns always are, once they are longer than zstd's frame: thousands of numbers stand in one block, and zstd costs little
/// beside them. Of many rows a sample tells: where no byte comes oftener than another zstd would cost as much as all else
/// that is done to the records, and take off next to nothing.
fn is_worth_zstd(lane: Lane, body: &[u8]) -> bool {
    match lane {
        Lane::Alarm | Lane::Digest if body.len() >= SAMPLED_BYTES_MIN => is_uneven(body),
        _ => body.len() >= COMPRESS_BYTES_MIN,
    }
}

/// Whether two bytes of `body` are the same oftener than one time in [`EVEN_BYTES`], by a sample of it.
fn is_uneven(body: &[u8]) -> bool {
    let mut counts = [0_u64; 256];
    body.iter().step_by(SAMPLE_EVERY).for_each(|&byte| counts[usize::from(byte)] += 1);
    let all: u64 = counts.iter().sum();
    let same: u64 = counts.iter().map(|n| n * n.saturating_sub(1)).sum();
    same * EVEN_BYTES > all * all.saturating_sub(1)
}

/// A compressor and where it writes.
struct Zstd {
    /// Without memory for its tables nothing is compressed.
    compressor: Option<zstd::bulk::Compressor<'static>>,
    out: Vec<u8>,
}

impl Zstd {
    fn new() -> Self {
        Self { compressor: zstd::bulk::Compressor::new(ZSTD_LEVEL).ok(), out: Vec::new() }
    }

    /// `plain` compressed, if that makes it smaller.
    fn smaller(&mut self, plain: &[u8]) -> Option<&[u8]> {
        self.out.clear();
        self.out.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        let bytes = self.compressor.as_mut()?.compress_to_buffer(plain, &mut self.out).ok()?;
        (bytes < plain.len()).then_some(&self.out)
    }
}

/// One block with a fresh encoder; see [`BlockEncoder::encode`].
pub fn encode_block(header: &BlockHeader, records: &[Record]) -> Result<Vec<u8>, WireError> {
    BlockEncoder::new().encode(header, records)
}

/// The whole block. Hostile bytes cost at most [`limits::BLOCK_BODY_BYTES_MAX`] and what the records in them need.
pub fn decode_block(bytes: &[u8]) -> Result<Block, WireError> {
    let (header, rest) = split(bytes)?;
    let mut cursor = Cursor::new(rest);
    let codec = cursor.u8()?;
    let length = cursor.count(limits::BLOCK_BODY_BYTES_MAX)?;
    let rest = &rest[rest.len() - cursor.remaining()..];
    let plain = match codec {
        CODEC_PLAIN => std::borrow::Cow::Borrowed(rest),
        CODEC_ZSTD => zstd::bulk::decompress(rest, length).map_err(|_| WireError::Malformed("zstd"))?.into(),
        _ => return Err(WireError::Malformed("codec")),
    };
    if plain.len() != length {
        return Err(WireError::Malformed("body length"));
    }
    let records = match header.body {
        Body::Records => decode_body(header.lane, &plain, header.count as usize)?,
        Body::Gap { .. } if plain.is_empty() => Vec::new(),
        Body::Gap { .. } => return Err(WireError::Malformed("records in a gap")),
    };
    Ok(Block { header, records })
}

/// The header alone, with the checksum of the whole block checked.
pub fn decode_header(bytes: &[u8]) -> Result<BlockHeader, WireError> {
    split(bytes).map(|(header, _)| header)
}

/// Length of the block that seems to begin here, as its prefix says; for searching damaged files.
pub fn block_length_at(bytes: &[u8]) -> Option<usize> {
    let prefix = bytes.get(..8)?;
    let length = u32::from_le_bytes(prefix[4..8].try_into().ok()?) as usize;
    (prefix[..4] == *MAGIC && (16..=limits::BLOCK_BYTES_MAX).contains(&length)).then_some(length)
}

/// A rough size of `record` in a block, in bytes, to decide when a block is full.
pub fn estimate_bytes(record: &Record) -> usize {
    match record {
        Record::Reading(_) => 4,
        Record::Window(_) => 48,
        Record::Episode(e) => 96 + e.reason.len(),
        Record::Notice(n) => 16 + n.code.len() + n.text.len(),
        Record::Clock(_) => 46,
        Record::Digest(d) => 128 + d.text.len() + 96 * d.facts.events.len(),
    }
}

/// Checks frame, version, length and CRC; gives the header and what follows it up to the CRC.
fn split(bytes: &[u8]) -> Result<(BlockHeader, &[u8]), WireError> {
    let magic = bytes.get(..4).ok_or(WireError::NotABlock)?;
    if magic[..3] != MAGIC[..3] {
        return Err(WireError::NotABlock);
    }
    if magic[3] != MAGIC[3] {
        return Err(WireError::Version(char::from(magic[3])));
    }
    check_size(bytes.len(), limits::BLOCK_BYTES_MAX)?;
    if block_length_at(bytes) != Some(bytes.len()) {
        return Err(WireError::Checksum);
    }
    let (content, crc) = bytes.split_at(bytes.len() - 4);
    if crc32fast::hash(content).to_le_bytes() != crc {
        return Err(WireError::Checksum);
    }
    let (header, rest): (BlockHeader, _) =
        postcard::take_from_bytes(&content[8..]).map_err(|_| WireError::Malformed("header"))?;
    header.check()?;
    Ok((header, rest))
}

fn check_size(bytes: usize, max: usize) -> Result<(), WireError> {
    if bytes <= max { Ok(()) } else { Err(WireError::TooLarge { bytes, max }) }
}

fn encode_body(lane: Lane, records: &[Record], out: &mut Vec<u8>) -> Result<(), WireError> {
    match lane {
        Lane::Raw => raw::encode(records, out),
        Lane::Metric => metric::encode(records, out),
        Lane::Alarm => put_rows(out, records, |r| match r {
            Record::Episode(episode) if episode.evidence.is_some() => Some(AlarmRef::Proven(episode)),
            Record::Episode(episode) => Some(AlarmRef::Episode(episode)),
            Record::Notice(notice) => Some(AlarmRef::Notice(notice)),
            Record::Clock(fix) => Some(AlarmRef::Clock(fix)),
            _ => None,
        }),
        Lane::Digest => put_rows(out, records, |r| match r {
            Record::Digest(digest) => Some(digest),
            _ => None,
        }),
    }
}

fn decode_body(lane: Lane, body: &[u8], count: usize) -> Result<Vec<Record>, WireError> {
    match lane {
        Lane::Raw => raw::decode(body, count),
        Lane::Metric => metric::decode(body, count),
        Lane::Alarm => rows(body, count, |alarm| match alarm {
            Alarm::Episode(episode) => Record::Episode(episode),
            Alarm::Notice(notice) => Record::Notice(notice),
            Alarm::Clock(fix) => Record::Clock(fix),
            Alarm::Proven(episode, evidence) => Record::Episode(EpisodeUpdate { evidence, ..episode }),
        }),
        Lane::Digest => rows::<Digest>(body, count, Record::Digest),
    }
}

/// Lane `alarm` as read. Append only, in step with [`AlarmRef`].
#[derive(Deserialize)]
enum Alarm {
    Episode(EpisodeUpdate),
    Notice(Notice),
    Clock(ClockFix),
    /// An episode reads without its evidence, which stands behind it.
    Proven(EpisodeUpdate, Option<Evidence>),
}

/// Lane `alarm` as written.
#[derive(Serialize)]
enum AlarmRef<'a> {
    Episode(&'a EpisodeUpdate),
    Notice(&'a Notice),
    Clock(&'a ClockFix),
    Proven(&'a EpisodeUpdate),
}

fn put_rows<'a, T: Serialize>(
    out: &mut Vec<u8>,
    records: &'a [Record],
    view: impl Fn(&'a Record) -> Option<T>,
) -> Result<(), WireError> {
    for record in records {
        let row = view(record).ok_or(WireError::WrongLane)?;
        let taken = std::mem::take(out);
        *out = postcard::to_extend(&row, taken).map_err(|_| WireError::Malformed("record"))?;
    }
    Ok(())
}

fn rows<'de, T: Deserialize<'de>>(
    mut body: &'de [u8],
    count: usize,
    record: impl Fn(T) -> Record,
) -> Result<Vec<Record>, WireError> {
    let mut records = Vec::new();
    for _ in 0..count {
        let (row, rest) = postcard::take_from_bytes(body).map_err(|_| WireError::Malformed("record"))?;
        body = rest;
        records.push(record(row));
    }
    if body.is_empty() { Ok(records) } else { Err(WireError::Malformed("bytes after the last record")) }
}

const MAGIC: &[u8; 4] = b"OPB1";
const CODEC_PLAIN: u8 = 0;
const CODEC_ZSTD: u8 = 1;
/// What stands before a body, at most.
const HEAD_BYTES: usize = 128;
/// zstd's frame costs about 12 bytes; below this nothing is won.
const COMPRESS_BYTES_MIN: usize = 48;
/// Rows of fewer bytes are compressed without a look at a sample.
const SAMPLED_BYTES_MIN: usize = 16 * 1024;
/// Every which byte is in the sample: a prime, so that few lengths of records keep step with it.
const SAMPLE_EVERY: usize = 17;
/// As many different bytes, equally frequent, take 6.3 bits each: zstd makes them smaller by a fifth.
const EVEN_BYTES: u64 = 80;
/// Level 1: on columns the higher levels win under 3 % and cost several times the time.
const ZSTD_LEVEL: i32 = 1;
