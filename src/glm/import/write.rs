//! Targets into a bundle's directory: packed by several threads, synced, journaled, renamed when whole.
//!
//! Everything is written below `NAME.partial`. A tensor counts as finished when its bytes are synced and the journal says so;
//! an import that was interrupted goes on behind the last one, after hashing what it finds. The directory gets its manifest
//! when all weights are synced and its name when everything is: at no moment is there a bundle that opens and is not whole.

use std::collections::{BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::RenameFlags;

use super::error::ImportError;
use super::journal::Journal;
use super::pack::{Scratch, Target};
use super::{Progress, Step, pool};
use crate::glm::bundle::{Bundle, BundleError, FileEntry, Golden, Sha256, TensorEntry, WEIGHTS};
use crate::limits;

/// A bundle in the making.
pub(super) struct Partial {
    /// Where it is made.
    dir: PathBuf,
    /// What it will be called.
    target: PathBuf,
    journal: Journal,
    weights: File,
    finished: Vec<(usize, Sha256)>,
}

/// A target with its place in the file.
pub(super) struct Placed {
    target: Target,
    offset: u64,
    bytes: usize,
    piece: usize,
}

/// How fast an import may go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// At most [`limits::IMPORT_THREADS_MAX`].
    pub(super) threads: usize,
    /// Bytes after which what is written is synced.
    pub(super) sync_bytes: u64,
}

/// One piece: which target, which of its pieces.
type Piece = (usize, usize);

const JOURNAL: &str = "journal";

/// Where the bundle `target` is made, and where an interrupted import leaves what it has; `None` for what is no name.
pub fn partial_dir(target: &Path) -> Option<PathBuf> {
    let mut name = target.file_name()?.to_owned();
    name.push(limits::IMPORT_PARTIAL_SUFFIX);
    Some(target.with_file_name(name))
}

/// Lays targets one behind the other; gives the bytes of all.
pub(super) fn place(targets: Vec<Target>) -> Result<(Vec<Placed>, u64), ImportError> {
    let mut at = 0_u64;
    let place = |target: Target| -> Result<Placed, ImportError> {
        let too_large =
            || ImportError::unsupported("a model this large", "this machine can't address its weights");
        let sizes = target.bytes().zip(target.piece_bytes());
        let (bytes, piece) = sizes.ok_or_else(too_large)?;
        let offset = at;
        at = at.checked_add(bytes as u64).ok_or_else(too_large)?;
        Ok(Placed { target, offset, bytes, piece })
    };
    let placed = targets.into_iter().map(place).collect::<Result<Vec<_>, _>>()?;
    Ok((placed, at))
}

impl Placed {
    /// The line of the table of tensors; all but the hash is known before anything is packed.
    pub(super) fn entry(&self, sha256: Sha256) -> TensorEntry {
        let Target { name, layout, rows, cols, .. } = &self.target;
        let (layout, rows, cols) = (*layout, *rows, *cols);
        TensorEntry {
            name: name.clone(),
            layout,
            rows,
            cols,
            offset: self.offset,
            bytes: self.bytes as u64,
            sha256,
        }
    }

    fn pieces(&self) -> usize {
        self.bytes.div_ceil(self.piece)
    }

    /// Offset in the file and length.
    fn span(&self, piece: usize) -> (u64, usize) {
        let at = piece * self.piece;
        (self.offset + at as u64, self.piece.min(self.bytes - at))
    }
}

impl Partial {
    /// Opens the directory beside `target`; `import` tells whether what lies there already is of the same import.
    /// Refuses what does not fit: `bytes` of weights and `others`.
    pub(super) fn open(
        target: &Path,
        import: Sha256,
        bytes: u64,
        others: u64,
    ) -> Result<Partial, ImportError> {
        let no_name =
            || failed(target)(io::Error::new(io::ErrorKind::InvalidInput, "not the name of a directory"));
        let dir = partial_dir(target).ok_or_else(no_name)?;
        std::fs::create_dir_all(&dir).map_err(failed(&dir))?;
        let (journal, finished) = Journal::open(&dir.join(JOURNAL), import)?;
        let path = dir.join(WEIGHTS);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(finished.is_empty());
        let weights = options.open(&path).map_err(failed(&path))?;
        check_room(&dir, &weights, bytes.saturating_add(others))?;
        weights.set_len(bytes).map_err(failed(&path))?;
        Ok(Partial { dir, target: target.to_owned(), journal, weights, finished })
    }

