//! Chips on buses and lines of GPIO chips: entries of their own that name the source they belong to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::agent::{SourceConfig, SourceKind};
use super::document::{Entry, Raw};
use crate::limits;

/// One chip on an I2C or SPI bus.
#[derive(Debug, Clone, PartialEq)]
pub struct ChipConfig {
    /// First part of its channels' names, unique among the chips.
    pub name: String,
    /// One of [`PARTS`].
    pub part: String,
    /// On an I2C bus; one of the part's.
    pub address: u8,
    /// On an SPI bus.
    pub select: u8,
    pub interval: Duration,
    pub timeout: Duration,
    pub shunt_ohm: f64,
    pub reference_volt: f64,
}

/// One line of a GPIO chip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineConfig {
    pub name: String,
    pub offset: u32,
    /// `level` or `count`.
    pub mode: String,
    pub active_low: bool,
    /// `as_is`, `pull_up`, `pull_down` or `disabled`.
    pub bias: String,
    pub debounce: Duration,
}

/// A part that can be configured: its name, whether it hangs on SPI, its addresses on I2C. What the drivers say, which a
/// build without the gateway seat cannot ask.
pub type Part = (&'static str, bool, &'static [u8]);

pub const PARTS: &[Part] = &[
    ("sht3x", false, &[0x44, 0x45]),
    ("sht4x", false, &[0x44, 0x45, 0x46]),
    ("bme280", false, &[0x76, 0x77]),
    ("ina219", false, INA),
    ("ina226", false, INA),
    ("ads1115", false, &[0x48, 0x49, 0x4a, 0x4b]),
    ("lis3dh", false, &[0x18, 0x19]),
    ("mcp3008", true, &[]),
];

const INA: &[u8] =
    &[0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x4b, 0x4c, 0x4d, 0x4e, 0x4f];

/// A source of the kinds `i2c` and `spi`, its chips still to come.
pub fn bus(raw: &mut Raw, entry: &Entry, base: &Path, spi: bool) -> Option<SourceKind> {
    let example = if spi { "/dev/spidev0" } else { "/dev/i2c-1" };
    Some(SourceKind::Bus { spi, device: device(raw, entry, base, example)?, chips: Vec::new() })
}

/// A source of the kind `gpio`, its lines still to come.
pub fn gpio(raw: &mut Raw, entry: &Entry, base: &Path) -> Option<SourceKind> {
    let device = device(raw, entry, base, "/dev/gpiochip0")?;
    Some(SourceKind::Gpio { device, interval: entry.time("interval"), lines: Vec::new() })
}

/// A source of the kind `iio`: every value by its file, or one device from its buffer.
pub fn iio(raw: &mut Raw, entry: &Entry) -> SourceKind {
    let rate_hz = entry.opt_number("rate");
    match entry.opt_text("buffer") {
        Some(device) => SourceKind::IioBuffer { device, rate_hz },
        None => {
            if rate_hz.is_some() {
                raw.error(
                    entry,
                    "rate",
                    "only a buffer has a rate",
                    "name a device: buffer = \"iio:device0\"",
                );
            }
            SourceKind::Sysfs { kind: "iio".into(), interval: entry.time("interval") }
        }
    }
}

fn device(raw: &mut Raw, entry: &Entry, base: &Path, example: &str) -> Option<PathBuf> {
    let device = entry.opt_text("device").map(|path| base.join(path));
    if device.is_none() && !raw.is_flawed(entry, "device") {
        raw.error(entry, "device", "missing", format!("write for example device = \"{example}\""));
    }
    device
}

/// Gives every chip and every line to its source.
pub fn attach(raw: &mut Raw, sources: &mut [SourceConfig]) {
    let mut names = BTreeSet::new();
    for entry in raw.take("chip") {
        if let Some(chip) = chip(raw, &entry, sources, &mut names) {
            place_chip(raw, &entry, sources, chip);
        }
    }
    for entry in raw.take("line") {
        if let Some(line) = line(raw, &entry, sources, &mut names) {
            place_line(raw, &entry, sources, line);
        }
    }
}

