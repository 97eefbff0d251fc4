//! rumqttc on its own thread between two bounded channels; rustls configuration.
