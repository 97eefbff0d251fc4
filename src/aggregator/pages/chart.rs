//! Lines over time as SVG: the band from minimum to maximum, the mean on it, and the episodes behind.

use std::fmt::Write as _;
use std::time::Duration;

use super::html::number;
use crate::aggregator::store::{Bucket, EpisodeRow};
use crate::http::Esc;
use crate::reading::Unit;
use crate::time::Wall;

/// What one chart shows.
pub(super) struct Chart<'a> {
    /// The channel.
    pub channel: &'a str,
    /// Unit code of its values.
    pub unit: &'a str,
    /// Left edge.
    pub from: Wall,
    /// Right edge, after `from`.
    pub to: Wall,
    /// Ascending; values are finite.
    pub points: &'a [Bucket],
    /// Shaded where they concern this channel.
    pub episodes: &'a [EpisodeRow],
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 160.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 24.0;

impl Chart<'_> {
    /// The figure with its caption.
    pub fn svg(&self) -> String {
        let symbol = Unit(self.unit.to_owned());
        let unit = Esc(symbol.symbol());
        let name = Esc(self.channel);
        let mut out = format!("<figure><figcaption><b>{name}</b> <span class=\"muted\">{unit}</span>");
        let Some((low, high)) = self.extent() else {
            out.push_str("</figcaption><p class=\"muted empty\">No values in this period.</p></figure>");
            return out;
        };
        if let Some((_, _, mean)) = self.points.last().and_then(|p| p.values) {
            let _ = write!(out, "<span class=\"latest\">{} {unit}</span>", number(mean));
        }
        let _ = write!(
            out,
            "</figcaption><div class=\"scroll\"><svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"{name} from {} to {} {unit}\">",
            number(low),
            number(high)
        );
        let ticks = ticks(low, high);
        let low = ticks.first().copied().unwrap_or(low).min(low);
        let high = ticks.last().copied().unwrap_or(high).max(high);
        let y = |v: f64| TOP + (high - v) / (high - low) * (HEIGHT - TOP - BOTTOM);
        self.shade(&mut out);
        for tick in &ticks {
            let at = y(*tick);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text class=\"axis\" x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 3.5,
                number(*tick)
            );
        }
        self.time_axis(&mut out);
        for segment in self.segments() {
            self.line(&mut out, segment, y);
        }
        self.hover(&mut out, symbol.symbol());
        out.push_str("</svg></div></figure>");
        out
    }

    /// Smallest and largest value.
    fn extent(&self) -> Option<(f64, f64)> {
        self.points
            .iter()
            .filter_map(|p| p.values)
            .map(|(min, max, _)| (min, max))
            .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    fn x(&self, at: Wall) -> f64 {
        let span = self.to.micros_since(self.from).max(1) as f64;
        let share = (at.micros_since(self.from) as f64 / span).clamp(0.0, 1.0);
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    fn middle(&self, p: &Bucket) -> f64 {
        (self.x(p.start) + self.x(p.end)) / 2.0
    }

    /// Runs of points without a hole between them: a line across missing data would be a lie.
    fn segments(&self) -> Vec<&[Bucket]> {
        let mut steps: Vec<i64> =
            self.points.windows(2).map(|w| w[1].start.micros_since(w[0].start)).collect();
        steps.sort_unstable();
        let usual = steps.get(steps.len() / 2).copied().unwrap_or(0);
        let joined = |a: &Bucket, b: &Bucket| {
            let near = b.start.micros_since(a.start) <= usual.saturating_mul(3);
            near && a.values.is_some() && b.values.is_some()
        };
        self.points.chunk_by(joined).filter(|run| run.iter().all(|p| p.values.is_some())).collect()
    }

    fn line(&self, out: &mut String, segment: &[Bucket], y: impl Fn(f64) -> f64) {
        let values = || segment.iter().filter_map(|p| Some((self.middle(p), p.values?)));
        if let [only] = segment
            && let Some((min, max, _)) = only.values
        {
            let x = self.middle(only);
            let (top, bottom) = (y(max) - 1.0, y(min) + 1.0);
            let _ = write!(
                out,
                "<line class=\"mean\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\"/>"
            );
            return;
        }
        out.push_str("<polygon class=\"band\" points=\"");
        for (x, (_, max, _)) in values() {
            let _ = write!(out, "{x:.1},{:.1} ", y(max));
        }
        let back: Vec<_> = values().collect();
        for (x, (min, _, _)) in back.iter().rev() {
            let _ = write!(out, "{x:.1},{:.1} ", y(*min));
        }
        out.push_str("\"/><polyline class=\"mean\" points=\"");
        for (x, (_, _, mean)) in values() {
            let _ = write!(out, "{x:.1},{:.1} ", y(mean));
        }
        out.push_str("\"/>");
    }

    fn shade(&self, out: &mut String) {
        for episode in self.episodes.iter().filter(|e| e.channel == self.channel) {
            let end = if episode.open { self.to } else { episode.at };
            let (x1, x2) = (self.x(episode.start), self.x(end));
            let _ = write!(
                out,
                "<rect class=\"shade {}\" x=\"{x1:.1}\" width=\"{:.1}\" y=\"{TOP}\" height=\"{:.0}\"/>",
                episode.severity,
                (x2 - x1).max(2.0),
                HEIGHT - TOP - BOTTOM
            );
        }
    }

    fn time_axis(&self, out: &mut String) {
        let span_us = self.to.micros_since(self.from).max(1);
        let step_us = STEPS_S.iter().map(|s| s * 1_000_000).find(|s| span_us / s <= 9).unwrap_or(span_us);
        let mut at = self.from.0.div_euclid(step_us).saturating_add(1).saturating_mul(step_us);
        while at < self.to.0 {
            let x = self.x(Wall(at));
            let full = Wall(at).rfc3339();
            let label = if step_us >= 86_400_000_000 {
                full.get(5..10).unwrap_or("").to_owned()
            } else {
                Wall(at).hhmm()
            };
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{0:.0}\"/>\
                 <text class=\"axis\" x=\"{x:.1}\" y=\"{1:.0}\" text-anchor=\"middle\">{label}</text>",
                HEIGHT - BOTTOM,
                HEIGHT - 7.0
            );
            at = at.saturating_add(step_us);
        }
    }

    /// Invisible columns that say what stands at their place.
    fn hover(&self, out: &mut String, unit: &str) {
        for p in self.points {
            let (x1, x2) = (self.x(p.start), self.x(p.end));
            let text = match p.values {
                Some((min, max, mean)) => {
                    format!("mean {} {unit}, {} to {}", number(mean), number(min), number(max))
                }
                None => "no value".to_owned(),
            };
            let missing =
                if p.missing > 0 { format!(", {} without value", p.missing) } else { String::new() };
            let _ = write!(
                out,
                "<rect class=\"hover\" x=\"{x1:.1}\" width=\"{:.1}\" y=\"{TOP}\" height=\"{:.0}\"><title>{}: {}{missing} \
                 ({} readings)</title></rect>",
                (x2 - x1).max(1.0),
                HEIGHT - TOP - BOTTOM,
                Esc(p.start.rfc3339()),
                Esc(text),
                p.count
            );
        }
    }
}

