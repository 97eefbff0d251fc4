//! A broker in the field: what its clients publish becomes readings.
//!
//! A second connection beside the agent's own line, MQTT 3.1.1 on TLS unless that is switched off, on a thread of its own,
//! `mqtt:<name>`. It comes back by itself after waits that double, and subscribes again; certificates are read again each
//! time, and where others lie there it connects again by itself. While the pipeline is full the socket is left unread.
//! A topic that the broker does not grant is told, and the others are listened to.
//!
//! When the connection is lost, every channel that was heard has no answer ([`NoData::NoAnswer`]). That is said once; the next
//! message ends it.
//!
//! A message that the broker sends a second time (its flag DUP, or the same time and value of a channel again) is dropped
//! and counted. A retained message tells of a time before the subscription: without a time of its own it is counted and
//! passed over.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::pending;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, Packet, Publish, QoS, SubAck, SubscribeFilter,
    SubscribeReasonCode, TlsConfiguration, Transport,
};
use serde_json::Value as Json;
use smol::channel::{Receiver, Sender};
use smol::future::or;

use super::field::{content, secret};
use super::malformed::MalformedLog;
use super::outlet::{Handover, Outlet};
use super::{SourceError, names, timestamp};
use crate::clock;
use crate::field::topic::Topic;
use crate::limits;
use crate::observe::link::CertificatesUnusable;
use crate::observe::{emit, field as events};
use crate::reading::{ChannelId, NoData, Reading, Value, value_from_f64};
use crate::sync::backoff::{Backoff, BackoffOptions, Cause};
use crate::time::Wall;
use crate::tls::{self, Peer, Renewal, TlsError, TlsFiles};

/// Which broker, and what of it.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscribeOptions {
    /// Name or address of the broker.
    pub host: String,
    /// Its port; by custom 8883 with TLS, 1883 without.
    pub port: u16,
    /// Certificates; `None` means plaintext.
    pub tls: Option<TlsFiles>,
    /// MQTT client id, unique at that broker.
    pub client_id: String,
    /// User, if it wants one.
    pub user: Option<String>,
    /// File with the user's password.
    pub password_file: Option<PathBuf>,
    /// How often it is looked whether the files in `tls` have changed.
    pub certificates_every: Duration,
    /// What is listened to.
    pub topics: Vec<Topic>,
}

impl SubscribeOptions {
    /// As whom to connect; a password that is not configured is empty. Reads a file; blocks shortly.
    pub fn login(&self) -> Result<Login, SourceError> {
        let content = self.password_file.as_deref().map(content).transpose()?;
        self.login_with(content.as_deref())
    }

    /// The same with what stands in the password's file.
    pub(super) fn login_with(&self, content: Option<&[u8]>) -> Result<Login, SourceError> {
        let Some(user) = self.user.clone() else { return Ok(None) };
        let password = self.password_file.as_deref();
        let password = password.map(|path| secret(path, content.unwrap_or_default())).transpose()?;
        Ok(Some((user, password.unwrap_or_default())))
    }
}

/// User and password, for a broker that wants them.
pub type Login = Option<(String, String)>;

