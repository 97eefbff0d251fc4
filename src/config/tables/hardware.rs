//! The keys of chips on buses and of lines of GPIO chips.

use super::super::kind::Kind::{Flag, Integer, Name, Number, OneOf, Time};
use super::super::schema::Key;
use super::{H, S};

pub(super) const CHIP: &[Key] = &[
    Key::optional("bus", Name, "\"i2c\"", "Name of the source that it belongs to."),
    Key::optional("name", Name, "\"air\"", "First part of its channels' names, unique in the file."),
    Key::optional("part", OneOf(PARTS), "\"sht4x\"", "Which part it is."),
    Key::optional(
        "address",
        Integer { min: 0x08, max: 0x77 },
        "0x44",
        "Its address on an I2C bus; when absent, the part's usual one.",
    ),
    Key::new("select", Integer { min: 0, max: 15 }, "0", "Its chip select on an SPI bus."),
    Key::new("interval", Time { min_ms: 10, max_ms: H }, "\"1 s\"", "Time between reads."),
    Key::new(
        "timeout",
        Time { min_ms: 10, max_ms: 10 * S },
        "\"1 s\"",
        "Longest read; then the next chip has its turn.",
    ),
    Key::new(
        "shunt",
        Number { min: 1e-6, max: 1e3 },
        "0.1",
        "Resistance of the shunt in ohms (ina219, ina226).",
    ),
    Key::new(
        "reference",
        Number { min: 0.1, max: 6.2 },
        "3.3",
        "Reference voltage (mcp3008), or the highest voltage to be measured (ads1115).",
    ),
];

/// The names of the parts that have a driver.
const PARTS: &[&str] = &["sht3x", "sht4x", "bme280", "ina219", "ina226", "ads1115", "lis3dh", "mcp3008"];

pub(super) const LINE: &[Key] = &[
    Key::optional("source", Name, "\"gpio\"", "Name of the source that it belongs to."),
    Key::optional("name", Name, "\"door\"", "Its channel, or the first part of its channels' names."),
    Key::optional("line", Integer { min: 0, max: 4095 }, "5", "Its number on the chip."),
    Key::new(
        "mode",
        OneOf(&["level", "count"]),
        "\"level\"",
        "level tells 0 and 1 at every edge, count counts pulses and tells their rate.",
    ),
    Key::new("active_low", Flag, "false", "Low counts as 1, and a falling edge as a pulse."),
    Key::new(
        "bias",
        OneOf(&["as_is", "pull_up", "pull_down", "disabled"]),
        "\"as_is\"",
        "Resistor inside the chip.",
    ),
    Key::new(
        "debounce",
        Time { min_ms: 0, max_ms: 10 * S },
        "\"0 ms\"",
        "How long a level must last before it counts.",
    ),
];
