//! The clocks that stamped what is here, and setting right what they stamped.
//!
//! A block says what its device's wall clock and monotonic clock showed when it was sealed. The difference names the clock:
//! one setting of the wall clock in one boot. What the block holds was stamped by the same clock, unless it lies far from
//! the seal: a recording has a time of its own. Once the device says where the boot stands in time, everything of that
//! clock is moved by one number, whether it came before or comes after; so order within a clock stays as it was.
//!
//! A window is identified by its start, and every boot in 1970 has the same starts. Until it is known where such a boot
//! stands, its windows are kept in a century of their own, before all others.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::limits;
use crate::time::{BootId, ClockState, Stamp, Wall};
use crate::wire::ClockFix;

/// The clock that sealed a block, and the one that its boot had before it was set.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockClock {
    sealed: Wall,
    /// How long its boot had run by then, in microseconds.
    ran_us: i64,
    own: Option<Clock>,
    unset: Option<Clock>,
}

#[derive(Debug, Clone, Copy)]
struct Clock {
    id: i64,
    ordinal: i64,
    offset_us: i64,
    unset: bool,
    shift_us: Option<i64>,
}

/// A time set right, and the clock that it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    pub at: Wall,
    pub clock: Option<i64>,
}

impl BlockClock {
    /// The clock of a block of `device` sealed at `sealed`, noted if it is new.
    pub fn of(connection: &Connection, device: i64, sealed: &Stamp) -> rusqlite::Result<Self> {
        let ran_us = i64::try_from(sealed.mono.0).unwrap_or(i64::MAX);
        let nobodys = Self { sealed: sealed.wall, ran_us, own: None, unset: None };
        let offset_us = sealed.wall.0.saturating_sub_unsigned(sealed.mono.0);
        if sealed.boot == BootId::default() || !is_sane(offset_us) || !is_sane(sealed.wall.0) {
            return Ok(nobodys);
        }
        let known = clocks(connection, device, sealed.boot)?;
        let own = match known.iter().find(|clock| clock.offset_us.abs_diff(offset_us) < SAME_US) {
            Some(clock) => Some(*clock),
            None => note(connection, device, sealed.boot, offset_us, is_unset(sealed))?,
        };
        let unset = known.into_iter().rev().find(|clock| clock.unset);
        Ok(Self { own, unset, ..nobodys })
    }

    /// A time that came in the block.
    pub fn place(&self, at: Wall) -> Placed {
        self.placed(at, self.clock_of(at), |clock| clock.shift_us.unwrap_or(0))
    }

    /// The start of a window that ended at `end`.
    pub fn place_window(&self, start: Wall, end: Wall) -> Placed {
        self.placed(start, self.clock_of(end), Clock::window_shift_us)
    }

    fn placed(&self, at: Wall, clock: Option<Clock>, shift_us: impl Fn(&Clock) -> i64) -> Placed {
        let by = clock.as_ref().map_or(0, shift_us);
        Placed { at: Wall(at.0.saturating_add(by)), clock: clock.map(|clock| clock.id) }
    }

    fn clock_of(&self, at: Wall) -> Option<Clock> {
        let in_boot = |clock: &Clock| (0..=self.ran_us).contains(&at.0.saturating_sub(clock.offset_us));
        let since_boot = |clock: &Clock| at < limits::WALL_PLAUSIBLE_MIN && in_boot(clock);
        match (self.own, self.unset) {
            (Some(own), _) if is_near(self.sealed, at) => Some(own),
            (_, Some(unset)) if since_boot(&unset) => Some(unset),
            (Some(own), _) if own.unset && since_boot(&own) => Some(own),
            _ => None,
        }
    }
}

/// Whether a block sealed at `sealed` holds `at` because its own clock stamped it.
pub(in crate::aggregator) fn is_near(sealed: Wall, at: Wall) -> bool {
    sealed.0.abs_diff(at.0) <= OWN_US.unsigned_abs()
}

