//! How fast records become durable and leave again, beside redb and SQLite on the same records and commits, and what a
//! backlog of ten million costs: `cargo bench --bench spool` (`-- quick` leaves the backlog out).
//!
//! Figures depend on the medium's sync; the directory is `$OUTPOST_BENCH_DIR` or the system's temporary one.

use std::path::Path;
use std::time::Instant;

use outpost::clock;
use outpost::digest::{Digest, DigestTiming, Engine, Lang};
use outpost::facts::Facts;
use outpost::observe::metrics;
use outpost::reading::{ChannelId, Reading, Severity};
use outpost::spool::{self, DiskSpool, Options, open_dir};
use outpost::time::Wall;
use outpost::wire::{BlockEncoder, BlockHeader, Body, Lane, Notice, Record, decode_block};
use redb::ReadableTable as _;

fn main() {
    let readings = readings(RECORDS);
    encode(&readings);
    durable("readings, 10 000 a commit", &readings, 10_000);
    durable("readings, 1 000 a commit", &readings, 1_000);
    let notices = notices(RECORDS / 4);
    durable("256-byte records, one a commit", &notices[..2_000], 1);
    handed_over("readings, 100 a time", &readings, 100);
    handed_over("digests of some 300 bytes, 10 a time", &digests(RECORDS / 10), 10);
    handed_over("256-byte alarms, 10 a time", &notices[..RECORDS / 10], 10);
    handed_over("256-byte alarms, one a time", &notices[..RECORDS / 20], 1);
    beside_the_peers(&notices);
    if !std::env::args().any(|arg| arg == "quick") {
        backlog(&notices[..1_000]);
    }
}

