//! One log file, followed through its rotations.
//!
//! Where reading goes on is a [`Place`]: a file by its inode, an offset at the end of a line, and the bytes right before it,
//! the guard. Every read takes the guard along: if it is not there any more, the file was cut and begun anew. A place stays
//! at the end of the last file until there is a byte in the next, so it has a guard as soon as anything was read.
//!
//! The file and what was rotated away from it (`x.log.2`, `x.log.1`, `x.log`; or `x.log-20261126`) are one history in the
//! order of their names. What is before the place was read, what is behind it was not, however many rotations there were
//! between two looks. A file that was renamed is found by its inode, one that was copied and cut by the guard in its copy.
//!
//! Assumed: one writer, who writes to the new file only once he is done with the old one; a copy that is not compressed
//! before it was read ([`Found::Gap`] otherwise); and no two files that have the same bytes in the same place, as lines
//! with a date never do.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::Piece;
use crate::limits;

/// Where reading goes on; kept over a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    device: u64,
    inode: u64,
    /// Bytes of the file that were read.
    offset: u64,
    /// The bytes before `offset`, at most [`GUARD_BYTES`].
    guard: Vec<u8>,
    /// When the file was last written to before it was read, in nanoseconds since 1970 by the file system's clock.
    written_ns: i128,
    /// In the middle of a line that is too long.
    skipping: bool,
}

/// Bytes by which a place is known again.
const GUARD_BYTES: usize = 96;
/// Bytes of one read. A longer unfinished line is too long.
const CHUNK_BYTES: usize = limits::LINE_BYTES_MAX + GUARD_BYTES;

/// What a look at a file found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Everything was read.
    All,
    /// There may be more.
    More,
    /// The place is gone, with an unknown number of lines behind it.
    Gap,
}

/// A file that is followed.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    place: Option<Place>,
    /// The file of `place`, for as long as it is not left; it may have lost its name.
    file: Option<File>,
    chunk: Vec<u8>,
}

impl Tail {
    /// Goes on at `place`; without one, at the very beginning of the file's history.
    pub(super) fn new(path: PathBuf, place: Option<Place>) -> Self {
        Self { path, place, file: None, chunk: vec![0; CHUNK_BYTES] }
    }

    /// Begins behind what is there now.
    pub(super) fn at_end(path: PathBuf) -> io::Result<Self> {
        let newest = history(&path)?.into_iter().rev().find(|file| file.size > 0);
        let place = newest.map(|file| file.end()).transpose()?;
        Ok(Self::new(path, place))
    }

