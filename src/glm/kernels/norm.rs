//! RMSNorm: every row divided by the root of its mean square, times a weight per element.

use super::Kernels;
use super::attention::fns;
use super::wide::{LANES, Wide};

/// Numbers that are worth a part of their own.
const PART_NUMBERS_MIN: usize = 16 * 1024;
/// Parts per thread, so that one that is held up leaves its share to the others.
const PARTS_PER_THREAD: usize = 4;

impl Kernels {
    /// `out = x / sqrt(mean(x * x) + eps) * weight` for every row of `weight.len()` numbers, in f32.
    ///
    /// # Panics
    /// Where lengths do not fit together.
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        let cols = weight.len();
        assert!(
            x.len() == out.len() && x.len().is_multiple_of(cols),
            "{} and {} of {cols}",
            x.len(),
            out.len()
        );
        if x.is_empty() {
            return;
        }
        let norm_row = fns(self.isa()).norm_row;
        let rows_per_part =
            (x.len() / (PARTS_PER_THREAD * self.threads()) / cols).max(PART_NUMBERS_MIN.div_ceil(cols));
        self.team.run_chunks(out, rows_per_part * cols, &|part, out| {
            let x = x[part * rows_per_part * cols..].chunks_exact(cols);
            for (x, out) in x.zip(out.chunks_exact_mut(cols)) {
                // SAFETY: the kernels are those of an instruction set that the machine has.
                unsafe { norm_row(x, weight, eps, out) };
            }
        });
    }
}

/// One row; all three are as long.
///
/// # Safety
/// As of [`Wide`].
#[inline(always)]
pub(super) unsafe fn norm_row<W: Wide>(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let len = x.len();
    assert!(weight.len() == len && out.len() == len);
    let whole = len / LANES * LANES;
    // SAFETY: vectors end at `whole`.
    unsafe {
        let mut square = W::squares(x.as_ptr(), whole);
        for x in &x[whole..] {
            square += x * x;
        }
        let scale = 1.0 / (square / len as f32 + eps).sqrt();
        W::scale(x.as_ptr(), weight.as_ptr(), scale, out.as_mut_ptr(), whole);
        for ((out, x), w) in out[whole..].iter_mut().zip(&x[whole..]).zip(&weight[whole..]) {
            *out = x * scale * w;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Isa;
    use super::*;

    #[test]
    fn every_kernel_norms_rows_of_any_length_one_by_one() {
        let mut rng = fastrand::Rng::with_seed(5);
        for (rows, cols) in [(1, 1), (3, 15), (2, 16), (5, 100), (1, 2048), (40, 1000)] {
            let x: Vec<f32> = (0..rows * cols).map(|_| rng.f32() * 8.0 - 3.0).collect();
            let weight: Vec<f32> = (0..cols).map(|_| rng.f32() * 2.0).collect();
            for kernels in Isa::available().into_iter().map(|isa| Kernels::new(isa, 2)) {
                let mut out = vec![f32::NAN; x.len()];
                kernels.rms_norm(&x, &weight, 0.01, &mut out);
                for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact(cols)) {
                    let square: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
                    for ((x, w), out) in x.iter().zip(&weight).zip(out) {
                        let want = f64::from(*x) / (square / cols as f64 + 0.01).sqrt() * f64::from(*w);
                        assert!(
                            (f64::from(*out) - want).abs() < 2e-6,
                            "{kernels:?} {cols}: {out} not {want}"
                        );
                    }
                }
            }
        }
        Kernels::new(Isa::Portable, 1).rms_norm(&[], &[1.0], 0.01, &mut []);
    }
}
