//! The world: a spool, a network, a broker, an aggregator's store, and what is promised about them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use fastrand::Rng;
use outpost::sync::intake::{Intake, LaneState, Offer, Verdict};
use outpost::sync::uplink::{AckMode, Block, Input, Output, Uplink, UplinkOptions};
use outpost::time::Mono;
use outpost::wire::ack::AckMessage;
use outpost::wire::{BlockId, Lane};

/// A mistake planted on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    None,
    /// The gateway trusts the broker, which here loses what it took.
    ReleaseAtPubAck,
    /// The gateway takes an old spool's acknowledgements for its own.
    IgnoreEpoch,
    /// The aggregator answers and then crashes before its commit.
    AckBeforeCommit,
}

#[derive(Debug, Default)]
pub struct Counts {
    pub cuts: u64,
    pub crashes: u64,
    pub firsts_seen: u64,
}

pub struct World {
    rng: Rng,
    mistake: Mistake,
    healed: bool,
    now: Mono,
    pub counts: Counts,
    // The gateway.
    epoch: u64,
    next_seq: [u64; 4],
    /// First number to last number and whether it is a gap.
    spool: BTreeMap<(Lane, u64), (u64, bool)>,
    uplink: Uplink,
    fetches: VecDeque<(Lane, u64)>,
    // The line and the broker.
    line_up: bool,
    on_line: VecDeque<(u64, Offer)>,
    at_broker: Vec<Offer>,
    acks: Vec<AckMessage>,
    // The aggregator: what is durable, and what is in its memory.
    stored: BTreeSet<(u64, Lane, u64)>,
    declared: BTreeSet<(u64, Lane, u64)>,
    states: BTreeMap<(Lane, u64), LaneState>,
    intake: Intake,
    // The checker's notes on the session.
    seen: BTreeSet<(Lane, u64)>,
    newest: BTreeMap<(Lane, bool), u64>,
    first_due: Option<Mono>,
    /// The block that must be the session's first.
    first: Option<BlockId>,
    /// The block that is out of order by right, in every session until it is acknowledged.
    named: Option<BlockId>,
    published: u64,
}

const DEVICE: &str = "pump";
const WINDOW: usize = 8;
const UNACKED_BYTES_MAX: usize = 4000;

