//! The desk where messages are judged, kept and answered: intake and store behind one door, on the thread `sqlite`.
//!
//! A batch is whatever has queued up, within the bounds of one transaction. Its acknowledgements exist only after the
//! commit has returned. A failed commit answers nobody: the devices send again, which the intake and the store bear.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use smol::channel::{Receiver, Sender};

use super::store::{Content, Delivery, Outcome, Signs, Store, StoreError, Trust};
use super::topic::{self, Subject};
use crate::clock;
use crate::limits;
use crate::observe::aggregator::{
    BatchCommitted, BlockCommitted, BlockRefused, BlockUnread, CommitFailed, MessageMalformed, UnreadRead,
};
use crate::observe::{self, Event, metrics};
use crate::sync::intake::{Intake, Offer, Verdict};
use crate::sync::ranges::RangeSet;
use crate::time::{Mono, Wall};
use crate::tls;
use crate::wire::ack::AckMessage;
use crate::wire::block::{Block, Body, decode_block, decode_header};
use crate::wire::heartbeat::{Heartbeat, signed_message, signed_parts};
use crate::wire::{BlockId, Lane, Record, WireError};

/// Work for the desk.
#[derive(Debug)]
pub enum Job {
    /// A message of the broker.
    Message {
        /// Its topic.
        topic: String,
        /// Its payload.
        payload: Vec<u8>,
    },
    /// Time to look whether something is too old.
    Retain,
}

/// An answer to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whom.
    pub device: String,
    /// What the aggregator holds.
    pub ack: AckMessage,
}

/// Intake and store.
pub struct Desk {
    store: Store,
    intake: Intake,
    prefix: String,
    /// Folder of the devices' certificates.
    certificates: Option<PathBuf>,
    malformed: Sampler,
    refused: Sampler,
}

impl Desk {
    /// Rebuilds from `store` what was settled before. A device whose certificate lies in `certificates` must sign.
    pub fn new(mut store: Store, prefix: &str, certificates: Option<PathBuf>) -> Result<Self, StoreError> {
        match store.read_again() {
            Ok(0) => {}
            Ok(blocks) => observe::emit(&UnreadRead { blocks }),
            // They wait for the next start; what comes now is more urgent.
            Err(reason) => observe::emit(&CommitFailed { reason: &reason, blocks: 0 }),
        }
        let mut lanes: BTreeMap<(String, Lane, u64), (RangeSet, RangeSet)> = BTreeMap::new();
        store.settled(|s| {
            lanes.entry((s.device, s.lane, s.epoch)).or_default().0.insert(s.first, s.last);
        })?;
        store.declared_gaps(|s| {
            let (records, gaps) = lanes.entry((s.device, s.lane, s.epoch)).or_default();
            records.remove(s.first, s.last);
            gaps.insert(s.first, s.last);
        })?;
        let mut intake = Intake::new();
        for ((device, lane, epoch), (records, gaps)) in lanes {
            let offer =
                |&(first, last): &(u64, u64), gap| Offer { epoch, id: BlockId { lane, first, last }, gap };
            let records = records.ranges().iter().map(|r| offer(r, false));
            let offers: Vec<_> = records.chain(gaps.ranges().iter().map(|r| offer(r, true))).collect();
            intake.committed(&device, &offers);
        }
        Ok(Self {
            store,
            intake,
            prefix: prefix.to_owned(),
            certificates,
            malformed: Sampler::default(),
            refused: Sampler::default(),
        })
    }

    /// Devices that have delivered.
    pub fn devices(&self) -> usize {
        self.intake.devices().count()
    }

    /// Works until `jobs` is closed and empty; gives up early only when nobody takes answers any more.
    pub fn work(mut self, jobs: &Receiver<Job>, answers: &Sender<Answer>) {
        while let Ok(first) = jobs.recv_blocking() {
            let (messages, retain) = gather(first, jobs);
            match self.take(clock::wall(), messages) {
                Ok(acks) => {
                    for answer in acks {
                        if answers.send_blocking(answer).is_err() {
                            return;
                        }
                    }
                }
                // The disk rarely recovers within a millisecond; meanwhile the queue fills and the broker holds back.
                Err(_) => std::thread::sleep(Duration::from_secs(1)),
            }
            if retain {
                self.retain(jobs);
            }
        }
    }

