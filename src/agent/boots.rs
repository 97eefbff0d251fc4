//! Where the boots of this gateway stand in time: pure, without a clock of its own.
//!
//! A gateway without a battery begins every boot in 1970, and may be cut off for several boots before it is told the time.
//! Within a boot the monotonic clock orders everything, so one number per boot is enough: the wall time at which it
//! began. It is *measured* in a boot whose clock was set, and *inferred* for the others:
//!
//! ```text
//!   boot 1 (measured)   boot 2       boot 3           boot 4 (measured)
//!   |-------------|     |------|     |---------|      |-------...
//!                  \___ slack: how long it was off in all ___/
//! ```
//!
//! A boot ended before the next one began. An inferred boot is put as late as that allows, because a reboot is mostly
//! short; it may have been earlier by the whole slack, which is its uncertainty. Where two measured boots overlap (a clock
//! was wrong, or stepped back), the later one is believed and the earlier one moved: order never inverts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::{BOOT_WRITE_S, BOOTS_MAX};
use crate::time::{BootId, ClockState, Mono, Stamp};
use crate::wire::ClockFix;

/// The boots of this spool, oldest first, at most [`BOOTS_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BootBook {
    /// The spool that was told of them.
    epoch: u64,
    boots: Vec<Boot>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Boot {
    id: BootId,
    /// It ran for so long at least, by its monotonic clock.
    seen: Mono,
    measured: Option<Measured>,
    /// What its clock showed before it was set, less monotonic time.
    unset_us: Option<i64>,
    /// What the far side was told.
    told: Option<ClockFix>,
}

/// A wall clock that somebody had set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Measured {
    /// Wall time less monotonic time, in microseconds.
    offset_us: i64,
    uncertainty_us: u64,
    /// Somebody vouched for it.
    synced: bool,
}

impl BootBook {
    /// An empty book for the spool `epoch`.
    pub fn new(epoch: u64) -> Self {
        Self { epoch, boots: Vec::new() }
    }

    /// The book as it is kept: frame, postcard, CRC-32.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = postcard::to_extend(self, MAGIC.to_vec()).unwrap_or_default();
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// The book of the spool `epoch` out of `bytes`; an empty one where they are no book. A new spool has been told nothing.
    pub fn decode(bytes: &[u8], epoch: u64) -> Self {
        let mut book = Self::read(bytes).unwrap_or_default();
        if book.epoch != epoch {
            book.epoch = epoch;
            book.boots.iter_mut().for_each(|boot| boot.told = None);
        }
        book
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(content).to_le_bytes() != *crc {
            return None;
        }
        let book: Self = postcard::from_bytes(content.strip_prefix(MAGIC)?).ok()?;
        (book.boots.len() <= BOOTS_MAX).then_some(book)
    }

    /// Takes note of the time; true if the book has to be kept anew.
    pub fn look(&mut self, now: &Stamp) -> bool {
        // Where the kernel names no boots, nothing can be said of them.
        if now.boot == BootId::default() {
            return false;
        }
        let mut changed = false;
        if self.boots.last().is_none_or(|boot| boot.id != now.boot) {
            if self.boots.len() == BOOTS_MAX {
                self.boots.remove(0);
            }
            self.boots.push(Boot { id: now.boot, seen: Mono(0), measured: None, unset_us: None, told: None });
            changed = true;
        }
        let Some(boot) = self.boots.last_mut() else { return changed };
        if changed || now.mono.since(boot.seen) >= Duration::from_secs(BOOT_WRITE_S) {
            boot.seen = now.mono;
            changed = true;
        }
        changed | boot.measure(now)
    }

    /// Where every boot stands that can be placed, oldest first.
    pub fn place(&self) -> Vec<ClockFix> {
        let mut placed: Vec<ClockFix> = Vec::with_capacity(self.boots.len());
        let mut next: Option<ClockFix> = None;
        for (at, boot) in self.boots.iter().enumerate().rev() {
            let fix = match (boot.measured, next) {
                (Some(measured), next) => boot.before(boot.fix(measured), next),
                (None, Some(next)) => self.infer(at, next),
                // Nobody has told the time yet.
                (None, None) => continue,
            };
            next = Some(fix);
            placed.push(fix);
        }
        placed.reverse();
        placed
    }

    /// What the far side does not know yet. Moved by less than a second is not moved.
    pub fn news(&self) -> Vec<ClockFix> {
        let placed = self.place();
        let told =
            |fix: &ClockFix| self.boots.iter().find(|boot| boot.id == fix.boot).and_then(|boot| boot.told);
        let is_new = |fix: &ClockFix| told(fix).is_none_or(|told| is_news(&told, fix));
        // All or none: placed together they are in order.
        if placed.iter().any(is_new) { placed } else { Vec::new() }
    }

