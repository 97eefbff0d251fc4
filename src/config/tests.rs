//! The promises of the room as a whole: nothing is missed, nothing drifts, every mistake is named.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::document::READS;
use super::*;
use crate::detect::Duty;
use crate::link::Protocol;
use crate::reading::Quantity;

const BASE: &str = "/etc/outpost";

fn agent(text: &str) -> Loaded<AgentConfig> {
    parse_agent("outpost.toml", text, Path::new(BASE)).unwrap_or_else(|e| panic!("{text}\n{e}"))
}

fn mistakes(text: &str) -> Vec<Problem> {
    parse_agent("outpost.toml", text, Path::new(BASE)).map(|_| ()).expect_err(text).problems
}

/// The example with its defaults switched on; with `all`, its examples and entries too.
fn uncommented(example: &str, all: bool) -> String {
    let defaults = example.lines().take_while(|line| all || !(line.starts_with("#[")));
    let wanted = defaults.filter(|line| all || !line.contains("  # example"));
    let switched = wanted.map(|line| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => rest,
        _ => line,
    });
    switched.collect::<Vec<_>>().join("\n")
}

#[test]
fn an_empty_file_is_a_whole_configuration() {
    let config = agent("").config;
    assert_eq!(config.mqtt.port, 8883);
    assert_eq!(config.mqtt.client_id, format!("outpost-{}", config.device));
    assert_eq!(config.data_dir, PathBuf::from("/etc/outpost/outpost-data"));
    assert_eq!(config.sources.len(), 1);
    assert_eq!(config.http.listen, SocketAddr::from(([127, 0, 0, 1], 9750)));
    let identity = config.mqtt.tls.and_then(|tls| tls.identity);
    assert_eq!(identity.map(|(cert, _)| cert), Some(PathBuf::from("/etc/outpost/tls/device.crt")));
}

#[test]
fn the_older_mqtt_and_a_websocket_are_asked_for_by_name() {
    let line = agent("[mqtt]\nprotocol = \"3.1.1\"\nwebsocket = \"/mqtt\"\n").config.mqtt;
    assert_eq!((line.protocol, line.websocket.as_deref()), (Protocol::V311, Some("/mqtt")));
    let line = agent("").config.mqtt;
    assert_eq!((line.protocol, line.websocket), (Protocol::V5, None));
    let problems = mistakes("[mqtt]\nprotocol = \"4\"\nwebsocket = \"mqtt\"\n");
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["mqtt.protocol", "mqtt.websocket"]);
}

#[test]
fn the_example_with_every_default_written_out_means_the_same_as_an_empty_file() {
    let example = example(&AGENT);
    assert_eq!(agent(&uncommented(&example, false)).config, agent("").config);
    assert_eq!(agent(&example).config, agent("").config);
    let base = Path::new(BASE);
    let fleet = uncommented(&super::example(&AGGREGATOR), false);
    let [written, empty] =
        [fleet.as_str(), ""].map(|text| parse_aggregator("a", text, base).expect("valid").config);
    assert_eq!(written, empty);
}

#[test]
fn the_source_that_stands_in_is_the_one_that_the_table_describes() {
    let stands_in = agent("").config.sources;
    assert_eq!(stands_in, agent("[[source]]\nname = \"host\"\nkind = \"host\"").config.sources);
}

#[test]
fn every_example_can_be_switched_on_and_every_key_is_read() {
    READS.with_borrow_mut(BTreeSet::clear);
    let all = agent(&uncommented(&example(&AGENT), true)).config;
    assert_eq!((all.sources.len(), all.models.len(), all.accelerators.len()), (17, 1, 1));
    assert_eq!((all.groups.len(), all.rules.len()), (1, 1));
    assert_eq!(all.channel("pump1.temp").limit_high_warn, Some(75.0));
    parse_aggregator("a", &uncommented(&example(&AGGREGATOR), true), Path::new(BASE)).expect("valid");
    let read = READS.with_borrow(BTreeSet::clone);
    for section in AGENT.sections.iter().chain(AGGREGATOR.sections) {
        for key in section.keys {
            assert!(
                read.contains(&(section.name, key.name)),
                "[{}] {} is never read",
                section.name,
                key.name
            );
        }
    }
}

