//! The heartbeat: the newest one is the only one that matters, so it is sent at QoS 0 and never spooled.
//!
//! It is signed with the key that the agent shows to the broker. The key is read anew every time, so that a renewed one
//! is used at once; where it can't be read the heartbeat goes out unsigned, and the aggregator says so.

use std::rc::Rc;
use std::time::Duration;

use smol::channel::Sender;

use super::serial::Serials;
use super::shared::{alarms_refused, corrupt, crowded_out, oldest_age_s};
use super::{AgentError, Shared};
use crate::clock;
use crate::limits;
use crate::link::{Command, Publish, Qos};
use crate::observe::{self, agent as events, metrics};
use crate::spool::SpoolStatus;
use crate::time::ClockState;
use crate::tls::TlsFiles;
use crate::wire::heartbeat::{Health, Heartbeat, LaneBeat, signed_message};

/// Sends one as soon as the line is up and then one every [`super::AgentOptions::heartbeat_every`].
pub(super) async fn run(shared: Rc<Shared>, commands: Sender<Command>) -> Result<(), AgentError> {
    let mut next = clock::mono();
    let epoch = shared.store.status().await?.epoch;
    let mut serials = Serials::open(&shared.options.spool_dir, epoch);
    loop {
        smol::Timer::after(LOOK_EVERY).await;
        if !shared.line.borrow().up {
            next = clock::mono();
        } else if clock::mono() >= next {
            next = clock::mono() + shared.options.heartbeat_every;
            let payload;
            (serials, payload) = self::payload(&shared, serials).await?;
            let publish = Publish {
                token: None,
                topic: shared.topic("hb"),
                payload,
                qos: Qos::AtMostOnce,
                retain: false,
                historical: false,
                content_type: None,
            };
            // A full channel means that newer things are on their way; the next heartbeat tells more.
            if commands.try_send(Command::Publish(publish)).is_err_and(|e| e.is_closed()) {
                return Err(AgentError::LinkGone);
            }
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(250);

async fn payload(shared: &Shared, serials: Serials) -> Result<(Serials, Vec<u8>), AgentError> {
    let beat = heartbeat(shared).await?;
    let (device, tls) = (shared.options.device.clone(), shared.options.link.tls.clone());
    // A sync of the disk, two small files and a signature: readings go on meanwhile.
    Ok(smol::unblock(move || number_and_sign(beat, serials, &device, tls.as_ref())).await)
}

fn number_and_sign(
    mut beat: Heartbeat,
    mut serials: Serials,
    device: &str,
    tls: Option<&TlsFiles>,
) -> (Serials, Vec<u8>) {
    let (serial, written) = serials.next();
    beat.serial = serial;
    if let Err(reason) = written {
        observe::emit(&events::HeartbeatBare { what: "uncounted", reason: &reason });
        beat.health = beat.health.with(Health::SPOOL_FAILING);
    }
    let payload = beat.encode_signed(|state| match tls.map(|tls| tls.sign(&signed_message(device, state))) {
        None => Vec::new(),
        Some(Ok(signature)) => {
            signature.filter(|s| s.len() <= limits::SIGNATURE_BYTES_MAX).unwrap_or_default()
        }
        Some(Err(reason)) => {
            observe::emit(&events::HeartbeatBare { what: "unsigned", reason: &reason });
            Vec::new()
        }
    });
    (serials, payload)
}

async fn heartbeat(shared: &Shared) -> Result<Heartbeat, AgentError> {
    let spool = shared.store.status().await?;
    let at = clock::stamp();
    let beat = |lane: usize| LaneBeat {
        epoch: spool.ledger[lane].epoch.to_be_bytes(),
        admitted: spool.ledger[lane].admitted,
        acknowledged: spool.ledger[lane].acknowledged,
        pending: spool.ledger[lane].pending,
        evicted: spool.ledger[lane].evicted_total(),
        by_reason: spool.ledger[lane].evicted,
    };
    Ok(Heartbeat {
        serial: 0,
        at,
        uptime_s: u32::try_from(shared.uptime().as_secs()).unwrap_or(u32::MAX),
        version: env!("CARGO_PKG_VERSION").into(),
        model_hash_prefix: shared.model.get().hash_prefix,
        health: health(shared, &spool, at.state),
        lanes: std::array::from_fn(beat),
        oldest_age_s: u32::try_from(oldest_age_s(&spool, at.wall).unwrap_or(0)).unwrap_or(u32::MAX),
        spool_bytes: spool.bytes,
        episodes_open: u16::try_from(shared.assembler.borrow().episodes_open()).unwrap_or(u16::MAX),
    })
}

fn health(shared: &Shared, spool: &SpoolStatus, clock: ClockState) -> Health {
    let trouble = [
        (shared.salvaged, Health::SPOOL_SALVAGED),
        (shared.blocks_refused.get(), Health::BLOCKS_REFUSED),
        (shared.model.get().out, Health::MODEL_OUT),
        (shared.sources.borrow().iter().any(|s| s.state.starts_with("failed")), Health::SENSOR_SILENT),
        (clock == ClockState::Unset, Health::CLOCK_UNSURE),
        (shared.meter.borrow().is_short(), Health::BUDGET_SHORT),
        (metrics::READINGS_DROPPED.value() > 0, Health::OVERLOAD),
    ];
    all_of(&[&trouble[..], &of_the_spool(spool)].concat())
}

fn of_the_spool(spool: &SpoolStatus) -> [(bool, Health); 5] {
    [
        (spool.last_error.is_some(), Health::SPOOL_FAILING),
        (crowded_out(spool) > 0, Health::SPOOL_FULL),
        (corrupt(spool) > 0, Health::SPOOL_SALVAGED),
        (alarms_refused(spool) > 0, Health::ALARMS_REFUSED),
        (spool.dead_letters > 0, Health::BLOCKS_REFUSED),
    ]
}

fn all_of(trouble: &[(bool, Health)]) -> Health {
    trouble.iter().filter(|(is, _)| *is).fold(Health::default(), |all, (_, bit)| all.with(*bit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::{LaneLedger, Tail};
    use crate::wire::{GapReason, Lane};

    /// Health after `change` of a spool that is well.
    fn told(change: impl FnOnce(&mut SpoolStatus)) -> Health {
        let mut spool = SpoolStatus {
            epoch: 1,
            ledger: std::array::from_fn(|_| LaneLedger { epoch: 1, ..LaneLedger::default() }),
            tail: Tail { oldest: [1; 4], next: [1; 4] },
            bytes: 0,
            bytes_on_disk: 0,
            oldest: None,
            last_error: None,
            dead_letters: 0,
        };
        change(&mut spool);
        all_of(&of_the_spool(&spool))
    }

    #[test]
    fn what_is_wrong_with_the_spool_is_in_the_heartbeat_each_by_its_own_bit() {
        let lost = |lane: Lane, reason: GapReason| {
            told(|spool| spool.ledger[lane.index()].evicted[reason as usize] = 1)
        };
        assert_eq!(told(|_| ()), Health::default());
        assert_eq!(told(|spool| spool.last_error = Some("full".into())), Health::SPOOL_FAILING);
        assert_eq!(told(|spool| spool.dead_letters = 1), Health::BLOCKS_REFUSED);
        assert_eq!(lost(Lane::Raw, GapReason::Quota), Health::SPOOL_FULL);
        assert_eq!(lost(Lane::Raw, GapReason::Corrupt), Health::SPOOL_SALVAGED);
        assert_eq!(lost(Lane::Raw, GapReason::Refused), Health::default());
        let alarms = lost(Lane::Alarm, GapReason::Quota);
        assert_eq!(alarms, Health::SPOOL_FULL.with(Health::ALARMS_REFUSED));
    }
}
