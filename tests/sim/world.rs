//! The world: one to eight gateways, their lines, a broker, an aggregator, and everything that can happen to them.

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;
use outpost::sync::uplink::Audience;
use outpost::time::Mono;
use outpost::wire::{Lane, PerLane};

use crate::Mistake;
use crate::cloud::{Cloud, Fate};
use crate::device::Device;
use crate::line::Message;

/// The first broken promise as the error.
pub type Checked = Result<(), String>;

pub struct World {
    rng: Rng,
    /// How often each kind of thing happens in this world.
    odds: [u32; EVENTS.len()],
    healed: bool,
    pub now: Mono,
    /// Longest time between two things that happen, in milliseconds; hours while a long outage lasts.
    pace_ms: u64,
    pace_until: Mono,
    pub devices: Vec<Device>,
    pub cloud: Cloud,
    pub longest_outage: Duration,
    /// Until when the broker has nobody for blocks of a lane.
    deaf_until: PerLane<Mono>,
    trace: Option<VecDeque<String>>,
}

/// One kind of thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Admit,
    Commit,
    Fetch,
    Carry,
    TakeIn,
    CarryAck,
    Tick,
    Heartbeat,
    Connect,
    // What goes wrong.
    Cut,
    Silence,
    Part,
    Crash,
    PowerCut,
    PowerSoon,
    Wipe,
    FullDisk,
    FailingDisk,
    SlowDisk,
    DiskLow,
    Rot,
    SetClock,
    BrokerForgets,
    AggregatorCrash,
    FarSideRefuses,
}

/// Each with its weight; in a given world some of what goes wrong never does, and some does often.
const EVENTS: [(Event, u32); 25] = [
    (Event::Admit, 160),
    (Event::Commit, 140),
    (Event::Fetch, 300),
    (Event::Carry, 200),
    (Event::TakeIn, 120),
    (Event::CarryAck, 120),
    (Event::Tick, 60),
    (Event::Heartbeat, 15),
    (Event::Connect, 80),
    (Event::Cut, 12),
    (Event::Silence, 5),
    (Event::Part, 4),
    (Event::Crash, 6),
    (Event::PowerCut, 5),
    (Event::PowerSoon, 5),
    (Event::Wipe, 1),
    (Event::FullDisk, 4),
    (Event::FailingDisk, 5),
    (Event::SlowDisk, 3),
    (Event::DiskLow, 3),
    (Event::Rot, 2),
    (Event::SetClock, 5),
    (Event::BrokerForgets, 3),
    (Event::AggregatorCrash, 10),
    (Event::FarSideRefuses, 2),
];
const CALM_EVENTS: usize = 9;

impl World {
    pub fn new(seed: u64, mistake: Mistake, traced: bool) -> Result<Self, String> {
        let mut rng = Rng::with_seed(seed);
        let count = if rng.bool() { 1 } else { rng.usize(2..=8) };
        let devices = (0..count).map(|i| Device::new(i, rng.fork(), mistake)).collect::<Result<_, _>>()?;
        let mut odds = EVENTS.map(|(_, weight)| weight);
        for weight in &mut odds[CALM_EVENTS..] {
            *weight *= [0, 1, 1, 4][rng.usize(0..4)];
        }
        Ok(Self {
            rng,
            odds,
            healed: false,
            now: Mono(1),
            pace_ms: 400,
            pace_until: Mono(0),
            devices,
            cloud: Cloud::new(mistake),
            longest_outage: Duration::ZERO,
            deaf_until: [Mono(0); Lane::ALL.len()],
            trace: traced.then(VecDeque::new),
        })
    }

    /// The last steps, where they were noted.
    pub fn trace(&self) -> Vec<String> {
        self.trace.iter().flatten().cloned().collect()
    }

    /// One thing happens.
    pub fn step(&mut self) -> Checked {
        let pace_ms = if self.now < self.pace_until { self.pace_ms } else { 400 };
        self.now = self.now + Duration::from_millis(self.rng.u64(0..pace_ms));
        let at = self.rng.usize(0..self.devices.len());
        let event = self.draw();
        if self.trace.is_some() {
            self.note(event, at);
        }
        if !self.devices[at].is_busy(self.now)
            || matches!(event, Event::PowerCut | Event::TakeIn | Event::AggregatorCrash)
        {
            self.happen(event, at)?;
        }
        self.aftermath(at)
    }

    fn draw(&mut self) -> Event {
        let mut left = self.rng.u32(0..self.odds.iter().sum());
        for ((event, _), odds) in EVENTS.iter().zip(self.odds) {
            if left < odds {
                return *event;
            }
            left -= odds;
        }
        Event::Tick
    }

    fn note(&mut self, event: Event, at: usize) {
        let line =
            format!("{:>12} ms  {event:?} {at}  before: {}", self.now.0 / 1000, self.devices[at].word());
        if let Some(trace) = &mut self.trace {
            trace.push_back(line);
            if trace.len() > TRACE_STEPS {
                trace.pop_front();
            }
        }
    }

