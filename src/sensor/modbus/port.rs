//! One connection: bytes out, bytes in, never longer than a time-out.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::bus::Bus;
use super::serial::Serial;
use super::{Fault, ModbusLink};
use crate::clock;
use crate::field::modbus::{Answer, Framing, Request, request, take_answer};

/// An open connection.
pub(super) enum Port {
    /// With what was heard on it and belongs to no answer yet.
    Tcp(TcpStream, Vec<u8>),
    Rtu(Bus),
}

/// What bytes go through.
trait Wire {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// What has come, after waiting for it for so long.
    fn hear(&mut self, chunk: &mut [u8], timeout: Duration) -> io::Result<usize>;
}

impl Port {
    /// Connects, or opens the device.
    pub fn open(link: &ModbusLink, timeout: Duration) -> io::Result<Self> {
        Ok(match link {
            ModbusLink::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, timeout)?;
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(timeout))?;
                Port::Tcp(stream, Vec::new())
            }
            ModbusLink::Rtu(options) => Port::Rtu(Bus::open(options)?),
        })
    }

    /// Asks and waits for the answer.
    pub fn exchange(&mut self, ask: &Request, timeout: Duration) -> Result<Answer, Fault> {
        match self {
            Port::Tcp(stream, heard) => converse(stream, Framing::Tcp, ask, heard, timeout),
            Port::Rtu(bus) => bus.with(|serial| {
                // Nothing tells a late answer from the next one: it is waited for until the line is silent.
                serial.settle()?;
                converse(serial, Framing::Rtu, ask, &mut Vec::new(), timeout)
            }),
        }
    }
}

fn converse(
    wire: &mut impl Wire,
    framing: Framing,
    ask: &Request,
    heard: &mut Vec<u8>,
    timeout: Duration,
) -> Result<Answer, Fault> {
    wire.send(&request(framing, ask))?;
    let until = clock::mono() + timeout;
    let mut chunk = [0; 512];
    loop {
        if let Some(answer) = take_answer(framing, ask, heard)? {
            return Ok(answer);
        }
        let left = until.since(clock::mono());
        if left.is_zero() {
            return Err(Fault::TimedOut);
        }
        match wire.hear(&mut chunk, left) {
            Ok(0) => return Err(Fault::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(len) => heard.extend_from_slice(&chunk[..len]),
            Err(e) if is_timeout(&e) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

impl Wire for TcpStream {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn hear(&mut self, chunk: &mut [u8], timeout: Duration) -> io::Result<usize> {
        // A zero would wait for ever.
        self.set_read_timeout(Some(timeout.max(Duration::from_millis(1))))?;
        self.read(chunk)
    }
}

impl Wire for Serial {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn hear(&mut self, chunk: &mut [u8], timeout: Duration) -> io::Result<usize> {
        self.read(chunk, timeout)
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
