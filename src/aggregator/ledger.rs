//! The ledger of a device from both sides: what it says it promised, what is here, and whether the two agree.
//!
//! Every record below `admitted` must be here, declared lost, or still held by the device. What is none of these is owed;
//! what is still owed after a grace period, by the device's own word, is a gap that nobody has declared. The grace period is
//! for what is on its way: a heartbeat may overtake blocks.

use std::time::Duration;

use serde_json::{Value, json};

use super::pages::count;
use super::store::{Account, DeviceRow, Fault, LaneHolding, Reader, StoreError, on_their_way};
use crate::wire::block::epoch_text;
use crate::wire::heartbeat::{Heartbeat, LaneBeat};
use crate::wire::{GapReason, Lane};

/// One lane of one spool, from both sides.
pub struct Entry {
    /// The lane.
    pub lane: Lane,
    /// The spool.
    pub epoch: u64,
    /// The device's side, by its latest heartbeat; none for an earlier spool.
    pub beat: Option<LaneBeat>,
    /// What the device said of it last; none for a spool that no heartbeat told of.
    pub account: Option<Account>,
    /// The aggregator's side; none when nothing has arrived.
    pub held: Option<LaneHolding>,
}

/// What the two sides say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Everything that was admitted is here or declared lost.
    Complete,
    /// Nothing is wrong; this many records still wait on the device or are on their way.
    Waiting(u64),
    /// Something is wrong, or can't be explained.
    Wrong {
        /// Records that are missing and not declared; 0 where it is not about records.
        undeclared: u64,
        /// A sentence.
        why: String,
    },
}

/// The ledger of one device.
pub struct Ledger {
    /// Every lane of every spool, the current spool first.
    pub entries: Vec<Entry>,
    /// What it said that can't be true.
    pub faults: Vec<Fault>,
}

impl Ledger {
    /// Reads it from the database. Blocks on disk.
    pub fn read(reader: &Reader, device: &DeviceRow) -> Result<Self, StoreError> {
        let mut holdings = reader.holdings(device.key)?;
        let mut accounts = reader.accounts(device.key)?;
        let beat = device.heartbeat.as_ref().and_then(|(_, bytes)| Heartbeat::decode(bytes).ok());
        let mut entries = Vec::new();
        let mut entry = |lane: Lane, epoch: u64, beat: Option<LaneBeat>, holdings: &mut Vec<LaneHolding>| {
            let held = holdings.iter().position(|h| h.lane == lane && h.epoch == epoch);
            let account = accounts.iter().position(|a| a.lane == lane && a.epoch == epoch);
            let (held, account) = (held.map(|at| holdings.remove(at)), account.map(|at| accounts.remove(at)));
            entries.push(Entry { lane, epoch, beat, account, held });
        };
        for (lane, said) in Lane::ALL.iter().zip(beat.iter().flat_map(|beat| &beat.lanes)) {
            entry(*lane, said.epoch(), Some(*said), &mut holdings);
        }
        while let Some((lane, epoch)) = holdings.first().map(|h| (h.lane, h.epoch)) {
            entry(lane, epoch, None, &mut holdings);
        }
        entries.extend(accounts.into_iter().map(|account| Entry {
            lane: account.lane,
            epoch: account.epoch,
            beat: None,
            account: Some(account),
            held: None,
        }));
        Ok(Self { entries, faults: reader.faults(device.key)? })
    }

    /// Records that are missing and not declared.
    pub fn undeclared(&self, grace: Duration) -> u64 {
        let undeclared = |entry: &Entry| match entry.finding(grace) {
            Finding::Wrong { undeclared, .. } => undeclared,
            _ => 0,
        };
        self.entries.iter().fold(0, |sum: u64, entry| sum.saturating_add(undeclared(entry)))
    }

    /// Whether nothing is wrong.
    pub fn is_good(&self, grace: Duration) -> bool {
        let wrong = |entry: &Entry| matches!(entry.finding(grace), Finding::Wrong { .. });
        self.faults.is_empty() && !self.entries.iter().any(wrong)
    }

    /// For machines.
    pub fn json(&self, device: &DeviceRow, grace: Duration) -> Value {
        let faults = self.faults.iter().map(|fault| {
            json!({ "epoch": epoch_text(fault.epoch), "code": fault.code, "text": fault.text,
                    "first_at": fault.first_at.rfc3339(), "last_at": fault.last_at.rfc3339() })
        });
        json!({
            "device": device.name,
            "trust": device.trust,
            "ok": self.is_good(grace),
            "undeclared": self.undeclared(grace),
            "faults": faults.collect::<Vec<_>>(),
            "lanes": self.entries.iter().map(|entry| entry.json(grace)).collect::<Vec<_>>(),
        })
    }
}

