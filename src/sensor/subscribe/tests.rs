//! Against a real broker, and messages that misbehave.

use rumqttc::{Client, MqttOptions, QoS};

use super::*;
use crate::demo::broker::{self, BrokerOptions};
use crate::demo::pki::{self, Pki};
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

fn options(port: u16, tls: Option<TlsFiles>) -> SubscribeOptions {
    SubscribeOptions {
        host: "127.0.0.1".into(),
        port,
        tls,
        client_id: format!("field-{:x}", fastrand::u32(..)),
        user: None,
        password_file: None,
        certificates_every: Duration::from_millis(100),
        topics: topics(),
    }
}

fn start(options: SubscribeOptions) -> (SourceHandle, Receiver<Batch>, Stopper) {
    let (sender, batches) = smol::channel::bounded(16);
    let (stopper, stop) = stopper();
    let options = SourceOptions::Field(FieldOptions::Subscribe(options));
    (spawn("local", options, sender, stop).unwrap(), batches, stopper)
}

/// Something that publishes.
fn publisher(port: u16, tls: Option<&TlsFiles>) -> Client {
    let mut options = MqttOptions::new(format!("p-{:x}", fastrand::u32(..)), "127.0.0.1", port);
    if let Some(files) = tls {
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(files.load().unwrap())));
    }
    let (client, mut connection) = Client::new(options, 16);
    std::thread::spawn(move || connection.iter().take_while(Result::is_ok).count());
    client
}

/// Publishes until it has been read: a subscription takes a moment.
fn read(client: &Client, batches: &Receiver<Batch>) {
    loop {
        client.publish("plant/a/temp", QoS::AtLeastOnce, false, "1").unwrap();
        std::thread::sleep(Duration::from_millis(50));
        if let Ok(batch) = batches.try_recv() {
            assert_eq!((batch.readings[0].channel.as_str(), batch.readings[0].value), ("a.temp", Ok(1.0)));
            break;
        }
    }
}

fn secured(dir: &std::path::Path, clients: &[&str]) -> (u16, Pki) {
    let pki = pki::throwaway(dir, clients).unwrap();
    let options = BrokerOptions { port: 0, protocol: Protocol::V311, pki: Some(pki.clone()) };
    (broker::start(&options).unwrap().addr.port(), pki)
}

#[test]
fn what_is_published_at_a_real_broker_is_read_by_its_topic() {
    let broker = broker::start(&BrokerOptions { port: 0, protocol: Protocol::V311, pki: None }).unwrap();
    let port = broker.addr.port();
    let (handle, batches, stopper) = start(options(port, None));
    let client = publisher(port, None);
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
    let (handle, batches, stopper) = start(options(port, None));
    restart(listener, &batches);
    drop(stopper);
    handle.join();
}

/// What was heard stood for good, and looked like a sensor that says the same.
#[test]
fn when_a_broker_is_lost_its_channels_have_no_answer_and_when_it_is_back_they_have_values() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (handle, batches, stopper) = start(options(port, None));
    let timed = publish("meter/7", b"{\"d\":{\"v\":4,\"t\":1700000000}}");
    let line =
        let_in(&listener, &[b"\x90\x04\0\x01\x01\x01", &publish("plant/a/temp", b"5")[..], &timed].concat());
    let mut said = HashMap::new();
    while said.len() < 2 {
        said.extend(next(&batches).into_iter().map(|r| (r.channel, r.at)));
    }
    drop(line);
    let lost = next(&batches);
    assert_eq!(lost.len(), 2, "{lost:?}");
    assert!(lost.iter().all(|r| r.value == Err(NoData::NoAnswer)), "{lost:?}");
    for reading in &lost {
        let at = said[&reading.channel];
        let is_own = reading.channel.as_str() == "meter.7";
        assert!(if is_own { reading.at.0 == at.0 + 1 } else { reading.at > at }, "{reading:?} after {at:?}");
    }
    // Attempts that fail say nothing new.
    restart(listener, &batches);
    drop(stopper);
    handle.join();
}

/// Hangs up twice, as a broker that restarts does, and has a real one in its place, which gives a value first of all.
fn restart(listener: std::net::TcpListener, batches: &Receiver<Batch>) {
    let port = listener.local_addr().unwrap().port();
    for _ in 0..2 {
        drop(listener.accept().unwrap());
    }
    drop(listener);
    let broker = broker::start(&BrokerOptions { port, protocol: Protocol::V311, pki: None }).unwrap();
    read(&publisher(broker.addr.port(), None), batches);
}

