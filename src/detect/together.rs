//! Several channels that belong together: what each says is expected from the others.
//!
//! Principal components of the standardised channels, learnt with forgetting. A row is strange in two ways: far out
//! in the directions in which the group usually moves (Hotelling's T2), or out of them, where channels no longer move
//! together (Q, the squared rest). Both are held against the farthest that was known, and the verdict names the channel
//! that contributes most. Memory grows with the square of the channels, which is why they are at most
//! [`limits::GROUP_CHANNELS_MAX`].

use super::{Reason, Verdict, squash};
use crate::limits;
use crate::reading::{Pattern, Severity};
use crate::time::Wall;

/// The detector of one group.
#[derive(Debug, Clone)]
pub struct Together {
    channels: usize,
    rows: u64,
    mean: Vec<f64>,
    /// Covariance, row by row.
    covariance: Vec<f64>,
    /// Kept components, one after the other, and their variances.
    components: Vec<f64>,
    variances: Vec<f64>,
    hotelling: Track,
    rest: Track,
    /// Rows since which the group is strange.
    strange: u32,
    /// What each channel has contributed since.
    blame: Vec<f64>,
    rested_at: u64,
}

/// What is strange in a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Place of the channel that contributes most.
    pub channel: usize,
    /// Its verdict.
    pub verdict: Verdict,
}

/// One statistic, smoothed, and the farthest that it usually is.
#[derive(Debug, Clone, Copy, Default)]
struct Track {
    smooth: f64,
    farthest: f64,
}

impl Track {
    /// How far beyond the farthest, 1 at the threshold.
    fn strength(&mut self, statistic: f64, learnt: bool) -> f64 {
        self.smooth += SMOOTH * (statistic - self.smooth);
        let strength = self.smooth / (FARTHER * self.farthest).max(f64::MIN_POSITIVE);
        if !learnt || strength < 1.0 {
            self.farthest = (self.farthest * FADE).max(self.smooth);
        }
        strength
    }
}

impl Together {
    /// Nothing learnt yet of so many channels, at least two; those beyond the bound are not looked at.
    pub fn new(channels: usize) -> Self {
        let n = channels.clamp(2, limits::GROUP_CHANNELS_MAX);
        Self {
            channels: n,
            rows: 0,
            mean: vec![0.0; n],
            covariance: vec![0.0; n * n],
            components: Vec::new(),
            variances: Vec::new(),
            hotelling: Track::default(),
            rest: Track::default(),
            strange: 0,
            blame: Vec::new(),
            rested_at: 0,
        }
    }

    /// Judges one row of finite values, one per channel; another number of them says nothing. Where one is missing, the
    /// others make it up, if they are more than half; nothing is learnt from such a row.
    pub fn step(&mut self, at: Wall, row: &[Option<f64>]) -> Option<Finding> {
        let row = row.get(..self.channels)?;
        if row.iter().flatten().any(|x| !x.is_finite() || x.abs() > VALUE_MAX) {
            return None;
        }
        let present = row.iter().flatten().count();
        if present < self.channels {
            let enough = 2 * present > self.channels && present >= 2 && !self.variances.is_empty();
            let (row, z) = enough.then(|| self.made_up(row))?;
            return self.judge(at, &row, &z);
        }
        let row: &[f64] = &row.iter().flatten().copied().collect::<Vec<_>>();
        self.rows += 1;
        let z = self.standardised(row);
        let finding = if self.variances.is_empty() { None } else { self.judge(at, row, &z) };
        // What lasts becomes the usual in the end.
        if finding.is_none() || self.strange > STRANGE_ROWS_MAX {
            self.learn(row);
        }
        if self.rows >= ROWS_MIN && self.rows.is_multiple_of(REFRESH_ROWS) {
            self.refresh();
        }
        finding
    }

