//! Every set of kernels against attention written down plainly in f64.

use super::super::Isa;
use super::super::kv::{KvFormat, KvShape};
use super::*;

/// One layer of a model, with everything its sequences have seen in f64.
struct Plain {
    shape: AttentionShape,
    rope: RopeTable,
    /// Per slot and token: keys and values of all heads.
    seen: Vec<Vec<(Vec<f64>, Vec<f64>)>>,
}

impl Plain {
    fn new(shape: AttentionShape, rotary_dim: usize, slots: usize) -> Plain {
        Plain { shape, rope: RopeTable::new(rotary_dim, 10_000.0, 2048), seen: vec![Vec::new(); slots] }
    }

    fn turned(&self, position: usize, heads: &[f32]) -> Vec<f64> {
        let row = self.rope.row(position);
        let mut x: Vec<f64> = heads.iter().map(|&x| f64::from(x)).collect();
        for head in x.chunks_exact_mut(self.shape.head_dim) {
            for (i, cs) in row.chunks_exact(2).enumerate() {
                let (a, b, cos, sin) = (head[2 * i], head[2 * i + 1], f64::from(cs[0]), f64::from(cs[1]));
                (head[2 * i], head[2 * i + 1]) = (a * cos - b * sin, b * cos + a * sin);
            }
        }
        x
    }

    fn attention(&mut self, spans: &[Span], qkv: &[f32]) -> Vec<f64> {
        let AttentionShape { heads, kv_heads, head_dim } = self.shape;
        let mut rows = qkv.chunks_exact((heads + 2 * kv_heads) * head_dim);
        let mut out = Vec::new();
        for span in spans {
            self.seen[span.slot as usize].truncate(span.position as usize);
            for position in span.position as usize..(span.position + span.tokens) as usize {
                let (q, kv) = rows.next().unwrap().split_at(heads * head_dim);
                let (k, v) = kv.split_at(kv_heads * head_dim);
                let seen = (self.turned(position, k), v.iter().map(|&v| f64::from(v)).collect());
                self.seen[span.slot as usize].push(seen);
                let q = self.turned(position, q);
                for (h, q) in q.chunks_exact(head_dim).enumerate() {
                    let kv = h / (heads / kv_heads) * head_dim;
                    out.extend(one(q, &self.seen[span.slot as usize], kv..kv + head_dim));
                }
            }
        }
        out
    }
}

/// One query, the keys and values of one head.
fn one(q: &[f64], seen: &[(Vec<f64>, Vec<f64>)], head: std::ops::Range<usize>) -> Vec<f64> {
    let dot = |k: &[f64]| q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>();
    let scores: Vec<f64> =
        seen.iter().map(|(k, _)| dot(&k[head.clone()]) / (q.len() as f64).sqrt()).collect();
    let max = scores.iter().fold(f64::MIN, |m, s| m.max(*s));
    let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
    let mut out = vec![0.0; q.len()];
    for (s, (_, v)) in scores.iter().zip(seen) {
        out.iter_mut().zip(&v[head.clone()]).for_each(|(o, v)| *o += (s - max).exp() / sum * v);
    }
    out
}

fn random(rng: &mut fastrand::Rng, len: usize) -> Vec<f32> {
    // Wide enough that some tokens win clearly.
    (0..len).map(|_| (rng.f32() + rng.f32() + rng.f32() - 1.5) * 3.0).collect()
}

fn store_of(shape: AttentionShape, slots: usize, format: KvFormat) -> KvStore {
    let AttentionShape { kv_heads, head_dim, .. } = shape;
    KvStore::new(KvShape { layers: 1, kv_heads, head_dim, slots, tokens_max: 1024, format }).unwrap()
}

/// Runs one layer on random numbers; gives the outputs.
fn run(
    kernels: &Kernels,
    shape: AttentionShape,
    kv: &KvStore,
    rope: &RopeTable,
    spans: &[Span],
    qkv: &[f32],
) -> Vec<f32> {
    let tokens: u32 = spans.iter().map(|s| s.tokens).sum();
    let mut out = vec![f32::NAN; tokens as usize * shape.heads * shape.head_dim];
    kernels.attention(shape, kv, 0, rope, spans, qkv, &mut out).unwrap();
    out
}

