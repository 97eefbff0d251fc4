//! Drivers of single chips, generic over the traits of embedded-hal: they run on the kernel's buses, on a scripted bus
//! and in a mock alike.
//!
//! A driver is a register map, a pure conversion and a [`Chip`]. It owns no clock and no thread; what is not an answer
//! of the right chip with the right checksum is a [`ChipError`], never a number. A chip that lost its power sets itself
//! up again at the next read.
//!
//! | part | bus | channels | published driver |
//! |---|---|---|---|
//! | SHT3x, SHT4x | I2C | temperature, humidity | too old, or drags a number library along |
//! | BME280 | I2C | temperature, pressure, humidity | clamps what is out of range, drags old parsers along |
//! | INA219, INA226 | I2C | voltage, current, power | ten times the size of what is needed |
//! | ADS1115 | I2C | a0 to a3 | `ads1x1x` |
//! | LIS3DH | I2C | RMS and peak acceleration of each axis | has no burst read of the FIFO |
//! | MCP3008 | SPI | a0 to a7 | not for embedded-hal 1.0 |

mod ads1115;
mod bme280;
mod ina;
mod lis3dh;
mod mcp3008;
mod script;
mod sht;

pub use ads1115::Ads1115;
pub use bme280::Bme280;
pub use ina::Ina;
pub use lis3dh::Lis3dh;
pub use mcp3008::Mcp3008;
pub use script::{Script, Step};
pub use sht::Sht;
pub(super) use sht::crc8;

use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::{self, I2c};
use embedded_hal::spi::SpiDevice;

use crate::reading::{NoData, Quantity, Value, named_enum};

/// One quantity that a chip measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Last part of the channel's name.
    pub name: &'static str,
    /// What it is.
    pub quantity: Quantity,
    /// UCUM code.
    pub unit: &'static str,
}

/// A chip on a bus.
pub trait Chip {
    /// What one read gives, in order.
    fn columns(&self) -> &'static [Column];

    /// Measures once and appends one value per column. Blocks for as long as the conversion takes.
    fn read(&mut self, delay: &mut dyn DelayNs, out: &mut Vec<Value>) -> Result<(), ChipError>;
}

/// Why a chip gave no values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChipError {
    /// The wiring's or the configuration's fault.
    #[error("does not answer; check its power, its wires and the address")]
    NoAnswer,
    /// The bus's fault.
    #[error("the bus failed: {0}; check pull-ups, cable length and whether a line is held low")]
    Bus(&'static str),
    /// Noise on the wire.
    #[error("the checksum of its answer is wrong; check the cable, or slow the bus down")]
    Checksum,
    /// The configuration's fault.
    #[error("is another part: register {register:#04x} reads {found:#06x} instead of {expected:#06x}")]
    WrongPart {
        /// Where its identity stands.
        register: u8,
        /// What this driver's part says there.
        expected: u16,
        /// What was read.
        found: u16,
    },
    /// The chip's fault.
    #[error("was not ready with its measurement in time")]
    NotReady,
    /// Its neighbours wait.
    #[error("took longer than its timeout")]
    Late,
}

impl ChipError {
    /// What a reading says instead of a value.
    pub const fn reason(self) -> NoData {
        match self {
            ChipError::NoAnswer => NoData::NoAnswer,
            ChipError::Bus(_) => NoData::ReadFailed,
            ChipError::Checksum => NoData::BadChecksum,
            ChipError::WrongPart { .. } => NoData::WrongDevice,
            ChipError::NotReady | ChipError::Late => NoData::TimedOut,
        }
    }

    /// What an I2C bus said.
    pub fn i2c(error: impl i2c::Error) -> Self {
        match error.kind() {
            i2c::ErrorKind::NoAcknowledge(_) => ChipError::NoAnswer,
            i2c::ErrorKind::ArbitrationLoss => ChipError::Bus("another master interfered"),
            i2c::ErrorKind::Overrun => ChipError::Bus("overrun"),
            i2c::ErrorKind::Bus => ChipError::Bus("stuck, or a fault on the wires"),
            _ => ChipError::Bus("the system reported a fault"),
        }
    }
}

named_enum! {
    /// The parts that can be configured.
    Part {
        Sht3x = "sht3x", Sht4x = "sht4x", Bme280 = "bme280", Ina219 = "ina219", Ina226 = "ina226",
        Ads1115 = "ads1115", Lis3dh = "lis3dh", Mcp3008 = "mcp3008",
    }
}