fn bench_dir() -> tempfile::TempDir {
    let base = std::env::var_os("OUTPOST_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    tempfile::TempDir::new_in(base).unwrap()
}

/// 256 bytes that no compressor makes small.
fn bytes_256(random: &mut fastrand::Rng) -> Vec<u8> {
    (0..256).map(|_| random.u8(..)).collect()
}

const PEER_COMMIT: usize = 1_000;
/// As many records as the spool fetches between two commits of its drain.
const PEER_DRAIN: usize = 64 * 128;

/// A queue of records of 256 bytes on the disk.
trait Queue {
    /// Makes commit `n`, of [`PEER_COMMIT`] records, durable.
    fn append(&mut self, n: usize);
    /// Reads and deletes all of `records`, [`PEER_DRAIN`] in a durable commit.
    fn drain(&mut self, records: usize);
}

/// What one round told of a queue: records per second, and the median commit, which what else the machine does hardly
/// touches.
struct Told {
    append_per_s: f64,
    commit_s: f64,
    drain_per_s: f64,
}

/// Each of them makes one commit in turn, so that what else the machine does hits everybody; medians of the rounds, the ratios
/// those of each round's ratio to the peer.
fn beside_the_peers(notices: &[Record]) {
    let rounds: Vec<[Told; 3]> = (0..ROUNDS).map(|_| round(notices)).collect();
    let of_rounds = |figure: &dyn Fn(&[Told; 3]) -> f64| median(rounds.iter().map(figure).collect());
    for (i, peer) in ["the spool", "redb", "SQLite, WAL, synchronous=FULL"].into_iter().enumerate() {
        println!(
            "256-byte records, 1 000 a commit, {ROUNDS} rounds, {peer}: append {:.0} k/s durable, a commit {:.2} ms, drain {:.0} k/s; \
             the spool is at {:.2}, {:.2} and {:.2} times that speed",
            of_rounds(&|told| told[i].append_per_s / 1e3),
            of_rounds(&|told| told[i].commit_s * 1e3),
            of_rounds(&|told| told[i].drain_per_s / 1e3),
            of_rounds(&|told| told[0].append_per_s / told[i].append_per_s),
            of_rounds(&|told| told[i].commit_s / told[0].commit_s),
            of_rounds(&|told| told[0].drain_per_s / told[i].drain_per_s),
        );
    }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn round(notices: &[Record]) -> [Told; 3] {
    let dirs: [_; 3] = std::array::from_fn(|_| bench_dir());
    let path = |i: usize| dirs[i].path();
    let mut queues: [Box<dyn Queue>; 3] = [
        Box::new(SpoolQueue::open(path(0), notices)),
        Box::new(RedbQueue::open(path(1), notices.len())),
        Box::new(SqliteQueue::open(path(2), notices.len())),
    ];
    let mut commits_s: [Vec<f64>; 3] = Default::default();
    for n in 0..notices.len() / PEER_COMMIT {
        for (queue, spent_s) in queues.iter_mut().zip(&mut commits_s) {
            let start = Instant::now();
            queue.append(n);
            spent_s.push(start.elapsed().as_secs_f64());
        }
    }
    std::array::from_fn(|i| {
        let start = Instant::now();
        queues[i].drain(notices.len());
        let drain_s = start.elapsed().as_secs_f64();
        Told {
            append_per_s: notices.len() as f64 / commits_s[i].iter().sum::<f64>(),
            commit_s: median(std::mem::take(&mut commits_s[i])),
            drain_per_s: notices.len() as f64 / drain_s,
        }
    })
}

struct SpoolQueue {
    spool: DiskSpool,
    /// Taken out as they are appended.
    batches: Vec<Vec<Record>>,
}

impl SpoolQueue {
    fn open(dir: &Path, notices: &[Record]) -> Self {
        let (spool, _) = open_dir(dir, Options::default(), clock::stamp()).unwrap();
        Self { spool, batches: notices.chunks(PEER_COMMIT).map(<[Record]>::to_vec).collect() }
    }
}

impl Queue for SpoolQueue {
    fn append(&mut self, n: usize) {
        self.spool.admit(std::mem::take(&mut self.batches[n]));
        self.spool.commit(clock::stamp()).unwrap();
        self.spool.tidy().unwrap();
    }

    fn drain(&mut self, records: usize) {
        assert_eq!(drain(&mut self.spool, Lane::Alarm), records as u64);
    }
}

const TABLE: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("queue");

struct RedbQueue {
    db: redb::Database,
    values: Vec<Vec<u8>>,
}

impl RedbQueue {
    fn open(dir: &Path, records: usize) -> Self {
        Self { db: redb::Database::create(dir.join("db")).unwrap(), values: values(records) }
    }
}

impl Queue for RedbQueue {
    fn append(&mut self, n: usize) {
        let commit = self.db.begin_write().unwrap();
        {
            let mut table = commit.open_table(TABLE).unwrap();
            for i in n * PEER_COMMIT..(n + 1) * PEER_COMMIT {
                table.insert(i as u64, self.values[i].as_slice()).unwrap();
            }
        }
        commit.commit().unwrap();
    }

    fn drain(&mut self, records: usize) {
        let mut drained = 0;
        while drained < records {
            let commit = self.db.begin_write().unwrap();
            {
                let mut table = commit.open_table(TABLE).unwrap();
                let through = ((drained + PEER_DRAIN).min(records)) as u64;
                let mut bytes = 0;
                for item in table.range(drained as u64..through).unwrap() {
                    bytes += item.unwrap().1.value().len();
                }
                assert_eq!(bytes, (through as usize - drained) * 256);
                table.retain_in(drained as u64..through, |_, _| false).unwrap();
                drained = through as usize;
            }
            commit.commit().unwrap();
        }
    }
}

struct SqliteQueue {
    db: rusqlite::Connection,
    values: Vec<Vec<u8>>,
}

impl SqliteQueue {
    fn open(dir: &Path, records: usize) -> Self {
        let db = rusqlite::Connection::open(dir.join("db")).unwrap();
        db.execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE q(n INTEGER PRIMARY KEY, v BLOB)",
        )
        .unwrap();
        Self { db, values: values(records) }
    }
}

impl Queue for SqliteQueue {
    fn append(&mut self, n: usize) {
        let commit = self.db.transaction().unwrap();
        {
            let mut insert = commit.prepare_cached("INSERT INTO q(v) VALUES(?)").unwrap();
            for value in &self.values[n * PEER_COMMIT..(n + 1) * PEER_COMMIT] {
                insert.execute([value]).unwrap();
            }
        }
        commit.commit().unwrap();
    }

    fn drain(&mut self, records: usize) {
        let mut drained = 0;
        while drained < records {
            let commit = self.db.transaction().unwrap();
            let through = (drained + PEER_DRAIN).min(records);
            {
                let mut select = commit.prepare_cached("SELECT v FROM q WHERE n > ? AND n <= ?").unwrap();
                let rows = select
                    .query_map([drained as i64, through as i64], |row| row.get::<_, Vec<u8>>(0))
                    .unwrap();
                assert_eq!(rows.map(|v| v.unwrap().len()).sum::<usize>(), (through - drained) * 256);
                commit.execute("DELETE FROM q WHERE n <= ?", [through as i64]).unwrap();
            }
            commit.commit().unwrap();
            drained = through;
        }
    }
}

fn values(records: usize) -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..records).map(|_| bytes_256(&mut random)).collect()
}