    /// Where reading goes on.
    pub(super) fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Reads what has come, about `bytes_max` of it, and hands each line to `each`.
    ///
    /// Errors: the file can't be read; nothing is skipped for it.
    pub(super) fn poll(&mut self, bytes_max: u64, each: &mut dyn FnMut(Piece<'_>)) -> io::Result<Found> {
        let mut left = bytes_max;
        let held = self.read_on(&mut left, each)?;
        if left == 0 {
            return Ok(Found::More);
        }
        let newest = fs::metadata(&self.path).ok();
        if held && newest.is_some_and(|meta| self.is_in(meta.dev(), meta.ino())) {
            return Ok(Found::All);
        }
        self.catch_up(held, &mut left, each)
    }

    fn is_in(&self, device: u64, inode: u64) -> bool {
        self.place.as_ref().is_some_and(|place| (place.device, place.inode) == (device, inode))
    }

    /// Reads on in the file that is open; false if there is none or it was begun anew.
    fn read_on(&mut self, left: &mut u64, each: &mut dyn FnMut(Piece<'_>)) -> io::Result<bool> {
        self.read_from(&[], left, each)
    }

    /// Likewise; a file that is read from its beginning must begin with `head` still.
    fn read_from(
        &mut self,
        head: &[u8],
        left: &mut u64,
        each: &mut dyn FnMut(Piece<'_>),
    ) -> io::Result<bool> {
        let (Some(file), Some(place)) = (&self.file, &mut self.place) else { return Ok(false) };
        read(file, place, head, &mut self.chunk, left, each)
    }

    /// Finds the place in the file's history and reads what is behind it; `held` if the file of the place is open and
    /// read to its end, wherever its name is now.
    fn catch_up(&mut self, held: bool, left: &mut u64, each: &mut dyn FnMut(Piece<'_>)) -> io::Result<Found> {
        let files = history(&self.path)?;
        let mut found = Found::All;
        let unread = match &self.place {
            None => 0,
            Some(place) => match position(&files, place) {
                Some(at) => {
                    self.place =
                        Some(Place { device: files[at].device, inode: files[at].inode, ..place.clone() });
                    self.file = Some(files[at].file.try_clone()?);
                    if !self.read_on(left, each)? || *left == 0 {
                        // Begun anew since it was looked at: the next look sees more.
                        return Ok(Found::More);
                    }
                    at + 1
                }
                None => {
                    found = if held { Found::All } else { Found::Gap };
                    // What was written to since has something that was not read.
                    files.iter().position(|f| f.written_ns >= place.written_ns).unwrap_or(files.len())
                }
            },
        };
        let mut unread = files.into_iter().skip(unread).filter(|file| file.size > 0).peekable();
        if unread.peek().is_none() {
            return Ok(Found::All);
        }
        if found == Found::Gap {
            (self.place, self.file) = (None, None);
        }
        for file in unread {
            self.finish(each);
            let before = (self.place.take(), self.file.take());
            (self.place, self.file) = (Some(file.beginning()), Some(file.file));
            if !self.read_from(&file.head, left, each)? {
                // Begun anew since it was looked at. Nothing of it was read.
                (self.place, self.file) = before;
                return Ok(Found::More);
            }
            if *left == 0 {
                return Ok(if found == Found::Gap { found } else { Found::More });
            }
        }
        Ok(found)
    }

    /// The last line of a file that is left may lack its end.
    fn finish(&mut self, each: &mut dyn FnMut(Piece<'_>)) {
        let (Some(file), Some(place)) = (&self.file, &mut self.place) else { return };
        if let Ok(rest) = file.read_at(&mut self.chunk, place.offset)
            && rest > 0
            && !place.skipping
        {
            each(Piece::Line(&self.chunk[..rest]));
            place.advance(&self.chunk[..rest]);
        }
    }
}

/// Reads whole lines from `place` to the end of the file; false if the guard is not there.
fn read(
    file: &File,
    place: &mut Place,
    head: &[u8],
    chunk: &mut [u8],
    left: &mut u64,
    each: &mut dyn FnMut(Piece<'_>),
) -> io::Result<bool> {
    loop {
        let guard = place.guard.len();
        let begin = place.offset - guard as u64;
        // In one go, so that what is compared and what is taken are of one file.
        let len = read_at(file, chunk, begin)?;
        let known = if begin == 0 && guard == 0 { head } else { &place.guard };
        if !chunk[..len].starts_with(known) {
            return Ok(false);
        }
        let fresh = &chunk[guard..len];
        let taken = lines(fresh, &mut place.skipping, len == chunk.len(), each);
        if taken == 0 {
            return Ok(true);
        }
        place.advance(&fresh[..taken]);
        place.written_ns = written_ns(&file.metadata()?);
        *left = left.saturating_sub(taken as u64);
        if *left == 0 || len < chunk.len() {
            return Ok(true);
        }
    }
}

/// A file gives what it has in one read.
fn read_at(file: &File, chunk: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(chunk, offset) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Hands out the lines that end in `bytes`; returns how much of it they take. Of a line that fills a whole chunk without
/// an end, everything is taken and nothing kept.
fn lines(bytes: &[u8], skipping: &mut bool, full: bool, each: &mut dyn FnMut(Piece<'_>)) -> usize {
    let mut taken = 0;
    while let Some(len) = bytes[taken..].iter().position(|b| *b == b'\n') {
        let line = &bytes[taken..taken + len];
        if !std::mem::take(skipping) {
            each(Piece::Line(line.strip_suffix(b"\r").unwrap_or(line)));
        }
        taken += len + 1;
    }
    if *skipping {
        return bytes.len();
    }
    if taken == 0 && full {
        *skipping = true;
        each(Piece::TooLong(bytes));
        return bytes.len();
    }
    taken
}

impl Place {
    fn advance(&mut self, bytes: &[u8]) {
        self.offset += bytes.len() as u64;
        self.guard.extend_from_slice(&bytes[bytes.len().saturating_sub(GUARD_BYTES)..]);
        let surplus = self.guard.len().saturating_sub(GUARD_BYTES);
        self.guard.drain(..surplus);
    }
}

/// One file of a history, as it was when the history was looked at.
struct Aged {
    file: File,
    device: u64,
    inode: u64,
    size: u64,
    written_ns: i128,
    /// Its first bytes.
    head: Vec<u8>,
}

impl Aged {
    fn beginning(&self) -> Place {
        Place {
            device: self.device,
            inode: self.inode,
            offset: 0,
            guard: Vec::new(),
            written_ns: self.written_ns,
            skipping: false,
        }
    }

    /// Behind the last whole line.
    fn end(&self) -> io::Result<Place> {
        let mut tail = vec![0; CHUNK_BYTES];
        let begin = self.size.saturating_sub(tail.len() as u64);
        let len = read_at(&self.file, &mut tail, begin)?;
        let whole = tail[..len].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let mut place = Place { offset: begin, ..self.beginning() };
        place.advance(&tail[..whole]);
        Ok(place)
    }

    fn holds(&self, place: &Place) -> bool {
        let mut bytes = vec![0; place.guard.len()];
        let begin = place.offset - place.guard.len() as u64;
        read_at(&self.file, &mut bytes, begin).is_ok_and(|len| bytes[..len] == place.guard[..])
    }
}

/// Where in the history `place` is: in the file itself, or else in the newest copy of it.
fn position(files: &[Aged], place: &Place) -> Option<usize> {
    let same = |f: &Aged| (f.device, f.inode) == (place.device, place.inode);
    let own = files.iter().position(|f| same(f) && f.holds(place));
    own.or_else(|| files.iter().rposition(|f| f.holds(place)))
}

/// What was rotated away from `path`, the oldest first, and the file itself at the end, if there is one.
///
/// The files are opened and then looked for once more: a rotation in between would put them into another order.
fn history(path: &Path) -> io::Result<Vec<Aged>> {
    let mut before = names(path)?;
    for _ in 0..LOOKS {
        let mut files: Vec<Aged> = before.iter().filter_map(|(path, _)| opened(path)).collect();
        let after = names(path)?;
        let same =
            files.len() == after.len() && files.iter().zip(&after).all(|(f, (_, inode))| f.inode == *inode);
        if same && before == after {
            drop_unfinished_copies(&mut files);
            return Ok(files);
        }
        before = after;
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "it is rotated faster than it can be looked at"))
}

/// While a file is copied, and until it is cut, everything is there twice: then the file itself is what counts.
fn drop_unfinished_copies(files: &mut Vec<Aged>) {
    let Some(newest) = files.pop() else { return };
    files.retain(|f| f.size == 0 || f.size > newest.size || !newest.head.starts_with(&f.head));
    files.push(newest);
}

const LOOKS: usize = 100;

fn opened(path: &Path) -> Option<Aged> {
    // What became a pipe since it was looked at must not be waited for.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let meta = file.metadata().ok().filter(fs::Metadata::is_file)?;
    let (device, inode, size) = (meta.dev(), meta.ino(), meta.len());
    let mut head = vec![0; GUARD_BYTES];
    let len = read_at(&file, &mut head, 0).ok()?;
    head.truncate(len);
    Some(Aged { file, device, inode, size, written_ns: written_ns(&meta), head })
}

fn written_ns(meta: &fs::Metadata) -> i128 {
    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
}

/// Names and inodes of a history.
fn names(path: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut rotated: Vec<(Age, PathBuf, u64)> = Vec::new();
    for entry in fs::read_dir(folder)?.take(limits::LOG_ENTRIES_MAX) {
        let entry = entry?;
        let file_name = entry.file_name();
        let Some(age) = file_name.to_str().and_then(|other| age(name, other)) else { continue };
        if let Ok(meta) = entry.metadata()
            && meta.is_file()
        {
            rotated.push((age, entry.path(), meta.ino()));
        }
    }
    rotated.sort();
    let surplus = rotated.len().saturating_sub(limits::LOG_ROTATED_MAX);
    let mut names: Vec<_> = rotated.drain(surplus..).map(|(_, path, inode)| (path, inode)).collect();
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() => names.push((path.to_owned(), meta.ino())),
        Ok(_) => return Err(io::Error::new(io::ErrorKind::InvalidInput, NO_FILE)),
        Err(_) => {}
    }
    Ok(names)
}

const NO_FILE: &str =
    "it is no regular file; name one, or have a program read it (kind = \"exec\" or \"lines\")";

/// How old a rotated file is by its name; the oldest come first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Age {
    /// By date, which sorts as text.
    Dated(String),
    /// By number; the largest is the oldest.
    Numbered(std::cmp::Reverse<u32>),
}

/// The age of the file called `other`, if it was rotated away from the one called `name`. Compressed files are not
/// looked at.
pub(super) fn age(name: &str, other: &str) -> Option<Age> {
    let suffix = other.strip_prefix(name)?.strip_prefix(['.', '-'])?;
    let is_date = |s: &str| s.len() >= 6 && s.bytes().all(|b| b.is_ascii_digit() || b"-_.T:".contains(&b));
    match suffix.parse() {
        _ if suffix == "old" => Some(Age::Numbered(std::cmp::Reverse(1))),
        Ok(n) if suffix.len() < 6 => Some(Age::Numbered(std::cmp::Reverse(n))),
        _ => is_date(suffix).then(|| Age::Dated(suffix.to_owned())),
    }
}
