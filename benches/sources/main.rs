//! What sources of hardware cost, from reading to durable block: `cargo bench --bench sources`.
//!
//! | case | what |
//! |---|---|
//! | slow | 1,002 channels, each read once a second: 334 chips on a bus of I2C that answers at once. What comes before is made up, so that the detectors have learnt |
//! | fast | three channels at 6.6 kHz each, from the buffer of an IIO device whose character device is a pipe |
//! | push | lines of ten fields by HTTP POST on loopback, a thousand at a time, one post after the other |
//! | modbus | 100 registers of a device on loopback over TCP, as fast as it answers |
//!
//! The rooms are those of the agent: a source on its thread, the assembler with calibration, windows and every detector,
//! the store with a real fsync; lane `raw` is kept. Told are the share of one core and the memory that this program holds,
//! the model and the line left out. `OUTPOST_BENCH_S` sets how long each case takes, 20 s unless it does.

mod field;
mod hardware;

use std::thread;
use std::time::{Duration, Instant};

use field::{REGISTERS, device, post, register};
use hardware::{Cabinet, RATE_HZ, accelerometer, feed, history};
use outpost::agent::assemble::{AssembleOptions, Assembler, Source};
use outpost::clock;
use outpost::field::modbus::Map;
use outpost::limits;
use outpost::sensor::{
    self, Batch, BufferOptions, FieldOptions, ModbusLink, ModbusOptions, Precision, PushOptions,
    SourceHandle, SourceOptions, Stop,
};
use outpost::spool::{self, StoreHandle};
use outpost::wire::Lane;
use smol::channel::{Receiver, Sender};

fn main() {
    println!(
        "{:<6}{:>14}{:>12}{:>12}{:>12}{:>10}",
        "case", "readings", "per second", "% of core", "own MiB", "dropped"
    );
    measure("slow", history, |out, stop| {
        sensor::spawn_polled("bus", Cabinet::new(), Duration::from_secs(1), out, stop).expect("a thread")
    });
    let dir = tempfile::tempdir().expect("a folder");
    accelerometer(dir.path());
    let feeder = {
        let pipe = dir.path().join("dev/iio:device0");
        thread::spawn(move || feed(&pipe))
    };
    let root = dir.path().to_owned();
    measure(
        "fast",
        |_| (),
        move |out, stop| {
            let (prefix, device) = ("motor".into(), "iio:device0".into());
            let options = BufferOptions { prefix, device, rate_hz: Some(RATE_HZ), root };
            sensor::spawn("vib", SourceOptions::IioBuffer(options), out, stop).expect("a device")
        },
    );
    feeder.join().expect("the feeder ends with its reader");
    measure(
        "push",
        |_| (),
        |out, stop| {
            let options = PushOptions {
                listen: ([127, 0, 0, 1], 0).into(),
                allow_remote: false,
                token_file: None,
                precision: Precision::Nanos,
                durable: false,
            };
            let source = SourceOptions::Field(FieldOptions::Push(options));
            let source = sensor::spawn("push", source, out, stop).expect("a free port");
            let address = source.address().expect("it listens");
            thread::spawn(move || post(address));
            source
        },
    );
    measure(
        "modbus",
        |_| (),
        |out, stop| {
            let options = ModbusOptions {
                name: "plc".into(),
                link: ModbusLink::Tcp(device()),
                unit: 1,
                map: Map::new((0..REGISTERS).map(register).collect(), 0).expect("a map"),
                interval: Duration::from_millis(1),
                timeout: Duration::from_secs(1),
            };
            sensor::spawn("plc", SourceOptions::Field(FieldOptions::Modbus(options)), out, stop)
                .expect("a thread")
        },
    );
}

fn seconds() -> u64 {
    std::env::var("OUTPOST_BENCH_S").ok().and_then(|s| s.parse().ok()).unwrap_or(20)
}

fn measure(
    name: &str,
    before: impl FnOnce(&mut Assembler),
    start: impl FnOnce(Sender<Batch>, Stop) -> SourceHandle,
) {
    let mut assembler = Assembler::new(AssembleOptions { raw: true, ..AssembleOptions::default() });
    before(&mut assembler);
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _tails, _) = spool::start(dir.path(), spool::Options::default()).expect("an empty spool");
    let (stopper, stop) = sensor::stopper();
    let (out, inbox) = smol::channel::bounded(limits::BATCHES_MAX);
    let source = start(out, stop);
    let (begun, begun_cpu) = (Instant::now(), cpu());
    let end = begun + Duration::from_secs(seconds());
    let readings = smol::block_on(judge(&mut assembler, &inbox, &store, end));
    let (lasted, cpu) = (begun.elapsed().as_secs_f64(), (cpu() - begun_cpu).as_secs_f64());
    smol::block_on(store.admit_durable(Vec::new())).expect("the last commit");
    let kept = smol::block_on(store.status()).expect("the store runs").ledger[Lane::Raw.index()].pending;
    assert_eq!(kept, readings, "every reading is durable");
    let (per_second, share) = (readings as f64 / lasted, 100.0 * cpu / lasted);
    let (own_mib, dropped) = (anonymous_kib() as f64 / 1024.0, source.stats().dropped);
    println!("{name:<6}{readings:>14}{per_second:>12.0}{share:>12.1}{own_mib:>12.1}{dropped:>10}");
    drop((stopper, inbox));
    source.join();
    smol::block_on(store.close()).expect("the store closes");
}

async fn judge(assembler: &mut Assembler, inbox: &Receiver<Batch>, store: &StoreHandle, end: Instant) -> u64 {
    let mut readings = 0;
    while Instant::now() < end {
        let Ok(batch) = inbox.recv().await else { break };
        let mut records = Vec::new();
        for info in batch.infos {
            assembler.describe(Source(0), info);
        }
        for reading in &batch.readings {
            assembler.push(Source(0), reading, &mut records);
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
