//! The spool against a model of it: a list of what was promised and a set of what was released.
//!
//! Any sequence of admissions, commits (refused ones and lying ones), fetches, acknowledgements in and out of order,
//! rotten blocks, damaged databases, rotations and kills leaves every promised record either where it was, released, or under a gap; and the books
//! balance after every step.

use std::collections::{BTreeMap, BTreeSet};

use outpost::spool::{MemDisk, MemShelf, Options, Segments, Sizes, Spool, WhenFull};
use outpost::wire::{Lane, Record, decode_block};
use proptest::prelude::*;

use super::{assert_balanced, notice, reading, stamp, walk};

#[derive(Debug, Clone)]
enum Step {
    Admit { raw: u16, alarms: u16 },
    Commit,
    RefuseNext(u32),
    LieNext,
    Fetch { lane: bool, from: u64 },
    Acknowledge { lane: bool, blocks: usize },
    AcknowledgeOne { lane: bool, skip: usize },
    Rot { nth: usize },
    Damage { nth: usize },
    Tidy,
    DiskLow(bool),
    Kill,
    Walk,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..300_u16, 0..3_u16).prop_map(|(raw, alarms)| Step::Admit { raw, alarms }),
        6 => Just(Step::Commit),
        1 => (1..4_u32).prop_map(Step::RefuseNext),
        1 => Just(Step::LieNext),
        2 => (any::<bool>(), 0..2000_u64).prop_map(|(lane, from)| Step::Fetch { lane, from }),
        3 => (any::<bool>(), 1..5_usize).prop_map(|(lane, blocks)| Step::Acknowledge { lane, blocks }),
        1 => (any::<bool>(), 0..5_usize).prop_map(|(lane, skip)| Step::AcknowledgeOne { lane, skip }),
        1 => (0..50_usize).prop_map(|nth| Step::Rot { nth }),
        2 => (0..5_usize).prop_map(|nth| Step::Damage { nth }),
        6 => Just(Step::Tidy),
        1 => any::<bool>().prop_map(Step::DiskLow),
        2 => Just(Step::Kill),
        2 => Just(Step::Walk),
    ]
}

struct World {
    spool: Spool<Segments<MemShelf>>,
    shelf: MemShelf,
    sizes: Sizes,
    options: Options,
    /// Numbered records by lane; those over `durable_through` are not promised.
    admitted: [BTreeMap<u64, Record>; 2],
    released: [BTreeSet<u64>; 2],
    serial: u64,
}

const LANES: [Lane; 2] = [Lane::Raw, Lane::Alarm];

impl World {
    fn new(raw: WhenFull, sizes: Sizes, lane_bytes_max: [Option<u64>; 4]) -> Self {
        let when_full = [WhenFull::RefuseNewest, WhenFull::DropOldest, WhenFull::Thin, raw];
        let options = Options {
            bytes_max: 6_000,
            lane_bytes_max,
            reserved_percent: [30, 0, 0, 10],
            when_full,
            ..Options::default()
        };
        let shelf = MemShelf::default();
        let spool = Spool::open(Segments::open(shelf.clone(), sizes).unwrap(), options.clone()).unwrap();
        World {
            spool,
            shelf,
            sizes,
            options,
            admitted: Default::default(),
            released: Default::default(),
            serial: 0,
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Admit { raw, alarms } => self.admit(raw, alarms),
            Step::Commit => drop(self.spool.commit(stamp(self.serial as i64))),
            Step::RefuseNext(n) => self.active(|disk| disk.applies_failing = n),
            Step::LieNext => self.active(|disk| disk.applies_lying = 1),
            Step::Fetch { lane, from } => drop(self.spool.fetch(LANES[usize::from(lane)], from, stamp(0))),
            Step::Acknowledge { lane, blocks } => self.acknowledge(usize::from(lane), 0, blocks, true),
            Step::AcknowledgeOne { lane, skip } => self.acknowledge(usize::from(lane), skip, 1, false),
            Step::Rot { nth } => self.rot(nth),
            Step::Damage { nth } => self.damage(nth),
            Step::Tidy => drop(self.spool.tidy()),
            Step::DiskLow(low) => self.spool.set_disk_low(low),
            Step::Kill => self.kill(),
            Step::Walk => self.settle_and_walk(),
        }
        assert_balanced(&self.spool);
    }

    fn admit(&mut self, raw: u16, alarms: u16) {
        let mut batch = Vec::new();
        for i in 0..raw + alarms {
            self.serial += 1;
            let record = if i < raw { reading(self.serial) } else { notice(self.serial) };
            batch.push(record);
        }
        let ranges = self.spool.admit(batch.clone());
        for (i, lane) in LANES.into_iter().enumerate() {
            let own = batch.iter().filter(|r| r.lane() == lane);
            if let Some(range) = ranges.iter().find(|r| r.lane == lane) {
                assert_eq!(range.last - range.first + 1, own.clone().count() as u64);
                self.admitted[i].extend((range.first..).zip(own.cloned()));
            }
        }
    }

    /// Acknowledges `blocks` blocks after `skip` others; through them, or them alone.
    fn acknowledge(&mut self, i: usize, skip: usize, blocks: usize, through: bool) {
        self.calm();
        let waiting = walk(&mut self.spool, LANES[i]);
        let acked: Vec<_> = waiting.iter().skip(skip).take(blocks).map(|b| b.id).collect();
        let Some(last) = acked.last() else { return };
        if through {
            self.spool.release(LANES[i], last.last, &[]).unwrap();
        } else {
            self.spool.release(LANES[i], 0, &[(last.first, last.last)]).unwrap();
        }
        self.released[i].extend(acked.iter().flat_map(|id| id.first..=id.last));
    }

