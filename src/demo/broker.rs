//! An MQTT broker inside the process: rumqttd on loopback, for the demo and for tests. Not for production.
//!
//! What it does not do, and outpost does not rely on: it never refuses a publish by reason code, forgets everything when
//! the process ends, forgets the oldest messages when a subscriber lags behind by more than `SEGMENTS` segments, and
//! fires a delayed will as soon as the same client connects again with a clean start. It can't be stopped: its threads
//! live as long as the process.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rumqttd::{Config, ConnectionSettings, RouterConfig, ServerSettings, TlsConfig};

use super::pki::Pki;
use crate::clock;
use crate::limits::BLOCK_BYTES_MAX;
use crate::link::Protocol;

/// Where to listen and with which certificates.
#[derive(Debug, Clone, Default)]
pub struct BrokerOptions {
    /// Loopback port; 0 lets the system choose.
    pub port: u16,
    /// The version of MQTT that it speaks.
    pub protocol: Protocol,
    /// The authority whose `server` certificate is shown and whose clients are let in; `None`: plaintext.
    pub pki: Option<Pki>,
}

/// A running broker.
#[derive(Debug, Clone)]
pub struct Broker {
    /// Where it listens.
    pub addr: SocketAddr,
}

/// It did not start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// No port, no thread.
    #[error("cannot start the broker on port {port}: {source}; choose another port")]
    Io {
        /// The port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// A certificate file is missing.
    #[error("broker certificate {} is missing; make the certificates first", .0.display())]
    NoCertificate(PathBuf),
    /// Nobody listens although it was started.
    #[error("broker does not answer on port {0}; is the port taken?")]
    Silent(u16),
}

/// Starts a broker and waits until it answers, 5 s at most.
pub fn start(options: &BrokerOptions) -> Result<Broker, BrokerError> {
    let mut port = options.port;
    let failed = |port: u16| move |source: io::Error| BrokerError::Io { port, source };
    // rumqttd binds by itself: this finds a free port, or tells early that the wanted one is taken.
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(failed(port))?;
    port = probe.local_addr().map_err(failed(port))?.port();
    drop(probe);
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let tls = options.pki.as_ref().map(tls).transpose()?;
    let mut broker = rumqttd::Broker::new(config(addr, options.protocol, tls));
    let serve = move || {
        // Returns only when its listener fails; the caller sees that as silence.
        let _ = broker.start();
    };
    thread::Builder::new().name("broker".into()).spawn(serve).map_err(failed(port))?;
    let until = clock::mono() + Duration::from_secs(5);
    while TcpStream::connect_timeout(&addr, Duration::from_secs(1)).is_err() {
        if clock::mono() >= until {
            return Err(BrokerError::Silent(port));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(Broker { addr })
}

fn tls(pki: &Pki) -> Result<TlsConfig, BrokerError> {
    let (cert, key) = pki.pem("server");
    if let Some(missing) = [pki.ca(), cert.clone(), key.clone()].into_iter().find(|path| !path.exists()) {
        return Err(BrokerError::NoCertificate(missing));
    }
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    Ok(TlsConfig::Rustls { capath: Some(text(pki.ca())), certpath: text(cert), keypath: text(key) })
}

fn config(listen: SocketAddr, protocol: Protocol, tls: Option<TlsConfig>) -> Config {
    let connections = ConnectionSettings {
        connection_timeout_ms: 10_000,
        max_payload_size: BLOCK_BYTES_MAX + 4096,
        max_inflight_count: 100,
        auth: None,
        external_auth: None,
        // Without it a publish that nobody subscribed to ends the publisher's connection.
        dynamic_filters: true,
    };
    let server = ServerSettings {
        name: format!("broker-{protocol}"),
        listen,
        tls,
        next_connection_delay_ms: 1,
        connections,
    };
    let servers = HashMap::from([(protocol.to_string(), server)]);
    Config {
        id: 0,
        router: RouterConfig {
            max_connections: 256,
            max_outgoing_packet_count: 200,
            max_segment_size: SEGMENT_BYTES,
            max_segment_count: SEGMENTS,
            ..RouterConfig::default()
        },
        v4: (protocol == Protocol::V311).then(|| servers.clone()),
        v5: (protocol == Protocol::V5).then_some(servers),
        ..Config::default()
    }
}

/// Size of one segment of a topic filter's log. Kept small: the log is memory.
const SEGMENT_BYTES: usize = 1024 * 1024;
/// Segments per topic filter.
const SEGMENTS: usize = 8;
