//! Syslog messages as RFC 5424 and RFC 3164 write them, and how a stream parts them (RFC 6587).

use super::Piece;
use crate::limits;
use crate::sensor::timestamp;
use crate::time::Wall;

/// A message, taken apart as far as it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syslog<'a> {
    /// 0 kernel to 23 local7.
    pub facility: u8,
    /// 0 emergency to 7 debug.
    pub severity: u8,
    /// When, by the sender's clock; RFC 3164 tells no year and no zone, and is not read.
    pub at: Option<Wall>,
    /// The sending program; empty if it is not told.
    pub app: &'a str,
    /// What it says.
    pub text: &'a str,
}

/// Why a message was refused; the sender's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SyslogError {
    /// Neither RFC begins like this.
    #[error("does not begin with a priority such as <34>")]
    Priority,
    /// RFC 5424 without all of its fields.
    #[error("RFC 5424, and its header ends early")]
    Header,
    /// RFC 5424 with a time that is none.
    #[error("RFC 5424, and its time is neither RFC 3339 nor -")]
    Time,
    /// RFC 5424 with structured data without end.
    #[error("RFC 5424, and its structured data has no end")]
    StructuredData,
    /// Not UTF-8.
    #[error("not a text")]
    Text,
}

/// Takes one message apart.
///
/// Errors: the sender's fault.
pub fn syslog(message: &[u8]) -> Result<Syslog<'_>, SyslogError> {
    let text = std::str::from_utf8(message).map_err(|_| SyslogError::Text)?;
    let text = text.trim_end_matches(['\n', '\r', '\0']);
    let (priority, rest) =
        text.strip_prefix('<').and_then(|t| t.split_once('>')).ok_or(SyslogError::Priority)?;
    let is_number = (1..=3).contains(&priority.len()) && priority.bytes().all(|b| b.is_ascii_digit());
    let number: u16 =
        priority.parse().ok().filter(|n| is_number && *n <= PRIORITY_MAX).ok_or(SyslogError::Priority)?;
    let (facility, severity) = ((number / 8) as u8, (number % 8) as u8);
    let (at, app, text) = match rest.strip_prefix("1 ") {
        Some(rest) => rfc5424(rest)?,
        None => rfc3164(rest),
    };
    Ok(Syslog { facility, severity, at, app, text })
}

/// 23 * 8 + 7.
const PRIORITY_MAX: u16 = 191;

type Parts<'a> = (Option<Wall>, &'a str, &'a str);

/// `TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA [MSG]`
fn rfc5424(rest: &str) -> Result<Parts<'_>, SyslogError> {
    let mut fields = rest.splitn(6, ' ');
    let mut field = || fields.next().filter(|f| !f.is_empty()).ok_or(SyslogError::Header);
    let (time, _host, app, _process, _id) = (field()?, field()?, field()?, field()?, field()?);
    let rest = field()?;
    let at = match time {
        "-" => None,
        time => Some(timestamp::parse(time).ok_or(SyslogError::Time)?),
    };
    let text = match rest.strip_prefix('-') {
        Some(text) => text,
        None => &rest[structured_data(rest).ok_or(SyslogError::StructuredData)?..],
    };
    let text = text.strip_prefix(' ').unwrap_or(text);
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    Ok((at, if app == "-" { "" } else { app }, text))
}

