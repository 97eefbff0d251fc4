//! Thermometers on 1-Wire, such as the DS18B20, through the kernel's `w1_therm`.
//!
//! A look makes the kernel measure, which takes up to 750 ms for each: the source has a thread of its own.

use super::{Found, part};
use crate::reading::{NoData, Quantity, Value};
use crate::sensor::host::files::Root;

const DEVICES: &str = "sys/bus/w1/devices";
/// DS18S20, DS1822, DS18B20, MAX31850, DS28EA00.
const FAMILIES: &[&str] = &["10-", "22-", "28-", "3b-", "42-"];

/// Everything there is.
pub(super) fn look(tree: &Root) -> Vec<Found> {
    let devices = tree.entries(DEVICES).into_iter();
    let thermometers = devices.filter(|id| FAMILIES.iter().any(|family| id.starts_with(family)));
    thermometers
        .map(|id| Found {
            value: tree
                .text(&format!("{DEVICES}/{id}/w1_slave"))
                .map_or(Err(NoData::NoAnswer), |t| celsius(&t)),
            name: part(&id),
            quantity: Quantity::Temperature,
            unit: "Cel",
        })
        .collect()
}

/// From two lines that both begin with the nine bytes of the chip's memory.
fn celsius(text: &str) -> Value {
    let mut lines = text.lines();
    let (Some(first), Some(second)) = (lines.next(), lines.next()) else { return Err(NoData::NoAnswer) };
    if !first.trim_end().ends_with("YES") {
        return Err(NoData::BadChecksum);
    }
    let bytes: Vec<u8> =
        first.split_ascii_whitespace().map_while(|b| u8::from_str_radix(b, 16).ok()).collect();
    // What stands in its memory after power-up: nothing has been measured since.
    if bytes.starts_with(&[0x50, 0x05]) && bytes.get(6) == Some(&0x0c) {
        return Err(NoData::TimedOut);
    }
    let (_, milli) = second.rsplit_once("t=").ok_or(NoData::ReadFailed)?;
    milli.trim().parse::<f64>().map(|m| m / 1000.0).map_err(|_| NoData::ReadFailed)
}
