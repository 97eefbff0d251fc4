//! The heartbeat: how the agent is, in at most [`HEARTBEAT_BYTES_MAX`] bytes. Never spooled: only the newest matters.

use serde::{Deserialize, Serialize};

use super::PerLane;
use super::envelope::{self, EnvelopeError};
use crate::limits::{HEARTBEAT_BYTES_MAX, HEARTBEAT_VERSION_BYTES_MAX};
use crate::time::Stamp;

/// How the agent is at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// When it was made, with the boot and the state of the clock.
    pub at: Stamp,
    /// Time since the agent started, in seconds.
    pub uptime_s: u32,
    /// Version of the agent; cut to [`HEARTBEAT_VERSION_BYTES_MAX`] bytes when encoded.
    pub version: String,
    /// First bytes of the SHA-256 of the language model in use; zero when there is none.
    pub model_hash_prefix: [u8; 8],
    /// What went wrong, as bits.
    pub health: Health,
    /// The lanes' accounts.
    pub lanes: PerLane<LaneBeat>,
    /// Age of the oldest record that waits for acknowledgement, in seconds; 0 when none waits.
    pub oldest_age_s: u32,
    /// Bytes of blocks in the spool.
    pub spool_bytes: u64,
    /// Episodes open now.
    pub episodes_open: u16,
}

/// One lane's account: `admitted = acknowledged + pending + evicted`, in records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LaneBeat {
    /// The epoch, big-endian: eight bytes whatever its value.
    pub epoch: [u8; 8],
    /// Promised so far; also the highest sequence number.
    pub admitted: u64,
    /// Acknowledged by the far side.
    pub acknowledged: u64,
    /// Waiting.
    pub pending: u64,
    /// Given up, each in a declared gap.
    pub evicted: u64,
}

impl LaneBeat {
    /// The epoch as the rest of the program writes it.
    pub const fn epoch(&self) -> u64 {
        u64::from_be_bytes(self.epoch)
    }

    /// Whether the account is even.
    pub fn is_even(&self) -> bool {
        let settled = self.acknowledged.checked_add(self.pending).and_then(|n| n.checked_add(self.evicted));
        settled == Some(self.admitted)
    }
}

/// Bits of trouble; 0 is well. Append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Health(pub u16);

impl Health {
    /// The last commit of the spool failed.
    pub const SPOOL_FAILING: Health = Health(1);
    /// The spool gives up records because it is full.
    pub const SPOOL_FULL: Health = Health(1 << 1);
    /// The spool was damaged and salvaged since the start.
    pub const SPOOL_SALVAGED: Health = Health(1 << 2);
    /// The language model does not work; the template words the digests.
    pub const MODEL_OUT: Health = Health(1 << 3);
    /// At least one source delivers nothing.
    pub const SENSOR_SILENT: Health = Health(1 << 4);
    /// Nobody vouches for the wall clock.
    pub const CLOCK_UNSURE: Health = Health(1 << 5);
    /// The far side refuses blocks.
    pub const BLOCKS_REFUSED: Health = Health(1 << 6);
    /// Readings are dropped because the pipeline is full.
    pub const OVERLOAD: Health = Health(1 << 7);

    /// Both.
    #[must_use]
    pub const fn with(self, other: Health) -> Health {
        Health(self.0 | other.0)
    }

    /// Whether every bit of `other` is set.
    pub const fn has(self, other: Health) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names of the bits that are set and known.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().filter(move |(bit, _)| self.has(*bit)).map(|(_, name)| *name)
    }
}

const NAMES: [(Health, &str); 8] = [
    (Health::SPOOL_FAILING, "spool_failing"),
    (Health::SPOOL_FULL, "spool_full"),
    (Health::SPOOL_SALVAGED, "spool_salvaged"),
    (Health::MODEL_OUT, "model_out"),
    (Health::SENSOR_SILENT, "sensor_silent"),
    (Health::CLOCK_UNSURE, "clock_unsure"),
    (Health::BLOCKS_REFUSED, "blocks_refused"),
    (Health::OVERLOAD, "overload"),
];

impl Heartbeat {
    /// Encodes into at most [`HEARTBEAT_BYTES_MAX`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        let end = self.version.floor_char_boundary(HEARTBEAT_VERSION_BYTES_MAX);
        if end == self.version.len() {
            return envelope::seal(KIND, VERSION, self);
        }
        let short = Heartbeat { version: self.version[..end].to_owned(), ..self.clone() };
        envelope::seal(KIND, VERSION, &short)
    }

    /// Decodes what [`Heartbeat::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let beat: Heartbeat = envelope::open(KIND, VERSION, HEARTBEAT_BYTES_MAX, bytes)?;
        if beat.version.len() > HEARTBEAT_VERSION_BYTES_MAX {
            return Err(EnvelopeError::Body("version too long"));
        }
        Ok(beat)
    }
}

const KIND: [u8; 2] = *b"Oh";
const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{BootId, ClockState, Mono, Wall};
    use proptest::prelude::*;

    fn fullest() -> Heartbeat {
        let lane = LaneBeat {
            epoch: [0xff; 8],
            admitted: u64::MAX,
            acknowledged: u64::MAX,
            pending: u64::MAX,
            evicted: u64::MAX,
        };
        Heartbeat {
            at: Stamp {
                wall: Wall(i64::MIN),
                mono: Mono(u64::MAX),
                boot: BootId([0xff; 16]),
                uncertainty_us: u32::MAX,
                state: ClockState::Synced,
            },
            uptime_s: u32::MAX,
            version: "1.22.333-rc.4444+build".into(),
            model_hash_prefix: [0xff; 8],
            health: Health(u16::MAX),
            lanes: [lane; 4],
            oldest_age_s: u32::MAX,
            spool_bytes: u64::MAX,
            episodes_open: u16::MAX,
        }
    }

    #[test]
    fn the_fullest_heartbeat_fits_three_hundred_bytes() {
        let bytes = fullest().encode();
        assert!(bytes.len() <= HEARTBEAT_BYTES_MAX && HEARTBEAT_BYTES_MAX == 300, "{}", bytes.len());
        let back = Heartbeat::decode(&bytes).unwrap();
        assert_eq!(back, Heartbeat { version: "1.22.333-rc.4444".into(), ..fullest() });
    }

    #[test]
    fn an_account_that_overflows_is_not_even() {
        assert!(!fullest().lanes[0].is_even());
        let lane = LaneBeat { admitted: 9, acknowledged: 4, pending: 3, evicted: 2, ..LaneBeat::default() };
        assert!(lane.is_even() && !LaneBeat { pending: 4, ..lane }.is_even());
    }

    #[test]
    fn health_names_its_bits() {
        let health = Health::SPOOL_FULL.with(Health::OVERLOAD).with(Health(1 << 15));
        assert_eq!(health.names().collect::<Vec<_>>(), ["spool_full", "overload"]);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), sealed: bool) {
            if sealed && bytes.len() > 7 {
                let n = bytes.len() - 4;
                bytes[..3].copy_from_slice(&[KIND[0], KIND[1], VERSION]);
                let crc = crc32fast::hash(&bytes[..n]).to_le_bytes();
                bytes[n..].copy_from_slice(&crc);
            }
            if let Ok(beat) = Heartbeat::decode(&bytes) {
                prop_assert_eq!(Heartbeat::decode(&beat.encode()), Ok(beat));
            }
        }
    }
}
