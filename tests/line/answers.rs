//! What a broker may answer, and what the link makes of it (MQTT 5, sections 2.4, 3.2.2, 3.4.2.1 and 3.14.2.1).

use std::time::Duration;

use outpost::link::{self, Announcement, Link, LinkEvent, LinkOptions, Protocol};
use outpost::sync::uplink::Audience;

use super::script::{BACKOFF, DISCONNECT, PUBACK, PUBLISH, Script, packet_id};
use super::support::{next, publish, stop};

/// The first `Down`: its reason and the wait until the next attempt.
async fn fall(link: &Link) -> (String, Duration) {
    loop {
        if let LinkEvent::Down { reason, retry_in, .. } = next(link).await {
            return (reason, retry_in);
        }
    }
}

#[test]
fn every_answer_to_a_publish_reaches_its_sender_and_the_line_stays_up() {
    const CODES: [u8; 9] = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
    let script = Script::of(|peer| {
        peer.admit(0, Some(&[]));
        for code in CODES {
            let Some((_, body)) = peer.read() else { return };
            let [high, low] = packet_id(&body);
            peer.write(PUBACK, &[high, low, code]);
        }
        peer.outlast();
    });
    smol::block_on(async {
        let link = link::spawn(script.options(Protocol::V5)).unwrap();
        assert!(matches!(next(&link).await, LinkEvent::Up { .. }));
        for (token, code) in (0..).zip(CODES) {
            link.commands.send(publish(token, "t", "x")).await.unwrap();
            match next(&link).await {
                LinkEvent::Done { token: of, result } => {
                    assert_eq!(of, token);
                    assert_eq!(
                        result.map_or_else(
                            |refusal| refusal.code,
                            |heard| if heard == Audience::Nobody { 0x10 } else { 0 }
                        ),
                        code
                    );
                }
                other => panic!("{code:#04x}: {other:?}"),
            }
        }
        stop(link).await;
    });
}

/// rumqttc takes a PUBACK with a code that is not in its list for the end of the session.
#[test]
fn an_answer_to_a_publish_that_ends_the_session_is_told_with_its_code() {
    for (answer, code, words) in [
        (Some(0x95), 0x95, "larger than the broker's maximum packet size"),
        (Some(0x8F), 0x8F, "topic filter"),
        (None, 0x80, "connection"),
    ] {
        let script = Script::of(move |peer| {
            peer.admit(0, Some(&[]));
            let Some((_, body)) = peer.read() else { return };
            let [high, low] = packet_id(&body);
            if let Some(code) = answer {
                peer.write(PUBACK, &[high, low, code]);
            }
        });
        smol::block_on(async {
            let link = link::spawn(script.options(Protocol::V5)).unwrap();
            assert!(matches!(next(&link).await, LinkEvent::Up { .. }));
            link.commands.send(publish(1, "t", "x")).await.unwrap();
            match next(&link).await {
                LinkEvent::Down { reason, by_broker, .. } => {
                    assert_eq!(by_broker, Some(code), "{reason}");
                    assert!(reason.contains(words), "{reason}");
                }
                other => panic!("{other:?}"),
            }
            stop(link).await;
        });
    }
}

#[test]
fn a_refused_connection_is_explained_and_left_alone_for_half_the_longest_wait_at_least() {
    let new = [
        (0x80, "unspecified"),
        (0x84, "mqtt.protocol"),
        (0x85, "client_id"),
        (0x86, "bad user name or password"),
        (0x87, "not authorised"),
        (0x88, "not available"),
        (0x89, "busy"),
        (0x8A, "banned"),
        (0x8C, "authentication"),
        (0x90, "not a topic"),
        (0x95, "maximum packet size"),
        (0x97, "quota"),
        (0x99, "payload"),
        (0x9A, "retained"),
        (0x9B, "QoS 1"),
        (0x9C, "another server"),
        (0x9D, "moved"),
        (0x9F, "too many connect"),
    ];
    let old = [
        (1, "mqtt.protocol"),
        (2, "client_id"),
        (3, "not available"),
        (4, "bad user name"),
        (5, "not authorised"),
    ];
    let cases = new.map(|(code, words)| (Protocol::V5, code, words)).into_iter();
    for (protocol, code, words) in cases.chain(old.map(|(code, words)| (Protocol::V311, code, words))) {
        let properties: Option<&[u8]> = (protocol == Protocol::V5).then_some(&[]);
        let script = Script::of(move |peer| peer.admit(code, properties));
        smol::block_on(async {
            let link = link::spawn(script.options(protocol)).unwrap();
            let (reason, retry_in) = fall(&link).await;
            assert!(reason.contains(words), "{protocol} {code:#04x}: {reason}");
            assert!(retry_in >= BACKOFF.cap / 2, "{protocol} {code:#04x}: {retry_in:?}");
            stop(link).await;
        });
    }
}

