//! Events of the `sensor` room.

use std::fmt;
use std::path::Path;

use super::{Event, Fields, Level, metrics};

/// A source runs.
pub struct SourceStarted<'a> {
    /// Its configured name.
    pub source: &'a str,
    /// Such as `host`, `replay` or `lines`.
    pub kind: &'static str,
    /// What it reads: a path, an address, `stdin`.
    pub from: String,
}

impl Event for SourceStarted<'_> {
    const NAME: &'static str = "source_started";
    const LEVEL: Level = Level::Info;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("source", self.source).put("kind", self.kind).put("from", &self.from);
    }
}

/// A source has nothing more to say.
pub struct SourceEnded<'a> {
    /// Its configured name.
    pub source: &'a str,
    /// Readings that it gave.
    pub readings: u64,
    /// Input that could not be understood.
    pub malformed: u64,
}

impl Event for SourceEnded<'_> {
    const NAME: &'static str = "source_ended";
    const LEVEL: Level = Level::Info;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("source", self.source).put("readings", self.readings).put("malformed", self.malformed);
    }
}

/// A source stopped because of an error.
pub struct SourceFailed<'a> {
    /// Its configured name.
    pub source: &'a str,
    /// What went wrong, with the next step.
    pub error: &'a dyn fmt::Display,
}

impl Event for SourceFailed<'_> {
    const NAME: &'static str = "source_failed";
    const LEVEL: Level = Level::Error;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("source", self.source).put("error", self.error);
    }
}

/// Readings were given to the pipeline; counted, and logged at `trace` only.
pub struct BatchSent<'a> {
    /// Its configured name.
    pub source: &'a str,
    /// Readings in the batch.
    pub readings: u64,
    /// Those without a value.
    pub no_data: u64,
}

impl Event for BatchSent<'_> {
    const NAME: &'static str = "batch_sent";
    const LEVEL: Level = Level::Trace;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("source", self.source).put("readings", self.readings).put("no_data", self.no_data);
    }
    fn count(&self) {
        metrics::READINGS.add(self.readings);
        metrics::SENSED_BYTES.add(self.readings.saturating_mul(crate::limits::READING_BYTES));
        metrics::READINGS_NO_DATA.add(self.no_data);
    }
}

/// The pipeline was full and the source cannot wait.
pub struct BatchDropped<'a> {
    /// Its configured name.
    pub source: &'a str,
    /// Readings lost.
    pub readings: u64,
}

impl Event for BatchDropped<'_> {
    const NAME: &'static str = "batch_dropped";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("source", self.source).put("readings", self.readings);
    }
    fn count(&self) {
        metrics::READINGS_DROPPED.add(self.readings);
    }
}

/// A source sent something that could not be understood. Logged at most once per
/// [`crate::limits::MALFORMED_LOG_S_MIN`] and source, counted by [`MalformedSeen`].
pub struct MalformedInput<'a> {
    /// Its configured name.
    pub source: &'a str,
    /// What is wrong with the sample.
    pub reason: &'a dyn fmt::Display,
    /// Start of the offending line.
    pub sample: &'a str,
    /// Offences since the last log line, this one included.
    pub count: u64,
}

impl Event for MalformedInput<'_> {
    const NAME: &'static str = "malformed_input";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("source", self.source).put("reason", self.reason);
        fields.put("sample", self.sample).put("count", self.count);
    }
}

/// Offences as they happen; counted, and logged at `trace` only.
pub struct MalformedSeen {
    /// How many.
    pub count: u64,
}

impl Event for MalformedSeen {
    const NAME: &'static str = "malformed_seen";
    const LEVEL: Level = Level::Trace;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("count", self.count);
    }
    fn count(&self) {
        metrics::MALFORMED.add(self.count);
    }
}

/// A connection was closed because the source serves as many as it may: an idle one, or else the newest.
pub struct ConnectionRefused<'a> {
    /// Its configured name.
    pub source: &'a str,
    /// Connections being served.
    pub connections: usize,
}

impl Event for ConnectionRefused<'_> {
    const NAME: &'static str = "connection_refused";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("source", self.source).put("connections", self.connections);
    }
}

/// A connection of a source broke, or could not be accepted.
pub struct ConnectionFailed<'a> {
    /// Its configured name.
    pub source: &'a str,
    /// What the operating system said.
    pub error: &'a std::io::Error,
}

impl Event for ConnectionFailed<'_> {
    const NAME: &'static str = "connection_failed";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("source", self.source).put("error", self.error);
    }
}

/// Lines of a log file will never be read: it was rotated away before they were.
pub struct LogGap<'a> {
    /// Its configured name.
    pub source: &'a str,
    /// The file.
    pub path: &'a Path,
}

impl Event for LogGap<'_> {
    const NAME: &'static str = "log_gap";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("source", self.source).put("path", self.path.display());
    }
    fn count(&self) {
        metrics::LOG_GAPS.inc();
    }
}

/// Patterns of a log source match more than it can follow.
pub struct LogFilesLeftOut<'a> {
    /// Its configured name.
    pub source: &'a str,
    /// Files that are not followed.
    pub files: usize,
    /// Folders with more entries than are looked at.
    pub folders: usize,
    /// Files that were not told before.
    pub more: usize,
}

impl Event for LogFilesLeftOut<'_> {
    const NAME: &'static str = "log_files_left_out";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("source", self.source).put("files", self.files).put("folders", self.folders);
    }
    fn count(&self) {
        metrics::LOG_FILES_LEFT_OUT.add(self.more as u64);
    }
}

/// A log file can't be read; told once per file.
pub struct LogUnreadable<'a> {
    /// Its configured name.
    pub source: &'a str,
    /// The file.
    pub path: &'a Path,
    /// What the operating system said.
    pub error: &'a std::io::Error,
}

impl Event for LogUnreadable<'_> {
    const NAME: &'static str = "log_unreadable";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("source", self.source).put("path", self.path.display()).put("error", self.error);
    }
}

/// What a log source keeps over a restart can't be read or written: it begins anew, or counts some lines once more.
pub struct LogMemoryFailed<'a> {
    /// Its configured name.
    pub source: &'a str,
    /// The file.
    pub path: &'a Path,
    /// What is wrong.
    pub error: &'a std::io::Error,
}

impl Event for LogMemoryFailed<'_> {
    const NAME: &'static str = "log_memory_failed";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("source", self.source).put("path", self.path.display()).put("error", self.error);
    }
}

/// A program that a source listens to has ended; it is started again.
pub struct ProgramEnded<'a> {
    /// Its configured name.
    pub source: &'a str,
    /// The program, with its arguments.
    pub program: &'a str,
}

impl Event for ProgramEnded<'_> {
    const NAME: &'static str = "program_ended";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("source", self.source).put("program", self.program);
    }
}
