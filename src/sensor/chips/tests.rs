//! Every driver against a mocked bus, with the figures of the data sheets where they give any.

use embedded_hal::i2c::{ErrorKind, NoAcknowledgeSource};
use embedded_hal_mock::eh1::delay::NoopDelay;
use embedded_hal_mock::eh1::i2c::{Mock as I2cMock, Transaction as I2c};
use embedded_hal_mock::eh1::spi::{Mock as SpiMock, Transaction as Spi};

use super::*;

/// What the driver of `options` makes of a bus that goes through `transactions`, which must all be used up.
fn read(options: PartOptions, transactions: &[I2c]) -> Result<Vec<Value>, ChipError> {
    let mut bus = I2cMock::new(transactions);
    let mut chip = options.on_i2c(bus.clone()).expect("a part on I2C");
    let mut values = Vec::new();
    let read = chip.read(&mut NoopDelay, &mut values);
    bus.done();
    assert!(read.is_err() || values.len() == chip.columns().len());
    read.map(|()| values)
}

fn close(values: &[Value], expected: &[f64], tolerance: f64) {
    assert_eq!(values.len(), expected.len());
    for (value, expected) in values.iter().zip(expected) {
        assert!(value.is_ok_and(|v| (v - expected).abs() <= tolerance), "{values:?}, not {expected}");
    }
}

const NACK: ErrorKind = ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address);

#[test]
fn the_selftest_reads_an_sht4x_through_the_scripted_bus() {
    let (celsius, percent) = selftest().unwrap();
    assert!((celsius - 25.0).abs() < 0.05 && (percent - 50.0).abs() < 0.05, "{celsius} {percent}");
    let mut off_script = Script::new([Step::write(0x45, &[0xfd])]);
    assert!(embedded_hal::i2c::I2c::write(&mut off_script, 0x44, &[0xfd]).is_err());
}

#[test]
fn sensirions_checksum_is_that_of_the_data_sheet() {
    assert_eq!(sht::crc8([0xbe, 0xef]), 0x92);
}

#[test]
fn an_sht3x_is_converted_by_its_own_scale() {
    let answer = vec![0x66, 0x66, 0x93, 0x80, 0x00, sht::crc8([0x80, 0x00])];
    let values = read(
        PartOptions { address: 0x45, ..PartOptions::usual(Part::Sht3x) },
        &[I2c::write(0x45, vec![0x24, 0x00]), I2c::read(0x45, answer)],
    );
    close(&values.unwrap(), &[25.0, 50.0008], 0.001);
}

#[test]
fn a_flipped_bit_is_a_checksum_and_never_a_value() {
    let mut answer = vec![0x66, 0x66, 0x93, 0x72, 0xb0, sht::crc8([0x72, 0xb0])];
    for byte in 0..6 {
        answer[byte] ^= 0x10;
        let read = read(
            PartOptions::usual(Part::Sht4x),
            &[I2c::write(0x44, vec![0xfd]), I2c::read(0x44, answer.clone())],
        );
        assert_eq!(read.unwrap_err().reason(), NoData::BadChecksum, "byte {byte}");
        answer[byte] ^= 0x10;
    }
}

#[test]
fn nobody_there_and_a_stuck_bus_are_told_apart() {
    let absent = read(PartOptions::usual(Part::Sht4x), &[I2c::write(0x44, vec![0xfd]).with_error(NACK)]);
    assert_eq!(absent.unwrap_err(), ChipError::NoAnswer);
    let stuck = read(
        PartOptions::usual(Part::Ina219),
        &[I2c::write_read(0x40, vec![0x01], vec![0, 0]).with_error(ErrorKind::Bus)],
    );
    let stuck = stuck.unwrap_err();
    assert_eq!(stuck.reason(), NoData::ReadFailed);
    assert!(stuck.to_string().contains("held low"));
}

/// The worked example of the data sheet, section 3.12 of BST-BMP280-DS001, with the same formulas.
const BOSCH: bme280::Calibration = bme280::Calibration {
    t: [27_504.0, 26_435.0, -1000.0],
    p: [36_477.0, -10_685.0, 3024.0, 2855.0, 140.0, -7.0, 15_500.0, -14_600.0, 6000.0],
    h: [75.0, 361.0, 0.0, 340.0, 50.0, 30.0],
};

