//! How fast records become durable and leave again, beside redb and SQLite on the same records and commits, and what a
//! backlog of a gigabyte costs: `cargo bench --bench spool` (`-- quick` leaves the backlog out).
//!
//! Figures depend on the medium's sync; the directory is `$OUTPOST_BENCH_DIR` or the system's temporary one.

use std::time::Instant;

use outpost::clock;
use outpost::reading::{ChannelId, Reading};
use outpost::spool::{DiskSpool, Options, open_dir};
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

/// Append and drain, in thousands of records per second.
#[derive(Clone, Copy)]
struct Speed {
    append: f64,
    drain: f64,
}

impl Speed {
    fn new(records: usize, append_s: f64, drain_s: f64) -> Self {
        Self { append: records as f64 / append_s / 1e3, drain: records as f64 / drain_s / 1e3 }
    }
}

/// In turn, so that what else the machine does hits everybody; the medians, and those of each round's ratio to the peer.
fn beside_the_peers(notices: &[Record]) {
    let what = "256-byte records, 1 000 a commit";
    let rounds: Vec<[Speed; 3]> = (0..ROUNDS)
        .map(|_| [durable(what, notices, PEER_COMMIT), redb(notices.len()), sqlite(notices.len())])
        .collect();
    let median = |figure: &dyn Fn(&[Speed; 3]) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    for (i, peer) in ["the spool", "redb", "SQLite, WAL, synchronous=FULL"].into_iter().enumerate() {
        println!(
            "{what}, {ROUNDS} rounds, {peer}: append {:.0} k/s durable, drain {:.0} k/s; the spool is at {:.2} and {:.2} times that",
            median(&|round| round[i].append),
            median(&|round| round[i].drain),
            median(&|round| round[0].append / round[i].append),
            median(&|round| round[0].drain / round[i].drain),
        );
    }
}

fn redb(records: usize) -> Speed {
    const TABLE: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("queue");
    let dir = bench_dir();
    let db = redb::Database::create(dir.path().join("db")).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let values: Vec<_> = (0..records).map(|_| bytes_256(&mut random)).collect();
    let start = Instant::now();
    for (n, chunk) in values.chunks(PEER_COMMIT).enumerate() {
        let commit = db.begin_write().unwrap();
        {
            let mut table = commit.open_table(TABLE).unwrap();
            for (i, value) in chunk.iter().enumerate() {
                table.insert((n * PEER_COMMIT + i) as u64, value.as_slice()).unwrap();
            }
        }
        commit.commit().unwrap();
    }
    let append_s = start.elapsed().as_secs_f64();
    let (start, mut drained) = (Instant::now(), 0);
    while drained < records {
        let commit = db.begin_write().unwrap();
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
    Speed::new(records, append_s, start.elapsed().as_secs_f64())
}

fn sqlite(records: usize) -> Speed {
    let dir = bench_dir();
    let mut db = rusqlite::Connection::open(dir.path().join("db")).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE q(n INTEGER PRIMARY KEY, v BLOB)",
    )
    .unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let values: Vec<_> = (0..records).map(|_| bytes_256(&mut random)).collect();
    let start = Instant::now();
    for chunk in values.chunks(PEER_COMMIT) {
        let commit = db.transaction().unwrap();
        {
            let mut insert = commit.prepare_cached("INSERT INTO q(v) VALUES(?)").unwrap();
            for value in chunk {
                insert.execute([value]).unwrap();
            }
        }
        commit.commit().unwrap();
    }
    let append_s = start.elapsed().as_secs_f64();
    let (start, mut drained) = (Instant::now(), 0);
    while drained < records {
        let commit = db.transaction().unwrap();
        let through = (drained + PEER_DRAIN).min(records);
        {
            let mut select = commit.prepare_cached("SELECT v FROM q WHERE n > ? AND n <= ?").unwrap();
            let rows =
                select.query_map([drained as i64, through as i64], |row| row.get::<_, Vec<u8>>(0)).unwrap();
            assert_eq!(rows.map(|v| v.unwrap().len()).sum::<usize>(), (through - drained) * 256);
            commit.execute("DELETE FROM q WHERE n <= ?", [through as i64]).unwrap();
        }
        commit.commit().unwrap();
        drained = through;
    }
    Speed::new(records, append_s, start.elapsed().as_secs_f64())
}

/// A gigabyte of `batch` again and again: what it costs in memory, to open, and on disk once it is gone.
fn backlog(batch: &[Record]) {
    let dir = bench_dir();
    let options = Options { bytes_max: 4 << 30, disk_free_bytes_min: 0, ..Options::default() };
    let open = || open_dir(dir.path(), options.clone(), clock::stamp()).unwrap().0;
    let mut spool = open();
    let fill = |spool: &mut DiskSpool, bytes: u64| {
        while spool.bytes() < bytes {
            spool.admit(batch.to_vec());
            spool.commit(clock::stamp()).unwrap();
            spool.tidy().unwrap();
        }
    };
    fill(&mut spool, 1 << 20);
    let empty_disk = spool.bytes_on_disk();
    fill(&mut spool, 64 << 20);
    let before = resident_kib();
    fill(&mut spool, 1 << 30);
    let (after, disk) = (resident_kib(), spool.bytes_on_disk());
    drop(spool);
    let start = Instant::now();
    let mut spool = open();
    let opened_ms = start.elapsed().as_secs_f64() * 1e3;
    let pending = spool.ledger()[batch[0].lane().index()].pending;
    let start = Instant::now();
    drain(&mut spool, batch[0].lane());
    spool.tidy().unwrap();
    println!(
        "a backlog of 1 GiB, {pending} records: resident {:+.1} MiB from the first 64 MiB on, {:.2} bytes on disk per byte, \
         opened in {opened_ms:.0} ms, drained in {:.1} s, then {:.1} MiB on disk ({:.1} after the first MiB)",
        (after as f64 - before as f64) / 1024.0,
        disk as f64 / (1_u64 << 30) as f64,
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

fn durable(what: &str, records: &[Record], per_commit: usize) -> Speed {
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
    Speed::new(records.len(), append_s, drain_s)
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
