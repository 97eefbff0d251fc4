//! Words into markup.

use std::time::Duration;

use crate::http::{Esc, Response};
use crate::time::{Wall, humane};

/// A whole page. `refresh_s` reloads it as long as nobody is reading elsewhere in it; 0 never does.
pub fn page(title: &str, refresh_s: u32, main: &str) -> Response {
    Response::html(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{} · Outpost</title>\
         <link rel=\"stylesheet\" href=\"/style.css\"><script src=\"/script.js\" defer></script></head>\
         <body data-refresh=\"{refresh_s}\"><header class=\"top\"><a class=\"brand\" href=\"/\">Outpost</a>\
         <span class=\"muted\">aggregator</span></header>\n<main>\n{main}\n</main>\n\
         <footer class=\"muted\">Times in UTC; hover shows local time.</footer></body></html>\n",
        Esc(title)
    ))
}

/// The 404 as a page.
pub fn not_found(path: &str) -> Response {
    let main = format!(
        "<h1>Nothing here</h1><p>There is no <code>{}</code>. <a href=\"/\">All devices</a></p>",
        Esc(path)
    );
    page("Nothing here", 0, &main).with_status(404)
}

/// `2026-01-02 03:04`, machine-readable underneath.
pub fn time(at: Wall) -> String {
    let full = at.rfc3339();
    let short = full.get(..16).unwrap_or(&full).replace('T', " ");
    format!("<time datetime=\"{}\">{}</time>", Esc(&full), Esc(short))
}

/// How long ago, in words.
pub fn ago(at: Wall, now: Wall) -> String {
    let us = now.micros_since(at);
    if us < 0 { "in the future".into() } else { humane(Duration::from_micros(us.unsigned_abs())) }
}

/// A number for people: four significant digits, no trailing zeros.
pub fn number(x: f64) -> String {
    if !x.is_finite() {
        return "–".into();
    }
    let magnitude = x.abs();
    let decimals: usize = match magnitude {
        m if m >= 1e7 || (m > 0.0 && m < 1e-4) => return format!("{x:.2e}"),
        m if m >= 1000.0 || m == 0.0 => 0,
        m if m >= 100.0 => 1,
        m if m >= 10.0 => 2,
        m if m >= 1.0 => 3,
        _ => 5,
    };
    let text = format!("{x:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A count with thin spaces between thousands.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 2);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// Bytes for people.
pub fn bytes(n: u64) -> String {
    match n {
        0..1024 => format!("{n} B"),
        1024..1_048_576 => format!("{} KiB", n >> 10),
        _ => format!("{} MiB", n >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_escaped_wherever_it_stands() {
        let hostile = "<script>alert('x')</script>\" onload=\"&\u{202e}\0";
        let text = Esc(hostile).to_string();
        assert!(!text.contains(['<', '>', '"', '\'', '\0', '\u{202e}']), "{text}");
        assert!(text.starts_with("&lt;script&gt;alert(&#39;x"));
    }

    #[test]
    fn numbers_are_short() {
        let said: Vec<_> = [0.0, 72.40, 5.0, -0.25, 1234.5, 3e9, f64::NAN].map(number).into();
        assert_eq!(said, ["0", "72.4", "5", "-0.25", "1234", "3.00e9", "–"]);
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(count(12), "12");
    }
}
