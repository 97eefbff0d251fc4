//! File systems of a test's own: an ext4 whose power can be cut, a tmpfs that is small. Both need root.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A mounted file system; gone with this value.
pub struct Disk {
    dir: TempDir,
    options: Vec<String>,
}

impl Disk {
    /// An ext4 on a loop device; `None`, with the reason on the terminal, where that cannot be had.
    pub fn ext4(mib: u64) -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let image = dir.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
        let image = image.to_str().unwrap();
        let made = run("mkfs.ext4", &["-q", "-F", image]);
        let options = ["-o", "loop", image].map(str::to_owned).into();
        made.and_then(|()| Self::mounted(dir, options)).map_err(skip).ok()
    }

    /// A tmpfs; `None` as with [`Self::ext4`].
    pub fn tmpfs(mib: u64) -> Option<Self> {
        let size = format!("size={mib}m");
        let options = ["-t", "tmpfs", "-o", &size, "tmpfs"].map(str::to_owned).into();
        Self::mounted(TempDir::new().unwrap(), options).map_err(skip).ok()
    }

    fn mounted(dir: TempDir, options: Vec<String>) -> Result<Self, String> {
        std::fs::create_dir(dir.path().join("mnt")).unwrap();
        let disk = Self { dir, options };
        disk.mount().map(|()| disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// Takes the power away: nothing that was not synced gets to the medium any more, not even of the file system's own
    /// journal, and whoever writes or reads on is told of an error.
    pub fn cut(&self) {
        // EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH. Perl is part of every Debian, and an ioctl is not for safe Rust.
        let script = "open(F, '<', $ARGV[0]) or die; $flags = pack('L', 2); ioctl(F, 0x8004587d, $flags) or die \"$!\"";
        std::fs::write(self.path().join("door"), b"").unwrap();
        run("perl", &["-e", script, self.path().join("door").to_str().unwrap()]).unwrap();
    }

    /// Gives the power back: the file system replays its journal.
    pub fn power_on(&self) {
        run("umount", &[self.path().to_str().unwrap()]).unwrap();
        self.mount().unwrap();
    }

    /// Takes the second half of `file` from the medium for good: whoever reads there is told of an error. All that is written
    /// from now on finds a place before it, as there is room.
    pub fn spoil(&self, file: &Path) {
        run("sync", &[]).unwrap();
        let out = Command::new("filefrag").args(["-b512", "-v"]).arg(file).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        // "   0:        0..    8191:     98304..    106495:   8192:  ..."
        let field =
            |line: &str, at: usize| line.split(':').nth(at)?.split("..").next()?.trim().parse::<u64>().ok();
        let extents: Vec<(u64, u64)> =
            text.lines().filter_map(|line| Some((field(line, 2)?, field(line, 3)?))).collect();
        let half = extents.iter().map(|extent| extent.1).sum::<u64>() / 2;
        let mut before = 0;
        let middle = extents.iter().find_map(|&(at, sectors)| {
            before += sectors;
            (before > half).then(|| at + sectors - (before - half))
        });
        let image = std::fs::File::options().write(true).open(self.dir.path().join("image")).unwrap();
        image.set_len(middle.unwrap() * 512).unwrap();
        // What is in memory would be read from there.
        std::fs::write("/proc/sys/vm/drop_caches", b"3").unwrap();
    }

    /// Mounts it anew with another option, such as `ro`; false where that is refused.
    pub fn remount(&self, option: &str) -> bool {
        run("mount", &["-o", &format!("remount,{option}"), self.path().to_str().unwrap()]).is_ok()
    }

    fn mount(&self) -> Result<(), String> {
        let path = self.path();
        let options: Vec<&str> =
            self.options.iter().map(String::as_str).chain([path.to_str().unwrap()]).collect();
        run("mount", &options)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may not be mounted; nothing else can be done about it here.
        let _ = run("umount", &["-l", self.path().to_str().unwrap_or_default()]);
    }
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("{program}: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {said}")) }
}

/// Past the harness, which hides what a test that passes prints.
fn skip(why: String) {
    let text = format!("skipped: no disk of one's own here ({why}); it takes root\n");
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}
