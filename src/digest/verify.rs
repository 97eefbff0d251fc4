//! The second opinion on a text before it is promised: reads the finished text against the facts.
//!
//! It shares nothing with the renderer or the grammar but the slots: it parses the text back, token by token, and it
//! accounts for every digit in it. A text that it refuses is worded by the template instead.

use crate::digest::slots::{Role, Slot, channel_name};
use crate::digest::vocab::{Kind, TokenId, Vocab};
use crate::digest::{Lang, render};
use crate::facts::Facts;
use crate::reading::Severity;

/// Why a text is refused; the model's fault, never the operator's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// A figure or part of one that no fact accounts for.
    #[error("the text holds a figure that is no fact, at byte {at}")]
    Figure {
        /// Where in the text.
        at: usize,
    },
    /// The text is not what its tokens say.
    #[error("the text departs from its tokens at byte {at}")]
    Departs {
        /// Where in the text.
        at: usize,
    },
    /// An event is not mentioned.
    #[error("event {number} is not mentioned")]
    Unmentioned {
        /// The event, from 1.
        number: usize,
    },
    /// The outage is not mentioned.
    #[error("the outage is not mentioned")]
    OutageUnmentioned,
    /// The verdict is milder than the rules allow.
    #[error("the verdict {verdict} is below the rules' floor {floor}")]
    BelowFloor {
        /// What the text says.
        verdict: Severity,
        /// What the rules say.
        floor: Severity,
    },
    /// The text is empty or does not end with a sentence.
    #[error("the text does not end with a sentence")]
    Unfinished,
}

/// Checks a model's answer: `text` rendered from `tokens`, with `verdict`.
pub fn answer(
    vocab: &Vocab,
    tokens: &[TokenId],
    verdict: Severity,
    text: &str,
    facts: &Facts,
    lang: Lang,
) -> Result<(), Unverified> {
    follows_tokens(vocab, tokens, text, facts, lang)?;
    complete(verdict, text, facts, lang)?;
    figures_are_facts(text, facts, lang)
}

/// Checks what every text must hold, whoever worded it.
pub fn complete(verdict: Severity, text: &str, facts: &Facts, lang: Lang) -> Result<(), Unverified> {
    let floor = facts.severity();
    if verdict < floor {
        return Err(Unverified::BelowFloor { verdict, floor });
    }
    for (index, event) in facts.events.iter().enumerate() {
        if !text.contains(&channel_name(event)) {
            return Err(Unverified::Unmentioned { number: index + 1 });
        }
    }
    let outage = Slot::OutageDuration.fill(facts, lang);
    if outage.is_some_and(|duration| !text.contains(&duration)) {
        return Err(Unverified::OutageUnmentioned);
    }
    let end = without_trailing_citations(text, facts);
    if end.ends_with(['.', '!', '。', '！']) { Ok(()) } else { Err(Unverified::Unfinished) }
}

/// Checks that every digit in `text` lies inside a filled slot or a citation of these facts.
pub fn figures_are_facts(text: &str, facts: &Facts, lang: Lang) -> Result<(), Unverified> {
    figures_are_facts_or(text, facts, lang, &[])
}

/// The same, where the names in `also` may stand in the text too.
pub fn figures_are_facts_or(
    text: &str,
    facts: &Facts,
    lang: Lang,
    also: &[String],
) -> Result<(), Unverified> {
    let mut known: Vec<String> = Slot::all().filter_map(|slot| slot.fill(facts, lang)).collect();
    known.extend_from_slice(also);
    known.extend(facts.events.iter().filter_map(|e| e.cites).map(|c| render::citation(&c)));
    let mut covered = vec![false; text.len()];
    for piece in known.iter().filter(|p| p.contains(is_figure)) {
        for (at, _) in text.match_indices(piece.as_str()) {
            if stands_alone(text, at, at + piece.len()) {
                covered[at..at + piece.len()].fill(true);
            }
        }
    }
    match text.char_indices().find(|&(at, c)| is_figure(c) && !covered[at]) {
        Some((at, _)) => Err(Unverified::Figure { at }),
        None => Ok(()),
    }
}

/// Parses `text` back: each token's words or fill must follow, and nothing else but spaces and citations.
fn follows_tokens(
    vocab: &Vocab,
    tokens: &[TokenId],
    text: &str,
    facts: &Facts,
    lang: Lang,
) -> Result<(), Unverified> {
    let cites: Vec<String> =
        facts.events.iter().filter_map(|e| e.cites).map(|c| render::citation(&c)).collect();
    let mut at = 0;
    let mut mentioned = vec![false; facts.events.len()];
    for &token in tokens {
        if let Kind::Slot(Slot::Event(index, Role::Channel)) = vocab.kind(token) {
            mentioned.iter_mut().skip(index).take(1).for_each(|m| *m = true);
        }
        let expected = match vocab.kind(token) {
            Kind::Slot(slot) => slot.fill(facts, lang).ok_or(Unverified::Departs { at })?,
            Kind::Word(of) if of == lang => vocab.text(token).to_owned(),
            Kind::Mark(of) if of == lang => vocab.text(token).to_owned(),
            Kind::Word(_) | Kind::Mark(_) => return Err(Unverified::Departs { at }),
            _ => continue,
        };
        let is_slot = matches!(vocab.kind(token), Kind::Slot(_));
        if !is_slot && expected.contains(is_figure) {
            return Err(Unverified::Figure { at });
        }
        at = skip_between(text, at, &cites);
        if !text[at..].starts_with(&expected) {
            return Err(Unverified::Departs { at });
        }
        at += expected.len();
    }
    if let Some(index) = mentioned.iter().position(|m| !m) {
        return Err(Unverified::Unmentioned { number: index + 1 });
    }
    at = skip_between(text, at, &cites);
    if at == text.len() { Ok(()) } else { Err(Unverified::Departs { at }) }
}

