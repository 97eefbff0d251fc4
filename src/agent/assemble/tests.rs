//! What an assembler makes of whole streams.

use super::*;
use crate::detect::{GroupOptions, LimitOptions, RuleOptions};
use crate::episode::Phase;
use crate::frame::{FrameOptions, ModelName};
use crate::reading::{NoData, Pattern, Quantity, Severity, Value};

const PLANT: Source = Source(0);
const HOST: Source = Source(1);

struct Bench {
    assembler: Assembler,
    out: Vec<Record>,
}

impl Bench {
    fn new(options: AssembleOptions) -> Self {
        Self { assembler: Assembler::new(options), out: Vec::new() }
    }

    fn with_limit(channel: &str, warn_high: f64) -> Self {
        let limits = LimitOptions { warn_high: Some(warn_high), ..LimitOptions::default() };
        let own = ChannelOptions { limits: Some(limits), ..ChannelOptions::default() };
        let configured = ChannelId::new(channel).unwrap();
        let of =
            move |id: &ChannelId| if *id == configured { own.clone() } else { ChannelOptions::default() };
        let channels = ChannelBook::new(of);
        Self::new(AssembleOptions { channels, first_episode_id: 1, ..AssembleOptions::default() })
    }

    fn push(&mut self, channel: &str, s: i64, value: Value) {
        self.push_at(channel, Wall::from_secs(s), value);
    }

    fn push_at(&mut self, channel: &str, at: Wall, value: Value) {
        let channel = ChannelId::new(channel).unwrap();
        self.assembler.push(PLANT, &Reading::new(channel, at, value), &mut self.out);
    }

    fn tick(&mut self, s: i64) {
        self.assembler.tick(PLANT, Wall::from_secs(s), &mut self.out);
    }

    fn steps(&self) -> Vec<(Phase, Pattern)> {
        let step = |r: &Record| match r {
            Record::Episode(u) => Some((u.phase, u.pattern)),
            _ => None,
        };
        self.out.iter().filter_map(step).collect()
    }

    fn windows(&self) -> Vec<(i64, u32)> {
        let window = |r: &Record| match r {
            Record::Window(w) => Some((w.start.0 / 1_000_000, w.count)),
            _ => None,
        };
        self.out.iter().filter_map(window).collect()
    }
}

fn lively(s: i64) -> Value {
    Ok((s * 7 % 11) as f64)
}

#[test]
fn a_limit_crossed_for_an_hour_is_one_alarm_with_its_limit_in_the_facts() {
    let mut bench = Bench::with_limit("pump1.bearing_temp", 80.0);
    for s in 0..7200 {
        let hot = (2000..5600).contains(&s);
        bench.push("pump1.bearing_temp", s, Ok(if hot { 90.0 } else { 60.0 } + (s % 5) as f64));
        bench.push("pump1.vibration", s, lively(s));
    }
    let steps = bench.steps();
    assert_eq!(steps.first(), Some(&(Phase::Opened, Pattern::High)));
    assert_eq!(steps.last(), Some(&(Phase::Closed, Pattern::High)));
    assert!(steps.len() <= 5, "{steps:?}");
    let facts = bench.assembler.facts(&Mark::default());
    let event = &facts.events[0];
    assert_eq!((event.severity, event.limit, event.peak), (Severity::Warning, Some(80.0), Some(94.0)));
    assert_eq!((event.start, event.duration_s, event.ongoing), (Wall::from_secs(2000), 3599, false));
    assert!((event.baseline.unwrap() - 62.0).abs() < 2.0);
    assert_eq!((facts.channels_normal, facts.readings), (1, 14_400));
    assert_eq!((facts.from, facts.to), (Wall::from_secs(0), Wall::from_secs(7199)));
}

