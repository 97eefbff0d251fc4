//! The acts of the demo, in order, and what is read off at the end of each.

use std::io::{self, BufRead as _};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use serde::Deserialize;
use smol::LocalExecutor;
use smol::channel::Receiver;
use smol::future::FutureExt as _;

use super::proxy::Line;
use super::report::{FaultCheck, LedgerCheck, OutageReport, Report};
use super::seats::{DEVICE, Seat, Site};
use super::view::{Scene, View};
use super::{DemoOptions, broker, fetch, pki, plant};
use crate::agent::status::Status;
use crate::clock;
use crate::episode::Evidence;
use crate::spool;
use crate::time::{Mono, Wall};
use crate::wire::{Lane, epoch_text};

/// Lengths of the acts.
struct Acts {
    calm: Duration,
    cut: Duration,
    after: Duration,
}

impl Acts {
    /// The whole, less what start and end take, is divided so that the cut falls into the middle of the faults.
    fn of(options: &DemoOptions) -> Self {
        let whole = options.length.unwrap_or(LENGTH).saturating_sub(START_AND_END);
        let cut = options.cut.min(whole / 2);
        let calm = (whole - cut) * 3 / 5;
        Self { calm, cut, after: whole - cut - calm }
    }

    fn whole(&self) -> Duration {
        self.calm + self.cut + self.after
    }
}

/// Without `--for`.
const LENGTH: Duration = Duration::from_secs(75);
const START_AND_END: Duration = Duration::from_secs(6);
/// Plant time per second.
const SPEED: u32 = 120;
const SEED: u64 = 20;
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Plays all acts and reports; see [`super::run`].
pub(super) async fn play(
    executor: &Rc<LocalExecutor<'static>>,
    options: &DemoOptions,
    dir: &Path,
    stop: Receiver<()>,
    done: impl FnOnce(&Report),
) -> io::Result<Report> {
    let begun = clock::mono();
    let acts = Acts::of(options);
    let view = View::new();
    view.act("Preparing broker, certificates and plant", None);
    let (site, line) = prepare(executor, options, dir, &acts).await?;
    let aggregator = site.start_aggregator().await?;
    let agent = site.start_agent().await?;
    let page = format!("http://{}/", aggregator.http);
    view.say(&format!("Watch it at {page} and http://{}/", agent.http));
    let mut stage = Stage { view, agent, aggregator, last: None, peak: (0, 0) };

    let played = stage.play(&line, &acts);
    let stopped = async {
        let _ = stop.recv().await;
        Err(io::Error::new(io::ErrorKind::Interrupted, "stopped before the end; there is nothing to report"))
    };
    let played = played.or(stopped).await?;
    let report = stage.end(&site, played, page).await?;
    done(&report);
    let remaining = options.length.map(|length| length.saturating_sub(clock::mono().since(begun)));
    let over = async {
        match remaining {
            // The report is complete: there is nothing to wait for.
            Some(_) => {}
            None => smol::future::pending().await,
        }
    };
    over.or(async {
        let _ = stop.recv().await;
    })
    .await;
    stage.aggregator.stop(PATIENCE).await?;
    Ok(report)
}

async fn prepare(
    executor: &Rc<LocalExecutor<'static>>,
    options: &DemoOptions,
    dir: &Path,
    acts: &Acts,
) -> io::Result<(Site, Line)> {
    let recording = dir.join("plant.csv");
    let plant_s = u32::try_from(acts.whole().as_secs()).unwrap_or(u32::MAX / SPEED).saturating_mul(SPEED);
    let start = clock::wall() - Duration::from_secs(u64::from(plant_s));
    let mut file = io::BufWriter::new(std::fs::File::create(&recording)?);
    plant::write_recording(&mut file, SEED, start, plant_s)?;

    let pki = pki::throwaway(&dir.join("pki"), &[DEVICE, "aggregator"]).map_err(io::Error::other)?;
    let options_of_broker =
        broker::BrokerOptions { pki: Some(pki.clone()), ..broker::BrokerOptions::default() };
    let broker = broker::start(&options_of_broker).map_err(io::Error::other)?;
    let line = Line::open(executor, broker.addr).await?;
    let site = Site {
        dir: dir.to_owned(),
        broker: broker.addr,
        line: line.addr(),
        ca: pki.ca(),
        agent_pem: pki.pem(DEVICE),
        aggregator_pem: pki.pem("aggregator"),
        recording,
        plant_start: start,
        plant_s,
        speed: SPEED,
        lang: options.lang,
    };
    Ok((site, line))
}

/// Both seats and what is shown of them. The agent is stopped before the aggregator.
struct Stage {
    view: View,
    agent: Seat,
    aggregator: Seat,
    last: Option<(Mono, u64)>,
    peak: (u64, u64),
}

/// What the acts showed.
struct Played {
    mended: Wall,
    drained: Option<Duration>,
    cut: Duration,
    status: Status,
}

const PATIENCE: Duration = Duration::from_secs(10);

