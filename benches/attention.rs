//! How fast the language model attends: `cargo bench --bench attention [SHAPE] [FORMAT] [ISA]`.
//!
//! A call is one layer's attention from the product with queries, keys and values to the product with the output: rotation,
//! storing, scores, softmax, weighted sum. Layers take turns, as in a model. GB/s count the keys and values of the past, once;
//! GFLOP/s two products per query and key that it sees. The best of many runs counts: on a machine that others use too, the
//! rest tells of them.

use std::time::{Duration, Instant};

use outpost::glm::kernels::{AttentionShape, Isa, Kernels, KvFormat, KvShape, KvStore, RopeTable, Span};

const BUDGET: Duration = Duration::from_millis(250);
const LAYERS: usize = 8;
const PAST_MAX: usize = 1024;
const SLOTS: usize = 4;
/// Name, heads, heads of keys and values, elements of a head.
const SHAPES: [(&str, usize, usize, usize); 4] =
    [("edge-1.5b", 16, 4, 128), ("9b", 32, 2, 128), ("100m", 12, 4, 64), ("equal", 8, 8, 64)];
/// Sequences, past of each, new tokens of each.
const BATCHES: [(u32, u32, u32); 6] =
    [(1, 0, 1), (1, 128, 1), (1, 1024, 1), (4, 1024, 1), (1, 0, 128), (1, 0, 1024)];

fn main() {
    // Cargo adds an argument of its own that begins with a dash.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |names: &[&str], name| {
        !wanted.iter().any(|w| names.contains(&w.as_str())) || wanted.iter().any(|w| w == name)
    };
    let formats: Vec<_> = KvFormat::ALL.iter().map(|format| format.name()).collect();
    let isas: Vec<_> = Isa::ALL.iter().map(|isa| isa.name()).collect();
    let threads_max = std::thread::available_parallelism().map_or(1, usize::from);
    let threads: &[usize] = if threads_max > 1 { &[1, threads_max] } else { &[1] };
    for isa in Isa::available().into_iter().filter(|isa| is_wanted(&isas, isa.name())) {
        for format in KvFormat::ALL.iter().copied().filter(|format| is_wanted(&formats, format.name())) {
            for &threads in threads {
                println!("\n{isa}, {format}, {threads} threads");
                println!(
                    "{:>12}{:>10}{:>8}{:>8}{:>12}{:>10}{:>12}",
                    "shape", "sequences", "past", "new", "us", "GB/s", "GFLOP/s"
                );
                for (name, heads, kv_heads, head_dim) in SHAPES {
                    if is_wanted(&SHAPES.map(|shape| shape.0), name) {
                        let shape = AttentionShape { heads, kv_heads, head_dim };
                        Bench::new(Kernels::new(isa, threads), shape, format).rows(name);
                    }
                }
            }
        }
    }
}

struct Bench {
    kernels: Kernels,
    shape: AttentionShape,
    kv: KvStore,
    rope: RopeTable,
    qkv: Vec<f32>,
    out: Vec<f32>,
}

impl Bench {
    fn new(kernels: Kernels, shape: AttentionShape, format: KvFormat) -> Bench {
        let AttentionShape { heads, kv_heads, head_dim } = shape;
        let tokens_max = 2 * PAST_MAX;
        let kv = KvShape { layers: LAYERS, kv_heads, head_dim, slots: SLOTS, tokens_max, format };
        let mut rng = fastrand::Rng::with_seed(1);
        Bench {
            kernels,
            shape,
            kv: KvStore::new(kv).expect("a shape that can be"),
            rope: RopeTable::new(head_dim, 10_000.0, tokens_max),
            qkv: (0..PAST_MAX * (heads + 2 * kv_heads) * head_dim).map(|_| rng.f32() - 0.5).collect(),
            out: vec![0.0; PAST_MAX * heads * head_dim],
        }
    }

    fn rows(&mut self, name: &str) {
        for (slots, past, new) in BATCHES {
            for slot in (0..slots).filter(|_| past > 0) {
                self.run(&[Span { slot, position: 0, tokens: past }]);
            }
            let spans: Vec<_> = (0..slots).map(|slot| Span { slot, position: past, tokens: new }).collect();
            let (start, mut best) = (Instant::now(), f64::MAX);
            while start.elapsed() < BUDGET {
                let start = Instant::now();
                self.run(&spans);
                best = best.min(start.elapsed().as_secs_f64() / LAYERS as f64);
            }
            let keys = u64::from(slots * new) * u64::from(2 * past + new).div_ceil(2);
            let flop = 4 * keys as usize * self.shape.heads * self.shape.head_dim;
            let share = f64::from(slots * past) / (SLOTS * 2 * PAST_MAX) as f64;
            let bytes = self.kv.bytes() as f64 / LAYERS as f64 * share;
            println!(
                "{name:>12}{slots:>10}{past:>8}{new:>8}{:>12.1}{:>10.1}{:>12.1}",
                best * 1e6,
                bytes / 1e9 / best,
                flop as f64 / 1e9 / best
            );
        }
    }

    /// All layers once.
    fn run(&mut self, spans: &[Span]) {
        let AttentionShape { heads, kv_heads, head_dim } = self.shape;
        let tokens = spans.iter().map(|span| span.tokens as usize).sum::<usize>();
        let qkv = &self.qkv[..tokens * (heads + 2 * kv_heads) * head_dim];
        let out = &mut self.out[..tokens * heads * head_dim];
        for layer in 0..LAYERS {
            self.kernels
                .attention(self.shape, &self.kv, layer, &self.rope, spans, qkv, out)
                .expect("spans that fit");
        }
    }
}
