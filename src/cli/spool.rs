//! `outpost spool`: a look into a stopped agent's spool, and mending and filling it.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::args::{SpoolAction, SpoolArgs};
use super::exit::{FAILURE, Failure};
use super::{print, sources};
use crate::clock;
use crate::config::bytes_text;
use crate::spool::{self, FsckReport, InspectError, LaneLedger, Listed, SpoolStat};
use crate::wire::{GapReason, Lane, epoch_text};

/// Runs the command.
pub fn main(args: &SpoolArgs, json: bool) -> Result<ExitCode, Failure> {
    let dir = dir(args)?;
    match args.action {
        SpoolAction::Stat => {
            let stat = spool::stat(&dir).map_err(failed)?;
            print(&if json { format!("{}\n", stat_json(&dir, &stat)) } else { stat_table(&dir, &stat) })
        }
        SpoolAction::Ls => ls(&dir, json),
        SpoolAction::Export => export(&dir, args.blocks),
        SpoolAction::Fsck => {
            let report = if args.repair { spool::mend(&dir, clock::stamp()) } else { spool::fsck(&dir) };
            let report = report.map_err(failed)?;
            print(&if json {
                format!("{}\n", fsck_json(&dir, &report))
            } else {
                fsck_text(&dir, &report, args.repair)
            })?;
            Ok(if report.whole { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) })
        }
        SpoolAction::Replay => {
            let records = spool::replay(&dir, &args.files, clock::stamp());
            let records = records.map_err(|e| Failure::Failed(e.into()))?;
            print(&if json {
                format!("{}\n", json!({ "dir": dir.display().to_string(), "records": records }))
            } else {
                format!(
                    "{records} records admitted to {}; the agent sends them when it runs\n",
                    dir.display()
                )
            })
        }
    }
}

/// The folder named, else `spool` in the configured data folder.
fn dir(args: &SpoolArgs) -> Result<PathBuf, Failure> {
    match &args.dir {
        Some(dir) => Ok(dir.clone()),
        None => Ok(sources::agent_config(args.config.as_deref())?.config.data_dir.join("spool")),
    }
}

fn stat_table(dir: &Path, stat: &SpoolStat) -> String {
    let mut out = format!(
        "{}, epoch {}\n{} of blocks, {} MiB on disk in {} databases, {} dead letters\n\n{:8}{:>10}{:>12} ={:>14} +{:>10} +{:>10}\n",
        dir.display(),
        epoch_text(stat.epoch),
        bytes_text(stat.bytes),
        stat.bytes_on_disk >> 20,
        stat.databases,
        stat.dead_letters.len(),
        "lane",
        "KiB",
        "admitted",
        "acknowledged",
        "pending",
        "evicted"
    );
    for (lane, books) in Lane::ALL.iter().zip(&stat.ledger) {
        let _ = write!(
            out,
            "{:8}{:>10}{:>12}  {:>14}  {:>10}  {:>10}",
            lane.name(),
            books.bytes >> 10,
            books.admitted,
            books.acknowledged,
            books.pending,
            books.evicted_total()
        );
        let reasons: Vec<String> = evicted(books).map(|(reason, n)| format!("{reason}: {n}")).collect();
        let wrong = if books.balances() { "" } else { "  THE BOOKS DO NOT CLOSE: please report this" };
        let _ = writeln!(out, "{}{}{wrong}", if reasons.is_empty() { "" } else { "  " }, reasons.join(", "));
    }
    out
}

fn stat_json(dir: &Path, stat: &SpoolStat) -> Value {
    let lanes = Lane::ALL.iter().zip(&stat.ledger).map(|(lane, books)| {
        let evicted: serde_json::Map<_, _> =
            evicted(books).map(|(why, n)| (why.name().into(), n.into())).collect();
        let books = json!({
            "admitted": books.admitted,
            "acknowledged": books.acknowledged,
            "pending": books.pending,
            "evicted": evicted,
            "bytes": books.bytes,
            "balances": books.balances(),
        });
        (lane.name().to_owned(), books)
    });
    json!({
        "dir": dir.display().to_string(),
        "epoch": epoch_text(stat.epoch),
        "bytes": stat.bytes,
        "bytes_on_disk": stat.bytes_on_disk,
        "databases": stat.databases,
        "dead_letters": stat.dead_letters.iter().map(|d| d.path.display().to_string()).collect::<Vec<_>>(),
        "lanes": lanes.collect::<serde_json::Map<_, _>>(),
    })
}

