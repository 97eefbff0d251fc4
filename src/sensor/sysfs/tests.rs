//! A tree of files as kernel drivers publish it, in a temporary folder.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use super::*;
use crate::clock;
use crate::sensor::{self, SourceOptions};
use crate::time::Wall;

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    files.iter().for_each(|(path, text)| put(dir.path(), path, text));
    dir
}

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn source(kind: SysfsKind, root: &Path) -> Sysfs {
    let (prefix, interval) = ("gw".into(), Duration::from_secs(1));
    Sysfs::new(SysfsOptions { kind, prefix, interval, root: root.into() })
}

fn poll(source: &mut Sysfs) -> Vec<(String, Value)> {
    let mut out = Vec::new();
    source.poll(clock::stamp(), &mut out);
    out.into_iter().map(|reading| (reading.channel.to_string(), reading.value)).collect()
}

#[test]
fn hardware_monitors_and_zones_are_read_in_units_of_people() {
    let dir = tree(&[
        ("sys/class/hwmon/hwmon0/name", "ina3221\n"),
        ("sys/class/hwmon/hwmon0/in1_input", "5025\n"),
        ("sys/class/hwmon/hwmon0/in1_label", "VDD IN\n"),
        ("sys/class/hwmon/hwmon0/curr1_input", "1250\n"),
        ("sys/class/hwmon/hwmon0/power1_input", "6300000\n"),
        ("sys/class/hwmon/hwmon0/pwm1", "128\n"),
        ("sys/class/hwmon/hwmon0/temp1_input", "-4500\n"),
        ("sys/class/hwmon/hwmon1/name", "nct6775\n"),
        ("sys/class/hwmon/hwmon1/fan2_input", "1480\n"),
        ("sys/class/hwmon/hwmon1/temp1_input", "-128000\n"),
        ("sys/class/hwmon/hwmon1/temp1_fault", "1\n"),
        ("sys/class/thermal/thermal_zone0/type", "soc.0\n"),
        ("sys/class/thermal/thermal_zone0/temp", "48250\n"),
    ]);
    let mut source = source(SysfsKind::Hwmon, dir.path());
    let mut out = Vec::new();
    let infos = source.poll(clock::stamp(), &mut out);
    let units: Vec<_> = infos.iter().map(|i| (i.id.as_str(), i.unit.0.as_str())).collect();
    assert_eq!(units[0], ("gw.ina3221.curr1", "A"));
    let values: Vec<_> = out.iter().map(|r| (r.channel.as_str(), r.value)).collect();
    assert_eq!(
        values,
        [
            ("gw.ina3221.curr1", Ok(1.25)),
            ("gw.ina3221.vdd_in", Ok(5.025)),
            ("gw.ina3221.power1", Ok(6.3)),
            ("gw.ina3221.temp1", Ok(-4.5)),
            ("gw.nct6775.fan2", Ok(1480.0)),
            ("gw.nct6775.temp1", Err(NoData::ReadFailed)),
            ("gw.thermal.soc_0", Ok(48.25)),
        ]
    );
    assert!(source.poll(clock::stamp(), &mut Vec::new()).is_empty(), "described once");
}

#[test]
fn iio_values_are_offset_and_scaled_by_their_own_files_or_by_those_of_their_kind() {
    let dir = tree(&[
        ("sys/bus/iio/devices/iio:device0/name", "ads1015\n"),
        ("sys/bus/iio/devices/iio:device0/in_voltage0_raw", "1200\n"),
        ("sys/bus/iio/devices/iio:device0/in_voltage0_scale", "2\n"),
        ("sys/bus/iio/devices/iio:device0/in_voltage1_raw", "1200\n"),
        ("sys/bus/iio/devices/iio:device0/in_voltage_scale", "0.5\n"),
        ("sys/bus/iio/devices/iio:device0/in_voltage0-voltage1_raw", "-100\n"),
        ("sys/bus/iio/devices/iio:device0/in_voltage-voltage_scale", "3\n"),
        ("sys/bus/iio/devices/iio:device1/name", "hdc100x\n"),
        ("sys/bus/iio/devices/iio:device1/in_temp_raw", "26214\n"),
        ("sys/bus/iio/devices/iio:device1/in_temp_offset", "-15887.515151\n"),
        ("sys/bus/iio/devices/iio:device1/in_temp_scale", "2.517700195\n"),
        ("sys/bus/iio/devices/iio:device2/name", "bmp280\n"),
        ("sys/bus/iio/devices/iio:device2/in_pressure_input", "100.65327\n"),
        ("sys/bus/iio/devices/iio:device2/in_humidityrelative_input", "48125\n"),
        ("sys/bus/iio/devices/iio:device2/in_humidityrelative_raw", "1\n"),
        ("sys/bus/iio/devices/iio:device2/in_mystery_raw", "1\n"),
        ("sys/bus/iio/devices/trigger0/name", "t\n"),
    ]);
    let values = poll(&mut source(SysfsKind::Iio, dir.path()));
    let value =
        |name: &str| values.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{name}")).1.unwrap();
    assert_eq!(value("gw.ads1015.voltage0"), 2.4);
    assert_eq!(value("gw.ads1015.voltage1"), 0.6);
    assert_eq!(value("gw.ads1015.voltage0-voltage1"), -0.3);
    assert!((value("gw.hdc100x.temp") - 26.0).abs() < 0.01);
    assert_eq!(value("gw.bmp280.pressure"), 100.65327);
    assert_eq!(value("gw.bmp280.humidityrelative"), 48.125);
    assert_eq!(values.len(), 6, "{values:?}");
}

