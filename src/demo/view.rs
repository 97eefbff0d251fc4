//! What a person sees of the demo: a few lines redrawn in place on a terminal, a plain line now and then elsewhere.

use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, MultiProgress, ProgressBar, ProgressStyle};

/// One look at both seats.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scene {
    /// Readings per second since the last look.
    pub readings_per_s: f64,
    /// Readings since the start.
    pub readings: u64,
    /// Windows judged.
    pub windows: u64,
    /// Episodes that are open now.
    pub episodes_open: usize,
    /// Digests worded by the model and by the template.
    pub digests: (u64, u64),
    /// Records that wait in the spool.
    pub pending_records: u64,
    /// Their bytes.
    pub pending_bytes: u64,
    /// Whether the agent has its line.
    pub line_up: bool,
    /// For how long, in seconds.
    pub line_since_s: u64,
    /// Records that the aggregator holds.
    pub held_records: u64,
    /// The latest digest, or empty.
    pub latest: String,
}

/// Draws to standard error, so that `--json` keeps standard output to itself.
pub struct View {
    bars: MultiProgress,
    act: ProgressBar,
    rows: Vec<ProgressBar>,
    spool_peak_records: u64,
    plain: Option<Plain>,
}

/// Where there is no terminal: at most one line per [`PLAIN_EVERY_LOOKS`] looks.
#[derive(Default)]
struct Plain {
    looks: u32,
}

const PLAIN_EVERY_LOOKS: u32 = 20;

impl Default for View {
    fn default() -> Self {
        Self::new()
    }
}

impl View {
    /// Takes over the terminal's last lines, if there is a terminal.
    pub fn new() -> Self {
        let bars = MultiProgress::new();
        let plain = bars.is_hidden().then(Plain::default);
        let act = bars.add(ProgressBar::new(1));
        let rows = ROWS.iter().map(|&name| {
            let row = bars.add(ProgressBar::new_spinner());
            row.set_style(style("  {prefix:<9.dim} {wide_msg}"));
            row.set_prefix(name);
            row
        });
        let rows = rows.collect();
        act.set_style(style("{spinner:.cyan} {msg:<46} {bar:30.cyan/dim} {prefix}"));
        Self { bars, act, rows, spool_peak_records: 0, plain }
    }

    /// Begins an act that takes `length`, if that is known.
    pub fn act(&self, title: &str, length: Option<Duration>) {
        self.act.set_length(length.map_or(0, |l| u64::try_from(l.as_millis()).unwrap_or(u64::MAX)));
        self.act.set_position(0);
        self.act.set_message(title.to_owned());
        if self.plain.is_some() {
            eprintln!("{title}");
        }
    }

    /// Says one lasting line above the live ones.
    pub fn say(&self, line: &str) {
        match self.plain {
            Some(_) => eprintln!("{line}"),
            // A terminal that went away must not stop the demo.
            None => drop(self.bars.println(line)),
        }
    }

    /// Shows the scene, `elapsed` into the act.
    pub fn show(&mut self, scene: &Scene, elapsed: Duration) {
        self.spool_peak_records = self.spool_peak_records.max(scene.pending_records);
        let lines = self.lines(scene);
        if let Some(plain) = &mut self.plain {
            if plain.looks % PLAIN_EVERY_LOOKS == 0 {
                let told = ROWS
                    .iter()
                    .zip(&lines)
                    .take(ROWS.len() - 1)
                    .map(|(name, line)| format!("{name}: {line}"));
                eprintln!("  {}", told.collect::<Vec<_>>().join(" | "));
            }
            plain.looks += 1;
            return;
        }
        let done = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        match self.act.length() {
            Some(0) | None => self.act.tick(),
            Some(length) => self.act.set_position(done.min(length)),
        }
        for (row, line) in self.rows.iter().zip(lines) {
            row.set_message(line);
        }
    }

    /// Leaves the terminal as it is, live lines gone.
    pub fn end(&self) {
        self.act.finish_and_clear();
        self.rows.iter().for_each(ProgressBar::finish_and_clear);
    }

    fn lines(&self, s: &Scene) -> [String; 6] {
        let line_state = if s.line_up { "up" } else { "DOWN, buffering" };
        [
            format!("{line_state} for {}", crate::time::humane(Duration::from_secs(s.line_since_s))),
            format!("{:.0}/s, {} in all", s.readings_per_s, HumanCount(s.readings)),
            format!("{} judged, {} episodes open", HumanCount(s.windows), s.episodes_open),
            format!("{} by GLM, {} by template", s.digests.0, s.digests.1),
            format!(
                "{} {} records wait, {}; aggregator holds {}",
                gauge(s.pending_records, self.spool_peak_records),
                HumanCount(s.pending_records),
                HumanBytes(s.pending_bytes),
                HumanCount(s.held_records)
            ),
            if s.latest.is_empty() { "-".into() } else { s.latest.replace('\n', " ") },
        ]
    }
}

const ROWS: [&str; 6] = ["line", "readings", "windows", "digests", "spool", "latest"];

/// Twenty cells, full at the deepest the spool has been.
fn gauge(value: u64, peak: u64) -> String {
    const CELLS: u64 = 20;
    let full = (value.saturating_mul(CELLS)).checked_div(peak).unwrap_or(0).min(CELLS);
    (0..CELLS).map(|i| if i < full { '█' } else { '░' }).collect()
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gauge_is_full_at_the_peak_and_empty_without_one() {
        assert_eq!(gauge(0, 0).matches('█').count(), 0);
        assert_eq!(gauge(50, 100).matches('█').count(), 10);
        assert_eq!(gauge(u64::MAX, 1).matches('█').count(), 20);
    }

    #[test]
    fn a_scene_is_told_in_numbers_with_their_names() {
        let scene = Scene { readings: 12_031, pending_records: 7, digests: (5, 1), ..Scene::default() };
        let lines = View::new().lines(&scene).join("\n");
        for part in ["DOWN, buffering", "12,031 in all", "5 by GLM, 1 by template", "7 records wait"] {
            assert!(lines.contains(part), "{part} is missing in\n{lines}");
        }
    }
}
