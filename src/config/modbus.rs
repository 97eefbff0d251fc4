//! A Modbus device: how it is reached, and its registers, which are entries of their own that name their source.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::agent::{SourceConfig, SourceKind};
use super::document::{Entry, Raw};
use super::field::FieldConfig;
use crate::field::modbus::{Map, Order, Register, Shape, Table};
use crate::reading::{ChannelId, Unit};

/// A Modbus device.
#[derive(Debug, Clone, PartialEq)]
pub struct ModbusConfig {
    pub link: ModbusLinkConfig,
    /// Address of the device.
    pub unit_id: u8,
    pub map: Map,
    pub interval: Duration,
    pub timeout: Duration,
}

/// How it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModbusLinkConfig {
    Tcp(SocketAddr),
    /// `parity` is `none`, `even` or `odd`.
    Rtu {
        device: PathBuf,
        baud: u32,
        parity: String,
    },
}

/// A source of the kind `modbus`, with those of `registers` that name it.
pub fn source(raw: &mut Raw, entry: &Entry, base: &Path, registers: &[Entry]) -> Option<ModbusConfig> {
    let own: Vec<&Entry> =
        registers.iter().filter(|r| r.opt_text("source") == entry.opt_text("name")).collect();
    if own.is_empty() {
        raw.error(entry, "", "no register", "add [[register]] entries with this source's name as `source`");
    }
    let timeout = entry.time("timeout");
    let map = map(raw, &own, u16::try_from(entry.integer("gap")).unwrap_or(0));
    Some(ModbusConfig {
        link: link(raw, entry, base)?,
        unit_id: u8::try_from(entry.integer("unit_id")).unwrap_or(1),
        map: map?,
        interval: entry.time("interval"),
        timeout,
    })
}

fn link(raw: &mut Raw, entry: &Entry, base: &Path) -> Option<ModbusLinkConfig> {
    let tcp = entry.opt_address("address").map(ModbusLinkConfig::Tcp);
    let (baud, parity) = (entry.text("baud").parse().unwrap_or(BAUD), entry.text("parity"));
    let rtu = entry.opt_text("serial");
    let rtu = rtu.map(|device| ModbusLinkConfig::Rtu { device: base.join(device), baud, parity });
    match (tcp, rtu) {
        (Some(link), None) | (None, Some(link)) => Some(link),
        (Some(_), Some(_)) => {
            raw.error(
                entry,
                "serial",
                "a device is on a network or on a serial line",
                "give address or serial",
            );
            None
        }
        (None, None) => {
            if !raw.is_flawed(entry, "address") && !raw.is_flawed(entry, "serial") {
                let hint = "give address = \"192.0.2.7:502\" or serial = \"/dev/ttyUSB0\"";
                raw.error(entry, "", "no device", hint);
            }
            None
        }
    }
}

/// Devices on one serial line talk alike.
pub fn alike_on_one_line(raw: &mut Raw, entry: &Entry, device: &ModbusConfig, before: &[SourceConfig]) {
    let ModbusLinkConfig::Rtu { device: line, .. } = &device.link else { return };
    for other in before {
        let SourceKind::Field(FieldConfig::Modbus(known)) = &other.kind else { continue };
        let is_same_line = matches!(&known.link, ModbusLinkConfig::Rtu { device, .. } if device == line);
        if is_same_line && known.link != device.link {
            let problem = format!("the source {} drives {} otherwise", other.name, line.display());
            raw.error(entry, "serial", problem, "give all sources of one line the same baud and parity");
        }
    }
}

/// Equal to the table's default.
const BAUD: u32 = 19_200;

fn map(raw: &mut Raw, entries: &[&Entry], gap: u16) -> Option<Map> {
    let registers: Vec<Option<Register>> = entries.iter().map(|entry| register(raw, entry)).collect();
    let registers: Vec<Register> = registers.into_iter().collect::<Option<_>>()?;
    match Map::new(registers, gap) {
        Ok(map) => Some(map),
        Err(error) => {
            let entry = entries[error.at().unwrap_or(0)];
            raw.error(
                entry,
                "",
                error.to_string(),
                "compare it with the device's manual; addresses count from 0",
            );
            None
        }
    }
}

fn register(raw: &mut Raw, entry: &Entry) -> Option<Register> {
    let channel = channel(raw, entry);
    let table = entry.opt_text("table").and_then(|name| Table::from_name(&name));
    let address = entry.opt_integer("address").and_then(|n| u16::try_from(n).ok());
    for (key, missing) in [("table", table.is_none()), ("address", address.is_none())] {
        if missing && !raw.is_flawed(entry, key) {
            raw.error(entry, key, "missing", "every register has a table and an address from 0");
        }
    }
    let (table, address) = (table?, address?);
    if address >= MANUAL_ADDRESS && !table.is_bits() {
        let hint = "addresses count from 0: what a manual calls 40001 or 30001 is 0 here";
        raw.warn(entry, "address", "looks like the number of a manual", hint);
    }
    let shape = entry.opt_text("type").and_then(|name| Shape::from_name(&name));
    Some(Register {
        channel: channel?,
        table,
        address,
        shape: shape.unwrap_or(if table.is_bits() { Shape::Bit } else { Shape::U16 }),
        order: Order::from_name(&entry.text("order")).unwrap_or(Order::Abcd),
        bit: u8::try_from(entry.integer("bit")).unwrap_or(0),
        scale: entry.number("scale"),
        offset: entry.number("offset"),
        unit: Unit(entry.text("unit")),
    })
}

/// Manuals number input registers from 30001 and holding registers from 40001.
const MANUAL_ADDRESS: u16 = 30_001;

/// The channel that an entry names.
pub fn channel(raw: &mut Raw, entry: &Entry) -> Option<ChannelId> {
    let name = entry.opt_text("channel");
    if name.is_none() && !raw.is_flawed(entry, "channel") {
        raw.error(entry, "channel", "missing", "name the channel, such as channel = \"pump1.pressure\"");
    }
    match ChannelId::new(&name?) {
        Ok(channel) => Some(channel),
        Err(_) => {
            raw.error(entry, "channel", "no channel can have this name", "use A-Z a-z 0-9 _ - . / : only");
            None
        }
    }
}
