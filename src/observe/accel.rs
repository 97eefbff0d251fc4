//! Events of the `accel` room: what devices compute of a graph.

use super::{Event, Fields, Level};
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
