//! Readings into records: windows, verdicts, episodes, and the facts of a period.
//!
//! The assembler is pure: it asks no clock. Each [`Source`] has its own time, since a recording that is replayed at
//! sixty times its speed lives beside the vitals of the host: readings carry event time, [`Assembler::tick`] carries
//! the time of that source's clock, and what is silent or idle is measured between two ticks of one source. A
//! channel's own event time may be off by decades (a sensor that booted in 1970); it is compared with itself only.
//!
//! A period is asked for by a [`Mark`], not by a date: [`Assembler::mark`] when a digest is made, [`Assembler::facts`]
//! with that mark for the next one.

mod channel;
mod options;
mod watch;

pub use options::{AssembleOptions, ChannelBook, ChannelOptions, WatchOptions};

use std::collections::HashMap;

use channel::{Channel, Ears, tell_window};
use watch::{Look, Watch, verdict};

use super::clip::Clip;
use super::tally::{Heard, Period, Tally};
use super::witness::Witnesses;
use crate::ask::answer::Known;
use crate::calibrate::{Calibrator, Quality, Treatment};
use crate::detect::{Finding, Group, Judge, Rule, Silence, Verdict};
use crate::episode::{EpisodeUpdate, Episodes};
use crate::facts::{Citation, Facts};
use crate::infer::{Job, Judgement};
use crate::limits;
use crate::observe::{self, judge as events, metrics};
use crate::reading::{ChannelId, ChannelInfo, NoData, Reading, Unit};
use crate::time::{Mono, Stamp, Wall};
use crate::units::{self, Conversion};
use crate::window::{Taken, Windows};
use crate::wire::Record;

pub use super::tally::Mark;

/// A source of readings with its own clock: at most [`limits::SOURCE_CLOCKS_MAX`], numbered by the caller from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source(pub u8);

/// All channels of one agent.
#[derive(Debug)]
pub struct Assembler {
    options: AssembleOptions,
    index: HashMap<ChannelId, usize>,
    channels: Vec<Channel>,
    /// Time of each source's clock, as last told.
    clocks: Vec<Option<Wall>>,
    /// Sources whose readings are of now: their clocks tell by how much a channel can have moved on.
    live: Vec<bool>,
    next_episode_id: u64,
    tally: Tally,
    calibrator: Calibrator,
    refused: u64,
    watches: Vec<Watch>,
    /// Frames that are complete and were not taken yet.
    complete: Vec<Job>,
    groups: Vec<Group>,
    rules: Vec<Rule>,
}

impl Assembler {
    /// No channel yet.
    pub fn new(options: AssembleOptions) -> Self {
        Self {
            next_episode_id: options.first_episode_id,
            index: HashMap::new(),
            channels: Vec::new(),
            clocks: vec![None; limits::SOURCE_CLOCKS_MAX],
            live: vec![false; limits::SOURCE_CLOCKS_MAX],
            tally: Tally::new(),
            calibrator: Calibrator::default(),
            refused: 0,
            watches: options.watches.iter().map(Watch::new).collect(),
            complete: Vec::new(),
            groups: options.groups.iter().take(limits::GROUPS_MAX).cloned().map(Group::new).collect(),
            rules: options.rules.iter().take(limits::RULES_MAX).cloned().map(Rule::new).collect(),
            options,
        }
    }

    /// Says whether the readings of a source are of now, not of a recording with its gaps.
    pub fn set_live(&mut self, source: Source, live: bool) {
        self.live[slot(source)] = live;
    }

    /// Makes a channel known before its first reading, or corrects what was guessed of it. The configuration has the
    /// last word. Returns false if the channel is one too many.
    pub fn describe(&mut self, source: Source, info: ChannelInfo) -> bool {
        match self.index.get(&info.id) {
            Some(&i) => {
                let configured = self.configured(info.clone());
                let watched = self.looks(&info, &configured);
                let channel = &mut self.channels[i];
                if channel.info.quantity != configured.quantity {
                    channel.judge = judge(&self.options, &configured);
                }
                (channel.info, channel.described, channel.watched) = (configured, info, watched);
                true
            }
            None => self.add(source, info).is_some(),
        }
    }

