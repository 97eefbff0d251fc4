//! Sensirion SHT3x and SHT4x: temperature and humidity (data sheets "SHT3x-DIS" 7 and "SHT4x" 6.5).

use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::I2c;

use super::{Chip, ChipError, Column, column};
use crate::reading::{Quantity, Value};

/// What differs between the families.
#[derive(Debug, Clone, Copy)]
struct Family {
    /// Measure once with high repeatability, without holding the clock line.
    command: &'static [u8],
    /// Longest conversion, in milliseconds.
    wait_ms: u32,
    /// Per cent of humidity at 0 and at 65535.
    humidity: (f64, f64),
}

const SHT3X: Family = Family { command: &[0x24, 0x00], wait_ms: 16, humidity: (0.0, 100.0) };
const SHT4X: Family = Family { command: &[0xfd], wait_ms: 9, humidity: (-6.0, 119.0) };

const COLUMNS: &[Column] =
    &[column("temperature", Quantity::Temperature, "Cel"), column("humidity", Quantity::Humidity, "%")];

/// The driver.
pub struct Sht<B> {
    bus: B,
    address: u8,
    family: Family,
}

impl<B: I2c> Sht<B> {
    /// An SHT30, SHT31 or SHT35.
    pub const fn sht3x(bus: B, address: u8) -> Self {
        Self { bus, address, family: SHT3X }
    }

    /// An SHT40, SHT41 or SHT45.
    pub const fn sht4x(bus: B, address: u8) -> Self {
        Self { bus, address, family: SHT4X }
    }
}

impl<B: I2c> Chip for Sht<B> {
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn read(&mut self, delay: &mut dyn DelayNs, out: &mut Vec<Value>) -> Result<(), ChipError> {
        self.bus.write(self.address, self.family.command).map_err(ChipError::i2c)?;
        delay.delay_ms(self.family.wait_ms);
        let mut answer = [0; 6];
        self.bus.read(self.address, &mut answer).map_err(ChipError::i2c)?;
        let [t0, t1, t_crc, h0, h1, h_crc] = answer;
        if crc8([t0, t1]) != t_crc || crc8([h0, h1]) != h_crc {
            return Err(ChipError::Checksum);
        }
        let (low, high) = self.family.humidity;
        out.push(Ok(spread(u16::from_be_bytes([t0, t1]), -45.0, 130.0)));
        // Just beyond its ends means condensing, or bone dry.
        out.push(Ok(spread(u16::from_be_bytes([h0, h1]), low, high).clamp(0.0, 100.0)));
        Ok(())
    }
}

/// `raw` on a scale that is `low` at 0 and `high` at 65535.
fn spread(raw: u16, low: f64, high: f64) -> f64 {
    low + (high - low) * f64::from(raw) / 65535.0
}

/// Sensirion's checksum over a word: polynomial 0x31, initial 0xff.
pub(in crate::sensor) fn crc8(bytes: [u8; 2]) -> u8 {
    bytes.iter().fold(0xff, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc, _| if crc & 0x80 == 0 { crc << 1 } else { (crc << 1) ^ 0x31 })
    })
}