#[test]
fn facts_speak_of_the_time_since_the_mark_only() {
    let mut bench = Bench::with_limit("a.x", 10.0);
    let run = |bench: &mut Bench, from: i64, x: f64| {
        (from..from + 10).for_each(|s| bench.push("a.x", s, Ok(x)));
        (from + 10..from + 300).for_each(|s| bench.push("a.x", s, Ok(5.0)));
    };
    run(&mut bench, 0, 20.0);
    let mark = bench.assembler.mark();
    assert_eq!(bench.assembler.facts(&mark).events, []);
    run(&mut bench, 300, 30.0);
    let facts = bench.assembler.facts(&mark);
    assert_eq!((facts.events.len(), facts.events[0].peak, facts.readings), (1, Some(30.0), 300));
    assert_eq!((facts.from, facts.to), (Wall::from_secs(299), Wall::from_secs(599)));
    let both = bench.assembler.facts(&Mark::default());
    assert_eq!((both.events.len(), both.events[0].count), (1, Some(2)), "alike episodes are one event");
}

#[test]
fn a_citation_reaches_the_facts_and_grows_with_each_record() {
    let mut bench = Bench::with_limit("a.x", 10.0);
    bench.push("a.x", 0, Ok(20.0));
    let cite = |seq| Citation { lane: crate::wire::Lane::Alarm, first: seq, last: seq };
    bench.assembler.cite(1, cite(41), Mono(0));
    bench.assembler.cite(1, cite(44), Mono(0));
    bench.assembler.cite(99, cite(7), Mono(0));
    let facts = bench.assembler.facts(&Mark::default());
    assert_eq!(facts.events[0].cites, Some(Citation { first: 41, ..cite(44) }));
    assert!(facts.events[0].ongoing);
}

#[test]
fn a_silent_channel_is_missing_until_it_speaks_again() {
    let mut bench = Bench::new(AssembleOptions::default());
    (0..100).for_each(|s| {
        bench.tick(s);
        bench.push("a.x", s, lively(s));
    });
    (100..200).for_each(|s| bench.tick(s));
    assert_eq!(bench.steps(), [(Phase::Opened, Pattern::Missing)]);
    bench.push("a.x", 200, lively(200));
    assert_eq!(bench.steps()[1..], [(Phase::Closed, Pattern::Missing)]);
    let facts = bench.assembler.facts(&Mark::default());
    assert_eq!(facts.events[0].start, Wall::from_secs(99));
}

#[test]
fn a_sensor_that_answers_without_a_value_is_missing_too() {
    let mut bench = Bench::new(AssembleOptions::default());
    (0..100).for_each(|s| bench.push("a.x", s, lively(s)));
    (100..200).for_each(|s| bench.push("a.x", s, Err(NoData::ReadFailed)));
    assert_eq!(bench.steps(), [(Phase::Opened, Pattern::Missing)]);
}

/// Every reading without a value moved the channel's time on, and the clock added the silence to it once more: twice as long
/// a silence was told, in half of the time.
#[test]
fn a_sensor_without_a_value_is_missing_no_sooner_than_one_that_says_nothing() {
    let opened = |says: &dyn Fn(i64) -> Option<Wall>| {
        let mut bench = Bench::new(AssembleOptions::default());
        for s in 0..200 {
            bench.tick(s);
            if s < 100 {
                bench.push("a.x", s, lively(s));
            } else if let Some(at) = says(s) {
                bench.push_at("a.x", at, Err(NoData::NoAnswer));
            }
            if !bench.steps().is_empty() {
                return s;
            }
        }
        panic!("never missed")
    };
    let silent = opened(&|_| None);
    let now = |s| Some(Wall::from_secs(s));
    assert_eq!([opened(&now), opened(&|s| now(s).filter(|_| s == 100))], [silent; 2]);
    // Of a channel with a time of its own nobody knows what it is when the silence is told.
    let behind = Some(Wall(Wall::from_secs(99).0 + 1));
    assert_eq!(opened(&|s| behind.filter(|_| s == 102)), silent);
}

