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

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, Operation};
use outpost::agent::assemble::{AssembleOptions, Assembler, Source};
use outpost::clock;
use outpost::field::modbus::{Map, Order, Register, Shape, Table};
use outpost::limits;
use outpost::reading::{ChannelId, ChannelInfo, Reading, Unit};
use outpost::sensor::chips::{Chip, Column, Ina};
use outpost::sensor::{
    self, Batch, BufferOptions, FieldOptions, ModbusLink, ModbusOptions, Precision, PushOptions, Sensor,
    SourceHandle, SourceOptions, Stop,
};
use outpost::spool::{self, StoreHandle};
use outpost::time::{Stamp, Wall};
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

/// Ten minutes of the slow case before it begins: every detector is past its learning.
fn history(assembler: &mut Assembler) {
    let mut cabinet = Cabinet::new();
    let now = clock::stamp();
    for ago_s in (1..=600).rev() {
        let mut readings = Vec::new();
        let then = Stamp { wall: Wall(now.wall.0 - ago_s * 1_000_000), ..now };
        for info in cabinet.poll(then, &mut readings) {
            assembler.describe(Source(0), info);
        }
        readings.iter().for_each(|reading| assembler.push(Source(0), reading, &mut Vec::new()));
    }
}

/// Posts until nobody takes it any more.
fn post(address: SocketAddr) {
    let fields: Vec<String> = (0..10).map(|n| format!("f{n}={n}.5")).collect();
    let body = format!("m {}\n", fields.join(",")).repeat(1000);
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    let mut answer = [0; 4096];
    while stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).is_ok() {
        let Ok(1..) = stream.read(&mut answer) else { return };
    }
}

const REGISTERS: u16 = 100;

fn register(address: u16) -> Register {
    Register {
        channel: ChannelId::new(&format!("plc.r{address}")).expect("a channel's name"),
        table: Table::Holding,
        address,
        shape: Shape::U16,
        order: Order::Abcd,
        bit: 0,
        scale: 1.0,
        offset: 0.0,
        unit: Unit::default(),
    }
}

/// A device that answers every question with as many registers as were asked for.
fn device() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else { return };
        let (mut request, mut random) = ([0; 12], fastrand::Rng::with_seed(7));
        while stream.read_exact(&mut request).is_ok() {
            let bytes = 2 * request[11];
            let head = [request[0], request[1], 0, 0, 0, bytes + 3, request[6], request[7], bytes];
            let values: Vec<u8> =
                (0..bytes / 2).flat_map(|_| (4000 + random.u16(0..40)).to_be_bytes()).collect();
            if stream.write_all(&[&head[..], &values].concat()).is_err() {
                return;
            }
        }
    });
    address
}

const RATE_HZ: f64 = 6600.0;

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

/// Power monitors on a bus that answers at once: what is measured is the program, not the wire.
struct Cabinet {
    chips: Vec<(Ina<Prompt>, Vec<ChannelId>)>,
    told: bool,
}

impl Cabinet {
    fn new() -> Self {
        let chip = |n: u64| {
            let chip = Ina::ina226(Prompt(fastrand::Rng::with_seed(n)), 0x40, 0.1);
            let name = |column: &Column| ChannelId::new(&format!("panel{n}.{}", column.name));
            let channels =
                chip.columns().iter().map(|column| name(column).expect("a channel's name")).collect();
            (chip, channels)
        };
        Self { chips: (0..CHIPS).map(chip).collect(), told: false }
    }

    fn infos(&self) -> Vec<ChannelInfo> {
        let of_chip = |(chip, channels): &(Ina<Prompt>, Vec<ChannelId>)| {
            let described = channels.iter().zip(chip.columns());
            described
                .map(|(id, column)| ChannelInfo::given(id, column.quantity, column.unit))
                .collect::<Vec<_>>()
        };
        self.chips.iter().flat_map(of_chip).collect()
    }
}

impl Sensor for Cabinet {
    fn poll(&mut self, now: Stamp, out: &mut Vec<Reading>) -> Vec<ChannelInfo> {
        let mut values = Vec::new();
        for (chip, channels) in &mut self.chips {
            values.clear();
            chip.read(&mut Delay, &mut values).expect("the bus answers");
            let named = channels.iter().zip(&values);
            out.extend(named.map(|(channel, value)| Reading::new(channel.clone(), now.wall, *value)));
        }
        if std::mem::replace(&mut self.told, true) { Vec::new() } else { self.infos() }
    }
}

/// Three channels each: a thousand and two.
const CHIPS: u64 = 334;

/// Every register holds some current around a level; the one for the maker holds the maker.
struct Prompt(fastrand::Rng);

impl ErrorType for Prompt {
    type Error = ErrorKind;
}

impl I2c for Prompt {
    fn transaction(&mut self, _: u8, operations: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
        let mut register = 0;
        for operation in operations {
            match operation {
                Operation::Write(bytes) => register = bytes[0],
                Operation::Read(buffer) => {
                    let word = if register == 0xfe { 0x5449 } else { 8000 + self.0.u16(0..40) };
                    buffer.copy_from_slice(&word.to_be_bytes());
                }
            }
        }
        Ok(())
    }
}

/// The folder of a device with three axes of 16 bits and a timestamp; its character device is a pipe.
fn accelerometer(root: &Path) {
    let put = |path: &str, text: &str| {
        let path = root.join("sys/bus/iio/devices/iio:device0").join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    put("name", "accel");
    put("sampling_frequency", "6600");
    put("in_accel_scale", "0.001");
    put("buffer/enable", "0");
    for (index, axis) in ["accel_x", "accel_y", "accel_z"].into_iter().enumerate() {
        put(&format!("scan_elements/in_{axis}_en"), "0");
        put(&format!("scan_elements/in_{axis}_index"), &index.to_string());
        put(&format!("scan_elements/in_{axis}_type"), "le:s16/16>>0");
    }
    put("scan_elements/in_timestamp_en", "0");
    put("scan_elements/in_timestamp_index", "3");
    put("scan_elements/in_timestamp_type", "le:s64/64>>0");
    std::fs::create_dir_all(root.join("dev")).expect("a folder");
    let (mode, fifo) = (rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR, rustix::fs::FileType::Fifo);
    rustix::fs::mknodat(rustix::fs::CWD, root.join("dev/iio:device0"), fifo, mode, 0).expect("a pipe");
}

/// Plays the kernel: every 50 ms what an accelerometer has measured meanwhile, until nobody reads any more.
fn feed(pipe: &Path) {
    let mut device = std::fs::OpenOptions::new().write(true).open(pipe).expect("a reader");
    let (begun, begun_ns) = (Instant::now(), clock::wall().0 * 1000);
    let mut random = fastrand::Rng::with_seed(3);
    let mut sent = 0_u64;
    loop {
        let due = (begun.elapsed().as_secs_f64() * RATE_HZ) as u64;
        let mut bytes = Vec::new();
        for n in sent..due {
            let seconds = n as f64 / RATE_HZ;
            let swing = (1000.0 * (seconds * 50.0 * std::f64::consts::TAU).sin()) as i16;
            for axis in 0..3 {
                bytes.extend((swing / (axis + 1) + random.i16(-20..20)).to_le_bytes());
            }
            bytes.extend([0; 2]);
            bytes.extend((begun_ns + (seconds * 1e9) as i64).to_le_bytes());
        }
        sent = due;
        if device.write_all(&bytes).is_err() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
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

struct Delay;

impl embedded_hal::delay::DelayNs for Delay {
    fn delay_ns(&mut self, _: u32) {}
}
