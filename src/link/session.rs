//! One session: from connecting to the first error.
//!
//! rumqttc's `poll` must not be cancelled (a publish that it is writing would be lost), so one `poll` is awaited to its
//! end while commands and events pass beside it. Publishes are matched with their PUBACKs by a queue of our own: there
//! is one producer, rumqttc announces packet ids in the order in which it was handed the publishes.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::time::Duration;

use smol::channel::{Receiver, Send, Sender};
use smol::future::FutureExt as _;

use super::dialect::{Arrival, Client, EventLoop, Heard, Lost, Receipt, Unsent, Welcome};
use super::explain::Fault;
use super::reason::{self, Refusal};
use super::{Announcement, Command, LinkEvent, LinkOptions, Publish, Qos, connect, cost, explain};
use crate::clock;
use crate::limits::{LINK_MESSAGES_MAX, LINK_QUEUE_MAX};
use crate::observe::link::{CertificatesUnusable, LineUp};
use crate::observe::{self, metrics};
use crate::sync::uplink::Audience;
use crate::time::Mono;
use crate::tls::Renewal;

/// Why a session is over.
pub(super) enum End {
    /// The thread shall end.
    Stopped,
    /// Go on with these options.
    Reconfigured(Box<LinkOptions>),
    /// Connect again with the certificates as they are now.
    Renewed,
    /// The line is lost.
    Failed(Fault),
}

/// One connection and what is under way on it.
pub(super) struct Session<'a> {
    options: &'a LinkOptions,
    commands: &'a Receiver<Command>,
    events: &'a Sender<LinkEvent>,
    stage: Stage,
    /// Publishes at QoS 1 that may be handed over and unanswered.
    window: usize,
    packet_bytes_max: u32,
    /// The broker's, where it has one.
    keep_alive: Duration,
    /// Whether the broker takes retained messages.
    retains: bool,
    /// Taken from the seat and not handed to rumqttc.
    queue: VecDeque<Publish>,
    /// Handed to rumqttc and not announced by it, in order.
    handed: VecDeque<Option<u64>>,
    handed_qos1: usize,
    /// Announced and not answered, by packet id.
    inflight: HashMap<u16, Option<u64>>,
    /// Told to the seat as soon as it takes it; a message is acknowledged then.
    outbox: VecDeque<(LinkEvent, Option<Receipt>)>,
    messages: usize,
    /// The seat did not take a message for too long; what comes is dropped until it does.
    overrun: bool,
    /// The broker was last heard.
    last_heard: Mono,
    last_answer: Mono,
    /// When stalls and deadlines are looked at next, however much happens until then.
    look_at: Mono,
    /// None without TLS.
    renewal: Option<Renewal>,
    /// What follows an orderly end.
    renewing: bool,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Stage {
    Connecting,
    Subscribing,
    /// The announcement waits for its PUBACK.
    Announcing,
    Up,
    /// Waits for what is in flight.
    Draining {
        since: Mono,
    },
    /// The last announcement waits for its PUBACK.
    SayingGoodbye {
        since: Mono,
    },
    /// DISCONNECT is handed over.
    Leaving {
        since: Mono,
    },
}

/// What happened while `poll` was pending.
enum Wake {
    Polled(Box<Result<Heard, Lost>>),
    Command(Option<Command>),
    /// The seat took an event; `false` when it is gone.
    Told(bool),
    Timer,
}

/// An event on its way to the seat, and the message to acknowledge when it is there.
type Telling<'a> = (Pin<Box<Send<'a, LinkEvent>>>, Option<Receipt>);

