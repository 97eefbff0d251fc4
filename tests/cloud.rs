//! The aggregator's seat behind a real broker: a device delivers, is acknowledged, and finds its account on the pages.

#![cfg(feature = "demo")]

#[expect(dead_code, reason = "shared by the tests of the line; each uses its part")]
mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use outpost::aggregator::store::Retention;
use outpost::aggregator::{self, AggregatorError, AggregatorOptions};
use outpost::clock;
use outpost::demo::fetch;
use outpost::http::HttpOptions;
use outpost::link::{self, Command, Link, LinkEvent, LinkOptions, Publish, Qos};
use outpost::reading::{ChannelId, Reading};
use outpost::wire::ack::{AckMessage, LaneAck};
use outpost::wire::block::{BlockHeader, Body, encode_block};
use outpost::wire::heartbeat::{Health, Heartbeat, LaneBeat};
use outpost::wire::{Lane, Record};
use serde_json::Value;
use smol::channel::Sender;

const EPOCH: u64 = 0x77;

struct Seat {
    pages: SocketAddr,
    stop: Sender<()>,
    join: JoinHandle<Result<(), AggregatorError>>,
}

/// An aggregator on its own thread, as the program runs it.
fn start(link: LinkOptions, prefix: &str, database: &Path) -> Seat {
    // Free a moment ago; nothing else on this machine asks for it by name.
    let pages = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = AggregatorOptions {
        link,
        prefix: prefix.to_owned(),
        shared_group: None,
        http: HttpOptions { addr: pages, ..HttpOptions::default() },
        database: database.to_owned(),
        retention: Retention::default(),
        silent_after: Duration::from_secs(90),
        undeclared_after: Duration::from_secs(300),
        certificates: None,
    };
    let (stop, stopped) = smol::channel::bounded(1);
    let join = thread::spawn(move || aggregator::run(options, stopped));
    Seat { pages, stop, join }
}

impl Seat {
    fn end(self) {
        self.stop.send_blocking(()).unwrap();
        self.join.join().unwrap().unwrap();
    }
}

fn block(first: u64, count: u32) -> Vec<u8> {
    let channel = ChannelId::new("tank1.level").unwrap();
    let reading = |n: u32| Record::Reading(Reading::new(channel.clone(), clock::wall(), Ok(f64::from(n))));
    let header = BlockHeader {
        lane: Lane::Raw,
        epoch: EPOCH,
        first,
        count,
        sealed: clock::stamp(),
        body: Body::Records,
    };
    encode_block(&header, &(0..count).map(reading).collect::<Vec<_>>()).unwrap()
}

fn beat(admitted: u64, acknowledged: u64) -> Vec<u8> {
    let raw = LaneBeat {
        epoch: EPOCH.to_be_bytes(),
        admitted,
        acknowledged,
        pending: admitted - acknowledged,
        ..LaneBeat::default()
    };
    let mut lanes = [LaneBeat { epoch: EPOCH.to_be_bytes(), ..LaneBeat::default() }; 4];
    lanes[Lane::Raw.index()] = raw;
    Heartbeat {
        serial: 1,
        at: clock::stamp(),
        uptime_s: 1,
        version: "test".into(),
        model_hash_prefix: [0; 8],
        health: Health(0),
        lanes,
        oldest_age_s: 0,
        spool_bytes: 0,
        episodes_open: 0,
    }
    .encode()
}

async fn publish(device: &Link, topic: String, payload: Vec<u8>) {
    let publish = Publish {
        token: None,
        topic,
        payload,
        qos: Qos::AtLeastOnce,
        retain: false,
        historical: false,
        content_type: None,
    };
    device.commands.send(Command::Publish(publish)).await.unwrap();
}

/// Sends `payload` until an acknowledgement comes: the aggregator may not have subscribed yet.
async fn deliver(device: &Link, prefix: &str, payload: &[u8]) -> LaneAck {
    loop {
        publish(device, format!("{prefix}/d1/up/raw"), payload.to_vec()).await;
        let late = async {
            smol::Timer::after(Duration::from_millis(500)).await;
            None
        };
        let heard = async {
            loop {
                if let LinkEvent::Message { payload, .. } = support::next(device).await {
                    return Some(AckMessage::decode(&payload).unwrap());
                }
            }
        };
        if let Some(mut ack) = smol::future::or(heard, late).await {
            assert_eq!(ack.lanes.len(), 1);
            return ack.lanes.remove(0);
        }
    }
}

/// The raw lane of the ledger, once `wanted` holds.
async fn ledger(pages: SocketAddr, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut seen = Value::Null;
    for _ in 0..100 {
        if let Ok(found) = fetch::get_json::<Value>(pages, "/api/device/d1/ledger").await {
            seen = found["lanes"]
                .as_array()
                .unwrap()
                .iter()
                .find(|l| l["lane"] == "raw")
                .cloned()
                .unwrap_or_default();
            if wanted(&seen) {
                return seen;
            }
        }
        smol::Timer::after(Duration::from_millis(100)).await;
    }
    panic!("the ledger never said it: {seen}")
}

#[test]
fn a_delivery_is_acknowledged_after_the_commit_and_again_after_a_restart() {
    let broker = support::broker();
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("fleet.db");
    let prefix = format!("test/{:x}", fastrand::u64(..));
    let device = link::spawn(LinkOptions {
        subscriptions: vec![format!("{prefix}/d1/ack")],
        ..broker.options("gateway")
    })
    .unwrap();
    smol::block_on(async {
        support::up(&device).await;
        let seat = start(broker.options("aggregator"), &prefix, &database);
        let ack = deliver(&device, &prefix, &block(1, 40)).await;
        assert_eq!((ack.lane, ack.epoch, ack.through), (Lane::Raw, EPOCH, 40));
        publish(&device, format!("{prefix}/d1/up/raw"), b"garbage".to_vec()).await;
        let ack = deliver(&device, &prefix, &block(61, 20)).await;
        assert_eq!((ack.through, ack.also), (40, vec![(61, 80)]));
        publish(&device, format!("{prefix}/d1/hb"), beat(80, 60)).await;
        let raw = ledger(seat.pages, |raw| raw["admitted"] == 80).await;
        assert_eq!(
            (raw["held"].as_u64(), raw["holes"].as_u64(), raw["ok"].as_bool()),
            (Some(60), Some(20), Some(true))
        );
        assert_eq!(fetch::get(seat.pages, "/ready").await.unwrap(), b"ready\n");
        seat.end();

        let seat = start(broker.options("aggregator"), &prefix, &database);
        let ack = deliver(&device, &prefix, &block(41, 20)).await;
        assert_eq!((ack.through, ack.also), (80, vec![]));
        let raw = ledger(seat.pages, |raw| raw["held"] == 80).await;
        assert_eq!((raw["holes"].as_u64(), raw["through"].as_u64()), (Some(0), Some(80)));
        seat.end();
        device.commands.send(Command::Stop).await.unwrap();
    });
}