/// Listens until the pipeline is gone.
pub(super) async fn run(options: SubscribeOptions, login: Login, outlet: Outlet) -> Result<(), SourceError> {
    let (told, messages) = smol::channel::bounded(limits::SUBSCRIBE_MESSAGES_MAX);
    // Ends the thread when this ends.
    let (_stopper, stopped) = smol::channel::bounded::<Infallible>(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let failed = |source| SourceError::Thread { name: outlet.source().to_string(), source };
    let runtime = runtime.map_err(failed)?;
    let (source, broker) = (outlet.source().to_string(), options.clone());
    let body = move || runtime.block_on(or(listen(&broker, &login, &source, &told), until(stopped)));
    std::thread::Builder::new().name(format!("mqtt:{}", outlet.source())).spawn(body).map_err(failed)?;
    let mut intake = Intake::new(options.topics, &outlet);
    while let Ok(first) = messages.recv().await {
        let mut handover = Handover::default();
        intake.hear(first, &mut handover);
        // A flood fills the queue as fast as it is emptied.
        while handover.readings.len() < limits::SENSOR_BATCH_READINGS_MAX
            && let Ok(next) = messages.try_recv()
        {
            intake.hear(next, &mut handover);
        }
        outlet.counters().set_malformed(intake.malformed.total());
        let is_nothing = handover.readings.is_empty() && handover.infos.is_empty();
        if !is_nothing && outlet.hand_over(handover).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn until(stopped: Receiver<Infallible>) {
    // Nothing can be sent, so this returns when the other end is gone.
    let _ = stopped.recv().await;
}

/// What comes of a broker.
#[derive(Debug)]
enum Heard {
    Message(Publish),
    /// The connection is lost, or could not be made.
    Lost,
}

/// Connects, subscribes, and passes messages on, until nobody takes them.
async fn listen(options: &SubscribeOptions, login: &Login, source: &str, out: &Sender<Heard>) {
    let peer = format!("{}:{}", options.host, options.port);
    let mut backoff = Backoff::new(BackoffOptions::default());
    let mut rng = fastrand::Rng::new();
    // What was told last, so that a fault that lasts is told once.
    let mut told: Option<String> = None;
    let warn = |error: &str| emit(&events::PeerFailed { source, peer: &peer, error: &error });
    loop {
        let began = clock::mono();
        let up = || {
            if told.take().is_some() {
                emit(&events::PeerRecovered { source, peer: &peer });
            }
        };
        match session(options, login, out, up, warn).await {
            End::Unwanted => return,
            End::Renewed => {}
            End::Failed(reason) => {
                emit(&events::FieldFault { kind: events::FaultKind::Connection });
                if told.as_ref() != Some(&reason) {
                    warn(&reason);
                    told = Some(reason);
                }
                if out.send(Heard::Lost).await.is_err() {
                    return;
                }
            }
        }
        backoff.lived(clock::mono().since(began));
        tokio::time::sleep(backoff.failed(Cause::Line, &mut rng)).await;
    }
}

fn connection(options: &SubscribeOptions, login: &Login) -> Result<(AsyncClient, EventLoop), TlsError> {
    let mut mqtt = MqttOptions::new(&options.client_id, &options.host, options.port);
    mqtt.set_keep_alive(KEEP_ALIVE);
    mqtt.set_max_packet_size(limits::SUBSCRIBE_PACKET_BYTES_MAX, limits::SUBSCRIBE_PACKET_BYTES_MAX);
    if let Some((user, password)) = login {
        mqtt.set_credentials(user, password);
    }
    if let Some(files) = &options.tls {
        mqtt.set_transport(Transport::Tls(TlsConfiguration::Rustls(files.load()?)));
    }
    Ok(AsyncClient::new(mqtt, 16))
}

const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// Nobody takes messages any more.
    Unwanted,
    /// There are other certificates to connect with.
    Renewed,
    /// In words.
    Failed(String),
}

/// One connection, to its end. `refused` hears of what the broker does not grant.
async fn session(
    options: &SubscribeOptions,
    login: &Login,
    out: &Sender<Heard>,
    mut up: impl FnMut(),
    refused: impl Fn(&str),
) -> End {
    let peer = Peer { host: &options.host, port: options.port, files: options.tls.as_ref() };
    let renewal = |files| Renewal::new(files, options.certificates_every, clock::mono());
    let renewal = options.tls.as_ref().map(|files| (files, renewal(files)));
    let mut renewed = pin!(renewed(renewal, options.certificates_every));
    let (client, mut arrivals) = match connection(options, login) {
        Ok(pair) => pair,
        Err(error) => return End::Failed(error.to_string()),
    };
    let filters = || options.topics.iter().map(|t| SubscribeFilter::new(t.filter(), QoS::AtLeastOnce));
    loop {
        // A poll is given up only with its connection, or what it was reading would be lost.
        let event = or(async { Some(arrivals.poll().await) }, async {
            renewed.as_mut().await;
            None
        });
        match event.await {
            None => return End::Renewed,
            Some(Ok(Event::Incoming(Packet::ConnAck(_)))) => {
                up();
                // The queue is empty after a connection, so there is room.
                let _ = client.try_subscribe_many(filters());
            }
            Some(Ok(Event::Incoming(Packet::SubAck(ack)))) => {
                ungranted(&options.topics, &ack).for_each(|t| {
                    emit(&events::FieldFault { kind: events::FaultKind::Refused });
                    refused(&format!(
                        "not allowed to listen to {}; see the broker's access list",
                        t.filter()
                    ));
                })
            }
            Some(Ok(Event::Incoming(Packet::Publish(publish)))) => {
                if publish.payload.len() > limits::SUBSCRIBE_MESSAGE_BYTES_MAX {
                    emit(&events::MessageDropped { kind: events::DropKind::Oversize });
                } else if out.send(Heard::Message(publish)).await.is_err() {
                    return End::Unwanted;
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                return End::Failed(tls::why(&error, &peer).unwrap_or_else(|| error.to_string()));
            }
        }
    }
}

/// Returns when other certificates than the connection's are there, in order, and should be used.
async fn renewed(renewal: Option<(&TlsFiles, Renewal)>, every: Duration) {
    let Some((files, mut renewal)) = renewal else { return pending().await };
    loop {
        tokio::time::sleep(every).await;
        match renewal.look(files, clock::mono()) {
            None => {}
            Some(Ok(())) => return,
            Some(Err(e)) => emit(&CertificatesUnusable { why: &e }),
        }
    }
}

/// The topics that a broker does not grant; it answers in the order in which it was asked (MQTT 3.1.1, section 3.9.3).
fn ungranted<'a>(topics: &'a [Topic], ack: &'a SubAck) -> impl Iterator<Item = &'a Topic> {
    topics
        .iter()
        .zip(&ack.return_codes)
        .filter(|(_, code)| **code == SubscribeReasonCode::Failure)
        .map(|(t, _)| t)
}

/// Messages into readings.
struct Intake {
    topics: Vec<Topic>,
    malformed: MalformedLog,
    /// What each channel said last; those that are here were described.
    channels: HashMap<ChannelId, Last>,
    /// Hashes of the latest messages.
    recent: VecDeque<u64>,
}

/// What a channel said last.
struct Last {
    at: Wall,
    value: Value,
    /// The time stood in the message.
    has_own_time: bool,
    /// The broker was lost since.
    is_lost: bool,
}

/// Why a message is no reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum NoReading {
    #[error("not a number, and no path to one is configured")]
    Number,
    #[error("not JSON")]
    Json,
    #[error("nothing where the configured value should be")]
    Value,
    #[error("the time is neither RFC 3339 nor Unix time")]
    Time,
    #[error("the topic gives no channel name")]
    Name,
    #[error("a channel beyond the {} that a source may have", limits::CHANNELS_MAX)]
    TooMany,
}

impl Intake {
    fn new(topics: Vec<Topic>, outlet: &Outlet) -> Self {
        let malformed = MalformedLog::new(outlet.source());
        Self { topics, malformed, channels: HashMap::new(), recent: VecDeque::new() }
    }

    fn hear(&mut self, heard: Heard, out: &mut Handover) {
        match heard {
            Heard::Message(message) => self.take(&message, out),
            Heard::Lost => self.lose(out),
        }
    }

    /// Nobody knows any more what the channels are worth.
    fn lose(&mut self, out: &mut Handover) {
        let now = clock::wall();
        for (channel, last) in self.channels.iter_mut().filter(|(_, last)| !last.is_lost) {
            last.is_lost = true;
            // A clock of the channel's own may stand anywhere, and what was held back for it meanwhile must not come late.
            let at = if last.has_own_time { last.at + Duration::from_micros(1) } else { now };
            out.readings.push(Reading::new(channel.clone(), at, Err(NoData::NoAnswer)));
        }
    }

    fn take(&mut self, message: &Publish, out: &mut Handover) {
        if self.is_repeated(message) {
            return emit(&events::MessageDropped { kind: events::DropKind::Duplicate });
        }
        let found = self.topics.iter().find_map(|t| Some((t.clone(), t.channel(&message.topic)?)));
        let Some((topic, name)) = found else { return };
        if let Err(reason) = self.read(&topic, &name, message, out) {
            self.malformed.note(&reason, &message.payload);
        }
    }

    fn read(
        &mut self,
        topic: &Topic,
        name: &str,
        message: &Publish,
        out: &mut Handover,
    ) -> Result<(), NoReading> {
        let channel = names::channel(name).map_err(|_| NoReading::Name)?;
        let (value, own_time) = parse(topic, &message.payload)?;
        if message.retain && own_time.is_none() {
            emit(&events::MessageDropped { kind: events::DropKind::Retained });
            return Ok(());
        }
        let at = own_time.unwrap_or_else(clock::wall);
        match self.channels.get(&channel) {
            Some(last) if own_time.is_some() && (last.at, last.value) == (at, value) => {
                emit(&events::MessageDropped { kind: events::DropKind::Duplicate });
                return Ok(());
            }
            Some(_) => {}
            None if self.channels.len() >= limits::CHANNELS_MAX => return Err(NoReading::TooMany),
            None => {
                let unit = (!topic.unit.is_empty()).then_some(topic.unit.as_str());
                out.infos.push(names::described(&channel, name, unit));
            }
        }
        let last = Last { at, value, has_own_time: own_time.is_some(), is_lost: false };
        self.channels.insert(channel.clone(), last);
        out.readings.push(Reading::new(channel, at, value));
        Ok(())
    }

    /// Whether the broker says that it sends this again, and it did come before.
    fn is_repeated(&mut self, message: &Publish) -> bool {
        let mut hash = crc32fast::Hasher::new();
        hash.update(message.topic.as_bytes());
        hash.update(&message.payload);
        let key = u64::from(hash.finalize()) << 16 | u64::from(message.pkid);
        if message.dup && self.recent.contains(&key) {
            return true;
        }
        if message.pkid != 0 {
            self.recent.push_back(key);
            if self.recent.len() > limits::SUBSCRIBE_RECENT_MAX {
                self.recent.pop_front();
            }
        }
        false
    }
}

/// The value of a message, and its own time if it has one.
fn parse(topic: &Topic, payload: &[u8]) -> Result<(Value, Option<Wall>), NoReading> {
    let Some(path) = &topic.value else {
        let text = std::str::from_utf8(payload).map_err(|_| NoReading::Number)?.trim();
        return Ok((plain(text).ok_or(NoReading::Number)?, None));
    };
    let document: Json = serde_json::from_slice(payload).map_err(|_| NoReading::Json)?;
    let value = match path.find(&document).ok_or(NoReading::Value)? {
        Json::Number(number) => number.as_f64().map(value_from_f64).ok_or(NoReading::Value)?,
        Json::Bool(flag) => Ok(f64::from(u8::from(*flag))),
        Json::Null => Err(NoData::Null),
        Json::String(text) => plain(text).ok_or(NoReading::Value)?,
        Json::Array(_) | Json::Object(_) => return Err(NoReading::Value),
    };
    let time = topic.time.as_ref().and_then(|path| path.find(&document));
    Ok((value, time.map(|time| wall(time).ok_or(NoReading::Time)).transpose()?))
}

fn plain(text: &str) -> Option<Value> {
    match text {
        "true" | "on" | "ON" => Some(Ok(1.0)),
        "false" | "off" | "OFF" => Some(Ok(0.0)),
        "null" => Some(Err(NoData::Null)),
        number => number.parse().ok().map(value_from_f64),
    }
}

fn wall(time: &Json) -> Option<Wall> {
    match time {
        Json::String(text) => timestamp::parse(text),
        Json::Number(number) => match number.as_i64() {
            Some(n) => Some(timestamp::from_unix(n)),
            None => timestamp::from_unix_f64(number.as_f64()?),
        },
        _ => None,
    }
}

#[cfg(all(test, feature = "demo"))]
mod tests;
