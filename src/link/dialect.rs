//! The two versions of MQTT behind one face: what a session says and hears is the same whichever is spoken.
//!
//! MQTT 3.1.1 carries less. It has no reason codes (a PUBACK is always a yes, a broker that refuses a publish can only
//! hang up, a refused subscription has no cause), no user properties (the mark `historical` is not sent; nothing in the
//! aggregator depends on it, since a block tells its own numbers and times), no content type, no receive maximum and no
//! maximum packet size (the configured window and the own limit hold alone), no delay of the will, and no DISCONNECT
//! from the broker.

use std::error::Error;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS as QoS5;
use rumqttc::v5::mqttbytes::v5 as five;
use rumqttc::{Outgoing, QoS, v5};

use super::reason::{self, Refusal};
use super::{Publish, Qos};
use crate::sync::uplink::Audience;

/// Hands requests to the event loop; none of them waits.
pub(super) enum Client {
    V5(v5::AsyncClient),
    V311(rumqttc::AsyncClient),
}

/// The connection: dropped with the session.
pub(super) enum EventLoop {
    V5(Box<v5::EventLoop>),
    V311(Box<rumqttc::EventLoop>),
}

/// What the event loop tells.
pub(super) enum Heard {
    /// CONNACK: let in.
    Welcome(Welcome),
    /// SUBACK: one answer per filter, or the reason code.
    Granted(Vec<Result<(), u8>>),
    /// PUBACK.
    Answered { pkid: u16, result: Result<Audience, Refusal> },
    /// A message from the broker.
    Message(Box<Arrival>),
    /// A message whose topic is not UTF-8.
    Malformed,
    /// Anything else from the broker; a sign of life.
    Alive,
    /// A publish is written; packet id 0 at QoS 0.
    Written(u16),
    /// Anything else is written.
    Sent,
}

/// What the broker allows. Where it says nothing, what the specification says for it (MQTT 5, section 3.2.2.3).
pub(super) struct Welcome {
    /// Publishes at QoS 1 without PUBACK.
    pub receive_max: u16,
    /// Largest packet it takes, in bytes.
    pub packet_bytes_max: u32,
    /// The keep-alive that holds instead of ours.
    pub keep_alive: Option<Duration>,
    /// Whether it takes QoS 1.
    pub at_least_once: bool,
    /// Whether it takes retained messages.
    pub retains: bool,
}

/// A message and what acknowledges it.
pub(super) struct Arrival {
    pub topic: String,
    pub payload: Vec<u8>,
    pub historical: bool,
    pub receipt: Receipt,
}

/// A message without its payload.
pub(super) enum Receipt {
    V5(five::Publish),
    V311(rumqttc::Publish),
}

/// Why a connection is over, or never was.
#[derive(Debug)]
pub(super) enum Lost {
    /// CONNACK with a reason code, in the numbers of MQTT 5.
    Refused(u8),
    /// DISCONNECT from the broker.
    Ended { code: u8, text: Option<String> },
    /// The broker closed the connection in order.
    Closed,
    /// No connection in time.
    Late,
    /// No answer to a ping.
    NoPong,
    /// Something else than MQTT.
    NotMqtt,
    /// A reason code where rumqttc knows of none; of the packets with codes in a session, only PUBACK comes unasked. mosquitto
    /// answers a publish beyond its `message_size_limit` with 0x95.
    Unreadable { code: u8 },
    /// Name, TCP, TLS, WebSocket, packets.
    Other(Box<dyn Error + Send + Sync>),
}

/// What a publish was not handed over for.
pub(super) enum Unsent {
    /// Not a topic to publish on.
    Topic,
    /// In rumqttc's words; ends the session.
    Broken(String),
}