#[test]
fn boschs_worked_example_comes_out() {
    let t_fine = BOSCH.t_fine(519_888);
    assert_eq!(t_fine.trunc(), 128_422.0);
    assert!((t_fine / 5120.0 - 25.08).abs() < 0.005);
    assert!((BOSCH.pascal(415_148, t_fine).unwrap() - 100_653.27).abs() < 0.1);
}

#[test]
fn humidity_agrees_with_boschs_whole_number_formula() {
    let t_fine = BOSCH.t_fine(519_888);
    for raw in (24_000..40_000).step_by(500) {
        let expected = integer_humidity(raw.into(), t_fine as i32);
        let found = BOSCH.humidity(raw, t_fine);
        assert!((found - expected).abs() < 0.05, "{raw}: {found}, not {expected}");
    }
}

/// Section 4.2.3 of BST-BME280-DS002: 32-bit integers, in 1/1024 of a per cent.
fn integer_humidity(raw: i32, t_fine: i32) -> f64 {
    let [h1, h2, h3, h4, h5, h6] = BOSCH.h.map(|h| h as i32);
    let v = t_fine - 76_800;
    let left = ((raw << 14) - (h4 << 20) - (h5 * v) + 16_384) >> 15;
    let right = (((((v * h6) >> 10) * (((v * h3) >> 11) + 32_768)) >> 10) + 2_097_152) * h2 + 8192;
    let v = left * (right >> 14);
    let v = v - (((((v >> 15) * (v >> 15)) >> 7) * h1) >> 4);
    f64::from(v.clamp(0, 419_430_400) >> 12) / 1024.0
}

#[test]
fn a_bme280_is_identified_calibrated_and_read() {
    let mut tp = Vec::new();
    tp.extend(27_504_u16.to_le_bytes());
    tp.extend([26_435_i16, -1000].map(i16::to_le_bytes).concat());
    tp.extend(36_477_u16.to_le_bytes());
    tp.extend([-10_685_i16, 3024, 2855, 140, -7, 15_500, -14_600, 6000].map(i16::to_le_bytes).concat());
    tp.extend([0, 75]);
    // H2 361, H3 0, H4 340 = 0x154, H5 50 = 0x032, H6 30.
    let h = vec![0x69, 0x01, 0x00, 0x15, 0x24, 0x03, 30];
    let pressure = (415_148_u32 << 4).to_be_bytes();
    let temperature = (519_888_u32 << 4).to_be_bytes();
    let data = [&pressure[1..], &temperature[1..], &30_000_u16.to_be_bytes()].concat();
    let set_up = [
        I2c::write_read(0x76, vec![0xd0], vec![0x60]),
        I2c::write_read(0x76, vec![0x88], tp),
        I2c::write_read(0x76, vec![0xe1], h),
        I2c::write(0x76, vec![0xf5, 0]),
    ];
    let measure = [
        I2c::write(0x76, vec![0xf2, 1]),
        I2c::write(0x76, vec![0xf4, 0x25]),
        I2c::write_read(0x76, vec![0xf3], vec![0]),
        I2c::write_read(0x76, vec![0xf7], data),
    ];
    let values = read(PartOptions::usual(Part::Bme280), &[&set_up[..], &measure].concat()).unwrap();
    let humidity = BOSCH.humidity(30_000, BOSCH.t_fine(519_888));
    close(&values, &[25.0825, 1006.5327, humidity], 0.001);
}

#[test]
fn a_bmp280_in_the_place_of_a_bme280_is_found_out() {
    let read = read(PartOptions::usual(Part::Bme280), &[I2c::write_read(0x76, vec![0xd0], vec![0x58])]);
    let error = read.unwrap_err();
    assert_eq!(error, ChipError::WrongPart { register: 0xd0, expected: 0x60, found: 0x58 });
    assert_eq!(error.reason(), NoData::WrongDevice);
}

