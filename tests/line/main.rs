//! The link against a real broker: mutual TLS, order, cuts, wills, and errors that a person understands.

#![cfg(feature = "demo")]

mod answers;
mod certificates;
mod half_open;
mod script;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "shared by the tests of the line; each uses its part")]
mod support;
mod websocket;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use outpost::demo::broker::{self, BrokerOptions};
use outpost::demo::pki;
use outpost::demo::proxy::Line;
use outpost::link::{self, Announcement, Command, LinkEvent, LinkOptions, Protocol, Publish, Qos, Will};
use outpost::sync::backoff::BackoffOptions;
use outpost::tls::TlsFiles;
use smol::LocalExecutor;
use support::{TestBroker, down, message, next, publish, stop, up};

/// A topic of this test alone.
fn topic(name: &str) -> String {
    format!("test/{:x}/{name}", fastrand::u64(..))
}

fn say(topic: &str, text: &str) -> Announcement {
    Announcement { topic: topic.to_owned(), payload: text.as_bytes().to_vec() }
}

#[test]
fn a_thousand_publishes_are_each_answered_once_and_arrive_in_order() {
    support::brokers().iter().for_each(publish_a_thousand);
}

fn publish_a_thousand(broker: &TestBroker) {
    let topic = topic("up");
    smol::block_on(async {
        let subscribed = LinkOptions { subscriptions: vec![topic.clone()], ..broker.options("aggregator") };
        let sink = link::spawn(subscribed).unwrap();
        let source = link::spawn(broker.options("gateway")).unwrap();
        up(&sink).await;
        up(&source).await;
        let sending = async {
            for token in 0..1000 {
                source.commands.send(publish(token, &topic, &token.to_string())).await.unwrap();
            }
        };
        let answers = async {
            let mut done = BTreeSet::new();
            while done.len() < 1000 {
                match next(&source).await {
                    LinkEvent::Done { token, result: Ok(_) } => assert!(done.insert(token), "{token} twice"),
                    other => panic!("{other:?}"),
                }
            }
        };
        let arrivals = async {
            for i in 0..1000 {
                assert_eq!(message(&sink).await.1, i.to_string());
            }
        };
        smol::future::zip(sending, smol::future::zip(answers, arrivals)).await;
        stop(source).await;
        stop(sink).await;
    });
}

#[test]
fn through_cuts_every_message_arrives_and_no_token_is_answered_twice() {
    support::brokers().iter().for_each(publish_through_cuts);
}

fn publish_through_cuts(broker: &TestBroker) {
    let topic = topic("up");
    let executor = Rc::new(LocalExecutor::new());
    smol::block_on(executor.clone().run(async {
        let subscribed = LinkOptions { subscriptions: vec![topic.clone()], ..broker.options("aggregator") };
        let sink = link::spawn(subscribed).unwrap();
        up(&sink).await;
        let line = Line::open(&executor, broker.addr).await.unwrap();
        let through_line = LinkOptions { port: line.addr().port(), window: 16, ..broker.options("gateway") };
        let source = link::spawn(through_line).unwrap();
        let (mut token, mut downs, mut done) = (0, 0, BTreeSet::new());
        while done.len() < 300 {
            up(&source).await;
            // Tokens are never used twice; the message is the token modulo 300, missing ones first.
            let missing: Vec<u64> = (0..300).filter(|m| !done.contains(m)).take(100).collect();
            let base = token;
            for m in &missing {
                source.commands.send(publish(base * 300 + m, &topic, &m.to_string())).await.unwrap();
            }
            token += 1;
            let mut open: BTreeSet<u64> = missing.iter().map(|m| base * 300 + m).collect();
            while !open.is_empty() {
                match next(&source).await {
                    LinkEvent::Done { token, result: Ok(_) } => {
                        assert!(open.remove(&token), "{token} twice, or of an earlier session");
                        done.insert(token % 300);
                    }
                    LinkEvent::Down { .. } => {
                        downs += 1;
                        break;
                    }
                    other => panic!("{other:?}"),
                }
                if open.len() == 40 && downs < 4 {
                    line.cut();
                    line.mend();
                }
            }
            if open.is_empty() && done.len() < 300 {
                line.cut();
                line.mend();
                down(&source).await;
            }
        }
        assert!(downs >= 1);
        let mut arrived = BTreeSet::new();
        while arrived.len() < 300 {
            arrived.insert(message(&sink).await.1);
        }
        stop(source).await;
        stop(sink).await;
    }));
}

