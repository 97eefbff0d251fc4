//! Why a connection to a broker failed, in plain words, with the next step where there is one.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use rumqttc::tokio_rustls::rustls::{self, AlertDescription, CertificateError};

use super::TlsFiles;

/// Whom a connection was tried with, and how.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Name or address.
    pub host: &'a str,
    /// Port.
    pub port: u16,
    /// Certificates; none: without TLS.
    pub files: Option<&'a TlsFiles>,
}

/// Why a connection failed or ended; `None` when neither TLS nor the line below it is what is wrong.
pub fn why(error: &(dyn Error + 'static), peer: &Peer<'_>) -> Option<String> {
    let below = || {
        let at = format!("{}:{}", peer.host, peer.port);
        Some(io_error(find::<io::Error>(error)?, &at, peer.files.is_some()))
    };
    why_tls(error, peer).or_else(below)
}

/// The same of TLS alone. What to do next follows a semicolon.
pub fn why_tls(error: &(dyn Error + 'static), peer: &Peer<'_>) -> Option<String> {
    Some(tls_error(find::<rustls::Error>(error)?, peer))
}

/// The first error of type `T` among `error` and its causes. An `io::Error` hides what it wraps from `source`.
pub fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
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

fn tls_error(error: &rustls::Error, peer: &Peer<'_>) -> String {
    let Peer { host, port, files } = peer;
    let named =
        |path: Option<&PathBuf>| path.map_or_else(|| "nothing".to_owned(), |path| path.display().to_string());
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
            format!("{host}:{port} does not speak TLS; check the port")
        }
        other => format!("TLS with {host}: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(files: Option<&TlsFiles>) -> Peer<'_> {
        Peer { host: "broker.example", port: 8883, files }
    }

    #[test]
    fn a_tls_error_is_found_however_deep_it_is_wrapped() {
        let tls = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, tls);
        let deeper = rumqttc::v5::ConnectionError::Io(wrapped);
        let text = why(&deeper, &peer(None)).unwrap();
        assert!(text.contains("has expired; renew it"), "{text}");
        assert_eq!(why_tls(&io::Error::from(io::ErrorKind::TimedOut), &peer(None)), None);
    }

    #[test]
    fn a_refused_connection_names_the_address_and_the_next_step() {
        let refused = why(&io::Error::from(io::ErrorKind::ConnectionRefused), &peer(None));
        assert_eq!(refused.unwrap(), "broker.example:8883 refuses connections; is the broker running?");
    }

    #[test]
    fn a_broker_that_hangs_up_without_a_word_leaves_the_next_step_that_fits_the_line() {
        let gone = |files| why(&io::Error::from(io::ErrorKind::UnexpectedEof), &peer(files)).unwrap();
        assert!(gone(None).contains("port wants TLS"));
        let files = TlsFiles { ca: "ca.pem".into(), identity: None, server_name: None };
        assert!(gone(Some(&files)).contains("may not trust this device's certificate"));
    }
}
