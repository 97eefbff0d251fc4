//! Events of the `glm` room.

use crate::digest::{Digest, Engine};
use crate::observe::{Event, Fields, Level, metrics};

/// The language model is ready.
pub struct GlmLoaded<'a> {
    /// Its name: the first 16 hex digits of its SHA-256.
    pub model: &'a str,
    /// Time it took to load.
    pub load_ms: u64,
}

impl Event for GlmLoaded<'_> {
    const NAME: &'static str = "glm_loaded";
    const LEVEL: Level = Level::Info;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("model", self.model).put("load_ms", self.load_ms);
    }
}

/// The language model can't be used; the template words every digest.
pub struct GlmUnavailable<'a> {
    /// Why, with the next step.
    pub reason: &'a str,
}

impl Event for GlmUnavailable<'_> {
    const NAME: &'static str = "glm_unavailable";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("reason", self.reason);
    }
}

/// A digest has been worded, by whom and how fast.
pub struct DigestWorded<'a> {
    /// The digest.
    pub digest: &'a Digest,
}

impl Event for DigestWorded<'_> {
    const NAME: &'static str = "digest_worded";
    const LEVEL: Level = Level::Info;

    fn fields(&self, fields: &mut Fields<'_>) {
        let digest = self.digest;
        fields.put("id", digest.id).put("engine", digest.engine).put("verdict", digest.verdict);
        fields.put("cause", &digest.cause).put("events", digest.facts.events.len());
        match digest.engine {
            Engine::Template => fields.put("fallback_reason", &digest.fallback_reason),
            Engine::Glm => fields
                .put("prefill_us", digest.timing.prefill_us)
                .put("decode_us", digest.timing.decode_us)
                .put("answer_tokens", digest.timing.answer_tokens),
        };
    }

    fn count(&self) {
        match self.digest.engine {
            Engine::Template => metrics::DIGESTS_TEMPLATE.inc(),
            Engine::Glm => {
                metrics::DIGESTS_GLM.inc();
                metrics::DIGEST_ENCODE_US.set(self.digest.timing.encode_us.into());
                metrics::DIGEST_PREFILL_US.set(self.digest.timing.prefill_us.into());
                metrics::DIGEST_DECODE_US.set(self.digest.timing.decode_us.into());
            }
        }
    }
}
