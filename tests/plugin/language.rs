//! A whole language model on the test plug-in, in a real worker process, with every fault that it knows: there are words in time,
//! nothing hangs, and what is told names the stage.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use outpost::accel::Stage;
use outpost::accel::worker::{Language, Patience, Vendor, WorkerOptions};
use outpost::digest::{Digest, Engine, Lang};
use outpost::facts::{EventFact, Facts};
use outpost::glm::sample::Sampling;
use outpost::glm::speaker::{End, Form, Message, Role, Said, Talk};
use outpost::glm::teller::begin;
use outpost::glm::{Glm, GlmOptions, TellerOptions, Unheard};
use outpost::reading::{ChannelId, Pattern, Quantity, Severity, Unit};
use outpost::time::Wall;

use super::plugin::{assert_line, compile, compiled, count_lines, log_file};
use super::worker;

/// A model's file that says `text`, under a name that no other test has.
struct Script {
    _dir: tempfile::TempDir,
    options: TellerOptions,
}

impl Script {
    fn new(name: &str, text: &str, options: &str) -> Self {
        log_file();
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join(name);
        fs::write(&model, text).unwrap();
        let options = TellerOptions {
            worker: on(compiled("plugin"), model, options),
            model: name.into(),
            patience: Patience { first: Duration::from_secs(2), next: Duration::from_millis(500) },
            answer_tokens_max: 200,
            digest_budget: Duration::from_secs(5),
            idle_unload: Duration::from_secs(600),
        };
        Self { _dir: dir, options }
    }

    fn start(&self) -> Glm {
        Glm::start(GlmOptions { teller: Some(self.options.clone()), ..GlmOptions::default() })
    }

    fn file(&self, name: &str) -> PathBuf {
        self._dir.path().join(name)
    }
}

fn on(library: PathBuf, model: PathBuf, options: &str) -> WorkerOptions {
    let vendor = Vendor::Language { library, model, memory_bytes_max: 256 << 20 };
    WorkerOptions { vendor, ..worker(options) }
}

fn hot_bearing() -> Facts {
    let start = Wall::from_secs(1_783_000_000);
    let event = EventFact {
        channel: ChannelId::new("pump1.bearing_temp").unwrap(),
        label: "bearing temperature".into(),
        asset: Some("Pump 1".into()),
        quantity: Quantity::Temperature,
        pattern: Pattern::Rise,
        severity: Severity::Warning,
        ongoing: true,
        start,
        duration_s: 3600,
        baseline: Some(41.23),
        peak: Some(78.31),
        limit: Some(75.0),
        count: None,
        unit: Unit("Cel".into()),
        cites: None,
    };
    Facts {
        from: start,
        to: Wall::from_secs(1_783_003_600),
        outage: None,
        events: vec![event],
        events_more: 0,
        channels_normal: 7,
        readings: 1000,
    }
}

const WORDS: &str = "SAYSwarning\ncooling_failure\n<c1> of <a1> has risen from <b1> to <p1>: look at the cooling – at once.\n";

fn word(glm: &Glm) -> Digest {
    smol::block_on(glm.handle().word(hot_bearing(), Lang::En, 1))
}

/// The words of a digest that the device could not give are the student's.
fn assert_students(digest: &Digest, why: &str) {
    assert_eq!(digest.engine, Engine::Glm, "{why}: {}", digest.fallback_reason);
    assert!(!digest.model.contains(" on "), "{why}: {}", digest.model);
}

fn talk(tokens_max: usize) -> Talk {
    Talk::new(
        vec![Message::new(Role::System, "Be brief."), Message::new(Role::User, "泵在哪里？")],
        tokens_max,
    )
}

fn answer(glm: &Glm, talk: Talk) -> Result<(String, End), Unheard> {
    let told = smol::block_on(glm.handle().talk("chat", talk)?.all());
    told.map(|(text, why, _)| (text, why))
}

