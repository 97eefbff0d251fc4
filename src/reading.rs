//! The words for what a sensor says: a channel, a unit, a quantity, a reading.
//!
//! A value has a unit; a missing value has a reason. Everything above this room speaks in these types.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits;
pub(crate) use crate::named::named_enum;
use crate::time::Wall;

/// Name of one measured channel: 1 to [`limits::CHANNEL_NAME_BYTES_MAX`] bytes of `A-Z a-z 0-9 _ - . / :`.
///
/// Cloning costs a reference count. Names are hierarchical by dots, the first part names the asset
/// (`pump1.bearing_temp`) unless the configuration says otherwise.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Arc<str>", into = "Arc<str>")]
pub struct ChannelId(Arc<str>);

/// A channel name that breaks the rules of [`ChannelId`]; the sender's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "channel name {name:?} is not usable: use 1 to {} characters of A-Z a-z 0-9 _ - . / :",
    limits::CHANNEL_NAME_BYTES_MAX
)]
pub struct BadChannelName {
    /// The offending name, shortened to what a log line can bear.
    pub name: String,
}

impl ChannelId {
    /// Checks `name` and takes it.
    pub fn new(name: &str) -> Result<Self, BadChannelName> {
        if Self::is_valid(name) {
            Ok(Self(Arc::from(name)))
        } else {
            Err(BadChannelName { name: name.chars().take(32).collect() })
        }
    }

    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the first dot, if there is one: the asset by convention.
    pub fn asset(&self) -> Option<&str> {
        self.0.split_once('.').map(|(asset, _)| asset)
    }

    fn is_valid(name: &str) -> bool {
        (1..=limits::CHANNEL_NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./:".contains(&b))
    }
}

impl TryFrom<Arc<str>> for ChannelId {
    type Error = BadChannelName;
    fn try_from(name: Arc<str>) -> Result<Self, Self::Error> {
        if Self::is_valid(&name) { Ok(Self(name)) } else { Self::new(&name) }
    }
}

impl From<ChannelId> for Arc<str> {
    fn from(id: ChannelId) -> Self {
        id.0
    }
}

impl std::borrow::Borrow<str> for ChannelId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a value is missing. Append only: it travels in the wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NoData {
    /// The source sent NaN, or text that stands for it.
    NotANumber,
    /// The source sent an infinity.
    Infinite,
    /// The sensor could not be read (bus error, missing file, time-out).
    ReadFailed,
    /// The source sent an explicit null.
    Null,
    /// Nothing acknowledged at the sensor's address: power, wiring or address.
    NoAnswer,
    /// The sensor answered, and its checksum was wrong: noise on the wire.
    BadChecksum,
    /// Another device than the configured one answered.
    WrongDevice,
    /// The answer did not come in time.
    TimedOut,
    /// Beyond what the sensor can measure, or outside the range that the configuration calls possible.
    OutOfRange,
}

impl NoData {
    /// Stable lower-case name, used in JSON and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            NoData::NotANumber => "not_a_number",
            NoData::Infinite => "infinite",
            NoData::ReadFailed => "read_failed",
            NoData::Null => "null",
            NoData::NoAnswer => "no_answer",
            NoData::BadChecksum => "bad_checksum",
            NoData::WrongDevice => "wrong_device",
            NoData::TimedOut => "timed_out",
            NoData::OutOfRange => "out_of_range",
        }
    }
}

/// A finite value or the reason why there is none.
pub type Value = Result<f64, NoData>;

/// Sorts a raw float into a [`Value`].
pub fn value_from_f64(x: f64) -> Value {
    if x.is_finite() {
        Ok(x)
    } else if x.is_nan() {
        Err(NoData::NotANumber)
    } else {
        Err(NoData::Infinite)
    }
}

/// One measurement of one channel at one event time.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// What was measured.
    pub channel: ChannelId,
    /// When it was measured (event time, by the source's clock).
    pub at: Wall,
    /// The value in the channel's unit, or why there is none.
    pub value: Value,
    /// What the value is worth; [`Quality::Bad`] where there is none.
    pub quality: Quality,
}

impl Reading {
    /// A reading that nobody doubts; without a value it is [`Quality::Bad`].
    pub const fn new(channel: ChannelId, at: Wall, value: Value) -> Self {
        let quality = if value.is_ok() { Quality::Good } else { Quality::Bad };
        Self { channel, at, value, quality }
    }
}

/// A unit of measure: a UCUM code (`Cel`, `bar`, `mm/s`, `%`, `A`), at most 16 bytes; empty means dimensionless.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Unit(pub String);

impl Unit {
    /// How people write it: `°C` for `Cel`, `mm/s` for `mm/s`.
    pub fn symbol(&self) -> &str {
        match self.0.as_str() {
            "Cel" => "°C",
            "[degF]" => "°F",
            "Ohm" => "Ω",
            "By" => "B",
            "By/s" => "B/s",
            "1" => "",
            other => other,
        }
    }
}

named_enum! {
    /// What a value is worth.
    Quality {
        /// As the sensor is known to measure.
        Good = "good",
        /// Beyond what its calibration knows.
        Uncertain = "uncertain",
        /// No value.
        Bad = "bad",
    }
}

