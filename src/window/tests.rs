//! Windows against what a batch job says, and against every bound.

use proptest::prelude::*;

use super::*;

const OPTIONS: WindowOptions =
    WindowOptions { length_ms: 10_000, hop_ms: 10_000, lateness_ms: 5_000, ..WindowOptions::DEFAULT };

/// Windows or readings that are held open.
fn held(windows: &Windows) -> usize {
    match &windows.shape {
        Shape::Fixed(fixed) => fixed.open.len(),
        Shape::Sliding(sliding) => {
            sliding.recent.len() / (limits::SLIDING_READINGS_MAX / limits::WINDOWS_OPEN_MAX)
        }
        Shape::Sessions(sessions) => usize::from(sessions.open.is_some()),
    }
}

fn run(options: WindowOptions, readings: &[(i64, f64)]) -> (Vec<Window>, Windows) {
    let mut windows = Windows::new(options);
    let mut closed = Vec::new();
    for &(ms, x) in readings {
        windows.push(Wall(ms * 1000), Ok(x), &mut |w| closed.push(w.clone()));
    }
    windows.flush(&mut |w| closed.push(w.clone()));
    (closed, windows)
}

#[test]
fn a_summary_is_shortened_where_nobody_can_tell() {
    let (channel, unit) = (ChannelId::new("meter").unwrap(), Unit::default());
    for base in [20.0, 1.0e9] {
        let readings: Vec<(i64, f64)> = (0..9).map(|n| (n * 100, base + n as f64 / 7.0)).collect();
        let (windows, _) = run(OPTIONS, &readings);
        let (whole, told) = (&windows[0].features, WindowSummary::new(&channel, &unit, &windows[0]));
        let range = whole.max() - whole.min();
        assert!((told.mean - whole.mean()).abs() <= range / 65_536.0, "{}", told.mean);
        assert_eq!(f64::from(told.mean as f32) == told.mean, base < 1e6, "{}", told.mean);
        assert_eq!(f64::from(told.std as f32), told.std);
    }
}

/// What a batch job would say: start in ms, count and sum of each window that has a reading.
fn batch(options: WindowOptions, readings: &[(i64, f64)]) -> Vec<(i64, u32, f64)> {
    let (hop, length) = (i64::from(options.hop_ms), i64::from(options.length_ms));
    let mut by_start = std::collections::BTreeMap::<i64, (u32, f64)>::new();
    for &(ms, x) in readings {
        let last = ms.div_euclid(hop) * hop;
        (0..).map(|i| last - i * hop).take_while(|s| *s > ms - length).for_each(|start| {
            let w = by_start.entry(start).or_default();
            *w = (w.0 + 1, w.1 + x);
        });
    }
    by_start.into_iter().map(|(start, (n, sum))| (start, n, sum)).collect()
}

proptest! {
    #[test]
    fn readings_shuffled_within_the_lateness_give_what_a_batch_gives(
        gaps in prop::collection::vec((0i64..4000, 0i64..5000, -100.0..100.0f64), 1..120),
        hop_ms in prop::sample::select(vec![2500u32, 5000, 10_000]),
    ) {
        let options = WindowOptions { hop_ms, ..OPTIONS };
        let mut at = -20_000;
        let timed: Vec<_> = gaps.iter().map(|&(gap, delay, x)| { at += gap; (at, at + delay, x) }).collect();
        let mut arrival = timed.clone();
        arrival.sort_by_key(|&(_, arrives, _)| arrives);
        let arrival: Vec<_> = arrival.iter().map(|&(at, _, x)| (at, x)).collect();
        let (closed, windows) = run(options, &arrival);
        prop_assert_eq!(windows.late(), 0);
        let expected = batch(options, &arrival);
        prop_assert_eq!(closed.len(), expected.len());
        for (w, (start, n, sum)) in closed.iter().zip(expected) {
            prop_assert_eq!((w.start.0 / 1000, w.features.count()), (start, n));
            prop_assert!((w.features.mean() * f64::from(n) - sum).abs() < 1e-6);
        }
    }

    #[test]
    fn no_order_of_readings_breaks_a_bound(
        readings in prop::collection::vec((any::<i64>(), any::<f64>()), 1..200),
        length_ms in any::<u32>(), hop_ms in any::<u32>(), lateness_ms in any::<u32>(),
            kind in 0..3_usize, detail in any::<bool>(),
    ) {
        let kind = WindowKind::ALL[kind];
            let gap_ms = hop_ms;
            let mut windows = Windows::new(WindowOptions { kind, length_ms, hop_ms, lateness_ms, gap_ms, detail });
        for (at, x) in readings {
            windows.push(Wall(at), crate::reading::value_from_f64(x), &mut |_| {});
            prop_assert!(held(&windows) <= limits::WINDOWS_OPEN_MAX);
        }
    }
}

