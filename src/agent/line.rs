//! The loop between spool and line: it carries out what [`Uplink`] decides and tells it what came of it.
//!
//! The protocol has no socket and no clock inside; this file has nothing else. One input at a time goes in, outputs
//! come out, a fetched block goes back in at once. What is held here is bounded by [`Relay`].

use std::collections::VecDeque;
use std::rc::Rc;

use smol::channel::{Receiver, Sender};
use smol::future::FutureExt as _;

use super::assemble::Mark;
use super::relay::Relay;
use super::{AgentError, Shared};
use crate::clock;
use crate::link::{Command, LinkEvent, Publish, Qos, cost};
use crate::observe::{self, agent as events};
use crate::spool::{StoreError, StoreHandle, Tail};
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
    /// Offline digests that are durable and go first.
    pub first: Receiver<BlockId>,
}

/// The line is back after long enough to report it.
#[derive(Debug, Clone)]
pub(super) struct OutageOver {
    /// When it was lost.
    pub from: Stamp,
    /// When it came back.
    pub to: Stamp,
    /// The moment of the assembler when it was lost.
    pub mark: Mark,
    /// Records that had been given up when it was lost.
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
    let mut lost = Lost::now(&shared).await?;
    let mut relay = Relay::new(ends.store.clone());
    let tail = ends.store.status().await?.tail;
    tell_tail(&shared, &mut uplink, &ends, &mut relay, tail).await?;
    while let Some(heard) = hear(&shared, &ends, &uplink).await {
        let save = shared.meter.borrow_mut().save_if_due(false);
        if let Some(save) = save {
            smol::unblock(save).await;
        }
        let input = match heard {
            Heard::Tail(tail) => {
                tell_tail(&shared, &mut uplink, &ends, &mut relay, tail).await?;
                continue;
            }
            Heard::Deadline => Input::Tick,
            Heard::First(id) => Input::First(id),
            Heard::Line(event) => match line_input(&shared, &mut lost, event).await? {
                Some(input) => input,
                None => continue,
            },
        };
        if matches!(input, Input::LineUp { .. }) && report_outage(&shared, &ends, &lost) {
            carry_out(&shared, &mut uplink, &ends, &mut relay, Input::ExpectFirst).await?;
        }
        if matches!(input, Input::LineDown { .. }) {
            relay.forget();
        }
        carry_out(&shared, &mut uplink, &ends, &mut relay, input).await?;
        if ends.line.is_empty() {
            relay.settle().await?;
        }
    }
    Ok(())
}

/// Since when the line is down, and what had been given up by then.
struct Lost {
    at: Stamp,
    mark: Mark,
    evicted: u64,
}

impl Lost {
    async fn now(shared: &Shared) -> Result<Self, AgentError> {
        let evicted = shared.evicted().await?;
        shared.evicted_before.set(evicted);
        Ok(Self { at: clock::stamp(), mark: shared.assembler.borrow().mark(), evicted })
    }
}

async fn hear(shared: &Shared, ends: &Ends, uplink: &Uplink) -> Option<Heard> {
    let line = async { ends.line.recv().await.ok().map(Heard::Line) };
    let tail = async { ends.tails.recv().await.ok().map(Heard::Tail) };
    let first = async {
        match ends.first.recv().await {
            Ok(id) => Some(Heard::First(id)),
            // The digests' task has ended; nothing more goes first.
            Err(_) => smol::future::pending().await,
        }
    };
    let deadline = async {
        let look = shared.meter.borrow().look_every().map(|every| clock::mono() + every);
        match uplink.deadline().into_iter().chain(look).min() {
            Some(at) => {
                smol::Timer::after(at.since(clock::mono())).await;
                Some(Heard::Deadline)
            }
            None => smol::future::pending().await,
        }
    };
    line.or(first).or(tail).or(deadline).await
}

async fn tell_tail(
    shared: &Shared,
    uplink: &mut Uplink,
    ends: &Ends,
    relay: &mut Relay,
    tail: Tail,
) -> Result<(), AgentError> {
    for lane in Lane::ALL {
        let (oldest, next_seq) = (tail.oldest[lane.index()], tail.next[lane.index()]);
        carry_out(shared, uplink, ends, relay, Input::Tail { lane: *lane, oldest, next_seq }).await?;
    }
    Ok(())
}

async fn line_input(shared: &Shared, lost: &mut Lost, event: LinkEvent) -> Result<Option<Input>, AgentError> {
    Ok(match event {
        LinkEvent::Up { receive_max, packet_bytes_max } => {
            shared.line_is_up();
            Some(Input::LineUp { receive_max, packet_bytes_max })
        }
        LinkEvent::Down { reason, by_broker, .. } => {
            if shared.line_is_down(reason) {
                *lost = Lost::now(shared).await?;
            }
            Some(Input::LineDown { by_broker })
        }
        LinkEvent::Done { token, result } => {
            Some(Input::PubAck { token, result: result.map_err(|refusal| refusal.code) })
        }
        LinkEvent::Message { topic, payload, .. } => acknowledgement(shared, &topic, &payload),
    })
}

