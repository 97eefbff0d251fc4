//! A program that is run at a fixed pace; the lines that it writes are readings, in the forms of [`super::LineParser`].
//!
//! It has a time-out and an output of at most [`limits::EXEC_OUTPUT_BYTES_MAX`]; whoever exceeds either is ended together
//! with what he has started. A run that fails leaves a reason in every channel that earlier runs gave and this one did not:
//! [`NoData::TimedOut`], or [`NoData::ReadFailed`].

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use smol::Timer;
use smol::future::or;
use smol::io::AsyncReadExt as _;
use smol::process::Command;

use super::SourceError;
use super::lines::{LineParser, Malformed, Piece, Precision, Splitter};
use super::malformed::MalformedLog;
use super::outlet::Outlet;
use crate::clock;
use crate::limits;
use crate::observe::{emit, field as events};
use crate::reading::{ChannelId, NoData, Reading};

/// Which program, and how often.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecOptions {
    /// The program with its arguments; no shell reads them.
    pub command: Vec<String>,
    /// Between the beginnings of two runs.
    pub interval: Duration,
    /// Longest run.
    pub timeout: Duration,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("it took too long and was ended; make it faster, or raise `timeout`")]
    TimedOut,
    #[error("it wrote more than {} bytes and was ended", limits::EXEC_OUTPUT_BYTES_MAX)]
    TooMuch,
    #[error("it ended with {0}")]
    Status(std::process::ExitStatus),
    #[error("{0}; is it installed, and may this user run it?")]
    Io(#[from] std::io::Error),
}

/// Runs it until the pipeline is gone.
pub(super) async fn run(options: ExecOptions, outlet: Outlet) -> Result<(), SourceError> {
    let mut parser = LineParser::new(Precision::Nanos);
    let mut malformed = MalformedLog::new(outlet.source());
    let mut known = BTreeSet::new();
    let mut told: Option<String> = None;
    let peer = options.command.join(" ");
    let mut due = clock::mono();
    loop {
        let mut readings = Vec::new();
        let arrival = clock::wall();
        let take = |piece: Piece<'_>| {
            let (result, line) = match piece {
                Piece::Line(line) => (parser.parse(line, arrival, &mut readings), line),
                Piece::TooLong(start) => (Err(Malformed::TooLong), start),
            };
            if let Err(reason) = result {
                malformed.note(&reason, line);
            }
        };
        let ended = once(&options, take).await;
        if let Err(fault) = &ended {
            let no_data =
                if matches!(fault, Fault::TimedOut) { NoData::TimedOut } else { NoData::ReadFailed };
            emit(&events::FieldFault { kind: events::FaultKind::of(no_data) });
            missing(&known, no_data, &mut readings);
        }
        for reading in &readings {
            // A program that names its channels anew each time is not followed beyond what the agent follows.
            if known.len() < limits::CHANNELS_MAX {
                known.insert(reading.channel.clone());
            }
        }
        tell(ended.err().as_ref(), &mut told, &outlet, &peer);
        let counters = outlet.counters();
        counters.set_malformed(malformed.total());
        counters.set_ignored(parser.ignored());
        if outlet.send(readings, parser.take_infos(), false).await.is_err() {
            return Ok(());
        }
        let now = clock::mono();
        due = (due + options.interval).max(now);
        Timer::after(due.since(now)).await;
    }
}

/// What earlier runs gave and this one did not.
fn missing(known: &BTreeSet<ChannelId>, why: NoData, readings: &mut Vec<Reading>) {
    let seen: BTreeSet<ChannelId> = readings.iter().map(|r| r.channel.clone()).collect();
    let at = clock::wall();
    readings.extend(known.difference(&seen).map(|channel| Reading::new(channel.clone(), at, Err(why))));
}

/// A fault that lasts is told once.
fn tell(fault: Option<&Fault>, told: &mut Option<String>, outlet: &Outlet, peer: &str) {
    let text = fault.map(ToString::to_string);
    match fault {
        Some(error) if *told != text => emit(&events::PeerFailed { source: outlet.source(), peer, error }),
        None if told.is_some() => emit(&events::PeerRecovered { source: outlet.source(), peer }),
        _ => {}
    }
    *told = text;
}