/// What a batch job says of one window, from all its readings at once.
fn reference(readings: &[(i64, f64)]) -> [f64; 7] {
    let n = readings.len() as f64;
    let xs = || readings.iter().map(|r| r.1);
    let hours = || readings.iter().map(|r| r.0 as f64 / 3.6e6);
    let (mean, hour) = (xs().sum::<f64>() / n, hours().sum::<f64>() / n);
    let squares = |of: &mut dyn Iterator<Item = f64>, mean: f64| of.map(|x| (x - mean).powi(2)).sum::<f64>();
    let co: f64 = readings.iter().map(|r| (r.0 as f64 / 3.6e6 - hour) * (r.1 - mean)).sum();
    let spread = squares(&mut hours(), hour);
    let slope = if spread > 0.0 { co / spread } else { 0.0 };
    let last = readings.iter().max_by_key(|r| r.0).unwrap().1;
    let (min, max) = (xs().fold(f64::INFINITY, f64::min), xs().fold(f64::NEG_INFINITY, f64::max));
    [n, min, max, mean, (squares(&mut xs(), mean) / n).sqrt(), last, slope]
}

/// Readings in order: time in ms and value.
type Course = Vec<(i64, f64)>;

/// Start and length in ms of every window that a batch job makes of readings in order, each with those in it.
fn batch_of(options: WindowOptions, readings: &[(i64, f64)]) -> Vec<(i64, u32, Course)> {
    let (length, hop) = (i64::from(options.length_ms), i64::from(options.hop_ms));
    match options.kind {
        WindowKind::Fixed => {
            let mut by_start = std::collections::BTreeMap::<i64, Course>::new();
            for &(at, x) in readings {
                let last = at.div_euclid(hop) * hop;
                (0..).map(|i| last - i * hop).take_while(|s| *s > at - length).for_each(|start| {
                    by_start.entry(start).or_default().push((at, x));
                });
            }
            by_start.into_iter().map(|(start, of)| (start, options.length_ms, of)).collect()
        }
        WindowKind::Session => {
            let mut sessions: Vec<Course> = Vec::new();
            for &(at, x) in readings {
                match sessions.last_mut() {
                    Some(open)
                        if at - open[open.len() - 1].0 <= i64::from(options.gap_ms)
                            && at - open[0].0 < length =>
                    {
                        open.push((at, x));
                    }
                    _ => sessions.push(vec![(at, x)]),
                }
            }
            let told = |of: Course| (of[0].0, (of[of.len() - 1].0 - of[0].0).max(1) as u32, of);
            sessions.into_iter().map(told).collect()
        }
        WindowKind::Sliding => {
            let (mut ends, mut told) = (Vec::new(), readings[0].0);
            for (i, &(at, _)) in readings.iter().enumerate() {
                if at - readings[i.saturating_sub(1)].0 > length {
                    ends.push(readings[i - 1].0 + 1);
                    told = at;
                }
                if at - told >= hop {
                    told = at;
                    ends.push(at);
                }
            }
            ends.push(readings[readings.len() - 1].0 + 1);
            let first = |from: i64| readings.partition_point(|r| r.0 < from);
            let of = |end: i64| readings[first(end - length)..first(end)].to_vec();
            ends.into_iter().map(|end| (end - length, options.length_ms, of(end))).collect()
        }
    }
}

/// Whether a detail is what a batch job says of readings in order.
fn is_right(detail: &Detail, readings: &[(i64, f64)]) -> bool {
    let mut sorted: Vec<f64> = readings.iter().map(|r| r.1).collect();
    sorted.sort_by(f64::total_cmp);
    let rank = |q: f64| sorted[(q.clamp(0.0, 1.0) * (sorted.len() - 1) as f64).round() as usize];
    let quantile = |x: f64, q: f64| {
        let (low, high) = (rank(q - 0.02), rank(q + 0.02));
        (low - 1e-4 * low.abs()..=high + 1e-4 * high.abs()).contains(&x)
    };
    let pairs = || readings.windows(2).map(|pair| (pair[0].1, pair[1].1));
    let changes = pairs().filter(|(a, b)| a != b).count();
    let increase: f64 = pairs().map(|(a, b)| if b >= a { b - a } else { b.max(0.0) }).sum();
    let hours = (readings[readings.len() - 1].0 - readings[0].0) as f64 / 3.6e6;
    let rate = if hours > 0.0 { increase / hours } else { 0.0 };
    let close = (detail.rate_per_h - rate).abs() <= 1e-5 * (1.0 + rate);
    let quantiles = quantile(detail.p05, 0.05) && quantile(detail.p50, 0.5) && quantile(detail.p95, 0.95);
    quantiles && close && detail.changes as usize == changes
}

