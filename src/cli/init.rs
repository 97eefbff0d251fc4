//! `outpost init`: a commented configuration from what is on this machine.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use super::exit::Failure;
use super::machine_args::InitArgs;
use super::print;
use crate::config::hostname_device;
use crate::sensor::Survey;
use crate::sensor::survey::Answer;

/// Surveys the machine and writes the file.
pub(super) fn main(args: &InitArgs, json: bool) -> Result<ExitCode, Failure> {
    let text = configuration(&hostname_device(), &Survey::take(Path::new("/")));
    if args.file.as_os_str() == "-" {
        return print(&text);
    }
    let file = args.file.display();
    write(&args.file, &text, args.replace).map_err(|error| Failure::Failed(failure(&args.file, &error)))?;
    if json {
        return print(&format!("{}\n", serde_json::json!({ "ok": true, "file": args.file })));
    }
    print(&format!(
        "{file} is written. Next:\n  1. set the broker under [mqtt] and put its certificates into `tls`\n  \
         2. outpost check -c {file}\n  3. outpost run -c {file}\n"
    ))
}

fn write(path: &Path, text: &str, replace: bool) -> io::Result<()> {
    let mut how = OpenOptions::new();
    how.write(true);
    let how = if replace { how.create(true).truncate(true) } else { how.create_new(true) };
    how.open(path)?.write_all(text.as_bytes())
}

fn failure(path: &Path, error: &io::Error) -> anyhow::Error {
    let next = match error.kind() {
        io::ErrorKind::AlreadyExists => "--replace takes its place, `--to -` prints instead",
        _ => "name another place with --to",
    };
    anyhow::anyhow!("{}: {error}; {next}", path.display())
}

/// The whole file. Everything that is on is a default or was found; the rest is commented out.
fn configuration(device: &str, survey: &Survey) -> String {
    let mut out = format!(
        "# Written by `outpost init` from what was found on this machine. `outpost check --example agent` shows every key,\n\
         # `outpost check` says what is still wrong, and a running agent reads the sources and channels anew at SIGHUP.\n\
         device = \"{device}\"\ndata_dir = \"outpost-data\"\n\n\
         [mqtt]\n# The broker, and the certificates that this gateway shows and trusts: fill in yours.\n\
         #host = \"localhost\"\n#port = 8883\n#ca = \"tls/ca.crt\"\n#cert = \"tls/device.crt\"\n#key = \"tls/device.key\"\n\n\
         # Load, memory, disks, network and temperatures of this machine.\n\
         [[source]]\nname = \"vitals\"\nkind = \"host\"\ninterval = \"1 s\"\n"
    );
    published(&mut out, survey);
    i2c(&mut out, survey);
    others(&mut out, survey);
    out.push_str(
        "\n# What is known of channels, by name or pattern: units convert, values are calibrated and held against their range.\n\
         #[channels.\"*.temperature\"]\n#range_low = -40.0\n#range_high = 125.0\n#limit_high_warn = 60.0\n",
    );
    out
}

/// What kernel drivers publish, each kind with the channels that it has now.
fn published(out: &mut String, survey: &Survey) {
    for found in &survey.published {
        let _ = writeln!(out, "\n# Published by kernel drivers ({}):", found.kind);
        for shown in found.channels.iter().take(CHANNELS_SHOWN) {
            let _ = writeln!(out, "#   {} {}", shown.channel, shown.unit);
        }
        if found.channels.len() > CHANNELS_SHOWN {
            let _ = writeln!(out, "#   and {} more", found.channels.len() - CHANNELS_SHOWN);
        }
        let _ = writeln!(out, "[[source]]\nname = \"{0}\"\nkind = \"{0}\"\ninterval = \"1 s\"", found.kind);
    }
    for device in &survey.buffers {
        let name = device.replace(':', "-");
        let _ = writeln!(
            out,
            "\n# {device} can also give its course, sample by sample:\n#[[source]]\n#name = \"{name}\"\n#kind = \"iio\"\n\
             #buffer = \"{device}\"\n#rate = 1000.0"
        );
    }
}

