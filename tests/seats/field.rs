//! A broker in the field that comes and goes beside the agent's own line.

use outpost::link::{self, Link, Protocol};
use outpost::reading::{NoData, Reading};
use serde_json::{Value, json};

use super::broker::Broker;
use super::eventually;
use super::seat::Seat;
use super::site::{CHANNEL, Site, lines_of, promised, send};
use super::support::{self, TestBroker};

/// A source that listens to `broker`, for the end of an agent's file.
fn source(broker: &TestBroker) -> String {
    let files = broker.pki.tls_files("gateway");
    let (cert, key) = files.identity.unwrap();
    format!(
        "[[source]]\nname = \"local\"\nkind = \"mqtt\"\nbroker = \"127.0.0.1:{}\"\nca = {:?}\ncert = {cert:?}\nkey = {key:?}\n\
         [[topic]]\nsource = \"local\"\ntopic = \"tank/{{what}}\"\nchannel = \"tank.{{what}}\"\n",
        broker.addr.port(),
        files.ca,
    )
}

/// Says the next number under `tank/level`.
fn say(meter: &Link, number: &mut u64) {
    *number += 1;
    meter.commands.send_blocking(support::publish(*number, "tank/level", &number.to_string())).unwrap();
    while meter.events.try_recv().is_ok() {}
}

fn doubtful(agent: &Seat) -> Value {
    agent.json("/api/status").unwrap()["doubtful"].clone()
}

#[test]
fn a_field_broker_that_is_killed_takes_the_values_of_its_channels_along_and_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(dir.path(), Protocol::V311);
    let at = broker.for_test(dir);
    let site = Site::new();
    let mut aggregator = site.aggregator();
    let mut agent = site.agent(site.broker.addr, "");
    let mut lines = lines_of(&agent);
    agent.reload(|toml| toml + &source(&at));
    let (meter, mut said) = (link::spawn(at.options("watcher")).unwrap(), 0);
    smol::block_on(support::up(&meter));
    eventually("a level", || {
        say(&meter, &mut said);
        (promised(&agent) > 0).then_some(())
    });
    send(&mut lines, 1..=100).unwrap();
    broker.kill();
    let lost = json!([{ "channel": "tank.level", "quality": "bad", "missing": "no_answer" }]);
    eventually("a level without a value", || (doubtful(&agent) == lost).then_some(()));
    send(&mut lines, 101..=200).unwrap();
    broker.restart();
    smol::block_on(support::up(&meter));
    eventually("a level again", || {
        say(&meter, &mut said);
        (doubtful(&agent) == json!([])).then_some(())
    });
    send(&mut lines, 201..=300).unwrap();
    let is_line = |reading: &Reading| reading.channel.as_str() == CHANNEL;
    eventually("all lines", || {
        (site.delivered().iter().filter(|reading| is_line(reading)).count() == 300).then_some(())
    });
    site.settle(&mut agent, &mut aggregator);
    let (lines, levels): (Vec<_>, Vec<_>) = site.delivered().into_iter().partition(is_line);
    assert!(
        lines.into_iter().map(|line| line.value.unwrap()).eq((1..=300).map(f64::from)),
        "a line is missing"
    );
    let missing: Vec<usize> = (0..levels.len()).filter(|&n| levels[n].value.is_err()).collect();
    let &[lost] = &missing[..] else { panic!("{levels:?}") };
    assert_eq!(levels[lost].value, Err(NoData::NoAnswer));
    assert!((1..levels.len() - 1).contains(&lost), "values before and after: {levels:?}");
}