#[test]
fn a_farewell_is_explained_and_only_a_reason_to_stay_away_keeps_away() {
    let cases = [
        (0x82, "protocol error", false),
        (0x87, "not authorised", true),
        (0x89, "busy", true),
        (0x8B, "shutting down", false),
        (0x8D, "heard nothing", false),
        (0x8E, "client_id of its own", true),
        (0x93, "mqtt.window", false),
        (0x94, "alias", false),
        (0x95, "maximum packet size", false),
        (0x96, "faster than it allows", true),
        (0x97, "quota", true),
        (0x98, "operator", false),
        (0xA0, "longest time", false),
    ];
    for (code, words, away) in cases {
        let script = Script::of(move |peer| {
            peer.admit(0, Some(&[]));
            peer.write(DISCONNECT, &[code, 0]);
        });
        smol::block_on(async {
            let link = link::spawn(script.options(Protocol::V5)).unwrap();
            let (reason, retry_in) = fall(&link).await;
            assert!(reason.contains(words), "{code:#04x}: {reason}");
            let bounds = if away { BACKOFF.cap / 2..=BACKOFF.cap } else { Duration::ZERO..=BACKOFF.spread };
            assert!(bounds.contains(&retry_in), "{code:#04x}: {retry_in:?}");
            stop(link).await;
        });
    }
}

/// rumqttc waits for the length of the properties, which a broker may leave out (section 3.14.2.2.1), until
/// the connection closes: the reason is lost, that it was the broker who left is not.
#[test]
fn a_farewell_without_properties_is_at_least_known_for_the_brokers() {
    let script = Script::of(|peer| {
        peer.admit(0, Some(&[]));
        peer.write(DISCONNECT, &[0x8B]);
    });
    smol::block_on(async {
        let link = link::spawn(script.options(Protocol::V5)).unwrap();
        let (reason, retry_in) = fall(&link).await;
        assert_eq!(reason, "broker closed the connection");
        assert!(retry_in <= BACKOFF.spread);
        stop(link).await;
    });
}

/// Receive maximum 1, largest packet 1000 bytes.
const NARROW: [u8; 8] = [0x21, 0, 1, 0x27, 0, 0, 0x03, 0xE8];

#[test]
fn the_brokers_receive_maximum_and_packet_size_hold() {
    let script = Script::of(|peer| {
        peer.admit(0, Some(&NARROW));
        while let Some((first, body)) = peer.read() {
            if first & 0xF0 == PUBLISH {
                assert!(peer.is_silent_for(Duration::from_millis(100)), "a second publish before the answer");
                peer.write(PUBACK, &packet_id(&body));
            }
        }
    });
    smol::block_on(async {
        let link = link::spawn(script.options(Protocol::V5)).unwrap();
        assert_eq!(next(&link).await, LinkEvent::Up { receive_max: 1, packet_bytes_max: 1000 });
        for token in 0..5 {
            link.commands.send(publish(token, "t", "x")).await.unwrap();
        }
        for token in 0..5 {
            assert!(matches!(next(&link).await, LinkEvent::Done { token: of, result: Ok(_) } if of == token));
        }
        link.commands.send(publish(9, "t", &"x".repeat(1000))).await.unwrap();
        match next(&link).await {
            LinkEvent::Done { token: 9, result: Err(refusal) } => assert_eq!(refusal.code, 0x95),
            other => panic!("{other:?}"),
        }
        stop(link).await;
    });
}

#[test]
fn a_broker_without_qos_1_is_named_since_nothing_could_be_released() {
    let script = Script::of(|peer| peer.admit(0, Some(&[0x24, 0])));
    smol::block_on(async {
        let link = link::spawn(script.options(Protocol::V5)).unwrap();
        let (reason, _) = fall(&link).await;
        assert!(reason.contains("takes no QoS 1"), "{reason}");
        stop(link).await;
    });
}

#[test]
fn a_broker_without_retained_messages_is_sent_none() {
    let (seen, flags) = smol::channel::unbounded();
    let script = Script::of(move |peer| {
        peer.admit(0, Some(&[0x25, 0]));
        while let Some((first, body)) = peer.read() {
            if first & 0xF0 == PUBLISH {
                seen.send_blocking(first).unwrap();
                peer.write(PUBACK, &packet_id(&body));
            }
        }
    });
    smol::block_on(async {
        let say = Announcement { topic: "state".into(), payload: b"online".to_vec() };
        let link = link::spawn(LinkOptions { on_up: Some(say), ..script.options(Protocol::V5) }).unwrap();
        assert!(matches!(next(&link).await, LinkEvent::Up { .. }));
        assert_eq!(flags.recv().await.unwrap() & 1, 0, "the flag retain");
        stop(link).await;
    });
}

/// The broker says 60 s where 5 s were asked for: pings come every 60 s, and silence until then is no fault.
#[test]
fn the_brokers_keep_alive_holds_instead_of_ours() {
    let script = Script::of(|peer| {
        peer.admit(0, Some(&[0x13, 0, 60]));
        peer.outlast();
    });
    smol::block_on(async {
        let options = LinkOptions { keep_alive: Duration::from_secs(5), ..script.options(Protocol::V5) };
        let link = link::spawn(options).unwrap();
        assert!(matches!(next(&link).await, LinkEvent::Up { .. }));
        smol::Timer::after(Duration::from_secs(9)).await;
        assert!(link.events.is_empty(), "{:?}", next(&link).await);
        stop(link).await;
    });
}