#[test]
fn an_accelerator_is_a_delegate_or_a_plugin() {
    let config =
        agent("[accelerator.vx]\ndelegate = \"vx.so\"\n[accelerator.hailo]\nplugin = \"/lib/hailo.so\"\n");
    let found: Vec<_> =
        config.config.accelerators.iter().map(|a| (a.library.to_str().unwrap(), a.is_delegate)).collect();
    assert_eq!(found, [("/etc/outpost/vx.so", true), ("/lib/hailo.so", false)]);
    for text in ["[accelerator.vx]\n", "[accelerator.vx]\ndelegate = \"a.so\"\nplugin = \"b.so\"\n"] {
        let problems = mistakes(text);
        assert_eq!((problems.len(), problems[0].key.as_str()), (1, "accelerator.\"vx\".delegate"), "{text}");
        assert!(problems[0].hint.contains("name one"), "{}", problems[0].hint);
    }
}

#[test]
fn all_mistakes_are_told_at_once_with_line_value_range_and_what_to_do() {
    let problems = mistakes(
        r#"devise = "gw"
[mqtt]
port = 99999
keep_alive = 30
payload = "json"
[spool]
bytes_max = "64 MB"
[[source]]
name = "a"
kind = "replay"
interval = "1 s"
[chanels.x]
"#,
    );
    let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "outpost.toml:1: devise = \"gw\": unknown key; did you mean `device`?",
            "outpost.toml:3: mqtt.port = 99999: not a value for this key; allowed: a whole number from 1 to 65535; \
             write for example port = 8883",
            "outpost.toml:4: mqtt.keep_alive = 30: not a value for this key; allowed: a time from \"5 s\" to \
             \"20 min\"; write a number with its unit in quotes, such as \"30 s\"",
            "outpost.toml:5: mqtt.payload = \"json\": an aggregator reads blocks, not JSON; set ack = \"broker\" too, \
             or send blocks",
            "outpost.toml:7: spool.bytes_max = \"64 MB\": not a value for this key; allowed: a size from \"4 MiB\" to \
             \"64 GiB\"; write a whole number with its unit in quotes; units are B, KiB, MiB and GiB",
            "outpost.toml:8: source[1].paths: missing; name at least one CSV file",
            "outpost.toml:11: source[1].interval = \"1 s\": has no meaning for kind = \"replay\"; it belongs to kind \
             = \"host\" or \"hwmon\" or \"iio\" or \"w1\" or \"gpio\" or \"modbus\" or \"can\" or \"exec\"; remove it",
            "outpost.toml:12: chanels: unknown key; did you mean `channels`?",
        ]
    );
}

#[test]
fn a_lanes_quota_lies_between_its_reserve_and_that_of_all() {
    let good =
        "[spool]\nbytes_max = \"100 MiB\"\nraw_bytes_max = \"10 MiB\"\nalarm_bytes_max = \"100 MiB\"\n";
    assert_eq!(agent(good).config.spool.lane_bytes_max, [Some(100 << 20), None, None, Some(10 << 20)]);
    let bad = "[spool]\nbytes_max = \"100 MiB\"\nraw_bytes_max = \"48 KiB\"\nmetric_bytes_max = \"19 MiB\"\n\
               digest_bytes_max = \"101 MiB\"\n";
    let said: Vec<String> = mistakes(bad).iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "outpost.toml:3: spool.raw_bytes_max = \"48 KiB\": not a value for this key; allowed: a size from \
             \"64 KiB\" to \"64 GiB\"; write a whole number with its unit in quotes; units are B, KiB, MiB and GiB",
            "outpost.toml:4: spool.metric_bytes_max = \"19 MiB\": less than what is reserved for them, 20 % of \
             spool.bytes_max; write at least \"20 MiB\", or lower spool.bytes_max",
            "outpost.toml:5: spool.digest_bytes_max = \"101 MiB\": more than all kinds of records together may take, \
             100 MiB; lower it, or raise spool.bytes_max",
        ]
    );
}

#[test]
fn broken_toml_is_told_with_its_line_and_hides_no_other_mistake() {
    let problems = mistakes("[mqtt]\nhost = \nport = 0\n[spool\nbytes_max = \"1 B\"\n");
    let lines: Vec<_> = problems.iter().map(|p| p.line).collect();
    assert!(lines.contains(&Some(2)) && lines.contains(&Some(3)) && lines.contains(&Some(4)), "{problems:?}");
    assert!(problems.iter().all(|p| !p.hint.is_empty() || !p.allowed.is_empty()));
}

