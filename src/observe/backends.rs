//! Where each backend of each model stands: one table for `/api/status` and `/metrics`, whichever thread the model lives on.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// One backend of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendBrief {
    /// The configured name of an accelerator, or `tflite`, or `onnx`.
    pub backend: String,
    /// The configured name of a small model, or the language model's phase.
    pub model: String,
    /// `absent`, `probed`, `loaded`, `verified`, `serving` or `quarantined`.
    pub state: String,
}

/// As many as there are models, times backends that one names.
static TABLE: Mutex<BTreeMap<(String, String), &'static str>> = Mutex::new(BTreeMap::new());

/// Says where `backend` stands with `model`.
pub fn set(backend: &str, model: &str, state: &'static str) {
    let mut table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    table.insert((backend.to_owned(), model.to_owned()), state);
}

/// The table, in order of the names.
pub fn all() -> Vec<BackendBrief> {
    let table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    let brief = |((backend, model), state): (&(String, String), &&str)| BackendBrief {
        backend: backend.clone(),
        model: model.clone(),
        state: (*state).to_owned(),
    };
    table.iter().map(brief).collect()
}

/// The table in Prometheus' text format: 1 for the state that a backend is in.
pub(super) fn render(out: &mut String) {
    const NAME: &str = "outpost_backend_state";
    let _ = writeln!(
        out,
        "# HELP {NAME} Where a backend stands with a model: 1 for its state.\n# TYPE {NAME} gauge"
    );
    // A backend may be called anything in the configuration.
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    for BackendBrief { backend, model, state } in all() {
        let (backend, model) = (escaped(&backend), escaped(&model));
        let _ = writeln!(out, "{NAME}{{backend=\"{backend}\",model=\"{model}\",state=\"{state}\"}} 1");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_takes_the_place_of_the_one_before_and_odd_names_are_escaped() {
        set("a \"b\"", "c\\d", "serving");
        set("a \"b\"", "c\\d", "quarantined");
        let mut out = String::new();
        render(&mut out);
        let lines: Vec<&str> = out.lines().filter(|line| line.contains("backend=\"a ")).collect();
        assert_eq!(
            lines,
            ["outpost_backend_state{backend=\"a \\\"b\\\"\",model=\"c\\\\d\",state=\"quarantined\"} 1"]
        );
    }
}
