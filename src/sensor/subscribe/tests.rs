//! Against a real broker, and messages that misbehave.

use rumqttc::{Client, MqttOptions, QoS};

use super::*;
use crate::demo::broker::{self, BrokerOptions};
use crate::field::topic::Path;
use crate::link::Protocol;
use crate::sensor::{Batch, FieldOptions, SourceHandle, SourceOptions, Stopper, spawn, stopper};

fn topics() -> Vec<Topic> {
    let plain = Topic::new("plant/{line}/{sensor}", "{line}.{sensor}").unwrap();
    let mut json = Topic::new("meter/{id}", "meter.{id}").unwrap();
    let path = |text: &str| Some(Path::new(text).unwrap());
    (json.value, json.time, json.unit) = (path("d.v"), path("d.t"), "kWh".into());
    vec![plain, json]
}

fn start(port: u16) -> (SourceHandle, Receiver<Batch>, Stopper) {
    let (sender, batches) = smol::channel::bounded(16);
    let (stopper, stop) = stopper();
    let client_id = format!("field-{:x}", fastrand::u32(..));
    let options = SubscribeOptions {
        host: "127.0.0.1".into(),
        port,
        client_id,
        user: None,
        password_file: None,
        topics: topics(),
    };
    let options = SourceOptions::Field(FieldOptions::Subscribe(options));
    (spawn("local", options, sender, stop).unwrap(), batches, stopper)
}

/// Something that publishes.
fn publisher(port: u16) -> Client {
    let (client, mut connection) =
        Client::new(MqttOptions::new(format!("p-{:x}", fastrand::u32(..)), "127.0.0.1", port), 16);
    std::thread::spawn(move || connection.iter().take_while(Result::is_ok).count());
    client
}

#[test]
fn what_is_published_at_a_real_broker_is_read_by_its_topic() {
    let broker = broker::start(&BrokerOptions { port: 0, protocol: Protocol::V311, pki: None }).unwrap();
    let port = broker.addr.port();
    let (handle, batches, stopper) = start(port);
    let client = publisher(port);
    let mut values = HashMap::new();
    let mut units = HashMap::new();
    // A subscription takes a moment; a sensor says the same again and again.
    while values.len() < 3 || handle.stats().malformed == 0 {
        for (topic, payload) in [
            ("plant/a/temp", "21.5"),
            ("plant/a/door", "on"),
            ("plant/a/broken", "\u{1}garbage"),
            ("plant/other", "1"),
            ("meter/7", "{\"d\":{\"v\":4.25,\"t\":\"2026-11-26T10:00:00Z\"}}"),
        ] {
            client.publish(topic, QoS::AtLeastOnce, false, payload).unwrap();
        }
        std::thread::sleep(Duration::from_millis(50));
        while let Ok(batch) = batches.try_recv() {
            units.extend(batch.infos.into_iter().map(|i| (i.id.to_string(), i.unit.0)));
            values.extend(batch.readings.into_iter().map(|r| (r.channel.to_string(), (r.value, r.at))));
        }
    }
    assert_eq!(values["a.temp"].0, Ok(21.5));
    assert_eq!(values["a.door"].0, Ok(1.0));
    assert_eq!(
        (values["meter.7"].0, values["meter.7"].1.rfc3339()),
        (Ok(4.25), "2026-11-26T10:00:00.000Z".into())
    );
    assert_eq!(units["meter.7"], "kWh");
    drop(stopper);
    handle.join();
}

#[test]
fn a_broker_that_is_gone_is_waited_for() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (handle, batches, stopper) = start(port);
    // It hangs up twice, as a broker that restarts does; then there is a real one in its place.
    for _ in 0..2 {
        drop(listener.accept().unwrap());
    }
    drop(listener);
    let broker = broker::start(&BrokerOptions { port, protocol: Protocol::V311, pki: None }).unwrap();
    let client = publisher(broker.addr.port());
    loop {
        client.publish("plant/a/temp", QoS::AtLeastOnce, false, "1").unwrap();
        std::thread::sleep(Duration::from_millis(50));
        if let Ok(batch) = batches.try_recv() {
            assert_eq!(batch.readings[0].channel.as_str(), "a.temp");
            break;
        }
    }
    drop(stopper);
    handle.join();
}

fn intake() -> Intake {
    let (sender, _) = smol::channel::bounded(1);
    Intake::new(topics(), &Outlet::new("x".into(), sender))
}

fn message(topic: &str, payload: &str, pkid: u16) -> Publish {
    Publish { pkid, ..Publish::new(topic, QoS::AtLeastOnce, payload) }
}

fn taken(intake: &mut Intake, message: &Publish) -> usize {
    let mut out = Handover::default();
    intake.take(message, &mut out);
    out.readings.len()
}

#[test]
fn what_comes_twice_is_read_once_and_a_value_that_stays_the_same_is_no_repetition() {
    let mut intake = intake();
    let first = message("plant/a/temp", "5", 7);
    assert_eq!(taken(&mut intake, &first), 1);
    assert_eq!(taken(&mut intake, &Publish { dup: true, ..first.clone() }), 0);
    assert_eq!(taken(&mut intake, &message("plant/a/temp", "5", 8)), 1);
    assert_eq!(
        taken(&mut intake, &Publish { dup: true, ..message("plant/a/temp", "6", 9) }),
        1,
        "it never came"
    );
    let timed = |pkid, t: u32| message("meter/1", &format!("{{\"d\":{{\"v\":1,\"t\":{t}}}}}"), pkid);
    assert_eq!(taken(&mut intake, &timed(10, 1_700_000_000)), 1);
    assert_eq!(taken(&mut intake, &timed(11, 1_700_000_000)), 0, "the same time and value again");
    assert_eq!(taken(&mut intake, &timed(12, 1_700_000_001)), 1);
}

#[test]
fn a_retained_message_counts_only_with_a_time_of_its_own() {
    let mut intake = intake();
    let retained = |topic: &str, payload: &str| Publish { retain: true, ..message(topic, payload, 1) };
    assert_eq!(taken(&mut intake, &retained("plant/a/temp", "5")), 0);
    assert_eq!(taken(&mut intake, &retained("meter/1", "{\"d\":{\"v\":1,\"t\":1700000000}}")), 1);
}

#[test]
fn what_is_no_value_is_told_apart() {
    let [plain, json] = &topics()[..] else { panic!("two") };
    assert_eq!(parse(plain, b"nan"), Ok((Err(NoData::NotANumber), None)));
    assert_eq!(parse(plain, b"hot"), Err(NoReading::Number));
    assert_eq!(parse(plain, b"\xff"), Err(NoReading::Number));
    assert_eq!(parse(json, b"{"), Err(NoReading::Json));
    assert_eq!(parse(json, b"{\"d\":{}}"), Err(NoReading::Value));
    assert_eq!(parse(json, b"{\"d\":{\"v\":[1]}}"), Err(NoReading::Value));
    assert_eq!(parse(json, b"{\"d\":{\"v\":1,\"t\":\"noon\"}}"), Err(NoReading::Time));
    assert_eq!(parse(json, b"{\"d\":{\"v\":null}}"), Ok((Err(NoData::Null), None)));
    assert_eq!(parse(json, b"{\"d\":{\"v\":true}}"), Ok((Ok(1.0), None)));
}
