//! The files of `/proc` and `/sys`, and what they say.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::limits;
use crate::reading::Quantity;

/// The directory under which `proc` and `sys` are.
pub(in crate::sensor) struct Root(PathBuf);

impl Root {
    pub(in crate::sensor) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// A file as text, at most [`limits::HOST_FILE_BYTES_MAX`] of it; nothing if it can't be read.
    pub(in crate::sensor) fn text(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::new();
        File::open(self.0.join(path)).ok()?.take(limits::HOST_FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Names in a directory, sorted, at most [`limits::HOST_ENTRIES_MAX`]; none if it isn't there.
    pub(in crate::sensor) fn entries(&self, path: &str) -> Vec<String> {
        let Ok(dir) = fs::read_dir(self.0.join(path)) else { return Vec::new() };
        let names = dir.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<_> = names.take(limits::HOST_ENTRIES_MAX).collect();
        names.sort();
        names
    }

    /// Percent of a file system that its ordinary users can't write to any more.
    pub(super) fn disk_used(&self, mount: &Path) -> Option<f64> {
        let inside = mount.strip_prefix("/").unwrap_or(mount);
        let stat = rustix::fs::statvfs(self.0.join(inside)).ok()?;
        let used = stat.f_blocks.checked_sub(stat.f_bfree)? as f64;
        percent(used, used + stat.f_bavail as f64)
    }

    /// Whether `name` is a whole disk with hardware behind it.
    pub(super) fn is_disk(&self, name: &str) -> bool {
        let is_virtual = ["loop", "ram", "zram", "dm-", "md", "sr", "fd"].iter().any(|p| name.starts_with(p));
        !is_virtual && self.0.join("sys/block").join(name).exists()
    }
}

/// Whether a network interface is worth watching: neither loopback nor one that only software knows.
pub(super) fn is_interface(name: &str) -> bool {
    name != "lo" && !["veth", "ifb", "dummy", "docker", "br-"].iter().any(|p| name.starts_with(p))
}

/// Busy and total time of all cores since boot, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CpuTimes {
    pub(super) busy: u64,
    pub(super) total: u64,
}

/// From `/proc/stat`; time waiting for a disk counts as idle, time stolen by other machines as busy.
pub(super) fn cpu_times(stat: &str) -> Option<CpuTimes> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // user nice system idle iowait irq softirq steal; guest time is inside user time already.
    let ticks: Vec<u64> = line.split_ascii_whitespace().take(8).map_while(|t| t.parse().ok()).collect();
    let total = ticks.iter().try_fold(0_u64, |sum, t| sum.checked_add(*t))?;
    let idle = ticks.get(3)?.checked_add(ticks.get(4).copied().unwrap_or(0))?;
    Some(CpuTimes { busy: total.checked_sub(idle)?, total })
}

/// The first number of `/proc/loadavg`.
pub(super) fn load1(loadavg: &str) -> Option<f64> {
    loadavg.split_ascii_whitespace().next()?.parse().ok()
}

/// Percent of memory that is not available to a new program.
pub(super) fn memory_used(meminfo: &str) -> Option<f64> {
    let kib = |key: &str| -> Option<f64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim_start_matches(':').split_ascii_whitespace().next()?.parse().ok()
    };
    let total = kib("MemTotal:")?;
    percent(total - kib("MemAvailable:")?, total)
}

fn percent(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| (100.0 * part / whole).clamp(0.0, 100.0))
}

/// 1 for an interface that can carry traffic; `unknown` is what drivers without a carrier say while they work.
pub(super) fn link_up(operstate: &str) -> f64 {
    if matches!(operstate.trim(), "up" | "unknown") { 1.0 } else { 0.0 }
}

/// A number that only grows, and the channel of its rate.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Counter {
    pub(super) channel: String,
    pub(super) label: String,
    pub(super) quantity: Quantity,
    pub(super) unit: &'static str,
    pub(super) total: u64,
}

/// One line of `/proc/diskstats`, in bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) name: String,
    read: u64,
    written: u64,
}

impl Disk {
    pub(super) fn counters(self) -> [Counter; 2] {
        let Disk { name, .. } = &self;
        [("read", "read from", self.read), ("write", "written to", self.written)].map(
            |(what, verb, total)| Counter {
                channel: format!("host.diskio.{name}.{what}"),
                label: format!("bytes {verb} {name}"),
                quantity: Quantity::Disk,
                unit: "By/s",
                total,
            },
        )
    }
}

/// Lines that don't look like a disk's are passed over.
pub(super) fn disk_counters(diskstats: &str) -> Vec<Disk> {
    let disk = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let bytes = |i: usize| words.get(i)?.parse::<u64>().ok()?.checked_mul(SECTOR_BYTES);
        Some(Disk { name: (*words.get(2)?).to_owned(), read: bytes(5)?, written: bytes(9)? })
    };
    diskstats.lines().filter_map(disk).take(limits::HOST_ENTRIES_MAX).collect()
}

/// The kernel counts in these, whatever the disk's own sectors are.
const SECTOR_BYTES: u64 = 512;

/// One line of `/proc/net/dev`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Net {
    name: String,
    received: u64,
    sent: u64,
    errors: u64,
}

impl Net {
    pub(super) fn counters(self) -> [Counter; 3] {
        let Net { name, .. } = &self;
        [
            ("rx", format!("bytes received on {name}"), Quantity::Network, "By/s", self.received),
            ("tx", format!("bytes sent on {name}"), Quantity::Network, "By/s", self.sent),
            ("errors", format!("errors on {name}"), Quantity::Count, "/s", self.errors),
        ]
        .map(|(what, label, quantity, unit, total)| Counter {
            channel: format!("host.net.{name}.{what}"),
            label,
            quantity,
            unit,
            total,
        })
    }
}

/// Lines that don't look like an interface's are passed over.
pub(super) fn net_counters(net_dev: &str) -> Vec<Net> {
    let net = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let n: Vec<u64> = numbers.split_ascii_whitespace().map_while(|t| t.parse().ok()).collect();
        let (&received, &sent) = (n.first()?, n.get(8)?);
        let errors = n.get(2)?.saturating_add(*n.get(10)?);
        Some(Net { name: name.trim().to_owned(), received, sent, errors })
    };
    net_dev
        .lines()
        .filter_map(net)
        .filter(|net| is_interface(&net.name))
        .take(limits::HOST_ENTRIES_MAX)
        .collect()
}
