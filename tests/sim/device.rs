//! A gateway: the real spool on a simulated disk, the real uplink on a simulated line, and who watches both.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use fastrand::Rng;
use outpost::limits::UPLINK_CUTS_MAX;
use outpost::reading::ChannelId;
use outpost::spool::{JournalError, LaneLedger, Options, Segments, Sizes, Spool, open_whole};
use outpost::sync::ranges::RangeSet;
use outpost::sync::uplink::{AckMode, Audience, Block, Input, Output, Uplink, UplinkOptions};
use outpost::time::Mono;
use outpost::wire::ack::AckMessage;
use outpost::wire::heartbeat::{Health, Heartbeat, LaneBeat};
use outpost::wire::{BlockId, Body, Lane, decode_block, decode_header};

use crate::Mistake;
use crate::account::Account;
use crate::clock::Clock;
use crate::cloud::Cloud;
use crate::disk::{SimShelf, blocks_in};
use crate::line::{Line, Message};
use crate::records::{record, serial_of};
use crate::world::Checked;

pub struct Device {
    index: usize,
    pub name: String,
    rng: Rng,
    mistake: Mistake,
    channel: ChannelId,
    pub shelf: SimShelf,
    options: Options,
    sizes: Sizes,
    /// None while it does not open.
    pub spool: Option<Spool<Segments<SimShelf>>>,
    uplink: Uplink,
    pub epoch: u64,
    pub clock: Clock,
    pub line: Line,
    fetches: VecDeque<Asked>,
    accounts: BTreeMap<u64, Account>,
    session: Session,
    /// Times that the broker hung up on a block, by its looks; forgotten with the uplink.
    hung_up_on: HashMap<BlockId, u32>,
    serial: u64,
    beats: u64,
    /// Bytes of the largest block so far: one always passes.
    largest: usize,
    /// A sync that takes long holds everything up.
    pub blocked_until: Mono,
    /// Per lane the last number that the store has told the uplink of.
    told: [u64; 4],
    /// Alarms that the planted mistake keeps from the uplink.
    held_back: Option<Input>,
    pub counts: Counts,
}

#[derive(Default)]
pub struct Counts {
    pub cuts: u64,
    pub crashes: u64,
    pub firsts: u64,
    pub overtakes: u64,
    pub unread: u64,
    pub epochs: u64,
}

/// A fetch of the uplink's: asked for, or read and not yet handed over.
enum Asked {
    Wanted { lane: Lane, from: u64 },
    Read { lane: Lane, block: Option<Block> },
}

/// What was seen of one connection.
#[derive(Default)]
struct Session {
    sent: [RangeSet; 4],
    /// Highest number per lane and stream.
    newest: BTreeMap<(Lane, bool), u64>,
    published: u64,
    small_packets: bool,
    first_due: Option<Mono>,
    /// The block that must be the session's first.
    first: Option<BlockId>,
    /// The block that is out of order by right, in every session until it is acknowledged.
    named: Option<BlockId>,
    /// A disk did not give alarms back that others therefore did not wait for.
    alarms_unread: bool,
    /// The broker had nobody for the last alarms, and others do not wait for them.
    alarms_unheard: bool,
    /// Published and without PUBACK, by token.
    on_wire: BTreeMap<u64, BlockId>,
}

impl Device {
    pub fn new(index: usize, mut rng: Rng, mistake: Mistake) -> Result<Self, String> {
        let shelf = SimShelf::new(rng.fork(), mistake);
        let clock = Clock::new(&mut rng);
        let bytes_max = rng.u64(3_000..40_000);
        // Or past seeds would take another course.
        let mut apart = Rng::with_seed(bytes_max);
        let options = Options {
            bytes_max,
            lane_bytes_max: std::array::from_fn(|_| quota(&mut apart, bytes_max)),
            ..Options::default()
        };
        let full_bytes = rng.u64(2_000..20_000);
        let mut device = Self {
            index,
            name: crate::cloud::device_name(index),
            mistake,
            channel: ChannelId::new("pump1.temp").map_err(|e| e.to_string())?,
            shelf,
            options,
            sizes: Sizes { full_bytes, empty_bytes: full_bytes / 3, move_bytes: 500 },
            spool: None,
            uplink: Uplink::new(UplinkOptions::default(), 0),
            epoch: 0,
            clock,
            line: Line::default(),
            fetches: VecDeque::new(),
            accounts: BTreeMap::new(),
            session: Session::default(),
            hung_up_on: HashMap::new(),
            serial: 0,
            beats: 0,
            largest: 0,
            blocked_until: Mono(0),
            told: [0; 4],
            held_back: None,
            counts: Counts::default(),
            rng,
        };
        device.open(Mono(0))?;
        Ok(device)
    }

