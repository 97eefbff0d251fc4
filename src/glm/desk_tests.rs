//! Tests of what the thread `glm` does, a turn at a time.

use super::*;
use crate::digest::{Lang, testing, verify};
use crate::glm::worker::tests::{hello, speaking, tiny};

#[test]
fn a_panic_costs_one_answer() {
    assert_eq!(caught(|| -> u8 { panic!("an engine's bug") }), Err(PANICKED.to_owned()));
    assert_eq!(caught(|| 1), Ok(1));
}

#[test]
fn words_of_the_bigger_model_are_taken_if_they_hold_and_replaced_if_they_do_not() {
    let mut desk = Desk::new(GlmOptions::default(), Jobs::new());
    let facts = Arc::new(testing::hot_bearing());
    let mut worded = |words: &str| {
        let (reply, answer) = smol::channel::bounded(1);
        let deadline = Mono(u64::MAX);
        let (facts, priority) = (Arc::clone(&facts), Priority::Alarm);
        let job = DigestJob { facts, lang: Lang::En, id: 3, priority, speaker_until: None, deadline, reply };
        let usage = Usage { prompt_tokens: 90, answer_tokens: 30, ..Usage::default() };
        desk.back.send(Returned::Digest { job, by: By::Cpu, words: Ok(words.to_owned()), usage });
        desk.take_back();
        while desk.step(Priority::Periodic) {}
        answer.try_recv().unwrap().unwrap()
    };
    let good = "critical\nbearing_wear\nOn <a1> the <c1> rose from <b1> to <p1>, above its limit of <l1>, since <s1>.";
    let digest = worded(good);
    assert!(digest.text.contains("rose from 41.2 °C to 78.3 °C"), "{}", digest.text);
    assert!(digest.text.contains("[alarm:12-15]") && digest.timing.prompt_tokens == 90, "{digest:?}");
    let other = worded(&good.replace("rose", "fell"));
    assert!(
        !other.text.contains("fell") && other.timing.prompt_tokens != 90,
        "the student's: {}",
        other.text
    );
}

#[test]
fn saturation_shows_within_a_minute_and_fades_with_it() {
    let at = |s: u64| Mono(s * 1_000_000);
    let mut load = Load::new(at(0));
    let mut shown = Vec::new();
    for s in 1..=180 {
        if s <= 90 {
            load.worked(Duration::from_secs(1));
        }
        shown.extend(load.percent(at(s)));
    }
    assert!(shown[59] > 60 && shown[89] > 75, "{shown:?}");
    assert!(shown[179] < 20, "{shown:?}");
    assert_eq!(load.percent(at(180)), None, "at most once a second");
}

/// A desk over a machine of files, its bigger model tiny, and that machine.
fn desk(change: impl FnOnce(&mut GlmOptions)) -> (Desk, [tempfile::TempDir; 2]) {
    let (dir, bundle) = tiny();
    let root = tempfile::tempdir().unwrap();
    let mut options = speaking(&bundle);
    options.governor.root = root.path().into();
    change(&mut options);
    (Desk::new(options, Jobs::new()), [dir, root])
}

/// Asks for an answer; gives what will be said.
fn ask(desk: &Desk, talk: Talk) -> smol::channel::Receiver<Said> {
    let (pieces, said) = smol::channel::unbounded();
    let (cancel, asked) = (Arc::default(), clock::mono());
    let job = TalkJob { kind: "ask", talk, pieces, cancel, asked };
    desk.jobs.push(Priority::Ask, Job::Talk(job)).unwrap();
    said
}

/// Why an answer ended, if it has.
fn end(said: &smol::channel::Receiver<Said>) -> Option<End> {
    let all = std::iter::from_fn(|| said.try_recv().ok());
    all.filter_map(|said| if let Said::End { why, .. } = said { Some(why) } else { None }).last()
}

