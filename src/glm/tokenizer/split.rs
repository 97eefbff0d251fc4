//! The split pattern: into which pieces a text falls before its bytes are merged.
//!
//! The patterns of these tokenizers are plain regular expressions but for one thing: the alternative `\s+(?!\S)`, blanks that
//! leave the last one to the word behind them. It is matched as `\s+` and then shortened, so that an automaton does it all. As a
//! pattern matches almost wherever a piece may begin, it is only ever asked about one place: a lazy DFA forwards is enough, and
//! a gateway neither carries nor holds in memory what searching takes besides. What it reads of a text is bounded: a pattern that
//! runs far ahead for nothing at every place (`a*b` in a text of `a`) would take the square of its length.

use std::panic::{RefUnwindSafe, UnwindSafe};

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::pool::{Pool, PoolGuard};
use regex_automata::{Anchored, Input, PatternID};

use super::BadTokenizer;
use crate::limits;

/// A pattern, ready to part texts.
#[derive(Debug)]
pub(super) struct Split {
    /// One pattern per alternative; the first that matches wins, as in the whole.
    dfa: DFA,
    /// The states it has met so far, one set for each thread that parts a text now.
    caches: Pool<Cache, NewCache>,
    /// Of each alternative: whether no other than a blank may follow.
    leaves_last: Vec<bool>,
}

/// A boxed closure, as nothing else has a name.
type NewCache = Box<dyn Fn() -> Cache + Send + Sync + UnwindSafe + RefUnwindSafe>;

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
        if sets_flags(pattern) {
            return Err(refused("flags may only be set for a group, as in (?i:x)"));
        }
        let mut plain = Vec::new();
        let mut leaves_last = Vec::new();
        for alternative in alternatives(pattern).map_err(refused)? {
            let bare = alternative.strip_suffix(LOOK_AHEAD);
            if bare.is_some_and(|bare| bare != r"\s+") {
                return Err(refused(r"only \s+ may have a look-ahead"));
            }
            leaves_last.push(bare.is_some());
            plain.push(bare.unwrap_or(alternative));
        }
        let dfa = automaton(&plain).map_err(|e| refused(&e.to_string()))?;
        let fresh = dfa.clone();
        let caches: NewCache = Box::new(move || fresh.create_cache());
        Ok(Split { dfa, caches: Pool::new(caches), leaves_last })
    }

    /// Memory of the pattern, and of all states that one thread may remember.
    pub(super) fn memory_bytes(&self) -> usize {
        self.dfa.memory_usage() + limits::TOKENIZER_PATTERN_CACHE_BYTES
    }

    /// Gives the pieces of `text` to `sink`: what matched, and what lies between. Where the pattern would have it read far oftener
    /// than a tokenizer's does, what is left is one piece.
    pub(super) fn pieces(&self, text: &str, sink: &mut dyn FnMut(&str)) {
        let mut search = Search {
            split: self,
            cache: self.caches.get(),
            text,
            budget: text.len().saturating_mul(limits::TOKENIZER_READINGS_MAX),
        };
        let (mut from, mut at) = (0, 0);
        while let Some(c) = text[at..].chars().next() {
            let Some(end) = search.piece_end(at) else {
                at += c.len_utf8();
                continue;
            };
            if from < at {
                sink(&text[from..at]);
            }
            sink(&text[at..end]);
            (from, at) = (end, end);
        }
        if from < text.len() {
            sink(&text[from..]);
        }
    }
}

/// A text on its way into pieces.
struct Search<'a> {
    split: &'a Split,
    cache: PoolGuard<'a, Cache, NewCache>,
    text: &'a str,
    /// Bytes that may still be read; those that are read again count again.
    budget: usize,
}

