//! A thousand times a bit is flipped or a file cut short: the spool opens, what comes out is what went in, what is
//! missing is declared, and what was not hit is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use outpost::spool::{Options, Segments, Sizes, SledShelf, Spool, open_dir};
use outpost::wire::block::block_length_at;
use outpost::wire::{Lane, Record, decode_block};
use tempfile::TempDir;

use super::damage::copy_dir;
use super::{assert_balanced, notice, numbered, stamp, walk};

const ROUNDS: u64 = 1000;
/// Small, so that there are sealed ones and copying them takes no time.
const SIZES: Sizes = Sizes { full_bytes: 100 << 10, empty_bytes: 100 << 10, move_bytes: 64 << 10 };
const COMMITS: u64 = 80;
/// Readings in each commit; an alarm comes with it.
const BATCH: u64 = 60;

#[test]
fn a_thousand_flips_and_cuts_cost_what_they_hit_and_nothing_else() {
    let whole = Whole::new();
    let next = AtomicU64::new(0);
    let rounds = || {
        let mut sum = Sum::default();
        loop {
            let round = next.fetch_add(1, Ordering::Relaxed);
            if round >= ROUNDS {
                return sum;
            }
            sum.add(whole.spoiled(round));
        }
    };
    let mut sum = Sum::default();
    std::thread::scope(|scope| {
        let threads = [scope.spawn(rounds), scope.spawn(rounds)];
        threads.into_iter().for_each(|thread| sum.add(thread.join().unwrap()));
    });
    assert!(sum.noticed > ROUNDS / 10, "hardly any did harm: {sum:?}");
    assert!(sum.salvaged >= sum.undamaged / 1000 * 999, "{sum:?}");
}

/// A filled spool, and where its blocks lie.
struct Whole {
    dir: TempDir,
    files: Vec<PathBuf>,
    blocks: Vec<Place>,
    records: BTreeSet<Key>,
}

/// One copy of a block in one file.
struct Place {
    file: PathBuf,
    begin: u64,
    end: u64,
    records: Vec<Key>,
}

/// What tells one record from all others: lane and number.
type Key = (Lane, i64);

/// Over all rounds, in records but for the last.
#[derive(Debug, Default)]
struct Sum {
    /// In no copy of a block that was hit.
    undamaged: u64,
    /// Of those, what came out.
    salvaged: u64,
    /// Rounds in which anything was missing or said.
    noticed: u64,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.undamaged += other.undamaged;
        self.salvaged += other.salvaged;
        self.noticed += other.noticed;
    }
}

impl Whole {
    fn new() -> Self {
        let dir = fast_dir();
        let shelf = SledShelf::new(dir.path().join("journal"), dir.path().join("journal.damaged-"));
        let segments = Segments::open(shelf, SIZES).unwrap();
        let mut spool = Spool::open(segments, Options::default()).unwrap();
        for n in 0..COMMITS {
            spool.admit((n * BATCH + 1..=n * BATCH + BATCH).map(numbered).collect());
            spool.admit(vec![notice(n)]);
            spool.commit(stamp(0)).unwrap();
            spool.tidy().unwrap();
        }
        let records =
            [Lane::Raw, Lane::Alarm].into_iter().flat_map(|lane| keys(&walk(&mut spool, lane))).collect();
        drop(spool);
        let mut files = Vec::new();
        list(dir.path(), dir.path(), &mut files);
        let databases: Vec<_> = files.iter().filter(|path| path.ends_with("db")).cloned().collect();
        assert!(databases.len() >= 2, "{files:?}");
        let blocks = databases.iter().flat_map(|file| blocks_in(dir.path(), file)).collect();
        Self { dir, files, blocks, records }
    }