#[test]
fn tls_is_switched_off_by_name_only_and_remarked_upon() {
    let problem = &mistakes("[mqtt]\ntls = false")[0];
    assert_eq!(problem.hint, "write \"off-insecure\"");
    let loaded = agent("[mqtt]\ntls = \"off-insecure\"");
    assert_eq!(loaded.config.mqtt.tls, None);
    let remarked: Vec<&str> = loaded.warnings.iter().map(|w| w.key.as_str()).collect();
    assert_eq!(remarked, ["mqtt.tls", "mqtt.port"]);
}

#[test]
fn a_broker_in_the_field_is_spoken_to_over_tls_too_unless_that_is_switched_off() {
    let with = |rest: &str| {
        let topic = "[[topic]]\nsource = \"s\"\ntopic = \"a\"\nchannel = \"x\"\n";
        format!("[[source]]\nname = \"s\"\nkind = \"mqtt\"\n{rest}\n{topic}")
    };
    let broker = |rest: &str| match agent(&with(rest)).config.sources.remove(0).kind {
        SourceKind::Field(FieldConfig::Subscribe(broker)) => broker,
        other => panic!("{other:?}"),
    };
    let remarks = |rest: &str| agent(&with(rest)).warnings.into_iter().map(|w| w.key).collect::<Vec<_>>();
    let usual = broker("broker = \"192.0.2.7\"");
    assert_eq!(
        (usual.port, usual.tls.map(|tls| tls.ca)),
        (8883, Some(PathBuf::from("/etc/outpost/tls/ca.crt")))
    );
    assert_eq!(remarks("broker = \"192.0.2.7:1883\""), ["source[1].broker"]);
    let plain = "broker = \"192.0.2.7\"\ntls = \"off-insecure\"";
    assert_eq!((broker(plain).port, broker(plain).tls), (1883, None));
    assert_eq!(remarks(plain), ["source[1].tls"]);
    for here in ["localhost", "127.0.0.1:1884", "[::1]:1883"] {
        let plain = format!("broker = \"{here}\"\ntls = \"off-insecure\"");
        assert_eq!((broker(&plain).tls, remarks(&plain)), (None, vec![]), "{here}");
    }
    assert_eq!(mistakes(&with("ca = \"\""))[0].key, "source[1].ca");
    assert_eq!(mistakes(&with("cert = \"\""))[0].key, "source[1].cert");
}

#[test]
fn a_certificate_without_its_key_is_refused() {
    assert_eq!(mistakes("[mqtt]\nkey = \"\"")[0].key, "mqtt.key");
    let none = agent("[mqtt]\nkey = \"\"\ncert = \"\"").config;
    assert_eq!(none.mqtt.tls.and_then(|tls| tls.identity), None);
}

#[test]
fn a_page_that_others_can_reach_must_be_allowed_by_name() {
    assert_eq!(mistakes("[http]\nlisten = \"0.0.0.0:80\"")[0].key, "http.listen");
    let loaded = agent("[http]\nlisten = \"0.0.0.0:80\"\nallow_remote = true");
    assert_eq!(loaded.warnings.len(), 1);
}

#[test]
fn the_chat_endpoint_needs_a_model_that_can_chat_and_an_address_of_this_machine() {
    assert_eq!(mistakes("[glm]\nchat = true")[0].problem, "there is no model that can chat");
    let own = "[digest]\nmodel = \"my-glm\"\n[glm]\nchat = true\n";
    assert!(agent(own).config.glm.chat);
    let remote = format!("{own}[http]\nlisten = \"0.0.0.0:80\"\nallow_remote = true");
    assert_eq!(mistakes(&remote)[0].key, "glm.chat");
}

#[test]
fn an_answer_leaves_room_for_its_prompt_and_a_load_of_one_never_waits() {
    assert_eq!(
        mistakes("[glm]\ncontext_tokens = 512\nanswer_tokens_max = 512")[0].key,
        "glm.answer_tokens_max"
    );
    assert_eq!(agent("").config.glm.load_max, None);
    assert_eq!(agent("[glm]\nload_max = 0.5").config.glm.load_max, Some(0.5));
}

#[test]
fn lines_come_from_exactly_one_place() {
    let lines = |rest: &str| format!("[[source]]\nname = \"l\"\nkind = \"lines\"\n{rest}");
    assert_eq!(mistakes(&lines(""))[0].problem, "no input");
    assert_eq!(mistakes(&lines("stdin = true\nunix = \"s\""))[0].problem, "more than one input");
    assert_eq!(mistakes(&lines("tcp = \"0.0.0.0:1\""))[0].key, "source[1].tcp");
    let twice = format!("{}\n{}", lines("stdin = true"), lines("stdin = true"));
    assert_eq!(mistakes(&twice).len(), 2, "one name and one standard input too many");
}

