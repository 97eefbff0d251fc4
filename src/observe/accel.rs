//! Events of the `accel` room: what devices compute of a graph, and models that they run whole.

use std::time::Duration;

use super::{Event, Fields, Level, metrics};
use crate::accel::claim::Verified;
use crate::accel::{Placement, Refused};

/// A phase of the student has its place: on a device, or on the CPU for a reason.
pub struct GlmPlaced<'a> {
    /// The configured name of the accelerator.
    pub device: &'a str,
    /// `prefill` or `decode`.
    pub phase: &'static str,
    /// Operators on the device; none: the phase runs on the CPU.
    pub placement: Placement,
    /// Fewest tokens of a run on the device.
    pub tokens_min: usize,
    /// Most tokens of a run on the device.
    pub tokens_max: usize,
    /// How the device did, if it came so far.
    pub verified: Option<Verified>,
    /// The first reason why it does not compute more.
    pub refused: Option<&'a Refused>,
}

impl Event for GlmPlaced<'_> {
    const NAME: &'static str = "glm_placed";
    const LEVEL: Level = Level::Info;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields
            .put("device", self.device)
            .put("phase", self.phase)
            .put("claimed", self.placement.claimed)
            .put("operators", self.placement.total);
        if self.placement.claimed > 0 {
            fields.put("tokens_min", self.tokens_min).put("tokens_max", self.tokens_max);
        }
        if let Some(Verified { error, device_p50, cpu_p50 }) = self.verified {
            fields
                .put("golden_error", error)
                .put("p50_us", device_p50.as_micros())
                .put("cpu_p50_us", cpu_p50.as_micros());
        }
        if let Some(refused) = self.refused {
            fields.put("stage", refused.stage).put("reason", &refused.reason);
        }
    }
}

/// A vendor's runtime has loaded a language model and says something.
pub struct TellerReady<'a> {
    /// What people call the model.
    pub model: &'a str,
    /// The configured name of the accelerator.
    pub device: &'a str,
    /// How many of the model's layers the device runs.
    pub placement: Placement,
    /// Time it took to load.
    pub load: Duration,
    /// Time for the few words that it was tried with.
    pub first_words: Duration,
}

impl Event for TellerReady<'_> {
    const NAME: &'static str = "glm_device_ready";
    const LEVEL: Level = Level::Info;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields
            .put("model", self.model)
            .put("backend", self.device)
            .put("claimed", self.placement.claimed)
            .put("layers", self.placement.total)
            .put("load_ms", self.load.as_millis())
            .put("first_words_ms", self.first_words.as_millis());
    }
}

/// A vendor's runtime does not do for a language model; the CPU's models answer.
pub struct TellerFailed<'a> {
    /// What people call the model.
    pub model: &'a str,
    /// Which accelerator, at which stage, why.
    pub refused: &'a Refused,
    /// It is not asked any more.
    pub quarantined: bool,
}

impl Event for TellerFailed<'_> {
    const NAME: &'static str = "glm_device_failed";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        let Refused { backend, stage, reason } = self.refused;
        fields.put("model", self.model).put("backend", backend).put("stage", stage).put("reason", reason);
        fields.put("quarantined", self.quarantined);
    }
    fn count(&self) {
        metrics::INFER_BACKEND_FAILURES.inc();
        if self.quarantined {
            metrics::INFER_QUARANTINES.inc();
        }
    }
}
