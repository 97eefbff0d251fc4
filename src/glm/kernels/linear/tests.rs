//! Every kernel against a naive product of what the matrix gives back.

use proptest::prelude::*;

use super::*;

/// A product and what it is expected to be.
struct Case {
    w: Matrix,
    bias: Option<Vec<f32>>,
    epilogue: Epilogue,
    x: Vec<f32>,
    tokens: usize,
}

impl Case {
    fn random(rng: &mut fastrand::Rng, format: Format, rows: usize, cols: usize, tokens: usize) -> Case {
        let mut numbers = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.f32() * 2.0 - 1.0).collect() };
        let w = Matrix::pack(rows, cols, format, &numbers(rows * cols)).unwrap();
        let (x, bias) = (numbers(tokens * cols), Some(numbers(rows)));
        Case { w, bias, epilogue: Epilogue::None, x, tokens }
    }

    /// `inter` gated elements: the same numbers of rows of gate and up, interleaved by panels.
    fn gated(rng: &mut fastrand::Rng, format: Format, inter: usize, cols: usize, tokens: usize) -> Case {
        let case = Case::random(rng, format, 2 * inter.next_multiple_of(PANEL_ROWS), cols, tokens);
        Case { epilogue: Epilogue::SiluGate { inter }, ..case }
    }

    fn run(&self, kernels: &Kernels) -> Vec<f32> {
        let cols = match self.epilogue {
            Epilogue::None => self.w.rows(),
            Epilogue::SiluGate { inter } => inter,
        };
        let mut out = vec![f32::NAN; self.tokens * cols];
        kernels.linear(&self.w, self.bias.as_deref(), self.epilogue, &self.x, self.tokens, &mut out);
        out
    }

    /// The product in f64 with the largest error that quantised activations may make of it.
    fn expected(&self) -> Vec<(f64, f64)> {
        let mut row = vec![0.0; self.w.cols()];
        let mut all = vec![vec![(0.0, 0.0); self.tokens]; self.w.rows()];
        for (r, all) in all.iter_mut().enumerate() {
            self.w.row(r, &mut row);
            let bias = self.bias.as_ref().map_or(0.0, |bias| f64::from(bias[r]));
            for (out, x) in all.iter_mut().zip(self.x.chunks(row.len())) {
                *out = self.dot(&row, x);
                out.0 += bias;
            }
        }
        let silu = |x: f64| x / (1.0 + (-x).exp());
        let gate = |r: usize, t: usize| {
            let (panel, lane) = (r / PANEL_ROWS * 2, r % PANEL_ROWS);
            let (gate, up) = (all[panel * PANEL_ROWS + lane][t], all[(panel + 1) * PANEL_ROWS + lane][t]);
            let error = 1.1 * gate.1 * (up.0.abs() + up.1) + silu(gate.0).abs() * up.1;
            (silu(gate.0) * up.0, error)
        };
        let tokens = 0..self.tokens;
        match self.epilogue {
            Epilogue::None => tokens.flat_map(|t| all.iter().map(move |row| row[t])).collect(),
            Epilogue::SiluGate { inter } => {
                tokens.flat_map(|t| (0..inter).map(move |r| gate(r, t))).collect()
            }
        }
    }

    fn dot(&self, row: &[f32], x: &[f32]) -> (f64, f64) {
        let mut sum = (0.0, 1e-4);
        for (w, x) in row.chunks(BLOCK_COLS).zip(x.chunks(BLOCK_COLS)) {
            let largest = x.iter().fold(0.0, |m: f32, x| m.max(x.abs()));
            let step = if self.w.format() == Format::F32 { 0.0 } else { f64::from(largest) / 127.0 };
            for (w, x) in w.iter().zip(x) {
                sum.0 += f64::from(*w) * f64::from(*x);
                sum.1 += f64::from(w.abs()) * (0.5 * step + 1e-6);
            }
        }
        sum
    }
}

