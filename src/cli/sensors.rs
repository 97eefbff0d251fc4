//! `outpost sensors`: what is on this machine, and what it says.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use smol::channel::{Receiver, TryRecvError};

use super::exit::Failure;
use super::machine_args::SensorsArgs;
use super::{Style, print, signals};
use crate::limits;
use crate::observe;
use crate::reading::{NoData, Unit, Value};
use crate::sensor::{self, Batch, Survey};

/// Where `sys` and `dev` are.
const ROOT: &str = "/";

/// Lists, or shows live.
pub(super) fn main(args: &SensorsArgs, json: bool, style: Style) -> Result<ExitCode, Failure> {
    let survey = Survey::take(Path::new(ROOT));
    match (args.watch, json) {
        (false, true) => print(&format!("{}\n", serde_json::json!(survey))),
        (false, false) => print(&list(&survey, style)),
        (true, _) => watch(&survey, json, style),
    }
}

/// The survey for people.
fn list(survey: &Survey, style: Style) -> String {
    let mut out = String::new();
    let mut section = |title: &str, rows: Vec<String>, none: &str| {
        let rows = if rows.is_empty() { vec![none.to_owned()] } else { rows };
        let _ = writeln!(out, "{}\n  {}", style.bold(title), rows.join("\n  "));
    };
    let buses = survey.i2c.iter().flat_map(|bus| {
        let state = match (&bus.error, bus.chips.is_empty()) {
            (Some(error), _) => style.red(error),
            (None, true) => "nothing that says what it is".into(),
            (None, false) => String::new(),
        };
        let head = format!("{}  {}  {state}", bus.device.display(), bus.name);
        let chips = bus.chips.iter().map(|c| format!("  {:#04x}  {}", c.address, style.green(&c.part)));
        let maybe = bus.maybe.iter().map(|c| format!("  {:#04x}  may be {}", c.address, c.part));
        std::iter::once(head.trim_end().to_owned()).chain(chips).chain(maybe).collect::<Vec<_>>()
    });
    section("I2C", buses.collect(), "no bus; enable one in the device tree and load i2c-dev");
    section("SPI", survey.spi.iter().map(|d| d.display().to_string()).collect(), "no device");
    let gpio = survey.gpio.iter().map(|c| format!("{}  {}  {} lines", c.device.display(), c.label, c.lines));
    section("GPIO", gpio.collect(), "no chip");
    for kind in &survey.published {
        let rows = kind.channels.iter().map(|c| {
            let value = c.value.ok_or_else(|| c.missing.unwrap_or_default());
            format!("{:44}  {}", c.channel, figure(value, &Unit(c.unit.clone())))
        });
        section(kind.kind, rows.collect(), "");
    }
    if !survey.buffers.is_empty() {
        section("IIO buffers", survey.buffers.clone(), "");
    }
    section("Serial ports", survey.serial.iter().map(|d| d.display().to_string()).collect(), "none");
    section("CAN", survey.can.clone(), "no interface");
    let logs = survey.logs.iter().map(|log| log.display().to_string());
    section(
        "Logs",
        logs.chain(survey.journal.then(|| "the systemd journal".to_owned())).collect(),
        "none found",
    );
    out.push_str("\n`outpost sensors --watch` shows them live, `outpost init` writes a configuration that reads them.\n");
    out
}

fn figure(value: Result<f64, &str>, unit: &Unit) -> String {
    match value {
        Ok(x) => format!("{} {}", shortened(x), unit.symbol()).trim_end().to_owned(),
        Err(why) => format!("- ({why})"),
    }
}

/// Four digits say enough of a live value.
fn shortened(x: f64) -> String {
    let decimals = match x.abs() {
        x if x >= 1000.0 => 0,
        x if x >= 100.0 => 1,
        x if x >= 10.0 => 2,
        _ => 3,
    };
    format!("{x:.decimals$}")
}

