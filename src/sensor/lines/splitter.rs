//! A stream of bytes into lines, with bounded memory.

use std::io::BufRead;

use crate::limits;

/// What [`Splitter::feed`] finds.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::sensor) enum Piece<'a> {
    /// A line without its end; a carriage return before it is cut off too.
    Line(&'a [u8]),
    /// The start of a line longer than [`limits::LINE_BYTES_MAX`]; the rest of it is skipped.
    TooLong(&'a [u8]),
}

/// Cuts chunks into lines. Holds one unfinished line of at most [`limits::LINE_BYTES_MAX`] bytes, and nothing at all
/// of a longer one.
#[derive(Debug, Default)]
pub(in crate::sensor) struct Splitter {
    unfinished: Vec<u8>,
    skipping: bool,
}

impl Splitter {
    /// Takes the next bytes of the stream and calls `each` for every line that ends in them.
    pub(in crate::sensor) fn feed(&mut self, mut chunk: &[u8], mut each: impl FnMut(Piece<'_>)) {
        while !chunk.is_empty() {
            let all = chunk;
            // Reading from a slice cannot fail.
            let len = chunk.skip_until(b'\n').unwrap_or(all.len());
            let (part, ended) = match all[..len].split_last() {
                Some((b'\n', part)) => (part, true),
                _ => (&all[..len], false),
            };
            if self.skipping {
                self.skipping = !ended;
            } else if self.unfinished.len() + part.len() > limits::LINE_BYTES_MAX {
                each(Piece::TooLong(if self.unfinished.is_empty() { part } else { &self.unfinished }));
                self.unfinished = Vec::new();
                self.skipping = !ended;
            } else if !ended {
                self.unfinished.extend_from_slice(part);
            } else if self.unfinished.is_empty() {
                each(Piece::Line(without_return(part)));
            } else {
                self.unfinished.extend_from_slice(part);
                each(Piece::Line(without_return(&self.unfinished)));
                self.unfinished.clear();
            }
        }
    }

    /// The stream has ended: the last line may lack its end.
    pub(in crate::sensor) fn finish(&mut self, mut each: impl FnMut(Piece<'_>)) {
        if !self.unfinished.is_empty() {
            each(Piece::Line(without_return(&self.unfinished)));
            self.unfinished.clear();
        }
        self.skipping = false;
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines_of(chunks: &[&[u8]]) -> (Vec<Vec<u8>>, usize) {
        let (mut lines, mut too_long) = (Vec::new(), 0);
        let mut splitter = Splitter::default();
        let mut each = |piece: Piece<'_>| match piece {
            Piece::Line(line) => lines.push(line.to_vec()),
            Piece::TooLong(_) => too_long += 1,
        };
        chunks.iter().for_each(|chunk| splitter.feed(chunk, &mut each));
        splitter.finish(&mut each);
        (lines, too_long)
    }

    #[test]
    fn a_ten_megabyte_line_is_counted_once_and_costs_no_memory() {
        let mut splitter = Splitter::default();
        let (mut lines, mut too_long) = (0, 0);
        let mut each = |piece: Piece<'_>| match piece {
            Piece::Line(_) => lines += 1,
            Piece::TooLong(_) => too_long += 1,
        };
        let chunk = [b'x'; 16 * 1024];
        for _ in 0..640 {
            splitter.feed(&chunk, &mut each);
            assert!(splitter.unfinished.capacity() <= 2 * limits::LINE_BYTES_MAX);
        }
        assert_eq!(splitter.unfinished.capacity(), 0);
        splitter.feed(b"\nnext\n", &mut each);
        assert_eq!((lines, too_long), (1, 1));
    }

    #[test]
    fn a_line_of_exactly_the_bound_is_taken() {
        let line = vec![b'x'; limits::LINE_BYTES_MAX];
        assert_eq!(lines_of(&[&line, b"\n"]), (vec![line.clone()], 0));
        assert_eq!(lines_of(&[&line, b"x\n"]), (vec![], 1));
    }

    #[test]
    fn the_last_line_may_lack_its_end() {
        assert_eq!(lines_of(&[b"a\r\nb", b"c"]).0, [b"a".to_vec(), b"bc".to_vec()]);
    }

    proptest! {
        #[test]
        fn the_cuts_between_chunks_do_not_matter(text in "[ab\n]{0,60}", cuts in prop::collection::vec(0_usize..60, 0..6)) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|c| c.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let chunks: Vec<_> = cuts.windows(2).map(|w| &text.as_bytes()[w[0]..w[1]]).collect();
            let expected: Vec<_> = text.lines().map(|l| l.as_bytes().to_vec()).collect();
            prop_assert_eq!(lines_of(&chunks).0, expected);
        }
    }
}
