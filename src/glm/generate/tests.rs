//! The batcher over a real, tiny model: whatever happens beside a request, its answer is the one it gets alone.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::clock;
use crate::glm::bundle::{Bundle, WEIGHTS};
use crate::glm::constrain::{Constraint, NotAllowed, TokenMask};
use crate::glm::engine::{Engine, EngineOptions};
use crate::glm::import::{ImportOptions, import};
use crate::glm::kernels::{Format, KvFormat};
use crate::glm::sample::Sampling;
use crate::glm::weights::Weights;

fn weights() -> Weights {
    bundle(tempfile::tempdir().unwrap().path()).weights().unwrap()
}

fn bundle(dir: &Path) -> Bundle {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/glm/glm_edge");
    let options =
        ImportOptions { body: Some(Format::F32), ends: Some(Format::F32), ..ImportOptions::default() };
    import(&source, &dir.join("bundle"), &options, &mut |_| {}).unwrap();
    Bundle::open(&dir.join("bundle")).unwrap()
}

fn batcher(slots: usize) -> Batcher {
    batcher_of(&weights(), slots)
}

fn batcher_of(weights: &Weights, slots: usize) -> Batcher {
    let options = EngineOptions {
        threads: 1,
        slots,
        context_tokens: 300,
        kv_format: KvFormat::F32,
        chunk_tokens: 64,
        ..EngineOptions::default()
    };
    // Pieces of 16 tokens, whatever this machine is.
    let impatient = BatcherOptions { step_target: Duration::from_nanos(1), ..BatcherOptions::default() };
    Batcher::new(Engine::new(weights, options).unwrap(), impatient)
}

fn prompt(seed: u64, tokens: usize) -> Vec<u32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..tokens).map(|_| rng.u32(0..288)).collect()
}

fn greedy(prompt: Vec<u32>, tokens_max: usize) -> Request {
    Request::greedy(prompt, Arc::from([]), tokens_max)
}

/// Everything that became of one request.
#[derive(Debug, Default, Clone, PartialEq)]
struct Answer {
    tokens: Vec<u32>,
    why: Option<Ended>,
    usage: Usage,
}

fn of(events: &[Event], wanted: RequestId) -> Answer {
    let mut answer = Answer::default();
    for event in events {
        match event {
            Event::Token { id, token } if *id == wanted => answer.tokens.push(*token),
            Event::Ended { id, why, usage } if *id == wanted => {
                assert_eq!(answer.why, None, "ended twice");
                (answer.why, answer.usage) = (Some(why.clone()), *usage);
            }
            _ => {}
        }
    }
    answer
}

/// Steps until nobody waits; gives the number of steps.
fn drain(batcher: &mut Batcher, events: &mut Vec<Event>) -> usize {
    let mut steps = 0;
    while !batcher.is_idle() {
        batcher.step(Priority::Periodic, events);
        steps += 1;
        assert!(steps < 5000, "it does not come to an end");
    }
    steps
}

/// What somebody who copies another file over it does, in the midst of a step as between two.
#[test]
fn weights_that_are_cut_short_under_a_step_fail_it_and_not_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = bundle(dir.path());
    let mut batcher = batcher_of(&bundle.weights().unwrap(), 1);
    let id = batcher.submit(greedy(prompt(1, 20), 200)).unwrap();
    let mut events = Vec::new();
    (0..5).for_each(|_| batcher.step(Priority::Periodic, &mut events));
    assert!(!of(&events, id).tokens.is_empty());
    events.clear();

    let path = dir.path().join("bundle").join(WEIGHTS);
    let whole = std::fs::read(&path).unwrap();
    std::fs::File::options().write(true).truncate(true).open(&path).unwrap();
    drain(&mut batcher, &mut events);
    std::fs::write(&path, whole).unwrap();
    let second = batcher.submit(greedy(prompt(2, 20), 200)).unwrap();
    drain(&mut batcher, &mut events);
    for id in [id, second] {
        let Answer { tokens, why, .. } = of(&events, id);
        let Some(Ended::Failed(reason)) = why else { panic!("{why:?}") };
        assert!(reason.contains("shortened under the program"), "{reason}");
        assert!(tokens.is_empty(), "{tokens:?} of weights that are gone");
    }
    let error = bundle.check_length().unwrap_err().to_string();
    assert!(error.contains(WEIGHTS) && error.contains("was gone"), "{error}");
    let again = Bundle::open(&dir.path().join("bundle")).unwrap();
    assert!(again.check_length().is_ok());
}

fn alone(request: Request) -> Answer {
    let mut batcher = batcher(1);
    let id = batcher.submit(request).unwrap();
    let mut events = Vec::new();
    drain(&mut batcher, &mut events);
    of(&events, id)
}

