//! A broker in the field, and its topics, which are entries of their own that name their source.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::common::{self, TlsPaths};
use super::document::{Entry, Raw};
use crate::field::topic::{self, Topic};

/// A broker in the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeConfig {
    pub host: String,
    pub port: u16,
    /// Certificates; none: plaintext, which the operator asked for by name.
    pub tls: Option<TlsPaths>,
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
    let (host, port) = place(raw, entry)?;
    let (user, password) = (entry.opt_text("user"), entry.opt_text("password_file"));
    if user.is_none() && password.is_some() {
        raw.error(entry, "password_file", "a password without a user", "give user too");
    }
    Some(SubscribeConfig {
        tls: tls(raw, entry, base, &host, port),
        host,
        port,
        client_id: entry.opt_text("client_id"),
        user,
        password_file: password.map(|path| base.join(path)),
        topics: topics.into_iter().collect::<Option<_>>()?,
    })
}

/// Name and port of the broker.
fn place(raw: &mut Raw, entry: &Entry) -> Option<(String, u16)> {
    let broker = entry.text("broker");
    let usual = if common::is_tls_on(entry) { common::PORT_WITH_TLS } else { common::PORT_WITHOUT_TLS };
    let (host, port) = match broker.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)),
        None => (broker.as_str(), Some(usual)),
    };
    if host.is_empty() || port.is_none() {
        raw.error(entry, "broker", "no name and port", "write for example broker = \"192.0.2.7:8883\"");
    }
    Some((host.trim_matches(['[', ']']).to_owned(), port?))
}

/// As for the line to the cloud, but plaintext to this very machine, which nobody can listen to, needs no remark.
fn tls(raw: &mut Raw, entry: &Entry, base: &Path, host: &str, port: u16) -> Option<TlsPaths> {
    let is_here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    if is_here && !common::is_tls_on(entry) {
        return None;
    }
    common::tls(raw, entry, base, ("broker", port))
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