/// Steps of the time axis, in seconds: what clocks and calendars have.
const STEPS_S: &[i64] =
    &[60, 300, 600, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 432_000, 864_000, 2_592_000];

/// Three to six round values that enclose `low..=high`; the step is 1, 2 or 5 times a power of ten.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    // Beyond this, the difference of two values is no number any more.
    let (low, high) = (low.clamp(-1e150, 1e150), high.clamp(-1e150, 1e150));
    let middle = low.midpoint(high);
    // A constant, or a span that f64 can't divide, still gets a scale.
    let span = (high - low).max(middle.abs() * 1e-9).max(1e-9);
    let (low, high) = if high - low < span { (middle - span, middle + span) } else { (low, high) };
    let raw = (high - low) / 4.0;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= raw).unwrap_or(raw);
    let first = (low / step).floor();
    let last = (high / step).ceil();
    if !(last - first).is_finite() || last - first > 12.0 {
        return vec![low, high];
    }
    (0..=(last - first) as u32).map(|i| (first + f64::from(i)) * step).collect()
}

/// The share of `from..to` at which `at` lies, in thousandths.
pub(super) fn permille(from: Wall, to: Wall, at: Wall) -> i64 {
    let span = to.micros_since(from).max(1);
    let part = at.micros_since(from).clamp(0, span);
    i64::try_from(i128::from(part) * 1000 / i128::from(span)).unwrap_or(1000)
}

