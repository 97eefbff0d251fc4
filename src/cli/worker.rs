//! `outpost worker`: a vendor's code apart from the agent.

use std::process::ExitCode;

use super::exit::Failure;
use crate::accel;

/// Serves the agent that has started it.
pub(super) fn main() -> Result<ExitCode, Failure> {
    let result = accel::worker::serve();
    result.map_err(|e| {
        Failure::Failed(anyhow::anyhow!("no agent has started this worker ({e}); run the agent instead"))
    })?;
    Ok(ExitCode::SUCCESS)
}
