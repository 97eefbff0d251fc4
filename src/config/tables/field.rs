//! Keys of registers and topics, which belong to sources from the field.

use super::super::kind::Kind::{Integer, Name, OneOf, Text};
use super::super::schema::Key;
use super::channels::ANY_NUMBER;

pub(super) const REGISTER: &[Key] = &[
    Key::optional("source", Name, "\"modbus\"", "Name of the source that it belongs to."),
    Key::optional("channel", Text { min: 1, max: 96 }, "\"pump1.pressure\"", "Name of its channel."),
    Key::optional(
        "table",
        OneOf(&["holding", "input", "coil", "discrete"]),
        "\"holding\"",
        "Table of the device that it is in.",
    ),
    Key::optional(
        "address",
        Integer { min: 0, max: 65_535 },
        "0",
        "Address, from 0: what a manual calls 40001 is 0 in the table holding.",
    ),
    Key::optional(
        "type",
        OneOf(&["bit", "u16", "i16", "u32", "i32", "f32", "u64", "i64", "f64"]),
        "\"u16\"",
        "How the value lies there; when absent, u16, or bit in the tables coil and discrete.",
    ),
    Key::new(
        "order",
        OneOf(&["abcd", "cdab", "badc", "dcba"]),
        "\"abcd\"",
        "Order of the bytes of a value of several registers, a being the most significant.",
    ),
    Key::new("bit", Integer { min: 0, max: 15 }, "0", "Which bit of a register, with type = \"bit\"."),
    Key::new("scale", ANY_NUMBER, "1.0", "The value is what is read times this, plus offset."),
    Key::new("offset", ANY_NUMBER, "0.0", "See scale."),
    Key::new("unit", Text { min: 0, max: 16 }, "\"\"", "Unit of the value as a UCUM code."),
];

pub(super) const TOPIC: &[Key] = &[
    Key::optional("source", Name, "\"mqtt\"", "Name of the source that it belongs to."),
    Key::optional(
        "topic",
        Text { min: 1, max: 256 },
        "\"plant/{line}/{sensor}\"",
        "Topic; a level {name} stands for any word.",
    ),
    Key::optional(
        "channel",
        Text { min: 1, max: 96 },
        "\"{line}.{sensor}\"",
        "Name of the channel, with the words that stood for the names.",
    ),
    Key::optional(
        "value",
        Text { min: 1, max: 256 },
        "\"data.value\"",
        "Where the value is in a JSON message; when absent, the message is a number.",
    ),
    Key::optional(
        "time",
        Text { min: 1, max: 256 },
        "\"data.time\"",
        "Where the time is in a JSON message; when absent, that of its arrival.",
    ),
    Key::new("unit", Text { min: 0, max: 16 }, "\"\"", "Unit of the values as a UCUM code."),
];
