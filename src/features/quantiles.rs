//! Quantiles of a stream in bounded memory: a t-digest (Dunning 2019), merged in batches.
//!
//! Up to [`limits::QUANTILE_CENTROIDS`] values are kept as they are and quantiles are exact, interpolated between the middles
//! of neighbours (Hazen). Beyond that, neighbours are merged, least at the ends: a quantile is off by a small share of the
//! ranks, whatever the offset and spread of the values. A sketch that is exact to a share of the value (DDSketch) would tell
//! mains of 400 V to 4 V.

use crate::limits;

/// The quantiles of the values so far; about 2 KiB at most.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Quantiles {
    /// Sorted.
    merged: Vec<Centroid>,
    fresh: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Centroid {
    mean: f64,
    weight: f64,
}

impl Quantiles {
    /// Takes one finite value.
    pub fn push(&mut self, x: f64) {
        self.fresh.push(x);
        if self.fresh.len() >= limits::QUANTILE_FRESH {
            self.merged = self.sorted();
            self.fresh.clear();
            if self.merged.len() > limits::QUANTILE_CENTROIDS {
                merge(&mut self.merged);
            }
        }
    }

    /// The values below which the shares `qs` (0 to 1) of all values lie; 0 without a value.
    pub fn at<const N: usize>(&self, qs: [f64; N]) -> [f64; N] {
        let sorted = self.sorted();
        let total: f64 = sorted.iter().map(|c| c.weight).sum();
        qs.map(|q| quantile(&sorted, q * total))
    }

    fn sorted(&self) -> Vec<Centroid> {
        let fresh = self.fresh.iter().map(|&mean| Centroid { mean, weight: 1.0 });
        let mut all: Vec<Centroid> = self.merged.iter().copied().chain(fresh).collect();
        all.sort_by(|a, b| a.mean.total_cmp(&b.mean));
        all
    }
}

/// The value at so many ranks, on straight lines between the middles of the centroids.
fn quantile(sorted: &[Centroid], rank: f64) -> f64 {
    let mut before: Option<(f64, f64)> = None;
    let mut below = 0.0;
    for c in sorted {
        let middle = below + c.weight / 2.0;
        if rank <= middle {
            let Some((at, mean)) = before else { return c.mean };
            let share = (rank - at) / (middle - at);
            return mean * (1.0 - share) + c.mean * share;
        }
        before = Some((middle, c.mean));
        below += c.weight;
    }
    before.map_or(0.0, |(_, mean)| mean)
}

/// Joins neighbours where the scale of the digest leaves room, in place.
fn merge(sorted: &mut Vec<Centroid>) {
    let total: f64 = sorted.iter().map(|c| c.weight).sum();
    // Two neighbours that are not joined span more than one, so that as many as the bound are left at most.
    let span = (limits::QUANTILE_CENTROIDS - 1) as f64 / 2.0;
    let scale = |q: f64| span / std::f64::consts::PI * (2.0 * q - 1.0).clamp(-1.0, 1.0).asin();
    let mut kept: Vec<Centroid> = Vec::with_capacity(limits::QUANTILE_CENTROIDS);
    // Weight left of the last kept one.
    let mut below = 0.0;
    for c in sorted.drain(..) {
        match kept.last_mut() {
            Some(last) if scale((below + last.weight + c.weight) / total) - scale(below / total) <= 1.0 => {
                last.weight += c.weight;
                // Divided before subtracting: the difference of two huge values would overflow.
                let share = c.weight / last.weight;
                last.mean = last.mean * (1.0 - share) + c.mean * share;
            }
            last => {
                below += last.map_or(0.0, |c| c.weight);
                kept.push(c);
            }
        }
    }
    *sorted = kept;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(xs: &[f64]) -> Quantiles {
        let mut quantiles = Quantiles::default();
        xs.iter().for_each(|x| quantiles.push(*x));
        quantiles
    }

    #[test]
    fn few_values_have_exact_quantiles() {
        assert_eq!(of(&[]).at([0.5]), [0.0]);
        assert_eq!(of(&[4.0]).at([0.0, 0.5, 1.0]), [4.0; 3]);
        assert_eq!(of(&[3.0, 1.0, 2.0, 4.0]).at([0.0, 0.25, 0.5, 1.0]), [1.0, 1.5, 2.5, 4.0]);
    }

    #[test]
    fn many_values_of_any_shape_are_off_by_a_small_share_of_the_ranks_in_bounded_memory() {
        let mut rng = fastrand::Rng::with_seed(2);
        let mut shapes: Vec<Vec<f64>> = vec![
            (0..50_000).map(f64::from).collect(),
            (0..50_000).rev().map(f64::from).collect(),
            (0..50_000).map(|_| 400.0 + rng.f64() - rng.f64()).collect(),
        ];
        shapes.push((0..50_000).map(|_| (20.0 * rng.f64()).exp()).collect());
        shapes.push((0..50_000).map(|_| f64::from(rng.u8(0..3))).collect());
        for xs in shapes {
            let quantiles = of(&xs);
            assert!(quantiles.merged.len() <= limits::QUANTILE_CENTROIDS, "{}", quantiles.merged.len());
            for q in [0.01, 0.05, 0.5, 0.95, 0.99] {
                let [x] = quantiles.at([q]);
                let below = xs.iter().filter(|y| **y < x).count() as f64 / xs.len() as f64;
                let up_to = xs.iter().filter(|y| **y <= x).count() as f64 / xs.len() as f64;
                assert!((below - 0.01..=up_to + 0.01).contains(&q), "{q}: {x} has {below} to {up_to} below");
            }
        }
    }

    #[test]
    fn the_largest_floats_give_no_infinity() {
        let xs: Vec<f64> = (0..1000).map(|i| if i % 2 == 0 { f64::MAX } else { f64::MIN }).collect();
        assert!(of(&xs).at([0.1, 0.5, 0.9]).iter().all(|x| x.is_finite()));
    }
}
