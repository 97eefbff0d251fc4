//! The reading side, for the pages: its own read-only connection, so that no page ever waits for a commit or delays one.
//!
//! Every list is bounded by [`limits::PAGE_ROWS_MAX`], every series by [`limits::CHART_POINTS_MAX`].

use std::cmp::Ordering;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, params};

use super::accounts::{self, Account, Fault};
use super::{SCHEMA_VERSION, StoreError, Trust, ranges};
use crate::digest::Digest;
use crate::limits;
use crate::reading::Severity;
use crate::time::{BootId, Wall};
use crate::wire::Lane;

/// A read-only view of the database. Blocks on disk.
pub struct Reader {
    connection: Connection,
}

/// One device, with what an overview needs.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceRow {
    /// Row number, for the other queries.
    pub key: i64,
    /// Its name.
    pub name: String,
    /// What its retained state says: `online`, `offline`, `sleeping` or `unknown`.
    pub state: String,
    /// First message ever.
    pub first_seen: Wall,
    /// Latest message of any kind.
    pub last_seen: Wall,
    /// The latest heartbeat as received, and when.
    pub heartbeat: Option<(Wall, Vec<u8>)>,
    /// How far that heartbeat can be trusted.
    pub trust: Trust,
    /// Open episodes by [`Severity`].
    pub open: [u64; 3],
    /// Records given up, each in a declared gap.
    pub lost: u64,
    /// Records that must exist, because later ones are here, and are neither here nor declared lost.
    pub holes: u64,
}

/// A channel that has windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Row number, for [`Reader::series`].
    pub key: i64,
    /// Its name.
    pub name: String,
    /// Unit code of its values.
    pub unit: String,
    /// Start of its newest window.
    pub newest: Wall,
}

/// Windows of one channel merged into one point of a chart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Start of the first window.
    pub start: Wall,
    /// End of the last window.
    pub end: Wall,
    /// Smallest value, largest value, mean weighted by readings; `None` when no reading carried a value.
    pub values: Option<(f64, f64, f64)>,
    /// Readings with a value.
    pub count: u64,
    /// Readings without one.
    pub missing: u64,
}

/// A block of readings as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawBlock {
    /// Only its records from this number on count.
    pub first: u64,
    /// To this one, inclusive.
    pub last: u64,
    /// The block.
    pub payload: Vec<u8>,
    /// How far the clock that sealed it was off, to be added to the times that it stamped.
    pub shift_us: i64,
}

/// What is known of a boot of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootRow {
    /// The boot.
    pub boot: BootId,
    /// When it began.
    pub began: Wall,
    /// How far that may be off, in microseconds; none: nobody knows.
    pub uncertainty_us: Option<u64>,
    /// By how much its clocks were off, in microseconds, where they were.
    pub shifts_us: Vec<i64>,
}

/// The latest known state of an episode.
#[derive(Debug, Clone, PartialEq)]
pub struct EpisodeRow {
    /// Row number: the anchor on the page.
    pub key: i64,
    /// The channel.
    pub channel: String,
    /// The shape of the deviation, by its stable name.
    pub pattern: String,
    /// The gravest so far.
    pub severity: Severity,
    /// It was not closed.
    pub open: bool,
    /// It was open when the agent started anew: how it ended nobody knows.
    pub interrupted: bool,
    /// When it began.
    pub start: Wall,
    /// Its latest step: the end, if it is closed.
    pub at: Wall,
    /// The usual value before.
    pub baseline: Option<f64>,
    /// The most extreme value.
    pub peak: Option<f64>,
    /// The configured limit, if it was crossed.
    pub limit: Option<f64>,
    /// How often it was flagged.
    pub count: u64,
    /// Unit code of the values.
    pub unit: String,
    /// Why, in words.
    pub reason: String,
    /// First and last record of lane `raw` that prove it, where its device keeps readings.
    pub evidence: Option<(u64, u64)>,
}

/// One step of an episode.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRow {
    /// Row number of the episode.
    pub episode: i64,
    /// Event time.
    pub at: Wall,
    /// `opened`, `updated` or `closed`.
    pub phase: String,
    /// The latest value then.
    pub last: Option<f64>,
}

/// A worded period.
#[derive(Debug, Clone, PartialEq)]
pub struct DigestRow {
    /// Row number: the anchor on the page.
    pub key: i64,
    /// The spool that numbered it and what it cites.
    pub epoch: u64,
    /// The digest as sent.
    pub digest: Digest,
}