fn chip(
    raw: &mut Raw,
    entry: &Entry,
    sources: &[SourceConfig],
    names: &mut BTreeSet<String>,
) -> Option<ChipConfig> {
    let owner = entry.opt_text("bus");
    let spi = match owner.as_ref().and_then(|name| sources.iter().find(|s| s.name == *name)).map(|s| &s.kind)
    {
        Some(SourceKind::Bus { spi, .. }) => Some(*spi),
        _ => None,
    };
    if spi.is_none() && !raw.is_flawed(entry, "bus") {
        let hint = "write the name of a [[source]] with kind = \"i2c\" or \"spi\"";
        raw.error(entry, "bus", "no such bus", hint);
    }
    let name = named(raw, entry, names);
    let part = entry.opt_text("part");
    if part.is_none() && !raw.is_flawed(entry, "part") {
        raw.error(entry, "part", "missing", "write for example part = \"sht4x\"");
    }
    let (_, on_spi, addresses) = PARTS.iter().find(|(known, ..)| Some(*known) == part.as_deref())?;
    if spi.is_some_and(|spi| spi != *on_spi) {
        let bus = if *on_spi { "SPI" } else { "I2C" };
        raw.error(entry, "part", format!("hangs on {bus}"), "name a bus of that kind");
    }
    Some(ChipConfig {
        address: address(raw, entry, addresses),
        name: name?,
        part: part?,
        select: u8::try_from(entry.integer("select")).unwrap_or(0),
        interval: entry.time("interval"),
        timeout: entry.time("timeout"),
        shunt_ohm: entry.number("shunt"),
        reference_volt: entry.number("reference"),
    })
}

/// What is written, if the part can have it; else the part's first.
fn address(raw: &mut Raw, entry: &Entry, addresses: &[u8]) -> u8 {
    let usual = addresses.first().copied().unwrap_or(0);
    let Some(written) = entry.opt_integer("address") else { return usual };
    let address = u8::try_from(written).ok().filter(|address| addresses.contains(address));
    if address.is_none() {
        let hint = match addresses {
            [] => "a part on SPI has none; remove it, and write select where it matters".to_owned(),
            some => format!(
                "use one of {}",
                some.iter().map(|a| format!("{a:#04x}")).collect::<Vec<_>>().join(", ")
            ),
        };
        raw.error(entry, "address", "the part cannot have this address", hint);
    }
    address.unwrap_or(usual)
}

fn place_chip(raw: &mut Raw, entry: &Entry, sources: &mut [SourceConfig], chip: ChipConfig) {
    let bus = entry.opt_text("bus");
    let kind = sources.iter_mut().find(|s| Some(&s.name) == bus.as_ref()).map(|s| &mut s.kind);
    let Some(SourceKind::Bus { spi, chips, .. }) = kind else { return };
    let place = |chip: &ChipConfig| if *spi { chip.select } else { chip.address };
    if let Some(other) = chips.iter().find(|other| place(other) == place(&chip)) {
        let key = if *spi { "select" } else { "address" };
        raw.error(
            entry,
            key,
            format!("chip {} is there already", other.name),
            "give each a place of its own",
        );
    }
    if chips.len() == limits::CHIPS_MAX {
        raw.error(entry, "", format!("more than {} chips on one bus", limits::CHIPS_MAX), "use another bus");
    }
    chips.push(chip);
}

fn line(
    raw: &mut Raw,
    entry: &Entry,
    sources: &[SourceConfig],
    names: &mut BTreeSet<String>,
) -> Option<LineConfig> {
    let owner = entry.opt_text("source");
    let found = owner.and_then(|name| sources.iter().find(|s| s.name == name));
    if !matches!(found, Some(SourceConfig { kind: SourceKind::Gpio { .. }, .. }))
        && !raw.is_flawed(entry, "source")
    {
        raw.error(entry, "source", "no such source", "write the name of a [[source]] with kind = \"gpio\"");
    }
    let offset = entry.opt_integer("line");
    if offset.is_none() && !raw.is_flawed(entry, "line") {
        raw.error(entry, "line", "missing", "write its number on the chip; `outpost sensors` lists them");
    }
    Some(LineConfig {
        name: named(raw, entry, names)?,
        offset: offset.and_then(|n| u32::try_from(n).ok())?,
        mode: entry.text("mode"),
        active_low: entry.flag("active_low"),
        bias: entry.text("bias"),
        debounce: entry.time("debounce"),
    })
}

fn place_line(raw: &mut Raw, entry: &Entry, sources: &mut [SourceConfig], line: LineConfig) {
    let source = entry.opt_text("source");
    let kind = sources.iter_mut().find(|s| Some(&s.name) == source.as_ref()).map(|s| &mut s.kind);
    let Some(SourceKind::Gpio { lines, .. }) = kind else { return };
    if lines.iter().any(|other| other.offset == line.offset) {
        raw.error(entry, "line", "read twice", "name each line once");
    }
    if lines.len() == limits::GPIO_LINES_MAX {
        let problem = format!("more than {} lines in one source", limits::GPIO_LINES_MAX);
        raw.error(entry, "", problem, "give the rest a source of their own");
    }
    lines.push(line);
}

