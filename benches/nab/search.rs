//! The detectors' constants chosen on one half of the files and scored on the other.
//!
//! Coordinate descent on the score of the standard profile at the shipped threshold, over coarse grids and from the middle of
//! each, until nothing gets better. Nothing of the shipped constants goes in, except that they are what can be chosen.

use outpost::detect::NoveltyOptions;

use super::corpus::Series;
use super::score::{PROFILES, Run, score};

/// Chooses on either half, and prints what it scores there and on the other one.
pub fn both_ways(corpus: &[Series]) {
    let is_even = |series: &&Series| crc32fast::hash(series.name.as_bytes()).is_multiple_of(2);
    let (even, odd): (Vec<&Series>, Vec<&Series>) = corpus.iter().partition(is_even);
    let windows = |half: &[&Series]| half.iter().map(|s| s.spans.len()).sum::<usize>() as f64;
    println!("constants chosen on one half, scored on the other ({} and {} files):", even.len(), odd.len());
    let mut held_out = [0.0; 3];
    for (name, train, test) in [("even", &even, &odd), ("odd", &odd, &even)] {
        let chosen = choose(train);
        let (own, other) = (scores(train, chosen), scores(test, chosen));
        println!("  chosen on {name}: {chosen:?}");
        println!("    there {own:.1?}, on the other half {other:.1?}");
        for (sum, one) in held_out.iter_mut().zip(other) {
            *sum += one * windows(test) / (windows(&even) + windows(&odd));
        }
    }
    println!("  held out, both halves together: {held_out:.1?}");
    let shipped = NoveltyOptions::default();
    println!("  as shipped: even {:.1?}, odd {:.1?}", scores(&even, shipped), scores(&odd, shipped));
}

fn choose(files: &[&Series]) -> NoveltyOptions {
    let mut at = GRIDS.map(|grid| grid.len() / 2);
    let mut best = scores(files, options(at))[0];
    loop {
        let before = at;
        for i in 0..GRIDS.len() {
            for place in 0..GRIDS[i].len() {
                let mut tried = at;
                tried[i] = place;
                let score = if tried == at { best } else { scores(files, options(tried))[0] };
                if score > best {
                    (best, at) = (score, tried);
                }
            }
        }
        if at == before {
            return options(at);
        }
    }
}

/// What can be chosen of each constant, in the order of [`options`].
const GRIDS: [&[f64]; 7] = [
    &[0.01, 0.03, 0.1, 0.2, 0.4],
    &[0.01, 0.03, 0.1, 0.2, 0.4],
    &[0.1, 0.2, 0.3, 0.5, 0.7],
    &[1.0, 2.0, 3.0, 4.0, 6.0],
    &[0.0, 0.3, 1.0, 2.0, 4.0],
    &[1.0, 2.0, 3.0, 4.0, 6.0],
    &[3.0, 4.0, 5.0, 6.0, 8.0],
];

fn options(at: [usize; 7]) -> NoveltyOptions {
    let [value_excess, mean_excess, step_excess, value_noise, mean_noise, step_noise, course_sigmas] =
        std::array::from_fn(|i| GRIDS[i][at[i]]);
    NoveltyOptions {
        value_excess,
        mean_excess,
        step_excess,
        value_noise,
        mean_noise,
        step_noise,
        course_sigmas,
    }
}

/// Standard, low FP, low FN at the shipped threshold.
fn scores(files: &[&Series], options: NoveltyOptions) -> [f64; 3] {
    let run = |s: &&Series| Run { scores: super::judged_with(options, s), spans: s.spans.clone() };
    let runs: Vec<Run> = files.iter().map(run).collect();
    PROFILES.map(|profile| score(&runs, profile, 0.5))
}
