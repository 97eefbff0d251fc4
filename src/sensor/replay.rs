//! A recording played back: at its own pace, faster, or as fast as the pipeline takes it.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::time::Duration;

use super::SourceError;
use super::csv::{CsvOptions, CsvReader};
use super::malformed::MalformedLog;
use super::outlet::{Closed, Outlet};
use crate::clock;
use crate::limits;
use crate::reading::Reading;
use crate::time::{Mono, Wall};

/// What to play back, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayOptions {
    /// The CSV file, see [`CsvReader`].
    pub path: PathBuf,
    /// How it is named.
    pub csv: CsvOptions,
    /// Recorded seconds per second: 1 is the original pace, 60 a minute per second, 0 as fast as possible. Negative
    /// and infinite speeds count as 0.
    pub speed: f64,
    /// Whether to begin again at the end; event times then go on where they ended.
    pub repeat: bool,
    /// Moves all event times so that the first row is at this time; as recorded when absent.
    pub shift_to: Option<Wall>,
}

/// A recording that could be opened.
pub(super) struct Replay {
    options: ReplayOptions,
    reader: CsvReader<BufReader<File>>,
    /// How much of the reader's malformed input is in the counters.
    reported: u64,
}

impl Replay {
    pub(super) fn open(options: ReplayOptions) -> Result<Self, SourceError> {
        let reader = CsvReader::open(&options.path, &options.csv)?;
        Ok(Self { options, reader, reported: 0 })
    }

    /// Plays until the end of the recording, or of the pipeline.
    pub(super) async fn run(mut self, outlet: Outlet) -> Result<(), SourceError> {
        let mut malformed = MalformedLog::new(outlet.source());
        let mut pace = Pace::new(&self.options);
        let mut pending = Vec::new();
        if outlet.send(Vec::new(), self.reader.infos().to_vec(), false).await.is_err() {
            return Ok(());
        }
        loop {
            loop {
                let start = pending.len();
                let Some(recorded) = self.reader.next_row(&mut pending)? else { break };
                self.report(&mut malformed, &outlet);
                let at = pace.shifted(recorded);
                pending[start..].iter_mut().for_each(|reading| reading.at = at);
                if play(&mut pending, start, pace.wait(at, clock::mono()), &outlet).await.is_err() {
                    return Ok(());
                }
            }
            self.report(&mut malformed, &outlet);
            if !self.options.repeat {
                // The pipeline may be gone by now; then nobody needs to know.
                let _ = outlet.send(pending, Vec::new(), true).await;
                return Ok(());
            }
            pace.begin_again();
            self.reported = 0;
            self.reader = CsvReader::open(&self.options.path, &self.options.csv)?;
        }
    }

    fn report(&mut self, malformed: &mut MalformedLog, outlet: &Outlet) {
        let Some(bad) = self.reader.take_bad_row() else { return };
        let place = format!("{}:{}", self.options.path.display(), bad.line);
        malformed.note_many(self.reader.malformed() - self.reported, &bad.reason, place.as_bytes());
        self.reported = self.reader.malformed();
        outlet.counters().set_malformed(malformed.total());
    }
}

/// Hands over what is due: everything before `start`, the newest row, when that has to wait; all of it when the batch
/// is full. What is not due yet stays.
async fn play(
    pending: &mut Vec<Reading>,
    start: usize,
    wait: Duration,
    outlet: &Outlet,
) -> Result<(), Closed> {
    if !wait.is_zero() && start > 0 {
        let row = pending.split_off(start);
        outlet.send(std::mem::replace(pending, row), Vec::new(), false).await?;
    }
    if !wait.is_zero() {
        smol::Timer::after(wait).await;
    }
    if pending.len() + limits::CSV_COLUMNS_MAX > limits::SENSOR_BATCH_READINGS_MAX {
        outlet.send(std::mem::take(pending), Vec::new(), false).await?;
        // The send may never have had to wait; a stop must get its turn.
        smol::future::yield_now().await;
    }
    Ok(())
}

/// Recorded time into event time, and event time into waiting.
struct Pace {
    speed: f64,
    shift_to: Option<Wall>,
    /// Added to recorded times, in microseconds.
    shift_us: i64,
    /// The first row: recorded time in this round.
    first: Option<Wall>,
    /// The latest event time, and the step before it in microseconds.
    latest: Option<Wall>,
    step_us: i64,
    /// The first row's event time and when it was played.
    began: Option<(Wall, Mono)>,
}

impl Pace {
    fn new(options: &ReplayOptions) -> Self {
        let speed = if options.speed.is_finite() && options.speed > 0.0 { options.speed } else { 0.0 };
        Self {
            speed,
            shift_to: options.shift_to,
            shift_us: 0,
            first: None,
            latest: None,
            step_us: STEP_US_DEFAULT,
            began: None,
        }
    }

