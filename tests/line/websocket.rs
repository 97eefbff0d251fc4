//! MQTT on a WebSocket inside TLS, against a broker that has one.

use outpost::link::{self, LinkEvent, LinkOptions};

use super::support::{self, down, message, next, publish, stop, up};
use super::topic;

#[test]
fn messages_pass_over_a_websocket_inside_tls_in_both_directions() {
    let Ok(place) = std::env::var("OUTPOST_TEST_WEBSOCKET") else {
        return support::skip("no broker with a WebSocket; `.ci/run broker` brings some");
    };
    let (host, port) = place.rsplit_once(':').unwrap();
    for broker in support::brokers() {
        let topic = topic("up");
        let options = |name: &str, path: &str| LinkOptions {
            host: host.to_owned(),
            port: port.parse().unwrap(),
            websocket: Some(path.to_owned()),
            ..broker.options(name)
        };
        smol::block_on(async {
            let subscriptions = vec![topic.clone()];
            let sink = link::spawn(LinkOptions { subscriptions, ..options("aggregator", "/mqtt") }).unwrap();
            let source = link::spawn(options("gateway", "/mqtt")).unwrap();
            up(&sink).await;
            up(&source).await;
            let block = "x".repeat(outpost::limits::BLOCK_BYTES_MAX);
            for token in 0..20 {
                source.commands.send(publish(token, &topic, &block)).await.unwrap();
            }
            for token in 0..20 {
                assert!(
                    matches!(next(&source).await, LinkEvent::Done { token: of, result: Ok(_) } if of == token)
                );
                assert_eq!(message(&sink).await.1.len(), block.len());
            }
            stop(source).await;
            stop(sink).await;
        });
    }
}

#[test]
fn a_port_without_a_websocket_is_named() {
    let broker = support::broker();
    smol::block_on(async {
        let options = LinkOptions { websocket: Some("/mqtt".into()), ..broker.options("gateway") };
        let link = link::spawn(options).unwrap();
        let reason = down(&link).await;
        assert!(
            reason.contains("closed the connection") || reason.contains("opens no WebSocket on /mqtt"),
            "{reason}"
        );
        stop(link).await;
    });
}
