//! The fleet: one row per device, the ones in trouble first.

use std::fmt::Write as _;
use std::time::Duration;

use super::html::{self, ago, bytes, count, time};
use super::{Device, Standing, View};
use crate::aggregator::store::StoreError;
use crate::http::{Esc, Response};
use crate::limits;
use crate::reading::Severity;
use crate::time::{ClockState, humane};

/// `/`.
pub(super) fn page(view: &View<'_>) -> Result<Response, StoreError> {
    Ok(html::page("Fleet", 15, &table(view)?))
}

/// Every device, or what to do when there is none.
fn table(view: &View<'_>) -> Result<String, StoreError> {
    let mut devices: Vec<Device> = view.reader.fleet()?.into_iter().map(|row| view.stand(row)).collect();
    devices.sort_by_key(|d| (!has_critical(d), d.standing, d.row.name.clone()));
    let mut main = String::from("<h1>Fleet</h1>");
    if devices.is_empty() {
        main.push_str(
            "<div class=\"card\"><p>No device has been heard yet.</p><p class=\"muted\">Start an agent whose \
             <code>[mqtt]</code> section names the same broker and prefix; it shows up here with its first \
             heartbeat.</p></div>",
        );
        return Ok(main);
    }
    summary(&mut main, &devices);
    main.push_str(
        "<div class=\"card scroll\"><table class=\"fleet\"><thead><tr><th>Device</th><th>Heartbeat</th><th>Open alarms</th>\
         <th class=\"num\">In spool</th><th class=\"num\">Oldest</th><th>Clock</th><th class=\"num\">Lost</th>\
         <th class=\"num\">Missing</th><th>Ledger</th></tr></thead><tbody>",
    );
    for device in devices.iter().take(limits::PAGE_ROWS_MAX) {
        row(&mut main, view, device);
    }
    main.push_str("</tbody></table></div>");
    if devices.len() > limits::PAGE_ROWS_MAX {
        let more = devices.len() - limits::PAGE_ROWS_MAX;
        let _ =
            write!(main, "<p class=\"muted\">and {more} more: see <a href=\"/api/fleet\">/api/fleet</a></p>");
    }
    main.push_str(
        "<p class=\"muted small\">Lost: records that a device gave up and declared. Missing: records that are neither here nor \
         declared, on their way or lost. Ledger: whether what a device says it promised and what is here agree.</p>",
    );
    Ok(main)
}

fn has_critical(device: &Device) -> bool {
    device.row.open[Severity::Critical as usize] > 0
}

fn summary(main: &mut String, devices: &[Device]) {
    let of = |standing| devices.iter().filter(|d| d.standing == standing).count();
    let open: u64 = devices.iter().map(|d| d.row.open.iter().sum::<u64>()).sum();
    let away = of(Standing::Silent) + of(Standing::Offline);
    let tiles = [
        ("devices", devices.len().to_string(), ""),
        ("online", of(Standing::Online).to_string(), ""),
        ("away", away.to_string(), if away > 0 { "warn" } else { "" }),
        ("open alarms", open.to_string(), if open > 0 { "warn" } else { "" }),
    ];
    main.push_str("<div class=\"tiles\">");
    for (name, value, class) in tiles {
        let _ = write!(main, "<div class=\"tile {class}\"><b>{value}</b><span>{name}</span></div>");
    }
    main.push_str("</div>");
}

fn row(main: &mut String, view: &View<'_>, device: &Device) {
    let name = &device.row.name;
    let _ = write!(
        main,
        "<tr><td><a href=\"/device/{0}\">{0}</a> {1}</td>",
        Esc(name),
        state_badge(device.standing)
    );
    match &device.beat {
        None => main.push_str("<td class=\"muted\">never</td>"),
        Some(beat) => {
            let age = ago(beat.at, view.now);
            let _ = write!(main, "<td title=\"{}\">{} ago</td>", Esc(beat.at.rfc3339()), Esc(age));
        }
    }
    let _ = write!(main, "<td>{}</td>", alarms(device));
    match &device.beat {
        None => main.push_str("<td class=\"num\">–</td><td class=\"num\">–</td><td>–</td>"),
        Some(beat) => {
            let pending: u64 = beat.beat.lanes.iter().fold(0, |n, lane| n.saturating_add(lane.pending));
            let oldest = match beat.beat.oldest_age_s {
                _ if pending == 0 => "–".to_owned(),
                s => humane(Duration::from_secs(s.into())),
            };
            let size = bytes(beat.beat.spool_bytes);
            let _ = write!(
                main,
                "<td class=\"num\" title=\"{size}\">{}</td><td class=\"num\">{oldest}</td><td>{}</td>",
                count(pending),
                clock_badge(beat.beat.at.state)
            );
        }
    }
    let warn = |n: u64| if n > 0 { "num warn" } else { "num muted" };
    let (lost, holes) = (device.row.lost, device.row.holes);
    let _ = write!(
        main,
        "<td class=\"{}\">{}</td><td class=\"{}\">{}</td><td>{}</td></tr>",
        warn(lost),
        count(lost),
        warn(holes),
        count(holes),
        ledger_badge(view, name)
    );
}

fn ledger_badge(view: &View<'_>, device: &str) -> String {
    let text = match view.wrong.get(device) {
        None => return "<span class=\"good\">✓</span>".into(),
        Some(0) => "contradicts itself".into(),
        Some(n) => format!("{} undeclared", count(*n)),
    };
    format!("<a class=\"bad\" href=\"/device/{}#ledger\">✗ {text}</a>", Esc(device))
}

/// The dot and the word.
pub(super) fn state_badge(standing: Standing) -> String {
    format!("<span class=\"state {0}\"><i></i>{0}</span>", standing.name())
}

pub(super) fn clock_badge(state: ClockState) -> String {
    let class = if state == ClockState::Unset { "warn" } else { "muted" };
    format!("<span class=\"{class}\">{}</span>", state.name())
}

fn alarms(device: &Device) -> String {
    let mut out = String::new();
    for severity in Severity::ALL.iter().rev() {
        let open = device.row.open[*severity as usize];
        if open > 0 {
            let _ = write!(out, "<span class=\"chip {severity}\">{open} {severity}</span> ");
        }
    }
    if out.is_empty() { "<span class=\"muted\">none</span>".into() } else { out }
}

/// First and latest message of a device, for its page.
pub(super) fn seen(device: &Device) -> String {
    format!("first heard {}, latest {}", time(device.row.first_seen), time(device.row.last_seen))
}
