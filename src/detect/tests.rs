//! Streams on which the detectors must speak, and streams on which they must hold their peace.

use std::f64::consts::TAU;

use super::*;

/// A day of one reading each `step_s`, value by second and noise.
struct Stream {
    rng: fastrand::Rng,
    step_s: i64,
}

impl Stream {
    fn new(seed: u64, step_s: i64) -> Self {
        Self { rng: fastrand::Rng::with_seed(seed), step_s }
    }

    fn gauss(&mut self) -> f64 {
        (-2.0 * (1.0 - self.rng.f64()).ln()).sqrt() * (TAU * self.rng.f64()).cos()
    }

    /// Fresh verdicts of a judge over `seconds` of `signal(second, noise)`, with their second.
    fn judge(
        &mut self,
        quantity: Quantity,
        seconds: i64,
        signal: impl Fn(i64, f64) -> f64,
    ) -> Vec<(i64, Verdict)> {
        let mut judge = Judge::new(quantity, None, true);
        let mut out = Vec::new();
        for s in (0..seconds).step_by(self.step_s as usize) {
            let x = signal(s, self.gauss());
            judge.step(Wall::from_secs(s), Ok(x), &mut |v| out.extend(v.fresh.then_some((s, v))));
        }
        out
    }
}

const DAY_S: i64 = 86_400;

fn daily(s: i64) -> f64 {
    (TAU * s as f64 / DAY_S as f64).sin()
}

#[test]
fn a_calm_noisy_plant_is_calm_for_days() {
    let mut flags = Vec::new();
    for seed in 0..4 {
        flags.extend(Stream::new(seed, 10).judge(Quantity::Temperature, 5 * DAY_S, |s, noise| {
            let x = 20.0 + 3.0 * daily(s) + 0.3 * noise;
            (x * 100.0).round() / 100.0
        }));
        flags.extend(Stream::new(seed, 60).judge(Quantity::Current, 14 * DAY_S, |s, noise| {
            11.0 + 0.1 * noise + if s % 1800 < 900 { 2.0 } else { 0.0 }
        }));
        flags.extend(Stream::new(seed, 5).judge(Quantity::Other, DAY_S, |_, noise| 1e6 + noise));
    }
    // Twelve channels, eighty days: a handful.
    assert!(flags.len() <= 8, "{} flags: {flags:#?}", flags.len());
}

#[test]
fn a_step_out_of_the_past_is_told_at_once_with_its_peak_and_the_usual_value() {
    let flags = Stream::new(3, 10).judge(Quantity::Temperature, 20_000, |s, noise| {
        50.0 + 0.3 * noise + if s >= 15_000 { 12.0 } else { 0.0 }
    });
    let (s, first) = &flags[0];
    assert_eq!(*s, 15_000, "{flags:?}");
    assert!(first.score >= 0.5 && (first.baseline.unwrap() - 50.0).abs() < 0.5);
    assert!(first.reason.words(&Unit("Cel".into())).starts_with("above every value of the last 4 h"));
    assert!(flags.len() <= 2, "one step is one finding: {flags:?}");
}

#[test]
fn a_slow_climb_out_of_the_past_is_told_while_it_climbs() {
    let climb = |s: i64| (s - 10_000).max(0) as f64 * 20.0 / 3000.0;
    let flags =
        Stream::new(4, 5).judge(Quantity::Temperature, 13_000, |s, noise| 50.0 + 0.25 * noise + climb(s));
    let (s, first) = &flags[0];
    assert!((10_001..11_500).contains(s), "{flags:?}");
    assert!(matches!(first.pattern, Pattern::Rise | Pattern::Spike | Pattern::High));
}

#[test]
fn a_short_excursion_is_a_spike_and_a_lasting_one_is_not() {
    let mut judge = Judge::new(Quantity::Pressure, None, true);
    let mut noise = Stream::new(5, 1);
    let mut patterns = Vec::new();
    for s in 0..3000 {
        let burst = (1000..1002).contains(&s) || s >= 2000;
        let x = 5.0 + 0.05 * noise.gauss() + if burst { 3.0 + s as f64 / 1000.0 } else { 0.0 };
        judge.step(Wall::from_secs(s), Ok(x), &mut |v| patterns.push((s, v.pattern)));
    }
    assert_eq!(patterns[..2], [(1000, Pattern::Spike), (1001, Pattern::Spike)]);
    assert!(patterns.iter().any(|&(s, p)| (2005..2100).contains(&s) && p == Pattern::High), "{patterns:?}");
}

