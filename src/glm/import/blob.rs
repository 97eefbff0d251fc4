//! Bytes of a source, read where they are wanted: a file, or memory.
//!
//! Files are read with positioned reads and not mapped: memory stays within the buffers of whoever reads, and a file that
//! shrinks meanwhile is an error and not a signal.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ImportError;

/// A file or a piece of memory; clones share it.
#[derive(Clone)]
pub(super) struct Blob(Arc<Inner>);

struct Inner {
    store: Store,
    path: PathBuf,
    len: u64,
}

enum Store {
    File(File),
    Memory(Vec<u8>),
}

impl Blob {
    /// Opens a regular file.
    pub(super) fn open(path: &Path) -> Result<Blob, ImportError> {
        let failed = |source| ImportError::Read { path: path.to_owned(), source };
        // Before it is opened: that of a pipe would wait for a writer.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        let file = File::open(path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        let inner = Inner { store: Store::File(file), path: path.to_owned(), len };
        Ok(Blob(Arc::new(inner)))
    }

    /// Takes bytes; `name` stands for the path in messages.
    pub(super) fn memory(name: &str, bytes: Vec<u8>) -> Blob {
        let len = bytes.len() as u64;
        Blob(Arc::new(Inner { store: Store::Memory(bytes), path: PathBuf::from(name), len }))
    }

    /// How many bytes there were when it was opened.
    pub(super) fn len(&self) -> u64 {
        self.0.len
    }

    /// The file, or the name of the memory.
    pub(super) fn path(&self) -> &Path {
        &self.0.path
    }

    /// Fills `out` with what stands at `at`.
    pub(super) fn read(&self, at: u64, out: &mut [u8]) -> Result<(), ImportError> {
        let early = || self.damaged("it ends early");
        match &self.0.store {
            Store::File(file) => file.read_exact_at(out, at).map_err(|source| match source.kind() {
                io::ErrorKind::UnexpectedEof => early(),
                _ => ImportError::Read { path: self.0.path.clone(), source },
            }),
            Store::Memory(bytes) => {
                let at = usize::try_from(at).map_err(|_| early())?;
                let end = at.checked_add(out.len()).ok_or_else(early)?;
                out.copy_from_slice(bytes.get(at..end).ok_or_else(early)?);
                Ok(())
            }
        }
    }

    /// A part as a vector; the part must lie within the file, so that its length is no more than a promise kept.
    pub(super) fn part(&self, at: u64, len: u64) -> Result<Vec<u8>, ImportError> {
        if at.checked_add(len).is_none_or(|end| end > self.len()) {
            return Err(self.damaged("it ends early"));
        }
        let len = usize::try_from(len).map_err(|_| self.damaged("a part is too large"))?;
        let mut bytes = vec![0; len];
        self.read(at, &mut bytes)?;
        Ok(bytes)
    }

    /// The whole file, at most `max` bytes.
    pub(super) fn whole(&self, max: u64) -> Result<Vec<u8>, ImportError> {
        if self.len() > max {
            return Err(self.damaged(format!("it has {} bytes, {max} are the most it may have", self.len())));
        }
        self.part(0, self.len())
    }

    /// An error that names this file.
    pub(super) fn damaged(&self, what: impl Into<String>) -> ImportError {
        ImportError::damaged(self.path(), what)
    }
}

/// A blob read in small steps from front to back, a window at a time.
pub(super) struct Window {
    pub(super) blob: Blob,
    bytes: Vec<u8>,
    at: u64,
}

const WINDOW_BYTES: u64 = 64 * 1024;

impl Window {
    pub(super) fn new(blob: Blob) -> Window {
        Window { blob, bytes: Vec::new(), at: 0 }
    }

    /// The `N` bytes at `at`.
    pub(super) fn array<const N: usize>(&mut self, at: u64) -> Result<[u8; N], ImportError> {
        if let Some(bytes) = self.inside(at) {
            return Ok(bytes);
        }
        let len = WINDOW_BYTES.min(self.blob.len().saturating_sub(at));
        self.bytes.resize(len as usize, 0);
        self.at = at;
        self.blob.read(at, &mut self.bytes)?;
        self.inside(at).ok_or_else(|| self.blob.damaged("it ends early"))
    }

    fn inside<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        let start = usize::try_from(at.checked_sub(self.at)?).ok()?;
        self.bytes.get(start..start.checked_add(N)?)?.try_into().ok()
    }

    /// The `len` bytes at `at`, which must lie within the blob.
    pub(super) fn bytes(&mut self, at: u64, len: u64) -> Result<Vec<u8>, ImportError> {
        let start = at.checked_sub(self.at).and_then(|start| usize::try_from(start).ok());
        let end = start.zip(usize::try_from(len).ok()).and_then(|(start, len)| start.checked_add(len));
        match start.zip(end).and_then(|(start, end)| self.bytes.get(start..end)) {
            Some(bytes) => Ok(bytes.to_vec()),
            None => self.blob.part(at, len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_and_memory_read_alike_and_neither_beyond_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, [1, 2, 3, 4]).unwrap();
        for blob in [Blob::open(&path).unwrap(), Blob::memory("x", vec![1, 2, 3, 4])] {
            assert_eq!(blob.part(1, 2).unwrap(), [2, 3]);
            assert_eq!(blob.whole(4).unwrap(), [1, 2, 3, 4]);
            assert!(blob.whole(3).is_err());
            for (at, len) in [(3, 2), (4, 1), (u64::MAX, 1), (0, u64::MAX)] {
                assert!(matches!(blob.part(at, len), Err(ImportError::Damaged { .. })), "{at} {len}");
            }
            assert!(blob.read(3, &mut [0; 2]).is_err());
        }
        assert!(matches!(Blob::open(dir.path()), Err(ImportError::Read { .. })));
    }
}
