//! What both seats configure alike: the line, the page, the log.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::document::{Entry, Raw};
use super::kind;
use crate::limits;
use crate::link::Protocol;
use crate::observe::Format;
use crate::reading::named_enum;

named_enum! {
    /// Who releases what is kept.
    Ack {
        /// An aggregator, after its commit.
        Aggregator = "aggregator",
        /// The broker's PUBACK, where there is no aggregator behind it.
        Broker = "broker",
    }
}

named_enum! {
    /// What is published.
    Payload {
        /// Blocks as they lie in the spool.
        Blocks = "blocks",
        /// JSON documents, for clouds without an aggregator.
        Json = "json",
    }
}

/// The line to the broker.
#[derive(Debug, Clone, PartialEq)]
pub struct MqttConfig {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Version of MQTT.
    pub protocol: Protocol,
    /// Path of the WebSocket; none: MQTT on TCP or TLS itself.
    pub websocket: Option<String>,
    /// MQTT client id.
    pub client_id: String,
    /// First levels of every topic, without a slash at the end.
    pub prefix: String,
    /// Certificates; none: plaintext, which the operator asked for by name.
    pub tls: Option<TlsPaths>,
    /// MQTT keep-alive.
    pub keep_alive: Duration,
    /// Most messages in flight, 1 to 1000.
    pub window: u16,
    /// First wait before connecting again.
    pub backoff_min: Duration,
    /// Longest wait, not below `backoff_min`.
    pub backoff_max: Duration,
}

/// Certificate files of a line to a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsPaths {
    /// Authority of the broker's certificate.
    pub ca: PathBuf,
    /// Own certificate and its private key; none: the broker asks for none.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// The page of a seat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where it listens; loopback unless `allow_remote`.
    pub listen: SocketAddr,
    /// The operator allowed an address that others can reach.
    pub allow_remote: bool,
}

/// The log of a seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// Text or JSON.
    pub format: Format,
    /// Least level written.
    pub level: log::LevelFilter,
}

/// The host name made fit for a topic level; `gateway` where nothing usable is left of it.
pub fn hostname_device() -> String {
    device_from(&rustix::system::uname().nodename().to_string_lossy())
}

fn device_from(host: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '-' };
    let name: String = host.trim().chars().take(limits::DEVICE_NAME_BYTES_MAX).map(fit).collect();
    if kind::is_name(&name) { name } else { "gateway".into() }
}

pub(super) fn mqtt(raw: &mut Raw, entry: &Entry, base: &Path, client_id: String) -> MqttConfig {
    let port = u16::try_from(entry.integer("port")).unwrap_or(u16::MAX);
    let (backoff_min, backoff_max) = (entry.time("backoff_min"), entry.time("backoff_max"));
    if backoff_min > backoff_max {
        raw.error(entry, "backoff_min", "longer than backoff_max", "make it the shorter of the two");
    }
    MqttConfig {
        host: entry.text("host"),
        port,
        // The table's words are those of `Protocol`.
        protocol: Protocol::from_name(&entry.text("protocol")).unwrap_or(Protocol::V5),
        websocket: websocket(raw, entry),
        client_id: entry.opt_text("client_id").unwrap_or(client_id),
        prefix: entry.text("prefix"),
        tls: tls(raw, entry, base, ("port", port)),
        keep_alive: entry.time("keep_alive"),
        window: u16::try_from(entry.integer("window")).unwrap_or(u16::MAX),
        backoff_min,
        backoff_max,
    }
}

fn websocket(raw: &mut Raw, entry: &Entry) -> Option<String> {
    let path = entry.opt_text("websocket")?;
    if !cfg!(feature = "websocket") {
        raw.error(
            entry,
            "websocket",
            "this program is built without it",
            "use one that is built with the feature websocket",
        );
    }
    if !path.starts_with('/') || path.bytes().any(|b| !b.is_ascii_graphic()) {
        raw.error(entry, "websocket", "not a path", "begin it with a slash, as in \"/mqtt\"");
    }
    Some(path)
}

/// The certificate files of a broker; `port_key` is the key that says its `port`. None if TLS is off.
pub(super) fn tls(
    raw: &mut Raw,
    entry: &Entry,
    base: &Path,
    (port_key, port): (&str, u16),
) -> Option<TlsPaths> {
    if !is_tls_on(entry) {
        raw.warn(
            entry,
            "tls",
            "everything is sent readable, and any broker is believed",
            "use it on a machine of your own only",
        );
        if port == PORT_WITH_TLS {
            raw.warn(
                entry,
                port_key,
                "8883 is the port for TLS, and TLS is off",
                "brokers listen on 1883 without TLS",
            );
        }
        return None;
    }
    if port == PORT_WITHOUT_TLS {
        raw.warn(
            entry,
            port_key,
            "1883 is the port without TLS, and TLS is on",
            "brokers listen on 8883 with TLS; for one that has none, write tls = \"off-insecure\"",
        );
    }
    let [ca, cert, key] = ["ca", "cert", "key"].map(|k| entry.text(k));
    if ca.is_empty() {
        raw.error(entry, "ca", "empty, and TLS needs it", "name the file of the broker's authority");
    }
    if cert.is_empty() != key.is_empty() {
        let (missing, given) = if cert.is_empty() { ("cert", "key") } else { ("key", "cert") };
        raw.error(
            entry,
            missing,
            format!("empty although {given} is given"),
            "give both, or make both empty",
        );
    }
    let identity = (!cert.is_empty() && !key.is_empty()).then(|| (base.join(cert), base.join(key)));
    Some(TlsPaths { ca: base.join(ca), identity })
}

/// Whether it was not switched off by name.
pub(super) fn is_tls_on(entry: &Entry) -> bool {
    entry.text("tls") == "on"
}

/// Where brokers listen by custom.
pub(super) const PORT_WITH_TLS: u16 = 8883;
pub(super) const PORT_WITHOUT_TLS: u16 = 1883;

pub(super) fn http(raw: &mut Raw) -> HttpConfig {
    let entry = raw.take_one("http");
    let http = HttpConfig { listen: entry.address("listen"), allow_remote: entry.flag("allow_remote") };
    remote_allowed(raw, &entry, "listen", http.listen, http.allow_remote);
    http
}

/// Refuses an address that others can reach unless that is allowed by name, and remarks on it if so.
pub(super) fn remote_allowed(raw: &mut Raw, entry: &Entry, key: &str, address: SocketAddr, allowed: bool) {
    match (address.ip().is_loopback(), allowed) {
        (true, _) => {}
        (false, true) => raw.warn(
            entry,
            key,
            "others can reach it without a password",
            "put a proxy with TLS and passwords before it",
        ),
        (false, false) => raw.error(
            entry,
            key,
            "others could reach it",
            "use a loopback address such as 127.0.0.1, or set allow_remote = true",
        ),
    }
}

pub(super) fn log(raw: &mut Raw) -> LogConfig {
    let entry = raw.take_one("log");
    let format = if entry.text("format") == "json" { Format::Json } else { Format::Text };
    // The table's words are those of `log`.
    LogConfig { format, level: entry.text("level").parse().unwrap_or(log::LevelFilter::Info) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_becomes_a_topic_level() {
        assert_eq!(device_from("gw 17/älter"), "gw-17--lter");
        assert_eq!(device_from(""), "gateway");
        assert_eq!(device_from(&"x".repeat(300)).len(), limits::DEVICE_NAME_BYTES_MAX);
    }
}
