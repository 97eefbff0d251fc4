//! Log lines per second into templates, on one core, and how well they are grouped: `cargo bench --bench logs`.

use std::collections::HashMap;
use std::time::Instant;

use outpost::templates::{Memory, Miner, Tally, TemplateId};

#[path = "support/logs.rs"]
mod sample;

const LINES: usize = 50_000;
const ROUNDS: usize = 20;

fn main() {
    let labelled = sample::lines(LINES, 1);
    speed("machines' logs", &labelled.iter().map(|(_, line)| line.clone()).collect::<Vec<_>>());
    let mut rng = fastrand::Rng::with_seed(2);
    let unlike = |_| (0..8).map(|_| (0..6).map(|_| rng.lowercase()).collect::<String>() + " ").collect();
    speed("no two alike", &(0..LINES).map(unlike).collect::<Vec<String>>());
    println!("grouping accuracy on {LINES} labelled lines: {:.4}", accuracy(&labelled));
}

fn speed(name: &str, lines: &[String]) {
    let mut tally = Tally::new(&Memory::default(), 0);
    let began = Instant::now();
    for _ in 0..ROUNDS {
        lines.iter().for_each(|line| tally.take(line));
        tally.close();
    }
    let seconds = began.elapsed().as_secs_f64();
    let bytes: usize = lines.iter().map(String::len).sum();
    let (lines, bytes) = ((ROUNDS * lines.len()) as f64, (ROUNDS * bytes) as f64);
    println!("{name:<16} {:6.2} M lines/s  {:6.1} MB/s", lines / seconds / 1e6, bytes / seconds / 1e6);
}

/// The share of lines whose template holds exactly the lines of their label.
fn accuracy(labelled: &[(usize, String)]) -> f64 {
    let mut miner = Miner::default();
    let found: Vec<TemplateId> =
        labelled.iter().filter_map(|(_, line)| miner.take(line)).map(|mined| mined.id).collect();
    let mut pairs: HashMap<(usize, TemplateId), usize> = HashMap::new();
    let (mut labels, mut templates) = (HashMap::new(), HashMap::new());
    for ((label, _), id) in labelled.iter().zip(&found) {
        *pairs.entry((*label, *id)).or_default() += 1;
        *labels.entry(*label).or_insert(0) += 1;
        *templates.entry(*id).or_insert(0) += 1;
    }
    let right = pairs.iter().filter(|((label, id), n)| labels[label] == **n && templates[id] == **n);
    right.map(|(_, n)| n).sum::<usize>() as f64 / labelled.len() as f64
}
