//! The tables as documents: a commented example file, and the reference for the README.

use std::fmt::Write as _;

use super::kind::Kind;
use super::schema::{Key, Schema, Section, Shape};

/// A file with every key of the seat commented out at its default, and an entry of each kind as an example.
pub fn example(schema: &Schema) -> String {
    let mut out = String::new();
    comment(&mut out, schema.meaning);
    comment(
        &mut out,
        "#key = value is a default, or an example where it says so: take the # away to change it.",
    );
    comment(
        &mut out,
        "Relative paths count from the folder of this file. `outpost check` reads it and says what is wrong.",
    );
    for section in schema.sections {
        for (entry, kind) in entries(section) {
            out.push('\n');
            comment(&mut out, section.meaning);
            let heading = section.heading(entry);
            match section.shape {
                Shape::Top => {}
                Shape::Table => line(&mut out, &heading),
                Shape::List | Shape::Named => line(&mut out, &format!("#{heading}")),
            }
            for key in section.keys.iter().filter(|k| k.is_for(kind)) {
                example_key(&mut out, key, kind);
            }
        }
    }
    out
}

/// The reference of one seat as Markdown tables, one row per key.
pub fn markdown(schema: &Schema) -> String {
    let mut out = format!("`{}`: {}\n", schema.file, schema.meaning);
    for section in schema.sections {
        let heading = match section.shape {
            Shape::Top => "at the top".into(),
            _ => format!("`{}`", section.heading("name or pattern")),
        };
        let _ = write!(
            out,
            "\n**{heading}**: {}\n\n| key | default | allowed | meaning |\n|---|---|---|---|\n",
            section.meaning
        );
        for key in section.keys {
            let default = key.default.map_or("-".into(), |d| format!("`{d}`"));
            let only = if key.only.is_empty() {
                String::new()
            } else {
                format!("`{}`: ", key.only.replace(' ', "`, `"))
            };
            let _ = writeln!(
                out,
                "| `{}` | {default} | {} | {only}{} |",
                key.name,
                key.kind.allowed(),
                key.meaning
            );
        }
    }
    out
}

/// The entries that the example shows: one per kind of a list, else one.
fn entries(section: &Section) -> Vec<(&'static str, &'static str)> {
    match section.shape {
        Shape::Top | Shape::Table => vec![("", "")],
        Shape::Named if section.name == "accelerator" => vec![("hailo", "")],
        Shape::Named => vec![("pump1.*", "")],

        Shape::List => {
            let kinds: &[&str] = match section.key("kind").map(|key| key.kind) {
                Some(Kind::OneOf(kinds)) => kinds,
                _ => &[""],
            };
            kinds.iter().map(|kind| ("", *kind)).collect()
        }
    }
}

fn example_key(out: &mut String, key: &Key, kind: &str) {
    comment(out, key.meaning);
    let value = match (key.name, kind) {
        ("name" | "kind", kind) if !kind.is_empty() => format!("\"{kind}\""),
        // Exactly one input may be given; the others are shown as such.
        ("unix" | "tcp", "lines") | ("serial", "modbus") | ("delegate", "") => {
            return comment(out, &format!("Or: {} = {}", key.name, key.example));
        }
        ("stdin", "lines") => "true".into(),
        ("device", "spi") => "\"/dev/spidev0\"".into(),
        ("device", "gpio") => "\"/dev/gpiochip0\"".into(),
        _ => key.example.into(),
    };
    let note = if key.default.is_none() && kind.is_empty() { "example; " } else { "" };
    let setting = format!("#{} = {value}", key.name);
    let allowed = key.kind.allowed();
    if setting.len() + note.len() + allowed.len() + 4 > COLUMNS {
        comment(out, &format!("Allowed: {allowed}."));
        line(out, &format!("{setting}  # {}", note.trim_end_matches("; ")));
    } else {
        line(out, &format!("{setting}  # {note}{allowed}"));
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// Broken into lines of at most [`COLUMNS`].
fn comment(out: &mut String, text: &str) {
    let mut columns = 0;
    for word in text.split(' ') {
        if columns > 0 && columns + 1 + word.chars().count() > COLUMNS {
            out.push('\n');
            columns = 0;
        }
        out.push_str(if columns == 0 { "# " } else { " " });
        columns += word.chars().count() + if columns == 0 { 2 } else { 1 };
        out.push_str(word);
    }
    out.push('\n');
}

const COLUMNS: usize = 100;
