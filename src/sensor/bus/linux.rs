//! The kernel's buses: `/dev/i2c-*` and `/dev/spidev*`, opened when they are needed and again after a fault.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use embedded_hal::i2c::{self, ErrorKind, I2c, NoAcknowledgeSource};
use embedded_hal::spi::{self, SpiDevice};
use linux_embedded_hal::i2cdev::linux::LinuxI2CError;
use linux_embedded_hal::spidev::{SpiModeFlags, SpidevOptions};
use linux_embedded_hal::{I2CError, I2cdev, SpidevDevice};

use crate::observe::{bus as events, emit};

/// Clock of an SPI bus: what an MCP3008 bears at 2.7 V.
const SPI_HZ: u32 = 1_000_000;

/// A device file that may be missing for a while; the first failure of a row is told.
struct Node<D> {
    path: PathBuf,
    source: Arc<str>,
    device: Option<D>,
    told: bool,
}

impl<D> Node<D> {
    fn new(path: PathBuf, source: &str) -> Self {
        Self { path, source: Arc::from(source), device: None, told: false }
    }

    fn with<T>(
        &mut self,
        open: impl FnOnce(&Path) -> io::Result<D>,
        act: impl FnOnce(&mut D) -> T,
    ) -> Option<T> {
        if self.device.is_none() {
            match open(&self.path) {
                Ok(device) => (self.device, self.told) = (Some(device), false),
                Err(error) if !std::mem::replace(&mut self.told, true) => {
                    emit(&events::BusFailed { source: &self.source, device: &self.path, error: &error });
                }
                Err(_) => {}
            }
        }
        self.device.as_mut().map(act)
    }
}

/// An I2C bus.
pub(super) struct LinuxI2c(Node<I2cdev>);

impl LinuxI2c {
    pub(super) fn new(path: PathBuf, source: &str) -> Self {
        Self(Node::new(path, source))
    }
}

impl i2c::ErrorType for LinuxI2c {
    type Error = ErrorKind;
}

impl I2c for LinuxI2c {
    fn transaction(&mut self, address: u8, operations: &mut [i2c::Operation<'_>]) -> Result<(), ErrorKind> {
        let open = |path: &Path| I2cdev::new(path).map_err(io::Error::from);
        let done = self.0.with(open, |bus| bus.transaction(address, operations));
        let done = done.ok_or(ErrorKind::Other)?.map_err(|error| kind(&error));
        if done.is_err_and(|kind| !matches!(kind, ErrorKind::NoAcknowledge(_))) {
            self.0.device = None;
        }
        done
    }
}

/// Several controllers say "remote I/O error" where a chip did not acknowledge.
fn kind(error: &I2CError) -> ErrorKind {
    match error.inner() {
        LinuxI2CError::Errno(libc::EREMOTEIO) => ErrorKind::NoAcknowledge(NoAcknowledgeSource::Unknown),
        LinuxI2CError::Errno(libc::ETIMEDOUT) => ErrorKind::Bus,
        _ => i2c::Error::kind(error),
    }
}

/// One chip select of an SPI bus.
pub(super) struct LinuxSpi(Node<SpidevDevice>);

impl LinuxSpi {
    /// `/dev/spidev0` and 1 are `/dev/spidev0.1`.
    pub(super) fn new(device: &Path, select: u8, source: &str) -> Self {
        let mut path = device.as_os_str().to_owned();
        path.push(format!(".{select}"));
        Self(Node::new(path.into(), source))
    }
}

impl spi::ErrorType for LinuxSpi {
    type Error = spi::ErrorKind;
}

impl SpiDevice for LinuxSpi {
    fn transaction(&mut self, operations: &mut [spi::Operation<'_, u8>]) -> Result<(), spi::ErrorKind> {
        let done = self.0.with(open_spi, |device| device.transaction(operations));
        match done {
            Some(Ok(())) => Ok(()),
            _ => {
                self.0.device = None;
                Err(spi::ErrorKind::Other)
            }
        }
    }
}

fn open_spi(path: &Path) -> io::Result<SpidevDevice> {
    let mut device = SpidevDevice::open(path).map_err(|error| io::Error::other(error.to_string()))?;
    let options = SpidevOptions::new().max_speed_hz(SPI_HZ).mode(SpiModeFlags::SPI_MODE_0).build();
    device.configure(&options)?;
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_of_a_transfer_is_understood() {
        let said = |errno: i32| kind(&LinuxI2CError::Errno(errno).into());
        for errno in [libc::EREMOTEIO, libc::ENXIO] {
            assert!(matches!(said(errno), ErrorKind::NoAcknowledge(_)), "{errno}: {:?}", said(errno));
        }
        assert_eq!(said(libc::ETIMEDOUT), ErrorKind::Bus);
        assert_eq!(said(libc::EAGAIN), ErrorKind::ArbitrationLoss);
    }

    #[test]
    fn a_bus_that_is_not_there_is_a_failure_and_is_looked_for_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("i2c-9");
        let mut bus = LinuxI2c::new(path.clone(), "cabinet");
        assert_eq!(bus.write(0x44, &[0]), Err(ErrorKind::Other));
        assert!(bus.0.told && bus.0.device.is_none());
        // A plain file opens, and knows nothing of addresses: a failure too, but not of the same kind.
        std::fs::write(&path, "").unwrap();
        assert!(bus.write(0x44, &[0]).is_err());
        let mut spi = LinuxSpi::new(&dir.path().join("spidev0"), 1, "adc");
        assert!(spi.0.path.ends_with("spidev0.1"));
        assert_eq!(spi.write(&[0]), Err(spi::ErrorKind::Other));
    }
}
