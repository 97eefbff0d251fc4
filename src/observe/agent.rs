//! Events of the gateway seat.

use std::fmt::Display;
use std::time::Duration;

use super::metrics;
use super::{Event, Fields, Level};
use crate::episode::{EpisodeUpdate, Phase};
use crate::time::{Wall, humane};
use crate::wire::{BlockId, ClockFix, Lane};

/// The agent is ready to take readings.
pub struct AgentStarted<'a> {
    /// Device name.
    pub device: &'a str,
    /// Address of the status page.
    pub http: &'a dyn Display,
    /// How long the start took, in milliseconds.
    pub start_ms: u64,
}

impl Event for AgentStarted<'_> {
    const NAME: &'static str = "agent_started";
    const LEVEL: Level = Level::Info;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("device", self.device).put("http", self.http).put("start_ms", self.start_ms);
    }
}

/// The agent stops in good order.
pub struct AgentStopped {
    /// Records that stay in the spool for the next start.
    pub pending: u64,
}

impl Event for AgentStopped {
    const NAME: &'static str = "agent_stopped";
    const LEVEL: Level = Level::Info;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("pending_records", self.pending);
    }
}

/// The service manager cannot be told how the agent is; it may restart it.
pub struct ManagerNotTold<'a> {
    /// Why.
    pub reason: &'a dyn Display,
}

impl Event for ManagerNotTold<'_> {
    const NAME: &'static str = "manager_not_told";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("reason", self.reason);
    }
}

/// A packet from the broker was dropped.
pub struct PacketMalformed<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// What is wrong with it.
    pub why: &'a dyn Display,
}

impl Event for PacketMalformed<'_> {
    const NAME: &'static str = "packet_malformed";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("topic", self.topic).put("why", self.why);
    }
    fn count(&self) {
        metrics::PACKETS_MALFORMED.inc();
    }
}

/// The broker refused a block; it stays in the spool.
pub struct BlockRefused {
    /// The block.
    pub id: BlockId,
    /// MQTT 5 reason code.
    pub code: u8,
    /// Whether it waits for the next connection.
    pub set_aside: bool,
}

impl Event for BlockRefused {
    const NAME: &'static str = "block_refused";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields
            .put("lane", self.id.lane)
            .put("first", self.id.first)
            .put("last", self.id.last)
            .put("code", format_args!("{:#04x}", self.code))
            .put("set_aside", self.set_aside);
    }
}

/// The broker has nobody who is subscribed to blocks; they wait in the spool.
pub struct NobodyListens<'a> {
    /// Above the topics of blocks.
    pub topic: &'a str,
    /// Which.
    pub lanes: &'a str,
}

impl Event for NobodyListens<'_> {
    const NAME: &'static str = "nobody_listens";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        let next = "see that an aggregator runs, connected to this broker, with the same mqtt.prefix";
        fields.put("topic", self.topic).put("lanes", self.lanes).put("next", next);
    }
}

/// An acknowledgement names records that were never stored: this spool's disk was rolled back, or the sender errs.
pub struct AckBeyondTail {
    /// The lane.
    pub lane: Lane,
    /// What was acknowledged.
    pub through: u64,
}

impl Event for AckBeyondTail {
    const NAME: &'static str = "ack_beyond_tail";
    const LEVEL: Level = Level::Error;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("lane", self.lane).put("through", self.through);
    }
}

/// The wall clock was set while the agent ran.
pub struct ClockStepped {
    /// By how much, in milliseconds; negative is back.
    pub step_ms: i64,
}

impl Event for ClockStepped {
    const NAME: &'static str = "clock_stepped";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("step_ms", self.step_ms);
    }
}

/// An episode began or ended.
pub struct EpisodeStep<'a> {
    /// The step.
    pub step: &'a EpisodeUpdate,
}

impl Event for EpisodeStep<'_> {
    const NAME: &'static str = "episode";
    const LEVEL: Level = Level::Info;
    fn fields(&self, fields: &mut Fields<'_>) {
        let step = self.step;
        fields
            .put("id", step.id)
            .put("phase", step.phase)
            .put("severity", step.severity)
            .put("channel", &step.channel)
            .put("pattern", step.pattern)
            .put("reason", &step.reason);
    }
    fn count(&self) {
        if self.step.phase == Phase::Opened {
            metrics::EPISODES.inc();
        }
    }
}

