//! Events of the `aggregator` room.

use std::time::Duration;

use super::{Event, Fields, Level, metrics};
use crate::time::humane;
use crate::wire::BlockId;

/// The seat works: store open, pages served.
pub struct AggregatorReady<'a> {
    /// Address of the pages.
    pub pages: std::net::SocketAddr,
    /// The database.
    pub database: &'a std::path::Path,
    /// Devices known from before.
    pub devices: usize,
}

impl Event for AggregatorReady<'_> {
    const NAME: &'static str = "aggregator_ready";
    const LEVEL: Level = Level::Info;

    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("pages", format_args!("http://{}/", self.pages)).put("database", self.database.display());
        fields.put("devices", self.devices);
    }
}

/// A block is on disk; the order of these lines is the order of arrival.
pub struct BlockCommitted<'a> {
    /// Who sent it.
    pub device: &'a str,
    /// What it is.
    pub id: BlockId,
}

impl Event for BlockCommitted<'_> {
    const NAME: &'static str = "block_committed";
    const LEVEL: Level = Level::Debug;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields
            .put("device", self.device)
            .put("lane", self.id.lane)
            .put("first", self.id.first)
            .put("last", self.id.last);
    }
}

/// One transaction is on disk. Logged at debug: there are many.
pub struct BatchCommitted {
    /// Blocks with something new.
    pub blocks: u64,
    /// New records and declared losses.
    pub records: u64,
    /// Blocks that were known.
    pub duplicates: u64,
}

impl Event for BatchCommitted {
    const NAME: &'static str = "batch_committed";
    const LEVEL: Level = Level::Debug;

    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("blocks", self.blocks).put("records", self.records).put("duplicates", self.duplicates);
    }

    fn count(&self) {
        metrics::INTAKE_BLOCKS.add(self.blocks);
        metrics::INTAKE_RECORDS.add(self.records);
        metrics::INTAKE_DUPLICATES.add(self.duplicates);
    }
}

/// The database refused a transaction: nothing of it is acknowledged, the devices send it again.
pub struct CommitFailed<'a> {
    /// What it says.
    pub reason: &'a dyn std::fmt::Display,
    /// Blocks that were in it.
    pub blocks: usize,
}

impl Event for CommitFailed<'_> {
    const NAME: &'static str = "commit_failed";
    const LEVEL: Level = Level::Error;

    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("reason", self.reason).put("blocks", self.blocks);
    }
}

/// Messages that could not be understood; logged at most once in ten seconds, counted every time.
pub struct MessageMalformed<'a> {
    /// Its topic, shortened.
    pub topic: &'a str,
    /// What is wrong with the latest.
    pub reason: &'a dyn std::fmt::Display,
    /// How many since the last line.
    pub count: u64,
}

impl Event for MessageMalformed<'_> {
    const NAME: &'static str = "message_malformed";
    const LEVEL: Level = Level::Warn;

    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("topic", self.topic).put("reason", self.reason).put("count", self.count);
    }
}

/// A readable block that must not be kept; logged and counted like the malformed.
pub struct BlockRefused<'a> {
    /// Its topic, shortened.
    pub topic: &'a str,
    /// Why the latest was refused.
    pub reason: &'a dyn std::fmt::Display,
    /// How many since the last line.
    pub count: u64,
}

impl Event for BlockRefused<'_> {
    const NAME: &'static str = "block_refused";
    const LEVEL: Level = Level::Warn;

    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("topic", self.topic).put("reason", self.reason).put("count", self.count);
    }
}

/// A block of a newer device that is kept until a newer program reads it.
pub struct BlockUnread<'a> {
    /// Its device.
    pub device: &'a str,
    /// Its place.
    pub id: BlockId,
    /// What could not be read.
    pub why: &'a str,
}

impl Event for BlockUnread<'_> {
    const NAME: &'static str = "block_unread";
    const LEVEL: Level = Level::Warn;

    fn fields(&self, fields: &mut Fields<'_>) {
        fields
            .put("device", self.device)
            .put("lane", self.id.lane)
            .put("first", self.id.first)
            .put("last", self.id.last)
            .put("why", self.why)
            .put("next", "run a newer outpost aggregate, which reads it at its start");
    }

    fn count(&self) {
        metrics::INTAKE_UNREAD.inc();
    }
}

/// Blocks that an earlier program could not read are read now.
pub struct UnreadRead {
    /// How many.
    pub blocks: u64,
}

impl Event for UnreadRead {
    const NAME: &'static str = "unread_blocks_read";
    const LEVEL: Level = Level::Info;

    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("blocks", self.blocks);
    }
}

/// No heartbeat for too long.
pub struct DeviceSilent<'a> {
    /// Its name.
    pub device: &'a str,
    /// Since when.
    pub silent_for: Duration,
}

impl Event for DeviceSilent<'_> {
    const NAME: &'static str = "device_silent";
    const LEVEL: Level = Level::Warn;

    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("device", self.device).put("silent_for", humane(self.silent_for));
    }
}

/// A silent device is heard again.
pub struct DeviceHeard<'a> {
    /// Its name.
    pub device: &'a str,
}

impl Event for DeviceHeard<'_> {
    const NAME: &'static str = "device_heard";
    const LEVEL: Level = Level::Info;

    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("device", self.device);
    }
}

/// Every ledger was looked at.
pub struct LedgersRead {
    /// Devices whose ledger is not good.
    pub wrong: u64,
    /// Records that are missing and not declared, of all devices.
    pub undeclared: u64,
}

impl Event for LedgersRead {
    const NAME: &'static str = "ledgers_read";
    const LEVEL: Level = Level::Debug;

    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("wrong", self.wrong).put("undeclared_records", self.undeclared);
    }

    fn count(&self) {
        metrics::LEDGERS_WRONG.set(self.wrong);
        metrics::LEDGER_UNDECLARED.set(self.undeclared);
    }
}

/// The ledger of a device has become wrong; its page says what it is.
pub struct LedgerWrong<'a> {
    /// Its name.
    pub device: &'a str,
    /// Records that are missing and not declared.
    pub undeclared: u64,
}

impl Event for LedgerWrong<'_> {
    const NAME: &'static str = "ledger_wrong";
    const LEVEL: Level = Level::Error;

    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("device", self.device).put("undeclared_records", self.undeclared);
        fields.put("next", "outpost ledger");
    }
}
