//! The loop between spool and line: it carries out what [`Uplink`] decides and tells it what came of it.
//!
//! The protocol has no socket and no clock inside; this file has nothing else. One input at a time goes in, outputs
//! come out, a fetched block goes back in at once, so at most one block per lane is held here.

use std::collections::VecDeque;
use std::rc::Rc;

use smol::channel::{Receiver, Sender};
use smol::future::FutureExt as _;

use super::{AgentError, Shared};
use crate::clock;
use crate::link::{Command, LinkEvent, Qos};
use crate::observe::{self, agent as events, metrics};
use crate::spool::{StoreHandle, Tail};
use crate::sync::uplink::{Block, Input, Output, Uplink};
use crate::time::Stamp;
use crate::wire::ack::AckMessage;
use crate::wire::{BlockId, Lane};

/// What the loop is connected to.
pub(super) struct Ends {
    /// The spool.
    pub store: StoreHandle,
    /// Where each lane ends, after every commit.
    pub tails: Receiver<Tail>,
    /// To the broker.
    pub commands: Sender<Command>,
    /// From the broker.
    pub line: Receiver<LinkEvent>,
    /// Asks for an offline digest.
    pub outages: Sender<OutageOver>,
    /// Offline digests that are durable and go first; an empty answer lets the rest go.
    pub first: Receiver<BlockId>,
}

/// The line is back after long enough to report it.
#[derive(Debug, Clone, Copy)]
pub(super) struct OutageOver {
    /// When it was lost.
    pub from: Stamp,
    /// Records that had been given up by then.
    pub evicted_before: u64,
}

enum Heard {
    Line(LinkEvent),
    Tail(Tail),
    First(BlockId),
    Deadline,
}

/// Runs until the link's thread or the store's thread is gone; both end only in an orderly stop.
pub(super) async fn run(shared: Rc<Shared>, mut uplink: Uplink, ends: Ends) -> Result<(), AgentError> {
    let mut lost = Lost { at: clock::stamp(), evicted: shared.evicted() };
    for lane in Lane::ALL {
        let (oldest, next_seq) = ends.store.status().bounds(*lane);
        uplink.step(clock::mono(), Input::Tail { lane: *lane, oldest, next_seq });
    }
    while let Some(heard) = hear(&ends, &uplink).await {
        let input = match heard {
            Heard::Deadline => Input::Tick,
            Heard::Tail(tail) => Input::Tail { lane: tail.lane, oldest: tail.oldest, next_seq: tail.next_seq },
            Heard::First(id) => Input::First(id),
            Heard::Line(event) => match line_input(&shared, &ends, &mut lost, event) {
                Some(LineInput::Protocol(input)) => input,
                Some(LineInput::AfterOutage(input)) => {
                    carry_out(&shared, &mut uplink, &ends, Input::ExpectFirst).await?;
                    input
                }
                None => continue,
            },
        };
        carry_out(&shared, &mut uplink, &ends, input).await?;
    }
    Ok(())
}

/// Since when the line is down, and what had been given up by then.
struct Lost {
    at: Stamp,
    evicted: u64,
}

enum LineInput {
    Protocol(Input),
    /// An offline digest has been asked for: it goes before this.
    AfterOutage(Input),
}

async fn hear(ends: &Ends, uplink: &Uplink) -> Option<Heard> {
    let line = async { ends.line.recv().await.ok().map(Heard::Line) };
    let tail = async { ends.tails.recv().await.ok().map(Heard::Tail) };
    let first = async {
        match ends.first.recv().await {
            Ok(id) => Some(Heard::First(id)),
            Err(_) => smol::future::pending().await,
        }
    };
    let deadline = async {
        match uplink.deadline() {
            Some(at) => {
                smol::Timer::after(at.since(clock::mono())).await;
                Some(Heard::Deadline)
            }
            None => smol::future::pending().await,
        }
    };
    line.or(first).or(tail).or(deadline).await
}

fn line_input(shared: &Shared, ends: &Ends, lost: &mut Lost, event: LinkEvent) -> Option<LineInput> {
    match event {
        LinkEvent::Up { receive_max, packet_bytes_max } => {
            shared.line_is_up();
            let input = Input::LineUp { receive_max, packet_bytes_max };
            let outage = clock::mono().since(lost.at.mono);
            let over = OutageOver { from: lost.at, evicted_before: lost.evicted };
            // A digest that is still being worded answers for this outage as well.
            if outage >= shared.options.offline_after && ends.outages.try_send(over).is_ok() {
                return Some(LineInput::AfterOutage(input));
            }
            Some(LineInput::Protocol(input))
        }
        LinkEvent::Down { reason } => {
            if shared.line_is_down(&reason.to_string()) {
                *lost = Lost { at: clock::stamp(), evicted: shared.evicted() };
            }
            Some(LineInput::Protocol(Input::LineDown))
        }
        LinkEvent::Done { token, result } => {
            let result = result.map_err(|refused| refused.code);
            Some(LineInput::Protocol(Input::PubAck { token, result }))
        }
        LinkEvent::Message { topic, payload, .. } => message(shared, &topic, &payload),
    }
}

/// The only topic subscribed to is the acknowledgements'.
fn message(shared: &Shared, topic: &str, payload: &[u8]) -> Option<LineInput> {
    if topic != shared.ack_topic {
        observe::emit(&events::PacketMalformed { topic, why: &"nobody subscribed to this topic" });
        return None;
    }
    match AckMessage::decode(payload) {
        Ok(ack) => Some(LineInput::Protocol(Input::Ack(ack))),
        Err(why) => {
            observe::emit(&events::PacketMalformed { topic, why: &why });
            None
        }
    }
}

async fn carry_out(shared: &Shared, uplink: &mut Uplink, ends: &Ends, input: Input) -> Result<(), AgentError> {
    let mut todo = VecDeque::from(uplink.step(clock::mono(), input));
    while let Some(output) = todo.pop_front() {
        match output {
            Output::Fetch { lane, from } => {
                let stored = ends.store.fetch(lane, from).await?;
                let block = stored.map(|s| Block { id: s.id, payload: s.bytes });
                todo.extend(uplink.step(clock::mono(), Input::Fetched { lane, block }));
            }
            Output::Publish { token, id, payload, historical } => {
                metrics::LINK_PUBLISHED.inc();
                metrics::LINK_PUBLISHED_BYTES.add(payload.len() as u64);
                let topic = shared.up_topics[id.lane.index()].clone();
                let command = Command::Publish { token, topic, payload: payload.into(), qos: Qos::AtLeastOnce, retain: false, historical };
                ends.commands.send(command).await.map_err(|_| AgentError::LinkGone)?;
            }
            Output::Release { lane, through, also } => ends.store.release(lane, through, also).await?,
            Output::Refused { id, code, set_aside } => {
                observe::emit(&events::BlockRefused { id, code, set_aside });
            }
            Output::AckBeyondTail { ack } => observe::emit(&events::AckBeyondTail { lane: ack.lane, through: ack.through }),
        }
    }
    Ok(())
}