    /// `fixes` are on their way.
    pub fn told(&mut self, fixes: &[ClockFix]) {
        for boot in &mut self.boots {
            boot.told = fixes.iter().find(|fix| fix.boot == boot.id).copied().or(boot.told);
        }
    }

    /// Boot `at`, whose clock was never set, as late as the moment allows at which `next` began.
    fn infer(&self, at: usize, next: ClockFix) -> ClockFix {
        let boot = &self.boots[at];
        let room_us = self.room_us(at, next);
        let ran =
            |most: bool| self.inferred(at).fold(0u64, |sum, boot| sum.saturating_add(boot.ran_us(most)));
        // How long it ran after it was seen last is not known. As long as possible, unless that leaves no room.
        let ran_us = boot.ran_us(room_us.is_none_or(|room| ran(true) <= room));
        // The slack is shared: all of it may lie before any of them.
        let uncertainty_us = match self.boots.get(at + 1).and_then(|boot| boot.measured) {
            None => next.uncertainty_us,
            Some(_) => {
                let slack_us = room_us.map_or(u64::MAX, |room| room.saturating_sub(ran(false)));
                slack_us.saturating_add(next.uncertainty_us)
            }
        };
        ClockFix {
            boot: boot.id,
            offset_us: next.offset_us.saturating_sub_unsigned(ran_us),
            uncertainty_us,
            unset_offset_us: boot.unset_us,
        }
    }

    /// Time from the end of the last measured boot before boot `at` to the begin of `next`, in microseconds.
    fn room_us(&self, at: usize, next: ClockFix) -> Option<u64> {
        let before = self.boots[..at].iter().rev();
        before
            .filter_map(|boot| Some(boot.measured?.offset_us.saturating_add_unsigned(boot.seen.0)))
            .next()
            .map(|ended| u64::try_from(next.offset_us.saturating_sub(ended)).unwrap_or(0))
    }

    /// Boot `at` and those before it, back to the last measured one.
    fn inferred(&self, at: usize) -> impl Iterator<Item = &Boot> {
        self.boots[..=at].iter().rev().take_while(|boot| boot.measured.is_none())
    }
}

impl Boot {
    /// Takes the wall clock for what it is; true if that is news.
    fn measure(&mut self, now: &Stamp) -> bool {
        let offset_us = now.wall.0.saturating_sub_unsigned(now.mono.0);
        let synced = match now.state {
            ClockState::Unset => {
                let new = self.unset_us.is_none_or(|known| known.abs_diff(offset_us) >= MOVED_US_MIN);
                self.unset_us = if new { Some(offset_us) } else { self.unset_us };
                return new;
            }
            ClockState::Free => false,
            ClockState::Synced => true,
        };
        let uncertainty_us =
            if now.uncertainty_us == u32::MAX { u64::MAX } else { now.uncertainty_us.into() };
        let found = Measured { offset_us, uncertainty_us, synced };
        let better = self.measured.is_none_or(|known| {
            let moved = found.offset_us.abs_diff(known.offset_us) >= MOVED_US_MIN;
            let surer = found.synced && found.uncertainty_us < known.uncertainty_us / 8;
            surer || (found.synced && !known.synced) || (moved && found.synced >= known.synced)
        });
        if better {
            self.measured = Some(found);
        }
        better
    }

    fn fix(&self, measured: Measured) -> ClockFix {
        let Measured { offset_us, uncertainty_us, .. } = measured;
        ClockFix { boot: self.id, offset_us, uncertainty_us, unset_offset_us: self.unset_us }
    }

    /// How long it ran, in microseconds: at least, or at most.
    fn ran_us(&self, most: bool) -> u64 {
        // Twice the time between two notes, for a disk that was slow to take the last one.
        self.seen.0.saturating_add(if most { 2 * BOOT_WRITE_S * 1_000_000 } else { 0 })
    }

    /// `fix`, moved back if it ran into the boot that followed, whose clock is believed.
    fn before(&self, fix: ClockFix, next: Option<ClockFix>) -> ClockFix {
        let Some(next) =
            next.filter(|n| n.offset_us < fix.offset_us.saturating_add_unsigned(self.ran_us(false)))
        else {
            return fix;
        };
        let latest = next.offset_us.saturating_sub_unsigned(self.ran_us(true));
        let moved_us = fix.offset_us.abs_diff(latest);
        ClockFix { offset_us: latest, uncertainty_us: fix.uncertainty_us.saturating_add(moved_us), ..fix }
    }
}

