//! What is on this machine: buses and what answers on them, devices that kernel drivers publish, ports.
//!
//! Only chips that can be recognised without doing anything to them are asked: an identity register at an address that
//! such a part can have is read. Nothing is ever written to a chip but the number of that register. An address that a
//! kernel driver holds is left alone; the driver publishes what it reads.

use std::path::{Path, PathBuf};
use std::time::Duration;

use embedded_hal::i2c::I2c;
use serde::Serialize;

use super::chips::{Part, PartOptions, crc8};
use super::gpio;
use super::host::files::Root;
use super::sysfs::{self, Sysfs};
use super::{BusOptions, ChipOptions, HostOptions, Sensor as _, SourceOptions, SysfsKind, SysfsOptions};
use crate::clock;
use crate::limits;
use crate::reading::{NoData, Value};

/// Everything found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Survey {
    /// I2C buses.
    pub i2c: Vec<I2cBus>,
    /// Device files of SPI, one per chip select; no chip on SPI can be recognised without knowing it.
    pub spi: Vec<PathBuf>,
    /// GPIO chips.
    pub gpio: Vec<GpioChip>,
    /// What kernel drivers publish, kind by kind.
    pub published: Vec<Published>,
    /// IIO devices that can be read from a buffer.
    pub buffers: Vec<String>,
    /// Serial ports with hardware behind them.
    pub serial: Vec<PathBuf>,
    /// CAN interfaces, up or down.
    pub can: Vec<String>,
    /// Log files of the system, of those that most systems have.
    pub logs: Vec<PathBuf>,
    /// Whether the systemd journal runs.
    pub journal: bool,
}

/// One I2C bus.
#[derive(Debug, Clone, Serialize)]
pub struct I2cBus {
    /// Its device file.
    pub device: PathBuf,
    /// What its adapter calls itself.
    pub name: String,
    /// Chips that say what they are.
    pub chips: Vec<Answer>,
    /// Chips that answer as a part without an identity does after power-up.
    pub maybe: Vec<Answer>,
    /// Why it could not be opened, if so.
    pub error: Option<String>,
}

/// A chip that says what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Where.
    pub address: u8,
    /// What.
    pub part: String,
}

/// One GPIO chip.
#[derive(Debug, Clone, Serialize)]
pub struct GpioChip {
    /// Its device file.
    pub device: PathBuf,
    /// What it calls itself.
    pub label: String,
    /// How many lines it has.
    pub lines: u32,
}

/// What one kind of kernel drivers publishes.
#[derive(Debug, Clone, Serialize)]
pub struct Published {
    /// `hwmon`, `iio` or `w1`.
    pub kind: &'static str,
    /// Every channel with its value at the time of the survey.
    pub channels: Vec<Shown>,
}

/// One channel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    /// As a source of that kind would call it, named like the kind.
    pub channel: String,
    /// Its unit, a UCUM code.
    pub unit: String,
    /// Its value.
    pub value: Option<f64>,
    /// Why there is none.
    pub missing: Option<&'static str>,
}

impl Survey {
    /// Looks at the machine whose `sys` and `dev` are below `root`. Blocks: up to 750 ms for each 1-Wire thermometer, and a
    /// second for each bus that is stuck.
    pub fn take(root: &Path) -> Self {
        let tree = Root::new(root.into());
        Self {
            i2c: nodes(&tree, root, "i2c-").into_iter().map(|device| i2c_bus(&tree, device)).collect(),
            spi: nodes(&tree, root, "spidev"),
            gpio: nodes(&tree, root, "gpiochip").into_iter().map(gpio_chip).collect(),
            published: SysfsKind::ALL.iter().filter_map(|kind| published(*kind, root)).collect(),
            buffers: sysfs::buffered(&tree),
            serial: serial(&tree, root),
            can: can(&tree),
            logs: LOGS.iter().map(|log| root.join(log)).filter(|log| log.is_file()).collect(),
            journal: root.join("run/systemd/journal").is_dir(),
        }
    }

    /// The sources that read all of it, by the names that `outpost init` gives them; the gateway's own vitals first.
    pub fn sources(&self, root: &Path) -> Vec<(String, SourceOptions)> {
        let vitals = HostOptions { root: root.into(), ..HostOptions::default() };
        let published = self.published.iter().filter_map(|published| {
            let kind = SysfsKind::from_name(published.kind)?;
            let (prefix, interval) = (published.kind.to_owned(), Duration::from_secs(1));
            let options = SysfsOptions { kind, prefix, interval, root: root.into() };
            Some((published.kind.to_owned(), SourceOptions::Sysfs(options)))
        });
        let buses = self.i2c.iter().filter(|bus| !bus.chips.is_empty()).map(|bus| {
            let chips = bus.named().into_iter().filter_map(|(name, answer)| chip(name, answer)).collect();
            let options = BusOptions { device: bus.device.clone(), spi: false, chips };
            (bus.source(), SourceOptions::Bus(options))
        });
        std::iter::once(("vitals".into(), SourceOptions::Host(vitals)))
            .chain(published)
            .chain(buses)
            .collect()
    }
}

