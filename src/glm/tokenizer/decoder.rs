//! Bytes of tokens to text, as they come: a token may end in the middle of a character.

/// Turns the bytes of token after token into text; only whole characters come out.
#[derive(Debug, Clone, Default)]
pub struct Decoder {
    /// The beginning of a character whose end has not come yet; at most three bytes.
    held: Vec<u8>,
    text: String,
}

impl Decoder {
    /// Takes the bytes of the next token; gives what has become whole. What can't become UTF-8 any more is U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> &str {
        self.text.clear();
        self.held.extend_from_slice(bytes);
        let mut rest = self.held.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(whole) => {
                    self.text.push_str(whole);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (whole, broken) = rest.split_at(error.valid_up_to());
                    self.text.push_str(&String::from_utf8_lossy(whole));
                    rest = broken;
                    let Some(bad) = error.error_len() else { break };
                    self.text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[bad..];
                }
            }
        }
        let done = self.held.len() - rest.len();
        self.held.drain(..done);
        &self.text
    }

    /// The end of the text: a character that was cut off is U+FFFD.
    pub fn finish(&mut self) -> &str {
        self.text.clear();
        self.text.push_str(&String::from_utf8_lossy(&self.held));
        self.held.clear();
        &self.text
    }

    /// Whether the text so far ends in the middle of a character.
    pub fn is_inside_character(&self) -> bool {
        !self.held.is_empty()
    }
}
