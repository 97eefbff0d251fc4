//! The heartbeat: the newest one is the only one that matters, so it is sent at QoS 0 and never spooled.

use std::rc::Rc;

use smol::channel::Sender;

use super::{AgentError, Shared};
use crate::clock;
use crate::link::{Command, Qos};
use crate::observe::metrics;
use crate::time::ClockState;
use crate::wire::Lane;
use crate::wire::heartbeat::{Health, Heartbeat, LaneBeat};

/// Tokens of heartbeats; the uplink counts up from 1 and never comes here.
const TOKEN: u64 = u64::MAX;

/// Sends one at once and then one every [`super::AgentOptions::heartbeat_every`] while the line is up.
pub(super) async fn run(shared: Rc<Shared>, commands: Sender<Command>) -> Result<(), AgentError> {
    loop {
        if shared.line.borrow().up {
            let command = Command::Publish {
                token: TOKEN,
                topic: shared.topic("hb").into(),
                payload: heartbeat(&shared).encode().into(),
                qos: Qos::AtMostOnce,
                retain: false,
                historical: false,
            };
            // A full channel means that newer things are on their way; the next heartbeat tells more.
            if let Err(smol::channel::TrySendError::Closed(_)) = commands.try_send(command) {
                return Err(AgentError::LinkGone);
            }
        }
        shared.line_changed_or(shared.options.heartbeat_every).await;
    }
}

fn heartbeat(shared: &Shared) -> Heartbeat {
    let spool = shared.store.status();
    let at = clock::stamp();
    let lanes = Lane::ALL.iter().map(|lane| {
        let of = &spool.ledger[lane.index()];
        LaneBeat {
            epoch: of.epoch.to_be_bytes(),
            admitted: of.admitted,
            acknowledged: of.acknowledged,
            pending: of.pending,
            evicted: of.evicted_total(),
        }
    });
    let mut beats = lanes.collect::<Vec<_>>().into_iter();
    Heartbeat {
        at,
        uptime_s: u32::try_from(shared.uptime().as_secs()).unwrap_or(u32::MAX),
        version: env!("CARGO_PKG_VERSION").into(),
        model_hash_prefix: shared.glm.model_hash_prefix(),
        health: health(shared, at.state),
        lanes: std::array::from_fn(|_| beats.next().unwrap_or_default()),
        oldest_age_s: u32::try_from(spool.oldest_age_s(at.wall).unwrap_or(0)).unwrap_or(u32::MAX),
        spool_bytes: spool.bytes,
        episodes_open: u16::try_from(shared.assembler.borrow().episodes_open()).unwrap_or(u16::MAX),
    }
}

fn health(shared: &Shared, clock: ClockState) -> Health {
    let spool = shared.store.status();
    let trouble = [
        (spool.last_error.is_some(), Health::SPOOL_FAILING),
        (shared.evicted() > 0, Health::SPOOL_FULL),
        (shared.salvaged, Health::SPOOL_SALVAGED),
        (shared.glm.is_out(), Health::MODEL_OUT),
        (shared.sources.borrow().iter().any(|s| s.state.starts_with("failed")), Health::SENSOR_SILENT),
        (clock == ClockState::Unset, Health::CLOCK_UNSURE),
        (metrics::READINGS_DROPPED.value() > 0, Health::OVERLOAD),
    ];
    trouble.into_iter().filter(|(is, _)| *is).fold(Health::default(), |all, (_, bit)| all.with(bit))
}
