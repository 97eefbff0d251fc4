//! Tests of the thread `glm`: the student's digests, and conversations with a tiny model that says noise.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::*;
use crate::digest::{Engine, testing, verify};
use crate::glm::bundle;
use crate::glm::import::{ImportOptions, import};
use crate::glm::speaker::{Form, Message, Role};
use crate::glm::student::{Bundle, Model, Writer};

fn word(handle: &GlmHandle, facts: Facts, lang: Lang) -> Digest {
    let digest = smol::block_on(handle.word(facts, lang, 7));
    verify::complete(digest.verdict, &digest.text, &digest.facts, lang).unwrap();
    verify::figures_are_facts(&digest.text, &digest.facts, lang).unwrap();
    assert_eq!((digest.id, digest.lang), (7, lang));
    digest
}

#[test]
fn a_model_that_can_not_be_loaded_leaves_the_words_to_the_template() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("student.onnx"), b"not a graph").unwrap();
    let glm = Glm::start(GlmOptions { dir: Some(dir.path().into()), ..GlmOptions::default() });
    let digest = word(&glm.handle(), testing::hot_bearing(), Lang::En);
    assert_eq!((digest.engine, digest.verdict), (Engine::Template, Severity::Critical));
    assert!(digest.fallback_reason.contains("can't be read"), "{}", digest.fallback_reason);
    glm.stop();
}

#[test]
fn a_graph_that_is_garbage_gives_the_template_and_no_panic() {
    let bundle = Bundle::embedded().unwrap();
    let mut rng = fastrand::Rng::with_seed(5);
    for _ in 0..6 {
        let mut onnx = bundle.onnx.to_vec();
        let from = rng.usize(0..onnx.len());
        onnx[from..].iter_mut().step_by(97).for_each(|b| *b ^= rng.u8(1..));
        let damaged = Bundle {
            onnx: onnx.into(),
            vocab_txt: bundle.vocab_txt.clone(),
            vocab_json: bundle.vocab_json.clone(),
            id: String::new(),
            shape: bundle.shape,
        };
        // Weights may be damaged and the graph still run; then the words are checked like any others.
        let loaded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| Model::load(damaged)));
        if let Ok(Ok(model)) = loaded {
            let deadline = Mono(u64::MAX);
            if let Ok(digest) = Writer::new(model).word(&testing::hot_bearing(), Lang::En, 1, deadline) {
                verify::complete(digest.verdict, &digest.text, &digest.facts, Lang::En).unwrap();
            }
        }
    }
}

#[test]
fn every_facts_get_words_in_both_languages() {
    let glm = Glm::start(GlmOptions { budget: Duration::from_secs(60), ..GlmOptions::default() });
    for seed in 0..8 {
        for &lang in Lang::ALL {
            word(&glm.handle(), testing::facts(seed), lang);
        }
    }
    glm.stop();
}

#[test]
fn a_period_with_next_to_nothing_in_it_is_left_to_the_template() {
    let glm = Glm::start(GlmOptions { budget: Duration::from_secs(60), ..GlmOptions::default() });
    for (normal, engine) in [(0, Engine::Template), (1, Engine::Template), (2, Engine::Glm)] {
        let facts = Facts { events: Vec::new(), channels_normal: normal, ..testing::hot_bearing() };
        let digest = word(&glm.handle(), facts, Lang::Zh);
        assert_eq!(digest.engine, engine, "{normal} normal channels: {}", digest.fallback_reason);
    }
    glm.stop();
}

#[test]
fn a_budget_that_is_up_gives_the_template_at_once() {
    let glm = Glm::start(GlmOptions { budget: Duration::ZERO, ..GlmOptions::default() });
    let digest = word(&glm.handle(), testing::hot_bearing(), Lang::Zh);
    assert_eq!(
        (digest.engine, digest.fallback_reason.as_str()),
        (Engine::Template, "the time budget was exceeded")
    );
    glm.stop();
}

