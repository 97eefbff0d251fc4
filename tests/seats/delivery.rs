//! What was promised arrives, once and in order, whatever dies in between.

use std::io::Write as _;
use std::time::Duration;

use outpost::clock;
use outpost::demo::fetch;
use outpost::link::Protocol;
use outpost::spool;
use outpost::wire::Lane;
use serde_json::Value;

use super::broker::Broker;
use super::eventually;
use super::seat::Seat;
use super::site::{Cable, DEVICE, Site, admitted, damage, lines_of, pending, promised, send};

#[test]
fn what_the_agent_admitted_arrives_once_whatever_dies() {
    let site = Site::new();
    let cable = Cable::lay(&site);
    let mut aggregator = site.aggregator();
    let mut agent = site.agent(cable.addr, "");

    // The agent dies while lines come in.
    let mut lines = lines_of(&agent);
    send(&mut lines, 1..=2000).unwrap();
    eventually("two thousand readings on disk", || (promised(&agent) >= 2000).then_some(()));
    let feeder = std::thread::spawn(move || {
        for hundred in 20..200 {
            if send(&mut lines, hundred * 100 + 1..=hundred * 100 + 100).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    eventually("the middle of the second load", || (promised(&agent) >= 3000).then_some(()));
    agent.kill();
    feeder.join().unwrap();
    let kept = spool::stat(&site.spool_dir()).unwrap().ledger[Lane::Raw.index()].admitted;
    assert!((3000..20_000).contains(&kept), "{kept}: the kill came in the middle");
    agent.restart();

    // The aggregator dies while blocks come in.
    let mut lines = lines_of(&agent);
    send(&mut lines, 30_001..=32_000).unwrap();
    let fed = |agent| promised(agent) >= kept + 500;
    eventually("readings after the restart", || fed(&agent).then_some(()));
    aggregator.kill();
    send(&mut lines, 32_001..=34_000).unwrap();
    eventually("the load on disk", || (promised(&agent) == kept + 4000).then_some(()));
    assert!(pending(&agent) >= 2000, "nobody could acknowledge the second half");
    aggregator.restart();

    // The line is cut while the rest is delivered.
    cable.cut();
    send(&mut lines, 34_001..=35_000).unwrap();
    eventually("the load on disk", || (promised(&agent) == kept + 5000).then_some(()));
    cable.mend();

    let books = site.settle(&mut agent, &mut aggregator);
    assert_eq!(books.ledger[Lane::Raw.index()].evicted_total(), 0);
    let values: Vec<u64> = site.delivered().iter().map(|r| r.value.unwrap() as u64).collect();
    let wanted: Vec<u64> = (1..=kept).chain(30_001..=35_000).collect();
    assert_eq!(values.len(), wanted.len());
    assert_eq!(values.iter().zip(&wanted).find(|(got, want)| got != want), None);
}

#[test]
fn after_an_outage_the_offline_digest_arrives_first() {
    let site = Site::new();
    let cable = Cable::lay(&site);
    let mut aggregator = site.aggregator();
    let mut agent = site.agent(cable.addr, "");
    let mut lines = lines_of(&agent);
    send(&mut lines, 1..=100).unwrap();
    eventually("the first delivery", || (promised(&agent) == 100 && pending(&agent) == 0).then_some(()));

    cable.cut();
    eventually("the cut to be noticed", || (agent.metric("outpost_link_up") == 0).then_some(()));
    for n in 1..=4 {
        send(&mut lines, n * 1000 + 1..=n * 1000 + 500).unwrap();
        std::thread::sleep(Duration::from_millis(500));
    }
    eventually("a backlog", || (promised(&agent) == 2100).then_some(()));
    let mended = clock::wall().rfc3339();
    cable.mend();

    let first = eventually("a block after the outage", || {
        let is_new = |event: &&Value| {
            event["event"] == "block_committed"
                && event["time"].as_str().is_some_and(|time| time >= mended.as_str())
        };
        aggregator.events().iter().find(is_new).cloned()
    });
    assert_eq!(first["lane"], "digest", "{first}");
    let digests = aggregator.json(&format!("/api/device/{DEVICE}/digests")).unwrap();
    let is_first = |d: &&Value| d["offline"] == true;
    let offline =
        digests["digests"].as_array().unwrap().iter().find(is_first).expect("an offline digest").clone();
    let outage = &offline["facts"]["outage"];
    assert!(
        outage["duration_s"].as_u64().unwrap() >= 2 && outage["records_kept"].as_u64().unwrap() >= 2000,
        "{outage}"
    );
    site.settle(&mut agent, &mut aggregator);
}

#[test]
fn what_did_not_fit_is_declared_and_the_books_still_close() {
    let site = Site::new();
    let mut agent = site.agent(site.broker.addr, "[spool]\nbytes_max = \"4 MiB\"\n");
    let mut lines = lines_of(&agent);
    let mut sent = 0;
    while agent.metric("outpost_spool_evicted_records_total") == 0 {
        for _ in 0..500 {
            // Noise does not compress.
            let fields: Vec<String> =
                (0..40).map(|n| format!("\"noise.c{n}\":{}", fastrand::f64())).collect();
            writeln!(lines, "{{{}}}", fields.join(",")).unwrap();
            sent += 40;
        }
        eventually("the load on disk", || (promised(&agent) == sent).then_some(()));
        assert!(sent < 2_000_000, "a spool without a bound");
    }
    let mut aggregator = site.aggregator();
    agent.kill();
    agent.restart();
    let books = site.settle(&mut agent, &mut aggregator);
    let lost = books.ledger[Lane::Raw.index()].evicted_total();
    assert!(lost > 0 && lost < sent, "{lost} of {sent}");
    let delivered = site.delivered().len() as u64;
    assert!((sent - lost..sent).contains(&delivered), "{delivered} of {sent} less {lost}");
}

#[test]
fn a_damaged_spool_does_not_stop_the_agent() {
    let site = Site::new();
    let mut agent = site.agent(site.broker.addr, "");
    let mut lines = lines_of(&agent);
    for n in 1..=10 {
        // Each in a block of its own.
        send(&mut lines, n * 300 - 299..=n * 300).unwrap();
        eventually("a backlog that nobody takes", || (promised(&agent) == n * 300).then_some(()));
    }
    agent.kill();
    let before = spool::stat(&site.spool_dir()).unwrap();
    damage(&site.spool_dir().join("journal").join("00000001").join("db"), 900);

    let mut aggregator = site.aggregator();
    agent.restart();
    let notice = eventually("the notice", || {
        let device = aggregator.json(&format!("/api/device/{DEVICE}"))?;
        device["notices"].as_array().unwrap().iter().find(|n| n["code"] == "spool_salvaged").cloned()
    });
    // And with the database's first bytes whatever of another lane lay there.
    let text = notice["text"].as_str().unwrap();
    let lost = text.split(" were lost").next().unwrap().rsplit(' ').next().unwrap();
    assert!((900..910).contains(&lost.parse::<u64>().unwrap()), "{notice}");
    let salvaged = promised(&agent);
    assert_eq!(salvaged, 2100);
    send(&mut lines_of(&agent), 5001..=5500).unwrap();
    eventually("new readings on disk", || (promised(&agent) == salvaged + 500).then_some(()));
    let after = site.settle(&mut agent, &mut aggregator);
    assert_ne!(after.epoch, before.epoch);
    let values: Vec<u64> = site.delivered().iter().map(|r| r.value.unwrap() as u64).collect();
    assert_eq!(values, (901..=3000).chain(5001..=5500).collect::<Vec<_>>());
}

#[test]
fn on_a_short_budget_readings_wait_while_digests_and_alarms_go() {
    let site = Site::new();
    let cable = Cable::lay(&site);
    let mut aggregator = site.aggregator();
    let mut agent = site.agent(cable.addr, "[uplink]\nbytes_per_day = \"1 MiB\"\nshare_raw = 1\n");
    let mut lines = lines_of(&agent);
    let fidelity = || agent.json("/api/status").unwrap()["meter"]["fidelity"].as_str().unwrap().to_owned();
    // How many readings share a block, and so what they cost, is for the disk to say: as many as the share has room for.
    let mut sent = 0;
    let mut load = |lines: &mut _| {
        send(lines, sent + 1..=sent + 100).unwrap();
        sent += 100;
        sent
    };
    eventually("less than everything is sent", || {
        load(&mut lines);
        (fidelity() != "raw").then_some(())
    });
    let sent = (0..10).map(|_| load(&mut lines)).last().unwrap();
    eventually("all of it on disk", || (promised(&agent) == sent).then_some(()));
    eventually("alarms and digests delivered", || {
        (admitted(&agent, "digest") > 0 && waiting(&agent, "digest") + waiting(&agent, "alarm") == 0)
            .then_some(())
    });
    assert!(waiting(&agent, "raw") >= 500, "{} readings wait", waiting(&agent, "raw"));
    assert!(agent.events().iter().any(|event| event["event"] == "fidelity_changed"));
    assert!(agent.stop().success());

    let mut agent = site.agent(cable.addr, "");
    let books = site.settle(&mut agent, &mut aggregator);
    assert_eq!(books.ledger[Lane::Raw.index()].evicted_total(), 0);
    assert_eq!(site.delivered().len() as u64, sent);
}

#[test]
fn an_agent_that_nobody_hears_says_so_and_delivers_everything_when_somebody_comes() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path(), Protocol::V5);
    let site = Site::at(broker.for_test(dir));
    let mut agent = site.agent(site.broker.addr, "");
    send(&mut lines_of(&agent), 1..=1000).unwrap();
    eventually("the load on disk", || (promised(&agent) == 1000).then_some(()));
    let unheard = || agent.json("/api/status").unwrap()["line"]["unheard"].to_string();
    if broker.tells_of_nobody {
        eventually("a status that says so", || unheard().contains("raw").then_some(()));
        let page = smol::block_on(fetch::get(agent.http, "/")).unwrap();
        assert!(String::from_utf8(page).unwrap().contains("nobody who listens"));
    }
    assert_eq!(waiting(&agent, "raw"), 1000);

    let mut aggregator = site.aggregator();
    eventually("the other half of the line", || (pending(&agent) == 0).then_some(()));
    assert_eq!(unheard(), "[]");
    let told = agent.events().iter().filter(|event| event["event"] == "nobody_listens").count();
    assert_eq!(told, usize::from(broker.tells_of_nobody), "once, however often it tries");
    site.settle(&mut agent, &mut aggregator);
    assert_eq!(site.delivered().len(), 1000);
}

fn waiting(agent: &Seat, lane: &str) -> u64 {
    let status = agent.json("/api/status").unwrap();
    let rows = status["ledger"].as_array().unwrap();
    rows.iter().find(|row| row["lane"] == lane).unwrap()["pending"].as_u64().unwrap()
}
