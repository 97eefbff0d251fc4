//! Events of the `spool` room.

use std::fmt;
use std::path::Path;

use super::{Event, Fields, Level, metrics};
use crate::wire::BlockId;

/// Records became durable. Counted, not logged: this happens many times a second.
pub struct Committed {
    /// Records given up in the same commit.
    pub evicted: u64,
    /// Bytes of blocks now.
    pub bytes: u64,
    /// Records waiting now.
    pub pending: u64,
}

impl Event for Committed {
    const NAME: &'static str = "spool_committed";
    const LEVEL: Level = Level::Trace;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("evicted", self.evicted).put("bytes", self.bytes).put("pending", self.pending);
    }
    fn count(&self) {
        metrics::SPOOL_COMMITS.inc();
        metrics::SPOOL_EVICTED.add(self.evicted);
        metrics::SPOOL_BYTES.set(self.bytes);
        metrics::SPOOL_PENDING.set(self.pending);
    }
}

/// The disk refused a commit; it is tried again, nothing is promised meanwhile.
pub struct CommitFailed<'a> {
    /// Why, with the next step.
    pub error: &'a str,
    /// Records that wait in memory.
    pub waiting: usize,
}

impl Event for CommitFailed<'_> {
    const NAME: &'static str = "spool_commit_failed";
    const LEVEL: Level = Level::Error;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("error", self.error).put("waiting", self.waiting);
    }
    fn count(&self) {
        metrics::SPOOL_COMMIT_ERRORS.inc();
    }
}

/// The spool began to give up records, or found room again.
pub struct Evicting {
    /// Whether it does now.
    pub now: bool,
    /// Records given up so far.
    pub evicted: u64,
}

impl Event for Evicting {
    const NAME: &'static str = "spool_evicting";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("now", self.now).put("evicted", self.evicted);
    }
}

/// Free space on the spool's file system crossed its floor.
pub struct DiskLow {
    /// Whether it is below now.
    pub low: bool,
    /// Free bytes.
    pub free_bytes: u64,
}

impl Event for DiskLow {
    const NAME: &'static str = "spool_disk_low";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("low", self.low).put("free_bytes", self.free_bytes);
    }
}

/// The agent can't begin because its spool can't be opened now; it is tried again.
pub struct SpoolAwaited<'a> {
    /// Why, and what to do.
    pub error: &'a dyn fmt::Display,
}

impl Event for SpoolAwaited<'_> {
    const NAME: &'static str = "spool_awaited";
    const LEVEL: Level = Level::Error;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("error", self.error);
    }
}

/// No space is left on the spool's disk, or there is again.
pub struct DiskFull {
    /// Whether it is full now.
    pub now: bool,
    /// Records given up since it was not.
    pub lost_records: u64,
}

impl Event for DiskFull {
    const NAME: &'static str = "spool_disk_full";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("now", self.now).put("lost_records", self.lost_records);
    }
}

/// The database did not open; a new one took over what reads.
pub struct SpoolDamaged<'a> {
    /// What was wrong.
    pub cause: &'a str,
    /// Where it lies now.
    pub moved_to: &'a Path,
    /// Records taken over.
    pub salvaged_records: u64,
    /// Promised records that did not read, if that is known.
    pub lost_records: Option<u64>,
}

impl Event for SpoolDamaged<'_> {
    const NAME: &'static str = "spool_damaged";
    const LEVEL: Level = Level::Error;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("cause", self.cause).put("moved_to", self.moved_to.display());
        fields.put("salvaged_records", self.salvaged_records);
        match self.lost_records {
            Some(n) => fields.put("lost_records", n),
            None => fields.put("lost_records", "unknown"),
        };
    }
}

/// A sealed database did not read; what could be found in it was taken over.
pub struct PartDamaged {
    /// Promised records that did not read; declared as a gap.
    pub lost_records: u64,
}

impl Event for PartDamaged {
    const NAME: &'static str = "spool_part_damaged";
    const LEVEL: Level = Level::Error;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("lost_records", self.lost_records);
    }
}

/// Databases could not be dropped, sealed or thinned out: the disk does not shrink for now.
pub struct TidyFailed<'a> {
    /// Why, with the next step.
    pub error: &'a str,
}

impl Event for TidyFailed<'_> {
    const NAME: &'static str = "spool_tidy_failed";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("error", self.error);
    }
}

/// The far side refuses a block for what it is; it lies in a file of its own now, and a gap stands in for it.
pub struct DeadLetter<'a> {
    /// The block.
    pub id: BlockId,
    /// MQTT 5 reason code.
    pub code: u8,
    /// The file.
    pub path: &'a Path,
}

impl Event for DeadLetter<'_> {
    const NAME: &'static str = "spool_dead_letter";
    const LEVEL: Level = Level::Error;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("lane", self.id.lane.name()).put("first", self.id.first).put("last", self.id.last);
        fields.put("code", self.code).put("path", self.path.display());
    }
    fn count(&self) {
        metrics::SPOOL_DEAD_LETTERS.inc();
    }
}

/// The oldest dead letter had to make room for a new one.
pub struct DeadLetterDropped<'a> {
    /// The file that was deleted.
    pub path: &'a Path,
}

impl Event for DeadLetterDropped<'_> {
    const NAME: &'static str = "spool_dead_letter_dropped";
    const LEVEL: Level = Level::Error;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("path", self.path.display());
    }
    fn count(&self) {
        metrics::SPOOL_DEAD_LETTERS_DROPPED.inc();
    }
}