/// A question was answered.
pub struct QuestionAnswered {
    /// It was one about what happened.
    pub understood: bool,
    /// Events in the answer.
    pub events: usize,
    /// From the request to the answer.
    pub took: Duration,
}

impl Event for QuestionAnswered {
    const NAME: &'static str = "question_answered";
    const LEVEL: Level = Level::Info;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("understood", self.understood).put("events", self.events);
        fields.put("took_us", self.took.as_micros());
    }
    fn count(&self) {
        metrics::QUESTIONS.inc();
    }
}

/// A heartbeat goes out without what should be on it.
pub struct HeartbeatBare<'a> {
    /// `unsigned` or `uncounted`.
    pub what: &'static str,
    /// Why.
    pub reason: &'a dyn Display,
}

impl Event for HeartbeatBare<'_> {
    const NAME: &'static str = "heartbeat_bare";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("what", self.what).put("reason", self.reason);
    }
}

/// It is known now where a boot stands in time.
pub struct BootPlaced<'a> {
    /// Where.
    pub fix: &'a ClockFix,
}

impl Event for BootPlaced<'_> {
    const NAME: &'static str = "boot_placed";
    const LEVEL: Level = Level::Info;
    fn fields(&self, fields: &mut Fields<'_>) {
        let sure = self.fix.known_uncertainty_us().map(|us| humane(Duration::from_micros(us)));
        fields.put("boot", self.fix.boot).put("began", Wall(self.fix.offset_us).rfc3339());
        fields.put("give_or_take", sure.as_deref().unwrap_or("nobody knows"));
    }
}

/// The budget of the line allows less, or more again.
pub struct FidelityChanged {
    /// How finely the far side is told from now on.
    pub fidelity: &'static str,
    /// Bytes used today.
    pub used_bytes: u64,
    /// Bytes that a day may have.
    pub bytes_per_day: u64,
}

impl Event for FidelityChanged {
    const NAME: &'static str = "fidelity_changed";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("fidelity", self.fidelity).put("used_bytes", self.used_bytes);
        fields.put("bytes_per_day", self.bytes_per_day);
    }
}

/// A block could not be read from the spool; it is asked for again.
pub struct FetchFailed<'a> {
    /// Its lane.
    pub lane: Lane,
    /// Why, with the next step.
    pub error: &'a dyn Display,
}

impl Event for FetchFailed<'_> {
    const NAME: &'static str = "fetch_failed";
    const LEVEL: Level = Level::Error;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("lane", self.lane.name()).put("error", self.error);
    }
}

/// The day's count of bytes could not be written; it is tried again.
pub struct MeterNotKept<'a> {
    /// Why.
    pub reason: &'a dyn Display,
}

impl Event for MeterNotKept<'_> {
    const NAME: &'static str = "meter_not_kept";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("reason", self.reason);
    }
}

/// The book of boots could not be written; it is tried again.
pub struct BootsNotKept<'a> {
    /// Why.
    pub reason: &'a dyn Display,
}

impl Event for BootsNotKept<'_> {
    const NAME: &'static str = "boots_not_kept";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("reason", self.reason);
    }
}

/// Another configuration applies to a running agent.
pub struct ConfigurationApplied<'a> {
    /// Sources that go on untouched.
    pub kept: usize,
    /// Sources that end.
    pub stopped: usize,
    /// Sources that begin, those that were changed included.
    pub started: usize,
    /// What waits for a restart, parted by blanks.
    pub restart: &'a str,
}

impl Event for ConfigurationApplied<'_> {
    const NAME: &'static str = "configuration_applied";
    const LEVEL: Level = Level::Info;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("kept", self.kept).put("stopped", self.stopped).put("started", self.started);
        fields.put("restart_needed_for", self.restart);
    }
}

/// Another configuration was there and can't be used; the agent goes on with the old one.
pub struct ConfigurationRefused<'a> {
    /// Every mistake, with the next step.
    pub problems: &'a str,
}

impl Event for ConfigurationRefused<'_> {
    const NAME: &'static str = "configuration_refused";
    const LEVEL: Level = Level::Error;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("problems", self.problems);
    }
}

/// A source can't be started, or has failed; it is tried again, and told again when the reason is another one.
pub struct SourceNotRunning<'a> {
    /// Its name.
    pub source: &'a str,
    /// Why, with the next step.
    pub error: &'a str,
}

impl Event for SourceNotRunning<'_> {
    const NAME: &'static str = "source_not_running";
    const LEVEL: Level = Level::Error;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("source", self.source).put("error", self.error);
    }
}
