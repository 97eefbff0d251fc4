//! Which configuration file is meant, and its reading.

use std::path::{Path, PathBuf};

use super::exit::Failure;
use crate::config::{self, AgentConfig, AggregatorConfig, Loaded, Schema};

/// Reads the agent's configuration: the file named, else the first of the usual places that exists.
pub fn agent_config(named: Option<&Path>) -> Result<Loaded<AgentConfig>, Failure> {
    Ok(config::load_agent(&file(&config::AGENT, named))?)
}

/// Reads the aggregator's configuration likewise.
pub fn aggregator_config(named: Option<&Path>) -> Result<Loaded<AggregatorConfig>, Failure> {
    Ok(config::load_aggregator(&file(&config::AGGREGATOR, named))?)
}

/// The file named; else the one in the working directory or in `/etc/outpost`. Where neither exists it is the
/// first, so that the error names the likelier place.
pub(super) fn file(schema: &Schema, named: Option<&Path>) -> PathBuf {
    let here = PathBuf::from(schema.file);
    match named {
        Some(path) => path.into(),
        None => {
            let etc = Path::new("/etc/outpost").join(schema.file);
            if !here.exists() && etc.exists() { etc } else { here }
        }
    }
}