/// Reads everything found and shows it once a second until a signal; as JSON lines, one per reading.
fn watch(survey: &Survey, json: bool, style: Style) -> Result<ExitCode, Failure> {
    observe::init(observe::Format::Text, log::LevelFilter::Off);
    let stop = signals::stop().map_err(|e| Failure::Failed(e.into()))?;
    let (out, batches) = smol::channel::bounded(limits::BATCHES_MAX);
    let (stopper, told) = sensor::stopper();
    for (name, options) in survey.sources(Path::new(ROOT)) {
        sensor::spawn(&name, options, out.clone(), told.clone()).map_err(|e| Failure::Failed(e.into()))?;
    }
    let mut screen = Screen { live: !json && std::io::stdout().is_terminal(), ..Screen::default() };
    loop {
        take(&batches, json, &mut screen)?;
        if !json {
            print(&screen.draw(style))?;
        }
        if stopped(&stop) {
            drop(stopper);
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Whether a signal came within a second.
fn stopped(stop: &Receiver<()>) -> bool {
    let second = async {
        smol::Timer::after(Duration::from_secs(1)).await;
        false
    };
    let asked = async {
        let _ = stop.recv().await;
        true
    };
    smol::block_on(smol::future::or(asked, second))
}

/// Everything that has come by now.
fn take(batches: &Receiver<Batch>, json: bool, screen: &mut Screen) -> Result<(), Failure> {
    loop {
        match batches.try_recv() {
            Ok(batch) if json => print(&lines(&batch)).map(drop)?,
            Ok(batch) => screen.take(&batch),
            Err(TryRecvError::Empty | TryRecvError::Closed) => return Ok(()),
        }
    }
}

fn lines(batch: &Batch) -> String {
    let line = |reading: &crate::reading::Reading| {
        let (value, missing) = (reading.value.ok(), reading.value.err().map(NoData::name));
        let at = reading.at.rfc3339();
        let channel = reading.channel.as_str();
        format!(
            "{}\n",
            serde_json::json!({ "channel": channel, "at": at, "value": value, "missing": missing })
        )
    };
    batch.readings.iter().map(line).collect()
}

/// The latest values of every channel.
#[derive(Default)]
struct Screen {
    /// A terminal, which is drawn over.
    live: bool,
    channels: BTreeMap<String, Course>,
    lines: usize,
}

#[derive(Default)]
struct Course {
    unit: Unit,
    /// The newest last.
    values: VecDeque<Value>,
}

impl Screen {
    fn take(&mut self, batch: &Batch) {
        for info in &batch.infos {
            self.channels.entry(info.id.to_string()).or_default().unit = info.unit.clone();
        }
        for reading in &batch.readings {
            let course = self.channels.entry(reading.channel.to_string()).or_default();
            if course.values.len() == COURSE {
                course.values.pop_front();
            }
            course.values.push_back(reading.value);
        }
    }

    /// The table, over the one before.
    fn draw(&mut self, style: Style) -> String {
        let mut out = String::new();
        if self.live && self.lines > 0 {
            let _ = write!(out, "\x1b[{}A\x1b[J", self.lines);
        }
        for (channel, course) in &self.channels {
            let latest = course.values.back().copied().unwrap_or(Err(NoData::Null));
            let figure = figure(latest.map_err(NoData::name), &course.unit);
            let _ = writeln!(out, "{channel:36}  {figure:>20}  {}", style.green(&sparkline(&course.values)));
        }
        self.lines = self.channels.len();
        if !self.live {
            // One table after the other.
            out.push('\n');
        }
        out
    }
}

/// One character per value between the lowest and the highest, a blank where there is none.
fn sparkline(values: &VecDeque<Value>) -> String {
    let known = || values.iter().flatten().copied();
    let (low, high) = (known().fold(f64::INFINITY, f64::min), known().fold(f64::NEG_INFINITY, f64::max));
    let bar = |x: f64| {
        let share = if high > low { (x - low) / (high - low) } else { 0.5 };
        BARS[((share * BARS.len() as f64) as usize).min(BARS.len() - 1)]
    };
    values.iter().map(|value| value.map_or(' ', bar)).collect()
}

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Values of a course that are shown.
const COURSE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_spans_from_the_lowest_to_the_highest_and_leaves_gaps() {
        let line = |values: &[Value]| sparkline(&values.iter().copied().collect());
        assert_eq!(line(&[Ok(0.0), Ok(3.5), Err(NoData::Null), Ok(7.0)]), "▁▅ █");
        assert_eq!(line(&[Ok(2.0), Ok(2.0)]), "▅▅", "what stands still is in the middle");
        assert_eq!(line(&[Err(NoData::TimedOut)]), " ");
    }

    #[test]
    fn a_value_has_its_unit_and_a_missing_one_its_reason() {
        assert_eq!(figure(Ok(21.456), &Unit("Cel".into())), "21.46 °C");
        assert_eq!(figure(Ok(1234.5), &Unit(String::new())), "1234");
        assert_eq!(figure(Err("no_answer"), &Unit("V".into())), "- (no_answer)");
    }
}
