//! What is deleted when, so that the database stays within its bound.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::StoreError;
use crate::limits;
use crate::time::Wall;

/// How long and how much the store keeps. Ranges and declared gaps stay for ever: they are a few bytes each, bounded per
/// lane, and the ledger is made from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Readings (lane `raw`), counted from their arrival. Default 30 days.
    pub raw: Duration,
    /// Windows, episodes, digests and notices, counted from their event time. Default 400 days.
    pub history: Duration,
    /// Most bytes of the database file, its write-ahead log apart (at most 16 MiB more at rest). Above it the oldest readings go first,
    /// then the oldest windows, then the oldest digests and closed episodes. Default 8 GiB.
    pub bytes_max: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { raw: days(30), history: days(400), bytes_max: 8 << 30 }
    }
}

const fn days(n: u64) -> Duration {
    Duration::from_secs(n * 86_400)
}

/// Rows deleted by one statement of one call: the write lock is held for milliseconds, not seconds.
const ROWS_PER_CALL: i64 = 2000;

/// One bounded step; true if there is more to delete.
pub(super) fn enforce(
    connection: &mut Connection,
    retention: &Retention,
    now: Wall,
) -> Result<bool, StoreError> {
    let transaction = connection.transaction()?;
    let mut more = full(transaction.execute(RAW_BY_AGE, params![(now - retention.raw).0, ROWS_PER_CALL])?);
    for sql in HISTORY_BY_AGE {
        let bounds = params![limits::WALL_PLAUSIBLE_MIN.0, (now - retention.history).0, ROWS_PER_CALL];
        more |= full(transaction.execute(sql, bounds)?);
    }
    if bytes_used(&transaction)? > retention.bytes_max {
        for sql in BY_SIZE {
            if transaction.execute(sql, params![ROWS_PER_CALL / 10])? > 0 {
                more = true;
                break;
            }
        }
    }
    transaction.commit()?;
    connection.execute_batch("PRAGMA incremental_vacuum(4000)")?;
    Ok(more)
}

fn full(deleted: usize) -> bool {
    i64::try_from(deleted).is_ok_and(|n| n >= ROWS_PER_CALL)
}

pub(super) fn bytes_used(connection: &Connection) -> rusqlite::Result<u64> {
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let pages = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
    Ok(pages.saturating_mul(pragma("page_size")?).cast_unsigned())
}

/// Arrived before ?1, at most ?2 rows.
const RAW_BY_AGE: &str =
    "DELETE FROM raw WHERE rowid IN (SELECT rowid FROM raw WHERE committed < ?1 LIMIT ?2)";

/// Event time from ?1 to ?2, at most ?3 rows. What a device without a clock dated 1970 has no age: only the size deletes it.
const HISTORY_BY_AGE: &[&str] = &[
    "DELETE FROM windows WHERE (channel, start, length_ms) IN
     (SELECT channel, start, length_ms FROM windows
      WHERE channel IN (SELECT id FROM channels) AND start >= ?1 AND start < ?2 LIMIT ?3)",
    "DELETE FROM digests WHERE key IN (SELECT key FROM digests WHERE to_at >= ?1 AND to_at < ?2 LIMIT ?3)",
    "DELETE FROM episode_steps WHERE episode IN
     (SELECT key FROM episodes WHERE at >= ?1 AND at < ?2 AND phase IN ('closed', 'interrupted') ORDER BY at, key LIMIT ?3)",
    "DELETE FROM episodes WHERE key IN
     (SELECT key FROM episodes WHERE at >= ?1 AND at < ?2 AND phase IN ('closed', 'interrupted') ORDER BY at, key LIMIT ?3)",
    "DELETE FROM notices WHERE (device, epoch, seq) IN
     (SELECT device, epoch, seq FROM notices WHERE at >= ?1 AND at < ?2 LIMIT ?3)",
];

/// Statements with the most rows to delete (?1); the next one is tried when nothing is left of the one before.
const BY_SIZE: &[&str] = &[
    "DELETE FROM raw WHERE rowid IN (SELECT rowid FROM raw ORDER BY committed LIMIT ?1)",
    // The oldest day: sorting all windows would hold the lock for too long.
    "DELETE FROM windows WHERE (channel, start, length_ms) IN
     (SELECT channel, start, length_ms FROM windows WHERE channel IN (SELECT id FROM channels) AND start <= 86400000000 +
      (SELECT min((SELECT min(start) FROM windows w WHERE w.channel = c.id)) FROM channels c) LIMIT ?1 * 10)",
    "DELETE FROM digests WHERE key IN (SELECT key FROM digests ORDER BY to_at LIMIT ?1)",
    "DELETE FROM episode_steps WHERE episode IN
     (SELECT key FROM episodes WHERE phase IN ('closed', 'interrupted') ORDER BY at, key LIMIT ?1)",
    "DELETE FROM episodes WHERE key IN
     (SELECT key FROM episodes WHERE phase IN ('closed', 'interrupted') ORDER BY at, key LIMIT ?1)",
];