/// Length of `[id name="value" ...]...`; a bracket in a value is no end, and neither is a quote behind a backslash.
fn structured_data(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    let (mut at, mut quoted) = (0, false);
    if bytes.first() != Some(&b'[') {
        return None;
    }
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b']' if !quoted && bytes.get(at + 1) != Some(&b'[') => return Some(at + 1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// `Mmm dd hh:mm:ss host tag[pid]: text`, of which every part may be missing: what can't be told apart is text.
fn rfc3164(rest: &str) -> Parts<'_> {
    let Some((_date, behind)) = rest.split_at_checked(16).filter(|(date, _)| is_date(date.as_bytes())) else {
        return (None, "", rest);
    };
    let (first, more) = behind.split_once(' ').unwrap_or(("", behind));
    // Local senders leave the host out: then the first word is the tag.
    let (tag, text) = match first.strip_suffix(':') {
        Some(tag) => (tag, more),
        None => match more.split_once(' ') {
            Some((word, text)) if word.ends_with(':') => (&word[..word.len() - 1], text),
            _ => ("", more),
        },
    };
    (None, tag.split('[').next().unwrap_or(tag), text)
}

/// `Nov 26 10:00:00 ` or `Nov  6 10:00:00 `
fn is_date(b: &[u8]) -> bool {
    b[0].is_ascii_uppercase()
        && b[3] == b' '
        && b[6] == b' '
        && b[9] == b':'
        && b[12] == b':'
        && b[15] == b' '
}

/// Parts a stream into messages: each begins with its length in digits, or ends with a line feed.
///
/// Holds one message of at most [`limits::LINE_BYTES_MAX`] bytes; of a longer one nothing.
#[derive(Debug, Default)]
pub(super) struct Frames {
    held: Vec<u8>,
    /// Bytes of a counted message that is too long, or everything up to the next line feed.
    skip: Skip,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Skip {
    #[default]
    Nothing,
    Bytes(usize),
    Line,
}

impl Frames {
    /// Takes the next bytes and calls `each` for every message that ends in them.
    pub fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(Piece<'_>)) {
        self.held.extend_from_slice(chunk);
        let mut at = 0;
        while let Some(taken) = self.step(at, &mut each) {
            at += taken;
        }
        self.held.drain(..at);
    }

    /// The stream has ended: the last message may lack its end.
    pub fn finish(&mut self, mut each: impl FnMut(Piece<'_>)) {
        if self.skip == Skip::Nothing && !self.held.is_empty() {
            each(Piece::Line(&self.held));
        }
        (self.held, self.skip) = (Vec::new(), Skip::Nothing);
    }

    /// One message, or a piece of one that is skipped, from `at`; how many bytes it took, none if more must come first.
    fn step(&mut self, at: usize, each: &mut impl FnMut(Piece<'_>)) -> Option<usize> {
        let rest = &self.held[at..];
        let first = *rest.first()?;
        let end = rest.iter().position(|b| *b == b'\n');
        match self.skip {
            Skip::Bytes(left) => {
                let taken = left.min(rest.len());
                self.skip = if taken == left { Skip::Nothing } else { Skip::Bytes(left - taken) };
                return Some(taken);
            }
            Skip::Line => {
                self.skip = if end.is_some() { Skip::Nothing } else { Skip::Line };
                return Some(end.map_or(rest.len(), |end| end + 1));
            }
            Skip::Nothing => {}
        }
        if first.is_ascii_digit() && first != b'0' {
            let digits = rest.iter().take(LENGTH_DIGITS_MAX + 1).take_while(|b| b.is_ascii_digit()).count();
            match rest.get(digits) {
                None => return None,
                Some(b' ') => return self.counted(at, digits, each),
                Some(_) => {}
            }
        }
        match end {
            Some(end) if end <= limits::LINE_BYTES_MAX => each(Piece::Line(&rest[..end])),
            None if rest.len() <= limits::LINE_BYTES_MAX => return None,
            _ => {
                each(Piece::TooLong(rest));
                self.skip = Skip::Line;
                return Some(0);
            }
        }
        end.map(|end| end + 1)
    }

    fn counted(&mut self, at: usize, digits: usize, each: &mut impl FnMut(Piece<'_>)) -> Option<usize> {
        let rest = &self.held[at..];
        let number = rest[..digits].iter().fold(0usize, |n, d| n * 10 + usize::from(d - b'0'));
        let begin = digits + 1;
        if number > limits::LINE_BYTES_MAX {
            each(Piece::TooLong(&rest[begin..]));
            self.skip = Skip::Bytes(number);
            return Some(begin);
        }
        let message = rest.get(begin..begin + number)?;
        each(Piece::Line(message.strip_suffix(b"\n").unwrap_or(message)));
        Some(begin + number)
    }
}

/// A gigabyte of a message is announced with this many.
const LENGTH_DIGITS_MAX: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(message: &str) -> (u8, u8, String, String) {
        let m = syslog(message.as_bytes()).unwrap();
        (m.facility, m.severity, m.app.to_owned(), m.text.to_owned())
    }

    #[test]
    fn the_examples_of_both_rfcs_are_taken_apart() {
        let said = |f, s, app: &str, text: &str| (f, s, app.to_owned(), text.to_owned());
        assert_eq!(
            parts(
                "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \u{feff}'su root' failed on /dev/pts/8"
            ),
            said(4, 2, "su", "'su root' failed on /dev/pts/8")
        );
        assert_eq!(
            parts(r#"<165>1 2003-10-11T22:14:15.003Z h evntslog - ID47 [a@1 b="x\"]y"][c@2 d="1"] An event"#),
            said(20, 5, "evntslog", "An event")
        );
        assert_eq!(parts("<0>1 - - - - - -"), said(0, 0, "", ""));
        assert_eq!(
            parts("<34>Oct 11 22:14:15 mymachine su[77]: 'su root' failed\n"),
            said(4, 2, "su", "'su root' failed")
        );
        assert_eq!(parts("<13>Feb  5 17:32:18 cron: tick"), said(1, 5, "cron", "tick"));
        assert_eq!(parts("<13>no date at all"), said(1, 5, "", "no date at all"));
        let at = syslog(b"<34>1 2003-10-11T22:14:15.003Z h su - - - x").unwrap().at.unwrap();
        assert_eq!(at.rfc3339(), "2003-10-11T22:14:15.003Z");
    }

    #[test]
    fn what_is_none_is_refused_with_the_reason() {
        for (message, error) in [
            ("hello", SyslogError::Priority),
            ("<999>x", SyslogError::Priority),
            ("<192>x", SyslogError::Priority),
            ("<+1>x", SyslogError::Priority),
            ("<34>1 2003-10-11T22:14:15Z host app", SyslogError::Header),
            ("<34>1 yesterday h a - - - x", SyslogError::Time),
            ("<34>1 - h a - - [x y=\"", SyslogError::StructuredData),
        ] {
            assert_eq!(syslog(message.as_bytes()), Err(error), "{message}");
        }
        assert_eq!(syslog(b"<13>\xff"), Err(SyslogError::Text));
    }

    fn framed(chunks: &[&[u8]]) -> (Vec<String>, usize) {
        let (mut lines, mut too_long) = (Vec::new(), 0);
        let mut frames = Frames::default();
        let mut each = |piece: Piece<'_>| match piece {
            Piece::Line(line) => lines.push(String::from_utf8_lossy(line).into_owned()),
            Piece::TooLong(_) => too_long += 1,
        };
        chunks.iter().for_each(|chunk| frames.feed(chunk, &mut each));
        frames.finish(&mut each);
        (lines, too_long)
    }

    #[test]
    fn both_framings_may_be_mixed_and_a_message_that_is_too_long_costs_itself_alone() {
        let long = "x".repeat(limits::LINE_BYTES_MAX + 1);
        let stream = format!("5 <1>ab<2>c\n{} {long}7 <3>d\ne\n<4>{long}\n<5>f", long.len());
        let expected = ["<1>ab", "<2>c", "<3>d\ne", "<5>f"].map(str::to_owned).to_vec();
        assert_eq!(framed(&[stream.as_bytes()]), (expected.clone(), 2));
        let bytes: Vec<&[u8]> = stream.as_bytes().chunks(7).collect();
        assert_eq!(framed(&bytes), (expected, 2));
    }

    proptest! {
        #[test]
        fn however_a_stream_is_cut_its_messages_are_the_same(
            stream in "([1-9] )?[<>a-z0-9 \n]{0,60}", at in 0..60usize
        ) {
            let bytes = stream.as_bytes();
            let (front, back) = bytes.split_at(at.min(bytes.len()));
            prop_assert_eq!(framed(&[front, back]), framed(&[bytes]));
        }

        #[test]
        fn no_bytes_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "<[0-9]{1,3}>1? ?\\PC{0,60}") {
            let _ = (syslog(&bytes), syslog(text.as_bytes()), framed(&[&bytes]));
        }
    }
}
