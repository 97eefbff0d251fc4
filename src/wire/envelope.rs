//! The envelope of the small messages: two letters of kind, a version, the postcard body, a CRC-32 over all of it.
//!
//! ```text
//! 0      2        3                    n-4      n
//! | kind | version | body (postcard) ... | CRC-32 LE |
//! ```
//!
//! A message shorter than that, longer than its bound or with one bit flipped is refused before anything is decoded.

use serde::{Serialize, de::DeserializeOwned};

/// Bytes that the envelope adds around a body.
pub const ENVELOPE_BYTES: usize = 2 + 1 + 4;

/// Why a small message was not understood; the sender's fault, or the line's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Outside of the bounds of its kind.
    #[error("a message of {bytes} bytes is outside of 7 to {bytes_max}")]
    Size {
        /// Length as received.
        bytes: usize,
        /// Longest accepted.
        bytes_max: usize,
    },
    /// Another kind of message on this topic.
    #[error("not a message of the expected kind; check that this topic belongs to outpost alone")]
    Kind,
    /// Damaged on its way.
    #[error("checksum does not match")]
    Checksum,
    /// Written by a newer outpost.
    #[error("version {0} is newer than this program; update it")]
    Version(u8),
    /// The checksum holds and yet the body does not read, or breaks a bound.
    #[error("body is not valid: {0}")]
    Body(&'static str),
}

/// Encodes `body`; a type of this crate always serialises.
pub(super) fn seal<T: Serialize>(kind: [u8; 2], version: u8, body: &T) -> Vec<u8> {
    let head = vec![kind[0], kind[1], version];
    let mut out = postcard::to_extend(body, head).expect("derived types without maps always serialise");
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// Decodes what [`seal`] wrote, versions 1 to `version_max`.
pub(super) fn open<T: DeserializeOwned>(
    kind: [u8; 2],
    version_max: u8,
    bytes_max: usize,
    bytes: &[u8],
) -> Result<T, EnvelopeError> {
    if !(ENVELOPE_BYTES..=bytes_max).contains(&bytes.len()) {
        return Err(EnvelopeError::Size { bytes: bytes.len(), bytes_max });
    }
    let (covered, crc) = bytes.split_at(bytes.len() - 4);
    if covered[..2] != kind {
        return Err(EnvelopeError::Kind);
    }
    if crc32fast::hash(covered).to_le_bytes() != crc {
        return Err(EnvelopeError::Checksum);
    }
    if !(1..=version_max).contains(&covered[2]) {
        return Err(EnvelopeError::Version(covered[2]));
    }
    match postcard::take_from_bytes(&covered[3..]) {
        Ok((body, [])) => Ok(body),
        Ok(_) => Err(EnvelopeError::Body("bytes after the end")),
        Err(_) => Err(EnvelopeError::Body("does not decode")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: [u8; 2] = *b"Ot";

    #[test]
    fn any_flipped_bit_is_refused() {
        let good = seal(KIND, 1, &(7u64, "text".to_owned()));
        assert_eq!(open::<(u64, String)>(KIND, 1, 64, &good), Ok((7, "text".to_owned())));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open::<(u64, String)>(KIND, 1, 64, &bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_version_says_so() {
        let newer = seal(KIND, 9, &1u8);
        assert_eq!(open::<u8>(KIND, 1, 64, &newer), Err(EnvelopeError::Version(9)));
    }

    #[test]
    fn trailing_bytes_and_wrong_lengths_are_refused() {
        let long = seal(KIND, 1, &(1u8, 2u8));
        assert_eq!(open::<u8>(KIND, 1, 64, &long), Err(EnvelopeError::Body("bytes after the end")));
        assert!(matches!(open::<u8>(KIND, 1, 8, &long), Err(EnvelopeError::Size { .. })));
        assert!(matches!(open::<u8>(KIND, 1, 8, &[]), Err(EnvelopeError::Size { .. })));
    }
}
