//! What an operator says of several channels at a time.

use std::collections::BTreeSet;

use super::agent::duty;
use super::document::{Entry, Raw};
use crate::detect::{Condition, GroupOptions, RuleOptions};
use crate::frame::ModelName;
use crate::limits;
use crate::reading::{ChannelId, Severity};

pub(super) fn groups(raw: &mut Raw) -> Vec<GroupOptions> {
    let entries = raw.take("group");
    if let Some(first_beyond) = entries.get(limits::GROUPS_MAX) {
        let problem = format!("more than {} groups", limits::GROUPS_MAX);
        raw.error(first_beyond, "", problem, "put channels that move together into one");
    }
    let mut names = BTreeSet::new();
    entries.iter().take(limits::GROUPS_MAX).filter_map(|entry| group(raw, entry, &mut names)).collect()
}

fn group(raw: &mut Raw, entry: &Entry, names: &mut BTreeSet<ModelName>) -> Option<GroupOptions> {
    let name = name(raw, entry, "\"pump2\"", names);
    let channels = entry.opt_texts("channels");
    match channels.as_deref() {
        None if !raw.is_flawed(entry, "channels") => {
            raw.error(entry, "channels", "missing", "name two channels or more that move together");
        }
        Some([_]) => {
            raw.error(entry, "channels", "a single channel", "name two or more: one has no others to fit")
        }
        _ => {}
    }
    Some(GroupOptions {
        name: name?,
        channels: channels?.iter().filter_map(|name| ChannelId::new(name).ok()).collect(),
        every_ms: u32::try_from(entry.time("every").as_millis()).unwrap_or(u32::MAX),
    })
}

pub(super) fn rules(raw: &mut Raw) -> Vec<RuleOptions> {
    let entries = raw.take("rule");
    if let Some(first_beyond) = entries.get(limits::RULES_MAX) {
        let problem = format!("more than {} rules", limits::RULES_MAX);
        raw.error(first_beyond, "", problem, "leave out those that no one acts upon");
    }
    let mut names = BTreeSet::new();
    entries.iter().take(limits::RULES_MAX).filter_map(|entry| rule(raw, entry, &mut names)).collect()
}

fn rule(raw: &mut Raw, entry: &Entry, names: &mut BTreeSet<ModelName>) -> Option<RuleOptions> {
    let name = name(raw, entry, "\"dry_run\"", names);
    let [all, any] = ["all", "any"].map(|key| conditions(raw, entry, key));
    let flawed = ["all", "any"].iter().any(|key| raw.is_flawed(entry, key));
    match all.len() + any.len() {
        0 if !flawed => raw.error(entry, "all", "no condition", "write conditions into all, any or both"),
        n if n > limits::RULE_CONDITIONS_MAX => {
            let problem = format!("{n} conditions, at most {} are watched", limits::RULE_CONDITIONS_MAX);
            raw.error(entry, "all", problem, "make two rules of it");
        }
        _ => {}
    }
    Some(RuleOptions {
        name: name?,
        all,
        any,
        severity: Severity::from_name(&entry.text("severity")).unwrap_or(Severity::Warning),
        dwell_s: u32::try_from(entry.time("dwell").as_secs()).unwrap_or(u32::MAX),
        times: duty(raw, entry, "times"),
    })
}

fn conditions(raw: &mut Raw, entry: &Entry, key: &str) -> Vec<Condition> {
    let texts = entry.opt_texts(key).unwrap_or_default();
    let read = texts.iter().map(|text| Condition::parse(text).ok_or(text));
    let (good, bad): (Vec<_>, Vec<_>) = read.partition(Result::is_ok);
    if let Some(Err(text)) = bad.first() {
        let hint = "write a channel, > or <, and a number: \"pump2.current > 14\", \"pump2.temp rate > 2\" (per minute), \"pump2.flow < 3 hysteresis 0.2\"";
        raw.error(entry, key, format!("{text:?} is no condition"), hint);
    }
    good.into_iter().flatten().collect()
}

/// The name of an entry that alarms tell, once in `names`.
fn name(raw: &mut Raw, entry: &Entry, example: &str, names: &mut BTreeSet<ModelName>) -> Option<ModelName> {
    let Some(text) = entry.opt_text("name") else {
        if !raw.is_flawed(entry, "name") {
            raw.error(entry, "name", "missing", format!("write for example name = {example}"));
        }
        return None;
    };
    let Some(name) = ModelName::new(&text) else {
        let allowed = format!("use 1 to {} characters of A-Z a-z 0-9 _ - .", limits::MODEL_NAME_BYTES_MAX);
        raw.error(entry, "name", "too long to be told in alarms", allowed);
        return None;
    };
    if !names.insert(name) {
        raw.error(entry, "name", "used twice", "give each a name of its own");
    }
    Some(name)
}