impl Search<'_> {
    /// Where the match that begins at `start` ends; `None` where none does, or only an empty one.
    fn piece_end(&mut self, start: usize) -> Option<usize> {
        let (mut index, end) = self.matched(start, Anchored::Yes)?;
        let mut end = self.shortened(index, start, end);
        // Where the look-ahead fails, the alternatives behind it have their turn at the same place.
        while end.is_none() && index + 1 < self.split.leaves_last.len() {
            index += 1;
            let found = self.matched(start, Anchored::Pattern(PatternID::new(index).ok()?));
            end = found.and_then(|(_, end)| self.shortened(index, start, end));
        }
        end
    }

    /// The first alternative that matches at `start`, and where its match ends.
    fn matched(&mut self, start: usize, anchored: Anchored) -> Option<(usize, usize)> {
        let (dfa, cache, text) = (&self.split.dfa, &mut *self.cache, self.text.as_bytes());
        let input = Input::new(text).range(start..).anchored(anchored);
        // It would only give up if it were told to.
        let mut state = dfa.start_state_forward(cache, &input).ok()?;
        let mut found = None;
        for (at, &byte) in text.iter().enumerate().skip(start) {
            self.budget = self.budget.checked_sub(1)?;
            state = dfa.next_state(cache, state, byte).ok()?;
            // It knows of a match when it has seen what follows.
            if state.is_match() {
                found = Some((dfa.match_pattern(cache, state, 0).as_usize(), at));
            } else if state.is_dead() {
                return found;
            }
        }
        state = dfa.next_eoi_state(cache, state).ok()?;
        let at_end = state.is_match().then(|| (dfa.match_pattern(cache, state, 0).as_usize(), text.len()));
        at_end.or(found)
    }

    /// Where a match of an alternative ends once its look-ahead is held; `None` where nothing is left of it.
    fn shortened(&self, index: usize, start: usize, mut end: usize) -> Option<usize> {
        let text = self.text;
        if self.split.leaves_last[index] && text[end..].starts_with(|c: char| !c.is_whitespace()) {
            end -= text[start..end].chars().next_back()?.len_utf8();
        }
        (start < end).then_some(end)
    }
}

/// An automaton for all alternatives, which each can be asked for alone, too.
fn automaton(alternatives: &[&str]) -> Result<DFA, Box<regex_automata::hybrid::BuildError>> {
    let states = thompson::Config::new()
        .nfa_size_limit(Some(limits::TOKENIZER_PATTERN_STATES_BYTES_MAX))
        .which_captures(WhichCaptures::None);
    let config =
        DFA::config().starts_for_each_pattern(true).cache_capacity(limits::TOKENIZER_PATTERN_CACHE_BYTES);
    DFA::builder().configure(config).thompson(states).build_many(alternatives).map_err(Box::new)
}

/// Whether flags are set for the rest of a group, `(?i)x`: parted into its alternatives the others would lose them. What only looks
/// like it, in a class or escaped, is not told apart.
fn sets_flags(pattern: &str) -> bool {
    pattern
        .split("(?")
        .skip(1)
        .any(|rest| rest.trim_start_matches(|c: char| c.is_ascii_alphabetic() || c == '-').starts_with(')'))
}

/// The alternatives of the whole pattern. Possessive quantifiers (`?+`, `++`, `*+`, `{2}+`) are an error: this engine would read them as
/// something else.
fn alternatives(pattern: &str) -> Result<Vec<&str>, &'static str> {
    let (mut groups, mut classes, mut from) = (0usize, 0usize, 0);
    let (mut escaped, mut quantified) = (false, false);
    let mut found = Vec::new();
    for (at, c) in pattern.char_indices() {
        match c {
            _ if escaped => {
                (escaped, quantified) = (false, false);
                continue;
            }
            '\\' => escaped = true,
            '+' if quantified => return Err("possessive quantifiers are not supported"),
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
        quantified = classes == 0 && (matches!(c, '?' | '*' | '+') || c == '}' && is_count(&pattern[..at]));
    }
    found.push(&pattern[from..]);
    Ok(found)
}

/// Whether the brace behind these closes a count, `{2,3`, and not what a class or a character is called, `\p{L`, `\x{41`.
fn is_count(before: &str) -> bool {
    before.rsplit_once('{').is_some_and(|(head, count)| {
        let named = ["\\x", "\\u", "\\U"].iter().any(|name| head.ends_with(name));
        !named && !count.is_empty() && count.chars().all(|c| c.is_ascii_digit() || c == ',')
    })
}