#[test]
fn a_full_queue_and_a_stopped_thread_say_so() {
    let jobs = Jobs::new();
    let handle = GlmHandle { jobs: jobs.clone(), budget: Duration::from_millis(20), speaker: None };
    let facts = || Facts { events: Vec::new(), ..testing::hot_bearing() };
    for _ in 0..limits::GLM_QUEUE_MAX {
        assert_eq!(word(&handle, facts(), Lang::En).fallback_reason, "the time budget was exceeded");
    }
    assert_eq!(word(&handle, facts(), Lang::En).fallback_reason, "busy");
    jobs.close();
    assert_eq!(word(&handle, facts(), Lang::En).fallback_reason, "off");
    let off = Glm::start(GlmOptions { enabled: false, ..GlmOptions::default() });
    assert_eq!(word(&off.handle(), testing::hot_bearing(), Lang::En).fallback_reason, "off");
    assert_eq!(off.handle().talk("chat", hello(5)).map(|_| ()), Err(Unheard::NoModel));
}

/// A tiny model with random weights and a tokenizer: what it says is noise, how it says it is not. Its context is long enough
/// for instructions and facts, a token being a letter or two.
pub(in crate::glm) fn tiny() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/glm/glm_edge");
    let source = dir.path().join("source");
    std::fs::create_dir(&source).unwrap();
    for name in ["generation_config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(golden.join(name), source.join(name)).unwrap();
    }
    let config = std::fs::read_to_string(golden.join("config.json")).unwrap();
    let longer = config.replace("\"max_position_embeddings\": 512", "\"max_position_embeddings\": 4096");
    assert_ne!(config, longer);
    std::fs::write(source.join("config.json"), longer).unwrap();
    let target = dir.path().join("tiny.bundle");
    import(&source, &target, &ImportOptions::default(), &mut |_| {}).unwrap();
    (dir, target)
}

pub(in crate::glm) fn speaking(bundle: &Path) -> GlmOptions {
    let engine = EngineOptions { threads: 1, slots: 2, context_tokens: 512, ..EngineOptions::default() };
    let speaker = SpeakerOptions {
        dir: bundle.to_owned(),
        engine,
        answer_tokens_max: 400,
        digest_budget: Duration::from_secs(60),
        idle_unload: Duration::from_secs(600),
        lang: Lang::En,
        prefix_file: None,
    };
    GlmOptions { speaker: Some(speaker), budget: Duration::from_secs(60), ..GlmOptions::default() }
}

pub(in crate::glm) fn hello(tokens_max: usize) -> Talk {
    Talk::new(vec![Message::new(Role::User, "hello")], tokens_max)
}

fn all(listening: Listening) -> (String, End, Usage) {
    smol::block_on(listening.all()).unwrap()
}

#[test]
fn conversations_side_by_side_get_the_answers_that_they_get_alone() {
    let (_dir, bundle) = tiny();
    let glm = Glm::start(speaking(&bundle));
    let handle = glm.handle();
    let talk = |words: &str| Talk::new(vec![Message::new(Role::User, words)], 40);
    let words = ["hello", "what is a pump?", "泵是什么？", "list three things"];
    let alone: Vec<_> = words.map(|w| all(handle.talk("chat", talk(w)).unwrap()).0).into();
    let together: Vec<_> = words.map(|w| handle.talk("chat", talk(w)).unwrap()).into();
    let together: Vec<_> = together.into_iter().map(|listening| all(listening).0).collect();
    assert_eq!(alone, together);
    assert!(alone.iter().any(|text| !text.is_empty()), "{alone:?}");
    all(handle.talk("chat", talk("hello")).unwrap());
    let (_, _, usage) = all(handle.talk("chat", talk("hello")).unwrap());
    assert!(usage.prompt_tokens > 5 && usage.cached_tokens + 1 >= usage.prompt_tokens, "{usage:?}");
    glm.stop();
}

