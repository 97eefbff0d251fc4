//! Sources on the gateway's own buses: the configuration into the options of `sensor`.

use std::path::PathBuf;

use crate::config::{ChipConfig, LineConfig, SourceKind};
use crate::sensor::chips::{Part, PartOptions};
use crate::sensor::{
    Bias, BufferOptions, BusOptions, ChipOptions, GpioOptions, LineMode, LineOptions, SourceOptions,
    SysfsKind, SysfsOptions,
};

/// The options of such a source; none for every other kind.
pub(super) fn source(name: &str, kind: &SourceKind) -> Option<SourceOptions> {
    let (prefix, root) = (name.to_owned(), PathBuf::from("/"));
    Some(match kind {
        SourceKind::Bus { spi, device, chips } => {
            let chips = chips.iter().filter_map(chip).collect();
            SourceOptions::Bus(BusOptions { device: device.clone(), spi: *spi, chips })
        }
        SourceKind::Sysfs { kind, interval } => {
            let kind = SysfsKind::from_name(kind)?;
            SourceOptions::Sysfs(SysfsOptions { kind, prefix, interval: *interval, root })
        }
        SourceKind::IioBuffer { device, rate_hz } => {
            let device = device.clone();
            SourceOptions::IioBuffer(BufferOptions { prefix, device, rate_hz: *rate_hz, root })
        }
        SourceKind::Gpio { device, interval, lines } => {
            let lines = lines.iter().filter_map(line).collect();
            SourceOptions::Gpio(GpioOptions { device: device.clone(), interval: *interval, lines })
        }
        _ => return None,
    })
}

fn chip(chip: &ChipConfig) -> Option<ChipOptions> {
    let part = PartOptions {
        part: Part::from_name(&chip.part)?,
        address: chip.address,
        shunt_ohm: chip.shunt_ohm,
        reference_volt: chip.reference_volt,
    };
    let (interval, timeout) = (chip.interval, chip.timeout);
    Some(ChipOptions { name: chip.name.clone(), part, select: chip.select, interval, timeout })
}

fn line(line: &LineConfig) -> Option<LineOptions> {
    Some(LineOptions {
        name: line.name.clone(),
        offset: line.offset,
        mode: LineMode::from_name(&line.mode)?,
        active_low: line.active_low,
        bias: Bias::from_name(&line.bias)?,
        debounce: line.debounce,
    })
}
