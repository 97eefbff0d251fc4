//! Whether the broker answers, step by step: name, TCP, TLS, MQTT; so that the first step that fails is named.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::{Finding, Mark};
use crate::cli::link::options;
use crate::config::MqttConfig;
use crate::limits;
use crate::link::{self, LinkOptions, Protocol};
use crate::tls::{self, TlsFiles};

/// Which broker to visit, and as whom.
pub(super) struct Visit {
    pub area: &'static str,
    /// Stands before what is found; empty for the line to the cloud.
    pub source: String,
    pub link: LinkOptions,
    /// User and password, where it wants them.
    pub login: Option<(String, String)>,
    /// How grave it is when nothing answers: a device in the field may be off.
    pub absent: Mark,
    /// The keys that say where it is: its name, its port.
    pub keys: [&'static str; 2],
}

impl Visit {
    /// To the broker of the line to the cloud.
    pub fn to_cloud(mqtt: &MqttConfig) -> Self {
        Self {
            area: "broker",
            source: String::new(),
            link: options(mqtt),
            login: None,
            absent: Mark::Error,
            keys: ["mqtt.host", "mqtt.port"],
        }
    }
}

/// Connects, says hello in MQTT, and leaves. On a WebSocket it goes as far as the broker's agreement to speak MQTT there.
pub(super) fn knock(visit: &Visit) -> Finding {
    let Visit { area, source, link, .. } = visit;
    let place = format!("{source}{}:{}", link.host, link.port);
    let tcp = match connect(visit) {
        Ok(tcp) => tcp,
        Err((what, next)) => {
            let absent = Finding::error(area, format!("{place}: {what}"), next);
            return Finding { mark: visit.absent, ..absent };
        }
    };
    match reason(tcp, visit) {
        Ok(0) => Finding::ok(area, format!("{place} answers, and takes this device")),
        Ok(reason) => {
            let link::Reason { what, next } = link::reason(link::from_3_1_1(reason));
            Finding::error(area, format!("{place} refuses: {what} (reason {reason:#04x})"), next)
        }
        Err((what, next)) => Finding::error(area, format!("{place}: {what}"), next),
    }
}

/// What is wrong, and what to do next.
type Told = (String, String);

fn told(what: impl Into<String>, next: impl Into<String>) -> Told {
    (what.into(), next.into())
}

/// The reason code of the broker's answer; 0 is welcome.
fn reason(tcp: TcpStream, visit: &Visit) -> Result<u8, Told> {
    let greeted = match &visit.link.tls {
        None => greet(tcp, visit),
        Some(files) => greet(secure(tcp, files, visit)?, visit),
    };
    greeted.map_err(|e| broken(&e, visit))
}

fn connect(visit: &Visit) -> Result<TcpStream, Told> {
    let [host, port] = visit.keys;
    let link = &visit.link;
    let addresses: Vec<SocketAddr> = (link.host.as_str(), link.port)
        .to_socket_addrs()
        .map_err(|e| {
            told(format!("the name cannot be resolved: {e}"), format!("look at {host} and at the resolver"))
        })?
        .collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
    for address in addresses.iter().take(limits::CHECK_ADDRESSES_MAX) {
        match TcpStream::connect_timeout(address, limits::CHECK_STEP_TIME) {
            Ok(tcp) => {
                let timed = tcp.set_read_timeout(Some(limits::CHECK_STEP_TIME));
                timed
                    .and_then(|()| tcp.set_write_timeout(Some(limits::CHECK_STEP_TIME)))
                    .map_err(|e| told(e.to_string(), ""))?;
                return Ok(tcp);
            }
            Err(e) => last = e,
        }
    }
    let next = match last.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("nothing listens there: look at {port} and whether the broker runs")
        }
        _ => format!("look at {host}, the line and the firewall"),
    };
    Err(told(format!("no connection: {last}"), next))
}

