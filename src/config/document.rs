//! The file as written, checked against its table: every key known, every value of its kind and in its range.
//!
//! Reading never stops at a mistake; problems are collected, and a key with a bad value then reads as its default so
//! that the remaining checks still mean something.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::kind::Value;
use super::problem::{ConfigError, Loaded, Problem};
use super::schema::{Key, Schema, Section, Shape};
use super::suggest::closest;
use crate::limits;

/// A checked document and the problems found so far.
pub struct Raw {
    schema: &'static Schema,
    file: String,
    text: String,
    entries: Vec<Entry>,
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
    /// The grammar of the file is broken: what is missing may just not have been understood.
    damaged: bool,
}

/// The keys of one section, or of one of its entries.
pub struct Entry {
    section: &'static Section,
    /// `mqtt`, `source[2]`, `channels."pump*"`; empty for the top level.
    path: String,
    /// The name of a [`Shape::Named`] entry.
    pub name: String,
    /// Where it begins in the file.
    at: usize,
    values: BTreeMap<&'static str, Written>,
}

struct Written {
    value: Value,
    text: String,
    at: usize,
}

impl Raw {
    /// Reads `text`; problems are kept for [`Raw::finish`].
    pub fn parse(schema: &'static Schema, file: &str, text: &str) -> Self {
        let mut raw = Self {
            schema,
            file: file.into(),
            text: text.into(),
            entries: Vec::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
            damaged: false,
        };
        let (table, broken) = DeTable::parse_recoverable(text);
        for error in broken.into_iter().take(limits::CONFIG_PROBLEMS_MAX) {
            raw.damaged = true;
            let at = error.span().map(|s| s.start);
            let what = error.message().trim().replace('\n', ", ");
            raw.push("", at, String::new(), what, String::new(), "the file must be valid TOML".into());
        }
        raw.read_top(table.get_ref());
        raw
    }

    /// Every entry of a section, in the order of the file; a section that stands once is there even if unwritten.
    pub fn take(&mut self, section: &str) -> Vec<Entry> {
        let Some(section) = self.schema.section(section) else { unreachable!("no section {section}") };
        let (mut taken, rest): (Vec<_>, Vec<_>) =
            self.entries.drain(..).partition(|e| std::ptr::eq(e.section, section));
        self.entries = rest;
        taken.sort_by_key(|e| e.at);
        if taken.is_empty() && matches!(section.shape, Shape::Top | Shape::Table) {
            taken.push(Entry::new(section, section.name.into(), String::new(), 0));
        }
        taken
    }

    /// The one entry of a section that stands once.
    pub fn take_one(&mut self, section: &str) -> Entry {
        self.take(section).remove(0)
    }

    /// A mistake in the relation between keys. Not noted in a damaged file, where it may be a mere consequence.
    pub fn error(&mut self, entry: &Entry, key: &str, problem: impl Into<String>, hint: impl Into<String>) {
        if !self.damaged {
            let problem = self.relation(entry, key, problem.into(), hint.into());
            self.errors.push(problem);
        }
    }

    /// A remark that does not stop the start.
    pub fn warn(&mut self, entry: &Entry, key: &str, problem: impl Into<String>, hint: impl Into<String>) {
        let problem = self.relation(entry, key, problem.into(), hint.into());
        self.warnings.push(problem);
    }

    /// Whether the key was written with a bad value, which has been noted already.
    pub fn is_flawed(&self, entry: &Entry, key: &str) -> bool {
        let path = entry.key_path(key);
        self.errors.iter().any(|p| p.key == path)
    }

    /// The result: `config`, or every mistake in the order of the file.
    pub fn finish<T>(mut self, config: T) -> Result<Loaded<T>, ConfigError> {
        self.errors.sort_by_key(|p| p.line.unwrap_or(usize::MAX));
        self.errors.truncate(limits::CONFIG_PROBLEMS_MAX);
        if self.errors.is_empty() {
            Ok(Loaded { config, warnings: self.warnings })
        } else {
            Err(ConfigError { problems: self.errors })
        }
    }

