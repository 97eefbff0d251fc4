//! One device: how it is, what happened, its curves, its ledger.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::chart::{Chart, Period, SPANS, permille};
use super::html::{self, ago, count, number, time};
use super::{Device, View, fleet, ledger, readings};
use crate::aggregator::store::{Bucket, Channel, DigestRow, EpisodeRow, StoreError};
use crate::digest::Engine;
use crate::facts::{Citation, EventFact};
use crate::http::{Esc, Request, Response};
use crate::limits;
use crate::reading::Unit;
use crate::time::humane;
use crate::wire::Lane;
use crate::wire::block::epoch_text;

/// `/device/<name>`; query: `span` and `end` (see [`Period::from_query`]), `channel` (repeatable).
pub(super) fn page(view: &View<'_>, device: &Device, request: &Request) -> Result<Response, StoreError> {
    let period = Period::from_query(request.param("span"), request.param("end"), view.now);
    let page = Page { view, device, period };
    let mut main = String::with_capacity(64 * 1024);
    page.header(&mut main);
    let episodes = view.reader.episodes(device.row.key, period.from, period.to)?;
    page.period_bar(&mut main);
    page.digests(&mut main)?;
    page.timeline(&mut main, &episodes);
    page.charts(&mut main, &episodes, request)?;
    main.push_str("<section class=\"card\" id=\"ledger\"><h2>Ledger</h2>");
    main.push_str(&ledger::section(view, device)?);
    main.push_str("</section>");
    page.gaps(&mut main)?;
    page.boots(&mut main)?;
    page.notices(&mut main)?;
    let refresh_s = if period.live { 30 } else { 0 };
    Ok(html::page(&device.row.name, refresh_s, &main))
}

struct Page<'a> {
    view: &'a View<'a>,
    device: &'a Device,
    period: Period,
}

