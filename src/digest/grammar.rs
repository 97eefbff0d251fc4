//! What the model may write next: a state machine that no logits can push off the road.
//!
//! Verdict (never below the rules' floor), then cause, then text in one language, then the end. In the text a slot is open
//! only if these facts fill it; a figure of an event only while that event's channel is the last one named in the sentence,
//! so a sibling's figure can't be picked; after an asset only a channel of that asset. The first mention of a channel opens a
//! clause, which follows one of the event's own phrases ([`crate::digest::clauses`]): what fell can't be said to have risen. The
//! end opens when a sentence is complete and everything that must be said has been said.
//! [`limits::ANSWER_RESERVE_TOKENS`] before the length bound the grammar closes the text itself, so it always ends.

use std::sync::Arc;

use crate::digest::mask::TokenMask;
use crate::digest::slots::{Role, Slot};
use crate::digest::vocab::{Cause, Kind, TokenId, Vocab};
use crate::digest::{Lang, prompt};
use crate::facts::Facts;
use crate::limits;
use crate::reading::Severity;

/// A token that the grammar did not allow; the caller's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("token {0} is not allowed here")]
pub struct NotAllowed(pub TokenId);

/// The state of one answer.
#[derive(Debug, Clone)]
pub struct Grammar {
    vocab: Arc<Vocab>,
    lang: Lang,
    floor: Severity,
    /// No events: nothing has a cause.
    is_quiet: bool,
    stage: Stage,
    allowed: TokenMask,
    /// Slots that these facts fill, with their tokens.
    open_slots: Vec<(TokenId, Slot)>,
    /// What must be said before the end, in the order in which it would be said.
    pending: Vec<Slot>,
    /// The event whose channel was named last in this sentence.
    subject: Option<usize>,
    /// In which clauses each event may be told.
    phrases: Vec<Vec<Vec<TokenId>>>,
    /// The clause under way: its event and what has been said of it, the channel first.
    clause: Option<(usize, Vec<TokenId>)>,
    /// Which events belong together.
    groups: Vec<Vec<usize>>,
    /// The first event of the asset that was named while none of its channels has been named since.
    asset: Option<usize>,
    previous: Option<TokenId>,
    at_sentence_start: bool,
    closing: bool,
    length: usize,
    verdict: Severity,
    cause: Cause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Verdict,
    Cause,
    Text,
    Done,
}

impl Grammar {
    /// A fresh answer about `facts` in `lang`.
    pub fn new(vocab: &Arc<Vocab>, facts: &Facts, lang: Lang) -> Self {
        let open_slots = vocab
            .tokens()
            .filter_map(|(id, kind)| match kind {
                Kind::Slot(slot) if is_told(slot, facts) => slot.fill(facts, lang).map(|_| (id, slot)),
                _ => None,
            })
            .collect();
        let mut grammar = Self {
            vocab: Arc::clone(vocab),
            lang,
            floor: facts.severity(),
            is_quiet: facts.events.is_empty(),
            stage: Stage::Verdict,
            allowed: TokenMask::none(vocab.len()),
            open_slots,
            pending: must_be_said(facts),
            subject: None,
            phrases: phrases(vocab, facts, lang),
            clause: None,
            groups: prompt::groups(facts),
            asset: None,
            previous: None,
            at_sentence_start: true,
            closing: false,
            length: 0,
            verdict: facts.severity(),
            cause: Cause::Unknown,
        };
        grammar.refresh();
        grammar
    }

    /// The tokens that may come next; empty once the answer is done.
    pub fn allowed(&self) -> &TokenMask {
        &self.allowed
    }

    /// Takes the next token.
    pub fn advance(&mut self, token: TokenId) -> Result<(), NotAllowed> {
        if !self.allowed.contains(token) {
            return Err(NotAllowed(token));
        }
        self.length += 1;
        self.follow_clause(token);
        match (self.stage, self.vocab.kind(token)) {
            (_, Kind::Verdict(verdict)) => (self.verdict, self.stage) = (verdict, Stage::Cause),
            (_, Kind::Cause(cause)) => (self.cause, self.stage) = (cause, Stage::Text),
            (_, Kind::End) => self.stage = Stage::Done,
            (_, Kind::Slot(slot)) => self.say(slot),
            _ => self.at_sentence_start = false,
        }
        if self.vocab.ends_sentence(token) {
            (self.at_sentence_start, self.subject) = (true, None);
        }
        self.previous = Some(token);
        let room = limits::ANSWER_TOKENS_MAX.saturating_sub(self.length);
        self.closing |= self.stage != Stage::Done && room <= limits::ANSWER_RESERVE_TOKENS;
        self.refresh();
        Ok(())
    }

