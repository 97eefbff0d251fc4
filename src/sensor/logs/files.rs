//! The log files of one source: found by path or pattern, followed one by one.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::Piece;
use super::tail::{Found, Place, Tail, age};
use crate::glob;
use crate::limits;

/// Where each file is read on; kept over a restart.
pub(super) type Places = BTreeMap<PathBuf, Option<Place>>;

/// What is followed.
pub(super) struct Files {
    patterns: Vec<PathBuf>,
    tails: BTreeMap<PathBuf, Tail>,
    /// Files that appear from now on are read from their beginning.
    settled: bool,
}

/// What to tell of a look.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// There may be more to read at once.
    pub more: bool,
    /// Files whose place was lost, with what was read of them since.
    pub gaps: Vec<PathBuf>,
    /// Files that can't be read now.
    pub failed: Vec<(PathBuf, io::Error)>,
    /// What matches and is not followed.
    pub left_out: LeftOut,
}

/// What a pattern matches beyond the bounds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Files that are not followed.
    pub files: usize,
    /// Folders with more entries than are looked at.
    pub folders: usize,
}

impl Files {
    /// Goes on at `places`; what has none begins at its end when it is there already at the first look ever.
    pub(super) fn new(patterns: Vec<PathBuf>, places: Option<Places>) -> Self {
        let settled = places.is_some();
        let tails = places.unwrap_or_default().into_iter().take(limits::LOG_FILES_MAX);
        let tails = tails.map(|(path, place)| (path.clone(), Tail::new(path, place))).collect();
        Self { patterns, tails, settled }
    }

    /// Where each file is read on.
    pub(super) fn places(&self) -> Places {
        self.tails.iter().map(|(path, tail)| (path.clone(), tail.place().cloned())).collect()
    }

    /// Looks for files that are new; files that are gone and no longer match are forgotten.
    pub(super) fn scan(&mut self, looked: &mut Looked) {
        let mut found = BTreeSet::new();
        for pattern in &self.patterns {
            let Matching { files, is_cut } = matching(pattern);
            found.extend(files);
            looked.left_out.folders += usize::from(is_cut);
        }
        found.retain(|path| !self.tails.contains_key(path));
        if self.tails.len() + found.len() > limits::LOG_FILES_MAX {
            self.tails.retain(|path, _| path.exists());
        }
        let room = limits::LOG_FILES_MAX.saturating_sub(self.tails.len());
        looked.left_out.files = found.len().saturating_sub(room);
        for path in found.into_iter().take(room) {
            let tail =
                if self.settled { Ok(Tail::new(path.clone(), None)) } else { Tail::at_end(path.clone()) };
            match tail {
                Ok(tail) => drop(self.tails.insert(path, tail)),
                Err(error) => looked.failed.push((path, error)),
            }
        }
        self.settled = true;
    }

    /// Reads what has come, a bounded amount of each file.
    pub(super) fn poll(&mut self, looked: &mut Looked, each: &mut dyn FnMut(Piece<'_>)) {
        for (path, tail) in &mut self.tails {
            match tail.poll(limits::LOG_TURN_BYTES, each) {
                Ok(Found::All) => {}
                Ok(Found::More) => looked.more = true,
                Ok(Found::Gap) => looked.gaps.push(path.clone()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => looked.failed.push((path.clone(), error)),
            }
        }
    }
}

/// What a pattern matches.
#[derive(Default)]
struct Matching {
    files: Vec<PathBuf>,
    /// The folder has more entries than were looked at.
    is_cut: bool,
}

/// The files that match; wildcards stand in the last part of a path only. What was rotated away from another match is
/// part of that one's history.
fn matching(pattern: &Path) -> Matching {
    let Some(name) = pattern.file_name().and_then(|n| n.to_str()) else { return Matching::default() };
    if !name.contains(['*', '?']) {
        return Matching { files: vec![pattern.to_owned()], is_cut: false };
    }
    let folder = pattern.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(mut entries) = fs::read_dir(folder) else { return Matching::default() };
    let names: HashSet<String> = entries
        .by_ref()
        .take(limits::LOG_ENTRIES_MAX)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|found| glob::matches(name, found) && !is_compressed(found))
        .collect();
    let own = names.iter().filter(|found| !is_rotated(found, &names));
    let files = own.map(|found| folder.join(found)).filter(|path| path.is_file()).collect();
    Matching { files, is_cut: entries.next().is_some() }
}

/// Whether it was rotated away from another of `names`: from one that it begins with.
fn is_rotated(found: &str, names: &HashSet<String>) -> bool {
    let begins = found.match_indices(['.', '-']).map(|(at, _)| &found[..at]);
    begins.into_iter().any(|begin| names.contains(begin) && age(begin, found).is_some())
}

fn is_compressed(name: &str) -> bool {
    [".gz", ".xz", ".bz2", ".zst", ".lz4"].iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_finds_files_and_leaves_their_rotations_alone() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.log", "a.log.1", "a.log-20261126", "a.log.2.gz", "b.log", "c.txt"] {
            fs::write(dir.path().join(name), "x\n").unwrap();
        }
        let names = |pattern: &str| -> Vec<String> {
            let mut found = matching(&dir.path().join(pattern)).files;
            found.sort();
            found.iter().map(|p| p.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names("*.log"), ["a.log", "b.log"]);
        assert_eq!(names("*"), ["a.log", "b.log", "c.txt"]);
        assert_eq!(names("d.log"), ["d.log"], "a plain path may appear later");
    }

    #[test]
    fn what_is_beyond_the_bounds_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let touch = |n: usize| fs::write(dir.path().join(format!("{n}.log")), "").unwrap();
        (0..limits::LOG_FILES_MAX + 5).for_each(touch);
        let mut files = Files::new(vec![dir.path().join("*")], None);
        let left_out = |files: &mut Files| {
            let mut looked = Looked::default();
            files.scan(&mut looked);
            looked.left_out
        };
        assert_eq!(left_out(&mut files), LeftOut { files: 5, folders: 0 });
        assert_eq!(left_out(&mut files), LeftOut { files: 5, folders: 0 }, "the same five");
        let followed: Vec<PathBuf> = files.places().into_keys().take(5).collect();
        followed.iter().for_each(|path| fs::remove_file(path).unwrap());
        assert_eq!(left_out(&mut files), LeftOut::default(), "those that are gone make room");
        (0..=limits::LOG_ENTRIES_MAX).for_each(touch);
        assert_eq!(left_out(&mut files).folders, 1);
    }

    #[test]
    fn a_pipe_is_no_log_file_and_nobody_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("x.log");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let (told, answer) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut files = Files::new(vec![pipe.clone()], None);
            let mut looked = Looked::default();
            files.scan(&mut looked);
            let mut late = Files::new(vec![pipe.clone()], Some(Places::from([(pipe, None)])));
            late.poll(&mut looked, &mut |_| panic!("a line"));
            told.send(looked.failed).unwrap();
        });
        let failed = answer.recv_timeout(std::time::Duration::from_secs(10)).expect("it waits for a writer");
        assert_eq!(failed.len(), 2);
        assert!(failed.iter().all(|(_, error)| error.to_string().contains("no regular file")), "{failed:?}");
    }
}
