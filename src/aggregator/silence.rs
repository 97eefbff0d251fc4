//! Which devices have stopped talking.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::limits;
use crate::observe;
use crate::observe::aggregator::{DeviceHeard, DeviceSilent};
use crate::time::Mono;

/// Latest heartbeats; at most [`limits::INTAKE_DEVICES_MAX`] devices.
pub struct Silence {
    after: Duration,
    devices: BTreeMap<String, Heard>,
}

struct Heard {
    at: Mono,
    silent: bool,
}

impl Silence {
    /// A device is silent `after` its latest heartbeat.
    pub fn new(after: Duration) -> Self {
        Self { after, devices: BTreeMap::new() }
    }

    /// A heartbeat of `device`.
    pub fn heard(&mut self, device: &str, now: Mono) {
        if let Some(heard) = self.devices.get_mut(device) {
            if heard.silent {
                observe::emit(&DeviceHeard { device });
            }
            *heard = Heard { at: now, silent: false };
        } else if self.devices.len() < limits::INTAKE_DEVICES_MAX {
            self.devices.insert(device.to_owned(), Heard { at: now, silent: false });
        }
    }

    /// Reports each device that has fallen silent, once.
    pub fn look(&mut self, now: Mono) {
        for (device, heard) in &mut self.devices {
            let silent_for = now.since(heard.at);
            if !heard.silent && silent_for > self.after {
                heard.silent = true;
                observe::emit(&DeviceSilent { device, silent_for });
            }
        }
    }

    /// How many are silent.
    #[cfg(test)]
    fn count(&self) -> usize {
        self.devices.values().filter(|heard| heard.silent).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_silent_after_its_time_and_no_longer_when_heard() {
        let mut silence = Silence::new(Duration::from_secs(90));
        silence.heard("a", Mono(0));
        silence.look(Mono(90_000_000));
        assert_eq!(silence.count(), 0);
        silence.look(Mono(90_000_001));
        assert_eq!(silence.count(), 1);
        silence.heard("a", Mono(91_000_000));
        assert_eq!(silence.count(), 0);
    }
}
