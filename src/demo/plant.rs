//! A small plant and its faults, as a recording that the agent replays.
//!
//! Two pumps, a tank and a cold store, sampled every [`STEP_S`] seconds. Every signal is what physics would make of the
//! others: a worn bearing heats, shakes and draws current; a stuck level sensor keeps its last value while the tank
//! goes on filling; a flow meter that reads the wrong way round stays in its range and leaves its pump. The same seed gives the same file,
//! byte for byte.

use std::f64::consts::TAU;
use std::io::{self, Write};

use fastrand::Rng;

use crate::time::Wall;

/// Seconds of plant time between two rows.
pub const STEP_S: u32 = 5;

/// What is wrong, where, and from when to when, in seconds from the start of the recording.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    /// The kind.
    pub kind: FaultKind,
    /// The channel on which it shows most.
    pub channel: &'static str,
    /// First second.
    pub from_s: u32,
    /// Last second.
    pub to_s: u32,
}

/// The faults that the plant knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The bearing of pump 2 runs hot: temperature and vibration climb, current follows.
    Bearing,
    /// The tank's level sensor keeps its last value.
    StuckLevel,
    /// The field link toggles every few seconds.
    FlappingLink,
    /// The flow meter of pump 1 reads the wrong way round, as when its wires were swapped: little for much.
    ReversedMeter,
}

impl FaultKind {
    /// How people call it.
    pub const fn name(self) -> &'static str {
        match self {
            FaultKind::Bearing => "hot bearing",
            FaultKind::StuckLevel => "stuck level sensor",
            FaultKind::FlappingLink => "flapping link",
            FaultKind::ReversedMeter => "reversed flow meter",
        }
    }

    /// What an alarm of it must say: that its reason names the group, where nothing else could know.
    pub const fn said(self) -> &'static str {
        match self {
            FaultKind::ReversedMeter => "the other channels of pump1",
            FaultKind::Bearing | FaultKind::StuckLevel | FaultKind::FlappingLink => "",
        }
    }
}

/// The recording of `length_s` seconds has all of these faults, one after the other, each long enough to be seen.
pub fn faults(length_s: u32) -> [Fault; 4] {
    let at = |percent: u32| length_s / 100 * percent;
    [
        Fault { kind: FaultKind::StuckLevel, channel: "tank1.level", from_s: at(32), to_s: at(58) },
        Fault { kind: FaultKind::Bearing, channel: "pump2.bearing_temp", from_s: at(40), to_s: at(76) },
        Fault { kind: FaultKind::FlappingLink, channel: "field.link", from_s: at(50), to_s: at(62) },
        Fault { kind: FaultKind::ReversedMeter, channel: "pump1.flow", from_s: at(70), to_s: at(88) },
    ]
}

/// Columns in the order of [`Plant::row`], each with its unit where it has one.
const COLUMNS: &[&str] = &[
    "pump1.bearing_temp [Cel]",
    "pump1.vibration [mm/s]",
    "pump1.current [A]",
    "pump1.flow [m3/h]",
    "pump2.bearing_temp [Cel]",
    "pump2.vibration [mm/s]",
    "pump2.current [A]",
    "pump2.flow [m3/h]",
    "tank1.level [m]",
    "tank1.temp [Cel]",
    "cold1.temp [Cel]",
    "cold1.humidity [%]",
    "mains.voltage [V]",
    "field.link",
];

/// Writes a recording of `length_s` seconds that starts at `start`.
pub fn write_recording(out: &mut impl Write, seed: u64, start: Wall, length_s: u32) -> io::Result<()> {
    writeln!(out, "timestamp,{}", COLUMNS.join(","))?;
    let mut plant = Plant { rng: Rng::with_seed(seed), level_m: 2.2, stuck_level_m: None };
    let faults = faults(length_s);
    for second in (0..length_s).step_by(STEP_S as usize) {
        let at = start + std::time::Duration::from_secs(u64::from(second));
        write!(out, "{}", at.rfc3339())?;
        for value in plant.row(second, &faults) {
            write!(out, ",{value}")?;
        }
        writeln!(out)?;
    }
    out.flush()
}

/// The usual demand, as a share of the pumps' full speed.
const DEMAND: f64 = 0.75;

struct Plant {
    rng: Rng,
    level_m: f64,
    stuck_level_m: Option<f64>,
}