#[test]
fn an_ina219_gives_the_figures_of_its_data_sheet() {
    // Section 8.5.2: 10 A through 2 mΩ, 11.98 V.
    let options = PartOptions { shunt_ohm: 0.002, ..PartOptions::usual(Part::Ina219) };
    let values = read(
        options,
        &[
            I2c::write_read(0x40, vec![0x01], vec![0x07, 0xd0]),
            I2c::write_read(0x40, vec![0x02], vec![0x5d, 0x98]),
        ],
    );
    close(&values.unwrap(), &[11.98, 10.0, 119.8], 0.001);
    // 320 mV either way (table 7), and one digit less.
    for (shunt, is_end) in [(0x7d00_u16, true), (0x8300, true), (0x7cff, false), (0x8301, false)] {
        let full = read(
            options,
            &[
                I2c::write_read(0x40, vec![0x01], shunt.to_be_bytes().to_vec()),
                I2c::write_read(0x40, vec![0x02], vec![0x5d, 0x98]),
            ],
        );
        assert_eq!(full.unwrap()[1] == Err(NoData::OutOfRange), is_end, "{shunt:#06x}");
    }
}

#[test]
fn an_ina226_says_who_it_is_and_gives_the_figures_of_its_data_sheet() {
    // Table 7-6: 10 A through 2 mΩ, 11.98 V.
    let options = PartOptions { shunt_ohm: 0.002, ..PartOptions::usual(Part::Ina226) };
    let id = |word: [u8; 2]| I2c::write_read(0x40, vec![0xfe], word.to_vec());
    let values = read(
        options,
        &[
            id([0x54, 0x49]),
            I2c::write_read(0x40, vec![0x01], vec![0x1f, 0x40]),
            I2c::write_read(0x40, vec![0x02], vec![0x25, 0x70]),
        ],
    );
    close(&values.unwrap(), &[11.98, 10.0, 119.8], 0.001);
    assert_eq!(read(options, &[id([0, 0])]).unwrap_err().reason(), NoData::WrongDevice);
}

#[test]
fn an_ads1115_converts_each_input_in_the_smallest_range_that_holds_it() {
    let ranged = I2c::write(0x48, vec![0x01, 0x83 & !0x0e | 0x02, 0x83]);
    let idle = I2c::write_read(0x48, vec![0x01], vec![0x83, 0x83]);
    let mut transactions = vec![ranged];
    let inputs = [(0xc3, 0x4000_u16), (0xd3, 0x8000), (0xe3, 0xffff), (0xf3, 0x7fff)];
    for (config, raw) in inputs {
        transactions.extend([
            idle.clone(),
            I2c::write(0x48, vec![0x01, config, 0x83]),
            idle.clone(),
            I2c::write_read(0x48, vec![0x00], raw.to_be_bytes().to_vec()),
        ]);
    }
    let values = read(PartOptions::usual(Part::Ads1115), &transactions).unwrap();
    close(&values[..1], &[2.048], 1e-9);
    close(&values[2..3], &[-0.000_125], 1e-9);
    assert_eq!((values[1], values[3]), (Err(NoData::OutOfRange), Err(NoData::OutOfRange)));
}

#[test]
fn an_ads1115_that_never_gets_done_is_given_up() {
    let busy = I2c::write_read(0x48, vec![0x01], vec![0x03, 0x83]);
    let mut transactions = vec![I2c::write(0x48, vec![0x01, 0x83 & !0x0e | 0x02, 0x83])];
    transactions.extend(std::iter::repeat_n(busy, 4));
    let read = read(PartOptions::usual(Part::Ads1115), &transactions);
    assert_eq!(read.unwrap_err().reason(), NoData::TimedOut);
}

#[test]
fn a_lis3dh_condenses_its_fifo_to_what_moves() {
    // x swings by 100 digits, y stands at 1 g, z has one peak of 400 among four.
    let digits: [[i16; 3]; 4] = [[100, 500, 0], [-100, 500, 0], [100, 500, 400], [-100, 500, 0]];
    let bytes: Vec<u8> = digits.concat().iter().flat_map(|d| (d << 4).to_le_bytes()).collect();
    let values = read(
        PartOptions::usual(Part::Lis3dh),
        &[
            I2c::write_read(0x18, vec![0x20], vec![0x77]),
            I2c::write_read(0x18, vec![0x2f], vec![4]),
            I2c::write_read(0x18, vec![0xa8], bytes),
        ],
    );
    let digit = 0.002 * 9.806_65;
    let z_rms = 30_000_f64.sqrt() * digit;
    close(&values.unwrap(), &[100.0 * digit, 0.0, z_rms, 100.0 * digit, 0.0, 300.0 * digit], 1e-9);
}

