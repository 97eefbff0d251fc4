//! Other clouds, packets that are none, lines that are none, and an orderly end.

use std::io::Write as _;

use outpost::clock;
use outpost::limits::{BLOCK_BYTES_MAX, CHANNELS_MAX};
use outpost::link::{Command, Link, LinkEvent, Publish, Qos};
use outpost::spool;
use outpost::wire::Lane;
use outpost::wire::ack::{AckMessage, LaneAck};
use serde_json::Value;

use super::eventually;
use super::seat::Seat;
use super::site::{Cable, DEVICE, Site, lines_of, pending, promised, send};
use super::support;

#[test]
fn a_cloud_without_our_aggregator_gets_json_and_the_broker_releases() {
    let site = Site::new();
    let cloud = site.watcher(vec![site.topic("up/+")]);
    let mut agent = site.agent(site.broker.addr, "ack = \"broker\"\npayload = \"json\"\n");
    send(&mut lines_of(&agent), 1..=3000).unwrap();
    let (mut next, mut values, mut metrics) = ([1; 4], Vec::new(), 0);
    while values.len() < 3000 || metrics == 0 {
        let (topic, document, _) = smol::block_on(support::message(&cloud));
        let document: Value = serde_json::from_str(&document).unwrap();
        let lane = Lane::from_name(document["lane"].as_str().unwrap()).unwrap();
        assert_eq!((topic, &document["device"]), (site.topic(&format!("up/{lane}")), &Value::from(DEVICE)));
        let records = document["records"].as_array().unwrap();
        assert_eq!(document["first"], next[lane.index()], "{lane}: in order and without a hole");
        assert_eq!(document["count"], records.len());
        next[lane.index()] += records.len() as u64;
        match lane {
            Lane::Raw => values.extend(records.iter().map(|r| r["value"].as_f64().unwrap() as u64)),
            Lane::Metric => metrics += records.len(),
            Lane::Alarm | Lane::Digest => {}
        }
    }
    assert_eq!(values, (1..=3000).collect::<Vec<_>>());
    eventually("a spool that the broker has released", || (pending(&agent) == 0).then_some(()));
    assert!(agent.stop().success());
    for (lane, books) in Lane::ALL.iter().zip(spool::stat(&site.spool_dir()).unwrap().ledger) {
        assert_eq!((books.acknowledged, books.pending), (books.admitted, 0), "{lane}");
    }
    smol::block_on(support::stop(cloud));
}

#[test]
fn malformed_packets_are_dropped_and_counted() {
    let site = Site::new();
    let cable = Cable::lay(&site);
    let watcher = site.watcher(vec![site.topic("up/raw")]);
    let mut agent = site.agent(cable.addr, "");
    eventually("the line", || (agent.metric("outpost_link_up") == 1).then_some(()));
    send(&mut lines_of(&agent), 1..=1000).unwrap();
    let block = smol::block_on(async {
        loop {
            if let LinkEvent::Message { payload, .. } = support::next(&watcher).await {
                return payload;
            }
        }
    });
    eventually("a backlog", || (promised(&agent) == 1000).then_some(()));

    // To the agent: acknowledgements that are none release nothing.
    let epoch = epoch(&agent);
    let ack = |epoch, through| {
        AckMessage { lanes: vec![LaneAck { lane: Lane::Raw, epoch, through, also: vec![] }] }.encode()
    };
    let good = ack(epoch, 1000);
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let bad = [
        Vec::new(),
        b"garbage".to_vec(),
        b"{}".to_vec(),
        vec![0xff; 5000],
        good[..good.len() - 1].to_vec(),
        flipped,
    ];
    let count = bad.len() as u64;
    bad.into_iter().for_each(|payload| say(&watcher, &site.topic("ack"), payload));
    say(&watcher, &site.topic("ack"), ack(epoch, u64::MAX - 1));
    say(&watcher, &site.topic("ack"), ack(epoch ^ 1, 1000));
    eventually("the agent's counter", || {
        (agent.metric("outpost_packets_malformed_total") == count).then_some(())
    });
    eventually("the remark on an impossible acknowledgement", || {
        agent.events().iter().find(|event| event["event"] == "ack_beyond_tail").cloned()
    });
    assert!(pending(&agent) >= 1000, "something was released");

    // To the aggregator: neither broken blocks nor topics of nobody.
    let mut aggregator = site.aggregator();
    eventually("the line", || (aggregator.metric("outpost_link_up") == 1).then_some(()));
    let mut broken = block.clone();
    broken[block.len() / 2] ^= 1;
    let bad = [
        ("up/raw", b"garbage".to_vec()),
        ("up/raw", Vec::new()),
        ("up/raw", vec![b'O'; BLOCK_BYTES_MAX]),
        ("up/raw", block[..block.len() - 1].to_vec()),
        ("up/raw", broken),
        ("up/metric", block.clone()),
        ("up/nothing", block.clone()),
        ("hb", vec![0; 300]),
        ("state", b"dancing".to_vec()),
        ("state", vec![0xff, 0xfe]),
    ];
    let count = bad.len() as u64 + 1;
    bad.into_iter().for_each(|(leaf, payload)| say(&watcher, &site.topic(leaf), payload));
    say(&watcher, &format!("{}/a <b> c/hb", site.prefix), vec![1]);
    eventually("the aggregator's counter", || {
        (aggregator.metric("outpost_packets_malformed_total") == count).then_some(())
    });
    // Both go on. A new connection sends again at once what nobody took; the old one would wait for half a minute.
    cable.cut();
    send(&mut lines_of(&agent), 1001..=1500).unwrap();
    eventually("the rest on disk", || (promised(&agent) == 1500).then_some(()));
    eventually("the cut to be noticed", || (agent.metric("outpost_link_up") == 0).then_some(()));
    cable.mend();
    site.settle(&mut agent, &mut aggregator);
    assert_eq!(values(&site), (1..=1500).collect::<Vec<_>>());
    smol::block_on(support::stop(watcher));
}