impl World {
    pub fn new(seed: u64, mistake: Mistake) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            mistake,
            healed: false,
            now: Mono(1),
            counts: Counts::default(),
            epoch: 1,
            next_seq: [1; 4],
            spool: BTreeMap::new(),
            uplink: Uplink::new(options(mistake), 1),
            fetches: VecDeque::new(),
            line_up: false,
            on_line: VecDeque::new(),
            at_broker: Vec::new(),
            acks: Vec::new(),
            stored: BTreeSet::new(),
            declared: BTreeSet::new(),
            states: BTreeMap::new(),
            intake: Intake::new(),
            seen: BTreeSet::new(),
            newest: BTreeMap::new(),
            first_due: None,
            first: None,
            named: None,
            published: 0,
        }
    }

    pub fn records_delivered(&self) -> u64 {
        self.stored.len() as u64
    }

    /// One thing happens.
    pub fn step(&mut self) -> Result<(), String> {
        self.now = self.now + Duration::from_millis(self.rng.u64(0..400));
        match self.rng.u32(0..1000) {
            0..200 => self.admit(),
            200..230 => self.evict(),
            230..245 => self.cut(),
            245..340 if !self.line_up => self.connect(),
            340..345 => self.crash_gateway(),
            345..348 => self.wipe_spool(),
            348..360 => self.crash_aggregator(),
            360..540 => self.answer_fetch(),
            540..720 => self.carry(),
            720..860 => self.take_in(),
            860..960 => self.carry_ack(),
            _ => self.feed(Input::Tick),
        }?;
        self.name_first_if_due()
    }

    /// No more faults: everything promised must arrive and be released.
    pub fn heal(&mut self) -> Result<(), String> {
        self.healed = true;
        self.cut()?;
        self.connect()?;
        for _ in 0..20_000 {
            self.now = self.now + Duration::from_millis(100);
            self.answer_fetch()?;
            self.carry()?;
            self.take_in()?;
            self.carry_ack()?;
            self.name_first_if_due()?;
            self.feed(Input::Tick)?;
            if self.spool.is_empty() {
                return self.check_complete();
            }
        }
        Err(format!("not delivered in a healed world: {:?}", self.spool))
    }

    fn check_complete(&self) -> Result<(), String> {
        for &lane in Lane::ALL {
            if let Some(seq) = (1..self.next_seq[lane.index()]).find(|&seq| !self.is_settled(lane, seq)) {
                return Err(format!("{lane} {seq} is released and nowhere"));
            }
        }
        Ok(())
    }

    fn is_settled(&self, lane: Lane, seq: u64) -> bool {
        let key = (self.epoch, lane, seq);
        self.stored.contains(&key) || self.declared.contains(&key)
    }

    fn admit(&mut self) -> Result<(), String> {
        let lane = Lane::ALL[self.rng.usize(0..4)];
        let records = self.rng.u64(1..20);
        self.seal(lane, records)
    }

    fn seal(&mut self, lane: Lane, records: u64) -> Result<(), String> {
        let first = self.next_seq[lane.index()];
        self.spool.insert((lane, first), (first + records - 1, false));
        self.next_seq[lane.index()] = first + records;
        self.tell_tail(lane)
    }

    fn tell_tail(&mut self, lane: Lane) -> Result<(), String> {
        let next_seq = self.next_seq[lane.index()];
        let oldest = self.spool.range((lane, 0)..=(lane, u64::MAX)).next().map_or(next_seq, |(key, _)| key.1);
        self.feed(Input::Tail { lane, oldest, next_seq })
    }

    /// The oldest block of a lane becomes a gap; neighbouring gaps become one.
    fn evict(&mut self) -> Result<(), String> {
        let lane = Lane::ALL[self.rng.usize(0..4)];
        let mut of_lane = self.spool.range_mut((lane, 0)..=(lane, u64::MAX));
        let Some((_, block)) = of_lane.find(|(_, block)| !block.1) else { return Ok(()) };
        block.1 = true;
        let gaps: Vec<(u64, u64)> =
            self.spool.iter().filter(|(k, b)| k.0 == lane && b.1).map(|(k, b)| (k.1, b.0)).collect();
        for pair in gaps.windows(2).rev().filter(|pair| pair[0].1 + 1 == pair[1].0) {
            let merged_last = self.spool.remove(&(lane, pair[1].0)).map(|b| b.0);
            if let (Some(last), Some(block)) = (merged_last, self.spool.get_mut(&(lane, pair[0].0))) {
                block.0 = last;
            }
        }
        Ok(())
    }

    fn cut(&mut self) -> Result<(), String> {
        self.counts.cuts += u64::from(self.line_up);
        self.line_up = false;
        // What was written may arrive without its PUBACK, or not at all.
        let arrives = self.rng.usize(0..=self.on_line.len());
        self.at_broker.extend(self.on_line.drain(..arrives).map(|(_, offer)| offer));
        self.on_line.clear();
        self.first_due = None;
        self.feed(Input::LineDown)
    }

    fn connect(&mut self) -> Result<(), String> {
        self.line_up = true;
        self.seen.clear();
        self.newest.clear();
        self.published = 0;
        if self.rng.bool() {
            self.first = None;
            self.first_due = Some(self.now + Duration::from_millis(self.rng.u64(0..5000)));
            self.feed(Input::ExpectFirst)?;
        }
        self.feed(Input::LineUp { receive_max: 20, packet_bytes_max: 1 << 20 })
    }

    /// The offline digest is ready: it is sealed and named. Later than 3 s others may have gone before.
    fn name_first_if_due(&mut self) -> Result<(), String> {
        if !self.line_up || self.first_due.is_none_or(|due| due > self.now) {
            return Ok(());
        }
        self.first_due = None;
        let first = self.next_seq[Lane::Digest.index()];
        let id = BlockId { lane: Lane::Digest, first, last: first };
        self.seal(Lane::Digest, 1)?;
        self.named = Some(id);
        self.first = (self.published == 0).then_some(id);
        self.feed(Input::First(id))
    }

    fn crash_gateway(&mut self) -> Result<(), String> {
        self.counts.crashes += 1;
        self.line_up = false;
        self.on_line.clear();
        self.fetches.clear();
        self.first_due = None;
        self.first = None;
        self.named = None;
        self.uplink = Uplink::new(options(self.mistake), self.epoch);
        Lane::ALL.iter().try_for_each(|&lane| self.tell_tail(lane))
    }

    fn wipe_spool(&mut self) -> Result<(), String> {
        self.epoch += 1;
        self.next_seq = [1; 4];
        self.spool.clear();
        self.crash_gateway()
    }

    fn crash_aggregator(&mut self) -> Result<(), String> {
        self.counts.crashes += 1;
        self.intake = Intake::new();
        for (&(lane, epoch), state) in &self.states {
            self.intake.restore(DEVICE, lane, epoch, state.clone());
        }
        Ok(())
    }

    fn answer_fetch(&mut self) -> Result<(), String> {
        let Some((lane, from)) = self.fetches.pop_front() else { return Ok(()) };
        let mut of_lane = self.spool.range((lane, 0)..=(lane, u64::MAX));
        let found = of_lane.find(|(_, block)| block.0 >= from);
        let block = found.map(|(&(lane, first), &(last, gap))| Block {
            id: BlockId { lane, first, last },
            payload: vec![u8::from(gap); 100 + (last - first) as usize],
        });
        self.feed(Input::Fetched { lane, block })
    }

    /// The broker takes one publish and answers; it may refuse it, lose it later, or double it.
    fn carry(&mut self) -> Result<(), String> {
        let Some((token, offer)) = self.on_line.pop_front() else { return Ok(()) };
        let fate = if self.healed { 99 } else { self.rng.u32(0..100) };
        match fate {
            0..2 => return self.feed(Input::PubAck { token, result: Err(0x97) }),
            2..4 => return self.feed(Input::PubAck { token, result: Err(0x99) }),
            4..8 => {}
            8..12 => self.at_broker.extend([offer, offer]),
            12..16 => self.at_broker.insert(self.rng.usize(0..=self.at_broker.len()), offer),
            _ => self.at_broker.push(offer),
        }
        self.feed(Input::PubAck { token, result: Ok(()) })
    }

    /// The aggregator takes what has queued up: one transaction, then one answer.
    fn take_in(&mut self) -> Result<(), String> {
        let count = self.rng.usize(0..=self.at_broker.len().min(6));
        let offers: Vec<Offer> = self.at_broker.drain(..count).collect();
        let crash = !self.healed && self.rng.u32(0..20) == 0;
        if crash && self.mistake == Mistake::AckBeforeCommit {
            let lanes = self.intake.committed(DEVICE, &offers);
            self.acks.push(AckMessage { lanes });
            return self.crash_aggregator();
        }
        for offer in &offers {
            if let Verdict::Commit { unseen } = self.intake.offer(DEVICE, offer) {
                let target = if offer.gap { &mut self.declared } else { &mut self.stored };
                let seqs = unseen.into_iter().flat_map(|(first, last)| first..=last);
                target.extend(seqs.map(|seq| (offer.epoch, offer.id.lane, seq)));
            }
        }
        let lanes = self.intake.committed(DEVICE, &offers);
        for ack in &lanes {
            if let Some(state) = self.intake.state(DEVICE, ack.lane, ack.epoch) {
                self.states.insert((ack.lane, ack.epoch), state.clone());
            }
        }
        if crash {
            return self.crash_aggregator();
        }
        if !lanes.is_empty() {
            self.acks.push(AckMessage { lanes });
        }
        Ok(())
    }

    /// An acknowledgement arrives, out of order, twice, or never; also one that was made for an earlier spool.
    fn carry_ack(&mut self) -> Result<(), String> {
        if self.acks.is_empty() || !self.line_up {
            return Ok(());
        }
        let fate = if self.healed { 99 } else { self.rng.u32(0..100) };
        let at = if fate < 40 { self.rng.usize(0..self.acks.len()) } else { 0 };
        let mut ack = if fate < 10 { self.acks[at].clone() } else { self.acks.remove(at) };
        if (10..20).contains(&fate) {
            return Ok(());
        }
        let bytes = ack.encode();
        ack = AckMessage::decode(&bytes).map_err(|e| format!("the acknowledgement does not read: {e}"))?;
        if self.mistake == Mistake::IgnoreEpoch {
            ack.lanes.iter_mut().for_each(|lane| lane.epoch = self.epoch);
        }
        self.feed(Input::Ack(ack))
    }

    fn feed(&mut self, input: Input) -> Result<(), String> {
        for output in self.uplink.step(self.now, input) {
            self.obey(output)?;
        }
        let (wire, unacked) = (self.uplink.on_wire(), self.uplink.unacked_bytes());
        if wire > WINDOW || unacked > UNACKED_BYTES_MAX {
            return Err(format!("{wire} blocks on the wire, {unacked} bytes unacknowledged"));
        }
        if self.uplink.deadline().is_some_and(|at| at <= self.now) {
            return Err("a deadline in the past would spin".into());
        }
        Ok(())
    }

    fn obey(&mut self, output: Output) -> Result<(), String> {
        match output {
            Output::Fetch { lane, from } => {
                if self.fetches.iter().any(|f| f.0 == lane) {
                    return Err(format!("two fetches of {lane} at once"));
                }
                self.fetches.push_back((lane, from));
            }
            Output::Publish { token, id, payload, historical } => {
                self.check_order(id, historical)?;
                let offer = Offer { epoch: self.epoch, id, gap: payload[0] == 1 };
                self.on_line.push_back((token, offer));
            }
            Output::Release { lane, through, also } => return self.release(lane, through, &also),
            Output::Refused { .. } => {}
            Output::AckBeyondTail { ack } if self.mistake == Mistake::None => {
                return Err(format!("an honest acknowledgement was not believed: {ack:?}"));
            }
            Output::AckBeyondTail { .. } => {}
        }
        Ok(())
    }

    /// What is new in a session comes in order per stream, and the named block before everything.
    fn check_order(&mut self, id: BlockId, historical: bool) -> Result<(), String> {
        if !self.line_up {
            return Err(format!("{id:?} published while the line is down"));
        }
        self.published += 1;
        if let Some(first) = self.first.take() {
            if id.lane != first.lane || id.first > first.first || id.last < first.last {
                return Err(format!("{id:?} went before the named block {first:?}"));
            }
            self.counts.firsts_seen += 1;
            self.seen.insert((id.lane, id.first));
            return Ok(());
        }
        let by_right =
            self.named.is_some_and(|n| n.lane == id.lane && id.first <= n.first && n.last <= id.last);
        if self.seen.insert((id.lane, id.first)) && !by_right {
            let newest = self.newest.entry((id.lane, historical)).or_default();
            if id.first <= *newest {
                return Err(format!("{id:?} after {newest} in one stream"));
            }
            *newest = id.first;
        }
        Ok(())
    }

    /// A block is deleted when it is covered whole, and only if the aggregator holds every record of it.
    fn release(&mut self, lane: Lane, through: u64, also: &[(u64, u64)]) -> Result<(), String> {
        let covered =
            |first: u64, last: u64| last <= through || also.iter().any(|r| r.0 <= first && last <= r.1);
        let of_lane = self.spool.range((lane, 0)..=(lane, u64::MAX));
        let released: Vec<(u64, u64)> = of_lane
            .map(|(key, block)| (key.1, block.0))
            .filter(|&(first, last)| covered(first, last))
            .collect();
        for (first, last) in released {
            if let Some(seq) = (first..=last).find(|&seq| !self.is_settled(lane, seq)) {
                return Err(format!("{lane} {seq} released, and the aggregator does not hold it"));
            }
            self.spool.remove(&(lane, first));
        }
        Ok(())
    }
}

fn options(mistake: Mistake) -> UplinkOptions {
    UplinkOptions {
        ack: if mistake == Mistake::ReleaseAtPubAck { AckMode::Broker } else { AckMode::Aggregator },
        window_blocks: WINDOW,
        window_bytes: 1000,
        unacked_bytes_max: UNACKED_BYTES_MAX,
        ..UplinkOptions::default()
    }
}