    fn read_top(&mut self, table: &DeTable<'_>) {
        let schema = self.schema;
        let top = &schema.sections[0];
        let mut entry = Entry::new(top, String::new(), String::new(), 0);
        for (key, value) in table.iter() {
            let name: &str = key.get_ref();
            match schema.section(name).filter(|s| s.shape != Shape::Top) {
                Some(section) => self.read_section(section, key.span(), value),
                None => self.read_key(&mut entry, key, value),
            }
        }
        self.entries.push(entry);
    }

    fn read_section(&mut self, section: &'static Section, key: Range<usize>, value: &Spanned<DeValue<'_>>) {
        match (section.shape, value.get_ref()) {
            (Shape::Table, DeValue::Table(table)) => {
                self.read_entry(section, section.name.into(), "", key.start, table);
            }
            (Shape::List, DeValue::Array(list)) => {
                for (n, item) in list.iter().enumerate() {
                    let path = format!("{}[{}]", section.name, n + 1);
                    match item.get_ref() {
                        DeValue::Table(table) => self.read_entry(section, path, "", item.span().start, table),
                        _ => self.wrong_shape(section, item.span()),
                    }
                }
            }
            (Shape::Named, DeValue::Table(entries)) => {
                for (name, item) in entries.iter() {
                    let path = format!("{}.\"{}\"", section.name, shortened(name.get_ref()));
                    match item.get_ref() {
                        DeValue::Table(table) => {
                            self.read_entry(section, path, name.get_ref(), name.span().start, table);
                        }
                        _ => self.wrong_shape(section, item.span()),
                    }
                }
            }
            _ => self.wrong_shape(section, key),
        }
    }

    fn read_entry(
        &mut self,
        section: &'static Section,
        path: String,
        name: &str,
        at: usize,
        table: &DeTable<'_>,
    ) {
        let mut entry = Entry::new(section, path, name.into(), at);
        for (key, value) in table.iter() {
            self.read_key(&mut entry, key, value);
        }
        self.refuse_other_kinds(&mut entry);
        self.entries.push(entry);
    }

    fn read_key(
        &mut self,
        entry: &mut Entry,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let at = key.span().start;
        // The span of a table is its heading: no value worth repeating.
        let span = Some(value.span()).filter(|_| !value.get_ref().is_table());
        let written = span.and_then(|s| self.text.get(s)).map(shortened).unwrap_or_default();
        let Some(known) = entry.section.key(key.get_ref()) else {
            return self.unknown_key(entry, key.get_ref(), at, written);
        };
        match known.kind.read(value.get_ref()) {
            Some(value) => {
                entry.values.insert(known.name, Written { value, text: written, at });
            }
            None => {
                let hint = hint(known, value.get_ref());
                let path = entry.key_path(known.name);
                self.push(
                    &path,
                    Some(at),
                    written,
                    "not a value for this key".into(),
                    known.kind.allowed(),
                    hint,
                );
            }
        }
    }

    fn unknown_key(&mut self, entry: &Entry, key: &str, at: usize, written: String) {
        let top = entry.section.shape == Shape::Top;
        let sections = self.schema.sections.iter().map(|s| s.name).filter(|_| top);
        let hint = match closest(key, entry.section.keys.iter().map(|k| k.name).chain(sections)) {
            Some(word) => format!("did you mean `{word}`?"),
            None => match self.schema.sections.iter().find(|s| s.key(key).is_some()) {
                Some(other) if other.shape != Shape::Top => {
                    format!("it belongs under {}", other.heading("name"))
                }
                Some(_) => "it belongs at the top of the file, before the first heading".into(),
                None => {
                    format!("`outpost check --reference {}` lists the keys; remove it", self.schema.seat)
                }
            },
        };
        let path = entry.key_path(&shortened(key));
        self.push(&path, Some(at), written, "unknown key".into(), String::new(), hint);
    }

