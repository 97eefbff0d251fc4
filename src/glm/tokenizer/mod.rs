//! Text to token ids and back: the byte-level BPE that every dense GLM has, read from its `tokenizer.json`.
//!
//! A text is first parted at the tokens that stand for themselves (`added`), the rest by the split pattern (`split`), and the
//! bytes of each piece are merged pair by pair, the pair with the lowest rank first (`merge`). Every byte is a token, so that
//! every text has ids and every list of ids has bytes; a [`Decoder`] lets only whole characters out.
//!
//! Whoever writes a text must not be able to write `<|user|>` as what it means: [`Tokenizer::encode`] takes everything for text,
//! [`Tokenizer::encode_with_special`] is for the text of a template, where [`GUARD`] keeps what users wrote apart.

mod added;
mod decoder;
mod file;
mod merge;
mod split;
#[cfg(test)]
mod tests;

use added::{Added, Part};
use merge::{Merges, Scratch};
use split::Split;

pub use decoder::Decoder;

/// A character that no text means (Unicode keeps it free for inside use): [`Tokenizer::encode_with_special`] sees no special
/// token where it stands inside, and drops it.
pub const GUARD: char = '\u{fdd0}';

/// Texts and ids of one model.
#[derive(Debug)]
pub struct Tokenizer {
    tokens: Tokens,
    added: Added,
    steps: Vec<Step>,
    merges: Merges,
    /// What the file's own post-processor puts before a text.
    prefix: Vec<u32>,
}

/// A `tokenizer.json` that can't be used; the model's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTokenizer {
    /// It is no JSON of that form.
    #[error("tokenizer.json can't be read: {0}; take the model's own file and import it again")]
    Json(String),
    /// It is of another kind.
    #[error("tokenizer.json asks for {0}, which this engine does not have; GLM models have byte-level BPE")]
    Unsupported(String),
    /// It contradicts itself.
    #[error("tokenizer.json is damaged: {0}; take the model's own file and import it again")]
    Damaged(String),
}

/// One step of parting a text before its bytes are merged.
#[derive(Debug)]
enum Step {
    /// A blank in front, unless there is one.
    Blank,
    /// By a pattern.
    Split(Box<Split>),
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. Takes a few tenths of a second for a large vocabulary; memory is bounded by the file's size.
    pub fn from_json(bytes: &[u8]) -> Result<Tokenizer, BadTokenizer> {
        file::read(bytes)
    }

    /// The ids of `text`, which is all text: `<|user|>` in it is eight characters.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.encode_parts(text, false)
    }

    /// The ids of `text`; special tokens in it are what they mean, except around a [`GUARD`].
    pub fn encode_with_special(&self, text: &str) -> Vec<u32> {
        self.encode_parts(text, true)
    }

    /// The ids of a whole prompt: as [`Tokenizer::encode_with_special`], with the post-processor's prefix (`[gMASK]<sop>`) in
    /// front unless the text brings it itself.
    pub fn encode_prompt(&self, text: &str) -> Vec<u32> {
        let ids = self.encode_with_special(text);
        if ids.starts_with(&self.prefix) {
            return ids;
        }
        [self.prefix.as_slice(), &ids].concat()
    }

    /// `text` so that [`Tokenizer::encode_with_special`] takes all of it for text, wherever in a template it comes to stand.
    pub fn guarded(&self, text: &str) -> String {
        self.added.guarded(text, GUARD)
    }

    /// What the post-processor puts before a text.
    pub fn prefix(&self) -> &[u32] {
        &self.prefix
    }

    /// One more than the highest id. A model's vocabulary may be larger: its last rows are padding.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Bytes of all tokens together.
    pub fn text_bytes(&self) -> usize {
        self.tokens.blob.len()
    }

    /// Memory that it takes, about: tables of tokens and merges, and the states of its patterns, when a thread has met as many as it may.
    pub fn memory_bytes(&self) -> usize {
        let Tokens { blob, ends, sorted } = &self.tokens;
        let patterns = self.steps.iter().map(|step| match step {
            Step::Blank => 0,
            Step::Split(split) => split.memory_bytes(),
        });
        blob.capacity()
            + size_of::<u32>() * (ends.capacity() + sorted.capacity())
            + self.merges.memory_bytes()
            + patterns.sum::<usize>()
    }

    /// Never true: every byte is a token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that a token stands for; none for an id without a token.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.tokens.bytes(id)
    }

    /// Whether a token is a mark such as `<|user|>` and no text.
    pub fn is_special(&self, id: u32) -> bool {
        self.added.is_special(id)
    }

    /// The id of the mark written `text`, such as `<|assistant|>`.
    pub fn special(&self, text: &str) -> Option<u32> {
        self.added.special(text)
    }

    /// The marks with their texts.
    pub fn specials(&self) -> impl Iterator<Item = (u32, &str)> {
        self.added.specials()
    }

    /// The text of `ids`, marks left out; bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut decoder = Decoder::default();
        let mut text = String::new();
        for &id in ids.iter().filter(|&&id| !self.is_special(id)) {
            text.push_str(decoder.push(self.token_bytes(id)));
        }
        text.push_str(decoder.finish());
        text
    }

    fn encode_parts(&self, text: &str, special: bool) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut scratch = Scratch::default();
        self.added.part(text, special, &mut |part| match part {
            Part::Token(id) => ids.push(id),
            Part::Text(text) if special && text.contains(GUARD) => {
                self.encode_text(&text.replace(GUARD, ""), &mut scratch, &mut ids);
            }
            Part::Text(text) => self.encode_text(text, &mut scratch, &mut ids),
        });
        ids
    }

    fn encode_text(&self, text: &str, scratch: &mut Scratch, ids: &mut Vec<u32>) {
        self.run_steps(&self.steps, text, &mut |piece| {
            self.merges.encode(piece.as_bytes(), &self.tokens, scratch, ids);
        });
    }

    fn run_steps(&self, steps: &[Step], text: &str, sink: &mut dyn FnMut(&str)) {
        match steps.split_first() {
            None => sink(text),
            Some((Step::Blank, rest)) if text.starts_with(' ') => self.run_steps(rest, text, sink),
            Some((Step::Blank, rest)) => self.run_steps(rest, &format!(" {text}"), sink),
            Some((Step::Split(split), rest)) => {
                split.pieces(text, &mut |piece| self.run_steps(rest, piece, sink))
            }
        }
    }
}

/// The bytes of every token, one after the other.
#[derive(Debug, Default)]
struct Tokens {
    blob: Vec<u8>,
    /// Where a token's bytes end, by id.
    ends: Vec<u32>,
    /// Ids of the tokens that text is made of, by their bytes.
    sorted: Vec<u32>,
}

impl Tokens {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let from = match id {
            0 => Some(&0),
            _ => self.ends.get(id - 1),
        };
        match (from, self.ends.get(id)) {
            (Some(&from), Some(&to)) => &self.blob[from as usize..to as usize],
            _ => &[],
        }
    }

    /// The token of text that is exactly these bytes.
    fn find(&self, bytes: &[u8]) -> Option<u32> {
        let at = self.sorted.binary_search_by(|&id| self.bytes(id).cmp(bytes)).ok()?;
        Some(self.sorted[at])
    }
}
