//! Which records of lane `raw` prove an episode: their numbers are known once the spool has taken them.

use crate::episode::Evidence;
use crate::limits;
use crate::time::Wall;

/// The episodes of one channel whose readings are being numbered; at most [`limits::WITNESSES_MAX`].
#[derive(Debug, Default)]
pub(super) struct Witnesses(Vec<Witness>);

#[derive(Debug)]
struct Witness {
    episode: u64,
    /// Readings from then on belong to it, and up to then once it has ended.
    from: Wall,
    to: Option<Wall>,
    range: Option<Evidence>,
}

impl Witnesses {
    /// An episode has begun; what is kept of it begins at `from`.
    pub fn open(&mut self, episode: u64, from: Wall) {
        if self.0.len() == limits::WITNESSES_MAX {
            // Nobody asks for it: nothing is admitted where a recording is only looked at.
            self.0.remove(0);
        }
        self.0.push(Witness { episode, from, to: None, range: None });
    }

    /// An episode has ended; readings after `to` are not its.
    pub fn close(&mut self, episode: u64, to: Wall) {
        self.0.iter_mut().filter(|w| w.episode == episode).for_each(|w| w.to = Some(to));
    }

    /// The reading at `at` is record `number`.
    pub fn take(&mut self, at: Wall, number: u64) {
        for w in self.0.iter_mut().filter(|w| at >= w.from && w.to.is_none_or(|to| at <= to)) {
            let (first, last) = w.range.map_or((number, number), |r| (r.first, r.last));
            w.range = Some(Evidence { first: first.min(number), last: last.max(number) });
        }
    }

    /// What proves an episode so far; one that has ended is forgotten.
    pub fn cite(&mut self, episode: u64) -> Option<Evidence> {
        let index = self.0.iter().position(|w| w.episode == episode)?;
        let range = self.0[index].range;
        if self.0[index].to.is_some() {
            self.0.remove(index);
        }
        range
    }

    /// No episode is under way.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_prove_the_episodes_that_they_fall_into_and_those_nobody_asks_for_are_forgotten() {
        let mut witnesses = Witnesses::default();
        witnesses.open(1, Wall(10));
        witnesses.open(2, Wall(30));
        (0..10).for_each(|n| witnesses.take(Wall(5 * n), 100 + n as u64));
        witnesses.close(1, Wall(35));
        (8..10).for_each(|n| witnesses.take(Wall(5 * n), 200 + n as u64));
        assert_eq!(witnesses.cite(1), Some(Evidence { first: 102, last: 109 }));
        assert_eq!(witnesses.cite(1), None);
        assert_eq!(witnesses.cite(2), Some(Evidence { first: 106, last: 209 }));
        (3..100).for_each(|id| witnesses.open(id, Wall(0)));
        assert!(witnesses.0.len() == limits::WITNESSES_MAX && !witnesses.is_empty());
    }
}