impl<'a> Session<'a> {
    pub(super) fn new(
        options: &'a LinkOptions,
        commands: &'a Receiver<Command>,
        events: &'a Sender<LinkEvent>,
    ) -> Self {
        Self {
            options,
            commands,
            events,
            stage: Stage::Connecting,
            window: 1,
            packet_bytes_max: u32::MAX,
            keep_alive: options.keep_alive,
            retains: true,
            queue: VecDeque::new(),
            handed: VecDeque::new(),
            handed_qos1: 0,
            inflight: HashMap::new(),
            outbox: VecDeque::new(),
            messages: 0,
            overrun: false,
            last_heard: clock::mono(),
            last_answer: clock::mono(),
            look_at: clock::mono() + TIMER,
            renewal: options
                .tls
                .as_ref()
                .map(|files| Renewal::new(files, options.certificates_every, clock::mono())),
            renewing: false,
        }
    }

    /// Whether the seat was told that the line is up.
    pub(super) fn was_up(&self) -> bool {
        !matches!(self.stage, Stage::Connecting | Stage::Subscribing | Stage::Announcing)
    }

    /// Lives until the first error or an order to end.
    pub(super) async fn live(&mut self) -> End {
        let (client, mut eventloop) = match connect::client(self.options) {
            Ok(pair) => pair,
            // Files are looked at again soon: that costs nobody but this machine.
            Err(reason) => return End::Failed(Fault::line(reason)),
        };
        let end = self.turn(&client, &mut eventloop).await;
        metrics::LINK_UP.set(0);
        // What the broker answered is still told; what it did not is the seat's to send again.
        if !matches!(end, End::Stopped) {
            while let Some((event, _)) = self.outbox.pop_front() {
                if self.events.send(event).await.is_err() {
                    return End::Stopped;
                }
            }
        }
        end
    }

    async fn turn(&mut self, client: &Client, eventloop: &mut EventLoop) -> End {
        let events = self.events;
        let mut telling: Option<Telling<'a>> = None;
        loop {
            if self.messages >= LINK_MESSAGES_MAX
                && !self.overrun
                && let Err(end) = self.wait_for_seat(client, &mut telling).await
            {
                return end;
            }
            let mut poll = pin!(eventloop.poll());
            let polled = loop {
                if telling.is_none() {
                    telling = self.outbox.pop_front().map(|(event, ack)| (Box::pin(events.send(event)), ack));
                }
                match self.wake(poll.as_mut(), telling.as_mut().map(|t| t.0.as_mut())).await {
                    Wake::Polled(result) => break *result,
                    // Before the seat knows of this session its publishes belong to an earlier one.
                    Wake::Command(Some(Command::Publish(publish))) if self.was_up() => {
                        self.queue.push_back(publish)
                    }
                    Wake::Command(Some(Command::Publish(_))) => {}
                    Wake::Command(Some(Command::Reconfigure(new))) => return End::Reconfigured(new),
                    Wake::Command(Some(Command::Stop) | None) => {
                        if !self.was_up() {
                            return End::Stopped;
                        }
                        self.stage = Stage::Draining { since: clock::mono() };
                    }
                    Wake::Told(false) => return End::Stopped,
                    Wake::Told(true) => self.told(client, telling.take()),
                    Wake::Timer => {
                        self.look_at = clock::mono() + TIMER;
                        if let Some(reason) = self.stalled() {
                            return End::Failed(Fault::line(reason));
                        }
                        self.look_at_certificates();
                    }
                }
                if let Err(end) = self.advance(client) {
                    return end;
                }
            };
            let handled = match polled {
                Ok(heard) => self.handle(client, heard),
                Err(_) if matches!(self.stage, Stage::Leaving { .. }) => return self.left(),
                Err(e) => return End::Failed(explain::lost(&e, self.options)),
            };
            if let Err(end) = handled.and_then(|()| self.advance(client)) {
                return end;
            }
        }
    }

