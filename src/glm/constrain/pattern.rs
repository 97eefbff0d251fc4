//! Regular expressions, and characters as the bytes of UTF-8.

use regex_syntax::hir::{Class, Hir, HirKind};
use regex_syntax::utf8::Utf8Sequences;

use super::grammar::{BadGrammar, Expr};
use crate::limits;

/// Reads a regular expression.
pub(super) fn parse(pattern: &str) -> Result<Expr, BadGrammar> {
    if pattern.len() > limits::GRAMMAR_TEXT_BYTES_MAX {
        return Err(BadGrammar::Pattern(format!(
            "it has more than {} bytes",
            limits::GRAMMAR_TEXT_BYTES_MAX
        )));
    }
    let parsed = regex_syntax::ParserBuilder::new()
        .nest_limit(limits::GRAMMAR_DEPTH_MAX as u32)
        .build()
        .parse(pattern);
    expr(&parsed.map_err(|e| BadGrammar::Pattern(e.to_string()))?)
}

fn expr(hir: &Hir) -> Result<Expr, BadGrammar> {
    let all = |parts: &[Hir]| parts.iter().map(expr).collect::<Result<Vec<_>, _>>();
    Ok(match hir.kind() {
        HirKind::Empty => Expr::Seq(Vec::new()),
        HirKind::Literal(literal) => {
            Expr::Seq(literal.0.iter().map(|&byte| Expr::Bytes(vec![(byte, byte)])).collect())
        }
        HirKind::Class(Class::Unicode(class)) => {
            one_of(&class.ranges().iter().map(|range| (range.start(), range.end())).collect::<Vec<_>>())
        }
        HirKind::Class(Class::Bytes(class)) => {
            Expr::Bytes(class.ranges().iter().map(|range| (range.start(), range.end())).collect())
        }
        HirKind::Look(_) => {
            return Err(BadGrammar::Pattern(
                "it looks around (^, $ or \\b); the whole text is matched anyway, leave that out".into(),
            ));
        }
        HirKind::Repetition(again) => {
            let most = limits::GRAMMAR_REPEAT_MAX;
            if again.min > most || again.max.is_some_and(|max| max > most) {
                return Err(BadGrammar::Pattern(format!("it repeats more than {most} times")));
            }
            Expr::Repeat(Box::new(expr(&again.sub)?), again.min, again.max)
        }
        HirKind::Capture(group) => expr(&group.sub)?,
        HirKind::Concat(parts) => Expr::Seq(all(parts)?),
        HirKind::Alternation(options) => Expr::Alt(all(options)?),
    })
}

/// One character of these ranges.
pub(super) fn one_of(ranges: &[(char, char)]) -> Expr {
    let sequences = ranges.iter().flat_map(|&(from, to)| Utf8Sequences::new(from, to));
    let mut single = Vec::new();
    let mut options = Vec::new();
    for sequence in sequences {
        let bytes: Vec<(u8, u8)> = sequence.as_slice().iter().map(|range| (range.start, range.end)).collect();
        match bytes[..] {
            [range] => single.push(range),
            _ => options.push(Expr::Seq(bytes.into_iter().map(|range| Expr::Bytes(vec![range])).collect())),
        }
    }
    if !single.is_empty() || options.is_empty() {
        options.insert(0, Expr::Bytes(single));
    }
    if options.len() == 1 { options.swap_remove(0) } else { Expr::Alt(options) }
}
