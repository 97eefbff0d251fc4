//! The way from a source into the pipeline: one bounded channel, with the counters of what went through.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smol::channel::{Sender, TrySendError};

use crate::facts::Citation;
use crate::limits;
use crate::observe::{emit, sensor as events};
use crate::reading::{ChannelId, ChannelInfo, Reading};
use crate::wire::Notice;

/// What a source hands over at once: at most [`limits::SENSOR_BATCH_READINGS_MAX`] readings, except that what is polled is
/// handed over one poll whole.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The source's configured name.
    pub source: Arc<str>,
    /// The readings, in the order of arrival; event times may jump.
    pub readings: Vec<Reading>,
    /// Descriptions of channels that are new or have changed, to be read before `readings`.
    pub infos: Vec<ChannelInfo>,
    /// Channels that are no more, once `readings` are read.
    pub ended: Vec<ChannelId>,
    /// Nothing more will come from this source.
    pub end: bool,
    /// What is to be told in words.
    pub notices: Vec<Notice>,
    /// Answered when what came of this batch is durable.
    pub receipt: Option<Receipt>,
}

/// Where a source hears that what it handed over is durable.
pub type Receipt = Sender<Vec<Citation>>;

/// What goes into one [`Batch`].
#[derive(Debug, Default)]
pub(super) struct Handover {
    pub readings: Vec<Reading>,
    pub infos: Vec<ChannelInfo>,
    pub ended: Vec<ChannelId>,
    pub end: bool,
    pub notices: Vec<Notice>,
    pub receipt: Option<Receipt>,
}

/// What a source has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceStats {
    /// Readings handed over.
    pub readings: u64,
    /// Readings dropped because the pipeline was full.
    pub dropped: u64,
    /// Lines, rows or cells that could not be understood.
    pub malformed: u64,
    /// Values that are no number by nature, such as texts among the fields of a line.
    pub ignored: u64,
}

/// [`SourceStats`] while they move.
#[derive(Debug, Default)]
pub(super) struct Counters {
    readings: AtomicU64,
    dropped: AtomicU64,
    malformed: AtomicU64,
    ignored: AtomicU64,
}

impl Counters {
    pub(super) fn snapshot(&self) -> SourceStats {
        SourceStats {
            readings: self.readings.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            malformed: self.malformed.load(Ordering::Relaxed),
            ignored: self.ignored.load(Ordering::Relaxed),
        }
    }

    pub(super) fn set_malformed(&self, n: u64) {
        self.malformed.store(n, Ordering::Relaxed);
    }

    pub(super) fn set_ignored(&self, n: u64) {
        self.ignored.store(n, Ordering::Relaxed);
    }
}

/// The pipeline is gone; the source may end.
#[derive(Debug)]
pub(super) struct Closed;

/// One source's end of the channel.
pub(super) struct Outlet {
    source: Arc<str>,
    out: Sender<Batch>,
    counters: Arc<Counters>,
}

impl Outlet {
    pub(super) fn new(source: Arc<str>, out: Sender<Batch>) -> Self {
        Self { source, out, counters: Arc::default() }
    }

