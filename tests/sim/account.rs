//! What a gateway promised in one epoch, record by record: the checker's own notes.

use outpost::sync::ranges::RangeSet;
use outpost::wire::Lane;

#[derive(Default)]
pub struct Account {
    lanes: [LaneNotes; 4],
}

#[derive(Default)]
pub struct LaneNotes {
    /// What each numbered record carries, from number 1; none for what the spool says of itself.
    serials: Vec<Option<u64>>,
    /// So many of them are promised.
    pub promised: u64,
    /// Numbers that the uplink let go.
    pub released: RangeSet,
}

impl Account {
    pub fn lane(&self, lane: Lane) -> &LaneNotes {
        &self.lanes[lane.index()]
    }

    pub fn lane_mut(&mut self, lane: Lane) -> &mut LaneNotes {
        &mut self.lanes[lane.index()]
    }

    /// Records got the numbers from `first` on; numbers between were taken by the spool.
    pub fn admitted(&mut self, lane: Lane, first: u64, serials: &[u64]) {
        let notes = self.lane_mut(lane);
        notes.serials.resize(first as usize - 1, None);
        notes.serials.extend(serials.iter().map(|&serial| Some(serial)));
    }

    /// Everything of `lane` up to `through` is durable, by the spool's word.
    pub fn committed(&mut self, lane: Lane, through: u64) {
        let notes = self.lane_mut(lane);
        notes.serials.resize(notes.serials.len().max(through as usize), None);
        notes.promised = through;
    }

    /// After a crash the spool says what it has. What was not promised may be there or not; its numbers are given again.
    pub fn reopened(&mut self, lane: Lane, through: u64) -> Result<(), String> {
        let notes = self.lane_mut(lane);
        if through < notes.promised {
            return Err(format!(
                "{lane}: {} were promised and {through} are there after a crash",
                notes.promised
            ));
        }
        notes.serials.resize(through as usize, None);
        notes.promised = through;
        Ok(())
    }

    /// A record that arrives was promised before, and is the one that got this number.
    pub fn is_promised(&self, lane: Lane, seq: u64, serial: Option<u64>) -> Result<(), String> {
        let notes = self.lane(lane);
        let known = notes.serials.get(seq as usize - 1).filter(|_| seq <= notes.promised);
        if known == Some(&serial) {
            return Ok(());
        }
        Err(format!("{lane} {seq} arrives as {serial:?}, it was {known:?}; {} are promised", notes.promised))
    }
}
