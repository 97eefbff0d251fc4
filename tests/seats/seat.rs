//! One seat as a process: started, watched, stopped, killed, started again.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use outpost::demo::fetch;
use serde_json::Value;

use super::eventually;

/// A process of `outpost` with its configuration and the logs of all its runs.
///
/// It is killed when dropped; if the test has failed by then, its log is shown.
pub struct Seat {
    command: &'static str,
    config: PathBuf,
    logs: Vec<PathBuf>,
    child: Child,
    /// Where its pages are; another port after every start.
    pub http: SocketAddr,
}

impl Seat {
    /// Writes `toml` into `dir`, starts `outpost <command>` with it and waits for its page.
    pub fn start(command: &'static str, dir: &Path, toml: &str) -> Self {
        let config = dir.join(format!("{command}.toml"));
        std::fs::write(&config, toml).unwrap();
        let log = dir.join(format!("{command}-0.log"));
        let child = spawn(command, &config, &log);
        let mut seat = Self { command, config, logs: vec![log], child, http: ([127, 0, 0, 1], 0).into() };
        seat.await_page();
        seat
    }

    /// Ends it as a power cut would, if it still runs.
    pub fn kill(&mut self) {
        // One that has ended by itself cannot be killed and need not be.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Asks it to end and waits until it has.
    pub fn stop(&mut self) -> ExitStatus {
        self.terminate();
        eventually("the end after a SIGTERM", || self.child.try_wait().unwrap())
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Changes its configuration by `edit` and asks it to read it again.
    pub fn reload(&self, edit: impl FnOnce(String) -> String) {
        let toml = edit(std::fs::read_to_string(&self.config).unwrap());
        std::fs::write(&self.config, toml).unwrap();
        self.signal(rustix::process::Signal::HUP);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Starts it again after it has ended, with the same configuration.
    pub fn restart(&mut self) {
        self.restart_without_page();
        self.await_page();
    }

    /// The same, for one that can't come up.
    pub fn restart_without_page(&mut self) {
        let log = self.config.with_file_name(format!("{}-{}.log", self.command, self.logs.len()));
        self.child = spawn(self.command, &self.config, &log);
        self.logs.push(log);
    }

    /// One of its JSON pages; `None` for one that is not there (yet).
    pub fn json(&self, path: &str) -> Option<Value> {
        match smol::block_on(fetch::get_json(self.http, path)) {
            Ok(value) => Some(value),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => panic!("{} of {}: {e}", path, self.command),
        }
    }

    /// A counter or gauge of its `/metrics`.
    pub fn metric(&self, name: &str) -> u64 {
        let text = String::from_utf8(smol::block_on(fetch::get(self.http, "/metrics")).unwrap()).unwrap();
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.and_then(|line| line.split(' ').nth(1)?.parse().ok())
            .unwrap_or_else(|| panic!("no metric {name} in:\n{text}"))
    }

    /// What the latest run has logged, event by event.
    pub fn events(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(self.logs.last().unwrap()).unwrap();
        // The last line may be half written; remarks on the configuration are no events.
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn await_page(&mut self) {
        self.http = eventually("the address of a page", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("outpost {} ended by itself with {status}", self.command);
            }
            self.events().iter().find_map(page)
        });
        eventually("a page that answers", || smol::block_on(fetch::get(self.http, "/health")).ok());
    }
}

/// The address of the page, if this event tells it.
fn page(event: &Value) -> Option<SocketAddr> {
    match event["event"].as_str()? {
        "agent_started" => event["http"].as_str()?.parse().ok(),
        "aggregator_ready" => {
            event["pages"].as_str()?.trim_start_matches("http://").trim_end_matches('/').parse().ok()
        }
        _ => None,
    }
}

fn spawn(command: &str, config: &Path, log: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_outpost"))
        .args([command, "-c"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(log).unwrap())
        .spawn()
        .unwrap()
}

impl Drop for Seat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            for log in &self.logs {
                let text = std::fs::read_to_string(log).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                eprintln!("-- {}, the last lines:", log.display());
                lines.iter().skip(lines.len().saturating_sub(60)).for_each(|line| eprintln!("{line}"));
            }
        }
    }
}
