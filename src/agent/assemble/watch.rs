//! What small models look at, and what their judgements mean for the channels.

use std::time::Duration;

use super::WatchOptions;
use crate::detect::{Reason, Verdict};
use crate::frame::{Frame, FrameOptions, Frames, ModelName};
use crate::infer::Judgement;
use crate::observe::{self, judge as events};
use crate::reading::{ChannelId, Pattern, Severity, Unit};
use crate::units::{self, Conversion};

/// One small model's samples.
#[derive(Debug)]
pub(super) struct Watch {
    pub options: WatchOptions,
    pub frames: Frames,
}

/// A channel in the eyes of a small model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// Number of the watch.
    pub watch: usize,
    /// Row of its frames.
    pub row: usize,
    /// Into the unit of the model and back; none: it is the channel's.
    units: Option<(Conversion, Conversion)>,
}

impl Look {
    /// The value as the model wants it.
    pub fn seen(&self, x: f64) -> f64 {
        self.units.map_or(x, |(there, _)| there.apply(x))
    }

    /// The model's verdict in the channel's unit.
    pub fn told(&self, mut verdict: Verdict) -> Verdict {
        if let Some((_, back)) = self.units {
            verdict.baseline = verdict.baseline.map(|x| back.apply(x));
            verdict.peak = verdict.peak.map(|x| back.apply(x));
        }
        verdict
    }
}

impl Watch {
    /// How the watch of that number looks at a channel whose unit is `unit`, if it is known for sure; none: not at all.
    pub fn look(&self, watch: usize, channel: &ChannelId, unit: Option<&Unit>) -> Option<Look> {
        let WatchOptions { name, channels, units, .. } = &self.options;
        let row = channels.iter().position(|id| id == channel)?;
        let wanted = units.get(row).filter(|wanted| !wanted.0.is_empty());
        let (Some(unit), Some(wanted)) = (unit, wanted) else {
            return Some(Look { watch, row, units: None });
        };
        let (unit, wanted) = (unit.0.as_str(), wanted.0.as_str());
        if units::canonical(unit) == units::canonical(wanted) {
            return Some(Look { watch, row, units: None });
        }
        let ways = Conversion::between(unit, wanted).zip(Conversion::between(wanted, unit));
        if ways.is_none() {
            observe::emit(&events::ModelUnitMismatch { model: *name, channel, unit, wanted });
        }
        ways.map(|ways| Look { watch, row, units: Some(ways) })
    }

    pub fn new(options: &WatchOptions) -> Self {
        Self { frames: Frames::new(options.frames), options: options.clone() }
    }

    /// Time from one frame to the next.
    pub fn hop_us(&self) -> i64 {
        let FrameOptions { step_ms, hop, .. } = self.options.frames;
        i64::from(step_ms).saturating_mul(1000).saturating_mul(i64::try_from(hop).unwrap_or(i64::MAX))
    }
}

/// What a judgement means, and the row of the channel that it shows on most.
pub(super) fn verdict(name: ModelName, step_ms: u32, judgement: &Judgement) -> (usize, Verdict) {
    let Judgement { frame, score, threshold, class, worst, .. } = judgement;
    let row = worst.map_or(0, |(row, ..)| row);
    let samples = frame.rows.get(row).map(Vec::as_slice).unwrap_or_default();
    let seen = worst.and_then(|(_, sample, expected)| Some((samples.get(sample)?, sample, expected)));
    let above = seen.is_none_or(|(x, _, expected)| *x >= expected);
    let shape = Frame::trend(samples).unwrap_or(if above { Pattern::High } else { Pattern::Low });
    let began = seen.map(|(_, sample, _)| {
        frame.start + Duration::from_millis(u64::from(step_ms).saturating_mul(sample as u64))
    });
    let verdict = Verdict {
        score: (score / (score + threshold)) as f32,
        pattern: shape,
        severity: Severity::Warning,
        reason: Reason::Model {
            model: name,
            class: *class,
            score: *score as f32,
            threshold: *threshold as f32,
        },
        since: began,
        baseline: seen.map(|(_, _, expected)| expected),
        peak: seen.map(|(x, ..)| *x).or(samples.last().copied()),
        limit: None,
        fresh: false,
    };
    (row, verdict)
}
