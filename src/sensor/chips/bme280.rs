//! Bosch BME280: temperature, pressure, humidity (data sheet BST-BME280-DS002, sections 4.2, 5.4 and 8.1).

use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::I2c;

use super::{Chip, ChipError, Column, column, expect_part, read_registers, write_register};
use crate::reading::{NoData, Quantity, Value};

const ID: u8 = 0xd0;
const ID_BME280: u16 = 0x60;
const CALIBRATION_TP: u8 = 0x88;
const CALIBRATION_H: u8 = 0xe1;
const CTRL_HUM: u8 = 0xf2;
const STATUS: u8 = 0xf3;
const CTRL_MEAS: u8 = 0xf4;
const CONFIG: u8 = 0xf5;
const DATA: u8 = 0xf7;

const OVERSAMPLE_H_X1: u8 = 0b001;
const OVERSAMPLE_TP_X1_FORCED: u8 = 0b0010_0101;
const MEASURING: u8 = 0b1000;
/// Longest conversion of all three at x1 (appendix B: 9.3 ms).
const WAIT_MS: u32 = 10;
/// What a register holds whose measurement was left out.
const SKIPPED_20: u32 = 0x8_0000;
const SKIPPED_16: u16 = 0x8000;

const COLUMNS: &[Column] = &[
    column("temperature", Quantity::Temperature, "Cel"),
    column("pressure", Quantity::Pressure, "hPa"),
    column("humidity", Quantity::Humidity, "%"),
];

/// The driver.
pub struct Bme280<B> {
    bus: B,
    address: u8,
    calibration: Option<Calibration>,
}

impl<B: I2c> Bme280<B> {
    /// At 0x76 (SDO low) or 0x77.
    pub const fn new(bus: B, address: u8) -> Self {
        Self { bus, address, calibration: None }
    }

    fn set_up(&mut self) -> Result<Calibration, ChipError> {
        let [id] = read_registers(&mut self.bus, self.address, ID)?;
        expect_part(ID, ID_BME280, id.into())?;
        let tp = read_registers::<26>(&mut self.bus, self.address, CALIBRATION_TP)?;
        let h = read_registers::<7>(&mut self.bus, self.address, CALIBRATION_H)?;
        write_register(&mut self.bus, self.address, CONFIG, 0)?;
        Ok(Calibration::new(&tp, &h))
    }

    fn measure(&mut self, delay: &mut dyn DelayNs) -> Result<[u8; 8], ChipError> {
        // Takes effect with the next write to CTRL_MEAS, which starts one measurement.
        write_register(&mut self.bus, self.address, CTRL_HUM, OVERSAMPLE_H_X1)?;
        write_register(&mut self.bus, self.address, CTRL_MEAS, OVERSAMPLE_TP_X1_FORCED)?;
        delay.delay_ms(WAIT_MS);
        let [status] = read_registers(&mut self.bus, self.address, STATUS)?;
        if status & MEASURING != 0 {
            return Err(ChipError::NotReady);
        }
        read_registers(&mut self.bus, self.address, DATA)
    }
}

impl<B: I2c> Chip for Bme280<B> {
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn read(&mut self, delay: &mut dyn DelayNs, out: &mut Vec<Value>) -> Result<(), ChipError> {
        // After any failure it may be another chip that was plugged in: ask anew.
        let calibration = match self.calibration.take() {
            Some(known) => known,
            None => self.set_up()?,
        };
        let data = self.measure(delay)?;
        self.calibration = Some(calibration);
        let [p0, p1, p2, t0, t1, t2, h0, h1] = data;
        let (p, t, h) = (raw20(p0, p1, p2), raw20(t0, t1, t2), u16::from_be_bytes([h0, h1]));
        if t == SKIPPED_20 {
            return Err(ChipError::NotReady);
        }
        let t_fine = calibration.t_fine(t);
        out.push(Ok(t_fine / 5120.0));
        let pascal = calibration.pascal(p, t_fine).filter(|_| p != SKIPPED_20);
        out.push(pascal.map(|pa| pa / 100.0).ok_or(NoData::OutOfRange));
        let percent = calibration.humidity(h, t_fine);
        out.push(if h == SKIPPED_16 { Err(NoData::OutOfRange) } else { Ok(percent) });
        Ok(())
    }
}

fn raw20(msb: u8, lsb: u8, xlsb: u8) -> u32 {
    u32::from_be_bytes([0, msb, lsb, xlsb]) >> 4
}

/// What the factory measured of this one chip, under the data sheet's names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Calibration {
    pub t: [f64; 3],
    pub p: [f64; 9],
    pub h: [f64; 6],
}

impl Calibration {
    fn new(tp: &[u8; 26], h: &[u8; 7]) -> Self {
        let unsigned = |at: usize| f64::from(u16::from_le_bytes([tp[at], tp[at + 1]]));
        let signed = |at: usize| f64::from(i16::from_le_bytes([tp[at], tp[at + 1]]));
        let mut p = std::array::from_fn(|n| signed(6 + 2 * n));
        p[0] = unsigned(6);
        // H4 and H5 share a byte, each a signed number of 12 bits.
        let twelve = |high: u8, low: u8| f64::from(i16::from(high.cast_signed()) * 16 + i16::from(low & 0xf));
        Self {
            t: [unsigned(0), signed(2), signed(4)],
            p,
            h: [
                f64::from(tp[25]),
                f64::from(i16::from_le_bytes([h[0], h[1]])),
                f64::from(h[2]),
                twelve(h[3], h[4]),
                twelve(h[5], h[4] >> 4),
                f64::from(h[6].cast_signed()),
            ],
        }
    }

    /// The temperature in 1/5120 of a degree, which the other two need too.
    pub fn t_fine(&self, raw: u32) -> f64 {
        let [t1, t2, t3] = self.t;
        let raw = f64::from(raw);
        let near = raw / 131_072.0 - t1 / 8192.0;
        (raw / 16_384.0 - t1 / 1024.0) * t2 + near * near * t3
    }

    /// None where the calibration is empty.
    pub fn pascal(&self, raw: u32, t_fine: f64) -> Option<f64> {
        let [p1, p2, p3, p4, p5, p6, p7, p8, p9] = self.p;
        let v1 = t_fine / 2.0 - 64_000.0;
        let v2 = v1 * v1 * p6 / 32_768.0 + v1 * p5 * 2.0;
        let v2 = v2 / 4.0 + p4 * 65_536.0;
        let v1 = (p3 * v1 * v1 / 524_288.0 + p2 * v1) / 524_288.0;
        let v1 = (1.0 + v1 / 32_768.0) * p1;
        if v1 == 0.0 {
            return None;
        }
        let p = (1_048_576.0 - f64::from(raw) - v2 / 4096.0) * 6250.0 / v1;
        Some(p + (p9 * p * p / 2_147_483_648.0 + p * p8 / 32_768.0 + p7) / 16.0)
    }

    /// In per cent.
    pub fn humidity(&self, raw: u16, t_fine: f64) -> f64 {
        let [h1, h2, h3, h4, h5, h6] = self.h;
        let v = t_fine - 76_800.0;
        let slope = 1.0 + h6 / 67_108_864.0 * v * (1.0 + h3 / 67_108_864.0 * v);
        let v = (f64::from(raw) - (h4 * 64.0 + h5 / 16_384.0 * v)) * (h2 / 65_536.0 * slope);
        (v * (1.0 - h1 * v / 524_288.0)).clamp(0.0, 100.0)
    }
}