impl Page<'_> {
    fn header(&self, main: &mut String) {
        let device = self.device;
        let _ = write!(
            main,
            "<p class=\"muted small\"><a href=\"/\">Fleet</a> ›</p><h1>{} {}</h1><p class=\"muted\">{}</p>",
            Esc(&device.row.name),
            fleet::state_badge(device.standing),
            fleet::seen(device)
        );
        let Some(heard) = &device.beat else {
            main.push_str("<p class=\"muted\">No heartbeat yet.</p>");
            return;
        };
        let beat = &heard.beat;
        let pending: u64 = beat.lanes.iter().fold(0, |n, lane| n.saturating_add(lane.pending));
        let model = match beat.model_hash_prefix {
            [0, 0, 0, 0, 0, 0, 0, 0] => "none".to_owned(),
            bytes => bytes[..4].iter().map(|b| format!("{b:02x}")).collect(),
        };
        let health: Vec<String> = beat.health.names().map(|name| name.replace('_', " ")).collect();
        let oldest = Duration::from_secs(beat.oldest_age_s.into());
        let tiles = [
            ("heartbeat", format!("{} ago", ago(heard.at, self.view.now)), false),
            ("up for", humane(Duration::from_secs(beat.uptime_s.into())), false),
            ("records in spool", count(pending), false),
            ("spool size", html::bytes(beat.spool_bytes), false),
            ("oldest waiting", if pending == 0 { "–".into() } else { humane(oldest) }, false),
            ("clock", beat.at.state.name().to_owned(), false),
            ("version", beat.version.clone(), false),
            ("model", model, false),
            ("health", if health.is_empty() { "well".into() } else { health.join(", ") }, !health.is_empty()),
        ];
        main.push_str("<div class=\"tiles\">");
        for (name, value, warn) in tiles {
            let class = if warn { " warn" } else { "" };
            let _ = write!(
                main,
                "<div class=\"tile small{class}\"><b>{}</b><span>{name}</span></div>",
                Esc(value)
            );
        }
        main.push_str("</div>");
    }

    fn period_bar(&self, main: &mut String) {
        let period = &self.period;
        let _ = write!(main, "<nav class=\"period\"><a href=\"?{}\">‹ earlier</a>", Esc(period.moved(-1)));
        for (index, (name, _)) in SPANS.iter().enumerate() {
            let current = if index == period.span { " class=\"on\"" } else { "" };
            let end =
                if period.live { String::new() } else { format!("&amp;end={}", period.to.0 / 1_000_000) };
            let _ = write!(main, "<a{current} href=\"?span={name}{end}\">{name}</a>");
        }
        if period.live {
            main.push_str("<span class=\"muted\">now</span>");
        } else {
            let _ = write!(
                main,
                "<a href=\"?{}\">later ›</a><a href=\"?span={}\">now</a>",
                Esc(period.moved(1)),
                SPANS[period.span].0
            );
        }
        let _ = write!(
            main,
            "<span class=\"muted range\">{} – {}</span></nav>",
            time(period.from),
            time(period.to)
        );
    }

    fn timeline(&self, main: &mut String, episodes: &[EpisodeRow]) {
        main.push_str("<section class=\"card\" id=\"alarms\"><h2>Alarms</h2>");
        if episodes.is_empty() {
            main.push_str("<p class=\"muted\">None in this period.</p></section>");
            return;
        }
        for (index, episode) in episodes.iter().take(EPISODES_SHOWN).enumerate() {
            if index == EPISODES_OPEN {
                let more = episodes.len() - EPISODES_OPEN;
                let _ = write!(main, "<details class=\"more\"><summary>{more} earlier</summary>");
            }
            self.episode(main, episode);
        }
        if episodes.len() > EPISODES_OPEN {
            main.push_str("</details>");
        }
        if episodes.len() > EPISODES_SHOWN {
            let _ = write!(
                main,
                "<p class=\"muted\">and more: choose a shorter period, or see <a href=\"/api/device/{0}/episodes\">\
                 /api/device/{0}/episodes</a></p>",
                Esc(&self.device.row.name)
            );
        }
        main.push_str("</section>");
    }

    fn episode(&self, main: &mut String, e: &EpisodeRow) {
        let Period { from, to, .. } = self.period;
        let end = if e.open { to } else { e.at };
        let (x1, x2) = (permille(from, to, e.start), permille(from, to, end));
        let length = Duration::from_micros(end.micros_since(e.start).max(0).unsigned_abs());
        let unit = Unit(e.unit.clone());
        let mut detail = Vec::new();
        for (name, value) in [("usual", e.baseline), ("peak", e.peak), ("limit", e.limit)] {
            if let Some(value) = value {
                detail.push(format!("{name} {} {}", number(value), unit.symbol()));
            }
        }
        if e.count > 1 {
            detail.push(format!("{} times", count(e.count)));
        }
        if let Some((first, last)) = e.evidence {
            detail.push(format!("readings: raw {first}–{last}"));
        }
        let until = match (e.open, e.interrupted) {
            (true, _) => "open".to_owned(),
            (_, true) => format!("last seen {}, then the agent was restarted", time(e.at)),
            _ => format!("until {}", time(e.at)),
        };
        let _ = write!(
            main,
            "<article class=\"episode\" id=\"e{}\"><div class=\"head\"><span class=\"chip {sev}\">{sev}</span> <b>{}</b> {} \
             <span class=\"muted\">{} {until}, {}</span></div>\
             <svg class=\"bar\" viewBox=\"0 0 1000 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
             <rect class=\"track\" width=\"1000\" height=\"8\" rx=\"3\"/>\
             <rect class=\"{sev}\" x=\"{x1}\" width=\"{}\" height=\"8\" rx=\"3\"/></svg>\
             <div class=\"muted\">{}{}{}</div></article>",
            e.key,
            Esc(&e.channel),
            Esc(&e.pattern),
            time(e.start),
            humane(length),
            (x2 - x1).max(6),
            Esc(&e.reason),
            if detail.is_empty() || e.reason.is_empty() { "" } else { " · " },
            Esc(detail.join(", ")),
            sev = e.severity,
        );
    }

    fn digests(&self, main: &mut String) -> Result<(), StoreError> {
        let Period { from, to, .. } = self.period;
        let digests = self.view.reader.digests(self.device.row.key, from, to)?;
        main.push_str("<section id=\"digests\"><h2>What happened</h2>");
        if digests.is_empty() {
            main.push_str("<div class=\"card\"><p class=\"muted\">No digest in this period.</p></div>");
        }
        for (index, digest) in digests.iter().take(DIGESTS_SHOWN).enumerate() {
            if index == DIGESTS_OPEN {
                let more = digests.len() - DIGESTS_OPEN;
                let _ = write!(main, "<details class=\"more\"><summary>{more} earlier</summary>");
            }
            self.digest(main, digest)?;
        }
        if digests.len() > DIGESTS_SHOWN {
            let _ = write!(
                main,
                "<p class=\"muted\">The latest {DIGESTS_SHOWN} are shown: choose a shorter period for the others.</p>"
            );
        }
        if digests.len() > DIGESTS_OPEN {
            main.push_str("</details>");
        }
        main.push_str("</section>");
        Ok(())
    }

    fn digest(&self, main: &mut String, row: &DigestRow) -> Result<(), StoreError> {
        let d = &row.digest;
        let (badge, hint) = match d.engine {
            Engine::Glm => ("model", format!("worded by model {}", d.model)),
            Engine::Template => ("template", format!("worded by the template {}", d.fallback_reason)),
        };
        let _ = write!(
            main,
            "<article class=\"card digest\" id=\"d{}\"><div class=\"head\"><span class=\"chip {verdict}\">{verdict}</span>",
            row.key,
            verdict = d.verdict
        );
        if !d.cause.is_empty() {
            let _ = write!(main, "<b>{}</b>", Esc(d.cause.replace('_', " ")));
        }
        let _ = write!(
            main,
            "<span class=\"badge\" title=\"{}\">{badge}</span><span class=\"muted when\">{} – {}</span></div>",
            Esc(hint.trim()),
            time(d.facts.from),
            time(d.facts.to)
        );
        if let Some(outage) = &d.facts.outage {
            let _ = write!(
                main,
                "<p class=\"outage\">The line was down for {} from {}: {} records kept, {} given up.</p>",
                humane(Duration::from_secs(outage.duration_s)),
                time(outage.start),
                count(outage.records_kept),
                count(outage.records_lost)
            );
        }
        let _ = write!(main, "<p class=\"text\" lang=\"{}\">{}</p>", d.lang, Esc(&d.text));
        let cited: Vec<&EventFact> = d.facts.events.iter().collect();
        if !cited.is_empty() {
            main.push_str("<ul class=\"cites\">");
            for event in cited {
                self.citation(main, row, event)?;
            }
            main.push_str("</ul>");
        }
        main.push_str("</article>");
        Ok(())
    }

    /// A fact with the record range that proves it, and the way there.
    fn citation(&self, main: &mut String, row: &DigestRow, event: &EventFact) -> Result<(), StoreError> {
        let _ = write!(
            main,
            "<li><span class=\"dot {}\"></span>{} {} from {}",
            event.severity,
            Esc(&event.label),
            event.pattern,
            time(event.start)
        );
        if let Some(peak) = event.peak {
            let _ = write!(main, ", peak {} {}", number(peak), Esc(event.unit.symbol()));
        }
        if let Some(Citation { lane, first, last }) = event.cites {
            let target = match lane {
                Lane::Alarm => self.view.reader.episode_of(self.device.row.key, row.epoch, first, last)?,
                _ => None,
            };
            let label =
                if first == last { format!("{lane} {first}") } else { format!("{lane} {first}–{last}") };
            let _ = match target {
                Some(key) => write!(main, " <a class=\"cite\" href=\"#e{key}\">[{label}]</a>"),
                None => write!(main, " <span class=\"cite\">[{label}]</span>"),
            };
        }
        main.push_str("</li>");
        Ok(())
    }

    fn charts(
        &self,
        main: &mut String,
        episodes: &[EpisodeRow],
        request: &Request,
    ) -> Result<(), StoreError> {
        let channels = self.view.reader.channels(self.device.row.key)?;
        main.push_str("<section class=\"card\" id=\"charts\"><h2>Metrics</h2>");
        if channels.is_empty() {
            main.push_str("<p class=\"muted\">No windows have arrived.</p></section>");
            return Ok(());
        }
        let asked: Vec<&str> =
            request.query.iter().filter(|(key, _)| key == "channel").map(|(_, name)| name.as_str()).collect();
        let chosen = choose(&channels, &asked, episodes);
        if channels.len() > chosen.len() || !asked.is_empty() {
            self.picker(main, &channels, &chosen);
        }
        let Period { from, to, .. } = self.period;
        let mut detail = self.readings(&chosen)?;
        for channel in chosen {
            let points = match detail.remove(&channel.name) {
                Some(points) => points,
                None => self.view.reader.series(channel.key, from, to)?,
            };
            let (name, unit) = (channel.name.as_str(), channel.unit.as_str());
            main.push_str(&Chart { channel: name, unit, from, to, points: &points, episodes }.svg());
        }
        main.push_str("</section>");
        Ok(())
    }

    /// The shortest period shows single readings, where they are kept and not too many.
    fn readings(&self, chosen: &[&Channel]) -> Result<BTreeMap<String, Vec<Bucket>>, StoreError> {
        if self.period.span > 0 {
            return Ok(BTreeMap::new());
        }
        let names: Vec<&str> = chosen.iter().map(|c| c.name.as_str()).collect();
        let Period { from, to, .. } = self.period;
        Ok(readings::series(self.view.reader, self.device.row.key, &names, from, to)?.unwrap_or_default())
    }

    fn picker(&self, main: &mut String, channels: &[Channel], chosen: &[&Channel]) {
        let _ = write!(
            main,
            "<details class=\"picker\"><summary>{} of {} channels</summary><form method=\"get\">\
             <input type=\"hidden\" name=\"span\" value=\"{}\">",
            chosen.len(),
            channels.len(),
            SPANS[self.period.span].0
        );
        if !self.period.live {
            let _ = write!(
                main,
                "<input type=\"hidden\" name=\"end\" value=\"{}\">",
                self.period.to.0 / 1_000_000
            );
        }
        main.push_str("<div class=\"options\">");
        for channel in channels {
            let checked = if chosen.iter().any(|c| c.key == channel.key) { " checked" } else { "" };
            let _ = write!(
                main,
                "<label><input type=\"checkbox\" name=\"channel\" value=\"{0}\"{checked}> {0}</label>",
                Esc(&channel.name)
            );
        }
        let _ = write!(
            main,
            "</div><button>Show</button> <span class=\"muted\">at most {} at once</span></form></details>",
            limits::PAGE_CHARTS_MAX
        );
    }

    fn gaps(&self, main: &mut String) -> Result<(), StoreError> {
        let gaps = self.view.reader.gaps(self.device.row.key)?;
        if gaps.is_empty() {
            return Ok(());
        }
        main.push_str(
            "<section class=\"card\" id=\"gaps\"><h2>Declared losses</h2><div class=\"scroll\"><table><thead><tr><th>Lane</th>\
             <th>Epoch</th><th class=\"num\">Records</th><th class=\"num\">From</th><th class=\"num\">To</th><th>Reason</th>\
             <th>Declared</th></tr></thead><tbody>",
        );
        for gap in gaps {
            let _ = write!(
                main,
                "<tr><td>{}</td><td class=\"muted\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td>\
                 <td class=\"num\">{}</td><td>{}</td><td>{}</td></tr>",
                gap.lane,
                epoch_text(gap.epoch),
                count(gap.last - gap.first + 1),
                count(gap.first),
                count(gap.last),
                Esc(gap.reason.replace('_', " ")),
                time(gap.sealed)
            );
        }
        main.push_str("</tbody></table></div></section>");
        Ok(())
    }

    /// Boots whose clock was off, and what was done about it.
    fn boots(&self, main: &mut String) -> Result<(), StoreError> {
        let boots = self.view.reader.boots(self.device.row.key)?;
        let mut off = boots.iter().filter(|boot| !boot.shifts_us.is_empty()).peekable();
        if off.peek().is_none() {
            return Ok(());
        }
        main.push_str(
            "<section class=\"card\" id=\"boots\"><h2>Clocks set right</h2><div class=\"scroll\"><table><thead><tr>\
             <th>Boot</th><th>Began</th><th>Give or take</th><th>Its times were moved by</th></tr></thead><tbody>",
        );
        let length = |us: u64| humane(Duration::from_micros(us));
        for boot in off {
            let moved: Vec<String> = boot
                .shifts_us
                .iter()
                .map(|us| format!("{}{}", if *us < 0 { "−" } else { "+" }, length(us.unsigned_abs())))
                .collect();
            let _ = write!(
                main,
                "<tr><td class=\"muted\">{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                &boot.boot.to_string()[..8],
                time(boot.began),
                boot.uncertainty_us.map_or("nobody knows".into(), length),
                moved.join(", ")
            );
        }
        main.push_str("</tbody></table></div></section>");
        Ok(())
    }

    fn notices(&self, main: &mut String) -> Result<(), StoreError> {
        let notices = self.view.reader.notices(self.device.row.key)?;
        if notices.is_empty() {
            return Ok(());
        }
        main.push_str("<section class=\"card\" id=\"notices\"><h2>Notices</h2><ul class=\"plain\">");
        for notice in notices.iter().take(EPISODES_SHOWN) {
            let _ = write!(
                main,
                "<li>{} <code>{}</code> {}</li>",
                time(notice.at),
                Esc(&notice.code),
                Esc(&notice.text)
            );
        }
        main.push_str("</ul></section>");
        Ok(())
    }
}

/// Rows shown at once, and rows shown when asked for.
const EPISODES_OPEN: usize = 8;
const EPISODES_SHOWN: usize = 60;
const DIGESTS_OPEN: usize = 4;
const DIGESTS_SHOWN: usize = 40;

/// The channels asked for; else those in trouble, then the first by name.
fn choose<'c>(channels: &'c [Channel], asked: &[&str], episodes: &[EpisodeRow]) -> Vec<&'c Channel> {
    let mut chosen: Vec<&Channel> = channels.iter().filter(|c| asked.contains(&c.name.as_str())).collect();
    if chosen.is_empty() {
        let (troubled, calm): (Vec<_>, Vec<_>) =
            channels.iter().partition(|c| episodes.iter().any(|e| e.channel == c.name));
        chosen = troubled.into_iter().chain(calm).collect();
    }
    chosen.truncate(limits::PAGE_CHARTS_MAX);
    chosen
}
