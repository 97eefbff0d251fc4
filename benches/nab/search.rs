//! The detectors' constants chosen on one half of the files and scored on the other.
//!
//! Constants are drawn at random over wide ranges and rated by the score of the standard profile at the shipped threshold.
//! What is chosen is the middle of the best tenth: on so few files the very best is mostly luck, and does not last. Nothing of
//! the shipped constants goes in, except that they are what can be chosen.

use outpost::detect::NoveltyOptions;

use super::corpus::Series;
use super::detectors::judged_with;
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
    let mut rng = fastrand::Rng::with_seed(1);
    let mut draw = || -> Places { std::array::from_fn(|i| rng.f64() * (SCALES[i].len() - 1) as f64) };
    let mut rated: Vec<(f64, Places)> = (0..DRAWS)
        .map(|_| {
            let places = draw();
            (scores(files, options(places))[0], places)
        })
        .collect();
    rated.sort_by(|a, b| b.0.total_cmp(&a.0));
    let best = &rated[..DRAWS / 10];
    options(std::array::from_fn(|i| best.iter().map(|(_, at)| at[i]).sum::<f64>() / best.len() as f64))
}

const DRAWS: usize = 600;

/// What can be chosen of each constant, in the order of [`options`]: one can lie between two marks too.
const SCALES: [&[f64]; 7] = [
    &[0.01, 0.03, 0.1, 0.2, 0.4],
    &[0.01, 0.03, 0.1, 0.2, 0.4],
    &[0.1, 0.2, 0.3, 0.5, 0.7],
    &[1.0, 2.0, 3.0, 4.0, 6.0],
    &[0.0, 0.3, 1.0, 2.0, 4.0],
    &[1.0, 2.0, 3.0, 4.0, 6.0],
    &[3.0, 4.0, 5.0, 6.0, 8.0],
];

/// A place on each scale, counted in marks from its begin.
type Places = [f64; SCALES.len()];

fn options(places: Places) -> NoveltyOptions {
    let [value_excess, mean_excess, step_excess, value_noise, mean_noise, step_noise, course_sigmas] =
        std::array::from_fn(|i| at(SCALES[i], places[i]));
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

/// The value at a place of a scale.
fn at(scale: &[f64], place: f64) -> f64 {
    let mark = (place as usize).min(scale.len() - 2);
    scale[mark] + (place - mark as f64) * (scale[mark + 1] - scale[mark])
}

/// Standard, low FP, low FN at the shipped threshold.
fn scores(files: &[&Series], options: NoveltyOptions) -> [f64; 3] {
    let run = |s: &&Series| Run { scores: judged_with(options, s), spans: s.spans.clone() };
    let runs: Vec<Run> = files.iter().map(run).collect();
    PROFILES.map(|profile| score(&runs, profile, 0.5))
}
