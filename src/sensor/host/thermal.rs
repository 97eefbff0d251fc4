//! Temperatures: thermal zones and hardware monitors.

use std::collections::HashMap;

use super::files::Root;

/// One temperature.
pub(super) struct Zone {
    pub(super) channel: String,
    pub(super) label: String,
    /// Nothing if it can't be read, as with a zone that its driver has disabled.
    pub(super) celsius: Option<f64>,
}

/// All temperatures of the machine; of several with one name, all but the first bear a number.
pub(super) fn zones(root: &Root) -> Vec<Zone> {
    let mut zones = thermal_zones(root);
    zones.extend(hardware_monitors(root));
    let mut named: HashMap<String, u32> = HashMap::new();
    for zone in &mut zones {
        let count = named.entry(zone.channel.clone()).or_default();
        *count += 1;
        if *count > 1 {
            zone.channel = format!("{}-{count}", zone.channel);
        }
    }
    zones
}

fn thermal_zones(root: &Root) -> Vec<Zone> {
    let dir = "sys/class/thermal";
    let entries = root.entries(dir).into_iter().filter(|name| name.starts_with("thermal_zone"));
    entries
        .map(|entry| {
            let kind =
                root.text(&format!("{dir}/{entry}/type")).map_or(entry.clone(), |t| t.trim().to_owned());
            zone(&kind, root.text(&format!("{dir}/{entry}/temp")))
        })
        .collect()
}

fn hardware_monitors(root: &Root) -> Vec<Zone> {
    let mut zones = Vec::new();
    for monitor in root.entries("sys/class/hwmon") {
        let dir = format!("sys/class/hwmon/{monitor}");
        let chip = root.text(&format!("{dir}/name")).map_or(monitor, |name| name.trim().to_owned());
        for file in root.entries(&dir) {
            let Some(input) = file.strip_suffix("_input").filter(|input| input.starts_with("temp")) else {
                continue;
            };
            let part =
                root.text(&format!("{dir}/{input}_label")).map_or(input.to_owned(), |l| l.trim().to_owned());
            zones.push(zone(&format!("{chip}_{part}"), root.text(&format!("{dir}/{file}"))));
        }
    }
    zones
}

fn zone(name: &str, millidegrees: Option<String>) -> Zone {
    let celsius = millidegrees.and_then(|text| text.trim().parse::<f64>().ok()).map(|m| m / 1000.0);
    // Names come from drivers and may hold anything, a dot among them would look like a level of the name.
    let name: String = name.chars().take(NAME_CHARS_MAX).collect();
    let name = super::names::sanitised(&name).replace('.', "_");
    Zone { label: format!("temperature of {name}"), channel: format!("host.temp.{name}"), celsius }
}

/// Keeps the channel's name within its bound.
const NAME_CHARS_MAX: usize = 64;

const _: () = assert!("host.temp.-256".len() + NAME_CHARS_MAX < crate::limits::CHANNEL_NAME_BYTES_MAX);
