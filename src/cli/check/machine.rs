//! What this machine brings along: clock, disk, folders, sources, the model, free ports.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};

use super::{Finding, field, hardware};
use crate::clock;
use crate::config::{AgentConfig, AggregatorConfig, LinesInput, SourceConfig, SourceKind, bytes_text};
use crate::limits;
use crate::sync::budget::BudgetOptions;
use crate::time::ClockState;

/// Everything that the gateway seat needs of its machine.
pub fn agent(config: &AgentConfig) -> Vec<Finding> {
    let mut findings = vec![
        look_at_clock(clock::stamp().state),
        folder("data", &config.data_dir),
        disk(&config.data_dir, config.spool.bytes_max),
    ];
    findings.extend(budget(&config.budget));
    if config.digest.enabled {
        findings.extend(model(config));
        findings.extend(on_device(config));
    }
    findings.extend(config.sources.iter().flat_map(|found| source(found, &config.device)));
    findings.push(page("page", config.http.listen));
    findings
}

/// Everything that the cloud seat needs of its machine.
pub fn aggregator(config: &AggregatorConfig) -> Vec<Finding> {
    let parent = config.store.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    vec![
        look_at_clock(clock::stamp().state),
        folder("data", parent),
        disk(parent, limits::CHECK_STORE_FREE_BYTES),
        page("page", config.http.listen),
    ]
}

/// The budget of the line in words, if there is one.
fn budget(options: &BudgetOptions) -> Option<Finding> {
    let bytes = options.bytes_per_day.map(|n| format!("at most {} per day of UTC", bytes_text(n)));
    let windows = (!options.raw_windows.is_empty()).then(|| "single readings only at set times".to_owned());
    let said: Vec<String> = bytes.into_iter().chain(windows).collect();
    (!said.is_empty()).then(|| Finding::ok("line", format!("{}; alarms always go", said.join(", "))))
}

fn look_at_clock(state: ClockState) -> Finding {
    match state {
        ClockState::Unset => Finding::error(
            "clock",
            "the clock was never set: certificates will seem not yet valid",
            "set the time, or enable NTP: timedatectl set-ntp true",
        ),
        ClockState::Free => Finding::ok("clock", "plausible"),
        ClockState::Synced => Finding::ok("clock", "set, and kept right by the kernel"),
    }
}

/// Whether `dir` can be written to, or made where it is missing.
fn folder(area: &'static str, dir: &Path) -> Finding {
    let near = existing(dir);
    let whole = dir.display();
    if !near.is_dir() {
        let what = format!("{} is not a folder", near.display());
        return Finding::error(area, what, "name a folder in the configuration");
    }
    match access(&near, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if near == dir => Finding::ok(area, format!("{whole} can be written to")),
        Ok(()) => Finding::ok(area, format!("{whole} will be made")),
        Err(e) => Finding::error(
            area,
            format!("{} cannot be written to: {e}", near.display()),
            format!("give it to the user who runs outpost: chown {} {}", user(), near.display()),
        ),
    }
}

fn disk(dir: &Path, bytes_wanted: u64) -> Finding {
    let near = existing(dir);
    let free = match statvfs(&near) {
        Ok(fs) => fs.f_bavail.saturating_mul(fs.f_frsize),
        Err(e) => {
            let next = "make sure that the file system is mounted";
            return Finding::error("disk", format!("{}: {e}", near.display()), next);
        }
    };
    let said = format!("{} MiB free at {}", free >> 20, near.display());
    let wanted = bytes_text(bytes_wanted);
    if free >= bytes_wanted.saturating_mul(2) {
        Finding::ok("disk", said)
    } else if free >= limits::CHECK_DISK_BYTES_MIN {
        let next = format!("make room for twice {wanted}, or lower spool.bytes_max");
        Finding::warning(
            "disk",
            format!("{said}; {wanted} may be kept, and the file may grow to twice that"),
            next,
        )
    } else {
        Finding::error("disk", said, format!("make room for twice {wanted}"))
    }
}

/// Reads the model as the agent would: every file against the manifest, then through the runtime.
#[cfg(feature = "gateway")]
fn model(config: &AgentConfig) -> Option<Finding> {
    use crate::config::ModelChoice;
    use crate::glm::{Bundle, Model};
    let choice = &config.digest.model;
    if let Some(speaker) = crate::cli::run::glm(config).speaker {
        return Some(imported(&speaker));
    }
    let (name, bundle) = match choice {
        ModelChoice::Builtin => ("builtin".into(), Bundle::embedded()),
        ModelChoice::Folder(dir) => (dir.display().to_string(), Bundle::from_dir(dir)),
    };
    let loaded = bundle.map_err(|e| e.to_string()).and_then(|b| Model::load(b).map_err(|e| e.to_string()));
    Some(match loaded {
        Ok(model) => Finding::ok("model", format!("{name} reads and runs, sha256 {}", model.id())),
        Err(e) => {
            let next = "name the folder of a model, or set digest.model = \"builtin\"";
            Finding::error("model", format!("{name}: {e}; digests would be worded by the template"), next)
        }
    })
}

/// Looks at the file of a model that a device runs whole; `outpost backends` loads it.
#[cfg(feature = "gateway")]
fn on_device(config: &AgentConfig) -> Option<Finding> {
    let (device, model) = config.glm.device.as_ref()?;
    let about = |what: &str| format!("{} for {device} {what}", model.display());
    Some(match access(model, Access::READ_OK) {
        Ok(()) if model.is_file() => Finding::ok("model", about("can be read; `outpost backends` tries it")),
        Ok(()) => Finding::error("model", about("is no file"), "let glm.device_model name a file"),
        Err(e) => {
            Finding::error("model", about(&format!("can't be read: {e}")), "let glm.device_model name a file")
        }
    })
}