fn worst(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    got.iter()
        .zip(want)
        .map(|(g, w)| (f64::from(*g) - w).abs())
        .fold(0.0, |m, e| if e > m || e.is_nan() { e } else { m })
}

const SHAPES: [(AttentionShape, usize); 7] = [
    (AttentionShape { heads: 2, kv_heads: 2, head_dim: 16 }, 8),
    (AttentionShape { heads: 4, kv_heads: 2, head_dim: 64 }, 64),
    (AttentionShape { heads: 12, kv_heads: 4, head_dim: 16 }, 16),
    (AttentionShape { heads: 8, kv_heads: 2, head_dim: 128 }, 128),
    (AttentionShape { heads: 8, kv_heads: 1, head_dim: 128 }, 64),
    (AttentionShape { heads: 16, kv_heads: 1, head_dim: 32 }, 16),
    (AttentionShape { heads: 6, kv_heads: 2, head_dim: 20 }, 10),
];

/// Most that an output may be off. Outputs are averages of values of up to 4.5; what a format loses of a key changes
/// scores, and with them which values count.
fn tolerance(format: KvFormat) -> f64 {
    match format {
        KvFormat::F32 => 1e-5,
        KvFormat::F16 => 5e-3,
        KvFormat::Int8 => 0.1,
    }
}

/// All kernels and formats against `Plain` on the same batches.
fn compare(shape: AttentionShape, rotary_dim: usize, batches: &[&[Span]]) {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut plain = Plain::new(shape, rotary_dim, 3);
    let tokens = |spans: &[Span]| spans.iter().map(|s| s.tokens).sum::<u32>() as usize;
    let inputs: Vec<_> = batches.iter().map(|s| random(&mut rng, tokens(s) * shape.qkv_row())).collect();
    let wanted: Vec<_> = batches.iter().zip(&inputs).map(|(s, x)| plain.attention(s, x)).collect();
    for kernels in Isa::available().into_iter().map(|isa| Kernels::new(isa, 2)) {
        for format in KvFormat::ALL.iter().copied() {
            let kv = store_of(shape, 3, format);
            for ((spans, x), want) in batches.iter().zip(&inputs).zip(&wanted) {
                let error = worst(&run(&kernels, shape, &kv, &plain.rope, spans, x), want);
                assert!(error < tolerance(format), "{kernels:?} {format} {shape:?} {spans:?}: {error}");
            }
        }
    }
}

fn span(slot: u32, position: u32, tokens: u32) -> Span {
    Span { slot, position, tokens }
}

#[test]
fn every_kernel_agrees_with_plain_attention_for_prompts_tokens_and_batches_of_both() {
    for (shape, rotary_dim) in SHAPES {
        let batches: [&[Span]; 6] = [
            &[span(0, 0, 1)],
            &[span(0, 1, 5), span(2, 0, 37)],
            &[span(2, 37, 1), span(0, 6, 1), span(1, 0, 3)],
            &[span(2, 38, 29)],
            &[span(1, 2, 1), span(2, 67, 1)],
            &[span(0, 7, 2), span(2, 50, 2)],
        ];
        compare(shape, rotary_dim, &batches);
    }
}

#[test]
fn a_prompt_of_many_blocks_and_a_past_of_several_runs_agree_with_plain_attention() {
    let shape = AttentionShape { heads: 4, kv_heads: 1, head_dim: 32 };
    let batches: [&[Span]; 4] =
        [&[span(0, 0, 300)], &[span(0, 300, 330)], &[span(0, 630, 1)], &[span(0, 631, 3)]];
    compare(shape, 16, &batches);
}

