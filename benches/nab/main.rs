//! The default detectors on a corpus in the format of the Numenta Anomaly Benchmark: `cargo bench --bench nab`.
//!
//! The corpus lies at `OUTPOST_NAB`, else in ../shared/data/nab beside the checkout. Rows of silence and of chance stand
//! beside for orientation. Two measures are held out:
//!
//! - the threshold alone is tuned on every second file and scored on the others, both ways round;
//! - with `OUTPOST_NAB_SEARCH=1` the detectors' own constants are chosen anew, from neutral ones, on the files whose name
//!   has an even checksum (CRC-32 of `group/name.csv`) and scored on the others, both ways round.

mod corpus;
mod detectors;
mod score;
mod search;

use std::process::ExitCode;
use std::time::Instant;

use detectors::{judged, runs};
use outpost::detect::STREAM_BYTES;
use outpost::limits;
use score::{PROFILES, Run, held_out, score, tuned};

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

fn table(name: &str, runs: &[Run]) {
    let all: Vec<&Run> = runs.iter().collect();
    row(name, "tuned on all", PROFILES.map(|p| tuned(&all, p).1));
    let held_out = PROFILES.map(|p| held_out(runs, p));
    row("", "odd files", held_out.map(|h| h.odd));
    row("", "even files", held_out.map(|h| h.even));
    row("", "held out", held_out.map(|h| h.both));
    row("", "as shipped", PROFILES.map(|p| score(all.iter().copied(), p, 0.5)));
}

fn row(name: &str, how: &str, [standard, low_fp, low_fn]: [f64; 3]) {
    println!("{name:<10}{how:<14}{standard:>10.1}{low_fp:>12.1}{low_fn:>12.1}");
}