#[test]
fn later_channel_entries_win_in_the_order_of_the_file() {
    let config = agent(
        "[channels.\"z*\"]\nlabel = \"first\"\nunit = \"bar\"\n[channels.\"*.p\"]\nlabel = \"second\"\nquantity = \"pressure\"\n",
    )
    .config;
    let both = config.channel("z1.p");
    assert_eq!(both.label.as_deref(), Some("second"));
    assert_eq!(both.unit.map(|u| u.0).as_deref(), Some("bar"));
    assert_eq!(both.quantity, Some(Quantity::Pressure));
    assert_eq!(config.channel("q").label, None);
}

#[test]
fn limits_that_cross_are_refused() {
    let problem = &mistakes("[channels.a]\nlimit_high_warn = 9\nlimit_high_critical = 8")[0];
    assert_eq!((problem.key.as_str(), problem.line), ("channels.\"a\".limit_high_warn", Some(2)));
    let low_above_high = mistakes("[channels.a]\nlimit_low_critical = 9\nlimit_high_critical = 8");
    assert_eq!(low_above_high.len(), 1);
}

#[test]
fn a_key_in_the_wrong_section_is_sent_home() {
    let hint = |text: &str| mistakes(text)[0].hint.clone();
    assert_eq!(hint("[spool]\nkeep_alive = \"30 s\""), "it belongs under [mqtt]");
    assert_eq!(
        hint("[mqtt]\nlanguage = \"en\""),
        "it belongs at the top of the file, before the first heading"
    );
    assert_eq!(hint("mqtt = 5"), "write it as [mqtt]");
    assert_eq!(hint("[source]\nname = \"a\""), "write it as [[source]]");
}

#[test]
fn a_file_that_is_missing_or_far_too_large_is_told_kindly() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("outpost.toml");
    assert!(load_agent(&path).expect_err("missing").to_string().contains("no such file"));
    std::fs::write(&path, "#".repeat(limits::CONFIG_BYTES_MAX as usize + 1)).expect("write");
    assert!(load_agent(&path).expect_err("large").to_string().contains("larger than 1 MiB"));
    std::fs::write(&path, "[windows]\nlength = \"10 s\"").expect("write");
    assert_eq!(load_agent(&path).expect("valid").config.windows.length, Duration::from_secs(10));
}

#[test]
fn log_sources_say_what_they_lack() {
    let source = |kind: &str, rest: &str| format!("[[source]]\nname = \"l\"\nkind = \"{kind}\"\n{rest}");
    assert_eq!(mistakes(&source("logs", ""))[0].key, "source[1].paths");
    assert!(
        mistakes(&source("logs", "paths = \"/var/*/x.log\""))[0].problem.contains("wildcard in a folder")
    );
    assert_eq!(mistakes(&source("syslog", ""))[0].problem, "no address");
    assert_eq!(mistakes(&source("syslog", "udp = \"0.0.0.0:514\""))[0].key, "source[1].udp");
    assert!(agent(&source("journal", "window = \"1 min\"")).warnings.is_empty());
}

#[test]
fn a_register_map_that_no_device_can_have_is_refused_entry_by_entry() {
    let plc = "[[source]]\nname = \"plc\"\nkind = \"modbus\"\naddress = \"192.0.2.7:502\"\n";
    let register = |rest: &str| format!("[[register]]\nsource = \"plc\"\nchannel = \"a\"\n{rest}\n");
    let with = |rest: &str| format!("{plc}{}", register(rest));
    assert_eq!(agent(&with("table = \"input\"\naddress = 3")).config.sources.len(), 1);
    let beyond = mistakes(&with("table = \"input\"\naddress = 65535\ntype = \"f32\"")).remove(0);
    assert_eq!((beyond.key.as_str(), beyond.line), ("register[1]", Some(5)));
    assert!(beyond.problem.contains("reaches beyond the last address"), "{beyond}");
    assert!(mistakes(&with("table = \"coil\"\naddress = 1\ntype = \"u16\""))[0].problem.contains("is a bit"));
    assert_eq!(mistakes(&with("address = 1"))[0].key, "register[1].table");
    assert_eq!(mistakes(plc)[0].problem, "no register");
    let twice =
        format!("{}{}", with("table = \"input\"\naddress = 1"), register("table = \"input\"\naddress = 2"));
    assert!(mistakes(&twice)[0].problem.contains("given twice"));
    assert_eq!(mistakes(&register("table = \"input\"\naddress = 1"))[0].key, "register[1].source");
    assert_eq!(agent(&with("table = \"holding\"\naddress = 40001")).warnings[0].key, "register[1].address");
    let both = format!("{}serial = \"/dev/ttyS0\"\n{}", plc, register("table = \"input\"\naddress = 1"));
    assert_eq!(mistakes(&both)[0].key, "source[1].serial");
}

