//! Text into HTML.

use std::fmt::{self, Write as _};

/// Prints text so that it can stand in an element or in a quoted attribute and means nothing but itself.
///
/// ```
/// assert_eq!(outpost::http::Escaped("<a href='x'>").to_string(), "&lt;a href=&#39;x&#39;&gt;");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            c => f.write_char(c),
        })
    }
}