#[test]
fn a_model_that_a_device_runs_whole_words_digests_and_they_are_held_to_the_facts() {
    let script = Script::new("words.rkllm", WORDS, "");
    let glm = script.start();
    let digest = word(&glm);
    assert_eq!((digest.engine, digest.model.as_str()), (Engine::Glm, "words.rkllm on hailo"));
    assert_eq!(
        digest.text,
        "bearing temperature of Pump 1 has risen from 41.2 °C to 78.3 °C: look at the cooling – at once."
    );
    assert_line(" model=words.rkllm ", "glm_device_ready", &["backend=hailo", "claimed=28", "layers=28"]);
    glm.stop();

    let lies = Script::new("lies.rkllm", "SAYSwarning\ncooling_failure\n<c1> rose to 99 degrees.", "");
    let glm = lies.start();
    assert_students(&word(&glm), "a figure that is no fact");
    glm.stop();
}

#[test]
fn a_conversation_reaches_the_runtime_as_it_is_and_whole_characters_come_back() {
    let script = Script::new("echo.rkllm", "ECHO", "");
    let glm = script.start();
    let sampling = Sampling { temperature: 0.7, top_k: 40, top_p: 0.5, seed: 11, ..Sampling::GREEDY };
    let (text, why) = answer(&glm, Talk { sampling, ..talk(60) }).unwrap();
    let wanted =
        "system: Be brief.\nuser: 泵在哪里？\n60 tokens, temperature 0.7, top_k 40, top_p 0.5, seed 11";
    assert_eq!((text.as_str(), why), (wanted, End::Stop));
    let (text, why) = answer(&glm, talk(4)).unwrap();
    assert_eq!((text.as_str(), why), (&wanted[..12], End::Length));
    let (text, why) = answer(&glm, Talk { stops: vec!["brief".into()], ..talk(60) }).unwrap();
    assert_eq!((text.as_str(), why), ("system: Be ", End::Stop));
    glm.stop();
}

#[test]
fn a_form_that_was_promised_holds_though_nobody_here_chooses_the_tokens() {
    let script = Script::new("json.rkllm", "SAYS\n {\"a\": [1, 2]} \n", "");
    let glm = script.start();
    let said = |form| answer(&glm, Talk { form, ..talk(60) });
    assert_eq!(said(Form::Json).unwrap(), ("{\"a\": [1, 2]}".to_owned(), End::Stop));
    let left = said(Form::Grammar("root ::= \"{\" [a-z\"]* \"}\"".into()));
    assert!(
        matches!(&left, Err(Unheard::Failed(why)) if why.contains("does not keep to the form")),
        "{left:?}"
    );
    let bad = said(Form::Grammar("root ::= nothing".into()));
    assert!(matches!(bad, Err(Unheard::Refused(_))), "{bad:?}");
    glm.stop();
    let half = Script::new("half.rkllm", "SAYS{\"a\": ", "");
    let glm = half.start();
    let cut = answer(&glm, Talk { form: Form::Json, ..talk(60) });
    assert!(matches!(&cut, Err(Unheard::Failed(_))), "{cut:?}");
    glm.stop();
}

#[test]
fn who_stops_listening_costs_the_device_one_more_piece() {
    let ended = tempfile::tempdir().unwrap();
    let mark = ended.path().join("ended");
    let options = format!("fault=slow_words,ended={}", mark.display());
    let script = Script::new("long.rkllm", &format!("SAYS{}", "word ".repeat(500)), &options);
    let glm = script.start();
    let mut listening = glm.handle().talk("chat", talk(200)).unwrap();
    assert!(matches!(smol::block_on(listening.next()), Some(Said::Text(_))));
    let begun = Instant::now();
    drop(listening);
    while !mark.exists() {
        assert!(begun.elapsed() < Duration::from_secs(5), "the whole answer takes ten");
        std::thread::sleep(Duration::from_millis(5));
    }
    glm.stop();
}

