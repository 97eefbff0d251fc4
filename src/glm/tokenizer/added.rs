//! Tokens that stand for themselves in a text: marks such as `<|user|>`, and what users added.

use super::BadTokenizer;
use crate::limits;

/// A piece of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'t> {
    Text(&'t str),
    Token(u32),
}

/// One of them, as the file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AddedToken {
    pub(super) id: u32,
    pub(super) content: String,
    /// A mark: no text, and not understood where all is text.
    pub(super) special: bool,
    /// Looked for after the others.
    pub(super) normalized: bool,
    /// Only where no letter, digit or underscore stands next to it.
    pub(super) single_word: bool,
    /// Swallows the blanks before it.
    pub(super) lstrip: bool,
    /// Swallows the blanks behind it.
    pub(super) rstrip: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Added {
    /// Those to look for first, and those to look for in what is left.
    passes: [Pass; 2],
    /// Ids of marks, ascending.
    special_ids: Vec<u32>,
}

/// Longest first among those that begin with one byte.
#[derive(Debug, Default)]
struct Pass {
    tokens: Vec<AddedToken>,
    /// By first byte: which of `tokens`.
    by_byte: Vec<(usize, usize)>,
}

impl Added {
    pub(super) fn new(tokens: Vec<AddedToken>) -> Result<Added, BadTokenizer> {
        if tokens.len() > limits::TOKENIZER_ADDED_MAX {
            let what = format!("it has more than {} added tokens", limits::TOKENIZER_ADDED_MAX);
            return Err(BadTokenizer::Damaged(what));
        }
        let mut special_ids: Vec<u32> = tokens.iter().filter(|t| t.special).map(|t| t.id).collect();
        special_ids.sort_unstable();
        let (second, first) = tokens.into_iter().partition(|token| token.normalized);
        Ok(Added { passes: [Pass::new(first), Pass::new(second)], special_ids })
    }

    pub(super) fn is_special(&self, id: u32) -> bool {
        self.special_ids.binary_search(&id).is_ok()
    }

    pub(super) fn special(&self, text: &str) -> Option<u32> {
        self.specials().find(|(_, content)| *content == text).map(|(id, _)| id)
    }

    pub(super) fn specials(&self) -> impl Iterator<Item = (u32, &str)> {
        let tokens = self.passes.iter().flat_map(|pass| &pass.tokens).filter(|token| token.special);
        tokens.map(|token| (token.id, token.content.as_str()))
    }

    /// `text` with a `guard` in every mark that stands there, and where a mark could begin at its end or end at its beginning
    /// once something else stands next to it. A mark of one character has no inside: it becomes U+FFFD.
    pub(super) fn guarded(&self, text: &str, guard: char) -> String {
        let mut out = String::with_capacity(text.len() + 16);
        let body = text.trim();
        let lead = text.len() - text.trim_start().len();
        let marks = || self.specials().map(|(_, content)| content);
        let ends_one = |mark: &str| ends(mark).any(|end| body.starts_with(end));
        let begins_one = |mark: &str| begins(mark).any(|begin| body.ends_with(begin));
        let mut insert = !body.is_empty() && marks().any(ends_one);
        for (at, c) in text.char_indices() {
            if insert && at >= lead {
                out.push(guard);
                insert = false;
            }
            let mark =
                self.passes.iter().filter_map(|pass| pass.special_at(text, at)).max_by_key(|m| m.len());
            let alone = mark.is_some_and(|mark| mark.len() == c.len_utf8());
            out.push(if alone { char::REPLACEMENT_CHARACTER } else { c });
            insert |= mark.is_some();
            if at + c.len_utf8() == lead + body.len() && marks().any(begins_one) {
                insert = true;
            }
        }
        out.extend(insert.then_some(guard));
        out
    }

    /// Gives the parts of `text` to `sink`, no empty ones; marks are text unless `special`.
    pub(super) fn part(&self, text: &str, special: bool, sink: &mut dyn FnMut(Part<'_>)) {
        let [first, second] = &self.passes;
        first.part(text, special, &mut |part| match part {
            Part::Text(text) => second.part(text, special, sink),
            token => sink(token),
        });
    }
}

impl Pass {
    fn new(mut tokens: Vec<AddedToken>) -> Pass {
        tokens.retain(|token| !token.content.is_empty());
        tokens.sort_by_key(|token| {
            (token.content.as_bytes().first().copied(), usize::MAX - token.content.len())
        });
        let first = |token: &AddedToken| token.content.as_bytes().first().copied();
        let run = |byte| {
            let from = tokens.partition_point(|token| first(token) < Some(byte));
            (from, from + tokens[from..].partition_point(|token| first(token) == Some(byte)))
        };
        let by_byte = (0..=u8::MAX).map(run).collect();
        Pass { tokens, by_byte }
    }

    fn part<'t>(&self, text: &'t str, special: bool, sink: &mut dyn FnMut(Part<'t>)) {
        let mut text_from = 0;
        let mut at = 0;
        while !self.tokens.is_empty() && at < text.len() {
            let Some(token) = self.at(text, at) else {
                at += 1;
                continue;
            };
            let (from, to) = (at, at + token.content.len());
            at = to;
            if (token.special && !special) || (token.single_word && touches_word(text, from, to)) {
                continue;
            }
            let from = if token.lstrip { text[..from].trim_end().len().max(text_from) } else { from };
            let to = if token.rstrip { text.len() - text[to..].trim_start().len() } else { to };
            if text_from < from {
                sink(Part::Text(&text[text_from..from]));
            }
            sink(Part::Token(token.id));
            (text_from, at) = (to, at.max(to));
        }
        if text_from < text.len() {
            sink(Part::Text(&text[text_from..]));
        }
    }

    /// The longest mark that stands at byte `at`.
    fn special_at(&self, text: &str, at: usize) -> Option<&str> {
        let rest = &text.as_bytes()[at..];
        let &(from, to) = self.by_byte.get(usize::from(*rest.first()?))?;
        let found =
            self.tokens[from..to].iter().find(|t| t.special && rest.starts_with(t.content.as_bytes()));
        found.map(|token| token.content.as_str())
    }

    /// The longest token that stands at byte `at`.
    fn at(&self, text: &str, at: usize) -> Option<&AddedToken> {
        let rest = &text.as_bytes()[at..];
        let &(from, to) = self.by_byte.get(usize::from(*rest.first()?))?;
        self.tokens[from..to].iter().find(|token| rest.starts_with(token.content.as_bytes()))
    }
}

/// What a text may begin with, but not the whole.
fn begins(mark: &str) -> impl Iterator<Item = &str> {
    mark.char_indices().skip(1).map(|(at, _)| &mark[..at])
}

/// What a text may end with, but not the whole.
fn ends(mark: &str) -> impl Iterator<Item = &str> {
    mark.char_indices().skip(1).map(|(at, _)| &mark[at..])
}

fn touches_word(text: &str, from: usize, to: usize) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text[..from].ends_with(is_word) || text[to..].starts_with(is_word)
}
