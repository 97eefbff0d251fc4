//! How long the language model takes to load and to word a digest, and what it costs in memory.
//!
//! `cargo bench --bench digest [-- DIRECTORY]`; without a directory the embedded student is measured. Each line is the median
//! of [`ROUNDS`] digests in milliseconds.

use std::path::PathBuf;

use outpost::clock;
use outpost::digest::{Digest, Lang};
use outpost::facts::{EventFact, Facts};
use outpost::glm::engine::Batch;
use outpost::glm::{Bundle, Model, Writer};
use outpost::reading::{ChannelId, Pattern, Quantity, Severity, Unit};
use outpost::time::{Mono, Wall};

const ROUNDS: usize = 15;

fn main() {
    // On a thread, as in the agent: the C library gives each its own heap.
    if let Ok(thread) = std::thread::Builder::new().name("glm".into()).spawn(run) {
        let _ = thread.join();
    }
}

fn run() {
    let dir = std::env::args().skip(1).find(|arg| !arg.starts_with("--")).map(PathBuf::from);
    println!("resident before: {} KiB", resident_kib());
    let started = clock::mono();
    let mut writer = match load(dir.as_ref()) {
        Ok(model) => Writer::new(model),
        Err(error) => return println!("{error}"),
    };
    println!("load: {:.1} ms", clock::mono().since(started).as_secs_f64() * 1e3);
    println!("resident with the model: {} KiB", resident_kib());
    println!("events lang  encode prefill  decode   total  prompt answer text");
    for events in [0, 1, 3, 6] {
        for &lang in Lang::ALL {
            measure(&mut writer, &facts(events), lang);
        }
    }
    println!("resident at the end: {} KiB", resident_kib());
    drop(writer);
    if let Ok(mut model) = load(dir.as_ref()) {
        step_cost(&mut model);
    }
}

fn load(dir: Option<&PathBuf>) -> Result<Model, String> {
    let bundle = match dir {
        Some(dir) => Bundle::from_dir(dir),
        None => Bundle::embedded(),
    };
    bundle.map_err(|e| e.to_string()).and_then(|bundle| Model::load(bundle).map_err(|e| e.to_string()))
}

fn measure(writer: &mut Writer, facts: &Facts, lang: Lang) {
    let mut last: Option<Digest> = None;
    let mut rows: Vec<[f64; 3]> = Vec::new();
    for _ in 0..ROUNDS {
        match writer.word(facts, lang, 1, Mono(u64::MAX)) {
            Ok(digest) => {
                let t = digest.timing;
                rows.push([t.encode_us, t.prefill_us, t.decode_us].map(|us| f64::from(us) / 1e3));
                last = Some(digest);
            }
            Err(error) => return println!("{:6} {lang:4}  not worded: {error}", facts.events.len()),
        }
    }
    let median = |stage: usize| {
        let mut column: Vec<f64> = rows.iter().map(|row| row[stage]).collect();
        column.sort_by(f64::total_cmp);
        column[column.len() / 2]
    };
    let [encode, prefill, decode] = [0, 1, 2].map(median);
    let Some(digest) = last else { return };
    println!(
        "{:6} {lang:4} {encode:7.2} {prefill:7.2} {decode:7.2} {:7.2} {:7} {:6}  {}",
        facts.events.len(),
        encode + prefill + decode,
        digest.timing.prompt_tokens,
        digest.timing.answer_tokens,
        digest.text
    );
}

/// One step by the length of what is already read: the engine's share without the grammar.
fn step_cost(model: &mut Model) {
    let token = model.vocab().sep();
    for past in [16, 64, 192] {
        let started = clock::mono();
        if !reads(model, 0, &vec![token; past]) {
            return;
        }
        let prefilled = clock::mono();
        let steps = (0..ROUNDS).filter(|n| reads(model, past + n, &[token])).count();
        let (prompt, step) = (prefilled.since(started), clock::mono().since(prefilled));
        let step_ms = step.as_secs_f64() * 1e3 / steps.max(1) as f64;
        println!("prompt of {past}: {:.2} ms, a step after it: {step_ms:.3} ms", prompt.as_secs_f64() * 1e3);
    }
}

fn reads(model: &mut Model, position: usize, tokens: &[u32]) -> bool {
    let mut batch = Batch::default();
    batch.push(0, position as u32, tokens, true);
    model.engine().run(&batch).is_ok()
}

fn facts(events: usize) -> Facts {
    let start = Wall::from_secs(1_783_000_000);
    let kinds = [
        (Quantity::Temperature, Pattern::Rise, "bearing temperature", "Cel"),
        (Quantity::Vibration, Pattern::High, "vibration", "mm/s"),
        (Quantity::Flow, Pattern::Fall, "coolant flow", "m3/h"),
        (Quantity::Door, Pattern::High, "hall door", ""),
        (Quantity::Cpu, Pattern::Spike, "gateway processor", "%"),
        (Quantity::Level, Pattern::Stuck, "tank level", "m"),
    ];
    let events =
        kinds.iter().take(events).enumerate().map(|(i, &(quantity, pattern, label, unit))| EventFact {
            channel: ChannelId::new("a.b").expect("a valid name"),
            label: label.into(),
            asset: (i < 3).then(|| "Pump 1".into()),
            quantity,
            pattern,
            severity: if i < 2 { Severity::Critical } else { Severity::Warning },
            ongoing: i % 3 != 2,
            start,
            duration_s: 1500,
            baseline: Some(41.0),
            peak: Some(78.3),
            limit: (i < 2).then_some(75.0),
            count: (pattern == Pattern::Spike).then_some(7),
            unit: Unit(unit.into()),
            cites: None,
        });
    Facts {
        from: start,
        to: Wall::from_secs(1_783_003_600),
        outage: None,
        events: events.collect(),
        events_more: 0,
        channels_normal: 7,
        readings: 100_000,
    }
}

/// Resident memory of this process in KiB; 0 where `/proc` does not tell.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}