impl Client {
    pub(super) fn subscribe(&self, filters: &[String]) -> Result<(), String> {
        match self {
            Self::V5(client) => {
                let filters = filters.iter().map(|filter| five::Filter::new(filter, QoS5::AtLeastOnce));
                client.try_subscribe_many(filters).map_err(|e| e.to_string())
            }
            Self::V311(client) => {
                let filters = filters
                    .iter()
                    .map(|filter| rumqttc::SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
                client.try_subscribe_many(filters).map_err(|e| e.to_string())
            }
        }
    }

    pub(super) fn publish(&self, publish: Publish) -> Result<(), Unsent> {
        let Publish { token: _, topic, payload, qos, retain, historical, content_type } = publish;
        let once = qos == Qos::AtMostOnce;
        // rumqttc answers a bad topic and a full channel with the same error; the channel holds the whole window.
        match self {
            Self::V5(client) => {
                let properties = five::PublishProperties {
                    user_properties: historical
                        .then(|| (HISTORICAL.into(), "1".into()))
                        .into_iter()
                        .collect(),
                    content_type: content_type.map(Into::into),
                    ..five::PublishProperties::default()
                };
                let qos = if once { QoS5::AtMostOnce } else { QoS5::AtLeastOnce };
                client.try_publish_with_properties(topic, qos, retain, payload, properties).map_err(|e| {
                    match e {
                        v5::ClientError::TryRequest(_) => Unsent::Topic,
                        e => Unsent::Broken(e.to_string()),
                    }
                })
            }
            Self::V311(client) => {
                let qos = if once { QoS::AtMostOnce } else { QoS::AtLeastOnce };
                client.try_publish(topic, qos, retain, payload).map_err(|e| match e {
                    rumqttc::ClientError::TryRequest(_) => Unsent::Topic,
                    e => Unsent::Broken(e.to_string()),
                })
            }
        }
    }

    /// Where the request channel is full the PUBACK is left out; the session's end frees the broker's slot.
    pub(super) fn acknowledge(&self, receipt: &Receipt) {
        let _full = match (self, receipt) {
            (Self::V5(client), Receipt::V5(publish)) => client.try_ack(publish).is_err(),
            (Self::V311(client), Receipt::V311(publish)) => client.try_ack(publish).is_err(),
            // A session speaks one version.
            _ => false,
        };
    }

    /// Whether DISCONNECT is on its way.
    pub(super) fn disconnect(&self) -> bool {
        match self {
            Self::V5(client) => client.try_disconnect().is_ok(),
            Self::V311(client) => client.try_disconnect().is_ok(),
        }
    }
}

impl EventLoop {
    /// The next thing that happens. Must not be cancelled: a publish that it is writing would be lost.
    pub(super) async fn poll(&mut self) -> Result<Heard, Lost> {
        match self {
            Self::V5(eventloop) => eventloop.poll().await.map(heard_5).map_err(lost_5),
            Self::V311(eventloop) => eventloop.poll().await.map(heard_311).map_err(lost_311),
        }
    }
}

fn heard_5(event: v5::Event) -> Heard {
    let packet = match event {
        v5::Event::Outgoing(Outgoing::Publish(pkid)) => return Heard::Written(pkid),
        v5::Event::Outgoing(_) => return Heard::Sent,
        v5::Event::Incoming(packet) => packet,
    };
    match packet {
        five::Packet::ConnAck(connack) => Heard::Welcome(welcome(connack.properties.as_ref())),
        five::Packet::SubAck(suback) => {
            Heard::Granted(suback.return_codes.iter().map(reason::subscription).collect())
        }
        five::Packet::PubAck(puback) => {
            Heard::Answered { pkid: puback.pkid, result: reason::publish(puback.reason) }
        }
        five::Packet::Publish(mut publish) => {
            let Ok(topic) = String::from_utf8(publish.topic.to_vec()) else { return Heard::Malformed };
            let payload = std::mem::take(&mut publish.payload).to_vec();
            let properties = publish.properties.as_ref();
            let historical =
                properties.is_some_and(|p| p.user_properties.iter().any(|(key, _)| key == HISTORICAL));
            Heard::Message(Box::new(Arrival { topic, payload, historical, receipt: Receipt::V5(publish) }))
        }
        _ => Heard::Alive,
    }
}

fn welcome(told: Option<&five::ConnAckProperties>) -> Welcome {
    Welcome {
        receive_max: told.and_then(|p| p.receive_max).unwrap_or(u16::MAX),
        packet_bytes_max: told.and_then(|p| p.max_packet_size).unwrap_or(u32::MAX),
        keep_alive: told.and_then(|p| p.server_keep_alive).map(|s| Duration::from_secs(s.into())),
        at_least_once: told.and_then(|p| p.max_qos) != Some(0),
        retains: told.and_then(|p| p.retain_available) != Some(0),
    }
}

fn heard_311(event: rumqttc::Event) -> Heard {
    let packet = match event {
        rumqttc::Event::Outgoing(Outgoing::Publish(pkid)) => return Heard::Written(pkid),
        rumqttc::Event::Outgoing(_) => return Heard::Sent,
        rumqttc::Event::Incoming(packet) => packet,
    };
    match packet {
        rumqttc::Packet::ConnAck(_) => Heard::Welcome(welcome(None)),
        rumqttc::Packet::SubAck(suback) => {
            let granted = |code: &rumqttc::SubscribeReasonCode| match code {
                rumqttc::SubscribeReasonCode::Success(_) => Ok(()),
                rumqttc::SubscribeReasonCode::Failure => Err(reason::UNSPECIFIED),
            };
            Heard::Granted(suback.return_codes.iter().map(granted).collect())
        }
        rumqttc::Packet::PubAck(puback) => {
            Heard::Answered { pkid: puback.pkid, result: Ok(Audience::Unknown) }
        }
        rumqttc::Packet::Publish(mut publish) => {
            let payload = std::mem::take(&mut publish.payload).to_vec();
            let topic = publish.topic.clone();
            let receipt = Receipt::V311(publish);
            Heard::Message(Box::new(Arrival { topic, payload, historical: false, receipt }))
        }
        _ => Heard::Alive,
    }
}

fn lost_5(error: v5::ConnectionError) -> Lost {
    use v5::{ConnectionError, StateError};
    match error {
        ConnectionError::ConnectionRefused(code) => Lost::Refused(reason::connection(code)),
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string }) => {
            Lost::Ended { code: reason_code as u8, text: reason_string }
        }
        ConnectionError::MqttState(StateError::ConnectionAborted) => Lost::Closed,
        ConnectionError::MqttState(StateError::AwaitPingResp) => Lost::NoPong,
        ConnectionError::Timeout(_) => Lost::Late,
        ConnectionError::NotConnAck(_) => Lost::NotMqtt,
        ConnectionError::MqttState(StateError::Deserialization(
            v5::mqttbytes::Error::InvalidConnectReturnCode(code),
        )) => Lost::Unreadable { code },
        // The state's error does not name its cause as `source`.
        ConnectionError::MqttState(StateError::Deserialization(inner)) => Lost::Other(inner.into()),
        other => Lost::Other(other.into()),
    }
}

fn lost_311(error: rumqttc::ConnectionError) -> Lost {
    use rumqttc::{ConnectionError, StateError};
    match error {
        ConnectionError::ConnectionRefused(code) => Lost::Refused(reason::from_3_1_1(code as u8)),
        ConnectionError::MqttState(StateError::ConnectionAborted) => Lost::Closed,
        ConnectionError::MqttState(StateError::AwaitPingResp) => Lost::NoPong,
        ConnectionError::NetworkTimeout => Lost::Late,
        ConnectionError::NotConnAck(_) => Lost::NotMqtt,
        ConnectionError::MqttState(StateError::Deserialization(inner)) => Lost::Other(inner.into()),
        other => Lost::Other(other.into()),
    }
}

/// User property of blocks that were sealed before the line came up.
const HISTORICAL: &str = "historical";
