//! `outpost aggregate`: the configuration into the options of the cloud seat.

use std::process::ExitCode;

use super::args::AggregateArgs;
use super::exit::Failure;
use super::{link, signals, sources};
use crate::aggregator::store::Retention;
use crate::aggregator::{self, AggregatorOptions};
use crate::http::HttpOptions;
use crate::observe;

/// Runs the seat until a signal.
pub(super) fn main(args: &AggregateArgs) -> Result<ExitCode, Failure> {
    let loaded = sources::aggregator_config(args.config.as_deref())?;
    let config = loaded.config;
    observe::init(config.log.format, config.log.level);
    loaded.warnings.iter().for_each(|w| eprintln!("{w}"));
    let stop = signals::stop().map_err(|e| Failure::Failed(e.into()))?;
    let options = AggregatorOptions {
        link: link::options(&config.mqtt),
        prefix: config.mqtt.prefix,
        shared_group: config.shared_group,
        http: HttpOptions {
            addr: config.http.listen,
            allow_remote: config.http.allow_remote,
            ..HttpOptions::default()
        },
        database: config.store.path,
        retention: Retention { raw: config.store.retention, ..Retention::default() },
        silent_after: config.silent_after,
        undeclared_after: config.undeclared_after,
        certificates: config.certificates,
    };
    aggregator::run(options, stop).map_err(|e| Failure::Failed(e.into()))?;
    Ok(ExitCode::SUCCESS)
}