/// Inside TLS a broker that was killed closes its connections without a word. The first wait after a line that broke
/// would be a microsecond here.
#[test]
fn a_broker_that_goes_without_a_word_is_come_back_to_over_some_time() {
    for broker in support::brokers() {
        let executor = Rc::new(LocalExecutor::new());
        smol::block_on(executor.clone().run(async {
            let line = Line::open(&executor, broker.addr).await.unwrap();
            let base = Duration::from_micros(1);
            let backoff = BackoffOptions { base, ..BackoffOptions::default() };
            let options = LinkOptions { port: line.addr().port(), backoff, ..broker.options("gateway") };
            let link = link::spawn(options).unwrap();
            up(&link).await;
            line.cut();
            match next(&link).await {
                LinkEvent::Down { retry_in, reason, .. } => assert!(retry_in > base, "{reason}"),
                other => panic!("{other:?}"),
            }
            stop(link).await;
        }));
    }
}

#[test]
fn wrong_certificates_are_explained_with_the_next_step() {
    let broker = support::broker();
    let dir = tempfile::tempdir().unwrap();
    let foreign = pki::throwaway(dir.path(), &["gateway"]).unwrap();
    let good = broker.options("gateway");
    let files = good.tls.clone().unwrap();
    let with = |tls| LinkOptions { tls: Some(tls), ..good.clone() };
    // aedes hangs up without an alert.
    let distrusted = match broker.protocol {
        Protocol::V5 => "have it issued by an authority that the broker knows",
        Protocol::V311 => "the broker may not trust this device's certificate",
    };
    let cases = [
        (with(TlsFiles { ca: foreign.ca(), ..files.clone() }), "name the authority that issued it"),
        (with(TlsFiles { identity: Some(foreign.pem("gateway")), ..files.clone() }), distrusted),
        (
            with(TlsFiles { server_name: Some("other.example".into()), ..files.clone() }),
            "connect by one that it carries",
        ),
        (with(TlsFiles { ca: dir.path().join("none.pem"), ..files.clone() }), "check the path"),
        (LinkOptions { port: 1, ..good.clone() }, "is the broker running?"),
    ];
    smol::block_on(async {
        for (options, words) in cases {
            let link = link::spawn(options).unwrap();
            let reason = down(&link).await;
            assert!(reason.contains(words), "{reason:?} does not say {words:?}");
            stop(link).await;
        }
    });
}

#[test]
fn a_server_name_allows_to_connect_by_address() {
    let broker = support::broker();
    if !broker.in_process {
        return;
    }
    let mut options = broker.options("gateway");
    options.host = "127.0.0.1".into();
    options.tls.as_mut().unwrap().server_name = Some("localhost".into());
    smol::block_on(async {
        let link = link::spawn(options).unwrap();
        up(&link).await;
        stop(link).await;
    });
}

#[test]
fn the_state_topic_tells_online_offline_and_sudden_death() {
    support::brokers().iter().for_each(live_and_die);
}

fn live_and_die(broker: &TestBroker) {
    let state = topic("state");
    let executor = Rc::new(LocalExecutor::new());
    smol::block_on(executor.clone().run(async {
        let line = Line::open(&executor, broker.addr).await.unwrap();
        let will = Will { say: say(&state, "lost"), delay: Duration::ZERO };
        let gateway = LinkOptions {
            port: line.addr().port(),
            will: Some(will),
            on_up: Some(say(&state, "online")),
            on_stop: Some(say(&state, "offline")),
            ..broker.options("gateway")
        };
        let watcher =
            link::spawn(LinkOptions { subscriptions: vec![state.clone()], ..broker.options("watcher") })
                .unwrap();
        up(&watcher).await;
        let link = link::spawn(gateway).unwrap();
        up(&link).await;
        assert_eq!(message(&watcher).await.1, "online");
        line.cut();
        assert_eq!(message(&watcher).await.1, "lost");
        line.mend();
        assert_eq!(message(&watcher).await.1, "online");
        up(&link).await;
        stop(link).await;
        assert_eq!(message(&watcher).await.1, "offline");
        stop(watcher).await;
        let late =
            link::spawn(LinkOptions { subscriptions: vec![state.clone()], ..broker.options("aggregator") })
                .unwrap();
        assert_eq!(message(&late).await.1, "offline", "it is retained, and no will came after it");
        stop(late).await;
    }));
}