    /// A key of another `kind` of entry has no meaning here, and its author expects one.
    fn refuse_other_kinds(&mut self, entry: &mut Entry) {
        let Some(Value::Text(kind)) = entry.values.get("kind").map(|w| w.value.clone()) else { return };
        for key in entry.section.keys.iter().filter(|k| !k.is_for(&kind)) {
            if let Some(written) = entry.values.remove(key.name) {
                let path = entry.key_path(key.name);
                let problem = format!("has no meaning for kind = \"{kind}\"");
                let hint =
                    format!("it belongs to kind = \"{}\"; remove it", key.only.replace(' ', "\" or \""));
                self.push(&path, Some(written.at), written.text, problem, String::new(), hint);
            }
        }
    }

    fn wrong_shape(&mut self, section: &Section, at: Range<usize>) {
        let hint = format!("write it as {}", section.heading("name"));
        self.push(
            section.name,
            Some(at.start),
            String::new(),
            "not a section of this shape".into(),
            String::new(),
            hint,
        );
    }

    fn relation(&self, entry: &Entry, key: &str, problem: String, hint: String) -> Problem {
        let written = entry.values.get(key);
        let at = written.map(|w| w.at).or(Some(entry.at)).filter(|_| written.is_some() || entry.at > 0);
        Problem {
            file: self.file.clone(),
            line: at.map(|at| self.line(at)),
            key: entry.key_path(key),
            value: written.map(|w| w.text.clone()).unwrap_or_default(),
            problem,
            allowed: String::new(),
            hint,
        }
    }

    fn push(
        &mut self,
        key: &str,
        at: Option<usize>,
        value: String,
        problem: String,
        allowed: String,
        hint: String,
    ) {
        let line = at.map(|at| self.line(at));
        let file = self.file.clone();
        self.errors.push(Problem { file, line, key: key.into(), value, problem, allowed, hint });
    }

    fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count()
    }
}

/// Typed access: what was written, or the table's default. Asking for a key that the table does not have, or has
/// with another kind, is a mistake of this program; a test reads every key once.
impl Entry {
    fn new(section: &'static Section, path: String, name: String, at: usize) -> Self {
        Self { section, path, name, at, values: BTreeMap::new() }
    }

