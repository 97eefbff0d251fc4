//! Reason codes of MQTT 5 (section 2.4) in words, with the next step, and how long each keeps us away.

use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, PubAckReason, SubscribeReasonCode};

use crate::sync::backoff::Cause;
use crate::sync::uplink::Audience;

/// The broker's no to one publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// MQTT 5 reason code.
    pub code: u8,
    /// In words.
    pub text: &'static str,
}

/// What a code means and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// In words, to follow "broker: ".
    pub what: &'static str,
    /// The next step.
    pub next: &'static str,
}

/// The words for a code; one that the specification does not know gets general ones.
pub fn reason(code: u8) -> Reason {
    let known = TABLE.iter().find(|(of, ..)| *of == code);
    let (what, next) =
        known.map_or(("it gives no reason that is known here", LOG), |(_, what, next)| (*what, *next));
    Reason { what, next }
}

/// How a refused connection (CONNACK) or the broker's DISCONNECT with `code` bears on the next attempt: one that asks
/// for time, or that nothing but a person can mend, is left alone for longer than a line that broke.
pub(super) fn cause(code: u8) -> Cause {
    if HOLD_OFF.contains(&code) { Cause::HoldOff } else { Cause::BrokerClosed }
}

/// The code of a DISCONNECT if it may be the answer to a publish (one on a topic that is forbidden, too): not what the broker
/// says of itself or of the session.
pub(super) fn of_a_publish(code: u8) -> Option<u8> {
    let about = matches!(code, UNSPECIFIED..=0x83 | 0x87 | TOPIC_NAME_INVALID | PACKET_TOO_LARGE | 0x99);
    about.then_some(code)
}

pub(super) fn refusal(code: u8) -> Refusal {
    Refusal { code, text: reason(code).what }
}

/// The outcome of a publish (section 3.4.2.1).
pub(super) fn publish(reason: PubAckReason) -> Result<Audience, Refusal> {
    let code = match reason {
        PubAckReason::Success => return Ok(Audience::Unknown),
        PubAckReason::NoMatchingSubscribers => return Ok(Audience::Nobody),
        PubAckReason::UnspecifiedError => UNSPECIFIED,
        PubAckReason::ImplementationSpecificError => 0x83,
        PubAckReason::NotAuthorized => 0x87,
        PubAckReason::TopicNameInvalid => TOPIC_NAME_INVALID,
        PubAckReason::PacketIdentifierInUse => 0x91,
        PubAckReason::QuotaExceeded => 0x97,
        PubAckReason::PayloadFormatInvalid => 0x99,
    };
    Err(refusal(code))
}

/// Whether a filter was granted (section 3.9.3).
pub(super) fn subscription(reason: &SubscribeReasonCode) -> Result<(), u8> {
    Err(match reason {
        SubscribeReasonCode::Success(_) => return Ok(()),
        SubscribeReasonCode::Failure | SubscribeReasonCode::Unspecified => UNSPECIFIED,
        SubscribeReasonCode::ImplementationSpecific => 0x83,
        SubscribeReasonCode::NotAuthorized => 0x87,
        SubscribeReasonCode::TopicFilterInvalid => 0x8F,
        SubscribeReasonCode::PkidInUse => 0x91,
        SubscribeReasonCode::QuotaExceeded => 0x97,
        SubscribeReasonCode::SharedSubscriptionsNotSupported => 0x9E,
        SubscribeReasonCode::SubscriptionIdNotSupported => 0xA1,
        SubscribeReasonCode::WildcardSubscriptionsNotSupported => 0xA2,
    })
}

/// The code of a refused connection (section 3.2.2.2); rumqttc keeps those of 3.1.1 apart, which a broker that knows no
/// MQTT 5 answers with.
pub(super) fn connection(code: ConnectReturnCode) -> u8 {
    use ConnectReturnCode as C;
    match code {
        C::Success => 0,
        C::UnspecifiedError => UNSPECIFIED,
        C::MalformedPacket => 0x81,
        C::ProtocolError => 0x82,
        C::ImplementationSpecificError => 0x83,
        C::RefusedProtocolVersion | C::UnsupportedProtocolVersion => 0x84,
        C::BadClientId | C::ClientIdentifierNotValid => 0x85,
        C::BadUserNamePassword => 0x86,
        C::NotAuthorized => 0x87,
        C::ServiceUnavailable | C::ServerUnavailable => 0x88,
        C::ServerBusy => 0x89,
        C::Banned => 0x8A,
        C::BadAuthenticationMethod => 0x8C,
        C::TopicNameInvalid => TOPIC_NAME_INVALID,
        C::PacketTooLarge => PACKET_TOO_LARGE,
        C::QuotaExceeded => 0x97,
        C::PayloadFormatInvalid => 0x99,
        C::RetainNotSupported => 0x9A,
        C::QoSNotSupported => 0x9B,
        C::UseAnotherServer => 0x9C,
        C::ServerMoved => 0x9D,
        C::ConnectionRateExceeded => 0x9F,
    }
}

/// The code in MQTT 5 for a return code of MQTT 3.1.1 (section 3.2.2.3 there).
pub fn from_3_1_1(code: u8) -> u8 {
    match code {
        1 => 0x84,
        2 => 0x85,
        3 => 0x88,
        4 => 0x86,
        5 => 0x87,
        other => other,
    }
}