fn put(root: &tempfile::TempDir, path: &str, text: &str) {
    let path = root.path().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn an_answer_under_way_ends_at_its_time_also_while_the_machine_is_hot() {
    let (mut desk, [_dir, root]) = desk(|options| options.governor.temperature_max_celsius = Some(80.0));
    // Loading takes its time, and not the answer's.
    desk.speaker().unwrap();
    let late = Some(clock::mono() + Duration::from_millis(500));
    let said = ask(&desk, Talk { deadline: late, ..hello(400) });
    desk.turn(false);
    assert_eq!(desk.speaker.running(), (1, 0), "it has begun");
    put(&root, "sys/class/thermal/thermal_zone0/temp", "95000");
    let begun = clock::mono();
    while !desk.is_paused {
        std::thread::sleep(Duration::from_millis(100));
        desk.look(clock::mono());
        assert!(clock::mono().since(begun) < Duration::from_secs(20), "it never pauses");
    }
    assert_eq!(desk.turn(false), (Priority::Alarm, false), "nothing goes on");
    assert_eq!(end(&said), Some(End::Late));
    assert!(desk.is_empty());
}

#[test]
fn a_model_gives_its_memory_back_before_the_machine_has_none_left() {
    let (mut desk, [_dir, root]) = desk(|_| {});
    put(&root, "proc/meminfo", "MemAvailable: 1000000 kB\n");
    let said = ask(&desk, hello(400));
    desk.turn(false);
    assert_eq!((desk.speaker.running(), end(&said)), ((1, 0), None));
    put(&root, "proc/meminfo", "MemAvailable: 20000 kB\n");
    std::thread::sleep(MEMORY_LOOK_EVERY);
    desk.turn(false);
    let Some(End::Failed(reason)) = end(&said) else { panic!("the answer goes on") };
    assert!(reason.contains("19 MiB of memory left"), "{reason}");
    assert!(matches!(desk.speaker, Seat::Failed { .. }), "and it is not loaded again at once");
}

#[test]
fn a_model_is_not_loaded_into_memory_that_others_use() {
    let (mut desk, [_dir, root]) = desk(|options| {
        options.speaker.as_mut().unwrap().engine.memory_bytes_max = Some(1 << 40);
    });
    put(&root, "proc/meminfo", "MemAvailable: 50000 kB\n");
    let said = ask(&desk, hello(400));
    desk.turn(false);
    let Some(End::Failed(reason)) = end(&said) else { panic!("it was loaded") };
    assert!(reason.contains("and may use 17"), "50000 kB less what is left to others: {reason}");
}

/// The tiny model's letters mean nothing, and there is no check for that; what it says with its slots holds.
#[test]
fn a_digest_in_the_bigger_models_words_says_whose_they_are_and_one_that_it_does_not_finish_is_the_students() {
    let student = Bundle::embedded().unwrap().id;
    for answer_tokens_max in [16, 400] {
        let (mut desk, _dirs) = desk(|options| {
            let speaker = options.speaker.as_mut().unwrap();
            (speaker.engine.context_tokens, speaker.answer_tokens_max) = (4096, answer_tokens_max);
        });
        let (reply, answer) = smol::channel::bounded(1);
        let (facts, until, lang) = (Arc::new(testing::hot_bearing()), Mono(u64::MAX), Lang::Zh);
        let priority = Priority::Alarm;
        let speaker_until = Some(until);
        let job = DigestJob { facts, lang, id: 1, priority, speaker_until, deadline: until, reply };
        desk.jobs.push(priority, Job::Digest(job)).unwrap();
        desk.turn(false);
        assert_eq!((desk.speaker.running(), desk.wording.len()), ((1, 0), 0), "it is the bigger model's");
        let digest = loop {
            desk.turn(false);
            if let Ok(worded) = answer.try_recv() {
                break worded.unwrap();
            }
        };
        verify::complete(digest.verdict, &digest.text, &digest.facts, lang).unwrap();
        verify::figures_are_facts(&digest.text, &digest.facts, lang).unwrap();
        let by = if answer_tokens_max == 16 { &student } else { desk.speaker.id().unwrap() };
        assert_eq!((digest.engine, digest.model.as_str()), (Engine::Glm, by), "{}", digest.text);
    }
}

#[test]
fn weights_that_are_cut_short_under_a_model_end_its_answers_and_not_the_agent() {
    let (mut desk, [dir, _root]) = desk(|_| {});
    let said = ask(&desk, hello(400));
    desk.turn(false);
    assert_eq!((desk.speaker.running(), end(&said)), ((1, 0), None));
    let weights = dir.path().join("tiny.bundle").join(crate::glm::bundle::WEIGHTS);
    std::fs::OpenOptions::new().write(true).open(weights).unwrap().set_len(0).unwrap();
    desk.turn(false);
    let Some(End::Failed(reason)) = end(&said) else { panic!("the answer goes on") };
    assert!(reason.contains("weights.bin") && reason.contains("0 bytes"), "{reason}");
    assert!(matches!(desk.speaker, Seat::Failed { .. }));
}
