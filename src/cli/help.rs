//! Help that teaches: what it is, where to begin, what each command is for.

use std::fmt::Write as _;

use super::spec::{self, COMMANDS, COMMON, CommandSpec, OptionSpec};
use super::style::Style;

/// The page of `topic`, or the front page.
pub fn text(topic: Option<&'static CommandSpec>, style: Style) -> String {
    topic.map_or_else(|| front(style), |command| page(command, style))
}

fn front(style: Style) -> String {
    let mut out = String::from(
        "outpost reads sensors on a gateway, judges them on the spot and says in plain language what happened.\n\
         It keeps everything that must leave in a spool that survives power cuts, and sends it over MQTT with\n\
         mutual TLS as soon as there is a line. The cloud side, `outpost aggregate`, is the same program.\n\n",
    );
    let _ =
        writeln!(out, "{} outpost COMMAND [OPTIONS]\n\n{}", style.bold("Usage:"), style.bold("Try first:"));
    rows(&mut out, FIRST.iter().map(|(line, what)| (line.to_string(), *what)), style);
    let _ = writeln!(out, "\n{}", style.bold("Commands:"));
    let whole = COMMANDS.iter().filter(|c| !c.name.contains(' '));
    rows(&mut out, whole.map(|c| (c.name.to_string(), c.summary)), style);
    options(&mut out, "Options of every command:", COMMON.iter(), style);
    let _ = writeln!(out, "\n{}", style.bold("Exit codes:"));
    rows(&mut out, CODES.iter().map(|(code, what)| (code.to_string(), *what)), style);
    out
}

fn page(command: &CommandSpec, style: Style) -> String {
    let mut out = format!("outpost {}: {}\n\n", command.name, command.summary);
    let operands = if command.operands.is_empty() { "" } else { " " };
    let _ = writeln!(
        out,
        "{} outpost {}{operands}{} [OPTIONS]\n\n{}",
        style.bold("Usage:"),
        command.name,
        command.operands,
        command.purpose
    );
    if command.is_group() {
        let _ = writeln!(out, "\n{}", style.bold("Commands:"));
        rows(&mut out, spec::actions(command.name).map(|(_, c)| (c.name.to_string(), c.summary)), style);
    }
    let _ = writeln!(out, "\n{}", style.bold("Examples:"));
    for (line, what) in command.examples {
        let _ = writeln!(out, "  {}\n      {what}", style.green(line));
    }
    options(&mut out, "Options:", command.all_options(), style);
    out
}

fn options<'a>(out: &mut String, title: &str, options: impl Iterator<Item = &'a OptionSpec>, style: Style) {
    let _ = writeln!(out, "\n{}", style.bold(title));
    let named = options.map(|o| {
        let short = o.short.map_or("    ".into(), |c| format!("-{c}, "));
        let value = if o.value.is_empty() { String::new() } else { format!(" {}", o.value) };
        (format!("{short}--{}{value}", o.long), o.meaning)
    });
    rows(out, named, style);
}

fn rows<'a>(out: &mut String, rows: impl Iterator<Item = (String, &'a str)>, style: Style) {
    let rows: Vec<_> = rows.collect();
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0);
    for (left, right) in rows {
        // Padded before it is painted: escape codes have a length too.
        let _ = writeln!(out, "  {}  {right}", style.green(&format!("{left:width$}")));
    }
}

const FIRST: &[(&str, &str)] = &[
    ("outpost demo", "the main job on this machine, with nothing to set up"),
    ("outpost replay plant.csv", "what it would say of your data"),
    ("outpost sensors", "what is on this machine"),
    ("outpost init", "a configuration that reads it"),
    ("outpost check -c outpost.toml", "what is still wrong with it"),
    ("outpost run -c outpost.toml", "the gateway seat"),
    ("outpost ask \"what happened today?\"", "what it would say of that"),
];

const CODES: &[(&str, &str)] = &[
    ("0", "done"),
    ("1", "it was tried and failed"),
    ("2", "the command line was not understood"),
    ("3", "the configuration cannot be used"),
    ("10", "check: warnings only"),
    ("20", "check: errors"),
];
