//! The aggregator's memory: one SQLite database, written by one thread, read by the pages.
//!
//! - Durable: write-ahead log with `synchronous = FULL`. When [`Store::commit`] returns, everything in it survives a
//!   power cut, and only then may anybody acknowledge it.
//! - Idempotent: a record is identified by (device, lane, epoch, seq); table `ranges` says which are settled, and a
//!   delivery adds what is not. The same block twice, or an overlapping one, changes nothing that was there.
//! - Patient: a block that this version can't read is kept as it came, see `unread.rs`.
//! - Bounded: see [`Retention`]. What retention deletes stays settled, so it is never asked for again.

mod accounts;
mod clocks;
mod ranges;
mod reader;
mod records;
mod retention;
mod unread;

pub use accounts::{Account, Fault, on_their_way};
pub(super) use clocks::is_near;
pub use reader::{
    BootRow, Bucket, Channel, DeviceRow, DigestRow, EpisodeRow, GapRow, LaneHolding, NoticeRow, RawBlock,
    Reader, StepRow,
};
pub use retention::Retention;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use crate::limits;
use crate::reading::named_enum;
use crate::time::{Stamp, Wall};
use crate::wire::heartbeat::Heartbeat;
use crate::wire::{GapReason, Lane, Record};

/// Why the store could not do it; the disk's or the operator's fault, never the device's.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database could not be opened.
    #[error("cannot open the database {}: {source}; check that the directory exists and may be written", path.display())]
    Open {
        /// Its file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The file was written by a later program.
    #[error(
        "the database {} has schema version {found}, this program knows {SCHEMA_VERSION}: run the newer program, or choose \
         another file", path.display()
    )]
    Newer {
        /// Its file.
        path: PathBuf,
        /// The version found in it.
        found: i64,
    },
    /// The file was written by an earlier program, and a reader changes nothing.
    #[error(
        "the database {} has schema version {found}, this program reads {SCHEMA_VERSION}: start `outpost aggregate` on it \
         once, which brings it up", path.display()
    )]
    Older {
        /// Its file.
        path: PathBuf,
        /// The version found in it.
        found: i64,
    },
    /// A statement failed; most often the disk is full.
    #[error("the database refused: {0}; check free space and permissions, nothing was acknowledged")]
    Sql(#[from] rusqlite::Error),
}

/// One block as it arrived: everything the store needs to keep it.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Who sent it; a checked name.
    pub device: String,
    /// Its lane.
    pub lane: Lane,
    /// The spool that numbered its records.
    pub epoch: u64,
    /// Sequence number of the first record, at least 1.
    pub first: u64,
    /// Sequence number of the last record, inclusive, at most `i64::MAX`.
    pub last: u64,
    /// When the device sealed it, by the device's clocks.
    pub sealed: Stamp,
    /// What it holds.
    pub content: Content,
}

impl Delivery {
    /// Bytes of a block that can't be read; otherwise 0.
    fn unread_bytes(&self) -> u64 {
        match &self.content {
            Content::Unread { payload, .. } => payload.len() as u64,
            _ => 0,
        }
    }
}

/// What a block holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// One record per sequence number, and the block's bytes.
    Records {
        /// In order of their sequence numbers.
        records: Vec<Record>,
        /// The block as published.
        payload: Vec<u8>,
    },
    /// Records that this version can't read.
    Unread {
        /// The block as published.
        payload: Vec<u8>,
        /// Why not.
        why: String,
    },
    /// The device gave these records up.
    Gap(GapReason),
}

/// What became of one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// This many records (or declared losses) are new.
    Added(u64),
    /// Everything in it was settled before.
    Known,
    /// A bound of [`crate::limits`] stands against it: it must not be acknowledged.
    Refused(&'static str),
}

/// A settled range of one lane of one spool, as read back at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The device.
    pub device: String,
    /// The lane.
    pub lane: Lane,
    /// The spool.
    pub epoch: u64,
    /// First sequence number.
    pub first: u64,
    /// Last sequence number, inclusive.
    pub last: u64,
}

/// What a device said of itself since the last commit; the newest counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signs {
    /// Its heartbeat, as received, and how far it can be trusted.
    pub heartbeat: Option<(Vec<u8>, Trust)>,
    /// Why a heartbeat in its name was not taken.
    pub forged: Option<String>,
    /// Its retained state: `online`, `offline` or `sleeping`.
    pub state: Option<String>,
}

named_enum! {
    /// How far the word of a device can be trusted.
    Trust {
        /// It has no key, or is of a version that does not sign.
        Unsigned = "unsigned",
        /// Signed, and there is no certificate here to check it with.
        Unchecked = "unchecked",
        /// Signed with the key of the certificate that is here.
        Verified = "verified",
    }
}