#[test]
fn the_portable_product_is_the_naive_one_up_to_quantised_activations() {
    let mut rng = fastrand::Rng::with_seed(1);
    let kernels = Kernels::new(Isa::Portable, 1);
    for format in Format::ALL.iter().copied() {
        for (rows, cols, tokens) in
            [(1, 1, 1), (16, 32, 1), (35, 70, 3), (64, 64, 17), (5, 352, 2), (48, 33, 40)]
        {
            let cases = [
                Case::random(&mut rng, format, rows, cols, tokens),
                Case { bias: None, ..Case::random(&mut rng, format, rows, cols, tokens) },
                Case::gated(&mut rng, format, rows, cols, tokens),
            ];
            for case in cases {
                for (i, (out, (want, error))) in case.run(&kernels).iter().zip(case.expected()).enumerate() {
                    let off = (f64::from(*out) - want).abs();
                    let what = (format, rows, cols, tokens, case.epilogue);
                    assert!(off <= error, "{what:?} at {i}: {out}, not {want}, off by {off} > {error}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_instruction_set_gives_what_the_portable_one_gives(
        seed: u64,
        rows in 1_usize..70,
        cols in 1_usize..200,
        tokens in 1_usize..=40,
        gated: bool,
        threads in 1_usize..=2,
    ) {
        let mut rng = fastrand::Rng::with_seed(seed);
        for format in Format::ALL.iter().copied() {
            let make = if gated { Case::gated } else { Case::random };
            let case = make(&mut rng, format, rows, cols, tokens);
            let want = case.run(&Kernels::new(Isa::Portable, 1));
            for isa in Isa::available() {
                let out = case.run(&Kernels::new(isa, threads));
                for (i, (out, want)) in out.iter().zip(&want).enumerate() {
                    let off = (out - want).abs();
                    // The same products in another order: sums of 200 numbers below 1, times another such one if gated.
                    prop_assert!(off <= 2e-5 * (1.0 + want.abs()), "{isa} {format} at {i}: {out}, not {want}");
                }
            }
        }
    }
}

#[test]
fn any_bytes_of_weights_give_the_same_with_every_instruction_set() {
    let mut rng = fastrand::Rng::with_seed(4);
    for (format, numbers) in [(Format::Q8_0, 512), (Format::Q4_0, 256)] {
        for tokens in [1, 2, 7, 33] {
            let mut case = Case::random(&mut rng, format, 64, 96, tokens);
            let mut bytes = BytesMut::zeroed(case.w.bytes().len());
            bytes.copy_from_slice(case.w.bytes());
            for panel in bytes.chunks_exact_mut(case.w.bytes().len() / 4) {
                // -128 among them, which no packing makes; scales stay.
                panel[..3 * numbers].fill_with(|| rng.u8(..));
                panel[..numbers].fill(0x80);
            }
            case.w = Matrix::new(64, 96, format, bytes.into()).unwrap();
            case.x[..32].fill(-1.0);
            let want = case.run(&Kernels::new(Isa::Portable, 1));
            for isa in Isa::available() {
                for (out, want) in case.run(&Kernels::new(isa, 1)).iter().zip(&want) {
                    assert!(
                        (out - want).abs() <= 1e-4 * (1.0 + want.abs()),
                        "{isa} {format}: {out}, not {want}"
                    );
                }
            }
        }
    }
}

#[test]
fn more_tokens_than_a_chunk_give_the_same_as_one_by_one() {
    let mut rng = fastrand::Rng::with_seed(2);
    let kernels = Kernels::new(Isa::Portable, 1);
    let case = Case::random(&mut rng, Format::Q8_0, 17, 40, CHUNK_TOKENS_MAX + 3);
    let whole = case.run(&kernels);
    for (x, out) in case.x.chunks(40).zip(whole.chunks(17)) {
        let one = Case { w: case.w.clone(), bias: case.bias.clone(), x: x.to_vec(), tokens: 1, ..case };
        assert_eq!(one.run(&kernels), out);
    }
}

#[test]
fn activations_of_no_size_and_of_any_size_do_no_harm() {
    let mut rng = fastrand::Rng::with_seed(3);
    for isa in Isa::available() {
        let kernels = Kernels::new(isa, 1);
        for format in [Format::Q8_0, Format::Q4_0] {
            let mut case = Case::random(&mut rng, format, 16, 64, 1);
            case.bias = None;
            for x in [0.0, -0.0, 1e-40, f32::MIN_POSITIVE] {
                case.x.fill(x);
                assert!(case.run(&kernels).iter().all(|out| out.abs() < 1e-30), "{isa} {x}");
            }
            case.x[3] = f32::NAN;
            case.x[4] = f32::INFINITY;
            case.run(&kernels);
        }
    }
}

/// A broken graph had norms so large that activations became infinite, and then no numbers: the vector instructions make the
/// least integer of those, whose sum is beyond any bound. Found by fuzzing.
#[test]
fn activations_that_are_no_numbers_are_no_panic() {
    let mut rng = fastrand::Rng::with_seed(5);
    for isa in Isa::available() {
        for format in Format::ALL {
            for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
                let mut case = Case::random(&mut rng, *format, 40, 96, 3);
                case.x[32..64].fill(wrong);
                let out = case.run(&Kernels::new(isa, 1));
                assert!(
                    out[40..].iter().all(|x| x.is_finite()),
                    "{isa} {format}: other tokens are as they were"
                );
            }
        }
    }
}

/// The head of a vocabulary of 151552 over 4096 columns is more than 2^32 multiplications from 7 tokens on.
#[test]
fn a_product_beyond_32_bits_is_shared_out_like_any_large_one() {
    for tokens in 1..=256 {
        let work = work(151_552 / PANEL_ROWS, 4096, tokens);
        assert_eq!(parts(2, 2368, work), 2 * PARTS_PER_THREAD, "{tokens}");
    }
}
