//! What a grammar costs per token at a vocabulary of 151 552, against a decode step: `cargo bench --bench constrain`.
//!
//! Each answer is written twice with the same choices: the first has to find its masks, the second knows them. The yardstick is a
//! part of a decode step: the matrix products of 256 MiB of 4-bit weights, less than a third of what a 1.5 B model reads.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outpost::glm::constrain::{Constraint, Grammar, Guide, TokenTrie};
use outpost::glm::kernels::{Bytes, BytesMut, Epilogue, Format, Kernels, Matrix};
use outpost::glm::tokenizer::Tokenizer;

const VOCAB: usize = 151_552;
const TOKENS_MAX: usize = 200;
const END: u32 = VOCAB as u32 - 1;
const QUERY: &str = r#"
root ::= "line: " ( "any" | "down" ) "\nperiod: " period "\nabout: " name ( ", " name )? "\nseverity: " severity "\n"
period ::= "unsaid" | "now" | "last " count " " ( "minutes" | "hours" | "days" ) | day " " clock "-" clock
count ::= [1-9] [0-9]?
day ::= "today" | "yesterday" | [2-9] " days ago"
clock ::= [01] [0-9] ":" [0-5] [0-9] | "2" [0-3] ":" [0-5] [0-9] | "24:00"
severity ::= "any" | "warning" | "critical"
name ::= "everything" | "pump 1" | "pump 1 temperature" | "compressor"
"#;

fn main() {
    let started = Instant::now();
    let texts = vocabulary();
    let building = Instant::now();
    let trie = Arc::new(TokenTrie::new(VOCAB, (0..).zip(texts.iter().map(Vec::as_slice))));
    println!(
        "{VOCAB} tokens, tree in {:.0} ms (texts made up in {:.0} ms)",
        ms(building.elapsed()),
        ms(building - started)
    );
    println!(
        "\n{:<10}{:>8}{:>8}{:>14}{:>12}{:>14}{:>14}",
        "grammar", "tokens", "masks", "new mean us", "new max us", "known mean us", "advance us"
    );
    let grammars = [
        ("json", Grammar::json()),
        ("query", Grammar::ebnf(QUERY)),
        ("numbers", Grammar::regex(r"(?:-?\d{1,6}(?:\.\d{1,3})?; )*")),
        ("any text", Grammar::regex(r"[^\x00]*")),
    ];
    for (name, grammar) in grammars {
        let guide = Guide::new(grammar.expect("a grammar"), Arc::clone(&trie));
        let mut first = Times::default();
        let mut again = Times::default();
        for seed in 0..5 {
            write(&guide, seed, &mut first);
            write(&guide, seed, &mut again);
        }
        println!(
            "{name:<10}{:>8}{:>8}{:>14.1}{:>12.1}{:>14.2}{:>14.2}",
            again.masks.len(),
            first.slow().count(),
            mean_us(first.slow()),
            first.slow().max().map_or(0.0, |t| ms(t) * 1e3),
            mean_us(again.masks.iter().copied()),
            mean_us(again.advances.iter().copied()),
        );
    }
    yardsticks(&trie);
}

#[derive(Default)]
struct Times {
    masks: Vec<Duration>,
    advances: Vec<Duration>,
}

impl Times {
    /// Masks that had to be found: a known one takes less than this.
    fn slow(&self) -> impl Iterator<Item = Duration> {
        self.masks.iter().copied().filter(|&time| time > Duration::from_micros(3))
    }
}

fn write(guide: &Guide, seed: u64, times: &mut Times) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut answer = guide.constraint(Arc::new([END]));
    for _ in 0..TOKENS_MAX {
        let started = Instant::now();
        black_box(answer.mask());
        times.masks.push(started.elapsed());
        let mask = answer.mask();
        let nth = rng.usize(..mask.count());
        let token = mask.iter().nth(nth).expect("one of those that are there");
        let started = Instant::now();
        answer.advance(token).expect("an allowed token");
        times.advances.push(started.elapsed());
        if token == END {
            break;
        }
    }
}

/// Bytes, the tokens of a real tokenizer, and those put together.
fn vocabulary() -> Vec<Vec<u8>> {
    let file = include_bytes!("../tests/golden/tokenizer/tokenizer.json");
    let tokenizer = Tokenizer::from_json(file).expect("the fixture");
    let known: Vec<&[u8]> = (0..tokenizer.len() as u32)
        .filter(|&id| !tokenizer.is_special(id))
        .map(|id| tokenizer.token_bytes(id))
        .collect();
    let mut rng = fastrand::Rng::with_seed(1);
    let mut texts: std::collections::BTreeSet<Vec<u8>> = known.iter().map(|text| text.to_vec()).collect();
    while texts.len() < VOCAB - 1 {
        let [a, b] = [(); 2].map(|()| known[rng.usize(256..known.len())]);
        texts.insert([a, b].concat());
    }
    let mut texts: Vec<Vec<u8>> = texts.into_iter().collect();
    rng.shuffle(&mut texts);
    texts
}

fn yardsticks(trie: &Arc<TokenTrie>) {
    let guide = Guide::new(Grammar::json().expect("a grammar"), Arc::clone(trie));
    let mut answer = guide.constraint(Arc::new([END]));
    let logits: Vec<f32> = (0..VOCAB).map(|i| (i * 7919 % 1000) as f32).collect();
    println!("\nper token, whatever the grammar:");
    let mask = answer.mask().clone();
    println!(
        "  greatest of a mask     {:>10.1} us",
        best_us(|| _ = black_box(mask.argmax(black_box(&logits))))
    );
    let (rows, cols) = (12_288, 2_048);
    let len = Format::Q4_0.matrix_bytes(rows, cols).expect("a shape that can be");
    let count = (256 << 20) / len;
    let mut bytes = BytesMut::zeroed(len * count);
    bytes.fill(0x38);
    let bytes = Bytes::from(bytes);
    let matrix = |i: usize| {
        let bytes = bytes.slice(i * len..(i + 1) * len).expect("count is what fits");
        Matrix::new(rows, cols, Format::Q4_0, bytes).expect("bytes of this shape")
    };
    let matrices: Vec<_> = (0..count).map(matrix).collect();
    let x = vec![0.5; cols];
    let mut out = vec![0.0; rows];
    let kernels = Kernels::detect(1);
    let us = best_us(|| {
        matrices.iter().for_each(|matrix| kernels.linear(matrix, None, Epilogue::None, &x, 1, &mut out));
    });
    println!("  256 MiB of weights     {us:>10.1} us (1 thread)");
}

fn best_us(mut run: impl FnMut()) -> f64 {
    let mut time = || {
        let started = Instant::now();
        run();
        started.elapsed()
    };
    let best = (0..20).map(|_| time()).min().unwrap_or_default();
    ms(best) * 1e3
}

fn mean_us(times: impl Iterator<Item = Duration>) -> f64 {
    let (count, sum) = times.fold((0, Duration::ZERO), |(count, sum), time| (count + 1, sum + time));
    ms(sum) * 1e3 / f64::from(count.max(1))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