    /// The event time of a row recorded at `recorded`.
    fn shifted(&mut self, recorded: Wall) -> Wall {
        if self.first.is_none() {
            self.first = Some(recorded);
            if let Some(to) = self.shift_to.take() {
                self.shift_us = to.micros_since(recorded);
            }
        }
        let at = Wall(recorded.0.saturating_add(self.shift_us));
        if let Some(latest) = self.latest {
            let step = at.micros_since(latest);
            self.step_us = if step > 0 { step } else { self.step_us };
        }
        self.latest = Some(self.latest.map_or(at, |latest| latest.max(at)));
        at
    }

    /// How long the row at event time `at` has to wait.
    fn wait(&mut self, at: Wall, now: Mono) -> Duration {
        if self.speed == 0.0 {
            return Duration::ZERO;
        }
        let (first, began) = *self.began.get_or_insert((at, now));
        let micros = at.micros_since(first).max(0) as f64 / self.speed;
        // A float beyond u64 saturates; nobody waits for that.
        (began + Duration::from_micros(micros as u64)).since(now)
    }

    /// The next round goes on one step after the latest event time.
    fn begin_again(&mut self) {
        self.first = None;
        self.shift_to = self.latest.map(|latest| Wall(latest.0.saturating_add(self.step_us)));
    }
}

/// The step from one round to the next where a recording has a single row.
const STEP_US_DEFAULT: i64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::super::{Batch, SourceOptions, spawn, stopper};
    use super::*;

    fn options(text: &str) -> (tempfile::TempDir, ReplayOptions) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.csv");
        std::fs::write(&path, text).unwrap();
        let csv = CsvOptions::default();
        (dir, ReplayOptions { path, csv, speed: 0.0, repeat: false, shift_to: None })
    }

    fn collect(options: ReplayOptions, readings: usize) -> Vec<Batch> {
        let (sender, receiver) = smol::channel::bounded(4);
        let (stopper, stop) = stopper();
        let handle = spawn("rec", SourceOptions::Replay(options), sender, stop).unwrap();
        let (mut batches, mut count) = (Vec::new(), 0);
        while let Ok(batch) = receiver.recv_blocking() {
            count += batch.readings.len();
            let end = batch.end;
            batches.push(batch);
            if end || count >= readings {
                break;
            }
        }
        drop((stopper, receiver));
        handle.join();
        batches
    }

    #[test]
    fn a_recording_comes_whole_described_first_and_ends_with_a_word() {
        let text: String = (0..10_000).map(|n| format!("{n},{n}\n")).collect();
        let (_dir, options) = options(&format!("ts,value\n{text}"));
        let batches = collect(options, usize::MAX);
        assert_eq!(batches[0].infos[0].id.as_str(), "x");
        assert!(batches.iter().all(|b| b.readings.len() <= limits::SENSOR_BATCH_READINGS_MAX));
        assert_eq!(batches.iter().filter(|b| b.end).count(), 1);
        let times: Vec<_> = batches.iter().flat_map(|b| &b.readings).map(|r| r.at).collect();
        assert_eq!(times, (0..10_000).map(Wall::from_secs).collect::<Vec<_>>());
    }

    #[test]
    fn a_repeated_recording_goes_on_in_time() {
        let (_dir, mut options) = options("ts,x\n100,1\n110,2\n");
        (options.repeat, options.shift_to) = (true, Some(Wall::from_secs(1000)));
        let batches = collect(options, 8000);
        let times: Vec<_> =
            batches.iter().flat_map(|b| &b.readings).take(5).map(|r| r.at.0 / 1_000_000).collect();
        assert_eq!(times, [1000, 1010, 1020, 1030, 1040]);
    }

    #[test]
    fn the_pace_is_the_recorded_one_divided_by_the_speed() {
        let (_dir, mut options) = options("ts,x\n1,1\n");
        options.speed = 60.0;
        let mut pace = Pace::new(&options);
        let start = Mono(5_000_000);
        assert_eq!(pace.wait(Wall::from_secs(100), start), Duration::ZERO);
        assert_eq!(pace.wait(Wall::from_secs(160), start), Duration::from_secs(1));
        assert_eq!(pace.wait(Wall::from_secs(160), start + Duration::from_secs(3)), Duration::ZERO);
    }

    #[test]
    fn rows_arrive_when_they_are_due() {
        let (_dir, mut options) = options("ts,x\n1,1\n2,2\n3,3\n");
        options.speed = 20.0;
        let began = clock::mono();
        let batches = collect(options, usize::MAX);
        assert!(clock::mono().since(began) >= Duration::from_millis(100));
        assert_eq!(batches.iter().map(|b| b.readings.len()).sum::<usize>(), 3);
    }

    #[test]
    fn a_slow_recording_can_be_stopped() {
        let (_dir, mut options) = options("ts,x\n1,1\n100000,2\n");
        options.speed = 1.0;
        let (sender, receiver) = smol::channel::bounded(4);
        let (stopper, stop) = stopper();
        let handle = spawn("rec", SourceOptions::Replay(options), sender, stop).unwrap();
        assert!(receiver.recv_blocking().is_ok());
        drop(stopper);
        handle.join();
    }
}
