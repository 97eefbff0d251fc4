//! The line's configuration into the options of the link, for both seats and for `check`.

use crate::config::MqttConfig;
use crate::link::{LinkOptions, TlsFiles};
use crate::sync::backoff::BackoffOptions;

/// What the configuration means for the link.
pub(super) fn options(mqtt: &MqttConfig) -> LinkOptions {
    let tls = mqtt.tls.as_ref().map(|paths| TlsFiles {
        ca: paths.ca.clone(),
        identity: paths.identity.clone(),
        server_name: None,
    });
    LinkOptions {
        protocol: mqtt.protocol,
        websocket: mqtt.websocket.clone(),
        tls,
        keep_alive: mqtt.keep_alive,
        backoff: BackoffOptions {
            base: mqtt.backoff_min,
            cap: mqtt.backoff_max,
            ..BackoffOptions::default()
        },
        window: mqtt.window,
        ..LinkOptions::new(&*mqtt.host, mqtt.port, &*mqtt.client_id)
    }
}