/// A declared loss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapRow {
    /// The lane.
    pub lane: Lane,
    /// The spool.
    pub epoch: u64,
    /// First lost record.
    pub first: u64,
    /// Last lost record, inclusive.
    pub last: u64,
    /// Stable name of the reason.
    pub reason: String,
    /// When the device declared it, by its clock.
    pub sealed: Wall,
}

/// A remark of the device about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoticeRow {
    /// When, by the device's clock.
    pub at: Wall,
    /// Stable machine name.
    pub code: String,
    /// One sentence.
    pub text: String,
}

/// What the store holds of one lane of one spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneHolding {
    /// The lane.
    pub lane: Lane,
    /// The spool.
    pub epoch: u64,
    /// Everything from 1 to here is settled.
    pub through: u64,
    /// The highest number seen.
    pub highest: u64,
    /// Settled numbers: records held (or held once, see retention) and declared losses.
    pub settled: u64,
    /// Declared losses by reason.
    pub lost: Vec<(String, u64)>,
    /// The first `HOLES_SHOWN` ranges below `highest` that are neither.
    pub holes: Vec<(u64, u64)>,
}

impl LaneHolding {
    /// Records that arrived.
    pub fn records(&self) -> u64 {
        self.settled.saturating_sub(self.declared())
    }

    /// Records that the device declared lost.
    pub fn declared(&self) -> u64 {
        self.lost.iter().map(|(_, n)| n).sum()
    }

    /// Numbers below `highest` that are neither here nor declared lost.
    pub fn missing(&self) -> u64 {
        self.highest.saturating_sub(self.settled)
    }
}

/// Most holes that one lane's row names.
pub const HOLES_SHOWN: usize = 8;

