//! Files as more than one room handles them: replaced in whole, read within a bound.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

/// Puts `bytes` durably in the place of `file`: the old content or the new one, whatever happens. Blocks.
pub fn replace_file(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = file.with_extension("part");
    let mut out = File::create(&part)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    fs::rename(&part, file)?;
    file.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// All of a file of at most so many bytes; a larger one is [`io::ErrorKind::FileTooLarge`], and no more of it is read. Blocks.
pub fn read_file(file: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_bound_and_one_byte_more_is_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ten");
        replace_file(&file, &[7; 10]).unwrap();
        assert_eq!(read_file(&file, 10).unwrap(), [7; 10]);
        assert_eq!(read_file(&file, 9).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_file(dir.path(), 9).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    }
}
