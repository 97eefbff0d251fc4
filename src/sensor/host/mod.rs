//! The vitals of the machine itself, from `/proc`, `/sys` and the file systems.
//!
//! | channel | unit | from |
//! |---|---|---|
//! | `host.cpu` | % of all cores | `/proc/stat` |
//! | `host.load1` | runnable tasks, mean of a minute | `/proc/loadavg` |
//! | `host.memory` | % of RAM not available | `/proc/meminfo` |
//! | `host.disk.<mount>` | % used, `root` for `/` | statvfs |
//! | `host.diskio.<device>.read`, `.write` | By/s | `/proc/diskstats` |
//! | `host.net.<if>.rx`, `.tx` | By/s | `/proc/net/dev` |
//! | `host.net.<if>.errors` | errors per second, both ways | `/proc/net/dev` |
//! | `host.net.<if>.link` | 1 up, 0 down | `/sys/class/net/<if>/operstate` |
//! | `host.temp.<zone>` | Cel | `/sys/class/thermal`, `/sys/class/hwmon` |
//!
//! A rate needs two looks, so it is absent in the first poll and after its counter went back. A vital that was there
//! and is gone reads as [`NoData::ReadFailed`] for [`limits::HOST_MISSES_MAX`] polls and is forgotten then: an
//! interface that was removed for good shall not fail for ever.

pub(super) mod files;
mod rates;
mod thermal;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{Sensor, names};
use crate::limits;
use crate::reading::{ChannelId, ChannelInfo, NoData, Quantity, Reading, Value};
use crate::time::{Mono, Stamp, Wall};
use files::Root;
use rates::Rates;

/// Which vitals, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostOptions {
    /// Between two polls; 1 s by default.
    pub interval: Duration,
    /// Where `proc` and `sys` are; `/` but in tests and containers that see the host elsewhere.
    pub root: PathBuf,
    /// Mount points whose use is read; `/` by default.
    pub mounts: Vec<PathBuf>,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), root: PathBuf::from("/"), mounts: vec![PathBuf::from("/")] }
    }
}

/// The driver: one poll reads everything, a few dozen small files.
pub struct Host {
    root: Root,
    mounts: Vec<PathBuf>,
    rates: Rates,
    known: HashMap<ChannelId, u32>,
}

impl Host {
    /// Reads nothing yet.
    pub fn new(options: HostOptions) -> Self {
        let root = Root::new(options.root);
        Self { root, mounts: options.mounts, rates: Rates::default(), known: HashMap::new() }
    }

    fn gauges(&self, poll: &mut Poll<'_>) {
        let load = self.root.text("proc/loadavg").and_then(|text| files::load1(&text));
        poll.put("host.load1", Quantity::Load, "", "load average (1 min)", load);
        let memory = self.root.text("proc/meminfo").and_then(|text| files::memory_used(&text));
        poll.put("host.memory", Quantity::Memory, "%", "memory used", memory);
        for mount in &self.mounts {
            let shown = mount.display().to_string();
            let name = match shown.trim_matches('/') {
                "" => "root".to_owned(),
                inner => inner.replace('/', "_"),
            };
            let used = self.root.disk_used(mount);
            poll.put(
                &format!("host.disk.{name}"),
                Quantity::Disk,
                "%",
                &format!("disk used on {shown}"),
                used,
            );
        }
    }

    fn links(&self, poll: &mut Poll<'_>) {
        for name in self.root.entries("sys/class/net").into_iter().filter(|name| files::is_interface(name)) {
            let up = self
                .root
                .text(&format!("sys/class/net/{name}/operstate"))
                .map(|state| files::link_up(&state));
            poll.put(&format!("host.net.{name}.link"), Quantity::Link, "", &format!("link of {name}"), up);
        }
    }