impl Plant {
    fn row(&mut self, second: u32, faults: &[Fault]) -> Vec<f64> {
        let mut row = Vec::with_capacity(COLUMNS.len());
        // Demand breathes with a period of 40 minutes.
        let demand = DEMAND + 0.15 * (TAU * f64::from(second) / 2400.0).sin();
        for pump in 1..=2 {
            let wear = if pump == 2 { progress(faults, FaultKind::Bearing, second) } else { 0.0 };
            let speed = demand * (1.0 + self.noise(0.01));
            row.push(round(44.0 + 9.0 * demand + 44.0 * wear + self.noise(0.25), 1));
            row.push(round(2.1 * speed + 6.5 * wear + self.noise(0.12).abs(), 2));
            row.push(round(11.5 * speed + 2.6 * wear + self.noise(0.08), 2));
            let reversed = pump == 1 && progress(faults, FaultKind::ReversedMeter, second) > 0.0;
            let metered = if reversed { 2.0 * DEMAND - speed } else { speed * (1.0 - 0.08 * wear) };
            row.push(round(31.0 * metered + self.noise(0.3), 1));
        }
        row.push(self.level(second, demand, faults));
        row.push(round(16.5 + 0.8 * demand + self.noise(0.06), 2));
        row.push(round(-20.5 + 1.2 * triangle(second, 900) + self.noise(0.08), 2));
        row.push(round(72.0 + 3.0 * triangle(second, 900) + self.noise(0.4), 1));
        row.push(round(400.0 - 4.0 * demand + self.noise(0.6), 1));
        row.push(self.link(second, faults));
        row
    }

    fn level(&mut self, second: u32, demand: f64, faults: &[Fault]) -> f64 {
        self.level_m += 0.004 * (DEMAND - demand) + self.noise(0.0008);
        let seen = round(self.level_m + self.noise(0.004), 3);
        let stuck = progress(faults, FaultKind::StuckLevel, second) > 0.0;
        self.stuck_level_m = if stuck { self.stuck_level_m.or(Some(seen)) } else { None };
        self.stuck_level_m.unwrap_or(seen)
    }

    fn link(&mut self, second: u32, faults: &[Fault]) -> f64 {
        let flapping = progress(faults, FaultKind::FlappingLink, second) > 0.0;
        if flapping && self.rng.f64() < 0.5 { 0.0 } else { 1.0 }
    }

    /// Gaussian noise of the given standard deviation, by the Box-Muller transform.
    fn noise(&mut self, std: f64) -> f64 {
        let radius = (-2.0 * (1.0 - self.rng.f64()).ln()).sqrt();
        std * radius * (TAU * self.rng.f64()).cos()
    }
}

/// How far `kind` has developed at `second`, 0 to 1: it grows over the first two thirds of its time.
fn progress(faults: &[Fault], kind: FaultKind, second: u32) -> f64 {
    faults
        .iter()
        .find(|f| f.kind == kind && (f.from_s..=f.to_s).contains(&second))
        .map_or(0.0, |f| (1.5 * f64::from(second - f.from_s + 1) / f64::from(f.to_s - f.from_s)).min(1.0))
}

/// A triangle wave between 0 and 1: a compressor that cools and rests.
fn triangle(second: u32, period_s: u32) -> f64 {
    let phase = f64::from(second % period_s) / f64::from(period_s);
    if phase < 0.5 { 2.0 * phase } else { 2.0 - 2.0 * phase }
}