    fn judge(&mut self, at: Wall, row: &[f64], z: &[f64]) -> Option<Finding> {
        let n = self.channels;
        let scores: Vec<f64> = self.components.chunks_exact(n).map(|p| dot(p, z)).collect();
        let mut rest = z.to_vec();
        for (p, t) in self.components.chunks_exact(n).zip(&scores) {
            rest.iter_mut().zip(p).for_each(|(r, p)| *r -= t * p);
        }
        let squares = scores.iter().zip(&self.variances).map(|(t, v)| t * t / v);
        let learnt = self.rows >= 2 * ROWS_MIN;
        let far = self.hotelling.strength(squares.sum(), learnt);
        let apart = self.rest.strength(dot(&rest, &rest), learnt);
        let strength = far.max(apart);
        if !learnt || strength < 1.0 {
            self.strange = 0;
            return None;
        }
        self.strange += 1;
        self.accuse(if apart >= far { self.parts_of_rest(&rest) } else { self.parts_of_hotelling(&scores) });
        let whole: f64 = self.blame.iter().sum();
        let (channel, most) = self.blame.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
        let fresh = self.rows >= self.rested_at;
        self.rested_at = self.rows + super::REST_READINGS;
        let expected = if apart >= far {
            row[channel] - rest[channel] * self.sigma(channel)
        } else {
            self.mean[channel]
        };
        let verdict = Verdict {
            since: Some(at),
            score: squash(strength),
            pattern: if row[channel] >= expected { Pattern::High } else { Pattern::Low },
            severity: Severity::Info,
            reason: Reason::OddAmongOthers {
                group: None,
                expected,
                share: (most / whole.max(f64::MIN_POSITIVE)) as f32,
            },
            baseline: Some(expected),
            peak: Some(row[channel]),
            limit: None,
            fresh,
        };
        Some(Finding { channel, verdict })
    }

    /// Adds each channel's share of a row to its blame in this occurrence: one noisy row does not name another one.
    fn accuse(&mut self, parts: Vec<f64>) {
        let whole = parts.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        if self.strange == 1 {
            self.blame = vec![0.0; self.channels];
        }
        self.blame.iter_mut().zip(parts).for_each(|(blame, part)| *blame += part / whole);
    }

    /// By how much Q would fall if a channel said what the others make one expect (Alcala and Qin 2009): a fault of one
    /// channel is not smeared over its neighbours, as by the squares of the rest.
    fn parts_of_rest(&self, rest: &[f64]) -> Vec<f64> {
        let explained = |i: usize| self.components.chunks_exact(self.channels).map(move |p| p[i] * p[i]);
        let part = |(i, r): (usize, &f64)| r * r / (1.0 - explained(i).sum::<f64>()).max(UNEXPLAINED_MIN);
        rest.iter().enumerate().map(part).collect()
    }

    /// The same of T2.
    fn parts_of_hotelling(&self, scores: &[f64]) -> Vec<f64> {
        let part = |i: usize| {
            let (mut along, mut own) = (0.0, 0.0);
            for ((p, t), v) in self.components.chunks_exact(self.channels).zip(scores).zip(&self.variances) {
                along += p[i] * t / v;
                own += p[i] * p[i] / v;
            }
            along * along / own.max(f64::MIN_POSITIVE)
        };
        (0..self.channels).map(part).collect()
    }

    fn sigma(&self, channel: usize) -> f64 {
        let variance = self.covariance[channel * self.channels + channel];
        // A channel that never moved is as wide as the rounding of its value.
        variance.sqrt().max(1e-9 * self.mean[channel].abs()).max(1e-12)
    }

