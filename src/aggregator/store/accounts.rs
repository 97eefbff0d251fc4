//! What devices say of their books, held against what they said before and against what is here.
//!
//! Promised and given-up records only grow within an epoch, and so does the serial number of the heartbeats. What goes
//! back shows that an older image of the spool is in use: its numbers are given twice, and what comes under a number that is
//! settled is taken for a repetition. That is the one way in which records could be lost in silence, so it is kept as a
//! fault for as long as the device is known.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::ranges::{self, LaneKey};
use crate::limits;
use crate::time::{BootId, Wall};
use crate::wire::heartbeat::{Heartbeat, LaneBeat};
use crate::wire::{GapReason, Lane};

/// What a device said that can't be true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The spool; 0 where it is not about one.
    pub epoch: u64,
    /// Stable name.
    pub code: String,
    /// One sentence with the next step.
    pub text: String,
    /// First time.
    pub first_at: Wall,
    /// Latest time.
    pub last_at: Wall,
}

/// The latest word of a device on one lane of one spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The lane.
    pub lane: Lane,
    /// The spool.
    pub epoch: u64,
    /// Most that it ever promised.
    pub admitted: u64,
    /// What waited at its latest heartbeat.
    pub pending: u64,
    /// Given up, by [`GapReason`] in its order.
    pub evicted: Vec<u64>,
    /// When it was heard last.
    pub heard_at: Wall,
    /// Since when records are owed that the device does not hold any more.
    pub short_since: Option<Wall>,
}

/// Keeps the account that `beat` gives; `before` is the heartbeat heard last. False if it is older than that one, and so
/// tells nothing.
pub(super) fn keep(
    connection: &Connection,
    now: Wall,
    device: i64,
    beat: &Heartbeat,
    before: Option<&Heartbeat>,
) -> rusqlite::Result<bool> {
    // Several aggregators on one database hear everything, and not at the same moment.
    let same_boot = |before: &Heartbeat| before.at.boot == beat.at.boot && beat.at.boot != BootId::default();
    let late = |before: &Heartbeat| same_boot(before) && beat.at.mono <= before.at.mono;
    if before.is_some_and(late) {
        return Ok(false);
    }
    for (lane, said) in Lane::ALL.iter().zip(&beat.lanes) {
        let key = LaneKey { device, lane: *lane, epoch: said.epoch() };
        let known = known(connection, key)?;
        for (code, text) in known.iter().flat_map(|known| known.contradicted(*lane, beat, said)) {
            fault(connection, now, device, said.epoch(), code, &text)?;
        }
        if !said.is_even() {
            let text = format!("The books of lane {lane} do not add up. Please report this.");
            fault(connection, now, device, said.epoch(), "uneven", &text)?;
        }
        put(connection, now, key, beat.serial, said, known.as_ref())?;
    }
    Ok(true)
}

/// Keeps a fault; of each kind one per spool.
pub(super) fn fault(
    connection: &Connection,
    now: Wall,
    device: i64,
    epoch: u64,
    code: &str,
    text: &str,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO faults (device, epoch, code, text, first_at, last_at) VALUES (?1, ?2, ?3, ?4, ?5, ?5)
             ON CONFLICT (device, epoch, code) DO UPDATE SET text = ?4, last_at = ?5",
        )?
        .execute(params![device, epoch.cast_signed(), code, text, now.0])?;
    Ok(())
}

/// What was heard of a lane before.
struct Known {
    serial: u64,
    admitted: u64,
    evicted: Vec<u64>,
    short_since: Option<i64>,
}

impl Known {
    /// What `said` takes back.
    fn contradicted(&self, lane: Lane, beat: &Heartbeat, said: &LaneBeat) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if beat.serial > 0 && beat.serial <= self.serial {
            let text = format!("Heartbeat {} came after {}: {OLDER_IMAGE}", beat.serial, self.serial);
            found.push(("serial_back", text));
        }
        if said.admitted < self.admitted {
            let text = format!(
                "Lane {lane} had promised {} records and now says {}: {OLDER_IMAGE}",
                self.admitted, said.admitted
            );
            found.push(("account_back", text));
        }
        // Version 1 tells no reasons.
        let given_up = GapReason::ALL.iter().zip(said.by_reason.iter().zip(&self.evicted));
        if let Some((reason, (now, then))) = given_up.clone().find(|(_, (now, then))| now < then)
            && beat.serial > 0
        {
            let text = format!(
                "Lane {lane} had given up {then} records ({reason}) and now says {now}: {OLDER_IMAGE}"
            );
            found.push(("evicted_back", text));
        }
        found
    }
}

