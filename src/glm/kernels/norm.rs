//! RMSNorm: every row divided by the root of its mean square, times a weight per element.

use super::Kernels;

impl Kernels {
    /// `out = x / sqrt(mean(x * x) + eps) * weight` for every row of `weight.len()` numbers, in f32.
    ///
    /// # Panics
    /// Where lengths do not fit together.
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        assert!(
            x.len() == out.len() && x.len().is_multiple_of(weight.len()),
            "{} of {}",
            x.len(),
            weight.len()
        );
        for (x, out) in x.chunks_exact(weight.len()).zip(out.chunks_exact_mut(weight.len())) {
            norm_row(x, weight, eps, out);
        }
    }
}

fn norm_row(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let square = x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
    let scale = 1.0 / (square + eps).sqrt();
    for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * w;
    }
}