    /// Whether the answer has ended.
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Whether the end may come next.
    pub fn may_end(&self) -> bool {
        self.allowed.contains(self.vocab.end())
    }

    /// Whether the grammar had to close the text because the model did not: what it wrote is not worth reading.
    pub fn was_cut(&self) -> bool {
        self.closing
    }

    /// The verdict so far; the rules' floor until the model has spoken.
    pub fn verdict(&self) -> Severity {
        self.verdict
    }

    /// The cause so far; [`Cause::Unknown`] until the model has spoken.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// The first time an event's channel is named its clause begins; the mark after a whole phrase ends it.
    fn follow_clause(&mut self, token: TokenId) {
        match (&mut self.clause, self.vocab.kind(token)) {
            (Some((event, said)), _) => {
                said.push(token);
                if !self.phrases[*event].iter().any(|phrase| phrase.starts_with(said)) {
                    self.clause = None;
                }
            }
            (None, Kind::Slot(slot @ Slot::Event(event, Role::Channel))) if self.pending.contains(&slot) => {
                let told = self.phrases.get(event).is_some_and(|phrases| !phrases.is_empty());
                self.clause = told.then(|| (event, vec![token]));
            }
            _ => {}
        }
    }

    /// What may follow within a clause: the next token of a phrase, or after a whole one the mark that parts or ends.
    fn allow_clause(&self, mask: &mut TokenMask, event: usize, said: &[TokenId]) {
        for phrase in self.phrases[event].iter().filter(|phrase| phrase.starts_with(said)) {
            match phrase.get(said.len()) {
                Some(&next) => mask.set(next, true),
                None => self.vocab.clause_ends(self.lang).for_each(|mark| mask.set(mark, true)),
            }
        }
    }

    fn say(&mut self, slot: Slot) {
        self.pending.retain(|&other| other != slot);
        match slot {
            Slot::Event(index, Role::Channel) => (self.subject, self.asset) = (Some(index), None),
            Slot::Event(index, Role::Asset) => self.asset = Some(index),
            _ => {}
        }
        self.at_sentence_start = false;
    }

    fn refresh(&mut self) {
        let mut mask = TokenMask::none(self.vocab.len());
        match self.stage {
            Stage::Verdict => {
                self.allow(&mut mask, |g, kind| matches!(kind, Kind::Verdict(v) if v >= g.floor))
            }
            Stage::Cause => self.allow(&mut mask, |g, kind| match kind {
                Kind::Cause(cause) => (cause == Cause::None) == g.is_quiet,
                _ => false,
            }),
            Stage::Text if self.closing => self.allow_closing(&mut mask),
            Stage::Text => match &self.clause {
                Some((event, said)) => self.allow_clause(&mut mask, *event, said),
                None => self.allow_text(&mut mask),
            },
            Stage::Done => {}
        }
        self.allowed = mask;
    }

    fn allow(&self, mask: &mut TokenMask, wanted: impl Fn(&Self, Kind) -> bool) {
        for (id, kind) in self.vocab.tokens() {
            if wanted(self, kind) {
                mask.set(id, true);
            }
        }
    }

    fn allow_text(&self, mask: &mut TokenMask) {
        let after_mark = self.previous.is_some_and(|p| matches!(self.vocab.kind(p), Kind::Mark(_)));
        self.allow(mask, |g, kind| match kind {
            Kind::Word(lang) => lang == g.lang,
            Kind::Mark(lang) => lang == g.lang && !g.at_sentence_start && !after_mark,
            _ => false,
        });
        for &(id, slot) in &self.open_slots {
            mask.set(id, self.may_say(slot));
        }
        // Nothing in either language repeats a token at once; a model that does has lost the thread.
        if let Some(previous) = self.previous {
            mask.set(previous, false);
        }
        let complete = self.at_sentence_start && self.pending.is_empty() && self.length > 2;
        mask.set(self.vocab.end(), complete);
    }