impl Entry {
    /// Compares the two sides. The heartbeat is older than what is here, so more may be here than it knows of.
    pub fn finding(&self, grace: Duration) -> Finding {
        let none = LaneHolding {
            lane: self.lane,
            epoch: self.epoch,
            through: 0,
            highest: 0,
            settled: 0,
            lost: Vec::new(),
            holes: Vec::new(),
        };
        let held = self.held.as_ref().unwrap_or(&none);
        let Some(beat) = self.beat else { return self.earlier(held) };
        if !beat.is_even() {
            return wrong(0, "the device's own account does not add up".into());
        }
        if let short @ 1.. = beat.acknowledged.saturating_sub(held.records()) {
            return wrong(short, format!("{} acknowledged and not here", records(short)));
        }
        let missing = held.missing().saturating_add(beat.admitted.saturating_sub(held.highest));
        // By its own word: a device that is not heard may still hold it.
        let short_us = self.account.as_ref().and_then(|a| Some(a.heard_at.micros_since(a.short_since?)));
        if let (owed @ 1.., Some(short_us)) =
            (missing.saturating_sub(on_their_way(&beat, held.declared())), short_us)
            && short_us >= i64::try_from(grace.as_micros()).unwrap_or(i64::MAX)
        {
            let holes = holes(held, beat.admitted);
            return wrong(
                owed,
                format!("{} missing, not here and not declared lost: {holes}", records(owed)),
            );
        }
        match beat.admitted.saturating_sub(held.settled).min(missing) {
            0 => Finding::Complete,
            n => Finding::Waiting(n),
        }
    }

    /// A spool that has ended can't deliver any more.
    fn earlier(&self, held: &LaneHolding) -> Finding {
        let admitted =
            self.account.as_ref().map_or(held.highest, |account| account.admitted.max(held.highest));
        match admitted.saturating_sub(held.settled) {
            0 => Finding::Complete,
            n => wrong(
                n,
                format!(
                    "{} of a spool that has ended never arrived and were not declared lost: {}; if it was damaged, the \
                     device's notice says what was salvaged and came again",
                    records(n),
                    holes(held, admitted)
                ),
            ),
        }
    }

    /// What the device gave up, by reason.
    pub fn evicted_by_reason(&self) -> Vec<(&'static str, u64)> {
        let by_reason = self.account.as_ref().map_or(&[][..], |account| &account.evicted);
        GapReason::ALL
            .iter()
            .map(|r| r.name())
            .zip(by_reason.iter().copied())
            .filter(|(_, n)| *n > 0)
            .collect()
    }

    fn json(&self, grace: Duration) -> Value {
        let (beat, held) = (self.beat.as_ref(), self.held.as_ref());
        let finding = self.finding(grace);
        let by_name =
            |pairs: Vec<(String, u64)>| pairs.into_iter().collect::<std::collections::BTreeMap<_, _>>();
        let evicted =
            self.evicted_by_reason().into_iter().map(|(reason, n)| (reason.to_owned(), n)).collect();
        json!({
            "lane": self.lane,
            "epoch": epoch_text(self.epoch),
            "current": beat.is_some(),
            "admitted": beat.map(|b| b.admitted),
            "acknowledged": beat.map(|b| b.acknowledged),
            "pending": beat.map(|b| b.pending),
            "evicted": beat.map(|b| b.evicted),
            "evicted_by_reason": by_name(evicted),
            "held": held.map_or(0, LaneHolding::records),
            "gaps": held.map_or(0, LaneHolding::declared),
            "gaps_by_reason": held.map(|h| by_name(h.lost.clone())),
            "holes": held.map_or(0, LaneHolding::missing),
            "hole_ranges": held.map(|h| h.holes.clone()),
            "through": held.map_or(0, |h| h.through),
            "highest": held.map_or(0, |h| h.highest),
            "undeclared": match &finding {
                Finding::Wrong { undeclared, .. } => *undeclared,
                _ => 0,
            },
            "ok": !matches!(finding, Finding::Wrong { .. }),
            "finding": finding.text(),
        })
    }
}

impl Finding {
    /// In words.
    pub fn text(&self) -> String {
        match self {
            Finding::Complete => "complete".into(),
            Finding::Waiting(n) => format!("{n} records on their way"),
            Finding::Wrong { why, .. } => why.clone(),
        }
    }
}

fn wrong(undeclared: u64, why: String) -> Finding {
    Finding::Wrong { undeclared, why }
}

/// `1 record`, `12 345 records`.
pub fn records(n: u64) -> String {
    if n == 1 { "1 record".into() } else { format!("{} records", count(n)) }
}

