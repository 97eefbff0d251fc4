//! Modbus over TCP and over a serial line (RTU): holding and input registers, coils, discrete inputs.
//!
//! One source is one connection to one device, or through one gateway to one unit. Sources of one serial line share it (see
//! [`bus`]). A look reads the map's spans in order.
//! What fails has its reason: [`NoData::TimedOut`], [`NoData::BadChecksum`], [`NoData::NoAnswer`] while there is no
//! connection, [`NoData::ReadFailed`] for an exception of the device or an answer that is none. A time-out ends the look, so
//! that it takes little longer than one time-out; the next look begins with the span behind it. A connection that broke is
//! made anew after waits that double.

mod bus;
mod port;
mod serial;
#[cfg(test)]
mod tests;

pub use serial::{Parity, SerialOptions};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Sensor, names};
use crate::clock;
use crate::field::modbus::{Answer, Exception, FrameError, Map, Request, Span};
use crate::observe::{emit, field as events};
use crate::reading::{ChannelInfo, NoData, Reading};
use crate::sync::backoff::{Backoff, BackoffOptions, Cause};
use crate::time::{Mono, Stamp};
use port::Port;

/// Which device, and what is read of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ModbusOptions {
    /// Name of the source, for its events.
    pub name: String,
    /// How it is reached.
    pub link: ModbusLink,
    /// Address of the device, 0 to 255.
    pub unit: u8,
    /// What is read.
    pub map: Map,
    /// Between two looks.
    pub interval: Duration,
    /// Longest wait for a connection, and for an answer.
    pub timeout: Duration,
}

/// How a device is reached.
#[derive(Debug, Clone, PartialEq)]
pub enum ModbusLink {
    /// Modbus TCP.
    Tcp(SocketAddr),
    /// A serial line.
    Rtu(SerialOptions),
}

impl ModbusLink {
    pub(super) fn place(&self) -> String {
        match self {
            ModbusLink::Tcp(address) => address.to_string(),
            ModbusLink::Rtu(options) => options.device.display().to_string(),
        }
    }
}

/// Why a span has no values.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("no answer in time")]
    TimedOut,
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{}", _0.words())]
    Refused(Exception),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Fault {
    fn no_data(&self) -> NoData {
        match self {
            Fault::TimedOut => NoData::TimedOut,
            Fault::Frame(FrameError::Checksum) => NoData::BadChecksum,
            Fault::Frame(_) | Fault::Refused(_) => NoData::ReadFailed,
            Fault::Io(_) => NoData::NoAnswer,
        }
    }
}

/// The driver.
pub(super) struct Modbus {
    options: ModbusOptions,
    name: Arc<str>,
    port: Option<Port>,
    backoff: Backoff,
    rng: fastrand::Rng,
    /// When the next attempt to connect is due.
    retry_at: Option<Mono>,
    transaction: u16,
    /// The span that a look begins with.
    first: usize,
    described: bool,
    /// What was told last, so that a fault that lasts is told once.
    told: Option<String>,
}

impl Modbus {
    /// Connects with the first look.
    pub(super) fn new(options: ModbusOptions) -> Self {
        Self {
            name: Arc::from(options.name.as_str()),
            options,
            port: None,
            backoff: Backoff::new(BackoffOptions::default()),
            rng: fastrand::Rng::new(),
            retry_at: None,
            transaction: 0,
            first: 0,
            described: false,
            told: None,
        }
    }

    /// Connected now, or why not.
    fn connect(&mut self) -> Result<(), Fault> {
        if self.port.is_some() {
            return Ok(());
        }
        let now = clock::mono();
        if self.retry_at.is_some_and(|at| now < at) {
            return Err(Fault::Io(std::io::ErrorKind::NotConnected.into()));
        }
        match Port::open(&self.options.link, self.options.timeout) {
            Ok(port) => {
                self.port = Some(port);
                Ok(())
            }
            Err(error) => {
                self.retry_at = Some(now + self.backoff.failed(Cause::Line, &mut self.rng));
                Err(error.into())
            }
        }
    }

    fn ask(&mut self, span: Span) -> Result<Vec<u16>, Fault> {
        self.connect()?;
        let Some(port) = &mut self.port else { return Err(Fault::TimedOut) };
        self.transaction = self.transaction.wrapping_add(1);
        let Span { table, first, count } = span;
        let request = Request { transaction: self.transaction, unit: self.options.unit, table, first, count };
        let answer = port.exchange(&request, self.options.timeout);
        match answer {
            Ok(Answer::Values(values)) => {
                self.backoff = Backoff::new(BackoffOptions::default());
                Ok(values)
            }
            Ok(Answer::Refused(exception)) => Err(Fault::Refused(exception)),
            Err(fault) => {
                // What is still under way would be taken for the answer to something else.
                if matches!((&self.options.link, &fault), (ModbusLink::Tcp(_), _) | (_, Fault::Io(_))) {
                    self.port = None;
                    let wait = self.backoff.failed(Cause::Line, &mut self.rng);
                    self.retry_at = Some(clock::mono() + wait);
                }
                Err(fault)
            }
        }
    }

    fn note(&mut self, fault: Option<&Fault>) {
        let text = fault.map(ToString::to_string);
        match (&self.told, fault) {
            (_, Some(fault)) => {
                emit(&events::FieldFault { kind: events::FaultKind::of(fault.no_data()) });
                // While nothing is tried, nothing new is known.
                let is_waiting = self.retry_at.is_some_and(|at| clock::mono() < at) && self.told.is_some();
                if !is_waiting && self.told != text {
                    emit(&events::PeerFailed {
                        source: &self.name,
                        peer: &self.options.link.place(),
                        error: fault,
                    });
                    self.told = text;
                }
            }
            (Some(_), None) => {
                emit(&events::PeerRecovered { source: &self.name, peer: &self.options.link.place() });
                self.told = None;
            }
            (None, None) => {}
        }
    }

    fn infos(&mut self) -> Vec<ChannelInfo> {
        if std::mem::replace(&mut self.described, true) {
            return Vec::new();
        }
        let unit = |unit: &str| (!unit.is_empty()).then(|| unit.to_owned());
        let registers = self.options.map.all().iter();
        registers
            .map(|r| names::described(&r.channel, r.channel.as_str(), unit(&r.unit.0).as_deref()))
            .collect()
    }
}

impl Sensor for Modbus {
    fn poll(&mut self, _: Stamp, out: &mut Vec<Reading>) -> Vec<ChannelInfo> {
        let spans: Vec<Span> = self.options.map.spans().collect();
        let mut gave_up: Option<NoData> = None;
        let mut worst = None;
        for at in (0..spans.len()).map(|n| (self.first + n) % spans.len()).collect::<Vec<_>>() {
            let asked = match gave_up {
                None => self.ask(spans[at]).map_err(|fault| {
                    if !matches!(fault, Fault::Refused(_)) {
                        gave_up = Some(fault.no_data());
                        self.first = (at + 1) % spans.len();
                    }
                    let no_data = fault.no_data();
                    worst = Some(fault);
                    no_data
                }),
                Some(no_data) => Err(no_data),
            };
            let now = clock::wall();
            for register in self.options.map.registers(at) {
                let value = match &asked {
                    Ok(words) => register.value(spans[at].first, words).unwrap_or(Err(NoData::ReadFailed)),
                    Err(no_data) => Err(*no_data),
                };
                out.push(Reading::new(register.channel.clone(), now, value));
            }
        }
        self.note(worst.as_ref());
        self.infos()
    }
}
