//! The heartbeat: how the agent is, in at most [`HEARTBEAT_BYTES_MAX`] bytes. Never spooled: only the newest matters.
//!
//! ```text
//! envelope "Oh" 2 { state: bytes { postcard of the state, later fields behind }, signature: bytes }
//! ```
//!
//! The state carries the books of every lane and a serial number that only grows. Its signature, made with the key of
//! the device's certificate, covers [`signed_message`]: nobody on the way can alter the account, and an account or a
//! serial number that goes back shows that an older image of the spool was put in place. Without a key there is no
//! signature. Version 1 had neither reasons, nor a serial number, nor a signature, and is read for ever.

use serde::{Deserialize, Serialize};

use super::envelope::{self, EnvelopeError};
use super::{GapReason, PerLane};
use crate::limits::{GAP_REASONS_MAX, HEARTBEAT_BYTES_MAX, HEARTBEAT_VERSION_BYTES_MAX};
use crate::time::Stamp;

/// How the agent is at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Grows by one with every heartbeat of this spool, over restarts too; 0 in version 1, which had none.
    pub serial: u64,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
    /// The same by [`GapReason`] in its order; all zero in version 1. Reasons that this program does not know yet count
    /// in `evicted` alone.
    pub by_reason: [u64; GapReason::ALL.len()],
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
    /// The spool was damaged and salvaged since the start, or has lost records to its medium in this epoch.
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
    /// New alarms were refused in this epoch: their reserve of the spool was gone.
    pub const ALARMS_REFUSED: Health = Health(1 << 8);
    /// The budget of the line is short: less than everything is sent.
    pub const BUDGET_SHORT: Health = Health(1 << 9);

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

const NAMES: [(Health, &str); 10] = [
    (Health::SPOOL_FAILING, "spool_failing"),
    (Health::SPOOL_FULL, "spool_full"),
    (Health::SPOOL_SALVAGED, "spool_salvaged"),
    (Health::MODEL_OUT, "model_out"),
    (Health::SENSOR_SILENT, "sensor_silent"),
    (Health::CLOCK_UNSURE, "clock_unsure"),
    (Health::BLOCKS_REFUSED, "blocks_refused"),
    (Health::OVERLOAD, "overload"),
    (Health::ALARMS_REFUSED, "alarms_refused"),
    (Health::BUDGET_SHORT, "budget_short"),
];

impl Heartbeat {
    /// Encodes without a signature, into at most [`HEARTBEAT_BYTES_MAX`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_signed(|_| Vec::new())
    }

    /// Encodes; `sign` is given the state and returns the signature over its [`signed_message`], of at most
    /// [`crate::limits::SIGNATURE_BYTES_MAX`] bytes, or nothing.
    pub fn encode_signed(&self, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
        // Derived types without maps always serialise.
        let state = postcard::to_stdvec(&State::from(self)).unwrap_or_default();
        let signature = sign(&state);
        envelope::seal(KIND, VERSION, &Signed { state, signature })
    }

    /// Decodes what [`Heartbeat::encode`] of this or an earlier program wrote. Says nothing about the signature.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let beat = match bytes.get(2) {
            Some(1) => envelope::open::<StateV1>(KIND, VERSION, HEARTBEAT_BYTES_MAX, bytes)?.into(),
            _ => {
                let signed: Signed = envelope::open(KIND, VERSION, HEARTBEAT_BYTES_MAX, bytes)?;
                // What a later program appends to the state is not this one's business.
                let (state, _) = postcard::take_from_bytes::<State>(&signed.state)
                    .map_err(|_| EnvelopeError::Body("state does not decode"))?;
                state.read()?
            }
        };
        if beat.version.len() > HEARTBEAT_VERSION_BYTES_MAX {
            return Err(EnvelopeError::Body("version too long"));
        }
        Ok(beat)
    }
}

/// State and signature of an encoded heartbeat; `None` for version 1, and for what does not decode.
pub fn signed_parts(bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let signed: Signed = match bytes.get(2)? {
        1 => return None,
        _ => envelope::open(KIND, VERSION, HEARTBEAT_BYTES_MAX, bytes).ok()?,
    };
    Some((signed.state, signed.signature))
}

/// What is signed: the state as it travels, bound to its purpose and to the device that it speaks for.
pub fn signed_message(device: &str, state: &[u8]) -> Vec<u8> {
    [b"outpost heartbeat\n", device.as_bytes(), b"\n", state].concat()
}

/// What travels in version 2.
#[derive(Serialize, Deserialize)]
struct Signed {
    state: Vec<u8>,
    signature: Vec<u8>,
}

/// The state of version 2. Fields are only appended.
#[derive(Serialize, Deserialize)]
struct State {
    serial: u64,
    at: Stamp,
    uptime_s: u32,
    version: String,
    model_hash_prefix: [u8; 8],
    health: Health,
    /// Big-endian; all lanes of a spool have the same.
    epoch: [u8; 8],
    lanes: PerLane<LaneState>,
    oldest_age_s: u32,
    spool_bytes: u64,
    episodes_open: u16,
}

