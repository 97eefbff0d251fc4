//! Log lines over kills of the agent, where only summaries are kept: what is noted as read is in a summary on disk.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;

use outpost::aggregator::store::Reader;
use outpost::time::Wall;

use super::site::{DEVICE, Site};

/// Lines that the summaries of the aggregator have counted.
fn counted(site: &Site) -> u64 {
    let Ok(reader) = Reader::open(&site.database()) else { return 0 };
    let Ok(Some(device)) = reader.device(DEVICE) else { return 0 };
    let channels = reader.channels(device.key).unwrap();
    let Some(lines) = channels.iter().find(|channel| channel.name == "app.lines") else { return 0 };
    let buckets = reader.series(lines.key, Wall(0), Wall::from_secs(4_000_000_000)).unwrap();
    let sum = |bucket: &outpost::aggregator::store::Bucket| {
        bucket.values.map_or(0.0, |(_, _, mean)| mean * bucket.count as f64)
    };
    buckets.iter().map(sum).sum::<f64>().round() as u64
}

/// Where each file is read on was once noted as soon as its lines were counted: a kill took the summary that they were in.
#[test]
fn kills_lose_no_line_of_a_log_where_only_summaries_are_kept() {
    let site = Site::new();
    let mut aggregator = site.aggregator();
    let mut agent = site.agent(site.broker.addr, "");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    std::fs::write(&path, "").unwrap();
    let source =
        format!("[[source]]\nname = \"app\"\nkind = \"logs\"\npaths = [{path:?}]\nwindow = \"1 s\"\n");
    agent.reload(|toml| {
        toml.replace("keep = true", "keep = false").replace("length = \"1 s\"", "length = \"4 s\"") + &source
    });
    assert!(agent.stop().success());
    agent.restart();
    let mut written = 0;
    for pause_ms in [5_500, 3_000, 1_500, 4_700] {
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        for _ in 0..100 {
            writeln!(file, "job {written} done").unwrap();
            written += 1;
        }
        std::thread::sleep(Duration::from_millis(pause_ms));
        agent.kill();
        agent.restart();
    }
    // Those of the last run are in an open window still, which an orderly end tells.
    std::thread::sleep(Duration::from_millis(2_500));
    site.settle(&mut agent, &mut aggregator);
    let counted = counted(&site);
    assert!(counted >= written, "{counted} of {written} lines");
    assert!(counted <= 2 * written, "{counted} of {written} lines");
}