#[test]
fn whatever_the_model_would_like_to_say_a_query_comes_out_of_its_grammar() {
    use crate::ask::{Book, Named, Query, grammar};
    use crate::reading::{ChannelId, ChannelInfo};
    let (_dir, bundle) = tiny();
    let glm = Glm::start(speaking(&bundle));
    let infos = ["pump1.temp", "tank2.level"].map(|id| ChannelInfo::guess(&ChannelId::new(id).unwrap()));
    let book = Book::new(infos.iter().map(Named::from));
    let mut said = Vec::new();
    for seed in 0..6 {
        let mut talk = Talk { form: Form::Grammar(grammar::grammar(&book)), ..hello(300) };
        talk.sampling = crate::glm::sample::Sampling { temperature: 2.0, seed, ..talk.sampling };
        let (text, why, usage) = all(glm.handle().talk("ask", talk).unwrap());
        assert_eq!(why, End::Stop, "{text}");
        assert!(usage.forced_tokens > 0, "what must come is not asked of the model: {usage:?}");
        Query::parse(&text, &book).unwrap_or_else(|e| panic!("{e}: {text}"));
        said.push(text);
    }
    said.dedup();
    assert!(said.len() > 2, "the model chooses: {said:?}");
    glm.stop();
}

#[test]
fn a_bigger_model_whose_words_do_not_hold_leaves_them_to_the_student() {
    let (_dir, bundle) = tiny();
    let student = Bundle::embedded().unwrap().id;
    let mut options = speaking(&bundle);
    let speaker = options.speaker.as_mut().unwrap();
    // Too few tokens for any words that hold.
    (speaker.engine.context_tokens, speaker.answer_tokens_max) = (4096, 16);
    let glm = Glm::start(options);
    for &lang in Lang::ALL {
        let digest = word(&glm.handle(), testing::hot_bearing(), lang);
        assert_eq!((digest.engine, &digest.model), (Engine::Glm, &student), "{}", digest.fallback_reason);
    }
    glm.stop();
}

#[test]
fn an_answer_that_nobody_reads_gives_its_place_to_the_next() {
    let (_dir, bundle) = tiny();
    let mut options = speaking(&bundle);
    options.speaker.as_mut().unwrap().engine.slots = 1;
    let glm = Glm::start(options);
    let endless = Talk { stops: Vec::new(), ..hello(400) };
    let quickest = |job: &dyn Fn()| {
        let times = (0..5).map(|_| {
            let begun = Instant::now();
            job();
            begun.elapsed()
        });
        times.min().unwrap()
    };
    let begin = || {
        let mut listening = glm.handle().talk("chat", endless.clone()).unwrap();
        smol::block_on(listening.next()).unwrap();
    };
    // The first loads the model, and every other one begins when the one before is given up.
    begin();
    let abandoned = quickest(&begin);
    let whole = quickest(&|| drop(all(glm.handle().talk("chat", endless.clone()).unwrap())));
    assert!(abandoned < whole / 2, "{abandoned:?} for a beginning, {whole:?} for an answer");
    glm.stop();
}

#[test]
fn a_model_that_needs_more_memory_than_it_may_take_is_refused_with_the_reason() {
    let (_dir, bundle) = tiny();
    let mut options = speaking(&bundle);
    options.speaker.as_mut().unwrap().engine.memory_bytes_max = Some(1 << 10);
    let glm = Glm::start(options);
    let refused = smol::block_on(glm.handle().talk("chat", hello(5)).unwrap().all());
    let Err(Unheard::Failed(reason)) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("allow more memory"), "{reason}");
    let digest = word(&glm.handle(), testing::hot_bearing(), Lang::En);
    assert_eq!(digest.engine, Engine::Glm, "the student does it: {}", digest.fallback_reason);
    glm.stop();
}

