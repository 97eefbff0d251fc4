//! A slot's tokens as a stream of bytes: a prompt that many conversations begin with is run once and kept in a file.
//!
//! | part | content, little-endian |
//! |---|---|
//! | head | `OUTPOSTK`, then as u32: version, layers, kv_heads, head_dim, format, tokens |
//! | body | per layer and head: keys in tiles of 16, values, scales of both, as they lie in memory |
//! | end | CRC-32 of all before |

use std::io::{self, Read, Write};

use super::layout::TILE_TOKENS;
use super::{BadSlot, KvFormat, KvShape, KvStore};

const MAGIC: [u8; 8] = *b"OUTPOSTK";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 8 + 6 * 4;

/// Saved tokens that can't be taken up; the file's fault unless said otherwise.
#[derive(Debug, thiserror::Error)]
pub enum BadSaved {
    /// The slot is the caller's mistake.
    #[error(transparent)]
    Slot(#[from] BadSlot),
    /// It is something else, or of another version of this program.
    #[error("these are not saved tokens of this program's version; delete the file and run the prompt anew")]
    Foreign,
    /// It is of another model or another configuration.
    #[error("saved with {field} = {saved}, needed is {needed}; delete the file and run the prompt anew")]
    Shape {
        /// Which number differs.
        field: &'static str,
        /// What the file says.
        saved: u32,
        /// What this store has, or has at most.
        needed: u32,
    },
    /// The checksum does not fit the content.
    #[error("the saved tokens are damaged; delete the file and run the prompt anew")]
    Damaged,
    /// It can't be read or written, or ends too soon.
    #[error("saved tokens: {0}; check the disk, or delete the file and run the prompt anew")]
    Io(#[from] io::Error),
}

impl KvStore {
    /// Writes the first `len` tokens of a slot. Give it a buffered writer. The store is locked meanwhile.
    pub fn save(&self, slot: u32, len: u32, to: &mut impl Write) -> Result<(), BadSaved> {
        let place = self.slot(slot)?;
        let state = self.lock();
        state.holds(&self.shape, slot, place, len)?;
        let mut to = Checked { inner: to, crc: crc32fast::Hasher::new() };
        to.write_all(&head(&self.shape, len))?;
        let start = self.layout.slot(place).start;
        let mut tile = Vec::new();
        for (i, piece) in self.layout.pieces(len as usize).enumerate() {
            let bytes = &state.memory[start + piece.start..start + piece.end];
            let has_part_tile = !len.is_multiple_of(TILE_TOKENS as u32);
            if i % 4 == 0 && has_part_tile {
                let tile_bytes = TILE_TOKENS * self.layout.width * self.layout.format.number_bytes();
                let (whole, last) = bytes.split_at(bytes.len() - tile_bytes);
                tile.clear();
                tile.extend_from_slice(last);
                self.blank(&mut tile, len as usize % TILE_TOKENS);
                to.write_all(whole)?;
                to.write_all(&tile)?;
            } else {
                to.write_all(bytes)?;
            }
        }
        let crc = to.crc.finalize();
        to.inner.write_all(&crc.to_le_bytes())?;
        Ok(())
    }

    /// Makes a slot hold saved tokens and nothing else; gives their number. Whatever goes wrong, the slot is empty
    /// afterwards. Give it a buffered reader. The store is locked meanwhile.
    pub fn load(&self, slot: u32, from: &mut impl Read) -> Result<u32, BadSaved> {
        let place = self.slot(slot)?;
        let mut state = self.lock();
        state.clear(&self.shape, &self.layout, place);
        let mut from = Checked { inner: from, crc: crc32fast::Hasher::new() };
        let mut head = [0; HEAD_BYTES];
        from.read_exact(&mut head)?;
        let len = self.check_head(&head)?;
        let start = self.layout.slot(place).start;
        for piece in self.layout.pieces(len as usize) {
            from.read_exact(&mut state.memory[start + piece.start..start + piece.end])?;
        }
        let crc = from.crc.finalize();
        let mut saved = [0; 4];
        from.inner.read_exact(&mut saved)?;
        if u32::from_le_bytes(saved) != crc {
            state.clear(&self.shape, &self.layout, place);
            return Err(BadSaved::Damaged);
        }
        state.lens_of(&self.shape, place).for_each(|l| *l = len);
        Ok(len)
    }

    /// Zeros in place of the keys behind the first `tokens` of a tile: they are of tokens that are not saved.
    fn blank(&self, tile: &mut [u8], tokens: usize) {
        let number = self.layout.format.number_bytes();
        for element in tile.chunks_exact_mut(TILE_TOKENS * number) {
            element[tokens * number..].fill(0);
        }
    }

    /// Gives the number of tokens.
    fn check_head(&self, saved: &[u8; HEAD_BYTES]) -> Result<u32, BadSaved> {
        let (magic, numbers) = saved.split_at(MAGIC.len());
        let (numbers, _) = numbers.as_chunks();
        let numbers: Vec<u32> = numbers.iter().map(|n| u32::from_le_bytes(*n)).collect();
        let [VERSION, shape @ .., len] = &numbers[..] else { return Err(BadSaved::Foreign) };
        if magic != MAGIC {
            return Err(BadSaved::Foreign);
        }
        for ((field, needed), &saved) in shape_numbers(&self.shape).into_iter().zip(shape) {
            if saved != needed {
                return Err(BadSaved::Shape { field, saved, needed });
            }
        }
        match *len as usize <= self.shape.tokens_max {
            true => Ok(*len),
            false => {
                Err(BadSaved::Shape { field: "tokens", saved: *len, needed: self.shape.tokens_max as u32 })
            }
        }
    }
}

fn head(shape: &KvShape, len: u32) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&MAGIC);
    let [layers, kv_heads, head_dim, format] = shape_numbers(shape).map(|(_, number)| number);
    let numbers = [VERSION, layers, kv_heads, head_dim, format, len];
    for (to, number) in head[8..].chunks_exact_mut(4).zip(numbers) {
        to.copy_from_slice(&number.to_le_bytes());
    }
    head
}

/// What must be the same; all are bounded far below 2^32 by `KvStore::new`.
fn shape_numbers(shape: &KvShape) -> [(&'static str, u32); 4] {
    let format = match shape.format {
        KvFormat::F32 => 0,
        KvFormat::F16 => 1,
        KvFormat::Int8 => 2,
    };
    [
        ("layers", shape.layers as u32),
        ("kv_heads", shape.kv_heads as u32),
        ("head_dim", shape.head_dim as u32),
        ("format", format),
    ]
}

/// Keeps the checksum of what goes through.
struct Checked<'a, T> {
    inner: &'a mut T,
    crc: crc32fast::Hasher,
}

impl<T: Write> Checked<'_, T> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        self.inner.write_all(bytes)
    }
}

impl<T: Read> Checked<'_, T> {
    fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(bytes)?;
        self.crc.update(bytes);
        Ok(())
    }
}
