//! A CAN bus through the kernel's socketcan, its frames read by a DBC file.
//!
//! A bus carries thousands of frames a second that say the same: of each signal the newest value within an interval is a
//! reading, named `<message>.<signal>`. What is not heard has no reading, and the agent misses it as it misses any channel.
//! While the interface is down or gone, what was heard before is said to have no answer ([`NoData::NoAnswer`]); it is opened
//! again after waits that double. CAN FD frames are not asked for.

mod socket;

pub(super) use socket::open;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use smol::future::{or, yield_now};
use smol::{Async, Timer};

use super::outlet::{Closed, Outlet};
use super::{SourceError, names};
use crate::clock;
use crate::field::dbc::Dbc;
use crate::limits;
use crate::observe::{emit, field as events};
use crate::reading::{ChannelId, ChannelInfo, NoData, Reading, Value, value_from_f64};
use crate::sync::backoff::{Backoff, BackoffOptions, Cause};
use crate::time::{Mono, Wall};

/// Which bus, and what is read of it.
#[derive(Debug, Clone, PartialEq)]
pub struct CanOptions {
    /// Network interface, such as `can0`.
    pub interface: String,
    /// Put before every channel name.
    pub channel_prefix: String,
    /// The DBC file: what lies in which frame.
    pub dbc: PathBuf,
    /// At most one reading per signal and interval.
    pub interval: Duration,
}

/// What the DBC file `path` of the source of that name says; tells what of it is left out.
///
/// Errors: the file's, with its line.
pub(super) fn parse(source: &str, path: &Path, content: &[u8]) -> Result<Arc<Dbc>, SourceError> {
    let wrong = |what: String| SourceError::File { path: path.to_owned(), what };
    // Older tools write units in Latin-1.
    let dbc = Dbc::parse(&String::from_utf8_lossy(content)).map_err(|e| wrong(e.to_string()))?;
    if let [first, ..] = dbc.left_out() {
        emit(&events::SignalsLeftOut { source, path, entries: dbc.left_out().len(), first });
    }
    Ok(Arc::new(dbc))
}

