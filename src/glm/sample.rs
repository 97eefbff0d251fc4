//! Which token comes next: the most likely one, or one drawn from those that are likely enough.
//!
//! The order is that of transformers' generation: repetition penalty, temperature, then top-k, top-p and min-p on what the
//! temperature left. Cuts are exact, and no more of a large vocabulary is sorted than they need.

use std::cmp::Ordering;

use super::constrain::TokenMask;

/// How a token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0: always the most likely token. Above: logits are divided by it.
    pub temperature: f32,
    /// Only so many of the most likely ones; 0: all.
    pub top_k: usize,
    /// Only the most likely ones that have this probability together; 1: all. Above 0.
    pub top_p: f32,
    /// Only those with at least this share of the most likely one's probability; 0: all.
    pub min_p: f32,
    /// Divides the positive logit of a token that was there before and multiplies its negative one; 1: none.
    pub repetition_penalty: f32,
    /// The same seed draws the same tokens from the same logits.
    pub seed: u64,
}

impl Sampling {
    /// Always the most likely token.
    pub const GREEDY: Sampling =
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, seed: 0 };

    /// Refuses numbers that mean nothing.
    pub fn check(&self) -> Result<(), BadSampling> {
        let between = |field, value: f32, min: f32, max: f32| match (min..=max).contains(&value) {
            true => Ok(()),
            false => Err(BadSampling { field, value, min, max }),
        };
        between("temperature", self.temperature, 0.0, 100.0)?;
        between("top_p", self.top_p, f32::MIN_POSITIVE, 1.0)?;
        between("min_p", self.min_p, 0.0, 1.0)?;
        between("repetition_penalty", self.repetition_penalty, 0.01, 100.0)
    }
}

/// A number of [`Sampling`] that means nothing; the caller's fault.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field} = {value} is not possible; choose one from {min} to {max}")]
pub struct BadSampling {
    /// Which.
    pub field: &'static str,
    /// What it is.
    pub value: f32,
    /// Least.
    pub min: f32,
    /// Most.
    pub max: f32,
}

/// Draws the tokens of one sequence.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    rng: fastrand::Rng,
    /// Tokens that were there before, ascending; only kept where they count.
    seen: Vec<u32>,
    candidates: Vec<Candidate>,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    token: u32,
    logit: f32,
}

impl Candidate {
    /// The likelier first, of equals the lower token.
    fn order(&self, other: &Candidate) -> Ordering {
        other.logit.total_cmp(&self.logit).then(self.token.cmp(&other.token))
    }
}

impl Sampler {
    /// For a sequence that begins with `prompt`.
    pub fn new(sampling: Sampling, prompt: &[u32]) -> Sampler {
        let rng = fastrand::Rng::with_seed(sampling.seed);
        let mut sampler = Sampler { sampling, rng, seen: Vec::new(), candidates: Vec::new() };
        prompt.iter().for_each(|&token| sampler.note(token));
        sampler
    }

    /// A token was appended to the sequence.
    pub fn note(&mut self, token: u32) {
        if self.sampling.repetition_penalty != 1.0
            && let Err(at) = self.seen.binary_search(&token)
        {
            self.seen.insert(at, token);
        }
    }

    /// The next token among those of `mask`, or among all. A logit that is not a number never wins; `None` where nothing is left.
    pub fn pick(&mut self, logits: &[f32], mask: Option<&TokenMask>) -> Option<u32> {
        if self.sampling.temperature == 0.0 && self.seen.is_empty() {
            return greedy(logits, mask);
        }
        self.collect(logits, mask);
        if self.sampling.temperature == 0.0 {
            return self.candidates.iter().min_by(|a, b| a.order(b)).map(|best| best.token);
        }
        self.cut();
        self.draw()
    }

    /// Candidates with their penalised, tempered logits.
    fn collect(&mut self, logits: &[f32], mask: Option<&TokenMask>) {
        let Sampling { temperature, repetition_penalty, .. } = self.sampling;
        let divisor = if temperature == 0.0 { 1.0 } else { temperature };
        let seen = &self.seen;
        let candidate = |token: u32| {
            let logit = *logits.get(token as usize)?;
            let logit = match seen.binary_search(&token) {
                Ok(_) if logit > 0.0 => logit / repetition_penalty,
                Ok(_) => logit * repetition_penalty,
                Err(_) => logit,
            };
            (logit > f32::NEG_INFINITY).then_some(Candidate { token, logit: logit / divisor })
        };
        self.candidates.clear();
        match mask {
            Some(mask) => self.candidates.extend(mask.iter().filter_map(candidate)),
            None => self.candidates.extend((0..logits.len() as u32).filter_map(candidate)),
        }
    }

