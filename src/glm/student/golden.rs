//! The shipped student against its golden file: same prompts, same logits, same answers as the reference implementation.

use serde::Deserialize;

use crate::digest::grammar::Grammar;
use crate::digest::slots::{Role, Slot};
use crate::digest::vocab::{TokenId, Vocab};
use crate::digest::{Lang, prompt, render, verify};
use crate::facts::{EventFact, Facts, Outage};
use crate::glm::engine::Batch;
use crate::glm::kernels::Format;
use crate::glm::student::answers::ANSWERS;
use crate::glm::student::{Bundle, Model};
use crate::reading::{ChannelId, Pattern, Quantity, Severity, Unit};
use crate::time::Wall;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    lang: Lang,
    facts: GoldenFacts,
    prompt_ids: Vec<TokenId>,
    answer_ids: Vec<TokenId>,
    /// The student's own free answer is what the author would have written.
    as_intended: bool,
    #[serde(default)]
    logits: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct GoldenFacts {
    events: Vec<GoldenEvent>,
    outage: Option<GoldenOutage>,
    more: u32,
    normal: u32,
}

#[derive(Deserialize)]
struct GoldenOutage {
    lost: bool,
}

#[derive(Deserialize)]
struct GoldenEvent {
    label: String,
    asset: Option<String>,
    quantity: Quantity,
    pattern: Pattern,
    severity: Severity,
    ongoing: bool,
    values: Vec<String>,
}

impl GoldenFacts {
    /// The facts with figures of our own: the golden file says only which values there are.
    fn facts(&self) -> Facts {
        let start = Wall::from_secs(1_783_000_000);
        Facts {
            from: start,
            to: Wall::from_secs(1_783_050_000),
            outage: self.outage.as_ref().map(|outage| Outage {
                start,
                duration_s: 187_200,
                records_kept: 48_211,
                records_lost: if outage.lost { 1377 } else { 0 },
            }),
            events: self.events.iter().map(GoldenEvent::fact).collect(),
            events_more: self.more,
            channels_normal: self.normal,
            readings: 1000,
        }
    }
}

impl GoldenEvent {
    fn fact(&self) -> EventFact {
        let has = |name: &str| self.values.iter().any(|v| v == name);
        EventFact {
            channel: ChannelId::new("a.b").unwrap(),
            label: self.label.clone(),
            asset: self.asset.clone(),
            quantity: self.quantity,
            pattern: self.pattern,
            severity: self.severity,
            ongoing: self.ongoing,
            start: Wall::from_secs(1_783_000_600),
            duration_s: 700,
            baseline: has("base").then_some(41.0),
            peak: has("peak").then_some(78.4),
            limit: has("limit").then_some(75.0),
            count: has("count").then_some(7),
            unit: Unit("Cel".into()),
            cites: None,
        }
    }
}

fn cases() -> Vec<Case> {
    let golden: Golden = serde_json::from_str(include_str!("../../../models/student/golden.json")).unwrap();
    assert!(golden.cases.len() >= 6);
    golden.cases
}

fn model(format: Format) -> Model {
    Model::load_as(Bundle::embedded().unwrap(), format).unwrap()
}

/// The logits after `tokens`, which follow the first `past` ones.
fn logits(model: &mut Model, past: usize, tokens: &[TokenId]) -> Vec<f32> {
    let mut batch = Batch::default();
    batch.push(0, past as u32, tokens, true);
    model.engine().run(&batch).unwrap().to_vec()
}

fn best(logits: &[f32]) -> TokenId {
    (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best }) as TokenId
}

/// What the reference's text rule gives: blanks in English, none in Chinese.
fn reference_text(vocab: &Vocab, tokens: &[TokenId], facts: &Facts, lang: Lang) -> String {
    let mut text = String::new();
    for &token in tokens {
        let written = vocab.text(token);
        let piece = Slot::parse(written).map_or(written.to_owned(), |slot| slot.fill(facts, lang).unwrap());
        let tight =
            text.is_empty() || text.ends_with('(') || [".", ",", ";", ":", "!", ")"].contains(&written);
        if lang == Lang::En && !tight {
            text.push(' ');
        }
        text.push_str(&piece);
    }
    text
}