/// The name of the entry, which no other chip or line may have.
fn named(raw: &mut Raw, entry: &Entry, names: &mut BTreeSet<String>) -> Option<String> {
    let name = entry.opt_text("name");
    match &name {
        None if !raw.is_flawed(entry, "name") => {
            raw.error(entry, "name", "missing", "it is the first part of its channels' names");
        }
        Some(name) if !names.insert(name.clone()) => {
            raw.error(entry, "name", "used twice", "give each chip and line a name of its own");
        }
        _ => {}
    }
    name
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{AgentConfig, Problem, parse_agent};
    use super::*;

    fn agent(text: &str) -> Result<AgentConfig, Vec<Problem>> {
        parse_agent("outpost.toml", text, Path::new("/etc/outpost"))
            .map(|loaded| loaded.config)
            .map_err(|error| error.problems)
    }

    const BUS: &str = "[[source]]\nname = \"cabinet\"\nkind = \"i2c\"\ndevice = \"/dev/i2c-1\"\n";

    #[test]
    fn a_chip_hangs_on_the_bus_that_it_names() {
        let text =
            format!("{BUS}[[chip]]\nbus = \"cabinet\"\nname = \"air\"\npart = \"bme280\"\naddress = 0x77\n");
        let config = agent(&text).unwrap();
        let SourceKind::Bus { spi: false, device, chips } = &config.sources[0].kind else { panic!() };
        assert_eq!(device, Path::new("/dev/i2c-1"));
        assert_eq!((chips[0].name.as_str(), chips[0].address), ("air", 0x77));
        let usual = text.replace("address = 0x77\n", "");
        let SourceKind::Bus { chips, .. } = &agent(&usual).unwrap().sources[0].kind else { panic!() };
        assert_eq!(chips[0].address, 0x76, "the usual one");
    }

    #[test]
    fn what_no_bus_can_bear_is_told_with_its_place() {
        let chip = |rest: &str| format!("{BUS}[[chip]]\n{rest}\n");
        for (text, key, word) in [
            (chip("bus = \"attic\"\nname = \"a\"\npart = \"sht4x\""), "chip[1].bus", "no such bus"),
            (chip("bus = \"cabinet\"\nname = \"a\"\npart = \"mcp3008\""), "chip[1].part", "SPI"),
            (
                chip("bus = \"cabinet\"\nname = \"a\"\npart = \"sht4x\"\naddress = 0x76"),
                "chip[1].address",
                "0x44",
            ),
            (chip("bus = \"cabinet\"\nname = \"a\""), "chip[1].part", "missing"),
            (chip("bus = \"cabinet\"\npart = \"sht4x\""), "chip[1].name", "missing"),
            (
                chip(
                    "bus = \"cabinet\"\nname = \"a\"\npart = \"sht4x\"\n[[chip]]\nbus = \"cabinet\"\nname = \"b\"\npart = \"sht3x\"",
                ),
                "chip[2].address",
                "is there already",
            ),
            ("[[source]]\nname = \"b\"\nkind = \"spi\"\n".into(), "source[1].device", "spidev"),
            ("[[source]]\nname = \"b\"\nkind = \"iio\"\nrate = 100.0\n".into(), "source[1].rate", "buffer"),
            (
                format!("{BUS}[[line]]\nsource = \"cabinet\"\nname = \"a\"\nline = 5\n"),
                "line[1].source",
                "gpio",
            ),
        ] {
            let problems = agent(&text).expect_err(&text);
            let found =
                problems.iter().find(|p| p.key == key).unwrap_or_else(|| panic!("{text}: {problems:?}"));
            assert!(format!("{} {}", found.problem, found.hint).contains(word), "{found:?}");
        }
    }

    #[test]
    fn lines_belong_to_their_gpio_chip_once_each() {
        let chip = "[[source]]\nname = \"io\"\nkind = \"gpio\"\ndevice = \"/dev/gpiochip0\"\n";
        let line = |name: &str| format!("[[line]]\nsource = \"io\"\nname = \"{name}\"\nline = 5\n");
        let config =
            agent(&format!("{chip}{}mode = \"count\"\ndebounce = \"20 ms\"\n", line("water"))).unwrap();
        let SourceKind::Gpio { lines, .. } = &config.sources[0].kind else { panic!() };
        assert_eq!((lines[0].mode.as_str(), lines[0].debounce), ("count", Duration::from_millis(20)));
        let problems = agent(&format!("{chip}{}{}", line("a"), line("b"))).unwrap_err();
        assert_eq!((problems.len(), problems[0].key.as_str()), (1, "line[2].line"));
    }

    #[cfg(feature = "gateway")]
    #[test]
    fn the_parts_are_those_that_have_a_driver() {
        use crate::sensor::chips::Part as Driver;
        let drivers: Vec<Part> = Driver::ALL.iter().map(|p| (p.name(), p.is_spi(), p.addresses())).collect();
        assert_eq!(PARTS, drivers);
    }
}