#[test]
fn the_historical_mark_and_a_shared_subscription_pass_the_broker() {
    let broker = support::broker();
    if broker.protocol == Protocol::V311 {
        return support::skip("MQTT 3.1.1 has no user properties");
    }
    let prefix = topic("prefix");
    smol::block_on(async {
        let shared = vec![format!("$share/outpost/{prefix}/+/up/+")];
        let sink =
            link::spawn(LinkOptions { subscriptions: shared, ..broker.options("aggregator") }).unwrap();
        let source = link::spawn(broker.options("gateway")).unwrap();
        up(&sink).await;
        up(&source).await;
        for historical in [true, false] {
            let block = Publish {
                token: None,
                topic: format!("{prefix}/pump/up/metric"),
                payload: vec![b'x'; outpost::limits::BLOCK_BYTES_MAX],
                qos: Qos::AtLeastOnce,
                retain: false,
                historical,
                content_type: Some("application/octet-stream"),
            };
            source.commands.send(Command::Publish(block)).await.unwrap();
            let (topic, payload, flagged) = message(&sink).await;
            assert_eq!((topic.ends_with("/pump/up/metric"), flagged), (true, historical));
            assert_eq!(payload.len(), outpost::limits::BLOCK_BYTES_MAX);
        }
        stop(source).await;
        stop(sink).await;
    });
}

#[test]
fn a_topic_that_cannot_be_published_on_is_refused_and_the_line_stays_up() {
    support::brokers().iter().for_each(publish_with_wildcards);
}

fn publish_with_wildcards(broker: &TestBroker) {
    smol::block_on(async {
        let link = link::spawn(broker.options("gateway")).unwrap();
        up(&link).await;
        link.commands.send(publish(1, "no/+/wildcards", "x")).await.unwrap();
        match next(&link).await {
            LinkEvent::Done { token: 1, result: Err(refusal) } => assert_eq!(refusal.code, 0x90),
            other => panic!("{other:?}"),
        }
        link.commands.send(publish(2, &topic("fine"), "x")).await.unwrap();
        assert!(matches!(next(&link).await, LinkEvent::Done { token: 2, result: Ok(_) }));
        stop(link).await;
    });
}

#[test]
fn an_expired_client_certificate_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let day = |days: i64| time::OffsetDateTime::now_utc() + time::Duration::days(days);
    let pki = pki::throwaway_valid(dir.path(), &["late"], day(-9), day(-2)).unwrap();
    let broker =
        broker::start(&BrokerOptions { pki: Some(pki.clone()), ..BrokerOptions::default() }).unwrap();
    let options = LinkOptions {
        tls: Some(pki.tls_files("late")),
        ..LinkOptions::new("127.0.0.1", broker.addr.port(), "late")
    };
    smol::block_on(async {
        let link = link::spawn(options).unwrap();
        let reason = down(&link).await;
        assert!(reason.contains("late.pem has expired; renew it"), "{reason}");
        stop(link).await;
    });
}

#[test]
fn a_slow_seat_slows_the_broker_down_and_loses_nothing() {
    support::brokers().iter().for_each(read_slowly);
}

fn read_slowly(broker: &TestBroker) {
    let topic = topic("up");
    smol::block_on(async {
        let subscribed = LinkOptions { subscriptions: vec![topic.clone()], ..broker.options("aggregator") };
        let sink = link::spawn(subscribed).unwrap();
        let source = link::spawn(broker.options("gateway")).unwrap();
        up(&sink).await;
        up(&source).await;
        for token in 0..1000 {
            source.commands.send(publish(token, &topic, &token.to_string())).await.unwrap();
            if token >= 200 {
                next(&source).await;
            }
        }
        smol::Timer::after(Duration::from_millis(500)).await;
        assert!(sink.events.is_full(), "the seat has read nothing");
        for i in 0..1000 {
            assert_eq!(message(&sink).await.1, i.to_string());
        }
        stop(source).await;
        stop(sink).await;
    });
}
