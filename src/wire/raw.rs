//! Body of a `raw` block: readings as columns, in the order in which they were admitted.
//!
//! ```text
//! channel names | channel of each row | time of each row | missing values | one value column per channel | doubts
//! ```
//!
//! Sources poll their channels in turn, so the channel that followed this one last time is the guess for the next
//! row and only wrong guesses are written. Times are written row by row or per channel as differences of
//! differences, whichever is smaller, in the coarsest of us, ms and s that loses nothing.

use crate::reading::{NoData, Quality, Reading, Value, value_from_f64};
use crate::time::Wall;

use super::columns::{
    Cursor, Dictionary, channel_names, floats, put_floats, put_signed, put_varint, unzigzag, zigzag,
};
use super::{Record, WireError};

pub(super) fn encode(records: &[Record], out: &mut Vec<u8>) -> Result<(), WireError> {
    let rows: Vec<&Reading> = records
        .iter()
        .map(|r| if let Record::Reading(reading) = r { Ok(reading) } else { Err(WireError::WrongLane) })
        .collect::<Result<_, _>>()?;
    let mut names = Dictionary::default();
    let mut guesses = Vec::new();
    let channels = number_channels(&rows, &mut names, &mut guesses);
    names.put(out);
    out.extend_from_slice(&guesses);
    put_times(out, &rows, &channels, names.len());
    put_missing(out, &rows);
    put_values(out, &rows, &channels, names.len());
    put_doubts(out, &rows);
    Ok(())
}

pub(super) fn decode(body: &[u8], count: usize) -> Result<Vec<Record>, WireError> {
    let mut cursor = Cursor::new(body);
    let names = channel_names(&mut cursor, count)?;
    let channels = read_channels(&mut cursor, count, names.len())?;
    let times = read_times(&mut cursor, &channels, names.len())?;
    let mut values = read_missing(&mut cursor, count)?;
    read_values(&mut cursor, &channels, names.len(), &mut values)?;
    let doubts = read_doubts(&mut cursor, count)?;
    cursor.end()?;
    let rows = channels.iter().zip(times).zip(values).zip(doubts);
    Ok(rows
        .map(|(((&c, at), value), doubted)| {
            let quality = match value {
                Err(_) => Quality::Bad,
                Ok(_) if doubted => Quality::Uncertain,
                Ok(_) => Quality::Good,
            };
            Record::Reading(Reading { channel: names[c as usize].clone(), at: Wall(at), value, quality })
        })
        .collect())
}

/// For each channel the one that followed it last; at first its neighbour in the dictionary.
struct Successors(Vec<u32>);

impl Successors {
    fn guess(&self, before: Option<u32>) -> u32 {
        before.map_or(0, |b| self.0.get(b as usize).copied().unwrap_or(b + 1))
    }

    fn learn(&mut self, before: Option<u32>, now: u32) {
        let Some(before) = before else { return };
        while self.0.len() <= before as usize {
            self.0.push(self.0.len() as u32 + 1);
        }
        self.0[before as usize] = now;
    }
}

/// Numbers the channel of each row and writes `run of right guesses, number, run, number, ..., run`.
fn number_channels<'a>(rows: &[&'a Reading], names: &mut Dictionary<'a>, out: &mut Vec<u8>) -> Vec<u32> {
    let mut successors = Successors(Vec::new());
    let mut channels = Vec::with_capacity(rows.len());
    let (mut before, mut run) = (None, 0_u64);
    for row in rows {
        let guess = successors.guess(before);
        // Comparing one name is several times cheaper than hashing it.
        let now =
            if names.is(guess as usize, &row.channel) { guess } else { names.number(&row.channel) as u32 };
        if now == guess {
            run += 1;
        } else {
            put_varint(out, run);
            put_varint(out, u64::from(now));
            run = 0;
        }
        successors.learn(before, now);
        before = Some(now);
        channels.push(now);
    }
    put_varint(out, run);
    channels
}

