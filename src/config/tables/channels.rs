//! The keys of what is known of channels.

use super::super::kind::Kind::{self, Flag, Number, OneOf, Points, Text, Time};
use super::super::schema::Key;
use super::D;

pub(super) const ANY_NUMBER: Kind = Number { min: f64::MIN, max: f64::MAX };

pub(super) const CHANNELS: &[Key] = &[
    Key::optional(
        "unit",
        Text { min: 0, max: 16 },
        "\"Cel\"",
        "Unit as a UCUM code (Cel, bar, mm/s, %, A); values are converted from the source's unit. When absent, the source's or a guess from the name.",
    ),
    Key::optional(
        "source_unit",
        Text { min: 0, max: 16 },
        "\"[degF]\"",
        "Unit in which the source gives the values, where it does not say so itself or is wrong.",
    ),
    Key::optional(
        "table",
        Points,
        "[[0.0, 0.0], [4095.0, 3.3]]",
        "Calibration: raw values with their true ones, straight lines between them; beyond its ends a value is uncertain.",
    ),
    Key::optional("scale", ANY_NUMBER, "1.0", "Calibration: factor, after the table; when absent, 1."),
    Key::optional(
        "offset",
        ANY_NUMBER,
        "-0.4",
        "Calibration: added after the factor, in the source's unit; when absent, 0.",
    ),
    Key::optional(
        "range_low",
        ANY_NUMBER,
        "-40.0",
        "Lowest value that is possible, in the channel's unit: below it the reading is missing, out of range.",
    ),
    Key::optional("range_high", ANY_NUMBER, "125.0", "Highest value that is possible, likewise."),
    Key::optional(
        "quantity",
        OneOf(QUANTITIES),
        "\"temperature\"",
        "What it measures; when absent, a guess from the name.",
    ),
    Key::optional(
        "asset",
        Text { min: 1, max: 64 },
        "\"pump 1\"",
        "Machine or room it belongs to; when absent, the name before its first dot.",
    ),
    Key::optional(
        "label",
        Text { min: 1, max: 64 },
        "\"bearing temperature\"",
        "What people call it; when absent, its name.",
    ),
    Key::optional("limit_high_warn", ANY_NUMBER, "75.0", "Above this, a warning."),
    Key::optional("limit_high_critical", ANY_NUMBER, "85.0", "Above this, critical."),
    Key::optional("limit_low_warn", ANY_NUMBER, "5.0", "Below this, a warning."),
    Key::optional("limit_low_critical", ANY_NUMBER, "0.0", "Below this, critical."),
    Key::optional(
        "hysteresis",
        Number { min: 0.0, max: f64::MAX },
        "1.0",
        "How far behind a limit a value must return before it counts as back; when absent, 0.",
    ),
    Key::optional(
        "dwell",
        Time { min_ms: 0, max_ms: D },
        "\"5 s\"",
        "How long a limit must be broken before it counts; when absent, at once.",
    ),
    Key::optional(
        "rate_warn",
        Number { min: 0.0, max: f64::MAX },
        "2.0",
        "Change per minute, up or down, above which there is a warning; measured over half a minute at least.",
    ),
    Key::optional(
        "rate_critical",
        Number { min: 0.0, max: f64::MAX },
        "10.0",
        "Change per minute, up or down, above which it is critical.",
    ),
    Key::optional(
        "limit_times",
        Text { min: 3, max: 40 },
        "\"Mon-Fri 06:00-22:00\"",
        "When limits and rates hold: days, one or two spans of the day, or both, in UTC or by a clock that is off by what is added, such as +01:00; when absent, always.",
    ),
    Key::optional(
        "detect",
        Flag,
        "true",
        "Whether detectors watch it; when absent, true. Limits hold either way.",
    ),
];

/// The names of [`crate::reading::Quantity`], which a table of constants cannot ask for.
pub(super) const QUANTITIES: &[&str] = &[
    "temperature",
    "vibration",
    "current",
    "voltage",
    "power",
    "pressure",
    "flow",
    "level",
    "speed",
    "humidity",
    "door",
    "link",
    "cpu",
    "load",
    "memory",
    "disk",
    "network",
    "count",
    "other",
];
