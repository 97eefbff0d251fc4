//! Who sits where in the cache, and what an empty seat still holds of the one before.

use super::request::RequestId;

/// One slot of the cache.
#[derive(Debug, Clone, Default)]
struct Seat {
    owner: Option<RequestId>,
    /// Holds a prefix that stays.
    is_pinned: bool,
    /// What it holds, while nobody sits there.
    tokens: Vec<u32>,
    /// When it was last left, as a count.
    left_at: u64,
}

/// All slots.
#[derive(Debug)]
pub(super) struct Slots {
    seats: Vec<Seat>,
    left: u64,
}

/// Where to sit down, and what to take along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub slot: u32,
    /// Where the beginning of the sequence is.
    pub from: u32,
    /// So many tokens of it.
    pub cached: usize,
}

impl Slots {
    pub(super) fn new(count: usize) -> Slots {
        Slots { seats: vec![Seat::default(); count], left: 0 }
    }

    pub(super) fn free(&self) -> usize {
        self.seats.iter().filter(|seat| seat.is_free()).count()
    }

    /// The best free slot for a sequence: the one that holds most of it, if most of what that holds is of use; otherwise the
    /// one left longest ago, with a copy of the best beginning. `held` tells what the owner of a slot has put there.
    pub(super) fn place<'a>(
        &'a self,
        tokens: &[u32],
        held: impl Fn(RequestId) -> &'a [u32],
    ) -> Option<Place> {
        // The last token is always run: its logits are what is wanted.
        let wanted = &tokens[..tokens.len().saturating_sub(1)];
        let content = |seat: &'a Seat| seat.owner.map_or(seat.tokens.as_slice(), &held);
        let cached = |seat: &'a Seat| common(content(seat), wanted);
        let indexed = || self.seats.iter().enumerate();
        let (from, best) =
            indexed().map(|(slot, seat)| (slot, cached(seat))).max_by_key(|&(_, cached)| cached)?;
        let in_place = indexed()
            .filter(|(_, seat)| seat.is_free())
            .find(|(_, seat)| best > 0 && cached(seat) == best && 2 * best >= seat.tokens.len());
        if let Some((slot, _)) = in_place {
            return Some(Place { slot: slot as u32, from: slot as u32, cached: best });
        }
        let (slot, _) = indexed().filter(|(_, seat)| seat.is_free()).min_by_key(|(_, seat)| seat.left_at)?;
        Some(Place { slot: slot as u32, from: from as u32, cached: best })
    }

    pub(super) fn take(&mut self, slot: u32, owner: RequestId) {
        if let Some(seat) = self.seats.get_mut(slot as usize) {
            seat.owner = Some(owner);
            seat.tokens.clear();
        }
    }

    /// Its owner leaves; `tokens` are what it holds.
    pub(super) fn leave(&mut self, slot: u32, tokens: &[u32]) {
        self.left += 1;
        if let Some(seat) = self.seats.get_mut(slot as usize) {
            seat.owner = None;
            seat.left_at = self.left;
            seat.tokens.clear();
            seat.tokens.extend_from_slice(tokens);
        }
    }

    /// A free slot that is kept from now on for what [`Slots::hold`] says, the one left longest ago; `None` where that would leave
    /// no slot to work in.
    pub(super) fn pin(&mut self) -> Option<u32> {
        if self.seats.iter().filter(|seat| !seat.is_pinned).count() < 2 {
            return None;
        }
        let free = self.seats.iter_mut().enumerate().filter(|(_, seat)| seat.is_free());
        let (slot, seat) = free.min_by_key(|(_, seat)| seat.left_at)?;
        seat.is_pinned = true;
        seat.tokens.clear();
        Some(slot as u32)
    }

    /// What a pinned slot holds.
    pub(super) fn hold(&mut self, slot: u32, tokens: &[u32]) {
        if let Some(seat) = self.seats.get_mut(slot as usize) {
            seat.tokens = tokens.to_vec();
        }
    }
}

impl Seat {
    fn is_free(&self) -> bool {
        self.owner.is_none() && !self.is_pinned
    }
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody<'a>(_: RequestId) -> &'a [u32] {
        &[]
    }

    #[test]
    fn a_sequence_sits_where_most_of_it_is_unless_that_would_cost_more_than_it_brings() {
        let mut slots = Slots::new(3);
        assert_eq!(slots.place(&[1, 2, 3], nobody).unwrap().cached, 0);
        slots.leave(0, &[1, 2, 3, 4]);
        slots.leave(1, &[1, 2, 9, 9, 9, 9, 9, 9]);
        let place = |slots: &Slots, tokens: &[u32]| slots.place(tokens, nobody).unwrap();
        assert_eq!(place(&slots, &[1, 2, 3, 4, 5]), Place { slot: 0, from: 0, cached: 4 });
        assert_eq!(
            place(&slots, &[1, 2, 3, 4]),
            Place { slot: 0, from: 0, cached: 3 },
            "the last one is run"
        );
        // Slot 1 holds six more that would be lost: a copy in the slot that was never used.
        assert_eq!(place(&slots, &[1, 2, 9, 7, 7]), Place { slot: 2, from: 1, cached: 3 });
        assert_eq!(place(&slots, &[8, 8]).slot, 2);
        slots.leave(2, &[5]);
        assert_eq!(
            place(&slots, &[8, 8]),
            Place { slot: 0, cached: 0, ..place(&slots, &[8, 8]) },
            "left first"
        );
    }

    #[test]
    fn what_a_taken_or_pinned_slot_holds_is_copied_and_the_slot_left_alone() {
        let mut slots = Slots::new(3);
        assert_eq!(slots.pin(), Some(0));
        assert_eq!(slots.place(&[1, 2, 3, 4], nobody).unwrap().cached, 0, "it holds nothing yet");
        slots.hold(0, &[1, 2, 3]);
        slots.take(1, RequestId(7));
        assert_eq!(slots.place(&[1, 2, 3, 4], nobody), Some(Place { slot: 2, from: 0, cached: 3 }));
        let held = |_| &[1, 2, 3, 4, 5][..];
        assert_eq!(slots.place(&[1, 2, 3, 4, 6], held), Some(Place { slot: 2, from: 1, cached: 4 }));
        assert_eq!(slots.free(), 1);
        slots.take(2, RequestId(8));
        assert_eq!(slots.place(&[1], nobody), None);
        slots.leave(2, &[]);
        assert_eq!(slots.pin(), Some(2));
        assert_eq!(slots.pin(), None, "one is left to work in");
    }
}
