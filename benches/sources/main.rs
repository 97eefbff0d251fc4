//! What sources cost, from reading to durable block: `cargo bench --bench sources`; with names of cases behind `--`, those alone.
//!
//! | case | what |
//! |---|---|
//! | slow | 1,002 channels, each read once a second: 334 chips on a bus of I2C that answers at once. What comes before is made up, so that the detectors have learnt |
//! | fast | three channels at 6.6 kHz each, from the buffer of an IIO device whose character device is a pipe |
//! | push | lines of ten fields by HTTP POST on loopback, a thousand at a time, one post after the other |
//! | exec | a program that writes such a thousand lines, run again as soon as it has ended |
//! | modbus | 100 registers of a device on loopback over TCP, as fast as it answers |
//! | mqtt | JSON messages of 100 sensors at QoS 1, from a broker in a process of its own, which is the slower side |
//! | can | from frames on, without the kernel's bus: 64 messages of four signals, of which the newest values count, ten times a second |
//! | tail | a log file that is written, and rotated, as fast as it is read. Its readings are counts |
//! | syslog | the same lines over one connection |
//!
//! The rooms are those of the agent: a source on its thread, the assembler with calibration, windows and every detector,
//! the store with a real fsync; lane `raw` is kept. Told are the share of one core and the memory that this program holds, with
//! what plays the other side within it, the model and the line left out. `OUTPOST_BENCH_S` sets how long each case takes, 20 s
//! unless it does.

mod field;
mod hardware;
mod logs;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use field::{Plant, REGISTERS};
use hardware::{Cabinet, RATE_HZ};
use outpost::agent::assemble::{AssembleOptions, Assembler, Source};
use outpost::clock;
use outpost::field::modbus::Map;
use outpost::limits;
use outpost::sensor::{
    self, Batch, BufferOptions, CanOptions, ExecOptions, FieldOptions, LogInput, LogsOptions, ModbusLink,
    ModbusOptions, Precision, PushOptions, SourceHandle, SourceOptions, Stop, SubscribeOptions,
};
use outpost::spool::{self, StoreHandle};
use outpost::wire::Lane;
use smol::channel::{Receiver, Sender};

fn main() {
    if std::env::var_os(field::PLANT).is_some() {
        return field::publish();
    }
    // Cargo adds an option of its own.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    println!(
        "{:<6}{:>14}{:>12}{:>12}{:>12}{:>10}",
        "case", "readings", "per second", "% of core", "own MiB", "dropped"
    );
    for (name, case) in CASES {
        if wanted.is_empty() || wanted.iter().any(|one| one == name) {
            let dir = tempfile::tempdir().expect("a folder");
            case(name, dir.path());
        }
    }
}

/// Measures under this name, with a folder of its own.
type Case = fn(&str, &Path);

const CASES: [(&str, Case); 9] = [
    ("slow", slow),
    ("fast", fast),
    ("push", push),
    ("exec", exec),
    ("modbus", modbus),
    ("mqtt", mqtt),
    ("can", can),
    ("tail", tail),
    ("syslog", syslog),
];

/// What the other side says, where that is more than readings, and whether it may end.
#[derive(Default)]
struct Talk {
    said: AtomicU64,
    is_over: AtomicBool,
}

fn slow(name: &str, _: &Path) {
    measure(name, "", hardware::history, |out, stop, _| {
        sensor::spawn_polled("bus", Cabinet::new(), Duration::from_secs(1), out, stop).expect("a thread")
    });
}

fn fast(name: &str, dir: &Path) {
    hardware::accelerometer(dir);
    let pipe = dir.join("dev/iio:device0");
    let feeder = thread::spawn(move || hardware::feed(&pipe));
    measured(name, "", |_| {
        let (prefix, device, root) = ("motor".into(), "iio:device0".into(), dir.to_owned());
        SourceOptions::IioBuffer(BufferOptions { prefix, device, rate_hz: Some(RATE_HZ), root })
    });
    feeder.join().expect("the feeder ends with its reader");
}

fn push(name: &str, _: &Path) {
    measure(name, "", nothing, |out, stop, _| {
        let options = PushOptions {
            listen: ([127, 0, 0, 1], 0).into(),
            allow_remote: false,
            token_file: None,
            precision: Precision::Nanos,
            durable: false,
        };
        let source = SourceOptions::Field(FieldOptions::Push(options));
        let source = sensor::spawn(name, source, out, stop).expect("a free port");
        let address = source.address().expect("it listens");
        thread::spawn(move || field::post(address));
        source
    });
}

fn exec(name: &str, dir: &Path) {
    let lines = dir.join("lines");
    std::fs::write(&lines, field::lines()).expect("a file");
    measured(name, "", |_| {
        SourceOptions::Field(FieldOptions::Exec(ExecOptions {
            command: vec!["cat".into(), lines.display().to_string()],
            interval: Duration::from_millis(1),
            timeout: Duration::from_secs(10),
        }))
    });
}

fn modbus(name: &str, _: &Path) {
    measured(name, "", |_| {
        SourceOptions::Field(FieldOptions::Modbus(ModbusOptions {
            name: name.into(),
            link: ModbusLink::Tcp(field::device()),
            unit: 1,
            map: Map::new((0..REGISTERS).map(field::register).collect(), 0).expect("a map"),
            interval: Duration::from_millis(1),
            timeout: Duration::from_secs(1),
        }))
    });
}

