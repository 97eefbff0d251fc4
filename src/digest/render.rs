//! Pieces into sentences, sentences into text: spacing, and the citations that prove each sentence.
//!
//! A citation stands after the sentence that mentions its event: `The pump is hot. [alarm:12-15] All else is normal.`

use crate::digest::Lang;
use crate::digest::slots::{Role, Slot};
use crate::digest::vocab::{Kind, TokenId, Vocab};
use crate::facts::{Citation, Facts};

/// One sentence, its end mark included, and the events that it mentions (from 0).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sentence {
    /// The words.
    pub text: String,
    /// Which events it speaks of.
    pub events: Vec<usize>,
}

impl Sentence {
    /// A sentence about no event in particular.
    pub fn plain(text: String) -> Self {
        Self { text, events: Vec::new() }
    }
}

/// How a citation is written: `[alarm:12-15]`, `[alarm:12]` for a single record.
pub fn citation(cite: &Citation) -> String {
    if cite.first == cite.last {
        format!("[{}:{}]", cite.lane, cite.first)
    } else {
        format!("[{}:{}-{}]", cite.lane, cite.first, cite.last)
    }
}

/// Puts sentences one after the other, each followed by the citations of its events.
pub fn join(sentences: &[Sentence], facts: &Facts, lang: Lang) -> String {
    let mut text = String::new();
    for sentence in sentences {
        if !text.is_empty() && (lang == Lang::En || text.ends_with(']')) {
            text.push(' ');
        }
        text.push_str(&sentence.text);
        let mut cited: Vec<Citation> = Vec::new();
        for cite in sentence.events.iter().filter_map(|&i| facts.events.get(i)?.cites) {
            if !cited.contains(&cite) {
                text.push(' ');
                text.push_str(&citation(&cite));
                cited.push(cite);
            }
        }
    }
    text
}

/// The text of an answer's tokens (verdict, cause and end left out). A slot that the facts can't fill is left out too; the
/// grammar does not let one through and [`crate::digest::verify`] would refuse the text.
pub fn text(vocab: &Vocab, tokens: &[TokenId], facts: &Facts, lang: Lang) -> String {
    let mut sentences = Vec::new();
    let mut open = Sentence::default();
    for &token in tokens {
        match vocab.kind(token) {
            Kind::Slot(slot) => {
                append(&mut open.text, &slot.fill(facts, lang).unwrap_or_default(), lang);
                if let Slot::Event(index, Role::Channel) = slot {
                    open.events.push(index);
                }
            }
            Kind::Word(_) | Kind::Mark(_) => append(&mut open.text, vocab.text(token), lang),
            _ => continue,
        }
        if vocab.ends_sentence(token) {
            sentences.push(std::mem::take(&mut open));
        }
    }
    if !open.text.is_empty() {
        sentences.push(open);
    }
    join(&sentences, facts, lang)
}

/// Appends one piece to a sentence with the space that the language wants between.
///
/// English: a space everywhere but before a closing mark and after an opening bracket. Chinese: a space only where a letter
/// or digit would touch an ideograph or another figure, as typesetters do.
pub fn append(sentence: &mut String, piece: &str, lang: Lang) {
    let (Some(left), Some(right)) = (sentence.chars().next_back(), piece.chars().next()) else {
        return sentence.push_str(piece);
    };
    let space = match lang {
        Lang::En => left != '(' && !matches!(piece, "." | "," | ";" | ":" | "!" | "?" | ")"),
        Lang::Zh => {
            let (western, ideograph) = ([left, right].map(is_western), [left, right].map(is_ideograph));
            (western[0] && (western[1] || ideograph[1])) || (ideograph[0] && western[1])
        }
    };
    if space {
        sentence.push(' ');
    }
    sentence.push_str(piece);
}

fn is_western(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '%' | '°' | 'Ω' | '-' | '/' | '_' | '(' | ')')
}

fn is_ideograph(c: char) -> bool {
    ('\u{3400}'..='\u{9fff}').contains(&c)
}
