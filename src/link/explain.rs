//! Connection errors and reason codes in plain words, with the next step where there is one.

use std::error::Error;
use std::io;

use rumqttc::tokio_rustls::rustls::{self, AlertDescription, CertificateError};
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, PubAckReason, SubscribeReasonCode};
use rumqttc::v5::{ConnectionError, StateError};

use super::{LinkOptions, Refusal};

/// Why a TLS connection ended: `None` when TLS is not what is wrong. Ends with the next step after a semicolon.
pub fn tls_failure(error: &io::Error, options: &LinkOptions) -> Option<String> {
    Some(tls_error(find::<rustls::Error>(error)?, options))
}

/// Why there is no connection.
pub(super) fn connection_error(error: &ConnectionError, options: &LinkOptions) -> String {
    let at = format!("{}:{}", options.host, options.port);
    // The state's error does not name its cause as `source`.
    let cause: &(dyn Error + 'static) = match error {
        ConnectionError::MqttState(StateError::Deserialization(inner)) => inner,
        other => other,
    };
    if let Some(tls) = find::<rustls::Error>(cause) {
        return tls_error(tls, options);
    }
    match error {
        ConnectionError::ConnectionRefused(code) => refused_connection(*code),
        ConnectionError::Timeout(_) => format!("{at} does not answer in time; check host, port and firewall"),
        ConnectionError::MqttState(StateError::AwaitPingResp) => "broker no longer answers pings".to_owned(),
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string }) => {
            let said = reason_string.as_deref().unwrap_or("no text");
            format!("broker ended the session: {reason_code:?} ({said}); is the client id used twice?")
        }
        ConnectionError::MqttState(StateError::ConnectionAborted) => {
            "broker closed the connection".to_owned()
        }
        ConnectionError::NotConnAck(_) => format!("{at} does not speak MQTT 5; check the port"),
        other => match find::<io::Error>(cause) {
            Some(e) => io_error(e, &at),
            None => other.to_string(),
        },
    }
}

fn io_error(error: &io::Error, at: &str) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("{at} refuses connections; is the broker running?"),
        io::ErrorKind::TimedOut => format!("{at} does not answer; check host, port and firewall"),
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::UnexpectedEof => {
            format!("{at} closed the connection ({error}); if this repeats, check whether the port wants TLS")
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => format!("no route to {at}"),
        _ => format!("{at}: {error}"),
    }
}

fn tls_error(error: &rustls::Error, options: &LinkOptions) -> String {
    let host = &options.host;
    let named = |path: Option<&std::path::PathBuf>| {
        path.map_or_else(|| "nothing".to_owned(), |path| path.display().to_string())
    };
    let files = options.tls.as_ref();
    let ca = named(files.map(|f| &f.ca));
    let cert = named(files.and_then(|f| f.identity.as_ref()).map(|(cert, _)| cert));
    match error {
        rustls::Error::InvalidCertificate(bad) => match bad {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                format!("the certificate of {host} is not issued by {ca}; name the authority that issued it")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("the certificate of {host} has expired; renew it, or set this device's clock")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("the certificate of {host} is not valid yet; set this device's clock")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the certificate of {host} is for another name; connect by one that it carries")
            }
            other => format!("the certificate of {host} is not acceptable: {other:?}"),
        },
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::DecryptError => {
                format!("broker does not trust {cert}; have it issued by an authority that the broker knows")
            }
            AlertDescription::CertificateExpired => format!("{cert} has expired; renew it"),
            AlertDescription::CertificateRevoked => format!("{cert} is revoked; have a new one issued"),
            AlertDescription::CertificateRequired => "broker wants a client certificate; name one".to_owned(),
            AlertDescription::ProtocolVersion => "broker speaks no TLS of version 1.2 or later".to_owned(),
            other => format!("broker refuses TLS: {other:?}"),
        },
        rustls::Error::InvalidMessage(_) => {
            format!("{host}:{} does not speak TLS; check the port", options.port)
        }
        other => format!("TLS with {host}: {other}"),
    }
}

fn refused_connection(code: ConnectReturnCode) -> String {
    match code {
        ConnectReturnCode::NotAuthorized | ConnectReturnCode::BadUserNamePassword => {
            "broker does not authorise this client; check its access rules for the certificate's name"
                .to_owned()
        }
        ConnectReturnCode::BadClientId | ConnectReturnCode::ClientIdentifierNotValid => {
            "broker does not accept the client id; change the device name".to_owned()
        }
        ConnectReturnCode::RefusedProtocolVersion | ConnectReturnCode::UnsupportedProtocolVersion => {
            "broker does not speak MQTT 5".to_owned()
        }
        other => format!("broker refuses the connection: {other:?}"),
    }
}

/// Why a topic filter was not granted.
pub(super) fn refused_subscription(filter: &str, code: SubscribeReasonCode) -> String {
    format!("broker refuses the subscription to {filter}: {code:?}; check its access rules")
}

/// The outcome of a publish by its reason code (MQTT 5, section 3.4.2.1).
pub(super) fn publish_result(reason: PubAckReason) -> Result<(), Refusal> {
    let (code, text) = match reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => return Ok(()),
        PubAckReason::UnspecifiedError => (0x80, "unspecified error"),
        PubAckReason::ImplementationSpecificError => (0x83, "implementation specific error"),
        PubAckReason::NotAuthorized => {
            (0x87, "not authorised to publish on this topic; check the access rules")
        }
        PubAckReason::TopicNameInvalid => (0x90, "topic not accepted; check the prefix"),
        PubAckReason::PacketIdentifierInUse => (0x91, "packet identifier in use"),
        PubAckReason::QuotaExceeded => (0x97, "quota exceeded"),
        PubAckReason::PayloadFormatInvalid => (0x99, "payload not accepted"),
    };
    Err(Refusal { code, text })
}

/// A packet that the broker said it would not take.
pub(super) const PACKET_TOO_LARGE: Refusal = Refusal {
    code: 0x95,
    text: "larger than the broker's maximum packet size; raise that, or use smaller blocks",
};
/// A topic with wildcards or of impossible length.
pub(super) const TOPIC_NAME_INVALID: Refusal =
    Refusal { code: 0x90, text: "not a topic to publish on; check the prefix" };

/// The first error of type `T` among `error` and its causes. An `io::Error` hides what it wraps from `source`.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(e) = next {
        if let Some(found) = e.downcast_ref::<T>() {
            return Some(found);
        }
        let wrapped = e.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner),
            None => e.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> LinkOptions {
        LinkOptions::new("broker.example", 8883, "pump")
    }

    #[test]
    fn a_tls_error_is_found_however_deep_it_is_wrapped() {
        let tls = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, tls);
        let text = connection_error(&ConnectionError::Io(wrapped), &options());
        assert!(text.contains("has expired; renew it"), "{text}");
    }

    #[test]
    fn a_refused_connection_names_the_address_and_the_next_step() {
        let refused = ConnectionError::Io(io::ErrorKind::ConnectionRefused.into());
        let text = connection_error(&refused, &options());
        assert_eq!(text, "broker.example:8883 refuses connections; is the broker running?");
    }

    #[test]
    fn nobody_listening_is_no_reason_to_keep_a_block() {
        assert_eq!(publish_result(PubAckReason::NoMatchingSubscribers), Ok(()));
        assert_eq!(publish_result(PubAckReason::QuotaExceeded).unwrap_err().code, 0x97);
    }
}
