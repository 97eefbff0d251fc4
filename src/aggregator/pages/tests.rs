//! The pages over a seeded database.

use super::*;
use crate::aggregator::store::{Content, Delivery, Retention, Signs, Store, Trust};
use crate::digest::{Digest, DigestTiming, Engine, Lang};
use crate::episode::{EpisodeUpdate, Phase};
use crate::facts::{Citation, EventFact, Facts, Outage};
use crate::reading::{ChannelId, NoData, Pattern, Quantity, Reading, Severity, Unit};
use crate::time::{BootId, ClockState, Mono, Stamp};
use crate::window::WindowSummary;
use crate::wire::block::{BlockHeader, Body, encode_block};
use crate::wire::heartbeat::{Health, LaneBeat};
use crate::wire::{GapReason, Lane, Notice, Record};

const NOW: Wall = Wall::from_secs(1_790_000_000);
const EPOCH: u64 = 0x4f1c_9a20_77e3_b10d;

fn before(s: u64) -> Wall {
    NOW - Duration::from_secs(s)
}

fn deliver(device: &str, lane: Lane, first: u64, records: Vec<Record>) -> Delivery {
    let last = first + records.len() as u64 - 1;
    let content = Content::Records { records, payload: Vec::new() };
    let sealed =
        Stamp { wall: NOW, mono: Mono(1), boot: BootId([7; 16]), uncertainty_us: 0, state: ClockState::Free };
    Delivery { device: device.into(), lane, epoch: EPOCH, first, last, sealed, content }
}

/// A day of one-minute windows with a fault four hours ago and a hole in the night.
fn windows(channel: &str, unit: &str, base: f64, fault: f64) -> Vec<Record> {
    let id = ChannelId::new(channel).unwrap();
    let window = |minute: u64| {
        let age_s = 86_400 - minute * 60;
        let swing = (minute as f64 / 90.0).sin() + (minute as f64 / 7.0).sin() * 0.3;
        let ramp = if (7200..14_400).contains(&age_s) { (14_400 - age_s) as f64 / 7200.0 } else { 0.0 };
        let mean = base + swing * base * 0.03 + fault * ramp;
        Record::Window(WindowSummary {
            channel: id.clone(),
            unit: Unit(unit.into()),
            start: before(age_s),
            length_ms: 60_000,
            count: 60,
            missing: u32::from(minute.is_multiple_of(97)),
            min: mean - base * 0.02,
            max: mean + base * 0.02,
            mean,
            std: base * 0.01,
            last: mean,
            slope_per_h: 0.0,
            detail: None,
        })
    };
    (0..1440).filter(|m| !(300..360).contains(m)).map(window).collect()
}

fn episode(id: u64, channel: &str, severity: Severity, phase: Phase, start_s: u64, at_s: u64) -> Record {
    Record::Episode(EpisodeUpdate {
        id,
        phase,
        channel: ChannelId::new(channel).unwrap(),
        pattern: if id == 1 { Pattern::Rise } else { Pattern::High },
        severity,
        start: before(start_s),
        at: before(at_s),
        baseline: Some(41.2),
        peak: Some(78.4),
        last: Some(77.0),
        limit: Some(75.0),
        count: 14,
        unit: Unit("Cel".into()),
        reason: "climbs 18 °C per hour, crossed the limit".into(),
        evidence: None,
    })
}

fn digest(text: &str, label: &str, outage: Option<Outage>) -> Record {
    let event = EventFact {
        channel: ChannelId::new("pump1.bearing_temp").unwrap(),
        label: label.into(),
        asset: Some("pump1".into()),
        quantity: Quantity::Temperature,
        pattern: Pattern::Rise,
        severity: Severity::Critical,
        ongoing: false,
        start: before(14_400),
        duration_s: 7200,
        baseline: Some(41.2),
        peak: Some(78.4),
        limit: Some(75.0),
        count: None,
        unit: Unit("Cel".into()),
        cites: Some(Citation { lane: Lane::Alarm, first: 1, last: 2 }),
    };
    let engine = if outage.is_some() { Engine::Template } else { Engine::Glm };
    Record::Digest(Digest {
        id: 1,
        engine,
        model: "3fa94c10d2be7781".into(),
        fallback_reason: String::new(),
        lang: Lang::En,
        verdict: Severity::Critical,
        cause: "bearing_wear".into(),
        text: text.into(),
        facts: Facts {
            from: before(15_000),
            to: before(6000),
            outage,
            events: vec![event],
            events_more: 0,
            channels_normal: 5,
            readings: 86_400,
        },
        timing: DigestTiming::default(),
    })
}