fn next(batches: &Receiver<Batch>) -> Vec<Reading> {
    let late = async {
        smol::Timer::after(Duration::from_secs(30)).await;
        panic!("nothing for 30 s")
    };
    smol::block_on(or(batches.recv(), late)).unwrap().readings
}

#[test]
fn a_broker_that_is_slow_is_waited_for_and_one_that_talks_nonsense_is_left_and_asked_again() {
    use std::io::Write as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (handle, batches, stopper) = start(options(listener.local_addr().unwrap().port(), None));
    let granted = b"\x90\x04\0\x01\x01\x01";
    let values = || next(&batches).into_iter().map(|r| r.value).collect::<Vec<_>>();
    let mut line = let_in(&listener, granted);
    for byte in publish("plant/a/temp", b"5") {
        line.write_all(&[byte]).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(values(), [Ok(5.0)]);
    // A packet of a kind that does not exist, and a message that breaks off.
    for nonsense in [&b"\0\xff\xff\xff\xff"[..], b"\x30\x0f\0\x0cplant/"] {
        line.write_all(nonsense).unwrap();
        drop(line);
        assert_eq!(values(), [Err(NoData::NoAnswer)]);
        line = let_in(&listener, &[granted, &publish("plant/a/temp", b"6")[..]].concat());
        assert_eq!(values(), [Ok(6.0)]);
    }
    drop(stopper);
    handle.join();
}

/// Plays a broker to the first client that comes, up to its subscription, which is answered with `then`.
fn let_in(listener: &std::net::TcpListener, then: &[u8]) -> std::net::TcpStream {
    use std::io::{Read as _, Write as _};
    let (mut line, _) = listener.accept().unwrap();
    for answer in [b"\x20\x02\0\0", then] {
        let mut head = [0; 2];
        line.read_exact(&mut head).unwrap();
        line.read_exact(&mut vec![0; head[1].into()]).unwrap();
        line.write_all(answer).unwrap();
    }
    line
}

/// A short message at QoS 0.
fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    let (len, rest) = (topic.len() as u8, payload.len() as u8);
    [&[0x30, 2 + len + rest, 0, len], topic.as_bytes(), payload].concat()
}

#[test]
fn over_tls_both_sides_show_certificates_and_new_ones_are_used_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (port, pki) = secured(dir.path(), &["field", "other"]);
    let files = pki.tls_files("field");
    let (cert, _) = files.identity.clone().unwrap();
    let kept = std::fs::read(&cert).unwrap();
    std::fs::remove_file(&cert).unwrap();
    let (handle, batches, stopper) = start(options(port, Some(files)));
    let client = publisher(port, Some(&pki.tls_files("other")));
    std::thread::sleep(Duration::from_millis(300));
    assert!(batches.is_empty());
    std::fs::write(&cert, kept).unwrap();
    read(&client, &batches);
    drop(stopper);
    handle.join();
}

