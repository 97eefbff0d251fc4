//! From [`LinkOptions`] to a fresh rumqttc client: nothing of an earlier session survives in it.

use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectProperties, LastWill, LastWillProperties};
use rumqttc::v5::{AsyncClient, EventLoop, MqttOptions};
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};

use super::LinkOptions;
use crate::limits::{LINK_MESSAGES_MAX, LINK_RECEIVE_MAX};

/// Reads the TLS files and makes client and event loop; connects nothing yet. The error is in plain words.
pub(super) fn client(o: &LinkOptions) -> Result<(AsyncClient, EventLoop), String> {
    let mut mqtt = MqttOptions::new(&o.client_id, &o.host, o.port);
    mqtt.set_clean_start(true);
    mqtt.set_keep_alive(o.keep_alive.clamp(Duration::from_secs(5), Duration::from_secs(65_535)));
    mqtt.set_manual_acks(true);
    mqtt.set_connection_timeout(CONNECT_TIMEOUT_S);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(CONNECT_TIMEOUT_S);
    mqtt.set_network_options(network);
    let window = o.window.max(1);
    mqtt.set_outgoing_inflight_upper_limit(window);
    let mut properties = ConnectProperties::new();
    properties.receive_maximum = Some(LINK_RECEIVE_MAX);
    properties.max_packet_size = Some(o.packet_bytes_max);
    if let Some(will) = &o.will {
        let delay_s = u32::try_from(will.delay.as_secs()).unwrap_or(u32::MAX);
        properties.session_expiry_interval = Some(delay_s);
        let say = &will.say;
        let delay = LastWillProperties { delay_interval: Some(delay_s), ..no_will_properties() };
        mqtt.set_last_will(LastWill::new(
            &say.topic,
            say.payload.clone(),
            QoS::AtLeastOnce,
            true,
            Some(delay),
        ));
    }
    mqtt.set_connect_properties(properties);
    if let Some(files) = &o.tls {
        let config = files.load().map_err(|e| e.to_string())?;
        mqtt.set_transport(Transport::Tls(TlsConfiguration::Rustls(config)));
    }
    // Publishes, acknowledgements of messages, and the odd subscription.
    let requests = usize::from(window) + LINK_MESSAGES_MAX + 16;
    Ok(AsyncClient::new(mqtt, requests))
}

const fn no_will_properties() -> LastWillProperties {
    LastWillProperties {
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
