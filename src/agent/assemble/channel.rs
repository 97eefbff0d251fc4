//! One channel: its windows, its judge, its episodes, and what became of its readings.

use std::time::Duration;

use super::watch::Look;
use super::{Clip, Heard, Source, Tally, Witnesses};
use crate::calibrate::Quality;
use crate::detect::{Judge, Silence, Verdict};
use crate::episode::{Episode, EpisodeOptions, EpisodeUpdate, Episodes, Family, Phase, Subject};
use crate::limits;
use crate::observe::{self, judge as events, metrics};
use crate::reading::{ChannelInfo, NoData, Pattern, Reading};
use crate::time::{Wall, humane};
use crate::window::{WindowSummary, Windows};
use crate::wire::{Notice, Record};

#[derive(Debug)]
pub(super) struct Channel {
    pub info: ChannelInfo,
    /// As its source has it, before the configuration.
    pub described: ChannelInfo,
    /// What the latest reading is worth, and why it has no value.
    pub quality: Quality,
    pub missing: Option<NoData>,
    pub source: Source,
    pub raw: bool,
    pub clip: Clip,
    pub witnesses: Witnesses,
    pub windows: Windows,
    pub judge: Judge,
    pub silence: Silence,
    pub episodes: Episodes,
    /// Event time of the last value.
    pub value_at: Option<Wall>,
    pub last: Option<f64>,
    /// Source time of the newest reading.
    pub arrived: Option<Wall>,
    /// The clock was set since: the interval to the next value teaches nothing.
    pub interval_off: bool,
    /// Readings in a row that are far ahead of the channel.
    pub ahead_run: u32,
    pub heard: Heard,
    /// How small models look at it.
    pub watched: Vec<Look>,
    /// Numbers of the groups that it belongs to, each with its place.
    pub grouped: Vec<(usize, usize)>,
    /// Numbers of the rules that look at it.
    pub ruled: Vec<usize>,
    /// Time from one frame of a watch or row of a group to the next of the slowest of them; 0 without any.
    pub judged_every_us: i64,
}

/// Where a channel's steps go.
pub(super) struct Ears<'a> {
    pub options: &'a EpisodeOptions,
    pub next_id: &'a mut u64,
    pub out: &'a mut Vec<Record>,
}

impl Channel {
    /// Judges a reading that is the newest of its channel.
    pub fn take(
        &mut self,
        reading: &Reading,
        clock: Option<Wall>,
        stamp: u64,
        ears: &mut Ears<'_>,
        tally: &mut Tally,
    ) {
        self.heard.note(stamp, reading.at);
        self.arrived = clock;
        match reading.value {
            Ok(x) => {
                let interval_off = std::mem::take(&mut self.interval_off);
                if let Some(before) = self.value_at.replace(reading.at).filter(|_| !interval_off) {
                    self.silence.heard(reading.at.micros_since(before));
                }
                self.last = Some(x);
                self.close(Some(Family::Missing), ears, tally);
            }
            Err(_) => {
                if let Some(verdict) =
                    self.value_at.and_then(|before| self.silence.tick(reading.at.micros_since(before)))
                {
                    self.flag(Verdict { since: self.value_at, ..verdict }, reading.at, ears);
                }
            }
        }
        let mut verdicts = Vec::new();
        self.judge.step(reading.at, reading.value, &mut |verdict| verdicts.push(verdict));
        for verdict in verdicts {
            self.flag(verdict, reading.at, ears);
        }
        self.close_quiet(reading.at, ears, tally);
    }

    /// When its newest reading came, by the source's clock; `before` is the event time of the newest until then. One without a value
    /// may be stamped right behind the last value, whenever it came: then the silence goes on, and does not begin anew.
    pub fn arrival(&self, reading: &Reading, before: Option<Wall>, clock: Option<Wall>) -> Option<Wall> {
        match (reading.value, before, self.arrived) {
            (Err(_), Some(before), Some(arrived)) => {
                let moved = Duration::from_micros(reading.at.micros_since(before).max(0).unsigned_abs());
                clock.map(|now| now.min(arrived + moved))
            }
            _ => clock,
        }
    }

    pub fn tick(&mut self, now: Wall, ears: &mut Ears<'_>, tally: &mut Tally) {
        let Some(newest) = self.windows.newest() else { return };
        // Its own event time, carried on by the source's clock; a clock that was set back starts over.
        let arrived = *self.arrived.get_or_insert(now);
        let idle_us = now.micros_since(arrived);
        if idle_us < 0 {
            self.arrived = Some(now);
            return;
        }
        let virtual_now = newest + Duration::from_micros(idle_us.unsigned_abs());
        if idle_us > 2 * self.windows.lateness_us() + self.silence.interval_us() {
            let watermark = Wall(virtual_now.0.saturating_sub(2 * self.windows.lateness_us()));
            let Self { windows, info, .. } = self;
            windows.close_idle(watermark, &mut |w| tell_window(info, w, ears.out));
        }
        let since = self.value_at;
        let silent_us = since.map_or(0, |at| virtual_now.micros_since(at));
        if let Some(verdict) = self.silence.tick(silent_us) {
            self.flag(Verdict { since, ..verdict }, virtual_now, ears);
        }
        self.close_quiet(virtual_now, ears, tally);
    }