    fn happen(&mut self, event: Event, at: usize) -> Checked {
        let (now, device, cloud) = (self.now, &mut self.devices[at], &mut self.cloud);
        match event {
            Event::Admit => {
                let lane = Lane::ALL[self.rng.usize(0..4)];
                let most = if lane == Lane::Digest { 3 } else { 20 };
                device.admit(now, lane, self.rng.u64(1..most));
            }
            Event::Commit => return device.commit(now, cloud).map(drop),
            Event::Fetch => return device.fetch(now, cloud),
            Event::Carry => return self.carry(at),
            Event::TakeIn => return self.take_in(),
            Event::CarryAck => return self.carry_ack(at),
            Event::Tick => return device.tick(now, cloud),
            Event::Heartbeat => device.heartbeat(now),
            Event::Connect => return self.connect(at),
            Event::Cut => return device.cut(now, cloud),
            Event::Silence if device.line.up => {
                device.line.silent_since.get_or_insert(now);
            }
            Event::Silence => {}
            Event::Part => return self.part(at),
            Event::Crash => return device.crash(now, false),
            Event::PowerCut => return device.crash(now, true),
            Event::PowerSoon => device.shelf.disk().power_for = Some(self.rng.u32(0..6)),
            Event::Wipe => return device.wipe(now),
            Event::FullDisk => device.shelf.disk().full ^= true,
            Event::FailingDisk => device.shelf.disk().failing_percent = self.rng.u32(0..3) * 25,
            Event::SlowDisk => device.shelf.disk().sync_time = Duration::from_millis(self.rng.u64(0..20_000)),
            Event::DiskLow => {
                let low = self.rng.bool();
                device.spool.iter_mut().for_each(|spool| spool.set_disk_low(low));
            }
            Event::Rot => device.rot(),
            Event::SetClock => device.clock.step(now, &mut self.rng),
            Event::BrokerForgets => {
                let kept = self.rng.usize(0..=cloud.inbox.len());
                cloud.inbox.drain(kept..);
                device.line.acks.clear();
            }
            Event::AggregatorCrash => return cloud.crash(&self.devices),
            Event::FarSideRefuses => return device.refuse_oldest(now, Lane::ALL[self.rng.usize(0..4)]),
        }
        Ok(())
    }

    /// What follows of itself: the power is gone, the line is found dead, a digest is ready.
    fn aftermath(&mut self, at: usize) -> Checked {
        let (now, device) = (self.now, &mut self.devices[at]);
        if device.is_dead() {
            device.crash(now, true)?;
        }
        if device.spool.is_none() {
            device.open(now)?;
        }
        if device.line.silent_since.is_some_and(|since| now.since(since) > HALF_OPEN) {
            device.cut(now, &mut self.cloud)?;
        }
        device.name_first_if_due(now, &self.cloud)?;
        device.look_at_the_books()
    }

    fn connect(&mut self, at: usize) -> Checked {
        let device = &mut self.devices[at];
        if device.line.up || device.line.parted_until > self.now {
            return Ok(());
        }
        let small = !self.healed && self.rng.u32(0..20) == 0;
        device.connect(self.now, &self.cloud, if small { 700 } else { 1 << 20 })
    }

    /// No way through: mostly for seconds, sometimes for 5 minutes to 72 hours.
    fn part(&mut self, at: usize) -> Checked {
        let long = self.rng.u32(0..3) == 0;
        let seconds = if long { 300 << self.rng.u32(0..11) } else { self.rng.u64(1..60) };
        let outage = Duration::from_secs(seconds.min(72 * 3600));
        let device = &mut self.devices[at];
        device.line.parted_until = self.now + outage;
        device.cut(self.now, &mut self.cloud)?;
        if long && self.pace_until < self.now {
            self.pace_ms = outage.as_millis() as u64 / 30;
            self.pace_until = device.line.parted_until;
        }
        self.longest_outage = self.longest_outage.max(outage);
        Ok(())
    }

    /// The broker takes one publish and answers; it may refuse it, lose it later, double it, or find it garbled.
    fn carry(&mut self, at: usize) -> Checked {
        let (now, line) = (self.now, &mut self.devices[at].line);
        let arrives = line.passes() && line.wire.front().is_some_and(|m| m.0 <= now);
        if let Some((_, message)) = arrives.then(|| line.wire.pop_front()).flatten() {
            let fate = if self.healed { 99 } else { self.rng.u32(0..100) };
            self.at_broker(at, message, fate);
        }
        self.devices[at].answer(now, &self.cloud)
    }

