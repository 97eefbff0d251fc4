//! The acknowledgement: the aggregator tells a device what it holds durably.
//!
//! Sent on `<prefix>/<device>/ack` only after the commit. It speaks of one epoch per entry, so that an answer to a spool
//! that no longer exists releases nothing.

use serde::{Deserialize, Serialize};

use super::Lane;
use super::envelope::{self, EnvelopeError};
use crate::limits::{ACK_BYTES_MAX, ACK_LANES_MAX, ACK_RANGES_MAX};

/// What the aggregator holds of one device, for the lanes that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckMessage {
    /// At most [`ACK_LANES_MAX`] entries.
    pub lanes: Vec<LaneAck>,
}

/// What the aggregator holds of one lane in one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneAck {
    /// The lane.
    pub lane: Lane,
    /// The spool's epoch that the numbers below count in.
    pub epoch: u64,
    /// Everything from 1 to this number, inclusive; 0 for nothing.
    pub through: u64,
    /// Further ranges beyond `through`, first and last inclusive, ascending; at most [`ACK_RANGES_MAX`].
    pub also: Vec<(u64, u64)>,
}

impl AckMessage {
    /// Encodes; entries beyond the bounds are left out, a later acknowledgement repeats them.
    pub fn encode(&self) -> Vec<u8> {
        let lanes: Vec<LaneAck> = self
            .lanes
            .iter()
            .take(ACK_LANES_MAX)
            .map(|l| LaneAck { also: l.also.iter().copied().take(ACK_RANGES_MAX).collect(), ..l.clone() })
            .collect();
        envelope::seal(KIND, VERSION, &AckMessage { lanes })
    }

    /// Decodes and checks every bound, and that each range is ascending and lies beyond `through`.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let message: AckMessage = envelope::open(KIND, VERSION, ACK_BYTES_MAX, bytes)?;
        if message.lanes.len() > ACK_LANES_MAX {
            return Err(EnvelopeError::Body("too many lanes"));
        }
        message.lanes.iter().try_for_each(LaneAck::check)?;
        Ok(message)
    }
}

impl LaneAck {
    fn check(&self) -> Result<(), EnvelopeError> {
        if self.also.len() > ACK_RANGES_MAX {
            return Err(EnvelopeError::Body("too many ranges"));
        }
        let mut beyond = self.through;
        for &(first, last) in &self.also {
            if first <= beyond || last < first {
                return Err(EnvelopeError::Body("ranges not ascending"));
            }
            beyond = last;
        }
        Ok(())
    }
}

const KIND: [u8; 2] = *b"Oa";
const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lane_ack(also: Vec<(u64, u64)>) -> LaneAck {
        LaneAck { lane: Lane::Metric, epoch: u64::MAX, through: 9, also }
    }

    #[test]
    fn the_largest_acknowledgement_fits_its_bound() {
        let far = u64::MAX - 100;
        let also = (0..ACK_RANGES_MAX as u64).map(|i| (far + 4 * i, far + 4 * i + 1)).collect();
        let lane = LaneAck { through: far - 9, also, ..lane_ack(Vec::new()) };
        let message = AckMessage { lanes: vec![lane; ACK_LANES_MAX] };
        let bytes = message.encode();
        assert!(bytes.len() <= ACK_BYTES_MAX, "{}", bytes.len());
        assert_eq!(AckMessage::decode(&bytes), Ok(message));
    }

    #[test]
    fn ranges_out_of_order_are_refused() {
        for also in [vec![(9, 12)], vec![(20, 12)], vec![(20, 30), (25, 40)]] {
            let bytes = AckMessage { lanes: vec![lane_ack(also)] }.encode();
            assert_eq!(AckMessage::decode(&bytes), Err(EnvelopeError::Body("ranges not ascending")));
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn version_one_reads_for_ever() {
        let golden = hex("4f61010102effdfad7dcf5022801323c50f390b0");
        let lane = LaneAck { lane: Lane::Metric, epoch: 0x0bad_cafe_beef, through: 40, also: vec![(50, 60)] };
        assert_eq!(AckMessage::decode(&golden), Ok(AckMessage { lanes: vec![lane] }));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), sealed: bool) {
            if sealed && bytes.len() > 7 {
                let n = bytes.len() - 4;
                bytes[..3].copy_from_slice(&[KIND[0], KIND[1], VERSION]);
                let crc = crc32fast::hash(&bytes[..n]).to_le_bytes();
                bytes[n..].copy_from_slice(&crc);
            }
            if let Ok(message) = AckMessage::decode(&bytes) {
                prop_assert!(message.lanes.len() <= ACK_LANES_MAX);
            }
        }
    }
}
