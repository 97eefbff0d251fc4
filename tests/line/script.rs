//! A broker that says what a test wants it to, packet by packet.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use outpost::link::{LinkOptions, Protocol};
use outpost::sync::backoff::BackoffOptions;

/// A port of its own, and what happens to each connection that comes.
pub struct Script {
    pub port: u16,
}

/// One connection, seen from the broker.
pub struct Peer(TcpStream);

impl Script {
    pub fn of(play: impl Fn(&mut Peer) + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                play(&mut Peer(stream.unwrap()));
            }
        });
        Self { port }
    }

    /// Options of a client of this broker.
    pub fn options(&self, protocol: Protocol) -> LinkOptions {
        LinkOptions { protocol, backoff: BACKOFF, ..LinkOptions::new("127.0.0.1", self.port, "gateway") }
    }
}

impl Peer {
    /// The next packet: its first byte and what follows the length; `None` when the client is gone.
    pub fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut byte = [0];
        self.0.read_exact(&mut byte).ok()?;
        let [first] = byte;
        let (mut length, mut shift) = (0, 0);
        loop {
            self.0.read_exact(&mut byte).ok()?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] < 0x80 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).ok()?;
        Some((first, body))
    }

    /// Whether nothing comes for `time`.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        self.0.set_read_timeout(Some(time)).unwrap();
        let came = self.0.peek(&mut [0]).is_ok();
        self.0.set_read_timeout(None).unwrap();
        !came
    }

    /// Sends a packet; a client that is gone is not told.
    pub fn write(&mut self, first: u8, body: &[u8]) {
        let mut packet = vec![first, u8::try_from(body.len()).unwrap()];
        packet.extend(body);
        let _ = self.0.write_all(&packet);
    }

    /// Reads CONNECT and answers it with `code` and, in MQTT 5, `properties`.
    pub fn admit(&mut self, code: u8, properties: Option<&[u8]>) {
        self.read().unwrap();
        let mut body = vec![0, code];
        if let Some(properties) = properties {
            body.push(u8::try_from(properties.len()).unwrap());
            body.extend(properties);
        }
        self.write(CONNACK, &body);
    }

    /// Waits for the client to go.
    pub fn outlast(&mut self) {
        while self.read().is_some() {}
    }
}

/// The packet id of a publish at QoS 1.
pub fn packet_id(body: &[u8]) -> [u8; 2] {
    let at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    [body[at], body[at + 1]]
}

pub const BACKOFF: BackoffOptions = BackoffOptions {
    base: Duration::from_millis(1),
    cap: Duration::from_millis(200),
    spread: Duration::from_millis(100),
    stable_after: Duration::from_secs(30),
};

const CONNACK: u8 = 0x20;
pub const PUBLISH: u8 = 0x30;
pub const PUBACK: u8 = 0x40;
pub const DISCONNECT: u8 = 0xE0;
