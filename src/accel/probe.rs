//! The accelerators that are known, and what a look at this machine tells of each: device nodes, libraries, permissions.
//!
//! A look reads directories, links and the first bytes of libraries. It never opens a device and never loads a vendor's code:
//! a driver that is broken must not break the one who asks whether it is there.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::{Refused, Stage, State};
use crate::limits;
use crate::reading::named_enum;

named_enum! {
    /// How an accelerator is spoken with.
    Route {
        /// A TensorFlow Lite external delegate: the library has two symbols, whatever the vendor.
        Delegate = "delegate",
        /// An interface of the vendor's own, behind a plug-in.
        Plugin = "plugin",
    }
}

/// An accelerator that is known.
#[derive(Debug)]
pub struct Npu {
    /// What configuration calls it.
    pub id: &'static str,
    /// What people call it.
    pub name: &'static str,
    /// Where its device shows; any of them.
    traces: &'static [Trace],
    /// File of the library that the board's system brings.
    pub library: &'static str,
    /// How it is spoken with.
    pub route: Route,
    /// What kind of model it takes.
    pub model: &'static str,
    /// What its library must be told at least.
    pub options: &'static str,
    /// File of the vendor's runtime for language models beside it, and what kind of model that takes: behind the
    /// same plug-in, where that has the functions for it.
    pub language: Option<(&'static str, &'static str)>,
}