#[test]
fn a_greedy_answer_is_that_of_transformers_and_a_second_one_takes_its_prompt_from_the_cache() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/glm/glm_edge/expected.json");
    let expected: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let ids = |key: &str| serde_json::from_value::<Vec<u32>>(expected[key].clone()).unwrap();
    let mut batcher = batcher(2);
    for cached in [0, 23] {
        let id = batcher.submit(greedy(ids("prompt"), 256)).unwrap();
        let mut events = Vec::new();
        drain(&mut batcher, &mut events);
        let answer = of(&events, id);
        assert_eq!((answer.tokens, answer.why), (ids("greedy"), Some(Ended::Length)));
        assert_eq!((answer.usage.cached_tokens, answer.usage.answer_tokens), (cached, 256));
    }
}

#[test]
fn answers_side_by_side_are_those_that_each_gets_alone() {
    let prompts: Vec<Vec<u32>> = (0..5).map(|n| prompt(n, 20 + 25 * n as usize)).collect();
    let mut batcher = batcher(3);
    let mut events = Vec::new();
    let mut ids = Vec::new();
    for (n, prompt) in prompts.iter().enumerate() {
        ids.push(batcher.submit(greedy(prompt.clone(), 20 + n)).unwrap());
        batcher.step(Priority::Periodic, &mut events);
    }
    assert_eq!((batcher.running(), batcher.waiting(), batcher.free_slots()), (3, 2, 0));
    drain(&mut batcher, &mut events);
    for (n, (prompt, id)) in prompts.into_iter().zip(ids).enumerate() {
        assert_eq!(of(&events, id).tokens, alone(greedy(prompt, 20 + n)).tokens, "{n}");
    }
}

#[test]
fn a_draw_is_the_same_whoever_else_draws() {
    let sampled = |seed| Request {
        sampling: Sampling { temperature: 0.8, top_p: 0.9, seed, ..Sampling::GREEDY },
        ..greedy(prompt(1, 12), 30)
    };
    let mut batcher = batcher(2);
    let (one, other) = (batcher.submit(sampled(1)).unwrap(), batcher.submit(sampled(2)).unwrap());
    let mut events = Vec::new();
    drain(&mut batcher, &mut events);
    assert_eq!(of(&events, one).tokens, alone(sampled(1)).tokens);
    assert_ne!(of(&events, one).tokens, of(&events, other).tokens);
}

#[test]
fn an_alarm_overtakes_a_long_prompt_even_where_it_must_take_its_slot() {
    let long = || greedy(prompt(3, 200), 10);
    for slots in [1, 2] {
        let mut batcher = batcher(slots);
        let mut events = Vec::new();
        let periodic = batcher.submit(Request { priority: Priority::Periodic, ..long() }).unwrap();
        batcher.step(Priority::Periodic, &mut events);
        batcher.step(Priority::Periodic, &mut events);
        let alarm = Request { priority: Priority::Alarm, ..greedy(prompt(4, 40), 5) };
        let alarm = batcher.submit(alarm).unwrap();
        // 40 tokens in pieces of 16, then a token each.
        for _ in 0..3 + 4 {
            batcher.step(Priority::Periodic, &mut events);
        }
        assert_eq!(of(&events, alarm).why, Some(Ended::Length), "{slots} slots");
        assert_eq!(of(&events, periodic), Answer::default(), "the long prompt waits");
        drain(&mut batcher, &mut events);
        assert_eq!(of(&events, alarm).tokens, alone(greedy(prompt(4, 40), 5)).tokens);
        assert_eq!(of(&events, periodic).tokens, alone(long()).tokens);
    }
}

#[test]
fn an_answer_that_lost_its_slot_goes_on_where_it_was() {
    let mut batcher = batcher(1);
    let mut events = Vec::new();
    let ask = batcher.submit(greedy(prompt(5, 30), 40)).unwrap();
    (0..12).for_each(|_| batcher.step(Priority::Periodic, &mut events));
    let before = of(&events, ask).tokens.len();
    assert!(before > 5 && before < 40);
    let alarm = Request { priority: Priority::Alarm, ..greedy(prompt(6, 10), 5) };
    let alarm = batcher.submit(alarm).unwrap();
    drain(&mut batcher, &mut events);
    assert_eq!(of(&events, alarm).tokens.len(), 5);
    assert_eq!(of(&events, ask).tokens, alone(greedy(prompt(5, 30), 40)).tokens);
}