#[test]
fn two_devices_of_one_kind_bear_their_numbers() {
    let dir = tree(&[
        ("sys/bus/iio/devices/iio:device0/name", "bme280"),
        ("sys/bus/iio/devices/iio:device0/in_temp_input", "20000"),
        ("sys/bus/iio/devices/iio:device3/name", "bme280"),
        ("sys/bus/iio/devices/iio:device3/in_temp_input", "21000"),
    ]);
    let values = poll(&mut source(SysfsKind::Iio, dir.path()));
    assert_eq!(values, [("gw.bme280-0.temp".into(), Ok(20.0)), ("gw.bme280-3.temp".into(), Ok(21.0))]);
}

#[test]
fn a_thermometer_on_one_wire_tells_its_checksum_and_its_power_up_value_apart() {
    let slave = |text: &str| {
        let dir = tree(&[("sys/bus/w1/devices/28-000005e2fdc3/w1_slave", text)]);
        put(dir.path(), "sys/bus/w1/devices/w1_bus_master1/name", "w1_bus_master1");
        let values = poll(&mut source(SysfsKind::W1, dir.path()));
        assert_eq!((values.len(), values[0].0.as_str()), (1, "gw.28-000005e2fdc3"));
        values[0].1
    };
    let sound = "a2 01 4b 46 7f ff 0e 10 d8 : crc=d8 YES\na2 01 4b 46 7f ff 0e 10 d8 t=26125\n";
    assert_eq!(slave(sound), Ok(26.125));
    assert_eq!(slave(&sound.replace("YES", "NO")), Err(NoData::BadChecksum));
    let reset = "50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 05 4b 46 7f ff 0c 10 1c t=85000\n";
    assert_eq!(slave(reset), Err(NoData::TimedOut));
    assert_eq!(slave(&reset.replace(" 0c ", " 0b ")), Ok(85.0), "a true 85 °C");
    assert_eq!(slave(""), Err(NoData::NoAnswer));
}

#[test]
fn what_is_gone_says_so_for_a_while_and_what_comes_is_read() {
    let dir = tree(&[
        ("sys/bus/iio/devices/iio:device0/name", "adc"),
        ("sys/bus/iio/devices/iio:device0/in_voltage0_raw", "1000"),
    ]);
    let mut source = source(SysfsKind::Iio, dir.path());
    assert_eq!(poll(&mut source), [("gw.adc.voltage0".into(), Ok(1.0))]);
    fs::remove_file(dir.path().join("sys/bus/iio/devices/iio:device0/in_voltage0_raw")).unwrap();
    put(dir.path(), "sys/bus/iio/devices/iio:device0/in_voltage1_raw", "2000");
    for _ in 0..limits::HOST_MISSES_MAX {
        let values = poll(&mut source);
        assert_eq!(values[0], ("gw.adc.voltage1".into(), Ok(2.0)));
        assert_eq!(values[1], ("gw.adc.voltage0".into(), Err(NoData::ReadFailed)));
    }
    assert_eq!(poll(&mut source).len(), 1, "forgotten");
}

