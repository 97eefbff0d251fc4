//! Another configuration for a running agent: what it leaves alone goes on, and one that cannot be used changes nothing.

use std::net::TcpStream;

use super::eventually;
use super::seat::Seat;
use super::site::{CHANNEL, Site, lines_of, promised, send};

const VITALS: &str = "[[source]]\nname = \"vitals\"\nkind = \"host\"\ninterval = \"100 ms\"\n";

/// Names of the sources, in the order of the status page.
fn sources(agent: &Seat) -> Vec<String> {
    let status = agent.json("/api/status").unwrap();
    let names = status["sources"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap().to_owned());
    names.collect()
}

/// How often the agent has told this event.
fn told(agent: &Seat, event: &str) -> usize {
    agent.events().iter().filter(|e| e["event"] == event).count()
}

fn lines_still_come(agent: &Seat, lines: &mut TcpStream, from: u64) -> u64 {
    let before = promised(agent);
    send(lines, from..=from + 9).unwrap();
    eventually("ten readings more", || (promised(agent) >= before + 10).then_some(()));
    from + 10
}

#[test]
fn sources_come_and_go_while_the_others_lose_nothing() {
    let site = Site::new();
    let mut aggregator = site.aggregator();
    let mut agent = site.agent(site.broker.addr, "");
    let mut lines = lines_of(&agent);
    let feeding = std::thread::spawn(move || {
        for n in 1..=4000 {
            send(&mut lines, n..=n).unwrap();
            if n % 10 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
        lines
    });
    for round in 1..=3 {
        agent.reload(|toml| toml + VITALS);
        eventually("a source more", || (sources(&agent) == ["plc", "vitals"]).then_some(()));
        let faster = |toml: String| toml.replace("interval = \"100 ms\"", "interval = \"200 ms\"");
        agent.reload(faster);
        eventually("a source begun anew", || (told(&agent, "source_started") == 1 + 2 * round).then_some(()));
        agent.reload(|toml| toml.replace(&faster(VITALS.to_owned()), ""));
        eventually("a source less", || (sources(&agent) == ["plc"]).then_some(()));
        assert_eq!(told(&agent, "configuration_applied"), 3 * round);
    }
    // The connection is the one from before: nobody has restarted its source.
    let mut lines = feeding.join().unwrap();
    lines_still_come(&agent, &mut lines, 4001);
    site.settle(&mut agent, &mut aggregator);
    let numbers =
        site.delivered().into_iter().filter(|r| r.channel.as_str() == CHANNEL).map(|r| r.value.unwrap());
    assert!(numbers.eq((1..=4010).map(f64::from)), "every reading once and in order");
}

#[test]
fn a_configuration_with_mistakes_is_refused_with_what_is_wrong_and_the_old_one_runs_on() {
    let site = Site::new();
    let mut agent = site.agent(site.broker.addr, "");
    let mut lines = lines_of(&agent);
    let next = lines_still_come(&agent, &mut lines, 1);
    agent.reload(|toml| toml + "[[source]]\nname = \"more\"\nkind = \"modbuss\"\n");
    let refused = eventually("a refusal", || {
        agent.events().into_iter().find(|e| e["event"] == "configuration_refused")
    });
    let problems = refused["problems"].as_str().unwrap();
    assert!(problems.contains("source[2].kind") && problems.contains("allowed"), "{problems}");
    assert_eq!(sources(&agent), ["plc"]);
    let next = lines_still_come(&agent, &mut lines, next);
    // Mended, with a part that only a restart can follow.
    agent.reload(|toml| {
        let toml = toml.replace("[[source]]\nname = \"more\"\nkind = \"modbuss\"\n", VITALS);
        toml.replace("length = \"1 s\"", "length = \"2 s\"")
    });
    eventually("the mended one", || (sources(&agent) == ["plc", "vitals"]).then_some(()));
    let applied = agent.events().into_iter().find(|e| e["event"] == "configuration_applied").unwrap();
    assert_eq!(applied["restart_needed_for"], "[windows]");
    lines_still_come(&agent, &mut lines, next);
    assert!(agent.stop().success());
}

#[test]
fn a_source_that_cannot_be_started_says_why_and_stops_nobody() {
    let site = Site::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut agent = site.agent(site.broker.addr, "");
    let mut lines = lines_of(&agent);
    let more =
        format!("[[source]]\nname = \"more\"\nkind = \"lines\"\ntcp = \"{}\"\n", taken.local_addr().unwrap());
    agent.reload(|toml| toml + &more);
    eventually("a word about it", || (told(&agent, "source_not_running") == 1).then_some(()));
    let status = agent.json("/api/status").unwrap();
    assert!(status["sources"][1]["state"].as_str().unwrap().starts_with("failed: cannot listen"), "{status}");
    let next = lines_still_come(&agent, &mut lines, 1);
    // A start is no other thing: it is told, and the others run.
    assert!(agent.stop().success());
    agent.restart();
    let status = agent.json("/api/status").unwrap();
    assert!(status["sources"][1]["state"].as_str().unwrap().starts_with("failed: cannot listen"), "{status}");
    let mut lines = lines_of(&agent);
    let next = lines_still_come(&agent, &mut lines, next);
    // The place is free now: nobody needs to say so.
    drop(taken);
    eventually("a source that runs", || {
        let status = agent.json("/api/status").unwrap();
        status["sources"][1]["state"].as_str().unwrap().starts_with("running on").then_some(())
    });
    lines_still_come(&agent, &mut lines, next);
    assert!(agent.stop().success());
}
