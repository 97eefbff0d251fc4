//! The field that is played: who posts lines, a Modbus device, a broker and what publishes there, a CAN bus.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader, PipeWriter, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use outpost::demo::broker::{self, BrokerOptions};
use outpost::field::modbus::{Order, Register, Shape, Table};
use outpost::field::topic::{self, Topic};
use outpost::link::Protocol;
use outpost::reading::{ChannelId, Unit};
use rumqttc::{Client, MqttOptions, QoS};

use super::Talk;

/// A thousand lines of ten fields each.
pub fn lines() -> String {
    let fields: Vec<String> = (0..10).map(|n| format!("f{n}={n}.5")).collect();
    format!("m {}\n", fields.join(",")).repeat(1000)
}

/// Posts until nobody takes it any more.
pub fn post(address: SocketAddr) {
    let body = lines();
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    let mut answer = [0; 4096];
    while stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).is_ok() {
        let Ok(1..) = stream.read(&mut answer) else { return };
    }
}

pub const REGISTERS: u16 = 100;

pub fn register(address: u16) -> Register {
    Register {
        channel: ChannelId::new(&format!("plc.r{address}")).expect("a channel's name"),
        table: Table::Holding,
        address,
        shape: Shape::U16,
        order: Order::Abcd,
        bit: 0,
        scale: 1.0,
        offset: 0.0,
        unit: Unit::default(),
    }
}

/// A device that answers every question with as many registers as were asked for.
pub fn device() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else { return };
        let (mut request, mut random) = ([0; 12], fastrand::Rng::with_seed(7));
        while stream.read_exact(&mut request).is_ok() {
            let bytes = 2 * request[11];
            let head = [request[0], request[1], 0, 0, 0, bytes + 3, request[6], request[7], bytes];
            let values: Vec<u8> =
                (0..bytes / 2).flat_map(|_| (4000 + random.u16(0..40)).to_be_bytes()).collect();
            if stream.write_all(&[&head[..], &values].concat()).is_err() {
                return;
            }
        }
    });
    address
}

/// A process of its own with a broker and somebody who publishes as fast as it takes it; ended when this goes.
pub struct Plant {
    child: Child,
    /// Where the broker listens.
    pub address: SocketAddr,
}

/// Tells this program that it is to be the plant.
pub const PLANT: &str = "OUTPOST_BENCH_PLANT";

impl Plant {
    pub fn start() -> Self {
        let this = std::env::current_exe().expect("a running program has a path");
        let mut child = Command::new(this).env(PLANT, "1").stdout(Stdio::piped()).spawn().expect("a process");
        let mut address = String::new();
        let out = child.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut address).expect("its first line");
        Self { child, address: address.trim().parse().expect("an address") }
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What that process does, until it is killed: a hundred sensors say in turn what they measure, in JSON.
pub fn publish() {
    let options = BrokerOptions { port: 0, protocol: Protocol::V311, pki: None };
    let address = broker::start(&options).expect("a free port").addr;
    println!("{address}");
    let mut options = MqttOptions::new("sensors", "127.0.0.1", address.port());
    options.set_inflight(1000);
    let (client, mut connection) = Client::new(options, 1000);
    thread::spawn(move || connection.iter().take_while(Result::is_ok).count());
    for n in 0_u64.. {
        let (topic, payload) =
            (format!("plant/s{}", n % 100), format!("{{\"data\":{{\"value\":{}.5}}}}", n % 40));
        if client.publish(topic, QoS::AtLeastOnce, false, payload).is_err() {
            return;
        }
    }
}

/// What is listened to.
pub fn topics() -> Vec<Topic> {
    let mut topic = Topic::new("plant/{sensor}", "plant.{sensor}").expect("a topic");
    topic.value = Some(topic::Path::new("data.value").expect("a path"));
    vec![topic]
}

const MESSAGES: u32 = 64;

/// Four signals of 16 bits in each of 64 messages.
pub fn dbc(path: &Path) {
    let mut text = String::new();
    for id in 0..MESSAGES {
        let _ = writeln!(text, "BO_ {id} M{id}: 8 E");
        for n in 0..4 {
            let _ = writeln!(text, " SG_ S{n} : {}|16@1+ (0.25,0) [0|0] \"rpm\" X", 16 * n);
        }
    }
    std::fs::write(path, text).expect("a file");
}

/// A pipe of frames that is filled as fast as it is emptied: it gives 16 bytes a read, as the kernel's socket does.
pub fn bus(talk: &Arc<Talk>) -> File {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let talk = Arc::clone(talk);
    thread::spawn(move || frames(writer, &talk));
    File::from(OwnedFd::from(reader))
}

fn frames(mut bus: PipeWriter, talk: &Talk) {
    let mut random = fastrand::Rng::with_seed(5);
    let mut frame = |n: u32| {
        let mut frame = [0; 16];
        frame[..4].copy_from_slice(&(n % MESSAGES).to_ne_bytes());
        frame[4] = 8;
        for signal in frame[8..].chunks_mut(2) {
            signal.copy_from_slice(&(4000 + random.u16(0..40)).to_le_bytes());
        }
        frame
    };
    let piece: Vec<u8> = (0..4096).flat_map(&mut frame).collect();
    while bus.write_all(&piece).is_ok() {
        talk.said.fetch_add(4096, Ordering::Relaxed);
    }
}
