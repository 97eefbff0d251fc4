//! Connection errors and reason codes in plain words, with the next step where there is one.

use std::error::Error;
use std::io;

use super::LinkOptions;
use super::dialect::Lost;
use super::reason::{self, Reason, reason};
use crate::sync::backoff::Cause;
use crate::tls;

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
    let kind = tls::find::<io::Error>(error).map(io::Error::kind);
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
    let explained = tls::why(error, &options.peer());
    explained.unwrap_or_else(|| match &options.websocket {
        Some(path) => format!("{at} opens no WebSocket on {path}: {error}; check port and path"),
        None => error.to_string(),
    })
}

/// Why a topic filter was not granted.
pub(super) fn refused_subscription(filter: &str, code: u8) -> Fault {
    Fault::lasting(format!("broker refuses the subscription to {filter}: {}", in_words(code)))
}

/// A broker that takes QoS 0 alone: nothing would ever be released.
pub(super) fn no_acknowledgements() -> Fault {
    Fault::lasting(format!("broker is of no use: {}", in_words(0x9B)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> LinkOptions {
        LinkOptions::new("broker.example", 8883, "pump")
    }

    fn text(lost: &Lost) -> String {
        super::lost(lost, &options()).reason
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
