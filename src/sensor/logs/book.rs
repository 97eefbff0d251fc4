//! The counts of one log: lines in, readings, descriptions and news out.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::files::LeftOut;
use super::{LogsOptions, Piece};
use crate::clock;
use crate::limits;
use crate::observe::{emit, sensor as events};
use crate::reading::{ChannelId, ChannelInfo, Quantity, Reading, Unit};
use crate::sensor::malformed::MalformedLog;
use crate::sensor::names;
use crate::sensor::outlet::{Handover, Outlet, Receipt};
use crate::templates::{Memory, Tally};
use crate::time::{Mono, Wall};
use crate::wire::Notice;

/// Counts the lines of one source.
pub(super) struct Book {
    source: Arc<str>,
    tally: Tally,
    malformed: MalformedLog,
    described: HashSet<ChannelId>,
    news: News,
    /// The most that was told to be left out.
    left_out: LeftOut,
    /// Files that can't be read, each told once.
    unreadable: HashSet<String>,
    notices: Vec<Notice>,
}

/// New templates that were not told yet.
#[derive(Default)]
struct News {
    texts: Vec<String>,
    total: u64,
    told: Option<Mono>,
}

impl Book {
    pub fn new(options: &LogsOptions, memory: &Memory, outlet: &Outlet) -> Self {
        let learn_windows = options.learn.as_millis() / options.every.as_millis().max(1);
        Self {
            source: Arc::clone(outlet.source()),
            tally: Tally::new(memory, u64::try_from(learn_windows).unwrap_or(u64::MAX)),
            malformed: MalformedLog::new(outlet.source()),
            described: HashSet::new(),
            news: News::default(),
            left_out: LeftOut::default(),
            unreadable: HashSet::new(),
            notices: Vec::new(),
        }
    }

    /// Counts a line of a file or stream.
    pub fn piece(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Line(line) => self.line(line),
            Piece::TooLong(start) => {
                self.malformed.note(&format_args!("longer than {} bytes", limits::LINE_BYTES_MAX), start);
            }
        }
    }

    /// Counts a line; what is no text is counted as malformed.
    pub fn line(&mut self, line: &[u8]) {
        if is_binary(line) {
            return self.malformed.note(&"not a text", line);
        }
        self.tally.take(&String::from_utf8_lossy(line));
    }

    /// Something that is no line at all.
    pub fn malformed(&mut self, reason: &dyn std::fmt::Display, sample: &[u8]) {
        self.malformed.note(reason, sample);
    }

    /// So many messages never got here.
    pub fn lost(&mut self, count: u64) {
        self.malformed.note_many(count, &"the system had no room for more datagrams", b"");
    }

    /// An unknown number of lines of a file will never be read.
    pub fn gap(&mut self, path: &Path) {
        emit(&events::LogGap { source: &self.source, path });
        self.notices.push(Notice {
            code: "log_gap".into(),
            text: format!(
                "Lines of {} were rotated away or compressed before {} had read them. Keep one rotated file \
                 uncompressed (delaycompress).",
                path.display(),
                self.source
            ),
            at: clock::wall(),
        });
    }

    /// Nobody can say how much of the journal was not read: the place where reading had got to is no use.
    pub fn journal_gap(&mut self) {
        emit(&events::LogGap { source: &self.source, path: Path::new("journal") });
        self.notices.push(Notice {
            code: "log_gap".into(),
            text: format!(
                "The journal can't be read on where {} had got to; it is read from now on, and what came between is \
                 not counted.",
                self.source
            ),
            at: clock::wall(),
        });
    }

    /// Files match that are not followed, or folders are too large; told again only when it is more.
    pub fn left_out(&mut self, now: LeftOut) {
        let before = self.left_out;
        self.left_out =
            LeftOut { files: now.files.max(before.files), folders: now.folders.max(before.folders) };
        if self.left_out == before {
            return;
        }
        let more = self.left_out.files - before.files;
        emit(&events::LogFilesLeftOut { source: &self.source, files: now.files, folders: now.folders, more });
        if before == LeftOut::default() {
            self.notices.push(Notice {
                code: "log_files_left_out".into(),
                text: format!(
                    "The patterns of {} match more than can be followed: {} files are left out ({} are followed at most), and \
                     {} folders have more than {} entries. Write narrower patterns.",
                    self.source,
                    now.files,
                    limits::LOG_FILES_MAX,
                    now.folders,
                    limits::LOG_ENTRIES_MAX
                ),
                at: clock::wall(),
            });
        }
    }

    /// A file can't be read now; told once.
    pub fn unreadable(&mut self, path: &Path, error: &io::Error) {
        let place = path.display().to_string();
        if self.unreadable.len() < limits::LOG_FILES_MAX && self.unreadable.insert(place) {
            emit(&events::LogUnreadable { source: &self.source, path, error });
        }
    }

    pub fn memory_if_changed(&mut self) -> Option<Memory> {
        self.tally.memory_if_changed()
    }

    /// Ends the window: what was counted, to be handed over.
    pub fn close(&mut self, outlet: &Outlet, receipt: Receipt) -> Handover {
        let at = clock::wall();
        let counts = self.tally.close();
        self.news.add(counts.news, counts.news_total);
        let mut handover = Handover { receipt: Some(receipt), ..Handover::default() };
        let sums = [("lines", counts.lines, "lines"), ("new", counts.fresh, "new kinds of lines")];
        for (name, count, label) in sums.into_iter().chain([("other", counts.other, "lines of other kinds")])
        {
            self.count(name, count, at, &mut handover, |_| label.to_owned());
        }
        for (id, count) in counts.own {
            self.count(&format!("t{:08x}", id.0), count, at, &mut handover, |book| {
                label(&book.tally.text(id).unwrap_or_default())
            });
        }
        for id in counts.ended {
            if let Ok(channel) = names::channel(&format!("{}.t{:08x}", self.source, id.0)) {
                // Described anew if it comes back.
                self.described.remove(&channel);
                handover.ended.push(channel);
            }
        }
        handover.notices = std::mem::take(&mut self.notices);
        handover.notices.extend(self.news.told(&self.source, at));
        outlet.counters().set_malformed(self.malformed.total());
        handover
    }

    fn count(
        &mut self,
        name: &str,
        count: u64,
        at: Wall,
        out: &mut Handover,
        label: impl FnOnce(&Self) -> String,
    ) {
        // A source's name and these few bytes fit by the bound on source names.
        let Ok(id) = names::channel(&format!("{}.{name}", self.source)) else { return };
        if self.described.insert(id.clone()) {
            out.infos.push(ChannelInfo {
                id: id.clone(),
                unit: Unit::default(),
                unit_given: true,
                quantity: Quantity::Count,
                asset: Some(self.source.to_string()),
                label: label(self),
            });
        }
        out.readings.push(Reading::new(id, at, Ok(count as f64)));
    }
}

