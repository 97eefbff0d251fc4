//! Everything of a bundle read again and held against its manifest.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use super::{Bundle, BundleError, Sha256, TensorEntry, WEIGHTS};

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Bytes that were hashed.
    pub bytes: u64,
    /// Golden tokens that were found again; `None` where the bundle has none.
    pub golden: Option<usize>,
}

impl Bundle {
    /// Hashes every file, parses tokenizer and template, then lets the model answer its golden prompts again. `progress` is told of
    /// the hashes. Blocks.
    pub fn verify(
        &self,
        threads: usize,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Verified, BundleError> {
        let bytes = self.verify_hashes(threads, progress)?;
        self.words()?;
        Ok(Verified { bytes, golden: self.verify_golden(threads)? })
    }

    /// Hashes every file, on `threads` threads. `progress` is told the bytes that are done and those there are. Blocks.
    pub fn verify_hashes(
        &self,
        threads: usize,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<u64, BundleError> {
        self.tokenizer_json()?;
        self.chat_template()?;
        let total = self.manifest.weights_bytes;
        let mut done = 0;
        progress(done, total);
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            let (tell, told) = mpsc::sync_channel(64);
            for _ in 0..threads.clamp(1, self.manifest.tensors.len()) {
                let (tell, next, stop) = (tell.clone(), &next, &stop);
                scope.spawn(move || {
                    while let Some(tensor) = self.manifest.tensors.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let fine = self.is_fine(tensor, stop, |bytes| tell.send(Ok(bytes)).is_ok());
                        if stop.load(Ordering::Relaxed) || (!fine && tell.send(Err(tensor)).is_err()) {
                            return;
                        }
                    }
                });
            }
            drop(tell);
            for event in told {
                match event {
                    Ok(bytes) => {
                        done += bytes;
                        progress(done, total);
                    }
                    Err(tensor) => {
                        stop.store(true, Ordering::Relaxed);
                        self.check_length()?;
                        let what = format!("the hash of tensor {} differs", tensor.name);
                        return Err(BundleError::Damaged { path: self.dir.join(WEIGHTS), what });
                    }
                }
            }
            Ok(done)
        })
    }

    fn is_fine(&self, entry: &TensorEntry, stop: &AtomicBool, mut tell: impl FnMut(u64) -> bool) -> bool {
        let Ok((_, bytes)) = self.tensor(&entry.name) else { return false };
        let target = usize::try_from(self.manifest.piece_bytes).unwrap_or(usize::MAX);
        let Some(piece) = entry.layout.piece_bytes(entry.rows, entry.cols, target) else { return false };
        let mut pieces = Vec::new();
        for piece in bytes.chunks(piece.max(1)) {
            pieces.push(Sha256::of(piece));
            if stop.load(Ordering::Relaxed) || !tell(piece.len() as u64) {
                return true;
            }
        }
        Sha256::of_pieces(&pieces) == entry.sha256
    }
}
