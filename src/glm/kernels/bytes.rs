//! Bytes at a multiple of 64: a part of a mapped file, or memory of our own.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::mapped::Mapped;

/// Shared read-only bytes; clones share them.
#[derive(Clone)]
pub struct Bytes {
    owner: Arc<Owner>,
    range: Range<usize>,
}

enum Owner {
    Mapped(Mapped),
    Own(BytesMut),
}

impl Bytes {
    /// Maps a whole file; nothing is read until it is used, and the kernel may drop and reread pages.
    ///
    /// # Caveats
    /// A bundle is written once and renamed into place, never changed. [`Bytes::file_bytes`] tells who did not keep to that,
    /// and [`Bytes::is_cut`] whether it was met: zeros are read for what is gone.
    pub fn map(file: File) -> io::Result<Bytes> {
        let map = Mapped::new(file)?;
        let range = 0..map.len();
        Ok(Bytes { owner: Arc::new(Owner::Mapped(map)), range })
    }

    /// A part of these bytes; `None` where they end before.
    pub fn slice(&self, range: Range<usize>) -> Option<Bytes> {
        let fits = range.start <= range.end && range.end <= self.len();
        let (start, end) = (self.range.start + range.start, self.range.start.checked_add(range.end)?);
        fits.then(|| Bytes { owner: Arc::clone(&self.owner), range: start..end })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Whether they lie in a mapped file rather than in memory of our own.
    pub fn is_mapped(&self) -> bool {
        matches!(*self.owner, Owner::Mapped(..))
    }

    /// How long the mapped file is at this moment; `None` where there is none.
    pub fn file_bytes(&self) -> io::Result<Option<u64>> {
        match &*self.owner {
            Owner::Mapped(map) => Ok(Some(map.file().metadata()?.len())),
            Owner::Own(_) => Ok(None),
        }
    }

    /// Whether bytes of the mapped file were gone when they were read, since it was shortened or its disk failed. Stays so.
    pub fn is_cut(&self) -> bool {
        match &*self.owner {
            Owner::Mapped(map) => map.is_cut(),
            Owner::Own(_) => false,
        }
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &*self.owner {
            Owner::Mapped(map) => map,
            Owner::Own(own) => own,
        };
        &all[self.range.clone()]
    }
}

impl From<BytesMut> for Bytes {
    fn from(own: BytesMut) -> Bytes {
        let range = 0..own.len();
        Bytes { owner: Arc::new(Owner::Own(own)), range }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, {}", self.len(), if self.is_mapped() { "mapped" } else { "own" })
    }
}

/// Zeroed memory that begins at a multiple of 64 bytes.
pub struct BytesMut {
    lines: Vec<Line>,
    len: usize,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl BytesMut {
    /// So many zeros.
    pub fn zeroed(len: usize) -> BytesMut {
        BytesMut { lines: vec![Line([0; 64]); len.div_ceil(64)], len }
    }

    /// None yet.
    pub(super) const fn empty() -> BytesMut {
        BytesMut { lines: Vec::new(), len: 0 }
    }

    /// The same bytes with a sign.
    pub(super) fn as_signed(&self) -> &[i8] {
        // SAFETY: every byte is a valid i8, with the same size and alignment.
        unsafe { std::slice::from_raw_parts(self.as_ptr().cast(), self.len) }
    }

    /// The same bytes with a sign.
    pub(super) fn as_signed_mut(&mut self) -> &mut [i8] {
        let bytes: &mut [u8] = self;
        // SAFETY: every byte is a valid i8 and the other way round, with the same size and alignment.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) }
    }
}

impl std::ops::Deref for BytesMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `lines` holds at least `len` initialised bytes without padding (repr C, 64 bytes each).
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl std::ops::DerefMut for BytesMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_and_mapped_bytes_are_aligned_and_slice_alike() {
        let mut own = BytesMut::zeroed(200);
        own.iter_mut().enumerate().for_each(|(i, b)| *b = i as u8);
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &own).unwrap();
        let (own, mapped) = (Bytes::from(own), Bytes::map(file).unwrap());
        for bytes in [own, mapped] {
            assert_eq!(bytes.as_ptr().align_offset(64), 0);
            let part = bytes.slice(64..200).unwrap().slice(1..5).unwrap();
            assert_eq!(*part, [65, 66, 67, 68]);
            assert!(bytes.slice(10..201).is_none() && part.slice(0..5).is_none());
            #[allow(clippy::reversed_empty_ranges)]
            let reversed = bytes.slice(5..4);
            assert!(reversed.is_none());
        }
    }
}
