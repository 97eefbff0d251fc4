//! Agent, aggregator and broker are killed in turn, again and again, while readings come in.
//!
//! `OUTPOST_TEST_KILLS` says how often; `.ci/run kills` takes 200.

use std::net::TcpStream;
use std::time::Duration;

use outpost::link::Protocol;
use outpost::spool::LaneLedger;

use super::broker::Broker;
use super::eventually;
use super::seat::Seat;
use super::site::{Site, lines_of, promised, send};

/// With every `cargo test`.
const KILLS: usize = 30;
/// Readings sent before each.
const BATCH: u64 = 400;

#[test]
fn however_often_anybody_is_killed_what_was_promised_arrives_once() {
    let kills = std::env::var("OUTPOST_TEST_KILLS").map_or(KILLS, |n| n.parse().unwrap());
    let mut rng = fastrand::Rng::with_seed(5);
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(dir.path(), Protocol::V5);
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