/// Reads until the pipeline is gone what `open` gives for the interface.
pub(super) async fn run(
    options: CanOptions,
    dbc: Arc<Dbc>,
    outlet: Outlet,
    open: impl Fn(&str) -> io::Result<File>,
) -> Result<(), SourceError> {
    let mut bus = Bus::new(&options, dbc, &outlet);
    let mut backoff = Backoff::new(BackoffOptions::default());
    let mut rng = fastrand::Rng::new();
    let mut is_down = false;
    loop {
        let began = clock::mono();
        let error = match open(&options.interface).and_then(Async::new) {
            Ok(socket) => {
                if std::mem::take(&mut is_down) {
                    emit(&events::PeerRecovered { source: outlet.source(), peer: &options.interface });
                }
                match bus.listen(&socket).await {
                    Ok(Closed) => return Ok(()),
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        emit(&events::FieldFault { kind: events::FaultKind::Connection });
        if !std::mem::replace(&mut is_down, true) {
            emit(&events::PeerFailed { source: outlet.source(), peer: &options.interface, error: &error });
        }
        backoff.lived(clock::mono().since(began));
        if bus.miss(clock::mono() + backoff.failed(Cause::Line, &mut rng)).await.is_err() {
            return Ok(());
        }
    }
}

/// What was heard.
struct Bus<'a> {
    options: &'a CanOptions,
    dbc: Arc<Dbc>,
    outlet: &'a Outlet,
    /// The channel of each signal by message id and place in it; none where no channel can have the name.
    channels: HashMap<(u32, String), Option<ChannelId>>,
    newest: HashMap<ChannelId, (Wall, Value)>,
    infos: Vec<ChannelInfo>,
    due: Mono,
}

impl<'a> Bus<'a> {
    fn new(options: &'a CanOptions, dbc: Arc<Dbc>, outlet: &'a Outlet) -> Self {
        Self {
            options,
            dbc,
            outlet,
            channels: HashMap::new(),
            newest: HashMap::new(),
            infos: Vec::new(),
            due: clock::mono() + options.interval,
        }
    }

    /// Waits until then, and says at the usual pace that what was heard so far has no answer.
    async fn miss(&mut self, until: Mono) -> Result<(), Closed> {
        // What came before is not overwritten.
        self.hand_over().await?;
        loop {
            let now = clock::mono();
            if now >= self.due {
                self.due = now + self.options.interval;
                let at = clock::wall();
                let known = self.channels.values().flatten().cloned();
                self.newest.extend(known.map(|channel| (channel, (at, Err(NoData::NoAnswer)))));
                self.hand_over().await?;
            }
            if now >= until {
                return Ok(());
            }
            Timer::after(self.due.min(until).since(now)).await;
        }
    }

    /// Errors: the interface's.
    async fn listen(&mut self, socket: &Async<File>) -> io::Result<Closed> {
        let mut frame = [0; FRAME_BYTES];
        loop {
            let heard = or(async { Some(socket.read_with(|mut file| file.read(&mut frame)).await) }, async {
                Timer::after(self.due.since(clock::mono())).await;
                None
            });
            match heard.await {
                Some(Ok(FRAME_BYTES)) => self.take(&frame),
                Some(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(Ok(_)) => emit(&events::FieldFault { kind: events::FaultKind::Refused }),
                Some(Err(error)) => return Err(error),
                None => {}
            }
            if clock::mono() >= self.due {
                self.due = clock::mono() + self.options.interval;
                if self.hand_over().await.is_err() {
                    return Ok(Closed);
                }
            }
            // A bus that always has more must leave a stop its turn.
            yield_now().await;
        }
    }

    /// One `struct can_frame`: id and flags in the machine's order, length, three bytes of padding, eight of data.
    fn take(&mut self, frame: &[u8; FRAME_BYTES]) {
        let [i0, i1, i2, i3, len, _, _, _, data @ ..] = frame;
        let word = u32::from_ne_bytes([*i0, *i1, *i2, *i3]);
        if word & ERROR_FLAG != 0 {
            return emit(&events::FieldFault { kind: events::FaultKind::Refused });
        }
        if word & REMOTE_FLAG != 0 {
            return;
        }
        // DBC files tell extended ids by the same bit.
        let id = if word & EXTENDED_FLAG != 0 { word & (EXTENDED_FLAG | 0x1fff_ffff) } else { word & 0x7ff };
        let dbc = Arc::clone(&self.dbc);
        let Some(message) = dbc.message(id) else { return };
        let at = clock::wall();
        for (signal, value) in message.values(&data[..usize::from(*len).min(data.len())]) {
            if let Some(channel) = self.channel(id, &message.name, &signal.name, &signal.unit) {
                self.newest.insert(channel, (at, value_from_f64(value)));
            }
        }
    }

    fn channel(&mut self, id: u32, message: &str, signal: &str, unit: &str) -> Option<ChannelId> {
        if let Some(known) = self.channels.get(&(id, signal.to_owned())) {
            return known.clone();
        }
        let name = format!("{}{message}.{signal}", self.options.channel_prefix);
        let channel = names::channel(&name).ok();
        let unit = (!unit.is_empty() && unit.len() <= limits::UNIT_BYTES_MAX).then_some(unit);
        self.infos.extend(channel.as_ref().map(|channel| names::described(channel, &name, unit)));
        self.channels.insert((id, signal.to_owned()), channel.clone());
        channel
    }

    async fn hand_over(&mut self) -> Result<(), Closed> {
        let newest = self.newest.drain();
        let readings: Vec<Reading> =
            newest.map(|(channel, (at, value))| Reading::new(channel, at, value)).collect();
        if readings.is_empty() {
            return if self.outlet.is_closed() { Err(Closed) } else { Ok(()) };
        }
        self.infos = self.outlet.offer(readings, std::mem::take(&mut self.infos))?;
        Ok(())
    }
}

const FRAME_BYTES: usize = 16;
const EXTENDED_FLAG: u32 = 0x8000_0000;
const REMOTE_FLAG: u32 = 0x4000_0000;
const ERROR_FLAG: u32 = 0x2000_0000;

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::sensor::Batch;
    use smol::channel::Receiver;

    const DBC: &str = "BO_ 500 Motor: 8 E\n SG_ Speed : 0|16@1+ (0.25,0) [0|0] \"rpm\" X\n\
                       BO_ 2566844926 Far: 8 E\n SG_ Level : 7|8@0- (1,0) [0|0] \"\" X\n";

    fn options(interface: &str) -> CanOptions {
        CanOptions {
            interface: interface.into(),
            channel_prefix: "truck.".into(),
            dbc: PathBuf::new(),
            interval: Duration::from_millis(50),
        }
    }

    fn dbc() -> Arc<Dbc> {
        Arc::new(Dbc::parse(DBC).unwrap())
    }

    fn outlet() -> (Outlet, Receiver<Batch>) {
        let (sender, receiver) = smol::channel::bounded(64);
        (Outlet::new("can".into(), sender), receiver)
    }

    fn frame(id: u32, data: &[u8]) -> [u8; FRAME_BYTES] {
        let mut frame = [0; FRAME_BYTES];
        frame[..4].copy_from_slice(&id.to_ne_bytes());
        frame[4] = data.len() as u8;
        frame[8..8 + data.len()].copy_from_slice(data);
        frame
    }

    /// The kernel may have no CAN: then a pair of sockets carries the same frames.
    #[test]
    fn frames_become_the_newest_value_of_each_signal_per_interval() {
        let (bus_end, driver_end) = UnixDatagram::pair().unwrap();
        let file = File::from(OwnedFd::from(driver_end));
        let (outlet, batches) = outlet();
        let options = options("none");
        let sender = std::thread::spawn(move || {
            for n in 0..2000_u16 {
                bus_end.send(&frame(500, &n.to_le_bytes())).unwrap();
            }
            for odd in [
                frame(EXTENDED_FLAG | 500, &[9; 8]),
                frame(ERROR_FLAG | 1, &[0; 8]),
                frame(REMOTE_FLAG | 500, &[0; 8]),
            ] {
                bus_end.send(&odd).unwrap();
            }
            bus_end.send(b"garbage").unwrap();
            bus_end.send(&frame(2_566_844_926, &[0xff])).unwrap();
            // Held open until everything was read.
            bus_end
        });
        let listening = async {
            let socket = Async::new(file).unwrap();
            Bus::new(&options, dbc(), &outlet).listen(&socket).await.map(|_| ())
        };
        let collecting = async {
            let (mut readings, mut infos) = (Vec::new(), Vec::new());
            while !readings.iter().any(|r: &Reading| r.channel.as_str() == "truck.Far.Level") {
                let batch = batches.recv().await.unwrap();
                readings.extend(batch.readings);
                infos.extend(batch.infos);
            }
            let speeds: Vec<f64> = readings
                .iter()
                .filter(|r| r.channel.as_str() == "truck.Motor.Speed")
                .map(|r| r.value.unwrap())
                .collect();
            assert!(speeds.len() < 200, "{} readings of 2000 frames", speeds.len());
            assert_eq!(speeds.last(), Some(&(1999.0 * 0.25)));
            let level = readings.iter().find(|r| r.channel.as_str() == "truck.Far.Level").unwrap();
            assert_eq!(level.value, Ok(-1.0));
            assert_eq!(
                infos.iter().map(|i| i.unit.0.as_str()).collect::<Vec<_>>(),
                ["rpm", "m"],
                "a guess where the file has none"
            );
            Ok(())
        };
        smol::block_on(or(listening, collecting)).unwrap();
        drop(sender.join().unwrap());
    }

    /// An interface of the kernel's own, made where this user may and the kernel has it.
    fn virtual_interface() -> Option<&'static str> {
        const NAME: &str = "vcan-test";
        let ip = |arguments: &[&str]| {
            let run = std::process::Command::new("ip").args(arguments).output();
            run.is_ok_and(|output| output.status.success())
        };
        ip(&["link", "add", "dev", NAME, "type", "vcan"]);
        ip(&["link", "set", "up", NAME]).then_some(NAME)
    }

    #[test]
    fn frames_come_through_the_kernels_own_sockets() {
        let Some(interface) = virtual_interface() else {
            eprintln!("no vcan in this kernel, or no right to make one: skipped");
            return;
        };
        let (outlet, batches) = outlet();
        let options = options(interface);
        let mut sender = socket::open(interface).unwrap();
        let listening = async {
            run(options, dbc(), outlet, socket::open).await.unwrap();
        };
        let collecting = async {
            // Until the listener is there nobody hears.
            loop {
                std::io::Write::write_all(&mut sender, &frame(500, &[4, 0])).unwrap();
                Timer::after(Duration::from_millis(20)).await;
                if let Ok(batch) = batches.try_recv() {
                    assert_eq!(batch.readings[0].value, Ok(1.0));
                    return;
                }
            }
        };
        smol::block_on(or(listening, collecting));
    }

    #[test]
    fn a_bus_that_is_down_has_no_answer_for_what_was_heard_before() {
        let (outlet, batches) = outlet();
        let options = options("none");
        let mut bus = Bus::new(&options, dbc(), &outlet);
        bus.take(&frame(500, &[1, 0]));
        let mut told = Vec::new();
        while told.len() < 3 {
            smol::block_on(bus.miss(clock::mono() + options.interval)).unwrap();
            while let Ok(batch) = batches.try_recv() {
                told.extend(batch.readings.into_iter().map(|r| (r.channel.as_str().to_owned(), r.value)));
            }
        }
        assert!(told.iter().all(|(channel, _)| channel == "truck.Motor.Speed"), "the other was never heard");
        assert!(told[0].1.is_ok(), "what came before the bus went down");
        assert!(told[1..].iter().all(|(_, value)| *value == Err(NoData::NoAnswer)), "{told:?}");
    }

    #[test]
    fn a_bus_that_goes_down_and_comes_back_has_values_then_no_answer_then_values() {
        let (outlet, batches) = outlet();
        let options = options("none");
        let dbc = dbc();
        // A bus of one frame, one that is not there, and another of one frame that stays.
        let (first, second) = (bus_of(4), bus_of(8));
        let opened = std::cell::Cell::new(0);
        let open = |_: &str| {
            opened.set(opened.get() + 1);
            match opened.get() {
                1 => first.0.try_clone(),
                2 => Err(io::ErrorKind::NotFound.into()),
                _ => second.0.try_clone(),
            }
        };
        drop(first.1);
        let mut told: Vec<Value> = Vec::new();
        let collecting = async {
            while told.last() != Some(&Ok(2.0)) {
                told.extend(batches.recv().await.unwrap().readings.into_iter().map(|r| r.value));
            }
        };
        smol::block_on(or(collecting, async { run(options, dbc, outlet, open).await.unwrap() }));
        let lost = told.iter().filter(|value| **value == Err(NoData::NoAnswer)).count();
        assert!(told[0] == Ok(1.0) && lost == told.len() - 2 && lost > 0, "{told:?}");
    }

    /// What reads like a socket that had one frame, and its other end, with which it ends.
    fn bus_of(speed: u8) -> (File, std::io::PipeWriter) {
        let (reader, mut writer) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut writer, &frame(500, &[speed, 0])).unwrap();
        (File::from(OwnedFd::from(reader)), writer)
    }

    #[test]
    fn a_file_with_a_mistake_is_told_with_its_line() {
        let text = "BO_ 1 M: 8 E\n SG_ S : 0|16@9+ (1,0) [0|0] \"\" X\n";
        let error = parse("can", Path::new("x.dbc"), text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("x.dbc: line 2: "), "{error}");
    }

    #[test]
    fn a_bus_that_ends_is_an_error_and_one_that_is_not_there_too() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(writer);
        let (outlet, _batches) = outlet();
        let options = options("no-such-bus");
        let file = Async::new(File::from(OwnedFd::from(reader))).unwrap();
        assert!(smol::block_on(Bus::new(&options, dbc(), &outlet).listen(&file)).is_err());
        assert!(socket::open("no-such-bus").is_err());
    }
}