    /// Whether the key stands in the file, with a value of its kind.
    pub fn is_written(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    pub fn flag(&self, key: &str) -> bool {
        self.opt_flag(key).unwrap_or_else(|| self.no_default(key))
    }

    pub fn opt_flag(&self, key: &str) -> Option<bool> {
        self.value(key).map(|v| if let Value::Flag(x) = v { x } else { self.wrong_kind(key) })
    }

    pub fn integer(&self, key: &str) -> i64 {
        self.opt_integer(key).unwrap_or_else(|| self.no_default(key))
    }

    pub fn opt_integer(&self, key: &str) -> Option<i64> {
        self.value(key).map(|v| if let Value::Integer(x) = v { x } else { self.wrong_kind(key) })
    }

    pub fn number(&self, key: &str) -> f64 {
        self.opt_number(key).unwrap_or_else(|| self.no_default(key))
    }

    pub fn opt_number(&self, key: &str) -> Option<f64> {
        self.value(key).map(|v| if let Value::Number(x) = v { x } else { self.wrong_kind(key) })
    }

    pub fn time(&self, key: &str) -> Duration {
        self.opt_time(key).unwrap_or_else(|| self.no_default(key))
    }

    pub fn opt_time(&self, key: &str) -> Option<Duration> {
        self.value(key).map(|v| if let Value::Time(x) = v { x } else { self.wrong_kind(key) })
    }

    pub fn size(&self, key: &str) -> u64 {
        self.opt_size(key).unwrap_or_else(|| self.no_default(key))
    }

    pub fn opt_size(&self, key: &str) -> Option<u64> {
        self.value(key).map(|v| if let Value::Size(x) = v { x } else { self.wrong_kind(key) })
    }

    pub fn text(&self, key: &str) -> String {
        self.opt_text(key).unwrap_or_else(|| self.no_default(key))
    }

    pub fn opt_text(&self, key: &str) -> Option<String> {
        self.value(key).map(|v| if let Value::Text(x) = v { x } else { self.wrong_kind(key) })
    }

    pub fn opt_texts(&self, key: &str) -> Option<Vec<String>> {
        self.value(key).map(|v| if let Value::Texts(x) = v { x } else { self.wrong_kind(key) })
    }

    pub fn opt_points(&self, key: &str) -> Option<Vec<(f64, f64)>> {
        self.value(key).map(|v| if let Value::Points(x) = v { x } else { self.wrong_kind(key) })
    }

    pub fn address(&self, key: &str) -> SocketAddr {
        self.opt_address(key).unwrap_or_else(|| self.no_default(key))
    }

    pub fn opt_address(&self, key: &str) -> Option<SocketAddr> {
        self.value(key).map(|v| if let Value::Address(x) = v { x } else { self.wrong_kind(key) })
    }

    fn value(&self, key: &str) -> Option<Value> {
        let Some(known) = self.section.key(key) else {
            unreachable!("no key {} in {}", key, self.section.name)
        };
        #[cfg(test)]
        READS.with_borrow_mut(|reads| reads.insert((self.section.name, known.name)));
        match self.values.get(key) {
            Some(written) => Some(written.value.clone()),
            None => known.default.map(|text| {
                let value = DeValue::parse(text).ok().and_then(|v| known.kind.read(v.get_ref()));
                value.unwrap_or_else(|| self.wrong_kind(key))
            }),
        }
    }

    fn key_path(&self, key: &str) -> String {
        match (self.path.as_str(), key) {
            ("", key) => key.into(),
            (path, "") => path.into(),
            (path, key) => format!("{path}.{key}"),
        }
    }

    fn wrong_kind(&self, key: &str) -> ! {
        unreachable!("{} is read as another kind than its table's", self.key_path(key))
    }

    fn no_default(&self, key: &str) -> ! {
        unreachable!("{} has no default in its table", self.key_path(key))
    }
}

/// What people usually mean when they write a value of the wrong kind.
fn hint(key: &Key, value: &DeValue<'_>) -> String {
    use super::kind::Kind;
    match (key.kind, value) {
        (Kind::Time { .. }, DeValue::Integer(n)) => {
            format!("write a number with its unit in quotes, such as \"{} s\"", n.as_str())
        }
        (Kind::Time { .. }, DeValue::String(_)) => "units are ms, s, min, h and d".into(),
        (Kind::Size { .. }, DeValue::Integer(_) | DeValue::String(_)) => {
            "write a whole number with its unit in quotes; units are B, KiB, MiB and GiB".into()
        }
        (Kind::OneOf(words), DeValue::String(s)) => {
            closest(s, words.iter().copied()).map_or(String::new(), |w| format!("did you mean \"{w}\"?"))
        }
        (Kind::OneOf(words), DeValue::Boolean(b)) => {
            let word = words.iter().find(|w| w.starts_with(if *b { "on" } else { "off" }));
            word.map_or(String::new(), |w| format!("write \"{w}\""))
        }
        _ => format!("write for example {} = {}", key.name, key.example),
    }
}

fn shortened(text: &str) -> String {
    let line: String = text.chars().take(40).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(40).is_some() { line + "..." } else { line }
}

#[cfg(test)]
thread_local! {
    /// Every (section, key) read on this thread, for the proof that none is forgotten.
    pub static READS: std::cell::RefCell<std::collections::BTreeSet<(&'static str, &'static str)>> =
        const { std::cell::RefCell::new(std::collections::BTreeSet::new()) };
}