    fn cpu_and_rates(&mut self, mono: Mono, poll: &mut Poll<'_>) {
        match self.root.text("proc/stat").and_then(|text| files::cpu_times(&text)) {
            Some(times) => {
                if let Some(busy) = self.rates.cpu(times) {
                    poll.put("host.cpu", Quantity::Cpu, "%", "processor load", Some(busy));
                } else {
                    poll.awaited("host.cpu");
                }
            }
            None => poll.put("host.cpu", Quantity::Cpu, "%", "processor load", None),
        }
        let disks =
            self.root.text("proc/diskstats").map(|text| files::disk_counters(&text)).unwrap_or_default();
        let disks = disks.into_iter().filter(|disk| self.root.is_disk(&disk.name));
        let nets = self.root.text("proc/net/dev").map(|text| files::net_counters(&text)).unwrap_or_default();
        for counter in
            disks.flat_map(files::Disk::counters).chain(nets.into_iter().flat_map(files::Net::counters))
        {
            match self.rates.per_second(&counter.channel, counter.total, mono) {
                Some(rate) => {
                    poll.put(&counter.channel, counter.quantity, counter.unit, &counter.label, Some(rate));
                }
                None => poll.awaited(&counter.channel),
            }
        }
        self.rates.forget_before(mono);
    }

    /// Those that were there once and did not show up in this poll.
    fn missing(&mut self, at: Wall, seen: &HashMap<ChannelId, ()>, out: &mut Vec<Reading>) {
        self.known.retain(|channel, misses| {
            if seen.contains_key(channel) {
                *misses = 0;
                return true;
            }
            *misses += 1;
            out.push(Reading::new(channel.clone(), at, Err(NoData::ReadFailed)));
            *misses < limits::HOST_MISSES_MAX
        });
    }
}

impl Sensor for Host {
    fn poll(&mut self, now: Stamp, out: &mut Vec<Reading>) -> Vec<ChannelInfo> {
        let mut poll = Poll { at: now.wall, out, seen: HashMap::new(), infos: Vec::new() };
        self.cpu_and_rates(now.mono, &mut poll);
        self.gauges(&mut poll);
        self.links(&mut poll);
        for zone in thermal::zones(&self.root) {
            poll.put(&zone.channel, Quantity::Temperature, "Cel", &zone.label, zone.celsius);
        }
        let Poll { seen, infos, .. } = poll;
        let fresh: Vec<_> = infos.into_iter().filter(|info| !self.known.contains_key(&info.id)).collect();
        self.missing(now.wall, &seen, out);
        self.known.extend(fresh.iter().map(|info| (info.id.clone(), 0)));
        fresh
    }
}

/// One poll under way.
struct Poll<'a> {
    at: Wall,
    out: &'a mut Vec<Reading>,
    /// Channels that need not be reported as missing.
    seen: HashMap<ChannelId, ()>,
    /// A description of every channel read in this poll.
    infos: Vec<ChannelInfo>,
}

impl Poll<'_> {
    /// A vital that is there; `None` if it can't be read.
    fn put(&mut self, channel: &str, quantity: Quantity, unit: &str, label: &str, value: Option<f64>) {
        // A name that is too long even for a file system's interface names has no channel; there is none on Linux.
        let Ok(id) = names::channel(channel) else { return };
        // The kernel numbers zones of one type alike; the first keeps the name.
        if self.infos.len() >= limits::CHANNELS_MAX || self.seen.insert(id.clone(), ()).is_some() {
            return;
        }
        let value: Value = value.filter(|x| x.is_finite()).ok_or(NoData::ReadFailed);
        self.out.push(Reading::new(id.clone(), self.at, value));
        let label = label.to_owned();
        self.infos.push(ChannelInfo { label, ..ChannelInfo::given(&id, quantity, unit) });
    }

    /// A rate that needs another look.
    fn awaited(&mut self, channel: &str) {
        if let Ok(id) = names::channel(channel) {
            self.seen.insert(id, ());
        }
    }
}

#[cfg(test)]
mod tests;
