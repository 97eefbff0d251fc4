//! The only file that asks the operating system what time it is.

use std::sync::OnceLock;

use rustix::time::{ClockId, clock_gettime};

use crate::limits;
use crate::time::{BootId, ClockState, Mono, Stamp, Wall};

/// Wall time now.
pub fn wall() -> Wall {
    let t = clock_gettime(ClockId::Realtime);
    Wall(t.tv_sec.saturating_mul(1_000_000).saturating_add(t.tv_nsec / 1000))
}

/// Monotonic time now, suspended time included.
pub fn mono() -> Mono {
    let t = clock_gettime(ClockId::Boottime);
    Mono(u64::try_from(t.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(t.tv_nsec).unwrap_or(0) / 1000)
}

/// All clocks at once.
pub fn stamp() -> Stamp {
    let wall = wall();
    Stamp { wall, mono: mono(), boot: boot_id(), uncertainty_us: u32::MAX, state: state_of(wall) }
}

fn state_of(wall: Wall) -> ClockState {
    if wall < limits::WALL_PLAUSIBLE_MIN { ClockState::Unset } else { ClockState::Free }
}

/// The kernel's boot id; all zero where `/proc` does not tell.
pub fn boot_id() -> BootId {
    static BOOT: OnceLock<BootId> = OnceLock::new();
    *BOOT.get_or_init(|| {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .ok()
            .and_then(|text| parse_boot_id(&text))
            .unwrap_or_default()
    })
}

fn parse_boot_id(text: &str) -> Option<BootId> {
    let hex: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let bits = u128::from_str_radix(&hex, 16).ok().filter(|_| hex.len() == 32)?;
    Some(BootId(bits.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_id_is_thirty_two_hex_digits_or_nothing() {
        let id = parse_boot_id("00112233-4455-6677-8899-aabbccddeeff\n").unwrap();
        assert_eq!(id.to_string(), "00112233445566778899aabbccddeeff");
        assert!(parse_boot_id("0011").is_none());
    }

    #[test]
    fn a_clock_that_still_shows_1970_is_unset() {
        assert_eq!(state_of(Wall::from_secs(90)), ClockState::Unset);
        assert_eq!(state_of(limits::WALL_PLAUSIBLE_MIN), ClockState::Free);
    }

    #[test]
    fn monotonic_time_does_not_go_back() {
        let first = mono();
        assert!(mono() >= first);
    }
}
