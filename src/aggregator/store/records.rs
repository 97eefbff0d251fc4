//! Records into rows.
//!
//! Rows are replaced where they exist: a constraint that fails would fail the transaction of every device, again at each
//! repetition.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::clocks::{self, BlockClock, Placed};
use super::ranges::LaneKey;
use super::{Content, Delivery, unread};
use crate::digest::Digest;
use crate::episode::{EpisodeUpdate, Evidence, Phase};
use crate::time::Wall;
use crate::window::WindowSummary;
use crate::wire::{GapReason, Notice, Record};

/// Inserts records `first..=last` of `delivery`, none of which was settled before.
pub(super) fn insert(
    connection: &Connection,
    now: Wall,
    key: LaneKey,
    clock: &BlockClock,
    delivery: &Delivery,
    first: u64,
    last: u64,
) -> rusqlite::Result<()> {
    match &delivery.content {
        Content::Gap(reason) => {
            insert_gap(connection, key, *reason, clock.place(delivery.sealed.wall), first, last)
        }
        Content::Unread { payload, why } => unread::keep(connection, now, key, payload, why, (first, last)),
        Content::Records { records, payload } => {
            let from = usize::try_from(first - delivery.first).unwrap_or(usize::MAX);
            let count = usize::try_from(last - first).unwrap_or(usize::MAX).saturating_add(1);
            insert_readings(
                connection,
                now,
                key,
                clock,
                records.iter().skip(from).take(count),
                payload,
                (first, last),
            )?;
            for (seq, record) in (first..=last).zip(records.iter().skip(from)) {
                match record {
                    // Kept together, above.
                    Record::Reading(_) => {}
                    Record::Window(window) => insert_window(connection, key.device, clock, window)?,
                    Record::Episode(update) => insert_episode(connection, key, clock, seq, update)?,
                    Record::Digest(digest) => insert_digest(connection, key, clock, seq, digest)?,
                    Record::Notice(notice) => insert_notice(connection, key, clock, seq, notice)?,
                    Record::Clock(fix) => clocks::fix(connection, key.device, key.epoch, seq, fix)?,
                }
            }
            Ok(())
        }
    }
}

fn insert_gap(
    connection: &Connection,
    key: LaneKey,
    reason: GapReason,
    sealed: Placed,
    first: u64,
    last: u64,
) -> rusqlite::Result<()> {
    // A loss that continues the one before stays one row.
    let extended = connection
        .prepare_cached(
            "UPDATE gaps SET last = ?5 WHERE device = ?1 AND lane = ?2 AND epoch = ?3 AND last = ?4 - 1 AND reason = ?6",
        )?
        .execute(params![
            key.device,
            key.lane_number(),
            key.epoch_bits(),
            first.cast_signed(),
            last.cast_signed(),
            reason.name()
        ])?;
    if extended > 0 {
        return Ok(());
    }
    connection
        .prepare_cached(
            "INSERT INTO gaps (device, lane, epoch, first, last, reason, sealed, clock)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            key.device,
            key.lane_number(),
            key.epoch_bits(),
            first.cast_signed(),
            last.cast_signed(),
            reason.name(),
            sealed.at.0,
            sealed.clock
        ])?;
    Ok(())
}

/// One row for all readings, with the span of time that they cover.
fn insert_readings<'a>(
    connection: &Connection,
    now: Wall,
    key: LaneKey,
    clock: &BlockClock,
    records: impl Iterator<Item = &'a Record>,
    payload: &[u8],
    (first, last): (u64, u64),
) -> rusqlite::Result<()> {
    let span = records
        .filter_map(|record| match record {
            Record::Reading(reading) => Some(clock.place(reading.at)),
            _ => None,
        })
        .fold(None, |span: Option<(Wall, Wall, Option<i64>)>, Placed { at, clock }| {
            Some(
                span.map_or((at, at, clock), |(from, to, known)| (from.min(at), to.max(at), known.or(clock))),
            )
        });
    let Some((from, to, clock)) = span else { return Ok(()) };
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO raw (device, epoch, first, last, from_at, to_at, committed, payload, clock)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            key.device,
            key.epoch_bits(),
            first.cast_signed(),
            last.cast_signed(),
            from.0,
            to.0,
            now.0,
            payload,
            clock
        ])?;
    Ok(())
}

