//! How far a long piece of work is: a bar on a terminal, a line now and then elsewhere, nothing for machines.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clock;
use crate::time::Mono;

/// Shows bytes done of bytes due, on standard error.
pub(super) enum Progress {
    /// A terminal.
    Bar(ProgressBar),
    /// A file or a pipe: a line when it begins, then one per [`LINE_EVERY`].
    Lines { what: String, told: Option<Mono> },
    /// The answer is for a machine.
    Silent,
}

impl Progress {
    pub fn new(what: &str, json: bool) -> Self {
        if json {
            return Progress::Silent;
        }
        if !std::io::stderr().is_terminal() {
            return Progress::Lines { what: what.into(), told: None };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.progress_chars("━╸╌"));
        }
        bar.set_message(what.to_owned());
        Progress::Bar(bar)
    }

    /// Tells how far it is.
    pub fn tell(&mut self, done: u64, total: u64) {
        match self {
            Progress::Bar(bar) => {
                if bar.length() != Some(total) {
                    bar.set_length(total);
                }
                bar.set_position(done);
            }
            Progress::Lines { what, told } => {
                let now = clock::mono();
                if told.is_none_or(|then| now.since(then) >= LINE_EVERY) {
                    *told = Some(now);
                    let percent = (done.min(total) * 100).checked_div(total).unwrap_or(100);
                    // Whoever reads the lines may have gone; the work goes on.
                    let _ = writeln!(std::io::stderr(), "{what}: {percent} % of {}", super::size_text(total));
                }
            }
            Progress::Silent => {}
        }
    }

    /// Takes the bar away.
    pub fn finish(self) {
        if let Progress::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

const TEMPLATE: &str =
    "{msg} {wide_bar:.green} {bytes:>11} of {total_bytes}  {binary_bytes_per_sec:>13}  {eta}";
const LINE_EVERY: Duration = Duration::from_secs(10);
