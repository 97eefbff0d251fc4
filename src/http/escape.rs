//! Text into HTML.

use std::fmt::{self, Write as _};

/// Text with everything escaped that means something in HTML, in elements and in quoted attributes alike.
///
/// ```
/// assert_eq!(outpost::http::Esc("<a href='x'>").to_string(), "&lt;a href=&#39;x&#39;&gt;");
/// ```
pub struct Esc<T>(pub T);

impl<T: fmt::Display> fmt::Display for Esc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl fmt::Write for Escaping<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                for c in text.chars() {
                    match c {
                        '&' => self.0.write_str("&amp;")?,
                        '<' => self.0.write_str("&lt;")?,
                        '>' => self.0.write_str("&gt;")?,
                        '"' => self.0.write_str("&quot;")?,
                        '\'' => self.0.write_str("&#39;")?,
                        // Control characters, and those that turn the direction of the text around them.
                        '\0'..='\u{8}'
                        | '\u{b}'..='\u{1f}'
                        | '\u{7f}'
                        | '\u{202a}'..='\u{202e}'
                        | '\u{2066}'..='\u{2069}' => {
                            self.0.write_str("\u{fffd}")?;
                        }
                        _ => self.0.write_char(c)?,
                    }
                }
                Ok(())
            }
        }
        write!(Escaping(f), "{}", self.0)
    }
}