/// A build without the gateway seat has no devices.
#[cfg(not(feature = "gateway"))]
fn on_device(_: &AgentConfig) -> Option<Finding> {
    None
}

/// Opens an imported model within the memory that it may take.
#[cfg(feature = "gateway")]
fn imported(options: &crate::glm::SpeakerOptions) -> Finding {
    use crate::glm::speaker::Speaker;
    let name = options.dir.display();
    match Speaker::open(&options.dir, options.engine_within_memory(Path::new("/"))) {
        Ok(speaker) => {
            let mib = speaker.memory().total() >> 20;
            Finding::ok("model", format!("{name} is model {} and takes {mib} MiB at most", speaker.id()))
        }
        Err(e) => {
            let next = "mend what it says; `outpost model verify` looks closer";
            Finding::error("model", format!("{name}: {e}; digests would be worded by the student"), next)
        }
    }
}

/// A build without the gateway seat has no model to read.
#[cfg(not(feature = "gateway"))]
fn model(_: &AgentConfig) -> Option<Finding> {
    None
}

fn source(source: &SourceConfig, device: &str) -> Vec<Finding> {
    let about = |path: &Path, what: &str| format!("{}: {} {what}", source.name, path.display());
    match &source.kind {
        SourceKind::Host { mounts, .. } => mounts
            .iter()
            .map(|mount| match statvfs(mount) {
                Ok(_) => Finding::ok("source", about(mount, "is mounted")),
                Err(e) => {
                    let next = "mount it, or take it out of `mounts`";
                    Finding::error("source", about(mount, &e.to_string()), next)
                }
            })
            .collect(),
        SourceKind::Replay { paths, .. } => paths
            .iter()
            .map(|path| match access(path, Access::READ_OK) {
                Ok(()) if path.is_file() => Finding::ok("source", about(path, "can be read")),
                Ok(()) => Finding::error("source", about(path, "is not a file"), "name a CSV file"),
                Err(e) => {
                    Finding::error("source", about(path, &e.to_string()), "name a CSV file that can be read")
                }
            })
            .collect(),
        SourceKind::Lines { input: LinesInput::Stdin, .. } => Vec::new(),
        SourceKind::Lines { input: LinesInput::Unix(socket), .. } => {
            let parent = socket.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            vec![folder("source", parent)]
        }
        SourceKind::Lines { input: LinesInput::Tcp { listen, .. }, .. } => vec![page("source", *listen)],
        SourceKind::Field(config) => field::source(&source.name, config, device),
        kind => hardware::source(&source.name, kind),
    }
}

/// Whether the address is free, by taking it for a moment.
pub(super) fn page(area: &'static str, listen: SocketAddr) -> Finding {
    match TcpListener::bind(listen) {
        Ok(_) => Finding::ok(area, format!("{listen} is free")),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => Finding::warning(
            area,
            format!("{listen} is in use"),
            "if outpost is running, this is fine; if not, choose another port",
        ),
        Err(e) => Finding::error(
            area,
            format!("{listen}: {e}"),
            "choose an address of this machine and a port above 1023",
        ),
    }
}

/// `path`, or its closest ancestor that exists.
fn existing(path: &Path) -> PathBuf {
    let found = path.ancestors().find(|p| !p.as_os_str().is_empty() && p.exists());
    found.map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

fn user() -> String {
    std::env::var("USER").unwrap_or_else(|_| rustix::process::getuid().as_raw().to_string())
}

#[cfg(test)]
mod tests {
    use super::super::Mark;
    use super::*;

    #[test]
    fn a_folder_that_is_missing_is_looked_for_in_its_parents() {
        let dir = tempfile::tempdir().expect("temp dir");
        assert_eq!(folder("data", &dir.path().join("a/b/c")).mark, Mark::Ok);
        assert_eq!(folder("data", dir.path()).mark, Mark::Ok);
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("write");
        assert_eq!(folder("data", &file.join("below")).mark, Mark::Error);
    }

    #[test]
    fn a_disk_is_measured_against_twice_what_may_be_kept() {
        let dir = tempfile::tempdir().expect("temp dir");
        assert_eq!(disk(dir.path(), 1).mark, Mark::Ok);
        assert_ne!(disk(dir.path(), u64::MAX).mark, Mark::Ok);
    }

    #[test]
    fn a_taken_port_is_a_warning_and_a_foreign_address_an_error() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
        assert_eq!(page("page", taken.local_addr().expect("address")).mark, Mark::Warning);
        assert_eq!(page("page", SocketAddr::from(([192, 0, 2, 1], 9))).mark, Mark::Error);
    }

    #[test]
    fn a_recording_that_is_missing_is_an_error_of_its_source() {
        let kind = SourceKind::Replay {
            paths: vec!["/nowhere/plant.csv".into()],
            speed: 1.0,
            repeat: false,
            channel_prefix: String::new(),
        };
        let found = source(&SourceConfig { name: "plant".into(), kind }, "gw");
        assert_eq!((found.len(), found[0].mark), (1, Mark::Error));
        assert!(found[0].what.starts_with("plant: /nowhere/plant.csv"));
    }

    #[test]
    fn a_clock_that_was_never_set_is_an_error() {
        assert_eq!(look_at_clock(ClockState::Unset).mark, Mark::Error);
        assert_eq!(look_at_clock(ClockState::Free).mark, Mark::Ok);
    }
}
