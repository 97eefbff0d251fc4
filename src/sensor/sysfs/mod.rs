//! What kernel drivers publish as files: hardware monitors and thermal zones, industrial I/O, 1-Wire.
//!
//! | kind | from | channels |
//! |---|---|---|
//! | hwmon | `/sys/class/hwmon`, `/sys/class/thermal` | `<source>.<chip>.<input>` |
//! | iio | `/sys/bus/iio/devices`, one file per value | `<source>.<device>.<channel>` |
//! | w1 | `/sys/bus/w1/devices`, thermometers | `<source>.<id>` |
//!
//! Everything found is read at every look, so that what is plugged in later is there. What was there and is gone says so
//! for [`limits::HOST_MISSES_MAX`] looks. The course of a fast IIO device is read from its buffer: [`buffer`].

pub(super) mod buffer;
mod hwmon;
mod iio;
mod scan;
mod w1;

pub use buffer::BufferOptions;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use super::host::files::Root;
use super::{Sensor, names};
use crate::limits;
use crate::reading::{ChannelId, ChannelInfo, NoData, Quantity, Reading, Value, named_enum};
use crate::time::Stamp;

named_enum! {
    /// Which files.
    SysfsKind { Hwmon = "hwmon", Iio = "iio", W1 = "w1" }
}

/// Files to be read at a fixed pace.
#[derive(Debug, Clone, PartialEq)]
pub struct SysfsOptions {
    /// Which.
    pub kind: SysfsKind,
    /// First part of the channels' names.
    pub prefix: String,
    /// Between two looks.
    pub interval: Duration,
    /// Where `sys` is; `/` but in tests and containers.
    pub root: PathBuf,
}

/// One value found in a look.
struct Found {
    /// The channel's name without the prefix.
    name: String,
    quantity: Quantity,
    unit: &'static str,
    value: Value,
}

/// The driver.
pub struct Sysfs {
    options: SysfsOptions,
    tree: Root,
    /// Looks since a channel was last there.
    known: HashMap<ChannelId, u32>,
}

impl Sysfs {
    /// Reads nothing yet.
    pub fn new(options: SysfsOptions) -> Self {
        let tree = Root::new(options.root.clone());
        Self { options, tree, known: HashMap::new() }
    }

    fn look(&self) -> Vec<Found> {
        match self.options.kind {
            SysfsKind::Hwmon => hwmon::look(&self.tree),
            SysfsKind::Iio => iio::look(&self.tree),
            SysfsKind::W1 => w1::look(&self.tree),
        }
    }

    /// Its channel; none for a name that no channel can have, or beyond the bound.
    fn channel(&self, name: &str) -> Option<ChannelId> {
        let id = names::channel(&format!("{}.{name}", self.options.prefix)).ok()?;
        (self.known.contains_key(&id) || self.known.len() < limits::CHANNELS_MAX).then_some(id)
    }
}

impl Sensor for Sysfs {
    fn poll(&mut self, now: Stamp, out: &mut Vec<Reading>) -> Vec<ChannelInfo> {
        let mut seen = HashSet::new();
        let mut fresh = Vec::new();
        for found in self.look() {
            let Some(id) = self.channel(&found.name).filter(|id| seen.insert(id.clone())) else { continue };
            if self.known.insert(id.clone(), 0).is_none() {
                fresh.push(ChannelInfo::given(&id, found.quantity, found.unit));
            }
            out.push(Reading::new(id, now.wall, found.value));
        }
        self.known.retain(|channel, misses| {
            if !seen.contains(channel) {
                *misses += 1;
                out.push(Reading::new(channel.clone(), now.wall, Err(NoData::ReadFailed)));
            }
            *misses < limits::HOST_MISSES_MAX
        });
        fresh
    }
}

/// IIO devices that can be read from a buffer, as the kernel numbers them.
pub(super) fn buffered(tree: &Root) -> Vec<String> {
    let has_scan =
        |device: &String| !tree.entries(&format!("{}/{device}/scan_elements", iio::DEVICES)).is_empty();
    tree.entries(iio::DEVICES).into_iter().filter(has_scan).collect()
}

/// A number that stands alone in a file, if that is what it holds.
fn number(tree: &Root, path: &str) -> Option<f64> {
    tree.text(path)?.trim().parse::<f64>().ok().filter(|x| x.is_finite())
}

/// A short text that stands alone in a file, made fit for one part of a channel's name.
fn word(tree: &Root, path: &str) -> Option<String> {
    let text = tree.text(path)?;
    let shown: String = text.trim().chars().take(NAME_CHARS_MAX).collect();
    (!shown.is_empty()).then(|| part(&shown))
}

/// `name` as one part of a channel's name: a dot in it would look like two.
fn part(name: &str) -> String {
    names::sanitised(name).replace(['.', ':', '/'], "_").to_ascii_lowercase()
}

/// Two of them and a prefix stay within a channel's name.
const NAME_CHARS_MAX: usize = 24;

#[cfg(test)]
mod tests;