/// What a driver must be told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PartOptions {
    /// Which part.
    pub part: Part,
    /// Address on an I2C bus, 0x08 to 0x77.
    pub address: u8,
    /// INA219, INA226: resistance of the shunt in ohms, more than 0.
    pub shunt_ohm: f64,
    /// MCP3008: reference voltage; ADS1115: the range that is chosen is the smallest that holds it. In volts.
    pub reference_volt: f64,
}

impl Part {
    /// Whether it hangs on SPI; otherwise on I2C.
    pub const fn is_spi(self) -> bool {
        matches!(self, Part::Mcp3008)
    }

    /// Its usual addresses on an I2C bus, its default first; none on SPI.
    pub const fn addresses(self) -> &'static [u8] {
        match self {
            Part::Sht3x => &[0x44, 0x45],
            Part::Sht4x => &[0x44, 0x45, 0x46],
            Part::Bme280 => &[0x76, 0x77],
            Part::Ina219 | Part::Ina226 => &[
                0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x4b, 0x4c, 0x4d, 0x4e,
                0x4f,
            ],
            Part::Ads1115 => &[0x48, 0x49, 0x4a, 0x4b],
            Part::Lis3dh => &[0x18, 0x19],
            Part::Mcp3008 => &[],
        }
    }
}

impl PartOptions {
    /// The part at its usual address, with usual values of what is soldered around it.
    pub const fn usual(part: Part) -> Self {
        let address = match part.addresses() {
            [first, ..] => *first,
            [] => 0,
        };
        Self { part, address, shunt_ohm: 0.1, reference_volt: 3.3 }
    }

    /// The driver of an I2C part; none for one on SPI.
    pub fn on_i2c(self, bus: impl I2c + 'static) -> Option<Box<dyn Chip>> {
        let at = self.address;
        Some(match self.part {
            Part::Sht3x => Box::new(Sht::sht3x(bus, at)),
            Part::Sht4x => Box::new(Sht::sht4x(bus, at)),
            Part::Bme280 => Box::new(Bme280::new(bus, at)),
            Part::Ina219 => Box::new(Ina::ina219(bus, at, self.shunt_ohm)),
            Part::Ina226 => Box::new(Ina::ina226(bus, at, self.shunt_ohm)),
            Part::Ads1115 => Box::new(Ads1115::new(bus, at, self.reference_volt)),
            Part::Lis3dh => Box::new(Lis3dh::new(bus, at)),
            Part::Mcp3008 => return None,
        })
    }

    /// The driver of an SPI part; none for one on I2C.
    pub fn on_spi(self, device: impl SpiDevice + 'static) -> Option<Box<dyn Chip>> {
        match self.part {
            Part::Mcp3008 => Some(Box::new(Mcp3008::new(device, self.reference_volt))),
            _ => None,
        }
    }
}

/// Reads an SHT4x through a scripted bus: the driver, its checksum and its conversion work in this build.
///
/// Returns degrees Celsius and per cent of relative humidity, those of the script: 25.0 and 50.0, each to one decimal.
pub fn selftest() -> Result<(f64, f64), ChipError> {
    // 0x6666 is 25 °C by the data sheet's formula, 0x72b0 is 50 % of humidity.
    let answer = [0x66, 0x66, sht::crc8([0x66, 0x66]), 0x72, 0xb0, sht::crc8([0x72, 0xb0])];
    let bus = Script::new([Step::write(0x44, &[0xfd]), Step::read(0x44, &answer)]);
    let mut values = Vec::new();
    Sht::sht4x(bus, 0x44).read(&mut NoDelay, &mut values)?;
    match values.as_slice() {
        [Ok(celsius), Ok(percent)] => Ok((*celsius, *percent)),
        _ => Err(ChipError::NotReady),
    }
}

/// A scripted bus answers at once.
struct NoDelay;

impl DelayNs for NoDelay {
    fn delay_ns(&mut self, _: u32) {}
}

const fn column(name: &'static str, quantity: Quantity, unit: &'static str) -> Column {
    Column { name, quantity, unit }
}

/// Reads `N` bytes from `register` on.
fn read_registers<const N: usize>(
    bus: &mut impl I2c,
    address: u8,
    register: u8,
) -> Result<[u8; N], ChipError> {
    let mut bytes = [0; N];
    bus.write_read(address, &[register], &mut bytes).map_err(ChipError::i2c)?;
    Ok(bytes)
}

fn write_register(bus: &mut impl I2c, address: u8, register: u8, value: u8) -> Result<(), ChipError> {
    bus.write(address, &[register, value]).map_err(ChipError::i2c)
}

/// Refuses a part that says it is another one.
fn expect_part(register: u8, expected: u16, found: u16) -> Result<(), ChipError> {
    if found == expected { Ok(()) } else { Err(ChipError::WrongPart { register, expected, found }) }
}

#[cfg(test)]
mod tests;
