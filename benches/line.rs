//! What a line of 100 ms there and back is used for, and how long an alarm is on its way: `cargo bench --bench line`.
//!
//! The real program and the real aggregator over mutual TLS; between the program and the broker lies a relay that carries
//! so many bits a second and delays both directions. On each line alarms are raised one a second, first with an empty
//! spool, then over a backlog of a gigabyte (`OUTPOST_BENCH_BACKLOG_MIB` for another one). `used` is the share of the line that
//! payloads take at the broker, `alarm` the time from writing the line that breaks a limit to its record at the broker,
//! `meter` what the program reckons to have sent and received by what went through the relay, TLS included.

#[expect(dead_code, reason = "shared by the benchmarks of the line; each uses its part")]
#[path = "support/site.rs"]
mod site;
#[expect(dead_code, reason = "shared by benchmarks that look from outside; each uses its part")]
mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use outpost::reading::{ChannelId, Reading};
use outpost::time::Wall;
use outpost::wire::Record;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};
use site::{Site, fill};
use support::{Program, connect, free_address};
use tempfile::TempDir;

fn main() {
    let site = Site::new();
    let mib: usize =
        std::env::var("OUTPOST_BENCH_BACKLOG_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(1_024);
    let full = site.dir.path().join("full");
    eprintln!("filling a spool with {mib} MiB ...");
    fill(&full.join("spool"), mib * READINGS_PER_MIB, 4_000, noise);
    println!(
        "{:<30}{:>9}{:>8}{:>15}{:>15}{:>9}",
        "line", "spool", "used", "alarm p50, ms", "alarm max, ms", "meter"
    );
    for mbit_per_s in [1, 5, 20] {
        for backlog in [None, Some(full.as_path())] {
            measure(&site, mbit_per_s, backlog);
        }
    }
}

fn measure(site: &Site, mbit_per_s: u64, backlog: Option<&Path>) {
    let relay = Relay::open(site.broker, mbit_per_s * 125_000, WAY);
    let heard = watch(site);
    let run = Run::start(site, &relay, backlog);
    thread::sleep(SETTLE);
    heard.try_iter().for_each(drop);
    let begun = Instant::now();
    let raised: Vec<Instant> = (0..ALARMS).map(|n| run.raise(n)).collect();
    let mut payload_bytes = 0;
    let mut seen = Vec::new();
    while begun.elapsed() < ALARM_EVERY * ALARMS as u32 + PATIENCE && seen.len() < ALARMS {
        let Ok(message) = heard.recv_timeout(Duration::from_millis(100)) else { continue };
        payload_bytes += message.bytes;
        if message.is_alarm {
            seen.push(message.at);
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(seen.len(), ALARMS, "every alarm arrives");
    let mut waits: Vec<f64> =
        raised.iter().zip(&seen).map(|(from, to)| to.duration_since(*from).as_secs_f64() * 1e3).collect();
    waits.sort_by(f64::total_cmp);
    let used = payload_bytes as f64 / seconds / (mbit_per_s as f64 * 125_000.0);
    let meter = run.program.page("/api/status")["meter"]["used_bytes"].as_f64().unwrap_or(f64::NAN);
    println!(
        "{:<30}{:>9}{:>8}{:>15.0}{:>15.0}{:>9.3}",
        format!("{mbit_per_s} Mbit/s, {} ms", 2 * WAY.as_millis()),
        if backlog.is_some() { "backlog" } else { "empty" },
        backlog.map_or("-".to_owned(), |_| format!("{:.1} %", used * 100.0)),
        waits[waits.len() / 2],
        waits[waits.len() - 1],
        meter / relay.bytes() as f64,
    );
}

/// The two seats, and where the gateway hears its readings.
struct Run {
    program: Program,
    lines: SocketAddr,
    _aggregator: Program,
    _dir: TempDir,
}

impl Run {
    fn start(site: &Site, relay: &Relay, backlog: Option<&Path>) -> Self {
        let dir = TempDir::new_in(site.dir.path()).expect("the directory takes a folder");
        if let Some(full) = backlog {
            let copied =
                std::process::Command::new("cp").arg("-r").arg(full).arg(dir.path().join("data")).status();
            assert!(copied.is_ok_and(|status| status.success()), "the spool is copied");
        }
        let config = format!("{}[store]\npath = \"store.sqlite\"\n", site.mqtt("aggregator", site.broker));
        let aggregator = Program::start(dir.path(), "aggregate", &config);
        aggregator.ready();
        let lines = free_address();
        let config = format!(
            "device = \"bench\"\ndata_dir = \"data\"\n{}[spool]\nbytes_max = \"16 GiB\"\n[digest]\nenabled = false\n\
             [uplink]\nbytes_per_day = \"1024 GiB\"\n[windows]\nlength = \"1 h\"\n\
             [[source]]\nname = \"plant\"\nkind = \"lines\"\ntcp = \"{lines}\"\n\
             [channels.\"pump*\"]\nlimit_high_critical = 85.0\ndetect = false\n",
            site.mqtt("gateway", relay.address),
        );
        let program = Program::start(dir.path(), "run", &config);
        program.until("/api/status", Duration::from_millis(20), |page| page["line"]["up"] == true);
        Self { program, lines, _aggregator: aggregator, _dir: dir }
    }

    /// Breaks the limit of one channel; when.
    fn raise(&self, n: usize) -> Instant {
        let mut stream = connect(self.lines);
        thread::sleep(ALARM_EVERY);
        let at = Instant::now();
        writeln!(stream, "{{\"channel\":\"pump{n}.temp\",\"value\":99.5}}").expect("the source listens");
        at
    }
}

/// Something that reached the broker.
struct Message {
    at: Instant,
    is_alarm: bool,
    bytes: usize,
}

/// Hears everything that devices publish, on a line of its own.
fn watch(site: &Site) -> Receiver<Message> {
    let name = format!("watcher{}", fastrand::u32(..));
    let mut mqtt = MqttOptions::new(name, "127.0.0.1", site.broker.port());
    mqtt.set_max_packet_size(Some(256 * 1024));
    let tls = site.pki.tls_files("gateway").load().expect("certificates");
    mqtt.set_transport(Transport::Tls(TlsConfiguration::Rustls(tls)));
    let (sender, receiver) = channel();
    let (ready, is_ready) = channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (client, mut eventloop) = AsyncClient::new(mqtt, 10);
            client.subscribe("outpost/v1/bench/up/#", QoS::AtMostOnce).await.expect("the loop runs");
            loop {
                match eventloop.poll().await {
                    Ok(Event::Incoming(Packet::SubAck(_))) => _ = ready.send(()),
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        let is_alarm = publish.topic.ends_with(b"/alarm");
                        let message = Message { at: Instant::now(), is_alarm, bytes: publish.payload.len() };
                        if sender.send(message).is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(error) => panic!("the watcher's line: {error}"),
                }
            }
        });
    });
    is_ready.recv().expect("the watcher subscribes");
    receiver
}

