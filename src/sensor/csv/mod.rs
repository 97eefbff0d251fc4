//! Recordings in CSV, read as a stream with bounded memory.
//!
//! ```text
//! timestamp,pump1.bearing_temp [Cel],pump1.vibration [mm/s]     the header: one time column, the rest are channels
//! 2026-03-01 00:00:00,61.2,2.1
//! 2026-03-01 00:00:10,,NaN                                      empty: NoData::Null, NaN: NoData::NotANumber
//! ```
//!
//! The time column is the one called `timestamp`, `time`, `ts`, `date` or `datetime`, or else the first whose first
//! cell can't be anything but a time. A column called `value` is named after the file. Commas, semicolons or tabs
//! separate, whichever the header has most of; a quoted cell may hold separators and doubled quotes but no line break.
//!
//! | found | answer |
//! |---|---|
//! | no line at all, no header, no time column, no value column, not one usable row | [`CsvError`] |
//! | a row with more or fewer cells than the header, an unreadable time, an overlong line | row skipped, counted |
//! | a cell that is no number | `NoData::NotANumber`, counted |
//! | a column whose first cell is a text | column left out |

mod row;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use crate::limits;
use crate::reading::{ChannelId, ChannelInfo, NoData, Reading, Value, value_from_f64};
use crate::sensor::{names, timestamp};
use crate::time::Wall;
use row::{Line, cells, read_line};

/// How a recording is named.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CsvOptions {
    /// Put before every channel's name as it is, such as `plant2.`; empty by default.
    pub channel_prefix: String,
}

