//! A prefix that many prompts share, on disk: read once by the model, then by whoever starts.
//!
//! | part | content, little-endian |
//! |---|---|
//! | head | `OUTPOSTP`, version u32, the model's name (16 bytes), tokens u32 |
//! | tokens | u32 each |
//! | keys and values | as of [`KvStore::save`] |

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::glm::kernels::{BadSaved, KvStore};

const MAGIC: [u8; 8] = *b"OUTPOSTP";
const VERSION: u32 = 1;

/// Where a prefix came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrefixSource {
    /// The model reads it with the first prompt that begins with it.
    Model,
    /// The file had it.
    File,
}

/// A prefix that can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum BadPrefix {
    /// There is no slot to spare.
    #[error("all slots of the model's cache are in use or pinned; configure one more")]
    NoSlot,
    /// It is empty or too long, or its tokens are not the model's.
    #[error(transparent)]
    Refused(#[from] super::Refused),
    /// The file is of another model or another prefix.
    #[error("the saved prefix is of another model, another text or another version; it is made anew")]
    Other,
    /// The file can't be read or written, or is damaged.
    #[error(transparent)]
    Saved(#[from] BadSaved),
}

impl From<io::Error> for BadPrefix {
    fn from(error: io::Error) -> BadPrefix {
        BadPrefix::Saved(error.into())
    }
}

/// A prefix with a slot of its own.
pub(super) struct Prefix {
    pub(super) slot: u32,
    tokens: Vec<u32>,
    model: String,
    /// Where it is kept over a restart; nothing where that is done, or nowhere.
    file: Option<PathBuf>,
    is_held: bool,
}

impl Prefix {
    /// Not read yet.
    pub(super) fn new(slot: u32, tokens: &[u32], model: &str, file: Option<&Path>) -> Prefix {
        let (tokens, model, file) = (tokens.to_vec(), model.to_owned(), file.map(Path::to_owned));
        Prefix { slot, tokens, model, file, is_held: false }
    }

    /// What its slot holds: all of it, or nothing yet.
    pub(super) fn held(&self) -> &[u32] {
        if self.is_held { &self.tokens } else { &[] }
    }

    /// Fills its slot from the file.
    pub(super) fn load(&mut self, kv: &KvStore) -> Result<(), BadPrefix> {
        let path = self.file.as_deref().ok_or(BadPrefix::Other)?;
        load(path, &self.model, &self.tokens, kv, self.slot)?;
        (self.is_held, self.file) = (true, None);
        Ok(())
    }

    /// Fills its slot from another one, if that holds `tokens` which begin with it; true if its slot holds it since.
    pub(super) fn take_from(&mut self, kv: &KvStore, slot: u32, tokens: &[u32]) -> bool {
        if self.is_held || !tokens.starts_with(&self.tokens) {
            return false;
        }
        self.is_held = kv.copy_prefix(slot, self.slot, self.tokens.len() as u32).is_ok();
        self.is_held
    }

    /// Writes the file, once it is held and as long as it is not written.
    pub(super) fn save(&mut self, kv: &KvStore) -> Result<(), BadPrefix> {
        match self.file.take_if(|_| self.is_held) {
            Some(path) => save(&path, &self.model, &self.tokens, kv, self.slot),
            None => Ok(()),
        }
    }
}

/// Writes what `slot` holds, all of it or nothing.
fn save(path: &Path, model: &str, tokens: &[u32], kv: &KvStore, slot: u32) -> Result<(), BadPrefix> {
    let partial = path.with_extension("partial");
    let written = write(&partial, model, tokens, kv, slot);
    if written.is_err() {
        // A full disk has no room for half a file; that it may not go away either changes nothing.
        let _ = std::fs::remove_file(&partial);
    }
    written?;
    Ok(std::fs::rename(&partial, path)?)
}

fn write(path: &Path, model: &str, tokens: &[u32], kv: &KvStore, slot: u32) -> Result<(), BadPrefix> {
    let mut to = BufWriter::new(File::create(path)?);
    to.write_all(&head(model, tokens.len() as u32))?;
    for token in tokens {
        to.write_all(&token.to_le_bytes())?;
    }
    kv.save(slot, tokens.len() as u32, &mut to)?;
    // Not synced: an alarm may wait for this thread, and what a power cut leaves of it is known by its checksum.
    to.into_inner().map(drop).map_err(|e| e.into_error().into())
}

/// Fills `slot` from a file. Whatever goes wrong, the model has to read the prefix from its beginning.
fn load(path: &Path, model: &str, tokens: &[u32], kv: &KvStore, slot: u32) -> Result<(), BadPrefix> {
    let mut from = BufReader::new(File::open(path)?);
    let wanted = head(model, tokens.len() as u32);
    let mut found = [0; HEAD_BYTES];
    from.read_exact(&mut found)?;
    if found != wanted {
        return Err(BadPrefix::Other);
    }
    for token in tokens {
        let mut found = [0; 4];
        from.read_exact(&mut found)?;
        if found != token.to_le_bytes() {
            return Err(BadPrefix::Other);
        }
    }
    let len = kv.load(slot, &mut from)?;
    if len as usize != tokens.len() {
        // The file contradicts itself.
        let _ = kv.clear(slot);
        return Err(BadPrefix::Other);
    }
    Ok(())
}

const NAME_BYTES: usize = 16;
const HEAD_BYTES: usize = 8 + 4 + NAME_BYTES + 4;

fn head(model: &str, tokens: u32) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&MAGIC);
    head[8..12].copy_from_slice(&VERSION.to_le_bytes());
    for (to, byte) in head[12..12 + NAME_BYTES].iter_mut().zip(model.bytes()) {
        *to = byte;
    }
    head[12 + NAME_BYTES..].copy_from_slice(&tokens.to_le_bytes());
    head
}