/// Buses with the chips that say what they are; a bus without any is commented out.
fn i2c(out: &mut String, survey: &Survey) {
    for bus in &survey.i2c {
        let (name, device) = (bus.source(), bus.device.display());
        let off = if bus.chips.is_empty() { "#" } else { "" };
        let _ = writeln!(out, "\n# I2C: {}", one_line(&bus.name));
        let _ = writeln!(
            out,
            "{off}[[source]]\n{off}name = \"{name}\"\n{off}kind = \"i2c\"\n{off}device = \"{device}\""
        );
        for (chip, answer) in bus.named() {
            let _ = writeln!(
                out,
                "[[chip]]\nbus = \"{name}\"\nname = \"{chip}\"\npart = \"{}\"\naddress = {:#04x}\ninterval = \"1 s\"",
                answer.part, answer.address
            );
        }
        for answer in &bus.maybe {
            let Answer { address, part } = answer;
            let _ = writeln!(
                out,
                "# At {address:#04x} answers what may be a part of this kind:\n#[[chip]]\n#bus = \"{name}\"\n#name = \"{part}-{address:02x}\"\n\
                 #part = \"{part}\"\n#address = {address:#04x}"
            );
        }
        let _ = writeln!(
            out,
            "# Parts that cannot be recognised are named by hand (sht3x, ina219, ads1115):\n#[[chip]]\n#bus = \"{name}\"\n\
             #name = \"motor\"\n#part = \"ina219\"\n#address = 0x40\n#shunt = 0.1"
        );
    }
}

/// What only a person can say more of.
fn others(out: &mut String, survey: &Survey) {
    if let Some(device) = survey.spi.first() {
        let shown = device.display().to_string();
        let bus = shown.rsplit_once('.').map_or(shown.as_str(), |(bus, _)| bus);
        let _ = writeln!(
            out,
            "\n# SPI: {shown}\n#[[source]]\n#name = \"spi\"\n#kind = \"spi\"\n#device = \"{bus}\"\n#[[chip]]\n#bus = \"spi\"\n\
             #name = \"adc\"\n#part = \"mcp3008\"\n#select = 0"
        );
    }
    for (n, chip) in survey.gpio.iter().enumerate() {
        let name = if n == 0 { "gpio".to_owned() } else { format!("gpio-{n}") };
        let _ = writeln!(
            out,
            "\n# GPIO: {}, {} lines\n#[[source]]\n#name = \"{name}\"\n#kind = \"gpio\"\n#device = \"{}\"\n#[[line]]\n\
             #source = \"{name}\"\n#name = \"door{n}\"\n#line = 17\n#bias = \"pull_up\"\n#debounce = \"20 ms\"",
            one_line(&chip.label),
            chip.lines,
            chip.device.display()
        );
    }
    for port in &survey.serial {
        let _ = writeln!(out, "\n# A serial port: {}", port.display());
    }
    for interface in &survey.can {
        let _ = writeln!(
            out,
            "\n# A CAN bus; its DBC file says what lies in its frames:\n#[[source]]\n#name = \"{interface}\"\n#kind = \"can\"\n\
             #interface = \"{interface}\"\n#dbc = \"{interface}.dbc\""
        );
    }
    logs(out, survey);
}

/// Logs may say what nobody wants to leave the machine, so they are proposed only.
fn logs(out: &mut String, survey: &Survey) {
    if !survey.logs.is_empty() {
        let paths: Vec<String> = survey.logs.iter().map(|log| format!("\"{}\"", log.display())).collect();
        let _ = writeln!(
            out,
            "\n# Log files, counted by what they say; this user must be allowed to read them (group adm):\n#[[source]]\n\
             #name = \"logs\"\n#kind = \"logs\"\n#paths = [{}]",
            paths.join(", ")
        );
    }
    if survey.journal {
        let _ = writeln!(
            out,
            "\n# The systemd journal, likewise (group systemd-journal):\n#[[source]]\n#name = \"journal\"\n#kind = \"journal\""
        );
    }
}

