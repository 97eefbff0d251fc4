//! A gateway without a battery, cut off for three boots, is told the time in the fourth.

use std::time::Duration;

use outpost::agent::boots::{self, BootBook};
use outpost::clock;
use outpost::reading::{ChannelId, Unit};
use outpost::spool;
use outpost::time::{BootId, ClockState, Mono, Stamp, Wall};
use outpost::window::WindowSummary;
use outpost::wire::Record;

use super::eventually;
use super::site::{Site, pending};

const BOOTS: u8 = 3;
const MINUTES: u64 = 4;

fn in_1970(boot: u8, s: u64) -> Stamp {
    Stamp {
        wall: Wall::from_secs(s as i64),
        mono: Mono(s * 1_000_000),
        boot: BootId([boot; 16]),
        uncertainty_us: u32::MAX,
        state: ClockState::Unset,
    }
}

/// The window of one minute that ends at `stamp`; its mean counts up over all boots.
fn window(stamp: Stamp, n: u64) -> Record {
    let mean = n as f64;
    Record::Window(WindowSummary {
        channel: ChannelId::new("pump1.temp").unwrap(),
        unit: Unit("Cel".into()),
        start: stamp.wall - Duration::from_secs(60),
        length_ms: 60_000,
        count: 60,
        missing: 0,
        min: mean,
        max: mean,
        mean,
        std: 0.0,
        last: mean,
        slope_per_h: 0.0,
        detail: None,
    })
}

/// Spool and book as an agent leaves them that has been through three such boots.
fn live_through(site: &Site) {
    let mut book = BootBook::new(0);
    let mut n = 0;
    for boot in 1..=BOOTS {
        let (mut spool, report) =
            spool::open_dir(&site.spool_dir(), spool::Options::default(), in_1970(boot, 1)).unwrap();
        book = BootBook::decode(&book.encode(), report.epoch);
        for minute in 1..=MINUTES {
            for s in 1..=60 {
                book.look(&in_1970(boot, 60 * (minute - 1) + s));
            }
            n += 1;
            spool.admit(vec![window(in_1970(boot, 60 * minute), n)]);
            spool.commit(in_1970(boot, 60 * minute)).unwrap();
        }
    }
    std::fs::write(site.spool_dir().join(boots::FILE), book.encode()).unwrap();
}

#[test]
fn three_boots_in_1970_arrive_in_their_true_order() {
    let site = Site::new();
    live_through(&site);
    let mut aggregator = site.aggregator();
    let mut agent = site.agent(site.broker.addr, "");
    eventually("a spool that is drained", || (pending(&agent) == 0).then_some(()));
    let database = site.database();
    let starts = || -> Vec<i64> {
        let database = rusqlite::Connection::open(&database).unwrap();
        let mut windows = database.prepare("SELECT start FROM windows WHERE mean > 0 ORDER BY mean").unwrap();
        windows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let now = clock::stamp();
    let this_boot = now.wall.0 - now.mono.0 as i64;
    let placed = |starts: &Vec<i64>| {
        starts.len() as u64 == u64::from(BOOTS) * MINUTES && starts.iter().all(|s| *s > 0)
    };
    let starts = eventually("windows in their place", || Some(starts()).filter(placed));
    let minute = 60_000_000;
    assert!(starts.windows(2).all(|two| two[0] + minute <= two[1]), "{starts:?}");
    // All of it was before this boot, and by what is known right before it.
    let last_end = starts[starts.len() - 1] + minute;
    assert!(
        (this_boot - 2 * minute..=this_boot + 1_000_000).contains(&last_end),
        "{last_end} and {this_boot}"
    );
    site.settle(&mut agent, &mut aggregator);
}
