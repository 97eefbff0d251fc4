//! Both seats as processes of their own over a real broker with mutual TLS: killed, cut off, fed with rubbish.
//!
//! What a test claims of delivery it reads from the closed books of both sides: the agent's spool and the
//! aggregator's database. Values are counted up by the tests, so that a reading can be told from every other one.

#![cfg(feature = "demo")]

mod ask;
mod backends;
mod broker;
mod chat;
mod clock;
#[path = "../plugin/compile.rs"]
mod compile;
mod delivery;
mod field;
mod full;
mod hostile;
mod kills;
mod ledger;
mod logs;
mod reload;
mod seat;
mod site;
mod weather;

#[path = "../spool/disk.rs"]
#[expect(dead_code, reason = "shared by the tests of the spool; each uses its part")]
mod disk;

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "shared by the tests of the line; each uses its part")]
mod support;

use std::time::{Duration, Instant};

/// Waits for `look` to find something; panics after a minute, which is longer than anything here may take.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "never seen: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