#[test]
fn what_is_wrong_with_certificates_is_told_with_the_next_step() {
    let dir = tempfile::tempdir().unwrap();
    let (port, pki) = secured(dir.path(), &["field"]);
    let foreign = pki::throwaway(&dir.path().join("foreign"), &["field"]).unwrap();
    let (late_port, late) = late(&dir.path().join("late"));
    let good = pki.tls_files("field");
    let none = (dir.path().join("none.pem"), dir.path().join("none.key"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (out, _messages) = smol::channel::bounded(1);
    // Where the broker hangs up before its alert is read, there is no more to say.
    let distrusted = "the broker may not trust this device's certificate";
    for (port, files, words) in [
        (late_port, late, ["late.pem has expired; renew it", distrusted]),
        (port, TlsFiles { ca: foreign.ca(), ..good.clone() }, ["name the authority that issued it"; 2]),
        (
            port,
            TlsFiles { identity: Some(foreign.pem("field")), ..good.clone() },
            ["have it issued by an authority that the broker knows", distrusted],
        ),
        (
            port,
            TlsFiles { identity: None, ..good.clone() },
            ["broker wants a client certificate; name one", distrusted],
        ),
        (
            port,
            TlsFiles { server_name: Some("other.example".into()), ..good.clone() },
            ["connect by one that it carries"; 2],
        ),
        (port, TlsFiles { identity: Some(none), ..good }, ["check the path and its permissions"; 2]),
    ] {
        let options = options(port, Some(files));
        let let_in = || panic!("it is let in");
        let End::Failed(reason) = runtime.block_on(session(&options, &None, &out, let_in, |_| ())) else {
            panic!("it ended otherwise");
        };
        assert!(words.iter().any(|words| reason.contains(words)), "{reason:?} does not say {words:?}");
    }
}

/// A broker, and a certificate of its authority that has expired.
fn late(dir: &std::path::Path) -> (u16, TlsFiles) {
    let day = |days: i64| time::OffsetDateTime::now_utc() + time::Duration::days(days);
    let pki = pki::throwaway_valid(dir, &["late"], day(-9), day(-2)).unwrap();
    let options = BrokerOptions { port: 0, protocol: Protocol::V311, pki: Some(pki.clone()) };
    (broker::start(&options).unwrap().addr.port(), pki.tls_files("late"))
}

#[test]
fn certificates_that_are_replaced_while_connected_are_connected_with() {
    let dir = tempfile::tempdir().unwrap();
    let (port, pki) = secured(dir.path(), &["field", "renewed"]);
    let files = pki.tls_files("field");
    let (cert, key) = pki.pem("field");
    let (new_cert, new_key) = pki.pem("renewed");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (out, _messages) = smol::channel::bounded(1);
    let options = options(port, Some(files));
    let replaced = std::cell::Cell::new(false);
    // Half of the pair is there at first, which nobody should connect with.
    let let_in = || {
        std::fs::copy(&new_cert, &cert).unwrap();
    };
    let session = session(&options, &None, &out, let_in, |_| ());
    let ended = runtime.block_on(or(async { Some(session.await) }, async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        std::fs::copy(&new_key, &key).unwrap();
        replaced.set(true);
        pending().await
    }));
    assert_eq!((ended, replaced.get()), (Some(End::Renewed), true));
}

#[test]
fn a_topic_that_is_not_granted_is_told_and_a_message_that_is_too_long_ends_nothing() {
    use std::io::Read as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        // SUBACK with a failure and a grant, then two messages at QoS 0 of which the first is 300,000 bytes long.
        let long = [b"\x30\xe9\xa7\x12\0\x07meter/7", &vec![b'{'; 300_000][..]].concat();
        let then = [b"\x90\x04\0\x01\x80\x01", &long[..], &publish("meter/8", b"{")].concat();
        let _ = let_in(&listener, &then).read(&mut [0]);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (out, messages) = smol::channel::bounded(1);
    let told = std::cell::RefCell::new(Vec::new());
    let options = options(port, None);
    let listening = session(&options, &None, &out, || (), |what| told.borrow_mut().push(what.to_owned()));
    let heard = runtime.block_on(or(async { messages.recv().await.ok() }, async {
        listening.await;
        None
    }));
    assert_eq!(told.into_inner(), ["not allowed to listen to plant/+/+; see the broker's access list"]);
    let Some(Heard::Message(heard)) = heard else { panic!("{heard:?}") };
    assert_eq!(heard.topic, "meter/8", "what is too long is passed over");
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
fn a_loss_is_said_once_and_what_was_known_before_it_does_not_end_it() {
    let mut intake = intake();
    let timed = |pkid, t: u32| message("meter/1", &format!("{{\"d\":{{\"v\":1,\"t\":{t}}}}}"), pkid);
    let lost = |intake: &mut Intake| {
        let mut out = Handover::default();
        intake.hear(Heard::Lost, &mut out);
        out.readings.len()
    };
    assert_eq!(lost(&mut intake), 0, "nothing was heard yet");
    taken(&mut intake, &timed(1, 1_700_000_000));
    assert_eq!([lost(&mut intake), lost(&mut intake)], [1, 0]);
    assert_eq!(taken(&mut intake, &timed(2, 1_700_000_000)), 0, "as it was before");
    assert_eq!(lost(&mut intake), 0);
    assert_eq!(taken(&mut intake, &timed(3, 1_700_000_001)), 1);
    assert_eq!(lost(&mut intake), 1);
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
