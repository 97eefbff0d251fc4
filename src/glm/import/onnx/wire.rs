//! Protocol buffers, as far as an ONNX file needs them: fields in turn, nothing copied, nothing trusted.
//!
//! The file is read through a window; long parts (weights) are only located. So memory depends on what the caller keeps and
//! not on what a file claims.

use crate::glm::import::ImportError;
use crate::glm::import::blob::{Blob, Window};

/// A part of a file: a message, a string, the bytes of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) at: u64,
    pub(super) len: u64,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    Number(u64),
    Float(f32),
    /// A fixed number of 64 bits; nothing here uses one.
    Wide,
    Bytes(Span),
}

/// A file and the window it is read through.
pub(super) struct Wire {
    pub(super) blob: Blob,
    window: Window,
}

impl Wire {
    pub(super) fn new(blob: Blob) -> Wire {
        Wire { window: Window::new(blob.clone()), blob }
    }

    /// The whole file as a message.
    pub(super) fn all(&self) -> Span {
        Span { at: 0, len: self.blob.len() }
    }

    /// Calls `each` with every field of a message and its value.
    pub(super) fn fields(
        &mut self,
        message: Span,
        mut each: impl FnMut(&mut Wire, u64, Value) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        let end = message.at + message.len;
        let mut at = message.at;
        while at < end {
            let tag = self.varint(&mut at, end)?;
            let value = match tag & 7 {
                0 => Value::Number(self.varint(&mut at, end)?),
                1 => self.skip(&mut at, 8, end).map(|_| Value::Wide)?,
                2 => {
                    let len = self.varint(&mut at, end)?;
                    Value::Bytes(self.skip(&mut at, len, end)?)
                }
                5 => {
                    let span = self.skip(&mut at, 4, end)?;
                    Value::Float(f32::from_le_bytes(self.window.array(span.at)?))
                }
                other => return Err(self.damaged(format!("a field of wire type {other}"))),
            };
            each(self, tag >> 3, value)?;
        }
        Ok(())
    }

    /// Text of at most `max` bytes.
    pub(super) fn text(&mut self, span: Span, max: u64) -> Result<String, ImportError> {
        if span.len > max {
            return Err(self.damaged(format!("a name of {} bytes, {max} are the most it may have", span.len)));
        }
        let bytes = self.window.bytes(span.at, span.len)?;
        String::from_utf8(bytes).map_err(|_| self.damaged("a name that is not UTF-8"))
    }

    /// Numbers that stand packed in `span`, at most `max`.
    pub(super) fn packed(&mut self, span: Span, max: usize, to: &mut Vec<i64>) -> Result<(), ImportError> {
        let (mut at, end) = (span.at, span.at + span.len);
        while at < end {
            let number = self.varint(&mut at, end)?;
            if to.len() == max {
                return Err(self.damaged(format!("a list of more than {max} numbers")));
            }
            to.push(number as i64);
        }
        Ok(())
    }

    /// An error that names the file.
    pub(super) fn damaged(&self, what: impl Into<String>) -> ImportError {
        self.blob.damaged(format!("its protocol buffer holds {}", what.into()))
    }

    fn skip(&mut self, at: &mut u64, len: u64, end: u64) -> Result<Span, ImportError> {
        let span = Span { at: *at, len };
        if len > end - *at {
            return Err(self.damaged("a part that ends behind the whole"));
        }
        *at += len;
        Ok(span)
    }

    fn varint(&mut self, at: &mut u64, end: u64) -> Result<u64, ImportError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            if *at >= end {
                break;
            }
            let [byte] = self.window.array(*at)?;
            *at += 1;
            number |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Ok(number);
            }
        }
        Err(self.damaged("a number without an end"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Result<Vec<(u64, Value)>, ImportError> {
        let mut wire = Wire::new(Blob::memory("x.onnx", bytes.to_vec()));
        let mut found = Vec::new();
        wire.fields(wire.all(), |_, field, value| {
            found.push((field, value));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn every_kind_of_field_is_told_apart() {
        let bytes =
            [&[8, 150, 1, 18, 2, 7, 8, 29][..], &1.5_f32.to_le_bytes(), &[33, 0, 0, 0, 0, 0, 0, 0, 0]]
                .concat();
        let wanted = [
            (1, Value::Number(150)),
            (2, Value::Bytes(Span { at: 5, len: 2 })),
            (3, Value::Float(1.5)),
            (4, Value::Wide),
        ];
        assert_eq!(fields(&bytes).unwrap(), wanted);
    }

    #[test]
    fn what_ends_early_or_never_is_refused() {
        for bytes in [
            &[8][..],
            &[8, 128],
            &[18, 3, 1, 2],
            &[29, 0, 0],
            &[11],
            &[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255],
        ] {
            assert!(matches!(fields(bytes), Err(ImportError::Damaged { .. })), "{bytes:?}");
        }
        let huge = [&[18][..], &[255; 9], &[1]].concat();
        assert!(fields(&huge).is_err());
    }
}