fn secure(
    mut tcp: TcpStream,
    files: &TlsFiles,
    visit: &Visit,
) -> Result<StreamOwned<ClientConnection, TcpStream>, Told> {
    const FILES: &str = "see the findings on certificates";
    let config = files.load().map_err(|e| told(format!("TLS cannot be set up: {e}"), FILES))?;
    let name = ServerName::try_from(visit.link.host.clone()).map_err(|_| {
        told(format!("{} can be in no certificate", visit.keys[0]), "use a DNS name or an IP address")
    })?;
    let mut session = ClientConnection::new(config, name).map_err(|e| told(e.to_string(), FILES))?;
    while session.is_handshaking() {
        session.complete_io(&mut tcp).map_err(|e| broken(&e, visit))?;
    }
    Ok(StreamOwned::new(session, tcp))
}

/// Sends CONNECT (section 3.1 of both versions), reads the code of CONNACK, sends DISCONNECT.
fn greet(mut stream: impl Read + Write, visit: &Visit) -> io::Result<u8> {
    if let Some(path) = &visit.link.websocket {
        return upgrade(stream, &visit.link.host, path).map(|()| 0);
    }
    stream.write_all(&hello(&visit.link, visit.login.as_ref()))?;
    stream.flush()?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    // 0x20: CONNACK; its length fits one byte unless the broker sends very long properties.
    let reason = match answer {
        [0x20, length, _, reason] if length < 0x80 => reason,
        [0x20, _, _, _] => {
            let mut reason = [0];
            stream.read_exact(&mut reason)?;
            reason[0]
        }
        _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "what answers does not speak MQTT")),
    };
    // The answer is known; a broker that has hung up already takes nothing away from it.
    let _ = stream.write_all(&[0xE0, 0x00]).and_then(|()| stream.flush());
    Ok(reason)
}

/// Asks for MQTT on a WebSocket (RFC 6455, section 4.1) with the key of that section's example; nothing is kept secret
/// by it.
fn upgrade(mut stream: impl Read + Write, host: &str, path: &str) -> io::Result<()> {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: mqtt\r\n\r\n"
    )?;
    stream.flush()?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    if status.starts_with(b"HTTP/1.1 101") {
        return Ok(());
    }
    let status = String::from_utf8_lossy(&status).into_owned();
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("no WebSocket on {path}: {status}")))
}

/// CONNECT with a clean start and a keep-alive of 10 s.
fn hello(link: &LinkOptions, login: Option<&(String, String)>) -> Vec<u8> {
    // A client id of its own, or the broker would push a running agent off its session.
    let id: String = link.client_id.chars().take(limits::DEVICE_NAME_BYTES_MAX + 32).collect();
    let flags = CLEAN_START | if login.is_some() { USER_AND_PASSWORD } else { 0 };
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T'];
    match link.protocol {
        Protocol::V5 => body.extend([5, flags, 0, 10, NO_PROPERTIES]),
        Protocol::V311 => body.extend([4, flags, 0, 10]),
    }
    let mut put = |text: &str| {
        body.extend((text.len() as u16).to_be_bytes());
        body.extend_from_slice(text.as_bytes());
    };
    put(&format!("{id}-check"));
    if let Some((user, password)) = login {
        put(user);
        put(password);
    }
    let mut packet = vec![0x10];
    packet.extend(remaining_length(body.len()));
    packet.extend(body);
    packet
}

const CLEAN_START: u8 = 0x02;
const USER_AND_PASSWORD: u8 = 0xC0;
const NO_PROPERTIES: u8 = 0;

/// Seven bits a byte, the lowest first (section 2.2.3 of version 3.1.1).
fn remaining_length(mut bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while bytes >= 0x80 {
        out.push(bytes as u8 | 0x80);
        bytes >>= 7;
    }
    out.push(bytes as u8);
    out
}

/// An error of the stream in the words of who has to mend it.
fn broken(e: &io::Error, visit: &Visit) -> Told {
    let (link, [_, port]) = (&visit.link, visit.keys);
    if let Some(text) = tls::why_tls(e, &link.peer()) {
        return match text.rsplit_once("; ") {
            Some((what, next)) => told(what, next),
            None => told(text, "look into the broker's log"),
        };
    }
    let (what, next) = if timed_out(e) {
        ("connected, but no answer", format!("look at {port}, and whether this port wants TLS"))
    } else if e.kind() == io::ErrorKind::InvalidData {
        let path = if link.websocket.is_some() { " and mqtt.websocket" } else { "" };
        ("what answers does not speak MQTT", format!("look at {port}{path}"))
    } else if link.tls.is_some() {
        let next = "the broker may not trust this device's certificate: look into its log";
        ("the line was closed", next.into())
    } else {
        ("the line was closed", "this port may want TLS, or the broker refuses: look into its log".into())
    };
    told(format!("{what} ({e})"), next)
}