#[test]
fn work_is_cut_so_that_all_threads_have_some_and_nothing_twice() {
    let shape = AttentionShape { heads: 8, kv_heads: 2, head_dim: 64 };
    let kv = store_of(shape, 3, KvFormat::F16);
    let pieces = |spans: &[Span]| Pieces::of(shape, 2, spans, kv.rooms(&mut kv.lock(), 0));
    let ranges =
        |pieces: &Pieces| pieces.attend.iter().map(|p| (p.head, p.keys.clone(), p.keeps)).collect::<Vec<_>>();
    let past = pieces(&[span(1, 700, 2)]);
    assert!(past.are_shared && past.keep.is_empty());
    assert_eq!(
        ranges(&past),
        [(0, 0..352, false), (0, 352..702, true), (1, 0..352, false), (1, 352..702, true)]
    );
    // A short past is not worth waking anybody for, nor cutting.
    let short = pieces(&[span(1, 20, 1)]);
    assert!(!short.are_shared);
    assert_eq!(ranges(&short), [(0, 0..21, true), (1, 0..21, true)]);
    let prompt = pieces(&[span(0, 5, 70)]);
    assert!(prompt.are_shared && prompt.partials == 0);
    let blocks = [0..37, 0..69, 0..75];
    assert_eq!(ranges(&prompt), [0, 1].map(|head| blocks.clone().map(|keys| (head, keys, false))).concat());
    let kept: Vec<_> = prompt.keep.iter().map(|p| (p.head, p.position, p.tokens)).collect();
    assert_eq!(kept, [(0, 5, 64), (0, 69, 6), (1, 5, 64), (1, 69, 6)]);
}

fn main_shape() -> (AttentionShape, RopeTable) {
    (AttentionShape { heads: 4, kv_heads: 2, head_dim: 32 }, RopeTable::new(16, 10_000.0, 1024))
}

/// Each on its own, for all formats and kernels.
fn for_all(mut test: impl FnMut(&Kernels, &dyn Fn() -> KvStore)) {
    for isa in Isa::available() {
        for format in KvFormat::ALL.iter().copied() {
            test(&Kernels::new(isa, 2), &|| store_of(main_shape().0, 3, format));
        }
    }
}

fn assert_close(got: &[f32], want: &[f32]) {
    let want: Vec<f64> = want.iter().map(|&w| f64::from(w)).collect();
    let error = worst(got, &want);
    assert!(error < 1e-5, "off by {error}");
}

#[test]
fn a_prompt_in_chunks_gives_what_the_whole_prompt_gives() {
    let (shape, rope) = main_shape();
    let (row, out) = (8 * 32, 4 * 32);
    let x = random(&mut fastrand::Rng::with_seed(1), 200 * row);
    for_all(|kernels, store| {
        let whole = run(kernels, shape, &store(), &rope, &[Span { slot: 1, position: 0, tokens: 200 }], &x);
        let kv = store();
        let mut at = 0;
        for tokens in [1, 16, 3, 90, 1, 89] {
            let span = Span { slot: 1, position: at as u32, tokens: tokens as u32 };
            let got = run(kernels, shape, &kv, &rope, &[span], &x[at * row..(at + tokens) * row]);
            assert_close(&got, &whole[at * out..(at + tokens) * out]);
            at += tokens;
        }
    });
}

#[test]
fn what_follows_a_truncation_a_copy_or_a_loaded_prefix_is_as_if_it_had_been_run_there() {
    let (shape, rope) = main_shape();
    let row = 8 * 32;
    let mut rng = fastrand::Rng::with_seed(2);
    let (prompt, wrong, right) =
        (random(&mut rng, 45 * row), random(&mut rng, 30 * row), random(&mut rng, 9 * row));
    let span = |slot, position, tokens| [span(slot, position, tokens)];
    for_all(|kernels, store| {
        let kv = store();
        run(kernels, shape, &kv, &rope, &span(0, 0, 45), &prompt);
        let mut saved = Vec::new();
        let fresh = store();
        run(kernels, shape, &fresh, &rope, &span(0, 0, 35), &prompt[..35 * row]);
        let want = run(kernels, shape, &fresh, &rope, &span(0, 35, 9), &right);
        run(kernels, shape, &kv, &rope, &span(0, 45, 30), &wrong);
        run(kernels, shape, &kv, &rope, &span(1, 0, 30), &wrong);
        kv.save(0, 35, &mut saved).unwrap();
        kv.copy_prefix(0, 1, 35).unwrap();
        kv.truncate(0, 35).unwrap();
        kv.load(2, &mut &saved[..]).unwrap();
        for slot in 0..3 {
            assert_eq!(kv.len(slot), 35);
            assert_eq!(run(kernels, shape, &kv, &rope, &span(slot, 35, 9), &right), want, "slot {slot}");
        }
        // A span may also begin where it likes, without a truncation.
        run(kernels, shape, &kv, &rope, &span(1, 3, 30), &wrong);
        run(kernels, shape, &kv, &rope, &span(1, 0, 35), &prompt[..35 * row]);
        assert_eq!(kv.len(1), 35);
        assert_close(&run(kernels, shape, &kv, &rope, &span(1, 35, 9), &right), &want);
    });
}