/// A million readings with pauses: event times are apart, most arrivals within the lateness, one of a thousand behind it.
fn a_million() -> Course {
    let mut rng = fastrand::Rng::with_seed(12);
    let mut sent: Vec<(i64, i64, f64)> = (0..1_000_000_i64)
        .map(|i| {
            let at = 10 * i + i / 20_000 * 30_000 + rng.i64(0..9);
            let delay = if rng.u32(0..1000) == 0 { 20_000 } else { rng.i64(0..4990) };
            // Every value twice: half of the neighbours differ.
            let pair = i / 2;
            (at + delay, at, 1e3 * (pair as f64 / 5e3).sin() + (pair * 7919 % 1000) as f64 / 1e3)
        })
        .collect();
    sent.sort_by_key(|s| s.0);
    sent.into_iter().map(|(_, at, x)| (at, x)).collect()
}

fn holds_against_a_batch(options: WindowOptions) {
    let mut windows = Windows::new(options);
    let (mut closed, mut taken) = (Vec::new(), Vec::new());
    let (mut newest, mut late) = (i64::MIN / 2, 0);
    for (at, x) in a_million() {
        windows.push(Wall(at * 1000), Ok(x), &mut |w| closed.push(w.clone()));
        if at < newest - i64::from(options.lateness_ms) {
            late += 1;
            continue;
        }
        newest = newest.max(at);
        taken.push((at, x));
    }
    windows.flush(&mut |w| closed.push(w.clone()));
    taken.sort_by_key(|r| r.0);
    let batch = batch_of(options, &taken);
    assert!(late > 500);
    assert_eq!((windows.late(), closed.len()), (late, batch.len()));
    let (channel, unit) = (ChannelId::new("meter").unwrap(), Unit::default());
    for (w, (start, length_ms, readings)) in closed.iter().zip(batch) {
        let f = &w.features;
        let ours = [f64::from(f.count()), f.min(), f.max(), f.mean(), f.std(), f.last(), f.slope_per_h()];
        assert_eq!((w.start.0 / 1000, w.length_ms), (start, length_ms));
        for (a, b) in ours.into_iter().zip(reference(&readings)) {
            assert!(
                (a - b).abs() <= 1e-6 * (1.0 + b.abs()),
                "{start}: {ours:?}, batch {:?}",
                reference(&readings)
            );
        }
        let detail = WindowSummary::new(&channel, &unit, w).detail;
        assert!(detail.is_none_or(|d| is_right(&d, &readings)), "{start}: {detail:?}");
        assert_eq!(detail.is_some(), options.detail);
    }
}

#[test]
fn a_million_readings_out_of_order_give_what_a_batch_gives_less_those_counted_late() {
    holds_against_a_batch(WindowOptions { hop_ms: 5000, ..OPTIONS });
}

#[test]
fn a_million_readings_out_of_order_give_the_details_of_a_batch() {
    holds_against_a_batch(WindowOptions { detail: true, ..OPTIONS });
}

#[test]
fn a_million_readings_out_of_order_give_the_sessions_of_a_batch() {
    let session = WindowOptions { kind: WindowKind::Session, gap_ms: 3000, length_ms: 60_000, ..OPTIONS };
    holds_against_a_batch(WindowOptions { detail: true, ..session });
}

#[test]
fn a_million_readings_out_of_order_give_the_sliding_windows_of_a_batch() {
    holds_against_a_batch(WindowOptions { kind: WindowKind::Sliding, hop_ms: 5000, ..OPTIONS });
}

