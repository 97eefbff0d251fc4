//! The field that is played: who posts lines, a Modbus device.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use outpost::field::modbus::{Order, Register, Shape, Table};
use outpost::reading::{ChannelId, Unit};

/// Posts until nobody takes it any more.
pub fn post(address: SocketAddr) {
    let fields: Vec<String> = (0..10).map(|n| format!("f{n}={n}.5")).collect();
    let body = format!("m {}\n", fields.join(",")).repeat(1000);
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
