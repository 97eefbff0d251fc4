//! Names from outside into channel names.

use crate::reading::{BadChannelName, ChannelId, ChannelInfo, Unit};

/// The channel called `raw`, every character that a channel name can't have replaced by `_`.
///
/// Errors: the name is empty or longer than [`crate::limits::CHANNEL_NAME_BYTES_MAX`]; the source's fault.
pub(super) fn channel(raw: &str) -> Result<ChannelId, BadChannelName> {
    match ChannelId::new(raw) {
        Ok(id) => Ok(id),
        Err(_) => ChannelId::new(&sanitised(raw)),
    }
}

/// `raw` with one `_` for every character that a channel name can't have.
pub(super) fn sanitised(raw: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-./:".contains(c);
    raw.chars().map(|c| if fits(c) { c } else { '_' }).collect()
}

/// What can be said of a channel by its name, with the source's own spelling as the label.
pub(super) fn described(id: &ChannelId, raw: &str, unit: Option<&str>) -> ChannelInfo {
    let mut info = ChannelInfo::guess(id);
    info.label = raw.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if let Some(unit) = unit {
        info.unit = Unit(unit.to_owned());
        info.unit_given = true;
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_name_keeps_its_spelling_as_the_label() {
        let id = channel("pump 1.Lagertemperatür").unwrap();
        assert_eq!(id.as_str(), "pump_1.Lagertemperat_r");
        let info = described(&id, "pump 1.Lagertemperatür", Some("K"));
        assert_eq!((info.label.as_str(), info.unit.0.as_str()), ("pump 1.Lagertemperatür", "K"));
    }

    #[test]
    fn an_empty_or_endless_name_is_refused() {
        assert!(channel("").is_err());
        assert!(channel(&"ü".repeat(crate::limits::CHANNEL_NAME_BYTES_MAX + 1)).is_err());
    }
}
