//! What an operator says of several channels at a time.

use std::collections::BTreeSet;

use super::document::{Entry, Raw};
use crate::detect::GroupOptions;
use crate::frame::ModelName;
use crate::limits;
use crate::reading::ChannelId;

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
