//! Agent, aggregator and broker are killed in turn, again and again, while readings come in.
//!
//! `OUTPOST_TEST_KILLS` says how often; `.ci/run kills` takes 200. The broker is mosquitto where it is installed, which
//! forgets what it has acknowledged when it is killed, or else the built-in one, in a process of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use outpost::demo::broker::{self, BrokerOptions};
use outpost::demo::pki::{self, Pki};
use outpost::link::Protocol;
use outpost::spool::LaneLedger;
use tempfile::TempDir;

use super::eventually;
use super::seat::Seat;
use super::site::{Site, lines_of, promised, send};
use super::support::TestBroker;

/// With every `cargo test`.
const KILLS: usize = 30;
/// Readings sent before each.
const BATCH: u64 = 400;
/// Tells the process of the built-in broker its port and its certificates; the parent sets both.
const PORT: &str = "OUTPOST_TEST_KILLED_PORT";
const CERTIFICATES: &str = "OUTPOST_TEST_KILLED_PKI";
const TEST: &str = "kills::however_often_anybody_is_killed_what_was_promised_arrives_once";

#[test]
fn however_often_anybody_is_killed_what_was_promised_arrives_once() {
    if let (Ok(port), Ok(pki)) = (std::env::var(PORT), std::env::var(CERTIFICATES)) {
        return serve(port.parse().unwrap(), Path::new(&pki));
    }
    let kills = std::env::var("OUTPOST_TEST_KILLS").map_or(KILLS, |n| n.parse().unwrap());
    let mut rng = fastrand::Rng::with_seed(5);
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(dir.path());
    let site = Site::at(broker.for_test(dir));
    let mut aggregator = site.aggregator();
    let mut agent = site.agent(site.broker.addr, "");
    let mut load = Load::default();
    for kill in 0..kills {
        load.send(&agent);
        std::thread::sleep(Duration::from_millis(rng.u64(0..250)));
        match kill % 3 {
            0 => load.kill(&mut agent),
            1 => {
                aggregator.kill();
                aggregator.restart();
            }
            _ => broker.restart(),
        }
    }
    eventually("the load on disk", || (promised(&agent) == load.sent()).then_some(()));
    let books = site.settle(&mut agent, &mut aggregator);
    assert!(books.ledger.iter().all(|lane| lane.evicted_total() == 0), "{:?}", books.ledger);
    assert!(books.ledger.iter().all(LaneLedger::balances), "{:?}", books.ledger);
    let values: Vec<u64> = site.delivered().iter().map(|r| r.value.unwrap() as u64).collect();
    load.close_run(load.sent());
    assert_eq!(values.len(), load.kept.len());
    assert_eq!(values.iter().zip(&load.kept).find(|(got, want)| got != want), None);
}

/// Values that count up, and which of them the agent keeps.
#[derive(Default)]
struct Load {
    lines: Option<TcpStream>,
    next: u64,
    /// Sent since the agent started last: it numbers them in this order.
    run: Vec<u64>,
    /// Promised by earlier runs of the agent.
    kept: Vec<u64>,
}

impl Load {
    fn send(&mut self, agent: &Seat) {
        let lines = self.lines.get_or_insert_with(|| lines_of(agent));
        send(lines, self.next + 1..=self.next + BATCH).unwrap();
        self.run.extend(self.next + 1..=self.next + BATCH);
        self.next += BATCH;
    }

    /// All that the agent will have promised, once it has what was sent since it started.
    fn sent(&self) -> u64 {
        (self.kept.len() + self.run.len()) as u64
    }

    /// Kills the agent, starts it again, and takes over what of the run it still has.
    fn kill(&mut self, agent: &mut Seat) {
        let before = promised(agent);
        agent.kill();
        self.lines = None;
        agent.restart();
        let kept = promised(agent);
        assert!((before..=self.sent()).contains(&kept), "{before} were promised, {kept} are left");
        self.close_run(kept);
    }

    fn close_run(&mut self, promised: u64) {
        let kept = promised as usize - self.kept.len();
        self.kept.extend(self.run.drain(..).take(kept));
    }
}

/// A broker that can be killed.
struct Broker {
    child: Child,
    port: u16,
    dir: PathBuf,
}

impl Broker {
    fn start(dir: &Path) -> Self {
        pki::throwaway(dir, &["gateway", "aggregator", "watcher"]).unwrap();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let broker = Self { child: spawn(port, dir), port, dir: dir.to_owned() };
        broker.await_port();
        broker
    }

    fn for_test(&self, dir: TempDir) -> TestBroker {
        TestBroker::at(self.addr(), Pki::at(&self.dir), Protocol::V5, dir)
    }

    fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(self.port, &self.dir);
        self.await_port();
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
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16, dir: &Path) -> Child {
    mosquitto(port, dir).unwrap_or_else(|| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", TEST])
            .env(PORT, port.to_string())
            .env(CERTIFICATES, dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    })
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

/// The process of the built-in broker.
fn serve(port: u16, pki: &Path) {
    let pki = Some(Pki::at(pki));
    broker::start(&BrokerOptions { port, protocol: Protocol::V5, pki }).unwrap();
    loop {
        std::thread::park();
    }
}
