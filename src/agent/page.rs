//! The agent's own page: the status for people, refreshed by the browser, without script.

use std::fmt::Write as _;
use std::rc::Rc;

use super::status::Status;
use super::{Shared, ask, chat};
use crate::http::{self, Esc, Request, Response, Server};
use crate::time::humane;

/// Paths that take `POST`.
pub(super) const POSTS: &[&str] = &[ASK, chat::COMPLETIONS];
const ASK: &str = "/api/ask";

/// Answers until dropped.
pub(super) async fn serve(shared: Rc<Shared>, server: Server) {
    server.serve(async |request| answer(&shared, &request).await).await;
}

async fn answer(shared: &Rc<Shared>, request: &Request) -> Response {
    if let Some(common) = http::common(request, || ready(shared)) {
        return common;
    }
    match request.path.as_str() {
        "/" => with_status(shared, |status| Response::html(html(status))).await,
        "/api/status" => {
            with_status(shared, |status| match serde_json::to_value(status) {
                Ok(value) => Response::json(&value),
                Err(e) => Response::text(500, e.to_string()),
            })
            .await
        }
        chat::COMPLETIONS if request.post => chat::complete(shared, &request.body).await,
        "/v1/models" => chat::models(shared),
        ASK if request.post => ask::respond(shared, &request.body).await,
        "/style.css" => Response::new(200, "text/css; charset=utf-8", STYLE),
        _ => Response::not_found(),
    }
}

async fn with_status(shared: &Rc<Shared>, show: impl FnOnce(&Status) -> Response) -> Response {
    match shared.status().await {
        Ok(status) => show(&status),
        Err(e) => Response::text(503, e.to_string()),
    }
}

/// Ready means: what a source sends now will be kept. The line may be down, that is what the spool is for.
fn ready(shared: &Shared) -> Result<(), String> {
    let failed = shared.sources.borrow().iter().find(|s| s.state.starts_with("failed")).cloned();
    failed.map_or(Ok(()), |s| Err(format!("source {}: {}", s.name, s.state)))
}

fn html(status: &Status) -> String {
    let mut out = String::with_capacity(4096);
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <meta http-equiv=refresh content=5><title>{device} · Outpost</title><link rel=stylesheet href=/style.css>\
         <main><h1>{device}</h1><p>Outpost {version}, up for {uptime}, clock {clock}",
        device = Esc(&status.device),
        version = Esc(&status.version),
        uptime = humane(std::time::Duration::from_secs(status.uptime_s)),
        clock = Esc(&status.clock),
    );
    line(&mut out, status);
    meter(&mut out, status);
    digest(&mut out, status);
    counts(&mut out, status);
    ledger(&mut out, status);
    out.push_str("<p><a href=/api/status>JSON</a> · <a href=/metrics>metrics</a></main></html>");
    out
}

fn line(out: &mut String, status: &Status) {
    let since = humane(std::time::Duration::from_secs(status.line.since_s));
    let (class, text) = if status.line.up { ("ok", "up") } else { ("bad", "down, buffering") };
    let _ = write!(out, "<h2>Line</h2><p class={class}>{text} for {since}");
    if let (false, Some(reason)) = (status.line.up, &status.line.reason) {
        let _ = write!(out, "<p>{}", Esc(reason));
    }
    if !status.line.unheard.is_empty() {
        let _ = write!(
            out,
            "<p class=bad>the broker has nobody who listens to {}: such records wait here. Does an aggregator run, connected to \
             this broker, with the same <code>mqtt.prefix</code>?",
            Esc(&status.line.unheard.join(", ")),
        );
    }
}

fn meter(out: &mut String, status: &Status) {
    let Some(bytes) = status.meter.bytes_per_day else { return };
    let class = if status.meter.fidelity == "raw" { "ok" } else { "bad" };
    let _ = write!(
        out,
        "<p class={class}>{used} of today's {budget} KiB are used; the finest that is sent: {fidelity}",
        used = status.meter.used_bytes >> 10,
        budget = bytes >> 10,
        fidelity = Esc(&status.meter.fidelity),
    );
}

fn digest(out: &mut String, status: &Status) {
    let Some(digest) = &status.last_digest else { return };
    let _ = write!(
        out,
        "<h2>Latest digest</h2><p class={class}>{verdict}, cause {cause}, worded by {engine}<p>{text}",
        class = if digest.verdict == crate::reading::Severity::Critical { "bad" } else { "ok" },
        verdict = digest.verdict,
        cause = Esc(&digest.cause),
        engine = digest.engine,
        text = Esc(&digest.text),
    );
}