    /// Reads nothing from the broker until the seat has taken a message, so that TCP slows it down: not every broker
    /// heeds our receive maximum. Half a keep-alive at most, since pings rest meanwhile; then messages are dropped.
    async fn wait_for_seat(&mut self, client: &Client, telling: &mut Option<Telling<'a>>) -> Result<(), End> {
        let begun = clock::mono();
        let events = self.events;
        while self.messages >= LINK_MESSAGES_MAX {
            let left = (self.keep_alive / 2).saturating_sub(clock::mono().since(begun));
            let first = || self.outbox.pop_front().map(|(event, ack)| (Box::pin(events.send(event)), ack));
            let Some((mut send, ack)) = telling.take().or_else(first) else { break };
            let late = async {
                tokio::time::sleep(left).await;
                None
            };
            match async { Some(send.as_mut().await) }.or(late).await {
                Some(Ok(())) => self.told(client, Some((send, ack))),
                Some(Err(_)) => return Err(End::Stopped),
                None => {
                    *telling = Some((send, ack));
                    self.overrun = true;
                    break;
                }
            }
        }
        self.last_heard = clock::mono();
        Ok(())
    }

    /// The seat has an event; a message is acknowledged now.
    fn told(&mut self, client: &Client, told: Option<Telling<'_>>) {
        if let Some((_, Some(message))) = told {
            self.messages -= 1;
            self.overrun = false;
            client.acknowledge(&message);
        }
    }

    /// Waits for whichever comes first. Commands wait while the queue is full, or once the end has begun.
    async fn wake(
        &self,
        mut poll: Pin<&mut impl Future<Output = Result<Heard, Lost>>>,
        telling: Option<Pin<&mut Send<'_, LinkEvent>>>,
    ) -> Wake {
        let polled = async { Wake::Polled(Box::new(poll_fn(|cx| poll.as_mut().poll(cx)).await)) };
        let open = matches!(self.stage, Stage::Up) || !self.was_up();
        let command = async {
            if !open || self.queue.len() >= LINK_QUEUE_MAX {
                return std::future::pending().await;
            }
            Wake::Command(self.commands.recv().await.ok())
        };
        let told = async {
            match telling {
                Some(send) => Wake::Told(send.await.is_ok()),
                None => std::future::pending().await,
            }
        };
        let timer = async {
            tokio::time::sleep(self.look_at.since(clock::mono())).await;
            Wake::Timer
        };
        timer.or(polled).or(told).or(command).await
    }

    fn handle(&mut self, client: &Client, heard: Heard) -> Result<(), End> {
        if !matches!(heard, Heard::Written(_) | Heard::Sent) {
            self.last_heard = clock::mono();
        }
        self.count(&heard);
        match heard {
            Heard::Written(pkid) => self.announced(pkid),
            Heard::Welcome(welcome) => return self.connected(client, &welcome),
            Heard::Granted(answers) => return self.subscribed(client, &answers),
            Heard::Answered { pkid, result } => {
                self.last_answer = clock::mono();
                if let Some(Some(token)) = self.inflight.remove(&pkid) {
                    self.tell(LinkEvent::Done { token, result });
                }
            }
            Heard::Message(arrival) => self.message(*arrival),
            Heard::Malformed => metrics::PACKETS_MALFORMED.inc(),
            Heard::Alive | Heard::Sent => {}
        }
        Ok(())
    }

    fn connected(&mut self, client: &Client, welcome: &Welcome) -> Result<(), End> {
        if !welcome.at_least_once {
            return Err(End::Failed(explain::no_acknowledgements()));
        }
        self.window = usize::from(self.options.window.clamp(1, welcome.receive_max.max(1)));
        self.packet_bytes_max = welcome.packet_bytes_max;
        self.keep_alive = welcome.keep_alive.unwrap_or(self.options.keep_alive);
        self.retains = welcome.retains;
        self.stage = Stage::Subscribing;
        self.last_answer = clock::mono();
        if self.options.subscriptions.is_empty() {
            return self.announce(client);
        }
        let failed = |e| End::Failed(Fault::line(format!("cannot subscribe: {e}")));
        client.subscribe(&self.options.subscriptions).map_err(failed)
    }

    fn subscribed(&mut self, client: &Client, answers: &[Result<(), u8>]) -> Result<(), End> {
        for (filter, answer) in self.options.subscriptions.iter().zip(answers) {
            answer.map_err(|code| End::Failed(explain::refused_subscription(filter, code)))?;
        }
        self.announce(client)
    }