/// Ten million records, `batch` again and again: what they cost in memory, to open, and on disk once they are gone.
fn backlog(batch: &[Record]) {
    let dir = bench_dir();
    let options = Options { bytes_max: 8 << 30, disk_free_bytes_min: 0, ..Options::default() };
    let open = || open_dir(dir.path(), options.clone(), clock::stamp()).unwrap().0;
    let lane = batch[0].lane();
    let pending = |spool: &DiskSpool| spool.ledger()[lane.index()].pending;
    let mut spool = open();
    let fill = |spool: &mut DiskSpool, records: usize| {
        while pending(spool) < records as u64 {
            spool.admit(batch.to_vec());
            spool.commit(clock::stamp()).unwrap();
            spool.tidy().unwrap();
        }
    };
    fill(&mut spool, BACKLOG / 2_000);
    let empty_disk = spool.bytes_on_disk();
    fill(&mut spool, BACKLOG / 40);
    let before = resident_kib();
    fill(&mut spool, BACKLOG);
    let (after, bytes, disk) = (resident_kib(), spool.bytes(), spool.bytes_on_disk());
    drop(spool);
    let start = Instant::now();
    let mut spool = open();
    let opened_ms = start.elapsed().as_secs_f64() * 1e3;
    let kept = pending(&spool);
    let start = Instant::now();
    drain(&mut spool, lane);
    spool.tidy().unwrap();
    println!(
        "a backlog of {kept} records, {:.2} GiB: resident {:+.1} MiB from the first fortieth on, {:.2} bytes on disk per byte, \
         opened in {opened_ms:.0} ms, drained in {:.1} s, then {:.1} MiB on disk ({:.1} after the first MiB)",
        bytes as f64 / f64::from(1 << 30),
        (after as f64 - before as f64) / 1024.0,
        disk as f64 / bytes as f64,
        start.elapsed().as_secs_f64(),
        spool.bytes_on_disk() as f64 / f64::from(1 << 20),
        empty_disk as f64 / f64::from(1 << 20),
    );
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Fifty channels of slowly wandering decimals, ten times a second, as a poller would take them.
fn readings(n: usize) -> Vec<Record> {
    let channels: Vec<ChannelId> =
        (0..50).map(|c| ChannelId::new(&format!("line{}.bearing{c}.temp", c % 7)).unwrap()).collect();
    let mut random = fastrand::Rng::with_seed(7);
    let mut levels = vec![2_000_i64; channels.len()];
    let reading = |i: usize| {
        let c = i % channels.len();
        levels[c] += random.i64(-2..=2);
        let at = Wall(1_767_323_045_000_000 + (i / channels.len()) as i64 * 100_000 + c as i64 * 200);
        Record::Reading(Reading::new(channels[c].clone(), at, Ok(levels[c] as f64 / 100.0)))
    };
    (0..n).map(reading).collect()
}

/// Records of 256 bytes that hardly compress.
fn notices(n: usize) -> Vec<Record> {
    let mut random = fastrand::Rng::with_seed(7);
    let text = |random: &mut fastrand::Rng| (0..240).map(|_| random.char('!'..='~')).collect::<String>();
    let mut notice =
        |i: usize| Notice { code: format!("n{i:06}"), text: text(&mut random), at: Wall(i as i64) };
    (0..n).map(|i| Record::Notice(notice(i))).collect()
}

/// Of the lanes that wait for their commit the one with the largest records.
fn digests(n: usize) -> Vec<Record> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut digest = |id: usize| Digest {
        id: id as u64,
        engine: Engine::Template,
        model: String::new(),
        fallback_reason: String::new(),
        lang: Lang::En,
        verdict: Severity::Info,
        cause: String::new(),
        text: (0..240).map(|_| random.char('!'..='~')).collect(),
        facts: Facts {
            from: Wall(id as i64),
            to: Wall(id as i64),
            outage: None,
            events: Vec::new(),
            events_more: 0,
            channels_normal: 1,
            readings: 1,
        },
        timing: DigestTiming::default(),
    };
    (0..n).map(|id| Record::Digest(digest(id))).collect()
}

