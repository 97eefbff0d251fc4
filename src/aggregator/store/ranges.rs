//! Settled sequence numbers of one lane, kept as disjoint ranges that never touch.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::limits;
use crate::wire::Lane;

/// Whose numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct LaneKey {
    /// Row of the device.
    pub device: i64,
    /// The lane.
    pub lane: Lane,
    /// The spool.
    pub epoch: u64,
}

impl LaneKey {
    /// The epoch as SQLite stores it: the same 64 bits.
    pub const fn epoch_bits(&self) -> i64 {
        self.epoch.cast_signed()
    }

    /// The lane as SQLite stores it.
    pub const fn lane_number(&self) -> i64 {
        self.lane as i64
    }
}

/// The lane of a stored number.
pub(super) fn lane_from(number: i64) -> Option<Lane> {
    Lane::ALL.iter().copied().find(|lane| *lane as i64 == number)
}

/// Settles `first..=last` and returns the parts that were not settled before, or the bound that stands against it.
pub(super) fn claim(
    connection: &Connection,
    key: LaneKey,
    first: u64,
    last: u64,
) -> rusqlite::Result<Result<Vec<(u64, u64)>, &'static str>> {
    let (Ok(low), Ok(high)) = (i64::try_from(first), i64::try_from(last)) else {
        return Ok(Err("sequence number out of range"));
    };
    if low < 1 || high < low {
        return Ok(Err("sequence number out of range"));
    }
    // Touching neighbours count too: they are merged.
    let neighbours: Vec<(i64, i64)> = connection
        .prepare_cached(
            "SELECT first, last FROM ranges WHERE device = ?1 AND lane = ?2 AND epoch = ?3
             AND first <= ?5 AND last >= ?4 ORDER BY first",
        )?
        .query_map(
            params![key.device, key.lane_number(), key.epoch_bits(), low - 1, high.saturating_add(1)],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?
        .collect::<Result<_, _>>()?;
    if let [(a, b)] = neighbours[..]
        && a <= low
        && high <= b
    {
        return Ok(Ok(Vec::new()));
    }
    if neighbours.is_empty()
        && let Some(bound) = bound_reached(connection, key)?
    {
        return Ok(Err(bound));
    }
    merge(connection, key, &neighbours, low, high)?;
    Ok(Ok(unseen(&neighbours, low, high)))
}

/// The parts of `first..=last` that were declared lost; they no longer are.
pub(super) fn revive(
    connection: &Connection,
    key: LaneKey,
    first: u64,
    last: u64,
) -> rusqlite::Result<Vec<(u64, u64)>> {
    let (Ok(low), Ok(high)) = (i64::try_from(first), i64::try_from(last)) else { return Ok(Vec::new()) };
    let lane = (key.device, key.lane_number(), key.epoch_bits());
    let gaps: Vec<(i64, i64, String, i64, Option<i64>)> = connection
        .prepare_cached(
            "SELECT first, last, reason, sealed, clock FROM gaps WHERE device = ?1 AND lane = ?2 AND epoch = ?3
             AND first <= ?5 AND last >= ?4",
        )?
        .query_map(params![lane.0, lane.1, lane.2, low, high], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })?
        .collect::<Result<_, _>>()?;
    let mut revived = Vec::with_capacity(gaps.len());
    for (a, b, reason, sealed, clock) in gaps {
        connection
            .prepare_cached("DELETE FROM gaps WHERE device = ?1 AND lane = ?2 AND epoch = ?3 AND first = ?4")?
            .execute(params![lane.0, lane.1, lane.2, a])?;
        for (from, to) in [(a, low - 1), (high.saturating_add(1), b)] {
            if from <= to {
                connection
                    .prepare_cached(
                        "INSERT INTO gaps (device, lane, epoch, first, last, reason, sealed, clock)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    )?
                    .execute(params![lane.0, lane.1, lane.2, from, to, reason, sealed, clock])?;
            }
        }
        revived.push((a.max(low).cast_unsigned(), b.min(high).cast_unsigned()));
    }
    Ok(revived)
}