fn beat(lanes: [LaneBeat; 4], health: Health) -> Vec<u8> {
    let at = Stamp {
        wall: before(8),
        mono: Mono(9),
        boot: BootId([7; 16]),
        uncertainty_us: 900,
        state: ClockState::Synced,
    };
    let model_hash_prefix = [0x3f, 0xa9, 0x4c, 0x10, 0xd2, 0xbe, 0x77, 0x81];
    Heartbeat {
        serial: 1,
        at,
        uptime_s: 312_000,
        version: "0.1.0".into(),
        model_hash_prefix,
        health,
        lanes,
        oldest_age_s: 42,
        spool_bytes: 183_000,
        episodes_open: 1,
    }
    .encode()
}

fn lane(admitted: u64, acknowledged: u64, pending: u64, evicted: u64) -> LaneBeat {
    LaneBeat {
        epoch: EPOCH.to_be_bytes(),
        admitted,
        acknowledged,
        pending,
        evicted,
        by_reason: [evicted, 0, 0, 0, 0, 0],
    }
}

fn said(heartbeat: Vec<u8>, state: Option<String>) -> Signs {
    Signs { heartbeat: Some((heartbeat, Trust::Unsigned)), state, ..Signs::default() }
}

/// Three devices: one with a rich day, one silent with a hole, one that sleeps.
fn seed(dir: &std::path::Path) -> Pages {
    let path = dir.join("fleet.db");
    let mut store = Store::open(&path, Retention::default()).unwrap();
    let mut metric = windows("pump1.bearing_temp", "Cel", 41.0, 36.0);
    metric.extend(windows("pump1.vibration", "mm/s", 2.4, 3.1));
    metric.extend(windows("pump1.motor_current", "A", 11.2, 1.4));
    metric.extend(windows("hall.humidity", "%", 48.0, 0.0));
    let metrics = metric.len() as u64;
    let alarms = vec![
        episode(1, "pump1.bearing_temp", Severity::Critical, Phase::Opened, 14_400, 14_400),
        episode(1, "pump1.bearing_temp", Severity::Critical, Phase::Closed, 14_400, 7200),
        episode(2, "pump1.vibration", Severity::Warning, Phase::Opened, 5400, 5400),
        Record::Notice(Notice {
            code: "clock_stepped".into(),
            text: "The clock was set by 3 s.".into(),
            at: before(70_000),
        }),
    ];
    let outage =
        Outage { start: before(40_000), duration_s: 21_000, records_kept: 18_204, records_lost: 512 };
    let digests = vec![
        digest(
            "The line was down for 5 h 50 min. Bearing temperature of pump 1 rose meanwhile; everything else stayed normal.",
            "pump 1 bearing temperature",
            Some(outage),
        ),
        digest(
            "Pump 1 bearing temperature rose from 41.2 °C to 78.4 °C over two hours and crossed its limit of 75 °C [1]. Vibration \
             rose with it. This looks like bearing wear: inspect the bearing and its lubrication today.",
            "pump 1 bearing temperature",
            None,
        ),
    ];
    let gap = Delivery {
        last: 512,
        content: Content::Gap(GapReason::Quota),
        ..deliver("gw-press-hall", Lane::Raw, 1, vec![episode(9, "x", Severity::Info, Phase::Opened, 1, 1)])
    };
    let silent = deliver("gw-boiler-2", Lane::Metric, 41, windows("boiler.flow", "m3/h", 7.0, 0.0));
    let deliveries = [
        deliver("gw-press-hall", Lane::Metric, 1, metric),
        deliver("gw-press-hall", Lane::Alarm, 1, alarms),
        deliver("gw-press-hall", Lane::Digest, 1, digests),
        gap,
        silent,
    ];
    let lanes =
        [lane(4, 4, 0, 0), lane(2, 2, 0, 0), lane(metrics + 30, metrics, 30, 0), lane(1536, 0, 1024, 512)];
    let online = Some("online".to_owned());
    let signs = [
        ("gw-press-hall", said(beat(lanes, Health(0)), online.clone())),
        ("gw-boiler-2", said(beat([lane(1420, 1380, 0, 40); 4], Health::SPOOL_FULL), online)),
        ("gw-barn", Signs { state: Some("sleeping".into()), ..Signs::default() }),
    ];
    let (late, fresh): (Vec<_>, Vec<_>) =
        signs.into_iter().map(|(name, s)| (name.to_owned(), s)).partition(|(name, _)| name == "gw-boiler-2");
    store.write(before(4000), &deliveries, &late.into_iter().collect()).unwrap();
    store.write(before(8), &[], &fresh.into_iter().collect()).unwrap();
    drop(store);
    Pages::new(Reader::open(&path).unwrap(), Duration::from_secs(90), Duration::from_secs(300))
}

