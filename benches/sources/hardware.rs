//! Hardware that is played: chips on a bus, an accelerometer with a buffer.

use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, Operation};
use outpost::agent::assemble::{Assembler, Source};
use outpost::clock;
use outpost::reading::{ChannelId, ChannelInfo, Reading};
use outpost::sensor::Sensor;
use outpost::sensor::chips::{Chip, Column, Ina};
use outpost::time::{Stamp, Wall};

/// Ten minutes of the slow case before it begins: every detector is past its learning.
pub fn history(assembler: &mut Assembler) {
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

pub const RATE_HZ: f64 = 6600.0;

/// Power monitors on a bus that answers at once: what is measured is the program, not the wire.
pub struct Cabinet {
    chips: Vec<(Ina<Prompt>, Vec<ChannelId>)>,
    told: bool,
}

impl Cabinet {
    pub fn new() -> Self {
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
pub fn accelerometer(root: &Path) {
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
pub fn feed(pipe: &Path) {
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

struct Delay;

impl embedded_hal::delay::DelayNs for Delay {
    fn delay_ns(&mut self, _: u32) {}
}
