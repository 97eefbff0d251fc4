//! A question in pieces: words, numbers, single ideographs, each with its place.

use std::ops::Range;

/// One piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    /// In lower case; full-width forms as their plain ones.
    pub text: String,
    /// Bytes in the question.
    pub at: Range<usize>,
    /// What stands right before it without a blank, if that is a mark: `:` in `14:30`, `_` in `bearing_temp`.
    pub glue: Option<char>,
    /// It has been understood.
    pub used: bool,
}

/// The pieces of a question.
#[derive(Debug, Clone)]
pub(super) struct Tokens(pub Vec<Token>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Digit,
    Ideograph,
    Mark,
    Blank,
}

impl Tokens {
    pub fn of(text: &str) -> Self {
        let mut tokens: Vec<Token> = Vec::new();
        let (mut before, mut mark) = (Class::Blank, None);
        for (at, c) in text.char_indices() {
            let c = plain(c);
            let class = class(c);
            match class {
                Class::Blank => mark = None,
                Class::Mark => mark = Some(c),
                _ if class == before && class != Class::Ideograph => {
                    if let Some(last) = tokens.last_mut() {
                        last.text.extend(c.to_lowercase());
                        last.at.end = at + c_len(text, at);
                    }
                }
                _ => tokens.push(Token {
                    text: c.to_lowercase().collect(),
                    at: at..at + c_len(text, at),
                    glue: mark.take(),
                    used: false,
                }),
            }
            before = class;
        }
        Self(tokens)
    }

    pub fn text(&self, i: usize) -> &str {
        self.0.get(i).map_or("", |token| &token.text)
    }

    /// Whether `phrase` (pieces parted by blanks, ideographs closely) stands at `i`; its length in pieces.
    pub fn phrase(&self, i: usize, phrase: &str) -> Option<usize> {
        let wanted = Tokens::of(phrase);
        let fits =
            wanted.0.iter().enumerate().all(|(k, token)| {
                self.0.get(i + k).is_some_and(|here| here.text == token.text && !here.used)
            });
        fits.then_some(wanted.0.len())
    }

    /// The first of `phrases` that stands at `i`, the longest of them: its number and its length.
    pub fn any(&self, i: usize, phrases: &[&str]) -> Option<(usize, usize)> {
        let found = phrases.iter().enumerate().filter_map(|(n, p)| Some((n, self.phrase(i, p)?)));
        found.max_by_key(|&(n, length)| (length, usize::MAX - n))
    }

    pub fn take(&mut self, range: Range<usize>) {
        for token in self.0.get_mut(range).into_iter().flatten() {
            token.used = true;
        }
    }

    /// What was written from piece `range.start` to the end of the last one.
    pub fn written<'t>(&self, question: &'t str, range: Range<usize>) -> &'t str {
        let ends = self.0.get(range.start).zip(self.0.get(range.end.saturating_sub(1)));
        ends.and_then(|(first, last)| question.get(first.at.start..last.at.end)).unwrap_or("")
    }
}

fn c_len(text: &str, at: usize) -> usize {
    text[at..].chars().next().map_or(0, char::len_utf8)
}

/// Full-width letters, digits and marks are the plain ones.
fn plain(c: char) -> char {
    match u32::from(c) {
        wide @ 0xff01..=0xff5e => char::from_u32(wide - 0xff01 + 0x21).unwrap_or(c),
        _ => c,
    }
}

fn class(c: char) -> Class {
    match c {
        c if c.is_ascii_digit() => Class::Digit,
        c if is_ideograph(c) => Class::Ideograph,
        c if c.is_alphanumeric() => Class::Letter,
        c if c.is_whitespace() => Class::Blank,
        _ => Class::Mark,
    }
}

/// Whether `c` is an ideograph: one tells a Chinese question from an English one.
pub(super) fn is_ideograph(c: char) -> bool {
    ('\u{3400}'..='\u{9fff}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(question: &str) -> Vec<String> {
        Tokens::of(question).0.into_iter().map(|t| t.text).collect()
    }

    #[test]
    fn names_numbers_and_ideographs_come_apart() {
        assert_eq!(
            texts("Pump12.bearing_temp at 14:30?"),
            ["pump", "12", "bearing", "temp", "at", "14", "30"]
        );
        assert_eq!(texts("１号泵"), ["1", "号", "泵"]);
        let tokens = Tokens::of("at 14:30");
        assert_eq!((tokens.0[2].glue, tokens.0[1].glue), (Some(':'), None));
    }

    #[test]
    fn what_was_written_can_be_shown_again() {
        let question = "what of Pump  9.x today";
        let tokens = Tokens::of(question);
        assert_eq!(tokens.written(question, 2..5), "Pump  9.x");
        assert_eq!(tokens.written(question, 9..12), "");
    }
}