async fn once(options: &ExecOptions, each: impl FnMut(Piece<'_>)) -> Result<(), Fault> {
    let late = async {
        Timer::after(options.timeout).await;
        Err(Fault::TimedOut)
    };
    or(to_end(options, each), late).await
}

async fn to_end(options: &ExecOptions, mut each: impl FnMut(Piece<'_>)) -> Result<(), Fault> {
    let (program, arguments) = options
        .command
        .split_first()
        .ok_or(std::io::ErrorKind::InvalidInput)
        .map_err(std::io::Error::from)?;
    let mut command = std::process::Command::new(program);
    // A group of its own, so that what it starts can be ended with it.
    command.args(arguments).process_group(0);
    let mut command = Command::from(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let group = Group(Pid::from_raw(child.id() as i32));
    let (mut chunk, mut splitter, mut total) = (vec![0; limits::LINE_BYTES_MAX], Splitter::default(), 0);
    if let Some(stdout) = &mut child.stdout {
        loop {
            let len = stdout.read(&mut chunk).await?;
            if len == 0 {
                break;
            }
            total += len;
            if total > limits::EXEC_OUTPUT_BYTES_MAX {
                return Err(Fault::TooMuch);
            }
            splitter.feed(&chunk[..len], &mut each);
        }
    }
    splitter.finish(&mut each);
    let status = child.status().await?;
    // It was waited for: its number may be another's by now.
    group.forget();
    if status.success() { Ok(()) } else { Err(Fault::Status(status)) }
}

/// A process and what it has started; ended when this goes.
struct Group(Option<Pid>);

impl Group {
    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // It may have ended by itself.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Value;
    use crate::sensor::{Batch, FieldOptions, SourceHandle, SourceOptions, Stopper, spawn, stopper};
    use smol::channel::Receiver;

    fn start(script: &str, timeout_ms: u64) -> (SourceHandle, Receiver<Batch>, Stopper) {
        let (sender, batches) = smol::channel::bounded(4);
        let (stopper, stop) = stopper();
        let options = ExecOptions {
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            interval: Duration::from_millis(20),
            timeout: Duration::from_millis(timeout_ms),
        };
        let options = SourceOptions::Field(FieldOptions::Exec(options));
        (spawn("x", options, sender, stop).unwrap(), batches, stopper)
    }

    fn values(batch: &Batch) -> Vec<(&str, Value)> {
        batch.readings.iter().map(|r| (r.channel.as_str(), r.value)).collect()
    }

    fn next(batches: &Receiver<Batch>) -> Batch {
        let late = async {
            Timer::after(Duration::from_secs(30)).await;
            panic!("nothing for 30 s")
        };
        smol::block_on(or(batches.recv(), late)).unwrap()
    }

    #[test]
    fn lines_of_a_program_are_readings_again_and_again() {
        let (handle, batches, stopper) = start("echo 'm a=1'; echo nonsense; echo '{\"b\":2}'", 20_000);
        for _ in 0..2 {
            assert_eq!(values(&next(&batches)), [("m.a", Ok(1.0)), ("b", Ok(2.0))]);
        }
        assert!(handle.stats().malformed >= 1);
        drop(stopper);
        handle.join();
    }

    #[test]
    fn a_run_that_fails_or_hangs_leaves_its_reason_and_no_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        let script = format!(
            "n=$(cat {0} 2>/dev/null); echo x$n > {0}; case $n in '') echo 'm a=1,b=2';; x) echo 'm a=3'; exit 7;; *) sleep 1000 & echo $! > {0}.$n.pid; wait;; esac",
            path.display()
        );
        let (handle, batches, stopper) = start(&script, 3_000);
        assert_eq!(values(&next(&batches)), [("m.a", Ok(1.0)), ("m.b", Ok(2.0))]);
        assert_eq!(values(&next(&batches)), [("m.a", Ok(3.0)), ("m.b", Err(NoData::ReadFailed))]);
        let late = next(&batches);
        assert_eq!(values(&late), [("m.a", Err(NoData::TimedOut)), ("m.b", Err(NoData::TimedOut))]);
        // The next run hangs already, and its process lives: each writes down its own.
        let pid = std::fs::read_to_string(dir.path().join("n.xx.pid")).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        let is_gone = || std::fs::read_to_string(&stat).map_or(true, |s| s.contains(") Z "));
        for _ in 0..200 {
            if is_gone() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(is_gone(), "what it has started lives on");
        drop(stopper);
        handle.join();
    }

    #[test]
    fn an_endless_output_is_ended_and_a_program_that_is_not_there_is_told() {
        let (handle, batches, stopper) = start("yes", 20_000);
        let batch = next(&batches);
        assert!(batch.readings.is_empty());
        assert!(handle.stats().malformed > 1000);
        drop(stopper);
        handle.join();
        let nothing = ExecOptions {
            command: vec!["/no/such/program".into()],
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
        };
        assert!(matches!(smol::block_on(once(&nothing, |_| {})), Err(Fault::Io(_))));
    }
}
