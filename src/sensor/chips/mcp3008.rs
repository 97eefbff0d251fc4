//! Microchip MCP3008: eight voltages at 10 bits over SPI (data sheet DS21295, section 6.1).

use embedded_hal::delay::DelayNs;
use embedded_hal::spi::SpiDevice;

use super::{Chip, ChipError, Column, column};
use crate::reading::{Quantity, Value};

const START: u8 = 1;
const SINGLE_ENDED: u8 = 0x80;
/// The bit before the result is always low.
const NULL_BIT: u8 = 0x04;

const COLUMNS: &[Column] = &[
    column("a0", Quantity::Voltage, "V"),
    column("a1", Quantity::Voltage, "V"),
    column("a2", Quantity::Voltage, "V"),
    column("a3", Quantity::Voltage, "V"),
    column("a4", Quantity::Voltage, "V"),
    column("a5", Quantity::Voltage, "V"),
    column("a6", Quantity::Voltage, "V"),
    column("a7", Quantity::Voltage, "V"),
];

/// The driver.
pub struct Mcp3008<D> {
    device: D,
    reference_volt: f64,
}

impl<D: SpiDevice> Mcp3008<D> {
    /// `reference_volt` is what stands at its pin VREF.
    pub const fn new(device: D, reference_volt: f64) -> Self {
        Self { device, reference_volt }
    }
}

impl<D: SpiDevice> Chip for Mcp3008<D> {
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn read(&mut self, _: &mut dyn DelayNs, out: &mut Vec<Value>) -> Result<(), ChipError> {
        for input in 0..8 {
            let mut answer = [0; 3];
            self.device
                .transfer(&mut answer, &[START, SINGLE_ENDED | (input << 4), 0])
                .map_err(|_| ChipError::Bus("the SPI transfer failed"))?;
            let [_, high, low] = answer;
            // A line that nobody drives floats high.
            if high & NULL_BIT != 0 {
                return Err(ChipError::NoAnswer);
            }
            let digits = u16::from_be_bytes([high & 3, low]);
            out.push(Ok(f64::from(digits) * self.reference_volt / 1024.0));
        }
        Ok(())
    }
}