    /// Packs what is not there yet; gives the hashes of all targets.
    pub(super) fn write(
        &mut self,
        placed: &[Placed],
        Pace { threads, sync_bytes }: Pace,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Vec<Sha256>, ImportError> {
        let threads = threads.clamp(1, limits::IMPORT_THREADS_MAX);
        let (weights, path) = (&self.weights, self.dir.join(WEIGHTS));
        let total = placed.iter().map(|p| p.bytes as u64).sum();
        let mut ledger = self.take_over(placed, threads, total, progress)?;
        let is_done = |hashes: &[Option<Sha256>], n: &usize| hashes[*n].is_some();
        let (there, left): (Vec<_>, Vec<_>) = (0..placed.len()).partition(|n| is_done(&ledger.hashes, n));
        let mut done = there.into_iter().map(|n| placed[n].bytes as u64).sum();

        let pack =
            |(n, piece): Piece, (scratch, buffer): &mut (Scratch, Vec<u8>)| -> Result<Sha256, ImportError> {
                let (at, len) = placed[n].span(piece);
                buffer.resize(len, 0);
                placed[n].target.pack(piece * placed[n].piece, scratch, buffer)?;
                weights.write_all_at(buffer, at).map_err(failed(&path))?;
                Ok(Sha256::of(buffer))
            };
        let journal = &mut self.journal;
        let mut unsynced = Unsynced::default();
        pool::run(&pieces(placed, left), threads, pack, |(n, piece), hash| {
            done += placed[n].span(piece).1 as u64;
            progress(Progress { step: Step::Weights, tensor: &placed[n].target.name, done, total });
            if let Some(hash) = ledger.add(n, piece, hash) {
                unsynced.add(n, hash, placed[n].bytes);
                unsynced.sync_if(sync_bytes, weights, &path, journal)?;
            }
            Ok(())
        })?;
        unsynced.sync_if(0, weights, &path, journal)?;
        let hashes: Option<Vec<Sha256>> = ledger.hashes.into_iter().collect();
        hashes.ok_or_else(|| failed(&path)(io::Error::other("a tensor was left out")))
    }

    /// Hashes what the journal calls finished; what is not as it says is packed anew.
    fn take_over<'a>(
        &self,
        placed: &'a [Placed],
        threads: usize,
        total: u64,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Ledger<'a>, ImportError> {
        let (weights, path) = (&self.weights, self.dir.join(WEIGHTS));
        let mut ledger = Ledger::new(placed);
        let mut done = 0;
        let finished: BTreeSet<usize> =
            self.finished.iter().map(|(n, _)| *n).filter(|n| *n < placed.len()).collect();
        let look = |(n, piece): Piece, buffer: &mut Vec<u8>| -> Result<Sha256, ImportError> {
            let (at, len) = placed[n].span(piece);
            buffer.resize(len, 0);
            weights.read_exact_at(buffer, at).map_err(failed(&path))?;
            Ok(Sha256::of(buffer))
        };
        pool::run(&pieces(placed, finished), threads, look, |(n, piece), hash| {
            done += placed[n].span(piece).1 as u64;
            progress(Progress { step: Step::Resume, tensor: &placed[n].target.name, done, total });
            ledger.add(n, piece, hash);
            Ok(())
        })?;
        for (n, hash) in ledger.hashes.iter_mut().enumerate() {
            *hash = hash.filter(|hash| self.finished.contains(&(n, *hash)));
        }
        Ok(ledger)
    }

    /// Writes one of the small files.
    pub(super) fn small_file(&self, name: &str, bytes: &[u8]) -> Result<FileEntry, ImportError> {
        let path = self.dir.join(name);
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(failed(&path))?;
        Ok(FileEntry { bytes: bytes.len() as u64, sha256: Sha256::of(bytes) })
    }

    /// What the model answers, as it lies here with its manifest.
    pub(super) fn golden(&self, threads: usize) -> Result<Option<Golden>, BundleError> {
        let bundle = Bundle::open(&self.dir)?;
        Ok(Golden::record(&bundle.weights()?, threads)?)
    }

