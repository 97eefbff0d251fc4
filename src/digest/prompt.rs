//! Facts into the one prompt that stands for them: attributes and slots, no names, no figures.
//!
//! `<bos> lang:en mode:offline flag:lost normal:many`, then per event `<c1> asset:A q:temperature pat:rise sev:critical
//! state:ongoing val:base val:peak`, then `<sep>`. Assets are lettered in order of first appearance, which is how the
//! model sees what belongs together. The format is the model's, written down beside it in `FORMAT.md`.

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
    let mut assets: Vec<String> = Vec::new();
    for (index, event) in facts.events.iter().take(limits::FACT_EVENTS_MAX).enumerate() {
        prompt.push(&format!("<c{}>", index + 1))?;
        prompt.push_event(event, &mut assets)?;
    }
    prompt.ids.push(vocab.sep());
    Ok(prompt.ids)
}

/// The values that the model is told an event carries: token and role, in canonical order.
///
/// A count of one is not told: no language counts one spike.
pub fn values(event: &EventFact) -> impl Iterator<Item = (&'static str, Role)> + '_ {
    let is_state = matches!(event.quantity, Quantity::Door | Quantity::Link);
    values_of(event.pattern).iter().copied().filter(move |&(_, role)| match role {
        Role::Baseline => !is_state && event.baseline.is_some_and(f64::is_finite),
        Role::Peak => !is_state && event.peak.is_some_and(f64::is_finite),
        Role::Limit => event.limit.is_some_and(f64::is_finite),
        Role::Count => event.count.is_some_and(|n| n > 1),
        _ => false,
    })
}

/// Whether the model is told that event `event` fills `role`.
pub fn tells(event: &EventFact, role: Role) -> bool {
    match role {
        Role::Channel | Role::Start | Role::Duration => true,
        Role::Asset => asset(event).is_some(),
        _ => values(event).any(|(_, told)| told == role),
    }
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

    fn push_event(&mut self, event: &EventFact, assets: &mut Vec<String>) -> Result<(), NoSuchToken> {
        match asset(event) {
            None => self.push("asset:none")?,
            Some(name) => {
                let known = assets.iter().position(|a| *a == name);
                let index = known.unwrap_or_else(|| {
                    assets.push(name);
                    assets.len() - 1
                });
                self.push(&format!("asset:{}", char::from(b'A' + (index % 26) as u8)))?;
            }
        }
        self.push(&format!("q:{}", event.quantity))?;
        self.push(&format!("pat:{}", event.pattern))?;
        self.push(&format!("sev:{}", event.severity))?;
        self.push(if event.ongoing { "state:ongoing" } else { "state:ended" })?;
        values(event).try_for_each(|(token, _)| self.push(token))
    }
}

fn asset(event: &EventFact) -> Option<String> {
    event.asset.as_deref().map(figures::plain).filter(|name| !name.is_empty())
}

fn values_of(pattern: Pattern) -> &'static [(&'static str, Role)] {
    const BASE: (&str, Role) = ("val:base", Role::Baseline);
    const PEAK: (&str, Role) = ("val:peak", Role::Peak);
    const LIMIT: (&str, Role) = ("val:limit", Role::Limit);
    const COUNT: (&str, Role) = ("val:count", Role::Count);
    match pattern {
        Pattern::High | Pattern::Low => &[PEAK, LIMIT],
        Pattern::Rise | Pattern::Fall => &[BASE, PEAK, LIMIT],
        Pattern::Spike => &[PEAK, LIMIT, COUNT],
        Pattern::Stuck => &[PEAK],
        Pattern::Missing => &[],
        Pattern::Flapping => &[COUNT],
    }
}
