//! From [`LinkOptions`] to a fresh rumqttc client: nothing of an earlier session survives in it.

use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS as QoS5;
use rumqttc::v5::mqttbytes::v5 as five;
use rumqttc::{NetworkOptions, QoS, TlsConfiguration, Transport, v5};

use super::dialect::{Client, EventLoop};
use super::{LinkOptions, Protocol};
use crate::limits::{LINK_MESSAGES_MAX, LINK_RECEIVE_MAX};

/// Reads the TLS files and makes client and event loop; connects nothing yet. The error is in plain words.
pub(super) fn client(o: &LinkOptions) -> Result<(Client, EventLoop), String> {
    let transport = transport(o)?;
    Ok(match o.protocol {
        Protocol::V5 => {
            let (client, eventloop) = v5::AsyncClient::new(options_5(o, transport), requests(o));
            (Client::V5(client), EventLoop::V5(Box::new(eventloop)))
        }
        Protocol::V311 => {
            let (client, mut eventloop) = rumqttc::AsyncClient::new(options_311(o, transport), requests(o));
            eventloop.set_network_options(network());
            (Client::V311(client), EventLoop::V311(Box::new(eventloop)))
        }
    })
}

/// Publishes, acknowledgements of messages, and the odd subscription.
fn requests(o: &LinkOptions) -> usize {
    usize::from(o.window.max(1)) + LINK_MESSAGES_MAX + 16
}

fn options_5(o: &LinkOptions, transport: Transport) -> v5::MqttOptions {
    let mut mqtt = v5::MqttOptions::new(&o.client_id, address(o), o.port);
    mqtt.set_clean_start(true);
    mqtt.set_keep_alive(keep_alive(o));
    mqtt.set_manual_acks(true);
    mqtt.set_connection_timeout(CONNECT_TIMEOUT_S);
    mqtt.set_network_options(network());
    mqtt.set_outgoing_inflight_upper_limit(o.window.max(1));
    let mut properties = five::ConnectProperties::new();
    properties.receive_maximum = Some(LINK_RECEIVE_MAX);
    properties.max_packet_size = Some(o.packet_bytes_max);
    if let Some(will) = &o.will {
        let delay_s = u32::try_from(will.delay.as_secs()).unwrap_or(u32::MAX);
        properties.session_expiry_interval = Some(delay_s);
        let delay = five::LastWillProperties { delay_interval: Some(delay_s), ..no_will_properties() };
        let (topic, payload) = (&will.say.topic, will.say.payload.clone());
        mqtt.set_last_will(five::LastWill::new(topic, payload, QoS5::AtLeastOnce, true, Some(delay)));
    }
    mqtt.set_connect_properties(properties);
    mqtt.set_transport(transport);
    mqtt
}

fn options_311(o: &LinkOptions, transport: Transport) -> rumqttc::MqttOptions {
    let mut mqtt = rumqttc::MqttOptions::new(&o.client_id, address(o), o.port);
    mqtt.set_clean_session(true);
    mqtt.set_keep_alive(keep_alive(o));
    mqtt.set_manual_acks(true);
    mqtt.set_inflight(o.window.max(1));
    // Nothing tells us the broker's limit; rumqttc's own would be 10 KiB.
    mqtt.set_max_packet_size(o.packet_bytes_max as usize, u32::MAX as usize);
    if let Some(will) = &o.will {
        let (topic, payload) = (&will.say.topic, will.say.payload.clone());
        mqtt.set_last_will(rumqttc::LastWill::new(topic, payload, QoS::AtLeastOnce, true));
    }
    mqtt.set_transport(transport);
    mqtt
}

fn keep_alive(o: &LinkOptions) -> Duration {
    o.keep_alive.clamp(Duration::from_secs(5), Duration::from_secs(65_535))
}

fn network() -> NetworkOptions {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(CONNECT_TIMEOUT_S);
    network
}

fn transport(o: &LinkOptions) -> Result<Transport, String> {
    let tls = match &o.tls {
        Some(files) => Some(TlsConfiguration::Rustls(files.load().map_err(|e| e.to_string())?)),
        None => None,
    };
    match (&o.websocket, tls) {
        (None, None) => Ok(Transport::Tcp),
        (None, Some(tls)) => Ok(Transport::Tls(tls)),
        #[cfg(feature = "websocket")]
        (Some(_), None) => Ok(Transport::Ws),
        #[cfg(feature = "websocket")]
        (Some(_), Some(tls)) => Ok(Transport::Wss(tls)),
        #[cfg(not(feature = "websocket"))]
        (Some(_), _) => {
            Err("this program is built without WebSocket; use one that has the feature `websocket`".into())
        }
    }
}

/// What rumqttc takes for an address: with WebSocket a URL, else a host.
fn address(o: &LinkOptions) -> String {
    match &o.websocket {
        None => o.host.clone(),
        Some(path) => {
            let scheme = if o.tls.is_some() { "wss" } else { "ws" };
            format!("{scheme}://{}:{}{path}", o.host, o.port)
        }
    }
}

const fn no_will_properties() -> five::LastWillProperties {
    five::LastWillProperties {
        delay_interval: None,
        payload_format_indicator: None,
        message_expiry_interval: None,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    }
}

/// TCP, TLS and MQTT handshakes over a slow line.
const CONNECT_TIMEOUT_S: u64 = 20;
