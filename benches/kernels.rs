//! How fast the language model's kernels are against what the memory gives: `cargo bench --bench kernels [FORMAT] [ISA]`.
//!
//! Weights are mapped from a file, as those of a bundle are, and there are so many of them that every product reads memory.
//! The best of many runs counts: on a machine that others use too, the rest tells of them.

use std::hint::black_box;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use outpost::glm::kernels::{Bytes, Epilogue, Format, Isa, Kernels, Matrix};

/// Bytes of weights, more than any cache holds for one product.
const WEIGHTS_BYTES: usize = 640 << 20;
const BUDGET: Duration = Duration::from_millis(250);
/// Rows and columns of a layer of a 1.5 B model: attention's output, gate and up, down.
const LARGE: [(usize, usize); 3] = [(2048, 2048), (12288, 2048), (2048, 6144)];
/// Of a student: queries, keys and values; gate and up; down. Of a 100 M model: attention's output.
const SMALL: [(usize, usize); 4] = [(512, 128), (704, 128), (128, 352), (768, 768)];
const TOKENS: [usize; 5] = [1, 2, 4, 8, 128];

fn main() {
    // Cargo adds an argument of its own that begins with a dash.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |names: &[&str], name| {
        !wanted.iter().any(|w| names.contains(&w.as_str())) || wanted.iter().any(|w| w == name)
    };
    let formats: Vec<_> = Format::ALL.iter().map(|format| format.name()).collect();
    let isas: Vec<_> = Isa::ALL.iter().map(|isa| isa.name()).collect();
    let file = weights();
    let bytes = Bytes::map(file).expect("a file of weights");
    let threads_max = thread::available_parallelism().map_or(1, usize::from);
    let threads: &[usize] = if threads_max > 1 { &[1, threads_max] } else { &[1] };
    let reads: Vec<f64> = threads.iter().map(|&threads| read_gb_per_s(&bytes, threads)).collect();
    for (threads, gb_per_s) in threads.iter().zip(&reads) {
        println!("a sum over memory, {threads} threads: {gb_per_s:.1} GB/s");
    }
    for isa in Isa::available().into_iter().filter(|isa| is_wanted(&isas, isa.name())) {
        for format in Format::ALL.iter().copied().filter(|format| is_wanted(&formats, format.name())) {
            for (&threads, &gb_per_s) in threads.iter().zip(&reads) {
                println!("\n{isa}, {format}, {threads} threads");
                table(&Kernels::new(isa, threads), format, &bytes, gb_per_s);
            }
        }
    }
}

/// A file of bytes that are plausible weights in every format.
fn weights() -> std::fs::File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    let mut rng = fastrand::Rng::with_seed(1);
    let mut chunk = vec![0_u8; 1 << 20];
    for _ in 0..WEIGHTS_BYTES / chunk.len() {
        // Between 2^-15 and 2 as f32 and f16, whichever byte is the high one.
        chunk.fill_with(|| rng.u8(0x38..0x40));
        file.write_all(&chunk).expect("room for a temporary file");
    }
    file
}

fn table(kernels: &Kernels, format: Format, bytes: &Bytes, gb_per_s: f64) {
    println!(
        "{:>14}{:>8}{:>12}{:>10}{:>10}{:>12}",
        "rows x cols", "tokens", "us", "GB/s", "of memory", "GMAC/s"
    );
    for (rows, cols) in LARGE.into_iter().chain(SMALL) {
        let len = format.matrix_bytes(rows, cols).expect("a shape that can be");
        let is_large = LARGE.contains(&(rows, cols));
        // A small model stays in the caches.
        let count = if is_large { bytes.len() / len } else { 1 };
        let matrix = |i: usize| {
            let bytes = bytes.slice(i * len..(i + 1) * len).expect("count is what fits");
            Matrix::new(rows, cols, format, bytes).expect("bytes of this shape")
        };
        let matrices: Vec<_> = (0..count).map(matrix).collect();
        for tokens in TOKENS {
            let x: Vec<f32> = (0..cols * tokens).map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0).collect();
            let mut out = vec![0.0; rows * tokens];
            let mut turn = matrices.iter().cycle();
            let s = best_s(if is_large { 1 } else { 100 }, || {
                let matrix = turn.next().expect("a cycle has no end");
                kernels.linear(matrix, None, Epilogue::None, &x, tokens, &mut out);
            });
            let (gb, gmac) = (len as f64 / 1e9 / s, (rows * cols * tokens) as f64 / 1e9 / s);
            let share =
                if is_large { format!("{:.0} %", 100.0 * gb / gb_per_s) } else { "cached".to_owned() };
            println!("{rows:>7} x {cols:<4}{tokens:>8}{:>12.2}{gb:>10.1}{share:>10}{gmac:>12.1}", s * 1e6);
        }
    }
}

/// Reads as fast as plain code can: four places at once on each thread.
fn read_gb_per_s(bytes: &Bytes, threads: usize) -> f64 {
    let sum = |part: &[u8]| {
        let (numbers, _) = part.as_chunks::<64>();
        let mut places = numbers.chunks(numbers.len().div_ceil(4));
        let places: [_; 4] = std::array::from_fn(|_| places.next().unwrap_or(&[]));
        let mut sums = [[0_u8; 64]; 4];
        for i in 0..places[3].len() {
            for (sums, place) in sums.iter_mut().zip(places) {
                sums.iter_mut().zip(place[i]).for_each(|(sum, byte)| *sum = sum.wrapping_add(byte));
            }
        }
        black_box(sums);
    };
    let s = best_s(1, || {
        thread::scope(|scope| {
            let mut parts = bytes.chunks(bytes.len().div_ceil(threads));
            let own = parts.next().unwrap_or(&[]);
            for part in parts {
                scope.spawn(move || sum(part));
            }
            sum(own);
        });
    });
    bytes.len() as f64 / 1e9 / s
}

/// Seconds of the fastest of many runs; `times` in a row are one run.
fn best_s(times: u32, mut run: impl FnMut()) -> f64 {
    let (start, mut best) = (Instant::now(), f64::MAX);
    while start.elapsed() < BUDGET {
        let start = Instant::now();
        (0..times).for_each(|_| run());
        best = best.min(start.elapsed().as_secs_f64() / f64::from(times));
    }
    best
}
