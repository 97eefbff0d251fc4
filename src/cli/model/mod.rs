//! `outpost model`: bundles made, checked, listed, measured, tried.

mod bench;
mod bundle;
mod chat;
mod progress;

use std::process::ExitCode;

use super::Style;
use super::exit::Failure;
use super::model_args::ModelArgs;
use crate::observe;

/// Runs the command.
pub(super) fn main(args: &ModelArgs, json: bool, style: Style) -> Result<ExitCode, Failure> {
    observe::init(observe::Format::Text, log::LevelFilter::Off);
    match args {
        ModelArgs::Import(args) => bundle::import(args, json, style),
        ModelArgs::Verify { dir, threads } => bundle::verify(dir, *threads, json, style),
        ModelArgs::Chat(args) => chat::main(args, style),
        ModelArgs::Bench(args) => bench::main(args, json),
        ModelArgs::List { dir } => bundle::list(dir, json, style),
    }
}

fn failed(error: impl Into<anyhow::Error>) -> Failure {
    Failure::Failed(error.into())
}

/// One per processor.
fn threads(asked: Option<usize>) -> usize {
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// A count of weights as people say it: `1.59 B`, `420 M`.
fn parameters_text(n: u64) -> String {
    match n {
        1_000_000_000.. => format!("{:.2} B", n as f64 / 1e9),
        1_000_000.. => format!("{:.1} M", n as f64 / 1e6),
        _ => format!("{:.1} k", n as f64 / 1e3),
    }
}

/// Bytes as people say it: `912.4 MiB`.
fn size_text(bytes: u64) -> String {
    match bytes {
        1_073_741_824.. => format!("{:.2} GiB", bytes as f64 / 1_073_741_824.0),
        1_048_576.. => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} KiB", bytes as f64 / 1024.0),
    }
}