#[test]
fn a_session_ends_by_the_clock_and_a_sliding_window_that_fills_up_says_where_it_begins() {
    let mut told = Vec::new();
    let session = WindowOptions { kind: WindowKind::Session, gap_ms: 3000, ..OPTIONS };
    let mut windows = Windows::new(session);
    for s in 0..5 {
        windows.push(Wall::from_secs(s), Ok(1.0), &mut |w| told.push(w.clone()));
    }
    windows.close_idle(Wall::from_secs(7), &mut |w| told.push(w.clone()));
    assert_eq!(told.len(), 0, "the gap is not over");
    windows.close_idle(Wall::from_secs(8), &mut |w| told.push(w.clone()));
    assert_eq!((told[0].start, told[0].length_ms, told[0].features.count()), (Wall(0), 4000, 5));
    let sliding = WindowOptions { kind: WindowKind::Sliding, lateness_ms: 0, ..OPTIONS };
    let mut windows = Windows::new(sliding);
    let mut full = Vec::new();
    for ms in 0..30_000 {
        windows.push(Wall(ms * 1000), Ok(1.0), &mut |w| full.push(w.clone()));
    }
    let max = limits::SLIDING_READINGS_MAX as u32;
    assert_eq!((full[0].features.count(), full[0].length_ms), (max, max));
}

#[test]
fn a_reading_behind_the_watermark_is_counted_and_left_out() {
    let (closed, windows) = run(OPTIONS, &[(0, 1.0), (16_000, 2.0), (9_000, 3.0)]);
    assert_eq!(windows.late(), 1);
    assert_eq!(closed.iter().map(|w| w.features.count()).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn a_clock_set_back_starts_anew_and_one_stray_reading_does_not() {
    let back = |n: u32| -> Vec<(i64, f64)> {
        let mut readings = vec![(1_000_000, 1.0)];
        readings.extend((0..n).map(|i| (i64::from(i) * 1000, 2.0)));
        readings
    };
    assert_eq!(run(OPTIONS, &back(limits::LATE_RUN_MAX - 1)).0.len(), 1);
    let (closed, windows) = run(OPTIONS, &back(limits::LATE_RUN_MAX));
    assert_eq!(closed.len(), 2);
    assert_eq!(windows.newest(), Some(Wall(i64::from(limits::LATE_RUN_MAX - 1) * 1_000_000)));
}

#[test]
fn a_window_closed_for_idleness_is_told_once_and_late_comers_do_not_reopen_it() {
    let mut windows = Windows::new(OPTIONS);
    let mut starts = Vec::new();
    let mut tell = |w: &Window| starts.push(w.start.0 / 1_000_000);
    windows.push(Wall::from_secs(1), Ok(1.0), &mut tell);
    windows.close_idle(Wall::from_secs(9), &mut tell);
    windows.close_idle(Wall::from_secs(10), &mut tell);
    windows.push(Wall::from_secs(2), Ok(1.0), &mut tell);
    windows.push(Wall::from_secs(12), Ok(1.0), &mut tell);
    windows.flush(&mut tell);
    assert_eq!(starts, [0, 10]);
}

#[test]
fn a_jump_ahead_by_centuries_makes_no_empty_windows() {
    let (closed, _) = run(OPTIONS, &[(0, 1.0), (10_000_000_000_000, 2.0)]);
    assert_eq!(closed.len(), 2);
}

proptest! {
    /// What is said not to be held any more has been told: as many readings up to then as were taken.
    #[test]
    fn what_is_not_held_was_told(
        kind in prop::sample::select(WindowKind::ALL.to_vec()),
        detail in any::<bool>(),
        steps in prop::collection::vec(0..4_000_i64, 1..60),
    ) {
        let hop_ms = if kind == WindowKind::Fixed { OPTIONS.length_ms } else { 3_000 };
        let mut windows = Windows::new(WindowOptions { kind, detail, hop_ms, gap_ms: 2_000, ..OPTIONS });
        let (mut told, mut taken, mut ms) = (Wall(i64::MIN), Vec::new(), 0);
        for step in steps {
            ms += step;
            windows.push(Wall(ms * 1000), Ok(0.0), &mut |w| {
                told = told.max(Wall(w.start.0 + i64::from(w.length_ms) * 1000));
            });
            taken.push(Wall(ms * 1000));
            for at in &taken {
                prop_assert!(windows.holds(*at) || *at <= told, "{at:?} is neither held nor told up to {told:?}");
            }
            prop_assert!(windows.holds(Wall(ms * 1000)), "the newest is in no window that was told");
        }
        windows.flush(&mut |_| {});
        prop_assert!(!windows.holds(Wall(i64::MAX)));
    }
}
