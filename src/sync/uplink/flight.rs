//! What of one lane is published and not acknowledged: on the wire until its PUBACK, then with the broker.

use std::collections::VecDeque;
use std::time::Duration;

use super::pace::Departure;
use crate::limits::UPLINK_RANGES_MAX;
use crate::sync::ranges::RangeSet;
use crate::time::Mono;
use crate::wire::BlockId;

/// The flights of one session.
#[derive(Debug, Clone, Default)]
pub(super) struct Flights {
    /// Ascending by token.
    all: VecDeque<Flight>,
    /// The numbers of `all`.
    numbers: RangeSet,
    /// When the broker took the last of those that landed.
    newest_landed: Mono,
    /// Given up in this session and not acknowledged.
    lost: RangeSet,
}

#[derive(Debug, Clone)]
pub(super) struct Flight {
    pub(super) token: u64,
    pub(super) id: BlockId,
    pub(super) bytes: usize,
    pub(super) departure: Departure,
    /// When the PUBACK came; `None` while on the wire.
    taken: Option<Mono>,
    /// Given up before. Others overtake it no more: there may be one that the aggregator never acknowledges. And it overtakes
    /// nobody: it can't be told which of its flights was acknowledged.
    is_repeated: bool,
}

impl Flight {
    pub(super) fn new(token: u64, id: BlockId, bytes: usize, departure: Departure) -> Self {
        Self { token, id, bytes, departure, taken: None, is_repeated: false }
    }
}

impl Flights {
    /// Tokens ascend.
    pub(super) fn begin(&mut self, mut flight: Flight) {
        flight.is_repeated = self.lost.covers(flight.id.first, flight.id.last);
        self.numbers.insert(flight.id.first, flight.id.last);
        self.all.push_back(flight);
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.all.iter().map(|f| f.bytes).sum()
    }

    /// Those without PUBACK.
    pub(super) fn on_wire(&self) -> impl Iterator<Item = &Flight> {
        self.all.iter().filter(|f| f.taken.is_none())
    }

    pub(super) fn numbers(&self) -> &RangeSet {
        &self.numbers
    }

    pub(super) fn covers(&self, id: BlockId) -> bool {
        self.numbers.covers(id.first, id.last)
    }

    pub(super) fn has_on_wire(&self, token: u64) -> bool {
        self.find(token).is_some()
    }

    /// When the block of a token left, if it has no answer yet.
    pub(super) fn departed(&self, token: u64) -> Option<Mono> {
        self.find(token).map(|at| self.all[at].departure.at)
    }

    /// The broker has it.
    pub(super) fn taken(&mut self, now: Mono, token: u64) -> Option<&Flight> {
        let at = self.find(token)?;
        let flight = &mut self.all[at];
        flight.taken = Some(now);
        Some(flight)
    }

    /// The broker refused it.
    pub(super) fn refused(&mut self, token: u64) -> Option<BlockId> {
        let at = self.find(token)?;
        let Flight { id, .. } = self.all.remove(at)?;
        self.numbers.remove(id.first, id.last);
        Some(id)
    }

    /// Ends those that are acknowledged whole.
    pub(super) fn land(&mut self, is_acknowledged: impl Fn(BlockId) -> bool) {
        for Flight { id, taken, is_repeated, .. } in self.end(|f| is_acknowledged(f.id)) {
            self.lost.remove(id.first, id.last);
            if !is_repeated {
                self.newest_landed = self.newest_landed.max(taken.unwrap_or_default());
            }
        }
    }

    /// When the broker took the last of those that landed.
    pub(super) fn newest_landed(&self) -> Mono {
        self.newest_landed
    }

    /// The oldest that the broker has.
    pub(super) fn oldest_taken(&self) -> Option<Mono> {
        self.all.iter().filter_map(|f| f.taken).min()
    }

    /// Gives up those that the broker has had for `wait` and more. Returns whether there were any.
    pub(super) fn lose_taken(&mut self, now: Mono, wait: Duration) -> bool {
        self.lose(|_, at| at + wait <= now)
    }

    /// Gives up those that another, which the broker took at `newest`, has overtaken by `margin` and more.
    /// Returns whether there were any.
    pub(super) fn lose_overtaken(&mut self, newest: Mono, margin: Duration) -> bool {
        self.lose(|f, at| at + margin <= newest && !f.is_repeated)
    }

    fn lose(&mut self, is_lost: impl Fn(&Flight, Mono) -> bool) -> bool {
        let lost = self.end(|f| f.taken.is_some_and(|at| is_lost(f, at)));
        for Flight { id, .. } in &lost {
            self.lost.insert(id.first, id.last);
        }
        while let Some(&(first, last)) = self.lost.ranges().get(UPLINK_RANGES_MAX) {
            self.lost.remove(first, last);
        }
        !lost.is_empty()
    }

    fn end(&mut self, ends: impl Fn(&Flight) -> bool) -> Vec<Flight> {
        if !self.all.iter().any(&ends) {
            return Vec::new();
        }
        let (ended, on) = std::mem::take(&mut self.all).into_iter().partition(|f| ends(f));
        self.all = on;
        let ended: VecDeque<Flight> = ended;
        for Flight { id, .. } in &ended {
            self.numbers.remove(id.first, id.last);
        }
        ended.into()
    }

    fn find(&self, token: u64) -> Option<usize> {
        let at = self.all.binary_search_by_key(&token, |f| f.token).ok()?;
        self.all[at].taken.is_none().then_some(at)
    }
}
