//! `outpost detect`: a recording judged row by row, each with score, flag and reason.

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use anyhow::anyhow;

use super::args::DetectArgs;
use super::exit::Failure;
use super::replay::Progress;
use crate::detect::{Judge, Silence, Together, Verdict};
use crate::limits;
use crate::reading::{ChannelId, ChannelInfo, Reading, Unit};
use crate::sensor::{CsvOptions, CsvReader};
use crate::time::Wall;

/// Goes through the recording.
pub(super) fn main(args: &DetectArgs, json: bool) -> Result<ExitCode, Failure> {
    let mut reader =
        CsvReader::open(&args.file, &CsvOptions::default()).map_err(|e| Failure::Failed(e.into()))?;
    let infos = reader.infos().to_vec();
    let mut bench = Bench::new(&infos, args.column.as_deref())?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    match judge_all(&mut reader, &mut bench, json, &mut out) {
        // A reader that has had enough (`| head`) is no failure.
        Err(e)
            if e.downcast_ref()
                .is_some_and(|e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe) => {}
        Err(e) => return Err(Failure::Failed(e)),
        Ok(()) => {}
    }
    if reader.malformed() > BAD_ROWS_TOLD {
        eprintln!("{} rows and cells could not be used", reader.malformed());
    }
    Ok(ExitCode::SUCCESS)
}

fn judge_all(
    reader: &mut CsvReader,
    bench: &mut Bench,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut progress = Progress::new();
    let mut readings = Vec::new();
    let mut rows = 0u64;
    if !json {
        writeln!(out, "timestamp,value,score,flag,reason")?;
    }
    while let Some(at) = reader.next_row(&mut readings)? {
        if let Some(bad) = reader.take_bad_row()
            && reader.malformed() <= BAD_ROWS_TOLD
        {
            progress.clear();
            eprintln!("line {}: {}; left out", bad.line, bad.reason);
        }
        let judged = bench.row(at, &readings);
        readings.clear();
        if json {
            judged.object(out)?
        } else {
            judged.line(out)?
        }
        rows += 1;
        if rows.is_multiple_of(PROGRESS_ROWS) {
            let (done, total) = reader.progress();
            progress.show(done, total);
        }
    }
    progress.clear();
    out.flush()?;
    Ok(())
}

/// What judges a row: one channel by itself, or several together.
enum Bench {
    One { info: Box<ChannelInfo>, judge: Box<Judge>, silence: Silence, value_at: Option<Wall> },
    Group { infos: Vec<ChannelInfo>, group: Together },
}

/// A judged row.
struct Judged {
    at: Wall,
    /// The channel that the verdict is about.
    channel: ChannelId,
    unit: Unit,
    value: Option<f64>,
    verdict: Option<Verdict>,
}

impl Bench {
    fn new(infos: &[ChannelInfo], column: Option<&str>) -> Result<Self, Failure> {
        let names = || infos.iter().map(|info| info.id.as_str()).collect::<Vec<_>>().join(", ");
        let chosen = match column {
            Some(name) => Some(infos.iter().find(|info| info.id.as_str() == name).ok_or_else(|| {
                Failure::Failed(anyhow!("there is no column {name:?}; there are: {}", names()))
            })?),
            None => infos.first().filter(|_| infos.len() == 1),
        };
        if let Some(info) = chosen {
            let judge = Box::new(Judge::new(info.quantity, None, true));
            return Ok(Self::One {
                info: Box::new(info.clone()),
                judge,
                silence: Silence::default(),
                value_at: None,
            });
        }
        if infos.len() > limits::GROUP_CHANNELS_MAX {
            let most = limits::GROUP_CHANNELS_MAX;
            let said = format!(
                "{} columns, of which at most {most} are judged together; name one with --column: {}",
                infos.len(),
                names()
            );
            return Err(Failure::Failed(anyhow!(said)));
        }
        Ok(Self::Group { infos: infos.to_vec(), group: Together::new(infos.len()) })
    }

    fn row(&mut self, at: Wall, readings: &[Reading]) -> Judged {
        let value = |id: &ChannelId| readings.iter().find(|r| r.channel == *id).and_then(|r| r.value.ok());
        match self {
            Bench::One { info, judge, silence, value_at } => {
                let value = value(&info.id);
                let verdict = one(judge, silence, value_at, at, value);
                Judged { at, channel: info.id.clone(), unit: info.unit.clone(), value, verdict }
            }
            Bench::Group { infos, group } => {
                let row: Vec<Option<f64>> = infos.iter().map(|info| value(&info.id)).collect();
                let finding = group.step(at, &row);
                let info = &infos[finding.as_ref().map_or(0, |f| f.channel)];
                let (channel, unit) = (info.id.clone(), info.unit.clone());
                Judged { at, value: value(&channel), channel, unit, verdict: finding.map(|f| f.verdict) }
            }
        }
    }
}

/// The strongest that is said of one reading; a gap before it or a missing value is told as silence.
fn one(
    judge: &mut Judge,
    silence: &mut Silence,
    value_at: &mut Option<Wall>,
    at: Wall,
    value: Option<f64>,
) -> Option<Verdict> {
    let mut best: Option<Verdict> = None;
    let mut take = |verdict: Verdict| {
        let rank = |v: &Verdict| (v.fresh, v.score);
        if best.as_ref().is_none_or(|b| rank(&verdict) > rank(b)) {
            best = Some(verdict);
        }
    };
    let gap_us = value_at.map_or(0, |before| at.micros_since(before));
    silence.tick(gap_us).into_iter().for_each(&mut take);
    if let Some(x) = value {
        if value_at.is_some() {
            silence.heard(gap_us);
        }
        *value_at = Some(at);
        judge.step(at, Ok(x), &mut take);
    }
    best
}

impl Judged {
    fn reason(&self) -> String {
        let words = self.verdict.as_ref().map(|v| v.reason.words(&self.unit)).unwrap_or_default();
        match &self.verdict {
            Some(Verdict { reason: crate::detect::Reason::OddAmongOthers { .. }, .. }) => {
                format!("{}: {words}", self.channel)
            }
            _ => words,
        }
    }

    fn line(&self, out: &mut impl Write) -> std::io::Result<()> {
        let value = self.value.map_or_else(String::new, |x| x.to_string());
        let (score, flag) = self.verdict.as_ref().map_or((0.0, 0), |v| (v.score, u8::from(v.fresh)));
        let reason = self.reason();
        let quoted =
            if reason.contains([',', '"']) { format!("\"{}\"", reason.replace('"', "\"\"")) } else { reason };
        writeln!(out, "{},{value},{score:.3},{flag},{quoted}", self.at.rfc3339())
    }

    /// For machines: findings alone.
    fn object(&self, out: &mut impl Write) -> std::io::Result<()> {
        let Some(verdict) = self.verdict.as_ref().filter(|v| v.fresh) else { return Ok(()) };
        let object = serde_json::json!({
            "timestamp": self.at.rfc3339(),
            "channel": self.channel.as_str(),
            "value": self.value,
            "score": verdict.score,
            "flag": 1,
            "pattern": verdict.pattern.to_string(),
            "severity": verdict.severity.to_string(),
            "reason": self.reason(),
        });
        writeln!(out, "{object}")
    }
}

/// Bad rows that are told one by one.
const BAD_ROWS_TOLD: u64 = 10;
const PROGRESS_ROWS: u64 = 512;
