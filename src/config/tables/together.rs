//! The keys of what is judged over several channels.

use super::super::kind::Kind::{Channels, Name, Time};
use super::super::schema::Key;
use super::{H, S};

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