fn evicted(books: &LaneLedger) -> impl Iterator<Item = (GapReason, u64)> {
    GapReason::ALL.iter().copied().zip(books.evicted).filter(|(_, n)| *n > 0)
}

/// Written block by block: a spool may hold more of them than memory should.
fn ls(dir: &Path, json: bool) -> Result<ExitCode, Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut outcome = Ok(());
    spool::list(dir, |block| {
        if outcome.is_ok() {
            outcome = if json {
                writeln!(out, "{}", block_json(&block))
            } else {
                writeln!(out, "{}", block_line(&block))
            };
        }
    })
    .map_err(failed)?;
    written(outcome.and_then(|()| out.flush()))
}

fn block_line(block: &Listed) -> String {
    let (entry, id) = (&block.entry, block.entry.id);
    let state = match (entry.gap, block.sound) {
        (Some(reason), _) => format!("gap: {reason}"),
        (None, true) => "sound".into(),
        (None, false) => "DAMAGED".into(),
    };
    let place = format!("{}:{}-{}", id.lane, id.first, id.last);
    format!("{place:32} {:>8} B  sealed {}  {state}", block.bytes, entry.sealed.rfc3339())
}

fn block_json(block: &Listed) -> Value {
    let (entry, id) = (&block.entry, block.entry.id);
    json!({
        "lane": id.lane.name(),
        "first": id.first,
        "last": id.last,
        "bytes": block.bytes,
        "sealed": entry.sealed.rfc3339(),
        "gap": entry.gap.map(GapReason::name),
        "sound": block.sound,
    })
}

fn fsck_text(dir: &Path, report: &FsckReport, repaired: bool) -> String {
    let epoch = report.epoch.map_or("no books".to_owned(), |epoch| format!("epoch {}", epoch_text(epoch)));
    let mut out = format!("{}, {epoch}, {} databases\n", dir.display(), report.databases);
    for (lane, found) in Lane::ALL.iter().zip(&report.lanes) {
        let _ = writeln!(
            out,
            "{:8}{:>10} records in {} sound blocks, {} gaps",
            lane.name(),
            found.records,
            found.blocks,
            found.gaps
        );
    }
    if report.dead_letters > 0 {
        let _ = writeln!(out, "{} dead letters: blocks that the far side refused", report.dead_letters);
    }
    for problem in &report.problems {
        let _ = writeln!(out, "- {problem}");
    }
    out.push_str(match (report.whole, report.problems.is_empty()) {
        (true, true) => "Nothing is wrong.\n",
        (true, false) => "Mended.\n",
        (false, _) if repaired => {
            "Not all of it could be mended: keep a copy of the folder, and please report this.\n"
        }
        (false, _) => "Mend it with --repair, or start the agent, which does the same.\n",
    });
    out
}

fn fsck_json(dir: &Path, report: &FsckReport) -> Value {
    let lanes = Lane::ALL.iter().zip(&report.lanes).map(|(lane, found)| {
        let found = json!({ "blocks": found.blocks, "records": found.records, "gaps": found.gaps });
        (lane.name().to_owned(), found)
    });
    json!({
        "dir": dir.display().to_string(),
        "epoch": report.epoch.map(epoch_text),
        "databases": report.databases,
        "lanes": lanes.collect::<serde_json::Map<_, _>>(),
        "dead_letters": report.dead_letters,
        "problems": report.problems,
        "whole": report.whole,
    })
}

/// JSON lines or blocks either way: an export is for machines.
fn export(dir: &Path, blocks: bool) -> Result<ExitCode, Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let exported = if blocks { spool::export_blocks(dir, &mut out) } else { spool::export(dir, &mut out) };
    match exported {
        Ok(_) => written(out.flush()),
        Err(InspectError::Write(e)) => written(Err(e)),
        Err(e) => Err(failed(e)),
    }
}

/// A reader that has had enough (`| head`) is no failure.
fn written(outcome: io::Result<()>) -> Result<ExitCode, Failure> {
    match outcome {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Failed(e.into())),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn failed(e: InspectError) -> Failure {
    Failure::Failed(e.into())
}
