//! Questions to an agent that has no line: the real `outpost ask` against the real `outpost run`.

use std::io::Write as _;
use std::process::Command;

use serde_json::Value;

use super::eventually;
use super::seat::Seat;
use super::site::{Cable, DEVICE, Site, admitted, lines_of};

/// A limit that one reading is enough to exceed.
const LIMITS: &str = "[channels.\"pump1.temp\"]\nlimit_high_warn = 60.0\nlimit_high_critical = 80.0\n";

fn ask(agent: &Seat, question: &str) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("ask.toml");
    std::fs::write(&config, format!("device = \"{DEVICE}\"\n[http]\nlisten = \"{}\"\n", agent.http)).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_outpost"))
        .args(["ask", "--json", "-c"])
        .arg(&config)
        .args(question.split(' '))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&said).unwrap()
}

fn send(agent: &Seat, value: f64) {
    let mut lines = lines_of(agent);
    writeln!(lines, "{{\"channel\":\"pump1.temp\",\"value\":{value}}}").unwrap();
    writeln!(lines, "{{\"channel\":\"pump1.flow\",\"value\":5.0}}").unwrap();
}

fn text(answer: &Value) -> &str {
    answer["text"].as_str().unwrap()
}

#[test]
fn what_happened_while_the_line_was_down_is_answered_without_a_line_and_after_a_power_cut() {
    let site = Site::new();
    let cable = Cable::lay(&site);
    let mut agent = site.agent(cable.addr, LIMITS);
    eventually("the line", || (agent.metric("outpost_link_up") == 1).then_some(()));
    let before = ask(&agent, "what happened while the line was down?");
    assert_eq!(text(&before), "The line has not been down since this agent started.");

    cable.cut();
    eventually("a line that is down", || (agent.metric("outpost_link_up") == 0).then_some(()));
    send(&agent, 91.5);
    let answer = eventually("an event", || {
        let answer = ask(&agent, "what happened to pump1 while the line was down?");
        (answer["events"].as_array().map_or(0, Vec::len) > 0).then_some(answer)
    });
    assert!(text(&answer).starts_with("The line was down for "), "{answer}");
    assert!(text(&answer).contains("91.5 °C"), "{answer}");
    assert_eq!((&answer["verdict"], &answer["events"][0]["ongoing"]), (&"critical".into(), &true.into()));
    let cite = answer["citations"][0].as_str().unwrap();
    assert!(cite.starts_with("[alarm:") && text(&answer).contains(cite), "{answer}");
    assert!(text(&ask(&agent, "断线期间发生了什么？")).contains("91.5 °C"));
    assert!(
        text(&ask(&agent, "anything about pump1.flow in the last hour?")).starts_with("Nothing was flagged")
    );
    assert!(text(&ask(&agent, "how is pump9?")).contains("there are pump1"));

    // Promised: the notice of the start, where this boot stands in time, and the alarm.
    eventually("an alarm that is kept", || (admitted(&agent, "alarm") >= 3).then_some(()));

    // The spool remembers what the memory of the run before knew; nobody follows its episodes any more.
    agent.kill();
    agent.restart();
    let after = ask(&agent, "what happened in the last hour?");
    assert_eq!(after["events"][0]["ongoing"], false, "{after}");
    assert!(text(&after).contains("91.5 °C") && text(&after).contains("[alarm:"), "{after}");
}

#[test]
fn a_request_that_is_no_question_is_refused_with_how_to_ask() {
    let site = Site::new();
    let agent = site.agent(([127, 0, 0, 1], 1).into(), "");
    let post = |body: &str| {
        use std::io::Read as _;
        let mut stream = std::net::TcpStream::connect(agent.http).unwrap();
        let length = body.len();
        write!(stream, "POST /api/ask HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(post("what?").starts_with("HTTP/1.1 400"), "no JSON");
    assert!(post("what?").contains("send {\\\"question\\\""), "{}", post("what?"));
    let long = format!("{{\"question\":\"{}\"}}", "x".repeat(3000));
    assert!(post(&long).contains("longer than 2000 bytes"));
    assert!(post("{\"question\":\"what happened?\"}").starts_with("HTTP/1.1 200"));
}

/// What the model says is noise: its queries are valid all the same, and where its words do not hold others are taken.
#[test]
fn a_bigger_model_reads_questions_and_words_digests_and_what_it_does_not_finish_is_done_without_it() {
    let questions =
        ["what happened to pump1?", "any alarms today?", "is pump1.temp fine?", "昨天发生了什么？"];
    for (answer_tokens_max, read_by) in [(400, "glm"), (16, "rules")] {
        let (site, dir) = (Site::new(), tempfile::tempdir().unwrap());
        let glm = format!("answer_tokens_max = {answer_tokens_max}\ndigest_budget = \"1 min\"\n{LIMITS}");
        let agent = site.agent_with_model(dir.path(), &glm);
        send(&agent, 91.5);
        eventually("a digest", || {
            let digest = agent.json("/api/status").unwrap()["last_digest"].clone();
            digest["text"].as_str().is_some_and(|text| text.contains("91.5")).then_some(())
        });
        let jobs = |kind: &str| -> Vec<Value> {
            let is_one = |event: &Value| event["event"] == "glm_job" && event["kind"] == kind;
            agent.events().into_iter().filter(is_one).collect()
        };
        let worded = jobs("digest");
        assert!(worded.iter().any(|job| job["answer_tokens"] != "0"), "it was asked: {worded:?}");
        assert!(answer_tokens_max > 16 || worded.iter().all(|job| job["end"] == "Failed"), "{worded:?}");

        let answers = questions.map(|question| ask(&agent, question));
        for answer in &answers {
            assert_eq!(answer["read_by"], read_by, "{answer}");
            let query = answer["understood"].as_str().unwrap();
            let keys: Vec<&str> = query.lines().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
            assert_eq!(keys, ["line", "period", "about", "severity"], "{answer}");
            let cites = answer["citations"].as_array().into_iter().flatten();
            cites.for_each(|cite| assert!(text(answer).contains(cite.as_str().unwrap()), "{answer}"));
            assert!(answer["engine"] == "template" || answer_tokens_max > 16, "{answer}");
        }
        assert!(jobs("ask").len() >= questions.len(), "{:?}", jobs("ask"));
    }
}
