//! The clauses in which an event may be told, as the model's files give them.
//!
//! A template is a list of tokens; `<p>` stands for the event's own slot, `[ x | y ]` reads x if every slot in x can be filled,
//! else y or nothing. Each event has two readings, a full and a brief one. The grammar holds the model to them: it chooses what
//! is told with what, in which order and how fully, and it can't say "risen" of what fell.

use std::collections::HashMap;

use serde::Deserialize;

use crate::digest::Lang;
use crate::digest::prompt;
use crate::digest::slots::Role;
use crate::digest::vocab::{TokenId, Vocab};
use crate::facts::EventFact;
use crate::reading::{Pattern, Quantity};

/// Templates by `<pattern>.<state>`, for each language.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Clauses(HashMap<Lang, HashMap<String, String>>);

impl Clauses {
    /// Every template, for checking.
    pub fn templates(&self) -> impl Iterator<Item = &str> {
        self.0.values().flat_map(HashMap::values).map(String::as_str)
    }

    /// The token sequences in which `event`, number `index` from 0, may be told, each beginning with its channel. Empty if the
    /// model gives none.
    pub fn phrases(&self, vocab: &Vocab, event: &EventFact, index: usize, lang: Lang) -> Vec<Vec<TokenId>> {
        let Some(templates) = self.0.get(&lang) else { return Vec::new() };
        let states = if event.ongoing { ["ongoing", "brief"] } else { ["ended", "brief_ended"] };
        let keys = states.map(|state| format!("{}.{state}", kind(event)));
        let read = |key: &String| {
            let template = templates.get(key)?;
            tokens(template, |role| prompt::tells(event, role))
                .map(|token| vocab.id(&numbered(token, index)))
                .collect::<Option<Vec<_>>>()
        };
        keys.iter().filter_map(read).collect()
    }
}

/// What is told: the pattern, or what it means for something that has states.
fn kind(event: &EventFact) -> &'static str {
    match (event.quantity, event.pattern) {
        (Quantity::Door, Pattern::High | Pattern::Rise) => "door.high",
        (Quantity::Link, Pattern::Low | Pattern::Fall | Pattern::Missing) => "link.low",
        (_, pattern) => pattern.name(),
    }
}

/// The template's tokens with its options resolved.
fn tokens(template: &str, is_told: impl Fn(Role) -> bool) -> impl Iterator<Item = &str> {
    let mut resolved = Vec::new();
    let mut rest = template;
    while let Some((before, option)) = rest.split_once('[') {
        let (option, after) = option.split_once(']').unwrap_or((option, ""));
        let (yes, no) = option.split_once('|').unwrap_or((option, ""));
        let all = yes.split_whitespace().filter_map(role).all(&is_told);
        resolved.extend([before, if all { yes } else { no }]);
        rest = after;
    }
    resolved.push(rest);
    resolved.into_iter().flat_map(str::split_whitespace)
}

/// The role that `<p>` stands for.
fn role(token: &str) -> Option<Role> {
    let letter = token.strip_prefix('<')?.strip_suffix('>')?;
    Role::ALL.into_iter().find(|(_, l)| letter.chars().eq([*l])).map(|(role, _)| role)
}

/// `<p>` of event 2 is `<p3>`; a word stays a word.
fn numbered(token: &str, index: usize) -> String {
    match role(token) {
        Some(_) => format!("{}{}>", &token[..2], index + 1),
        None => token.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_read_if_all_its_slots_are_there() {
        let read = |told: &[Role]| {
            let told = told.to_vec();
            tokens("<c> rose [ from <b> ] [ to <p> | a little ] since <s>", move |r| told.contains(&r))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(read(&[Role::Baseline, Role::Peak]), "<c> rose from <b> to <p> since <s>");
        assert_eq!(read(&[]), "<c> rose a little since <s>");
    }

    #[test]
    fn a_slot_gets_the_number_of_its_event() {
        assert_eq!(numbered("<p>", 2), "<p3>");
        assert_eq!(numbered("rose", 2), "rose");
        assert_eq!(numbered("<from>", 2), "<from>");
    }
}
