//! Whether the broker answers, step by step: name, TCP, TLS, MQTT; so that the first step that fails is named.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::Finding;
use crate::cli::link::options;
use crate::config::MqttConfig;
use crate::limits;
use crate::link::{self, LinkOptions, Protocol};
use crate::tls::{self, TlsFiles};

const AREA: &str = "broker";

/// Connects, says hello in MQTT, and leaves. On a WebSocket it goes as far as the broker's agreement to speak MQTT there.
pub fn knock(mqtt: &MqttConfig) -> Finding {
    let place = format!("{}:{}", mqtt.host, mqtt.port);
    match reason(&options(mqtt)) {
        Ok(0) => Finding::ok(AREA, format!("{place} answers, and takes this device")),
        Ok(reason) => {
            let link::Reason { what, next } = link::reason(link::from_3_1_1(reason));
            Finding::error(AREA, format!("{place} refuses: {what} (reason {reason:#04x})"), next)
        }
        Err((what, next)) => Finding::error(AREA, format!("{place}: {what}"), next),
    }
}

/// What is wrong, and what to do next.
type Told = (String, String);

fn told(what: impl Into<String>, next: impl Into<String>) -> Told {
    (what.into(), next.into())
}

/// The reason code of the broker's answer; 0 is welcome.
fn reason(link: &LinkOptions) -> Result<u8, Told> {
    let tcp = connect(link)?;
    let greeted = match &link.tls {
        None => greet(tcp, link),
        Some(files) => greet(secure(tcp, files, link)?, link),
    };
    greeted.map_err(|e| broken(&e, link))
}

fn connect(link: &LinkOptions) -> Result<TcpStream, Told> {
    let addresses: Vec<SocketAddr> = (link.host.as_str(), link.port)
        .to_socket_addrs()
        .map_err(|e| {
            told(format!("the name cannot be resolved: {e}"), "look at mqtt.host and at the resolver")
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
            "nothing listens there: look at mqtt.port and whether the broker runs"
        }
        _ => "look at mqtt.host, the line and the firewall",
    };
    Err(told(format!("no connection: {last}"), next))
}

fn secure(
    mut tcp: TcpStream,
    files: &TlsFiles,
    link: &LinkOptions,
) -> Result<StreamOwned<ClientConnection, TcpStream>, Told> {
    const FILES: &str = "see the findings on certificates";
    let config = files.load().map_err(|e| told(format!("TLS cannot be set up: {e}"), FILES))?;
    let name = ServerName::try_from(link.host.clone())
        .map_err(|_| told("mqtt.host can be in no certificate", "use a DNS name or an IP address"))?;
    let mut session = ClientConnection::new(config, name).map_err(|e| told(e.to_string(), FILES))?;
    while session.is_handshaking() {
        session.complete_io(&mut tcp).map_err(|e| broken(&e, link))?;
    }
    Ok(StreamOwned::new(session, tcp))
}

/// Sends CONNECT (section 3.1 of both versions), reads the code of CONNACK, sends DISCONNECT.
fn greet(mut stream: impl Read + Write, link: &LinkOptions) -> io::Result<u8> {
    if let Some(path) = &link.websocket {
        return upgrade(stream, &link.host, path).map(|()| 0);
    }
    stream.write_all(&hello(link))?;
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

fn hello(link: &LinkOptions) -> Vec<u8> {
    // A client id of its own, or the broker would push a running agent off its session.
    let id: String = link.client_id.chars().take(limits::DEVICE_NAME_BYTES_MAX + 32).collect();
    let id = format!("{id}-check");
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T'];
    match link.protocol {
        Protocol::V5 => body.extend([5, CLEAN_START, 0, 10, NO_PROPERTIES]),
        Protocol::V311 => body.extend([4, CLEAN_START, 0, 10]),
    }
    // Names are ASCII and bounded far below 115 bytes, so that every length fits one byte.
    body.extend([0, id.len() as u8]);
    body.extend_from_slice(id.as_bytes());
    let mut packet = vec![0x10, body.len() as u8];
    packet.extend(body);
    packet
}

const CLEAN_START: u8 = 0x02;
const NO_PROPERTIES: u8 = 0;

/// An error of the stream in the words of who has to mend it.
fn broken(e: &io::Error, link: &LinkOptions) -> Told {
    if let Some(text) = tls::why_tls(e, &link.peer()) {
        return match text.rsplit_once("; ") {
            Some((what, next)) => told(what, next),
            None => told(text, "look into the broker's log"),
        };
    }
    let (what, next) = if timed_out(e) {
        ("connected, but no answer", "look at mqtt.port, and whether this port wants TLS")
    } else if e.kind() == io::ErrorKind::InvalidData {
        let next = match link.websocket {
            Some(_) => "look at mqtt.port and mqtt.websocket",
            None => "look at mqtt.port",
        };
        ("what answers does not speak MQTT", next)
    } else if link.tls.is_some() {
        ("the line was closed", "the broker may not trust this device's certificate: look into its log")
    } else {
        ("the line was closed", "this port may want TLS, or the broker refuses: look into its log")
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

    use super::super::Mark;
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

    #[test]
    fn a_broker_that_takes_the_device_is_fine() {
        assert_eq!(knock(&broker(&[0x20, 3, 0, 0, 0])).mark, Mark::Ok);
    }

    #[test]
    fn the_older_version_is_spoken_and_its_refusals_are_told_in_the_same_words() {
        let old = |answer| MqttConfig { protocol: Protocol::V311, ..broker(answer) };
        assert_eq!(knock(&old(&[0x20, 2, 0, 0])).mark, Mark::Ok);
        let finding = knock(&old(&[0x20, 2, 0, 5]));
        assert!(finding.mark == Mark::Error && finding.what.contains("not authorised"), "{finding:?}");
    }

    #[test]
    fn a_refusal_is_told_in_words() {
        let finding = knock(&broker(&[0x20, 3, 0, 0x87, 0]));
        assert!(finding.mark == Mark::Error && finding.what.contains("not authorised"), "{finding:?}");
    }

    #[test]
    fn a_websocket_is_knocked_at_and_a_wrong_path_is_told() {
        let web = |answer| MqttConfig { websocket: Some("/mqtt".into()), ..broker(answer) };
        assert_eq!(knock(&web(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")).mark, Mark::Ok);
        let finding = knock(&web(b"HTTP/1.1 404 Not Found\r\n\r\n"));
        assert!(finding.what.contains("no WebSocket on /mqtt: HTTP/1.1 404"), "{finding:?}");
        assert!(finding.next.contains("mqtt.websocket"), "{finding:?}");
    }

    #[test]
    fn something_else_behind_the_port_is_recognised() {
        let finding = knock(&broker(b"HTTP/1.1 400 Bad Request\r\n"));
        assert!(finding.what.contains("does not speak MQTT"), "{finding:?}");
        let finding = knock(&broker(b""));
        assert!(finding.what.contains("closed"), "{finding:?}");
    }

    #[test]
    fn a_port_where_nothing_listens_is_told() {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("address").port();
        let finding = knock(&MqttConfig { port, ..broker(b"") });
        assert!(finding.next.contains("nothing listens there"), "{finding:?}");
    }
}