#[test]
fn what_shows_when_it_is_begun_is_told_with_its_stage() {
    let refused =
        |name: &str, text: &str, options: &str| begin(&Script::new(name, text, options).options).unwrap_err();
    for (options, stage, says) in [
        ("fault=create", Stage::Create, "the device is busy; end the other program"),
        ("fault=create_crash", Stage::Load, "died"),
        ("fault=claims_nothing", Stage::Claim, "none of the model's 28 layers"),
        ("fault=mute", Stage::Golden, "it wrote \"\""),
        ("fault=refuse", Stage::Golden, "it refuses: the context has 16 tokens"),
        ("fault=broken", Stage::Golden, "convert the model anew"),
        ("fault=segv", Stage::Invoke, "died"),
        ("fault=hang", Stage::Invoke, "no answer within 500ms"),
        ("fault=error", Stage::Invoke, "code 42: the device has timed out"),
        ("speed=9", Stage::Create, "unknown option speed; known are fault"),
    ] {
        let refused = refused("begun.rkllm", WORDS, options);
        assert_eq!((refused.backend.as_str(), refused.stage), ("hailo", stage), "{options}: {refused}");
        assert!(refused.reason.contains(says), "{options}: {refused}");
    }
    let none = refused("none.rkllm", "no model", "");
    assert!(
        none.stage == Stage::Create && none.reason.contains("no language model of this device"),
        "{none}"
    );
    let mut slow = Script::new("slow.rkllm", WORDS, "fault=slow_words");
    slow.options.digest_budget = Duration::from_millis(600);
    let slow = begin(&slow.options).unwrap_err();
    assert!(slow.stage == Stage::Speed && slow.reason.contains("glm.digest_budget is 600ms"), "{slow}");
    let nowhere = Language::begin(&on("/nowhere/rknn.so".into(), "/nowhere".into(), "")).unwrap_err();
    assert!(nowhere.stage == Stage::Find && nowhere.reason.contains("/nowhere/rknn.so"), "{nowhere}");
    let dir = tempfile::tempdir().unwrap();
    let dumb = dir.path().join("dumb.so");
    compile("plugin", &dumb, &["-lm", "-DWITHOUT_LANGUAGE"]);
    let dumb = Language::begin(&on(dumb, "/nowhere".into(), "")).unwrap_err();
    assert!(dumb.stage == Stage::Load && dumb.reason.contains("runs no language models"), "{dumb}");
}

#[test]
fn whatever_fails_while_it_serves_the_student_words_the_digest_and_a_line_names_the_stage() {
    for (fault, says) in [
        ("error", "code 42: the device has timed out"),
        ("segv", "died"),
        ("hang", "no answer within 500ms"),
        ("leak", "died"),
    ] {
        let name = format!("{fault}.rkllm");
        // The first run is the trial.
        let script = Script::new(&name, WORDS, &format!("fault={fault},at_run=2"));
        let glm = script.start();
        let begun = Instant::now();
        assert_students(&word(&glm), fault);
        assert!(begun.elapsed() < Duration::from_secs(6), "{fault}: {:?}", begun.elapsed());
        assert_line(
            &format!(" model={name} "),
            "glm_device_failed",
            &["backend=hailo", "stage=invoke", says],
        );
        glm.stop();
    }
}

#[test]
fn what_the_runtime_refuses_or_can_not_be_told_is_the_callers_fault_however_often() {
    let script = Script::new("refuses.rkllm", WORDS, "fault=refuse,at_run=2");
    let glm = script.start();
    for _ in 0..8 {
        let refused = answer(&glm, talk(20));
        assert!(matches!(&refused, Err(Unheard::Refused(why)) if why.contains("16 tokens")), "{refused:?}");
    }
    let sampling = Sampling { min_p: 0.1, ..Sampling::GREEDY };
    let refused = answer(&glm, Talk { sampling, ..talk(20) });
    assert!(matches!(&refused, Err(Unheard::Refused(why)) if why.contains("min_p")), "{refused:?}");
    assert_eq!(count_lines(" model=refuses.rkllm ", "glm_device_failed", &[]), 0);
    glm.stop();
}

