//! A log line into masked tokens: what is a number, an address or an id becomes [`WILD`], the rest stays as it is.
//!
//! Words are parted by blanks, and behind `=`, so that a key stays when its value varies. Within a word, a run of letters,
//! digits and `. : - _ / @ + %` that holds a digit is masked as a whole: `sshd[412]:` becomes `sshd[<*>]:`,
//! `10.0.0.7:443`, `2026-11-26T10:00:00Z`, `blk_-1608` and `0x7f3a` become `<*>`. So does a run of eight and more hexadecimal
//! letters, and at the front of a line the name of a month or a weekday. Masking what is masked already changes nothing.

use crate::limits;

/// What stands for anything.
pub const WILD: &str = "<*>";
/// [`WILD`] as a hash.
pub(super) const WILD_HASH: u64 = 0;

/// The tokens of one line; kept from line to line for its memory.
#[derive(Debug, Default, Clone)]
pub(super) struct Tokens {
    text: String,
    /// End of each token in `text`.
    ends: Vec<u32>,
    /// Of each token; nought for [`WILD`].
    pub hashes: Vec<u64>,
}

impl Tokens {
    /// Takes another line. Tokens beyond [`limits::TEMPLATE_TOKENS_MAX`] are left out, and so is what lies beyond
    /// [`limits::TEMPLATE_LINE_BYTES_MAX`].
    pub fn read(&mut self, line: &str) {
        self.text.clear();
        self.ends.clear();
        self.hashes.clear();
        let mut rest = prefix(line, limits::TEMPLATE_LINE_BYTES_MAX).trim_ascii();
        while !rest.is_empty() && self.hashes.len() < limits::TEMPLATE_TOKENS_MAX {
            let len = token_len(rest.as_bytes());
            let (token, tail) = rest.split_at(len);
            self.push(token);
            rest = tail.trim_ascii_start();
        }
    }

    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, end)| &self.text[begin as usize..*end as usize])
    }

    fn push(&mut self, token: &str) {
        let begin = self.text.len();
        let at_front = self.hashes.len() < DATE_TOKENS;
        if at_front && is_calendar_word(token) {
            self.text.push_str(WILD);
        } else {
            mask(token, &mut self.text);
        }
        let masked = &self.text[begin..];
        self.hashes.push(if masked == WILD { WILD_HASH } else { hash(masked.as_bytes()) });
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
    }
}

/// Tokens in which a line's own date is looked for.
const DATE_TOKENS: usize = 4;

/// At most `max` bytes of `line`, whole characters.
fn prefix(line: &str, max: usize) -> &str {
    let mut end = line.len().min(max);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

/// Up to the next blank, or behind the next `=` that more follows.
fn token_len(bytes: &[u8]) -> usize {
    for (i, &b) in bytes.iter().enumerate() {
        if b.is_ascii_whitespace() {
            return i;
        }
        let next = bytes.get(i + 1).copied().unwrap_or(b' ');
        if b == b'=' && i > 0 && next != b'=' && !next.is_ascii_whitespace() {
            return i + 1;
        }
    }
    bytes.len()
}

/// What numbers, addresses, paths and ids are made of.
const RUN: [bool; 256] = run_table();

const fn run_table() -> [bool; 256] {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        let byte = b as u8;
        // Letters beyond ASCII are letters.
        table[b] = byte.is_ascii_alphanumeric()
            || byte >= 128
            || matches!(byte, b'.' | b':' | b'-' | b'_' | b'/' | b'@' | b'+' | b'%');
        b += 1;
    }
    table
}

fn mask(token: &str, out: &mut String) {
    let bytes = token.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let in_run = RUN[usize::from(bytes[at])];
        let len = bytes[at..].iter().take_while(|b| RUN[usize::from(**b)] == in_run).count();
        let part = &token[at..at + len];
        if in_run && is_variable(part) {
            // A colon or a full stop behind a number belongs to the sentence.
            let end = part.trim_end_matches([':', '.']).len();
            out.push_str(WILD);
            out.push_str(&part[end..]);
        } else {
            out.push_str(part);
        }
        at += len;
    }
}

fn is_variable(run: &str) -> bool {
    let bytes = run.as_bytes();
    bytes.iter().any(u8::is_ascii_digit) || (bytes.len() >= 8 && bytes.iter().all(u8::is_ascii_hexdigit))
}

fn is_calendar_word(token: &str) -> bool {
    const WORDS: [&str; 19] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Mon", "Tue",
        "Wed", "Thu", "Fri", "Sat", "Sun",
    ];
    let word = token.trim_start_matches('[').trim_end_matches(',');
    word.len() == 3 && WORDS.contains(&word)
}

/// A fast hash; who crafts collisions only makes two of his own lines look alike. Never nought.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut h: u64 = 0x9e37_79b9_7f4a_7c15 ^ bytes.len() as u64;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = chunk.iter().rev().fold(0, |word, b| word << 8 | u64::from(*b));
        h = (h ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29);
    }
    let last = chunks.remainder().iter().rev().fold(0, |word, b| word << 8 | u64::from(*b));
    h = (h ^ last).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 32;
    h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (h ^ h >> 29).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn masked(line: &str) -> Vec<String> {
        let mut tokens = Tokens::default();
        tokens.read(line);
        assert_eq!(tokens.hashes.len(), tokens.texts().count());
        tokens.texts().map(str::to_owned).collect()
    }

    #[test]
    fn numbers_addresses_and_ids_are_masked_and_words_are_not() {
        for (line, expected) in [
            ("sshd[412]: Failed password", vec!["sshd[<*>]:", "Failed", "password"]),
            ("from 10.0.0.7 port 51122 ssh2", vec!["from", "<*>", "port", "<*>", "<*>"]),
            ("took 12.5ms, code 0x7f", vec!["took", "<*>,", "code", "<*>"]),
            ("user=bob uid=7 ok==1", vec!["user=", "bob", "uid=", "<*>", "ok==", "<*>"]),
            ("blk_-160 deadbeefcafe /var/log/x", vec!["<*>", "<*>", "/var/log/x"]),
            ("Jun 14 15:16:01 combo", vec!["<*>", "<*>", "<*>", "combo"]),
            ("temperature 85: high.", vec!["temperature", "<*>:", "high."]),
            ("fe80::1 (a, b)", vec!["<*>", "(a,", "b)"]),
        ] {
            assert_eq!(masked(line), expected, "{line}");
        }
    }

    #[test]
    fn a_line_without_end_is_cut_within_a_character() {
        let line = "ü ".repeat(limits::TEMPLATE_LINE_BYTES_MAX);
        assert_eq!(masked(&line).len(), limits::TEMPLATE_TOKENS_MAX);
        assert!(
            masked(&"ü".repeat(limits::TEMPLATE_LINE_BYTES_MAX))[0].len() <= limits::TEMPLATE_LINE_BYTES_MAX
        );
    }

    proptest! {
        #[test]
        fn masking_twice_is_masking_once(line in "[ -~ü]{0,80}") {
            let once = masked(&line);
            prop_assert_eq!(masked(&super::super::joined(once.iter().map(String::as_str))), once);
        }
    }
}