/// A line of so many bytes a second with the same delay both ways.
struct Relay {
    address: SocketAddr,
    passed: Arc<AtomicU64>,
}

impl Relay {
    fn open(target: SocketAddr, bytes_per_s: u64, way: Duration) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let passed = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&passed);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let far = TcpStream::connect(target).expect("the broker listens");
                for (from, to) in [(&near, &far), (&far, &near)] {
                    to.set_nodelay(true).expect("a socket");
                    let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    carry(from, to, bytes_per_s, way, Arc::clone(&counted));
                }
            }
        });
        Self { address, passed }
    }

    /// Both ways.
    fn bytes(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

/// One direction: a thread that reads at the rate of the line, and one that hands on what has been under way for long enough.
fn carry(mut from: TcpStream, mut to: TcpStream, bytes_per_s: u64, way: Duration, passed: Arc<AtomicU64>) {
    let pieces = (bytes_per_s as f64 * way.as_secs_f64() / PIECE as f64).ceil() as usize + 1;
    let (sender, receiver) = sync_channel::<(Instant, Vec<u8>)>(pieces);
    thread::spawn(move || {
        let mut piece = [0; PIECE];
        let mut free = Instant::now();
        while let Ok(read @ 1..) = from.read(&mut piece) {
            passed.fetch_add(read as u64, Ordering::Relaxed);
            // A thread that wakes a little late makes up for it.
            let now = Instant::now();
            free = free.max(now.checked_sub(LAG).unwrap_or(now))
                + Duration::from_secs_f64(read as f64 / bytes_per_s as f64);
            if sender.send((free + way, piece[..read].to_vec())).is_err() {
                return;
            }
            thread::sleep(free.saturating_duration_since(Instant::now()));
        }
    });
    thread::spawn(move || {
        while let Ok((due, piece)) = receiver.recv() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        // The other end may be gone already.
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// Values that no compressor makes small.
fn noise(random: &mut fastrand::Rng, i: usize) -> Record {
    let channel = ChannelId::new(&format!("noise{}", i % 4)).expect("a good name");
    Record::Reading(Reading::new(channel, Wall(1_767_323_045_000_000 + i as i64 * 1_000), Ok(random.f64())))
}

const WAY: Duration = Duration::from_millis(50);
/// How late a thread may wake without a loss to the line.
const LAG: Duration = Duration::from_millis(10);
const SETTLE: Duration = Duration::from_secs(8);
const ALARMS: usize = 20;
const ALARM_EVERY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);
/// A little less than the smallest block, so that the relay is smoother than what it carries.
const PIECE: usize = 2 * 1024;
/// Of [`noise`], about.
const READINGS_PER_MIB: usize = 120_000;