fn insert_window(
    connection: &Connection,
    device: i64,
    clock: &BlockClock,
    window: &WindowSummary,
) -> rusqlite::Result<()> {
    let end = window.start + Duration::from_millis(window.length_ms.into());
    let start = clock.place_window(window.start, end);
    let channel = channel_id(connection, device, window.channel.as_str(), &window.unit.0)?;
    // A salvaged spool numbers old windows anew: the same window again says the same.
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO windows
             (channel, start, length_ms, count, missing, min, max, mean, std, last, slope, clock, p05, p50, p95,
              changes, rate)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        )?
        .execute(params![
            channel,
            start.at.0,
            window.length_ms,
            window.count,
            window.missing,
            finite(window.min),
            finite(window.max),
            finite(window.mean),
            finite(window.std),
            finite(window.last),
            finite(window.slope_per_h),
            start.clock,
            window.detail.map(|d| finite(d.p05)),
            window.detail.map(|d| finite(d.p50)),
            window.detail.map(|d| finite(d.p95)),
            window.detail.map(|d| d.changes),
            window.detail.map(|d| finite(d.rate_per_h)),
        ])?;
    Ok(())
}

/// SQLite turns NaN into NULL, which the columns refuse; a hostile window must not fail everybody's transaction.
fn finite(x: f64) -> f64 {
    if x.is_finite() { x } else { 0.0 }
}

fn channel_id(connection: &Connection, device: i64, name: &str, unit: &str) -> rusqlite::Result<i64> {
    let known = connection
        .prepare_cached("SELECT id FROM channels WHERE device = ?1 AND name = ?2 AND unit = ?3")?
        .query_row(params![device, name, unit], |row| row.get(0))
        .optional()?;
    match known {
        Some(id) => Ok(id),
        None => connection
            .prepare_cached(
                "INSERT INTO channels (device, name, unit) VALUES (?1, ?2, ?3)
                 ON CONFLICT (device, name) DO UPDATE SET unit = ?3 RETURNING id",
            )?
            .query_row(params![device, name, unit], |row| row.get(0)),
    }
}

/// Steps may arrive out of order, live ones before older ones: the latest by event time wins, and closing is final.
/// An episode that was open when the agent started anew is `interrupted`.
fn insert_episode(
    connection: &Connection,
    key: LaneKey,
    clock: &BlockClock,
    seq: u64,
    update: &EpisodeUpdate,
) -> rusqlite::Result<()> {
    let at = clock.place(update.at);
    let episode = episode_row(connection, key.device, clock.place(update.start), at, update)?;
    advance(connection, episode, at, update)?;
    if let Some(Evidence { first, last }) = update.evidence {
        connection
            .prepare_cached(
                "UPDATE episodes SET evidence_first = min(coalesce(evidence_first, ?2), ?2),
                                     evidence_last = max(coalesce(evidence_last, ?3), ?3) WHERE key = ?1",
            )?
            .execute(params![episode, first.cast_signed(), last.cast_signed()])?;
    }
    // Steps from before a restart may come after the word of it.
    connection
        .prepare_cached(
            "UPDATE episodes SET phase = 'interrupted' WHERE key = ?1 AND phase <> 'closed' AND EXISTS
                (SELECT 1 FROM notices WHERE device = ?2 AND epoch = ?3 AND seq > ?4 AND code = ?5)",
        )?
        .execute(params![episode, key.device, key.epoch_bits(), seq.cast_signed(), Notice::AGENT_STARTED])?;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO episode_steps (device, epoch, seq, episode, at, phase, severity, last, clock)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            key.device,
            key.epoch_bits(),
            seq.cast_signed(),
            episode,
            at.at.0,
            update.phase.name(),
            update.severity as i64,
            update.last,
            at.clock
        ])?;
    Ok(())
}