    /// The disk of the database that takes the commits.
    fn active(&self, change: impl FnOnce(&mut MemDisk)) {
        let databases = self.shelf.databases();
        change(&mut databases.values().next_back().unwrap().disk());
    }

    fn rot(&mut self, nth: usize) {
        let databases = self.shelf.databases();
        let mut skip = nth;
        for db in databases.values() {
            let mut disk = db.disk();
            let blocks = disk.map.iter_mut().filter(|(key, _)| key[0] == b'b');
            for (_, value) in blocks {
                if skip == 0 {
                    value[12] ^= 0x40;
                    return;
                }
                skip -= 1;
            }
        }
    }

    /// A database that is no longer written to can't be read any more; every third block is found in its files.
    fn damage(&mut self, nth: usize) {
        let databases = self.shelf.databases();
        let sealed = databases.len() - 1;
        if let Some(db) = databases.values().take(sealed).nth(nth) {
            let mut disk = db.disk();
            disk.unopenable = true;
            let mut n = 0;
            disk.map.retain(|key, _| {
                n += 1;
                key[0] != b'b' || n % 3 == 0
            });
        }
    }

    fn kill(&mut self) {
        self.active(|disk| (disk.applies_failing, disk.applies_lying) = (0, 0));
        let promised = LANES.map(|lane| self.spool.durable_through(lane));
        let segments = Segments::open(self.shelf.clone(), self.sizes).unwrap();
        self.spool = Spool::open(segments, self.options.clone()).unwrap();
        for (i, lane) in LANES.into_iter().enumerate() {
            let kept = self.spool.durable_through(lane);
            assert!(kept >= promised[i], "a promised number came undone");
            self.admitted[i].retain(|&seq, _| seq <= kept);
            // Releases that had not reached the disk come undone, which is allowed.
            let waiting: BTreeSet<u64> = self.covered(i).into_keys().collect();
            self.released[i].retain(|seq| !waiting.contains(seq));
        }
    }

    /// No more faults, nothing half done.
    fn calm(&mut self) {
        self.active(|disk| (disk.applies_failing, disk.applies_lying) = (0, 0));
        self.spool.commit(stamp(0)).unwrap();
    }

    fn settle_and_walk(&mut self) {
        self.calm();
        for (i, lane) in LANES.into_iter().enumerate() {
            let covered = self.covered(i);
            let ledger = self.spool.ledger()[lane.index()];
            let held = covered.values().filter(|record| record.is_some()).count();
            assert_eq!(held as u64, ledger.pending);
            for seq in 1..=self.spool.durable_through(lane) {
                match covered.get(&seq) {
                    Some(Some(Record::Notice(notice))) if notice.code == "spool_damaged" => {}
                    Some(Some(record)) => assert_eq!(record, &self.admitted[i][&seq]),
                    Some(None) => {}
                    None => {
                        assert!(self.released[i].contains(&seq), "{lane} {seq} is lost and nobody says so")
                    }
                }
            }
        }
        // Reading may have brought damage to light, and with it a notice.
        self.calm();
        // Gaps are not given up.
        let slack =
            LANES.map(|lane| 120 * walk(&mut self.spool, lane).iter().filter(|b| b.gap).count() as u64);
        let bytes_max = self.options.bytes_max + slack.iter().sum::<u64>();
        assert!(self.spool.bytes() <= bytes_max, "{} bytes", self.spool.bytes());
        for (lane, slack) in LANES.into_iter().zip(slack) {
            let bytes = self.spool.ledger()[lane.index()].bytes;
            let bytes_max = self.options.lane_bytes_max[lane.index()].map_or(u64::MAX, |max| max + slack);
            assert!(bytes <= bytes_max, "{bytes} bytes of {lane}");
        }
        // As above.
        self.calm();
        let stored: u64 = LANES
            .iter()
            .flat_map(|&lane| walk(&mut self.spool, lane))
            .map(|b| 31 + b.bytes.len() as u64)
            .sum();
        assert_eq!(stored, self.spool.bytes(), "the books count bytes that are not there");
    }

    /// Every number that is still there: with its record, or with `None` under a gap.
    fn covered(&mut self, i: usize) -> BTreeMap<u64, Option<Record>> {
        let mut covered = BTreeMap::new();
        for block in walk(&mut self.spool, LANES[i]) {
            let records = decode_block(&block.bytes).unwrap().records;
            for (n, seq) in (block.id.first..=block.id.last).enumerate() {
                let before = covered.insert(seq, records.get(n).cloned());
                assert!(before.is_none(), "{seq} is covered twice");
            }
        }
        covered
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_promised_record_is_there_or_released_or_declared(
        steps in prop::collection::vec(any_step(), 1..80), raw in prop::sample::select(WhenFull::ALL), small in any::<bool>(),
        alarm_max in prop::option::of(1_800..4_000_u64), raw_max in prop::option::of(600..4_000_u64),
    ) {
        let tiny = Sizes { full_bytes: 600, empty_bytes: 250, move_bytes: 150 };
        let sizes = if small { tiny } else { Sizes::default() };
        let mut world = World::new(raw, sizes, [alarm_max, None, None, raw_max]);
        for step in &steps {
            world.take(step);
        }
        world.take(&Step::Walk);
        world.take(&Step::Kill);
        world.take(&Step::Walk);
    }
}