#[test]
fn below_the_floor_nothing_moves() {
    let mut batcher = batcher(2);
    let mut events = Vec::new();
    let periodic = Request { priority: Priority::Periodic, ..greedy(prompt(1, 5), 2) };
    batcher.submit(periodic).unwrap();
    let ask = batcher.submit(greedy(prompt(2, 5), 2)).unwrap();
    (0..5).for_each(|_| batcher.step(Priority::Ask, &mut events));
    assert_eq!(of(&events, ask).why, Some(Ended::Length));
    assert_eq!((batcher.running(), batcher.waiting()), (0, 1));
}

#[test]
fn who_cancels_is_gone_with_the_next_step_and_so_is_who_is_late() {
    let mut batcher = batcher(1);
    let mut events = Vec::new();
    let flag = Arc::new(AtomicBool::new(false));
    let mine = Request { cancel: Some(Arc::clone(&flag)), ..greedy(prompt(1, 40), 100) };
    let mine = batcher.submit(mine).unwrap();
    let late = Request { deadline: Some(clock::mono()), ..greedy(prompt(2, 5), 5) };
    let late = batcher.submit(late).unwrap();
    std::thread::sleep(Duration::from_millis(2));
    (0..5).for_each(|_| batcher.step(Priority::Periodic, &mut events));
    assert_eq!(of(&events, late).why, Some(Ended::Deadline));
    let written = of(&events, mine).tokens.len();
    assert!(written > 0);
    flag.store(true, Ordering::Relaxed);
    batcher.step(Priority::Periodic, &mut events);
    let answer = of(&events, mine);
    assert_eq!((answer.why, answer.tokens.len()), (Some(Ended::Cancelled), written));
    assert!(batcher.is_idle() && batcher.free_slots() == 1);
}

#[test]
fn end_ids_end_and_are_not_part_of_the_answer_and_a_full_context_ends_too() {
    let free = alone(greedy(prompt(7, 10), 30));
    let end = free.tokens[12];
    let first = free.tokens.iter().position(|&token| token == end).unwrap();
    let request = Request { end_ids: Arc::from([end]), ..greedy(prompt(7, 10), 30) };
    let answer = alone(request);
    assert_eq!((answer.tokens, answer.why), (free.tokens[..first].to_vec(), Some(Ended::EndId(end))));
    let answer = alone(greedy(prompt(8, 290), 100));
    assert_eq!((answer.tokens.len(), answer.why), (10, Some(Ended::Context)));
}

#[test]
fn proposals_from_the_prompt_save_runs_and_change_nothing() {
    let (mut plain_steps, mut steps, mut accepted) = (0, 0, 0);
    for seed in 0..6 {
        let request = |speculate| {
            let half = prompt(seed, 20);
            let mut again = half.clone();
            again.extend(&half);
            Request { speculate, ..greedy(again, 120) }
        };
        let run = |speculate| {
            let mut batcher = batcher(1);
            let id = batcher.submit(request(speculate)).unwrap();
            let mut events = Vec::new();
            let steps = drain(&mut batcher, &mut events);
            (of(&events, id), steps)
        };
        let ((plain, plain_count), (answer, count)) = (run(false), run(true));
        assert_eq!((answer.tokens, answer.why), (plain.tokens, plain.why), "{seed}");
        plain_steps += plain_count;
        steps += count;
        accepted += answer.usage.accepted_tokens as usize;
    }
    assert!(accepted > 50, "{accepted} proposals were right; this test would show nothing");
    assert!(
        steps + accepted >= plain_steps && steps + accepted / 2 < plain_steps,
        "{steps} of {plain_steps}"
    );
}

/// Tokens of fixed sets, one set after the other, then the end.
struct Road {
    sets: Vec<Vec<u32>>,
    at: usize,
    mask: TokenMask,
}

const END: u32 = 287;

impl Road {
    fn new(sets: Vec<Vec<u32>>) -> Box<Road> {
        Box::new(Road { sets, at: 0, mask: TokenMask::none(288) })
    }

    fn open(&self) -> Vec<u32> {
        match self.at.cmp(&self.sets.len()) {
            std::cmp::Ordering::Less => self.sets[self.at].clone(),
            std::cmp::Ordering::Equal => vec![END],
            std::cmp::Ordering::Greater => vec![],
        }
    }
}

impl Constraint for Road {
    fn mask(&mut self) -> &TokenMask {
        self.mask.clear();
        self.open().into_iter().for_each(|token| self.mask.set(token, true));
        &self.mask
    }

    fn advance(&mut self, token: u32) -> Result<(), NotAllowed> {
        if !self.open().contains(&token) {
            return Err(NotAllowed(token));
        }
        self.at += 1;
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.at >= self.sets.len()
    }
}