impl Reader {
    /// Opens the database that a [`super::Store`] has made.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = |source| StoreError::Open { path: path.to_owned(), source };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(open)?;
        connection.busy_timeout(Duration::from_secs(10)).map_err(open)?;
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(open)?;
        match found.cmp(&SCHEMA_VERSION) {
            Ordering::Less => return Err(StoreError::Older { path: path.to_owned(), found }),
            Ordering::Greater => return Err(StoreError::Newer { path: path.to_owned(), found }),
            Ordering::Equal => {}
        }
        connection.pragma_update(None, "cache_size", -8 * 1024).map_err(open)?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Self { connection })
    }

    /// Every device, by name; at most [`limits::INTAKE_DEVICES_MAX`].
    pub fn fleet(&self) -> Result<Vec<DeviceRow>, StoreError> {
        self.devices("", params![])
    }

    /// The device called `name`.
    pub fn device(&self, name: &str) -> Result<Option<DeviceRow>, StoreError> {
        Ok(self.devices("WHERE d.name = ?1", params![name])?.pop())
    }

    fn devices(&self, filter: &str, given: &[&dyn rusqlite::ToSql]) -> Result<Vec<DeviceRow>, StoreError> {
        let open = |severity: u8| {
            format!(
                "(SELECT count(*) FROM episodes e
                  WHERE e.device = d.id AND e.phase <> 'closed' AND e.phase <> 'interrupted'
                    AND e.severity = {severity})"
            )
        };
        // Over several lanes: sum() would fail beyond 2^63, and with it the page of every device; total() saturates.
        let sql = format!(
            "SELECT d.id, d.name, d.state, d.first_seen, d.last_seen, d.heartbeat_at, d.heartbeat, {}, {}, {},
                    (SELECT CAST(total(g.last - g.first + 1) AS INTEGER) FROM gaps g WHERE g.device = d.id),
                    (SELECT CAST(total(h) AS INTEGER) FROM
                        (SELECT max(r.last) - sum(r.last - r.first + 1) AS h FROM ranges r
                         WHERE r.device = d.id GROUP BY r.lane, r.epoch)),
                    d.trust
             FROM devices d {filter} ORDER BY d.name",
            open(0),
            open(1),
            open(2)
        );
        self.collect(&sql, given, |row| {
            let heartbeat_at: Option<i64> = row.get(5)?;
            let heartbeat: Option<Vec<u8>> = row.get(6)?;
            Ok(Some(DeviceRow {
                key: row.get(0)?,
                name: row.get(1)?,
                state: row.get(2)?,
                first_seen: Wall(row.get(3)?),
                last_seen: Wall(row.get(4)?),
                heartbeat: heartbeat_at.map(Wall).zip(heartbeat),
                open: [natural(row, 7)?, natural(row, 8)?, natural(row, 9)?],
                lost: natural(row, 10)?,
                holes: natural(row, 11)?,
                trust: Trust::from_name(&row.get::<_, String>(12)?).unwrap_or(Trust::Unsigned),
            }))
        })
    }

    /// Channels of a device, by name; at most [`limits::CHANNELS_MAX`].
    pub fn channels(&self, device: i64) -> Result<Vec<Channel>, StoreError> {
        let sql = "SELECT c.id, c.name, c.unit, (SELECT max(start) FROM windows w WHERE w.channel = c.id)
                   FROM channels c WHERE c.device = ?1 ORDER BY c.name LIMIT ?2";
        self.collect(sql, params![device, bound(limits::CHANNELS_MAX)], |row| {
            let newest: Option<i64> = row.get(3)?;
            Ok(newest.map(|newest| Channel {
                key: row.get(0).unwrap_or_default(),
                name: row.get(1).unwrap_or_default(),
                unit: row.get(2).unwrap_or_default(),
                newest: Wall(newest),
            }))
        })
    }

    /// Windows of a channel that start in `from..to`, merged into at most [`limits::CHART_POINTS_MAX`] points.
    pub fn series(&self, channel: i64, from: Wall, to: Wall) -> Result<Vec<Bucket>, StoreError> {
        let points = i64::try_from(limits::CHART_POINTS_MAX).unwrap_or(i64::MAX);
        let width = (to.micros_since(from) / points).saturating_add(1).max(1);
        let sql = "SELECT min(start), max(start + length_ms * 1000),
                          min(min) FILTER (WHERE count > 0), max(max) FILTER (WHERE count > 0),
                          sum(mean * count) / sum(count), sum(count), sum(missing)
                   FROM windows WHERE channel = ?1 AND start >= ?2 AND start < ?3
                   GROUP BY (start - ?2) / ?4 ORDER BY 1";
        self.collect(sql, params![channel, from.0, to.0, width], |row| {
            let (min, max, mean): (Option<f64>, Option<f64>, Option<f64>) =
                (row.get(2)?, row.get(3)?, row.get(4)?);
            Ok(Some(Bucket {
                start: Wall(row.get(0)?),
                end: Wall(row.get(1)?),
                values: min.zip(max).zip(mean).map(|((min, max), mean)| (min, max, mean)),
                count: natural(row, 5)?,
                missing: natural(row, 6)?,
            }))
        })
    }

    /// Newest raw blocks with readings in `from..to`; at most `count_max`.
    pub fn raw(
        &self,
        device: i64,
        from: Wall,
        to: Wall,
        count_max: usize,
    ) -> Result<Vec<RawBlock>, StoreError> {
        let sql = "SELECT first, last, payload, (SELECT shift FROM clocks c WHERE c.id = raw.clock) FROM raw
                   WHERE device = ?1 AND to_at >= ?2 AND from_at < ?3 ORDER BY to_at DESC LIMIT ?4";
        self.collect(sql, params![device, from.0, to.0, bound(count_max)], |row| {
            Ok(Some(RawBlock {
                first: natural(row, 0)?,
                last: natural(row, 1)?,
                payload: row.get(2)?,
                shift_us: row.get::<_, Option<i64>>(3)?.unwrap_or(0),
            }))
        })
    }

    /// Episodes that touch `from..=to`, open ones first, then the latest.
    pub fn episodes(&self, device: i64, from: Wall, to: Wall) -> Result<Vec<EpisodeRow>, StoreError> {
        let sql = "SELECT key, channel, pattern, severity, phase IN ('opened', 'updated') AS open, start, at, baseline,
                          peak, bound, count, unit, reason, phase = 'interrupted', evidence_first, evidence_last
                   FROM episodes WHERE device = ?1 AND start <= ?3 AND (at >= ?2 OR open)
                   ORDER BY open DESC, at DESC LIMIT ?4";
        self.collect(sql, params![device, from.0, to.0, bound(limits::PAGE_ROWS_MAX)], |row| {
            Ok(Some(EpisodeRow {
                key: row.get(0)?,
                channel: row.get(1)?,
                pattern: row.get(2)?,
                severity: severity(row, 3)?,
                open: row.get(4)?,
                start: Wall(row.get(5)?),
                at: Wall(row.get(6)?),
                baseline: row.get(7)?,
                peak: row.get(8)?,
                limit: row.get(9)?,
                count: natural(row, 10)?,
                unit: row.get(11)?,
                reason: row.get(12)?,
                interrupted: row.get(13)?,
                evidence: Option::zip(row.get::<_, Option<i64>>(14)?, row.get::<_, Option<i64>>(15)?)
                    .map(|(first, last)| (first.cast_unsigned(), last.cast_unsigned())),
            }))
        })
    }

    /// Steps of one episode, earliest first.
    pub fn steps(&self, episode: i64) -> Result<Vec<StepRow>, StoreError> {
        let sql =
            "SELECT episode, at, phase, last FROM episode_steps WHERE episode = ?1 ORDER BY at LIMIT ?2";
        self.collect(sql, params![episode, bound(limits::PAGE_ROWS_MAX)], |row| {
            Ok(Some(StepRow {
                episode: row.get(0)?,
                at: Wall(row.get(1)?),
                phase: row.get(2)?,
                last: row.get(3)?,
            }))
        })
    }

    /// The episode that one of the alarm records `first..=last` belongs to.
    pub fn episode_of(
        &self,
        device: i64,
        epoch: u64,
        first: u64,
        last: u64,
    ) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT episode FROM episode_steps WHERE device = ?1 AND epoch = ?2 AND seq BETWEEN ?3 AND ?4 LIMIT 1";
        let given = params![device, epoch.cast_signed(), first.cast_signed(), last.cast_signed()];
        Ok(self.connection.prepare_cached(sql)?.query_row(given, |row| row.get(0)).optional()?)
    }

    /// Digests whose period touches `from..=to`, the latest first.
    pub fn digests(&self, device: i64, from: Wall, to: Wall) -> Result<Vec<DigestRow>, StoreError> {
        let sql =
            "SELECT key, epoch, body, to_at FROM digests WHERE device = ?1 AND to_at >= ?2 AND from_at <= ?3
                   ORDER BY to_at DESC, seq DESC LIMIT ?4";
        self.collect(sql, params![device, from.0, to.0, bound(limits::PAGE_ROWS_MAX)], |row| {
            let (key, epoch): (i64, i64) = (row.get(0)?, row.get(1)?);
            let digest: Option<Digest> =
                serde_json::from_str(row.get_ref(2)?.as_str().unwrap_or_default()).ok();
            let to = Wall(row.get(3)?);
            Ok(digest.map(|mut digest| {
                let by = to.micros_since(digest.facts.to);
                digest.facts.map_times(|at| Wall(at.0.saturating_add(by)));
                DigestRow { key, epoch: epoch.cast_unsigned(), digest }
            }))
        })
    }

    /// Declared losses, the latest first.
    pub fn gaps(&self, device: i64) -> Result<Vec<GapRow>, StoreError> {
        let sql = "SELECT lane, epoch, first, last, reason, sealed FROM gaps WHERE device = ?1
                   ORDER BY sealed DESC LIMIT ?2";
        self.collect(sql, params![device, bound(limits::PAGE_ROWS_MAX)], |row| {
            let epoch: i64 = row.get(1)?;
            let Some(lane) = ranges::lane_from(row.get(0)?) else { return Ok(None) };
            Ok(Some(GapRow {
                lane,
                epoch: epoch.cast_unsigned(),
                first: natural(row, 2)?,
                last: natural(row, 3)?,
                reason: row.get(4)?,
                sealed: Wall(row.get(5)?),
            }))
        })
    }

    /// Remarks of the device about itself, the latest first.
    pub fn notices(&self, device: i64) -> Result<Vec<NoticeRow>, StoreError> {
        let sql = "SELECT at, code, text FROM notices WHERE device = ?1 ORDER BY at DESC LIMIT ?2";
        self.collect(sql, params![device, bound(limits::PAGE_ROWS_MAX)], |row| {
            Ok(Some(NoticeRow { at: Wall(row.get(0)?), code: row.get(1)?, text: row.get(2)? }))
        })
    }

    /// What is held of each lane of each spool of a device.
    pub fn holdings(&self, device: i64) -> Result<Vec<LaneHolding>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT epoch, lane, first, last FROM ranges WHERE device = ?1 ORDER BY epoch, lane, first",
        )?;
        let mut rows = statement.query(params![device])?;
        let mut holdings: Vec<LaneHolding> = Vec::new();
        while let Some(row) = rows.next()? {
            let epoch = row.get::<_, i64>(0)?.cast_unsigned();
            let Some(lane) = ranges::lane_from(row.get(1)?) else { continue };
            let (first, last) = (natural(row, 2)?, natural(row, 3)?);
            match holdings.last_mut() {
                Some(held) if held.epoch == epoch && held.lane == lane => held.add(first, last),
                _ => {
                    let mut held = LaneHolding {
                        lane,
                        epoch,
                        through: 0,
                        highest: 0,
                        settled: 0,
                        lost: Vec::new(),
                        holes: Vec::new(),
                    };
                    held.add(first, last);
                    holdings.push(held);
                }
            }
        }
        for held in &mut holdings {
            held.lost = self.losses(device, held)?;
        }
        Ok(holdings)
    }

    fn losses(&self, device: i64, held: &LaneHolding) -> Result<Vec<(String, u64)>, StoreError> {
        let sql =
            "SELECT reason, sum(last - first + 1) FROM gaps WHERE device = ?1 AND lane = ?2 AND epoch = ?3
                   GROUP BY reason ORDER BY reason";
        self.collect(sql, params![device, held.lane as i64, held.epoch.cast_signed()], |row| {
            Ok(Some((row.get(0)?, natural(row, 1)?)))
        })
    }

    /// The boots of a device whose place in time is known, the latest first.
    pub fn boots(&self, device: i64) -> Result<Vec<BootRow>, StoreError> {
        let sql = "SELECT boot, offset, uncertainty,
                          (SELECT group_concat(c.shift) FROM clocks c
                           WHERE c.device = b.device AND c.boot = b.boot AND c.shift <> 0)
                   FROM boots b WHERE device = ?1 ORDER BY offset DESC LIMIT ?2";
        self.collect(sql, params![device, bound(limits::PAGE_ROWS_MAX)], |row| {
            let Ok(boot) = row.get_ref(0)?.as_blob().unwrap_or_default().try_into() else { return Ok(None) };
            let shifts: Option<String> = row.get(3)?;
            Ok(Some(BootRow {
                boot: BootId(boot),
                began: Wall(row.get(1)?),
                uncertainty_us: row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned),
                shifts_us: shifts.iter().flat_map(|s| s.split(',')).filter_map(|n| n.parse().ok()).collect(),
            }))
        })
    }

    /// What a device said of its spools.
    pub fn accounts(&self, device: i64) -> Result<Vec<Account>, StoreError> {
        let sql = "SELECT lane, epoch, admitted, pending, evicted, heard_at, short_since FROM accounts WHERE device = ?1
                   ORDER BY heard_at DESC, epoch, lane";
        self.collect(sql, params![device], |row| {
            let Some(lane) = ranges::lane_from(row.get(0)?) else { return Ok(None) };
            Ok(Some(Account {
                lane,
                epoch: row.get::<_, i64>(1)?.cast_unsigned(),
                admitted: natural(row, 2)?,
                pending: natural(row, 3)?,
                evicted: accounts::reasons(row.get_ref(4)?.as_str().unwrap_or_default()),
                heard_at: Wall(row.get(5)?),
                short_since: row.get::<_, Option<i64>>(6)?.map(Wall),
            }))
        })
    }

    /// What a device said that can't be true, the latest first.
    pub fn faults(&self, device: i64) -> Result<Vec<Fault>, StoreError> {
        let sql = "SELECT epoch, code, text, first_at, last_at FROM faults WHERE device = ?1
                   ORDER BY last_at DESC LIMIT ?2";
        self.collect(sql, params![device, bound(limits::PAGE_ROWS_MAX)], |row| {
            Ok(Some(Fault {
                epoch: row.get::<_, i64>(0)?.cast_unsigned(),
                code: row.get(1)?,
                text: row.get(2)?,
                first_at: Wall(row.get(3)?),
                last_at: Wall(row.get(4)?),
            }))
        })
    }

    /// Bytes of the database's pages in use.
    pub fn bytes(&self) -> Result<u64, StoreError> {
        let pragma =
            |name: &str| self.connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
        Ok(pragma("page_count")?.saturating_mul(pragma("page_size")?).cast_unsigned())
    }

    /// Runs `sql`; rows that `take` does not want are left out.
    fn collect<T>(
        &self,
        sql: &str,
        given: &[&dyn rusqlite::ToSql],
        mut take: impl FnMut(&Row<'_>) -> rusqlite::Result<Option<T>>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(given)?;
        let mut taken = Vec::new();
        while let Some(row) = rows.next()? {
            taken.extend(take(row)?);
        }
        Ok(taken)
    }
}

impl LaneHolding {
    /// The next settled range, in ascending order.
    fn add(&mut self, first: u64, last: u64) {
        if first > self.highest + 1 && self.holes.len() < HOLES_SHOWN {
            self.holes.push((self.highest + 1, first - 1));
        }
        if first == self.through + 1 {
            self.through = last;
        }
        self.highest = last;
        self.settled += last - first + 1;
    }
}

fn natural(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, Option<i64>>(index)?.unwrap_or(0)).unwrap_or(0))
}

fn severity(row: &Row<'_>, index: usize) -> rusqlite::Result<Severity> {
    let number: i64 = row.get(index)?;
    Ok(Severity::ALL.iter().copied().find(|s| *s as i64 == number).unwrap_or(Severity::Info))
}

fn bound(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
