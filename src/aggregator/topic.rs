//! Which device says what, from the topic of a message.

use crate::limits;
use crate::wire::Lane;

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A block of this lane.
    Up(Lane),
    /// A heartbeat.
    Heartbeat,
    /// The retained state.
    State,
}

/// Splits `topic` below `prefix` into a checked device name and its subject; `None` for anything else.
pub fn parse<'a>(prefix: &str, topic: &'a str) -> Option<(&'a str, Subject)> {
    let mut levels = topic.strip_prefix(prefix)?.strip_prefix('/')?.split('/');
    let device = levels.next().filter(|name| is_device_name(name))?;
    let subject = match (levels.next()?, levels.next()) {
        ("up", Some(lane)) => Subject::Up(Lane::from_name(lane)?),
        ("hb", None) => Subject::Heartbeat,
        ("state", None) => Subject::State,
        _ => return None,
    };
    levels.next().is_none().then_some((device, subject))
}

/// 1 to [`limits::DEVICE_NAME_BYTES_MAX`] bytes of `A-Z a-z 0-9 _ - .`.
pub fn is_device_name(name: &str) -> bool {
    (1..=limits::DEVICE_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

/// What the aggregator subscribes to. Blocks may be shared among several aggregators on one database; every one of them
/// sees state and heartbeats.
pub fn subscriptions(prefix: &str, group: Option<&str>) -> Vec<String> {
    let up = match group {
        Some(group) => format!("$share/{group}/{prefix}/+/up/+"),
        None => format!("{prefix}/+/up/+"),
    };
    vec![up, format!("{prefix}/+/hb"), format!("{prefix}/+/state")]
}

/// Where a device listens for acknowledgements.
pub fn ack(prefix: &str, device: &str) -> String {
    format!("{prefix}/{device}/ack")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_names_a_device_and_a_subject_or_is_refused() {
        let is = |topic| parse("outpost/v1", topic);
        assert_eq!(is("outpost/v1/gw-1/up/alarm"), Some(("gw-1", Subject::Up(Lane::Alarm))));
        assert_eq!(is("outpost/v1/gw-1/hb"), Some(("gw-1", Subject::Heartbeat)));
        assert_eq!(is("outpost/v1/gw-1/state"), Some(("gw-1", Subject::State)));
        for bad in [
            "outpost/v1/gw-1/up/nothing",
            "outpost/v1/gw-1/up",
            "outpost/v1/gw-1/hb/x",
            "outpost/v1//hb",
            "outpost/v1/<b>/hb",
            "outpost/v1/gw-1/ack",
            "outpost/v1x/gw-1/hb",
            "other/gw-1/hb",
            "",
        ] {
            assert_eq!(is(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_blocks_are_shared() {
        let shared = subscriptions("p", Some("outpost"));
        assert_eq!(shared, ["$share/outpost/p/+/up/+", "p/+/hb", "p/+/state"]);
        assert_eq!(subscriptions("p", None)[0], "p/+/up/+");
    }
}
