//! Certificates that change under a running line.

use std::path::Path;
use std::time::Duration;

use outpost::demo::broker::{self, BrokerOptions};
use outpost::demo::pki;
use outpost::link::{self, Announcement, LinkEvent, LinkOptions, Will};

use super::support::{down, message, next, publish, stop, up};

#[test]
fn renewed_certificates_are_in_use_soon_and_nobody_thinks_the_device_lost() {
    let dir = tempfile::tempdir().unwrap();
    let pki = pki::throwaway(dir.path(), &["gateway", "renewed", "watcher"]).unwrap();
    let foreign = pki::throwaway(&dir.path().join("foreign"), &["gateway"]).unwrap();
    let started = BrokerOptions { pki: Some(pki.clone()), ..BrokerOptions::default() };
    let broker = broker::start(&started).unwrap();
    let (cert, key) = pki.pem("gateway");
    let replace = |from: &Path, to: &Path| std::fs::copy(from, to).unwrap();
    let say = |text: &str| Announcement { topic: "state".into(), payload: text.as_bytes().to_vec() };
    let base = |name: &str| LinkOptions {
        tls: Some(pki.tls_files(name)),
        backoff: super::script::BACKOFF,
        ..LinkOptions::new("127.0.0.1", broker.addr.port(), name)
    };
    smol::block_on(async {
        let watcher =
            link::spawn(LinkOptions { subscriptions: vec!["state".into()], ..base("watcher") }).unwrap();
        up(&watcher).await;
        let link = link::spawn(LinkOptions {
            certificates_every: Duration::ZERO,
            will: Some(Will { say: say("lost"), delay: Duration::ZERO }),
            on_up: Some(say("online")),
            on_stop: Some(say("offline")),
            ..base("gateway")
        })
        .unwrap();
        up(&link).await;

        // Half of the pair is there: nobody moves.
        let (new_cert, new_key) = pki.pem("renewed");
        replace(&new_cert, &cert);
        smol::Timer::after(Duration::from_secs(2)).await;
        link.commands.send(publish(1, "t", "x")).await.unwrap();
        assert!(matches!(next(&link).await, LinkEvent::Done { token: 1, result: Ok(_) }));

        replace(&new_key, &key);
        assert_eq!(down(&link).await, "new certificates");
        up(&link).await;

        // That the files are used shows when they are no good.
        let (foreign_cert, foreign_key) = foreign.pem("gateway");
        replace(&foreign_key, &key);
        replace(&foreign_cert, &cert);
        assert_eq!(down(&link).await, "new certificates");
        let reason = down(&link).await;
        assert!(reason.contains("have it issued by an authority that the broker knows"), "{reason}");

        replace(&new_cert, &cert);
        replace(&new_key, &key);
        up(&link).await;
        for _ in 0..3 {
            assert_eq!(message(&watcher).await.1, "online");
        }
        stop(link).await;
        assert_eq!(message(&watcher).await.1, "offline");
        stop(watcher).await;
    });
}
