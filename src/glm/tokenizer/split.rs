//! The split pattern: into which pieces a text falls before its bytes are merged.
//!
//! The patterns of these tokenizers are plain regular expressions but for one thing: the alternative `\s+(?!\S)`, blanks that
//! leave the last one to the word behind them. It is matched as `\s+` and then shortened, so that an engine without look-ahead,
//! whose time is in proportion to the text whatever the pattern, does it all.

use regex_automata::meta::Regex;
use regex_automata::{Anchored, Input};

use super::BadTokenizer;
use crate::limits;

/// A pattern, ready to part texts.
#[derive(Debug)]
pub(super) struct Split {
    /// One pattern per alternative; the first that matches wins, as in the whole.
    regex: Regex,
    /// Of each alternative: whether no other than a blank may follow.
    leaves_last: Vec<bool>,
}

/// The split of GPT-2, which a byte-level step brings along unless it is told otherwise.
pub(super) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

const LOOK_AHEAD: &str = r"(?!\S)";

impl Split {
    pub(super) fn new(pattern: &str) -> Result<Split, BadTokenizer> {
        let refused = |why: &str| {
            let shown: String = pattern.chars().take(200).collect();
            BadTokenizer::Unsupported(format!("the split pattern {shown:?} ({why})"))
        };
        if pattern.len() > limits::TOKENIZER_PATTERN_BYTES_MAX {
            return Err(refused("it is too long"));
        }
        let mut plain = Vec::new();
        let mut leaves_last = Vec::new();
        for alternative in alternatives(pattern) {
            let bare = alternative.strip_suffix(LOOK_AHEAD);
            if bare.is_some_and(|bare| bare != r"\s+") {
                return Err(refused(r"only \s+ may have a look-ahead"));
            }
            leaves_last.push(bare.is_some());
            plain.push(bare.unwrap_or(alternative));
        }
        let config = Regex::config()
            .nfa_size_limit(Some(limits::TOKENIZER_PATTERN_STATES_BYTES_MAX))
            .onepass_size_limit(Some(limits::TOKENIZER_PATTERN_STATES_BYTES_MAX))
            .dfa_size_limit(Some(limits::TOKENIZER_PATTERN_STATES_BYTES_MAX));
        let regex = Regex::builder().configure(config).build_many(&plain);
        let regex = regex.map_err(|e| refused(&e.to_string()))?;
        Ok(Split { regex, leaves_last })
    }

    /// Gives the pieces of `text` to `sink`: what matched, and what lies between.
    pub(super) fn pieces(&self, text: &str, sink: &mut dyn FnMut(&str)) {
        let mut from = 0;
        while let Some((start, end)) = self.next(text, from) {
            if from < start {
                sink(&text[from..start]);
            }
            sink(&text[start..end]);
            from = end;
        }
        if from < text.len() {
            sink(&text[from..]);
        }
    }

    /// The next match that is not empty.
    fn next(&self, text: &str, mut from: usize) -> Option<(usize, usize)> {
        loop {
            let found = self.regex.search(&Input::new(text).range(from..))?;
            let start = found.start();
            let mut index = found.pattern().as_usize();
            let mut end = self.end(text, index, start, found.end());
            // Where the look-ahead fails, the alternatives behind it have their turn at the same place.
            while end.is_none() && index + 1 < self.leaves_last.len() {
                index += 1;
                let pattern = Anchored::Pattern(regex_automata::PatternID::new(index).ok()?);
                let found = self.regex.search(&Input::new(text).range(start..).anchored(pattern));
                end = found.and_then(|found| self.end(text, index, start, found.end()));
            }
            match end {
                Some(end) => return Some((start, end)),
                None => from = start + text[start..].chars().next()?.len_utf8(),
            }
        }
    }

    /// Where a match of an alternative ends once its look-ahead is held; `None` where nothing is left of it.
    fn end(&self, text: &str, index: usize, start: usize, end: usize) -> Option<usize> {
        let mut end = end;
        if self.leaves_last[index] && text[end..].starts_with(|c: char| !c.is_whitespace()) {
            end -= text[start..end].chars().next_back()?.len_utf8();
        }
        (start < end).then_some(end)
    }
}

/// The alternatives of the whole pattern.
fn alternatives(pattern: &str) -> Vec<&str> {
    let (mut groups, mut classes, mut escaped, mut from) = (0usize, 0usize, false, 0);
    let mut found = Vec::new();
    for (at, c) in pattern.char_indices() {
        match c {
            _ if escaped => {
                escaped = false;
                continue;
            }
            '\\' => escaped = true,
            '[' => classes += 1,
            ']' => classes = classes.saturating_sub(1),
            '(' if classes == 0 => groups += 1,
            ')' if classes == 0 => groups = groups.saturating_sub(1),
            '|' if classes == 0 && groups == 0 => {
                found.push(&pattern[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    found.push(&pattern[from..]);
    found
}