#[test]
fn an_idle_channel_gets_its_last_window_by_the_clock_even_if_its_own_time_is_1970() {
    let mut bench = Bench::new(AssembleOptions::default());
    let wall = 1_790_000_000;
    for s in 0..90 {
        bench.tick(wall + s);
        bench.push("a.x", s, lively(s));
    }
    (90..200).for_each(|s| bench.tick(wall + s));
    assert_eq!(bench.windows(), [(0, 60), (60, 30)]);
    assert_eq!(bench.assembler.late(), 0);
}

#[test]
fn a_clock_set_right_and_set_back_is_declared_and_judging_goes_on() {
    let mut bench = Bench::with_limit("a.x", 100.0);
    (0..200).for_each(|s| bench.push("a.x", s, lively(s)));
    let set_right = 1_790_000_000;
    (0..200).for_each(|s| bench.push("a.x", set_right + s, lively(s)));
    assert_eq!(bench.assembler.late(), 0);
    (0..200).for_each(|s| bench.push("a.x", 500 + s, lively(s)));
    let notices = bench.out.iter().filter(|r| matches!(r, Record::Notice(n) if n.code == "clock_set_back"));
    assert_eq!(notices.count(), 1);
    bench.push("a.x", 700, Ok(150.0));
    assert_eq!(bench.steps().last(), Some(&(Phase::Opened, Pattern::High)));
}

#[test]
fn a_replay_and_the_host_do_not_share_a_clock() {
    let mut bench = Bench::new(AssembleOptions::default());
    let host = ChannelId::new("host.cpu").unwrap();
    for s in 0..100 {
        bench.push("plant.x", s * 60, lively(s));
        bench.tick(s * 60);
        let at = Wall::from_secs(1_790_000_000 + s);
        bench.assembler.tick(HOST, at, &mut bench.out);
        let reading = Reading::new(host.clone(), at, lively(s));
        bench.assembler.push(HOST, &reading, &mut bench.out);
    }
    assert_eq!(bench.steps(), []);
    let facts = bench.assembler.facts(&Mark::default());
    assert_eq!(facts.channels_normal, 2);
    assert!(facts.to.micros_since(facts.from) < 6_000_000_000, "a period is told in the time of one source");
    bench.assembler.end(PLANT, &mut bench.out);
    (0..1000).for_each(|s| bench.assembler.tick(HOST, Wall::from_secs(1_790_000_100 + s), &mut bench.out));
    assert_eq!(bench.steps(), [(Phase::Opened, Pattern::Missing)], "only the host's channel is missed");
}

/// A template of a log that had to go reported nought for ever, and then was missed.
#[test]
fn a_channel_that_is_no_more_tells_its_last_window_is_not_missed_and_gives_its_place_away() {
    let mut bench = Bench::new(AssembleOptions::default());
    for s in 0..90 {
        bench.tick(s);
        ["log.a", "log.b", "log.c"].iter().for_each(|channel| bench.push(channel, s, lively(s)));
    }
    bench.assembler.retire(&ChannelId::new("log.a").unwrap(), &mut bench.out);
    assert_eq!(bench.windows().last(), Some(&(60, 30)));
    let told = bench.out.len();
    for s in 90..400 {
        bench.tick(s);
        ["log.b", "log.c"].iter().for_each(|channel| bench.push(channel, s, lively(s)));
    }
    assert_eq!((bench.steps(), bench.assembler.channels()), (vec![], 2));
    let of = |r: &Record| if let Record::Window(w) = r { w.channel.to_string() } else { String::new() };
    let later: std::collections::BTreeSet<_> = bench.out[told..].iter().map(of).collect();
    assert_eq!(later, ["log.b", "log.c"].map(String::from).into());
    bench.push("log.a", 400, Ok(1.0));
    assert_eq!(bench.assembler.channels(), 3, "what comes back begins anew");
}

#[test]
fn channels_beyond_the_bound_are_counted_and_refused() {
    let mut bench = Bench::new(AssembleOptions { learning_off: true, ..AssembleOptions::default() });
    (0..limits::CHANNELS_MAX + 5).for_each(|i| bench.push(&format!("a.x{i}"), 0, Ok(1.0)));
    assert_eq!((bench.assembler.channels(), bench.assembler.refused()), (limits::CHANNELS_MAX, 5));
}