    fn at_broker(&mut self, at: usize, mut message: Message, fate: u32) {
        let (now, inbox) = (self.now, &mut self.cloud.inbox);
        let line = &mut self.devices[at].line;
        let mut result = Ok(Audience::Unknown);
        let mut ready = now + Duration::from_millis(self.rng.u64(0..500));
        if let Message::Block { token, lane, .. } = message {
            let deaf_until = &mut self.deaf_until[lane.index()];
            if fate == 22 {
                *deaf_until = now + Duration::from_secs(self.rng.u64(0..300));
            }
            if !self.healed && now < *deaf_until {
                line.answers.push_back((ready, token, Ok(Audience::Nobody)));
                return;
            }
        }
        if (16..22).contains(&fate) {
            // Held up somewhere, for as long as others are sent again and given up.
            ready = now + Duration::from_secs(self.rng.u64(0..600));
        }
        match fate {
            0 => result = Err(0x97),
            1 => result = Err(0x99),
            2 => result = Err(0x87),
            3..6 => {}
            6..9 => inbox.extend([(ready, at, message.clone()), (ready, at, message.clone())]),
            9..13 => inbox.insert(self.rng.usize(0..=inbox.len()), (ready, at, message.clone())),
            13..16 => {
                garble(&mut message, &mut self.rng);
                inbox.push((ready, at, message.clone()));
            }
            _ => inbox.push((ready, at, message.clone())),
        }
        if let Message::Block { token, .. } = message {
            line.answers.push_back((ready, token, result));
        }
    }

    fn take_in(&mut self) -> Checked {
        let count = self.rng.usize(0..=8);
        let fate = match self.rng.u32(0..40) {
            _ if self.healed => Fate::Works,
            0 => Fate::CrashesBeforeTheCommit,
            1 => Fate::CrashesAfterTheCommit,
            2 => Fate::CannotCommit,
            _ => Fate::Works,
        };
        self.cloud.take(self.now, count, fate, &mut self.devices)
    }

    /// An acknowledgement arrives, out of order, twice, garbled, or never.
    fn carry_ack(&mut self, at: usize) -> Checked {
        let device = &mut self.devices[at];
        if device.line.acks.is_empty() || !device.line.passes() {
            return Ok(());
        }
        let fate = if self.healed { 99 } else { self.rng.u32(0..100) };
        let acks = &mut device.line.acks;
        let which = if fate < 40 { self.rng.usize(0..acks.len()) } else { 0 };
        let (_, mut bytes) =
            if fate < 10 { acks[which].clone() } else { acks.remove(which).unwrap_or_default() };
        if (10..20).contains(&fate) {
            return Ok(());
        }
        if (20..22).contains(&fate) {
            flip(&mut bytes, &mut self.rng);
        }
        device.acknowledge(self.now, &self.cloud, &bytes)
    }

    /// No more faults: everything promised must arrive and be released, within an hour.
    pub fn heal(&mut self) -> Checked {
        self.healed = true;
        for at in 0..self.devices.len() {
            let device = &mut self.devices[at];
            device.cut(self.now, &mut self.cloud)?;
            device.line.parted_until = self.now;
            let mut disk = device.shelf.disk();
            (disk.full, disk.failing_percent, disk.power_for, disk.sync_time) =
                (false, 0, None, Duration::ZERO);
        }
        let by = self.now + HEALING;
        while self.now < by {
            self.now = self.now + Duration::from_millis(self.rng.u64(50..2000));
            for at in 0..self.devices.len() {
                self.live(at)?;
            }
            if self.cloud.inbox.is_empty() && self.devices.iter().all(Device::is_drained) {
                return self.check_complete();
            }
        }
        let waiting: Vec<String> =
            self.devices.iter().filter(|d| !d.is_drained()).map(Device::word).collect();
        Err(format!("not delivered in a healed world: {waiting:?}"))
    }

    /// A while of ordinary life.
    fn live(&mut self, at: usize) -> Checked {
        if self.devices[at].is_busy(self.now) {
            return Ok(());
        }
        self.aftermath(at)?;
        self.connect(at)?;
        for event in [Event::Commit, Event::Tick] {
            self.happen(event, at)?;
        }
        for _ in 0..6 {
            for event in [Event::Fetch, Event::Fetch, Event::Carry, Event::CarryAck] {
                self.happen(event, at)?;
            }
        }
        self.take_in()
    }

    fn check_complete(&self) -> Checked {
        self.devices.iter().try_for_each(|device| device.check_complete(&self.cloud))?;
        self.cloud.check(&self.devices)
    }
}

fn garble(message: &mut Message, rng: &mut Rng) {
    match message {
        Message::Block { payload: bytes, .. } | Message::Heartbeat(bytes) => flip(bytes, rng),
    }
}

fn flip(bytes: &mut [u8], rng: &mut Rng) {
    if !bytes.is_empty() {
        bytes[rng.usize(0..bytes.len())] ^= 1 << rng.u32(0..8);
    }
}

/// For how long nothing is noticed on a half-open line: one and a half keep-alives.
const HALF_OPEN: Duration = Duration::from_secs(45);
const HEALING: Duration = Duration::from_secs(3600);
const TRACE_STEPS: usize = 40;
