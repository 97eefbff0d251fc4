//! The line's configuration into the options of the link, for both seats and for `check`.

use crate::config::{MqttConfig, TlsPaths};
use crate::link::LinkOptions;
use crate::sync::backoff::BackoffOptions;
use crate::tls::TlsFiles;

/// What the configuration means for the link.
pub(super) fn options(mqtt: &MqttConfig) -> LinkOptions {
    LinkOptions {
        protocol: mqtt.protocol,
        websocket: mqtt.websocket.clone(),
        tls: mqtt.tls.as_ref().map(files),
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

/// The files of a line to a broker.
pub(super) fn files(paths: &TlsPaths) -> TlsFiles {
    TlsFiles { ca: paths.ca.clone(), identity: paths.identity.clone(), server_name: None }
}