    /// One token only: what is still to be said, a comma between, a full stop, the end.
    fn allow_closing(&self, mask: &mut TokenMask) {
        let after_slot = self.previous.is_some_and(|p| matches!(self.vocab.kind(p), Kind::Slot(_)));
        let next = match self.pending.first() {
            Some(_) if after_slot => self.vocab.comma(self.lang),
            Some(&slot) => self.open_slots.iter().find(|(_, s)| *s == slot).map(|&(id, _)| id),
            None if self.at_sentence_start && self.length > 2 => Some(self.vocab.end()),
            None => self.vocab.full_stop(self.lang),
        };
        // A vocabulary that parsed holds all of these; the end is right for one that does not.
        mask.set(next.unwrap_or(self.vocab.end()), true);
    }

    fn may_say(&self, slot: Slot) -> bool {
        match slot {
            Slot::Event(index, Role::Asset) => {
                self.groups.iter().any(|members| members.first() == Some(&index))
            }
            Slot::Event(index, Role::Channel) => self.asset.is_none_or(|asset| {
                self.groups.iter().any(|members| members.contains(&asset) && members.contains(&index))
            }),
            Slot::Event(index, _) => self.subject == Some(index),
            _ => true,
        }
    }
}

fn phrases(vocab: &Vocab, facts: &Facts, lang: Lang) -> Vec<Vec<Vec<TokenId>>> {
    let events = facts.events.iter().take(limits::FACT_EVENTS_MAX).enumerate();
    events.map(|(index, event)| vocab.clauses().phrases(vocab, event, index, lang)).collect()
}

/// Whether the prompt speaks of it: what the model was not told of, it may not mention.
fn is_told(slot: Slot, facts: &Facts) -> bool {
    match slot {
        Slot::Event(index, role) => facts.events.get(index).is_some_and(|e| prompt::tells(e, role)),
        Slot::Lost => facts.outage.as_ref().is_some_and(|o| o.records_lost > 0),
        Slot::Normal => facts.channels_normal > 1,
        _ => true,
    }
}

