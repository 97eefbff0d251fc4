//! Events of sources from the field: devices, brokers, programs.

use std::fmt;
use std::path::Path;

use super::{Event, Fields, Level, metrics};
use crate::reading::NoData;

/// A device or broker does not answer, or in another way than before.
pub struct PeerFailed<'a> {
    /// The source's configured name.
    pub source: &'a str,
    /// Who was asked.
    pub peer: &'a str,
    /// What went wrong.
    pub error: &'a dyn fmt::Display,
}

impl Event for PeerFailed<'_> {
    const NAME: &'static str = "peer_failed";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("source", self.source).put("peer", self.peer).put("error", self.error);
    }
}

/// It answers again.
pub struct PeerRecovered<'a> {
    /// The source's configured name.
    pub source: &'a str,
    /// Who was asked.
    pub peer: &'a str,
}

impl Event for PeerRecovered<'_> {
    const NAME: &'static str = "peer_recovered";
    const LEVEL: Level = Level::Info;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("source", self.source).put("peer", self.peer);
    }
}

/// Parts of a DBC file that are not read; the file's fault, or more than is understood.
pub struct SignalsLeftOut<'a> {
    /// The source's configured name.
    pub source: &'a str,
    /// The file.
    pub path: &'a Path,
    /// How many signals and messages.
    pub entries: usize,
    /// The first of them, with its line and the reason.
    pub first: &'a dyn fmt::Display,
}

impl Event for SignalsLeftOut<'_> {
    const NAME: &'static str = "signals_left_out";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("source", self.source).put("path", self.path.display());
        fields.put("entries", self.entries).put("first", self.first);
    }
}

/// A question that had no answer; counted, and logged at `trace` only.
pub struct FieldFault {
    /// In which way.
    pub kind: FaultKind,
}

/// Ways in which a question has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Nothing in time.
    Timeout,
    /// A wrong checksum.
    Checksum,
    /// No connection.
    Connection,
    /// Refused, or not understood.
    Refused,
}

impl FaultKind {
    /// The way that leaves this reason behind.
    pub const fn of(reason: NoData) -> Self {
        match reason {
            NoData::TimedOut => Self::Timeout,
            NoData::BadChecksum => Self::Checksum,
            NoData::NoAnswer => Self::Connection,
            _ => Self::Refused,
        }
    }
}

impl Event for FieldFault {
    const NAME: &'static str = "field_fault";
    const LEVEL: Level = Level::Trace;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("kind", format_args!("{:?}", self.kind));
    }
    fn count(&self) {
        match self.kind {
            FaultKind::Timeout => metrics::FIELD_TIMEOUTS.inc(),
            FaultKind::Checksum => metrics::FIELD_CHECKSUMS.inc(),
            FaultKind::Connection => metrics::FIELD_CONNECTIONS.inc(),
            FaultKind::Refused => metrics::FIELD_REFUSED.inc(),
        }
    }
}

/// A message from a broker in the field was passed over; counted, and logged at `trace` only.
pub struct MessageDropped {
    /// Why.
    pub kind: DropKind,
}

/// Why a message is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropKind {
    /// It came before.
    Duplicate,
    /// It was kept by the broker and tells no time.
    Retained,
    /// It is longer than any reading.
    Oversize,
}

impl Event for MessageDropped {
    const NAME: &'static str = "message_dropped";
    const LEVEL: Level = Level::Trace;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("kind", format_args!("{:?}", self.kind));
    }
    fn count(&self) {
        match self.kind {
            DropKind::Duplicate => metrics::FIELD_DUPLICATES.inc(),
            DropKind::Retained => metrics::FIELD_RETAINED.inc(),
            DropKind::Oversize => metrics::FIELD_OVERSIZE.inc(),
        }
    }
}
