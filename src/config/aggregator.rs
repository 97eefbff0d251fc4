//! The aggregator's configuration as meant.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::common::{self, HttpConfig, LogConfig, MqttConfig};
use super::document::Raw;

/// Everything an aggregator can be told.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregatorConfig {
    /// The line.
    pub mqtt: MqttConfig,
    /// Name of the shared subscription; none: a plain subscription.
    pub shared_group: Option<String>,
    /// A device is silent after so long without a heartbeat.
    pub silent_after: Duration,
    /// What a device owes is a gap after so long.
    pub undeclared_after: Duration,
    /// Folder with certificates of devices.
    pub certificates: Option<PathBuf>,
    /// The database.
    pub store: StoreConfig,
    /// The pages.
    pub http: HttpConfig,
    /// The log.
    pub log: LogConfig,
}

/// The database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// The SQLite file.
    pub path: PathBuf,
    /// How long single readings are kept.
    pub retention: Duration,
}

impl AggregatorConfig {
    pub(super) fn from_raw(raw: &mut Raw, base: &Path) -> Self {
        let fleet = raw.take_one("");
        let line = raw.take_one("mqtt");
        let client_id = format!("outpost-aggregator-{}", common::hostname_device());
        let group = line.text("group");
        let store = raw.take_one("store");
        Self {
            mqtt: common::mqtt(raw, &line, base, client_id),
            shared_group: line.flag("shared").then_some(group),
            silent_after: fleet.time("silent_after"),
            undeclared_after: fleet.time("undeclared_after"),
            certificates: fleet.opt_text("certificates").map(|dir| base.join(dir)),
            store: StoreConfig { path: base.join(store.text("path")), retention: store.time("retention") },
            http: common::http(raw),
            log: common::log(raw),
        }
    }
}