/// Whether an offline digest has been asked for. One that is still being worded answers for this outage as well.
fn report_outage(shared: &Shared, ends: &Ends, lost: &Lost) -> bool {
    let to = clock::stamp();
    let over = OutageOver { from: lost.at, to, mark: lost.mark.clone(), evicted_before: lost.evicted };
    to.mono.since(lost.at.mono) >= shared.options.offline_after && ends.outages.try_send(over).is_ok()
}

/// The only topic subscribed to is the acknowledgements'.
fn acknowledgement(shared: &Shared, topic: &str, payload: &[u8]) -> Option<Input> {
    if topic != shared.topic("ack") {
        observe::emit(&events::PacketMalformed { topic, why: &"nobody subscribed to this topic" });
        return None;
    }
    match AckMessage::decode(payload) {
        Ok(ack) => Some(Input::Ack(ack)),
        Err(why) => {
            observe::emit(&events::PacketMalformed { topic, why: &why });
            None
        }
    }
}

async fn carry_out(
    shared: &Shared,
    uplink: &mut Uplink,
    ends: &Ends,
    relay: &mut Relay,
    input: Input,
) -> Result<(), AgentError> {
    let (allowance, news) = shared.meter.borrow_mut().look(clock::wall());
    uplink.allow(allowance);
    if let Some(notice) = news {
        shared.store.admit(vec![notice]).await?;
    }
    let mut todo = VecDeque::from(uplink.step(clock::mono(), input));
    while let Some(output) = todo.pop_front() {
        match output {
            Output::Fetch { lane, from } => {
                let answer = fetch(relay, lane, from).await?;
                todo.extend(uplink.step(clock::mono(), answer));
            }
            Output::Publish { token, id, payload, historical } => {
                publish(shared, ends, token, id, payload, historical).await?;
            }
            Output::Release { lane, through, also } => relay.release(lane, through, also),
            Output::Refused { id, code, set_aside, poison } => {
                observe::emit(&events::BlockRefused { id, code, set_aside });
                if poison {
                    shared.store.refuse(id.lane, id.first, code).await?;
                }
            }
            Output::AckBeyondTail { ack } => {
                observe::emit(&events::AckBeyondTail { lane: ack.lane, through: ack.through });
            }
        }
    }
    shared.blocks_refused.set(uplink.has_set_aside());
    tell_unheard(shared, uplink);
    Ok(())
}

/// Says so when there begins to be a lane that nobody hears.
fn tell_unheard(shared: &Shared, uplink: &Uplink) {
    let unheard: Vec<Lane> = uplink.unheard().collect();
    if shared.unheard.borrow().is_empty() && !unheard.is_empty() {
        let lanes: Vec<&str> = unheard.iter().map(|lane| lane.name()).collect();
        observe::emit(&events::NobodyListens { topic: &shared.topic("up"), lanes: &lanes.join(", ") });
    }
    *shared.unheard.borrow_mut() = unheard;
}

/// A disk that can't be read is asked again later; what reads no more is healed by the spool meanwhile.
async fn fetch(relay: &mut Relay, lane: Lane, from: u64) -> Result<Input, StoreError> {
    match relay.fetch(lane, from).await {
        Ok(stored) => {
            let block = stored.map(|stored| Block { id: stored.id, payload: stored.bytes });
            Ok(Input::Fetched { lane, block })
        }
        Err(StoreError::Journal(error)) => {
            observe::emit(&events::FetchFailed { lane, error: &error });
            Ok(Input::Unreadable { lane })
        }
        Err(gone) => Err(gone),
    }
}

async fn publish(
    shared: &Shared,
    ends: &Ends,
    token: u64,
    id: BlockId,
    payload: Vec<u8>,
    historical: bool,
) -> Result<(), AgentError> {
    let (topic, tls) = (&shared.up_topics[id.lane.index()], shared.options.link.tls.is_some());
    shared.meter.borrow_mut().sent(clock::wall(), id.lane, cost::publish(topic, payload.len(), tls));
    let publish = Publish {
        token: Some(token),
        topic: shared.up_topics[id.lane.index()].clone(),
        payload,
        qos: Qos::AtLeastOnce,
        retain: false,
        historical,
        content_type: shared.content_type(),
    };
    ends.commands.send(Command::Publish(publish)).await.map_err(|_| AgentError::LinkGone)
}