/// How a device shows.
#[derive(Debug)]
enum Trace {
    /// A device node; `*` at the end of its name stands for any digits.
    Node(&'static str),
    /// A node of `class` (`drm`, `accel`) whose driver is one of `drivers`; the nodes of a class all look alike.
    Driven { class: &'static str, drivers: &'static [&'static str] },
    /// A device on USB, by vendor and product in hexadecimal.
    Usb(&'static str, &'static str),
    /// A remote processor whose name contains this.
    Remote(&'static str),
}

/// From documents, not from hardware: which node and which library belong to which chip.
pub static NPUS: &[Npu] = &[
    Npu {
        id: "vx",
        name: "NXP i.MX8M Plus",
        traces: &[Trace::Node("dev/galcore")],
        library: "libvx_delegate.so",
        route: Route::Delegate,
        model: "int8 .tflite",
        options: "",
        language: None,
    },
    Npu {
        id: "ethosu",
        name: "NXP i.MX93 (Ethos-U65)",
        traces: &[Trace::Node("dev/ethosu*")],
        library: "libethosu_delegate.so",
        route: Route::Delegate,
        model: ".tflite compiled by Vela",
        options: "",
        language: None,
    },
    Npu {
        id: "neutron",
        name: "NXP i.MX95 (Neutron)",
        traces: &[Trace::Node("dev/neutron*")],
        library: "libneutron_delegate.so",
        route: Route::Delegate,
        model: ".tflite from the Neutron converter",
        options: "",
        language: None,
    },
    Npu {
        id: "teflon",
        name: "Mesa Teflon (etnaviv, rocket, Ethos-U)",
        traces: &[
            Trace::Driven { class: "drm", drivers: &["etnaviv"] },
            Trace::Driven { class: "accel", drivers: &["rocket", "ethosu"] },
        ],
        library: "libteflon.so",
        route: Route::Delegate,
        model: "int8 convolutional .tflite",
        options: "",
        language: None,
    },
    Npu {
        id: "edgetpu",
        name: "Google Coral",
        traces: &[Trace::Node("dev/apex_*"), Trace::Usb("18d1", "9302"), Trace::Usb("1a6e", "089a")],
        library: "libedgetpu.so.1",
        route: Route::Delegate,
        model: ".tflite from the Edge TPU compiler",
        options: "",
        language: None,
    },
    Npu {
        id: "tidl",
        name: "TI TDA4 / AM6xA",
        traces: &[Trace::Remote("c7x"), Trace::Remote("c71")],
        library: "libtidl_tfl_delegate.so",
        route: Route::Delegate,
        model: ".tflite with TIDL artifacts",
        options: "artifacts_folder=/etc/outpost/freezer/artifacts",
        language: None,
    },
    Npu {
        id: "qnn",
        name: "Qualcomm QCS (Hexagon)",
        traces: &[Trace::Node("dev/fastrpc-cdsp*")],
        library: "libQnnTFLiteDelegate.so",
        route: Route::Delegate,
        model: "int8 .tflite",
        options: "backend_type=htp",
        language: None,
    },
    Npu {
        id: "rknn",
        name: "Rockchip RK35xx",
        traces: &[Trace::Driven { class: "drm", drivers: &["RKNPU", "rknpu"] }],
        library: "librknnrt.so",
        route: Route::Plugin,
        model: ".rknn",
        options: "",
        language: Some(("librkllmrt.so", ".rkllm")),
    },
    Npu {
        id: "hailo",
        name: "Hailo-8 / 10H",
        traces: &[Trace::Node("dev/hailo*")],
        library: "libhailort.so",
        route: Route::Plugin,
        model: ".hef",
        options: "",
        language: None,
    },
    Npu {
        id: "ascend",
        name: "Huawei Ascend 310",
        traces: &[Trace::Node("dev/davinci*")],
        library: "libascendcl.so",
        route: Route::Plugin,
        model: ".om",
        options: "",
        language: None,
    },
];

/// What was found of one accelerator.
#[derive(Debug)]
pub struct Found {
    /// Which one.
    pub npu: &'static Npu,
    /// [`State::Absent`] or [`State::Probed`]: nothing is loaded here.
    pub state: State,
    /// Its devices.
    pub devices: Vec<PathBuf>,
    /// Its library, if there is one that this machine can load.
    pub library: Option<PathBuf>,
    /// Its runtime for language models, likewise.
    pub language: Option<PathBuf>,
    /// Why it could not be used as it is, each with the next step.
    pub problems: Vec<String>,
}

/// Looks for every accelerator below `root`, which is `/` but for tests and containers. Blocks on small reads.
pub fn probe(root: &Path) -> Vec<Found> {
    NPUS.iter().map(|npu| look(npu, root)).collect()
}

fn look(npu: &'static Npu, root: &Path) -> Found {
    let devices: Vec<PathBuf> = npu.traces.iter().flat_map(|trace| trace.find(root)).collect();
    let mut problems: Vec<String> = devices.iter().filter_map(|device| refused(device)).collect();
    if devices.is_empty() {
        return Found { npu, state: State::Absent, devices, library: None, language: None, problems };
    }
    let mut usable = |name| find_library(name, root).map_err(|problem| problems.push(problem)).ok();
    let library = usable(npu.library);
    // Small models do without it: it is a problem only where it is there and can't be loaded.
    let language = npu.language.filter(|(name, _)| installed(name, root).is_some());
    let language = language.and_then(|(name, _)| usable(name));
    Found { npu, state: State::Probed, devices, library, language, problems }
}

impl Trace {
    fn find(&self, root: &Path) -> Vec<PathBuf> {
        match self {
            Trace::Node(pattern) => nodes(&root.join(pattern)),
            Trace::Driven { class, drivers } => driven(root, class, drivers),
            Trace::Usb(vendor, product) => entries(&root.join("sys/bus/usb/devices"))
                .filter(|dir| says(dir, "idVendor", vendor) && says(dir, "idProduct", product))
                .map(|dir| usb_node(root, &dir).unwrap_or(dir))
                .collect(),
            Trace::Remote(name) => entries(&root.join("sys/class/remoteproc"))
                .filter(|dir| read_word(&dir.join("name")).is_some_and(|found| found.contains(name)))
                .collect(),
        }
    }
}

/// The node through which a device on USB is opened.
fn usb_node(root: &Path, dir: &Path) -> Option<PathBuf> {
    let number = |name| read_word(&dir.join(name))?.parse::<u16>().ok();
    let (bus, device) = (number("busnum")?, number("devnum")?);
    Some(root.join(format!("dev/bus/usb/{bus:03}/{device:03}")))
}

/// The nodes of `class` whose driver is one of `drivers`.
fn driven(root: &Path, class: &str, drivers: &[&str]) -> Vec<PathBuf> {
    let (prefix, folder) = if class == "drm" { ("renderD", "dev/dri") } else { ("accel", "dev/accel") };
    let named =
        |dir: &PathBuf| dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    let driver = |dir: &PathBuf| {
        let link = fs::read_link(dir.join("device/driver")).ok()?;
        Some(link.file_name()?.to_string_lossy().into_owned())
    };
    entries(&root.join("sys/class").join(class))
        .filter(named)
        .filter(|dir| driver(dir).is_some_and(|found| drivers.contains(&found.as_str())))
        .filter_map(|dir| Some(root.join(folder).join(dir.file_name()?)))
        .collect()
}

/// The files that `pattern` names; a `*` at its end stands for digits.
fn nodes(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let Some(stem) = name.strip_suffix('*') else {
        return pattern.exists().then(|| pattern.to_owned()).into_iter().collect();
    };
    let fits = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.strip_prefix(stem).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
    };
    entries(pattern.parent().unwrap_or(Path::new("/"))).filter(fits).collect()
}

/// The entries of a folder in order of name, none where there is no such folder.
fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let listed = fs::read_dir(dir).into_iter().flatten().flatten().take(limits::PROBE_ENTRIES_MAX);
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.path()).collect();
    paths.sort();
    paths.into_iter()
}

fn says(dir: &Path, file: &str, word: &str) -> bool {
    read_word(&dir.join(file)).is_some_and(|found| found == word)
}

fn read_word(path: &Path) -> Option<String> {
    let mut text = String::new();
    fs::File::open(path).ok()?.take(256).read_to_string(&mut text).ok()?;
    Some(text.trim().to_lowercase())
}

/// Why a device can't be used by this process.
fn refused(device: &Path) -> Option<String> {
    // What stands below /sys only tells that the device is there.
    if device.components().any(|part| part.as_os_str() == "sys") {
        return None;
    }
    match rustix::fs::access(device, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => None,
        Err(error) => Some(format!(
            "{}: {error}; let the agent's user into the group that the device belongs to",
            device.display()
        )),
    }
}

/// The library `name` where a system keeps libraries. Errors: in words, with the next step.
fn find_library(name: &str, root: &Path) -> Result<PathBuf, String> {
    let path = installed(name, root)
        .ok_or_else(|| format!("{name} is not installed; install the board's package for it"))?;
    check_library(&path).map(|()| path)
}

fn installed(name: &str, root: &Path) -> Option<PathBuf> {
    library_folders(root).map(|dir| dir.join(name)).find(|path| path.exists())
}

/// Where libraries are looked for, the board's own first; Debian keeps Mesa's delegate in a folder of its own.
pub fn library_folders(root: &Path) -> impl Iterator<Item = PathBuf> {
    let triple = format!(
        "{}-linux-gnu{}",
        std::env::consts::ARCH,
        if cfg!(target_arch = "arm") { "eabihf" } else { "" }
    );
    [
        format!("usr/lib/{triple}"),
        "usr/lib".into(),
        "usr/lib64".into(),
        "lib".into(),
        "usr/local/lib".into(),
        "usr/lib/teflon".into(),
    ]
    .map(|dir| root.join(dir))
    .into_iter()
}

/// Whether the dynamic loader could take the file: readable, a shared library, for this processor. Reads its first bytes.
fn check_library(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let mut head = [0; 20];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut head)).map_err(|error| {
        format!("{shown} can't be read: {error}; mend its permissions or install it again")
    })?;
    if head[..4] != *b"\x7fELF" {
        return Err(format!("{shown} is no shared library; install it again"));
    }
    let found = (head[4], u16::from_le_bytes([head[18], head[19]]));
    if found != OWN_MACHINE {
        let name = MACHINES
            .iter()
            .find(|(machine, _)| *machine == found)
            .map_or("another processor", |(_, name)| name);
        return Err(format!(
            "{shown} is made for {name}, not for this one; install the package of this architecture"
        ));
    }
    Ok(())
}