    /// Judges and keeps `messages`, then returns what to acknowledge; on error nothing was kept.
    pub fn take(&mut self, now: Wall, messages: Vec<(String, Vec<u8>)>) -> Result<Vec<Answer>, StoreError> {
        let mut batch = Batch::default();
        for (topic, payload) in messages {
            self.judge(&mut batch, &topic, payload);
        }
        let outcomes = self.store.write(now, &batch.deliveries, &batch.signs).inspect_err(|reason| {
            observe::emit(&CommitFailed { reason, blocks: batch.deliveries.len() });
        })?;
        let mut committed =
            BatchCommitted { blocks: 0, records: 0, duplicates: batch.known.len().try_into().unwrap_or(0) };
        let mut settled: BTreeMap<String, Vec<Offer>> = BTreeMap::new();
        for (delivery, outcome) in batch.deliveries.iter().zip(outcomes) {
            match outcome {
                Outcome::Added(records) => {
                    let (device, id) = (&*delivery.device, offer_of(delivery).id);
                    match &delivery.content {
                        Content::Unread { why, .. } => observe::emit(&BlockUnread { device, id, why }),
                        _ => observe::emit(&BlockCommitted { device, id }),
                    }
                    committed.blocks += 1;
                    committed.records += records;
                }
                Outcome::Known => committed.duplicates += 1,
                Outcome::Refused(reason) => {
                    self.refuse(&topic::ack(&self.prefix, &delivery.device), &reason);
                    continue;
                }
            }
            settled.entry(delivery.device.clone()).or_default().push(offer_of(delivery));
        }
        if committed.blocks + committed.duplicates > 0 {
            observe::emit(&committed);
        }
        Ok(self.answer(settled, batch.known))
    }

    fn judge(&mut self, batch: &mut Batch, topic: &str, payload: Vec<u8>) {
        let Some((device, subject)) = topic::parse(&self.prefix, topic) else {
            return self.misread(topic, &"no such topic");
        };
        match subject {
            Subject::Up(lane) => match read_block(device, lane, payload) {
                Ok(delivery) => self.offer(batch, topic, delivery),
                Err(reason) => self.misread(topic, &reason),
            },
            Subject::Heartbeat => match Heartbeat::decode(&payload) {
                Ok(_) => match self.trust(device, &payload) {
                    Ok(trust) => batch.signs_of(device).heartbeat = Some((payload, trust)),
                    Err(reason) => {
                        self.misread(topic, &reason);
                        batch.signs_of(device).forged = Some(reason);
                    }
                },
                Err(reason) => self.misread(topic, &reason),
            },
            Subject::State => match std::str::from_utf8(&payload) {
                Ok(state @ ("online" | "offline" | "sleeping")) => {
                    batch.signs_of(device).state = Some(state.to_owned());
                }
                // An empty retained message clears the topic: the operator removed the device.
                Ok("") => {}
                _ => self.misread(topic, &"no such state"),
            },
        }
    }

    /// How far a heartbeat can be trusted, or why it must not be taken.
    fn trust(&self, device: &str, payload: &[u8]) -> Result<Trust, String> {
        let signed = signed_parts(payload).filter(|(_, signature)| !signature.is_empty());
        let known =
            self.certificates.as_ref().map(|dir| dir.join(format!("{device}.pem"))).filter(|f| f.exists());
        match (known, signed) {
            (None, None) => Ok(Trust::Unsigned),
            (None, Some(_)) => Ok(Trust::Unchecked),
            (Some(file), None) => Err(format!(
                "A heartbeat came without a signature, although {} is here: look for another sender in its name, or for a \
                 device without its key.",
                file.display()
            )),
            (Some(file), Some((state, signature))) => {
                match tls::is_signed_by(&file, &signed_message(device, &state), &signature) {
                    Ok(true) => Ok(Trust::Verified),
                    Ok(false) => Err(format!(
                        "A heartbeat came whose signature was not made with the key of {}: look for another sender in its \
                         name, or put the device's new certificate there.",
                        file.display()
                    )),
                    Err(reason) => Err(format!("A heartbeat could not be checked: {reason}.")),
                }
            }
        }
    }

    fn offer(&mut self, batch: &mut Batch, topic: &str, delivery: Delivery) {
        let offer = offer_of(&delivery);
        match self.intake.offer(&delivery.device, &offer) {
            Verdict::Commit { .. } => batch.deliveries.push(delivery),
            Verdict::Duplicate => batch.known.push((delivery.device, offer)),
            Verdict::Refuse(reason) => self.refuse(topic, &reason),
        }
    }

    fn answer(&mut self, settled: BTreeMap<String, Vec<Offer>>, known: Vec<(String, Offer)>) -> Vec<Answer> {
        let mut touched = settled;
        for (device, offers) in &touched {
            self.intake.committed(device, offers);
        }
        for (device, offer) in known {
            touched.entry(device).or_default().push(offer);
        }
        let mut answers = Vec::with_capacity(touched.len());
        for (device, offers) in touched {
            let lanes = self.intake.ack(&device, &offers);
            answers.extend(
                lanes.chunks(limits::ACK_LANES_MAX).map(|lanes| Answer {
                    device: device.clone(),
                    ack: AckMessage { lanes: lanes.to_vec() },
                }),
            );
        }
        answers
    }

