//! Sources from the field: logs, field buses, brokers and other programs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::agent::{paths, precision_ns};
use super::common;
use super::document::{Entry, Raw};
use super::modbus::{self, ModbusConfig};
use super::subscribe::{self, SubscribeConfig};

/// What a source from the field is.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldConfig {
    /// Log lines, counted by what they say.
    Logs { input: LogsConfig, window: Duration, learn: Duration },
    /// A Modbus device.
    Modbus(ModbusConfig),
    /// A broker's topics.
    Subscribe(SubscribeConfig),
    /// A CAN bus.
    Can { interface: String, dbc: PathBuf, interval: Duration, channel_prefix: String },
    /// Lines that programs post; Influx times count in units of `precision_ns` nanoseconds.
    Push { listen: SocketAddr, allow_remote: bool, token_file: Option<PathBuf>, precision_ns: u64 },
    /// A program that is run again and again.
    Exec { command: Vec<String>, interval: Duration, timeout: Duration },
}

/// Where log lines come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogsConfig {
    /// Files, and patterns with wildcards in the last part.
    Files(Vec<PathBuf>),
    /// Syslog over the network.
    Syslog { udp: Option<SocketAddr>, tcp: Option<SocketAddr>, allow_remote: bool },
    /// The systemd journal.
    Journal,
}

/// The kinds of sources that are read here.
pub const KINDS: &[&str] = &["logs", "syslog", "journal", "modbus", "mqtt", "can", "push", "exec"];

/// Entries of their own that name the source they belong to.
pub struct Parts {
    registers: Vec<Entry>,
    topics: Vec<Entry>,
}

impl Parts {
    /// Takes them out of the file.
    pub fn take(raw: &mut Raw) -> Self {
        Self { registers: raw.take("register"), topics: raw.take("topic") }
    }

    /// Tells of each that names no source of its kind.
    pub fn homeless(&self, raw: &mut Raw, sources: &[Entry]) {
        for (kind, entries) in [("modbus", &self.registers), ("mqtt", &self.topics)] {
            let is_home = |part: &Entry, source: &Entry| {
                source.opt_text("kind").as_deref() == Some(kind)
                    && source.opt_text("name") == part.opt_text("source")
            };
            for part in entries.iter().filter(|part| !sources.iter().any(|source| is_home(part, source))) {
                let hint = format!("write the name of a [[source]] of kind = \"{kind}\"");
                raw.error(part, "source", "names no source that it could belong to", hint);
            }
        }
    }
}

/// A source of one of [`KINDS`].
pub fn source(raw: &mut Raw, entry: &Entry, base: &Path, kind: &str, parts: &Parts) -> Option<FieldConfig> {
    match kind {
        "modbus" => modbus::source(raw, entry, base, &parts.registers).map(FieldConfig::Modbus),
        "mqtt" => subscribe::source(raw, entry, base, &parts.topics).map(FieldConfig::Subscribe),
        "can" => can(raw, entry, base),
        "push" => push(raw, entry, base),
        "exec" => exec(raw, entry),
        "logs" => files(raw, entry, base),
        "syslog" => syslog(raw, entry),
        _ => Some(logs(entry, LogsConfig::Journal)),
    }
}

fn logs(entry: &Entry, input: LogsConfig) -> FieldConfig {
    FieldConfig::Logs { input, window: entry.time("window"), learn: entry.time("learn") }
}

fn files(raw: &mut Raw, entry: &Entry, base: &Path) -> Option<FieldConfig> {
    let files = entry.opt_texts("paths");
    if files.is_none() && !raw.is_flawed(entry, "paths") {
        raw.error(
            entry,
            "paths",
            "missing",
            "name at least one log file, or a pattern such as \"/var/log/*.log\"",
        );
    }
    let files = paths(base, files?);
    let wild =
        |path: &PathBuf| path.parent().is_some_and(|folder| folder.to_string_lossy().contains(['*', '?']));
    if let Some(path) = files.iter().find(|path| wild(path)) {
        let problem = format!("{} has a wildcard in a folder", path.display());
        raw.error(entry, "paths", problem, "use * and ? in the last part only, and name each folder");
    }
    Some(logs(entry, LogsConfig::Files(files)))
}

fn syslog(raw: &mut Raw, entry: &Entry) -> Option<FieldConfig> {
    let (udp, tcp) = (entry.opt_address("udp"), entry.opt_address("tcp"));
    let allow_remote = entry.flag("allow_remote");
    for (key, address) in [("udp", udp), ("tcp", tcp)] {
        if let Some(address) = address {
            common::remote_allowed(raw, entry, key, address, allow_remote);
        }
    }
    if udp.or(tcp).is_none() && !raw.is_flawed(entry, "udp") && !raw.is_flawed(entry, "tcp") {
        raw.error(entry, "", "no address", "give udp, tcp, or both, such as udp = \"127.0.0.1:5514\"");
    }
    Some(logs(entry, LogsConfig::Syslog { udp, tcp, allow_remote }))
}

fn can(raw: &mut Raw, entry: &Entry, base: &Path) -> Option<FieldConfig> {
    for (key, example) in [("interface", "can0"), ("dbc", "machine.dbc")] {
        if entry.opt_text(key).is_none() && !raw.is_flawed(entry, key) {
            raw.error(entry, key, "missing", format!("write for example {key} = \"{example}\""));
        }
    }
    Some(FieldConfig::Can {
        interface: entry.opt_text("interface")?,
        dbc: base.join(entry.opt_text("dbc")?),
        interval: entry.time("interval"),
        channel_prefix: entry.text("channel_prefix"),
    })
}

fn push(raw: &mut Raw, entry: &Entry, base: &Path) -> Option<FieldConfig> {
    let (allow_remote, listen) = (entry.flag("allow_remote"), entry.opt_address("listen"));
    let token_file = entry.opt_text("token_file").map(|path| base.join(path));
    match listen {
        Some(address) if token_file.is_none() => {
            common::remote_allowed(raw, entry, "listen", address, allow_remote)
        }
        Some(address) if !address.ip().is_loopback() && !allow_remote => {
            let hint = "use a loopback address such as 127.0.0.1, or set allow_remote = true";
            raw.error(entry, "listen", "others could reach it", hint);
        }
        Some(_) => {}
        None if raw.is_flawed(entry, "listen") => {}
        None => raw.error(entry, "listen", "missing", "write for example listen = \"127.0.0.1:9770\""),
    }
    Some(FieldConfig::Push { listen: listen?, allow_remote, token_file, precision_ns: precision_ns(entry) })
}

fn exec(raw: &mut Raw, entry: &Entry) -> Option<FieldConfig> {
    let command = entry.opt_texts("command");
    if command.is_none() && !raw.is_flawed(entry, "command") {
        raw.error(
            entry,
            "command",
            "missing",
            "name the program and its arguments, such as [\"/usr/bin/ups\", \"-l\"]",
        );
    }
    Some(FieldConfig::Exec {
        command: command?,
        interval: entry.time("interval"),
        timeout: entry.time("timeout"),
    })
}
