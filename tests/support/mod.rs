//! A broker for integration tests: rumqttd inside the process, or the one named by the environment.
//!
//! `OUTPOST_TEST_BROKER=host:port` together with `OUTPOST_TEST_PKI=folder` uses a running broker instead. The folder
//! holds `ca.pem` and, for each of the clients `gateway`, `aggregator` and `watcher`, `<name>.pem` and `<name>.key`.
//! `OUTPOST_TEST_PROTOCOL=3.1.1` says that it speaks this version alone; without it, it speaks both.
//! `OUTPOST_TEST_WEBSOCKET=host:port` is where it takes the same clients on a WebSocket.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::time::Duration;

use outpost::demo::broker::{self, BrokerOptions};
use outpost::demo::pki::{self, Pki};
use outpost::link::{Command, Link, LinkEvent, LinkOptions, Protocol, Publish, Qos};
use outpost::sync::backoff::BackoffOptions;
use smol::future::FutureExt as _;
use tempfile::TempDir;

/// A broker that is up, with the certificates that it accepts.
pub struct TestBroker {
    /// As its certificate names it.
    host: String,
    pub addr: SocketAddr,
    pub pki: Pki,
    pub protocol: Protocol,
    /// Whether it is rumqttd, whose wills are simpler.
    pub in_process: bool,
    _dir: Option<TempDir>,
}

/// The broker of this test, once for each version of MQTT that it speaks.
pub fn brokers() -> Vec<TestBroker> {
    match std::env::var("OUTPOST_TEST_PROTOCOL") {
        Ok(only) => vec![speaking(Protocol::from_name(&only).unwrap())],
        Err(_) => Protocol::ALL.iter().map(|protocol| speaking(*protocol)).collect(),
    }
}

/// The broker of this test, in the newest version of MQTT that it speaks.
pub fn broker() -> TestBroker {
    match std::env::var("OUTPOST_TEST_PROTOCOL") {
        Ok(only) => speaking(Protocol::from_name(&only).unwrap()),
        Err(_) => speaking(Protocol::V5),
    }
}

/// Says that a test has nothing to do here, and why.
pub fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

fn speaking(protocol: Protocol) -> TestBroker {
    let named = std::env::var("OUTPOST_TEST_BROKER").ok().zip(std::env::var("OUTPOST_TEST_PKI").ok());
    if let Some((addr, dir)) = named {
        let host = addr.rsplit_once(':').unwrap().0.to_owned();
        let addr = addr.to_socket_addrs().unwrap().next().unwrap();
        return TestBroker {
            host,
            addr,
            pki: Pki::at(Path::new(&dir)),
            protocol,
            in_process: false,
            _dir: None,
        };
    }
    let dir = tempfile::tempdir().unwrap();
    let pki = pki::throwaway(dir.path(), &["gateway", "aggregator", "watcher"]).unwrap();
    let started = broker::start(&BrokerOptions { port: 0, protocol, pki: Some(pki.clone()) }).unwrap();
    TestBroker {
        host: started.addr.ip().to_string(),
        addr: started.addr,
        pki,
        protocol,
        in_process: true,
        _dir: Some(dir),
    }
}

impl TestBroker {
    /// One that somebody else has started on this machine, with the certificates in `dir`.
    pub fn at(addr: SocketAddr, pki: Pki, protocol: Protocol, dir: TempDir) -> Self {
        Self { host: addr.ip().to_string(), addr, pki, protocol, in_process: false, _dir: Some(dir) }
    }

    /// Options of a client that shows the certificate of `name` and comes back fast. The client id is `name`, made
    /// unique, so that tests that share a broker leave each other alone.
    pub fn options(&self, name: &str) -> LinkOptions {
        let id = format!("{name}-{:x}", fastrand::u32(..));
        LinkOptions {
            protocol: self.protocol,
            tls: Some(self.pki.tls_files(name)),
            backoff: BackoffOptions {
                base: Duration::from_millis(50),
                cap: Duration::from_millis(200),
                ..BackoffOptions::default()
            },
            ..LinkOptions::new(self.host.clone(), self.addr.port(), id)
        }
    }
}

/// The next event; panics after 20 s without one.
pub async fn next(link: &Link) -> LinkEvent {
    let late = async {
        smol::Timer::after(Duration::from_secs(20)).await;
        panic!("no event for 20 s")
    };
    async { link.events.recv().await.expect("the link has ended") }.or(late).await
}

/// Waits for the line to come up, whatever fails before.
pub async fn up(link: &Link) {
    while !matches!(next(link).await, LinkEvent::Up { .. }) {}
}

/// The reason of the next `Down`.
pub async fn down(link: &Link) -> String {
    loop {
        if let LinkEvent::Down { reason, .. } = next(link).await {
            return reason;
        }
    }
}

/// The next message: topic, payload as text, whether historical.
pub async fn message(link: &Link) -> (String, String, bool) {
    loop {
        if let LinkEvent::Message { topic, payload, historical } = next(link).await {
            return (topic, String::from_utf8_lossy(&payload).into_owned(), historical);
        }
    }
}

/// A publish at QoS 1.
pub fn publish(token: u64, topic: &str, payload: &str) -> Command {
    Command::Publish(Publish {
        token: Some(token),
        topic: topic.to_owned(),
        payload: payload.as_bytes().to_vec(),
        qos: Qos::AtLeastOnce,
        retain: false,
        historical: false,
        content_type: None,
    })
}

/// Stops a link and waits for its thread.
pub async fn stop(link: Link) {
    link.commands.send(Command::Stop).await.unwrap();
    while link.events.recv().await.is_ok() {}
    link.join.join().unwrap();
}