impl Stage {
    async fn play(&mut self, line: &Line, acts: &Acts) -> io::Result<Played> {
        self.view.act("1/3 The line is up", Some(acts.calm));
        self.watch(acts.calm, |_| false).await?;

        line.cut();
        let cut = clock::mono();
        self.view.say("The line is cut: everything that must leave waits in the spool.");
        self.view.act("2/3 The line is cut", Some(acts.cut));
        self.watch(acts.cut, |_| false).await?;
        let cut = clock::mono().since(cut);

        let mended = clock::wall();
        line.mend();
        self.view.say(
            "The line is mended: the offline digest goes first, then alarms, live data and the backlog.",
        );
        self.view.act("3/3 The backlog drains", Some(acts.after));
        let since = clock::mono();
        let drained =
            self.watch(acts.after, |status| status.line.up && status.spool.pending_records < DRAINED).await?;
        let drained = drained.then(|| clock::mono().since(since));
        if let Some(time) = drained {
            self.view.say(&format!("Drained {:.1} s after the line was mended.", time.as_secs_f64()));
        }
        self.watch(acts.after.saturating_sub(clock::mono().since(since)), |_| false).await?;
        Ok(Played { mended, drained, cut, status: self.look().await? })
    }

    /// Shows what happens for `length`, or until `enough`; tells whether it was enough.
    async fn watch(&mut self, length: Duration, enough: impl Fn(&Status) -> bool) -> io::Result<bool> {
        let begun = clock::mono();
        while clock::mono().since(begun) < length {
            let status = self.look().await?;
            let scene = self.scene(&status).await?;
            self.view.show(&scene, clock::mono().since(begun));
            if enough(&status) {
                return Ok(true);
            }
            smol::Timer::after(LOOK_EVERY).await;
        }
        Ok(false)
    }

    async fn look(&mut self) -> io::Result<Status> {
        self.agent.check_alive()?;
        self.aggregator.check_alive()?;
        let status: Status = fetch::get_json(self.agent.http, "/api/status").await?;
        if status.spool.pending_records > self.peak.0 {
            self.peak = (status.spool.pending_records, status.spool.pending_bytes);
        }
        Ok(status)
    }

    async fn scene(&mut self, status: &Status) -> io::Result<Scene> {
        let now = clock::mono();
        let (then, before) = self.last.replace((now, status.readings)).unwrap_or((now, status.readings));
        let elapsed_s = now.since(then).as_secs_f64();
        Ok(Scene {
            readings_per_s: if elapsed_s > 0.0 { (status.readings - before) as f64 / elapsed_s } else { 0.0 },
            readings: status.readings,
            windows: status.windows,
            episodes_open: status.episodes_open,
            digests: (status.digests_glm, status.digests_template),
            pending_records: status.spool.pending_records,
            pending_bytes: status.spool.pending_bytes,
            line_up: status.line.up,
            line_since_s: status.line.since_s,
            held_records: self.held().await?.iter().map(|lane| lane.held).sum(),
            latest: status.last_digest.as_ref().map(|d| d.text.clone()).unwrap_or_default(),
        })
    }

