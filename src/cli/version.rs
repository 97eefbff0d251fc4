//! `outpost version`: what exactly this binary is.

use serde_json::json;

/// One line, or one JSON object.
pub fn text(json: bool) -> String {
    if json {
        let facts = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "commit": env!("OUTPOST_COMMIT"),
            "target": env!("OUTPOST_TARGET"),
            "features": env!("OUTPOST_FEATURES").split_terminator(',').collect::<Vec<_>>(),
        });
        format!("{facts}\n")
    } else {
        format!(
            "outpost {} ({}, {}; features: {})\n",
            env!("CARGO_PKG_VERSION"),
            env!("OUTPOST_COMMIT"),
            env!("OUTPOST_TARGET"),
            env!("OUTPOST_FEATURES").replace(',', " ")
        )
    }
}