fn get(pages: &Pages, path: &str) -> (u16, String) {
    let response = pages.respond(&Request::get(path), NOW);
    (response.status(), String::from_utf8(response.body().to_vec()).unwrap())
}

fn json(pages: &Pages, path: &str) -> serde_json::Value {
    let (status, body) = get(pages, path);
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn the_fleet_puts_trouble_first_and_says_how_each_device_stands() {
    let dir = tempfile::tempdir().unwrap();
    let pages = seed(dir.path());
    let (status, page) = get(&pages, "/");
    assert_eq!(status, 200);
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} is not on the page"));
    assert!(at("gw-boiler-2") < at("gw-barn") && at("gw-barn") < at("gw-press-hall"));
    assert!(page.contains("state silent") && page.contains("state sleeping") && page.contains("1 warning"));
    let fleet = json(&pages, "/api/fleet");
    let states: Vec<_> =
        fleet["devices"].as_array().unwrap().iter().map(|d| d["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["sleeping", "silent", "online"]);
}

#[test]
fn a_device_page_shows_digests_alarms_curves_and_what_they_cite() {
    let dir = tempfile::tempdir().unwrap();
    let pages = seed(dir.path());
    let (status, page) = get(&pages, "/device/gw-press-hall");
    assert_eq!(status, 200);
    for text in [
        "bearing wear",
        "The line was down for",
        "worded by model 3fa94c10d2be7781",
        "°C",
        "<polyline",
        "quota",
    ] {
        assert!(page.contains(text), "{text} is not on the page");
    }
    let link = page.split("href=\"#e").nth(1).expect("a citation leads to an episode");
    let key = link.split('"').next().unwrap();
    assert!(page.contains(&format!("id=\"e{key}\"")));
}

#[test]
fn the_ledger_says_what_is_complete_and_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let pages = seed(dir.path());
    let page = get(&pages, "/device/gw-press-hall").1;
    assert!(page.contains("✓ nothing missing") && page.contains("✓ 30 records on their way"));
    let page = get(&pages, "/device/gw-boiler-2").1;
    assert!(page.contains("✗ "), "the hole of the silent device is not on its page");
    let ledger = json(&pages, "/api/device/gw-boiler-2/ledger");
    let metric = ledger["lanes"].as_array().unwrap().iter().find(|l| l["lane"] == "metric").unwrap();
    assert_eq!((metric["holes"].as_u64(), metric["hole_ranges"][0][1].as_u64()), (Some(40), Some(40)));
    let raw = &json(&pages, "/api/device/gw-press-hall/ledger")["lanes"][3];
    assert_eq!((raw["gaps"].as_u64(), raw["ok"].as_bool()), (Some(512), Some(true)));
}

#[test]
fn the_fleet_says_whose_ledger_is_wrong_once_it_was_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let pages = seed(dir.path());
    let wrong = pages.survey().unwrap();
    assert_eq!(wrong.keys().collect::<Vec<_>>(), ["gw-boiler-2"]);
    let page = get(&pages, "/").1;
    assert!(page.contains("href=\"/device/gw-boiler-2#ledger\">✗ "), "{page}");
    assert!(!page.contains("/device/gw-barn#ledger"));
    let fleet = json(&pages, "/api/fleet");
    let of = |name: &str| {
        fleet["devices"].as_array().unwrap().iter().find(|d| d["device"] == name).cloned().unwrap()
    };
    assert_eq!(of("gw-boiler-2")["undeclared_records"].as_u64(), Some(wrong["gw-boiler-2"]));
    assert_eq!((&of("gw-boiler-2")["ledger_ok"], &of("gw-barn")["ledger_ok"]), (&false.into(), &true.into()));
}

