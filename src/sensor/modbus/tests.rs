//! The driver against a device that speaks the protocol, over TCP and over a pseudo-terminal, and misbehaves on demand.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use super::*;
use crate::field::modbus::{Order, Register, Shape, Table};
use crate::reading::{ChannelId, Unit, Value};

/// What the device does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Silent,
    HangUp,
    Garbage,
    Refuse(u8),
    /// An answer of a transaction before, and its own twice.
    Twice,
    OtherUnit,
    BadChecksum,
    /// After the time-out.
    Late,
}

/// The device: register `n` holds `n + 1`, bit `n` is set when `n` is odd.
#[derive(Clone)]
struct Device {
    mood: Arc<Mutex<Mood>>,
    asked: Arc<Mutex<Vec<(u8, u16, u16)>>>,
}

const UNIT: u8 = 9;
const TIMEOUT: Duration = Duration::from_millis(150);

impl Device {
    fn new() -> Self {
        Self { mood: Arc::new(Mutex::new(Mood::Well)), asked: Arc::default() }
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Function and what follows, for unit, function, address and count.
    fn answer(&self, body: &[u8]) -> Vec<u8> {
        let [_, function, a1, a0, c1, c0] = body else { panic!("{body:?}") };
        let (first, count) = (u16::from_be_bytes([*a1, *a0]), u16::from_be_bytes([*c1, *c0]));
        self.asked.lock().unwrap().push((*function, first, count));
        if let Mood::Refuse(code) = *self.mood.lock().unwrap() {
            return vec![function | 0x80, code];
        }
        let values: Vec<u8> = if *function <= 2 {
            let mut bytes = vec![0; usize::from(count).div_ceil(8)];
            (0..count)
                .filter(|n| (first + n) % 2 == 1)
                .for_each(|n| bytes[usize::from(n / 8)] |= 1 << (n % 8));
            bytes
        } else {
            (0..count).flat_map(|n| (first + n + 1).to_be_bytes()).collect()
        };
        [&[*function, values.len() as u8], &values[..]].concat()
    }

    fn on_tcp(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let device = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 12];
                while stream.read_exact(&mut request).is_ok() {
                    let body = device.answer(&request[6..]);
                    let frame = |transaction: &[u8], unit: u8| {
                        let length = (body.len() as u16 + 1).to_be_bytes();
                        [transaction, &[0, 0], &length, &[unit], &body].concat()
                    };
                    let well = frame(&request[..2], request[6]);
                    let sent = match *device.mood.lock().unwrap() {
                        Mood::HangUp => break,
                        Mood::Silent => continue,
                        Mood::Late => {
                            std::thread::sleep(2 * TIMEOUT);
                            stream.write_all(&well)
                        }
                        Mood::Garbage => stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
                        Mood::Twice => {
                            stream.write_all(&[frame(&[0xab, 0xcd], UNIT), well.clone(), well].concat())
                        }
                        Mood::OtherUnit => stream.write_all(&frame(&request[..2], UNIT + 1)),
                        // In two pieces, as a line may part it.
                        _ => stream.write_all(&well[..5]).and_then(|()| stream.write_all(&well[5..])),
                    };
                    if sent.is_err() {
                        break;
                    }
                }
            }
        });
        address
    }

    fn on_serial(&self) -> PathBuf {
        serial_line(vec![(UNIT, self.clone())])
    }
}

/// A line with a device at each of these addresses.
fn serial_line(devices: Vec<(u8, Device)>) -> PathBuf {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = PathBuf::from(ptsname(&master, Vec::new()).unwrap().to_str().unwrap());
    let mut line = File::from(master);
    // Held open, or the master reads an end before the driver comes; raw, or it would echo.
    let held = File::options().read(true).write(true).open(&path).unwrap();
    let mut modes = tcgetattr(&held).unwrap();
    modes.make_raw();
    tcsetattr(&held, OptionalActions::Now, &modes).unwrap();
    std::thread::spawn(move || {
        let _held = held;
        let mut request = [0; 8];
        while line.read_exact(&mut request).is_ok() {
            assert_eq!(sum(&request[..6]), request[6..], "the driver's own checksum");
            let Some((_, device)) = devices.iter().find(|(unit, _)| *unit == request[0]) else { continue };
            let mut frame = [&[request[0]], &device.answer(&request[..6])[..]].concat();
            frame.extend(sum(&frame));
            let mood = *device.mood.lock().unwrap();
            match mood {
                Mood::Silent => continue,
                Mood::BadChecksum => frame[4] ^= 0x10,
                Mood::Garbage => frame = vec![0xff; 40],
                Mood::Late => std::thread::sleep(2 * TIMEOUT),
                _ => {}
            }
            line.write_all(&frame).unwrap();
        }
    });
    path
}