fn read_channels(cursor: &mut Cursor<'_>, count: usize, names: usize) -> Result<Vec<u32>, WireError> {
    let mut successors = Successors(Vec::new());
    let mut channels = Vec::with_capacity(count);
    let mut before = None;
    let mut run = cursor.count(count)?;
    while channels.len() < count {
        let now = if run > 0 {
            run -= 1;
            successors.guess(before)
        } else {
            let now = cursor.count(names.saturating_sub(1))? as u32;
            run = cursor.count(count)?;
            now
        };
        if now as usize >= names {
            return Err(WireError::Malformed("channel number"));
        }
        successors.learn(before, now);
        before = Some(now);
        channels.push(now);
    }
    if run == 0 { Ok(channels) } else { Err(WireError::Malformed("channel run")) }
}

fn put_times(out: &mut Vec<u8>, rows: &[&Reading], channels: &[u32], names: usize) {
    let scale = [1_000_000, 1_000].into_iter().find(|s| rows.iter().all(|r| r.at.0 % s == 0)).unwrap_or(1);
    let first = rows.first().map_or(0, |r| r.at.0 / scale);
    let mut by_row = Vec::with_capacity(rows.len() + 16);
    let mut by_channel = Vec::with_capacity(rows.len() + 16);
    let mut previous = first;
    let mut paces = vec![Pace { at: first, step: 0 }; names];
    for (row, &channel) in rows.iter().zip(channels) {
        let at = row.at.0 / scale;
        put_varint(&mut by_row, zigzag(at.wrapping_sub(previous)));
        put_varint(&mut by_channel, zigzag(paces[channel as usize].surprise(at)));
        previous = at;
    }
    out.push(match scale {
        1_000_000 => 2,
        1_000 => 1,
        _ => 0,
    });
    put_signed(out, first);
    let per_channel = by_channel.len() < by_row.len();
    out.push(u8::from(per_channel));
    out.extend_from_slice(if per_channel { &by_channel } else { &by_row });
}

fn read_times(cursor: &mut Cursor<'_>, channels: &[u32], names: usize) -> Result<Vec<i64>, WireError> {
    let scale: i64 = match cursor.u8()? {
        0 => 1,
        1 => 1_000,
        2 => 1_000_000,
        _ => return Err(WireError::Malformed("time scale")),
    };
    let first = cursor.signed()?;
    let per_channel = cursor.u8()? == 1;
    let mut previous = first;
    let mut paces = vec![Pace { at: first, step: 0 }; names];
    channels
        .iter()
        .map(|&channel| {
            let delta = unzigzag(cursor.varint()?);
            previous = if per_channel {
                paces[channel as usize].advance(delta)
            } else {
                previous.wrapping_add(delta)
            };
            Ok(previous.wrapping_mul(scale))
        })
        .collect()
}

/// A channel's last time and step; what is written is how far the next step differs.
#[derive(Clone, Copy)]
struct Pace {
    at: i64,
    step: i64,
}

impl Pace {
    fn surprise(&mut self, at: i64) -> i64 {
        let step = at.wrapping_sub(self.at);
        let surprise = step.wrapping_sub(self.step);
        *self = Pace { at, step };
        surprise
    }

    fn advance(&mut self, surprise: i64) -> i64 {
        self.step = self.step.wrapping_add(surprise);
        self.at = self.at.wrapping_add(self.step);
        self.at
    }
}

fn put_missing(out: &mut Vec<u8>, rows: &[&Reading]) {
    let missing = || rows.iter().enumerate().filter_map(|(row, r)| sound(r).err().map(|why| (row, why)));
    put_varint(out, missing().count() as u64);
    let mut next = 0;
    for (row, why) in missing() {
        put_varint(out, (row - next) as u64);
        out.push(reason_code(why));
        next = row + 1;
    }
}

