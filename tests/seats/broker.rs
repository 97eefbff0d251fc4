//! A broker in a process of its own: mosquitto where it is installed, which forgets what it has acknowledged when it is killed,
//! or else the built-in one.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use outpost::demo::broker::{self, BrokerOptions};
use outpost::demo::pki::{self, Pki};
use outpost::link::Protocol;
use tempfile::TempDir;

use super::eventually;
use super::support::TestBroker;

/// A broker that can be killed.
pub struct Broker {
    child: Child,
    port: u16,
    dir: PathBuf,
    protocol: Protocol,
    /// Whether it says of a publish that nobody is subscribed to it.
    pub tells_of_nobody: bool,
}

impl Broker {
    /// With certificates of its own in `dir`.
    pub fn start(dir: &Path, protocol: Protocol) -> Self {
        pki::throwaway(dir, &["gateway", "aggregator", "watcher"]).unwrap();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let (child, tells_of_nobody) = spawn(port, dir, protocol);
        let broker = Self { child, port, dir: dir.to_owned(), protocol, tells_of_nobody };
        broker.await_port();
        broker
    }

    pub fn for_test(&self, dir: TempDir) -> TestBroker {
        TestBroker::at(self.addr(), Pki::at(&self.dir), self.protocol, dir)
    }

    pub fn restart(&mut self) {
        self.kill();
        (self.child, self.tells_of_nobody) = spawn(self.port, &self.dir, self.protocol);
        self.await_port();
    }

    pub fn kill(&mut self) {
        // One that was killed before is no mistake.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    fn await_port(&self) {
        eventually("a broker that listens", || TcpStream::connect(self.addr()).ok());
    }

    fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The process, and whether it tells of nobody: mosquitto does to those who speak MQTT 5.
fn spawn(port: u16, dir: &Path, protocol: Protocol) -> (Child, bool) {
    match mosquitto(port, dir) {
        Some(child) => (child, protocol == Protocol::V5),
        None => (built_in(port, dir, protocol), false),
    }
}

fn built_in(port: u16, dir: &Path, protocol: Protocol) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "broker::serve"])
        .env(PORT, port.to_string())
        .env(CERTIFICATES, dir)
        .env(PROTOCOL, protocol.name())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// `None` where it is not installed.
fn mosquitto(port: u16, dir: &Path) -> Option<Child> {
    let (ca, (cert, key)) = (Pki::at(dir).ca(), Pki::at(dir).pem("server"));
    let config = format!(
        "user root\npersistence false\nlistener {port} 127.0.0.1\nrequire_certificate true\nallow_anonymous true\n\
         cafile {}\ncertfile {}\nkeyfile {}\n",
        ca.display(),
        cert.display(),
        key.display(),
    );
    std::fs::write(dir.join("mosquitto.conf"), config).unwrap();
    // Debian installs it where only root's PATH looks.
    let spawn = |program: &str| {
        let mut command = Command::new(program);
        command.arg("-c").arg(dir.join("mosquitto.conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
    };
    ["mosquitto", "/usr/sbin/mosquitto"].into_iter().find_map(spawn)
}

/// What the process of the built-in broker runs; by itself it is no test.
#[test]
fn serve() {
    let told = |name: &str| std::env::var(name).ok();
    let (Some(port), Some(pki), Some(protocol)) = (told(PORT), told(CERTIFICATES), told(PROTOCOL)) else {
        return;
    };
    let (pki, protocol) = (Some(Pki::at(Path::new(&pki))), Protocol::from_name(&protocol).unwrap());
    broker::start(&BrokerOptions { port: port.parse().unwrap(), protocol, pki }).unwrap();
    loop {
        std::thread::park();
    }
}

/// Tell that process its port, its certificates and its version of MQTT.
const PORT: &str = "OUTPOST_TEST_KILLED_PORT";
const CERTIFICATES: &str = "OUTPOST_TEST_KILLED_PKI";
const PROTOCOL: &str = "OUTPOST_TEST_KILLED_PROTOCOL";
