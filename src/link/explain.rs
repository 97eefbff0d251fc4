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
    /// See [`super::LinkEvent::Down`].
    pub by_broker: Option<u8>,
}

impl Fault {
    /// The line's own fault.
    pub(super) fn line(reason: impl Into<String>) -> Self {
        Self { cause: Cause::Line, reason: reason.into(), by_broker: None }
    }

    /// Nothing but a person mends this.
    pub(super) fn lasting(reason: impl Into<String>) -> Self {
        Self { cause: Cause::HoldOff, reason: reason.into(), by_broker: None }
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
            Fault { cause: reason::cause(*code), reason, by_broker: reason::of_a_publish(*code) }
        }
        Lost::Closed => closed("broker closed the connection".to_owned()),
        Lost::Unreadable { code } => Fault {
            cause: Cause::BrokerClosed,
            reason: format!("broker answers what cannot be read here: {}", in_words(*code)),
            by_broker: Some(*code),
        },
        Lost::Late => Fault::line(format!("{at} does not answer in time; check host, port and firewall")),
        Lost::NoPong => Fault::line("broker no longer answers pings"),
        Lost::NotMqtt => {
            Fault::line(format!("{at} does not speak {}; check the port", options.protocol.in_words()))
        }
        Lost::Other(error) => {
            let reason = other(&**error, options, &at);
            if hung_up(&**error) { closed(reason) } else { Fault::line(reason) }
        }
    }
}

/// The broker is gone without a reason.
fn closed(reason: String) -> Fault {
    Fault { cause: Cause::BrokerClosed, reason, by_broker: Some(reason::UNSPECIFIED) }
}

/// A broker that is killed takes leave of nobody: its sockets are closed all the same, inside TLS without a word.
fn hung_up(error: &(dyn Error + 'static)) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, UnexpectedEof};
    let kind = tls::find::<io::Error>(error).map(io::Error::kind);
    matches!(kind, Some(ConnectionReset | ConnectionAborted | UnexpectedEof))
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

    #[test]
    fn only_what_may_be_about_a_publish_is_laid_at_its_door() {
        let by = |lost: &Lost| super::lost(lost, &options()).by_broker;
        let ended = |code| Lost::Ended { code, text: None };
        for code in [0x81, 0x87, 0x95, 0x99] {
            assert_eq!(by(&ended(code)), Some(code));
        }
        assert_eq!([0x8B, 0x8E, 0x98, 0x9F].map(|code| by(&ended(code))), [None; 4]);
        assert_eq!([by(&Lost::Closed), by(&Lost::Unreadable { code: 0x95 })], [Some(0x80), Some(0x95)]);
        assert_eq!([by(&Lost::Refused(0x87)), by(&Lost::NoPong), by(&Lost::Late)], [None; 3]);
    }
}