/// A period that a page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Period {
    /// Left edge.
    pub from: Wall,
    /// Right edge.
    pub to: Wall,
    /// Position in [`SPANS`].
    pub span: usize,
    /// The right edge is now.
    pub live: bool,
}

/// Names and lengths that a period may have.
pub(super) const SPANS: [(&str, u64); 5] =
    [("1h", 3600), ("6h", 21_600), ("24h", 86_400), ("7d", 604_800), ("30d", 2_592_000)];

impl Period {
    /// From the query: `span` one of [`SPANS`] (default 24h), `end` in whole seconds since 1970 (default now).
    pub fn from_query(span: Option<&str>, end: Option<&str>, now: Wall) -> Self {
        let index = SPANS.iter().position(|(name, _)| Some(*name) == span).unwrap_or(2);
        let end = end.and_then(|end| end.parse::<i64>().ok()).filter(|s| s.unsigned_abs() < 1 << 40);
        let to = end.map_or(now, Wall::from_secs).min(now);
        let length = Duration::from_secs(SPANS[index].1);
        Self { from: to - length, to, span: index, live: to == now }
    }

    /// The query of this period moved by `halves` of its length.
    pub fn moved(&self, halves: i64) -> String {
        let length = i64::try_from(SPANS[self.span].1).unwrap_or(0);
        let end = (self.to.0 / 1_000_000).saturating_add(halves * length / 2);
        format!("span={}&end={end}", SPANS[self.span].0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(start_s: i64, values: Option<(f64, f64, f64)>) -> Bucket {
        Bucket {
            start: Wall::from_secs(start_s),
            end: Wall::from_secs(start_s + 10),
            values,
            count: 1,
            missing: 0,
        }
    }

    fn chart(points: &[Bucket]) -> Chart<'_> {
        let (from, to) = (Wall::from_secs(0), Wall::from_secs(1000));
        Chart { channel: "a<b", unit: "Cel", from, to, points, episodes: &[] }
    }

    #[test]
    fn ticks_are_round_and_enclose_the_values() {
        assert_eq!(ticks(0.0, 10.0), [0.0, 5.0, 10.0]);
        assert_eq!(ticks(38.2, 41.9), [38.0, 39.0, 40.0, 41.0, 42.0]);
        for (low, high) in
            [(5.0, 5.0), (0.0, 0.0), (-1e300, 1e300), (1e15, 1e15 + 1.0), (-f64::MAX, f64::MAX)]
        {
            let ticks = ticks(low, high);
            assert!((2..=14).contains(&ticks.len()), "{low} {high}: {ticks:?}");
        }
    }

    #[test]
    fn a_line_is_broken_where_data_is_missing() {
        let v = Some((1.0, 3.0, 2.0));
        let points =
            [bucket(0, v), bucket(10, v), bucket(20, None), bucket(30, v), bucket(40, v), bucket(500, v)];
        assert_eq!(chart(&points).segments().iter().map(|s| s.len()).collect::<Vec<_>>(), [2, 2, 1]);
        let svg = chart(&points).svg();
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains("a&lt;b") && svg.contains("°C") && !svg.contains("NaN"));
    }

    #[test]
    fn a_chart_without_values_says_so() {
        assert!(chart(&[bucket(0, None)]).svg().contains("No values in this period"));
    }

    #[test]
    fn a_period_from_a_hostile_query_is_a_period() {
        let now = Wall::from_secs(1_780_000_000);
        for end in ["-99999999999999", "x", "", "9223372036854775807", "1779999999"] {
            let period = Period::from_query(Some("7d"), Some(end), now);
            assert_eq!(period.to.micros_since(period.from), 604_800_000_000, "{end}");
            assert!(period.to <= now);
        }
        assert!(Period::from_query(None, None, now).live);
    }
}