#[test]
fn the_configuration_has_the_last_word_on_a_description() {
    let mut bench = Bench::new(AssembleOptions::default());
    let id = ChannelId::new("a.temp").unwrap();
    let own = ChannelOptions { label: Some("Bearing".into()), ..ChannelOptions::default() };
    bench.assembler.options.channels = ChannelBook::new(move |_| own.clone());
    let described =
        ChannelInfo { label: "sensor 7".into(), unit: Unit("[degF]".into()), ..ChannelInfo::guess(&id) };
    assert!(bench.assembler.describe(PLANT, described));
    let info = bench.assembler.info("a.temp").unwrap();
    assert_eq!((info.label.as_str(), info.unit.symbol()), ("Bearing", "°F"));
}

/// The records of `bench` that are readings.
fn kept(bench: &Bench) -> Vec<Value> {
    let readings = bench.out.iter().filter_map(|record| match record {
        Record::Reading(reading) => Some(reading.value),
        _ => None,
    });
    readings.collect()
}

#[test]
fn a_unit_that_the_source_gives_is_converted_and_one_that_was_guessed_is_only_renamed() {
    let own = ChannelOptions { unit: Some(Unit("[degF]".into())), ..ChannelOptions::default() };
    let book = ChannelBook::new(move |_| own.clone());
    let mut bench = Bench::new(AssembleOptions { raw: true, channels: book, ..AssembleOptions::default() });
    let given = ChannelInfo::given(&ChannelId::new("a.temp").unwrap(), Quantity::Temperature, "Cel");
    assert!(bench.assembler.describe(PLANT, given));
    bench.push("a.temp", 0, Ok(100.0));
    bench.push("b.temp", 0, Ok(100.0));
    let kept = kept(&bench);
    assert!(kept[0].is_ok_and(|f| (f - 212.0).abs() < 1e-9) && kept[1] == Ok(100.0), "{kept:?}");
    assert!(["a.temp", "b.temp"].iter().all(|c| bench.assembler.info(c).unwrap().unit.0 == "[degF]"));
}

#[test]
fn calibration_comes_before_everything_that_judges_and_a_value_that_cannot_be_is_none() {
    let own = ChannelOptions {
        source_unit: Some(Unit("[psi]".into())),
        unit: Some(Unit("kPa".into())),
        treatment: Treatment { scale: Some(2.0), range_high: Some(100.0), ..Treatment::default() },
        ..ChannelOptions::default()
    };
    let book = ChannelBook::new(move |_| own.clone());
    let mut bench = Bench::new(AssembleOptions { raw: true, channels: book, ..AssembleOptions::default() });
    [Ok(5.0), Ok(9.0), Err(NoData::NoAnswer)].into_iter().for_each(|value| bench.push("a.press", 0, value));
    let kept = kept(&bench);
    assert!(kept[0].is_ok_and(|kpa| (kpa - 68.947_572_9).abs() < 1e-6), "{kept:?}");
    assert_eq!(kept[1..], [Err(NoData::OutOfRange), Err(NoData::NoAnswer)]);
    let doubts = |bench: &Bench| bench.assembler.doubtful().map(|(_, q, why)| (q, why)).collect::<Vec<_>>();
    assert_eq!(doubts(&bench), [(Quality::Bad, Some(NoData::NoAnswer))]);
    bench.push("a.press", 3, Ok(5.0));
    assert_eq!(doubts(&bench), []);
}

