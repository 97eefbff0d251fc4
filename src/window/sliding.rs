//! Windows that end where readings are: the `length` before a reading, told once per `hop` at most, and once more before a
//! silence that is longer.

use std::collections::VecDeque;

use super::{Window, millis_up};
use crate::features::Features;
use crate::limits;
use crate::reading::Value;
use crate::time::Wall;

/// The latest readings of one channel, which come in order.
#[derive(Debug, Clone)]
pub(super) struct Sliding {
    pub length_us: i64,
    pub hop_us: i64,
    /// Not older than the length; at most [`limits::SLIDING_READINGS_MAX`], beyond which windows get shorter.
    pub recent: VecDeque<(Wall, Value)>,
    /// End of the window that was told last; before the first, the first reading.
    pub told: Option<Wall>,
    /// A reading came since.
    pub untold: bool,
    pub detail: bool,
}

impl Sliding {
    pub fn put(&mut self, at: Wall, value: Value, tell: &mut impl FnMut(&Window)) {
        if self.recent.back().is_some_and(|(last, _)| at.micros_since(*last) > self.length_us) {
            self.flush(tell);
        }
        let told = *self.told.get_or_insert(at);
        if at.micros_since(told) >= self.hop_us {
            self.told = Some(at);
            self.tell_to(at, tell);
        }
        if self.recent.len() >= limits::SLIDING_READINGS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((at, value));
        self.untold = true;
    }

    /// Tells the readings of the last `length` before `end`.
    fn tell_to(&mut self, end: Wall, tell: &mut impl FnMut(&Window)) {
        let from = Wall(end.0.saturating_sub(self.length_us));
        let mut shortened = self.recent.len() >= limits::SLIDING_READINGS_MAX;
        while self.recent.front().is_some_and(|(at, _)| *at < from) {
            self.recent.pop_front();
            shortened = false;
        }
        self.untold = false;
        let Some((first, _)) = self.recent.front() else { return };
        let start = if shortened { *first } else { from };
        let mut features = Features::new(start, self.detail);
        self.recent.iter().for_each(|(at, value)| features.push(*at, *value));
        tell(&Window { start, length_ms: millis_up(end.micros_since(start)), features });
    }

    /// Tells what was not told yet if nothing has come for the length.
    pub fn close_to(&mut self, to: Wall, tell: &mut impl FnMut(&Window)) -> Option<Wall> {
        let (last, _) = *self.recent.back()?;
        (self.untold && to.micros_since(last) > self.length_us).then(|| self.flush(tell)).map(|()| last)
    }

    pub fn flush(&mut self, tell: &mut impl FnMut(&Window)) {
        if let Some((last, _)) = self.recent.back().copied().filter(|_| self.untold) {
            // A whole millisecond, so that the length is one too.
            let end = Wall((last.0.div_euclid(1000).saturating_add(1)).saturating_mul(1000));
            self.tell_to(end, tell);
        }
        (self.told, self.untold) = (None, false);
        self.recent.clear();
    }
}
