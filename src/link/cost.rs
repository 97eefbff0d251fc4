//! What a packet costs on the line. The MQTT client has no hook on its socket, so TLS is reckoned: every packet as a record
//! of its own. Packets that share a record cost a little less than is said here. TCP and IP are not counted.

/// Bytes of a publish, in either direction.
pub fn publish(topic: &str, payload_bytes: usize, tls: bool) -> u64 {
    packet(topic.len() + payload_bytes + PUBLISH_HEAD_BYTES, tls)
}

/// Bytes of a packet of `bytes`.
pub(super) fn packet(bytes: usize, tls: bool) -> u64 {
    let records = bytes.div_ceil(RECORD_BYTES_MAX).max(1);
    (bytes + if tls { records * RECORD_OVERHEAD_BYTES } else { 0 }) as u64
}

/// Bytes of a new session before anything else is said, both directions together.
pub(super) const fn handshake(tls: bool) -> u64 {
    if tls { TLS_HANDSHAKE_BYTES } else { CONNECT_BYTES }
}

/// A PUBACK, PINGREQ or PINGRESP at its longest.
pub(super) const SHORT_PACKET_BYTES: usize = 4;
/// Fixed header, length of the topic, packet id, properties.
const PUBLISH_HEAD_BYTES: usize = 10;
const RECORD_BYTES_MAX: usize = 16 * 1024;
/// TLS 1.3: header, type and tag. TLS 1.2 takes seven more.
const RECORD_OVERHEAD_BYTES: usize = 22;
/// CONNECT, CONNACK, SUBSCRIBE, SUBACK with a will of usual length.
const CONNECT_BYTES: u64 = 300;
/// Certificates of one level with keys over P-256 on both sides, and the packets above.
const TLS_HANDSHAKE_BYTES: u64 = 3 * 1024;
