//! One answer of a device's model: from bytes to what its listener is told, and when that ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::lock;
use crate::accel::{Telling, Told};
use crate::clock;
use crate::glm::constrain::{Grammar, Recogniser};
use crate::glm::generate::{Stops, Usage};
use crate::glm::speaker::{End, Listener, Said};
use crate::glm::tokenizer::Decoder;
use crate::limits;
use crate::time::Mono;

/// A conversation on its way.
pub(super) struct Errand {
    pub(super) telling: Telling,
    pub(super) form: Option<Grammar>,
    pub(super) stops: Vec<String>,
    pub(super) hearing: Arc<Hearing>,
}

/// Who listens to one answer, until it has ended.
pub(super) struct Hearing {
    pub(super) listener: Mutex<Option<Listener>>,
    pub(super) cancel: Arc<AtomicBool>,
    pub(super) deadline: Option<Mono>,
    pub(super) asked: Mono,
}

impl Hearing {
    /// Why it is to be ended at `now`, if it is.
    pub(super) fn due(&self, now: Mono) -> Option<End> {
        match self.deadline {
            _ if self.cancel.load(Ordering::Relaxed) => Some(End::Cancelled),
            Some(deadline) if now > deadline => Some(End::Late),
            _ => None,
        }
    }

    /// Whether nobody is told anything any more.
    pub(super) fn has_ended(&self) -> bool {
        lock(&self.listener).is_none()
    }

    fn say(&self, text: String) {
        if text.is_empty() {
            return;
        }
        // One that has ended was not cancelled by whoever listened.
        if let Some(listener) = lock(&self.listener).as_mut()
            && !listener(Said::Text(text))
        {
            self.cancel.store(true, Ordering::Relaxed);
        }
    }

    /// Says the end to whoever still listens.
    pub(super) fn end(&self, why: End, usage: Usage) {
        let mut listener = lock(&self.listener);
        if let Some(listener) = listener.as_mut() {
            listener(Said::End { why, usage });
        }
        // Only now: who finds that it has ended finds what came of it, too.
        *listener = None;
    }
}

/// An answer under way: from bytes to what its listener is told.
pub(super) struct Answer<'a> {
    errand: &'a Errand,
    decoder: Decoder,
    form: Option<Held>,
    stops: Stops,
    bytes: usize,
    pieces: u32,
    /// Why it is at an end here, whatever the runtime goes on to say.
    ended: Option<End>,
    begun: Mono,
    first: Option<Mono>,
}

/// A text that is held to a grammar, blanks around it aside: no model can be kept from ending its line.
struct Held {
    recogniser: Recogniser,
    /// Blanks that belong to the text if something comes behind them.
    blanks: String,
    has_begun: bool,
    /// Nothing more belongs to it.
    is_over: bool,
}

impl<'a> Answer<'a> {
    /// Before the first piece.
    pub(super) fn new(errand: &'a Errand) -> Self {
        Self {
            decoder: Decoder::default(),
            form: errand.form.as_ref().map(Held::new),
            stops: Stops::new(errand.stops.iter().cloned()),
            bytes: 0,
            pieces: 0,
            ended: None,
            begun: clock::mono(),
            first: None,
            errand,
        }
    }

    /// Takes a piece; whether another one is wanted.
    pub(super) fn take(&mut self, piece: &[u8]) -> bool {
        self.first.get_or_insert_with(clock::mono);
        self.bytes += piece.len();
        self.pieces += 1;
        let tokens_max = self.errand.telling.tokens_max;
        let bytes_max = (tokens_max as usize).saturating_mul(limits::LANGUAGE_TOKEN_BYTES_MAX);
        if self.pieces > tokens_max || self.bytes > bytes_max {
            // Who listens has room for so many.
            self.ended.get_or_insert(End::Length);
        }
        let text = self.decoder.push(piece).to_owned();
        self.hear(text);
        let hearing = &self.errand.hearing;
        if self.ended.is_none() {
            self.ended = hearing.due(clock::mono());
        }
        // Whoever waits need not wait for the runtime to see that it is over.
        if let Some(why) = self.ended.clone() {
            hearing.end(why, self.usage(&Told::default()));
        }
        self.ended.is_none() && !hearing.has_ended()
    }

    fn hear(&mut self, text: String) {
        if self.ended.is_some() {
            return;
        }
        let text = match &mut self.form {
            None => text,
            Some(held) => held.push(&text),
        };
        let text = self.stops.push(&text);
        self.errand.hearing.say(text);
        self.ended = match &self.form {
            _ if self.stops.has_stopped() => Some(End::Stop),
            Some(held) if held.is_over => Some(held.end()),
            _ => None,
        };
    }