#[test]
fn an_axis_of_a_lis3dh_at_the_end_of_its_range_has_no_value() {
    let digits: [[i16; 3]; 2] = [[2047, -2048, 2046], [0, 0, -2047]];
    let bytes: Vec<u8> = digits.concat().iter().flat_map(|d| (d << 4).to_le_bytes()).collect();
    let values = read(
        PartOptions::usual(Part::Lis3dh),
        &[
            I2c::write_read(0x18, vec![0x20], vec![0x77]),
            I2c::write_read(0x18, vec![0x2f], vec![2]),
            I2c::write_read(0x18, vec![0xa8], bytes),
        ],
    );
    let values = values.unwrap();
    assert_eq!([values[0], values[1], values[3], values[4]], [Err(NoData::OutOfRange); 4]);
    assert!(values[2].is_ok() && values[5].is_ok(), "{values:?}");
}

#[test]
fn a_lis3dh_that_lost_its_power_is_set_up_again() {
    let values = read(
        PartOptions::usual(Part::Lis3dh),
        &[
            I2c::write_read(0x18, vec![0x20], vec![0x07]),
            I2c::write_read(0x18, vec![0x0f], vec![0x33]),
            I2c::write(0x18, vec![0x23, 0x98]),
            I2c::write(0x18, vec![0x24, 0x40]),
            I2c::write(0x18, vec![0x2e, 0x80]),
            I2c::write(0x18, vec![0x20, 0x77]),
            I2c::write_read(0x18, vec![0x2f], vec![0]),
        ],
    );
    assert_eq!(values.unwrap_err(), ChipError::NotReady, "an empty FIFO is no vibration of zero");
}

#[test]
fn an_mcp3008_reads_its_eight_inputs_and_knows_a_line_that_nobody_drives() {
    let transfer = |input: u8, answer: [u8; 3]| {
        [
            Spi::transaction_start(),
            Spi::transfer(vec![1, 0x80 | (input << 4), 0], answer.to_vec()),
            Spi::transaction_end(),
        ]
    };
    let all: Vec<_> = (0..8).flat_map(|input| transfer(input, [0xff, 0xf8 | (input & 3), 0])).collect();
    let mut device = SpiMock::new(&all);
    let mut chip = PartOptions::usual(Part::Mcp3008).on_spi(device.clone()).expect("on SPI");
    let mut values = Vec::new();
    chip.read(&mut NoopDelay, &mut values).unwrap();
    device.done();
    close(&values[..4], &[0.0, 0.825, 1.65, 2.475], 1e-9);

    let mut floating = SpiMock::new(&transfer(0, [0xff; 3]));
    let mut chip = PartOptions::usual(Part::Mcp3008).on_spi(floating.clone()).expect("on SPI");
    assert_eq!(chip.read(&mut NoopDelay, &mut Vec::new()), Err(ChipError::NoAnswer));
    floating.done();
}

/// A bus on which every transfer fails alike.
struct Broken(ErrorKind);

impl embedded_hal::i2c::ErrorType for Broken {
    type Error = ErrorKind;
}