/// What a judge has learnt took days: a new label must not cost it.
#[test]
fn another_configuration_keeps_what_was_learnt_of_channels_that_it_leaves_alone() {
    let limits = |high: f64| ChannelOptions {
        limits: Some(LimitOptions { alarm_high: Some(high), ..LimitOptions::default() }),
        ..ChannelOptions::default()
    };
    let steps = |label: &str| {
        let mut bench = Bench::new(AssembleOptions::default());
        (0..400).for_each(|s| bench.push("a.x", s, lively(s)));
        let renamed = ChannelOptions { label: Some(label.into()), ..ChannelOptions::default() };
        bench.assembler.reconfigure(ChannelBook::new(move |_| renamed.clone()), false);
        assert_eq!(bench.assembler.info("a.x").unwrap().label, label);
        (400..420).for_each(|s| bench.push("a.x", s, Ok(1e6)));
        bench.steps()
    };
    assert!(!steps("pump").is_empty(), "what was never seen is still noticed");
    let mut bench = Bench::new(AssembleOptions { learning_off: true, ..AssembleOptions::default() });
    bench.push("a.x", 0, Ok(50.0));
    bench.assembler.reconfigure(ChannelBook::new(move |_| limits(10.0)), false);
    bench.push("a.x", 1, Ok(50.0));
    assert_eq!(bench.steps(), [(Phase::Opened, Pattern::High)], "a new limit holds from the next reading");
}

#[test]
fn no_times_values_or_ticks_break_the_assembler() {
    let mut rng = fastrand::Rng::with_seed(11);
    let mut bench = Bench::with_limit("a.x", 1.0);
    for _ in 0..20_000 {
        let at = if rng.bool() { Wall(rng.i64(..)) } else { Wall(rng.i64(0..1_000_000_000)) };
        let value = crate::reading::value_from_f64(f64::from_bits(rng.u64(..)));
        let reading = Reading::new(ChannelId::new("a.x").unwrap(), at, value);
        match rng.u8(0..10) {
            0 => bench.assembler.tick(PLANT, Wall(rng.i64(..)), &mut bench.out),
            1 => drop(bench.assembler.facts(&Mark::default())),
            _ => bench.assembler.push(PLANT, &reading, &mut bench.out),
        }
        bench.out.clear();
    }
    bench.assembler.flush(&mut bench.out);
}

/// A gateway without a battery boots in 1970 and sets its clock as soon as it has a line: every channel seemed to have
/// been silent for half a century.
#[test]
fn a_clock_that_is_set_makes_nobody_silent_and_a_silence_after_it_is_found() {
    let day_s = 86_400;
    let silent = |told: bool| {
        let mut bench = Bench::new(AssembleOptions { first_episode_id: 1, ..AssembleOptions::default() });
        for s in 0..60 {
            bench.push("host.load", s, lively(s));
            bench.tick(s);
        }
        if told {
            bench.assembler.clock_set(PLANT, day_s * 1_000_000);
        }
        bench.tick(60 + day_s);
        let at_once = bench.steps().len();
        for s in 60 + day_s..120 + day_s {
            bench.push("host.load", s, lively(s));
            bench.tick(s);
        }
        let before = bench.steps().len();
        (120 + day_s..180 + day_s).for_each(|s| bench.tick(s));
        (at_once, bench.steps().get(before).copied())
    };
    assert_eq!(silent(true), (0, Some((Phase::Opened, Pattern::Missing))));
    assert_eq!(silent(false).0, 1, "untold, the step looks like a silence");
}

