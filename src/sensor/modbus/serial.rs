//! A serial line: raw bytes at a speed, with silence between frames.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::termios::{ControlModes, OptionalActions, QueueSelector, tcflush, tcgetattr, tcsetattr};

use crate::clock;

/// How the line is driven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialOptions {
    /// The device, such as `/dev/ttyUSB0`.
    pub device: PathBuf,
    /// Bits per second.
    pub baud: u32,
    /// Parity; two stop bits without one, as the specification wants.
    pub parity: Parity,
}

/// Parity of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parity {
    None,
    Even,
    Odd,
}

/// An open line.
pub(super) struct Serial {
    file: File,
    /// Three and a half characters: what parts frames.
    silence: Duration,
}

impl Serial {
    /// Opens the line and keeps others from it that ask for a lock, as most programs for serial lines do.
    pub fn open(options: &SerialOptions) -> io::Result<Self> {
        let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags.bits() as i32)
            .open(&options.device)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            Errno::WOULDBLOCK => io::Error::new(io::ErrorKind::ResourceBusy, TAKEN),
            error => error.into(),
        })?;
        let mut line = tcgetattr(&file)?;
        line.make_raw();
        line.set_speed(options.baud)?;
        let modes = &mut line.control_modes;
        modes.insert(ControlModes::CREAD | ControlModes::CLOCAL);
        modes.remove(
            ControlModes::CSTOPB | ControlModes::PARENB | ControlModes::PARODD | ControlModes::CRTSCTS,
        );
        modes.insert(match options.parity {
            Parity::None => ControlModes::CSTOPB,
            Parity::Even => ControlModes::PARENB,
            Parity::Odd => ControlModes::PARENB | ControlModes::PARODD,
        });
        tcsetattr(&file, OptionalActions::Now, &line)?;
        Ok(Self { file, silence: silence(options.baud) })
    }

    /// Throws away what comes until the line has been silent for long enough.
    pub fn settle(&mut self) -> io::Result<()> {
        let until = clock::mono() + SETTLE;
        while clock::mono() < until {
            if !self.wait(PollFlags::IN, self.silence)? {
                return Ok(());
            }
            tcflush(&self.file, QueueSelector::IFlush)?;
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "the line is never silent: is there another master?"))
    }

    pub fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(len) => bytes = &bytes[len..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if !self.wait(PollFlags::OUT, SETTLE)? {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// What has come, after waiting for it.
    pub fn read(&mut self, chunk: &mut [u8], timeout: Duration) -> io::Result<usize> {
        if !self.wait(PollFlags::IN, timeout)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.file.read(chunk)
    }

    fn wait(&self, flags: PollFlags, timeout: Duration) -> io::Result<bool> {
        let timeout =
            Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        let mut fds = [PollFd::from_borrowed_fd(self.file.as_fd(), flags)];
        Ok(poll(&mut fds, Some(&timeout))? > 0)
    }
}

const TAKEN: &str = "another program has the line, or a source that names it otherwise; stop it, or name the line alike everywhere";

/// Of eleven bits each; above 19200 a fixed 1.75 ms (V1.02, section 2.5.1.1).
fn silence(baud: u32) -> Duration {
    let micros = if baud > 19_200 { 1750 } else { 38_500_000 / u64::from(baud.max(1)) };
    Duration::from_micros(micros)
}

/// A line that never gets silent is given up after this.
const SETTLE: Duration = Duration::from_secs(1);
