//! Columns of numbers, exactly as lossless as they are small.
//!
//! | column | stored as |
//! |---|---|
//! | decimals (at most 6 digits after the point, each bit-exact as `m / 10^d`) | `d`, then deltas of `m` as zigzag varints |
//! | floats that came from `f32` | XOR with the one before, 4 byte planes |
//! | any other float, NaN and -0 included | XOR with the one before, 8 byte planes |
//!
//! A byte plane holds the same byte of every value, so that the general compressor behind sees runs.

use std::collections::HashMap;

use crate::limits;
use crate::reading::ChannelId;

use super::WireError;

/// Reads a body front to back; every length is checked against what is really there.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(WireError::Malformed("body ends early"))?;
        self.rest = rest;
        Ok(head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::Malformed("number too long"))
    }

    /// A varint that counts things of which there can be no more than `max`.
    pub(super) fn count(&mut self, max: usize) -> Result<usize, WireError> {
        let n = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if n <= max { Ok(n) } else { Err(WireError::Malformed("count out of range")) }
    }

    pub(super) fn signed(&mut self) -> Result<i64, WireError> {
        Ok(unzigzag(self.varint()?))
    }

    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn end(&self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Malformed("bytes after the last column")) }
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, zigzag(value));
}

pub(super) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(super) const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Integers as differences; any `i64` survives, also where the difference wraps.
pub(super) fn put_integers(out: &mut Vec<u8>, values: impl Iterator<Item = i64>) {
    let mut previous = 0_i64;
    for value in values {
        put_signed(out, value.wrapping_sub(previous));
        previous = value;
    }
}

pub(super) fn integers(cursor: &mut Cursor<'_>, n: usize) -> Result<Vec<i64>, WireError> {
    let mut previous = 0_i64;
    (0..n)
        .map(|_| {
            previous = previous.wrapping_add(cursor.signed()?);
            Ok(previous)
        })
        .collect()
}

/// Like [`integers`], for a column of a narrower type.
pub(super) fn u32s(cursor: &mut Cursor<'_>, n: usize) -> Result<Vec<u32>, WireError> {
    integers(cursor, n)?
        .into_iter()
        .map(|v| u32::try_from(v).map_err(|_| WireError::Malformed("number out of range")))
        .collect()
}

/// One column of floats, bit for bit. `mantissas` is scratch space.
pub(super) fn put_floats(out: &mut Vec<u8>, values: &[f64], mantissas: &mut Vec<i64>) {
    if values.is_empty() {
        return;
    }
    if let Some(digits) = fixed_point(values, mantissas) {
        out.push(digits);
        put_integers(out, mantissas.iter().copied());
    } else if values.iter().all(|&v| f64::from(v as f32).to_bits() == v.to_bits()) {
        out.push(KIND_F32);
        put_planes(out, values.len(), 4, values.iter().map(|&v| u64::from((v as f32).to_bits())));
    } else {
        out.push(KIND_F64);
        put_planes(out, values.len(), 8, values.iter().map(|v| v.to_bits()));
    }
}

pub(super) fn floats(cursor: &mut Cursor<'_>, n: usize) -> Result<Vec<f64>, WireError> {
    if n == 0 {
        return Ok(Vec::new());
    }
    match cursor.u8()? {
        digits @ 0..=DIGITS_MAX => {
            let scale = POWERS[usize::from(digits)];
            Ok(integers(cursor, n)?.into_iter().map(|m| m as f64 / scale).collect())
        }
        KIND_F32 => {
            let bits = planes(cursor, n, 4)?;
            Ok(bits.into_iter().map(|b| f64::from(f32::from_bits(b as u32))).collect())
        }
        KIND_F64 => Ok(planes(cursor, n, 8)?.into_iter().map(f64::from_bits).collect()),
        _ => Err(WireError::Malformed("unknown kind of column")),
    }
}

/// The number of digits with which every value is exactly a decimal, the mantissas in `mantissas`.
fn fixed_point(values: &[f64], mantissas: &mut Vec<i64>) -> Option<u8> {
    'digits: for digits in 0..=DIGITS_MAX {
        let scale = POWERS[usize::from(digits)];
        mantissas.clear();
        for &value in values {
            let scaled = value * scale;
            let mantissa = (scaled + 0.5_f64.copysign(scaled)) as i64;
            let exact = (mantissa as f64 / scale).to_bits() == value.to_bits();
            if !exact || mantissa.unsigned_abs() > MANTISSA_MAX {
                continue 'digits;
            }
            mantissas.push(mantissa);
        }
        return Some(digits);
    }
    None
}

