//! Both seats as real processes over a real broker with mutual TLS, killed at bad moments.
//!
//! The promise: what the agent has admitted arrives, once, whatever dies on the way.

mod support;

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Site, eventually};

/// Sends `count` readings of one channel as JSON lines, numbered from `from` by their event time.
fn feed(port: u16, from: u64, count: u64) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the agent listens for lines");
    for n in from..from + count {
        let at = 1_800_000_000_000 + n * 100;
        writeln!(socket, r#"{{"channel":"tank1.level","value":{}.5,"ts":{at}}}"#, n % 7).unwrap();
    }
    socket.flush().unwrap();
}

fn row<'a>(status: &'a Value, lane: &str) -> &'a Value {
    status["ledger"].as_array().unwrap().iter().find(|r| r["lane"] == lane).expect("every lane is listed")
}

fn admitted(status: &Value, lane: &str) -> u64 {
    row(status, lane)["admitted"].as_u64().unwrap()
}

fn pending(status: &Value) -> u64 {
    status["ledger"].as_array().unwrap().iter().map(|r| r["pending"].as_u64().unwrap()).sum()
}
