//! How fast readings become records, and what a stream costs: `cargo bench --bench judge`.

use std::hint::black_box;
use std::time::Instant;

use outpost::agent::assemble::{AssembleOptions, Assembler, Source};
use outpost::detect::{Judge, STREAM_BYTES};
use outpost::limits;
use outpost::reading::{ChannelId, Quantity, Reading};
use outpost::time::Wall;

const READINGS: usize = 2_000_000;

fn main() {
    println!("{:<34}{:>14}{:>12}", "what", "readings/s", "us/reading");
    for step_s in [1, 300] {
        let name = format!("detectors, one per {step_s} s");
        report(&name, READINGS / 4, || detectors(READINGS / 4, step_s));
    }
    for channels in [1, 100, 1000] {
        for step_s in [1, 300] {
            let name = format!("assembler, {channels} channels, {step_s} s");
            report(&name, READINGS, || assembler(READINGS, channels, step_s));
        }
    }
    println!("learnt state of one stream: {STREAM_BYTES} bytes of at most {}", limits::STREAM_BYTES_MAX);
}

fn report(name: &str, readings: usize, run: impl FnOnce()) {
    let start = Instant::now();
    run();
    let s = start.elapsed().as_secs_f64();
    println!("{name:<34}{:>14.0}{:>12.3}", readings as f64 / s, s * 1e6 / readings as f64);
}

/// A wave with noise: no two values alike.
fn value(i: usize, noise: &mut fastrand::Rng) -> f64 {
    50.0 + 5.0 * (i as f64 / 300.0).sin() + noise.f64()
}

fn detectors(readings: usize, step_s: usize) {
    let mut judge = Judge::new(Quantity::Temperature, None, true);
    let mut noise = fastrand::Rng::with_seed(1);
    for i in 0..readings {
        let x = value(i, &mut noise);
        judge.step(Wall::from_secs((i * step_s) as i64), Ok(x), &mut |v| {
            black_box(v);
        });
    }
}

fn assembler(readings: usize, channels: usize, step_s: usize) {
    let ids: Vec<_> = (0..channels).map(|i| ChannelId::new(&format!("pump{i}.temp")).unwrap()).collect();
    let mut assembler = Assembler::new(AssembleOptions::default());
    let mut noise = fastrand::Rng::with_seed(1);
    let mut out = Vec::new();
    for i in 0..readings {
        let (turn, channel) = (i / channels, ids[i % channels].clone());
        let at = Wall::from_secs((turn * step_s) as i64);
        assembler.push(Source(0), &Reading::new(channel, at, Ok(value(turn, &mut noise))), &mut out);
        if i % channels == 0 {
            assembler.tick(Source(0), at, &mut out);
        }
        out.clear();
    }
}