impl Clock {
    fn window_shift_us(&self) -> i64 {
        let century = || (self.ordinal - 1 - CLOCKS).saturating_mul(CENTURY_US);
        self.shift_us.unwrap_or_else(|| if self.unset { century() } else { 0 })
    }
}

/// Takes the word of record `seq` of `epoch` on a boot of `device`, and moves what its clocks have stamped.
pub(super) fn fix(
    connection: &Connection,
    device: i64,
    epoch: u64,
    seq: u64,
    fix: &ClockFix,
) -> rusqlite::Result<()> {
    if !is_sane(fix.offset_us) {
        return Ok(());
    }
    // Live records overtake older ones: an earlier word must not undo a later one.
    let kept = connection
        .prepare_cached(
            "INSERT INTO boots (device, boot, offset, uncertainty, epoch, seq) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (device, boot) DO UPDATE SET offset = ?3, uncertainty = ?4, epoch = ?5, seq = ?6
                WHERE epoch <> ?5 OR seq <= ?6",
        )?
        .execute(params![
            device,
            &fix.boot.0[..],
            fix.offset_us,
            fix.known_uncertainty_us().map(|us| i64::try_from(us).unwrap_or(i64::MAX)),
            epoch.cast_signed(),
            seq.cast_signed()
        ])?;
    if kept == 0 {
        return Ok(());
    }
    let mut known = clocks(connection, device, fix.boot)?;
    if let Some(unset_us) = fix.unset_offset_us.filter(|us| is_sane(*us))
        && !known.iter().any(|clock| clock.offset_us.abs_diff(unset_us) < SAME_US)
    {
        known.extend(note(connection, device, fix.boot, unset_us, true)?);
    }
    for clock in known {
        let shift_us = shift_us(fix.offset_us, clock.offset_us);
        if clock.shift_us != Some(shift_us) {
            set_right(connection, device, &clock, shift_us)?;
        }
    }
    Ok(())
}

/// The clocks of a boot, in the order of their arrival.
fn clocks(connection: &Connection, device: i64, boot: BootId) -> rusqlite::Result<Vec<Clock>> {
    connection
        .prepare_cached(
            "SELECT id, ordinal, offset, unset, shift FROM clocks WHERE device = ?1 AND boot = ?2 ORDER BY id",
        )?
        .query_map(params![device, &boot.0[..]], |row| {
            Ok(Clock {
                id: row.get(0)?,
                ordinal: row.get(1)?,
                offset_us: row.get(2)?,
                unset: row.get(3)?,
                shift_us: row.get(4)?,
            })
        })?
        .collect()
}

/// A new clock, if there is room for one more.
fn note(
    connection: &Connection,
    device: i64,
    boot: BootId,
    offset_us: i64,
    unset: bool,
) -> rusqlite::Result<Option<Clock>> {
    let stands: Option<i64> = connection
        .prepare_cached("SELECT offset FROM boots WHERE device = ?1 AND boot = ?2")?
        .query_row(params![device, &boot.0[..]], |row| row.get(0))
        .optional()?;
    let shift_us = stands.map(|true_us| shift_us(true_us, offset_us));
    connection
        .prepare_cached(
            "INSERT INTO clocks (device, boot, ordinal, offset, unset, shift)
             SELECT ?1, ?2, n + 1, ?3, ?4, ?5 FROM (SELECT count(*) AS n FROM clocks WHERE device = ?1) WHERE n < ?6
             RETURNING id, ordinal",
        )?
        .query_row(params![device, &boot.0[..], offset_us, unset, shift_us, CLOCKS], |row| {
            Ok(Clock { id: row.get(0)?, ordinal: row.get(1)?, offset_us, unset, shift_us })
        })
        .optional()
}

