//! Industrial I/O, one value per file: `(raw + offset) * scale` (kernel documentation, ABI/testing/sysfs-bus-iio).

use super::{Found, number, part, word};
use crate::reading::{NoData, Quantity};
use crate::sensor::host::files::Root;

pub(super) const DEVICES: &str = "sys/bus/iio/devices";

/// What a channel is called in files, what it measures, its unit, and how many of the ABI's units make one.
const TYPES: &[(&str, Quantity, &str, f64)] = &[
    ("voltage", Quantity::Voltage, "V", 1000.0),
    ("altvoltage", Quantity::Voltage, "V", 1000.0),
    ("current", Quantity::Current, "A", 1000.0),
    ("power", Quantity::Power, "W", 1000.0),
    ("temp", Quantity::Temperature, "Cel", 1000.0),
    ("humidityrelative", Quantity::Humidity, "%", 1000.0),
    ("pressure", Quantity::Pressure, "kPa", 1.0),
    ("accel", Quantity::Vibration, "m/s2", 1.0),
    ("anglvel", Quantity::Speed, "rad/s", 1.0),
    ("magn", Quantity::Other, "G", 1.0),
    ("illuminance", Quantity::Other, "lx", 1.0),
    ("resistance", Quantity::Other, "Ohm", 1.0),
    ("distance", Quantity::Level, "m", 1.0),
    ("count", Quantity::Count, "", 1.0),
    ("proximity", Quantity::Other, "", 1.0),
    ("concentration", Quantity::Other, "%", 1.0),
    ("ph", Quantity::Other, "[pH]", 1.0),
];

/// How a channel's digits become a value in a unit of ours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Conversion {
    pub quantity: Quantity,
    pub unit: &'static str,
    offset: f64,
    scale: f64,
}

impl Conversion {
    /// Of the channel `name` (`voltage0`, `accel_x`, `voltage0-voltage1`) in the device's folder; none for a kind that
    /// nobody knows.
    pub fn of(tree: &Root, dir: &str, name: &str) -> Option<Self> {
        let kind = name.split(|c: char| !c.is_ascii_lowercase()).next()?;
        let &(_, quantity, unit, per_unit) = TYPES.iter().find(|(known, ..)| *known == kind)?;
        // A file of its own, or one for all of its kind.
        let unnumbered: String = name.chars().filter(|c| !c.is_ascii_digit()).collect();
        let shared = |what: &str| {
            [name, &unnumbered, kind].iter().find_map(|n| number(tree, &format!("{dir}/in_{n}_{what}")))
        };
        let scale = shared("scale").unwrap_or(1.0) / per_unit;
        Some(Self { quantity, unit, offset: shared("offset").unwrap_or(0.0), scale })
    }

    /// The value of so many digits.
    pub fn value(&self, digits: f64) -> f64 {
        (digits + self.offset) * self.scale
    }

    /// The value of what is in the ABI's units already.
    fn processed(&self, value: f64) -> f64 {
        let per_unit = TYPES.iter().find(|(_, q, u, _)| (*q, *u) == (self.quantity, self.unit));
        value / per_unit.map_or(1.0, |(.., per_unit)| *per_unit)
    }
}

/// Everything there is.
pub(super) fn look(tree: &Root) -> Vec<Found> {
    let devices = tree.entries(DEVICES).into_iter().filter(|name| name.starts_with("iio:device"));
    devices.flat_map(|device| of_device(tree, &device)).collect()
}

fn of_device(tree: &Root, device: &str) -> Vec<Found> {
    let dir = format!("{DEVICES}/{device}");
    let called = device_name(tree, device);
    let files = tree.entries(&dir);
    let channels = files.iter().filter_map(|file| {
        let (name, raw) = match file.strip_prefix("in_")? {
            file if file.ends_with("_raw") => (file.strip_suffix("_raw")?, true),
            file => (file.strip_suffix("_input")?, false),
        };
        // What the driver has converted already is the better one.
        if raw && files.contains(&format!("in_{name}_input")) {
            return None;
        }
        let conversion = Conversion::of(tree, &dir, name)?;
        let value = number(tree, &format!("{dir}/{file}"));
        let value = value.map(|x| if raw { conversion.value(x) } else { conversion.processed(x) });
        Some(Found {
            name: format!("{called}.{}", part(name)),
            quantity: conversion.quantity,
            unit: conversion.unit,
            value: value.ok_or(NoData::ReadFailed),
        })
    });
    channels.collect()
}

/// `bme280` where it is the only one of its kind, `bme280-2` for the device of number 2 where it is not.
pub(super) fn device_name(tree: &Root, device: &str) -> String {
    let name_of = |device: &str| word(tree, &format!("{DEVICES}/{device}/name"));
    let number = device.trim_start_matches(|c: char| !c.is_ascii_digit());
    let Some(name) = name_of(device) else { return format!("device-{number}") };
    let alike = tree.entries(DEVICES).iter().filter(|other| name_of(other).as_ref() == Some(&name)).count();
    if alike > 1 { format!("{name}-{number}") } else { name }
}
