//! Edges into readings. Pure: time and levels are arguments.

use super::{LineMode, LineOptions, SourceError};
use crate::limits;
use crate::reading::{ChannelId, ChannelInfo, NoData, Quantity, Reading, Value};
use crate::time::{Mono, Stamp, Wall};

/// One edge, as the kernel tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    pub offset: u32,
    pub rising: bool,
    /// Counts the edges of this line from 1, wraps around.
    pub number: u32,
    pub at: Wall,
}

/// The lines of one chip.
pub(super) struct Lines(Vec<Line>);

struct Line {
    offset: u32,
    channels: Channels,
}

enum Channels {
    Level(ChannelId),
    Count { total: ChannelId, rate: ChannelId, pulses: Pulses },
}

/// What a counter knows.
#[derive(Debug, Clone, Copy)]
struct Pulses {
    total: u64,
    /// Number of the latest edge of this request.
    number: u32,
    /// When a rate was last told, and the total then.
    told: Mono,
    told_total: u64,
}

impl Lines {
    /// Errors: no channel can have a line's name.
    pub fn new(options: &[LineOptions], now: Mono) -> Result<Self, SourceError> {
        let known = options.iter().take(limits::GPIO_LINES_MAX);
        known.map(|line| Line::new(line, now)).collect::<Result<_, _>>().map(Self)
    }

    /// The kernel numbers edges anew.
    pub fn restart(&mut self) {
        self.0.iter_mut().for_each(|line| {
            if let Channels::Count { pulses, .. } = &mut line.channels {
                pulses.number = 0;
            }
        });
    }

    pub fn infos(&self) -> Vec<ChannelInfo> {
        let of_line = |line: &Line| match &line.channels {
            Channels::Level(id) => vec![ChannelInfo::given(id, ChannelInfo::guess(id).quantity, "")],
            Channels::Count { total, rate, .. } => {
                vec![
                    ChannelInfo::given(total, Quantity::Count, ""),
                    ChannelInfo::given(rate, Quantity::Other, "/s"),
                ]
            }
        };
        self.0.iter().flat_map(of_line).collect()
    }

    /// Takes an edge: a level is told at once, a pulse is counted.
    pub fn edge(&mut self, edge: &Edge, out: &mut Vec<Reading>) {
        let Some(line) = self.0.iter_mut().find(|line| line.offset == edge.offset) else { return };
        match &mut line.channels {
            Channels::Level(id) => {
                out.push(reading(id, edge.at, Ok(f64::from(u8::from(edge.rising)))));
            }
            Channels::Count { pulses, .. } => {
                // Edges that the kernel's buffer lost are missing in between.
                pulses.total += u64::from(edge.number.wrapping_sub(pulses.number));
                pulses.number = edge.number;
            }
        }
    }

    /// An interval is over: tells every level, by `level`, and every counter.
    pub fn tick(&mut self, now: Stamp, level: impl Fn(u32) -> Option<bool>, out: &mut Vec<Reading>) {
        for line in &mut self.0 {
            match &mut line.channels {
                Channels::Level(id) => {
                    let value = level(line.offset).map(|high| f64::from(u8::from(high)));
                    out.push(reading(id, now.wall, value.ok_or(NoData::ReadFailed)));
                }
                Channels::Count { total, rate, pulses } => {
                    out.push(reading(total, now.wall, Ok(pulses.total as f64)));
                    out.extend(pulses.per_second(now.mono).map(|hz| reading(rate, now.wall, Ok(hz))));
                }
            }
        }
    }

    /// Why nothing can be told.
    pub fn missing(&self, at: Wall) -> Vec<Reading> {
        let ids = self.0.iter().flat_map(|line| match &line.channels {
            Channels::Level(id) => vec![id],
            Channels::Count { total, rate, .. } => vec![total, rate],
        });
        ids.map(|id| reading(id, at, Err(NoData::ReadFailed))).collect()
    }
}

impl Line {
    fn new(options: &LineOptions, now: Mono) -> Result<Self, SourceError> {
        let channel = |name: &str| ChannelId::new(name).map_err(|bad| SourceError::Name { name: bad.name });
        let channels = match options.mode {
            LineMode::Level => Channels::Level(channel(&options.name)?),
            LineMode::Count => Channels::Count {
                total: channel(&format!("{}.count", options.name))?,
                rate: channel(&format!("{}.rate", options.name))?,
                pulses: Pulses { total: 0, number: 0, told: now, told_total: 0 },
            },
        };
        Ok(Self { offset: options.offset, channels })
    }
}