/// One lane's books.
#[derive(Serialize, Deserialize)]
struct LaneState {
    admitted: u64,
    acknowledged: u64,
    pending: u64,
    /// By [`GapReason`] in its order, zeros at the end left out.
    evicted: Vec<u64>,
}

impl From<&Heartbeat> for State {
    fn from(beat: &Heartbeat) -> Self {
        let lane = |lane: &LaneBeat| LaneState {
            admitted: lane.admitted,
            acknowledged: lane.acknowledged,
            pending: lane.pending,
            evicted: lane.by_reason[..lane.by_reason.iter().rposition(|n| *n > 0).map_or(0, |i| i + 1)]
                .to_vec(),
        };
        let end = beat.version.floor_char_boundary(HEARTBEAT_VERSION_BYTES_MAX);
        State {
            serial: beat.serial,
            at: beat.at,
            uptime_s: beat.uptime_s,
            version: beat.version[..end].to_owned(),
            model_hash_prefix: beat.model_hash_prefix,
            health: beat.health,
            epoch: beat.lanes[0].epoch,
            lanes: std::array::from_fn(|i| lane(&beat.lanes[i])),
            oldest_age_s: beat.oldest_age_s,
            spool_bytes: beat.spool_bytes,
            episodes_open: beat.episodes_open,
        }
    }
}

impl State {
    fn read(self) -> Result<Heartbeat, EnvelopeError> {
        if self.lanes.iter().any(|lane| lane.evicted.len() > GAP_REASONS_MAX) {
            return Err(EnvelopeError::Body("too many reasons"));
        }
        let lane = |lane: &LaneState| LaneBeat {
            epoch: self.epoch,
            admitted: lane.admitted,
            acknowledged: lane.acknowledged,
            pending: lane.pending,
            evicted: lane.evicted.iter().fold(0, |sum: u64, n| sum.saturating_add(*n)),
            by_reason: std::array::from_fn(|i| lane.evicted.get(i).copied().unwrap_or(0)),
        };
        Ok(Heartbeat {
            serial: self.serial,
            at: self.at,
            uptime_s: self.uptime_s,
            lanes: std::array::from_fn(|i| lane(&self.lanes[i])),
            version: self.version,
            model_hash_prefix: self.model_hash_prefix,
            health: self.health,
            oldest_age_s: self.oldest_age_s,
            spool_bytes: self.spool_bytes,
            episodes_open: self.episodes_open,
        })
    }
}

/// The body of version 1.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct StateV1 {
    at: Stamp,
    uptime_s: u32,
    version: String,
    model_hash_prefix: [u8; 8],
    health: Health,
    lanes: PerLane<LaneV1>,
    oldest_age_s: u32,
    spool_bytes: u64,
    episodes_open: u16,
}

#[derive(Clone, Copy, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct LaneV1 {
    epoch: [u8; 8],
    admitted: u64,
    acknowledged: u64,
    pending: u64,
    evicted: u64,
}

impl From<StateV1> for Heartbeat {
    fn from(old: StateV1) -> Self {
        let lane = |LaneV1 { epoch, admitted, acknowledged, pending, evicted }| LaneBeat {
            epoch,
            admitted,
            acknowledged,
            pending,
            evicted,
            by_reason: Default::default(),
        };
        Heartbeat {
            serial: 0,
            at: old.at,
            uptime_s: old.uptime_s,
            version: old.version,
            model_hash_prefix: old.model_hash_prefix,
            health: old.health,
            lanes: old.lanes.map(lane),
            oldest_age_s: old.oldest_age_s,
            spool_bytes: old.spool_bytes,
            episodes_open: old.episodes_open,
        }
    }
}

