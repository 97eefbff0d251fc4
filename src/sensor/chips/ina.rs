//! Texas Instruments INA219 and INA226: voltage, and current through a shunt (data sheets SBOS448 and SBOS547).
//!
//! Current and power are reckoned here: the chip's own registers for them need a calibration that a loss of power
//! erases unnoticed.

use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::I2c;

use super::{Chip, ChipError, Column, column, expect_part, read_registers};
use crate::reading::{NoData, Quantity, Value};

const SHUNT: u8 = 0x01;
const BUS: u8 = 0x02;
const MANUFACTURER: u8 = 0xfe;
const TEXAS_INSTRUMENTS: u16 = 0x5449;
/// The lowest bits of the INA219's bus voltage are flags of its own arithmetic.
const INA219_FLAG_BITS: u32 = 3;

const COLUMNS: &[Column] = &[
    column("voltage", Quantity::Voltage, "V"),
    column("current", Quantity::Current, "A"),
    column("power", Quantity::Power, "W"),
];

/// What differs between the two.
#[derive(Debug, Clone, Copy)]
struct Kind {
    shunt_volt_per_digit: f64,
    bus_volt_per_digit: f64,
    bus_shift: u32,
    has_id: bool,
    /// The end of the shunt's range, in either direction.
    shunt_digits_max: u16,
}

const INA219: Kind = Kind {
    shunt_volt_per_digit: 10e-6,
    bus_volt_per_digit: 4e-3,
    bus_shift: INA219_FLAG_BITS,
    has_id: false,
    // 320 mV, as it powers up (table 7): the register never gets to the end of its 16 bits.
    shunt_digits_max: 32_000,
};
const INA226: Kind = Kind {
    shunt_volt_per_digit: 2.5e-6,
    bus_volt_per_digit: 1.25e-3,
    bus_shift: 0,
    has_id: true,
    shunt_digits_max: i16::MAX.unsigned_abs(),
};

/// The driver. Both measure on their own from power-up, so that nothing is ever written to them.
pub struct Ina<B> {
    bus: B,
    address: u8,
    kind: Kind,
    shunt_ohm: f64,
    known: bool,
}

impl<B: I2c> Ina<B> {
    /// An INA219; it has no register that says so.
    pub const fn ina219(bus: B, address: u8, shunt_ohm: f64) -> Self {
        Self { bus, address, kind: INA219, shunt_ohm, known: false }
    }

    /// An INA226.
    pub const fn ina226(bus: B, address: u8, shunt_ohm: f64) -> Self {
        Self { bus, address, kind: INA226, shunt_ohm, known: false }
    }

    fn word(&mut self, register: u8) -> Result<u16, ChipError> {
        read_registers(&mut self.bus, self.address, register).map(u16::from_be_bytes)
    }

    fn words(&mut self) -> Result<(u16, u16), ChipError> {
        if self.kind.has_id && !self.known {
            expect_part(MANUFACTURER, TEXAS_INSTRUMENTS, self.word(MANUFACTURER)?)?;
        }
        Ok((self.word(SHUNT)?, self.word(BUS)?))
    }
}

impl<B: I2c> Chip for Ina<B> {
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn read(&mut self, _: &mut dyn DelayNs, out: &mut Vec<Value>) -> Result<(), ChipError> {
        let words = self.words();
        self.known = words.is_ok();
        let (shunt, bus) = words?;
        let volt = f64::from(bus >> self.kind.bus_shift) * self.kind.bus_volt_per_digit;
        out.push(Ok(volt));
        let shunt = shunt.cast_signed();
        // At the end of its range the shunt voltage says "or more".
        let ampere = if shunt.unsigned_abs() >= self.kind.shunt_digits_max {
            Err(NoData::OutOfRange)
        } else {
            Ok(f64::from(shunt) * self.kind.shunt_volt_per_digit / self.shunt_ohm)
        };
        out.push(ampere);
        out.push(ampere.map(|a| a * volt));
        Ok(())
    }
}
