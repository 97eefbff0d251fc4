//! What is wrong with a configuration, in words that end with what to do.

use std::fmt;

use serde::Serialize;

/// One mistake or remark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file as the operator named it.
    pub file: String,
    /// Line in the file, from 1; none when the key is absent.
    pub line: Option<usize>,
    /// Path of the key, such as `mqtt.port` or `source[2].kind`; empty for the file as a whole.
    pub key: String,
    /// The value as written, shortened; empty when there is none.
    pub value: String,
    /// What is wrong.
    pub problem: String,
    /// What is allowed; empty when that does not apply.
    pub allowed: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        match (self.key.as_str(), self.value.as_str()) {
            ("", _) => {}
            (key, "") => write!(f, "{key}: ")?,
            (key, value) => write!(f, "{key} = {value}: ")?,
        }
        f.write_str(&self.problem)?;
        if !self.allowed.is_empty() {
            write!(f, "; allowed: {}", self.allowed)?;
        }
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}

/// A configuration that can be used, with what still deserves a look.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// As meant.
    pub config: T,
    /// Remarks that do not stop the start.
    pub warnings: Vec<Problem>,
}

/// Everything that is wrong with a configuration file; the operator's fault.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError {
    /// In the order of the file; never empty.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// The file as a whole cannot be taken.
    pub(super) fn unreadable(file: &str, problem: String, hint: &str) -> Self {
        let problem = Problem {
            file: file.into(),
            line: None,
            key: String::new(),
            value: String::new(),
            problem,
            allowed: String::new(),
            hint: hint.into(),
        };
        Self { problems: vec![problem] }
    }
}