/// The same for a device's library, in the words of the backend `by`. Errors: at stage `find` where there is no such file, else at
/// `load`.
pub fn look_at_library(by: &str, path: &Path) -> Result<(), Refused> {
    let stage = if path.exists() { Stage::Load } else { Stage::Find };
    check_library(path).map_err(|what| Refused::new(by, stage, what))
}

/// Class and machine of an ELF file (System V ABI, figure 4-3).
type Machine = (u8, u16);

const MACHINES: &[(Machine, &str)] = &[
    ((2, 62), "x86-64"),
    ((2, 183), "aarch64"),
    ((1, 40), "32-bit ARM"),
    ((1, 3), "32-bit x86"),
    ((2, 243), "RISC-V"),
];

const OWN_MACHINE: Machine = if cfg!(target_arch = "x86_64") {
    (2, 62)
} else if cfg!(target_arch = "aarch64") {
    (2, 183)
} else if cfg!(target_arch = "arm") {
    (1, 40)
} else {
    (2, 243)
};

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// A machine made of files.
    struct Board(tempfile::TempDir);

    impl Board {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn file(&self, path: &str, content: &[u8]) -> PathBuf {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            path
        }

        fn driver(&self, node: &str, driver: &str) {
            let device = self.0.path().join("sys/class").join(node).join("device");
            fs::create_dir_all(&device).unwrap();
            symlink(format!("../drivers/{driver}"), device.join("driver")).unwrap();
        }

        fn look(&self, id: &str) -> Found {
            probe(self.0.path()).into_iter().find(|found| found.npu.id == id).unwrap()
        }

        fn present(&self) -> Vec<&'static str> {
            probe(self.0.path()).iter().filter(|f| f.state == State::Probed).map(|f| f.npu.id).collect()
        }
    }

    fn elf(machine: Machine) -> Vec<u8> {
        let mut head = vec![0; 64];
        head[..5].copy_from_slice(&[0x7f, b'E', b'L', b'F', machine.0]);
        head[18..20].copy_from_slice(&machine.1.to_le_bytes());
        head
    }

    #[test]
    fn a_bare_machine_has_nothing_and_says_nothing_else() {
        let board = Board::new();
        assert_eq!(board.present(), Vec::<&str>::new());
        assert!(probe(board.0.path()).iter().all(|f| f.problems.is_empty() && f.library.is_none()));
    }

    #[test]
    fn every_accelerator_is_found_by_its_trace_and_by_no_other() {
        for (id, make) in [
            ("vx", (|b| drop(b.file("dev/galcore", b""))) as fn(&Board)),
            ("ethosu", |b| drop(b.file("dev/ethosu0", b""))),
            ("neutron", |b| drop(b.file("dev/neutron0", b""))),
            ("teflon", |b| b.driver("drm/renderD128", "etnaviv")),
            ("teflon", |b| b.driver("accel/accel0", "rocket")),
            ("edgetpu", |b| drop(b.file("dev/apex_0", b""))),
            ("edgetpu", |b| {
                b.file("sys/bus/usb/devices/1-1/idVendor", b"18d1\n");
                b.file("sys/bus/usb/devices/1-1/idProduct", b"9302\n");
            }),
            ("tidl", |b| drop(b.file("sys/class/remoteproc/remoteproc0/name", b"7e000000.c7x\n"))),
            ("qnn", |b| drop(b.file("dev/fastrpc-cdsp", b""))),
            ("rknn", |b| b.driver("drm/renderD129", "RKNPU")),
            ("hailo", |b| drop(b.file("dev/hailo0", b""))),
            ("ascend", |b| drop(b.file("dev/davinci0", b""))),
        ] {
            let board = Board::new();
            // A graphics processor and other folk, which are none of these.
            board.driver("drm/renderD127", "i915");
            board.file("dev/ethosu_manager", b"");
            make(&board);
            assert_eq!(board.present(), [id]);
        }
    }

    #[test]
    fn what_is_missing_or_does_not_fit_is_told_with_the_next_step() {
        let board = Board::new();
        board.file("dev/galcore", b"");
        assert!(board.look("vx").problems[0].contains("libvx_delegate.so is not installed"));
        let other = if OWN_MACHINE.1 == 183 { (2, 62) } else { (2, 183) };
        board.file("usr/lib/libvx_delegate.so", &elf(other));
        let found = board.look("vx");
        assert!(
            found.library.is_none() && found.problems[0].contains("architecture"),
            "{:?}",
            found.problems
        );
        board.file("usr/lib/libvx_delegate.so", b"404 Not Found, says a web server");
        assert!(board.look("vx").problems[0].contains("no shared library"));
        let library = board.file("usr/lib/libvx_delegate.so", &elf(OWN_MACHINE));
        let found = board.look("vx");
        assert_eq!((found.library, found.problems.len()), (Some(library), 0));
    }

    #[test]
    fn a_runtime_for_language_models_is_found_beside_the_device_and_not_missed_without() {
        let board = Board::new();
        let runtime = board.file("usr/lib/librkllmrt.so", &elf(OWN_MACHINE));
        assert_eq!(board.look("rknn").language, None, "without its device");
        board.driver("drm/renderD129", "RKNPU");
        board.file("usr/lib/librknnrt.so", &elf(OWN_MACHINE));
        assert_eq!(board.look("rknn").language, Some(runtime.clone()));
        fs::write(&runtime, b"404 Not Found, says a web server").unwrap();
        let found = board.look("rknn");
        assert_eq!(found.language, None);
        assert!(found.problems.iter().any(|p| p.contains("librkllmrt.so is no shared library")));
        fs::remove_file(&runtime).unwrap();
        let problems = board.look("rknn").problems;
        assert!(!problems.iter().any(|p| p.contains("librkllmrt")), "{problems:?}");
    }

    /// What stands below /sys is there for everybody; the library opens another file.
    #[test]
    fn a_device_on_usb_is_looked_at_where_it_is_opened() {
        let board = Board::new();
        for (name, word) in [("idVendor", "18d1"), ("idProduct", "9302"), ("busnum", "1"), ("devnum", "5")] {
            board.file(&format!("sys/bus/usb/devices/1-1/{name}"), word.as_bytes());
        }
        let found = board.look("edgetpu");
        let node = board.0.path().join("dev/bus/usb/001/005");
        assert_eq!(found.devices, [node]);
        assert!(found.problems[0].contains("dev/bus/usb/001/005: No such file"), "{:?}", found.problems);
        board.file("dev/bus/usb/001/005", b"");
        assert!(!board.look("edgetpu").problems[0].contains("usb"));
    }

    #[test]
    fn a_library_that_this_process_may_not_read_is_told() {
        let board = Board::new();
        board.file("dev/galcore", b"");
        let library = board.file("usr/lib/libvx_delegate.so", b"");
        fs::set_permissions(&library, fs::Permissions::from_mode(0o000)).unwrap();
        // Root may read it, and finds nothing in it.
        let problems = board.look("vx").problems;
        assert!(problems[0].contains("libvx_delegate.so can't be read: "), "{problems:?}");
        assert!(problems[0].contains("mend its permissions"), "{problems:?}");
    }

    #[test]
    fn a_device_without_permission_is_told() {
        let board = Board::new();
        let device = board.file("dev/hailo0", b"");
        fs::set_permissions(&device, fs::Permissions::from_mode(0o000)).unwrap();
        let problems = board.look("hailo").problems;
        // Root may do everything.
        let told = problems.iter().any(|p| p.contains("dev/hailo0") && p.contains("group"));
        assert_eq!(told, !rustix::process::geteuid().is_root(), "{problems:?}");
    }
}
