//! Events of the `glm` room.

use std::fmt;

use crate::digest::{Digest, Engine};
use crate::observe::{Event, Fields, Level, metrics};

/// The language model is ready.
pub struct GlmLoaded<'a> {
    /// Its name: the first 16 hex digits of its SHA-256.
    pub model: &'a str,
    /// Time it took to load.
    pub load_ms: u64,
    /// Memory that it may take, weights included; 0 where that is not known.
    pub memory_bytes: u64,
}

impl Event for GlmLoaded<'_> {
    const NAME: &'static str = "glm_loaded";
    const LEVEL: Level = Level::Info;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("model", self.model).put("load_ms", self.load_ms).put("memory_bytes", self.memory_bytes);
    }
    fn count(&self) {
        metrics::GLM_LOADS.inc();
        metrics::GLM_LOADED.set(1);
        metrics::GLM_MEMORY_BYTES.set(self.memory_bytes);
    }
}

/// The language model has given its memory back.
pub struct GlmUnloaded<'a> {
    /// Its name.
    pub model: &'a str,
    /// Why.
    pub reason: &'a str,
}

impl Event for GlmUnloaded<'_> {
    const NAME: &'static str = "glm_unloaded";
    const LEVEL: Level = Level::Info;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("model", self.model).put("reason", self.reason);
    }
    fn count(&self) {
        metrics::GLM_UNLOADS.inc();
        metrics::GLM_LOADED.set(0);
        metrics::GLM_MEMORY_BYTES.set(0);
    }
}

/// The language model begins to wait, or goes on.
pub struct GlmPaused<'a> {
    /// Why it waits; none: it goes on.
    pub reason: Option<&'a dyn fmt::Display>,
}

impl Event for GlmPaused<'_> {
    const NAME: &'static str = "glm_paused";
    const LEVEL: Level = Level::Warn;
    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("paused", self.reason.is_some());
        if let Some(reason) = self.reason {
            fields.put("reason", reason);
        }
    }
    fn count(&self) {
        metrics::GLM_PAUSED.set(u64::from(self.reason.is_some()));
        if self.reason.is_some() {
            metrics::GLM_PAUSES.inc();
        }
    }
}

/// How a job of the language model ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEnd {
    /// With words.
    Done,
    /// The model or its words did not do.
    Failed,
    /// Its time was up.
    Late,
    /// Nobody wanted the rest.
    Cancelled,
    /// Too many waited, or there was no model.
    Refused,
}

/// A job of the language model is over.
pub struct GlmJob<'a> {
    /// What it was: `digest`, `ask`, `chat`.
    pub kind: &'static str,
    /// How it ended.
    pub end: JobEnd,
    /// Why, where it did not end with words; empty otherwise.
    pub reason: &'a str,
    /// From the request to the beginning of the work.
    pub wait_us: u64,
    /// Reading the prompt.
    pub prefill_us: u64,
    /// Writing the answer.
    pub decode_us: u64,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Of those, tokens that had been read before.
    pub cached_tokens: u64,
    /// Tokens of the answer.
    pub answer_tokens: u64,
}

impl Event for GlmJob<'_> {
    const NAME: &'static str = "glm_job";
    const LEVEL: Level = Level::Debug;

    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("kind", self.kind).put("end", format_args!("{:?}", self.end));
        if !self.reason.is_empty() {
            fields.put("reason", self.reason);
        }
        fields
            .put("wait_us", self.wait_us)
            .put("prefill_us", self.prefill_us)
            .put("decode_us", self.decode_us);
        fields.put("prompt_tokens", self.prompt_tokens).put("cached_tokens", self.cached_tokens);
        fields.put("answer_tokens", self.answer_tokens);
    }

    fn count(&self) {
        match self.end {
            JobEnd::Done => metrics::GLM_DONE.inc(),
            JobEnd::Failed => metrics::GLM_FAILED.inc(),
            JobEnd::Late => metrics::GLM_LATE.inc(),
            JobEnd::Cancelled => metrics::GLM_CANCELLED.inc(),
            JobEnd::Refused => metrics::GLM_REFUSED.inc(),
        }
        metrics::GLM_WAIT_US.add(self.wait_us);
        metrics::GLM_PREFILL_US.add(self.prefill_us);
        metrics::GLM_DECODE_US.add(self.decode_us);
        metrics::GLM_TOKENS_PROMPT.add(self.prompt_tokens);
        metrics::GLM_TOKENS_CACHED.add(self.cached_tokens);
        metrics::GLM_TOKENS_ANSWER.add(self.answer_tokens);
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