/// The row of the episode, made from this step if it is the first that arrives; returns its key.
fn episode_row(
    connection: &Connection,
    device: i64,
    start: Placed,
    at: Placed,
    update: &EpisodeUpdate,
) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "INSERT INTO episodes (device, id, start, at, phase, channel, pattern, severity,
                                   baseline, peak, last, bound, count, unit, reason, start_clock, clock)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
             ON CONFLICT (device, id, start) DO UPDATE SET severity = max(severity, ?8) RETURNING key",
        )?
        .query_row(
            params![
                device,
                update.id.cast_signed(),
                start.at.0,
                at.at.0,
                update.phase.name(),
                update.channel.as_str(),
                update.pattern.name(),
                update.severity as i64,
                update.baseline,
                update.peak,
                update.last,
                update.limit,
                update.count,
                update.unit.0,
                update.reason,
                start.clock,
                at.clock
            ],
            |row| row.get(0),
        )
}

/// Brings the row up to this step, unless a later one has done so already.
fn advance(
    connection: &Connection,
    episode: i64,
    at: Placed,
    update: &EpisodeUpdate,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE episodes SET at = ?2, phase = ?3, baseline = ?4, peak = ?5, last = ?6, bound = ?7, count = ?8,
                    reason = ?9, clock = ?10
             WHERE key = ?1 AND (at < ?2 OR (at = ?2 AND count <= ?8)) AND (phase <> 'closed' OR ?3 = 'closed')",
        )?
        .execute(params![
            episode,
            at.at.0,
            update.phase.name(),
            update.baseline,
            update.peak,
            update.last,
            update.limit,
            update.count,
            update.reason,
            at.clock
        ])?;
    if update.phase == Phase::Closed {
        connection
            .prepare_cached("UPDATE episodes SET phase = 'closed' WHERE key = ?1")?
            .execute([episode])?;
    }
    Ok(())
}

fn insert_digest(
    connection: &Connection,
    key: LaneKey,
    clock: &BlockClock,
    seq: u64,
    digest: &Digest,
) -> rusqlite::Result<()> {
    // The period ends when the digest is made; its begin moves along.
    let to = clock.place(digest.facts.to);
    let by = to.at.micros_since(digest.facts.to);
    // Plain fields, no map with odd keys: it always serialises.
    let body = serde_json::to_string(digest).unwrap_or_else(|_| "{}".into());
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO digests (device, epoch, seq, from_at, to_at, body, clock)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            key.device,
            key.epoch_bits(),
            seq.cast_signed(),
            digest.facts.from.0.saturating_add(by),
            to.at.0,
            body,
            to.clock
        ])?;
    Ok(())
}

fn insert_notice(
    connection: &Connection,
    key: LaneKey,
    clock: &BlockClock,
    seq: u64,
    notice: &Notice,
) -> rusqlite::Result<()> {
    let at = clock.place(notice.at);
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO notices (device, epoch, seq, at, code, text, clock)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            key.device,
            key.epoch_bits(),
            seq.cast_signed(),
            at.at.0,
            notice.code,
            notice.text,
            at.clock
        ])?;
    if notice.code == Notice::AGENT_STARTED {
        interrupt_episodes(connection, key, seq)?;
    }
    Ok(())
}

/// An agent knows nothing of the episodes of the run before: what was open then, nobody will close.
fn interrupt_episodes(connection: &Connection, key: LaneKey, started: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE episodes SET phase = 'interrupted' WHERE device = ?1 AND phase <> 'closed' AND NOT EXISTS
                (SELECT 1 FROM episode_steps s WHERE s.episode = episodes.key AND s.epoch = ?2 AND s.seq > ?3)",
        )?
        .execute(params![key.device, key.epoch_bits(), started.cast_signed()])?;
    Ok(())
}