impl News {
    fn add(&mut self, texts: Vec<String>, total: u64) {
        let room = limits::TEMPLATE_NEWS_MAX.saturating_sub(self.texts.len());
        self.texts.extend(texts.into_iter().take(room));
        self.total += total;
    }

    /// What is new, at most once per [`limits::LOG_NEWS_S_MIN`].
    fn told(&mut self, source: &str, at: Wall) -> Option<Notice> {
        let now = clock::mono();
        let is_early = self.told.is_some_and(|told| now.since(told).as_secs() < limits::LOG_NEWS_S_MIN);
        if self.total == 0 || is_early {
            return None;
        }
        let Self { texts, total, .. } = std::mem::replace(self, Self { told: Some(now), ..Self::default() });
        let named: Vec<String> = texts.iter().map(|text| format!("\"{}\"", label(text))).collect();
        let more = match total.saturating_sub(named.len() as u64) {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let text = format!("The log {source} says what it never said before: {}{more}.", named.join(", "));
        Some(Notice { code: "log_new".into(), text, at })
    }
}

/// At most [`limits::TEMPLATE_LABEL_CHARS_MAX`] characters, none of them a control character.
fn label(text: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(limits::TEMPLATE_LABEL_CHARS_MAX).map(shown).collect()
}

/// More than a tenth of it are control characters or no UTF-8; colours and tabs are usual in logs.
fn is_binary(line: &[u8]) -> bool {
    let odd = line.iter().filter(|b| **b < 32 && **b != b'\t' && **b != 27 || **b == 127).count();
    let torn: usize = line.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
    10 * (odd + torn) > line.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_told_from_text() {
        assert!(is_binary(b"\x7fELF\x02\x01\x01\0\0\0\0\0"));
        assert!(is_binary(&[0xff; 40]));
        assert!(!is_binary("\x1b[31merror\x1b[0m\tT\u{fc}r".as_bytes()));
        assert!(!is_binary(b""));
    }

    #[test]
    fn news_are_told_once_a_minute_and_none_is_forgotten() {
        let mut news = News::default();
        news.add(vec!["a <*>\n".into()], 1);
        assert_eq!(
            news.told("x", Wall(0)).unwrap().text,
            "The log x says what it never said before: \"a <*> \"."
        );
        news.add(vec!["b".into()], 700);
        assert_eq!(news.told("x", Wall(0)), None);
        news.told = None;
        assert!(news.told("x", Wall(0)).unwrap().text.ends_with("\"b\" and 699 more."));
    }
}