fn counts(out: &mut String, status: &Status) {
    let rows = [
        ("readings", status.readings.to_string()),
        ("sensed and sent", sensed_and_sent(status)),
        ("not understood", status.malformed.to_string()),
        ("windows judged", status.windows.to_string()),
        ("episodes open", status.episodes_open.to_string()),
        ("digests by the model", status.digests_glm.to_string()),
        ("digests by the template", status.digests_template.to_string()),
    ];
    out.push_str("<h2>Work</h2><table>");
    for (name, value) in rows {
        let _ = write!(out, "<tr><th>{name}<td>{value}");
    }
    for source in &status.sources {
        let _ = write!(out, "<tr><th>source {}<td>{}", Esc(&source.name), Esc(&source.state));
    }
    for backend in &status.backends {
        let is_missed = ["absent", "quarantined"].contains(&backend.state.as_str());
        let class = if is_missed { "bad" } else { "ok" };
        let (name, model, state) = (Esc(&backend.backend), Esc(&backend.model), Esc(&backend.state));
        let _ = write!(out, "<tr><th>model {model} on {name}<td class={class}>{state}");
    }
    for doubt in &status.doubtful {
        let why = doubt.missing.as_deref().unwrap_or("beyond its calibration").replace('_', " ");
        let (channel, quality) = (Esc(&doubt.channel), Esc(&doubt.quality));
        let _ = write!(out, "<tr><th>channel {channel}<td class=bad>{quality}: {}", Esc(why));
    }
    out.push_str("</table>");
}

fn sensed_and_sent(status: &Status) -> String {
    let saved = status.saved_percent().map(|saved| format!(", {saved:.1} % less")).unwrap_or_default();
    let [sensed, sent, session] =
        [status.sensed_bytes, status.sent_bytes, status.session_bytes].map(|bytes| bytes >> 10);
    format!("{sensed} KiB, {sent} KiB{saved}; the session itself {session} KiB")
}

fn ledger(out: &mut String, status: &Status) {
    out.push_str(
        "<h2>Ledger</h2><table><tr><th>lane<th>KiB<th>admitted<th>= acknowledged<th>+ pending<th>+ evicted",
    );
    for row in &status.ledger {
        let _ = write!(
            out,
            "<tr><th>{}<td>{}{}<td>{}<td>{}<td>{}<td>{}",
            row.lane,
            row.bytes.div_ceil(1024),
            row.bytes_max.map(|max| format!(" of {}", max >> 10)).unwrap_or_default(),
            row.admitted,
            row.acknowledged,
            row.pending,
            row.evicted
        );
        for (reason, n) in &row.evicted_by_reason {
            let _ = write!(out, " ({}: {n})", Esc(reason.replace('_', " ")));
        }
    }
    out.push_str("</table>");
    if let Some(error) = &status.spool.error {
        let _ = write!(out, "<p class=bad>The disk refuses: {}", Esc(error));
    }
    if let n @ 1.. = status.spool.dead_letters {
        let _ = write!(
            out,
            "<p class=bad>{n} blocks that the far side will not take lie in the spool's folder <code>dead</code>; \
             <code>outpost spool replay</code> takes them in again once it does"
        );
    }
}

/// The page's only style sheet, at `/style.css`.
pub(super) const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--ok:#18794e;--bad:#c62a2f}\
@media(prefers-color-scheme:dark){:root{--ok:#4cc38a;--bad:#ff6369}}\
body{font:16px/1.5 system-ui,sans-serif;margin:0}main{max-width:44rem;margin:2rem auto;padding:0 1rem}\
h1{margin:0}h2{font-size:1rem;margin:1.5rem 0 .3rem}p{margin:.3rem 0}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{padding:.2rem .8rem .2rem 0;border-bottom:1px solid var(--line);text-align:right}\
th{text-align:left;font-weight:400}.ok{color:var(--ok)}.bad{color:var(--bad);font-weight:600}";

#[cfg(test)]
mod tests {
    use super::super::status::{BackendBrief, DoubtBrief};
    use super::*;

    #[test]
    fn a_hostile_name_does_not_become_markup() {
        let hostile = "<script>alert(1)</script>";
        let doubt =
            DoubtBrief { channel: hostile.into(), quality: hostile.into(), missing: Some(hostile.into()) };
        let backend =
            BackendBrief { backend: hostile.into(), model: hostile.into(), state: "quarantined".into() };
        let status = Status {
            device: hostile.into(),
            doubtful: vec![doubt],
            backends: vec![backend],
            ..super::super::status::tests::example()
        };
        let page = html(&status);
        assert!(!page.contains("<script>"), "{page}");
        assert!(page.contains("&lt;script&gt;"));
        assert!(page.contains("<td class=bad>quarantined"), "{page}");
    }
}