    fn announce(&mut self, client: &Client) -> Result<(), End> {
        if self.stage == Stage::Subscribing {
            self.stage = Stage::Announcing;
            if let Some(say) = self.options.on_up.clone() {
                self.hand_over(client, self.announcement(say))?;
            }
        }
        Ok(())
    }

    /// Does whatever has become possible.
    fn advance(&mut self, client: &Client) -> Result<(), End> {
        let idle = self.handed.is_empty() && self.inflight.is_empty();
        match self.stage {
            Stage::Connecting | Stage::Subscribing => {}
            Stage::Announcing if idle => self.go_up(),
            Stage::Announcing => {}
            Stage::Up => return self.drain_queue(client),
            Stage::Draining { since } => {
                if (idle && self.queue.is_empty()) || clock::mono().since(since) >= DRAIN_MAX {
                    self.stage = Stage::SayingGoodbye { since: clock::mono() };
                    // Who comes back at once has not gone.
                    if let Some(say) = self.options.on_stop.clone().filter(|_| !self.renewing) {
                        self.hand_over(client, self.announcement(say))?;
                    }
                } else {
                    return self.drain_queue(client);
                }
            }
            Stage::SayingGoodbye { since } => {
                if idle || clock::mono().since(since) >= DRAIN_MAX {
                    self.stage = Stage::Leaving { since: clock::mono() };
                    if !client.disconnect() {
                        return Err(self.left());
                    }
                }
            }
            Stage::Leaving { since } => {
                if clock::mono().since(since) >= DRAIN_MAX {
                    return Err(self.left());
                }
            }
        }
        Ok(())
    }

    fn left(&self) -> End {
        if self.renewing { End::Renewed } else { End::Stopped }
    }

    /// Begins an orderly end when there are other certificates than the session's and they are in order.
    fn look_at_certificates(&mut self) {
        let (Some(files), Some(renewal)) = (&self.options.tls, &mut self.renewal) else { return };
        if self.stage != Stage::Up {
            return;
        }
        match renewal.look(files, clock::mono()) {
            None => {}
            Some(Ok(())) => {
                self.renewing = true;
                self.stage = Stage::Draining { since: clock::mono() };
            }
            Some(Err(e)) => observe::emit(&CertificatesUnusable { why: &e }),
        }
    }

    fn go_up(&mut self) {
        self.stage = Stage::Up;
        metrics::LINK_UP.set(1);
        observe::emit(&LineUp { host: &self.options.host, port: self.options.port, window: self.window });
        let receive_max = u16::try_from(self.window).unwrap_or(u16::MAX);
        self.tell(LinkEvent::Up { receive_max, packet_bytes_max: self.packet_bytes_max });
    }

    fn drain_queue(&mut self, client: &Client) -> Result<(), End> {
        while self.handed_qos1 + self.inflight.len() < self.window && self.handed.len() < 2 * self.window {
            let Some(publish) = self.queue.pop_front() else { break };
            self.hand_over(client, publish)?;
        }
        Ok(())
    }

    fn hand_over(&mut self, client: &Client, publish: Publish) -> Result<(), End> {
        let (token, bytes) = (publish.token, publish.payload.len());
        let at_least_once = publish.qos == Qos::AtLeastOnce;
        let cost = cost::publish(&publish.topic, bytes, self.options.tls.is_some());
        // rumqttc takes an oversized packet for the connection's failure.
        if bytes + publish.topic.len() + PACKET_OVERHEAD_BYTES > self.packet_bytes_max as usize {
            return self.refuse(token, reason::refusal(reason::PACKET_TOO_LARGE));
        }
        match client.publish(publish) {
            Ok(()) => {
                if self.handed_qos1 + self.inflight.len() == 0 {
                    self.last_answer = clock::mono();
                }
                self.handed.push_back(token);
                self.handed_qos1 += usize::from(at_least_once);
                metrics::LINK_PUBLISHED.inc();
                metrics::LINK_PUBLISHED_BYTES.add(bytes as u64);
                let account =
                    if token.is_some() { &metrics::LINK_BYTES_BLOCKS } else { &metrics::LINK_BYTES_OTHER };
                account.add(cost);
                Ok(())
            }
            Err(Unsent::Topic) => self.refuse(token, reason::refusal(reason::TOPIC_NAME_INVALID)),
            Err(Unsent::Broken(e)) => Err(End::Failed(Fault::line(format!("MQTT client gave up: {e}")))),
        }
    }

