//! Body of a `metric` block: window summaries as columns, bit for bit.
//!
//! Details stand behind all other columns, and only where a row has them: without, the bytes are those of a program that knew
//! none. A program that knows none calls a block with them malformed, and keeps it until a newer one reads it.

use crate::limits;
use crate::reading::Unit;
use crate::time::Wall;
use crate::window::{Detail, WindowSummary};

use super::columns::{
    Cursor, Dictionary, channel_names, floats, integers, put_floats, put_integers, put_varint, u32s,
};
use super::{Record, WireError};

pub(super) fn encode(records: &[Record], out: &mut Vec<u8>) -> Result<(), WireError> {
    let rows: Vec<&WindowSummary> = records
        .iter()
        .map(|r| if let Record::Window(window) = r { Ok(window) } else { Err(WireError::WrongLane) })
        .collect::<Result<_, _>>()?;
    let mut names = Dictionary::default();
    let channels: Vec<i64> = rows.iter().map(|w| names.number(&w.channel) as i64).collect();
    let mut units: Vec<&str> = Vec::new();
    let unit_of: Vec<i64> = rows.iter().map(|w| number_unit(&mut units, &w.unit.0)).collect();
    names.put(out);
    put_varint(out, units.len() as u64);
    for unit in units {
        put_varint(out, unit.len() as u64);
        out.extend_from_slice(unit.as_bytes());
    }
    put_integers(out, channels.into_iter());
    put_integers(out, unit_of.into_iter());
    put_integers(out, rows.iter().map(|w| w.start.0));
    put_integers(out, rows.iter().map(|w| i64::from(w.length_ms)));
    put_integers(out, rows.iter().map(|w| i64::from(w.count)));
    put_integers(out, rows.iter().map(|w| i64::from(w.missing)));
    let mut scratch = Vec::new();
    for field in FIELDS {
        let column: Vec<f64> = rows.iter().map(|w| field(w)).collect();
        put_floats(out, &column, &mut scratch);
    }
    if rows.iter().any(|w| w.detail.is_some()) {
        put_details(out, &rows, &mut scratch);
    }
    Ok(())
}

/// Which rows have details, and their columns.
fn put_details(out: &mut Vec<u8>, rows: &[&WindowSummary], scratch: &mut Vec<i64>) {
    put_integers(out, rows.iter().map(|w| i64::from(w.detail.is_some())));
    let details: Vec<&Detail> = rows.iter().filter_map(|w| w.detail.as_ref()).collect();
    put_integers(out, details.iter().map(|d| i64::from(d.changes)));
    for field in DETAIL_FIELDS {
        let column: Vec<f64> = details.iter().map(|d| field(d)).collect();
        put_floats(out, &column, scratch);
    }
}

fn read_details(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<Option<Detail>>, WireError> {
    if cursor.remaining() == 0 {
        return Ok(vec![None; count]);
    }
    let there = integers(cursor, count)?;
    let n = there.iter().filter(|there| **there != 0).count();
    let changes = u32s(cursor, n)?;
    let mut columns = Vec::with_capacity(DETAIL_FIELDS.len());
    for _ in DETAIL_FIELDS {
        columns.push(floats(cursor, n)?);
    }
    let mut details = (0..n).map(|i| Detail {
        p05: columns[0][i],
        p50: columns[1][i],
        p95: columns[2][i],
        changes: changes[i],
        rate_per_h: columns[3][i],
    });
    Ok(there.iter().map(|there| if *there == 0 { None } else { details.next() }).collect())
}

pub(super) fn decode(body: &[u8], count: usize) -> Result<Vec<Record>, WireError> {
    let mut cursor = Cursor::new(body);
    let names = channel_names(&mut cursor, count)?;
    let units = read_units(&mut cursor, count)?;
    let channels = u32s(&mut cursor, count)?;
    let unit_of = u32s(&mut cursor, count)?;
    let starts = integers(&mut cursor, count)?;
    let lengths = u32s(&mut cursor, count)?;
    let counts = u32s(&mut cursor, count)?;
    let missing = u32s(&mut cursor, count)?;
    let mut columns = Vec::with_capacity(FIELDS.len());
    for _ in FIELDS {
        columns.push(floats(&mut cursor, count)?);
    }
    let details = read_details(&mut cursor, count)?;
    cursor.end()?;
    (0..count)
        .map(|i| {
            let outside = WireError::Malformed("dictionary number");
            Ok(Record::Window(WindowSummary {
                channel: names.get(channels[i] as usize).ok_or(outside.clone())?.clone(),
                unit: units.get(unit_of[i] as usize).ok_or(outside)?.clone(),
                start: Wall(starts[i]),
                length_ms: lengths[i],
                count: counts[i],
                missing: missing[i],
                min: columns[0][i],
                max: columns[1][i],
                mean: columns[2][i],
                std: columns[3][i],
                last: columns[4][i],
                slope_per_h: columns[5][i],
                detail: details[i],
            }))
        })
        .collect()
}

/// The float columns in wire order.
const FIELDS: [fn(&WindowSummary) -> f64; 6] =
    [|w| w.min, |w| w.max, |w| w.mean, |w| w.std, |w| w.last, |w| w.slope_per_h];

/// The float columns of details in wire order.
const DETAIL_FIELDS: [fn(&Detail) -> f64; 4] = [|d| d.p05, |d| d.p50, |d| d.p95, |d| d.rate_per_h];

/// A block names few units; a linear search beats a map.
fn number_unit<'a>(units: &mut Vec<&'a str>, unit: &'a str) -> i64 {
    let number = units.iter().position(|&u| u == unit).unwrap_or_else(|| {
        units.push(unit);
        units.len() - 1
    });
    number as i64
}

fn read_units(cursor: &mut Cursor<'_>, max: usize) -> Result<Vec<Unit>, WireError> {
    let n = cursor.count(max)?;
    (0..n)
        .map(|_| {
            let length = cursor.count(limits::BLOCK_BYTES_MAX)?;
            let text = std::str::from_utf8(cursor.take(length)?).map_err(|_| WireError::Malformed("unit"))?;
            Ok(Unit(text.to_owned()))
        })
        .collect()
}