fn round(x: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (x * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::assemble::{AssembleOptions, Assembler, Source};
    use crate::clock;
    use crate::config::parse_agent;
    use crate::demo::seats::PLANT_TOML;
    use crate::episode::{EpisodeUpdate, Phase};
    use crate::sensor::{CsvOptions, CsvReader};
    use crate::window::WindowOptions;
    use crate::wire::{BlockHeader, Body, Lane, Record, encode_block};

    fn recording(seed: u64) -> String {
        let mut out = Vec::new();
        write_recording(&mut out, seed, Wall::from_secs(1_790_000_000), 7200).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn column<'a>(text: &'a str, name: &str) -> Vec<(u32, &'a str)> {
        let index = 1 + COLUMNS.iter().position(|c| c.starts_with(name)).unwrap();
        let cell = |line: &'a str| line.split(',').nth(index).unwrap();
        text.lines().skip(1).enumerate().map(|(i, line)| (i as u32 * STEP_S, cell(line))).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_recording_and_another_seed_another() {
        assert_eq!(recording(1), recording(1));
        assert_ne!(recording(1), recording(2));
    }

    #[test]
    fn each_fault_is_there_when_its_label_says_and_only_then() {
        let text = recording(7);
        let [stuck, bearing, flapping, reversed] = faults(7200);
        let within = |f: Fault, s: u32| (f.from_s..=f.to_s).contains(&s);

        let level = column(&text, stuck.channel);
        let held: std::collections::HashSet<_> =
            level.iter().filter(|(s, _)| within(stuck, *s)).map(|x| x.1).collect();
        assert_eq!(held.len(), 1, "a stuck sensor says one thing");

        let temp = column(&text, bearing.channel);
        let hottest = |inside: bool| {
            let of = temp.iter().filter(|(s, _)| within(bearing, *s) == inside);
            of.map(|(_, v)| v.parse::<f64>().unwrap()).fold(f64::MIN, f64::max)
        };
        assert!(hottest(true) > 90.0 && hottest(false) < 60.0);

        let down = |inside: bool| {
            column(&text, flapping.channel)
                .iter()
                .filter(|(s, v)| within(flapping, *s) == inside && *v == "0")
                .count()
        };
        assert!(down(true) > 20 && down(false) == 0);

        let range = |inside: bool| {
            let flow = column(&text, reversed.channel);
            let of = flow.iter().filter(|(s, _)| within(reversed, *s) == inside);
            of.map(|(_, v)| v.parse::<f64>().unwrap())
                .fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)))
        };
        let (usual, then) = (range(false), range(true));
        let stays = usual.0 - 1.0 < then.0 && then.1 < usual.1 + 1.0;
        assert!(stays, "in its range, but for noise: {then:?} of {usual:?}");
    }

    /// What goes over the line of two hours of the plant when single readings stay at home, and the episodes.
    fn sent(options: AssembleOptions) -> (u64, u64, Vec<EpisodeUpdate>) {
        let text = recording(7);
        let path = std::path::Path::new("plant.csv");
        let mut reader = CsvReader::new(text.as_bytes(), path, &CsvOptions::default()).unwrap();
        let mut assembler = Assembler::new(options);
        for info in reader.infos() {
            assembler.describe(Source(0), info.clone());
        }
        let (mut readings, mut out) = (Vec::new(), Vec::new());
        let (mut sensed, mut sent, mut episodes) = (0, 0, Vec::new());
        while let Some(at) = reader.next_row(&mut readings).unwrap() {
            sensed += readings.len() as u64 * crate::limits::READING_BYTES;
            readings.drain(..).for_each(|reading| assembler.push(Source(0), &reading, &mut out));
            assembler.tick(Source(0), at, &mut out);
            sent += encoded(&out);
            episodes.extend(
                out.drain(..).filter_map(|r| if let Record::Episode(e) = r { Some(e) } else { None }),
            );
        }
        assembler.flush(&mut out);
        (sensed, sent + encoded(&out), episodes)
    }

    /// One block per lane and row: the least that can share a commit.
    fn encoded(records: &[Record]) -> u64 {
        let block = |&lane: &Lane| {
            let of_lane: Vec<Record> = records.iter().filter(|r| r.lane() == lane).cloned().collect();
            let count = u32::try_from(of_lane.len()).unwrap();
            let header =
                BlockHeader { lane, epoch: 1, first: 1, count, sealed: clock::stamp(), body: Body::Records };
            if of_lane.is_empty() { 0 } else { encode_block(&header, &of_lane).unwrap().len() as u64 }
        };
        Lane::ALL.iter().map(block).sum()
    }

    #[test]
    fn one_twentieth_of_what_is_sensed_goes_over_the_line_by_default_and_covers_every_fault() {
        let config = parse_agent("outpost.toml", PLANT_TOML, std::path::Path::new("/")).unwrap().config;
        let length_ms = u32::try_from(config.windows.length.as_millis()).unwrap();
        let windows = WindowOptions { length_ms, hop_ms: length_ms, ..WindowOptions::default() };
        let (raw, clip_readings) = (config.raw_keep, config.raw_clip);
        let groups = config.groups;
        let options = AssembleOptions { raw, clip_readings, windows, groups, ..AssembleOptions::default() };
        let (sensed, sent, episodes) = sent(options.clone());
        assert!(sent * 20 <= sensed, "{sent} of {sensed} bytes");
        let start = Wall::from_secs(1_790_000_000);
        for fault in faults(7200) {
            let [from, to] =
                [fault.from_s, fault.to_s].map(|s| start + std::time::Duration::from_secs(s.into()));
            let in_time = |e: &&EpisodeUpdate| {
                e.phase == Phase::Opened && e.channel.as_str() == fault.channel && (from..=to).contains(&e.at)
            };
            let ids: Vec<u64> = episodes.iter().filter(in_time).map(|e| e.id).collect();
            let covered =
                episodes.iter().any(|e| ids.contains(&e.id) && e.reason.contains(fault.kind.said()));
            assert!(covered, "{fault:?}: {episodes:#?}");
        }
        assert!(
            self::sent(AssembleOptions { clip_readings: 0, ..options }).1 < sent,
            "the context of an alarm is part of what is sent"
        );
    }
}
