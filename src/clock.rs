//! The only file that asks the operating system what time it is, and whether anybody vouches for it.

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
    let (state, uncertainty_us) = state_of(wall, error_us());
    Stamp { wall, mono: mono(), boot: boot_id(), uncertainty_us, state }
}

/// What a wall clock is worth that the kernel takes to be off by `error_us` at most, if anybody disciplines it.
fn state_of(wall: Wall, error_us: Option<u32>) -> (ClockState, u32) {
    match error_us {
        _ if wall < limits::WALL_PLAUSIBLE_MIN => (ClockState::Unset, u32::MAX),
        None => (ClockState::Free, u32::MAX),
        Some(us) => (ClockState::Synced, us),
    }
}

/// The kernel's bound on the error of the wall clock in microseconds, while an NTP or PTP daemon disciplines it.
#[allow(unsafe_code)]
fn error_us() -> Option<u32> {
    /// C libraries disagree about the length of the time in the middle; what is read here stands before it.
    #[repr(C)]
    struct Roomy {
        asked: libc::timex,
        spare: [u64; 32],
    }
    // SAFETY: all zero is a valid `timex`, plain numbers that ask for no change.
    let mut roomy: Roomy = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole `timex` of our own and room behind it, which the call fills and does not keep.
    let state = unsafe { libc::adjtimex((&raw mut roomy).cast()) };
    let Roomy { asked, .. } = roomy;
    let vouched = (0..libc::TIME_ERROR).contains(&state) && asked.status & libc::STA_UNSYNC == 0;
    vouched.then(|| u32::try_from(asked.maxerror).unwrap_or(u32::MAX))
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
        assert_eq!(state_of(Wall::from_secs(90), Some(5)), (ClockState::Unset, u32::MAX));
        assert_eq!(state_of(limits::WALL_PLAUSIBLE_MIN, None), (ClockState::Free, u32::MAX));
    }

    #[test]
    fn a_clock_is_synced_only_if_the_kernel_says_how_far_it_may_be_off() {
        assert_eq!(state_of(limits::WALL_PLAUSIBLE_MIN, Some(5)), (ClockState::Synced, 5));
        let now = stamp();
        assert_eq!(now.state == ClockState::Synced, now.uncertainty_us != u32::MAX, "{now:?}");
    }

    #[test]
    fn monotonic_time_does_not_go_back() {
        let first = mono();
        assert!(mono() >= first);
    }
}