    /// Deletes in small steps as long as nothing more urgent waits.
    fn retain(&mut self, jobs: &Receiver<Job>) {
        loop {
            match self.store.retain(clock::wall()) {
                Ok(more) if more && jobs.is_empty() => {}
                Ok(_) => return,
                Err(reason) => return observe::emit(&CommitFailed { reason: &reason, blocks: 0 }),
            }
        }
    }

    fn misread(&mut self, topic: &str, reason: &dyn std::fmt::Display) {
        metrics::PACKETS_MALFORMED.inc();
        self.malformed.emit(|count| MessageMalformed { topic: short(topic), reason, count });
    }

    fn refuse(&mut self, topic: &str, reason: &dyn std::fmt::Display) {
        metrics::INTAKE_REFUSED.inc();
        self.refused.emit(|count| BlockRefused { topic: short(topic), reason, count });
    }
}

/// What one transaction is made of.
#[derive(Default)]
struct Batch {
    deliveries: Vec<Delivery>,
    known: Vec<(String, Offer)>,
    signs: BTreeMap<String, Signs>,
}

impl Batch {
    fn signs_of(&mut self, device: &str) -> &mut Signs {
        self.signs.entry(device.to_owned()).or_default()
    }
}

/// Lets one line in ten seconds through: a broken device must not fill the log.
#[derive(Default)]
struct Sampler {
    count: u64,
    last: Option<Mono>,
}

impl Sampler {
    fn emit<E: Event>(&mut self, event: impl FnOnce(u64) -> E) {
        self.count += 1;
        let now = clock::mono();
        if self.last.is_none_or(|last| now.since(last) > Duration::from_secs(10)) {
            observe::emit(&event(self.count));
            *self = Self { count: 0, last: Some(now) };
        }
    }
}

/// `first` and what has queued up behind it, within the bounds of one transaction; and whether retention is due.
fn gather(first: Job, jobs: &Receiver<Job>) -> (Vec<(String, Vec<u8>)>, bool) {
    let begun = clock::mono();
    let (mut messages, mut bytes, mut retain) = (Vec::new(), 0, false);
    let mut next = Some(first);
    while let Some(job) = next {
        match job {
            Job::Retain => retain = true,
            Job::Message { topic, payload } => {
                bytes += payload.len();
                messages.push((topic, payload));
            }
        }
        let room = messages.len() < limits::AGGREGATOR_COMMIT_BLOCKS_MAX
            && bytes < limits::AGGREGATOR_COMMIT_BYTES_MAX - limits::BLOCK_BYTES_MAX
            && clock::mono().since(begun) < Duration::from_millis(limits::AGGREGATOR_COMMIT_MS_MAX);
        next = if room { jobs.try_recv().ok() } else { None };
    }
    (messages, retain)
}

fn read_block(device: &str, lane: Lane, payload: Vec<u8>) -> Result<Delivery, String> {
    let (header, content) = match decode_block(&payload) {
        Ok(Block { header, records }) => match header.body {
            Body::Records => (header, Content::Records { records, payload }),
            Body::Gap { reason, .. } => (header, Content::Gap(reason)),
        },
        // It arrived as it was sent, and says whose records these are: a device that is newer than this program.
        Err(WireError::Malformed(why)) => match decode_header(&payload) {
            Ok(header) if header.body == Body::Records => {
                (header, Content::Unread { payload, why: why.to_owned() })
            }
            _ => return Err(WireError::Malformed(why).to_string()),
        },
        Err(e) => return Err(e.to_string()),
    };
    let is_foreign = |record: &Record| record.lane() != lane;
    if header.lane != lane
        || matches!(&content, Content::Records { records, .. } if records.iter().any(is_foreign))
    {
        return Err(format!("the block does not belong to lane {lane}"));
    }
    Ok(Delivery {
        device: device.to_owned(),
        lane,
        epoch: header.epoch,
        first: header.first,
        last: header.last(),
        sealed: header.sealed,
        content,
    })
}

fn offer_of(delivery: &Delivery) -> Offer {
    Offer {
        epoch: delivery.epoch,
        id: BlockId { lane: delivery.lane, first: delivery.first, last: delivery.last },
        gap: matches!(delivery.content, Content::Gap(_)),
    }
}

/// What of a hostile topic a log line can bear.
fn short(topic: &str) -> &str {
    &topic[..topic.floor_char_boundary(120)]
}

#[cfg(test)]
mod tests;
