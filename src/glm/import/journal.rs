//! What an interrupted import has already on disk: a line per finished tensor, written only after its bytes were synced.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::error::ImportError;
use crate::glm::bundle::Sha256;
use crate::limits;

/// The journal of one unfinished bundle, locked against a second import.
pub(super) struct Journal {
    file: File,
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
enum Line {
    /// What is being made of what; the first line.
    #[serde(rename = "import")]
    Import(Sha256),
    /// A tensor is on disk.
    #[serde(rename = "tensor")]
    Tensor(usize, Sha256),
}

impl Journal {
    /// Opens or creates the journal; gives the finished tensors if it is that of the same import. Otherwise it begins anew.
    pub(super) fn open(path: &Path, import: Sha256) -> Result<(Journal, Vec<(usize, Sha256)>), ImportError> {
        let failed = |source| ImportError::Write { path: path.to_owned(), source };
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = options.map_err(failed)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|e| failed(e.into()))?;
        let mut text = Vec::new();
        (&file).take(limits::BUNDLE_MANIFEST_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
        let (finished, end) = understood(&text, import);
        file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end))).map_err(failed)?;
        let mut journal = Journal { file, path: path.to_owned() };
        if end == 0 {
            journal.write(&[Line::Import(import)])?;
        }
        Ok((journal, finished))
    }

    /// Notes tensors whose bytes have been synced.
    pub(super) fn finished(&mut self, tensors: &[(usize, Sha256)]) -> Result<(), ImportError> {
        let lines: Vec<_> = tensors.iter().map(|&(index, hash)| Line::Tensor(index, hash)).collect();
        self.write(&lines)
    }

    fn write(&mut self, lines: &[Line]) -> Result<(), ImportError> {
        let failed = |source| ImportError::Write { path: self.path.clone(), source };
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line).map_err(|e| failed(e.into()))?;
            text.push(b'\n');
        }
        self.file.write_all(&text).and_then(|()| self.file.sync_data()).map_err(failed)
    }
}

/// The finished tensors of a journal that begins with `import`, and where its last whole line ends.
fn understood(text: &[u8], import: Sha256) -> (Vec<(usize, Sha256)>, u64) {
    let (mut finished, mut end) = (Vec::new(), 0);
    for line in text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        match serde_json::from_slice(line) {
            Ok(Line::Import(found)) if end == 0 && found == import => {}
            Ok(Line::Tensor(index, hash)) if end > 0 => finished.push((index, hash)),
            _ => break,
        }
        end += line.len();
    }
    (finished, end as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_goes_on_where_it_was_torn_and_starts_over_for_another_import() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (import, a, b) = (Sha256::of(b"import"), Sha256::of(b"a"), Sha256::of(b"b"));
        let (mut journal, finished) = Journal::open(&path, import).unwrap();
        assert!(finished.is_empty());
        journal.finished(&[(0, a), (1, b)]).unwrap();
        assert!(
            matches!(Journal::open(&path, import), Err(ImportError::Write { .. })),
            "a second one at once"
        );
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        for torn in 0..whole.len() {
            std::fs::write(&path, &whole[..torn]).unwrap();
            let (mut journal, finished) = Journal::open(&path, import).unwrap();
            let lines = whole[..torn].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(finished, [(0, a), (1, b)][..lines.saturating_sub(1)], "torn at {torn}");
            journal.finished(&[(7, b)]).unwrap();
            drop(journal);
            assert_eq!(Journal::open(&path, import).unwrap().1.last(), Some(&(7, b)));
        }
        assert!(Journal::open(&path, Sha256::of(b"other")).unwrap().1.is_empty());
        assert!(Journal::open(&path, import).unwrap().1.is_empty(), "the other one has taken its place");
    }
}