    /// Leaves the candidates that top-k, top-p and min-p allow, the likeliest first where that matters.
    fn cut(&mut self) {
        let Sampling { top_k, top_p, min_p, .. } = self.sampling;
        let all = &mut self.candidates;
        if top_k > 0 && top_k < all.len() {
            all.select_nth_unstable_by(top_k - 1, Candidate::order);
            all.truncate(top_k);
        }
        if top_p < 1.0 {
            let largest = largest(all);
            let total: f64 = all.iter().map(|c| c.weight(largest)).sum();
            let kept = nucleus(all, largest, total * f64::from(top_p));
            all.truncate(kept);
        }
        if min_p > 0.0 {
            let largest = largest(all);
            all.retain(|c| c.weight(largest) >= f64::from(min_p));
        }
        // The same draw whatever order the cuts left.
        all.sort_unstable_by_key(|c| c.token);
    }

    fn draw(&mut self) -> Option<u32> {
        let largest = largest(&self.candidates);
        let total: f64 = self.candidates.iter().map(|c| c.weight(largest)).sum();
        let mut left = self.rng.f64() * total;
        for candidate in &self.candidates {
            left -= candidate.weight(largest);
            if left < 0.0 {
                return Some(candidate.token);
            }
        }
        self.candidates.last().map(|c| c.token)
    }
}

impl Candidate {
    /// Its probability relative to that of the largest logit.
    fn weight(&self, largest: f32) -> f64 {
        // Two infinite logits are equally likely.
        if self.logit == largest { 1.0 } else { f64::from(self.logit - largest).exp() }
    }
}

fn largest(candidates: &[Candidate]) -> f32 {
    candidates.iter().map(|c| c.logit).fold(f32::NEG_INFINITY, f32::max)
}

/// How many of the likeliest candidates it takes to weigh `wanted` together; those come first, in order.
fn nucleus(all: &mut [Candidate], largest: f32, wanted: f64) -> usize {
    let (mut sorted, mut weight, mut step) = (0, 0.0, 64);
    while sorted < all.len() {
        let rest = &mut all[sorted..];
        let take = step.min(rest.len());
        if take < rest.len() {
            rest.select_nth_unstable_by(take - 1, Candidate::order);
        }
        rest[..take].sort_unstable_by(Candidate::order);
        for (i, candidate) in rest[..take].iter().enumerate() {
            weight += candidate.weight(largest);
            if weight >= wanted {
                return sorted + i + 1;
            }
        }
        sorted += take;
        step *= 8;
    }
    all.len()
}