fn encode(records: &[Record]) {
    let mut encoder = BlockEncoder::new();
    let header = |count: usize| BlockHeader {
        lane: Lane::Raw,
        epoch: 1,
        first: 1,
        count: count as u32,
        sealed: clock::stamp(),
        body: Body::Records,
    };
    let start = Instant::now();
    let blocks: Vec<Vec<u8>> =
        records.chunks(8192).map(|chunk| encoder.encode(&header(chunk.len()), chunk).unwrap()).collect();
    let encoded_s = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let decoded: usize = blocks.iter().map(|b| decode_block(b).unwrap().records.len()).sum();
    let decoded_s = start.elapsed().as_secs_f64();
    let bytes: usize = blocks.iter().map(Vec::len).sum();
    println!(
        "encode {:.1} M readings/s, decode {:.1} M readings/s, {:.2} bytes a reading",
        records.len() as f64 / encoded_s / 1e6,
        decoded as f64 / decoded_s / 1e6,
        bytes as f64 / records.len() as f64
    );
}

fn durable(what: &str, records: &[Record], per_commit: usize) {
    let dir = bench_dir();
    let (mut spool, _) = open_dir(dir.path(), Options::default(), clock::stamp()).unwrap();
    let batches: Vec<Vec<Record>> = records.chunks(per_commit).map(<[Record]>::to_vec).collect();
    let commits = batches.len();
    let start = Instant::now();
    for batch in batches {
        spool.admit(batch);
        spool.commit(clock::stamp()).unwrap();
        spool.tidy().unwrap();
    }
    let append_s = start.elapsed().as_secs_f64();
    let (bytes, disk) = (spool.bytes(), spool.bytes_on_disk());
    let start = Instant::now();
    let drained = drain(&mut spool, records[0].lane());
    let drain_s = start.elapsed().as_secs_f64();
    assert_eq!(drained, records.len() as u64);
    println!(
        "{what}: append {:.0} k/s durable ({:.2} ms a commit), {:.1} bytes each ({:.1} on disk), drain {:.0} k/s",
        records.len() as f64 / append_s / 1e3,
        append_s * 1e3 / commits as f64,
        bytes as f64 / records.len() as f64,
        disk as f64 / records.len() as f64,
        drained as f64 / drain_s / 1e3
    );
}

/// Handed to the thread as fast as it takes them, until all are durable: what group commit makes of it.
fn handed_over(what: &str, records: &[Record], at_a_time: usize) {
    let dir = bench_dir();
    let (store, _tails, _) = spool::start(dir.path(), Options::default()).unwrap();
    let batches: Vec<Vec<Record>> = records.chunks(at_a_time).map(<[Record]>::to_vec).collect();
    let before = metrics::SPOOL_COMMITS.value();
    let start = Instant::now();
    smol::block_on(async {
        for batch in batches {
            store.admit(batch).await.unwrap();
        }
        store.admit_durable(Vec::new()).await.unwrap();
    });
    let spent_s = start.elapsed().as_secs_f64();
    let commits = metrics::SPOOL_COMMITS.value() - before;
    println!(
        "to the thread, {what}: {:.0} k/s durable, {commits} commits of {:.0} records in {:.2} ms each",
        records.len() as f64 / spent_s / 1e3,
        records.len() as f64 / commits as f64,
        spent_s * 1e3 / commits as f64,
    );
    smol::block_on(store.close()).unwrap();
}

/// Fetches and releases everything as the uplink does, with a durable commit every 64 blocks.
fn drain(spool: &mut DiskSpool, lane: Lane) -> u64 {
    let (mut from, mut blocks) = (1, 0);
    while let Some(block) = spool.fetch(lane, from, clock::stamp()).unwrap() {
        from = block.id.last + 1;
        blocks += 1;
        if blocks % 64 == 0 {
            spool.release(lane, from - 1, &[]).unwrap();
            spool.commit(clock::stamp()).unwrap();
            spool.tidy().unwrap();
        }
    }
    spool.release(lane, from - 1, &[]).unwrap();
    spool.commit(clock::stamp()).unwrap();
    spool.ledger()[lane.index()].acknowledged
}

const RECORDS: usize = 1_000_000;
const ROUNDS: usize = 5;
const BACKLOG: usize = 10_000_000;
