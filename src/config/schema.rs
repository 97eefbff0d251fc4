//! The shape of the tables that describe a configuration file: sections of keys.

use super::kind::Kind;

/// One seat's configuration file, complete.
#[derive(Debug)]
pub struct Schema {
    /// `agent` or `aggregator`.
    pub seat: &'static str,
    /// Usual name of the file.
    pub file: &'static str,
    /// What the file is for, one sentence.
    pub meaning: &'static str,
    /// In the order of the file; the first is the top level.
    pub sections: &'static [Section],
}

/// Keys that stand together under one heading.
#[derive(Debug)]
pub struct Section {
    /// Name between the brackets; empty for the top level.
    pub name: &'static str,
    /// How often and under what heading it may stand.
    pub shape: Shape,
    /// What it is for, one sentence.
    pub meaning: &'static str,
    /// Its keys, in the order of the reference.
    pub keys: &'static [Key],
}

/// How a section is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Keys before the first heading.
    Top,
    /// `[name]`, once.
    Table,
    /// `[[name]]`, as often as there are things to list.
    List,
    /// `[name."entry"]`, one per entry.
    Named,
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name, as written.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Its value when it is absent, as TOML; none: what [`Key::meaning`] says.
    pub default: Option<&'static str>,
    /// A value as TOML for the example file, where there is no default.
    pub example: &'static str,
    /// What it does, one sentence.
    pub meaning: &'static str,
    /// The `kind` of entry it belongs to, or several with blanks between; empty for all.
    pub only: &'static str,
}

impl Schema {
    /// The section of that name.
    pub fn section(&self, name: &str) -> Option<&'static Section> {
        self.sections.iter().find(|s| s.name == name)
    }
}

impl Section {
    /// The key of that name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|k| k.name == name)
    }

    /// The heading in the file; `entry` names one of several.
    pub fn heading(&self, entry: &str) -> String {
        match self.shape {
            Shape::Top => String::new(),
            Shape::Table => format!("[{}]", self.name),
            Shape::List => format!("[[{}]]", self.name),
            Shape::Named => format!("[{}.\"{entry}\"]", self.name),
        }
    }
}

impl Key {
    /// A key with a default.
    pub const fn new(name: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Self {
        Self { name, kind, default: Some(default), example: default, meaning, only: "" }
    }

    /// A key that may be absent.
    pub const fn optional(
        name: &'static str,
        kind: Kind,
        example: &'static str,
        meaning: &'static str,
    ) -> Self {
        Self { name, kind, default: None, example, meaning, only: "" }
    }

    /// Belongs to entries with this `kind` alone, or with one of several.
    pub const fn only(self, kind: &'static str) -> Self {
        Self { only: kind, ..self }
    }

    /// Whether it has a meaning in entries of this `kind`.
    pub fn is_for(&self, kind: &str) -> bool {
        self.only.is_empty() || self.only.split(' ').any(|only| only == kind)
    }
}