fn greedy(logits: &[f32], mask: Option<&TokenMask>) -> Option<u32> {
    if let Some(mask) = mask {
        return mask.argmax(logits);
    }
    let numbers = logits.iter().enumerate().filter(|(_, logit)| !logit.is_nan());
    numbers.reduce(|best, x| if x.1 > best.1 { x } else { best }).map(|(token, _)| token as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(change: impl FnOnce(&mut Sampling)) -> Sampling {
        let mut sampling = Sampling { temperature: 1.0, seed: 1, ..Sampling::GREEDY };
        change(&mut sampling);
        sampling
    }

    /// How often each token is drawn.
    fn shares(sampling: Sampling, logits: &[f32], prompt: &[u32]) -> Vec<f64> {
        let mut sampler = Sampler::new(sampling, prompt);
        let mut counts = vec![0; logits.len()];
        for _ in 0..20_000 {
            counts[sampler.pick(logits, None).unwrap() as usize] += 1;
        }
        counts.into_iter().map(|count| f64::from(count) / 20_000.0).collect()
    }

    fn softmax(logits: &[f64]) -> Vec<f64> {
        let total: f64 = logits.iter().map(|x| x.exp()).sum();
        logits.iter().map(|x| x.exp() / total).collect()
    }

    fn assert_near(got: &[f64], want: &[f64]) {
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() < 0.015, "{got} not {want}");
        }
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest_and_never_what_is_no_number() {
        let mut sampler = Sampler::new(Sampling::GREEDY, &[]);
        assert_eq!(sampler.pick(&[1.0, f32::NAN, 3.0, 3.0, -1.0], None), Some(2));
        assert_eq!(sampler.pick(&[f32::NAN, f32::NAN], None), None);
        assert_eq!(Sampler::new(with(|_| ()), &[]).pick(&[f32::NAN, 0.0], None), Some(1));
    }

    #[test]
    fn draws_follow_the_probabilities_and_the_temperature() {
        let logits = [0.0, 1.0, 2.0, -1.0];
        let tempered = |t: f64| softmax(&logits.map(|x: f32| f64::from(x) / t));
        assert_near(&shares(with(|_| ()), &logits, &[]), &tempered(1.0));
        assert_near(&shares(with(|s| s.temperature = 0.5), &logits, &[]), &tempered(0.5));
    }

    #[test]
    fn cuts_leave_the_likeliest_and_their_proportions() {
        let logits = [0.0_f32, 1.0, 2.0, -1.0];
        let (e, e2) = (1_f64.exp(), 2_f64.exp());
        let two = [0.0, e / (e + e2), e2 / (e + e2), 0.0];
        assert_near(&shares(with(|s| s.top_k = 2), &logits, &[]), &two);
        // The largest has 0.64, the second 0.24: 0.7 needs both.
        assert_near(&shares(with(|s| s.top_p = 0.7), &logits, &[]), &two);
        assert_near(&shares(with(|s| s.top_p = 0.6), &logits, &[]), &[0.0, 0.0, 1.0, 0.0]);
        // The second has 0.37 of the largest, the third 0.14.
        assert_near(&shares(with(|s| s.min_p = 0.3), &logits, &[]), &two);
    }

    #[test]
    fn what_was_there_before_is_less_likely() {
        let sampling = Sampling { repetition_penalty: 2.0, ..Sampling::GREEDY };
        assert_eq!(Sampler::new(sampling, &[0]).pick(&[3.0, 2.0], None), Some(1));
        assert_eq!(Sampler::new(sampling, &[0]).pick(&[-1.0, -1.5], None), Some(1));
        let mut sampler = Sampler::new(sampling, &[]);
        assert_eq!(sampler.pick(&[3.0, 2.0], None), Some(0));
        sampler.note(0);
        assert_eq!(sampler.pick(&[3.0, 2.0], None), Some(1));
    }

    #[test]
    fn a_seed_draws_the_same_again() {
        let logits: Vec<f32> = (0..500).map(|i| (i % 17) as f32 / 4.0).collect();
        let run = |seed| {
            let mut sampler = Sampler::new(with(|s| (s.seed, s.top_p) = (seed, 0.9)), &[]);
            (0..50).map(|_| sampler.pick(&logits, None).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
    }

    #[test]
    fn numbers_that_mean_nothing_are_refused_by_name() {
        assert_eq!(Sampling::GREEDY.check(), Ok(()));
        for bad in [
            with(|s| s.temperature = -1.0),
            with(|s| s.temperature = f32::NAN),
            with(|s| s.top_p = 0.0),
            with(|s| s.min_p = 1.5),
            with(|s| s.repetition_penalty = 0.0),
        ] {
            assert!(bad.check().unwrap_err().to_string().contains("choose one from"));
        }
    }

    proptest! {
        #[test]
        fn the_nucleus_is_the_shortest_beginning_of_the_sorted_that_is_heavy_enough(
            logits in proptest::collection::vec(-8.0_f32..8.0, 1..900), share in 0.01_f64..1.0,
        ) {
            let mut all: Vec<Candidate> =
                logits.iter().enumerate().map(|(i, &logit)| Candidate { token: i as u32, logit }).collect();
            let mut sorted = all.clone();
            sorted.sort_by(Candidate::order);
            let top = largest(&all);
            let total: f64 = all.iter().map(|c| c.weight(top)).sum();
            let kept = nucleus(&mut all, top, total * share);
            let weight = |n: usize| sorted[..n].iter().map(|c| c.weight(top)).sum::<f64>();
            prop_assert!(kept == all.len() || weight(kept) >= total * share * (1.0 - 1e-9));
            prop_assert!(weight(kept - 1) < total * share * (1.0 + 1e-9));
            let tokens = |all: &[Candidate]| all.iter().map(|c| c.token).collect::<Vec<_>>();
            prop_assert_eq!(tokens(&all[..kept]), tokens(&sorted[..kept]));
        }
    }
}
