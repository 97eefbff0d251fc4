//! Arguments of the commands that look at this machine.

use std::path::PathBuf;

use super::args::{LowArgs, UsageError};

/// Arguments of `outpost backends`.
#[derive(Debug, PartialEq)]
pub struct BackendsArgs {
    /// The file; none: the usual places.
    pub config: Option<PathBuf>,
    /// Where devices and libraries are looked for; none: `/`.
    pub root: Option<PathBuf>,
    /// Load what was found and try it with a shipped model.
    pub verify: bool,
    /// Only print a configuration for the accelerator of this name.
    pub example: Option<String>,
}

impl BackendsArgs {
    pub(super) fn from_low(low: &LowArgs) -> Self {
        BackendsArgs {
            config: low.path("config"),
            root: low.path("root"),
            verify: low.has("verify"),
            example: low.path("example").map(|name| name.to_string_lossy().into_owned()),
        }
    }
}

/// Arguments of `outpost sensors`.
#[derive(Debug, PartialEq)]
pub struct SensorsArgs {
    /// Show values live.
    pub watch: bool,
}

/// Arguments of `outpost init`.
#[derive(Debug, PartialEq)]
pub struct InitArgs {
    /// Where it is written to; `-` prints it.
    pub file: PathBuf,
    /// Take the place of a file that is there.
    pub replace: bool,
}

impl InitArgs {
    pub(super) fn from_low(low: &LowArgs) -> Self {
        let file = low.path("to").unwrap_or_else(|| "outpost.toml".into());
        InitArgs { file, replace: low.has("replace") }
    }
}

/// Arguments of `outpost selftest`.
#[derive(Debug, PartialEq)]
pub struct SelftestArgs {
    /// Where the folder of the test is made; none: the system's temporary folder.
    pub dir: Option<PathBuf>,
    /// What starts this program; none: the system.
    pub runner: Option<String>,
    /// To be the process that is killed.
    pub writer: bool,
}

impl SelftestArgs {
    pub(super) fn from_low(low: &LowArgs) -> Result<Self, UsageError> {
        let runner = low.word("runner", |text| Some(text.to_owned()), "a command")?;
        Ok(SelftestArgs { dir: low.path("dir"), runner, writer: low.has("writer") })
    }
}