    /// The runtime is done.
    pub(super) fn finish(mut self, told: Told) {
        let rest = self.decoder.finish().to_owned();
        self.hear(rest);
        if self.ended.is_none() {
            let rest = self.form.as_mut().map(Held::finish).unwrap_or_default();
            let rest = self.stops.push(&rest) + &self.stops.finish();
            self.errand.hearing.say(rest);
        }
        let why = match (self.ended.take(), &told.refused) {
            (_, Some(why)) => End::Refused(why.clone()),
            (Some(why), _) => why,
            (None, _) if told.is_cut => End::Length,
            (None, _) => self.form.as_ref().map_or(End::Stop, Held::end),
        };
        self.errand.hearing.end(why, self.usage(&told));
    }

    /// What there is to say of a runtime that did not get done in its time, though it had half of a digest's: the rest it may have
    /// waited for somebody else.
    pub(super) fn lateness(&self, budget: Duration) -> Option<String> {
        let took = clock::mono().since(self.begun);
        let is_late = self.ended == Some(End::Late) && took >= budget / 2;
        is_late.then(|| format!("an answer was not done after {took:?}, and glm.digest_budget is {budget:?}"))
    }

    fn usage(&self, told: &Told) -> Usage {
        let now = clock::mono();
        let micros = |from: Mono, to: Mono| u64::try_from(to.since(from).as_micros()).unwrap_or(u64::MAX);
        let first = self.first.unwrap_or(now);
        Usage {
            prompt_tokens: told.prompt_tokens,
            answer_tokens: if told.answer_tokens == 0 { self.pieces } else { told.answer_tokens },
            queued_us: micros(self.errand.hearing.asked, self.begun),
            prefill_us: micros(self.begun, first),
            decode_us: micros(first, now),
            ..Usage::default()
        }
    }
}

impl Held {
    fn new(grammar: &Grammar) -> Self {
        Self {
            recogniser: Recogniser::new(grammar.clone()),
            blanks: String::new(),
            has_begun: false,
            is_over: false,
        }
    }

    /// What of `text` is the answer's: all until the grammar does not allow what comes, blanks before it and behind it aside.
    fn push(&mut self, text: &str) -> String {
        let mut said = String::new();
        if self.is_over {
            return said;
        }
        for c in text.chars() {
            if c.is_whitespace() {
                self.blanks.extend(Some(c).filter(|_| self.has_begun));
                continue;
            }
            self.has_begun = true;
            let mut next = std::mem::take(&mut self.blanks);
            next.push(c);
            if self.recogniser.push(&next) {
                said.push_str(&next);
            } else {
                self.is_over = true;
                break;
            }
        }
        said
    }

    /// The text has ended: what was held back, if the grammar wants it.
    fn finish(&mut self) -> String {
        let blanks = std::mem::take(&mut self.blanks);
        if !self.recogniser.is_done() && self.recogniser.push(&blanks) { blanks } else { String::new() }
    }

    /// What the end of the text is worth.
    fn end(&self) -> End {
        if self.recogniser.is_done() { End::Stop } else { End::Failed(LEFT_ITS_FORM.into()) }
    }
}

const LEFT_ITS_FORM: &str = "the device's model does not keep to the form that was asked for; ask without it, or let the CPU's model answer (digest.model)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_around_a_text_are_not_held_to_its_grammar_and_those_within_are() {
        let mut held = Held::new(&Grammar::ebnf("root ::= \"a b\\nc\" \"!\"?").unwrap());
        let said: Vec<_> = [" \n", "a ", "b", "\n", "c\n", "\n "].map(|piece| held.push(piece)).into();
        assert_eq!(said, ["", "a", " b", "", "\nc", ""]);
        assert_eq!((held.end(), held.finish()), (End::Stop, String::new()));
        assert_eq!((held.push("And more."), held.is_over, held.end()), (String::new(), true, End::Stop));
        let mut lines = Held::new(&Grammar::ebnf("root ::= ( [a-z]+ \"\\n\" )+").unwrap());
        assert_eq!(
            (lines.push("a\nb\n"), lines.finish(), lines.end()),
            ("a\nb".into(), "\n".into(), End::Stop)
        );
        let mut other = Held::new(&Grammar::ebnf("root ::= \"yes\"").unwrap());
        assert_eq!((other.push("ye, "), other.is_over), ("ye".into(), true));
        assert!(matches!(other.end(), End::Failed(_)));
    }
}
