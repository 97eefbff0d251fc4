//! Facts into the one prompt that stands for them: attributes and slots, no names, no figures.
//!
//! `<bos> lang:en mode:offline flag:lost normal:many`, then group by group `<a1>` (or `asset:none`) and the group's events, each
//! `<c1> q1:temperature pat1:rise sev1:critical state1:ongoing join1:3 <b1> <p1> <l1>`, then `<sep>`. A group holds the events of
//! one asset, which is how the model sees what belongs together; `join`, `then` and `last` tell it which event follows. The format
//! is the model's, written down beside it in `FORMAT.md`.

use crate::digest::slots::Role;
use crate::digest::vocab::{TokenId, Vocab};
use crate::digest::{Lang, figures};
use crate::facts::{EventFact, Facts};
use crate::limits;
use crate::reading::{Pattern, Quantity};

/// A token that the prompt needs and the vocabulary lacks; the model's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the vocabulary lacks {token:?}, which the prompt needs; export the model again")]
pub struct NoSuchToken {
    /// How it is written.
    pub token: String,
}

/// The prompt of `facts` in `lang`, as ids.
pub fn encode(vocab: &Vocab, facts: &Facts, lang: Lang) -> Result<Vec<TokenId>, NoSuchToken> {
    let mut prompt = Prompt { vocab, ids: vec![vocab.bos()] };
    prompt.push(&format!("lang:{lang}"))?;
    prompt.push(if facts.outage.is_some() { "mode:offline" } else { "mode:online" })?;
    if facts.outage.as_ref().is_some_and(|o| o.records_lost > 0) {
        prompt.push("flag:lost")?;
    }
    if facts.events_more > 0 {
        prompt.push("flag:more")?;
    }
    prompt.push(match facts.channels_normal {
        0 => "normal:none",
        1 => "normal:one",
        _ => "normal:many",
    })?;
    let groups = groups(facts);
    for (at, members) in groups.iter().enumerate() {
        match members.first().filter(|&&first| asset(&facts.events[first]).is_some()) {
            Some(&first) => prompt.push_slot(first, Role::Asset)?,
            None => prompt.push("asset:none")?,
        }
        let next_group = groups.get(at + 1).and_then(|next| next.first());
        for (place, &index) in members.iter().enumerate() {
            let follows = match (members.get(place + 1), next_group) {
                (Some(&next), _) => Follows::Join(next),
                (None, Some(&next)) => Follows::Then(next),
                (None, None) => Follows::Nothing,
            };
            prompt.push_event(&facts.events[index], index, follows)?;
        }
    }
    prompt.ids.push(vocab.sep());
    Ok(prompt.ids)
}

/// The events that belong together, in order of first appearance; an event without an asset stands alone.
pub fn groups(facts: &Facts) -> Vec<Vec<usize>> {
    let mut groups: Vec<(Option<String>, Vec<usize>)> = Vec::new();
    for (index, event) in facts.events.iter().take(limits::FACT_EVENTS_MAX).enumerate() {
        let asset = asset(event);
        match groups.iter_mut().find(|(name, _)| name.is_some() && *name == asset) {
            Some((_, members)) => members.push(index),
            None => groups.push((asset, vec![index])),
        }
    }
    groups.into_iter().map(|(_, members)| members).collect()
}

/// Whether the model is told that an event fills `role`.
///
/// A count of one is not told: no language counts one spike. Doors and lines have states, not values.
pub fn tells(event: &EventFact, role: Role) -> bool {
    let is_state = matches!(event.quantity, Quantity::Door | Quantity::Link);
    match role {
        Role::Channel | Role::Start | Role::Duration => true,
        Role::Asset => asset(event).is_some(),
        _ if !values_of(event.pattern).contains(&role) => false,
        Role::Baseline => !is_state && event.baseline.is_some_and(f64::is_finite),
        Role::Peak => !is_state && event.peak.is_some_and(f64::is_finite),
        Role::Limit => event.limit.is_some_and(f64::is_finite),
        Role::Count => event.count.is_some_and(|n| n > 1),
    }
}

/// What stands behind an event in the prompt.
enum Follows {
    /// The next event of its group.
    Join(usize),
    /// The first event of the next group.
    Then(usize),
    Nothing,
}

struct Prompt<'v> {
    vocab: &'v Vocab,
    ids: Vec<TokenId>,
}

impl Prompt<'_> {
    fn push(&mut self, token: &str) -> Result<(), NoSuchToken> {
        let id = self.vocab.id(token).ok_or_else(|| NoSuchToken { token: token.to_owned() })?;
        self.ids.push(id);
        Ok(())
    }

    fn push_slot(&mut self, index: usize, role: Role) -> Result<(), NoSuchToken> {
        let letter = Role::ALL.into_iter().find(|&(r, _)| r == role).map_or('?', |(_, letter)| letter);
        self.push(&format!("<{letter}{}>", index + 1))
    }

    fn push_event(&mut self, event: &EventFact, index: usize, follows: Follows) -> Result<(), NoSuchToken> {
        let n = index + 1;
        self.push_slot(index, Role::Channel)?;
        self.push(&format!("q{n}:{}", event.quantity))?;
        self.push(&format!("pat{n}:{}", event.pattern))?;
        self.push(&format!("sev{n}:{}", event.severity))?;
        self.push(&format!("state{n}:{}", if event.ongoing { "ongoing" } else { "ended" }))?;
        self.push(&match follows {
            Follows::Join(next) => format!("join{n}:{}", next + 1),
            Follows::Then(next) => format!("then{n}:{}", next + 1),
            Follows::Nothing => format!("last{n}"),
        })?;
        let told = values_of(event.pattern).iter().filter(|&&role| tells(event, role));
        told.into_iter().try_for_each(|&role| self.push_slot(index, role))
    }
}

fn asset(event: &EventFact) -> Option<String> {
    event.asset.as_deref().map(figures::plain).filter(|name| !name.is_empty())
}

/// The values that an event of this pattern may carry, in the order of the prompt.
fn values_of(pattern: Pattern) -> &'static [Role] {
    match pattern {
        Pattern::High | Pattern::Low => &[Role::Peak, Role::Limit],
        Pattern::Rise | Pattern::Fall => &[Role::Baseline, Role::Peak, Role::Limit],
        Pattern::Spike => &[Role::Peak, Role::Limit, Role::Count],
        Pattern::Stuck => &[Role::Peak],
        Pattern::Missing => &[],
        Pattern::Flapping => &[Role::Count],
    }
}
