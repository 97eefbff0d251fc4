//! Tests of what the thread `glm` does, a turn at a time.

use super::*;
use crate::digest::{Lang, testing};

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
        desk.back.send(Returned { job, words: Ok(words.to_owned()), usage }).unwrap();
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