/// The checksum by the table-free method of the specification's appendix, byte by byte.
fn sum(bytes: &[u8]) -> [u8; 2] {
    let mut crc = 0xffff_u16;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            let carry = crc % 2 == 1;
            crc /= 2;
            if carry {
                crc ^= 0xa001;
            }
        }
    }
    crc.to_le_bytes()
}

fn map() -> Map {
    let register = |name: &str, table, address, shape| Register {
        channel: ChannelId::new(name).unwrap(),
        table,
        address,
        shape,
        order: Order::Abcd,
        bit: 0,
        scale: 0.5,
        offset: 0.0,
        unit: Unit("bar".into()),
    };
    let registers = vec![
        register("a", Table::Holding, 10, Shape::U16),
        register("b", Table::Holding, 11, Shape::U32),
        register("c", Table::Input, 100, Shape::U16),
        register("d", Table::Coil, 3, Shape::Bit),
        register("e", Table::Discrete, 4, Shape::Bit),
    ];
    Map::new(registers, 0).unwrap()
}

fn driver(link: ModbusLink) -> Modbus {
    driver_of(link, UNIT)
}

fn driver_of(link: ModbusLink, unit: u8) -> Modbus {
    Modbus::new(ModbusOptions {
        name: "plc".into(),
        link,
        unit,
        map: map(),
        interval: Duration::from_secs(1),
        timeout: TIMEOUT,
    })
}

fn look(modbus: &mut Modbus) -> Vec<(String, Value)> {
    let mut out = Vec::new();
    modbus.poll(clock::stamp(), &mut out);
    let mut values: Vec<_> = out.into_iter().map(|r| (r.channel.to_string(), r.value)).collect();
    values.sort_by(|a, b| a.0.cmp(&b.0));
    values
}