impl Signs {
    fn keep(&self, connection: &Connection, now: Wall, device: &str) -> rusqlite::Result<()> {
        // One device too many: its blocks are refused with a reason, its signs are of no use without them.
        let Some(device) = device_id(connection, now, device)? else { return Ok(()) };
        if let Some((heartbeat, trust)) = &self.heartbeat {
            hear(connection, now, device, heartbeat, *trust)?;
        }
        if let Some(why) = &self.forged {
            accounts::fault(connection, now, device, 0, "forged", why)?;
        }
        if let Some(state) = &self.state {
            let sql = "UPDATE devices SET state = ?2 WHERE id = ?1";
            connection.prepare_cached(sql)?.execute(params![device, state])?;
        }
        Ok(())
    }
}

/// Keeps a heartbeat, and the account in it, unless a later one is here.
fn hear(
    connection: &Connection,
    now: Wall,
    device: i64,
    heartbeat: &[u8],
    trust: Trust,
) -> rusqlite::Result<()> {
    let before: Option<Vec<u8>> = connection
        .prepare_cached("SELECT heartbeat FROM devices WHERE id = ?1")?
        .query_row([device], |row| row.get(0))?;
    let before = before.and_then(|bytes| Heartbeat::decode(&bytes).ok());
    // The desk reads it before it lets it in.
    let Ok(beat) = Heartbeat::decode(heartbeat) else { return Ok(()) };
    if accounts::keep(connection, now, device, &beat, before.as_ref())? {
        let sql = "UPDATE devices SET heartbeat = ?2, heartbeat_at = ?3, trust = ?4 WHERE id = ?1";
        connection.prepare_cached(sql)?.execute(params![device, heartbeat, now.0, trust.name()])?;
    }
    Ok(())
}

/// The writing side. Blocks on disk; belongs on its own thread.
pub struct Store {
    connection: Connection,
    retention: Retention,
    /// Of blocks that are kept unread.
    unread_bytes: u64,
}

/// One step per version; a database of an earlier version is brought up by the steps that it lacks.
const SCHEMA: &[&str] = &[
    include_str!("schema.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
];

/// Kept in `PRAGMA user_version`.
const SCHEMA_VERSION: i64 = SCHEMA.len() as i64;

impl Store {
    /// Opens or creates the database at `path`.
    pub fn open(path: &Path, retention: Retention) -> Result<Self, StoreError> {
        let open = |source| StoreError::Open { path: path.to_owned(), source };
        let connection = Connection::open(path).map_err(open)?;
        prepare(&connection).map_err(open)?;
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(open)?;
        match usize::try_from(found).ok().and_then(|found| SCHEMA.get(found..)) {
            Some(steps) => migrate(&connection, steps).map_err(open)?,
            None => return Err(StoreError::Newer { path: path.to_owned(), found }),
        }
        let unread_bytes = unread::bytes(&connection).map_err(open)?;
        Ok(Self { connection, retention, unread_bytes })
    }

    /// Settles `deliveries` in one transaction; all of them, or on error none.
    ///
    /// The outcomes stand in the order of the deliveries. `now` is when they arrived.
    pub fn commit(&mut self, now: Wall, deliveries: &[Delivery]) -> Result<Vec<Outcome>, StoreError> {
        self.write(now, deliveries, &BTreeMap::new())
    }

    /// The same, together with what devices said of themselves, by name.
    pub fn write(
        &mut self,
        now: Wall,
        deliveries: &[Delivery],
        signs: &BTreeMap<String, Signs>,
    ) -> Result<Vec<Outcome>, StoreError> {
        // Immediate: the write lock is taken at once, so no statement in the middle can find the database busy.
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut unread_bytes = self.unread_bytes;
        let mut outcomes = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let bytes = delivery.unread_bytes();
            let outcome =
                match bytes == 0 || unread_bytes + bytes <= self.retention.bytes_max / limits::UNREAD_SHARE {
                    true => settle(&transaction, now, delivery)?,
                    false => Outcome::Refused("too much is kept unread; run a newer version"),
                };
            if matches!(outcome, Outcome::Added(_)) {
                unread_bytes += bytes;
            }
            outcomes.push(outcome);
        }
        for (device, sign) in signs {
            sign.keep(&transaction, now, device)?;
        }
        transaction.commit()?;
        self.unread_bytes = unread_bytes;
        Ok(outcomes)
    }

    /// Reads those of the kept blocks that an earlier version could not read, some in each transaction; how many that are.
    pub fn read_again(&mut self) -> Result<u64, StoreError> {
        let (mut read, mut next) = (0, Some(i64::MIN));
        while let Some(after) = next {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let (more, last) = unread::read_again(&transaction, after)?;
            transaction.commit()?;
            (read, next) = (read + more, last);
        }
        unread::settle_faults(&self.connection)?;
        self.unread_bytes = unread::bytes(&self.connection)?;
        Ok(read)
    }

    /// Hands every settled range to `take`, declared losses included, each lane's in ascending order.
    pub fn settled(&self, take: impl FnMut(Settled)) -> Result<(), StoreError> {
        self.each_range("ranges", take)
    }

    /// Hands every declared loss to `take`, each lane's in ascending order.
    pub fn declared_gaps(&self, take: impl FnMut(Settled)) -> Result<(), StoreError> {
        self.each_range("gaps", take)
    }

    fn each_range(&self, table: &'static str, mut take: impl FnMut(Settled)) -> Result<(), StoreError> {
        let sql = format!(
            "SELECT d.name, r.lane, r.epoch, r.first, r.last FROM {table} r JOIN devices d ON d.id = r.device
             ORDER BY r.device, r.lane, r.epoch, r.first"
        );
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let Some(lane) = ranges::lane_from(row.get(1)?) else { continue };
            take(Settled {
                device: row.get(0)?,
                lane,
                epoch: row.get::<_, i64>(2)?.cast_unsigned(),
                first: row.get::<_, i64>(3)?.cast_unsigned(),
                last: row.get::<_, i64>(4)?.cast_unsigned(),
            });
        }
        Ok(())
    }

    /// Deletes what the retention no longer keeps, a bounded amount per call; true if there is more to delete.
    pub fn retain(&mut self, now: Wall) -> Result<bool, StoreError> {
        retention::enforce(&mut self.connection, &self.retention, now)
    }
}