named_enum! {
    /// What a channel measures, as far as the language model cares. Append only.
    Quantity {
        Temperature = "temperature", Vibration = "vibration", Current = "current", Voltage = "voltage",
        Power = "power", Pressure = "pressure", Flow = "flow", Level = "level", Speed = "speed",
        Humidity = "humidity", Door = "door", Link = "link", Cpu = "cpu", Load = "load",
        Memory = "memory", Disk = "disk", Network = "network", Count = "count",
        /// Anything else.
        Other = "other",
    }
}

named_enum! {
    /// How grave. The order is the order of gravity.
    Severity { Info = "info", Warning = "warning", Critical = "critical" }
}

named_enum! {
    /// The shape of a deviation. Append only.
    Pattern {
        /// Above its limit or everything seen before.
        High = "high",
        /// Below its limit or everything seen before.
        Low = "low",
        /// A sustained climb.
        Rise = "rise",
        /// A sustained descent.
        Fall = "fall",
        /// Short excursions.
        Spike = "spike",
        /// The value no longer moves although it used to.
        Stuck = "stuck",
        /// No reading arrives.
        Missing = "missing",
        /// A two-state channel switches too often.
        Flapping = "flapping",
    }
}

impl Pattern {
    /// Whether one says how often it happened.
    pub const fn is_counted(self) -> bool {
        matches!(self, Pattern::Spike | Pattern::Flapping)
    }
}

/// What is known of a channel apart from its readings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelInfo {
    /// Its name.
    pub id: ChannelId,
    /// Unit of its values.
    pub unit: Unit,
    /// The source says so; otherwise the unit is a guess from the name, and nothing is converted from it.
    #[serde(default)]
    pub unit_given: bool,
    /// What it measures.
    pub quantity: Quantity,
    /// The machine or room it belongs to; channels of one asset are explained together.
    pub asset: Option<String>,
    /// What a person calls it; the name when nothing better is configured.
    pub label: String,
}

impl ChannelInfo {
    /// A description from the name alone: asset before the first dot, quantity by the words and suffixes in it.
    pub fn guess(id: &ChannelId) -> Self {
        let (quantity, unit) = guess_quantity(id.as_str());
        Self {
            unit: Unit(unit.into()),
            unit_given: false,
            quantity,
            asset: id.asset().map(str::to_owned),
            label: id.as_str().to_owned(),
            id: id.clone(),
        }
    }

    /// A description by a source that knows what it measures, and in which unit (a UCUM code).
    pub fn given(id: &ChannelId, quantity: Quantity, unit: &str) -> Self {
        Self { unit: Unit(unit.into()), unit_given: true, quantity, ..Self::guess(id) }
    }
}

/// First match wins; words are looked for in the part after the asset.
const GUESSES: &[(&str, Quantity, &str)] = &[
    ("temp", Quantity::Temperature, "Cel"),
    ("vib", Quantity::Vibration, "mm/s"),
    ("current", Quantity::Current, "A"),
    ("volt", Quantity::Voltage, "V"),
    ("power", Quantity::Power, "W"),
    ("press", Quantity::Pressure, "bar"),
    ("flow", Quantity::Flow, "m3/h"),
    ("level", Quantity::Level, "m"),
    ("speed", Quantity::Speed, "/min"),
    ("rpm", Quantity::Speed, "/min"),
    ("humid", Quantity::Humidity, "%"),
    ("door", Quantity::Door, ""),
    ("link", Quantity::Link, ""),
    ("cpu", Quantity::Cpu, "%"),
    ("load", Quantity::Load, ""),
    ("mem", Quantity::Memory, "%"),
    ("disk", Quantity::Disk, "%"),
    ("net", Quantity::Network, "By/s"),
    ("count", Quantity::Count, ""),
];

fn guess_quantity(name: &str) -> (Quantity, &'static str) {
    let tail = name.split_once('.').map_or(name, |(_, tail)| tail).to_ascii_lowercase();
    GUESSES
        .iter()
        .find(|(word, ..)| tail.contains(word))
        .map_or((Quantity::Other, ""), |&(_, quantity, unit)| (quantity, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_name_is_checked_at_the_door() {
        assert!(ChannelId::new("pump1.bearing_temp").is_ok());
        for bad in ["", "a b", "naïve", "x\n", &"x".repeat(limits::CHANNEL_NAME_BYTES_MAX + 1)] {
            assert!(ChannelId::new(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_channel_is_described_from_its_name_alone() {
        let info = ChannelInfo::guess(&ChannelId::new("pump1.bearing_temp").unwrap());
        assert_eq!((info.quantity, info.unit.symbol()), (Quantity::Temperature, "°C"));
        assert_eq!(info.asset.as_deref(), Some("pump1"));
    }

    #[test]
    fn a_float_that_is_no_number_becomes_a_reason() {
        assert_eq!(value_from_f64(f64::NAN), Err(NoData::NotANumber));
        assert_eq!(value_from_f64(f64::NEG_INFINITY), Err(NoData::Infinite));
        assert_eq!(value_from_f64(1.5), Ok(1.5));
    }

    #[test]
    fn severity_is_ordered_by_gravity() {
        assert!(Severity::Critical > Severity::Warning && Severity::Warning > Severity::Info);
    }
}