    /// The row with the missing values as the components would have them, as it is and standardised: what is missing adds
    /// nothing to the rest.
    fn made_up(&self, row: &[Option<f64>]) -> (Vec<f64>, Vec<f64>) {
        let n = self.channels;
        let known: Vec<f64> = row.iter().zip(&self.mean).map(|(x, mean)| x.unwrap_or(*mean)).collect();
        let mut z = self.standardised(&known);
        for _ in 0..MAKE_UP_TURNS {
            let scores: Vec<f64> = self.components.chunks_exact(n).map(|p| dot(p, &z)).collect();
            for i in (0..n).filter(|i| row[*i].is_none()) {
                z[i] = self.components.chunks_exact(n).zip(&scores).map(|(p, t)| p[i] * t).sum();
            }
        }
        let value = |i: usize| row[i].unwrap_or(self.mean[i] + z[i] * self.sigma(i));
        ((0..n).map(value).collect(), z)
    }

    fn standardised(&self, row: &[f64]) -> Vec<f64> {
        row.iter().enumerate().map(|(i, x)| (x - self.mean[i]) / self.sigma(i)).collect()
    }

    fn learn(&mut self, row: &[f64]) {
        let share = 1.0 / (self.rows as f64).min(MEMORY_ROWS);
        let before: Vec<f64> = row.iter().zip(&self.mean).map(|(x, m)| x - m).collect();
        self.mean.iter_mut().zip(&before).for_each(|(m, d)| *m += share * d);
        for i in 0..self.channels {
            for j in 0..self.channels {
                let c = &mut self.covariance[i * self.channels + j];
                *c += share * ((1.0 - share) * before[i] * before[j] - *c);
            }
        }
    }

    /// Components anew: as many as explain most of the variance.
    fn refresh(&mut self) {
        let n = self.channels;
        let sigma: Vec<f64> = (0..n).map(|i| self.sigma(i)).collect();
        let correlation =
            (0..n * n).map(|at| self.covariance[at] / (sigma[at / n] * sigma[at % n])).collect();
        let (values, vectors) = eigen(correlation, n);
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
        let whole: f64 = values.iter().map(|v| v.max(0.0)).sum();
        (self.components, self.variances) = (Vec::new(), Vec::new());
        let mut explained = 0.0;
        for k in order {
            // At least one direction is left to the rest, else nothing could be out of all of them.
            if explained >= EXPLAINED * whole || self.variances.len() == n - 1 {
                break;
            }
            explained += values[k];
            self.variances.push(values[k].max(1e-6));
            self.components.extend((0..n).map(|i| vectors[i * n + k]));
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Eigenvalues and eigenvectors (in columns) of a symmetric matrix, by the rotations of Jacobi.
fn eigen(mut a: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors: Vec<f64> = (0..n * n).map(|at| f64::from(u8::from(at / n == at % n))).collect();
    for _ in 0..SWEEPS_MAX {
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, &mut vectors, n, p, q);
            }
        }
        let off: f64 = (0..n * n).filter(|at| at / n != at % n).map(|at| a[at] * a[at]).sum();
        if off < 1e-18 {
            break;
        }
    }
    ((0..n).map(|i| a[i * n + i]).collect(), vectors)
}

/// Turns the plane of `p` and `q` so that their element becomes zero.
fn rotate(a: &mut [f64], vectors: &mut [f64], n: usize, p: usize, q: usize) {
    if a[p * n + q].abs() < 1e-15 {
        return;
    }
    let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * a[p * n + q]);
    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let c = 1.0 / (t * t + 1.0).sqrt();
    let s = t * c;
    let turn = |m: &mut [f64], i: usize, j: usize| (m[i], m[j]) = (c * m[i] - s * m[j], s * m[i] + c * m[j]);
    for k in 0..n {
        turn(a, k * n + p, k * n + q);
        turn(vectors, k * n + p, k * n + q);
    }
    for k in 0..n {
        turn(a, p * n + k, q * n + k);
    }
}