impl I2cBus {
    /// Name of the source that reads it: `i2c-1`.
    pub fn source(&self) -> String {
        self.device.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Its chips with the names that their channels begin with: `bme280` or, with the number of its bus and its address
    /// where that is not the usual one, `bme280-1-77`.
    pub fn named(&self) -> Vec<(String, &Answer)> {
        let bus = self.source();
        let number = bus.rsplit('-').next().unwrap_or_default();
        let name = |answer: &Answer| format!("{}-{number}-{:02x}", answer.part, answer.address);
        self.chips.iter().map(|answer| (name(answer), answer)).collect()
    }
}

fn chip(name: String, answer: &Answer) -> Option<ChipOptions> {
    let part = PartOptions { address: answer.address, ..PartOptions::usual(Part::from_name(&answer.part)?) };
    let second = Duration::from_secs(1);
    Some(ChipOptions { name, part, select: 0, interval: second, timeout: second })
}

/// Device files whose names begin so.
fn nodes(tree: &Root, root: &Path, prefix: &str) -> Vec<PathBuf> {
    let names = tree.entries("dev").into_iter().filter(|name| name.starts_with(prefix));
    names.map(|name| root.join("dev").join(name)).collect()
}

fn i2c_bus(tree: &Root, device: PathBuf) -> I2cBus {
    let node = device.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = tree.text(&format!("sys/class/i2c-dev/{node}/name")).unwrap_or_default().trim().to_owned();
    let (mut chips, mut maybe, mut error) = (Vec::new(), Vec::new(), None);
    match linux_embedded_hal::I2cdev::new(&device) {
        Ok(mut bus) => {
            chips = recognise(&mut bus, IDENTITIES, &[], std::thread::sleep);
            maybe = recognise(&mut bus, HABITS, &chips, std::thread::sleep);
        }
        Err(refused) => error = Some(refused.to_string()),
    }
    I2cBus { device, name, chips, maybe, error }
}

/// How a part says what it is.
enum Identity {
    /// A register that holds a byte.
    Byte(u8, u8),
    /// A register that holds a word, the high byte first.
    Word(u8, u16),
    /// A serial number with checksums, after this command.
    Serial(u8),
}

/// What parts without an identity hold after power-up, in their register of settings; another part may hold the same. An
/// SHT3x is not asked: its command would be a write to others.
const HABITS: &[(Part, Identity)] =
    &[(Part::Ina219, Identity::Word(0x00, 0x399f)), (Part::Ads1115, Identity::Word(0x01, 0x8583))];

/// Parts that can be recognised.
const IDENTITIES: &[(Part, Identity)] = &[
    (Part::Bme280, Identity::Byte(0xd0, 0x60)),
    (Part::Lis3dh, Identity::Byte(0x0f, 0x33)),
    // The die's identity; another part at these addresses takes 0xfe, the maker's, as a command.
    (Part::Ina226, Identity::Word(0xff, 0x2260)),
    (Part::Sht4x, Identity::Serial(0x89)),
];

/// Every chip that answers as `identities` say, by address; those that are `known` are left alone.
fn recognise(
    bus: &mut impl I2c,
    identities: &[(Part, Identity)],
    known: &[Answer],
    mut sleep: impl FnMut(Duration),
) -> Vec<Answer> {
    let mut found: Vec<Answer> = Vec::new();
    for (part, identity) in identities {
        for address in part.addresses() {
            let is_known = found.iter().chain(known).any(|answer| answer.address == *address);
            if !is_known && is_it(bus, *address, identity, &mut sleep) {
                found.push(Answer { address: *address, part: part.name().into() });
            }
        }
    }
    found.sort_by_key(|answer| answer.address);
    found
}

fn is_it(bus: &mut impl I2c, address: u8, identity: &Identity, sleep: &mut impl FnMut(Duration)) -> bool {
    match *identity {
        Identity::Byte(register, expected) => {
            let mut byte = [0];
            bus.write_read(address, &[register], &mut byte).is_ok() && byte == [expected]
        }
        Identity::Word(register, expected) => {
            let mut word = [0; 2];
            bus.write_read(address, &[register], &mut word).is_ok() && u16::from_be_bytes(word) == expected
        }
        Identity::Serial(command) => {
            let mut serial = [0; 6];
            if bus.write(address, &[command]).is_err() {
                return false;
            }
            sleep(Duration::from_millis(1));
            let [a, b, ab, c, d, cd] = match bus.read(address, &mut serial) {
                Ok(()) => serial,
                Err(_) => return false,
            };
            crc8([a, b]) == ab && crc8([c, d]) == cd
        }
    }
}

fn gpio_chip(device: PathBuf) -> GpioChip {
    let (label, lines) = gpio::info(&device).unwrap_or_else(|error| (error.to_string(), 0));
    GpioChip { device, label, lines }
}

fn published(kind: SysfsKind, root: &Path) -> Option<Published> {
    let (prefix, interval) = (kind.name().to_owned(), Duration::ZERO);
    let mut source = Sysfs::new(SysfsOptions { kind, prefix, interval, root: root.into() });
    let mut readings = Vec::new();
    let infos = source.poll(clock::stamp(), &mut readings);
    let shown = readings.iter().zip(&infos).take(limits::CHANNELS_MAX).map(|(reading, info)| Shown {
        channel: reading.channel.to_string(),
        unit: info.unit.0.clone(),
        value: reading.value.ok(),
        missing: missing(reading.value),
    });
    let channels: Vec<_> = shown.collect();
    (!channels.is_empty()).then_some(Published { kind: kind.name(), channels })
}

fn missing(value: Value) -> Option<&'static str> {
    value.err().map(NoData::name)
}

