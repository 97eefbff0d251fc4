//! Whether a model's file is what its manifest says.

use super::Stage;

/// How far loading had come, and why it went no further.
pub type Problem = (Stage, String);

/// Holds a property of one side of a model against the manifest.
pub fn compare(side: &str, what: &str, found: String, wanted: String) -> Result<(), Problem> {
    if found == wanted {
        return Ok(());
    }
    Err((Stage::Load, format!("the {what} of its {side} is {found}, but manifest.json says {wanted}")))
}
