//! ST LIS3DH: acceleration of three axes, condensed to vibration (data sheet DocID17530).
//!
//! The chip fills its FIFO of 32 samples at 400 Hz; each read takes what is there, 80 ms of it at most, and tells RMS
//! and peak of what moves: gravity and every other constant are taken out. An axis that reached the end of ±4 g moved by
//! more than can be told, and has no value. For the course itself use IIO.

use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::I2c;

use super::{Chip, ChipError, Column, column, expect_part, read_registers, write_register};
use crate::reading::{NoData, Quantity, Value};

const WHO_AM_I: u8 = 0x0f;
const LIS3DH: u16 = 0x33;
const CTRL1: u8 = 0x20;
const CTRL4: u8 = 0x23;
const CTRL5: u8 = 0x24;
const OUT: u8 = 0x28;
const FIFO_CTRL: u8 = 0x2e;
const FIFO_SRC: u8 = 0x2f;
/// Set in the register's number: each byte read is from the next register.
const AUTO_INCREMENT: u8 = 0x80;

/// 400 Hz, all axes.
const CTRL1_RUN: u8 = 0x77;
/// Whole samples only, ±4 g, 12 bits.
const CTRL4_RUN: u8 = 0x80 | 0x10 | 0x08;
const CTRL5_FIFO: u8 = 0x40;
/// The newest 32 samples.
const FIFO_STREAM: u8 = 0x80;
/// Lower bits of [`FIFO_SRC`].
const LEVEL: u8 = 0x1f;
/// In [`FIFO_SRC`]: all 32 places are taken, which the lower bits can't say.
const OVERRUN: u8 = 0x40;
const FIFO_SAMPLES: usize = 32;

/// 2 mg per digit of 12 bits at ±4 g.
const METRES_PER_S2_PER_DIGIT: f64 = 0.002 * 9.806_65;

/// The ends of 12 bits.
const DIGITS_MIN: i16 = -2048;
const DIGITS_MAX: i16 = 2047;

const COLUMNS: &[Column] = &[
    column("x_rms", Quantity::Vibration, "m/s2"),
    column("y_rms", Quantity::Vibration, "m/s2"),
    column("z_rms", Quantity::Vibration, "m/s2"),
    column("x_peak", Quantity::Vibration, "m/s2"),
    column("y_peak", Quantity::Vibration, "m/s2"),
    column("z_peak", Quantity::Vibration, "m/s2"),
];

/// The driver.
pub struct Lis3dh<B> {
    bus: B,
    address: u8,
}

impl<B: I2c> Lis3dh<B> {
    /// At 0x18 (SA0 low) or 0x19.
    pub const fn new(bus: B, address: u8) -> Self {
        Self { bus, address }
    }

    fn set_up(&mut self) -> Result<(), ChipError> {
        let [id] = read_registers(&mut self.bus, self.address, WHO_AM_I)?;
        expect_part(WHO_AM_I, LIS3DH, id.into())?;
        for (register, value) in
            [(CTRL4, CTRL4_RUN), (CTRL5, CTRL5_FIFO), (FIFO_CTRL, FIFO_STREAM), (CTRL1, CTRL1_RUN)]
        {
            write_register(&mut self.bus, self.address, register, value)?;
        }
        Ok(())
    }

    /// Digits of 12 bits.
    fn samples(&mut self) -> Result<Vec<[i16; 3]>, ChipError> {
        let [state] = read_registers(&mut self.bus, self.address, FIFO_SRC)?;
        let level = if state & OVERRUN != 0 { FIFO_SAMPLES } else { usize::from(state & LEVEL) };
        if level == 0 {
            return Err(ChipError::NotReady);
        }
        let mut bytes = vec![0; 6 * level];
        self.bus.write_read(self.address, &[OUT | AUTO_INCREMENT], &mut bytes).map_err(ChipError::i2c)?;
        let axis = |low: u8, high: u8| i16::from_le_bytes([low, high]) >> 4;
        Ok(bytes.chunks_exact(6).map(|b| [axis(b[0], b[1]), axis(b[2], b[3]), axis(b[4], b[5])]).collect())
    }
}

impl<B: I2c> Chip for Lis3dh<B> {
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn read(&mut self, delay: &mut dyn DelayNs, out: &mut Vec<Value>) -> Result<(), ChipError> {
        let [running] = read_registers(&mut self.bus, self.address, CTRL1)?;
        if running != CTRL1_RUN {
            self.set_up()?;
            // Until the FIFO holds something worth condensing.
            delay.delay_ms(80);
        }
        let samples = self.samples()?;
        let vibration = [0, 1, 2].map(|axis| vibration(samples.iter().map(|s| s[axis])));
        out.extend(vibration.iter().map(|found| found.map(|(rms, _)| rms)));
        out.extend(vibration.iter().map(|found| found.map(|(_, peak)| peak)));
        Ok(())
    }
}

/// Root mean square and largest deviation around the mean, in m/s2.
fn vibration(digits: impl Iterator<Item = i16> + Clone) -> Result<(f64, f64), NoData> {
    if digits.clone().any(|digit| !(DIGITS_MIN < digit && digit < DIGITS_MAX)) {
        return Err(NoData::OutOfRange);
    }
    let samples = digits.map(|digit| f64::from(digit) * METRES_PER_S2_PER_DIGIT);
    let n = samples.clone().count().max(1) as f64;
    let mean = samples.clone().sum::<f64>() / n;
    let moves = samples.map(|x| x - mean);
    let rms = (moves.clone().map(|x| x * x).sum::<f64>() / n).sqrt();
    Ok((rms, moves.fold(0.0, |peak, x| x.abs().max(peak))))
}
