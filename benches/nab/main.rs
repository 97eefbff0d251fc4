//! The default detectors on a corpus in the format of the Numenta Anomaly Benchmark: `cargo bench --bench nab`.
//!
//! The corpus lies at `OUTPOST_NAB`, else in ../shared/data/nab beside the checkout. Rows of silence and of chance stand
//! beside for orientation. Two measures are held out:
//!
//! - the threshold alone is tuned on every second file and scored on the others, both ways round;
//! - with `OUTPOST_NAB_SEARCH=1` the detectors' own constants are chosen anew, from neutral ones, on the files whose name
//!   has an even checksum (CRC-32 of `group/name.csv`) and scored on the others, both ways round.

mod corpus;
mod score;
mod search;

use std::process::ExitCode;
use std::time::Instant;

use corpus::Series;
use outpost::detect::{Judge, NoveltyOptions, STREAM_BYTES};
use outpost::limits;
use outpost::reading::Quantity;
use outpost::time::Wall;
use score::{PROFILES, Run, score, tuned};

fn main() -> ExitCode {
    let root = corpus::place();
    let corpus = match corpus::read(&root) {
        Ok(corpus) => corpus,
        Err(why) => {
            eprintln!("no corpus: {why}. Name its folder (data/, labels/) in OUTPOST_NAB.");
            return ExitCode::FAILURE;
        }
    };
    let windows: usize = corpus.iter().map(|s| s.spans.len()).sum();
    println!("{}: {} files, {windows} windows", root.display(), corpus.len());
    println!(
        "{:<10}{:<12}{:>12}{:>12}{:>12}{:>14}",
        "", "", PROFILES[0].name, PROFILES[1].name, PROFILES[2].name, ""
    );
    let begun = Instant::now();
    let ours = runs(&corpus, &mut judged);
    let points: usize = corpus.iter().map(|s| s.rows.len()).sum();
    let us = begun.elapsed().as_secs_f64() * 1e6 / points as f64;
    table("silence", &runs(&corpus, &mut |series| vec![0.0; series.rows.len()]));
    let mut rng = fastrand::Rng::with_seed(1);
    table("chance", &runs(&corpus, &mut |series| series.rows.iter().map(|_| rng.f32()).collect()));
    table("outpost", &ours);
    if std::env::var_os("OUTPOST_NAB_SEARCH").is_some() {
        search::both_ways(&corpus);
    }
    println!("{us:.2} us per point; {STREAM_BYTES} bytes per stream, at most {}", limits::STREAM_BYTES_MAX);
    ExitCode::SUCCESS
}

/// What the default detectors say: the score of each new occurrence.
fn judged(series: &Series) -> Vec<f32> {
    judged_with(NoveltyOptions::default(), series)
}

/// The same with other constants.
fn judged_with(options: NoveltyOptions, series: &Series) -> Vec<f32> {
    let mut judge = Judge::tuned(Quantity::Other, None, true, options);
    let mut step = |&(at, x): &(i64, f64)| {
        let mut most = 0.0_f32;
        let mut tell = |v: outpost::detect::Verdict| most = if v.fresh { most.max(v.score) } else { most };
        judge.step(Wall::from_secs(at), Ok(x), &mut tell);
        most
    };
    series.rows.iter().map(&mut step).collect()
}

fn runs(corpus: &[Series], detector: &mut dyn FnMut(&Series) -> Vec<f32>) -> Vec<Run> {
    corpus.iter().map(|s| Run { scores: detector(s), spans: s.spans.clone() }).collect()
}

fn table(name: &str, runs: &[Run]) {
    let all: Vec<&Run> = runs.iter().collect();
    let (even, odd): (Vec<_>, Vec<_>) =
        (all.iter().step_by(2).copied().collect(), all.iter().skip(1).step_by(2).copied().collect());
    row(name, "tuned on all", |p| tuned(&all, PROFILES[p]).1);
    let held_out = |train: &[&Run], test: &[&Run], p: usize| {
        score(test.iter().copied(), PROFILES[p], tuned(train, PROFILES[p]).0)
    };
    row("", "odd files", |p| held_out(&even, &odd, p));
    row("", "even files", |p| held_out(&odd, &even, p));
    let windows = |half: &[&Run]| half.iter().map(|run| run.spans.len()).sum::<usize>() as f64;
    let (w_even, w_odd) = (windows(&even), windows(&odd));
    row("", "held out", |p| {
        (held_out(&even, &odd, p) * w_odd + held_out(&odd, &even, p) * w_even) / (w_even + w_odd)
    });
    row("", "as shipped", |p| score(all.iter().copied(), PROFILES[p], 0.5));
}

fn row(name: &str, how: &str, value: impl Fn(usize) -> f64) {
    println!("{name:<10}{how:<14}{:>10.1}{:>12.1}{:>12.1}", value(0), value(1), value(2));
}
