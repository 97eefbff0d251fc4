//! One connection: bytes out, bytes in, never longer than a time-out.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::serial::Serial;
use super::{Fault, ModbusLink};
use crate::clock;
use crate::field::modbus::{Answer, Framing, Request, request, take_answer};

/// An open connection, and what was heard on it and belongs to no answer yet.
pub(super) struct Port {
    line: Line,
    heard: Vec<u8>,
}

enum Line {
    Tcp(TcpStream),
    Rtu(Serial),
}

impl Port {
    /// Connects, or opens the device.
    pub fn open(link: &ModbusLink, timeout: Duration) -> io::Result<Self> {
        let line = match link {
            ModbusLink::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, timeout)?;
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(timeout))?;
                Line::Tcp(stream)
            }
            ModbusLink::Rtu(options) => Line::Rtu(Serial::open(options)?),
        };
        Ok(Self { line, heard: Vec::new() })
    }

    /// Asks and waits for the answer.
    pub fn exchange(&mut self, framing: Framing, ask: &Request, timeout: Duration) -> Result<Answer, Fault> {
        self.settle()?;
        self.write(&request(framing, ask))?;
        let until = clock::mono() + timeout;
        let mut chunk = [0; 512];
        loop {
            if let Some(answer) = take_answer(framing, ask, &mut self.heard)? {
                return Ok(answer);
            }
            let left = until.since(clock::mono());
            if left.is_zero() {
                return Err(Fault::TimedOut);
            }
            match self.read(&mut chunk, left) {
                Ok(0) => return Err(Fault::Io(io::ErrorKind::UnexpectedEof.into())),
                Ok(len) => self.heard.extend_from_slice(&chunk[..len]),
                Err(e) if is_timeout(&e) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// On a serial line nothing tells a late answer from the next one: it is waited for until the line is silent.
    fn settle(&mut self) -> Result<(), Fault> {
        if let Line::Rtu(serial) = &mut self.line {
            serial.settle()?;
            self.heard.clear();
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.line {
            Line::Tcp(stream) => stream.write_all(bytes),
            Line::Rtu(serial) => serial.write_all(bytes),
        }
    }

    fn read(&mut self, chunk: &mut [u8], timeout: Duration) -> io::Result<usize> {
        match &mut self.line {
            Line::Tcp(stream) => {
                // A zero would wait for ever.
                stream.set_read_timeout(Some(timeout.max(Duration::from_millis(1))))?;
                stream.read(chunk)
            }
            Line::Rtu(serial) => serial.read(chunk, timeout),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