pub(super) const UNSPECIFIED: u8 = 0x80;
pub(super) const TOPIC_NAME_INVALID: u8 = 0x90;
pub(super) const PACKET_TOO_LARGE: u8 = 0x95;

/// Version, name, password, rights; unavailable, busy, banned, authentication; taken over by a client with our id, and
/// coming back at once would throw that one out in turn; too fast; quota; retain, QoS; go elsewhere; too many at once.
const HOLD_OFF: &[u8] =
    &[0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x8E, 0x96, 0x97, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F];

const LOG: &str = "look into the broker's log";
const LATER: &str = "nothing to do here, it is tried again";
const ELSEWHERE: &str = "set mqtt.host to the server that its operator names";
const REPORT: &str = "report it together with the broker's name and version";

const TABLE: &[(u8, &str, &str)] = &[
    (UNSPECIFIED, "unspecified error", LOG),
    (0x81, "malformed packet", REPORT),
    (0x82, "protocol error", REPORT),
    (0x83, "not accepted by this broker's own rules", LOG),
    (0x84, "it does not speak this version of MQTT", "set mqtt.protocol to the other one"),
    (0x85, "it does not accept the client id", "set mqtt.client_id to one that the broker allows"),
    (0x86, "bad user name or password", "let the broker accept the certificate alone"),
    (0x87, "not authorised", "allow this device's certificate and its topics in the broker's access rules"),
    (0x88, "it is not available", LATER),
    (0x89, "it is busy", LATER),
    (0x8A, "this client is banned", "ask the broker's operator"),
    (0x8B, "it is shutting down", LATER),
    (0x8C, "it wants another way of authentication", "let the broker accept the certificate alone"),
    (0x8D, "it heard nothing for one and a half keep-alives", "raise mqtt.keep_alive if the line is slow"),
    (0x8E, "another client came with the same id", "give every device an mqtt.client_id of its own"),
    (0x8F, "topic filter not accepted", "check mqtt.prefix"),
    (TOPIC_NAME_INVALID, "not a topic to publish on", "check mqtt.prefix"),
    (0x91, "packet identifier in use", LATER),
    (0x92, "packet identifier not found", REPORT),
    (0x93, "more publishes under way than it allows", "lower mqtt.window"),
    (0x94, "topic alias not accepted, and none is used here", REPORT),
    (PACKET_TOO_LARGE, "larger than the broker's maximum packet size", "raise that in the broker"),
    (0x96, "messages come faster than it allows", "raise its limit, or lower mqtt.window"),
    (0x97, "quota exceeded", "raise its limit"),
    (0x98, "ended by its operator", LATER),
    (0x99, "payload not accepted", "let it take binary payloads, or set mqtt.payload = \"json\""),
    (0x9A, "it keeps no retained messages", "allow them for the state topic"),
    (0x9B, "it takes no QoS 1", "allow it; without it nothing is acknowledged"),
    (0x9C, "it sends clients to another server", ELSEWHERE),
    (0x9D, "it has moved to another server", ELSEWHERE),
    (0x9E, "it has no shared subscriptions", "set mqtt.shared = false"),
    (0x9F, "too many connect at once", LATER),
    (0xA0, "the connection has reached its longest time", LATER),
    (0xA1, "no subscription identifiers", REPORT),
    (0xA2, "no wildcards in subscriptions", "allow them; an aggregator hears its fleet through them"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_for_a_refused_publish_is_told_apart() {
        use PubAckReason as P;
        assert_eq!(
            [P::Success, P::NoMatchingSubscribers].map(publish),
            [Ok(Audience::Unknown), Ok(Audience::Nobody)]
        );
        let refused = [
            (P::UnspecifiedError, 0x80),
            (P::ImplementationSpecificError, 0x83),
            (P::NotAuthorized, 0x87),
            (P::TopicNameInvalid, 0x90),
            (P::PacketIdentifierInUse, 0x91),
            (P::QuotaExceeded, 0x97),
            (P::PayloadFormatInvalid, 0x99),
        ];
        for (reason, code) in refused {
            assert_eq!(publish(reason).unwrap_err().code, code);
        }
    }

    #[test]
    fn the_table_is_in_order_and_complete_and_each_line_says_what_to_do() {
        let codes: Vec<u8> = TABLE.iter().map(|(code, ..)| *code).collect();
        assert_eq!(codes, (0x80..=0xA2).collect::<Vec<u8>>());
        assert!(TABLE.iter().all(|(_, what, next)| !what.is_empty() && !next.is_empty()));
        assert_eq!(reason(0x44).next, LOG);
    }

    #[test]
    fn a_broker_that_asks_for_time_gets_it_and_one_that_restarts_is_come_back_to() {
        use ConnectReturnCode as C;
        let away = [
            C::ServerBusy,
            C::QuotaExceeded,
            C::UseAnotherServer,
            C::ServerMoved,
            C::Banned,
            C::NotAuthorized,
            C::ConnectionRateExceeded,
            C::ServiceUnavailable,
            C::BadClientId,
            C::RefusedProtocolVersion,
        ];
        assert!(away.iter().all(|code| cause(connection(*code)) == Cause::HoldOff));
        for code in [0x00, 0x8B, 0x8D, 0x98, 0xA0] {
            assert_eq!(cause(code), Cause::BrokerClosed, "{code:#04x}");
        }
        assert!((1..=5).all(|code| cause(from_3_1_1(code)) == Cause::HoldOff));
        assert_eq!(cause(0x8E), Cause::HoldOff, "two clients with one id would throw each other out");
    }
}