impl embedded_hal::i2c::I2c for Broken {
    fn transaction(&mut self, _: u8, _: &mut [embedded_hal::i2c::Operation<'_>]) -> Result<(), ErrorKind> {
        Err(self.0)
    }
}

impl embedded_hal::spi::ErrorType for Broken {
    type Error = embedded_hal::spi::ErrorKind;
}

impl SpiDevice for Broken {
    fn transaction(
        &mut self,
        _: &mut [embedded_hal::spi::Operation<'_, u8>],
    ) -> Result<(), embedded_hal::spi::ErrorKind> {
        Err(embedded_hal::spi::ErrorKind::Other)
    }
}

#[test]
fn every_part_tells_nobody_there_from_a_bus_that_is_stuck() {
    for (fault, why) in [(NACK, NoData::NoAnswer), (ErrorKind::Bus, NoData::ReadFailed)] {
        for part in Part::ALL.iter().filter(|part| !part.is_spi()) {
            let mut chip = PartOptions::usual(*part).on_i2c(Broken(fault)).expect("on I2C");
            let error = chip.read(&mut NoopDelay, &mut Vec::new()).unwrap_err();
            assert_eq!(error.reason(), why, "{part}: {error}");
        }
    }
    let mut adc = PartOptions::usual(Part::Mcp3008).on_spi(Broken(ErrorKind::Other)).expect("on SPI");
    let error = adc.read(&mut NoopDelay, &mut Vec::new()).unwrap_err();
    assert_eq!(error, ChipError::Bus("the SPI transfer failed"));
}

#[test]
fn another_part_in_the_place_of_a_lis3dh_is_found_out() {
    let not_running = I2c::write_read(0x18, vec![0x20], vec![0x07]);
    let read =
        read(PartOptions::usual(Part::Lis3dh), &[not_running, I2c::write_read(0x18, vec![0x0f], vec![0x32])]);
    assert_eq!(read.unwrap_err(), ChipError::WrongPart { register: 0x0f, expected: 0x33, found: 0x32 });
}

#[test]
fn a_bme280_that_failed_is_asked_anew_who_it_is() {
    let mut bus = I2cMock::new(&[
        I2c::write_read(0x76, vec![0xd0], vec![0x60]),
        I2c::write_read(0x76, vec![0x88], vec![1; 26]),
        I2c::write_read(0x76, vec![0xe1], vec![1; 7]),
        I2c::write(0x76, vec![0xf5, 0]),
        I2c::write(0x76, vec![0xf2, 1]).with_error(NACK),
        // Another chip was put into its place meanwhile.
        I2c::write_read(0x76, vec![0xd0], vec![0x58]),
    ]);
    let mut chip = PartOptions::usual(Part::Bme280).on_i2c(bus.clone()).expect("on I2C");
    let mut read = || chip.read(&mut NoopDelay, &mut Vec::new()).unwrap_err().reason();
    assert_eq!([read(), read()], [NoData::NoAnswer, NoData::WrongDevice]);
    bus.done();
}

/// A bus on which every answer is noise, or none.
struct Noise(fastrand::Rng);

impl embedded_hal::i2c::ErrorType for Noise {
    type Error = ErrorKind;
}

impl embedded_hal::i2c::I2c for Noise {
    fn transaction(
        &mut self,
        _: u8,
        operations: &mut [embedded_hal::i2c::Operation<'_>],
    ) -> Result<(), ErrorKind> {
        for operation in operations {
            if self.0.u8(..) == 0 {
                return Err(NACK);
            }
            if let embedded_hal::i2c::Operation::Read(buffer) = operation {
                // The identities are let through now and then.
                let byte = [0x60, 0x33, 0x77, 0x54, 0x49, 0x00][self.0.usize(..6)];
                let one = self.0.bool();
                buffer.iter_mut().for_each(|b| *b = if one { byte } else { self.0.u8(..) });
            }
        }
        Ok(())
    }
}

#[test]
fn noise_on_the_bus_makes_no_driver_panic() {
    for part in Part::ALL {
        let Some(mut chip) = PartOptions::usual(*part).on_i2c(Noise(fastrand::Rng::with_seed(5))) else {
            continue;
        };
        let mut read = 0;
        for _ in 0..20_000 {
            let mut values = Vec::new();
            read += u32::from(chip.read(&mut NoopDelay, &mut values).is_ok());
        }
        // The checksums of Sensirion and the words of the INA226 let next to no noise through.
        assert!(read > 0 || matches!(part, Part::Sht3x | Part::Sht4x | Part::Ina226), "{part}");
    }
}

#[test]
fn a_part_is_built_for_its_own_bus_only() {
    for part in Part::ALL {
        let options = PartOptions::usual(*part);
        let (mut i2c, mut spi) = (I2cMock::new(&[]), SpiMock::<u8>::new(&[]));
        assert_eq!(options.on_i2c(i2c.clone()).is_none(), part.is_spi(), "{part}");
        assert_eq!(options.on_spi(spi.clone()).is_some(), part.is_spi(), "{part}");
        assert_eq!(part.addresses().is_empty(), part.is_spi(), "{part}");
        i2c.done();
        spi.done();
    }
}