    pub fn account(&self, epoch: u64) -> &Account {
        &self.accounts[&epoch]
    }

    pub fn ledger(&self) -> Option<[LaneLedger; 4]> {
        Some(self.spool.as_ref()?.ledger())
    }

    pub fn is_drained(&self) -> bool {
        let drained = |spool: &Spool<_>| {
            !spool.is_dirty() && Lane::ALL.iter().all(|&lane| matches!(spool.peek(lane, 1), Ok(None)))
        };
        self.spool.as_ref().is_some_and(drained)
    }

    /// Whether something was asked of the disk after its power had gone.
    pub fn is_dead(&self) -> bool {
        self.shelf.disk().dead
    }

    pub fn is_busy(&self, now: Mono) -> bool {
        self.blocked_until > now
    }

    /// Starts: opens what is there, or what can be salvaged of it.
    pub fn open(&mut self, now: Mono) -> Checked {
        let fresh = self.rng.u64(1..u64::MAX / 4);
        match open_whole(self.shelf.clone(), self.sizes, self.options.clone(), fresh) {
            Ok(spool) => self.start(spool),
            Err(JournalError::Damaged(why)) if self.shelf.disk().is_damaged => {
                self.start_over(now, fresh, &why)
            }
            Err(JournalError::Damaged(why)) => Err(format!("{}: nothing was damaged, and {why}", self.name)),
            Err(_) => Ok(()),
        }
    }

    fn start(&mut self, spool: Spool<Segments<SimShelf>>) -> Checked {
        self.epoch = spool.epoch();
        self.counts.epochs += u64::from(!self.accounts.contains_key(&self.epoch));
        let account = self.accounts.entry(self.epoch).or_default();
        for &lane in Lane::ALL {
            account
                .reopened(lane, spool.durable_through(lane))
                .map_err(|why| format!("{}: {why}", self.name))?;
        }
        self.uplink = Uplink::new(uplink_options(self.mistake), self.epoch);
        self.hung_up_on.clear();
        self.told = spool.ledger().map(|books| books.admitted);
        self.spool = Some(spool);
        for input in self.tails() {
            // Without a line nothing comes out.
            self.uplink.step(Mono(0), input);
        }
        Ok(())
    }

    /// The agent's way out of a damaged spool: what reads is admitted anew, in a new epoch.
    fn start_over(&mut self, now: Mono, epoch: u64, _why: &str) -> Checked {
        let aside = self.shelf.disk().put_aside();
        let opened = open_whole(self.shelf.clone(), self.sizes, self.options.clone(), epoch);
        let Ok(spool) = opened else { return Ok(()) };
        self.start(spool)?;
        let mut seen = std::collections::BTreeSet::new();
        for bytes in aside.iter().flat_map(|file| blocks_in(file)) {
            let Ok(block) = decode_block(bytes) else { continue };
            if seen.insert((block.header.lane, block.header.epoch, block.header.first)) {
                let serials: Vec<u64> = block.records.iter().filter_map(serial_of).collect();
                self.admit_serials(now, block.header.lane, &serials);
            }
        }
        Ok(())
    }

    fn tails(&self) -> Vec<Input> {
        let Some(spool) = &self.spool else { return Vec::new() };
        let ledger = spool.ledger();
        let tail = |&lane: &Lane| Input::Tail {
            lane,
            oldest: spool.released_through(lane) + 1,
            next_seq: ledger[lane.index()].admitted + 1,
        };
        Lane::ALL.iter().map(tail).collect()
    }

    pub fn admit(&mut self, now: Mono, lane: Lane, count: u64) {
        let serials: Vec<u64> = (self.serial + 1..=self.serial + count).collect();
        self.serial += count;
        self.admit_serials(now, lane, &serials);
    }

