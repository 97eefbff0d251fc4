//! `outpost version`: what exactly this binary is.

use serde_json::json;

/// One line, or one JSON object.
pub fn text(json: bool) -> String {
    if json {
        let facts = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "commit": env!("OUTPOST_COMMIT"),
            "target": env!("OUTPOST_TARGET"),
            "features": env!("OUTPOST_FEATURES").split_whitespace().collect::<Vec<_>>(),
            "rustc": env!("OUTPOST_RUSTC"),
        });
        format!("{facts}\n")
    } else {
        LINE.into()
    }
}

/// In one piece, as `cross/package.sh` looks for it in programs for machines other than its own.
const LINE: &str = concat!(
    "outpost ",
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("OUTPOST_COMMIT"),
    ", ",
    env!("OUTPOST_TARGET"),
    "; features: ",
    env!("OUTPOST_FEATURES"),
    "; rustc ",
    env!("OUTPOST_RUSTC"),
    ")\n"
);