#[test]
fn a_device_that_is_late_in_service_is_left_alone_for_a_while() {
    let mut script = Script::new("late.rkllm", WORDS, "fault=slow_words,at_run=2");
    script.options.digest_budget = Duration::from_millis(500);
    let glm = script.start();
    assert_students(&word(&glm), "its words take two seconds");
    let begun = Instant::now();
    let late =
        || count_lines(" model=late.rkllm ", "glm_device_failed", &["stage=speed", "was not done after"]);
    while late() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(10));
    }
    glm.stop();
}

#[test]
fn an_alarm_does_not_wait_for_a_device_that_is_at_work() {
    let script =
        Script::new("busy.rkllm", &format!("SAYS{}", "word ".repeat(500)), "fault=slow_words,at_run=2");
    let glm = script.start();
    let mut listening = glm.handle().talk("chat", talk(200)).unwrap();
    assert!(matches!(smol::block_on(listening.next()), Some(Said::Text(_))));
    let begun = Instant::now();
    let mut facts = hot_bearing();
    facts.events[0].severity = Severity::Critical;
    let digest = smol::block_on(glm.handle().word(facts, Lang::En, 2));
    assert_students(&digest, "the device is at work");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}: it waited out its time", begun.elapsed());
    drop(listening);
    glm.stop();
}

#[test]
fn one_that_failed_is_begun_again_and_answers() {
    let mark = tempfile::tempdir().unwrap();
    let options = format!("fault=segv,at_run=2,mark={}", mark.path().join("mark").display());
    let script = Script::new("again.rkllm", WORDS, &options);
    let glm = script.start();
    assert_students(&word(&glm), "it died");
    let begun = Instant::now();
    while !word(&glm).model.contains(" on hailo") {
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
    assert_eq!(count_lines(" model=again.rkllm ", "glm_device_ready", &[]), 2);
    glm.stop();
}

#[test]
fn a_runtime_that_hears_nothing_is_not_waited_for() {
    let script = Script::new("endless.rkllm", "SAYSon ", "fault=endless,at_run=2");
    let glm = script.start();
    let begun = Instant::now();
    let (text, why) = answer(&glm, talk(20)).unwrap();
    assert_eq!(why, End::Length);
    assert_eq!(text, "on ".repeat(20));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    // It is still at it, so its process is ended, and what comes next says so or is answered anew.
    let line = || count_lines(" model=endless.rkllm ", "glm_device_failed", &["no answer within 500ms"]);
    while line() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(20));
    }
    glm.stop();
}

#[test]
fn a_digest_does_not_wait_for_a_device_past_its_time_while_that_loads() {
    let mut script = Script::new("loading.rkllm", WORDS, "fault=create_slow");
    script.options.digest_budget = Duration::from_secs(1);
    let glm = script.start();
    let begun = Instant::now();
    assert_students(&word(&glm), "it is not there yet");
    assert!(begun.elapsed() < Duration::from_millis(3500), "{:?}", begun.elapsed());
    glm.stop();
}

#[test]
fn a_process_that_has_nothing_to_do_gives_its_memory_back_and_the_next_question_begins_it() {
    let mut script = Script::new("idle.rkllm", WORDS, "");
    script.options.idle_unload = Duration::from_millis(200);
    let glm = script.start();
    let ready = || count_lines(" model=idle.rkllm ", "glm_device_ready", &[]);
    let begun = Instant::now();
    while ready() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    std::thread::sleep(Duration::from_millis(800));
    assert!(word(&glm).model.contains(" on hailo"));
    assert_eq!(ready(), 2);
    glm.stop();
    assert!(script.file("idle.rkllm").exists());
}