    fn admit_serials(&mut self, now: Mono, lane: Lane, serials: &[u64]) {
        let Some(spool) = &mut self.spool else { return };
        let at = self.clock.stamp(now).wall;
        let records = serials.iter().map(|&serial| record(lane, serial, &self.channel, at)).collect();
        for given in spool.admit(records) {
            self.accounts.entry(self.epoch).or_default().admitted(given.lane, given.first, serials);
        }
    }

    /// Commits, tidies and tells the uplink, as the thread `store` does.
    pub fn commit(&mut self, now: Mono, cloud: &Cloud) -> Result<bool, String> {
        let stamp = self.clock.stamp(now);
        let Some(spool) = &mut self.spool else { return Ok(false) };
        let outcome = spool.commit(stamp);
        let done = outcome.is_ok();
        // A failed tidying costs space and nothing else.
        let _ = if done { spool.tidy() } else { Ok(()) };
        self.wait_for_the_disk(now);
        self.look_at_the_books()?;
        if done {
            for input in self.tails() {
                self.feed(now, cloud, input)?;
            }
        }
        Ok(done)
    }

    fn wait_for_the_disk(&mut self, now: Mono) {
        let waited = std::mem::take(&mut self.shelf.disk().waited);
        self.blocked_until = self.blocked_until.max(now + waited);
    }

    /// `admitted = acknowledged + pending + evicted`, and what is admitted is what was promised.
    pub fn look_at_the_books(&mut self) -> Checked {
        let Some(spool) = &self.spool else { return Ok(()) };
        let account = self.accounts.entry(self.epoch).or_default();
        for (&lane, books) in Lane::ALL.iter().zip(spool.ledger()) {
            if !books.balances() || books.admitted < account.lane(lane).promised {
                return Err(format!(
                    "{} {lane}: {books:?}, {} promised",
                    self.name,
                    account.lane(lane).promised
                ));
            }
            account.committed(lane, books.admitted);
        }
        Ok(())
    }

    /// Reads what the uplink wants; hands over what was read at an earlier step.
    pub fn fetch(&mut self, now: Mono, cloud: &Cloud) -> Checked {
        let stamp = self.clock.stamp(now);
        let (Some(spool), Some(asked)) = (&mut self.spool, self.fetches.pop_front()) else { return Ok(()) };
        match asked {
            Asked::Read { lane, block } => self.feed(now, cloud, Input::Fetched { lane, block }),
            Asked::Wanted { lane, from } => {
                let answer = spool.fetch(lane, from, stamp);
                self.wait_for_the_disk(now);
                self.look_at_the_books()?;
                let Ok(stored) = answer else {
                    // The others go meanwhile.
                    self.session.alarms_unread |= lane == Lane::Alarm;
                    self.session.first = self.session.first.filter(|first| first.lane != lane);
                    self.counts.unread += 1;
                    return self.feed(now, cloud, Input::Unreadable { lane });
                };
                let block = stored.map(|stored| Block { id: stored.id, payload: stored.bytes });
                self.fetches.push_back(Asked::Read { lane, block });
                Ok(())
            }
        }
    }

    pub fn connect(&mut self, now: Mono, cloud: &Cloud, packet_bytes_max: u32) -> Checked {
        if self.spool.is_none() {
            return Ok(());
        }
        self.line.up = true;
        let named = self.session.named;
        let small_packets = packet_bytes_max < 1 << 20;
        self.session = Session { named, small_packets, ..Session::default() };
        // What the broker may never take goes when the uplink thinks fit.
        for (id, _) in self.hung_up_on.iter().filter(|(_, cuts)| **cuts >= UPLINK_CUTS_MAX) {
            self.session.sent[id.lane.index()].insert(id.first, id.last);
        }
        if self.rng.bool() {
            self.session.first_due = Some(now + Duration::from_millis(self.rng.u64(0..5000)));
            self.feed(now, cloud, Input::ExpectFirst)?;
        }
        self.feed(now, cloud, Input::LineUp { receive_max: 20, packet_bytes_max })
    }

    pub fn cut(&mut self, now: Mono, cloud: &mut Cloud) -> Checked {
        self.counts.cuts += u64::from(self.line.up);
        // What was written may arrive without its PUBACK, or not at all.
        let arrives = if self.line.passes() { self.rng.usize(0..=self.line.wire.len()) } else { 0 };
        cloud.inbox.extend(self.line.wire.drain(..arrives).map(|(_, m)| (now, self.index, m)));
        self.drop_line();
        // As often as not it looks as if the broker had hung up on what was on the wire.
        let by_broker = self.rng.bool().then_some(0x80);
        for id in std::mem::take(&mut self.session.on_wire).into_values().filter(|_| by_broker.is_some()) {
            *self.hung_up_on.entry(id).or_default() += 1;
        }
        self.feed(now, cloud, Input::LineDown { by_broker })
    }