/// Settings of one writing connection.
fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(10))?;
    // Must precede the first table, or it has no effect.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // After a large transaction the log is cut back to this.
    connection.pragma_update(None, "journal_size_limit", 16 * 1024 * 1024)?;
    connection.pragma_update(None, "cache_size", -16 * 1024)?;
    connection.set_prepared_statement_cache_capacity(48);
    Ok(())
}

/// All steps or none.
fn migrate(connection: &Connection, steps: &[&str]) -> rusqlite::Result<()> {
    if steps.is_empty() {
        return Ok(());
    }
    let steps = steps.join("\n");
    connection.execute_batch(&format!("BEGIN;\n{steps}\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;"))
}

/// The row of `name`, made if there is room for one more device.
fn device_id(connection: &Connection, now: Wall, name: &str) -> rusqlite::Result<Option<i64>> {
    let known = connection
        .prepare_cached("UPDATE devices SET last_seen = max(last_seen, ?2) WHERE name = ?1 RETURNING id")?
        .query_row(params![name, now.0], |row| row.get(0))
        .optional()?;
    if known.is_some() {
        return Ok(known);
    }
    let sql = "INSERT INTO devices (name, first_seen, last_seen)
               SELECT ?1, ?2, ?2 WHERE (SELECT count(*) FROM devices) < ?3 RETURNING id";
    let bound = i64::try_from(limits::INTAKE_DEVICES_MAX).unwrap_or(i64::MAX);
    connection.prepare_cached(sql)?.query_row(params![name, now.0, bound], |row| row.get(0)).optional()
}

fn settle(connection: &Connection, now: Wall, delivery: &Delivery) -> rusqlite::Result<Outcome> {
    let Some(device) = device_id(connection, now, &delivery.device)? else {
        return Ok(Outcome::Refused("too many devices"));
    };
    let lane = ranges::LaneKey { device, lane: delivery.lane, epoch: delivery.epoch };
    if let Content::Unread { payload, .. } = &delivery.content
        && !unread::has_room(connection, device, payload.len())?
    {
        return Ok(Outcome::Refused("too much of this device is kept unread; run a newer version"));
    }
    // A block overtaken by its own gap: the records are here after all, and no longer lost.
    let revived = match delivery.content {
        Content::Records { .. } | Content::Unread { .. } => {
            ranges::revive(connection, lane, delivery.first, delivery.last)?
        }
        Content::Gap(_) => Vec::new(),
    };
    let mut unseen = match ranges::claim(connection, lane, delivery.first, delivery.last)? {
        Ok(unseen) => unseen,
        Err(bound) => return Ok(Outcome::Refused(bound)),
    };
    unseen.extend(revived);
    let clock = clocks::BlockClock::of(connection, device, &delivery.sealed)?;
    for &(first, last) in &unseen {
        records::insert(connection, now, lane, &clock, delivery, first, last)?;
    }
    Ok(match unseen.iter().map(|(first, last)| last - first + 1).sum() {
        0 => Outcome::Known,
        added => Outcome::Added(added),
    })
}

#[cfg(test)]
mod tests;
