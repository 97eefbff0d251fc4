//! A broker with certificates, and spools that are full before the program starts.

use std::net::SocketAddr;
use std::path::Path;

use outpost::clock;
use outpost::demo::broker::{self, BrokerOptions};
use outpost::demo::pki::{self, Pki};
use outpost::spool::{self, open_dir};
use outpost::wire::{Lane, Record};
use tempfile::TempDir;

/// What all rounds share.
pub struct Site {
    /// Of `$OUTPOST_BENCH_DIR` or the system's temporary one.
    pub dir: TempDir,
    /// Its clients are `gateway` and `aggregator`.
    pub pki: Pki,
    /// On loopback, inside this process.
    pub broker: SocketAddr,
}

impl Site {
    /// Starts the broker.
    pub fn new() -> Self {
        let base = std::env::var_os("OUTPOST_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
        let dir = TempDir::new_in(base).expect("the directory takes a folder");
        let pki = pki::throwaway(dir.path(), &["gateway", "aggregator"]).expect("certificates");
        let options = BrokerOptions { pki: Some(pki.clone()), ..BrokerOptions::default() };
        let broker = broker::start(&options).expect("the broker starts").addr;
        Self { dir, pki, broker }
    }

    /// The part of a configuration by which `name` reaches `broker`.
    pub fn mqtt(&self, name: &str, broker: SocketAddr) -> String {
        let (cert, key) = self.pki.pem(name);
        format!(
            "[mqtt]\nhost = \"127.0.0.1\"\nport = {}\nca = {:?}\ncert = {cert:?}\nkey = {key:?}\n",
            broker.port(),
            self.pki.ca()
        )
    }
}

/// Fills a spool in `dir` with so many records.
pub fn fill(dir: &Path, records: usize, per_commit: usize, record: fn(&mut fastrand::Rng, usize) -> Record) {
    std::fs::create_dir_all(dir).expect("the folder is ours");
    let options = spool::Options { bytes_max: u64::MAX, ..spool::Options::default() };
    let (mut spool, _) = open_dir(dir, options, clock::stamp()).expect("an empty spool");
    let mut random = fastrand::Rng::with_seed(7);
    for first in (0..records).step_by(per_commit) {
        spool.admit((first..(first + per_commit).min(records)).map(|i| record(&mut random, i)).collect());
        spool.commit(clock::stamp()).expect("the disk has room");
    }
}

/// The payloads of a spool in order.
pub fn payloads(dir: &Path) -> Vec<Vec<u8>> {
    let options = spool::Options { bytes_max: u64::MAX, ..spool::Options::default() };
    let (mut spool, _) = open_dir(dir, options, clock::stamp()).expect("the spool opens");
    let mut payloads = Vec::new();
    for &lane in Lane::ALL {
        let mut from = 1;
        while let Some(block) = spool.fetch(lane, from, clock::stamp()).expect("the disk reads") {
            from = block.id.last + 1;
            payloads.push(block.bytes);
        }
    }
    payloads
}
