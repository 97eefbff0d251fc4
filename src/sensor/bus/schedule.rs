//! Which chip is read when, and what becomes of one that fails. Time is an argument.

use std::sync::Arc;
use std::time::Duration;

use super::super::SourceError;
use super::ChipOptions;
use super::port::{Deadline, Patience};
use crate::limits;
use crate::observe::{bus as events, emit};
use crate::reading::{ChannelId, ChannelInfo, NoData, Reading, Value, value_from_f64};
use crate::sensor::chips::{Chip, ChipError, Column};
use crate::time::{Mono, Stamp, Wall};

/// The chips of one bus.
pub(super) struct Schedule {
    source: Arc<str>,
    deadline: Deadline,
    begun: Mono,
    slots: Vec<Slot>,
}

struct Slot {
    name: Arc<str>,
    chip: Box<dyn Chip>,
    channels: Vec<ChannelId>,
    interval: Duration,
    timeout: Duration,
    due: Mono,
    /// Failures in a row.
    failures: u32,
    rests_until: Mono,
    why: NoData,
}

impl Schedule {
    /// Nothing to read yet; everything is due at `begun`.
    pub(super) fn new(source: &Arc<str>, deadline: Deadline, begun: Mono) -> Self {
        Self { source: Arc::clone(source), deadline, begun, slots: Vec::new() }
    }

    /// Takes a chip in. Errors: no channel can have its name.
    pub(super) fn add(&mut self, chip: Box<dyn Chip>, options: &ChipOptions) -> Result<(), SourceError> {
        let channel = |column: &Column| ChannelId::new(&format!("{}.{}", options.name, column.name));
        let channels = chip.columns().iter().map(channel).collect::<Result<_, _>>();
        self.slots.push(Slot {
            name: Arc::from(options.name.as_str()),
            channels: channels.map_err(|bad| SourceError::Name { name: bad.name })?,
            chip,
            interval: options.interval.max(Duration::from_millis(limits::POLL_INTERVAL_MS_MIN)),
            timeout: options.timeout,
            due: self.begun,
            failures: 0,
            rests_until: Mono::default(),
            why: NoData::ReadFailed,
        });
        Ok(())
    }

    /// What is known of every channel.
    pub(super) fn infos(&self) -> Vec<ChannelInfo> {
        self.slots.iter().flat_map(Slot::infos).collect()
    }

    /// When the next chip is due; with none, in an hour.
    pub(super) fn next_due(&self) -> Mono {
        let due = self.slots.iter().map(|slot| slot.due).min();
        due.unwrap_or_else(|| self.begun + Duration::from_secs(3600))
    }

    /// The chip that has been due for longest, if any was due before `begun` or then.
    pub(super) fn due_before(&self, begun: Mono) -> Option<usize> {
        let due = self.slots.iter().enumerate().filter(|(_, slot)| slot.due <= begun);
        due.min_by_key(|(_, slot)| slot.due).map(|(index, _)| index)
    }

    /// Reads one chip, or says again why it can't be read.
    pub(super) fn poll(&mut self, index: usize, now: Stamp, delay: &mut Patience, out: &mut Vec<Reading>) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let read = slot.read(now.mono, &self.deadline, delay);
        // Longer than its interval: the next read is due at the next look, behind those who wait longer.
        let after = Duration::from_micros(1);
        slot.due = (slot.due + slot.interval).max(now.mono + after);
        match read {
            Some(Ok(values)) => slot.succeeded(&self.source, values, now.wall, out),
            Some(Err(error)) => slot.failed(&self.source, error, now, out),
            None => slot.say(slot.why, now.wall, out),
        }
    }
}

impl Slot {
    fn infos(&self) -> impl Iterator<Item = ChannelInfo> {
        self.chip
            .columns()
            .iter()
            .zip(&self.channels)
            .map(|(column, id)| ChannelInfo::given(id, column.quantity, column.unit))
    }

    /// None while it rests.
    fn read(
        &mut self,
        now: Mono,
        deadline: &Deadline,
        delay: &mut Patience,
    ) -> Option<Result<Vec<Value>, ChipError>> {
        if now < self.rests_until {
            return None;
        }
        deadline.set(now + self.timeout);
        let mut values = Vec::with_capacity(self.channels.len());
        let read = self.chip.read(delay, &mut values);
        Some(match read {
            Ok(()) => Ok(values),
            Err(_) if deadline.is_over() => Err(ChipError::Late),
            Err(error) => Err(error),
        })
    }

    fn succeeded(&mut self, source: &str, values: Vec<Value>, at: Wall, out: &mut Vec<Reading>) {
        if std::mem::take(&mut self.failures) > 0 {
            emit(&events::ChipRecovered { source, chip: &self.name });
        }
        let named = self.channels.iter().zip(values);
        // A calibration that a chip keeps inside may be damaged and make anything of a number.
        let sound = named.map(|(channel, value)| (channel, value.and_then(value_from_f64)));
        out.extend(sound.map(|(channel, value)| Reading::new(channel.clone(), at, value)));
    }

    fn failed(&mut self, source: &str, error: ChipError, now: Stamp, out: &mut Vec<Reading>) {
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 || error.reason() != self.why {
            emit(&events::ChipFailed { source, chip: &self.name, error: &error });
        }
        self.why = error.reason();
        self.rests_until = now.mono + self.rest();
        self.say(self.why, now.wall, out);
    }

    /// How long the chip is left alone after its latest failure.
    fn rest(&self) -> Duration {
        let doublings = self.failures.saturating_sub(limits::CHIP_FAILURES_MAX - 1).min(16);
        let longest = Duration::from_secs(limits::CHIP_REST_S_MAX).max(self.interval);
        if doublings == 0 { Duration::ZERO } else { (self.interval * (1 << doublings)).min(longest) }
    }

    fn say(&self, why: NoData, at: Wall, out: &mut Vec<Reading>) {
        out.extend(self.channels.iter().map(|channel| Reading::new(channel.clone(), at, Err(why))));
    }
}

#[cfg(test)]
mod tests;
