//! TLS between two ends in memory, and the link to a broker of a few lines over loopback.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, anyhow, bail, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConnection, ConnectionCommon, RootCertStore, ServerConfig, ServerConnection, SideData};
use smol::future::FutureExt as _;

use super::{Finding, Ground};
use crate::limits;
use crate::link::{self, Command, Link, LinkEvent, LinkOptions, Publish, Qos};
use crate::sync::uplink::Audience;
use crate::tls::TlsFiles;

/// Throw-away certificates, good for nothing but this test, from 2020 to 2120. The authority's key is gone.
const CA: &str = include_str!("ca.pem");
const CERT: &str = include_str!("cert.pem");
const KEY: &str = include_str!("key.pem");
/// The name in the certificate; no host has it.
const NAME: &str = "selftest.invalid";
/// A handshake takes three turns.
const TURNS_MAX: usize = 20;

/// A mutual handshake of the agent's own client with a server, and a few bytes each way, for every version of TLS.
pub(super) fn tls(ground: &Ground) -> Finding {
    let files = write_files(ground)?;
    let mut spoken = Vec::new();
    for version in rustls::ALL_VERSIONS {
        let server = ServerConnection::new(Arc::new(server_config(version)?))?;
        let client = ClientConnection::new(files.load()?, ServerName::try_from(NAME)?)?;
        talk(client, server).with_context(|| format!("{:?}", version.version))?;
        spoken.push(format!("{:?}", version.version));
    }
    Ok(format!("mutual handshakes in {}", spoken.join(" and ")))
}

fn write_files(ground: &Ground) -> anyhow::Result<TlsFiles> {
    let file = |name: &str, pem: &str| {
        let path = ground.dir.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(pem.as_bytes()).map(|()| path)
    };
    Ok(TlsFiles {
        ca: file("ca.pem", CA)?,
        identity: Some((file("cert.pem", CERT)?, file("key.pem", KEY)?)),
        server_name: None,
    })
}

fn server_config(version: &'static rustls::SupportedProtocolVersion) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CA.as_bytes()).map_err(|e| anyhow!("{e:?}"))?)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let own = CertificateDer::from_pem_slice(CERT.as_bytes()).map_err(|e| anyhow!("{e:?}"))?;
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).map_err(|e| anyhow!("{e:?}"))?;
    Ok(ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![own], key)?)
}

fn talk(mut client: ClientConnection, mut server: ServerConnection) -> anyhow::Result<()> {
    for _ in 0..TURNS_MAX {
        carry(&mut client, &mut server).context("the server refuses; is the clock right?")?;
        carry(&mut server, &mut client).context("the client refuses; is the clock right?")?;
        if !client.is_handshaking() && !server.is_handshaking() {
            break;
        }
    }
    ensure!(!client.is_handshaking() && !server.is_handshaking(), "the handshake does not end");
    client.writer().write_all(b"ping")?;
    carry(&mut client, &mut server)?;
    let mut heard = [0; 4];
    server.reader().read_exact(&mut heard)?;
    ensure!(&heard == b"ping", "the server heard {heard:?}");
    Ok(())
}

/// Moves what one end wants to say to the other, once.
fn carry<A: SideData, B: SideData>(
    from: &mut ConnectionCommon<A>,
    to: &mut ConnectionCommon<B>,
) -> anyhow::Result<()> {
    let mut wire = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut wire)?;
    }
    let mut unread = wire.as_slice();
    while !unread.is_empty() {
        to.read_tls(&mut unread)?;
        to.process_new_packets()?;
    }
    Ok(())
}

const TOPIC: &str = "outpost/selftest";
const TOKEN: u64 = 7;