/// Channels of one pump that follow its load, and a sensor that no longer does while it stays in its range.
#[test]
fn a_channel_that_leaves_its_group_is_told_although_no_detector_of_its_own_sees_it() {
    let name = crate::frame::ModelName::new("pump2").unwrap();
    let ids = ["pump2.current", "pump2.flow", "pump2.vibration", "pump2.never"];
    let run = |members: &[&str]| {
        let channels = members.iter().map(|id| ChannelId::new(id).unwrap()).collect();
        let groups = vec![GroupOptions { name, channels, every_ms: 10_000 }];
        let mut bench =
            Bench::new(AssembleOptions { groups, learning_off: true, ..AssembleOptions::default() });
        let mut rng = fastrand::Rng::with_seed(8);
        for s in (0..50_000).step_by(5) {
            let load = (s as f64 / 2000.0).sin() + 0.3 * (s as f64 / 370.0).sin();
            let frozen = (40_000..42_000).contains(&s);
            bench.push(ids[0], s, Ok(12.0 + 2.0 * load + 0.1 * rng.f64()));
            bench.push(ids[1], s, Ok(if frozen { 30.0 } else { 30.0 + 5.0 * load } + 0.2 * rng.f64()));
            if s % 20 == 0 {
                bench.push(ids[2], s, Ok(2.0 + 0.5 * load + 0.02 * rng.f64()));
            }
        }
        bench
    };
    let bench = run(&ids[..3]);
    let steps: Vec<&EpisodeUpdate> =
        bench.out.iter().filter_map(|r| if let Record::Episode(e) = r { Some(e) } else { None }).collect();
    let opened = steps.first().expect("an episode");
    assert_eq!((opened.phase, opened.channel.as_str()), (Phase::Opened, "pump2.flow"));
    assert!((40_000..40_600).contains(&(opened.start.0 / 1_000_000)), "{opened:?}");
    assert!(opened.reason.starts_with("does not fit the other channels of pump2"), "{}", opened.reason);
    assert!(steps.iter().all(|e| e.channel == opened.channel), "{steps:#?}");
    assert_eq!(steps.last().map(|e| e.phase), Some(Phase::Closed));
    assert_eq!(run(&ids).steps(), [], "without its last member a group has nothing to compare");
}

#[test]
fn a_rule_over_two_channels_is_one_alarm_on_its_first_and_a_silent_channel_ends_it() {
    let conditions = ["pump2.current > 14", "pump2.flow < 3"];
    let rule = RuleOptions {
        name: crate::frame::ModelName::new("dry_run").unwrap(),
        all: conditions.iter().map(|text| crate::detect::Condition::parse(text).unwrap()).collect(),
        any: Vec::new(),
        severity: Severity::Critical,
        dwell_s: 10,
        times: None,
    };
    let options = AssembleOptions { rules: vec![rule], learning_off: true, ..AssembleOptions::default() };
    let mut bench = Bench::new(options);
    for s in 0..900 {
        let dry = (100..300).contains(&s) || s >= 700;
        bench.tick(s);
        bench.push("pump2.current", s, Ok(if dry { 15.0 } else { 12.0 } + (s % 3) as f64 / 10.0));
        if s < 720 {
            bench.push("pump2.flow", s, Ok(if dry || s > 400 && s < 500 { 1.0 } else { 30.0 }));
        }
    }
    let steps: Vec<(Phase, &str, Pattern, i64)> = bench
        .out
        .iter()
        .filter_map(|r| if let Record::Episode(e) = r { Some(e) } else { None })
        .map(|e| (e.phase, e.channel.as_str(), e.pattern, e.start.0 / 1_000_000))
        .collect();
    let (current, flow) = ("pump2.current", "pump2.flow");
    assert_eq!(
        steps,
        [
            (Phase::Opened, current, Pattern::High, 100),
            (Phase::Closed, current, Pattern::High, 100),
            (Phase::Opened, current, Pattern::High, 700),
            (Phase::Opened, flow, Pattern::Missing, 719),
            (Phase::Closed, current, Pattern::High, 700),
        ]
    );
}

/// Readings are numbered by the spool; the test stands in for it.
fn number(bench: &mut Bench, from: usize, number: &mut u64) {
    let readings =
        bench.out[from..].iter().filter_map(|r| if let Record::Reading(r) = r { Some(r) } else { None });
    for reading in readings {
        *number += 1;
        bench.assembler.numbered(reading, *number);
    }
}