    pub(super) fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// Whether the pipeline is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.out.is_closed()
    }

    pub(super) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Hands a batch over and waits while the pipeline is full.
    pub(super) async fn send(
        &self,
        readings: Vec<Reading>,
        infos: Vec<ChannelInfo>,
        end: bool,
    ) -> Result<(), Closed> {
        self.hand_over(Handover { readings, infos, end, ..Handover::default() }).await
    }

    /// Like [`Outlet::send`], with all that a batch may carry. Too many readings go in several, descriptions with the first
    /// and everything else with the last: batches become durable in their order, so its receipt speaks for all.
    pub(super) async fn hand_over(&self, mut handover: Handover) -> Result<(), Closed> {
        if handover.readings.len() > limits::SENSOR_BATCH_READINGS_MAX {
            // Each batch with the memory that it needs: split off, the first would keep that of all.
            let mut rest = std::mem::take(&mut handover.readings).into_iter();
            while rest.len() > limits::SENSOR_BATCH_READINGS_MAX {
                let readings = rest.by_ref().take(limits::SENSOR_BATCH_READINGS_MAX).collect();
                let infos = std::mem::take(&mut handover.infos);
                self.hand_over_one(Handover { readings, infos, ..Handover::default() }).await?;
            }
            handover.readings = rest.collect();
        }
        self.hand_over_one(handover).await
    }

    async fn hand_over_one(&self, handover: Handover) -> Result<(), Closed> {
        let sent = Sent::of(&handover.readings);
        self.out.send(self.batch(handover)).await.map_err(|_| Closed)?;
        self.count(sent);
        Ok(())
    }

    /// Hands a batch over or drops its readings when the pipeline is full; returns the descriptions that did not get
    /// through, for the next batch.
    pub(super) fn offer(
        &self,
        readings: Vec<Reading>,
        infos: Vec<ChannelInfo>,
    ) -> Result<Vec<ChannelInfo>, Closed> {
        let sent = Sent::of(&readings);
        let batch = self.batch(Handover { readings, infos, ..Handover::default() });
        match self.out.try_send(batch) {
            Ok(()) => {
                self.count(sent);
                Ok(Vec::new())
            }
            Err(TrySendError::Full(batch)) => {
                self.counters.dropped.fetch_add(sent.readings, Ordering::Relaxed);
                emit(&events::BatchDropped { source: &self.source, readings: sent.readings });
                Ok(batch.infos)
            }
            Err(TrySendError::Closed(_)) => Err(Closed),
        }
    }

    fn batch(&self, handover: Handover) -> Batch {
        let Handover { readings, infos, ended, end, notices, receipt } = handover;
        Batch { source: Arc::clone(&self.source), readings, infos, ended, end, notices, receipt }
    }

    fn count(&self, sent: Sent) {
        self.counters.readings.fetch_add(sent.readings, Ordering::Relaxed);
        emit(&events::BatchSent { source: &self.source, readings: sent.readings, no_data: sent.no_data });
    }
}

/// Sizes of a batch, taken before it is given away.
struct Sent {
    readings: u64,
    no_data: u64,
}

impl Sent {
    fn of(readings: &[Reading]) -> Self {
        let no_data = readings.iter().filter(|r| r.value.is_err()).count();
        Self { readings: readings.len() as u64, no_data: no_data as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Wall;

    /// A program's megabyte of short lines was one batch of a quarter of a million readings, and the queue took several.
    #[test]
    fn too_many_readings_go_in_several_batches_with_the_receipt_on_the_last() {
        let (sender, batches) = smol::channel::bounded(8);
        let outlet = Outlet::new("x".into(), sender);
        let (channel, (receipt, _answer)) = (ChannelId::new("a").unwrap(), smol::channel::bounded(1));
        let count = 2 * limits::SENSOR_BATCH_READINGS_MAX + 1;
        let handover = Handover {
            readings: (0..count).map(|n| Reading::new(channel.clone(), Wall(0), Ok(n as f64))).collect(),
            infos: vec![ChannelInfo::guess(&channel)],
            end: true,
            receipt: Some(receipt),
            ..Handover::default()
        };
        smol::block_on(outlet.hand_over(handover)).unwrap();
        let sent: Vec<Batch> = std::iter::from_fn(|| batches.try_recv().ok()).collect();
        let values = sent.iter().flat_map(|batch| &batch.readings).map(|reading| reading.value.unwrap());
        assert!(values.eq((0..count).map(|n| n as f64)));
        // Split off a longer one, the first kept room for all.
        let rooms = sent.iter().map(|batch| batch.readings.capacity());
        assert!(rooms.max() <= Some(limits::SENSOR_BATCH_READINGS_MAX));
        let told: Vec<_> =
            sent.iter().map(|b| (b.readings.len(), b.infos.len(), b.end, b.receipt.is_some())).collect();
        let full = limits::SENSOR_BATCH_READINGS_MAX;
        assert_eq!(told, [(full, 1, false, false), (full, 0, false, false), (1, 0, true, true)]);
        assert_eq!(outlet.counters().snapshot().readings, count as u64);
    }
}