/// How many numbers up to `through` lie in the ranges of `table`, which is `ranges` or `gaps`.
pub(super) fn count_through(
    connection: &Connection,
    table: &'static str,
    key: LaneKey,
    through: u64,
) -> rusqlite::Result<u64> {
    let through = i64::try_from(through).unwrap_or(i64::MAX);
    let sql = format!(
        "SELECT coalesce(sum(min(last, ?4) - first + 1), 0) FROM {table}
         WHERE device = ?1 AND lane = ?2 AND epoch = ?3 AND first <= ?4"
    );
    let given = params![key.device, key.lane_number(), key.epoch_bits(), through];
    Ok(connection.prepare_cached(&sql)?.query_row(given, |row| row.get::<_, i64>(0))?.cast_unsigned())
}

/// Replaces `neighbours` by their union with `low..=high`.
fn merge(
    connection: &Connection,
    key: LaneKey,
    neighbours: &[(i64, i64)],
    low: i64,
    high: i64,
) -> rusqlite::Result<()> {
    let start = neighbours.first().map_or(low, |&(a, _)| a.min(low));
    let end = neighbours.last().map_or(high, |&(_, b)| b.max(high));
    let lane = params![key.device, key.lane_number(), key.epoch_bits(), start, end];
    connection
        .prepare_cached(
            "DELETE FROM ranges WHERE device = ?1 AND lane = ?2 AND epoch = ?3 AND first BETWEEN ?4 AND ?5",
        )?
        .execute(lane)?;
    connection
        .prepare_cached("INSERT INTO ranges (device, lane, epoch, first, last) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(lane)?;
    Ok(())
}

/// `low..=high` without `settled`, which is ascending and disjoint.
fn unseen(settled: &[(i64, i64)], low: i64, high: i64) -> Vec<(u64, u64)> {
    let mut parts = Vec::new();
    let mut next = low;
    for &(a, b) in settled {
        if a > next {
            parts.push((next.cast_unsigned(), (a - 1).min(high).cast_unsigned()));
        }
        next = next.max(b.saturating_add(1));
    }
    if next <= high {
        parts.push((next.cast_unsigned(), high.cast_unsigned()));
    }
    parts
}

/// A range that touches no other needs room: for a range in its lane, and for a new epoch at its device.
fn bound_reached(connection: &Connection, key: LaneKey) -> rusqlite::Result<Option<&'static str>> {
    let ranges: i64 = connection
        .prepare_cached("SELECT count(*) FROM ranges WHERE device = ?1 AND lane = ?2 AND epoch = ?3")?
        .query_row(params![key.device, key.lane_number(), key.epoch_bits()], |row| row.get(0))?;
    if usize::try_from(ranges).is_ok_and(|n| n >= limits::INTAKE_RANGES_MAX) {
        return Ok(Some("too many separate ranges in this lane"));
    }
    let known_epoch = connection
        .prepare_cached("SELECT 1 FROM ranges WHERE device = ?1 AND epoch = ?2 LIMIT 1")?
        .query_row(params![key.device, key.epoch_bits()], |_| Ok(()))
        .optional()?;
    if ranges > 0 || known_epoch.is_some() {
        return Ok(None);
    }
    let epochs: i64 = connection
        .prepare_cached("SELECT count(DISTINCT epoch) FROM ranges WHERE device = ?1")?
        .query_row(params![key.device], |row| row.get(0))?;
    Ok(usize::try_from(epochs)
        .is_ok_and(|n| n >= limits::AGGREGATOR_EPOCHS_MAX)
        .then_some("too many spools of this device"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unseen_is_the_range_without_the_settled_parts() {
        assert_eq!(unseen(&[], 3, 5), [(3, 5)]);
        assert_eq!(unseen(&[(1, 2), (6, 9)], 3, 5), [(3, 5)]);
        assert_eq!(unseen(&[(1, 3), (5, 5), (9, 12)], 2, 10), [(4, 4), (6, 8)]);
        assert_eq!(unseen(&[(1, 10)], 2, 3), []);
    }
}
