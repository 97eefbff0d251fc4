//! Lines and cells of a CSV file.

use std::io::{self, BufRead, Read};

use crate::limits;

/// What [`read_line`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, in the buffer, without its end.
    Whole,
    /// A line beyond [`limits::LINE_BYTES_MAX`]; its start is in the buffer, the rest was skipped.
    TooLong,
    /// Nothing more.
    End,
}

/// Reads one line into `buffer`, which never grows beyond the bound, and tells how many bytes it consumed.
pub(super) fn read_line(input: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<(Line, u64)> {
    buffer.clear();
    // One byte for the line's end and one to see that there is more.
    let bound = limits::LINE_BYTES_MAX as u64 + 2;
    let mut consumed = input.by_ref().take(bound).read_until(b'\n', buffer)? as u64;
    let ended = buffer.last() == Some(&b'\n');
    if ended {
        buffer.pop();
    }
    if buffer.last() == Some(&b'\r') {
        buffer.pop();
    }
    if consumed == 0 {
        return Ok((Line::End, 0));
    }
    if buffer.len() <= limits::LINE_BYTES_MAX && (ended || consumed < bound) {
        return Ok((Line::Whole, consumed));
    }
    if !ended {
        consumed += input.skip_until(b'\n')? as u64;
    }
    Ok((Line::TooLong, consumed))
}

/// The cells of a row, quotes resolved (RFC 4180); nothing if a quote is not closed.
pub(super) fn cells(line: &[u8], separator: u8) -> Option<Vec<Vec<u8>>> {
    let mut cells = Vec::new();
    let mut rest = line;
    loop {
        let (cell, after) = match rest.strip_prefix(b"\"") {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let end = rest.iter().position(|b| *b == separator).unwrap_or(rest.len());
                (rest[..end].to_vec(), &rest[end..])
            }
        };
        cells.push(cell);
        match after.split_first() {
            None => return Some(cells),
            Some((&b, after)) if b == separator => rest = after,
            Some(_) => return None,
        }
    }
}

/// A quoted cell and what follows its closing quote.
fn unquoted(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut cell = Vec::new();
    loop {
        let end = rest.iter().position(|b| *b == b'"')?;
        cell.extend_from_slice(&rest[..end]);
        match rest[end + 1..].strip_prefix(b"\"") {
            Some(after) => {
                cell.push(b'"');
                rest = after;
            }
            None => return Some((cell, &rest[end + 1..])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quotes_hold_separators_and_doubled_quotes() {
        let row = cells(br#"a,"b,""c""",,"#, b',').unwrap();
        assert_eq!(row, [b"a".to_vec(), br#"b,"c""#.to_vec(), vec![], vec![]]);
        assert_eq!(cells(b"a,\"b", b','), None, "the quote is open");
        assert_eq!(cells(b"a,\"b\"c", b','), None, "something follows the quote");
    }

    #[test]
    fn a_line_at_the_bound_is_whole_and_one_byte_more_is_not() {
        for (extra, line) in [(0, Line::Whole), (1, Line::TooLong), (100_000, Line::TooLong)] {
            let long = "x".repeat(limits::LINE_BYTES_MAX + extra);
            for end in ["\n", "\r\n", ""] {
                let text = format!("{long}{end}");
                let mut input = text.as_bytes();
                let mut buffer = Vec::new();
                assert_eq!(
                    read_line(&mut input, &mut buffer).unwrap(),
                    (line, text.len() as u64),
                    "{extra} {end:?}"
                );
                assert!(input.is_empty());
            }
        }
    }

    proptest! {
        #[test]
        fn every_quoted_cell_comes_back(row in prop::collection::vec("[a,\"; é]{0,6}", 1..5)) {
            let line: Vec<_> = row.iter().map(|c| format!("\"{}\"", c.replace('"', "\"\""))).collect();
            let read = cells(line.join(",").as_bytes(), b',').unwrap();
            prop_assert_eq!(read, row.into_iter().map(String::into_bytes).collect::<Vec<_>>());
        }
    }
}
