//! A corpus in the benchmark's format: `data/<group>/<name>.csv` with `timestamp,value`, and the windows of all files
//! in `labels/combined_windows.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::score::Span;

/// One file.
#[derive(Debug, Clone)]
pub struct Series {
    /// Group and name of the file.
    pub name: String,
    /// Seconds since 1970 and value of each row.
    pub rows: Vec<(i64, f64)>,
    /// The labelled windows.
    pub spans: Vec<Span>,
}

/// Where the corpus lies: `OUTPOST_NAB`, else beside the checkout.
pub fn place() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/nab");
    std::env::var_os("OUTPOST_NAB").map_or(beside, PathBuf::from)
}

/// Reads all files of the corpus at `root`, in the order of their names.
///
/// Errors: what could not be read, and why.
pub fn read(root: &Path) -> Result<Vec<Series>, String> {
    let labels = root.join("labels/combined_windows.json");
    let text = std::fs::read_to_string(&labels).map_err(|e| format!("{}: {e}", labels.display()))?;
    let windows: BTreeMap<String, Vec<[String; 2]>> =
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", labels.display()))?;
    windows.iter().map(|(name, windows)| series(root, name, windows)).collect()
}

fn series(root: &Path, name: &str, windows: &[[String; 2]]) -> Result<Series, String> {
    let path = root.join("data").join(name);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut stamps = Vec::new();
    let mut rows = Vec::new();
    for (number, line) in text.lines().enumerate().skip(1) {
        let row = line.split_once(',').and_then(|(at, x)| Some((at, seconds(at)?, x.trim().parse().ok()?)));
        let (stamp, at, x) =
            row.ok_or_else(|| format!("{}:{}: not a row: {line}", path.display(), number + 1))?;
        stamps.push(stamp);
        rows.push((at, x));
    }
    // Times of one format sort as text; labels have a fraction of a second behind.
    let span = |[from, to]: &[String; 2]| Span {
        first: stamps.partition_point(|s| **s < from[..19]),
        last: stamps.partition_point(|s| **s <= to[..19]) - 1,
    };
    Ok(Series { name: name.to_owned(), spans: windows.iter().map(span).collect(), rows })
}

/// Seconds since 1970 of `2014-04-10 07:15:00`.
fn seconds(stamp: &str) -> Option<i64> {
    let part = |range: std::ops::Range<usize>| stamp.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (part(0..4)?, part(5..7)?, part(8..10)?);
    // Days since 1970 with March as the first month, so that the leap day is the last of its year.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 719_469;
    Some(((days * 24 + part(11..13)?) * 60 + part(14..16)?) * 60 + part(17..19)?)
}
