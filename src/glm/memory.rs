//! Memory discipline: what could be taken without anybody being killed for it, and what the allocator keeps going back.
//!
//! Loading builds the model several times over (the file's form, the inferred graph, the optimised one); glibc keeps those pages
//! for later. The agent has no later of that size, so it asks for them to be returned. Other allocators do so by themselves.

#![allow(unsafe_code)]

use std::fs;
use std::path::Path;

/// Returns free pages to the system; a few milliseconds. Does nothing where the C library is not glibc.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: malloc_trim takes a number, touches free memory only and may be called from any thread (man 3 malloc_trim).
        let _ = unsafe { malloc_trim(0) };
    }
}

/// Bytes that could be taken now without anybody being killed for it, as far as the system tells: what the kernel calls
/// available, and no more than the control group of this process and those around it leave. `None` where nobody tells.
/// `root` is the directory under which `proc` and `sys` are.
pub fn available_bytes(root: &Path) -> Option<u64> {
    let machine = machine_bytes(root);
    [machine, group_bytes(root)].into_iter().flatten().min()
}

fn machine_bytes(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// What the tightest of our control groups leaves. A service manager bounds the group that it made for us, a container the
/// one around it, so all of them count, from ours to the top.
fn group_bytes(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let ours = text.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let files = if controllers.is_empty() { &V2 } else { &V1 };
        let counts = controllers.is_empty() || controllers.split(',').any(|name| name == "memory");
        counts.then_some((files, path.trim_start_matches('/')))
    });
    // In a container the path may be the machine's, and only the top is there: what is not there bounds nothing.
    let left = ours.flat_map(|(files, path)| {
        let groups = Path::new(path).ancestors();
        groups.filter_map(|group| files.left(&root.join(files.mount).join(group)))
    });
    left.min()
}

/// Where one version of control groups says what a group may take and takes.
struct GroupFiles {
    mount: &'static str,
    limit: &'static str,
    usage: &'static str,
    /// Of `memory.stat`: pages of files, which the kernel takes back before it kills.
    reclaimable: [&'static str; 2],
}

const V2: GroupFiles = GroupFiles {
    mount: "sys/fs/cgroup",
    limit: "memory.max",
    usage: "memory.current",
    reclaimable: ["inactive_file", "active_file"],
};

const V1: GroupFiles = GroupFiles {
    mount: "sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    reclaimable: ["total_inactive_file", "total_active_file"],
};

impl GroupFiles {
    /// Bytes until this group's limit; `None` where it has none (version 2 says `max`).
    fn left(&self, group: &Path) -> Option<u64> {
        let text = |name: &str| fs::read_to_string(group.join(name)).ok();
        let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
        let limit = number(self.limit)?;
        let stat = text("memory.stat").unwrap_or_default();
        let pages = stat.lines().filter_map(|line| line.split_once(' '));
        let pages = pages.filter(|(key, _)| self.reclaimable.contains(key));
        let reclaimable: u64 = pages.filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok()).sum();
        let used = number(self.usage).unwrap_or(0).saturating_sub(reclaimable);
        Some(limit.saturating_sub(used))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A machine of these files with 1000 MiB to spare.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let meminfo = format!("MemTotal: 9999999 kB\nMemAvailable:    {} kB\n", 1000 * MIB / 1024);
        for (path, text) in [("proc/meminfo", meminfo.as_str())].iter().chain(files) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn available_mib(files: &[(&str, String)]) -> Option<u64> {
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        available_bytes(machine(&files).path()).map(|bytes| bytes / MIB)
    }

    fn mib(n: u64) -> String {
        format!("{}\n", n * MIB)
    }

    #[test]
    fn the_limit_of_our_own_unit_and_of_the_slices_around_it_counts_less_what_is_in_use() {
        let unit = |limit: &str, slice: String| {
            available_mib(&[
                ("proc/self/cgroup", "0::/system.slice/outpost.service\n".into()),
                ("sys/fs/cgroup/system.slice/outpost.service/memory.max", limit.into()),
                ("sys/fs/cgroup/system.slice/outpost.service/memory.current", mib(300)),
                (
                    "sys/fs/cgroup/system.slice/outpost.service/memory.stat",
                    format!("anon 7\nfile 9\nactive_file {}inactive_file {}", mib(40), mib(60)),
                ),
                ("sys/fs/cgroup/system.slice/memory.max", slice),
                ("sys/fs/cgroup/system.slice/memory.current", mib(800)),
            ])
        };
        assert_eq!(unit(&mib(500), "max\n".into()), Some(300), "200 in use that no file gives back");
        assert_eq!(unit(&mib(100), "max\n".into()), Some(0), "over its limit");
        assert_eq!(unit("max\n", mib(900)), Some(100), "the slice is tighter");
        assert_eq!(unit("max\n", "max\n".into()), Some(1000), "the machine itself");
    }

    #[test]
    fn control_groups_of_the_first_version_count_too() {
        let group = "sys/fs/cgroup/memory/system.slice/outpost.service";
        let files = [
            ("limit_in_bytes", mib(400)),
            ("usage_in_bytes", mib(350)),
            ("stat", format!("active_file 1\ntotal_active_file {}total_inactive_file 0\n", mib(150))),
        ];
        let mut all = vec![(
            "proc/self/cgroup".to_owned(),
            "5:cpu,cpuacct:/x\n4:memory:/system.slice/outpost.service\n0::/y\n".to_owned(),
        )];
        all.extend(files.map(|(name, text)| (format!("{group}/memory.{name}"), text)));
        // The top says that there is no limit by a number without meaning.
        all.push(("sys/fs/cgroup/memory/memory.limit_in_bytes".into(), "9223372036854771712\n".into()));
        let all: Vec<(&str, String)> = all.iter().map(|(path, text)| (path.as_str(), text.clone())).collect();
        assert_eq!(available_mib(&all), Some(200));
    }

    #[test]
    fn within_a_container_the_top_is_the_containers() {
        let files = [
            ("proc/self/cgroup", "0::/docker/0123\n".to_owned()),
            ("sys/fs/cgroup/memory.max", mib(64)),
            ("sys/fs/cgroup/memory.current", mib(16)),
        ];
        assert_eq!(available_mib(&files), Some(48));
    }

    #[test]
    fn a_machine_that_tells_nothing_bounds_nothing() {
        assert_eq!(available_bytes(tempfile::tempdir().unwrap().path()), None);
        assert_eq!(available_mib(&[("proc/self/cgroup", "nonsense\n0\n".to_owned())]), Some(1000));
    }
}
