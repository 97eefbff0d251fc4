//! Findings as a table for people and as JSON for machines.

use std::fmt::Write as _;

use serde_json::json;

use super::{Finding, Mark};
use crate::cli::Style;
use crate::cli::args::Seat;

/// One line per finding, its next step below it, and a sum at the end.
pub fn table(seat: Seat, file: &str, findings: &[Finding], style: Style) -> String {
    let mut out = format!("{}\n\n", style.bold(&format!("{file} ({seat} seat)")));
    for f in findings {
        let mark = match f.mark {
            Mark::Ok => style.green("ok     "),
            Mark::Warning => style.yellow("warning"),
            Mark::Error => style.red("ERROR  "),
        };
        let _ = writeln!(out, "  {mark}  {:12}  {}", f.area, f.what);
        if !f.next.is_empty() {
            let _ = writeln!(out, "{:25}-> {}", "", f.next);
        }
    }
    let [errors, warnings] = [Mark::Error, Mark::Warning].map(|mark| count(findings, mark));
    let sum = match (errors, warnings) {
        (0, 0) => style.green("All is well."),
        (0, n) => style.yellow(&format!("{n} to look at; nothing that keeps it from running.")),
        (n, 0) => style.red(&format!("{n} to mend.")),
        (n, m) => style.red(&format!("{n} to mend, {m} to look at.")),
    };
    let _ = writeln!(out, "\n{sum}");
    out
}

/// One object; `findings` in the order of the table.
pub fn json(seat: Seat, file: &str, findings: &[Finding]) -> String {
    let errors = count(findings, Mark::Error);
    let warnings = count(findings, Mark::Warning);
    let report = json!({
        "ok": errors == 0,
        "seat": seat.name(),
        "file": file,
        "errors": errors,
        "warnings": warnings,
        "findings": findings,
    });
    format!("{report}\n")
}

fn count(findings: &[Finding], mark: Mark) -> usize {
    findings.iter().filter(|f| f.mark == mark).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_the_next_step_below_what_it_mends() {
        let findings = [Finding::ok("clock", "fine"), Finding::error("disk", "full", "make room")];
        let page = table(Seat::Agent, "outpost.toml", &findings, Style::PLAIN);
        let lines: Vec<&str> = page.lines().map(str::trim).collect();
        assert_eq!(
            &lines[2..],
            ["ok       clock         fine", "ERROR    disk          full", "-> make room", "", "1 to mend."]
        );
        let value: serde_json::Value =
            serde_json::from_str(&json(Seat::Agent, "f", &findings)).expect("JSON");
        assert_eq!((&value["ok"], &value["findings"][1]["mark"]), (&json!(false), &json!("error")));
    }
}