fn mqtt(name: &str, _: &Path) {
    let plant = Plant::start();
    measured(name, "", |_| {
        SourceOptions::Field(FieldOptions::Subscribe(SubscribeOptions {
            host: plant.address.ip().to_string(),
            port: plant.address.port(),
            tls: None,
            client_id: "bench".into(),
            user: None,
            password_file: None,
            certificates_every: limits::CERTIFICATES_EVERY,
            topics: field::topics(),
        }))
    });
}

fn can(name: &str, dir: &Path) {
    let dbc = dir.join("x.dbc");
    field::dbc(&dbc);
    measure(name, "frames", nothing, |out, stop, talk| {
        let (interface, channel_prefix) = ("none".into(), String::new());
        let options = CanOptions { interface, channel_prefix, dbc, interval: Duration::from_millis(100) };
        sensor::spawn_frames(name, options, field::bus(talk), out, stop).expect("a DBC file")
    });
}

fn tail(name: &str, dir: &Path) {
    let path = dir.join("app.log");
    let mut writer = None;
    measured(name, "lines", |talk| {
        let (written, talk) = (path.clone(), Arc::clone(talk));
        writer = Some(thread::spawn(move || logs::write(&written, &talk)));
        log(LogInput::Files(vec![path]))
    });
    if let Some(writer) = writer {
        writer.join().expect("the writer ends");
    }
}

fn syslog(name: &str, _: &Path) {
    measure(name, "lines", nothing, |out, stop, _| {
        let tcp = Some(([127, 0, 0, 1], 0).into());
        let options = log(LogInput::Syslog { udp: None, tcp, allow_remote: false });
        let source = sensor::spawn(name, options, out, stop).expect("a free port");
        let address = source.address().expect("it listens");
        thread::spawn(move || logs::send(address));
        source
    });
}

/// Windows are shorter than may be configured, so that a writer hears soon how far he was read.
fn log(input: LogInput) -> SourceOptions {
    let (every, learn): (_, Duration) = (Duration::from_millis(250), Duration::ZERO);
    SourceOptions::Field(FieldOptions::Logs(LogsOptions { input, every, learn, state_dir: None }))
}

fn nothing(_: &mut Assembler) {}

/// A source that needs no more than its options.
fn measured(name: &str, unit: &str, options: impl FnOnce(&Arc<Talk>) -> SourceOptions) {
    measure(name, unit, nothing, |out, stop, talk| {
        sensor::spawn(name, options(talk), out, stop).expect("a source")
    });
}

fn seconds() -> u64 {
    std::env::var("OUTPOST_BENCH_S").ok().and_then(|s| s.parse().ok()).unwrap_or(20)
}

fn measure(
    name: &str,
    unit: &str,
    before: impl FnOnce(&mut Assembler),
    start: impl FnOnce(Sender<Batch>, Stop, &Arc<Talk>) -> SourceHandle,
) {
    let mut assembler = Assembler::new(AssembleOptions { raw: true, ..AssembleOptions::default() });
    before(&mut assembler);
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _tails, _) = spool::start(dir.path(), spool::Options::default()).expect("an empty spool");
    let (stopper, stop) = sensor::stopper();
    let (out, inbox) = smol::channel::bounded(limits::BATCHES_MAX);
    let talk = Arc::default();
    let source = start(out, stop, &talk);
    let (begun, begun_cpu) = (Instant::now(), cpu());
    let end = begun + Duration::from_secs(seconds());
    let readings = smol::block_on(judge(&mut assembler, &inbox, &store, &talk, end));
    let (lasted, cpu) = (begun.elapsed().as_secs_f64(), (cpu() - begun_cpu).as_secs_f64());
    smol::block_on(store.admit_durable(Vec::new())).expect("the last commit");
    let kept = smol::block_on(store.status()).expect("the store runs").ledger[Lane::Raw.index()].pending;
    assert_eq!(kept, readings, "every reading is durable");
    let (per_second, share) = (readings as f64 / lasted, 100.0 * cpu / lasted);
    let (own_mib, dropped) = (anonymous_kib() as f64 / 1024.0, source.stats().dropped);
    let also = match unit {
        "" => String::new(),
        unit => format!("   of {:.0} {unit}/s", talk.said.load(Ordering::Relaxed) as f64 / lasted),
    };
    println!("{name:<6}{readings:>14}{per_second:>12.0}{share:>12.1}{own_mib:>12.1}{dropped:>10}{also}");
    talk.is_over.store(true, Ordering::Relaxed);
    drop((stopper, inbox));
    source.join();
    smol::block_on(store.close()).expect("the store closes");
}

async fn judge(
    assembler: &mut Assembler,
    inbox: &Receiver<Batch>,
    store: &StoreHandle,
    talk: &Talk,
    end: Instant,
) -> u64 {
    let mut readings = 0;
    while Instant::now() < end {
        let Ok(batch) = inbox.recv().await else { break };
        let mut records = Vec::new();
        for info in batch.infos {
            assembler.describe(Source(0), info);
        }
        for reading in &batch.readings {
            assembler.push(Source(0), reading, &mut records);
            if reading.channel.as_str().ends_with(".lines") {
                talk.said.fetch_add(reading.value.unwrap_or(0.0) as u64, Ordering::Relaxed);
            }
        }
        readings += batch.readings.len() as u64;
        assembler.tick(Source(0), clock::wall(), &mut records);
        store.admit(records).await.expect("the store takes them");
    }
    readings
}

/// Time that this program's threads have worked, less that of the feeder, which works next to nothing.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|n| fields.get(*n)?.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn anonymous_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|rest| rest.trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
}
