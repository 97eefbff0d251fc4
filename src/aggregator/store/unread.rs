//! Blocks that arrived whole and that this version can't read.
//!
//! A gateway that is newer than its aggregator may send records of a kind that is unknown here. Refused, they would be sent
//! again for ever and hold up what comes behind them; so they are kept as they are, named in the ledger, and read at the
//! first start of a program that can.

use rusqlite::{Connection, params};

use super::clocks::BlockClock;
use super::ranges::{LaneKey, lane_from};
use super::{Content, Delivery, accounts, records};
use crate::limits;
use crate::time::Wall;
use crate::wire::block::decode_block;

/// How the ledger calls it.
const FAULT: &str = "unread";

/// Bytes of all that is kept.
pub(super) fn bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT coalesce(sum(length(payload)), 0) FROM unread";
    connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
}

/// Whether a block of so many bytes may be kept of one device.
pub(super) fn has_room(connection: &Connection, device: i64, bytes: usize) -> rusqlite::Result<bool> {
    let (blocks, kept): (i64, i64) = connection
        .prepare_cached("SELECT count(*), coalesce(sum(length(payload)), 0) FROM unread WHERE device = ?1")?
        .query_row([device], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let kept = usize::try_from(kept).unwrap_or(usize::MAX).saturating_add(bytes);
    Ok(blocks < limits::UNREAD_DEVICE_BLOCKS_MAX && kept <= limits::UNREAD_DEVICE_BYTES_MAX)
}

/// Keeps the part of a block that was not settled before.
pub(super) fn keep(
    connection: &Connection,
    now: Wall,
    key: LaneKey,
    payload: &[u8],
    why: &str,
    (first, last): (u64, u64),
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO unread (device, lane, epoch, first, last, arrived, payload)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            key.device,
            key.lane_number(),
            key.epoch_bits(),
            first.cast_signed(),
            last.cast_signed(),
            now.0,
            payload
        ])?;
    let text = format!(
        "Blocks of lane {} are kept here that this version can't read ({why}): run a newer `outpost aggregate`, which reads \
         them at its start.",
        key.lane
    );
    accounts::fault(connection, now, key.device, key.epoch, FAULT, &text)
}

/// A kept block.
struct Kept {
    row: i64,
    key: LaneKey,
    device: String,
    first: u64,
    last: u64,
    arrived: Wall,
    payload: Vec<u8>,
}

/// Reads what can be read by now, of some blocks behind row `after`: how many were read, and the row to go on behind.
pub(super) fn read_again(connection: &Connection, after: i64) -> rusqlite::Result<(u64, Option<i64>)> {
    let kept = behind(connection, after)?;
    let last = kept.last().map(|kept| kept.row);
    let mut read = 0;
    for Kept { row, key, device, first, last, arrived, payload } in kept {
        let Ok(block) = decode_block(&payload) else { continue };
        let delivery = Delivery {
            device,
            lane: key.lane,
            epoch: key.epoch,
            first: block.header.first,
            last: block.header.last(),
            sealed: block.header.sealed,
            content: Content::Records { records: block.records, payload },
        };
        let clock = BlockClock::of(connection, key.device, &delivery.sealed)?;
        records::insert(connection, arrived, key, &clock, &delivery, first, last)?;
        connection.prepare_cached("DELETE FROM unread WHERE rowid = ?1")?.execute([row])?;
        read += 1;
    }
    Ok((read, last))
}

/// Takes back what the ledger said of spools of which everything has been read.
pub(super) fn settle_faults(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute(
        "DELETE FROM faults WHERE code = ?1 AND NOT EXISTS
         (SELECT 1 FROM unread u WHERE u.device = faults.device AND u.epoch = faults.epoch)",
        [FAULT],
    )?;
    Ok(())
}

/// As many as fit a transaction, in the order of their arrival.
fn behind(connection: &Connection, after: i64) -> rusqlite::Result<Vec<Kept>> {
    let mut statement = connection.prepare_cached(
        "SELECT u.rowid, u.device, d.name, u.lane, u.epoch, u.first, u.last, u.arrived, u.payload
         FROM unread u JOIN devices d ON d.id = u.device WHERE u.rowid > ?1 ORDER BY u.rowid LIMIT ?2",
    )?;
    let blocks = limits::AGGREGATOR_COMMIT_BYTES_MAX / limits::BLOCK_BYTES_MAX;
    let mut rows = statement.query(params![after, i64::try_from(blocks).unwrap_or(1)])?;
    let mut kept = Vec::new();
    while let Some(row) = rows.next()? {
        let Some(lane) = lane_from(row.get(3)?) else { continue };
        let epoch = row.get::<_, i64>(4)?.cast_unsigned();
        kept.push(Kept {
            row: row.get(0)?,
            key: LaneKey { device: row.get(1)?, lane, epoch },
            device: row.get(2)?,
            first: row.get::<_, i64>(5)?.cast_unsigned(),
            last: row.get::<_, i64>(6)?.cast_unsigned(),
            arrived: Wall(row.get(7)?),
            payload: row.get(8)?,
        });
    }
    Ok(kept)
}
