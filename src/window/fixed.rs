//! Windows that start at multiples of the hop: tumbling where the hop is their length, else overlapping.

use std::collections::VecDeque;

use super::Window;
use crate::features::Features;
use crate::reading::Value;
use crate::time::Wall;

/// The open windows of one channel.
#[derive(Debug, Clone)]
pub(super) struct Fixed {
    pub length_us: i64,
    pub hop_us: i64,
    /// By start; at most [`crate::limits::WINDOWS_OPEN_MAX`].
    pub open: VecDeque<Window>,
    /// Nothing that ends up to here is opened again.
    pub closed_to: Wall,
    pub detail: bool,
}

impl Fixed {
    pub fn put(&mut self, at: Wall, value: Value) {
        let mut start = at.0.div_euclid(self.hop_us).saturating_mul(self.hop_us);
        while start > at.0.saturating_sub(self.length_us)
            && start.saturating_add(self.length_us) > self.closed_to.0
        {
            self.window(Wall(start)).features.push(at, value);
            let Some(before) = start.checked_sub(self.hop_us) else { break };
            start = before;
        }
    }

    /// Closes what ends at or before `to`; returns the last end.
    pub fn close_to(&mut self, to: Wall, tell: &mut impl FnMut(&Window)) -> Option<Wall> {
        let mut last = None;
        while let Some(first) = self.open.front()
            && first.start.0.saturating_add(self.length_us) <= to.0
        {
            last = Some(Wall(first.start.0.saturating_add(self.length_us)));
            tell(first);
            self.open.pop_front();
        }
        last
    }

    pub fn flush(&mut self, tell: &mut impl FnMut(&Window)) {
        self.open.drain(..).for_each(|window| tell(&window));
    }

    fn window(&mut self, start: Wall) -> &mut Window {
        let index = self.open.partition_point(|w| w.start < start);
        if self.open.get(index).is_none_or(|w| w.start != start) {
            let length_ms = u32::try_from(self.length_us / 1000).unwrap_or(u32::MAX);
            let features = Features::new(start, self.detail);
            self.open.insert(index, Window { start, length_ms, features });
        }
        &mut self.open[index]
    }
}