    /// The aggregator's ledger; empty before it has heard of the device.
    async fn held(&self) -> io::Result<Vec<Held>> {
        match fetch::get_json::<Ledger>(self.aggregator.http, &format!("/api/device/{DEVICE}/ledger")).await {
            Ok(ledger) => Ok(ledger.lanes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }

    /// Stops the agent, which commits and drains, and holds its books against the aggregator's.
    async fn end(&mut self, site: &Site, played: Played, page: String) -> io::Result<Report> {
        self.view.act("Closing the books", None);
        self.agent.stop(PATIENCE).await?;
        let ledger = check_ledger(&site.spool_dir(), &self.held().await?)?;
        let digests: Digests =
            fetch::get_json(self.aggregator.http, &format!("/api/device/{DEVICE}/digests")).await?;
        let offline = digests.digests.into_iter().filter(|d| d.offline).max_by_key(|d| d.id);
        self.view.end();
        let faults = self.faults(site).await?;
        let status = played.status;
        let report = Report {
            readings: status.readings,
            sensed_bytes: status.sensed_bytes,
            sent_bytes: status.sent_bytes,
            session_bytes: status.session_bytes,
            saved_percent: status.saved_percent(),
            faults,
            windows: status.windows,
            digests_glm: status.digests_glm,
            digests_template: status.digests_template,
            digest_stage_us: status.last_digest.map(|d| d.stage_us),
            outage: OutageReport {
                cut_s: played.cut.as_secs_f64(),
                peak_pending_records: self.peak.0,
                peak_pending_bytes: self.peak.1,
                first_arrivals: arrivals(&site.aggregator_log(), played.mended)?,
                offline_digest: offline.map(|d| d.text),
                drained_s: played.drained.map(|d| d.as_secs_f64()),
            },
            ledger,
            page,
            ..Report::default()
        };
        Ok(report.judge())
    }

    /// The plant's faults, each with whether an alarm of its channel began while it lasted.
    async fn faults(&self, site: &Site) -> io::Result<Vec<FaultCheck>> {
        let path = format!("/api/device/{DEVICE}/episodes");
        let told: Episodes = fetch::get_json(self.aggregator.http, &path).await?;
        let check = |fault: plant::Fault| {
            let [from, to] = [fault.from_s, fault.to_s]
                .map(|s| (site.plant_start + Duration::from_secs(u64::from(s))).rfc3339());
            let fits = |e: &EpisodeRow| {
                e.channel == fault.channel
                    && (from.as_str()..=to.as_str()).contains(&e.start.as_str())
                    && e.reason.contains(fault.kind.said())
            };
            let found = told.episodes.iter().find(|e| fits(e));
            let evidence = found.and_then(|e| e.evidence.as_ref()).map(|e| (e.first, e.last));
            FaultCheck { kind: fault.kind.name(), channel: fault.channel, told: found.is_some(), evidence }
        };
        Ok(plant::faults(site.plant_s).into_iter().map(check).collect())
    }
}

/// Fewer records than this wait at any moment while the line is up: what the last commit brought.
const DRAINED: u64 = 100;

#[derive(Deserialize)]
struct Ledger {
    lanes: Vec<Held>,
}

#[derive(Deserialize)]
struct Held {
    lane: Lane,
    epoch: String,
    held: u64,
    gaps: u64,
    holes: u64,
}

#[derive(Deserialize)]
struct Digests {
    digests: Vec<DigestRow>,
}

#[derive(Deserialize)]
struct DigestRow {
    id: u64,
    offline: bool,
    text: String,
}

#[derive(Deserialize)]
struct Episodes {
    episodes: Vec<EpisodeRow>,
}

#[derive(Deserialize)]
struct EpisodeRow {
    channel: String,
    start: String,
    reason: String,
    evidence: Option<Evidence>,
}

/// The agent's own books from its closed spool, beside what the aggregator holds.
fn check_ledger(spool_dir: &Path, held: &[Held]) -> io::Result<Vec<LedgerCheck>> {
    let stat = spool::stat(spool_dir).map_err(io::Error::other)?;
    let row = |(lane, books): (&Lane, &spool::LaneLedger)| {
        let epoch = epoch_text(books.epoch);
        let far = held.iter().find(|h| h.lane == *lane && h.epoch == epoch);
        let check = LedgerCheck {
            lane: *lane,
            admitted: books.admitted,
            acknowledged: books.acknowledged,
            pending: books.pending,
            evicted: books.evicted_total(),
            held: far.map_or(0, |f| f.held),
            gaps: far.map_or(0, |f| f.gaps),
            holes: far.map_or(0, |f| f.holes),
            balanced: false,
            epoch,
        };
        check.judge()
    };
    Ok(Lane::ALL.iter().zip(&stat.ledger).map(row).collect())
}

/// Lanes of the first blocks that the aggregator committed after `since`, by its log.
fn arrivals(log: &Path, since: Wall) -> io::Result<Vec<Lane>> {
    #[derive(Deserialize)]
    struct Line {
        time: String,
        event: String,
        lane: Option<Lane>,
    }
    let since = since.rfc3339();
    let mut lanes = Vec::new();
    for line in io::BufReader::new(std::fs::File::open(log)?).lines() {
        // Lines that are no event, such as a remark on the configuration, are not of interest.
        let Ok(line) = serde_json::from_str::<Line>(&line?) else { continue };
        if line.event == "block_committed" && line.time >= since {
            lanes.extend(line.lane);
        }
        if lanes.len() == FIRST_ARRIVALS {
            break;
        }
    }
    Ok(lanes)
}

const FIRST_ARRIVALS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_acts_fill_the_length_and_leave_time_before_and_after_the_cut() {
        for (length, cut) in [(30, 20), (60, 20), (600, 20)] {
            let options = DemoOptions {
                length: Some(Duration::from_secs(length)),
                cut: Duration::from_secs(cut),
                lang: crate::digest::Lang::En,
                dir: None,
            };
            let acts = Acts::of(&options);
            assert_eq!(acts.whole() + START_AND_END, Duration::from_secs(length));
            assert!(acts.calm >= Duration::from_secs(5) && acts.after >= Duration::from_secs(3), "{length}");
        }
    }

    #[test]
    fn arrivals_are_read_in_order_from_the_moment_on() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("a.log");
        let line = |time: &str, lane: &str| {
            format!(r#"{{"time":"{time}","level":"DEBUG","event":"block_committed","lane":"{lane}"}}"#)
        };
        let lines = [
            line("2026-01-01T00:00:01.000Z", "raw"),
            "a remark".into(),
            line("2026-01-01T00:00:02.000Z", "digest"),
            line("2026-01-01T00:00:02.500Z", "alarm"),
        ];
        std::fs::write(&log, lines.join("\n")).unwrap();
        let since = Wall::from_secs(1_767_225_602);
        assert_eq!(arrivals(&log, since).unwrap(), [Lane::Digest, Lane::Alarm]);
    }
}
