//! Readings per second of one core, from lines to durable blocks: `cargo bench --bench pipeline`.
//!
//! The rooms are those of the agent and so are their threads: a `lines` source reads a TCP connection, the assembler
//! cuts windows and runs every detector, the store commits to sled with a real fsync; lane `raw` is kept. All of them,
//! and the thread that plays the sender, share one core: the benchmark starts itself again under `taskset`. The
//! directory is `$OUTPOST_BENCH_DIR` or the system's temporary one; figures depend on its medium's sync.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use outpost::agent::assemble::{AssembleOptions, Assembler, Source};
use outpost::clock;
use outpost::observe::metrics;
use outpost::sensor::{self, Batch, Input, LinesOptions, Precision, SourceOptions};
use outpost::spool::{self, SpoolStatus, StoreHandle};
use outpost::wire::Lane;
use smol::channel::Receiver;

fn main() {
    on_one_core();
    println!(
        "{:<8}{:>14}{:>18}{:>11}{:>11}{:>11}{:>11}{:>9}",
        "lines", "readings/s", "per CPU second", "B line", "B block", "B file", "B written", "commits"
    );
    measure("json", json);
    measure("influx", influx);
}

/// Starts this program again where the system gives it one core only.
fn on_one_core() {
    if thread::available_parallelism().is_ok_and(|cores| cores.get() == 1) {
        return;
    }
    let this = std::env::current_exe().expect("a running program has a path");
    let error = Command::new("taskset").args(["-c", "0"]).arg(this).args(std::env::args_os().skip(1)).exec();
    println!("taskset: {error}; install util-linux. On all cores:");
}

/// The short form that a poller would write.
fn json(out: &mut String, channel: usize, centi: i64, at_ms: u64) {
    let (sign, whole, part) = decimal(centi);
    let _ = writeln!(
        out,
        r#"{{"channel":"line{}.bearing{channel}.temp","value":{sign}{whole}.{part:02},"ts":{at_ms}}}"#,
        channel % 7
    );
}

fn influx(out: &mut String, channel: usize, centi: i64, at_ms: u64) {
    let (sign, whole, part) = decimal(centi);
    let _ =
        writeln!(out, "bearing,line={},id={channel} temp={sign}{whole}.{part:02} {at_ms}000000", channel % 7);
}

fn decimal(centi: i64) -> (&'static str, u64, u64) {
    let size = centi.unsigned_abs();
    (if centi < 0 { "-" } else { "" }, size / 100, size % 100)
}

/// A hundred channels, each ten times a second: a level that wanders by hundredths, and noise on it.
fn text(line: fn(&mut String, usize, i64, u64)) -> String {
    let mut random = fastrand::Rng::with_seed(7);
    let mut levels = [4_000_i64; CHANNELS];
    let begun_ms = clock::wall().0.unsigned_abs() / 1000;
    let mut out = String::with_capacity(READINGS * 72);
    for i in 0..READINGS {
        let (turn, channel) = (i / CHANNELS, i % CHANNELS);
        levels[channel] += random.i64(-1..=1);
        let value = levels[channel] + random.i64(-3..=3);
        line(&mut out, channel, value, begun_ms + turn as u64 * 100);
    }
    out
}

fn measure(name: &str, line: fn(&mut String, usize, i64, u64)) {
    let text = text(line);
    let bytes = text.len();
    let base = std::env::var_os("OUTPOST_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::TempDir::new_in(base).expect("the directory takes a folder");
    let (store, _tails, _) = spool::start(dir.path(), spool::Options::default()).expect("an empty spool");
    let (stopper, stop) = sensor::stopper();
    let (batches, inbox) = smol::channel::bounded(outpost::limits::BATCHES_MAX);
    let source = sensor::spawn("lines", SourceOptions::Lines(options()), batches, stop).expect("a free port");
    let address = source.address().expect("it listens on TCP");

    let (commits, written) = (metrics::SPOOL_COMMITS.value(), written_bytes());
    let (begun, begun_cpu) = (Instant::now(), cpu());
    let sender = thread::spawn(move || send(address, &text));
    let status = smol::block_on(judge(&inbox, &store));
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), (cpu() - begun_cpu).as_secs_f64());
    sender.join().expect("the sender has sent everything");
    assert_eq!(status.ledger[Lane::Raw.index()].pending, READINGS as u64, "every reading is durable");
    let per_reading = |bytes: f64| bytes / READINGS as f64;
    println!(
        "{name:<8}{:>14.0}{:>18.0}{:>11.1}{:>11.2}{:>11.2}{:>11.2}{:>9}",
        READINGS as f64 / seconds,
        READINGS as f64 / cpu,
        per_reading(bytes as f64),
        per_reading(status.bytes as f64),
        per_reading(status.bytes_on_disk as f64),
        per_reading((written_bytes() - written) as f64),
        metrics::SPOOL_COMMITS.value() - commits,
    );
    drop(stopper);
    source.join();
    smol::block_on(store.close()).expect("the store closes");
}

fn options() -> LinesOptions {
    LinesOptions {
        input: Input::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))),
        precision: Precision::Nanos,
        allow_remote: false,
    }
}

fn send(address: SocketAddr, text: &str) {
    let mut stream = TcpStream::connect(address).expect("the source listens");
    stream.write_all(text.as_bytes()).expect("the source reads");
}

/// What the agent does with batches, until every reading is durable.
async fn judge(inbox: &Receiver<Batch>, store: &StoreHandle) -> SpoolStatus {
    let mut assembler = Assembler::new(AssembleOptions { raw: true, ..AssembleOptions::default() });
    let mut taken = 0;
    let mut next_tick = Instant::now();
    while taken < READINGS {
        let batch = inbox.recv().await.expect("the source runs");
        let mut out = Vec::new();
        for info in batch.infos {
            assembler.describe(Source(0), info);
        }
        for reading in &batch.readings {
            assembler.push(Source(0), reading, &mut out);
        }
        taken += batch.readings.len();
        if Instant::now() >= next_tick {
            next_tick = Instant::now() + Duration::from_secs(1);
            assembler.tick(Source(0), clock::wall(), &mut out);
        }
        store.admit(out).await.expect("the store runs");
    }
    store.admit_durable(Vec::new()).await.expect("the store runs");
    store.status().await.expect("the store runs")
}

/// Processor time of this process so far.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Bytes that this process has caused to be written to a medium, as the kernel counts them; 0 where it does not.
fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|n| n.parse().ok()).unwrap_or(0)
}

const CHANNELS: usize = 100;
const READINGS: usize = 4_000_000;
