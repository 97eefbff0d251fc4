//! The log files of one source: found by path or pattern, followed one by one.

use std::collections::BTreeMap;
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
        let found = self.patterns.iter().flat_map(|pattern| matching(pattern));
        for path in found.collect::<std::collections::BTreeSet<_>>() {
            if self.tails.len() >= limits::LOG_FILES_MAX {
                self.tails.retain(|path, _| path.exists());
                if self.tails.len() >= limits::LOG_FILES_MAX {
                    break;
                }
            }
            if self.tails.contains_key(&path) {
                continue;
            }
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

/// The files that match; wildcards stand in the last part of a path only. What was rotated away from another match is
/// part of that one's history.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let Some(name) = pattern.file_name().and_then(|n| n.to_str()) else { return Vec::new() };
    if !name.contains(['*', '?']) {
        return vec![pattern.to_owned()];
    }
    let folder = pattern.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .take(limits::LOG_ENTRIES_MAX)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|found| glob::matches(name, found) && !is_compressed(found))
        .collect();
    let all = names.clone();
    names.retain(|found| !all.iter().any(|other| age(other, found).is_some()));
    names.into_iter().map(|found| folder.join(found)).filter(|path| path.is_file()).collect()
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
            let mut found = matching(&dir.path().join(pattern));
            found.sort();
            found.iter().map(|p| p.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names("*.log"), ["a.log", "b.log"]);
        assert_eq!(names("*"), ["a.log", "b.log", "c.txt"]);
        assert_eq!(names("d.log"), ["d.log"], "a plain path may appear later");
    }
}
