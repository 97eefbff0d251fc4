//! How the program ends, for scripts, and how a failure is worded.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done; for `check`: all fine |
//! | 1 | it was tried and failed |
//! | 2 | the command line was not understood |
//! | 3 | the configuration cannot be used |
//! | 10 | `check`: warnings only |
//! | 20 | `check`: at least one error |

use std::process::ExitCode;

use crate::config::ConfigError;

/// It was tried and failed.
pub const FAILURE: u8 = 1;
/// The command line was not understood.
pub const USAGE: u8 = 2;
/// The configuration cannot be used.
pub const CONFIG: u8 = 3;
/// `check` found warnings only.
pub const CHECK_WARNINGS: u8 = 10;
/// `check` found errors.
pub const CHECK_ERRORS: u8 = 20;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The caller's: a typing mistake, told with the closest word.
    #[error("{0}")]
    Usage(#[from] super::args::UsageError),
    /// The operator's: every mistake of the configuration file.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The machine's, or a bug.
    #[error("{0:#}")]
    Failed(anyhow::Error),
    /// The build's: made without the feature that carries the command.
    #[error("this build of outpost has no `{0}`; build it with its default features")]
    NotBuilt(&'static str),
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Usage(_) => USAGE,
            Failure::Config(_) => CONFIG,
            Failure::Failed(_) | Failure::NotBuilt(_) => FAILURE,
        })
    }

    /// Tells it: on standard error for people; with `json`, as one object on standard output.
    pub fn report(&self, json: bool) {
        if json {
            let problems = match self {
                Failure::Config(e) => serde_json::json!(e.problems),
                other => serde_json::json!([other.to_string()]),
            };
            // Nobody is left to tell if this fails too.
            let _ = super::print(&format!("{}\n", serde_json::json!({ "ok": false, "problems": problems })));
        } else {
            eprintln!("{self}");
        }
    }
}
