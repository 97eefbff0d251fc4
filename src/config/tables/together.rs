//! The keys of what is judged over several channels.

use super::super::kind::Kind::{Channels, Name, OneOf, Text, Texts, Time};
use super::super::schema::Key;
use super::{D, H, S};

pub(super) const GROUP: &[Key] = &[
    Key::optional("name", Name, "\"pump2\"", "Name of the group in alarms, unique in the file."),
    Key::optional(
        "channels",
        Channels,
        "[\"pump2.bearing_temp\", \"pump2.vibration\", \"pump2.current\"]",
        "Its members, two or more. One that is not heard yet is waited for, and the log says so; one that falls silent is left out as long as more than half still speak.",
    ),
    Key::new(
        "every",
        Time { min_ms: S, max_ms: H },
        "\"10 s\"",
        "Time of one sample, over which readings of each member are averaged: about that of the slowest member.",
    ),
];

pub(super) const RULE: &[Key] = &[
    Key::optional("name", Name, "\"dry_run\"", "Name of the rule in alarms, unique in the file."),
    Key::optional(
        "all",
        Texts,
        "[\"pump2.current > 14.0\", \"pump2.flow < 3.0\"]",
        "Conditions that must all hold: a channel, > or <, a number in its unit; with the word rate before the sign, its change per minute; with hysteresis and a number behind it, it holds until the value is so far back (a rate else until half its bound). The alarm is the first one's channel's.",
    ),
    Key::optional(
        "any",
        Texts,
        "[\"pump2.bearing_temp > 90.0\", \"pump2.bearing_temp rate > 5.0\"]",
        "Conditions of which one must hold, along with those of all.",
    ),
    Key::new("severity", OneOf(&["warning", "critical"]), "\"warning\"", "How grave it is."),
    Key::new("dwell", Time { min_ms: 0, max_ms: D }, "\"0 s\"", "How long it must hold before it counts."),
    Key::optional(
        "times",
        Text { min: 3, max: 40 },
        "\"Mon-Fri 06:00-22:00\"",
        "When it holds: days, one or two spans of the day, or both, in UTC or by a clock that is off by what is added, such as +01:00; when absent, always.",
    ),
];
