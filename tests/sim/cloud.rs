//! Broker and aggregator: the real intake over a store of which only what was committed survives.

use std::collections::{BTreeMap, BTreeSet};

use outpost::sync::intake::{Intake, LaneState, Offer, Verdict};
use outpost::sync::ranges::RangeSet;
use outpost::time::{BootId, Mono};
use outpost::wire::ack::AckMessage;
use outpost::wire::heartbeat::Heartbeat;
use outpost::wire::{BlockId, Body, Lane, decode_block};

use crate::Mistake;
use crate::device::Device;
use crate::line::Message;
use crate::records::serial_of;
use crate::world::Checked;

type Key = (usize, Lane, u64);

pub struct Cloud {
    mistake: Mistake,
    /// What the broker holds for the aggregator: when it may be delivered, of whom, what.
    pub inbox: Vec<(Mono, usize, Message)>,
    intake: Intake,
    lanes: BTreeMap<Key, Stored>,
    pub records: u64,
    /// Records that came after they had been declared as given up, and gaps' records that were here already.
    pub revived: u64,
    pub outlived: u64,
    pub misread: u64,
    pub duplicates: u64,
    pub crashes: u64,
}

/// What is durable of one lane.
#[derive(Default)]
pub struct Stored {
    pub records: BTreeMap<u64, Option<u64>>,
    pub declared: RangeSet,
    state: LaneState,
    /// By first number, when a block of records was sealed by its own clock.
    seals: BTreeMap<u64, (BootId, Mono)>,
}

/// What becomes of the aggregator while it works on a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Works,
    CrashesBeforeTheCommit,
    CrashesAfterTheCommit,
    CannotCommit,
}

struct Judged {
    offer: Offer,
    unseen: Vec<(u64, u64)>,
    serials: Vec<Option<u64>>,
    sealed: (BootId, Mono),
}

impl Cloud {
    pub fn new(mistake: Mistake) -> Self {
        Self {
            mistake,
            inbox: Vec::new(),
            intake: Intake::new(),
            lanes: BTreeMap::new(),
            records: 0,
            revived: 0,
            outlived: 0,
            misread: 0,
            duplicates: 0,
            crashes: 0,
        }
    }

    pub fn stored(&self, device: usize, lane: Lane, epoch: u64) -> Option<&Stored> {
        self.lanes.get(&(device, lane, epoch))
    }

    /// The first of these numbers that is neither stored nor declared.
    pub fn first_unsettled(&self, device: usize, id: BlockId, epoch: u64) -> Option<u64> {
        let Some(stored) = self.stored(device, id.lane, epoch) else { return Some(id.first) };
        let settled = |seq: &u64| stored.records.contains_key(seq) || stored.declared.covers(*seq, *seq);
        (id.first..=id.last).find(|seq| !settled(seq))
    }

    /// Takes up to `count` messages: one transaction, then the answers.
    pub fn take(&mut self, now: Mono, count: usize, fate: Fate, devices: &mut [Device]) -> Checked {
        let ready = |m: &(Mono, usize, Message)| m.0 <= now;
        let batch: Vec<_> =
            (0..count).map_while(|_| Some(self.inbox.remove(self.inbox.iter().position(ready)?))).collect();
        let (mut judged, mut touched) =
            (BTreeMap::<usize, Vec<Judged>>::new(), BTreeMap::<usize, Vec<Offer>>::new());
        for (_, device, message) in batch {
            match message {
                Message::Heartbeat(bytes) => self.hear(device, &bytes)?,
                Message::Block { lane, payload, .. } => {
                    let Some(block) = self.judge(device, lane, &payload) else { continue };
                    touched.entry(device).or_default().push(block.offer);
                    judged.entry(device).or_default().push(block);
                }
            }
        }
        let before = fate == Fate::CrashesBeforeTheCommit;
        if before && self.mistake == Mistake::AckBeforeCommit {
            for (&device, offers) in &touched {
                self.intake.committed(&devices[device].name, offers);
            }
            self.answer(now, &touched, devices);
        }
        match fate {
            Fate::CannotCommit => return Ok(()),
            Fate::CrashesBeforeTheCommit => return self.crash(devices),
            Fate::Works | Fate::CrashesAfterTheCommit => {}
        }
        for (device, blocks) in judged {
            self.commit(device, blocks, &devices[device])?;
        }
        if fate == Fate::CrashesAfterTheCommit {
            return self.crash(devices);
        }
        self.answer(now, &touched, devices);
        Ok(())
    }

    /// Only what is stored comes back.
    pub fn crash(&mut self, devices: &[Device]) -> Checked {
        self.crashes += 1;
        self.intake = Intake::new();
        if self.mistake == Mistake::ForgetWhatIsStored {
            return Ok(());
        }
        for (&(device, lane, epoch), stored) in &self.lanes {
            let state = serde_json::to_string(&stored.state).map_err(|e| e.to_string())?;
            let state =
                serde_json::from_str(&state).map_err(|e| format!("a stored lane does not read: {e}"))?;
            self.intake.restore(&devices[device].name, lane, epoch, state);
        }
        Ok(())
    }