/// Interfaces of the kind that the kernel numbers 280 (ARPHRD_CAN), virtual ones among them.
fn can(tree: &Root) -> Vec<String> {
    const CLASS: &str = "sys/class/net";
    let is_plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let is_can = |name: &String| {
        is_plain(name) && tree.text(&format!("{CLASS}/{name}/type")).is_some_and(|kind| kind.trim() == "280")
    };
    tree.entries(CLASS).into_iter().filter(is_can).collect()
}

/// Where systems without a journal write.
const LOGS: &[&str] = &["var/log/syslog", "var/log/messages", "var/log/kern.log"];

/// A port without hardware has no device, or a kind of 0.
fn serial(tree: &Root, root: &Path) -> Vec<PathBuf> {
    const CLASS: &str = "sys/class/tty";
    let is_port = |name: &String| {
        let wired = root.join(CLASS).join(name).join("device").exists();
        let kind = tree.text(&format!("{CLASS}/{name}/type"));
        let wanted =
            ["ttyS", "ttyUSB", "ttyACM", "ttyAMA", "ttymxc", "ttySC"].iter().any(|p| name.starts_with(p));
        wanted && wired && kind.is_none_or(|kind| kind.trim() != "0")
    };
    tree.entries(CLASS).into_iter().filter(is_port).map(|name| root.join("dev").join(name)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use embedded_hal::i2c::{ErrorKind, ErrorType, NoAcknowledgeSource, Operation};

    use super::*;

    /// Chips as maps of registers; every byte that is written is noted.
    #[derive(Default)]
    struct Bench {
        chips: BTreeMap<u8, BTreeMap<u8, Vec<u8>>>,
        pointer: BTreeMap<u8, u8>,
        written: Vec<(u8, Vec<u8>)>,
    }

    impl ErrorType for Bench {
        type Error = ErrorKind;
    }

    impl I2c for Bench {
        fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
            let nack = ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address);
            let registers = self.chips.get(&address).ok_or(nack)?;
            for operation in operations {
                match operation {
                    Operation::Write(bytes) => {
                        self.written.push((address, bytes.to_vec()));
                        self.pointer.insert(address, bytes[0]);
                    }
                    Operation::Read(buffer) => {
                        let pointer = self.pointer.get(&address).copied().unwrap_or(0);
                        let bytes = registers.get(&pointer).cloned().unwrap_or_default();
                        let padded = bytes.into_iter().chain(std::iter::repeat(0xff));
                        buffer.iter_mut().zip(padded).for_each(|(to, from)| *to = from);
                    }
                }
            }
            Ok(())
        }
    }

    fn answer(address: u8, part: &str) -> Answer {
        Answer { address, part: part.into() }
    }

    #[test]
    fn chips_are_recognised_by_what_they_say_and_nothing_but_a_number_is_written() {
        let mut bench = Bench::default();
        let serial = [&[0x12, 0x34, crc8([0x12, 0x34])][..], &[0xab, 0xcd, crc8([0xab, 0xcd])]].concat();
        bench.chips.insert(0x76, [(0xd0, vec![0x60])].into());
        // Its little brother, and a stranger that answers everything with ones.
        bench.chips.insert(0x77, [(0xd0, vec![0x58])].into());
        bench.chips.insert(0x18, BTreeMap::new());
        bench.chips.insert(0x19, [(0x0f, vec![0x33])].into());
        bench.chips.insert(0x44, [(0x89, serial)].into());
        bench.chips.insert(0x45, [(0xff, vec![0x22, 0x60])].into());
        bench.chips.insert(0x40, [(0x00, vec![0x39, 0x9f])].into());
        bench.chips.insert(0x48, [(0x01, vec![0x85, 0x83])].into());
        let found = recognise(&mut bench, IDENTITIES, &[], |_| ());
        let maybe = recognise(&mut bench, HABITS, &found, |_| ());
        assert_eq!(maybe, [answer(0x40, "ina219"), answer(0x48, "ads1115")]);
        assert_eq!(
            found,
            [answer(0x19, "lis3dh"), answer(0x44, "sht4x"), answer(0x45, "ina226"), answer(0x76, "bme280")]
        );
        assert!(bench.written.iter().all(|(_, bytes)| bytes.len() == 1), "{:?}", bench.written);
    }

    #[test]
    fn a_machine_is_surveyed_and_everything_found_has_a_source() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("dev/i2c-1", "");
        put("dev/spidev0.0", "");
        put("dev/gpiochip0", "");
        put("sys/class/i2c-dev/i2c-1/name", "bcm2835 (i2c@7e804000)\n");
        put("sys/class/hwmon/hwmon0/name", "cpu_thermal");
        put("sys/class/hwmon/hwmon0/temp1_input", "51000");
        put("sys/bus/iio/devices/iio:device0/name", "adxl345");
        put("sys/bus/iio/devices/iio:device0/in_accel_x_raw", "x");
        put("sys/bus/iio/devices/iio:device0/scan_elements/in_accel_x_en", "0");
        put("sys/class/tty/ttyUSB0/device/uevent", "");
        put("sys/class/tty/ttyS0/device/uevent", "");
        put("sys/class/tty/ttyS0/type", "0\n");
        put("sys/class/tty/tty1/active", "");
        put("sys/class/net/can0/type", "280\n");
        put("sys/class/net/eth0/type", "1\n");
        put("var/log/syslog", "");
        put("run/systemd/journal/socket", "");
        let survey = Survey::take(dir.path());
        assert_eq!((survey.i2c[0].name.as_str(), survey.i2c[0].chips.len()), ("bcm2835 (i2c@7e804000)", 0));
        assert_eq!((survey.spi.len(), survey.gpio.len(), survey.gpio[0].lines), (1, 1, 0));
        assert_eq!(survey.serial, [dir.path().join("dev/ttyUSB0")]);
        assert_eq!(survey.buffers, ["iio:device0"]);
        assert_eq!((survey.can.as_slice(), survey.journal), (["can0".to_owned()].as_slice(), true));
        assert_eq!(survey.logs, [dir.path().join("var/log/syslog")]);
        let shown = |value, missing| (value, missing);
        let hwmon = &survey.published[0].channels[0];
        assert_eq!(
            (hwmon.channel.as_str(), shown(hwmon.value, hwmon.missing)),
            ("hwmon.cpu_thermal.temp1", (Some(51.0), None))
        );
        let iio = &survey.published[1].channels[0];
        assert_eq!(shown(iio.value, iio.missing), (None, Some("read_failed")));
        let sources: Vec<_> = survey.sources(dir.path()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(sources, ["vitals", "hwmon", "iio"]);
    }

    #[test]
    fn a_bus_with_chips_becomes_a_source_that_reads_them() {
        let bus = I2cBus {
            device: "/dev/i2c-1".into(),
            name: String::new(),
            chips: vec![answer(0x44, "sht4x"), answer(0x77, "bme280")],
            maybe: Vec::new(),
            error: None,
        };
        let survey = Survey { i2c: vec![bus], ..Survey::default() };
        let sources = survey.sources(Path::new("/"));
        let (name, SourceOptions::Bus(options)) = &sources[1] else { panic!("{sources:?}") };
        let chips: Vec<_> = options.chips.iter().map(|c| (c.name.as_str(), c.part.address)).collect();
        assert_eq!((name.as_str(), chips), ("i2c-1", vec![("sht4x-1-44", 0x44), ("bme280-1-77", 0x77)]));
    }
}