/// Why a recording can't be read; mostly the file's fault.
#[derive(Debug, thiserror::Error)]
pub enum CsvError {
    /// The file can't be opened or read.
    #[error("cannot read {file}: {source}; check the path and its permissions")]
    Read {
        /// The file.
        file: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// Not one line.
    #[error("{file} is empty; it needs a header line such as `timestamp,value`")]
    Empty {
        /// The file.
        file: String,
    },
    /// The first line is data, or can't be a header.
    #[error("{file}:1: {reason}; the first line must name the columns, such as `timestamp,value`")]
    Header {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No column holds times.
    #[error("{file}:2: no time column among `{header}`; name it timestamp, time, ts or date")]
    NoTimeColumn {
        /// The file.
        file: String,
        /// The header line, shortened.
        header: String,
    },
    /// Only times.
    #[error("{file}:2: no column of numbers beside the time column {time:?}")]
    NoValueColumn {
        /// The file.
        file: String,
        /// The time column.
        time: String,
    },
    /// Rows, but not one that could be used.
    #[error("{file}: none of {rows} rows could be used; the last one: {reason}")]
    NothingUsable {
        /// The file.
        file: String,
        /// Rows seen.
        rows: u64,
        /// What is wrong with the last one.
        reason: String,
    },
}

/// A row or cell that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// Line number in the file, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads a recording row by row, in constant memory. As an iterator it gives single readings.
pub struct CsvReader<R = BufReader<File>> {
    input: R,
    file: String,
    separator: u8,
    columns: Vec<Option<ChannelId>>,
    time_column: usize,
    infos: Vec<ChannelInfo>,
    /// The first row, which the columns were judged by.
    first: Option<Vec<u8>>,
    buffer: Vec<u8>,
    line: u64,
    bytes: u64,
    bytes_total: Option<u64>,
    rows: u64,
    usable: u64,
    malformed: u64,
    bad: Option<BadRow>,
    ready: VecDeque<Reading>,
}

impl CsvReader<BufReader<File>> {
    /// Opens the file and reads its header and first row.
    pub fn open(path: &Path, options: &CsvOptions) -> Result<Self, CsvError> {
        let failed = |source| CsvError::Read { file: path.display().to_string(), source };
        let file = File::open(path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        let total = meta.is_file().then_some(meta.len());
        let mut reader = Self::new(BufReader::with_capacity(limits::LINE_BYTES_MAX, file), path, options)?;
        reader.bytes_total = total;
        Ok(reader)
    }
}

impl<R: BufRead> CsvReader<R> {
    /// Reads header and first row of `input`; `path` names it in messages, its stem names the column `value`.
    pub fn new(input: R, path: &Path, options: &CsvOptions) -> Result<Self, CsvError> {
        let mut reader = Self {
            input,
            file: path.display().to_string(),
            separator: b',',
            columns: Vec::new(),
            time_column: 0,
            infos: Vec::new(),
            first: None,
            buffer: Vec::new(),
            line: 0,
            bytes: 0,
            bytes_total: None,
            rows: 0,
            usable: 0,
            malformed: 0,
            bad: None,
            ready: VecDeque::new(),
        };
        let header = reader.read_header()?;
        let first = match reader.next_line()? {
            Some(Line::Whole) => reader.buffer.clone(),
            Some(Line::TooLong) => return Err(reader.bad_header("line 2 is too long")),
            Some(Line::End) | None => {
                let reason = "a header without a row".into();
                return Err(CsvError::NothingUsable { file: reader.file, rows: 0, reason });
            }
        };
        let sample = cells(&first, reader.separator).unwrap_or_default();
        reader.assign_columns(&header, &sample, path, options)?;
        reader.first = Some(first);
        Ok(reader)
    }

    /// Appends the readings of the next usable row to `out`, all with the returned event time; nothing at the end.
    ///
    /// Errors: the file can't be read any further, or ended without one usable row.
    pub fn next_row(&mut self, out: &mut Vec<Reading>) -> Result<Option<Wall>, CsvError> {
        loop {
            let row = match self.first.take() {
                Some(first) => first,
                None => match self.next_line()? {
                    Some(Line::Whole) => std::mem::take(&mut self.buffer),
                    Some(Line::TooLong) => {
                        self.rows += 1;
                        self.note(format!("longer than {} bytes", limits::LINE_BYTES_MAX));
                        continue;
                    }
                    Some(Line::End) | None => return self.ended(),
                },
            };
            self.rows += 1;
            let read = self.row(&row, out);
            self.buffer = row;
            match read {
                Ok(at) => {
                    self.usable += 1;
                    return Ok(Some(at));
                }
                Err(reason) => self.note(reason),
            }
        }
    }

    /// The channels, in the order of their columns.
    pub fn infos(&self) -> &[ChannelInfo] {
        &self.infos
    }

    /// Bytes read, and bytes in all where the input is a file.
    pub fn progress(&self) -> (u64, Option<u64>) {
        (self.bytes, self.bytes_total)
    }

    /// Rows and cells that could not be used so far.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// The latest row or cell that could not be used, once.
    pub fn take_bad_row(&mut self) -> Option<BadRow> {
        self.bad.take()
    }

    fn read_header(&mut self) -> Result<Vec<String>, CsvError> {
        match self.next_line()? {
            Some(Line::Whole) => {}
            Some(Line::TooLong) => return Err(self.bad_header("the line is too long")),
            Some(Line::End) | None => return Err(CsvError::Empty { file: self.file.clone() }),
        }
        let text = self.buffer.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.buffer);
        let count = |byte: u8| text.iter().filter(|b| **b == byte).count();
        self.separator = *b",;\t".iter().rev().max_by_key(|b| count(**b)).unwrap_or(&b',');
        let header = cells(text, self.separator).ok_or_else(|| self.bad_header("a quote is not closed"))?;
        let names: Vec<_> =
            header.iter().map(|cell| String::from_utf8_lossy(cell).trim().to_owned()).collect();
        if names.len() > limits::CSV_COLUMNS_MAX {
            return Err(self.bad_header(&format!("more than {} columns", limits::CSV_COLUMNS_MAX)));
        }
        if names.iter().all(|name| name.parse::<f64>().is_ok() || timestamp::parse(name).is_some()) {
            return Err(self.bad_header("it holds data"));
        }
        Ok(names)
    }

    fn assign_columns(
        &mut self,
        header: &[String],
        sample: &[Vec<u8>],
        path: &Path,
        options: &CsvOptions,
    ) -> Result<(), CsvError> {
        let text = |i: usize| sample.get(i).map(|cell| String::from_utf8_lossy(cell)).unwrap_or_default();
        let called = |name: &&str| header.iter().position(|h| h.eq_ignore_ascii_case(name));
        let by_look = || (0..header.len()).find(|&i| timestamp::parse_unmistakable(&text(i)).is_some());
        let time = TIME_COLUMNS.iter().find_map(called).or_else(by_look);
        self.time_column = time.ok_or_else(|| CsvError::NoTimeColumn {
            file: self.file.clone(),
            header: header.join(",").chars().take(80).collect(),
        })?;
        let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        for (i, name) in header.iter().enumerate() {
            let usable = i != self.time_column && !name.is_empty() && value(text(i).as_bytes()).is_ok();
            let channel =
                if usable { Some(self.describe(name, &stem, &options.channel_prefix)?) } else { None };
            self.columns.push(channel);
        }
        if self.infos.is_empty() {
            let time = header.get(self.time_column).cloned().unwrap_or_default();
            return Err(CsvError::NoValueColumn { file: self.file.clone(), time });
        }
        Ok(())
    }

    /// Takes `name [unit]` as a channel.
    fn describe(&mut self, header: &str, stem: &str, prefix: &str) -> Result<ChannelId, CsvError> {
        let (name, unit) = match header.strip_suffix(']').and_then(|h| h.rsplit_once('[')) {
            Some((name, unit)) if unit.len() <= limits::UNIT_BYTES_MAX => (name.trim_end(), Some(unit)),
            _ => (header, None),
        };
        let name = if name.eq_ignore_ascii_case("value") { stem } else { name };
        let raw = format!("{prefix}{name}");
        let id = names::channel(&raw).map_err(|bad| self.bad_header(&bad.to_string()))?;
        if self.infos.iter().any(|info| info.id == id) {
            return Err(self.bad_header(&format!("two columns are called {id}")));
        }
        self.infos.push(names::described(&id, &raw, unit));
        Ok(id)
    }

    fn row(&mut self, line: &[u8], out: &mut Vec<Reading>) -> Result<Wall, String> {
        let row = cells(line, self.separator).ok_or("a quote is not closed")?;
        if row.len() != self.columns.len() {
            return Err(format!("{} cells where the header has {}", row.len(), self.columns.len()));
        }
        let time = String::from_utf8_lossy(&row[self.time_column]);
        let at =
            timestamp::parse(&time).ok_or_else(|| format!("time {:?} can't be read", start_of(&time)))?;
        let mut bad = None;
        for (channel, cell) in self.columns.iter().zip(&row) {
            let Some(channel) = channel else { continue };
            let value = value(cell).unwrap_or_else(|NotNumeric| {
                self.malformed += 1;
                bad = Some(format!("{:?} is no number", start_of(&String::from_utf8_lossy(cell))));
                Err(NoData::NotANumber)
            });
            out.push(Reading::new(channel.clone(), at, value));
        }
        if let Some(reason) = bad {
            self.bad = Some(BadRow { line: self.line, reason });
        }
        Ok(at)
    }

    fn note(&mut self, reason: String) {
        self.malformed += 1;
        self.bad = Some(BadRow { line: self.line, reason });
    }

    fn ended(&mut self) -> Result<Option<Wall>, CsvError> {
        if self.usable > 0 {
            return Ok(None);
        }
        let reason =
            self.bad.take().map_or_else(String::new, |bad| format!("line {}: {}", bad.line, bad.reason));
        Err(CsvError::NothingUsable { file: self.file.clone(), rows: self.rows, reason })
    }

    /// The next line that is not blank, in `self.buffer`.
    fn next_line(&mut self) -> Result<Option<Line>, CsvError> {
        loop {
            let (line, len) = read_line(&mut self.input, &mut self.buffer)
                .map_err(|source| CsvError::Read { file: self.file.clone(), source })?;
            self.bytes += len;
            self.line += 1;
            match line {
                Line::End => return Ok(None),
                Line::Whole if self.buffer.trim_ascii().is_empty() => {}
                line => return Ok(Some(line)),
            }
        }
    }

    fn bad_header(&self, reason: &str) -> CsvError {
        CsvError::Header { file: self.file.clone(), reason: reason.into() }
    }
}

impl<R: BufRead> Iterator for CsvReader<R> {
    type Item = Result<Reading, CsvError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() {
            let mut row = Vec::new();
            match self.next_row(&mut row) {
                Ok(Some(_)) => self.ready.extend(row),
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

/// In order of preference.
const TIME_COLUMNS: [&str; 5] = ["timestamp", "time", "ts", "date", "datetime"];

/// A cell that is neither a number nor a sign of absence.
#[derive(Debug)]
struct NotNumeric;

fn value(cell: &[u8]) -> Result<Value, NotNumeric> {
    let text = std::str::from_utf8(cell).map_err(|_| NotNumeric)?.trim();
    if text.is_empty() || text.eq_ignore_ascii_case("null") {
        return Ok(Err(NoData::Null));
    }
    text.parse().map(value_from_f64).map_err(|_| NotNumeric)
}

fn start_of(text: &str) -> String {
    text.chars().take(32).collect()
}

#[cfg(test)]
mod tests;