#[test]
fn devices_of_one_serial_line_talk_alike() {
    let device = |name: &str, rest: &str| {
        format!(
            "[[source]]\nname = \"{name}\"\nkind = \"modbus\"\nserial = \"/dev/ttyS0\"\n{rest}\n\
             [[register]]\nsource = \"{name}\"\nchannel = \"{name}\"\ntable = \"input\"\naddress = 1\n"
        )
    };
    let with = |rest: &str| format!("{}{}", device("a", "unit_id = 1"), device("b", rest));
    assert_eq!(agent(&with("unit_id = 2")).config.sources.len(), 2);
    for other in ["unit_id = 2\nparity = \"none\"", "unit_id = 2\nbaud = \"9600\""] {
        let mistake = mistakes(&with(other)).remove(0);
        assert_eq!(mistake.key, "source[2].serial");
        assert!(mistake.problem.contains("source a drives /dev/ttyS0 otherwise"), "{mistake}");
    }
}

#[test]
fn what_a_source_from_the_field_lacks_is_told() {
    let source = |kind: &str, rest: &str| format!("[[source]]\nname = \"s\"\nkind = \"{kind}\"\n{rest}\n");
    let keys = |text: String| mistakes(&text).into_iter().map(|p| p.key).collect::<Vec<_>>();
    assert_eq!(keys(source("can", "")), ["source[1].interface", "source[1].dbc"]);
    assert_eq!(keys(source("push", "")), ["source[1].listen"]);
    assert_eq!(keys(source("push", "listen = \"0.0.0.0:1\"\ntoken_file = \"t\"")), ["source[1].listen"]);
    assert_eq!(keys(source("exec", "command = []")), ["source[1].command"]);
    assert_eq!(keys(source("exec", "")), ["source[1].command"]);
    assert_eq!(mistakes(&source("mqtt", ""))[0].problem, "no topic");
    let topic = |rest: &str| format!("{}[[topic]]\nsource = \"s\"\n{rest}", source("mqtt", ""));
    assert_eq!(keys(topic("topic = \"#\"\nchannel = \"x\"")), ["topic[1].topic"]);
    assert_eq!(keys(topic("topic = \"a\"\nchannel = \"x\"\ntime = \"t\"")), ["topic[1].time"]);
    assert_eq!(keys(topic("topic = \"a\"\nchannel = \"x\"\nvalue = \"t[\"")), ["topic[1].value"]);
    assert!(agent(&topic("topic = \"a/{b}\"\nchannel = \"x.{b}\"")).warnings.is_empty());
}

proptest! {
    #[test]
    fn no_text_whatever_brings_the_reader_down(text in "[\\[\\]a-z=\". \\n0-9{},#-]{0,200}", wild in "\\PC{0,60}") {
        let _ = parse_agent("f", &text, Path::new("/"));
        let _ = parse_aggregator("f", &wild, Path::new("/"));
    }

    #[test]
    fn one_line_of_the_example_changed_at_random_is_taken_or_told(line in 0..200usize, value in "[a-z0-9\"\\[\\]. -]{0,12}") {
        let all = uncommented(&example(&AGENT), true);
        let changed: Vec<String> = all.lines().enumerate().map(|(n, l)| match l.split_once(" = ") {
            Some((key, _)) if n == line => format!("{key} = {value}"),
            _ => l.to_owned(),
        }).collect();
        if let Err(e) = parse_agent("f", &changed.join("\n"), Path::new("/")) {
            prop_assert!(!e.problems.is_empty());
        }
    }
}