const OLDER_IMAGE: &str = "an older image of its spool is in use, and its numbers are given twice. Stop the agent, keep what \
    `outpost spool export` writes, remove the spool's folder and start it again";

fn known(connection: &Connection, key: LaneKey) -> rusqlite::Result<Option<Known>> {
    connection
        .prepare_cached(
            "SELECT serial, admitted, evicted, short_since FROM accounts WHERE device = ?1 AND lane = ?2 AND epoch = ?3",
        )?
        .query_row(params![key.device, key.lane_number(), key.epoch_bits()], |row| {
            Ok(Known {
                serial: row.get::<_, i64>(0)?.cast_unsigned(),
                admitted: row.get::<_, i64>(1)?.cast_unsigned(),
                evicted: reasons(row.get_ref(2)?.as_str().unwrap_or_default()),
                short_since: row.get(3)?,
            })
        })
        .optional()
}

fn put(
    connection: &Connection,
    now: Wall,
    key: LaneKey,
    serial: u64,
    said: &LaneBeat,
    known: Option<&Known>,
) -> rusqlite::Result<()> {
    if known.is_none() && !has_room(connection, key)? {
        return Ok(());
    }
    // Numbers beyond SQLite's are no numbers of a spool; the account does not add up, and that is kept.
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let evicted = serde_json::to_string(&said.by_reason).unwrap_or_default();
    let short_since =
        (owed(connection, key, said)? > 0).then(|| known.and_then(|k| k.short_since).unwrap_or(now.0));
    connection
        .prepare_cached(
            "INSERT INTO accounts (device, lane, epoch, serial, admitted, pending, evicted, heard_at, short_since)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (device, lane, epoch) DO UPDATE SET serial = max(serial, ?4), admitted = max(admitted, ?5),
                pending = ?6, evicted = ?7, heard_at = ?8, short_since = ?9",
        )?
        .execute(params![
            key.device,
            key.lane_number(),
            key.epoch_bits(),
            number(serial),
            number(said.admitted),
            number(said.pending),
            evicted,
            now.0,
            short_since
        ])?;
    Ok(())
}

/// A device gives accounts of as many spools as it may deliver from.
fn has_room(connection: &Connection, key: LaneKey) -> rusqlite::Result<bool> {
    let epochs: i64 = connection
        .prepare_cached("SELECT count(DISTINCT epoch) FROM accounts WHERE device = ?1 AND epoch <> ?2")?
        .query_row(params![key.device, key.epoch_bits()], |row| row.get(0))?;
    Ok(usize::try_from(epochs).is_ok_and(|n| n < limits::AGGREGATOR_EPOCHS_MAX))
}

/// Records that may be missing here because they wait on the device, or wait there to be declared lost. The declarations
/// stand in the sequence among the records that wait: where none wait, none is left to come.
pub fn on_their_way(said: &LaneBeat, declared: u64) -> u64 {
    match said.pending {
        0 => 0,
        pending => pending.saturating_add(said.evicted.saturating_sub(declared)),
    }
}

/// Records that were promised, are neither here nor declared lost, and are not held by the device any more.
fn owed(connection: &Connection, key: LaneKey, said: &LaneBeat) -> rusqlite::Result<u64> {
    let settled = ranges::count_through(connection, "ranges", key, said.admitted)?;
    let declared = ranges::count_through(connection, "gaps", key, said.admitted)?;
    let on_their_way = on_their_way(said, declared);
    Ok(said.admitted.saturating_sub(settled).saturating_sub(on_their_way))
}

/// Counts by reason, as stored.
pub(super) fn reasons(text: &str) -> Vec<u64> {
    serde_json::from_str(text).unwrap_or_default()
}
