//! What the tests of vendors' code share: the plug-in and the delegate, compiled; a CPU that leaves a device a chance; and the
//! lines that the agent would log.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use outpost::accel::{ComputeBackend, ModelFile, Placement, Refused, Runner};
use outpost::infer::{Bundle, Model, Onnx};
use outpost::observe;

mod compile;
pub use compile::compile;

/// The shared library of `tests/plugin/NAME.c`, compiled once per process.
#[allow(dead_code, reason = "each test program uses some of this")]
pub fn compiled(name: &'static str) -> PathBuf {
    static DONE: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (out, fresh) = (dir.join(format!("{name}.so")), dir.join(format!("{name}.{}", std::process::id())));
    if !done.contains(&name) {
        compile(name, &fresh, &["-lm"]);
        // Another test program may have the old one open.
        std::fs::rename(&fresh, &out).unwrap();
        done.push(name);
    }
    out
}

/// The CPU, as slow as it must be for the device to be worth its while, whatever this machine is.
pub struct SlowCpu;

impl ComputeBackend for SlowCpu {
    fn name(&self) -> &str {
        "onnx"
    }
    fn load(&self, model: &ModelFile) -> Result<Box<dyn Runner>, Refused> {
        Ok(Box::new(Slow(Onnx.load(model)?)))
    }
}

struct Slow(Box<dyn Runner>);

impl Runner for Slow {
    fn run(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), Refused> {
        std::thread::sleep(Duration::from_millis(10));
        self.0.run(input, output)
    }
    fn placement(&self) -> Placement {
        self.0.placement()
    }
}

/// A model in service, with the lines that are logged about it.
pub struct Logged {
    pub model: Model,
    name: String,
}

impl Logged {
    /// Loads `bundle` with `device` and the CPU behind it, under a name that no other has.
    pub fn load(bundle: Bundle, device: Box<dyn ComputeBackend>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("model-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        log_file();
        let model = Model::load(&name, bundle, &[device, Box::new(SlowCpu)], false).unwrap();
        Self { model, name }
    }

    /// Names of the backends that serve it, the first choice first.
    pub fn serving(&self) -> Vec<String> {
        self.model.serving().map(|s| s.backend).collect()
    }

    /// The line named `event` about it, which must be there; every word of `words` must be in it.
    pub fn assert_line(&self, event: &str, words: &[&str]) {
        assert_line(&format!(" model={} ", self.name), event, words);
    }

    /// Whether there is such a line yet.
    #[allow(dead_code, reason = "each test program uses some of this")]
    pub fn has_line(&self, event: &str, words: &[&str]) -> bool {
        count_lines(&format!(" model={} ", self.name), event, words) > 0
    }
}

/// The line named `event` with `about` in it, which must be there; every word of `words` must be in it.
pub fn assert_line(about: &str, event: &str, words: &[&str]) {
    let lines = lines_of(about, event).join("\n");
    assert!(count_lines(about, event, words) > 0, "no line {event} with {words:?} in\n{lines}");
}

/// How many lines named `event` with `about` in them have every word of `words`.
pub fn count_lines(about: &str, event: &str, words: &[&str]) -> usize {
    let has_all = |line: &&String| words.iter().all(|word| line.contains(word));
    lines_of(about, event).iter().filter(has_all).count()
}

fn lines_of(about: &str, event: &str) -> Vec<String> {
    let all = std::fs::read_to_string(log_file()).unwrap();
    all.lines().filter(|line| line.contains(about) && line.contains(event)).map(str::to_owned).collect()
}

/// This process's standard error, turned into a file: events go there, past what catches a test's own output.
pub fn log_file() -> &'static Path {
    static FILE: OnceLock<tempfile::NamedTempFile> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        let file = tempfile::NamedTempFile::new().unwrap();
        // Everybody writes at its end.
        rustix::stdio::dup2_stderr(File::options().append(true).open(file.path()).unwrap()).unwrap();
        observe::init(observe::Format::Text, observe::Level::Info.to_level_filter());
        file
    });
    file.path()
}
