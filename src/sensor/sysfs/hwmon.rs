//! Hardware monitors and thermal zones: voltages, currents, fans, temperatures that kernel drivers know.

use std::collections::HashMap;

use super::{Found, number, part, word};
use crate::reading::{NoData, Quantity};
use crate::sensor::host::files::Root;

/// What an input is called in files, what it measures, its unit, and how many of its digits make one
/// (kernel documentation, hwmon/sysfs-interface).
const INPUTS: &[(&str, Quantity, &str, f64)] = &[
    ("in", Quantity::Voltage, "V", 1000.0),
    ("temp", Quantity::Temperature, "Cel", 1000.0),
    ("curr", Quantity::Current, "A", 1000.0),
    ("power", Quantity::Power, "W", 1e6),
    ("fan", Quantity::Speed, "/min", 1.0),
    ("humidity", Quantity::Humidity, "%", 1000.0),
    ("energy", Quantity::Other, "J", 1e6),
];

/// Everything there is.
pub(super) fn look(tree: &Root) -> Vec<Found> {
    let mut found: Vec<Found> = monitors(tree).chain(zones(tree)).collect();
    // Two chips of one kind have one name: all but the first bear a number.
    let mut named: HashMap<String, u32> = HashMap::new();
    for one in &mut found {
        let count = named.entry(one.name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            one.name = format!("{}-{count}", one.name);
        }
    }
    found
}

fn monitors(tree: &Root) -> impl Iterator<Item = Found> {
    const CLASS: &str = "sys/class/hwmon";
    tree.entries(CLASS).into_iter().flat_map(move |monitor| {
        let dir = format!("{CLASS}/{monitor}");
        let chip = word(tree, &format!("{dir}/name")).unwrap_or(monitor);
        let files = tree.entries(&dir).into_iter();
        files
            .filter_map(move |file| input(tree, &dir, &chip, file.strip_suffix("_input")?))
            .collect::<Vec<_>>()
    })
}

/// `input` is `temp1`, `in0` and so on.
fn input(tree: &Root, dir: &str, chip: &str, input: &str) -> Option<Found> {
    let kind = input.trim_end_matches(|c: char| c.is_ascii_digit());
    let &(_, quantity, unit, digits) = INPUTS.iter().find(|(name, ..)| *name == kind)?;
    let label = word(tree, &format!("{dir}/{input}_label")).unwrap_or_else(|| part(input));
    let faulty = number(tree, &format!("{dir}/{input}_fault")).is_some_and(|fault| fault != 0.0);
    let value = number(tree, &format!("{dir}/{input}_input")).filter(|_| !faulty);
    let value = value.map(|x| x / digits).ok_or(NoData::ReadFailed);
    Some(Found { name: format!("{chip}.{label}"), quantity, unit, value })
}

fn zones(tree: &Root) -> impl Iterator<Item = Found> {
    const CLASS: &str = "sys/class/thermal";
    let zones = tree.entries(CLASS).into_iter().filter(|name| name.starts_with("thermal_zone"));
    zones.map(move |zone| {
        let name = word(tree, &format!("{CLASS}/{zone}/type")).unwrap_or_else(|| part(&zone));
        // A zone that its driver has disabled can't be read.
        let value =
            number(tree, &format!("{CLASS}/{zone}/temp")).map(|m| m / 1000.0).ok_or(NoData::ReadFailed);
        Found { name: format!("thermal.{name}"), quantity: Quantity::Temperature, unit: "Cel", value }
    })
}
