//! The spool against a model of it: a list of what was promised and a set of what was released.
//!
//! Any sequence of admissions, commits (refused ones and lying ones), fetches, acknowledgements in and out of order,
//! rotten blocks and kills leaves every promised record either where it was, released, or under a gap; and the books
//! balance after every step.

use std::collections::{BTreeMap, BTreeSet};

use outpost::spool::{MemJournal, Options, Spool, WhenFull};
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
        1 => any::<bool>().prop_map(Step::DiskLow),
        2 => Just(Step::Kill),
        2 => Just(Step::Walk),
    ]
}

struct World {
    spool: Spool<MemJournal>,
    journal: MemJournal,
    options: Options,
    /// Numbered records by lane; those over `durable_through` are not promised.
    admitted: [BTreeMap<u64, Record>; 2],
    released: [BTreeSet<u64>; 2],
    serial: u64,
}

const LANES: [Lane; 2] = [Lane::Raw, Lane::Alarm];

impl World {
    fn new(when_full: WhenFull) -> Self {
        let options =
            Options { bytes_max: 6_000, reserved_percent: [30, 0, 0, 10], when_full, ..Options::default() };
        let journal = MemJournal::default();
        let spool = Spool::open(journal.clone(), options.clone()).unwrap();
        World {
            spool,
            journal,
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
            Step::RefuseNext(n) => self.journal.disk().applies_failing = n,
            Step::LieNext => self.journal.disk().applies_lying = 1,
            Step::Fetch { lane, from } => drop(self.spool.fetch(LANES[usize::from(lane)], from, stamp(0))),
            Step::Acknowledge { lane, blocks } => self.acknowledge(usize::from(lane), 0, blocks, true),
            Step::AcknowledgeOne { lane, skip } => self.acknowledge(usize::from(lane), skip, 1, false),
            Step::Rot { nth } => self.rot(nth),
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

    fn rot(&mut self, nth: usize) {
        let mut disk = self.journal.disk();
        if let Some((_, value)) = disk.map.iter_mut().filter(|(key, _)| key[0] == b'b').nth(nth) {
            value[12] ^= 0x40;
        }
    }

    fn kill(&mut self) {
        self.journal.disk().applies_failing = 0;
        self.journal.disk().applies_lying = 0;
        let promised = LANES.map(|lane| self.spool.durable_through(lane));
        self.spool = Spool::open(self.journal.clone(), self.options.clone()).unwrap();
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
        self.journal.disk().applies_failing = 0;
        self.journal.disk().applies_lying = 0;
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
                    Some(Some(record)) => assert_eq!(record, &self.admitted[i][&seq]),
                    Some(None) => {}
                    None => {
                        assert!(self.released[i].contains(&seq), "{lane} {seq} is lost and nobody says so")
                    }
                }
            }
        }
        let gaps = LANES.map(|lane| walk(&mut self.spool, lane).iter().filter(|b| b.gap).count());
        let slack = 120 * gaps.iter().sum::<usize>() as u64;
        assert!(self.spool.bytes() <= self.options.bytes_max + slack, "{} bytes", self.spool.bytes());
        let stored: u64 = self
            .journal
            .disk()
            .map
            .iter()
            .filter(|(k, _)| k[0] == b'b')
            .map(|(k, v)| (k.len() + v.len()) as u64)
            .sum();
        self.spool.commit(stamp(0)).unwrap();
        assert!(stored >= self.spool.bytes(), "the books count bytes that are not there");
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
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_promised_record_is_there_or_released_or_declared(
        steps in prop::collection::vec(any_step(), 1..60), refuse_newest in any::<bool>(),
    ) {
        let policy = if refuse_newest { WhenFull::RefuseNewest } else { WhenFull::EvictOldest };
        let mut world = World::new(policy);
        for step in &steps {
            world.take(step);
        }
        world.take(&Step::Walk);
        world.take(&Step::Kill);
        world.take(&Step::Walk);
    }
}