#[test]
fn a_course_never_seen_is_told_although_no_value_is_out_of_range() {
    let flags = Stream::new(6, 300).judge(Quantity::Load, 14 * DAY_S, |s, noise| {
        let steady = (10 * DAY_S..10 * DAY_S + 40_000).contains(&s);
        0.02 * noise + if steady { 0.1 } else { (TAU * s as f64 / 7200.0).sin() }
    });
    let in_time = |s: i64| (10 * DAY_S..10 * DAY_S + 50_000).contains(&s);
    assert!(
        flags.iter().any(|(s, v)| in_time(*s) && matches!(v.reason, Reason::OddCourse { .. })),
        "{flags:?}"
    );
    let odd = flags.iter().find(|(_, v)| matches!(v.reason, Reason::OddCourse { .. }));
    let words = odd.unwrap().1.reason.words(&Unit::default());
    let past: u32 =
        words.split("any of the last ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((100..=limits::COURSE_STEPS as u32).contains(&past), "{words}");
}

#[test]
fn a_day_without_its_shift_is_unlike_its_hours() {
    let shift = |s: i64| (9 * 3600..17 * 3600).contains(&(s % DAY_S));
    let run = |missed: i64| {
        Stream::new(7, 300).judge(Quantity::Load, 14 * DAY_S, move |s, noise| {
            20.0 + noise + if shift(s) && s / DAY_S != missed { 60.0 } else { 0.0 }
        })
    };
    let odd = |flags: &[(i64, Verdict)]| -> Vec<i64> {
        let odd = flags.iter().filter(|(_, v)| matches!(v.reason, Reason::OddHour { .. }));
        odd.map(|(s, _)| *s).collect()
    };
    assert_eq!(odd(&run(99)), [0; 0]);
    let flags = run(10);
    let told = odd(&flags);
    assert!(told.iter().all(|s| s / DAY_S == 10) && (1..=2).contains(&told.len()), "{flags:?}");
}

#[test]
fn a_weekend_is_no_finding_once_weekends_are_known() {
    let flags = Stream::new(8, 600).judge(Quantity::Load, 42 * DAY_S, |s, noise| {
        let works = (9 * 3600..17 * 3600).contains(&(s % DAY_S)) && s / DAY_S % 7 < 5;
        20.0 + 0.5 * noise + if works { 60.0 } else { 0.0 }
    });
    let late: Vec<_> = flags.iter().filter(|(s, _)| *s > 21 * DAY_S).collect();
    assert!(late.is_empty(), "{late:?}");
}

#[test]
fn a_mean_that_creeps_within_its_range_is_told_as_a_drift() {
    let run = |creep: f64| {
        let mut cusum = Cusum::default();
        let mut noise = Stream::new(9, 1);
        let step = |s: i64| {
            let days = s as f64 / 1440.0;
            let x = 50.0 + 3.0 * noise.gauss() + 6.0 * daily(60 * s) + creep * (days - 5.0).max(0.0);
            cusum.step(Wall::from_secs(60 * s), x).map(|v| (days, v))
        };
        (0..20 * 1440).filter_map(step).collect::<Vec<_>>()
    };
    assert_eq!(run(0.0), []);
    let (day, first) = &run(2.0)[0];
    assert!((5.5..12.0).contains(day), "{day} {first:?}");
    assert!(
        first.pattern == Pattern::Rise && first.since.unwrap() >= Wall::from_secs(4 * DAY_S),
        "{first:?}"
    );
    assert!(run(-2.0)[0].1.pattern == Pattern::Fall);
}

#[test]
fn a_jump_within_the_range_is_a_spike_and_the_range_itself_is_not() {
    let mut spike = Spike::new();
    let mut noise = Stream::new(10, 1);
    let mut told = Vec::new();
    for s in 0..4000 {
        let wave = 50.0 * (TAU * f64::from(s) / 1000.0).sin();
        let x = wave + noise.gauss() + if s == 3250 { 60.0 } else { 0.0 };
        told.extend(spike.step(Wall::from_secs(s.into()), x).map(|v| (s, v.pattern)));
    }
    assert_eq!(told, [(3250, Pattern::Spike)]);
}

#[test]
fn what_several_detectors_find_at_once_is_one_occurrence() {
    let flags = Stream::new(11, 60)
        .judge(Quantity::Load, 4 * DAY_S, |s, noise| noise + if s >= 3 * DAY_S { 80.0 } else { 0.0 });
    let near = flags.iter().filter(|(s, _)| (3 * DAY_S..3 * DAY_S + 60 * 60).contains(s));
    assert_eq!(near.count(), 1, "{flags:?}");
}

#[test]
fn rules_hold_at_their_times_only_and_learning_goes_on() {
    let options =
        LimitOptions { alarm_high: Some(50.0), times: Duty::parse("22:00-06:00"), ..LimitOptions::default() };
    let mut judge = Judge::new(Quantity::Temperature, Some(options), false);
    let mut hours = Vec::new();
    for hour in 0..24 {
        judge.step(Wall::from_secs(hour * 3600), Ok(60.0), &mut |v| hours.push((hour, v.fresh)));
    }
    let told: Vec<_> = hours.iter().filter(|h| h.1).map(|h| h.0).collect();
    assert_eq!((hours.len(), told), (8, vec![0, 22]));
}

#[test]
fn no_finite_value_and_no_order_of_times_breaks_a_detector() {
    let mut rng = fastrand::Rng::with_seed(9);
    let mut judge = Judge::new(Quantity::Other, Some(LimitOptions::default()), true);
    let extremes = [f64::MAX, f64::MIN, 5e-324, -0.0, 0.0, 1e15, -1e-300];
    for _ in 0..20_000 {
        let x = if rng.bool() { extremes[rng.usize(..extremes.len())] } else { f64::from_bits(rng.u64(..)) };
        judge.step(Wall(rng.i64(..)), Ok(x), &mut |v| {
            assert!((0.5..=1.0).contains(&v.score), "{v:?}");
            assert!(v.baseline.is_none_or(f64::is_finite) && v.peak.is_none_or(f64::is_finite), "{v:?}");
            assert!(!v.reason.words(&Unit::default()).contains('\n'));
        });
    }
}

#[test]
fn a_fast_stream_is_known_by_its_days_in_the_end() {
    let mut course = course::Course::new();
    let mut sum = 0.0;
    let mut strides = vec![1];
    for s in 0..3 * DAY_S {
        sum += f64::from(u8::from(s % 2 == 0));
        if s % i64::from(course.stride()) == 0 {
            course.step(Wall::from_secs(s), sum / f64::from(course.stride()));
            sum = 0.0;
            if course.stride() != *strides.last().unwrap() {
                strides.push(course.stride());
            }
        }
    }
    assert_eq!(*strides.last().unwrap(), 256, "{strides:?}");
}

#[test]
fn reasons_read_like_speech() {
    let unit = Unit("Cel".into());
    let words = |r: Reason| r.words(&unit);
    assert_eq!(
        words(Reason::OutOfRange { up: true, edge: 61.25, span_s: 11_100 }),
        "above every value of the last 3 h 05 min (until now at most 61.25 °C)"
    );
    assert_eq!(
        words(Reason::Flat { for_s: 2400, usual_readings: 3 }),
        "flat for 40 min (usually moves within 3 readings)"
    );
    assert_eq!(
        words(Reason::OddHour { usual: 80.0, days: 9 }),
        "unlike this hour on the last 9 days (usually 80 °C)"
    );
    assert_eq!(words(Reason::Drifted { up: true, from: 41.5 }), "drifting up from a mean of 41.5 °C");
    assert_eq!(words(Reason::OverLimit { up: false, limit: -18.0 }), "below the limit of -18 °C");
    assert_eq!(words(Reason::Silent { for_s: 90, usual_ms: 5000 }), "no value for 90 s (usually every 5 s)");
}