/// Moves everything that `clock` has stamped. Nothing of it is older than its boot, so that no table is read as a whole.
fn set_right(connection: &Connection, device: i64, clock: &Clock, shift_us: i64) -> rusqlite::Result<()> {
    let known_us = clock.shift_us.unwrap_or(0);
    if shift_us != known_us {
        let from = clock.offset_us + known_us - OWN_US;
        for sql in TIMES {
            connection.prepare_cached(sql)?.execute(params![clock.id, device, shift_us - known_us, from])?;
        }
    }
    let (by, from) =
        (shift_us - clock.window_shift_us(), clock.offset_us + clock.window_shift_us() - WINDOW_US);
    // In two steps: a window must not be put where the next one of the same clock still is.
    let steps = [(ASIDE_US, from), (by - ASIDE_US, from + ASIDE_US)];
    for (step, from) in steps.into_iter().filter(|_| by != 0) {
        connection.prepare_cached(WINDOWS)?.execute(params![clock.id, device, step, from, from + SPAN_US])?;
    }
    connection
        .prepare_cached("UPDATE clocks SET shift = ?2 WHERE id = ?1")?
        .execute(params![clock.id, shift_us])?;
    Ok(())
}

fn shift_us(true_us: i64, shown_us: i64) -> i64 {
    match true_us - shown_us {
        by if by.unsigned_abs() < SAME_US => 0,
        by => by,
    }
}

fn is_unset(sealed: &Stamp) -> bool {
    sealed.state == ClockState::Unset || sealed.wall < limits::WALL_PLAUSIBLE_MIN
}

/// Within some two thousand years of 1970: sums of such times stay far from the end of numbers.
fn is_sane(us: i64) -> bool {
    us.unsigned_abs() < 1 << 56
}

/// Everything but windows: clock, device, by how many microseconds, not before.
const TIMES: &[&str] = &[
    "UPDATE gaps SET sealed = sealed + ?3 WHERE clock = ?1 AND device = ?2 AND sealed >= ?4",
    "UPDATE raw SET from_at = from_at + ?3, to_at = to_at + ?3 WHERE clock = ?1 AND device = ?2 AND to_at >= ?4",
    "UPDATE OR REPLACE episodes SET start = start + ?3 WHERE start_clock = ?1 AND device = ?2 AND start >= ?4",
    "UPDATE episodes SET at = at + ?3 WHERE clock = ?1 AND device = ?2 AND at >= ?4",
    "UPDATE episode_steps SET at = at + ?3 WHERE clock = ?1 AND device = ?2 AND at >= ?4",
    "UPDATE digests SET from_at = from_at + ?3, to_at = to_at + ?3 WHERE clock = ?1 AND device = ?2 AND to_at >= ?4",
    "UPDATE notices SET at = at + ?3 WHERE clock = ?1 AND device = ?2 AND at >= ?4",
];

/// Clock, device, by how many microseconds, not before, before.
const WINDOWS: &str = "UPDATE OR REPLACE windows SET start = start + ?3
    WHERE clock = ?1 AND channel IN (SELECT id FROM channels WHERE device = ?2) AND start >= ?4 AND start < ?5";

/// Clocks whose offsets differ by less are one: the kernel slews, and two clocks are not read at the same instant.
const SAME_US: u64 = 1_000_000;
const CENTURY_US: i64 = 36_525 * 86_400 * 1_000_000;
const CLOCKS: i64 = limits::CLOCKS_MAX as i64;
/// Where no window is.
const ASIDE_US: i64 = -(1 << 62);
const OWN_US: i64 = limits::OWN_TIME_S_MAX as i64 * 1_000_000;
/// A window that was stamped at its end began at most so much earlier.
const WINDOW_US: i64 = OWN_US + u32::MAX as i64 * 1000;
/// Longer than any clock runs.
const SPAN_US: i64 = 1 << 61;
// No century reaches it.
const _: () = assert!((CLOCKS + 1) * CENTURY_US + (1 << 57) < 1 << 62);

#[cfg(test)]
#[path = "clocks_tests.rs"]
mod tests;