#[test]
fn a_group_has_a_name_and_members_and_channels_that_are_not_known_yet_are_no_mistake() {
    let groups =
        agent("[[group]]\nname = \"p\"\nchannels = [\"a.x\", \"a.y\"]\nevery = \"1 min\"\n").config.groups;
    assert_eq!((groups[0].channels.len(), groups[0].every_ms), (2, 60_000));
    let problems = mistakes(
        "[[group]]\nname = \"p\"\nchannels = [\"a.x\"]\n[[group]]\nname = \"p\"\n\
         [[group]]\nname = \"a name that is far too long to be told\"\nchannels = [\"a.x\", \"a.x\"]\n",
    );
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    let expected =
        ["group[1].channels", "group[2].name", "group[2].channels", "group[3].name", "group[3].channels"];
    assert_eq!(BTreeSet::from_iter(keys), BTreeSet::from(expected));
}

#[test]
fn a_rule_over_channels_needs_conditions_that_can_be_read() {
    let text = "[[rule]]\nname = \"r\"\nall = [\"a.x > 1\"]\nany = [\"b.y rate < -2\"]\nseverity = \"critical\"\n\
                dwell = \"5 s\"\ntimes = \"06:00-22:00\"\n";
    let rule = &agent(text).config.rules[0];
    assert_eq!(
        (rule.all.len(), rule.any.len(), rule.dwell_s, rule.times),
        (1, 1, 5, Duty::parse("06:00-22:00"))
    );
    assert!(rule.severity == crate::reading::Severity::Critical && rule.any[0].rate && !rule.any[0].above);
    let shifts = agent(&text.replace("06:00-22:00", "Mon-Fri 06:00-12:00, 13:00-22:00 +01:00"));
    assert!(shifts.config.rules[0].times.is_some());
    let problems = mistakes(
        "[[rule]]\nname = \"r\"\nall = [\"a.x >= 1\"]\ntimes = \"six to ten \"\n[[rule]]\nname = \"s\"\n",
    );
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["rule[1].all", "rule[1].times", "rule[2].all"]);
}

#[test]
fn windows_are_of_a_kind_and_a_session_has_no_hop() {
    let windows = agent("[windows]\nkind = \"session\"\nlength = \"1 h\"\ngap = \"5 min\"\ndetail = true\n")
        .config
        .windows;
    assert_eq!((windows.kind, windows.gap), (crate::window::WindowKind::Session, Duration::from_secs(300)));
    assert!(windows.detail && !agent("").config.windows.detail);
    assert_eq!(mistakes("[windows]\nkind = \"session\"\nhop = \"5 s\"\n")[0].key, "windows.hop");
}

#[test]
fn the_students_device_must_be_there_and_a_plugin() {
    let delegate = "[digest]\ndevice = \"vx\"\n[accelerator.vx]\ndelegate = \"/lib/vx.so\"\n";
    let problems = mistakes(delegate);
    assert_eq!((problems.len(), problems[0].key.as_str()), (1, "digest.device"), "{problems:?}");
    assert!(problems[0].to_string().contains("a delegate"), "{problems:?}");
    let problems = mistakes("[digest]\ndevice = \"hailo\"\n");
    assert_eq!((problems.len(), problems[0].key.as_str()), (1, "digest.device"), "{problems:?}");
    let there = "[digest]\ndevice = \"hailo\"\n[accelerator.hailo]\nplugin = \"/lib/hailo.so\"\n";
    assert_eq!(agent(there).config.digest.device.as_deref(), Some("hailo"));
    assert_eq!(agent("").config.digest.device, None);
}

#[test]
fn a_model_that_a_device_runs_whole_needs_the_device_and_its_file() {
    let plugin = "[accelerator.rknn]\nplugin = \"/lib/rknn.so\"\n";
    let both = format!("[glm]\ndevice = \"rknn\"\ndevice_model = \"chat.rkllm\"\nchat = true\n{plugin}");
    let glm = agent(&both).config.glm;
    assert_eq!(glm.device, Some(("rknn".into(), Path::new("/etc/outpost/chat.rkllm").to_owned())));
    for (mistaken, key) in [
        (format!("[glm]\ndevice = \"rknn\"\n{plugin}"), "glm.device_model"),
        (format!("[glm]\ndevice_model = \"chat.rkllm\"\n{plugin}"), "glm.device_model"),
        ("[glm]\ndevice = \"rknn\"\ndevice_model = \"chat.rkllm\"\n".to_owned(), "glm.device"),
    ] {
        let problems = mistakes(&mistaken);
        assert_eq!((problems.len(), problems[0].key.as_str()), (1, key), "{problems:?}");
    }
}