/// Every channel; the outage with what it cost; how much is not listed; how many channels were normal.
fn must_be_said(facts: &Facts) -> Vec<Slot> {
    let outage = facts.outage.as_ref();
    let mut slots: Vec<Slot> = outage.map(|_| Slot::OutageDuration).into_iter().collect();
    slots.extend(outage.filter(|o| o.records_lost > 0).map(|_| Slot::Lost));
    slots.extend((0..facts.events.len().min(limits::FACT_EVENTS_MAX)).map(|i| Slot::Event(i, Role::Channel)));
    slots.extend((facts.events_more > 0).then_some(Slot::More));
    slots.extend((facts.channels_normal > 1).then_some(Slot::Normal));
    slots
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{render, testing, verify};
    use crate::facts::EventFact;

    /// Writes an answer by `logits`, which is told the step.
    fn write(
        vocab: &Arc<Vocab>,
        facts: &Facts,
        lang: Lang,
        mut logits: impl FnMut() -> Vec<f32>,
    ) -> (Vec<TokenId>, Severity) {
        let mut grammar = Grammar::new(vocab, facts, lang);
        let mut tokens = Vec::new();
        while !grammar.is_done() {
            let token = grammar.allowed().argmax(&logits()).expect("nothing is allowed");
            grammar.advance(token).unwrap();
            tokens.push(token);
            assert!(tokens.len() <= limits::ANSWER_TOKENS_MAX, "no end");
        }
        (tokens, grammar.verdict())
    }

    #[test]
    fn any_logits_give_an_answer_that_ends_verifies_and_mentions_everything() {
        let vocab = testing::vocab();
        for seed in 0..1000 {
            let facts = testing::facts(seed);
            let lang = Lang::ALL[seed as usize % 2];
            let mut rng = fastrand::Rng::with_seed(seed);
            let (tokens, verdict) =
                write(&vocab, &facts, lang, || (0..vocab.len()).map(|_| rng.f32() - 0.5).collect());
            let text = render::text(&vocab, &tokens, &facts, lang);
            verify::answer(&vocab, &tokens, verdict, &text, &facts, lang)
                .unwrap_or_else(|e| panic!("seed {seed}: {e}: {text}"));
        }
    }

    #[test]
    fn logits_that_are_no_numbers_or_too_few_still_give_an_answer() {
        let vocab = testing::vocab();
        let facts = testing::hot_bearing();
        for logits in [vec![f32::NAN; vocab.len()], vec![f32::NEG_INFINITY; vocab.len()], Vec::new()] {
            let (tokens, verdict) = write(&vocab, &facts, Lang::En, || logits.clone());
            assert_eq!((tokens.last(), verdict), (Some(&vocab.end()), Severity::Critical));
        }
    }

    #[test]
    fn the_verdict_is_never_below_the_floor() {
        let vocab = testing::vocab();
        let grammar = Grammar::new(&vocab, &testing::hot_bearing(), Lang::En);
        let open: Vec<&str> = grammar.allowed().iter().map(|id| vocab.text(id)).collect();
        assert_eq!(open, ["verdict:critical"]);
    }

    /// Two events of one asset and one of none, all alike.
    fn three_hot_bearings() -> Facts {
        let mut facts = testing::hot_bearing();
        facts.events.push(facts.events[0].clone());
        facts.events.push(EventFact { asset: None, ..facts.events[0].clone() });
        facts
    }

    #[test]
    fn an_event_is_told_in_its_own_clauses_with_its_own_figures() {
        let vocab = testing::vocab();
        let facts = three_hot_bearings();
        let phrases = |index: usize| vocab.clauses().phrases(&vocab, &facts.events[index], index, Lang::En);
        for (first, second) in [(0, 1), (1, 0)] {
            let mut grammar = Grammar::new(&vocab, &facts, Lang::En);
            let mut take = |text: &str| grammar.advance(vocab.id(text).unwrap());
            for token in ["verdict:critical", "cause:unknown", "<a1>", ":"] {
                take(token).unwrap();
            }
            assert!(take("<c3>").is_err(), "the third belongs to no asset");
            for (index, form) in [(0, first), (1, second)] {
                let phrase = phrases(index)[form].clone();
                grammar.advance(phrase[0]).unwrap();
                for &token in &phrase[1..] {
                    for foreign in ["<p3>", "<c2>", "fallen", "low", "stuck"] {
                        let foreign = vocab.id(foreign).unwrap();
                        assert!(foreign == token || !grammar.allowed().contains(foreign));
                    }
                    grammar.advance(token).unwrap();
                }
                let mark = if index == 0 { ";" } else { "." };
                grammar.advance(vocab.id(mark).unwrap()).unwrap();
            }
            let mut take = |text: &str| grammar.advance(vocab.id(text).unwrap());
            assert!(take("<p2>").is_err(), "a new sentence names its channel anew");
            assert!(take("<a2>").is_err(), "an asset goes by its first event");
        }
    }

    #[test]
    fn nothing_ends_before_the_last_event_and_the_normal_channels_are_told() {
        let vocab = testing::vocab();
        let facts = three_hot_bearings();
        let mut grammar = Grammar::new(&vocab, &facts, Lang::En);
        for token in ["verdict:critical", "cause:unknown"] {
            grammar.advance(vocab.id(token).unwrap()).unwrap();
        }
        for (index, event) in facts.events.iter().enumerate() {
            for token in vocab.clauses().phrases(&vocab, event, index, Lang::En).remove(0) {
                grammar.advance(token).unwrap();
            }
            grammar.advance(vocab.id(".").unwrap()).unwrap();
        }
        let mut take = |text: &str| grammar.advance(vocab.id(text).unwrap());
        assert!(take("<eos>").is_err(), "how many channels were normal is still to be said");
        take("<normal>").unwrap();
        take(".").unwrap();
        take("<eos>").unwrap();
    }

    #[test]
    fn nothing_ends_before_everything_is_said() {
        let vocab = testing::vocab();
        let mut grammar = Grammar::new(&vocab, &testing::hot_bearing(), Lang::Zh);
        for token in ["verdict:critical", "cause:unknown", "无需", "处理", "。"] {
            grammar.advance(vocab.id(token).unwrap()).unwrap();
        }
        assert!(!grammar.allowed().contains(vocab.end()));
        assert!(grammar.allowed().contains(vocab.id("<c1>").unwrap()));
        assert!(!grammar.allowed().contains(vocab.id("The").unwrap()), "the other language's words are shut");
        assert!(!grammar.allowed().contains(vocab.id("<k1>").unwrap()), "no count was told");
    }
}
