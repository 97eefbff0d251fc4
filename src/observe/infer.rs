//! Events of the `infer` room: small models and what runs them.

use std::fmt;

use super::{Event, Fields, Level, metrics};
use crate::accel::{Placement, Refused};

/// A small model is ready.
pub struct ModelReady<'a> {
    /// Its configured name.
    pub model: &'a str,
    /// What runs it.
    pub backend: &'a str,
    /// Which of its files.
    pub file: &'a str,
    /// First 16 hex digits of the file's SHA-256.
    pub id: &'a str,
    /// Operators on a device.
    pub placement: Placement,
    /// Largest difference from the golden vectors.
    pub golden_error: f64,
    /// Median time of a run.
    pub p50_us: u64,
}

impl Event for ModelReady<'_> {
    const NAME: &'static str = "model_ready";
    const LEVEL: Level = Level::Info;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("model", self.model).put("backend", self.backend).put("file", self.file);
        fields
            .put("id", self.id)
            .put("claimed", self.placement.claimed)
            .put("operators", self.placement.total);
        fields.put("golden_error", self.golden_error).put("p50_us", self.p50_us);
    }
}

/// A backend does not do for a small model; the next one takes over.
pub struct BackendRefused<'a> {
    /// The model's configured name.
    pub model: &'a str,
    /// Which backend, at which stage, why.
    pub refused: &'a Refused,
}

impl Event for BackendRefused<'_> {
    const NAME: &'static str = "backend_refused";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("model", self.model);
        put(fields, self.refused);
    }
}

/// A backend is not there for any small model, such as one whose library the machine lacks.
pub struct BackendMissing<'a> {
    /// Which backend, why.
    pub refused: &'a Refused,
}

impl Event for BackendMissing<'_> {
    const NAME: &'static str = "backend_missing";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        put(fields, self.refused);
    }
}

/// A backend failed on a frame; the next one gave the answer.
pub struct BackendFailed<'a> {
    /// The model's configured name.
    pub model: &'a str,
    /// Which backend, at which stage, why.
    pub refused: &'a Refused,
    /// It is not asked any more.
    pub quarantined: bool,
}

impl Event for BackendFailed<'_> {
    const NAME: &'static str = "backend_failed";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("model", self.model);
        put(fields, self.refused);
        fields.put("quarantined", self.quarantined);
    }
    fn count(&self) {
        metrics::INFER_BACKEND_FAILURES.inc();
        if self.quarantined {
            metrics::INFER_QUARANTINES.inc();
        }
    }
}

/// A small model can't be used; what it looks at is judged by the detectors alone.
pub struct ModelUnavailable<'a> {
    /// Its configured name.
    pub model: &'a str,
    /// Why, with the next step.
    pub reason: &'a dyn fmt::Display,
}

impl Event for ModelUnavailable<'_> {
    const NAME: &'static str = "model_unavailable";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("model", self.model).put("reason", self.reason);
    }
}

fn put(fields: &mut Fields<'_>, refused: &Refused) {
    fields.put("backend", &refused.backend).put("stage", refused.stage).put("reason", &refused.reason);
}