#[test]
fn what_is_idle_gives_its_memory_back_and_is_loaded_again() {
    let (_dir, bundle) = tiny();
    let mut options = speaking(&bundle);
    options.speaker.as_mut().unwrap().idle_unload = Duration::from_millis(20);
    let unloads = crate::observe::metrics::GLM_UNLOADS.value();
    let glm = Glm::start(options);
    let first = all(glm.handle().talk("chat", hello(10)).unwrap());
    let begun = Instant::now();
    while crate::observe::metrics::GLM_UNLOADS.value() == unloads {
        assert!(begun.elapsed() < Duration::from_secs(20), "never unloaded");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(all(glm.handle().talk("chat", hello(10)).unwrap()).0, first.0);
    glm.stop();
}

#[test]
fn while_the_machine_is_hot_only_alarms_are_served() {
    let (_dir, bundle) = tiny();
    let root = tempfile::tempdir().unwrap();
    let zone = root.path().join("sys/class/thermal/thermal_zone0");
    std::fs::create_dir_all(&zone).unwrap();
    std::fs::write(zone.join("temp"), "95000").unwrap();
    let governor = GovernorOptions {
        temperature_max_celsius: Some(80.0),
        root: root.path().into(),
        ..GovernorOptions::default()
    };
    let glm = Glm::start(GlmOptions { governor, ..speaking(&bundle) });
    let mut listening = glm.handle().talk("chat", hello(10)).unwrap();
    let outage = crate::facts::Outage {
        start: crate::time::Wall::from_secs(1_783_000_000),
        duration_s: 60,
        records_kept: 1,
        records_lost: 0,
    };
    let facts = Facts { outage: Some(outage), ..testing::hot_bearing() };
    assert_eq!(word(&glm.handle(), facts, Lang::En).engine, Engine::Glm);
    let nothing = async {
        smol::Timer::after(Duration::from_millis(1500)).await;
        None
    };
    assert_eq!(smol::block_on(smol::future::or(listening.next(), nothing)), None, "it waits");
    std::fs::write(zone.join("temp"), "40000").unwrap();
    all(listening);
    glm.stop();
}

#[test]
fn a_stop_breaks_conversations_off_and_still_words_what_was_promised() {
    let (_dir, bundle) = tiny();
    let glm = Glm::start(speaking(&bundle));
    let listening = glm.handle().talk("chat", hello(400)).unwrap();
    let handle = glm.handle();
    let wording = std::thread::spawn(move || word(&handle, testing::hot_bearing(), Lang::Zh));
    std::thread::sleep(Duration::from_millis(50));
    let begun = Instant::now();
    glm.stop();
    assert!(begun.elapsed() < Duration::from_secs(20));
    let _ = smol::block_on(listening.all());
    wording.join().unwrap();
}

#[test]
fn a_bundle_that_is_gone_is_told_and_not_looked_for_at_every_request() {
    let (_dir, path) = tiny();
    std::fs::remove_file(path.join(bundle::WEIGHTS)).unwrap();
    let glm = Glm::start(speaking(&path));
    for _ in 0..2 {
        let refused = smol::block_on(glm.handle().talk("chat", hello(5)).unwrap().all());
        let Err(Unheard::Failed(reason)) = refused else { panic!("{refused:?}") };
        assert!(reason.contains("can't be read"), "{reason}");
    }
    glm.stop();
}

#[test]
fn what_a_device_does_not_answer_the_models_on_the_cpu_do() {
    use crate::accel::worker::{Patience, Vendor, WorkerOptions};
    let (_dir, bundle) = tiny();
    let mut options = speaking(&bundle);
    let vendor = Vendor::Language {
        library: "/nowhere.so".into(),
        model: "/nowhere".into(),
        memory_bytes_max: 1 << 30,
    };
    options.teller = Some(TellerOptions {
        worker: WorkerOptions {
            name: "rknn".into(),
            program: "/nowhere".into(),
            vendor,
            options: String::new(),
            deadline: Duration::from_millis(500),
        },
        model: "nowhere".into(),
        patience: Patience::default(),
        answer_tokens_max: 400,
        digest_budget: Duration::from_secs(60),
        idle_unload: Duration::from_secs(600),
    });
    let without = GlmOptions { speaker: None, ..options.clone() };
    let glm = Glm::start(options);
    assert_eq!(glm.handle().model(), Some("nowhere"));
    let (text, _, usage) = all(glm.handle().talk("chat", hello(20)).unwrap());
    assert!(!text.is_empty() && usage.prompt_tokens > 0, "{text:?} {usage:?}");
    let digest = word(&glm.handle(), testing::hot_bearing(), Lang::En);
    assert_eq!(digest.engine, Engine::Glm, "{}", digest.fallback_reason);
    glm.stop();

    let glm = Glm::start(without);
    let refused = smol::block_on(glm.handle().talk("chat", hello(20)).unwrap().all());
    assert!(
        matches!(&refused, Err(Unheard::Failed(why)) if why.contains("rknn, stage worker")),
        "{refused:?}"
    );
    let digest = word(&glm.handle(), testing::hot_bearing(), Lang::En);
    assert_eq!(digest.model, Bundle::embedded().unwrap().id, "{}", digest.fallback_reason);
    glm.stop();
}
