//! The real program in a fresh folder, looked at from outside: its page, its memory, its time.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A running seat; killed when it goes.
pub struct Program {
    child: Child,
    http: SocketAddr,
    /// When it was started.
    pub begun: Instant,
}

/// Resident memory in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// Its own: heap, stacks, what it has written to.
    pub anon: u64,
    /// Pages of the program and of libraries, which the kernel may drop and read again.
    pub file: u64,
}

impl Program {
    /// Starts `outpost <command>` with `config`, to which its page is added.
    pub fn start(dir: &Path, command: &str, config: &str) -> Self {
        let http = free_address();
        let path = dir.join(format!("{command}.toml"));
        std::fs::write(&path, format!("{config}\n[http]\nlisten = \"{http}\"\n"))
            .expect("a folder to write to");
        let log = File::create(dir.join(format!("{command}.log"))).expect("a folder to write to");
        let begun = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_outpost"))
            .args([command.as_ref(), "-c".as_ref(), path.as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        Self { child, http, begun }
    }

    /// What it says at `path`, or null while it does not answer.
    pub fn page(&self, path: &str) -> Value {
        get(self.http, path).ok().and_then(|body| serde_json::from_str(&body).ok()).unwrap_or(Value::Null)
    }

    /// Waits until it says that it is ready.
    pub fn ready(&self) {
        let begun = Instant::now();
        while get(self.http, "/ready").is_err() {
            assert!(begun.elapsed() < PATIENCE, "it does not become ready");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Looks at `path` every `every` until `done` says so; panics after [`PATIENCE`].
    pub fn until(&self, path: &str, every: Duration, mut done: impl FnMut(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let page = self.page(path);
            if done(&page) {
                return page;
            }
            assert!(begun.elapsed() < PATIENCE, "nothing more happens: {page:#}");
            thread::sleep(every);
        }
    }

    /// What it holds now.
    pub fn memory(&self) -> Memory {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|rest| rest.trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
        };
        Memory { anon: kib("RssAnon:"), file: kib("RssFile:") }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A loopback address that was free a moment ago.
pub fn free_address() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a free port")
}

/// Connects to `address` as soon as somebody listens there.
pub fn connect(address: SocketAddr) -> TcpStream {
    let begun = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{address}: {error}"),
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let ok = head.starts_with("HTTP/1.1 200");
    if ok { Ok(body.to_owned()) } else { Err(io::Error::other("the page is not served")) }
}

const PATIENCE: Duration = Duration::from_secs(120);
