//! The readings around the begin of an episode: they go to lane `raw` where single readings are not kept.

use std::collections::VecDeque;

use crate::limits;
use crate::reading::{ChannelId, Quality, Reading, Value};
use crate::time::Wall;
use crate::wire::Record;

/// The last readings of one channel, and how many more are wanted.
#[derive(Debug, Default)]
pub(super) struct Clip {
    /// Readings before and after; 0 keeps none.
    size: usize,
    before: VecDeque<(Wall, Value, Quality)>,
    wanted: usize,
    /// What came of it; it goes out at once, so that it shares a block.
    after: Vec<Reading>,
}

impl Clip {
    /// `size` readings on either side, at most [`limits::CLIP_READINGS_MAX`].
    pub fn new(size: usize) -> Self {
        Self { size: size.min(limits::CLIP_READINGS_MAX), ..Self::default() }
    }

    /// Takes a reading, which belongs to an episode that began before or is kept for one that may begin.
    pub fn take(&mut self, reading: &Reading, out: &mut Vec<Record>) {
        if self.wanted > 0 {
            self.wanted -= 1;
            self.after.push(reading.clone());
            if self.wanted == 0 {
                self.end(out);
            }
            return;
        }
        if self.before.len() == self.size {
            self.before.pop_front();
        }
        if self.size > 0 {
            self.before.push_back((reading.at, reading.value, reading.quality));
        }
    }

    /// An episode has begun: what is kept goes out, and as much is to follow. Returns the time of the first.
    pub fn open(&mut self, channel: &ChannelId, out: &mut Vec<Record>) -> Option<Wall> {
        let first = self.before.front().map(|(at, ..)| *at);
        let reading =
            |(at, value, quality)| Record::Reading(Reading { channel: channel.clone(), at, value, quality });
        out.extend(self.before.drain(..).map(reading));
        self.wanted = self.size.saturating_sub(self.after.len());
        first
    }

    /// No more is to come: what was collected goes out.
    pub fn end(&mut self, out: &mut Vec<Record>) {
        self.wanted = 0;
        out.extend(self.after.drain(..).map(Record::Reading));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(out: &[Record]) -> Vec<i64> {
        let second = |r: &Record| if let Record::Reading(r) = r { r.at.0 / 1_000_000 } else { -1 };
        out.iter().map(second).collect()
    }

    #[test]
    fn an_episode_takes_what_was_before_and_what_comes_after_once() {
        let channel = ChannelId::new("a.x").unwrap();
        let mut clip = Clip::new(3);
        let mut out = Vec::new();
        for s in 0..30 {
            let reading = Reading::new(channel.clone(), Wall::from_secs(s), Ok(1.0));
            clip.take(&reading, &mut out);
            if s == 10 || s == 12 {
                clip.open(&channel, &mut out);
            }
        }
        assert_eq!(times(&out), [8, 9, 10, 11, 12, 13]);
        clip.open(&channel, &mut out);
        clip.end(&mut out);
        assert_eq!(times(&out)[6..], [27, 28, 29]);
    }

    #[test]
    fn without_a_size_nothing_is_kept() {
        let channel = ChannelId::new("a.x").unwrap();
        let (mut clip, mut out) = (Clip::new(0), Vec::new());
        let reading = Reading::new(channel.clone(), Wall(0), Ok(1.0));
        clip.take(&reading, &mut out);
        clip.open(&channel, &mut out);
        clip.take(&reading, &mut out);
        assert_eq!(out, []);
    }
}
