//! A machine made of files, and this one.

use std::fs;
use std::path::Path;

use super::*;
use crate::time::{BootId, ClockState};

fn machine() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("proc/stat", "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 2 3 4\n"),
        ("proc/loadavg", "0.52 0.58 0.59 1/467 12345\n"),
        ("proc/meminfo", "MemTotal:  1000 kB\nMemFree: 100 kB\nMemAvailable:  250 kB\n"),
        (
            "proc/diskstats",
            "   8 0 sda 5 0 1000 0 5 0 2000 0 0 0 0\n   8 1 sda1 5 0 1000 0 5 0 2000 0 0 0 0\n   7 0 loop0 1 0 8 0 0 0 0 0 0 0 0\n",
        ),
        (
            "proc/net/dev",
            "Inter-|   Receive\n face |bytes\n    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  eth0: 1000 9 1 0 0 0 0 0 500 9 2 0 0 0 0 0\n",
        ),
        ("sys/class/net/eth0/operstate", "up\n"),
        ("sys/class/net/wlan0/operstate", "down\n"),
        ("sys/class/net/lo/operstate", "unknown\n"),
        ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
        ("sys/class/thermal/thermal_zone0/temp", "48312\n"),
        ("sys/class/hwmon/hwmon0/name", "nvme\n"),
        ("sys/class/hwmon/hwmon0/temp1_label", "Composite\n"),
        ("sys/class/hwmon/hwmon0/temp1_input", "-5500\n"),
        ("sys/block/sda/size", "1\n"),
        ("data/x", ""),
    ] {
        put(dir.path(), path, text);
    }
    dir
}

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn host(root: &Path) -> Host {
    Host::new(HostOptions {
        root: root.into(),
        mounts: vec!["/".into(), "/data".into()],
        ..HostOptions::default()
    })
}

/// One poll, at second `s`.
fn poll(host: &mut Host, s: u64) -> (HashMap<String, Value>, Vec<ChannelInfo>) {
    let wall = Wall::from_secs(1_800_000_000 + s as i64);
    let mono = Mono(s * 1_000_000);
    let now = Stamp { wall, mono, boot: BootId::default(), uncertainty_us: 0, state: ClockState::Synced };
    let mut out = Vec::new();
    let infos = host.poll(now, &mut out);
    assert!(out.iter().all(|reading| reading.at == wall));
    let count = out.len();
    let map: HashMap<_, _> = out.into_iter().map(|r| (r.channel.to_string(), r.value)).collect();
    assert_eq!(map.len(), count, "a channel was read twice");
    (map, infos)
}

#[test]
fn every_vital_is_read_in_its_unit() {
    let dir = machine();
    let mut host = host(dir.path());
    let (first, described) = poll(&mut host, 1);
    assert_eq!(first["host.load1"], Ok(0.52));
    assert_eq!(first["host.memory"], Ok(75.0));
    assert_eq!((first["host.net.eth0.link"], first["host.net.wlan0.link"]), (Ok(1.0), Ok(0.0)));
    assert_eq!((first["host.temp.cpu-thermal"], first["host.temp.nvme_Composite"]), (Ok(48.312), Ok(-5.5)));
    assert!(first["host.disk.root"].unwrap() > 0.0 && first.contains_key("host.disk.data"));
    assert!(!first.keys().any(|k| k.contains(".lo.") || k == "host.cpu"), "{first:?}");
    let unit = |name: &str| described.iter().find(|i| i.id.as_str() == name).map(|i| i.unit.symbol());
    assert_eq!((unit("host.temp.cpu-thermal"), unit("host.memory")), (Some("°C"), Some("%")));
    assert!(described.iter().all(|info| info.asset.as_deref() == Some("host")));
}

#[test]
fn rates_are_growth_per_second() {
    let dir = machine();
    let mut host = host(dir.path());
    poll(&mut host, 1);
    put(dir.path(), "proc/stat", "cpu  150 0 150 750 150 0 0 0 0 0\n");
    put(dir.path(), "proc/diskstats", "8 0 sda 5 0 1010 0 5 0 2040 0 0 0 0\n");
    put(dir.path(), "proc/net/dev", "eth0: 3000 9 1 0 0 0 0 0 500 9 6 0 0 0 0 0\n");
    let (second, described) = poll(&mut host, 3);
    assert_eq!(second["host.cpu"], Ok(50.0));
    assert_eq!((second["host.diskio.sda.read"], second["host.diskio.sda.write"]), (Ok(2560.0), Ok(10_240.0)));
    assert_eq!((second["host.net.eth0.rx"], second["host.net.eth0.tx"]), (Ok(1000.0), Ok(0.0)));
    assert_eq!(second["host.net.eth0.errors"], Ok(2.0));
    assert!(!second.keys().any(|k| k.contains("sda1") || k.contains("loop0")));
    assert_eq!(described.len(), 6, "only what is new is described: {described:?}");
}

#[test]
fn a_vital_that_cannot_be_read_says_so() {
    let dir = machine();
    for (path, text) in
        [("proc/stat", "?"), ("proc/meminfo", "MemTotal: 0 kB\nMemAvailable: 0 kB"), ("proc/loadavg", "")]
    {
        put(dir.path(), path, text);
    }
    put(dir.path(), "sys/class/thermal/thermal_zone0/temp", "\n");
    let mut host = host(dir.path());
    host.mounts.push("/nowhere".into());
    let (read, _) = poll(&mut host, 1);
    for name in ["host.cpu", "host.memory", "host.load1", "host.temp.cpu-thermal", "host.disk.nowhere"] {
        assert_eq!(read[name], Err(NoData::ReadFailed), "{name}");
    }
}

#[test]
fn a_vital_that_is_gone_fails_for_a_while_and_is_then_forgotten() {
    let dir = machine();
    let mut host = host(dir.path());
    poll(&mut host, 1);
    fs::remove_dir_all(dir.path().join("sys/class/net/wlan0")).unwrap();
    for s in 0..u64::from(limits::HOST_MISSES_MAX) {
        assert_eq!(poll(&mut host, 2 + s).0["host.net.wlan0.link"], Err(NoData::ReadFailed));
    }
    assert!(!poll(&mut host, 100).0.contains_key("host.net.wlan0.link"));
    put(dir.path(), "sys/class/net/wlan0/operstate", "up");
    let (read, described) = poll(&mut host, 101);
    assert_eq!(read["host.net.wlan0.link"], Ok(1.0));
    assert_eq!(described.len(), 1, "it is described anew");
}

#[test]
fn two_zones_of_one_type_keep_apart() {
    let dir = machine();
    put(dir.path(), "sys/class/thermal/thermal_zone1/type", "cpu-thermal");
    put(dir.path(), "sys/class/thermal/thermal_zone1/temp", "50000");
    assert_eq!(poll(&mut host(dir.path()), 1).0["host.temp.cpu-thermal-2"], Ok(50.0));
}

#[test]
fn an_empty_machine_still_answers() {
    let dir = tempfile::tempdir().unwrap();
    let (read, _) = poll(&mut host(dir.path()), 1);
    assert_eq!(read["host.cpu"], Err(NoData::ReadFailed));
}

#[test]
fn this_machine_has_a_processor_and_memory() {
    let mut host = Host::new(HostOptions::default());
    poll(&mut host, 1);
    let (read, _) = poll(&mut host, 2);
    assert!((0.0..=100.0).contains(&read["host.memory"].unwrap()));
}