fn timed_out(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;

    /// A broker that answers the first bytes with `answer` and hangs up.
    fn broker(answer: &'static [u8]) -> MqttConfig {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut hello = Vec::new();
            while !(hello.ends_with(b"gw-check") || hello.ends_with(b"\r\n\r\n")) {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a hello to its end");
                hello.extend(byte);
            }
            stream.write_all(answer).expect("write");
        });
        MqttConfig {
            host: "127.0.0.1".into(),
            port,
            protocol: Protocol::V5,
            websocket: None,
            client_id: "gw".into(),
            prefix: "p".into(),
            tls: None,
            keep_alive: Duration::from_secs(30),
            window: 1,
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(1),
        }
    }

    fn call(mqtt: &MqttConfig) -> Finding {
        knock(&Visit::to_cloud(mqtt))
    }

    #[test]
    fn a_broker_that_takes_the_device_is_fine() {
        assert_eq!(call(&broker(&[0x20, 3, 0, 0, 0])).mark, Mark::Ok);
    }

    #[test]
    fn the_older_version_is_spoken_and_its_refusals_are_told_in_the_same_words() {
        let old = |answer| MqttConfig { protocol: Protocol::V311, ..broker(answer) };
        assert_eq!(call(&old(&[0x20, 2, 0, 0])).mark, Mark::Ok);
        let finding = call(&old(&[0x20, 2, 0, 5]));
        assert!(finding.mark == Mark::Error && finding.what.contains("not authorised"), "{finding:?}");
    }

    #[test]
    fn a_refusal_is_told_in_words() {
        let finding = call(&broker(&[0x20, 3, 0, 0x87, 0]));
        assert!(finding.mark == Mark::Error && finding.what.contains("not authorised"), "{finding:?}");
    }

    #[test]
    fn who_needs_a_password_shows_it_however_long_the_hello_gets() {
        let link = LinkOptions { protocol: Protocol::V311, ..LinkOptions::new("h", 1, "gw") };
        let password = "p".repeat(120);
        let sent = hello(&link, Some(&("me".into(), password.clone())));
        // 10 bytes of head, then three texts with two bytes of length each: 146 in all, 0x12 and one times 128.
        assert_eq!(&sent[..5], [0x10, 0x92, 0x01, 0, 4]);
        assert_eq!((sent.len(), sent[10]), (149, CLEAN_START | USER_AND_PASSWORD));
        assert!(sent.ends_with(&[b"\0\x02me\0\x78", password.as_bytes()].concat()));
    }

    #[test]
    fn a_websocket_is_knocked_at_and_a_wrong_path_is_told() {
        let web = |answer| MqttConfig { websocket: Some("/mqtt".into()), ..broker(answer) };
        assert_eq!(call(&web(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")).mark, Mark::Ok);
        let finding = call(&web(b"HTTP/1.1 404 Not Found\r\n\r\n"));
        assert!(finding.what.contains("no WebSocket on /mqtt: HTTP/1.1 404"), "{finding:?}");
        assert!(finding.next.contains("mqtt.websocket"), "{finding:?}");
    }

    #[test]
    fn something_else_behind_the_port_is_recognised() {
        let finding = call(&broker(b"HTTP/1.1 400 Bad Request\r\n"));
        assert!(finding.what.contains("does not speak MQTT"), "{finding:?}");
        let finding = call(&broker(b""));
        assert!(finding.what.contains("closed"), "{finding:?}");
    }

    #[test]
    fn a_port_where_nothing_listens_is_told() {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("address").port();
        let finding = call(&MqttConfig { port, ..broker(b"") });
        assert!(finding.next.contains("nothing listens there"), "{finding:?}");
    }
}
