//! The JSON twins of the pages. Times are RFC 3339 in UTC; epochs are 16 hex digits; fields are only ever added.

use serde_json::{Value, json};

use super::{Device, View};
use crate::aggregator::ledger::Ledger;
use crate::aggregator::store::StoreError;
use crate::reading::Severity;
use crate::time::Wall;
use crate::wire::block::epoch_text;

/// `/api/fleet`.
pub(super) fn fleet(view: &View<'_>) -> Result<Value, StoreError> {
    let devices = view.reader.fleet()?.into_iter().map(|row| overview(view, &view.stand(row)));
    Ok(json!({
        "at": view.now.rfc3339(),
        "database_bytes": view.reader.bytes()?,
        "devices": devices.collect::<Vec<_>>(),
    }))
}

/// `/api/device/<name>`.
pub(super) fn device(view: &View<'_>, device: &Device) -> Result<Value, StoreError> {
    let mut value = overview(view, device);
    let channels = view.reader.channels(device.row.key)?;
    value["channels"] = channels
        .iter()
        .map(|c| json!({ "name": c.name, "unit": c.unit, "newest_window": c.newest.rfc3339() }))
        .collect();
    value["notices"] = view
        .reader
        .notices(device.row.key)?
        .iter()
        .map(|n| json!({ "at": n.at.rfc3339(), "code": n.code, "text": n.text }))
        .collect();
    value["boots"] = view
        .reader
        .boots(device.row.key)?
        .iter()
        .map(|b| {
            json!({ "boot": b.boot.to_string(), "began": b.began.rfc3339(), "uncertainty_us": b.uncertainty_us,
                    "set_right_by_us": b.shifts_us })
        })
        .collect();
    value["gaps"] = view
        .reader
        .gaps(device.row.key)?
        .iter()
        .map(|g| {
            json!({ "lane": g.lane, "epoch": epoch_text(g.epoch), "first": g.first, "last": g.last,
                    "reason": g.reason, "declared": g.sealed.rfc3339() })
        })
        .collect();
    Ok(value)
}

fn overview(view: &View<'_>, device: &Device) -> Value {
    let row = &device.row;
    let open: serde_json::Map<String, Value> =
        Severity::ALL.iter().map(|s| (s.name().into(), json!(row.open[*s as usize]))).collect();
    let heartbeat = device.beat.as_ref().map(|b| {
        let beat = &b.beat;
        json!({
            "received": b.at.rfc3339(),
            "age_s": view.now.micros_since(b.at).max(0) / 1_000_000,
            "at": beat.at.wall.rfc3339(),
            "clock": beat.at.state.name(),
            "boot": beat.at.boot.to_string(),
            "uptime_s": beat.uptime_s,
            "version": beat.version,
            "health": beat.health.names().collect::<Vec<_>>(),
            "pending_records": beat.lanes.iter().fold(0u64, |n, lane| n.saturating_add(lane.pending)),
            "spool_bytes": beat.spool_bytes,
            "oldest_age_s": beat.oldest_age_s,
            "episodes_open": beat.episodes_open,
        })
    });
    json!({
        "device": row.name,
        "state": device.standing.name(),
        "first_seen": row.first_seen.rfc3339(),
        "last_seen": row.last_seen.rfc3339(),
        "open_episodes": open,
        "lost_records": row.lost,
        "missing_records": row.holes,
        "ledger_ok": !view.wrong.contains_key(&row.name),
        "undeclared_records": view.wrong.get(&row.name).copied().unwrap_or(0),
        "heartbeat": heartbeat,
    })
}

/// `/api/device/<name>/ledger`.
pub(super) fn ledger(view: &View<'_>, device: &Device) -> Result<Value, StoreError> {
    Ok(Ledger::read(view.reader, &device.row)?.json(&device.row, view.grace))
}

/// `/api/device/<name>/digests`: the latest, newest first.
pub(super) fn digests(view: &View<'_>, device: &Device) -> Result<Value, StoreError> {
    let digests = view.reader.digests(device.row.key, Wall(i64::MIN), Wall(i64::MAX))?;
    let digests = digests.iter().map(|row| {
        let d = &row.digest;
        json!({
            "id": d.id, "epoch": epoch_text(row.epoch), "engine": d.engine, "model": d.model,
            "fallback_reason": d.fallback_reason, "lang": d.lang, "verdict": d.verdict, "cause": d.cause,
            "text": d.text, "from": d.facts.from.rfc3339(), "to": d.facts.to.rfc3339(),
            "offline": d.facts.outage.is_some(), "facts": d.facts, "timing": d.timing,
        })
    });
    Ok(json!({ "device": device.row.name, "digests": digests.collect::<Vec<_>>() }))
}

/// `/api/device/<name>/episodes`: open ones first, then the latest.
pub(super) fn episodes(view: &View<'_>, device: &Device) -> Result<Value, StoreError> {
    let episodes = view.reader.episodes(device.row.key, Wall(i64::MIN), Wall(i64::MAX))?;
    let episodes = episodes.iter().map(|e| {
        json!({
            "channel": e.channel, "pattern": e.pattern, "severity": e.severity, "open": e.open,
            "interrupted": e.interrupted,
            "evidence": e.evidence.map(|(first, last)| json!({"lane": "raw", "first": first, "last": last})),
            "start": e.start.rfc3339(), "at": e.at.rfc3339(), "baseline": e.baseline, "peak": e.peak,
            "limit": e.limit, "count": e.count, "unit": e.unit, "reason": e.reason,
        })
    });
    Ok(json!({ "device": device.row.name, "episodes": episodes.collect::<Vec<_>>() }))
}