#[test]
fn a_step_says_which_readings_prove_its_episode_clipped_or_all_kept() {
    for (raw, clip_readings) in [(true, 0), (false, 10)] {
        let limits = LimitOptions { warn_high: Some(80.0), ..LimitOptions::default() };
        let own = ChannelOptions { limits: Some(limits), ..ChannelOptions::default() };
        let channels = ChannelBook::new(move |_| own.clone());
        let options = AssembleOptions {
            raw,
            clip_readings,
            channels,
            learning_off: true,
            ..AssembleOptions::default()
        };
        let mut bench = Bench::new(options);
        let (mut last, mut steps) = (0, Vec::new());
        for s in 0..400 {
            let from = bench.out.len();
            bench.push("a.x", s, Ok(if (100..160).contains(&s) { 90.0 } else { 60.0 }));
            bench.push("a.y", s, Ok(1.0));
            number(&mut bench, from, &mut last);
            for record in bench.out[from..].iter().cloned() {
                if let Record::Episode(mut step) = record {
                    bench.assembler.prove(&mut step);
                    steps.push((step.phase, step.evidence.map(|e| (e.first, e.last)), s));
                }
            }
        }
        // All kept, there are two records a second, from 1; of a clip there are 10 before and 10 from the begin on.
        let expected = if raw {
            [(Phase::Opened, Some((201, 201)), 100), (Phase::Closed, Some((201, 561)), 280)]
        } else {
            [(Phase::Opened, Some((1, 10)), 100), (Phase::Closed, Some((1, 20)), 280)]
        };
        assert_eq!(steps, expected);
        assert!(!bench.assembler.wants_numbers(), "what has ended is forgotten");
    }
}

#[test]
fn what_a_reading_is_worth_goes_along_with_it_kept_or_clipped() {
    for (raw, clip_readings) in [(true, 0), (false, 5)] {
        let table = Some([(0.0, 0.0), (50.0, 50.0)].as_slice().into());
        let limits = LimitOptions { warn_high: Some(80.0), ..LimitOptions::default() };
        let own = ChannelOptions {
            treatment: Treatment { table, ..Treatment::default() },
            limits: Some(limits),
            ..ChannelOptions::default()
        };
        let channels = ChannelBook::new(move |_| own.clone());
        let options = AssembleOptions {
            raw,
            clip_readings,
            channels,
            learning_off: true,
            ..AssembleOptions::default()
        };
        let mut bench = Bench::new(options);
        for (s, x) in [Ok(40.0), Ok(60.0), Err(NoData::NoAnswer), Ok(90.0)].into_iter().enumerate() {
            bench.push("a.x", s as i64, x);
        }
        bench.assembler.flush(&mut bench.out);
        let worth = |r: &Record| if let Record::Reading(r) = r { Some(r.quality) } else { None };
        let kept: Vec<Quality> = bench.out.iter().filter_map(worth).collect();
        assert_eq!(kept, [Quality::Good, Quality::Uncertain, Quality::Bad, Quality::Uncertain]);
    }
}

/// One stamp years ahead once made nineteen readings late, until the clock was taken to be set back.
#[test]
fn a_stray_stamp_ahead_blinds_nobody_and_a_clock_that_was_set_is_followed() {
    let day = 24 * 3600;
    let mut bench = Bench::new(AssembleOptions { raw: true, ..AssembleOptions::default() });
    bench.assembler.set_live(PLANT, true);
    let newest = |bench: &Bench| bench.assembler.channels[0].windows.newest();
    for s in 0..200 {
        bench.tick(s);
        bench.push("a.x", s, lively(s));
        if s % 50 == 49 {
            bench.push("a.x", s + 400 * day, lively(s));
        }
    }
    assert_eq!(newest(&bench), Some(Wall::from_secs(199)));
    assert_eq!(bench.assembler.channels[0].windows.late(), 0);
    // A door that nobody opens for days has moved on with its source's clock.
    bench.tick(5 * day);
    bench.push("a.x", 5 * day, Ok(1.0));
    assert_eq!(newest(&bench), Some(Wall::from_secs(5 * day)));
    // Its clock was set: the third one is believed.
    (0..3).for_each(|s| bench.push("a.x", 900 * day + s, Ok(1.0)));
    assert_eq!(newest(&bench), Some(Wall::from_secs(900 * day + 2)));
    // The agent's own clock was set, as it is after a start in 1970: the first stamp by the new one is believed.
    bench.push("a.x", 900 * day + 3, Ok(1.0));
    let step = 100 * day;
    bench.assembler.clock_set(PLANT, step * 1_000_000);
    bench.push("a.x", 900 * day + 4 + step, Ok(1.0));
    assert_eq!(newest(&bench), Some(Wall::from_secs(900 * day + 4 + step)));
    // A recording may have gaps.
    bench.assembler.set_live(PLANT, false);
    bench.push("a.x", 2000 * day, Ok(1.0));
    assert_eq!(newest(&bench), Some(Wall::from_secs(2000 * day)));
}

