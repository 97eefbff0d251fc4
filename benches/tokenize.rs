//! What a tokenizer takes to be ready and to take texts apart: `cargo bench --bench tokenize`.
//!
//! The texts are this project's words, and Chinese with numbers. The first time is told alone: states of the split pattern are
//! made as they are met.

use std::hint::black_box;
use std::time::Instant;

use outpost::glm::tokenizer::Tokenizer;

const FILE: &[u8] = include_bytes!("../tests/golden/tokenizer/tokenizer.json");
const ENGLISH: &str = include_str!("../ARCHITECTURE.md");
const CHINESE: &str = "水泵 2 的压力在 14:05 超过上限 123.4 千帕。";
const ROUNDS: u32 = 50;

fn main() {
    println!("{:<10}{:>10}{:>10}{:>12}{:>12}", "text", "bytes", "ready ms", "first MB/s", "then MB/s");
    for (name, text) in [("English", ENGLISH.to_owned()), ("Chinese", CHINESE.repeat(2000))] {
        let begun = Instant::now();
        let tokenizer = Tokenizer::from_json(FILE).expect("the fixture");
        let ready = begun.elapsed().as_secs_f64();
        let mb_per_s = |rounds: u32| {
            let begun = Instant::now();
            for _ in 0..rounds {
                black_box(tokenizer.encode(&text));
            }
            f64::from(rounds) * text.len() as f64 / begun.elapsed().as_secs_f64() / 1e6
        };
        let (first, then) = (mb_per_s(1), mb_per_s(ROUNDS));
        println!("{name:<10}{:>10}{:>10.1}{first:>12.1}{then:>12.1}", text.len(), ready * 1e3);
    }
}
