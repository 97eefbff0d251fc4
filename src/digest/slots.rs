//! Slots: the only way by which a number or a name gets into a text.
//!
//! A slot is written `<c1>` (channel of event 1) or `<o_dur>` (duration of the outage). The model writes slots; this file
//! fills them from the facts, value and unit together, so a wrong digit or a unit from elsewhere can't be generated.

use crate::digest::{Lang, figures};
use crate::facts::{EventFact, Facts};
use crate::limits;

/// What a slot stands for; events count from 0 here and from 1 in the written form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// One role of one event.
    Event(usize, Role),
    /// How long the line was down.
    OutageDuration,
    /// When the line went down.
    OutageStart,
    /// Records kept during the outage.
    Kept,
    /// Records lost during the outage.
    Lost,
    /// Channels without an event.
    Normal,
    /// Events beyond those listed.
    More,
    /// Start of the period.
    From,
    /// End of the period.
    To,
}

/// What an event can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The channel's label.
    Channel,
    /// The asset's name.
    Asset,
    /// The usual value before.
    Baseline,
    /// The most extreme value.
    Peak,
    /// The limit that was crossed.
    Limit,
    /// When it began.
    Start,
    /// How long it lasted or has lasted.
    Duration,
    /// How often.
    Count,
}

impl Role {
    /// Every role with the letter that writes it.
    pub const ALL: [(Role, char); 8] = [
        (Role::Channel, 'c'),
        (Role::Asset, 'a'),
        (Role::Baseline, 'b'),
        (Role::Peak, 'p'),
        (Role::Limit, 'l'),
        (Role::Start, 's'),
        (Role::Duration, 'd'),
        (Role::Count, 'k'),
    ];
}

impl Slot {
    /// The slot that `text` writes, if it is one.
    pub fn parse(text: &str) -> Option<Slot> {
        let inner = text.strip_prefix('<')?.strip_suffix('>')?;
        if let Some(&(_, slot)) = GLOBAL.iter().find(|(name, _)| *name == inner) {
            return Some(slot);
        }
        let mut chars = inner.chars();
        let letter = chars.next()?;
        let (role, _) = Role::ALL.into_iter().find(|&(_, l)| l == letter)?;
        let number: usize = chars.as_str().parse().ok()?;
        (1..=limits::FACT_EVENTS_MAX).contains(&number).then(|| Slot::Event(number - 1, role))
    }

    /// How it is written: what [`Slot::parse`] reads.
    pub fn written(self) -> String {
        let letter =
            |role: Role| Role::ALL.iter().find(|(r, _)| *r == role).map_or('c', |&(_, letter)| letter);
        match self {
            Slot::Event(index, role) => format!("<{}{}>", letter(role), index + 1),
            global => {
                let name = GLOBAL.iter().find(|(_, slot)| *slot == global).map_or("", |&(name, _)| name);
                format!("<{name}>")
            }
        }
    }

    /// Every slot that can be written.
    pub fn all() -> impl Iterator<Item = Slot> {
        let events = (0..limits::FACT_EVENTS_MAX)
            .flat_map(|i| Role::ALL.into_iter().map(move |(r, _)| Slot::Event(i, r)));
        GLOBAL.iter().map(|&(_, slot)| slot).chain(events)
    }

    /// What the slot says of `facts` in `lang`, unit included; `None` if these facts don't tell.
    pub fn fill(self, facts: &Facts, lang: Lang) -> Option<String> {
        let outage = facts.outage.as_ref();
        Some(match self {
            Slot::Event(index, role) => return fill_event(facts.events.get(index)?, role, facts, lang),
            Slot::OutageDuration => figures::duration(outage?.duration_s, lang),
            Slot::OutageStart => figures::moment(outage?.start, facts.to, lang),
            Slot::Kept => figures::count(outage?.records_kept, lang),
            Slot::Lost => figures::count(outage?.records_lost, lang),
            Slot::Normal => figures::count(u64::from(facts.channels_normal), lang),
            Slot::More => match facts.events_more {
                0 => return None,
                n => figures::count(u64::from(n), lang),
            },
            Slot::From => figures::moment(facts.from, facts.to, lang),
            Slot::To => figures::moment(facts.to, facts.to, lang),
        })
    }
}

/// The name that a text gives the event's channel: its label, or the channel's own name where the label is empty.
pub fn channel_name(event: &EventFact) -> String {
    match figures::plain(&event.label) {
        label if label.is_empty() => figures::plain(event.channel.as_str()),
        label => label,
    }
}

fn fill_event(event: &EventFact, role: Role, facts: &Facts, lang: Lang) -> Option<String> {
    let value = |x: Option<f64>| {
        let x = x.filter(|x| x.is_finite())?;
        let shown = [event.baseline, event.peak, event.limit];
        let finite: Vec<f64> = shown.into_iter().flatten().filter(|x| x.is_finite()).collect();
        let extra = figures::decimals_to_tell_apart(&finite);
        Some(figures::with_unit(x, extra, &event.unit, event.quantity, lang))
    };
    match role {
        Role::Channel => Some(channel_name(event)),
        Role::Asset => event.asset.as_deref().map(figures::plain).filter(|name| !name.is_empty()),
        Role::Baseline => value(event.baseline),
        Role::Peak => value(event.peak),
        Role::Limit => value(event.limit),
        Role::Start => Some(figures::moment(event.start, facts.to, lang)),
        Role::Duration => Some(figures::duration(event.duration_s, lang)),
        Role::Count => event.count.map(|n| figures::count(u64::from(n), lang)),
    }
}

const GLOBAL: [(&str, Slot); 8] = [
    ("o_dur", Slot::OutageDuration),
    ("o_start", Slot::OutageStart),
    ("o_kept", Slot::Kept),
    ("o_lost", Slot::Lost),
    ("normal", Slot::Normal),
    ("more", Slot::More),
    ("from", Slot::From),
    ("to", Slot::To),
];