impl Pulses {
    /// The rate since it was last told; none at the same moment.
    fn per_second(&mut self, now: Mono) -> Option<f64> {
        let seconds = now.since(self.told).as_secs_f64();
        let pulses = self.total - self.told_total;
        (self.told, self.told_total) = (now, self.total);
        (seconds > 0.0).then(|| pulses as f64 / seconds)
    }
}

fn reading(channel: &ChannelId, at: Wall, value: Value) -> Reading {
    Reading::new(channel.clone(), at, value)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Bias;
    use super::*;
    use crate::time::{BootId, ClockState};

    fn line(name: &str, offset: u32, mode: LineMode) -> LineOptions {
        let (bias, debounce) = (Bias::AsIs, Duration::ZERO);
        LineOptions { name: name.into(), offset, mode, active_low: false, bias, debounce }
    }

    fn at(seconds: u64) -> Stamp {
        Stamp {
            wall: Wall::from_secs(seconds as i64),
            mono: Mono(seconds * 1_000_000),
            boot: BootId::default(),
            uncertainty_us: 0,
            state: ClockState::Free,
        }
    }

    fn told(lines: &mut Lines, now: Stamp) -> Vec<(String, Value)> {
        let mut out = Vec::new();
        lines.tick(now, |offset| (offset == 5).then_some(true), &mut out);
        out.into_iter().map(|r| (r.channel.to_string(), r.value)).collect()
    }

    #[test]
    fn a_level_is_told_at_every_edge_and_once_per_interval() {
        let mut lines = Lines::new(&[line("door", 5, LineMode::Level)], Mono(0)).unwrap();
        let mut out = Vec::new();
        for (number, rising) in [(1, true), (2, false)] {
            lines.edge(&Edge { offset: 5, rising, number, at: Wall(i64::from(number)) }, &mut out);
        }
        lines.edge(&Edge { offset: 9, rising: true, number: 1, at: Wall(9) }, &mut out);
        let edges: Vec<_> = out.iter().map(|r| (r.at, r.value)).collect();
        assert_eq!(edges, [(Wall(1), Ok(1.0)), (Wall(2), Ok(0.0))]);
        assert_eq!(told(&mut lines, at(1)), [("door".into(), Ok(1.0))]);
        let mut out = Vec::new();
        lines.tick(at(2), |_| None, &mut out);
        assert_eq!(out[0].value, Err(NoData::ReadFailed));
    }

    #[test]
    fn pulses_are_counted_also_those_that_were_lost_in_between() {
        let mut lines = Lines::new(&[line("water", 6, LineMode::Count)], Mono(0)).unwrap();
        let pulse = |number| Edge { offset: 6, rising: true, number, at: Wall(0) };
        let mut none = Vec::new();
        [1, 2, 3, 10].iter().for_each(|n| lines.edge(&pulse(*n), &mut none));
        assert!(none.is_empty());
        assert_eq!(
            told(&mut lines, at(2)),
            [("water.count".into(), Ok(10.0)), ("water.rate".into(), Ok(5.0))]
        );
        assert_eq!(told(&mut lines, at(3))[1].1, Ok(0.0));
        assert_eq!(told(&mut lines, at(3)).len(), 1, "no time, no rate");
        // The chip was gone, and counts from 1 again.
        lines.restart();
        lines.edge(&pulse(1), &mut none);
        assert_eq!(
            told(&mut lines, at(4)),
            [("water.count".into(), Ok(11.0)), ("water.rate".into(), Ok(1.0))]
        );
    }

    #[test]
    fn the_kernels_numbers_may_wrap_around() {
        let mut lines = Lines::new(&[line("water", 6, LineMode::Count)], Mono(0)).unwrap();
        let mut none = Vec::new();
        for number in [u32::MAX, 1] {
            lines.edge(&Edge { offset: 6, rising: true, number, at: Wall(0) }, &mut none);
        }
        assert_eq!(told(&mut lines, at(1))[0].1, Ok(f64::from(u32::MAX) + 2.0));
    }
}