/// Every row as present (0) except those listed as missing.
fn read_missing(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<Value>, WireError> {
    let mut values = vec![Ok(0.0); count];
    let mut next = 0;
    for _ in 0..cursor.count(count)? {
        let row = next + cursor.count(count)?;
        let why = reason_from_code(cursor.u8()?).ok_or(WireError::Malformed("reason"))?;
        *values.get_mut(row).ok_or(WireError::Malformed("missing row"))? = Err(why);
        next = row + 1;
    }
    Ok(values)
}

/// The rows whose values are uncertain, if there are any: a block without doubts has no byte of them, and is read by programs
/// that know none.
fn put_doubts(out: &mut Vec<u8>, rows: &[&Reading]) {
    let doubted = |r: &&Reading| r.quality == Quality::Uncertain && sound(r).is_ok();
    let places = || rows.iter().enumerate().filter(|(_, r)| doubted(r)).map(|(row, _)| row);
    let count = places().count();
    if count == 0 {
        return;
    }
    put_varint(out, count as u64);
    let mut next = 0;
    for row in places() {
        put_varint(out, (row - next) as u64);
        next = row + 1;
    }
}

/// Whether each row is doubted.
fn read_doubts(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<bool>, WireError> {
    let mut doubts = vec![false; count];
    if cursor.remaining() == 0 {
        return Ok(doubts);
    }
    let mut next = 0;
    for _ in 0..cursor.count(count)? {
        let row = next + cursor.count(count)?;
        *doubts.get_mut(row).ok_or(WireError::Malformed("doubted row"))? = true;
        next = row + 1;
    }
    Ok(doubts)
}

fn put_values(out: &mut Vec<u8>, rows: &[&Reading], channels: &[u32], names: usize) {
    // A counting sort into one flat array: no allocation per channel.
    let mut ends = vec![0_usize; names];
    for (row, &channel) in rows.iter().zip(channels) {
        ends[channel as usize] += usize::from(sound(row).is_ok());
    }
    let mut total = 0;
    for end in &mut ends {
        total += std::mem::replace(end, total);
    }
    let mut flat = vec![0.0; total];
    for (row, &channel) in rows.iter().zip(channels) {
        if let Ok(value) = sound(row) {
            flat[ends[channel as usize]] = value;
            ends[channel as usize] += 1;
        }
    }
    let mut scratch = Vec::new();
    let mut start = 0;
    for end in ends {
        put_floats(out, &flat[start..end], &mut scratch);
        start = end;
    }
}

fn read_values(
    cursor: &mut Cursor<'_>,
    channels: &[u32],
    names: usize,
    values: &mut [Value],
) -> Result<(), WireError> {
    let mut present = vec![0_usize; names];
    for (value, &channel) in values.iter().zip(channels) {
        present[channel as usize] += usize::from(value.is_ok());
    }
    let mut columns = Vec::with_capacity(names);
    for n in present {
        let column = floats(cursor, n)?;
        if !column.iter().all(|v| v.is_finite()) {
            return Err(WireError::Malformed("value is not finite"));
        }
        columns.push(column.into_iter());
    }
    for (value, &channel) in values.iter_mut().zip(channels) {
        if let Ok(slot) = value {
            *slot = columns[channel as usize].next().ok_or(WireError::Malformed("value column"))?;
        }
    }
    Ok(())
}

/// The value, with a number that is none sorted out even if a source let it through.
fn sound(reading: &Reading) -> Value {
    reading.value.and_then(value_from_f64)
}

const fn reason_code(why: NoData) -> u8 {
    match why {
        NoData::NotANumber => 0,
        NoData::Infinite => 1,
        NoData::ReadFailed => 2,
        NoData::Null => 3,
        NoData::NoAnswer => 4,
        NoData::BadChecksum => 5,
        NoData::WrongDevice => 6,
        NoData::TimedOut => 7,
        NoData::OutOfRange => 8,
    }
}

const fn reason_from_code(code: u8) -> Option<NoData> {
    match code {
        0 => Some(NoData::NotANumber),
        1 => Some(NoData::Infinite),
        2 => Some(NoData::ReadFailed),
        3 => Some(NoData::Null),
        4 => Some(NoData::NoAnswer),
        5 => Some(NoData::BadChecksum),
        6 => Some(NoData::WrongDevice),
        7 => Some(NoData::TimedOut),
        8 => Some(NoData::OutOfRange),
        _ => None,
    }
}