    /// Removes what was made so far, because it will never be whole.
    pub(super) fn discard(&self) {
        // What can't be removed is in nobody's way: another import begins anew there.
        let _ = std::fs::remove_dir_all(&self.dir);
    }

    /// Gives the directory its name. `replace`: what has it now is removed.
    pub(super) fn finish(self, replace: bool) -> Result<(), ImportError> {
        let Partial { dir, target, journal, weights, .. } = self;
        weights.sync_all().map_err(failed(&dir))?;
        sync_dir(&dir)?;
        let flags = if replace && target.exists() { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        let here = rustix::fs::CWD;
        match rustix::fs::renameat_with(here, &dir, here, &target, flags) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Err(ImportError::Exists { path: target }),
            // A file system that knows neither: the old one goes first.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                if flags == RenameFlags::EXCHANGE {
                    std::fs::remove_dir_all(&target).map_err(failed(&target))?;
                }
                std::fs::rename(&dir, &target).map_err(failed(&target))?;
            }
            Err(errno) => return Err(failed(&target)(errno.into())),
        }
        sync_dir(target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
        drop(journal);
        // Whole and in its place: what is left of its making may go, or stay.
        let _ = std::fs::remove_file(target.join(JOURNAL));
        let _ = std::fs::remove_dir_all(&dir);
        Ok(())
    }
}

/// Hashes of pieces on their way to be hashes of targets.
struct Ledger<'a> {
    placed: &'a [Placed],
    open: HashMap<usize, Vec<Option<Sha256>>>,
    hashes: Vec<Option<Sha256>>,
}

impl Ledger<'_> {
    fn new(placed: &[Placed]) -> Ledger<'_> {
        Ledger { placed, open: HashMap::new(), hashes: vec![None; placed.len()] }
    }

    /// Files a piece; gives the target's hash with its last one.
    fn add(&mut self, n: usize, piece: usize, hash: Sha256) -> Option<Sha256> {
        let pieces = self.open.entry(n).or_insert_with(|| vec![None; self.placed[n].pieces()]);
        pieces[piece] = Some(hash);
        let all: Vec<Sha256> = pieces.iter().copied().collect::<Option<_>>()?;
        self.open.remove(&n);
        self.hashes[n] = Some(Sha256::of_pieces(&all));
        self.hashes[n]
    }
}

/// Targets that are written and not synced.
#[derive(Default)]
struct Unsynced {
    targets: Vec<(usize, Sha256)>,
    bytes: u64,
}

impl Unsynced {
    fn add(&mut self, n: usize, hash: Sha256, bytes: usize) {
        self.targets.push((n, hash));
        self.bytes += bytes as u64;
    }

    fn sync_if(
        &mut self,
        bytes_min: u64,
        weights: &File,
        path: &Path,
        journal: &mut Journal,
    ) -> Result<(), ImportError> {
        if self.bytes < bytes_min || self.targets.is_empty() {
            return Ok(());
        }
        weights.sync_data().map_err(failed(path))?;
        journal.finished(&self.targets)?;
        *self = Unsynced::default();
        Ok(())
    }
}

fn pieces(placed: &[Placed], targets: impl IntoIterator<Item = usize>) -> Vec<Piece> {
    targets.into_iter().flat_map(|n| (0..placed[n].pieces()).map(move |piece| (n, piece))).collect()
}

/// Refuses before anything is written what would not fit; what the file has already counts as free.
fn check_room(dir: &Path, weights: &File, bytes: u64) -> Result<(), ImportError> {
    let have = weights.metadata().map_err(failed(dir))?.blocks().saturating_mul(512);
    let stat = rustix::fs::statvfs(dir).map_err(|errno| failed(dir)(errno.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let needed = bytes.saturating_sub(have);
    match free < needed {
        true => Err(ImportError::Disk { path: dir.to_owned(), needed, free }),
        false => Ok(()),
    }
}

fn sync_dir(dir: &Path) -> Result<(), ImportError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir))
}

fn failed(path: &Path) -> impl Fn(io::Error) -> ImportError {
    let path = path.to_owned();
    move |source| ImportError::Write { path: path.clone(), source }
}