    /// One file of a copy is spoiled, and what becomes of it is looked at.
    fn spoiled(&self, round: u64) -> Sum {
        let mut rng = fastrand::Rng::with_seed(round);
        let dir = fast_dir();
        copy_dir(self.dir.path(), dir.path());
        let large: Vec<&PathBuf> = self.files.iter().filter(|path| path.ends_with("db")).collect();
        let file = if rng.u8(0..10) == 0 { rng.choice(&self.files) } else { rng.choice(large) }.unwrap();
        let mut bytes = fs::read(dir.path().join(file)).unwrap();
        let length = bytes.len();
        let at = rng.usize(0..length.max(1));
        let hit = if rng.u8(0..4) == 0 {
            bytes.truncate(at);
            at..length
        } else {
            bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << rng.u8(0..8));
            at..at + 1
        };
        fs::write(dir.path().join(file), bytes).unwrap();

        let (mut spool, report) = open_dir(dir.path(), Options::default(), stamp(0)).unwrap();
        let mut kept = BTreeSet::new();
        let mut declared = 0;
        for lane in [Lane::Raw, Lane::Alarm] {
            let blocks = walk(&mut spool, lane);
            assert!(
                blocks.windows(2).all(|two| two[0].id.last + 1 == two[1].id.first),
                "round {round}: a hole"
            );
            declared += blocks.iter().filter(|b| b.gap).map(|b| b.id.count()).sum::<u64>();
            for key in keys(&blocks) {
                assert!(kept.insert(key), "round {round}: {key:?} came out twice");
            }
        }
        assert_balanced(&spool);
        assert!(kept.is_subset(&self.records), "round {round}: made up");
        let missing = (self.records.len() - kept.len()) as u64;
        match &report.damage {
            Some(damage) => {
                assert!(damage.lost_records.is_none_or(|lost| lost == missing), "round {round}: {report:?}")
            }
            None => assert_eq!(declared, missing, "round {round}: {report:?}"),
        }
        let is_hit = |place: &&Place| {
            place.file == *file && place.begin < hit.end as u64 && (hit.start as u64) < place.end
        };
        let damaged: BTreeSet<Key> =
            self.blocks.iter().filter(is_hit).flat_map(|b| b.records.clone()).collect();
        let undamaged: BTreeSet<Key> = self.records.difference(&damaged).copied().collect();
        Sum {
            undamaged: undamaged.len() as u64,
            salvaged: undamaged.intersection(&kept).count() as u64,
            noticed: u64::from(report.damage.is_some() || missing > 0),
        }
    }
}

/// The records of `blocks`, each of which must be as it was made; the spool's own notices are left out.
fn keys(blocks: &[outpost::spool::StoredBlock]) -> Vec<Key> {
    let records = blocks.iter().filter(|b| !b.gap).flat_map(|b| decode_block(&b.bytes).unwrap().records);
    records.filter_map(|record| key(&record)).collect()
}

fn key(record: &Record) -> Option<Key> {
    let (key, original) = match record {
        Record::Reading(reading) => ((Lane::Raw, reading.at.0), numbered(reading.at.0 as u64)),
        Record::Notice(said) if said.code == "spool_damaged" => return None,
        Record::Notice(said) => ((Lane::Alarm, said.at.0), notice(said.at.0 as u64)),
        other => panic!("{other:?} was never admitted"),
    };
    assert_eq!(*record, original);
    Some(key)
}

fn list(root: &Path, dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            list(root, &entry.path(), files);
        } else {
            files.push(entry.path().strip_prefix(root).unwrap().to_owned());
        }
    }
    files.sort();
}

fn blocks_in(root: &Path, file: &Path) -> Vec<Place> {
    let bytes = fs::read(root.join(file)).unwrap();
    let place = |at: usize| {
        let end = at + block_length_at(&bytes[at..])?;
        let records = decode_block(bytes.get(at..end)?).ok()?.records.iter().filter_map(key).collect();
        Some(Place { file: file.to_owned(), begin: at as u64, end: end as u64, records })
    };
    (0..bytes.len()).filter(|&at| bytes[at] == b'O').filter_map(place).collect()
}

/// In memory where that can be had: a thousand spools are made, and what a medium does is not the matter here.
fn fast_dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory).unwrap() } else { TempDir::new().unwrap() }
}
