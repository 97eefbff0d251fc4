//! Finding blocks in the files of a database that does not open any more.
//!
//! sled writes values unbroken into its file, and a block says how long it is and carries its checksum. So the files
//! are searched for block magics, whatever the rest looks like; what the medium does not give back is passed over. Copies that sled had not overwritten yet turn up as
//! well; the newest books say what was acknowledged and is not wanted any more. JSON payloads carry no frame and
//! are not found: with them a damaged database loses its backlog (and says how many records that was).

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::limits;
use crate::wire::block::block_length_at;
use crate::wire::{Block, BlockId, Body, decode_block, decode_header};

use super::meta::Meta;
use super::sled::{SPARE, SledJournal};

/// What was found: places of blocks in order of lane and sequence, and the newest books.
pub(super) struct Finds {
    files: Vec<File>,
    blocks: Vec<Find>,
    pub meta: Option<Meta>,
}

/// Where a block lies.
struct Find {
    file: u16,
    offset: u64,
    length: u32,
    epoch: u64,
    id: BlockId,
}

impl Finds {
    /// Searches the database directories `dirs`. What can't be read counts as not found.
    pub fn search(dirs: &[PathBuf]) -> Self {
        let newest = dirs.iter().filter_map(|dir| SledJournal::promised(dir)).max_by_key(|meta| meta.commit);
        let mut finds = Finds { files: Vec::new(), blocks: Vec::new(), meta: newest };
        let paths = dirs.iter().flat_map(|dir| {
            let blobs =
                std::fs::read_dir(dir.join("blobs")).into_iter().flatten().flatten().map(|e| e.path());
            [dir.join("db"), dir.join(SPARE)].into_iter().chain(blobs)
        });
        for file in paths.filter_map(|path| File::open(path).ok()).take(usize::from(u16::MAX)) {
            finds.search_file(&file);
            finds.files.push(file);
        }
        finds.settle();
        finds
    }

    /// Shows each block found with its bytes, in order of lane and sequence.
    pub fn each(&self, mut take: impl FnMut(Block, Vec<u8>)) {
        for find in &self.blocks {
            let mut bytes = vec![0; find.length as usize];
            let read = self.files[usize::from(find.file)].read_exact_at(&mut bytes, find.offset);
            if let Some(block) = read.ok().and_then(|()| decode_block(&bytes).ok()) {
                take(block, bytes);
            }
        }
    }

    fn search_file(&mut self, file: &File) {
        let mut window = vec![0; WINDOW_BYTES + limits::BLOCK_BYTES_MAX];
        let (mut base, mut bad_pages) = (0, limits::SPOOL_BAD_PAGES_MAX);
        loop {
            let n = read_up_to(file, &mut window, base, &mut bad_pages);
            let bytes = &window[..n];
            for at in (0..n.min(WINDOW_BYTES)).filter(|&at| bytes[at] == b'O') {
                self.look_at(&bytes[at..], base + at as u64);
            }
            if n < window.len() {
                return;
            }
            base += WINDOW_BYTES as u64;
        }
    }

    fn look_at(&mut self, bytes: &[u8], offset: u64) {
        if let Some(meta) = Meta::decode(bytes) {
            if self.meta.as_ref().is_none_or(|old| old.commit < meta.commit) {
                self.meta = Some(meta);
            }
        } else if let Some(length) = block_length_at(bytes)
            && let Some(header) = bytes.get(..length).and_then(|block| decode_header(block).ok())
            && header.body == Body::Records
            && self.blocks.len() < limits::SPOOL_SALVAGE_BLOCKS_MAX
        {
            let file = self.files.len() as u16;
            self.blocks.push(Find {
                file,
                offset,
                length: length as u32,
                epoch: header.epoch,
                id: header.id(),
            });
        }
    }

    /// Puts the finds in order and drops copies and what was acknowledged.
    fn settle(&mut self) {
        if let Some(meta) = &self.meta {
            self.blocks
                .retain(|b| b.epoch == meta.epoch && b.id.last > meta.lanes[b.id.lane.index()].through);
        }
        self.blocks.sort_by_key(|b| (b.id.lane, b.epoch, b.id.first, std::cmp::Reverse(b.id.last)));
        let mut before: Option<(u64, BlockId)> = None;
        self.blocks.retain(|b| {
            let copy = before
                .is_some_and(|(epoch, id)| epoch == b.epoch && id.lane == b.id.lane && b.id.first <= id.last);
            if !copy {
                before = Some((b.epoch, b.id));
            }
            !copy
        });
    }
}

/// Reads what there is from `offset` on; pages that the medium does not give back are zeros, at most `bad_pages` of them.
fn read_up_to(file: &File, buffer: &mut [u8], offset: u64, bad_pages: &mut u32) -> usize {
    let end = file.metadata().map_or(u64::MAX, |meta| meta.len());
    let mut n = 0;
    while n < buffer.len() {
        let at = offset + n as u64;
        match file.read_at(&mut buffer[n..], at) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) if *bad_pages == 0 || at >= end => break,
            Err(_) => {
                *bad_pages -= 1;
                let page = (PAGE_BYTES - at % PAGE_BYTES) as usize;
                let next = (n + page).min(buffer.len());
                buffer[n..next].fill(0);
                n = next;
            }
        }
    }
    n
}

/// What a medium reads at a time.
const PAGE_BYTES: u64 = 4096;
/// Bytes searched at a time.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;