fn put_planes(out: &mut Vec<u8>, n: usize, width: usize, bits: impl Iterator<Item = u64>) {
    let start = out.len();
    out.resize(start + n * width, 0);
    let planes = &mut out[start..];
    let mut previous = 0_u64;
    for (row, now) in bits.enumerate() {
        let xor = now ^ previous;
        previous = now;
        for plane in 0..width {
            planes[plane * n + row] = (xor >> (8 * plane)) as u8;
        }
    }
}

fn planes(cursor: &mut Cursor<'_>, n: usize, width: usize) -> Result<Vec<u64>, WireError> {
    let planes = cursor.take(n * width)?;
    let mut previous = 0_u64;
    let value = |row: usize| {
        let xor =
            (0..width).fold(0_u64, |acc, plane| acc | u64::from(planes[plane * n + row]) << (8 * plane));
        previous ^= xor;
        previous
    };
    Ok((0..n).map(value).collect())
}

/// Channel names of one block, numbered in order of first appearance.
#[derive(Default)]
pub(super) struct Dictionary<'a> {
    names: Vec<&'a ChannelId>,
    numbers: HashMap<&'a ChannelId, usize>,
}

impl<'a> Dictionary<'a> {
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// True if `channel` already has `number`: far cheaper than [`Self::number`].
    pub(super) fn is(&self, number: usize, channel: &ChannelId) -> bool {
        self.names.get(number).is_some_and(|&name| name == channel)
    }

    pub(super) fn number(&mut self, channel: &'a ChannelId) -> usize {
        *self.numbers.entry(channel).or_insert_with(|| {
            self.names.push(channel);
            self.names.len() - 1
        })
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.names.len() as u64);
        for name in &self.names {
            put_varint(out, name.as_str().len() as u64);
            out.extend_from_slice(name.as_str().as_bytes());
        }
    }
}

/// The names that [`Dictionary::put`] wrote; no more than `max`, each checked.
pub(super) fn channel_names(cursor: &mut Cursor<'_>, max: usize) -> Result<Vec<ChannelId>, WireError> {
    let n = cursor.count(max)?;
    (0..n)
        .map(|_| {
            let length = cursor.count(limits::CHANNEL_NAME_BYTES_MAX)?;
            let name = std::str::from_utf8(cursor.take(length)?);
            name.ok().and_then(|n| ChannelId::new(n).ok()).ok_or(WireError::Malformed("channel name"))
        })
        .collect()
}

const DIGITS_MAX: u8 = 6;
const KIND_F32: u8 = 16;
const KIND_F64: u8 = 17;
const POWERS: [f64; 7] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];
/// Below this an integer and its decimal shifted by up to six digits are exact in `f64`.
const MANTISSA_MAX: u64 = 1 << 52;

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(values: &[f64]) -> Vec<u8> {
        let mut out = Vec::new();
        put_floats(&mut out, values, &mut Vec::new());
        let mut cursor = Cursor::new(&out);
        let back = floats(&mut cursor, values.len()).unwrap();
        cursor.end().unwrap();
        assert!(
            back.iter().zip(values).all(|(a, b)| a.to_bits() == b.to_bits()),
            "{values:?} became {back:?}"
        );
        out
    }

    #[test]
    fn slow_decimals_take_one_byte_each() {
        let values: Vec<f64> = (0..100).map(|i| f64::from(2150 + i % 7) / 100.0).collect();
        assert!(stored(&values).len() < 105);
    }

    #[test]
    fn floats_that_came_from_single_precision_take_four_bytes() {
        let values: Vec<f64> = (0..100).map(|i| f64::from((i as f32 * 0.37).sin())).collect();
        assert_eq!(stored(&values).len(), 401);
    }

    #[test]
    fn odd_floats_survive_bit_for_bit() {
        stored(&[
            -0.0,
            f64::MIN_POSITIVE,
            f64::MAX,
            f64::MIN,
            f64::NAN,
            f64::INFINITY,
            0.1 + 0.2,
            1e-6,
            4503599627370497.0,
        ]);
    }

    #[test]
    fn signed_numbers_survive_the_zigzag() {
        for v in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(unzigzag(zigzag(v)), v);
        }
    }
}