/// Values beyond this would overflow when squared and summed.
const VALUE_MAX: f64 = 1e15;
/// Rows before the first components, as many again before the first verdict.
const ROWS_MIN: u64 = 128;
/// Rows between two refreshes of the components.
const REFRESH_ROWS: u64 = 64;
/// Rows that are remembered.
const MEMORY_ROWS: f64 = 4096.0;
/// Strange rows after which the strange is learnt.
const STRANGE_ROWS_MAX: u32 = 400;
/// Variance that the kept components explain.
const EXPLAINED: f64 = 0.9;
/// Share of a new row in a statistic.
const SMOOTH: f64 = 0.3;
/// Farther than everything known, which fades.
const FARTHER: f64 = 1.5;
const FADE: f64 = 0.9995;
/// A channel that is nearly all explained by the others' directions: its part would be divided by nothing.
const UNEXPLAINED_MIN: f64 = 1e-3;
const SWEEPS_MAX: usize = 12;
/// Turns in which missing values settle.
const MAKE_UP_TURNS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// Three channels that follow one load, one that follows nothing.
    fn row(rng: &mut fastrand::Rng, s: i64) -> [f64; 4] {
        let load = (s as f64 / 200.0).sin() + 0.3 * (s as f64 / 37.0).sin();
        let mut noise = || (0..6).map(|_| rng.f64() - 0.5).sum::<f64>() * 0.1;
        [
            50.0 + 10.0 * load + noise(),
            3.0 + load + 0.1 * noise(),
            100.0 - 20.0 * load + 2.0 * noise(),
            noise(),
        ]
    }

    fn found(fault: impl Fn(i64, &mut [f64; 4])) -> Vec<(i64, Finding)> {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut group = Together::new(4);
        let step = |s: i64| {
            let mut row = row(&mut rng, s);
            fault(s, &mut row);
            group.step(Wall::from_secs(s), &row.map(Some)).map(|f| (s, f))
        };
        (0..6000).filter_map(step).collect()
    }

    #[test]
    fn a_group_that_moves_as_ever_is_calm() {
        assert_eq!(found(|_, _| ()), []);
    }

    #[test]
    fn the_channel_that_leaves_the_others_is_named_although_it_stays_in_its_range() {
        let all = found(|s, row| row[1] = if (4000..4200).contains(&s) { 3.0 } else { row[1] });
        let (s, first) = &all[0];
        assert!((4000..4150).contains(s), "{s} {first:?}");
        assert_eq!(first.channel, 1);
        assert!((first.verdict.baseline.unwrap() - row(&mut fastrand::Rng::with_seed(1), *s)[1]).abs() < 0.5);
        assert_eq!(all.iter().filter(|(_, f)| f.verdict.fresh).count(), 1);
    }

    #[test]
    fn a_group_that_goes_too_far_together_is_told_too() {
        let all = found(|s, row| {
            if s >= 4000 {
                (row[0], row[1], row[2]) = (90.0, 7.0, 20.0);
            }
        });
        assert!((4000..4010).contains(&all[0].0), "{:?}", all[0]);
        assert!(all.last().unwrap().0 < 5000, "in the end it is the usual");
    }

    #[test]
    fn the_components_of_a_known_matrix() {
        let (values, vectors) = eigen(vec![2.0, 1.0, 1.0, 2.0], 2);
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        assert!((sorted[0] - 1.0).abs() < 1e-9 && (sorted[1] - 3.0).abs() < 1e-9);
        let k = usize::from(values[1] > values[0]);
        assert!((vectors[k].abs() - vectors[2 + k].abs()).abs() < 1e-9);
    }

    #[test]
    fn no_row_breaks_it() {
        let mut rng = fastrand::Rng::with_seed(5);
        let mut group = Together::new(3);
        for s in 0..3000 {
            let hole = s % 7 == 0;
            let mut x = || if rng.u8(0..20) == 0 { f64::from_bits(rng.u64(..)) } else { 1.0 };
            let row = [Some(x()), if hole { None } else { Some(x()) }, Some(x())];
            if let Some(f) = group.step(Wall::from_secs(s), &row) {
                assert!((0.5..=1.0).contains(&f.verdict.score) && f.channel < 3, "{f:?}");
            }
        }
        assert_eq!(group.step(Wall(0), &[Some(1.0)]), None);
    }
}