/// The agent's own link: connects, subscribes, publishes, is answered, and hears what it said.
pub(super) fn mqtt(_: &Ground) -> Finding {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port on loopback")?;
    let port = listener.local_addr()?.port();
    let broker = thread::spawn(move || broker(&listener));
    let mut options = LinkOptions::new("127.0.0.1", port, "outpost-selftest");
    options.subscriptions = vec![TOPIC.into()];
    let Link { commands, events, join } = link::spawn(options)?;
    let told = smol::block_on(async {
        let next = || async {
            let event = async { events.recv().await.context("the link ended") };
            let late = async {
                smol::Timer::after(limits::SELFTEST_STEP_TIME).await;
                Err(anyhow!("nothing within {} s", limits::SELFTEST_STEP_TIME.as_secs()))
            };
            event.or(late).await
        };
        up(next().await?)?;
        commands.send(Command::Publish(publish())).await?;
        let (first, second) = (next().await?, next().await?);
        commands.send(Command::Stop).await?;
        anyhow::Ok((first, second))
    })?;
    let done = LinkEvent::Done { token: TOKEN, result: Ok(Audience::Unknown) };
    let message = LinkEvent::Message { topic: TOPIC.into(), payload: publish().payload, historical: false };
    let (first, second) = told;
    let both = [&first, &second];
    ensure!(both.contains(&&done) && both.contains(&&message), "the link told {first:?} and {second:?}");
    join.join().map_err(|_| anyhow!("the link's thread panicked"))?;
    broker.join().map_err(|_| anyhow!("the broker's thread panicked"))?.context("the broker")?;
    Ok("connected, subscribed, published and heard over loopback".into())
}

fn up(event: LinkEvent) -> anyhow::Result<()> {
    match event {
        LinkEvent::Up { .. } => Ok(()),
        LinkEvent::Down { reason, .. } => bail!("{reason}"),
        other => bail!("the link told {other:?} before it was up"),
    }
}

fn publish() -> Publish {
    Publish {
        token: Some(TOKEN),
        topic: TOPIC.into(),
        payload: b"heard?".to_vec(),
        qos: Qos::AtLeastOnce,
        retain: false,
        historical: false,
        content_type: None,
    }
}

/// As much of an MQTT 5 broker as one client needs that behaves: it is told back what it publishes.
fn broker(listener: &TcpListener) -> io::Result<()> {
    let (mut line, _) = listener.accept()?;
    line.set_read_timeout(Some(limits::SELFTEST_STEP_TIME))?;
    loop {
        let (head, body) = packet(&mut line)?;
        match head >> 4 {
            CONNECT => line.write_all(&[CONNACK, 3, 0, 0, 0])?,
            SUBSCRIBE => line.write_all(&[SUBACK, 4, body[0], body[1], 0, 1])?,
            PUBLISH => {
                let topic = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                line.write_all(&[PUBACK, 2, body[topic], body[topic + 1]])?;
                // The same without its number, at QoS 0.
                let echo = [&body[..topic], &body[topic + 2..]].concat();
                line.write_all(&[&[PUBLISH << 4, echo.len() as u8], echo.as_slice()].concat())?;
            }
            PINGREQ => line.write_all(&[PINGRESP, 0])?,
            DISCONNECT => return Ok(()),
            _ => {}
        }
    }
}

const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
const SUBSCRIBE: u8 = 8;
const PINGREQ: u8 = 12;
const DISCONNECT: u8 = 14;
const CONNACK: u8 = 2 << 4;
const PUBACK: u8 = 4 << 4;
const SUBACK: u8 = 9 << 4;
const PINGRESP: u8 = 13 << 4;

/// First byte and body of the next packet.
fn packet(line: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut byte = [0];
    line.read_exact(&mut byte)?;
    let head = byte[0];
    let (mut length, mut shift) = (0, 0);
    loop {
        line.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] < 0x80 || shift > 21 {
            break;
        }
    }
    if length > limits::SELFTEST_PACKET_BYTES_MAX {
        return Err(io::Error::other(format!("a packet of {length} bytes")));
    }
    let mut body = vec![0; length];
    line.read_exact(&mut body)?;
    Ok((head, body))
}