fn skip_between(text: &str, mut at: usize, cites: &[String]) -> usize {
    loop {
        let rest = &text[at..];
        let spaces = rest.len() - rest.trim_start_matches(' ').len();
        let cite = cites.iter().find(|c| rest[spaces..].starts_with(c.as_str()));
        match (spaces, cite) {
            (0, None) => return at,
            (_, cite) => at += spaces + cite.map_or(0, String::len),
        }
    }
}

fn without_trailing_citations<'t>(text: &'t str, facts: &Facts) -> &'t str {
    let cites: Vec<String> =
        facts.events.iter().filter_map(|e| e.cites).map(|c| render::citation(&c)).collect();
    let mut rest = text.trim_end();
    while let Some(shorter) = cites.iter().find_map(|c| rest.strip_suffix(c.as_str())) {
        rest = shorter.trim_end();
    }
    rest
}

/// No digit touches the piece, so that `1` is not found in `12` or `3.1`.
fn stands_alone(text: &str, from: usize, to: usize) -> bool {
    let mut before = text[..from].chars().rev();
    let mut after = text[to..].chars();
    let joins = |near: Option<char>, far: Option<char>| {
        near.is_some_and(is_figure) || (matches!(near, Some('.' | ',')) && far.is_some_and(is_figure))
    };
    let inner_starts = text[from..to].starts_with(is_figure);
    let inner_ends = text[from..to].ends_with(is_figure);
    let left = inner_starts && joins(before.next(), before.next());
    let right = inner_ends && joins(after.next(), after.next());
    !left && !right
}

fn is_figure(c: char) -> bool {
    c.is_numeric()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::testing;

    fn check(text: &str) -> Result<(), Unverified> {
        let facts = testing::hot_bearing();
        complete(Severity::Critical, text, &facts, Lang::En)
            .and_then(|()| figures_are_facts(text, &facts, Lang::En))
    }

    #[test]
    fn a_true_text_passes_with_and_without_its_citation() {
        assert_eq!(check("The bearing temperature is at 78.3 °C. [alarm:12-15]"), Ok(()));
        assert_eq!(check("The bearing temperature is at 78.3 °C, as 7 others."), Ok(()));
    }

    #[test]
    fn a_figure_that_is_no_fact_is_found_wherever_it_hides() {
        for text in [
            "The bearing temperature is at 79 °C.",
            "The bearing temperature is at 178.3 °C.",
            "The bearing temperature is at 78.31 °C.",
            "The bearing temperature, 77 of them.",
            "The bearing temperature. [alarm:12-16]",
            "The bearing temperature ２.",
        ] {
            let found = figures_are_facts(text, &testing::hot_bearing(), Lang::En);
            assert!(matches!(found, Err(Unverified::Figure { .. })), "{text}: {found:?}");
        }
    }

    #[test]
    fn silence_about_an_event_or_a_verdict_too_mild_is_refused() {
        assert_eq!(check("All is well."), Err(Unverified::Unmentioned { number: 1 }));
        assert_eq!(check("The bearing temperature is"), Err(Unverified::Unfinished));
        let facts = testing::hot_bearing();
        let mild = complete(Severity::Warning, "The bearing temperature.", &facts, Lang::En);
        assert!(matches!(mild, Err(Unverified::BelowFloor { .. })));
    }

    #[test]
    fn a_text_that_departs_from_its_tokens_is_refused() {
        let (vocab, facts) = (testing::vocab(), testing::hot_bearing());
        let tokens: Vec<TokenId> =
            ["<c1>", "has", "risen", "to", "<p1>", "."].iter().map(|t| vocab.id(t).unwrap()).collect();
        let check = |text: &str| answer(&vocab, &tokens, Severity::Critical, text, &facts, Lang::En);
        assert_eq!(check("bearing temperature has risen to 78.3 °C. [alarm:12-15]"), Ok(()));
        assert!(check("bearing temperature has fallen to 78.3 °C. [alarm:12-15]").is_err());
        assert!(check("bearing temperature has risen to 78.3 °C. [alarm:12-16]").is_err());
        assert!(check("bearing temperature has risen to 78.3 °C. And more.").is_err());
    }
}