    /// Whether a stamp is far ahead of where the channel should be by now; several in a row are believed, and the first one after
    /// the clock was set.
    pub fn doubts(&mut self, at: Wall, clock: Option<Wall>) -> bool {
        if self.interval_off {
            return false;
        }
        let (Some(newest), Some(arrived), Some(now)) = (self.windows.newest(), self.arrived, clock) else {
            return false;
        };
        let ahead_us = at.micros_since(newest).saturating_sub(now.micros_since(arrived).max(0));
        if u64::try_from(ahead_us).unwrap_or(0) <= limits::STAMP_AHEAD_S_MAX * 1_000_000 {
            self.ahead_run = 0;
            return false;
        }
        self.ahead_run = self.ahead_run.saturating_add(1);
        if self.ahead_run == 1 {
            observe::emit(&events::StampAhead { channel: &self.info.id, by_s: ahead_us / 1_000_000 });
        }
        self.ahead_run < limits::AHEAD_RUN_MAX
    }

    pub fn is_missing(&self) -> bool {
        self.episodes.open().any(|e| e.pattern == Pattern::Missing)
    }

    pub fn tell_windows(&mut self, out: &mut Vec<Record>) {
        let Self { windows, info, .. } = self;
        windows.flush(&mut |w| tell_window(info, w, out));
    }

    pub fn end(&mut self, ears: &mut Ears<'_>, tally: &mut Tally) {
        self.tell_windows(ears.out);
        self.clip.end(ears.out);
        self.close(None, ears, tally);
        self.arrived = None;
    }

    pub fn set_back(
        &mut self,
        before: Option<Wall>,
        at: Wall,
        clock: Option<Wall>,
        ears: &mut Ears<'_>,
        tally: &mut Tally,
    ) {
        self.close(None, ears, tally);
        self.judge.clock_set_back();
        self.value_at = None;
        let by_us = before.map_or(0, |before| before.micros_since(at)).max(0);
        observe::emit(&events::ClockSetBack { channel: &self.info.id, by_s: by_us / 1_000_000 });
        ears.out.push(Record::Notice(Notice {
            code: "clock_set_back".into(),
            text: format!(
                "The clock of {} was set back by {}; {} of its readings were left out of the windows. Check its time source.",
                self.info.id,
                humane(Duration::from_micros(by_us.unsigned_abs())),
                limits::LATE_RUN_MAX - 1,
            ),
            at: clock.unwrap_or(at),
        }));
    }

    pub fn flag(&mut self, verdict: Verdict, at: Wall, ears: &mut Ears<'_>) {
        let subject = Subject { channel: &self.info.id, unit: &self.info.unit, last: self.last };
        let Some(update) = self.episodes.flag(&verdict, at, subject, ears.options, ears.next_id) else {
            return;
        };
        if update.phase == Phase::Opened {
            let clip = self.clip.open(&self.info.id, ears.out);
            self.witnesses.open(update.id, clip.unwrap_or(update.start).min(update.start));
        }
        ears.out.push(Record::Episode(update));
    }

    pub fn close_quiet(&mut self, now: Wall, ears: &mut Ears<'_>, tally: &mut Tally) {
        // What a small model or a group flags is flagged once per frame or row, however often the channel speaks.
        let interval_us = self.silence.interval_us().max(self.judged_every_us);
        let options = ears.options;
        self.close_by(ears, tally, |episodes, subject, mut ended| {
            episodes.close_quiet(now, interval_us, subject, options, &mut ended);
        });
    }

    /// Ends the episode of `family`, or all.
    pub fn close(&mut self, family: Option<Family>, ears: &mut Ears<'_>, tally: &mut Tally) {
        self.close_by(ears, tally, |episodes, subject, mut ended| match family {
            Some(family) => episodes.close(family, subject, &mut ended),
            None => episodes.close_all(subject, &mut ended),
        });
    }

    /// Tells of every episode that `close` ends.
    pub fn close_by(
        &mut self,
        ears: &mut Ears<'_>,
        tally: &mut Tally,
        close: impl FnOnce(&mut Episodes, Subject<'_>, &mut dyn FnMut(Episode, EpisodeUpdate)),
    ) {
        let newest = self.heard.newest();
        let Self { episodes, info, last, source, witnesses, clip, .. } = self;
        let subject = Subject { channel: &info.id, unit: &info.unit, last: *last };
        close(episodes, subject, &mut |episode, update| {
            clip.end(ears.out);
            witnesses.close(episode.id, newest);
            tally.ended(info, *source, episode);
            ears.out.push(Record::Episode(update));
        });
    }
}

pub(super) fn tell_window(info: &ChannelInfo, window: &crate::window::Window, out: &mut Vec<Record>) {
    metrics::WINDOWS.inc();
    out.push(Record::Window(WindowSummary::new(&info.id, &info.unit, window)));
}