    /// Counts everything but publishes of our own, which are counted when they are handed over.
    fn count(&self, heard: &Heard) {
        let tls = self.options.tls.is_some();
        metrics::LINK_BYTES_OTHER.add(match heard {
            Heard::Welcome(_) => cost::handshake(tls),
            Heard::Message(arrival) => cost::publish(&arrival.topic, arrival.payload.len(), tls),
            Heard::Written(_) | Heard::Granted(_) => 0,
            Heard::Answered { .. } | Heard::Malformed | Heard::Alive | Heard::Sent => {
                cost::packet(cost::SHORT_PACKET_BYTES, tls)
            }
        });
    }

    fn refuse(&mut self, token: Option<u64>, refusal: Refusal) -> Result<(), End> {
        if let Some(token) = token {
            self.tell(LinkEvent::Done { token, result: Err(refusal) });
        }
        Ok(())
    }

    /// rumqttc has written a publish; packet id 0 means QoS 0, which is done with that.
    fn announced(&mut self, pkid: u16) {
        let Some(token) = self.handed.pop_front() else { return };
        if pkid != 0 {
            self.handed_qos1 = self.handed_qos1.saturating_sub(1);
            self.inflight.insert(pkid, token);
        } else if let Some(token) = token {
            self.tell(LinkEvent::Done { token, result: Ok(Audience::Unknown) });
        }
    }

    fn message(&mut self, arrival: Arrival) {
        if self.messages >= LINK_MESSAGES_MAX {
            metrics::LINK_MESSAGES_DROPPED.inc();
            return;
        }
        let Arrival { topic, payload, historical, receipt } = arrival;
        self.messages += 1;
        self.outbox.push_back((LinkEvent::Message { topic, payload, historical }, Some(receipt)));
    }

    fn tell(&mut self, event: LinkEvent) {
        self.outbox.push_back((event, None));
    }

    /// Only what the broker says proves that the line is whole: what we write goes into the kernel's buffer, whether or
    /// not anybody is left to receive it. Pings go out every keep-alive, so a broker that is there is heard that often.
    /// rumqttc alone would wait for two, and without end for a peer that stops reading.
    fn stalled(&self) -> Option<String> {
        if self.stage == Stage::Connecting {
            return None;
        }
        let silent = clock::mono().since(self.last_heard);
        if silent >= self.keep_alive.mul_f32(1.5) {
            return Some(format!("nothing heard for {} s; half-open connection", silent.as_secs()));
        }
        let unanswered = clock::mono().since(self.last_answer);
        if self.stage == Stage::Subscribing && unanswered >= SUBSCRIBE_TIMEOUT {
            return Some("broker does not answer the subscription".to_owned());
        }
        let waiting = self.handed_qos1 + self.inflight.len() > 0;
        (waiting && unanswered >= self.keep_alive * 4)
            .then(|| format!("broker acknowledges nothing for {} s", unanswered.as_secs()))
    }

    /// Retained, where the broker can.
    fn announcement(&self, say: Announcement) -> Publish {
        Publish {
            token: None,
            topic: say.topic,
            payload: say.payload,
            qos: Qos::AtLeastOnce,
            retain: self.retains,
            historical: false,
            content_type: None,
        }
    }
}

/// How often stalls and the end's deadlines are looked at.
const TIMER: Duration = Duration::from_millis(500);
/// How long the broker may take to grant the subscriptions.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long each step of an orderly end may take.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// Fixed header, packet id, lengths and our properties.
const PACKET_OVERHEAD_BYTES: usize = 128;