#[test]
fn what_a_source_gave_is_held_until_its_window_is_told() {
    let at = Wall::from_secs;
    let mut bench = Bench::new(AssembleOptions { raw: false, ..AssembleOptions::default() });
    (0..50).for_each(|s| bench.push("a.x", s, Ok(1.0)));
    assert!(bench.assembler.holds(PLANT, at(49)) && !bench.assembler.holds(HOST, at(49)));
    (50..70).for_each(|s| bench.push("a.x", s, Ok(1.0)));
    assert_eq!(bench.windows(), [(0, 60)]);
    assert!(!bench.assembler.holds(PLANT, at(59)) && bench.assembler.holds(PLANT, at(60)));
    bench.assembler.settle(PLANT, &mut bench.out);
    assert_eq!(bench.windows(), [(0, 60), (60, 10)]);
    assert!(!bench.assembler.holds(PLANT, at(70)));

    let mut kept = Bench::new(AssembleOptions { raw: true, ..AssembleOptions::default() });
    kept.push("a.x", 0, Ok(1.0));
    assert!(!kept.assembler.holds(PLANT, at(0)), "it is a record of its own");
}

/// A small model that looks at `a.temp` and wants it in degrees Celsius, and the frames that it gets of readings of 212.
fn looked_at(described: &ChannelInfo) -> (Bench, Vec<Job>) {
    let watch = WatchOptions {
        model: 0,
        name: ModelName::new("freezer").unwrap(),
        channels: vec![described.id.clone()],
        units: vec![Unit("Cel".into())],
        frames: FrameOptions { channels: 1, step_ms: 1000, length: 2, hop: 1 },
    };
    let options = AssembleOptions { watches: vec![watch], learning_off: true, ..AssembleOptions::default() };
    let mut bench = Bench::new(options);
    assert!(bench.assembler.describe(PLANT, described.clone()));
    (0..3).for_each(|s| bench.push("a.temp", s, Ok(212.0)));
    let frames = bench.assembler.take_frames();
    (bench, frames)
}

/// What was recorded in degrees Fahrenheit was shown to a model of degrees Celsius as it was.
#[test]
fn a_model_sees_a_channel_in_the_unit_of_its_manifest_and_its_verdict_is_told_in_the_channels() {
    let id = ChannelId::new("a.temp").unwrap();
    let given = |unit| ChannelInfo::given(&id, Quantity::Temperature, unit);
    let (mut bench, mut frames) = looked_at(&given("[degF]"));
    let Job { model, frame } = frames.remove(0);
    assert!(frame.rows[0].iter().all(|x| (x - 100.0).abs() < 1e-9), "{frame:?}");
    let judgement =
        Judgement { model, frame, score: 2.0, threshold: 1.0, class: None, worst: Some((0, 1, 50.0)) };
    let mut out = Vec::new();
    bench.assembler.judged(&judgement, &mut out);
    let Some(Record::Episode(step)) = out.first() else { panic!("{out:?}") };
    let near = |found: Option<f64>, wanted: f64| found.is_some_and(|found| (found - wanted).abs() < 1e-9);
    assert!(near(step.baseline, 122.0) && near(step.peak, 212.0), "{step:?}");
    // What was guessed from a name is no unit; what measures something else is not looked at.
    let (_, frames) = looked_at(&ChannelInfo { unit: Unit("[degF]".into()), ..ChannelInfo::guess(&id) });
    assert_eq!(frames[0].frame.rows[0], [212.0, 212.0]);
    assert!(looked_at(&given("bar")).1.is_empty());
}