    /// Another configuration applies from now on. What detectors have learnt of a channel is kept unless it is about
    /// another quantity, other limits or another unit now.
    pub fn reconfigure(&mut self, channels: ChannelBook, raw: bool) {
        let old = std::mem::replace(&mut self.options.channels, channels);
        self.options.raw = raw;
        for i in 0..self.channels.len() {
            let described = self.channels[i].described.clone();
            let (before, now) = (old.of(&described.id), self.options.channels.of(&described.id));
            let info = self.configured(described.clone());
            let watched = self.looks(&described, &info);
            let channel = &mut self.channels[i];
            let same = (channel.info.quantity, &channel.info.unit) == (info.quantity, &info.unit)
                && before.judged_alike(&now);
            if !same {
                channel.judge = judge(&self.options, &info);
            }
            channel.raw = now.raw.unwrap_or(raw);
            channel.info = info;
            channel.watched = watched;
        }
    }

    /// Takes one reading and appends what comes of it to `out`, in order.
    pub fn push(&mut self, source: Source, reading: &Reading, out: &mut Vec<Record>) {
        let known = self.index.get(&reading.channel).copied();
        let Some(i) = known.or_else(|| self.add(source, ChannelInfo::guess(&reading.channel))) else {
            return;
        };
        let (reading, quality) = &self.calibrated(reading);
        let clock = self.clocks[slot(source)];
        self.tally.readings += 1;
        let stamp = self.tally.readings;
        let channel = &mut self.channels[i];
        channel.source = source;
        channel.quality = *quality;
        channel.missing = reading.value.err();
        if channel.raw {
            out.push(Record::Reading(reading.clone()));
        } else {
            channel.clip.take(reading, out);
        }
        // One stray stamp would make everything late that comes after it.
        if self.live[slot(source)] && channel.doubts(reading.at, clock) {
            metrics::AHEAD.inc();
            return;
        }
        let before = channel.windows.newest();
        let taken = {
            let Channel { windows, info, .. } = channel;
            windows.push(reading.at, reading.value, &mut |w| tell_window(info, w, out))
        };
        let mut ears = Ears { options: &self.options.episodes, next_id: &mut self.next_episode_id, out };
        match taken {
            Taken::Late => metrics::LATE.inc(),
            Taken::InTime => channel.heard.note(stamp, reading.at),
            Taken::SetBack => {
                channel.watched.iter().for_each(|look| self.watches[look.watch].frames.clear());
                channel.grouped.iter().for_each(|(group, _)| self.groups[*group].clock_set_back());
                channel.ruled.iter().for_each(|rule| self.rules[*rule].forget(&channel.info.id));
                channel.set_back(before, reading.at, clock, &mut ears, &mut self.tally);
                channel.take(reading, clock, stamp, &mut ears, &mut self.tally);
            }
            Taken::Newest => {
                let clock = channel.arrival(reading, before, clock);
                channel.take(reading, clock, stamp, &mut ears, &mut self.tally);
            }
        }
        if matches!(taken, Taken::Newest | Taken::SetBack) {
            self.gather(i, reading);
            self.combine(i, reading, out);
        }
        if taken != Taken::Late {
            self.compare(i, reading, out);
        }
    }