/// The numbers up to `admitted` that are neither here nor declared, as far as they are named.
fn holes(held: &LaneHolding, admitted: u64) -> String {
    let tail = (admitted > held.highest).then(|| (held.highest + 1, admitted));
    let named: u64 = held.holes.iter().map(|(a, b)| b - a + 1).sum();
    let text = |(a, b): (u64, u64)| if a == b { a.to_string() } else { format!("{a}–{b}") };
    let mut texts: Vec<String> = held.holes.iter().copied().map(text).collect();
    if held.missing() > named {
        texts.push("…".into());
    }
    texts.extend(tail.map(text));
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::time::Wall;

    const NOW: Wall = Wall::from_secs(1_790_000_000);
    const GRACE: Duration = Duration::from_secs(300);

    /// A lane that has been short of something for an hour, if it is.
    fn entry(beat: [u64; 4], ranges: &[(u64, u64)], lost: u64) -> Entry {
        let [admitted, acknowledged, pending, evicted] = beat;
        let highest = ranges.last().map_or(0, |r| r.1);
        let settled = ranges.iter().map(|(a, b)| b - a + 1).sum();
        let holes = ranges.windows(2).map(|w| (w[0].1 + 1, w[1].0 - 1)).collect();
        let lost = vec![("quota".to_owned(), lost)];
        let through = ranges.first().map_or(0, |r| r.1);
        let held = LaneHolding { lane: Lane::Raw, epoch: 7, through, highest, settled, lost, holes };
        let beat = LaneBeat {
            epoch: 7u64.to_be_bytes(),
            admitted,
            acknowledged,
            pending,
            evicted,
            by_reason: [0; _],
        };
        let account = Account {
            lane: Lane::Raw,
            epoch: 7,
            admitted,
            pending,
            evicted: vec![evicted],
            heard_at: NOW,
            short_since: Some(NOW - Duration::from_secs(3600)),
        };
        Entry { lane: Lane::Raw, epoch: 7, beat: Some(beat), account: Some(account), held: Some(held) }
    }

    fn found(entry: &Entry) -> Finding {
        entry.finding(GRACE)
    }

    fn is_wrong(entry: &Entry) -> (u64, String) {
        match found(entry) {
            Finding::Wrong { undeclared, why } => (undeclared, why),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_sides_even_is_complete() {
        assert_eq!(found(&entry([10, 8, 0, 2], &[(1, 10)], 2)), Finding::Complete);
        // More has arrived since the heartbeat.
        assert_eq!(found(&entry([10, 4, 6, 0], &[(1, 20)], 0)), Finding::Complete);
    }

    #[test]
    fn what_the_device_still_holds_is_waiting() {
        assert_eq!(found(&entry([10, 6, 4, 0], &[(1, 6)], 0)), Finding::Waiting(4));
        // Live before backfill: a hole that the device still holds.
        assert_eq!(found(&entry([10, 4, 6, 0], &[(1, 2), (9, 10)], 0)), Finding::Waiting(6));
    }

    #[test]
    fn an_undeclared_hole_is_stated_with_its_numbers() {
        let (owed, why) = is_wrong(&entry([12, 9, 0, 3], &[(1, 4), (8, 12)], 0));
        assert_eq!((owed, why.as_str()), (3, "3 records missing, not here and not declared lost: 5–7"));
    }

    #[test]
    fn what_was_promised_last_and_never_came_is_a_gap_too() {
        let (owed, why) = is_wrong(&entry([12, 9, 0, 3], &[(1, 9)], 0));
        assert_eq!((owed, why.as_str()), (3, "3 records missing, not here and not declared lost: 10–12"));
    }

    #[test]
    fn what_is_owed_has_the_grace_period_to_arrive() {
        let mut evicted = entry([12, 9, 0, 3], &[(1, 9)], 0);
        let late = evicted.account.as_mut().unwrap();
        late.short_since = Some(NOW - GRACE + Duration::from_secs(1));
        assert_eq!(found(&evicted), Finding::Waiting(3));
        evicted.account.as_mut().unwrap().short_since = Some(NOW - GRACE);
        assert_eq!(is_wrong(&evicted).0, 3);
        // While others wait, the declaration may wait among them.
        assert_eq!(found(&entry([12, 8, 1, 3], &[(1, 8)], 0)), Finding::Waiting(4));
    }

    #[test]
    fn acknowledged_records_that_are_not_here_are_the_worst_finding() {
        let (owed, why) = is_wrong(&entry([10, 10, 0, 0], &[(1, 9)], 0));
        assert_eq!((owed, why.as_str()), (1, "1 record acknowledged and not here"));
    }

    #[test]
    fn an_account_that_does_not_add_up_is_said() {
        assert!(is_wrong(&entry([10, 3, 3, 3], &[(1, 3)], 0)).1.contains("does not add up"));
        is_wrong(&entry([u64::MAX, u64::MAX, u64::MAX, 2], &[(1, 3)], 0));
    }

    #[test]
    fn an_earlier_spool_is_judged_by_what_it_promised() {
        let mut earlier = Entry { beat: None, ..entry([8, 0, 0, 0], &[(1, 3), (6, 6)], 0) };
        let (owed, why) = is_wrong(&earlier);
        assert!(owed == 4 && why.contains("4–5, 7–8"), "{why}");
        earlier.account = None;
        assert_eq!(is_wrong(&earlier).0, 2);
        assert_eq!(found(&Entry { beat: None, ..entry([6, 0, 0, 0], &[(1, 6)], 0) }), Finding::Complete);
    }
}
