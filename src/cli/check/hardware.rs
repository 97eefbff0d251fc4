//! Whether the buses and devices of the configured sources are there and may be used. Nothing is asked of any chip.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::Finding;
use crate::config::SourceKind;

/// Findings for a source of the gateway's own hardware; none for every other.
pub fn source(name: &str, kind: &SourceKind) -> Vec<Finding> {
    match kind {
        SourceKind::Bus { spi: true, device, chips } => {
            let nodes =
                chips.iter().map(|chip| PathBuf::from(format!("{}.{}", device.display(), chip.select)));
            nodes
                .map(|node| usable(name, &node, "enable SPI and its chip selects in the device tree"))
                .collect()
        }
        SourceKind::Bus { spi: false, device, .. } => {
            vec![usable(name, device, "enable I2C in the device tree and load the module i2c-dev")]
        }
        SourceKind::Gpio { device, .. } => {
            vec![usable(name, device, "name a chip that `outpost sensors` lists")]
        }
        SourceKind::IioBuffer { device, .. } => {
            vec![usable(name, &Path::new("/dev").join(device), "name a device that `outpost sensors` lists")]
        }
        SourceKind::Sysfs { kind, .. } => vec![folder(name, kind)],
        _ => Vec::new(),
    }
}

fn usable(name: &str, node: &Path, missing: &str) -> Finding {
    let shown = node.display();
    match access(node, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => Finding::ok("source", format!("{name}: {shown} can be used")),
        Err(rustix::io::Errno::NOENT) => {
            Finding::error("source", format!("{name}: {shown} is not there"), missing)
        }
        Err(error) => {
            let next = format!("let the user who runs outpost read and write {shown}");
            Finding::error("source", format!("{name}: {shown}: {error}"), next)
        }
    }
}

/// Devices may be plugged in later, so that an empty folder is no error.
fn folder(name: &str, kind: &str) -> Finding {
    let (place, module) = match kind {
        "hwmon" => ("/sys/class/hwmon", "the driver of your monitoring chip"),
        "w1" => ("/sys/bus/w1/devices", "w1-gpio and w1-therm"),
        _ => ("/sys/bus/iio/devices", "the driver of your device"),
    };
    let devices = std::fs::read_dir(place).map_or(0, |entries| entries.flatten().count());
    match devices {
        0 => Finding::warning("source", format!("{name}: nothing in {place}"), format!("load {module}")),
        n => Finding::ok("source", format!("{name}: {n} in {place}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mark;
    use super::*;

    #[test]
    fn a_bus_that_is_missing_is_an_error_and_a_device_that_may_come_is_none() {
        let dir = tempfile::tempdir().expect("temp dir");
        let device = dir.path().join("i2c-7");
        let bus = |device: &Path| SourceKind::Bus { spi: false, device: device.into(), chips: Vec::new() };
        let found = source("cabinet", &bus(&device));
        assert_eq!((found.len(), found[0].mark), (1, Mark::Error));
        assert!(found[0].what.contains("i2c-7 is not there") && found[0].next.contains("i2c-dev"));
        std::fs::write(&device, "").expect("write");
        assert_eq!(source("cabinet", &bus(&device))[0].mark, Mark::Ok);
        let buffer = SourceKind::IioBuffer { device: "iio:device99".into(), rate_hz: None };
        assert_eq!(source("motor", &buffer)[0].mark, Mark::Error);
        assert_eq!(folder("bus", "w1").area, "source");
    }
}
