//! Lines of JSON or Influx line protocol from standard input, a Unix socket or a TCP port.
//!
//! The form is recognised line by line, see [`LineParser`]. A line longer than [`limits::LINE_BYTES_MAX`] is skipped
//! without being kept. Readings leave in batches of [`limits::SENSOR_BATCH_READINGS_MAX`], or after
//! [`limits::SENSOR_BATCH_WAIT_MS_MAX`]; while the pipeline is full nothing is read, so the sender's writes block.

mod influx;
mod json;
mod number;
mod parser;
mod serve;
mod splitter;

pub use parser::LineParser;
pub(super) use serve::{Idle, Server, bind_tcp, serve};
pub(super) use splitter::{Piece, Splitter};

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::limits;
use crate::time::Wall;

/// Where lines come from and how they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinesOptions {
    /// Where they come from.
    pub input: Input,
    /// Unit of times in line protocol; nanoseconds by default, as everywhere else.
    pub precision: Precision,
    /// Whether a TCP address other than loopback is allowed. Lines are neither authenticated nor encrypted.
    pub allow_remote: bool,
}

/// Where lines come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Standard input, until its end.
    Stdin,
    /// A Unix socket that this source creates with mode 0600 and removes at its end.
    Unix(PathBuf),
    /// A TCP port; port 0 lets the system choose.
    Tcp(SocketAddr),
}

/// Unit of a time in line protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// `s`
    Seconds,
    /// `ms`
    Millis,
    /// `us`
    Micros,
    /// `ns`, the protocol's default.
    #[default]
    Nanos,
}

impl Precision {
    /// The precision called `s`, `ms`, `us` or `ns`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "s" => Some(Self::Seconds),
            "ms" => Some(Self::Millis),
            "us" => Some(Self::Micros),
            "ns" => Some(Self::Nanos),
            _ => None,
        }
    }

    fn wall(self, n: i64) -> Option<Wall> {
        match self {
            Self::Seconds => n.checked_mul(1_000_000).map(Wall),
            Self::Millis => n.checked_mul(1000).map(Wall),
            Self::Micros => Some(Wall(n)),
            Self::Nanos => Some(Wall(n.div_euclid(1000))),
        }
    }
}

/// Why a line was refused; the sender's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not JSON, or JSON of another shape.
    #[error("not a JSON object or an array of objects")]
    Json,
    /// Not line protocol.
    #[error("neither JSON nor `measurement,tag=a field=1.2 time`")]
    Influx,
    /// A line of the channel form lacks its value.
    #[error("`channel` without `value`")]
    NoValue,
    /// See [`crate::reading::ChannelId`].
    #[error("the channel name is empty or longer than {} bytes", limits::CHANNEL_NAME_BYTES_MAX)]
    Name,
    /// The time can't be read.
    #[error("the time is neither RFC 3339 nor Unix time")]
    Time,
    /// The number can't be read.
    #[error("a field's value is no number, flag or text")]
    Number,
    /// The unit is too long.
    #[error("the unit is longer than {} bytes", limits::UNIT_BYTES_MAX)]
    Unit,
    /// The line has too many fields.
    #[error("more than {} fields", limits::LINE_FIELDS_MAX)]
    TooManyFields,
    /// The source speaks of too many channels.
    #[error("a channel beyond the {} that a source may have", limits::CHANNELS_MAX)]
    TooManyChannels,
    /// The line is too long.
    #[error("longer than {} bytes", limits::LINE_BYTES_MAX)]
    TooLong,
}

#[cfg(test)]
mod tests;