#[test]
fn a_constraint_holds_and_what_it_forces_costs_no_run() {
    let sets = || vec![vec![5, 6, 7], vec![9], vec![10], vec![11], (20..40).collect(), vec![1]];
    for speculate in [false, true] {
        let mut batcher = batcher(1);
        let request = Request {
            constraint: Some(Road::new(sets())),
            end_ids: Arc::from([END]),
            speculate,
            ..greedy(prompt(9, 10), 50)
        };
        let id = batcher.submit(request).unwrap();
        let mut events = Vec::new();
        let steps = drain(&mut batcher, &mut events);
        let answer = of(&events, id);
        assert_eq!(answer.why, Some(Ended::EndId(END)));
        assert!(answer.tokens.iter().zip(sets()).all(|(token, set)| set.contains(token)), "{answer:?}");
        assert_eq!((answer.tokens.len(), steps), (6, 2), "one run per choice");
        assert_eq!(answer.usage.forced_tokens, 5);
    }
}

#[test]
fn what_can_not_be_answered_is_refused_with_a_reason() {
    let mut batcher = batcher(1);
    let refused = |batcher: &mut Batcher, request| batcher.submit(request).unwrap_err().to_string();
    assert!(refused(&mut batcher, greedy(vec![], 5)).contains("empty"));
    assert!(refused(&mut batcher, greedy(vec![1; 300], 5)).contains("longer context"));
    assert!(refused(&mut batcher, greedy(vec![288], 5)).contains("another model"));
    let hot = Sampling { temperature: f32::INFINITY, ..Sampling::GREEDY };
    assert!(refused(&mut batcher, Request { sampling: hot, ..greedy(vec![1], 5) }).contains("temperature"));
    for _ in 0..crate::limits::GLM_REQUESTS_MAX {
        batcher.submit(greedy(vec![1], 1)).unwrap();
    }
    assert!(refused(&mut batcher, greedy(vec![1], 1)).contains("again later"));
    let mut events = Vec::new();
    batcher.end_all(&Ended::Failed("unloaded".into()), &mut events);
    assert_eq!((batcher.is_idle(), events.len()), (true, crate::limits::GLM_REQUESTS_MAX));
}

#[test]
fn a_pinned_prefix_is_read_once_and_comes_back_from_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("prefix.kv");
    let (prefix, name) = (prompt(10, 70), "0123456789abcdef");
    let with_question = |seed| [prefix.clone(), prompt(seed, 5)].concat();
    let ask = |batcher: &mut Batcher, seed| {
        let id = batcher.submit(greedy(with_question(seed), 12)).unwrap();
        let mut events = Vec::new();
        drain(batcher, &mut events);
        of(&events, id)
    };
    let want = alone(greedy(with_question(11), 12)).tokens;
    for source in [PrefixSource::Model, PrefixSource::File] {
        let mut batcher = batcher(2);
        assert_eq!(batcher.pin(&prefix, name, Some(&path)).unwrap(), source);
        let held = if source == PrefixSource::File { 70 } else { 0 };
        assert_eq!(batcher.engine().kv().len(0), held, "an alarm need not wait until it is read");
        for (n, seed) in [11, 12, 13, 11].into_iter().enumerate() {
            let answer = ask(&mut batcher, seed);
            assert_eq!(answer.usage.cached_tokens >= 70, n > 0 || held > 0, "{source:?} {n}: {answer:?}");
            assert!(seed != 11 || answer.tokens == want);
            // Nothing of it is left but what is pinned.
            batcher.submit(greedy(prompt(20, 90), 3)).unwrap();
            drain(&mut batcher, &mut Vec::new());
        }
        batcher.save_pinned().unwrap();
    }
    let mut batcher = batcher(2);
    assert_eq!(batcher.pin(&prefix, "another", Some(&path)).unwrap(), PrefixSource::Model);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(batcher.pin(&prefix, "another", None), Err(BadPrefix::NoSlot)));
    let mut batcher = self::batcher(2);
    assert_eq!(batcher.pin(&prefix, "another", Some(&path)).unwrap(), PrefixSource::Model, "it was damaged");
    assert_eq!(ask(&mut batcher, 11).tokens, want);
    let nowhere = dir.path().join("none").join("prefix.kv");
    let mut batcher = self::batcher(2);
    batcher.pin(&prefix, name, Some(&nowhere)).unwrap();
    ask(&mut batcher, 11);
    assert!(matches!(batcher.save_pinned(), Err(BadPrefix::Saved(_))));
    assert!(batcher.save_pinned().is_ok(), "it is not tried again");
    assert!(ask(&mut batcher, 11).usage.cached_tokens >= 70, "kept without its file");
}
