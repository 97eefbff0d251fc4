//! A spool whose process is killed while it writes, and what its disk gives back.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

use super::{Finding, Ground};
use crate::clock;
use crate::limits;
use crate::spool::{self, DiskSpool, Options};
use crate::wire::{Lane, Notice, Record};

/// Promises that are waited for before the kill.
const PROMISES: usize = 20;
const LANE: Lane = Lane::Alarm;

/// Fills the spool in `dir` and says after every commit what it has promised, until it is killed or nobody listens.
pub(super) fn write(dir: &Path) -> anyhow::Result<()> {
    let (mut spool, _) = spool::open_dir(dir, Options::default(), clock::stamp())?;
    let mut out = io::stdout();
    for _ in 0..limits::SELFTEST_COMMITS_MAX {
        let text = "One of many notices of a selftest.".into();
        spool.admit(vec![Record::Notice(Notice { code: "selftest".into(), text, at: clock::wall() })]);
        spool.commit(clock::stamp())?;
        writeln!(out, "{}", spool.durable_through(LANE))?;
    }
    Ok(())
}

/// Kills a process that writes, and opens what it leaves: everything promised must be there and read.
pub(super) fn killed(ground: &Ground) -> Finding {
    let dir = ground.dir.join("spool");
    let promised = promises_of_the_killed(ground, &dir)?;
    let (spool, report) = spool::open_dir(&dir, Options::default(), clock::stamp())?;
    if let Some(damage) = report.damage {
        bail!("the spool does not open after the kill: {}", damage.cause);
    }
    let kept = spool.durable_through(LANE);
    ensure!(
        kept >= promised,
        "{promised} records were promised and {kept} are there: this disk does not keep what it confirms"
    );
    ensure!(readable(&spool)? == kept, "of {kept} records not all read");
    Ok(format!("{promised} records promised when killed, all there"))
}

fn promises_of_the_killed(ground: &Ground, dir: &Path) -> anyhow::Result<u64> {
    let program = std::env::current_exe().context("cannot tell where this program lies")?;
    let mut words = ground.runner.iter().map(|w| w.as_ref()).chain([program.as_os_str()]);
    let first = words.next().unwrap_or(program.as_os_str());
    let mut child = Command::new(first)
        .args(words)
        .args(["selftest", "--writer", "--dir"])
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start this program once more; under an emulator name that with --runner")?;
    let said = child.stdout.take().context("the writer has no output")?;
    let mut lines = BufReader::new(said).lines();
    let mut promised = 0;
    for line in lines.by_ref().take(PROMISES) {
        promised = line?.parse()?;
    }
    child.kill()?;
    // What it said until the signal came was promised too; the last line may be half of one.
    for line in lines {
        promised = line?.parse().unwrap_or(promised).max(promised);
    }
    let ended = child.wait()?;
    ensure!(ended.signal() == Some(SIGKILL), "the writer ended by itself: {ended}");
    Ok(promised)
}

const SIGKILL: i32 = libc::SIGKILL;

/// How many records read, from the first on and without a gap.
fn readable(spool: &DiskSpool) -> anyhow::Result<u64> {
    let mut last = 0;
    while let Some(block) = spool.peek(LANE, last + 1)? {
        if block.gap || block.id.first != last + 1 {
            break;
        }
        last = block.id.last;
    }
    Ok(last)
}