/// What hardware calls itself may hold anything; a comment ends at the line's.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Channels of one kind that are named in comments.
const CHANNELS_SHOWN: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, SourceKind};
    use crate::sensor::survey::{GpioChip, I2cBus, Published, Shown};

    /// A machine with one of everything, and a name that would break out of its comment.
    fn rich() -> Survey {
        let shown =
            Shown { channel: "hwmon.cpu.temp1".into(), unit: "Cel".into(), value: Some(1.0), missing: None };
        let chips = vec![
            Answer { address: 0x76, part: "bme280".into() },
            Answer { address: 0x44, part: "sht4x".into() },
        ];
        let bus = |device: &str, chips| I2cBus {
            device: device.into(),
            name: "bcm\n[mqtt]\nhost = \"evil\"".into(),
            chips,
            maybe: Vec::new(),
            error: None,
        };
        let maybe = vec![Answer { address: 0x41, part: "ina219".into() }];
        Survey {
            i2c: vec![I2cBus { maybe, ..bus("/dev/i2c-1", chips) }, bus("/dev/i2c-2", Vec::new())],
            spi: vec!["/dev/spidev0.0".into()],
            gpio: vec![GpioChip { device: "/dev/gpiochip0".into(), label: "pinctrl\n".into(), lines: 54 }],
            published: ["hwmon", "iio", "w1"]
                .map(|kind| Published { kind, channels: vec![shown.clone(); 30] })
                .into(),
            buffers: vec!["iio:device0".into()],
            serial: vec!["/dev/ttyUSB0".into()],
            can: vec!["can0".into()],
            logs: vec!["/var/log/syslog".into(), "/var/log/kern.log".into()],
            journal: true,
        }
    }

    /// Every line that is commented out and is no prose, switched on.
    fn switched_on(text: &str) -> String {
        let line = |line: &str| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => rest.to_owned(),
            _ => line.to_owned(),
        };
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_is_found_is_read_and_the_file_has_no_mistake() {
        let text = configuration("gw-1", &rich());
        let config = config::parse_agent("outpost.toml", &text, Path::new("."))
            .unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert!(config.warnings.is_empty());
        let kinds: Vec<_> = config.config.sources.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(kinds, ["vitals", "hwmon", "iio", "w1", "i2c-1"]);
        let SourceKind::Bus { chips, .. } = &config.config.sources[4].kind else { panic!() };
        assert_eq!(chips.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["bme280-1-76", "sht4x-1-44"]);
        assert_eq!(config.config.mqtt.host, "localhost");
    }

    #[test]
    fn what_is_only_proposed_has_no_mistake_either() {
        let text = switched_on(&configuration("gw-1", &rich()));
        // The chip that stands for those that can't be recognised is proposed once per bus.
        let text = text.replacen("name = \"motor\"", "name = \"motor1\"", 1);
        let config = config::parse_agent("outpost.toml", &text, Path::new("."))
            .unwrap_or_else(|e| panic!("{e}\n{text}"));
        let names: Vec<_> = config.config.sources.iter().map(|s| s.name.as_str()).collect();
        assert!(names.ends_with(&["can0", "logs", "journal"]), "{names:?}");
    }

    #[test]
    fn a_bare_machine_gets_a_configuration_too() {
        let text = configuration("gw-1", &Survey::default());
        let config = config::parse_agent("outpost.toml", &text, Path::new(".")).expect("valid").config;
        assert_eq!(config.sources.len(), 1);
    }

    #[test]
    fn a_file_is_replaced_only_when_asked() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("outpost.toml");
        write(&path, "old", false).expect("new");
        let refused = write(&path, "new", false).expect_err("there");
        assert!(failure(&path, &refused).to_string().contains("--replace"));
        write(&path, "new", true).expect("replaced");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "new");
    }
}