    fn drop_line(&mut self) {
        self.line.up = false;
        self.line.silent_since = None;
        self.line.wire.clear();
        self.line.answers.clear();
        self.session.first_due = None;
        self.session.first = None;
    }

    /// The process ends, with or without the machine's power, and starts again.
    pub fn crash(&mut self, now: Mono, power: bool) -> Checked {
        self.counts.crashes += 1;
        self.drop_line();
        self.fetches.clear();
        self.session = Session::default();
        self.held_back = None;
        self.spool = None;
        self.blocked_until = now;
        if self.mistake == Mistake::ReuseNumbers {
            self.shelf.disk().count_from_blocks();
        }
        if power {
            self.shelf.disk().power_cut();
            self.clock.reboot(now, &mut self.rng);
        } else {
            self.shelf.disk().close();
        }
        self.open(now)
    }

    /// The operator puts an empty disk in.
    pub fn wipe(&mut self, now: Mono) -> Checked {
        self.shelf.disk().put_aside();
        self.crash(now, false)
    }

    /// The offline digest is ready: it is sealed and named. Later than 3 s others may have gone before.
    pub fn name_first_if_due(&mut self, now: Mono, cloud: &Cloud) -> Checked {
        if !self.line.up || self.session.first_due.is_none_or(|due| due > now) {
            return Ok(());
        }
        self.admit(now, Lane::Digest, 1);
        if !self.commit(now, cloud)? {
            return Ok(());
        }
        let last = self.account(self.epoch).lane(Lane::Digest).promised;
        let id = BlockId { lane: Lane::Digest, first: last, last };
        self.session.first_due = None;
        self.session.named = Some(id);
        self.session.first = (self.session.published == 0).then_some(id);
        self.feed(now, cloud, Input::First(id))
    }

    pub fn heartbeat(&mut self, now: Mono) {
        let Some(ledger) = self.ledger().filter(|_| self.line.up) else { return };
        self.beats += 1;
        let beat = Heartbeat {
            serial: self.beats,
            at: self.clock.stamp(now),
            uptime_s: 0,
            version: "simulated".into(),
            model_hash_prefix: [0; 8],
            health: Health::default(),
            lanes: ledger.map(|books| LaneBeat {
                epoch: books.epoch.to_be_bytes(),
                admitted: books.admitted,
                acknowledged: books.acknowledged,
                pending: books.pending,
                evicted: books.evicted_total(),
                by_reason: books.evicted,
            }),
            oldest_age_s: 0,
            spool_bytes: 0,
            episodes_open: 0,
        };
        self.line.wire.push_back((now, Message::Heartbeat(beat.encode())));
    }

    pub fn answer(&mut self, now: Mono, cloud: &Cloud) -> Checked {
        while self.line.passes() && self.line.answers.front().is_some_and(|a| a.0 <= now) {
            if let Some((_, token, result)) = self.line.answers.pop_front() {
                let id = self.session.on_wire.remove(&token);
                if let Some(audience) = id.filter(|id| id.lane == Lane::Alarm).and(result.ok()) {
                    self.session.alarms_unheard = audience == Audience::Nobody;
                }
                let answered = id.filter(|_| result.is_ok());
                answered.map(|id| self.hung_up_on.remove(&id));
                self.feed(now, cloud, Input::PubAck { token, result })?;
            }
        }
        Ok(())
    }

    /// An acknowledgement arrives; it may have been made for an earlier spool.
    pub fn acknowledge(&mut self, now: Mono, cloud: &Cloud, bytes: &[u8]) -> Checked {
        let Ok(mut ack) = AckMessage::decode(bytes) else { return Ok(()) };
        if self.mistake == Mistake::IgnoreEpoch {
            ack.lanes.iter_mut().for_each(|lane| lane.epoch = self.epoch);
        }
        self.feed(now, cloud, Input::Ack(ack))
    }