    /// The frames that have become complete since the last call.
    pub fn take_frames(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.complete)
    }

    /// Takes what a small model says of one of its frames and appends what comes of it to `out`.
    pub fn judged(&mut self, judgement: &Judgement, out: &mut Vec<Record>) {
        let number = self.watches.iter().position(|watch| watch.options.model == judgement.model);
        let Some((number, watch)) = number.map(|number| (number, &self.watches[number])) else { return };
        if judgement.score < judgement.threshold {
            return;
        }
        metrics::INFER_ODD.inc();
        let (row, verdict) = verdict(watch.options.name, watch.options.frames.step_ms, judgement);
        let channel = watch.options.channels.get(row).and_then(|id| self.index.get(id));
        let Some(channel) = channel.map(|&i| &mut self.channels[i]) else { return };
        let look = channel.watched.iter().find(|look| look.watch == number);
        let verdict = match look {
            Some(look) => look.told(verdict),
            None => verdict,
        };
        let mut ears = Ears { options: &self.options.episodes, next_id: &mut self.next_episode_id, out };
        channel.flag(verdict, judgement.frame.at, &mut ears);
    }

    /// Adds a reading to the frames of the small models that look at its channel.
    fn gather(&mut self, channel: usize, reading: &Reading) {
        let Ok(x) = reading.value else { return };
        for look in &self.channels[channel].watched {
            let Watch { options, frames } = &mut self.watches[look.watch];
            if let Some(frame) = frames.push(look.row, reading.at, look.seen(x))
                && self.complete.len() < limits::INFER_QUEUE_MAX
            {
                self.complete.push(Job { model: options.model, frame });
            }
        }
    }

    /// Shows a reading to the groups that its channel belongs to; what they find is told of the channel that is odd.
    fn compare(&mut self, channel: usize, reading: &Reading, out: &mut Vec<Record>) {
        let Ok(x) = reading.value else { return };
        let mut found: Vec<(ChannelId, Wall, Verdict)> = Vec::new();
        for &(number, place) in &self.channels[channel].grouped {
            let group = &mut self.groups[number];
            let name = group.options().name;
            let mut odd: Vec<(Wall, Finding)> = Vec::new();
            group.push(place, reading.at, x, &mut |at, finding| odd.push((at, finding)));
            let member = |place: usize| group.options().channels.get(place).cloned();
            found.extend(odd.into_iter().filter_map(|(at, f)| Some((member(f.channel)?, at, f.verdict))));
            if let Some(channel) = group.take_lack() {
                observe::emit(&events::GroupWaits { group: name, channel });
            }
        }
        self.flag_all(found, out);
    }

    /// Shows the newest reading of a channel to the rules that look at it.
    fn combine(&mut self, channel: usize, reading: &Reading, out: &mut Vec<Record>) {
        let mut found: Vec<(ChannelId, Wall, Verdict)> = Vec::new();
        for &number in &self.channels[channel].ruled {
            let tell =
                &mut |of: &ChannelId, at: Wall, verdict: Verdict| found.push((of.clone(), at, verdict));
            self.rules[number].step(&reading.channel, reading.at, reading.value, tell);
        }
        self.flag_all(found, out);
    }

    /// Flags what was found over several channels, each of the channel that it is told of.
    fn flag_all(&mut self, found: Vec<(ChannelId, Wall, Verdict)>, out: &mut Vec<Record>) {
        for (id, at, verdict) in found {
            let mut ears = Ears { options: &self.options.episodes, next_id: &mut self.next_episode_id, out };
            if let Some(&channel) = self.index.get(&id) {
                self.channels[channel].flag(verdict, at, &mut ears);
            }
        }
    }

    /// Tells the time of a source's clock: closes windows that wait in vain, ends quiet episodes, finds silent channels.
    ///
    /// For a live source that is wall time now, for a replay the time in the recording. Call it about once a second.
    pub fn tick(&mut self, source: Source, now: Wall, out: &mut Vec<Record>) {
        self.clocks[slot(source)] = Some(now);
        let mut ears = Ears { options: &self.options.episodes, next_id: &mut self.next_episode_id, out };
        for channel in self.channels.iter_mut().filter(|c| c.source == source) {
            channel.tick(now, &mut ears, &mut self.tally);
            if !channel.ruled.is_empty() && channel.is_missing() {
                channel.ruled.iter().for_each(|rule| self.rules[*rule].forget(&channel.info.id));
            }
        }
    }

    /// The clock of a source was set by `step_us` microseconds, negative is back: that is no silence of its channels.
    pub fn clock_set(&mut self, source: Source, step_us: i64) {
        let moved = |at: &mut Option<Wall>| *at = at.map(|at| Wall(at.0.saturating_add(step_us)));
        moved(&mut self.clocks[slot(source)]);
        for channel in self.channels.iter_mut().filter(|c| c.source == source) {
            moved(&mut channel.arrived);
            channel.interval_off = true;
        }
    }

    /// A source has ended: tells its open windows and ends its episodes. Its channels are not missed from now on.
    pub fn end(&mut self, source: Source, out: &mut Vec<Record>) {
        self.clocks[slot(source)] = None;
        let mut ears = Ears { options: &self.options.episodes, next_id: &mut self.next_episode_id, out };
        for channel in self.channels.iter_mut().filter(|c| c.source == source) {
            channel.end(&mut ears, &mut self.tally);
        }
    }

    /// Whether anything that a source gave up to `at` is in a window that is still open, and kept nowhere else.
    pub fn holds(&self, source: Source, at: Wall) -> bool {
        self.channels.iter().any(|c| c.source == source && !c.raw && c.windows.holds(at))
    }

    /// Tells the open windows of a source as they are.
    pub fn settle(&mut self, source: Source, out: &mut Vec<Record>) {
        for channel in self.channels.iter_mut().filter(|c| c.source == source) {
            channel.tell_windows(out);
        }
    }

    /// A channel is no more: tells its open window, ends its episodes and forgets it, so that another may take its place.
    pub fn retire(&mut self, channel: &ChannelId, out: &mut Vec<Record>) {
        let Some(i) = self.index.remove(channel) else { return };
        let mut ears = Ears { options: &self.options.episodes, next_id: &mut self.next_episode_id, out };
        self.channels.swap_remove(i).end(&mut ears, &mut self.tally);
        self.calibrator.set(channel, Treatment::default());
        if let Some(moved) = self.channels.get(i) {
            self.index.insert(moved.info.id.clone(), i);
        }
    }

    /// Ends all sources, for an orderly shutdown.
    pub fn flush(&mut self, out: &mut Vec<Record>) {
        (0..limits::SOURCE_CLOCKS_MAX).for_each(|i| self.end(Source(i as u8), out));
    }

    /// This moment, to ask later what has happened since.
    pub fn mark(&self) -> Mark {
        self.tally.mark(self.channels.iter().map(|c| (c.source, c.heard)))
    }

    /// What has happened since `mark`: the episodes that were open at any moment of it, alike ones as one event.
    pub fn facts(&self, mark: &Mark) -> Facts {
        let mut period = Period::new(&self.tally, mark);
        for channel in &self.channels {
            period.channel(&channel.info, channel.source, &channel.heard, channel.episodes.open());
        }
        period.facts()
    }

    /// The record of episode `id` was admitted under `citation` at `at`: facts cite it from now on.
    pub fn cite(&mut self, id: u64, citation: Citation, at: Mono) {
        self.tally.cite(id, citation, at, |id| self.channels.iter().any(|c| c.episodes.has(id)));
    }

    /// Whether numbers of readings are wanted: an episode is under way or has just ended.
    pub fn wants_numbers(&self) -> bool {
        self.channels.iter().any(|channel| !channel.witnesses.is_empty())
    }

    /// A reading is record `number` of lane `raw`.
    pub fn numbered(&mut self, reading: &Reading, number: u64) {
        if let Some(&i) = self.index.get(&reading.channel) {
            self.channels[i].witnesses.take(reading.at, number);
        }
    }

    /// Completes a step with the readings that prove its episode so far.
    pub fn prove(&mut self, step: &mut EpisodeUpdate) {
        if let Some(&i) = self.index.get(&step.channel) {
            step.evidence = self.channels[i].witnesses.cite(step.id);
        }
    }

    /// Every episode in memory whose records were admitted, open ones and the latest that ended, with the agent's times by
    /// the clock of `now`.
    pub fn episodes(&self, now: &Stamp) -> Vec<(u64, Known)> {
        let open = self.channels.iter().flat_map(|channel| {
            let newest = channel.heard.newest();
            channel.episodes.open().filter_map(move |episode| {
                self.tally.known(&channel.info, episode, newest.max(episode.flagged_at), true, now)
            })
        });
        self.tally.ended_known(now).chain(open).collect()
    }

    /// What is known of every channel.
    pub fn infos(&self) -> impl Iterator<Item = &ChannelInfo> {
        self.channels.iter().map(|channel| &channel.info)
    }

    /// Channels whose latest reading is not as it should be: its quality, and why there is no value.
    pub fn doubtful(&self) -> impl Iterator<Item = (&ChannelInfo, Quality, Option<NoData>)> {
        let doubtful = self.channels.iter().filter(|channel| channel.quality != Quality::Good);
        doubtful.map(|channel| (&channel.info, channel.quality, channel.missing))
    }

    /// Id that the next episode will have; to be kept over a restart.
    pub const fn next_episode_id(&self) -> u64 {
        self.next_episode_id
    }

    /// Channels known.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Episodes that are open now.
    pub fn episodes_open(&self) -> usize {
        self.channels.iter().map(|c| c.episodes.open().count()).sum()
    }

    /// What is known of `channel`.
    pub fn info(&self, channel: &str) -> Option<&ChannelInfo> {
        self.index.get(channel).map(|&i| &self.channels[i].info)
    }

    /// Readings of channels beyond [`limits::CHANNELS_MAX`].
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Readings that were left out because they were late.
    pub fn late(&self) -> u64 {
        self.channels.iter().map(|c| c.windows.late()).sum()
    }

    /// The description with what the configuration says; sets what is done to the channel's values.
    fn configured(&mut self, mut info: ChannelInfo) -> ChannelInfo {
        let o = self.options.channels.of(&info.id);
        let given = o.source_unit.or_else(|| info.unit_given.then(|| info.unit.clone()));
        info.label = o.label.unwrap_or(info.label);
        info.asset = o.asset.or(info.asset);
        info.unit = o.unit.or_else(|| given.clone()).unwrap_or(info.unit);
        info.quantity = o.quantity.unwrap_or(info.quantity);
        let conversion = given.and_then(|given| conversion(&info.id, &given, &info.unit));
        self.calibrator.set(&info.id, Treatment { conversion, ..o.treatment });
        info
    }

    /// How the small models look at a channel. A unit that was guessed from its name is taken for whatever a model wants.
    fn looks(&self, described: &ChannelInfo, info: &ChannelInfo) -> Vec<Look> {
        let configured = self.options.channels.of(&info.id);
        let is_known = described.unit_given || configured.unit.is_some() || configured.source_unit.is_some();
        let unit = is_known.then_some(&info.unit);
        let looks = |(number, watch): (usize, &Watch)| watch.look(number, &info.id, unit);
        self.watches.iter().enumerate().filter_map(looks).collect()
    }

    /// The reading as it is judged and kept, with what it is worth.
    fn calibrated(&self, reading: &Reading) -> (Reading, Quality) {
        let (value, quality) = self.calibrator.apply(reading);
        match quality {
            Quality::Uncertain => metrics::READINGS_UNCERTAIN.inc(),
            Quality::Bad if reading.value.is_ok() => metrics::READINGS_OUT_OF_RANGE.inc(),
            Quality::Good | Quality::Bad => {}
        }
        (Reading { value, quality, ..reading.clone() }, quality)
    }

    fn add(&mut self, source: Source, described: ChannelInfo) -> Option<usize> {
        if self.channels.len() == limits::CHANNELS_MAX {
            if self.refused == 0 {
                observe::emit(&events::ChannelRefused { channel: &described.id });
            }
            self.refused += 1;
            return None;
        }
        let info = self.configured(described.clone());
        let raw = self.options.channels.of(&info.id).raw.unwrap_or(self.options.raw);
        let watched = self.looks(&described, &info);
        let grouped: Vec<(usize, usize)> = (self.groups.iter().enumerate())
            .filter_map(|(n, group)| {
                Some((n, group.options().channels.iter().position(|id| *id == info.id)?))
            })
            .collect();
        let ruled = (0..self.rules.len()).filter(|n| self.rules[*n].watches(&info.id)).collect();
        let frames = watched.iter().map(|look| self.watches[look.watch].hop_us());
        let rows = grouped.iter().map(|(n, _)| i64::from(self.groups[*n].options().every_ms) * 1000);
        let judged_every_us = frames.chain(rows).max().unwrap_or(0);
        self.index.insert(info.id.clone(), self.channels.len());
        self.channels.push(Channel {
            source,
            raw,
            clip: Clip::new(self.options.clip_readings),
            witnesses: Witnesses::default(),
            windows: Windows::new(self.options.windows),
            judge: judge(&self.options, &info),
            silence: Silence::default(),
            episodes: Episodes::default(),
            value_at: None,
            arrived: None,
            last: None,
            interval_off: false,
            ahead_run: 0,
            heard: Heard::default(),
            described,
            quality: Quality::Good,
            missing: None,
            watched,
            grouped,
            ruled,
            judged_every_us,
            info,
        });
        Some(self.channels.len() - 1)
    }
}

/// From what the source gives to what is told; none where that is the same, or where there is no way.
fn conversion(channel: &ChannelId, given: &Unit, told: &Unit) -> Option<Conversion> {
    if units::canonical(&given.0) == units::canonical(&told.0) {
        return None;
    }
    let found = Conversion::between(&given.0, &told.0);
    if found.is_none() {
        observe::emit(&events::UnitMismatch { channel, from: &given.0, to: &told.0 });
    }
    found
}

fn judge(options: &AssembleOptions, info: &ChannelInfo) -> Judge {
    let own = options.channels.of(&info.id);
    Judge::new(info.quantity, own.limits, own.learning.unwrap_or(!options.learning_off))
}

fn slot(source: Source) -> usize {
    usize::from(source.0) % limits::SOURCE_CLOCKS_MAX
}

#[cfg(test)]
mod tests;
