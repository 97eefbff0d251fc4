//! How fast a full spool drains over mutual TLS: `cargo bench --bench drain`.
//!
//! A spool of a million records is filled; then the real program starts with it beside a broker on loopback and is
//! watched through its status page from the moment its line is up until nothing is pending, once with the broker's
//! PUBACK as proof and once with the real aggregator. For comparison rumqttc publishes the same payloads from memory
//! at QoS 1 with the same window over the same kind of connection, in the same round. Every figure is the median of
//! [`ROUNDS`] in megabytes of payload per second; the broker (rumqttd, inside this process) is the same for
//! all. The last column is the time in which the aggregator has acknowledged everything.

#[path = "support/site.rs"]
mod site;
#[expect(dead_code, reason = "shared by benchmarks that look from outside; each uses its part")]
mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use outpost::reading::{ChannelId, Reading};
use outpost::time::Wall;
use outpost::wire::{Notice, Record};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Packet};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};
use serde_json::Value;
use site::{Site, fill, payloads};
use support::{Program, free_address};
use tempfile::TempDir;

fn main() {
    let site = Site::new();
    println!(
        "{:<34}{:>8}{:>10}{:>10}{:>9}{:>7}{:>12}{:>7}{:>9}",
        "a million records",
        "blocks",
        "B a block",
        "rumqttc",
        "broker",
        "ratio",
        "aggregator",
        "ratio",
        "seconds"
    );
    measure(&site, "readings, 1 000 a block", 1_000, reading);
    measure(&site, "readings, full blocks", 16_000, reading);
    measure(&site, "texts of 256 bytes, full blocks", 16_000, notice);
}

fn measure(site: &Site, what: &str, per_commit: usize, record: fn(&mut fastrand::Rng, usize) -> Record) {
    let full = site.dir.path().join("full");
    fill(&full.join("spool"), RECORDS, per_commit, record);
    let payloads = payloads(&full.join("spool"));
    let bytes: usize = payloads.iter().map(Vec::len).sum();
    let rate = |seconds: f64| bytes as f64 / 1e6 / seconds;
    let mut rows: Vec<[f64; 3]> = Vec::new();
    for _ in 0..ROUNDS {
        rows.push([
            rate(plain(site, &payloads)),
            rate(drain(site, &full, "broker")),
            rate(drain(site, &full, "aggregator")),
        ]);
    }
    let [plain, broker, aggregator] = std::array::from_fn(|column| {
        let mut figures: Vec<f64> = rows.iter().map(|row| row[column]).collect();
        figures.sort_by(f64::total_cmp);
        figures[ROUNDS / 2]
    });
    println!(
        "{what:<34}{:>8}{:>10}{plain:>10.1}{broker:>9.1}{:>7.2}{aggregator:>12.1}{:>7.2}{:>9.2}",
        payloads.len(),
        bytes / payloads.len(),
        broker / plain,
        aggregator / plain,
        bytes as f64 / 1e6 / aggregator
    );
    std::fs::remove_dir_all(full).expect("the folder is ours");
}

/// Fifty channels of slowly wandering decimals, ten times a second.
fn reading(random: &mut fastrand::Rng, i: usize) -> Record {
    let at = Wall(1_767_323_045_000_000 + (i / 50) as i64 * 100_000);
    let value = 20.0 + (i as f64 / 5e4).sin() + f64::from(random.i16(-9..=9)) / 100.0;
    let channel = ChannelId::new(&format!("bearing{}.temp", i % 50)).expect("a good name");
    Record::Reading(Reading::new(channel, at, Ok((value * 100.0).round() / 100.0)))
}

/// 256 bytes that hardly compress.
fn notice(random: &mut fastrand::Rng, i: usize) -> Record {
    let text = (0..240).map(|_| random.char('!'..='~')).collect();
    Record::Notice(Notice { code: format!("n{i:07}"), text, at: Wall(i as i64) })
}

/// Seconds in which the real program drains a copy of the spool in `full`.
fn drain(site: &Site, full: &Path, ack: &str) -> f64 {
    let dir = TempDir::new_in(site.dir.path()).expect("the directory takes a folder");
    let copied = Command::new("cp").arg("-r").arg(full).arg(dir.path().join("data")).status();
    assert!(copied.is_ok_and(|status| status.success()), "the spool is copied");
    // Else the agent's first sync would wait for all of the copy.
    rustix::fs::sync();
    let aggregator = (ack == "aggregator").then(|| {
        let config = format!("{}[store]\npath = \"store.sqlite\"\n", site.mqtt("aggregator", site.broker));
        let program = Program::start(dir.path(), "aggregate", &config);
        program.ready();
        program
    });
    let mut config =
        format!("device = \"bench\"\ndata_dir = \"data\"\n{}", site.mqtt("gateway", site.broker));
    let _ = write!(
        config,
        "ack = \"{ack}\"\n[spool]\nbytes_max = \"1 GiB\"\n[digest]\nenabled = false\n\
         [[source]]\nname = \"nobody\"\nkind = \"lines\"\ntcp = \"{}\"\n",
        free_address()
    );
    let agent = Program::start(dir.path(), "run", &config);
    let mut up = Instant::now();
    agent.until("/api/status", LOOK, |page| {
        let connected = page["line"]["up"] == true;
        if !connected {
            up = Instant::now();
        }
        connected && pending(page) == 0
    });
    let seconds = up.elapsed().as_secs_f64();
    drop(aggregator);
    seconds
}

fn pending(page: &Value) -> u64 {
    let lanes = page["ledger"].as_array().map_or(&[][..], Vec::as_slice);
    lanes.iter().map(|lane| lane["pending"].as_u64().unwrap_or(u64::MAX)).sum()
}

/// Seconds in which rumqttc publishes `payloads` from memory, from the first to the last PUBACK.
fn plain(site: &Site, payloads: &[Vec<u8>]) -> f64 {
    let mut mqtt = MqttOptions::new("plain", "127.0.0.1", site.broker.port());
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    mqtt.set_network_options(network).set_outgoing_inflight_upper_limit(WINDOW);
    let tls = site.pki.tls_files("gateway").load().expect("certificates");
    mqtt.set_transport(Transport::Tls(TlsConfiguration::Rustls(tls)));
    let (client, mut eventloop) = AsyncClient::new(mqtt, usize::from(WINDOW));
    let topic = "outpost/v1/plain/up/raw";
    let publish = async {
        for payload in payloads {
            client.publish(topic, QoS::AtLeastOnce, false, payload.clone()).await.expect("the loop runs");
        }
    };
    let answers = async {
        let mut begun = Instant::now();
        let mut answered = 0;
        while answered < payloads.len() {
            match eventloop.poll().await.expect("the broker answers") {
                Event::Incoming(Packet::ConnAck(ack)) => {
                    assert_eq!(ack.code, ConnectReturnCode::Success);
                    begun = Instant::now();
                }
                Event::Incoming(Packet::PubAck(_)) => answered += 1,
                _ => {}
            }
        }
        begun.elapsed().as_secs_f64()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { smol::future::zip(publish, answers).await.1 })
}

const RECORDS: usize = 1_000_000;
const ROUNDS: usize = 3;
const WINDOW: u16 = 64;
const LOOK: Duration = Duration::from_millis(2);
