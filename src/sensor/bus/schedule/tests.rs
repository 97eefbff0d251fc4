//! Chips that fail, hang and come back, in a time that the tests tell.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::I2c as _;

use super::*;
use crate::reading::Quantity;
use crate::sensor::bus::port::Port;
use crate::sensor::chips::{Part, PartOptions, Script};
use crate::time::{BootId, ClockState};

const COLUMNS: &[Column] = &[
    Column { name: "x", quantity: Quantity::Other, unit: "V" },
    Column { name: "y", quantity: Quantity::Other, unit: "V" },
];

type Answers = Rc<RefCell<Vec<Result<f64, ChipError>>>>;

/// Answers by a script of results, and takes `cost_ms` for each read.
struct Fake {
    answers: Answers,
    cost_ms: u32,
    reads: Rc<Cell<u32>>,
}

impl Chip for Fake {
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn read(&mut self, delay: &mut dyn DelayNs, out: &mut Vec<Value>) -> Result<(), ChipError> {
        self.reads.set(self.reads.get() + 1);
        delay.delay_ms(self.cost_ms);
        let mut answers = self.answers.borrow_mut();
        let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0] };
        out.extend([answer.map(Ok)?, Ok(1.0)]);
        Ok(())
    }
}

/// A bus whose time passes only while a chip waits, or when a test says so.
struct Bench {
    now: Rc<Cell<Mono>>,
    deadline: Deadline,
    delay: Patience,
    schedule: Schedule,
}

impl Bench {
    fn new() -> Self {
        let now = Rc::new(Cell::new(Mono(1_000_000)));
        let (seen, slept) = (now.clone(), now.clone());
        let deadline = Deadline::new(Rc::new(move || seen.get()));
        let delay = Patience::new(deadline.clone(), Box::new(move |by| slept.set(slept.get() + by)));
        let schedule = Schedule::new(&Arc::from("bus"), deadline.clone(), now.get());
        Self { now, deadline, delay, schedule }
    }

    fn add(
        &mut self,
        name: &str,
        interval_ms: u64,
        cost_ms: u32,
        answers: &[Result<f64, ChipError>],
    ) -> (Answers, Rc<Cell<u32>>) {
        let (answers, reads) = (Rc::new(RefCell::new(answers.to_vec())), Rc::default());
        let fake = Fake { answers: Rc::clone(&answers), cost_ms, reads: Rc::clone(&reads) };
        let options = ChipOptions {
            name: name.into(),
            part: PartOptions::usual(Part::Sht4x),
            select: 0,
            interval: Duration::from_millis(interval_ms),
            timeout: Duration::from_millis(50),
        };
        self.schedule.add(Box::new(fake), &options).unwrap();
        (answers, reads)
    }

    /// Everything that is read within `ms`.
    fn run(&mut self, ms: u64) -> Vec<Reading> {
        let mut out = Vec::new();
        let end = self.now.get() + Duration::from_millis(ms);
        while self.now.get() < end {
            let begun = self.now.get();
            while let Some(slot) = self.schedule.due_before(begun) {
                let mono = self.now.get();
                let stamp = Stamp {
                    wall: Wall(i64::try_from(mono.0).unwrap()),
                    mono,
                    boot: BootId::default(),
                    uncertainty_us: 0,
                    state: ClockState::Free,
                };
                self.schedule.poll(slot, stamp, &mut self.delay, &mut out);
            }
            self.now.set(self.schedule.next_due().max(self.now.get()).min(end));
        }
        out
    }
}

fn of<'a>(readings: &'a [Reading], channel: &str) -> Vec<&'a Reading> {
    readings.iter().filter(|r| r.channel.as_str() == channel).collect()
}

#[test]
fn every_chip_is_read_at_its_own_interval() {
    let mut bench = Bench::new();
    bench.add("fast", 100, 1, &[Ok(5.0)]);
    bench.add("slow", 1000, 1, &[Ok(7.0)]);
    let readings = bench.run(10_000);
    assert_eq!(of(&readings, "fast.x").len(), 100);
    assert_eq!(of(&readings, "slow.y").len(), 10);
    assert_eq!(of(&readings, "fast.x")[0].value, Ok(5.0));
}

