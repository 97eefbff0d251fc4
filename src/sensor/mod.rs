//! Sources of readings: host vitals, replayed recordings, lines, logs.
//!
//! Every source runs on a thread of its own, `bus:<name>`, and hands [`Batch`]es to one bounded channel. What a source
//! does when that channel is full is part of what it is:
//!
//! | source | when full |
//! |---|---|
//! | [`HostOptions`] | drops the batch and counts it: the next second brings a fresher one |
//! | [`ReplayOptions`] | waits: a recording has time |
//! | [`LinesOptions`] | stops reading its socket, so that the sender feels it |
//! | [`BusOptions`] | drops the batch and counts it, as the host does |
//! | [`SysfsOptions`], [`BufferOptions`], [`GpioOptions`] | likewise |
//! | [`LogsOptions`] | goes on reading and counting; the window grows |
//!
//! A read that fails is a reading with `Err(NoData::ReadFailed)`, never silence. What can't be understood is counted,
//! and sampled in the log. This room counts what it hands over (`READINGS` and its kin); nobody above does it again.

mod bus;
mod can;
pub mod chips;
mod csv;
mod exec;
mod field;
mod gpio;
mod host;
mod lines;
mod logs;
mod malformed;
mod modbus;
mod names;
mod outlet;
mod push;
mod replay;
mod subscribe;
pub mod survey;
mod sysfs;
mod timestamp;

pub use bus::{BusOptions, ChipOptions};
pub use can::CanOptions;
pub use csv::{CsvError, CsvOptions, CsvReader};
pub use exec::ExecOptions;
pub use field::{FieldOptions, spawn_frames};
pub use gpio::{Bias, GpioOptions, LineMode, LineOptions};
pub use host::{Host, HostOptions};
pub use lines::{Input, LineParser, LinesOptions, Malformed, Precision};
pub use logs::{LogInput, LogsOptions, Syslog, SyslogError, syslog};
pub use modbus::{ModbusLink, ModbusOptions, Parity, SerialOptions};
pub use outlet::{Batch, Receipt, SourceStats};
pub use push::PushOptions;
pub use replay::ReplayOptions;
pub use subscribe::{Login, SubscribeOptions};
pub use survey::Survey;
pub use sysfs::{BufferOptions, Sysfs, SysfsKind, SysfsOptions};

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use smol::channel::{Receiver, Sender};

use crate::clock;
use crate::limits;
use crate::observe::{emit, sensor as events};
use crate::reading::{ChannelId, ChannelInfo, Reading};
use crate::time::Stamp;
use outlet::{Closed, Outlet};

/// What to read.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceOptions {
    /// The vitals of this machine.
    Host(HostOptions),
    /// A recording, at its own pace or faster.
    Replay(ReplayOptions),
    /// Lines from standard input or a socket.
    Lines(LinesOptions),
    /// Chips on an I2C or SPI bus.
    Bus(BusOptions),
    /// What kernel drivers publish as files.
    Sysfs(SysfsOptions),
    /// A fast IIO device, from its buffer.
    IioBuffer(BufferOptions),
    /// Lines of a GPIO chip.
    Gpio(GpioOptions),
    /// Logs, field buses and other programs.
    Field(FieldOptions),
}

impl SourceOptions {
    /// A file beside the configuration that says what to read or how: with another content it is another source.
    pub fn file(&self) -> Option<&Path> {
        match self {
            SourceOptions::Field(options) => options.file(),
            _ => None,
        }
    }

    /// What stands in that file now; none where there is none to read. Blocks shortly.
    pub fn content(&self) -> Result<Option<Vec<u8>>, SourceError> {
        self.file().map(field::content).transpose()
    }
}

/// Something that is asked for its readings at a fixed pace: a driver. The one seam of this room.
pub trait Sensor: Send {
    /// Reads everything once and appends it to `out`, what can't be read as `Err(NoData::ReadFailed)`. May block for
    /// as long as the hardware takes. Returns descriptions of channels that are new or have changed.
    fn poll(&mut self, now: Stamp, out: &mut Vec<Reading>) -> Vec<ChannelInfo>;
}