/// Looks until the connection is made anew, and what is read then.
fn look_again(modbus: &mut Modbus) -> Vec<(String, Value)> {
    loop {
        let values = look(modbus);
        if values.iter().all(|(_, value)| value.is_ok()) {
            return values;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn well() -> Vec<(String, Value)> {
    let b = f64::from((12 << 16) + 13) / 2.0;
    [("a", 5.5), ("b", b), ("c", 50.5), ("d", 0.5), ("e", 0.0)].map(|(n, x)| (n.to_owned(), Ok(x))).to_vec()
}

fn all(why: NoData) -> Vec<(String, Value)> {
    well().into_iter().map(|(name, _)| (name, Err(why))).collect()
}

#[test]
fn every_table_is_read_over_tcp_in_as_few_questions_as_possible() {
    let device = Device::new();
    let mut modbus = driver(ModbusLink::Tcp(device.on_tcp()));
    let mut out = Vec::new();
    let infos = modbus.poll(clock::stamp(), &mut out);
    assert_eq!((infos.len(), infos[0].unit.0.as_str()), (5, "bar"));
    assert_eq!(look(&mut modbus), well());
    let asked = device.asked.lock().unwrap();
    assert_eq!(asked[..4], [(1, 3, 1), (2, 4, 1), (3, 10, 3), (4, 100, 1)]);
    assert_eq!(asked.len(), 8);
}

#[test]
fn whatever_a_device_does_there_is_a_reason_and_values_again_afterwards() {
    let device = Device::new();
    let mut modbus = driver(ModbusLink::Tcp(device.on_tcp()));
    assert_eq!(look(&mut modbus), well());
    for (mood, why) in [
        (Mood::Silent, NoData::TimedOut),
        (Mood::Late, NoData::TimedOut),
        (Mood::HangUp, NoData::NoAnswer),
        (Mood::Garbage, NoData::ReadFailed),
        (Mood::Refuse(2), NoData::ReadFailed),
        (Mood::OtherUnit, NoData::ReadFailed),
    ] {
        device.is(mood);
        assert_eq!(look(&mut modbus), all(why), "{mood:?}");
        device.is(Mood::Well);
        assert_eq!(look_again(&mut modbus), well(), "after {mood:?}");
    }
    device.is(Mood::Twice);
    for _ in 0..3 {
        assert_eq!(look(&mut modbus), well(), "a doubled answer is read once");
    }
}

#[test]
fn a_device_that_is_gone_is_looked_for_ever_more_rarely() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut modbus = driver(ModbusLink::Tcp(address));
    for _ in 0..200 {
        assert_eq!(look(&mut modbus), all(NoData::NoAnswer));
    }
    assert!(
        modbus.backoff.ceiling() < Duration::from_secs(60),
        "two hundred looks are no two hundred attempts"
    );
}

#[test]
fn a_serial_line_is_read_and_noise_lateness_and_silence_are_told_apart() {
    let device = Device::new();
    let options = SerialOptions { device: device.on_serial(), baud: 19_200, parity: Parity::Even };
    let mut modbus = driver(ModbusLink::Rtu(options));
    assert_eq!(look(&mut modbus), well());
    for (mood, why) in [
        (Mood::BadChecksum, NoData::BadChecksum),
        (Mood::Silent, NoData::TimedOut),
        (Mood::Refuse(6), NoData::ReadFailed),
        (Mood::Garbage, NoData::BadChecksum),
    ] {
        device.is(mood);
        let seen = look(&mut modbus);
        // Of noise that may look like a frame of any length, more may be awaited.
        let also = if mood == Mood::Garbage { NoData::TimedOut } else { why };
        assert!(seen == all(why) || seen == all(also), "{mood:?}: {seen:?}");
        device.is(Mood::Well);
        assert_eq!(look_again(&mut modbus), well(), "after {mood:?}");
    }
}

#[test]
fn a_late_answer_on_a_serial_line_is_never_taken_for_another() {
    let device = Device::new();
    let options = SerialOptions { device: device.on_serial(), baud: 115_200, parity: Parity::None };
    let mut modbus = driver(ModbusLink::Rtu(options));
    device.is(Mood::Late);
    assert_eq!(look(&mut modbus), all(NoData::TimedOut));
    std::thread::sleep(3 * TIMEOUT);
    device.is(Mood::Well);
    assert_eq!(look(&mut modbus), well());
}

/// Two sources on one line once took each other's bytes: every flush before a question threw away the other's answer.
#[test]
fn two_devices_on_one_line_are_read_side_by_side() {
    let devices = [Device::new(), Device::new()];
    let path =
        serial_line(devices.iter().cloned().zip([1, 2]).map(|(device, unit)| (unit, device)).collect());
    let options = SerialOptions { device: path, baud: 115_200, parity: Parity::Even };
    let sources = [1, 2].map(|unit| {
        let mut modbus = driver_of(ModbusLink::Rtu(options.clone()), unit);
        std::thread::spawn(move || (0..50).map(|_| look(&mut modbus)).collect::<Vec<_>>())
    });
    for source in sources {
        assert!(source.join().unwrap().iter().all(|values| *values == well()));
    }
    assert!(devices.iter().all(|device| device.asked.lock().unwrap().len() == 50 * 4));
}

/// Whoever gave the line back took it again at once, and the other one had it once it was through.
#[test]
fn who_has_waited_longest_has_the_line_next() {
    let options = SerialOptions { device: Device::new().on_serial(), baud: 9600, parity: Parity::Even };
    let (turns, both) = (std::sync::Mutex::new(Vec::new()), std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        for who in [1, 2] {
            let (options, turns, both) = (&options, &turns, &both);
            scope.spawn(move || {
                let bus = bus::Bus::open(options).unwrap();
                both.wait();
                for _ in 0..100 {
                    let act = |_: &mut _| {
                        turns.lock().unwrap().push(who);
                        std::thread::sleep(Duration::from_millis(1));
                        Ok(())
                    };
                    bus.with(act).unwrap();
                }
            });
        }
    });
    let turns = turns.into_inner().unwrap();
    let changes = turns.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes > 180, "{changes} changes in {turns:?}");
}

#[test]
fn a_device_that_is_silent_leaves_its_neighbour_on_the_line_alone() {
    let (silent, talking) = (Device::new(), Device::new());
    silent.is(Mood::Silent);
    let path = serial_line(vec![(1, silent), (2, talking)]);
    let link = ModbusLink::Rtu(SerialOptions { device: path, baud: 115_200, parity: Parity::Even });
    let (mut first, mut second) = (driver_of(link.clone(), 1), driver_of(link, 2));
    for _ in 0..3 {
        assert_eq!(look(&mut first), all(NoData::TimedOut));
        assert_eq!(look(&mut second), well());
    }
}

#[test]
fn a_line_is_not_shared_with_who_would_drive_it_otherwise() {
    let options = SerialOptions { device: Device::new().on_serial(), baud: 9600, parity: Parity::Even };
    let bus = bus::Bus::open(&options).unwrap();
    let other = SerialOptions { baud: 19_200, ..options.clone() };
    let refused = bus::Bus::open(&other).map(drop).unwrap_err();
    assert!(refused.to_string().contains("another program has the line"), "{refused}");
    bus::Bus::open(&options).unwrap();
    drop(bus);
    bus::Bus::open(&other).unwrap();
}

#[test]
fn a_line_that_is_not_there_has_no_answer() {
    let options = SerialOptions { device: "/dev/no-such-line".into(), baud: 9600, parity: Parity::Even };
    let mut modbus = driver(ModbusLink::Rtu(options));
    assert_eq!(look(&mut modbus), all(NoData::NoAnswer));
}