#[test]
fn what_the_program_checks_itself_by_is_the_golden_file() {
    let cases = cases();
    assert_eq!(cases.len(), ANSWERS.len());
    for (case, answer) in cases.iter().zip(ANSWERS) {
        assert_eq!(
            (&*case.name, &*case.prompt_ids, &*case.answer_ids),
            (answer.name, answer.prompt, answer.tokens)
        );
        assert_eq!(case.logits.len(), answer.tops.len());
        let tops = case.logits.iter().map(|row| row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        assert!(tops.zip(answer.tops).all(|(top, &kept)| (top - kept).abs() < 1e-5));
    }
}

#[test]
fn facts_become_the_very_prompt_of_the_reference() {
    let model = model(Format::F32);
    for case in cases() {
        let ids = prompt::encode(model.vocab(), &case.facts.facts(), case.lang).unwrap();
        assert_eq!(ids, case.prompt_ids, "{}", case.name);
    }
}

#[test]
fn logits_are_those_of_the_reference_at_the_prompt_and_at_every_step() {
    let mut model = model(Format::F32);
    let mut rows = 0;
    for case in cases() {
        for (step, want) in case.logits.iter().enumerate() {
            let prompt = &case.prompt_ids;
            let got = match step {
                0 => logits(&mut model, 0, prompt),
                n => logits(&mut model, prompt.len() + n - 1, &case.answer_ids[n - 1..n]),
            };
            assert_eq!(got.len(), want.len());
            let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < KV_ROUNDING, "{} step {step}: off by {worst}", case.name);
            rows += 1;
        }
    }
    assert!(rows >= 16, "the golden file holds too few logits");
}

#[test]
fn the_free_greedy_answer_is_that_of_the_reference_and_eight_bits_do_not_change_it() {
    for format in [Format::F32, Format::Q8_0] {
        let mut model = model(format);
        for case in cases() {
            let past = case.prompt_ids.len();
            let mut token = best(&logits(&mut model, 0, &case.prompt_ids));
            for (step, &want) in case.answer_ids.iter().enumerate() {
                assert_eq!(token, want, "{} step {step} in {format}", case.name);
                token = best(&logits(&mut model, past + step, &[token]));
            }
        }
    }
}

#[test]
fn the_grammar_lets_every_right_answer_pass_and_its_text_verifies() {
    let model = model(Format::F32);
    let vocab = model.vocab();
    let (right, wrong): (Vec<Case>, Vec<Case>) = cases().into_iter().partition(|case| case.as_intended);
    assert!(right.len() > 2 * wrong.len(), "{} of the golden answers are not as intended", wrong.len());
    for case in right {
        let facts = case.facts.facts();
        let mut grammar = Grammar::new(vocab, &facts, case.lang);
        for (step, &token) in case.answer_ids.iter().enumerate() {
            let taken = grammar.advance(token);
            assert!(taken.is_ok(), "{} step {step}: {:?} is shut", case.name, vocab.text(token));
        }
        assert!(grammar.is_done() && !grammar.was_cut(), "{}", case.name);
        let text = render::text(vocab, &case.answer_ids, &facts, case.lang);
        verify::answer(vocab, &case.answer_ids, grammar.verdict(), &text, &facts, case.lang).unwrap();
        let words = &case.answer_ids[2..case.answer_ids.len() - 1];
        let reference = reference_text(vocab, words, &facts, case.lang);
        let blanks = |text: &str| if case.lang == Lang::Zh { text.replace(' ', "") } else { text.to_owned() };
        assert_eq!(blanks(&text), blanks(&reference), "{}", case.name);
        assert!(facts.events.iter().enumerate().all(|(i, _)| {
            let slot = Slot::Event(i, Role::Channel).fill(&facts, case.lang).unwrap();
            text.contains(&slot)
        }));
    }
}

/// The engine keeps keys and values in half precision. Rounded so, the reference itself is off by up to 0.0079.
const KV_ROUNDING: f32 = 1e-2;
