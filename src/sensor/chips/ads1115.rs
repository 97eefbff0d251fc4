//! Texas Instruments ADS1115: four voltages at 16 bits, through the published driver.

use ads1x1x::{Ads1x1x, ChannelId, FullScaleRange, TargetAddr, channel, ic, mode};
use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::I2c;

use super::{Chip, ChipError, Column, column};
use crate::reading::{NoData, Quantity, Value};

/// Time of one conversion at 128 per second, 10 % of tolerance included, in microseconds.
const CONVERSION_US: u32 = 8_600;
/// Looks at a conversion before it is given up.
const LOOKS_MAX: u32 = 4;

const COLUMNS: &[Column] = &[
    column("a0", Quantity::Voltage, "V"),
    column("a1", Quantity::Voltage, "V"),
    column("a2", Quantity::Voltage, "V"),
    column("a3", Quantity::Voltage, "V"),
];

/// The ranges, the widest first.
const RANGES: [(f64, FullScaleRange); 6] = [
    (6.144, FullScaleRange::Within6_144V),
    (4.096, FullScaleRange::Within4_096V),
    (2.048, FullScaleRange::Within2_048V),
    (1.024, FullScaleRange::Within1_024V),
    (0.512, FullScaleRange::Within0_512V),
    (0.256, FullScaleRange::Within0_256V),
];

type Driver<B> = Ads1x1x<B, ic::Ads1115, ic::Resolution16Bit, mode::OneShot>;

/// The driver.
pub struct Ads1115<B> {
    driver: Driver<B>,
    range: (f64, FullScaleRange),
    ranged: bool,
}

impl<B: I2c> Ads1115<B> {
    /// At 0x48 to 0x4b; with the smallest range that holds `volt_max`.
    pub fn new(bus: B, address: u8, volt_max: f64) -> Self {
        let target = match address {
            0x49 => TargetAddr::Vdd,
            0x4a => TargetAddr::Sda,
            0x4b => TargetAddr::Scl,
            _ => TargetAddr::Gnd,
        };
        let range = RANGES.into_iter().rev().find(|(volt, _)| *volt >= volt_max).unwrap_or(RANGES[0]);
        Self { driver: Ads1x1x::new_ads1115(bus, target), range, ranged: false }
    }

    fn volt<C: ChannelId<Driver<B>>>(
        &mut self,
        input: fn() -> C,
        delay: &mut dyn DelayNs,
    ) -> Result<Value, ChipError> {
        for _ in 0..LOOKS_MAX {
            match self.driver.read(input()) {
                Ok(i16::MIN | i16::MAX) => return Ok(Err(NoData::OutOfRange)),
                Ok(digits) => return Ok(Ok(f64::from(digits) * self.range.0 / 32_768.0)),
                Err(nb::Error::WouldBlock) => delay.delay_us(CONVERSION_US),
                Err(nb::Error::Other(error)) => return Err(fault(error)),
            }
        }
        Err(ChipError::NotReady)
    }
}

fn fault<E: embedded_hal::i2c::Error>(error: ads1x1x::Error<E>) -> ChipError {
    match error {
        ads1x1x::Error::I2C(error) => ChipError::i2c(error),
        ads1x1x::Error::InvalidInputData => ChipError::NotReady,
    }
}

impl<B: I2c> Chip for Ads1115<B> {
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn read(&mut self, delay: &mut dyn DelayNs, out: &mut Vec<Value>) -> Result<(), ChipError> {
        if !self.ranged {
            // Every conversion writes the range anew, so that a loss of power does no harm.
            self.driver.set_full_scale_range(self.range.1).map_err(fault)?;
            self.ranged = true;
        }
        out.push(self.volt(|| channel::SingleA0, delay)?);
        out.push(self.volt(|| channel::SingleA1, delay)?);
        out.push(self.volt(|| channel::SingleA2, delay)?);
        out.push(self.volt(|| channel::SingleA3, delay)?);
        Ok(())
    }
}
