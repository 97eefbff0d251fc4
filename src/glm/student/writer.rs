//! One digest from facts: prompt, decode under the grammar, render, verify.

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::digest::grammar::Grammar;
use crate::digest::prompt::NoSuchToken;
use crate::digest::verify::Unverified;
use crate::digest::{Digest, DigestTiming, Engine, Lang, prompt, render, template, verify};
use crate::facts::Facts;
use crate::glm::student::{Model, ModelError};
use crate::limits;
use crate::time::Mono;

/// Words digests with one loaded student.
pub struct Writer {
    model: Model,
}

/// Why the model did not word a digest.
#[derive(Debug, thiserror::Error)]
pub enum Unworded {
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The prompt needs a token that the vocabulary lacks.
    #[error(transparent)]
    Prompt(#[from] NoSuchToken),
    /// No event and at most one channel: the student has not learnt to say that reliably.
    #[error("there is too little to word")]
    TooLittle,
    /// The time was up.
    #[error("the time budget was exceeded")]
    OverBudget,
    /// The grammar had to end the text.
    #[error("the model did not come to an end")]
    Rambling,
    /// The text did not stand up to the facts.
    #[error(transparent)]
    Unverified(#[from] Unverified),
}

impl Writer {
    /// Takes a loaded student.
    pub fn new(model: Model) -> Self {
        Self { model }
    }

    /// Words `facts`; gives up once `deadline` has passed. Blocks for the time of the decoding, typically some ten
    /// milliseconds.
    pub fn word(&mut self, facts: &Facts, lang: Lang, id: u64, deadline: Mono) -> Result<Digest, Unworded> {
        if facts.events.is_empty() && facts.channels_normal < 2 {
            return Err(Unworded::TooLittle);
        }
        let started = clock::mono();
        let prompt = prompt::encode(self.model.vocab(), facts, lang)?;
        let encoded = clock::mono();
        let mut logits = self.model.prompt(&prompt)?.to_vec();
        let prefilled = clock::mono();
        let vocab = Arc::clone(self.model.vocab());
        let mut grammar = Grammar::new(&vocab, facts, lang);
        let mut tokens = Vec::with_capacity(limits::ANSWER_TOKENS_MAX);
        while let Some(token) = grammar.allowed().argmax(&logits) {
            // The mask holds the token, so the grammar takes it.
            if grammar.advance(token).is_err() || grammar.was_cut() {
                return Err(Unworded::Rambling);
            }
            tokens.push(token);
            if grammar.is_done() {
                break;
            }
            if clock::mono() > deadline {
                return Err(Unworded::OverBudget);
            }
            logits.clear();
            logits.extend_from_slice(self.model.step(token)?);
        }
        let text = render::text(&vocab, &tokens, facts, lang);
        verify::answer(&vocab, &tokens, grammar.verdict(), &text, facts, lang)?;
        let timing = DigestTiming {
            encode_us: micros(encoded.since(started)),
            prefill_us: micros(prefilled.since(encoded)),
            decode_us: micros(clock::mono().since(prefilled)),
            prompt_tokens: prompt.len() as u32,
            answer_tokens: tokens.len() as u32,
        };
        Ok(Digest {
            id,
            engine: Engine::Glm,
            model: self.model.id().to_owned(),
            fallback_reason: String::new(),
            lang,
            verdict: grammar.verdict(),
            cause: grammar.cause().name().to_owned(),
            text,
            facts: facts.clone(),
            timing,
        })
    }
}

/// The digest that always works: worded by the template because of `reason`.
pub fn by_template(facts: Facts, lang: Lang, id: u64, reason: &str) -> Digest {
    let quiet = facts.events.is_empty();
    Digest {
        id,
        engine: Engine::Template,
        model: String::new(),
        fallback_reason: reason.to_owned(),
        lang,
        verdict: facts.severity(),
        cause: if quiet { "none" } else { "unknown" }.to_owned(),
        text: template::text(&facts, lang),
        facts,
        timing: DigestTiming::default(),
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