    pub fn tick(&mut self, now: Mono, cloud: &Cloud) -> Checked {
        if let Some(input) = self.held_back.take() {
            self.obey_all(now, cloud, input)?;
        }
        self.feed(now, cloud, Input::Tick)
    }

    /// The far side will never take the oldest block of a lane.
    pub fn refuse_oldest(&mut self, now: Mono, lane: Lane) -> Checked {
        let stamp = self.clock.stamp(now);
        let Some(spool) = &mut self.spool else { return Ok(()) };
        if let Ok(Some(block)) = spool.peek(lane, 1) {
            // If the disk refuses, the far side refuses again.
            let _ = spool.refuse(lane, block.id.first, stamp);
        }
        self.wait_for_the_disk(now);
        self.look_at_the_books()
    }

    fn feed(&mut self, now: Mono, cloud: &Cloud, input: Input) -> Checked {
        if let Input::Tail { lane, next_seq, .. } = input {
            self.told[lane.index()] = next_seq - 1;
            if self.mistake == Mistake::HoldAlarmsBack && lane == Lane::Alarm && self.line.up {
                self.held_back = Some(input);
                return Ok(());
            }
        }
        self.obey_all(now, cloud, input)
    }

    fn obey_all(&mut self, now: Mono, cloud: &Cloud, input: Input) -> Checked {
        let own = self.clock.mono(now);
        for output in self.uplink.step(own, input) {
            self.obey(now, cloud, output)?;
        }
        let (wire, unacked) = (self.uplink.on_wire(), self.uplink.unacked_bytes());
        if wire > WINDOW || unacked > UNACKED_BYTES_MAX.max(self.largest) {
            return Err(format!("{wire} blocks on the wire, {unacked} bytes unacknowledged"));
        }
        if self.uplink.deadline().is_some_and(|at| at <= own) {
            return Err("a deadline in the past would spin".into());
        }
        Ok(())
    }

    fn obey(&mut self, now: Mono, cloud: &Cloud, output: Output) -> Checked {
        match output {
            Output::Fetch { lane, from } => self.fetches.push_back(Asked::Wanted { lane, from }),
            Output::Publish { token, id, payload, historical } => {
                let gap = decode_header(&payload).is_ok_and(|header| header.body != Body::Records);
                self.check_order(id, gap, historical)?;
                self.session.on_wire.insert(token, id);
                self.largest = self.largest.max(payload.len());
                let delay = Duration::from_millis(self.rng.u64(1..400));
                self.line.wire.push_back((now + delay, Message::Block { token, lane: id.lane, payload }));
            }
            Output::Release { lane, through, also } => return self.release(cloud, lane, through, &also),
            Output::Refused { id, set_aside: true, .. } => {
                self.session.sent[id.lane.index()].insert(id.first, id.last);
                self.session.first = self.session.first.filter(|f| f.lane != id.lane);
            }
            Output::Refused { .. } => {}
            Output::AckBeyondTail { ack } => {
                return Err(format!("{}: an honest acknowledgement was not believed: {ack:?}", self.name));
            }
        }
        Ok(())
    }

    /// What is new in a session comes in order per stream, the named block before everything, alarms before the rest.
    fn check_order(&mut self, id: BlockId, gap: bool, historical: bool) -> Checked {
        if !self.line.up {
            return Err(format!("{id:?} published while the line is down"));
        }
        self.session.published += 1;
        let sent = &mut self.session.sent[id.lane.index()];
        if let Some(first) = self.session.first.take() {
            if id.lane != first.lane || id.first > first.first || id.last < first.last {
                return Err(format!("{id:?} went before the named block {first:?}"));
            }
            self.counts.firsts += 1;
            sent.insert(id.first, id.last);
            return Ok(());
        }
        let named = self.session.named;
        let by_right = named.is_some_and(|n| n.lane == id.lane && id.first <= n.first && n.last <= id.last);
        // A gap has no records whose order could matter; it may have grown over what went before.
        if !sent.covers(id.first, id.last) && !by_right && !gap {
            let newest = self.session.newest.entry((id.lane, historical)).or_default();
            if id.last <= *newest {
                return Err(format!("{id:?} after {newest} in one stream"));
            }
            *newest = id.last;
        }
        sent.insert(id.first, id.last);
        // What is too large for this session's packets waits for the next one.
        let free = by_right || self.session.small_packets;
        if id.lane == Lane::Alarm || free { Ok(()) } else { self.check_alarms(id) }
    }