const KIND: [u8; 2] = *b"Oh";
const VERSION: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SIGNATURE_BYTES_MAX;
    use crate::time::{BootId, ClockState, Mono, Wall};
    use proptest::prelude::*;

    fn fullest() -> Heartbeat {
        let lane = LaneBeat {
            epoch: [0xff; 8],
            admitted: u64::MAX,
            acknowledged: u64::MAX,
            pending: u64::MAX,
            evicted: u64::MAX,
            by_reason: [u64::MAX; GapReason::ALL.len()],
        };
        Heartbeat {
            serial: u64::MAX,
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

    /// A gateway that has run for a year and was in trouble.
    fn usual() -> Heartbeat {
        let lane = |admitted| LaneBeat {
            epoch: [0x5a; 8],
            admitted,
            acknowledged: admitted - 7000,
            pending: 1000,
            evicted: 6000,
            by_reason: [5000, 900, 0, 0, 100, 0],
        };
        Heartbeat {
            serial: 1_051_200,
            at: Stamp {
                wall: Wall(1_790_000_000_000_000),
                mono: Mono(31_536_000_000_000),
                boot: BootId([0x77; 16]),
                uncertainty_us: 1500,
                state: ClockState::Synced,
            },
            uptime_s: 31_536_000,
            version: "0.1.0".into(),
            model_hash_prefix: [3; 8],
            health: Health::SPOOL_FULL,
            lanes: [lane(20_000), lane(10_000), lane(3_000_000), lane(900_000_000)],
            oldest_age_s: 120,
            spool_bytes: 70_000_000,
            episodes_open: 1,
        }
    }

    fn golden(name: &str) -> Vec<u8> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// The first program's heartbeat, as the golden file of version 1 holds it.
    fn first_version() -> StateV1 {
        let usual = usual();
        StateV1 {
            at: usual.at,
            uptime_s: usual.uptime_s,
            version: usual.version,
            model_hash_prefix: usual.model_hash_prefix,
            health: usual.health,
            lanes: usual.lanes.map(|l| LaneV1 {
                epoch: l.epoch,
                admitted: l.admitted,
                acknowledged: l.acknowledged,
                pending: l.pending,
                evicted: l.evicted,
            }),
            oldest_age_s: usual.oldest_age_s,
            spool_bytes: usual.spool_bytes,
            episodes_open: usual.episodes_open,
        }
    }

    #[test]
    fn the_golden_heartbeats_of_every_version_are_read_for_ever() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        for (name, bytes) in [
            ("heartbeat_v1.bin", envelope::seal(KIND, 1, &first_version())),
            ("heartbeat_v2.bin", usual().encode_signed(|_| vec![0x30; 71])),
        ] {
            if std::env::var_os("OUTPOST_BLESS").is_some() && !folder.join(name).exists() {
                std::fs::write(folder.join(name), &bytes).unwrap();
            }
            assert_eq!(golden(name), bytes, "{name}");
        }
        let mut first = usual();
        first.serial = 0;
        first.lanes.iter_mut().for_each(|lane| lane.by_reason = Default::default());
        assert_eq!(Heartbeat::decode(&golden("heartbeat_v1.bin")), Ok(first));
        assert_eq!(signed_parts(&golden("heartbeat_v1.bin")), None);
        assert_eq!(Heartbeat::decode(&golden("heartbeat_v2.bin")), Ok(usual()));
    }

    #[test]
    fn the_fullest_heartbeat_fits_its_bound_and_a_usual_one_three_hundred_bytes() {
        let bytes = fullest().encode_signed(|_| vec![0xff; SIGNATURE_BYTES_MAX]);
        assert!(bytes.len() <= HEARTBEAT_BYTES_MAX, "{}", bytes.len());
        let back = Heartbeat::decode(&bytes).unwrap();
        assert_eq!(back, Heartbeat { version: "1.22.333-rc.4444".into(), ..fullest() });
        // ECDSA over P-256 takes 72 bytes at most.
        let bytes = usual().encode_signed(|_| vec![0xff; 72]);
        assert!(bytes.len() <= 300, "{}", bytes.len());
    }

    #[test]
    fn what_is_signed_is_the_state_as_it_travels_and_the_device() {
        let mut asked = Vec::new();
        let bytes = usual().encode_signed(|state| {
            asked = state.to_vec();
            vec![1, 2, 3]
        });
        assert_eq!(signed_parts(&bytes), Some((asked.clone(), vec![1, 2, 3])));
        assert_ne!(signed_message("a", &asked), signed_message("b", &asked));
    }

    #[test]
    fn fields_that_a_later_program_appends_are_passed_over() {
        let (mut state, signature) = signed_parts(&usual().encode()).unwrap();
        state.extend_from_slice(b"more");
        let later = envelope::seal(KIND, VERSION, &Signed { state, signature });
        assert_eq!(Heartbeat::decode(&later), Ok(usual()));
    }

    #[test]
    fn a_reason_that_is_not_known_here_counts_all_the_same() {
        let mut state = State::from(&usual());
        state.lanes[0].evicted = vec![1, 0, 0, 0, 0, 0, 0, 0, 41];
        let signed = Signed { state: postcard::to_stdvec(&state).unwrap(), signature: Vec::new() };
        let lane = Heartbeat::decode(&envelope::seal(KIND, VERSION, &signed)).unwrap().lanes[0];
        assert_eq!((lane.evicted, lane.by_reason[0]), (42, 1));
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
        fn hostile_bytes_never_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..300), sealed: bool, version in 1u8..=VERSION,
        ) {
            if sealed && bytes.len() > 7 {
                let n = bytes.len() - 4;
                bytes[..3].copy_from_slice(&[KIND[0], KIND[1], version]);
                let crc = crc32fast::hash(&bytes[..n]).to_le_bytes();
                bytes[n..].copy_from_slice(&crc);
            }
            let _ = signed_parts(&bytes);
            if let Ok(beat) = Heartbeat::decode(&bytes) {
                prop_assert!(Heartbeat::decode(&beat.encode()).is_ok());
            }
        }

        #[test]
        fn a_hostile_state_never_panics(state in proptest::collection::vec(any::<u8>(), 0..300)) {
            let bytes = envelope::seal(KIND, VERSION, &Signed { state, signature: Vec::new() });
            if let Ok(beat) = Heartbeat::decode(&bytes) {
                prop_assert!(Heartbeat::decode(&beat.encode()).is_ok());
            }
        }
    }
}