    fn judge(&mut self, device: usize, lane: Lane, payload: &[u8]) -> Option<Judged> {
        let Ok(block) = decode_block(payload) else {
            self.misread += 1;
            return None;
        };
        let header = block.header;
        let gap = header.body != Body::Records;
        let offer = Offer { epoch: header.epoch, id: header.id(), gap };
        assert_eq!(header.lane, lane, "the block was published on another lane's topic");
        let unseen = match self.intake.offer(&device_name(device), &offer) {
            Verdict::Commit { unseen } => unseen,
            Verdict::Duplicate => Vec::new(),
            Verdict::Refuse(why) => panic!("an honest block was refused: {why}"),
        };
        self.duplicates += u64::from(unseen.is_empty());
        let serials = block.records.iter().map(serial_of).collect();
        Some(Judged { offer, unseen, serials, sealed: (header.sealed.boot, header.sealed.mono) })
    }

    fn commit(&mut self, index: usize, blocks: Vec<Judged>, device: &Device) -> Checked {
        let mut now_stored = BTreeSet::new();
        for Judged { offer, unseen, serials, sealed } in blocks {
            let key = (index, offer.id.lane, offer.epoch);
            let stored = self.lanes.entry(key).or_default();
            if offer.gap {
                self.outlived += stored.records.range(offer.id.first..=offer.id.last).count() as u64;
            }
            if !offer.gap && !unseen.is_empty() {
                stored.seals.insert(offer.id.first, sealed);
            }
            for seq in unseen.into_iter().flat_map(|(first, last)| first..=last) {
                if offer.gap {
                    // Another copy of the block may have come within this very batch.
                    if !stored.records.contains_key(&seq) {
                        stored.declared.insert(seq, seq);
                    }
                    continue;
                }
                let serial = serials[(seq - offer.id.first) as usize];
                device.account(offer.epoch).is_promised(offer.id.lane, seq, serial)?;
                let before = stored.records.insert(seq, serial);
                if before.is_some() && !now_stored.contains(&(key, seq)) {
                    return Err(format!("{} {} {seq} is stored twice", device.name, offer.id.lane));
                }
                now_stored.insert((key, seq));
                self.revived += u64::from(stored.declared.covers(seq, seq));
                stored.declared.remove(seq, seq);
                self.records += u64::from(before.is_none());
            }
            self.intake.committed(&device.name, &[offer]);
            if let Some(state) = self.intake.state(&device.name, offer.id.lane, offer.epoch) {
                self.lanes.entry(key).or_default().state = state.clone();
            }
        }
        Ok(())
    }

    fn answer(&self, now: Mono, touched: &BTreeMap<usize, Vec<Offer>>, devices: &mut [Device]) {
        for (&device, offers) in touched {
            let lanes = self.intake.ack(&devices[device].name, offers);
            for lanes in lanes.chunks(outpost::limits::ACK_LANES_MAX) {
                let bytes = AckMessage { lanes: lanes.to_vec() }.encode();
                devices[device].line.acks.push_back((now, bytes));
            }
        }
    }

    /// The device's own account, as it is signed into a heartbeat, never says more than what is here.
    fn hear(&self, device: usize, bytes: &[u8]) -> Checked {
        let Ok(beat) = Heartbeat::decode(bytes) else { return Ok(()) };
        for (lane, said) in Lane::ALL.iter().zip(&beat.lanes) {
            let held = self.stored(device, *lane, said.epoch()).map_or(0, |s| s.records.len() as u64);
            if !said.is_even() || said.acknowledged > held {
                return Err(format!("device {device} {lane}: {said:?}, and {held} records are here"));
            }
        }
        Ok(())
    }

    /// Intake and store agree, and within a lane nothing was sealed before what stands before it.
    pub fn check(&self, devices: &[Device]) -> Checked {
        for (&(device, lane, epoch), stored) in &self.lanes {
            let account = stored.state.account();
            let here = (stored.records.len() as u64, stored.declared.count());
            if (account.committed, account.declared) != here {
                return Err(format!(
                    "{} {lane} {epoch}: the intake says {account:?}, here is {here:?}",
                    devices[device].name
                ));
            }
            let seals: Vec<_> = stored.seals.values().map(|(boot, mono)| (boot.0, *mono)).collect();
            if let Some(at) = seals.windows(2).position(|two| two[0] > two[1]) {
                return Err(format!(
                    "{} {lane}: sealed {:?} after {:?}",
                    devices[device].name,
                    seals[at],
                    seals[at + 1]
                ));
            }
        }
        Ok(())
    }
}

pub fn device_name(index: usize) -> String {
    format!("pump{index}")
}