    fn check_alarms(&mut self, id: BlockId) -> Checked {
        if self.session.alarms_unread || self.session.alarms_unheard {
            return Ok(());
        }
        let alarms = self.accounts[&self.epoch].lane(Lane::Alarm);
        let unsent = self.session.sent[Lane::Alarm.index()].missing(1, self.told[Lane::Alarm.index()]);
        if let Some(waiting) = unsent.iter().find(|r| !alarms.released.covers(r.0, r.1)) {
            return Err(format!(
                "{} {id:?} goes while alarms {waiting:?} wait: {:?} {:?} {}",
                self.name, self.session.named, self.session.first, self.session.published
            ));
        }
        self.counts.overtakes += u64::from(self.told[Lane::Alarm.index()] > 0);
        Ok(())
    }

    /// What the uplink lets go, the aggregator holds, record by record.
    fn release(&mut self, cloud: &Cloud, lane: Lane, through: u64, also: &[(u64, u64)]) -> Checked {
        let notes = self.accounts.entry(self.epoch).or_default().lane_mut(lane);
        for (first, last) in [(1, through)].iter().chain(also).copied() {
            for (first, last) in notes.released.missing(first, last) {
                if let Some(seq) =
                    cloud.first_unsettled(self.index, BlockId { lane, first, last }, self.epoch)
                {
                    return Err(format!(
                        "{} {lane} {seq} released, and the aggregator does not hold it",
                        self.name
                    ));
                }
                notes.released.insert(first, last);
            }
        }
        if let Some(spool) = &mut self.spool {
            // If the disk can't be read now, it is released by a later acknowledgement.
            let _ = spool.release(lane, through, also);
        }
        self.look_at_the_books()
    }

    /// What a healed world owes: everything promised is there or declared, and both accounts say so.
    pub fn check_complete(&self, cloud: &Cloud) -> Checked {
        let ledger = self.ledger().ok_or("the spool is not open")?;
        for (&lane, books) in Lane::ALL.iter().zip(ledger) {
            let id = BlockId { lane, first: 1, last: books.admitted };
            if let Some(seq) =
                cloud.first_unsettled(self.index, id, self.epoch).filter(|&seq| seq <= books.admitted)
            {
                return Err(format!("{} {lane} {seq} is released and nowhere", self.name));
            }
            let stored = cloud.stored(self.index, lane, self.epoch);
            let held = stored.map_or(0, |s| s.records.len() as u64);
            let declared = stored.map_or(0, |s| s.declared.count());
            // A block that was on its way when it was given up may have arrived all the same: then more is held than was
            // acknowledged, and as much less declared than given up.
            let even = held + declared == books.admitted && declared <= books.evicted_total();
            if !even || books.pending > 0 || books.acknowledged > held {
                return Err(format!("{} {lane}: {books:?}, and {held} held, {declared} declared", self.name));
            }
        }
        Ok(())
    }

    /// Where it stands, for the trace.
    pub fn word(&self) -> String {
        let ledger = self.ledger().map(|books| books.map(|b| (b.admitted, b.pending, b.evicted_total())));
        let (wire, acks, asked) = (self.line.wire.len(), self.line.acks.len(), self.fetches.len());
        let dbs = self.shelf.disk().databases();
        format!(
            "{} up {} wire {wire} acks {acks} fetches {asked} dbs {dbs} {ledger:?}",
            self.name, self.line.up
        )
    }

    pub fn rot(&mut self) {
        self.shelf.disk().rot();
    }
}

/// Of a lane: now and then from the largest reserve to a half of all.
fn quota(rng: &mut Rng, bytes_max: u64) -> Option<u64> {
    (rng.u32(0..4) == 0).then(|| rng.u64(bytes_max / 5..bytes_max / 2))
}

fn uplink_options(mistake: Mistake) -> UplinkOptions {
    UplinkOptions {
        ack: if mistake == Mistake::ReleaseAtPubAck { AckMode::Broker } else { AckMode::Aggregator },
        window_blocks: WINDOW,
        window_bytes: 1000,
        unacked_bytes_max: UNACKED_BYTES_MAX,
        ..UplinkOptions::default()
    }
}

const WINDOW: usize = 8;
const UNACKED_BYTES_MAX: usize = 4000;