#[test]
fn a_sigterm_flushes_and_says_offline() {
    let site = Site::new();
    let mut agent = site.agent(site.broker.addr, "");
    eventually("the line", || (agent.metric("outpost_link_up") == 1).then_some(()));
    assert_eq!(state(&site), "online");
    send(&mut lines_of(&agent), 1..=5000).unwrap();
    eventually("all readings taken", || (agent.metric("outpost_readings_total") == 5000).then_some(()));
    assert!(agent.stop().success());
    let books = spool::stat(&site.spool_dir()).unwrap().ledger;
    assert_eq!((books[Lane::Raw.index()].admitted, books[Lane::Raw.index()].pending), (5000, 5000));
    assert!(books[Lane::Metric.index()].pending >= 1, "the open window was told");
    assert_eq!(state(&site), "offline");

    let mut aggregator = site.aggregator();
    agent.restart();
    eventually("the state online", || (state(&site) == "online").then_some(()));
    site.settle(&mut agent, &mut aggregator);
    assert_eq!(values(&site), (1..=5000).collect::<Vec<_>>());
    assert_eq!(state(&site), "offline");
}

#[test]
fn a_sigterm_without_a_line_keeps_everything_and_ends_well() {
    let site = Site::new();
    let mut agent = site.agent(([127, 0, 0, 1], 1).into(), "");
    send(&mut lines_of(&agent), 1..=1000).unwrap();
    eventually("all readings taken", || (agent.metric("outpost_readings_total") == 1000).then_some(()));
    assert!(agent.stop().success());
    assert_eq!(spool::stat(&site.spool_dir()).unwrap().ledger[Lane::Raw.index()].pending, 1000);
}

#[test]
fn a_full_pipeline_of_bad_lines_never_stops_the_agent() {
    let site = Site::new();
    let mut aggregator = site.aggregator();
    let mut agent = site.agent(site.broker.addr, "");
    let mut lines = lines_of(&agent);
    let mut say = |text: &str| lines.write_all(text.as_bytes()).unwrap();

    say(&"x".repeat(10_000_000));
    say("\n");
    say(&format!("{}\n{}\n", "[".repeat(60_000), "{\"a\":".repeat(10_000)));
    say(
        "\u{0}\u{1}\n}{\n\"\n{\"channel\":7}\n{\"channel\":\"x\",\"value\":1,\"ts\":\"yesterday\"}\n,,,\nm x=\n",
    );
    for value in
        ["NaN", "\"-inf\"", "1e999", "null", "1e308", "-1e308", "1.7976931348623157e308", "5e-324", "-0.0"]
    {
        (0..50).for_each(|_| say(&format!("{{\"channel\":\"odd.value\",\"value\":{value}}}\n")));
    }
    for at in ["0", "5", "-1", "1e18", "9223372036854775807", "-9223372036854775808", "253402300799"] {
        say(&format!("{{\"channel\":\"odd.time\",\"value\":1,\"ts\":{at}}}\nodd time2=1 {at}\n"));
    }
    let now_s = clock::wall().0 / 1_000_000;
    (0..500).for_each(|n| {
        say(&format!("{{\"channel\":\"odd.back\",\"value\":{n},\"ts\":{}}}\n", now_s - n * 60))
    });
    (0..CHANNELS_MAX + 100).for_each(|n| say(&format!("{{\"many.c{n}\":{n}}}\n")));
    say("{\"odd.value\":42}\n");
    lines.write_all(&[0xff, 0xfe, b'=', b'\n']).unwrap();

    eventually("the last channels refused", || {
        (agent.metric("outpost_input_malformed_total") >= 110).then_some(())
    });
    let before = promised(&agent);
    // All places for channels are taken: a known one still counts.
    let mut lines = lines_of(&agent);
    (0..500).for_each(|n| lines.write_all(format!("{{\"odd.value\":{n}}}\n").as_bytes()).unwrap());
    eventually("good readings on disk", || (promised(&agent) >= before + 500).then_some(()));
    site.settle(&mut agent, &mut aggregator);
}

/// The numbers that the aggregator keeps, in order.
fn values(site: &Site) -> Vec<u64> {
    site.delivered().iter().map(|reading| reading.value.unwrap() as u64).collect()
}

fn epoch(agent: &Seat) -> u64 {
    let status = agent.json("/api/status").unwrap();
    u64::from_str_radix(status["ledger"][0]["epoch"].as_str().unwrap(), 16).unwrap()
}

/// What the retained state of the device says to one who comes now.
fn state(site: &Site) -> String {
    let late = site.watcher(vec![site.topic("state")]);
    let (_, state, _) = smol::block_on(support::message(&late));
    smol::block_on(support::stop(late));
    state
}

/// Publishes anything.
fn say(watcher: &Link, topic: &str, payload: Vec<u8>) {
    let publish = Publish {
        token: None,
        topic: topic.to_owned(),
        payload,
        qos: Qos::AtLeastOnce,
        retain: false,
        historical: false,
        content_type: None,
    };
    watcher.commands.send_blocking(Command::Publish(publish)).unwrap();
}