#[test]
fn a_chip_that_hangs_costs_its_neighbours_its_timeout_and_no_more() {
    let mut bench = Bench::new();
    bench.add("stuck", 100, 5000, &[Err(ChipError::NoAnswer)]);
    bench.add("good", 100, 1, &[Ok(1.0)]);
    let readings = bench.run(10_000);
    let good = of(&readings, "good.x");
    let gaps = good.windows(2).map(|pair| pair[1].at.micros_since(pair[0].at));
    assert!(gaps.max().unwrap() <= 150_000, "interval and timeout");
    assert!(good.len() >= 90, "{} reads", good.len());
    assert!(of(&readings, "stuck.x").iter().all(|r| r.value == Err(NoData::TimedOut)));
}

#[test]
fn a_chip_that_keeps_failing_rests_ever_longer_and_its_channels_say_why_all_the_same() {
    let mut bench = Bench::new();
    let (_, reads) = bench.add("gone", 100, 1, &[Err(ChipError::Checksum)]);
    let readings = bench.run(60_000);
    assert_eq!(of(&readings, "gone.x").len(), 600, "never silence");
    assert!(of(&readings, "gone.y").iter().all(|r| r.value == Err(NoData::BadChecksum)));
    // 3 at once, then after 0.2, 0.4, ... 25.6 s.
    assert!((8..=13).contains(&reads.get()), "{} reads of a bus that gives nothing", reads.get());
}

#[test]
fn a_chip_that_is_back_is_read_as_before() {
    let mut bench = Bench::new();
    let (answers, _) = bench.add("air", 100, 1, &[Err(ChipError::NoAnswer)]);
    bench.run(1000);
    *answers.borrow_mut() = vec![Ok(3.0)];
    bench.run(1000);
    let readings = bench.run(1000);
    let values: Vec<Value> = of(&readings, "air.x").iter().map(|r| r.value).collect();
    assert_eq!(values, [Ok(3.0); 10]);
    // And one failure does not make it rest again.
    *answers.borrow_mut() = vec![Err(ChipError::NoAnswer), Ok(4.0)];
    let readings = bench.run(300);
    let values: Vec<Value> = of(&readings, "air.x").iter().map(|r| r.value).collect();
    assert_eq!(values, [Err(NoData::NoAnswer), Ok(4.0), Ok(4.0)]);
}

#[test]
fn what_is_no_number_never_leaves_the_bus() {
    let mut bench = Bench::new();
    bench.add("air", 100, 1, &[Ok(f64::NAN), Ok(f64::INFINITY)]);
    let readings = bench.run(200);
    let values: Vec<Value> = of(&readings, "air.x").iter().map(|r| r.value).collect();
    assert_eq!(values, [Err(NoData::NotANumber), Err(NoData::Infinite)]);
}

#[test]
fn a_read_that_fails_half_way_gives_no_half_of_the_values() {
    let mut bench = Bench::new();
    bench.add("air", 100, 1, &[Err(ChipError::NotReady)]);
    let readings = bench.run(100);
    assert_eq!(readings.len(), 2);
    assert!(readings.iter().all(|r| r.value == Err(NoData::TimedOut)));
}

#[test]
fn the_bus_is_closed_to_a_chip_whose_time_is_over() {
    let bench = Bench::new();
    let mut port = Port::new(Script::new([]), bench.deadline.clone());
    bench.deadline.set(bench.now.get() + Duration::from_millis(5));
    assert_ne!(port.write(0x44, &[]), Err(embedded_hal::i2c::ErrorKind::Other), "the bus itself answers");
    bench.now.set(bench.now.get() + Duration::from_millis(5));
    assert_eq!(port.write(0x44, &[]), Err(embedded_hal::i2c::ErrorKind::Other));
}

#[test]
fn a_name_that_no_channel_can_have_is_refused() {
    let mut bench = Bench::new();
    let chip = PartOptions::usual(Part::Sht4x).on_i2c(Script::new([])).unwrap();
    let options = ChipOptions {
        name: "Küche".into(),
        part: PartOptions::usual(Part::Sht4x),
        select: 0,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
    };
    assert!(matches!(bench.schedule.add(chip, &options), Err(SourceError::Name { .. })));
}