#[test]
fn numbers_of_no_size_and_beyond_a_format_do_no_harm() {
    let (shape, rope) = main_shape();
    let mut rng = fastrand::Rng::with_seed(4);
    for_all(|kernels, store| {
        for scale in [0.0, 1e-42, 1e-30, 1e9] {
            let x: Vec<f32> = random(&mut rng, 40 * 8 * 32).into_iter().map(|x| x * scale).collect();
            let kv = store();
            let mut out = run(kernels, shape, &kv, &rope, &[span(0, 0, 39)], &x[..39 * 8 * 32]);
            out.extend(run(kernels, shape, &kv, &rope, &[span(0, 39, 1)], &x[39 * 8 * 32..]));
            let largest =
                out.iter().fold(0.0, |m: f32, x| if x.is_nan() { f32::NAN } else { m.max(x.abs()) });
            assert!(largest <= 4.6 * scale, "{kernels:?} {:?} {scale}: {largest}", kv.shape().format);
        }
    });
}

/// What weighs next to nothing was once added up too, and took a fifth of a digest's time, as its products with values are
/// subnormal numbers.
#[test]
fn a_key_that_weighs_next_to_nothing_weighs_nothing() {
    let shape = AttentionShape { heads: 1, kv_heads: 1, head_dim: 16 };
    let rope = RopeTable::new(8, 10_000.0, 2048);
    // The last key has the last query's score, so many bits above the others; only those have values in element 0.
    let qkv = |tokens: usize, bits: f32| {
        let mut qkv = vec![0.0; tokens * 48];
        let last = &mut qkv[(tokens - 1) * 48..];
        (last[15], last[31]) = (4.0, bits / std::f32::consts::LOG2_E);
        qkv.chunks_exact_mut(48).take(tokens - 1).for_each(|row| row[32] = 1.0);
        qkv
    };
    for format in KvFormat::ALL.iter().copied() {
        for kernels in Isa::available().into_iter().map(|isa| Kernels::new(isa, 1)) {
            // Keys of one step, of one that is widened, and of more than one.
            for tokens in [2, 40, 300] {
                let gathered = |bits: f32| {
                    let spans = [span(0, 0, tokens as u32)];
                    let kv = store_of(shape, 1, format);
                    let out = run(&kernels, shape, &kv, &rope, &spans, &qkv(tokens, bits));
                    out[(tokens - 1) * 16]
                };
                let (few, none) = (gathered(60.0), gathered(110.0));
                assert!(few > 0.0 && few < 1e-15, "{kernels:?} {format:?} {tokens}: {few:e}");
                assert_eq!(none, 0.0, "{kernels:?} {format:?} {tokens}");
            }
        }
    }
}

#[test]
fn a_batch_that_does_not_fit_is_refused_and_leaves_the_store_as_it_was() {
    let (shape, rope) = main_shape();
    let kernels = Kernels::detect(1);
    let kv = store_of(shape, 2, KvFormat::F16);
    let mut out = vec![0.0; 3 * 4 * 32];
    let qkv = vec![0.0; 3 * 8 * 32];
    let bad = Span { slot: 0, position: 1, tokens: 3 };
    let refused = kernels.attention(shape, &kv, 0, &rope, &[bad], &qkv, &mut out).unwrap_err();
    assert_eq!(refused, BadSpan::Gap { slot: 0, position: 1, len: 0 });
    let short = RopeTable::new(16, 10_000.0, 2);
    let refused =
        kernels.attention(shape, &kv, 0, &short, &[Span { position: 0, ..bad }], &qkv, &mut out).unwrap_err();
    assert_eq!(refused, BadSpan::Long { slot: 0, position: 0, tokens: 3, max: 2 });
    assert_eq!(kv.len(0), 0);
}