/// Why a source can't start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The configuration's fault.
    #[error(
        "source name {name:?} is not usable: use 1 to {} characters of A-Z a-z 0-9 _ - . / :",
        limits::CHANNEL_NAME_BYTES_MAX
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The recording's fault.
    #[error(transparent)]
    Csv(#[from] CsvError),
    /// The configuration's fault, or another program holds the place.
    #[error("cannot listen on {place}: {source}; choose a free place that this user may use")]
    Listen {
        /// Path or address.
        place: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The configuration's fault.
    #[error("{address} is reachable from outside this machine; use 127.0.0.1 or [::1], or set allow_remote")]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The configuration's fault: the program is not there, or may not be run.
    #[error("cannot run {program}: {source}; install it, or take the source out")]
    Program {
        /// Name or path.
        program: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The configuration's fault, or the file's.
    #[error("{}: {what}", .path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The operating system's fault.
    #[error("cannot start a thread for source {name}: {source}")]
    Thread {
        /// The source.
        name: String,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// Ends every source that holds the other end, by being dropped.
#[derive(Debug)]
pub struct Stopper(#[expect(dead_code, reason = "its drop is the message")] Sender<Infallible>);

/// Tells a source to end; cheap to clone.
#[derive(Debug, Clone)]
pub struct Stop(Receiver<Infallible>);

/// A pair: the sources run until the [`Stopper`] is dropped.
pub fn stopper() -> (Stopper, Stop) {
    let (sender, receiver) = smol::channel::bounded(1);
    (Stopper(sender), Stop(receiver))
}

impl Stop {
    /// Waits until the [`Stopper`] is dropped.
    pub async fn requested(&self) {
        // Nothing can be sent, so this returns when the other end is gone.
        let _ = self.0.recv().await;
    }
}

/// A running source.
#[derive(Debug)]
pub struct SourceHandle {
    name: Arc<str>,
    thread: JoinHandle<()>,
    failure: Arc<OnceLock<String>>,
    stats: Arc<outlet::Counters>,
    address: Option<SocketAddr>,
}

impl SourceHandle {
    /// The configured name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it has done so far.
    pub fn stats(&self) -> SourceStats {
        self.stats.snapshot()
    }

    /// Where it listens, if it listens on TCP.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Whether it has ended by itself or was stopped.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Why it had to end, once [`SourceHandle::is_finished`]; none after an orderly end or a panic.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Waits for its end; drop the [`Stopper`] first. Blocks for one read of the source at most.
    pub fn join(self) {
        // The thread has no way to panic that a caller could mend.
        let _ = self.thread.join();
    }
}

/// Opens the source and starts its thread, see [`spawn_with`].
pub fn spawn(
    name: &str,
    options: SourceOptions,
    out: Sender<Batch>,
    stop: Stop,
) -> Result<SourceHandle, SourceError> {
    let content = options.content()?;
    spawn_with(name, options, content.as_deref(), out, stop)
}

/// Opens the source and starts its thread. Blocks for as long as it takes to open a file or bind a socket. Its own file is not
/// read again: `content` is what [`SourceOptions::content`] has given.
///
/// Errors: what is wrong at the start is an error here; what goes wrong later ends the source with an event.
pub fn spawn_with(
    name: &str,
    options: SourceOptions,
    content: Option<&[u8]>,
    out: Sender<Batch>,
    stop: Stop,
) -> Result<SourceHandle, SourceError> {
    ChannelId::new(name).map_err(|bad| SourceError::Name { name: bad.name })?;
    match options {
        SourceOptions::Host(options) => {
            let (interval, from) = (options.interval, options.root.display().to_string());
            let sensor = Host::new(options);
            start(name, "host", from, None, out, stop, async move |outlet| {
                polled(sensor, interval, outlet).await
            })
        }
        SourceOptions::Replay(options) => {
            let from = options.path.display().to_string();
            let replay = replay::Replay::open(options)?;
            start(name, "replay", from, None, out, stop, async move |outlet| replay.run(outlet).await)
        }
        SourceOptions::Lines(options) => {
            let server = lines::Server::bind(options)?;
            let (from, address) = (server.place(), server.address());
            start(name, "lines", from, address, out, stop, async move |outlet| server.run(outlet).await)
        }
        SourceOptions::Bus(options) => {
            let (kind, from) =
                (if options.spi { "spi" } else { "i2c" }, options.device.display().to_string());
            start(name, kind, from, None, out, stop, async move |outlet| bus::run(options, outlet).await)
        }
        SourceOptions::Sysfs(options) => {
            let (interval, from) = (options.interval, options.root.join("sys").display().to_string());
            let (kind, sensor) = (options.kind.name(), Sysfs::new(options));
            start(name, kind, from, None, out, stop, async move |o| polled(sensor, interval, o).await)
        }
        SourceOptions::IioBuffer(options) => {
            let from = options.device.clone();
            start(name, "iio", from, None, out, stop, async move |o| sysfs::buffer::run(options, o).await)
        }
        SourceOptions::Gpio(options) => {
            let from = options.device.display().to_string();
            start(name, "gpio", from, None, out, stop, async move |o| gpio::run(options, o).await)
        }
        SourceOptions::Field(options) => field::spawn(name, options, content, out, stop),
    }
}

/// Starts a thread that polls any [`Sensor`] every `interval`; the policy when full is that of host vitals.
pub fn spawn_polled(
    name: &str,
    sensor: impl Sensor + 'static,
    interval: Duration,
    out: Sender<Batch>,
    stop: Stop,
) -> Result<SourceHandle, SourceError> {
    ChannelId::new(name).map_err(|bad| SourceError::Name { name: bad.name })?;
    start(name, "polled", name.to_owned(), None, out, stop, async move |o| polled(sensor, interval, o).await)
}

fn start<F>(
    name: &str,
    kind: &'static str,
    from: String,
    address: Option<SocketAddr>,
    out: Sender<Batch>,
    stop: Stop,
    run: F,
) -> Result<SourceHandle, SourceError>
where
    F: AsyncFnOnce(Outlet) -> Result<(), SourceError> + Send + 'static,
{
    let name: Arc<str> = Arc::from(name);
    let outlet = Outlet::new(Arc::clone(&name), out);
    let stats = outlet.counters();
    let failure: Arc<OnceLock<String>> = Arc::default();
    let (source, counters, failed) = (Arc::clone(&name), Arc::clone(&stats), Arc::clone(&failure));
    let body = move || {
        emit(&events::SourceStarted { source: &source, kind, from });
        let stopped = async {
            stop.requested().await;
            Ok(())
        };
        let ended = smol::block_on(smol::future::or(stopped, run(outlet)));
        if let Err(error) = &ended {
            emit(&events::SourceFailed { source: &source, error });
            failed.get_or_init(|| error.to_string());
        }
        let stats = counters.snapshot();
        emit(&events::SourceEnded { source: &source, readings: stats.readings, malformed: stats.malformed });
    };
    let thread = std::thread::Builder::new()
        .name(format!("bus:{name}"))
        .spawn(body)
        .map_err(|source| SourceError::Thread { name: name.to_string(), source })?;
    Ok(SourceHandle { name, thread, failure, stats, address })
}

/// Polls at a steady pace; a poll that takes longer than the interval delays the next, and none is made up for.
async fn polled(mut sensor: impl Sensor, interval: Duration, outlet: Outlet) -> Result<(), SourceError> {
    let interval = interval.max(Duration::from_millis(limits::POLL_INTERVAL_MS_MIN));
    let mut due = clock::mono();
    let mut infos = Vec::new();
    loop {
        let mut readings = Vec::new();
        infos.extend(sensor.poll(clock::stamp(), &mut readings));
        match outlet.offer(readings, infos) {
            Ok(unsent) => infos = unsent,
            Err(Closed) => return Ok(()),
        }
        let now = clock::mono();
        due = (due + interval).max(now);
        smol::Timer::after(due.since(now)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::NoData;

    /// Every poll reads one channel more than the one before.
    struct Growing(usize);

    impl Sensor for Growing {
        fn poll(&mut self, now: Stamp, out: &mut Vec<Reading>) -> Vec<ChannelInfo> {
            self.0 += 1;
            let channel = |n: usize| ChannelId::new(&format!("c{n}")).unwrap();
            out.extend((1..=self.0).map(|n| Reading::new(channel(n), now.wall, Err(NoData::ReadFailed))));
            vec![ChannelInfo::guess(&channel(self.0))]
        }
    }

    #[test]
    fn a_polled_source_drops_what_nobody_takes_and_keeps_its_descriptions() {
        let (sender, receiver) = smol::channel::bounded(1);
        let (stopper, stop) = stopper();
        let handle = spawn_polled("fake", Growing(0), Duration::from_millis(2), sender, stop).unwrap();
        while handle.stats().dropped < 20 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut described = Vec::new();
        for _ in 0..3 {
            described.extend(receiver.recv_blocking().unwrap().infos.into_iter().map(|i| i.id.to_string()));
        }
        let expected: Vec<_> = (1..=described.len()).map(|n| format!("c{n}")).collect();
        assert_eq!(described, expected, "each channel once, none left out");
        assert!(described.len() > 3);
        drop(stopper);
        handle.join();
    }

    #[test]
    fn host_vitals_come_at_their_pace_until_they_are_stopped() {
        let (sender, receiver) = smol::channel::bounded(8);
        let (stopper, stop) = stopper();
        let options = HostOptions { interval: Duration::from_millis(5), ..HostOptions::default() };
        let handle = spawn("vitals", SourceOptions::Host(options), sender, stop).unwrap();
        let batch = receiver.recv_blocking().unwrap();
        assert!(batch.readings.iter().any(|r| r.channel.as_str() == "host.memory"));
        drop(stopper);
        handle.join();
    }

    #[test]
    fn a_source_ends_when_the_pipeline_is_gone() {
        let (sender, receiver) = smol::channel::bounded(1);
        let (_stopper, stop) = stopper();
        let handle = spawn_polled("fake", Growing(0), Duration::from_millis(1), sender, stop).unwrap();
        drop(receiver);
        handle.join();
    }

    #[test]
    fn a_source_that_had_to_end_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.csv");
        std::fs::write(&path, "ts,x\n1,1\n").unwrap();
        let options = ReplayOptions {
            path: path.clone(),
            csv: CsvOptions::default(),
            speed: 20.0,
            repeat: true,
            shift_to: None,
        };
        let (sender, receiver) = smol::channel::bounded(64);
        let (_stopper, stop) = stopper();
        let handle = spawn("x", SourceOptions::Replay(options), sender, stop).unwrap();
        assert_eq!(handle.failure(), None);
        std::fs::remove_file(&path).unwrap();
        while receiver.recv_blocking().is_ok_and(|batch| !batch.end) {}
        while !handle.is_finished() {
            std::thread::yield_now();
        }
        assert!(handle.failure().unwrap().contains("x.csv"), "{:?}", handle.failure());
    }

    #[test]
    fn a_name_that_no_thread_could_bear_is_refused() {
        let (sender, _receiver) = smol::channel::bounded(1);
        let (_stopper, stop) = stopper();
        let error = spawn("a\0b", SourceOptions::Host(HostOptions::default()), sender, stop).unwrap_err();
        assert!(matches!(error, SourceError::Name { .. }));
    }
}
