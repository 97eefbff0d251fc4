//! `outpost selftest`: the program proves its parts on the machine it is on.
//!
//! It is the shipped program that checks itself, so that the same is seen under an emulator, in a test and on a gateway.

mod line;
mod machine;
mod storage;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde_json::json;

use super::exit::{FAILURE, Failure};
use super::machine_args::SelftestArgs;
use super::{Style, print};
use crate::clock;

/// What a check may use.
struct Ground {
    /// An empty folder, gone at the end.
    dir: PathBuf,
    /// What starts this program, in words; empty: the system.
    runner: Vec<String>,
}

/// What a check found, in a few words.
type Finding = anyhow::Result<String>;
type Check = fn(&Ground) -> Finding;

/// Every check with its name, in the order in which a fault of one would explain those of the next.
const CHECKS: &[(&str, Check)] = &[
    ("unwinding", machine::unwinding),
    ("dates", machine::dates),
    ("kernels", machine::kernels),
    ("student", machine::student),
    ("model", machine::model),
    ("sensor", machine::sensor),
    ("spool", storage::killed),
    ("tls", line::tls),
    ("mqtt", line::mqtt),
];

struct Outcome {
    name: &'static str,
    finding: Finding,
    took: Duration,
}

/// Checks everything, or is the process that one of the checks kills.
pub(super) fn main(args: &SelftestArgs, json: bool, style: Style) -> Result<ExitCode, Failure> {
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    if args.writer {
        return storage::write(&parent).map(|()| ExitCode::SUCCESS).map_err(Failure::Failed);
    }
    let runner = args.runner.iter().flat_map(|r| r.split_whitespace()).map(str::to_owned).collect();
    let ground = Ground { dir: own_folder(&parent).map_err(Failure::Failed)?, runner };
    let mut outcomes = Vec::new();
    for (name, check) in CHECKS {
        let outcome = run(name, *check, &ground);
        if !json {
            print(&line_of(&outcome, style))?;
        }
        outcomes.push(outcome);
    }
    let removed = fs::remove_dir_all(&ground.dir)
        .with_context(|| format!("cannot remove {}; remove it by hand", ground.dir.display()));
    let failed = outcomes.iter().filter(|o| o.finding.is_err()).count();
    print(&if json { report(&outcomes) } else { summary(failed) })?;
    removed.map_err(Failure::Failed)?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) })
}

/// A new folder for this process alone.
fn own_folder(parent: &Path) -> anyhow::Result<PathBuf> {
    let dir = parent.join(format!("outpost-selftest-{}", std::process::id()));
    let made = match fs::DirBuilder::new().mode(0o700).create(&dir) {
        // Of a process of the same number that was killed.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_dir_all(&dir).and_then(|()| fs::DirBuilder::new().mode(0o700).create(&dir))
        }
        made => made,
    };
    made.with_context(|| format!("cannot make {}; name a folder to write in with --dir", dir.display()))?;
    Ok(dir)
}

/// One check on a thread of its own, so that one that panics has failed and the others go on.
fn run(name: &'static str, check: Check, ground: &Ground) -> Outcome {
    let begun = clock::mono();
    let finding = thread::scope(|scope| scope.spawn(|| check(ground)).join())
        .unwrap_or_else(|_| Err(anyhow!("it panicked, see above; please report it")));
    Outcome { name, finding, took: clock::mono().since(begun) }
}

fn line_of(outcome: &Outcome, style: Style) -> String {
    let (mark, said) = match &outcome.finding {
        Ok(said) => (style.green("ok    "), said.clone()),
        Err(why) => (style.red("FAILED"), format!("{why:#}")),
    };
    format!("{mark} {:9} {:7.3} s  {said}\n", outcome.name, outcome.took.as_secs_f64())
}

fn summary(failed: usize) -> String {
    match failed {
        0 => "This program works on this machine.\n".into(),
        n => format!("{n} of {} checks failed: do not rely on this program here.\n", CHECKS.len()),
    }
}

fn report(outcomes: &[Outcome]) -> String {
    let checks = outcomes.iter().map(|o| {
        let said = o.finding.as_ref().map_or_else(|why| format!("{why:#}"), String::clone);
        json!({ "name": o.name, "ok": o.finding.is_ok(), "seconds": o.took.as_secs_f64(), "says": said })
    });
    let mut text = String::new();
    let report = json!({
        "ok": outcomes.iter().all(|o| o.finding.is_ok()),
        "target": env!("OUTPOST_TARGET"),
        "checks": checks.collect::<Vec<_>>(),
    });
    let _ = writeln!(text, "{report}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_fails_or_panics_is_told_and_fails_the_whole() {
        let ground = Ground { dir: PathBuf::new(), runner: Vec::new() };
        let refused = run("a", |_| Err(anyhow!("the reason")), &ground);
        assert!(line_of(&refused, Style::PLAIN).starts_with("FAILED a "));
        let panicked = run("b", |_| std::panic::resume_unwind(Box::new(())), &ground);
        let report: serde_json::Value =
            serde_json::from_str(&report(&[run("c", |_| Ok("well".into()), &ground), refused, panicked]))
                .unwrap();
        let ok: Vec<_> = report["checks"].as_array().unwrap().iter().map(|c| c["ok"] == true).collect();
        assert_eq!((report["ok"].as_bool(), ok), (Some(false), vec![true, false, false]));
        assert_eq!(report["checks"][1]["says"], "the reason");
    }
}