/// An accelerometer with a buffer; its character device is a named pipe.
fn accelerometer() -> tempfile::TempDir {
    let dir = tree(&[
        ("sys/bus/iio/devices/iio:device0/name", "adxl355"),
        ("sys/bus/iio/devices/iio:device0/sampling_frequency", "1000"),
        ("sys/bus/iio/devices/iio:device0/in_accel_scale", "0.01"),
        ("sys/bus/iio/devices/iio:device0/buffer/enable", "0"),
        ("sys/bus/iio/devices/iio:device0/trigger/current_trigger", "\n"),
        ("sys/bus/iio/devices/trigger0/name", "sysfstrig1"),
        ("sys/bus/iio/devices/trigger1/name", "adxl355-dev0"),
        ("sys/bus/iio/devices/iio:device0/scan_elements/in_accel_x_type", "be:s12/16>>4"),
        ("sys/bus/iio/devices/iio:device0/scan_elements/in_accel_x_index", "0"),
        ("sys/bus/iio/devices/iio:device0/scan_elements/in_accel_x_en", "0"),
        ("sys/bus/iio/devices/iio:device0/scan_elements/in_accel_y_type", "be:s12/16>>4"),
        ("sys/bus/iio/devices/iio:device0/scan_elements/in_accel_y_index", "1"),
        ("sys/bus/iio/devices/iio:device0/scan_elements/in_accel_y_en", "0"),
        ("sys/bus/iio/devices/iio:device0/scan_elements/in_timestamp_type", "le:s64/64>>0"),
        ("sys/bus/iio/devices/iio:device0/scan_elements/in_timestamp_index", "3"),
        ("sys/bus/iio/devices/iio:device0/scan_elements/in_timestamp_en", "0"),
    ]);
    fs::create_dir_all(dir.path().join("dev")).unwrap();
    pipe(dir.path());
    dir
}

fn pipe(root: &Path) {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, root.join("dev/iio:device0"), rustix::fs::FileType::Fifo, mode, 0)
        .unwrap();
}

fn sample(x: i16, y: i16, at: Wall) -> Vec<u8> {
    let mut bytes = [(x << 4).to_be_bytes(), (y << 4).to_be_bytes(), [0; 2], [0; 2]].concat();
    bytes.extend((at.0 * 1000).to_le_bytes());
    bytes
}

#[test]
fn a_buffer_is_set_up_and_its_samples_are_read_however_they_are_cut() {
    let dir = accelerometer();
    let file = |name: &str| {
        fs::read_to_string(dir.path().join("sys/bus/iio/devices/iio:device0").join(name)).unwrap()
    };
    let options = BufferOptions {
        prefix: "motor".into(),
        device: "iio:device0".into(),
        rate_hz: Some(6600.0),
        root: dir.path().into(),
    };
    let (out, batches) = smol::channel::bounded(1024);
    let (stopper, stop) = sensor::stopper();
    let handle = sensor::spawn("vib", SourceOptions::IioBuffer(options), out, stop).unwrap();
    // Opening a pipe to write waits for its reader.
    let mut device = fs::OpenOptions::new().write(true).open(dir.path().join("dev/iio:device0")).unwrap();
    assert_eq!((file("buffer/enable"), file("sampling_frequency")), ("1".into(), "6600".into()));
    assert_eq!(file("trigger/current_trigger"), "adxl355-dev0");
    assert_eq!((file("scan_elements/in_accel_y_en"), file("buffer/watermark")), ("1".into(), "330".into()));
    let bytes: Vec<u8> =
        (0..1000).flat_map(|n| sample(n, -n, Wall(1_800_000_000_000_000 + i64::from(n)))).collect();
    for piece in bytes.chunks(37) {
        device.write_all(piece).unwrap();
    }
    let mut readings = Vec::new();
    let mut infos = Vec::new();
    while readings.len() < 2000 {
        let batch = batches.recv_blocking().unwrap();
        readings.extend(batch.readings);
        infos.extend(batch.infos);
    }
    assert_eq!(
        infos.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(),
        ["motor.adxl355.accel_x", "motor.adxl355.accel_y"]
    );
    for (n, pair) in readings.chunks(2).enumerate() {
        assert_eq!(pair[0].at, Wall(1_800_000_000_000_000 + n as i64));
        let expected = n as f64 * 0.01;
        assert_eq!((pair[0].value, pair[1].value), (Ok(expected), Ok(-expected)), "sample {n}");
    }
    drop(device);
    // The device is gone: its channels say so.
    let gone = batches.recv_blocking().unwrap();
    assert!(gone.readings.iter().all(|r| r.value == Err(NoData::ReadFailed)) && gone.readings.len() == 2);
    drop(stopper);
    handle.join();
}

#[test]
fn a_device_that_is_not_there_ends_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let options = BufferOptions {
        prefix: "motor".into(),
        device: "iio:device7".into(),
        rate_hz: None,
        root: dir.path().into(),
    };
    let (out, batches) = smol::channel::bounded(1);
    let (stopper, stop) = sensor::stopper();
    let handle = sensor::spawn("vib", SourceOptions::IioBuffer(options), out, stop).unwrap();
    assert!(batches.recv_blocking().unwrap().readings.is_empty(), "nothing is known of it");
    assert!(!handle.is_finished());
    drop(stopper);
    handle.join();
}
