//! Lines as they are in the field: long, thin, lossy, coming and going. All of it arrives, once.
//!
//! The weather is made by a relay, which holds back what passes as a line would: it can't lose packets of TCP, but it
//! can do what their loss does, which is that everything behind waits for a retransmission. `.ci/run network` lets the
//! same tests run in network namespaces, in the kernel's own weather (`OUTPOST_TEST_WEATHER=kernel`).

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::rc::Rc;
use std::time::{Duration, Instant};

use outpost::wire::Lane;
use smol::LocalExecutor;
use smol::channel::{Receiver, Sender};
use smol::future::FutureExt as _;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::net::{TcpListener, TcpStream as Stream};

use super::eventually;
use super::site::{CHANNEL, Cable, Site, lines_of, promised, send};
use super::support;

/// What happens to what passes, in each direction.
#[derive(Clone, Copy)]
struct Weather {
    delay: Duration,
    bytes_per_s: u32,
    /// Of packets; each costs a retransmission.
    loss: f64,
}

const SATELLITE: Weather = Weather { delay: Duration::from_millis(300), bytes_per_s: 2_500_000, loss: 0.02 };
const MOBILE_3G: Weather = Weather { delay: Duration::from_millis(100), bytes_per_s: 125_000, loss: 0.01 };
const DELAYED: Weather = Weather { delay: Duration::from_millis(300), bytes_per_s: 12_500_000, loss: 0.0 };

#[test]
fn over_a_satellite_everything_arrives_once_and_in_order() {
    deliver_through(SATELLITE);
}

#[test]
fn over_a_thin_mobile_line_everything_arrives_once_and_in_order() {
    deliver_through(MOBILE_3G);
}

#[test]
fn with_three_hundred_milliseconds_more_everything_arrives_once_and_in_order() {
    deliver_through(DELAYED);
}

#[test]
fn over_a_line_that_comes_and_goes_every_five_seconds_everything_arrives_once_and_in_order() {
    let site = Site::new();
    let cable = Cable::lay(&site);
    let addr = cable.addr;
    let flapping = std::thread::spawn(move || {
        for _ in 0..3 {
            cable.cut();
            std::thread::sleep(Duration::from_secs(5));
            cable.mend();
            std::thread::sleep(Duration::from_secs(5));
        }
        cable
    });
    deliver(&site, addr, "");
    flapping.join().unwrap();
}

#[test]
fn over_a_websocket_inside_tls_everything_arrives_once_and_in_order() {
    let Ok(place) = std::env::var("OUTPOST_TEST_WEBSOCKET") else {
        return support::skip("no broker with a WebSocket; `.ci/run broker` brings some");
    };
    let addr = place.to_socket_addrs().unwrap().find(SocketAddr::is_ipv4).unwrap();
    deliver(&Site::new(), addr, "websocket = \"/mqtt\"\n");
}

fn deliver_through(weather: Weather) {
    let site = Site::new();
    let addr = match std::env::var("OUTPOST_TEST_WEATHER") {
        Ok(_) => site.broker.addr,
        Err(_) => relay(weather, site.broker.addr),
    };
    deliver(&site, addr, "");
}

const READINGS: u64 = 10_000;

/// Feeds an agent that finds the broker at `addr` for ten seconds and holds what the aggregator keeps against what was
/// fed. `more` follows the table `mqtt` of its file.
fn deliver(site: &Site, addr: SocketAddr, more: &str) {
    let mut aggregator = site.aggregator();
    let mut agent = site.agent(addr, more);
    let mut lines = lines_of(&agent);
    for part in 0..20 {
        let first = part * (READINGS / 20) + 1;
        send(&mut lines, first..=first + READINGS / 20 - 1).unwrap();
        noise(&mut lines);
        std::thread::sleep(Duration::from_millis(500));
    }
    eventually("the load on disk", || (promised(&agent) == READINGS + 20 * NOISE).then_some(()));
    let books = site.settle(&mut agent, &mut aggregator);
    assert_eq!(books.ledger[Lane::Raw.index()].evicted_total(), 0);
    let delivered = site.delivered();
    let counted = delivered.iter().filter(|reading| reading.channel.as_str() == CHANNEL);
    let values: Vec<u64> = counted.map(|reading| reading.value.unwrap() as u64).collect();
    assert!(values.iter().copied().eq(1..=READINGS), "{} of {READINGS} in order", values.len());
}

/// Readings of [`noise`].
const NOISE: u64 = 4000;

/// About 30 kB that do not compress.
fn noise(lines: &mut TcpStream) {
    for _ in 0..NOISE / 40 {
        let fields: Vec<String> = (0..40).map(|n| format!("\"noise.c{n}\":{}", fastrand::f64())).collect();
        writeln!(lines, "{{{}}}", fields.join(",")).unwrap();
    }
}

/// A relay to `target` in such a weather, on a thread of its own for as long as the process lives.
fn relay(weather: Weather, target: SocketAddr) -> SocketAddr {
    let (told, addr) = smol::channel::bounded(1);
    std::thread::spawn(move || {
        let executor = Rc::new(LocalExecutor::new());
        smol::block_on(executor.run(async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            told.send(listener.local_addr().unwrap()).await.unwrap();
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = Stream::connect(target).await else { continue };
                let (up, down) = (pass(near.clone(), far.clone(), weather), pass(far, near, weather));
                executor.spawn(up.or(down)).detach();
            }
        }));
    });
    addr.recv_blocking().unwrap()
}

/// One direction of one connection, until either side is gone.
async fn pass(from: Stream, to: Stream, weather: Weather) {
    let (sender, receiver) = smol::channel::bounded(UNDER_WAY);
    take(from, sender, weather).or(give(to, receiver)).await;
}

async fn take(mut from: Stream, under_way: Sender<(Instant, Vec<u8>)>, weather: Weather) {
    let mut free_at = Instant::now();
    loop {
        let mut packet = vec![0; PACKET_BYTES];
        let Ok(bytes @ 1..) = from.read(&mut packet).await else { return };
        packet.truncate(bytes);
        free_at = free_at.max(Instant::now())
            + Duration::from_secs_f64(bytes as f64 / f64::from(weather.bytes_per_s));
        if fastrand::f64() < weather.loss {
            free_at += weather.delay * 2 + RETRANSMISSION;
        }
        if under_way.send((free_at + weather.delay, packet)).await.is_err() {
            return;
        }
    }
}

async fn give(mut to: Stream, under_way: Receiver<(Instant, Vec<u8>)>) {
    while let Ok((at, packet)) = under_way.recv().await {
        smol::Timer::at(at).await;
        if to.write_all(&packet).await.is_err() {
            return;
        }
    }
}

const PACKET_BYTES: usize = 1460;
/// The least time after which Linux sends a packet again.
const RETRANSMISSION: Duration = Duration::from_millis(200);
/// Packets that a line holds; a satellite's are the most, 1.5 MB.
const UNDER_WAY: usize = 1024;
