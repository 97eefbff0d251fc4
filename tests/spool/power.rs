//! The power goes, again and again, while a process of its own admits and releases: what it was promised is there.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outpost::spool::{Options, Segments, Sizes, SledShelf, Spool, open_dir, start};
use outpost::wire::{Lane, decode_block};

use super::disk::Disk;
use super::{numbered, stamp};

const CUTS: u64 = 24;
/// Where the writing process finds the spool; the parent sets it.
const DIR: &str = "OUTPOST_TEST_POWER_DIR";
/// `yes` where it goes through the store's thread.
const THREAD: &str = "OUTPOST_TEST_POWER_THREAD";
const TEST: &str = "power::no_power_cut_takes_what_was_promised_or_keeps_the_spool_from_opening";
/// Records in one commit, and those that stay pending.
const BATCH: u64 = 1500;
const PENDING: u64 = 60_000;

#[test]
fn no_power_cut_takes_what_was_promised_or_keeps_the_spool_from_opening() {
    if let Some(dir) = std::env::var_os(DIR) {
        return write(Path::new(&dir));
    }
    let Some(disk) = Disk::ext4(256) else { return };
    let dir = disk.path().join("spool");
    let mut rng = fastrand::Rng::with_seed(7);
    let (mut last, mut epoch, mut databases) = (0, None, 0);
    for cut in 0..CUTS {
        let mut writer = Writer::start(&dir, cut);
        writer.await_promise(last);
        std::thread::sleep(Duration::from_millis(rng.u64(0..1200)));
        disk.cut();
        let said = writer.end();
        disk.power_on();

        let (mut spool, report) = open_dir(&dir, Options::default(), stamp(0)).unwrap();
        assert_eq!(report.damage, None, "cut {cut}");
        assert_eq!(*epoch.get_or_insert(report.epoch), report.epoch, "cut {cut}");
        assert!(spool.durable_through(Lane::Raw) >= said.promised, "cut {cut}: {said:?}");
        assert!(spool.released_through(Lane::Raw) <= said.released, "cut {cut}: {said:?}");
        let mut next = spool.released_through(Lane::Raw) + 1;
        while let Some(block) = spool.fetch(Lane::Raw, next, stamp(0)).unwrap() {
            assert_eq!((block.id.first, block.gap), (next, false), "cut {cut}: {said:?}");
            for (seq, record) in (next..).zip(decode_block(&block.bytes).unwrap().records) {
                assert_eq!(record, numbered(seq), "cut {cut}");
            }
            next = block.id.last + 1;
        }
        last = spool.durable_through(Lane::Raw);
        assert_eq!(next, last + 1, "cut {cut}: {said:?}");
        let highest = std::fs::read_dir(dir.join("journal")).unwrap().map(|e| e.unwrap().file_name()).max();
        databases = highest.unwrap().to_str().unwrap().parse().unwrap();
    }
    assert!(databases > CUTS / 2, "only {databases} databases: rotations were not cut");
}

/// What the writing process said last.
#[derive(Debug, Clone, Copy, Default)]
struct Said {
    /// The last number that was promised to it.
    promised: u64,
    /// What it has released or was about to.
    released: u64,
}

struct Writer {
    child: Child,
    said: Arc<Mutex<Said>>,
    reader: std::thread::JoinHandle<()>,
}

impl Writer {
    fn start(dir: &Path, cut: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", TEST])
            .env(DIR, dir)
            .env(THREAD, if cut.is_multiple_of(2) { "yes" } else { "no" })
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(Said::default()));
        let (heard, lines) = (Arc::clone(&said), BufReader::new(child.stdout.take().unwrap()).lines());
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let Some((what, number)) = line.split_once(' ') else { continue };
                match (what, number.parse()) {
                    ("promised", Ok(number)) => heard.lock().unwrap().promised = number,
                    ("releasing", Ok(number)) => heard.lock().unwrap().released = number,
                    _ => {}
                }
            }
        });
        Self { child, said, reader }
    }

    /// Waits until it has been promised more than `last`.
    fn await_promise(&mut self, last: u64) {
        while self.said.lock().unwrap().promised <= last {
            assert_eq!(self.child.try_wait().unwrap(), None, "the writer ended by itself");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it and hears it out.
    fn end(mut self) -> Said {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.reader.join().unwrap();
        *self.said.lock().unwrap()
    }
}

/// The writing process: with the store's thread and databases of the usual size, or without and with small ones.
fn write(dir: &Path) {
    if std::env::var(THREAD).is_ok_and(|thread| thread == "yes") {
        let (store, _tail, _) = start(dir, Options::default()).unwrap();
        smol::block_on(async {
            let mut next = store.status().await.unwrap().tail.next[Lane::Raw.index()];
            loop {
                let given = store.admit_durable((next..next + BATCH).map(numbered).collect()).await.unwrap();
                next = given[0].last + 1;
                println!("promised {}", given[0].last);
                let through = given[0].last.saturating_sub(PENDING);
                println!("releasing {through}");
                store.release(Lane::Raw, through, Vec::new()).await.unwrap();
            }
        });
    }
    let shelf = SledShelf::new(dir.join("journal"), dir.join("journal.damaged-"));
    let sizes = Sizes { full_bytes: 256 << 10, empty_bytes: 256 << 10, move_bytes: 64 << 10 };
    let mut spool = Spool::open(Segments::open(shelf, sizes).unwrap(), Options::default()).unwrap();
    loop {
        let next = spool.durable_through(Lane::Raw) + 1;
        spool.admit((next..next + BATCH).map(numbered).collect());
        spool.commit(stamp(0)).unwrap();
        println!("promised {}", spool.durable_through(Lane::Raw));
        let through = spool.durable_through(Lane::Raw).saturating_sub(PENDING);
        println!("releasing {through}");
        spool.release(Lane::Raw, through, &[]).unwrap();
        spool.tidy().unwrap();
    }
}
