//! Single readings for charts of a short period, out of the blocks that they came in.

use std::collections::BTreeMap;

use crate::aggregator::store::{Bucket, RawBlock, Reader, StoreError, is_near};
use crate::limits;
use crate::reading::{Reading, Value};
use crate::time::Wall;
use crate::wire::Record;
use crate::wire::block::decode_block;

/// Points of `channels` in `from..to`, by name, or `None` where there are more than [`limits::CHART_BLOCKS_MAX`] blocks:
/// windows then say it better.
pub(super) fn series(
    reader: &Reader,
    device: i64,
    channels: &[&str],
    from: Wall,
    to: Wall,
) -> Result<Option<BTreeMap<String, Vec<Bucket>>>, StoreError> {
    let blocks = reader.raw(device, from, to, limits::CHART_BLOCKS_MAX)?;
    if blocks.len() == limits::CHART_BLOCKS_MAX {
        return Ok(None);
    }
    let mut points: BTreeMap<(String, i64), Bucket> = BTreeMap::new();
    let width = (to.micros_since(from) / limits::CHART_POINTS_MAX as i64).max(1);
    for RawBlock { first, last, payload, shift_us } in blocks {
        // It was whole when it was stored; a block that a disk has spoiled since is only missing from the picture.
        let Ok(block) = decode_block(&payload) else { continue };
        let sealed = block.header.sealed.wall;
        for (seq, record) in (block.header.first..).zip(block.records) {
            if let Record::Reading(mut reading) = record
                && (first..=last).contains(&seq)
                && let () = set_right(&mut reading, sealed, shift_us)
                && (from..to).contains(&reading.at)
                && channels.contains(&reading.channel.as_str())
            {
                let slot = reading.at.micros_since(from) / width;
                let key = (reading.channel.as_str().to_owned(), slot);
                points.entry(key).and_modify(|point| add(point, &reading)).or_insert_with(|| alone(&reading));
            }
        }
    }
    let mut series: BTreeMap<String, Vec<Bucket>> = BTreeMap::new();
    for ((channel, _), point) in points {
        series.entry(channel).or_default().push(point);
    }
    Ok(Some(series))
}

/// The clock that sealed the block was off by `shift_us`, and so is what it stamped.
fn set_right(reading: &mut Reading, sealed: Wall, shift_us: i64) {
    if is_near(sealed, reading.at) {
        reading.at = Wall(reading.at.0.saturating_add(shift_us));
    }
}

fn alone(reading: &Reading) -> Bucket {
    let Reading { at, value, .. } = reading;
    let (count, missing) = tally(*value);
    Bucket { start: *at, end: *at, values: value.ok().map(|v| (v, v, v)), count, missing }
}

fn add(point: &mut Bucket, reading: &Reading) {
    point.start = point.start.min(reading.at);
    point.end = point.end.max(reading.at);
    if let Ok(v) = reading.value {
        point.values = Some(match point.values {
            None => (v, v, v),
            Some((min, max, mean)) => {
                let n = point.count as f64;
                (min.min(v), max.max(v), mean + (v - mean) / (n + 1.0))
            }
        });
    }
    let (count, missing) = tally(reading.value);
    point.count += count;
    point.missing += missing;
}

const fn tally(value: Value) -> (u64, u64) {
    if value.is_ok() { (1, 0) } else { (0, 1) }
}
