//! How fast records become durable and leave again: `cargo bench --bench spool`.
//!
//! Figures depend on the medium's sync; the directory is `$OUTPOST_BENCH_DIR` or the system's temporary one.

use std::time::Instant;

use outpost::clock;
use outpost::reading::{ChannelId, Reading};
use outpost::spool::{DiskSpool, Options, open_dir};
use outpost::time::Wall;
use outpost::wire::{BlockEncoder, BlockHeader, Body, Lane, Notice, Record, decode_block};

fn main() {
    let readings = readings(RECORDS);
    encode(&readings);
    durable("readings, 10 000 a commit", &readings, 10_000);
    durable("readings, 1 000 a commit", &readings, 1_000);
    durable("256-byte records, 1 000 a commit", &notices(RECORDS / 4), 1_000);
    durable("256-byte records, one a commit", &notices(2_000), 1);
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
        Record::Reading(Reading { channel: channels[c].clone(), at, value: Ok(levels[c] as f64 / 100.0) })
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

fn durable(what: &str, records: &[Record], per_commit: usize) {
    let base = std::env::var_os("OUTPOST_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::TempDir::new_in(base).unwrap();
    let (mut spool, _) = open_dir(dir.path(), Options::default(), clock::stamp()).unwrap();
    let batches: Vec<Vec<Record>> = records.chunks(per_commit).map(<[Record]>::to_vec).collect();
    let commits = batches.len();
    let start = Instant::now();
    for batch in batches {
        spool.admit(batch);
        spool.commit(clock::stamp()).unwrap();
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

/// Fetches and releases everything as the uplink does, with a durable commit every 64 blocks.
fn drain(spool: &mut DiskSpool, lane: Lane) -> u64 {
    let (mut from, mut blocks) = (1, 0);
    while let Some(block) = spool.fetch(lane, from, clock::stamp()).unwrap() {
        from = block.id.last + 1;
        blocks += 1;
        if blocks % 64 == 0 {
            spool.release(lane, from - 1, &[]).unwrap();
            spool.commit(clock::stamp()).unwrap();
        }
    }
    spool.release(lane, from - 1, &[]).unwrap();
    spool.commit(clock::stamp()).unwrap();
    spool.ledger()[lane.index()].acknowledged
}

const RECORDS: usize = 1_000_000;