#[test]
fn a_hostile_device_cannot_put_markup_on_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fleet.db");
    let mut store = Store::open(&path, Retention::default()).unwrap();
    let evil = "<script>alert(1)</script>\"><img src=x onerror='y'>";
    let Record::Digest(mut hostile) = digest(evil, evil, None) else { unreachable!() };
    (hostile.cause, hostile.model, hostile.fallback_reason) = (evil.into(), evil.into(), evil.into());
    hostile.facts.events[0].unit = Unit(evil.into());
    let Record::Episode(mut update) = episode(1, "c", Severity::Info, Phase::Opened, 60, 60) else {
        unreachable!()
    };
    (update.reason, update.unit) = (evil.into(), Unit(evil.into()));
    let notice = Record::Notice(Notice { code: evil.into(), text: evil.into(), at: NOW });
    let Record::Window(mut window) = windows("c", evil, 1.0, 0.0).pop().unwrap() else { unreachable!() };
    window.unit = Unit(evil.into());
    let deliveries = [
        deliver("d", Lane::Digest, 1, vec![Record::Digest(hostile)]),
        deliver("d", Lane::Alarm, 1, vec![Record::Episode(update), notice]),
        deliver("d", Lane::Metric, 1, vec![Record::Window(window)]),
        // The desk lets no such name in; the pages do not rely on it.
        deliver(evil, Lane::Metric, 1, windows("c", "Cel", 1.0, 0.0)),
    ];
    store.commit(NOW, &deliveries).unwrap();
    let pages = Pages::new(Reader::open(&path).unwrap(), Duration::from_secs(90), Duration::from_secs(300));
    let query = "?span=1h&channel=%3Cscript%3E&end=%22%3E%3Cscript%3E";
    for path in
        ["/", "/device/d", &format!("/device/d{query}"), "/device/%3Cscript%3E", "/%3Cscript%3Ealert(1)"]
    {
        let page = get(&pages, path).1;
        assert!(page.contains("<main>"), "{path}");
        assert!(!page.contains("<script>") && !page.contains("<img"), "{path}: {page}");
    }
}

#[test]
fn unknown_devices_and_paths_are_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let pages = seed(dir.path());
    for path in [
        "/device/nobody",
        "/device/",
        "/api/device/nobody/ledger",
        "/device/gw-barn/x",
        "/etc/passwd",
        "/device/%00",
    ] {
        assert_eq!(get(&pages, path).0, 404, "{path}");
    }
    assert!(get(&pages, "/style.css").0 == 200 && get(&pages, "/script.js").0 == 200);
}

#[test]
fn the_json_twins_carry_what_the_pages_show() {
    let dir = tempfile::tempdir().unwrap();
    let pages = seed(dir.path());
    let device = json(&pages, "/api/device/gw-press-hall");
    assert_eq!(device["channels"].as_array().unwrap().len(), 4);
    assert_eq!(device["heartbeat"]["clock"], "synced");
    assert_eq!(device["notices"][0]["code"], "clock_stepped");
    let digests = json(&pages, "/api/device/gw-press-hall/digests");
    let engines: Vec<_> =
        digests["digests"].as_array().unwrap().iter().map(|d| d["engine"].clone()).collect();
    assert_eq!(engines, ["glm", "template"]);
    let episodes = json(&pages, "/api/device/gw-press-hall/episodes");
    assert_eq!(episodes["episodes"][0]["open"], true);
}

#[test]
fn the_shortest_period_shows_single_readings_where_they_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fleet.db");
    let mut store = Store::open(&path, Retention::default()).unwrap();
    let channel = ChannelId::new("c").unwrap();
    let reading = |s, value| Record::Reading(Reading::new(channel.clone(), before(s), value));
    let records = vec![
        reading(1800, Ok(3.0)),
        reading(1799, Ok(5.0)),
        reading(1798, Err(NoData::Null)),
        reading(600, Ok(9.0)),
    ];
    let sealed = Stamp {
        wall: NOW,
        mono: Mono(1),
        boot: BootId::default(),
        uncertainty_us: 0,
        state: ClockState::Free,
    };
    let header =
        BlockHeader { lane: Lane::Raw, epoch: EPOCH, first: 1, count: 4, sealed, body: Body::Records };
    let payload = encode_block(&header, &records).unwrap();
    let raw = Delivery {
        content: Content::Records { records, payload },
        ..deliver("d", Lane::Raw, 1, windows("c", "Cel", 1.0, 0.0))
    };
    let raw = Delivery { last: 4, ..raw };
    store.commit(NOW, &[raw, deliver("d", Lane::Metric, 1, windows("c", "Cel", 1.0, 0.0))]).unwrap();
    let pages = Pages::new(Reader::open(&path).unwrap(), Duration::from_secs(90), Duration::from_secs(300));
    let hour = get(&pages, "/device/d?span=1h").1;
    assert!(hour.contains("mean 4 °C, 3 to 5, 1 without value (2 readings)"), "{hour}");
    assert!(!get(&pages, "/device/d?span=6h").1.contains("mean 4 °C"));
}
