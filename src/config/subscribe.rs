//! A broker in the field, and its topics, which are entries of their own that name their source.

use std::path::{Path, PathBuf};

use super::document::{Entry, Raw};
use crate::field::topic::{self, Topic};

/// A broker in the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeConfig {
    pub host: String,
    pub port: u16,
    /// None: made from the names of device and source.
    pub client_id: Option<String>,
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
    pub topics: Vec<Topic>,
}

/// A source of the kind `mqtt`, with those of `topics` that name it.
pub fn source(raw: &mut Raw, entry: &Entry, base: &Path, topics: &[Entry]) -> Option<SubscribeConfig> {
    let own: Vec<&Entry> = topics.iter().filter(|t| t.opt_text("source") == entry.opt_text("name")).collect();
    if own.is_empty() {
        raw.error(entry, "", "no topic", "add [[topic]] entries with this source's name as `source`");
    }
    let topics: Vec<Option<Topic>> = own.iter().map(|t| topic(raw, t)).collect();
    let broker = entry.text("broker");
    let (host, port) = broker.rsplit_once(':').unwrap_or((&broker, "1883"));
    let port = port.parse().ok().filter(|port| *port > 0);
    if host.is_empty() || port.is_none() {
        raw.error(entry, "broker", "no name and port", "write for example broker = \"192.0.2.7:1883\"");
    }
    let (user, password) = (entry.opt_text("user"), entry.opt_text("password_file"));
    if user.is_none() && password.is_some() {
        raw.error(entry, "password_file", "a password without a user", "give user too");
    }
    Some(SubscribeConfig {
        host: host.trim_matches(['[', ']']).to_owned(),
        port: port?,
        client_id: entry.opt_text("client_id"),
        user,
        password_file: password.map(|path| base.join(path)),
        topics: topics.into_iter().collect::<Option<_>>()?,
    })
}

fn topic(raw: &mut Raw, entry: &Entry) -> Option<Topic> {
    for (key, example) in [("topic", "plant/{line}/{sensor}"), ("channel", "{line}.{sensor}")] {
        if entry.opt_text(key).is_none() && !raw.is_flawed(entry, key) {
            raw.error(entry, key, "missing", format!("write for example {key} = \"{example}\""));
        }
    }
    let mut topic = match Topic::new(&entry.opt_text("topic")?, &entry.opt_text("channel")?) {
        Ok(topic) => topic,
        Err(error) => {
            let hint =
                "write for example topic = \"plant/{line}/{sensor}\" and channel = \"{line}.{sensor}\"";
            raw.error(entry, "topic", error.to_string(), hint);
            return None;
        }
    };
    if entry.opt_text("value").is_none() && entry.opt_text("time").is_some() {
        raw.error(
            entry,
            "time",
            "a path without one to the value",
            "give value too: the message is JSON then",
        );
    }
    topic.value = path(raw, entry, "value")?;
    topic.time = path(raw, entry, "time")?;
    topic.unit = entry.text("unit");
    Some(topic)
}

/// The path of that key, if there is one; none if it is wrong.
fn path(raw: &mut Raw, entry: &Entry, key: &str) -> Option<Option<topic::Path>> {
    let Some(text) = entry.opt_text(key) else { return Some(None) };
    match topic::Path::new(&text) {
        Ok(path) => Some(Some(path)),
        Err(error) => {
            raw.error(
                entry,
                key,
                error.to_string(),
                "keys are parted by dots, places in a list stand in brackets",
            );
            None
        }
    }
}