fn is_news(told: &ClockFix, fix: &ClockFix) -> bool {
    let moved = told.offset_us.abs_diff(fix.offset_us) >= MOVED_US_MIN;
    moved || fix.uncertainty_us < told.uncertainty_us / 8 || fix.unset_offset_us != told.unset_offset_us
}

/// Name of the book's file beside the spool.
pub const FILE: &str = "boots";

/// Clocks that differ by less are the same.
const MOVED_US_MIN: u64 = 1_000_000;
const MAGIC: &[u8] = b"OPC1";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Wall;
    use proptest::prelude::*;

    const YEAR_2026: i64 = 1_790_000_000;

    fn stamp(boot: u8, mono_s: u64, wall_s: i64, state: ClockState) -> Stamp {
        let uncertainty_us = if state == ClockState::Synced { 2000 } else { u32::MAX };
        Stamp {
            wall: Wall::from_secs(wall_s),
            mono: Mono(mono_s * 1_000_000),
            boot: BootId([boot; 16]),
            uncertainty_us,
            state,
        }
    }

    /// A boot that nobody tells the time, looked at every second for `s` seconds.
    fn in_1970(book: &mut BootBook, boot: u8, s: u64) {
        for mono in 1..=s {
            book.look(&stamp(boot, mono, mono as i64, ClockState::Unset));
        }
    }

    /// When each boot began, in seconds after `YEAR_2026`, and how sure that is.
    fn begun(book: &BootBook) -> Vec<(u8, i64, Option<u64>)> {
        let placed = book.place();
        let s = |fix: &ClockFix| {
            let sure = fix.known_uncertainty_us().map(|us| us / 1_000_000);
            (fix.boot.0[0], fix.offset_us / 1_000_000 - YEAR_2026, sure)
        };
        placed.iter().map(s).collect()
    }

    #[test]
    fn three_boots_in_1970_are_placed_once_the_time_is_told() {
        let mut book = BootBook::new(7);
        book.look(&stamp(1, 1, YEAR_2026 + 1, ClockState::Synced));
        book.look(&stamp(1, 1000, YEAR_2026 + 1000, ClockState::Synced));
        for boot in [2, 3, 4] {
            in_1970(&mut book, boot, 600);
        }
        assert_eq!(begun(&book), [(1, 0, Some(0))], "nobody has told the time since");
        // The fourth boot is told at its second 600 that it is second 10 000: it began at 9400.
        book.look(&stamp(4, 600, YEAR_2026 + 10_000, ClockState::Synced));
        let placed = begun(&book);
        let [(1, 0, Some(0)), (2, two, sure_two), (3, three, sure_three), (4, 9400, Some(0))] = placed[..]
        else {
            panic!("{placed:?}")
        };
        // Each ran for 571 s at least. Boot 1 ended at 1000, so what is left of the 8400 s until boot 4 is the slack.
        assert!((9400 - 660..=9400 - 571).contains(&three) && two + 571 <= three, "{placed:?}");
        let slack = Some(8400 - 2 * 571);
        assert_eq!((sure_two, sure_three), (slack, slack));
    }

    #[test]
    fn without_any_earlier_time_nobody_knows_how_long_it_was_off() {
        let mut book = BootBook::new(7);
        in_1970(&mut book, 1, 100);
        book.look(&stamp(2, 50, YEAR_2026 + 50, ClockState::Synced));
        let placed = begun(&book);
        assert!(placed[0].1 + 100 <= 0 && placed[0].1 >= -161 && placed[0].2.is_none(), "{placed:?}");
    }

    #[test]
    fn reboots_without_a_pause_are_squeezed_into_the_time_there_was() {
        let mut book = BootBook::new(7);
        book.look(&stamp(1, 1000, YEAR_2026 + 1000, ClockState::Synced));
        for boot in [2, 3] {
            in_1970(&mut book, boot, 100);
        }
        book.look(&stamp(4, 10, YEAR_2026 + 1220, ClockState::Synced));
        let placed = begun(&book);
        assert_eq!(placed[0], (1, 0, Some(0)), "a clock that was right is not moved: {placed:?}");
        assert!(placed.windows(2).all(|two| two[0].1 + 90 <= two[1].1), "{placed:?}");
    }

    #[test]
    fn a_clock_that_was_ahead_is_moved_behind_the_one_that_followed() {
        let mut book = BootBook::new(7);
        book.look(&stamp(1, 1000, YEAR_2026 + 90_000, ClockState::Free));
        book.look(&stamp(2, 10, YEAR_2026 + 2000, ClockState::Synced));
        let placed = begun(&book);
        assert!(placed[0].1 + 1000 <= placed[1].1 && placed[1].1 == 1990, "{placed:?}");
    }

    #[test]
    fn a_step_back_moves_the_boot_and_a_clock_that_nobody_vouches_for_does_not_replace_one_that_is() {
        let mut book = BootBook::new(7);
        assert!(book.look(&stamp(1, 10, YEAR_2026 + 610, ClockState::Free)));
        assert!(book.look(&stamp(1, 20, YEAR_2026 + 20, ClockState::Synced)));
        assert_eq!(begun(&book), [(1, 0, Some(0))]);
        book.look(&stamp(1, 30, YEAR_2026 + 9030, ClockState::Free));
        book.look(&stamp(1, 31, 31, ClockState::Unset));
        assert_eq!(begun(&book), [(1, 0, Some(0))]);
        // Corrected by whoever vouches for it.
        book.look(&stamp(1, 40, YEAR_2026 + 35, ClockState::Synced));
        assert_eq!(begun(&book)[0].1, -5);
    }

    #[test]
    fn what_drifts_by_less_than_a_second_is_no_news() {
        let mut book = BootBook::new(7);
        book.look(&stamp(1, 10, YEAR_2026 + 10, ClockState::Synced));
        let first = book.news();
        assert_eq!(first.len(), 1);
        book.told(&first);
        let mut drifted = stamp(1, 500, YEAR_2026 + 500, ClockState::Synced);
        drifted.wall = Wall(drifted.wall.0 + 900_000);
        book.look(&drifted);
        assert_eq!(book.news(), []);
        drifted.wall = Wall(drifted.wall.0 + 1000);
        assert!(!book.look(&drifted), "nothing that would have to be written");
        drifted.wall = Wall(drifted.wall.0 + 199_000);
        book.look(&drifted);
        assert_eq!(book.news()[0].offset_us, first[0].offset_us + 1_100_000);
    }

    #[test]
    fn the_book_survives_a_restart_and_tells_a_new_spool_everything() {
        let mut book = BootBook::new(7);
        in_1970(&mut book, 1, 100);
        book.look(&stamp(2, 50, YEAR_2026 + 50, ClockState::Synced));
        book.told(&book.news());
        let mut bytes = book.encode();
        let again = BootBook::decode(&bytes, 7);
        assert_eq!((again.news(), &again), (Vec::new(), &book));
        assert_eq!(BootBook::decode(&bytes, 8).news().len(), 2);
        bytes[7] ^= 1;
        assert_eq!(BootBook::decode(&bytes, 7), BootBook::new(7));
    }

    #[test]
    fn the_book_stays_within_its_bound_and_is_rarely_written() {
        let mut book = BootBook::new(7);
        for boot in 1..=200 {
            in_1970(&mut book, boot, 3);
        }
        assert_eq!(book.boots.len(), BOOTS_MAX);
        let written = (4..1000).filter(|s| book.look(&stamp(200, *s, *s as i64, ClockState::Unset))).count();
        assert!(written <= 1000 / BOOT_WRITE_S as usize, "{written}");
    }

    proptest! {
        /// Whatever clocks say, and whenever: a boot never ends after the next one has begun.
        #[test]
        fn order_never_inverts(
            boots in proptest::collection::vec((1u64..5000, proptest::collection::vec((0u64..5000, -1000i64..1_000_000, 0u8..3), 0..4)), 1..8),
        ) {
            let mut book = BootBook::new(7);
            for (id, (ran, looks)) in boots.iter().enumerate() {
                let mut looks = looks.clone();
                looks.sort_unstable();
                let boot = id as u8 + 1;
                book.look(&stamp(boot, 0, 0, ClockState::Unset));
                for (mono, wall, state) in looks.into_iter().filter(|l| l.0 <= *ran) {
                    let state = [ClockState::Unset, ClockState::Free, ClockState::Synced][usize::from(state)];
                    book.look(&stamp(boot, mono, YEAR_2026 + wall, state));
                }
                book.look(&stamp(boot, *ran, 0, ClockState::Unset));
            }
            let placed = book.place();
            for two in placed.windows(2) {
                let seen = book.boots.iter().find(|b| b.id == two[0].boot).unwrap().seen;
                prop_assert!(two[0].offset_us + seen.0 as i64 <= two[1].offset_us, "{placed:?}");
            }
        }
    }
}
