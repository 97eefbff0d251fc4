//! What an operator writes: parsed, checked, all errors at once.
//!
//! One table per seat (`tables`) names every key with its kind, range, default and meaning. The parser
//! (`document`), the reference and the commented example files (`reference`) are all read from it, so they cannot
//! drift apart:
//!
//! ```text
//! outpost.toml --document--> Raw (every key known, every value of its kind and in range)
//!              --agent-----> AgentConfig (as meant: defaults filled in, relations between keys checked)
//! ```
//!
//! A mistake never stops the reading: [`ConfigError`] carries all of them, each with file, line, key, value, what is
//! allowed and what to do. A remark that does not stop the start is a warning in [`Loaded`].

mod agent;
mod aggregator;
mod common;
mod document;
mod field;
mod glm;
mod hardware;
mod kind;
mod modbus;
mod model;
mod problem;
mod reference;
mod schema;
mod subscribe;
mod suggest;
mod tables;
#[cfg(test)]
mod tests;
mod together;

pub use agent::{
    AgentConfig, ChannelRule, DigestConfig, LinesInput, ModelChoice, SourceConfig, SourceKind, SpoolConfig,
    WindowsConfig,
};
pub use aggregator::{AggregatorConfig, StoreConfig};
pub use common::{Ack, HttpConfig, LogConfig, MqttConfig, Payload, TlsPaths, hostname_device};
pub use field::{FieldConfig, LogsConfig};
pub use glm::{GlmConfig, KvKind};
pub use hardware::{ChipConfig, LineConfig};
pub use kind::{bytes_text, duration_text, parse_bytes, parse_duration};
pub use modbus::{ModbusConfig, ModbusLinkConfig};
pub use model::{AcceleratorConfig, ModelConfig, TfliteConfig};
pub use problem::{ConfigError, Loaded, Problem};
pub use reference::{example, markdown};
pub use schema::Schema;
pub use subscribe::SubscribeConfig;
pub use suggest::closest;
pub use tables::{AGENT, AGGREGATOR};

use std::path::Path;

use crate::limits;

/// Reads and checks the agent's configuration file; its fault and the operator's are told apart in the problems.
///
/// Relative paths in the file count from the folder of the file.
pub fn load_agent(path: &Path) -> Result<Loaded<AgentConfig>, ConfigError> {
    parse_agent(&path.display().to_string(), &read(path)?, folder(path))
}

/// Reads and checks the aggregator's configuration file.
pub fn load_aggregator(path: &Path) -> Result<Loaded<AggregatorConfig>, ConfigError> {
    parse_aggregator(&path.display().to_string(), &read(path)?, folder(path))
}

/// Checks the text of an agent's configuration; `file` is what the problems call it, `base` what relative paths
/// count from.
pub fn parse_agent(file: &str, text: &str, base: &Path) -> Result<Loaded<AgentConfig>, ConfigError> {
    let mut raw = document::Raw::parse(&AGENT, file, text);
    let config = AgentConfig::from_raw(&mut raw, base);
    raw.finish(config)
}

/// Checks the text of an aggregator's configuration.
pub fn parse_aggregator(
    file: &str,
    text: &str,
    base: &Path,
) -> Result<Loaded<AggregatorConfig>, ConfigError> {
    let mut raw = document::Raw::parse(&AGGREGATOR, file, text);
    let config = AggregatorConfig::from_raw(&mut raw, base);
    raw.finish(config)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn read(path: &Path) -> Result<String, ConfigError> {
    use std::io::Read as _;
    let file = path.display().to_string();
    let mut text = String::new();
    let read = std::fs::File::open(path)
        .and_then(|f| f.take(limits::CONFIG_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Ok(n) if n as u64 > limits::CONFIG_BYTES_MAX => Err(ConfigError::unreadable(
            &file,
            format!("larger than {}", bytes_text(limits::CONFIG_BYTES_MAX)),
            "is this really a configuration file?",
        )),
        Ok(_) => Ok(text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(ConfigError::unreadable(
            &file,
            "no such file".into(),
            "write one with `outpost check --example agent > outpost.toml`, or name yours with --config",
        )),
        Err(e) => Err(ConfigError::unreadable(&file, e.to_string(), "make it a readable UTF-8 text file")),
    }
}
