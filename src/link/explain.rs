//! Connection errors and reason codes in plain words, with the next step where there is one.

use std::error::Error;
use std::io;

use rumqttc::tokio_rustls::rustls::{self, AlertDescription, CertificateError};

use super::LinkOptions;
use super::dialect::Lost;
use super::reason::{self, Reason, reason};
use crate::sync::backoff::Cause;

/// Why a TLS connection ended: `None` when TLS is not what is wrong. Ends with the next step after a semicolon.
pub fn tls_failure(error: &io::Error, options: &LinkOptions) -> Option<String> {
    Some(tls_error(find::<rustls::Error>(error)?, options))
}

/// Why a session is over, and how soon another may be tried.
#[derive(Debug)]
pub(super) struct Fault {
    pub cause: Cause,
    /// In plain words, with the next step where there is one.
    pub reason: String,
}

impl Fault {
    /// The line's own fault.
    pub(super) fn line(reason: impl Into<String>) -> Self {
        Self { cause: Cause::Line, reason: reason.into() }
    }

    /// Nothing but a person mends this.
    pub(super) fn lasting(reason: impl Into<String>) -> Self {
        Self { cause: Cause::HoldOff, reason: reason.into() }
    }
}

/// Why there is no connection, or no longer.
pub(super) fn lost(lost: &Lost, options: &LinkOptions) -> Fault {
    let at = format!("{}:{}", options.host, options.port);
    match lost {
        Lost::Refused(code) => Fault::lasting(format!("broker refuses the connection: {}", in_words(*code))),
        Lost::Ended { code, text } => {
            let said = text.as_deref().map_or(String::new(), |text| format!(" ({text})"));
            let reason = format!("broker ended the session{said}: {}", in_words(*code));
            Fault { cause: reason::cause(*code), reason }
        }
        Lost::Closed => {
            Fault { cause: Cause::BrokerClosed, reason: "broker closed the connection".to_owned() }
        }
        Lost::Late => Fault::line(format!("{at} does not answer in time; check host, port and firewall")),
        Lost::NoPong => Fault::line("broker no longer answers pings"),
        Lost::NotMqtt => {
            Fault::line(format!("{at} does not speak {}; check the port", options.protocol.in_words()))
        }
        Lost::Other(error) => Fault { cause: hung_up(&**error), reason: other(&**error, options, &at) },
    }
}

/// A broker that is killed takes leave of nobody: its sockets are closed all the same, inside TLS without a word.
fn hung_up(error: &(dyn Error + 'static)) -> Cause {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, UnexpectedEof};
    let kind = find::<io::Error>(error).map(io::Error::kind);
    match kind {
        Some(ConnectionReset | ConnectionAborted | UnexpectedEof) => Cause::BrokerClosed,
        _ => Cause::Line,
    }
}

fn in_words(code: u8) -> String {
    let Reason { what, next } = reason(code);
    format!("{what} (reason {code:#04x}); {next}")
}

fn other(error: &(dyn Error + 'static), options: &LinkOptions, at: &str) -> String {
    if let Some(tls) = find::<rustls::Error>(error) {
        return tls_error(tls, options);
    }
    if let Some(e) = find::<io::Error>(error) {
        return io_error(e, at, options.tls.is_some());
    }
    match &options.websocket {
        Some(path) => format!("{at} opens no WebSocket on {path}: {error}; check port and path"),
        None => error.to_string(),
    }
}

fn io_error(error: &io::Error, at: &str, tls: bool) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("{at} refuses connections; is the broker running?"),
        io::ErrorKind::TimedOut => format!("{at} does not answer; check host, port and firewall"),
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::UnexpectedEof => {
            // Not every broker says so in TLS when it does not like a certificate.
            let next = if tls {
                "the broker may not trust this device's certificate: look into its log"
            } else {
                "check whether the port wants TLS"
            };
            format!("{at} closed the connection ({error}); if this repeats, {next}")
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

/// Why a topic filter was not granted.
pub(super) fn refused_subscription(filter: &str, code: u8) -> Fault {
    Fault::lasting(format!("broker refuses the subscription to {filter}: {}", in_words(code)))
}

/// A broker that takes QoS 0 alone: nothing would ever be released.
pub(super) fn no_acknowledgements() -> Fault {
    Fault::lasting(format!("broker is of no use: {}", in_words(0x9B)))
}

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
    use super::super::TlsFiles;
    use super::*;

    fn options() -> LinkOptions {
        LinkOptions::new("broker.example", 8883, "pump")
    }

    fn text(lost: &Lost) -> String {
        super::lost(lost, &options()).reason
    }

    #[test]
    fn a_tls_error_is_found_however_deep_it_is_wrapped() {
        let tls = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, tls);
        let deeper = rumqttc::v5::ConnectionError::Io(wrapped);
        let text = text(&Lost::Other(deeper.into()));
        assert!(text.contains("has expired; renew it"), "{text}");
    }

    #[test]
    fn a_refused_connection_names_the_address_and_the_next_step() {
        let refused = Lost::Other(io::Error::from(io::ErrorKind::ConnectionRefused).into());
        assert_eq!(text(&refused), "broker.example:8883 refuses connections; is the broker running?");
    }

    #[test]
    fn a_broker_that_hangs_up_without_a_word_leaves_the_next_step_that_fits_the_line() {
        let gone = || Lost::Other(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        assert!(text(&gone()).contains("port wants TLS"));
        let tls = TlsFiles { ca: "ca.pem".into(), identity: None, server_name: None };
        let secured = LinkOptions { tls: Some(tls), ..options() };
        assert!(super::lost(&gone(), &secured).reason.contains("may not trust this device's certificate"));
    }

    #[test]
    fn a_refusal_and_a_farewell_are_told_with_code_and_next_step() {
        let busy = text(&Lost::Refused(0x89));
        assert_eq!(
            busy,
            "broker refuses the connection: it is busy (reason 0x89); nothing to do here, it is tried again"
        );
        let taken = super::lost(&Lost::Ended { code: 0x8E, text: Some("bye".into()) }, &options());
        assert!(taken.reason.contains("(bye)") && taken.reason.contains("client_id of its own"), "{taken:?}");
        assert_eq!(taken.cause, Cause::HoldOff);
        assert_eq!(super::lost(&Lost::Closed, &options()).cause, Cause::BrokerClosed);
        let by = |kind| super::lost(&Lost::Other(io::Error::from(kind).into()), &options()).cause;
        assert_eq!(by(io::ErrorKind::UnexpectedEof), Cause::BrokerClosed);
        assert_eq!(by(io::ErrorKind::ConnectionRefused), Cause::Line);
        assert_eq!(super::lost(&Lost::NoPong, &options()).cause, Cause::Line);
    }
}
