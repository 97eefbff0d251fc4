//! Small files that are there in whole, the old content or the new one.

use std::fs::{self, File};
use std::io::{self, Write as _};
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
