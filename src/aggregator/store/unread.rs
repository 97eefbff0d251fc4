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

/// Whether `bytes` more of one device may be kept.
pub(super) fn has_room(connection: &Connection, device: i64, bytes: usize) -> rusqlite::Result<bool> {
    let kept: i64 = connection
        .prepare_cached("SELECT coalesce(sum(length(payload)), 0) FROM unread WHERE device = ?1")?
        .query_row([device], |row| row.get(0))?;
    Ok(usize::try_from(kept).unwrap_or(usize::MAX).saturating_add(bytes) <= limits::UNREAD_DEVICE_BYTES_MAX)
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
    key: LaneKey,
    device: String,
    first: u64,
    last: u64,
    arrived: Wall,
    payload: Vec<u8>,
}

/// Reads what can be read by now; how many blocks that are.
pub(super) fn read_again(connection: &Connection) -> rusqlite::Result<u64> {
    let mut read = 0;
    for kept in all(connection)? {
        let Ok(block) = decode_block(&kept.payload) else { continue };
        let Kept { key, device, first, last, arrived, payload } = kept;
        let header = block.header;
        let delivery = Delivery {
            device,
            lane: key.lane,
            epoch: key.epoch,
            first: header.first,
            last: header.last(),
            sealed: header.sealed,
            content: Content::Records { records: block.records, payload },
        };
        let clock = BlockClock::of(connection, key.device, &delivery.sealed)?;
        records::insert(connection, arrived, key, &clock, &delivery, first, last)?;
        let id = params![key.device, key.lane_number(), key.epoch_bits(), first.cast_signed()];
        connection
            .prepare_cached(
                "DELETE FROM unread WHERE device = ?1 AND lane = ?2 AND epoch = ?3 AND first = ?4",
            )?
            .execute(id)?;
        read += 1;
    }
    connection.execute(
        "DELETE FROM faults WHERE code = ?1 AND NOT EXISTS
         (SELECT 1 FROM unread u WHERE u.device = faults.device AND u.epoch = faults.epoch)",
        [FAULT],
    )?;
    Ok(read)
}

fn all(connection: &Connection) -> rusqlite::Result<Vec<Kept>> {
    let mut statement = connection.prepare(
        "SELECT u.device, d.name, u.lane, u.epoch, u.first, u.last, u.arrived, u.payload
         FROM unread u JOIN devices d ON d.id = u.device ORDER BY u.device, u.lane, u.epoch, u.first",
    )?;
    let mut rows = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let Some(lane) = lane_from(row.get(2)?) else { continue };
        let epoch = row.get::<_, i64>(3)?.cast_unsigned();
        all.push(Kept {
            key: LaneKey { device: row.get(0)?, lane, epoch },
            device: row.get(1)?,
            first: row.get::<_, i64>(4)?.cast_unsigned(),
            last: row.get::<_, i64>(5)?.cast_unsigned(),
            arrived: Wall(row.get(6)?),
            payload: row.get(7)?,
        });
    }
    Ok(all)
}
