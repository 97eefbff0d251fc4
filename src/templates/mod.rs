//! Log lines into templates, while they come: Drain, and how often each template came.
//!
//! [`Miner`] is Drain (He, Zhu, Zheng, Lyu: "Drain: an online log parsing approach with fixed depth tree", ICWS 2017). A
//! line's masked tokens lead down a tree of fixed depth (how many tokens, then the first two that are words) to a leaf with
//! a few templates. The most similar one takes the line if more than half of the words agree, and where they differ it has a
//! [`WILD`] from now on; else the line begins a template of its own.
//!
//! What differs from the paper: words are looked for behind masked tokens, so that a line's own date and pid need no
//! configured header, and templates are bounded: beyond [`limits::TEMPLATES_MAX`] the one that was not seen for longest goes.
//! [`Tally`] counts them per window. Both are pure; memory is bounded whatever comes.

mod tally;
mod token;

pub use tally::{Counts, Memory, Tally};
pub use token::WILD;

use std::collections::{HashMap, HashSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::limits;
use token::{Tokens, WILD_HASH, hash};

/// Names a template for good: a hash of the first line that it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TemplateId(pub u32);

/// What a line turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mined {
    /// Its template.
    pub id: TemplateId,
    /// Nothing like it was seen before.
    pub fresh: bool,
}

/// A template as it is kept over a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Its name.
    pub id: TemplateId,
    /// Its text, [`WILD`] where lines differ.
    pub text: String,
}

/// The templates of one stream of lines.
#[derive(Debug, Default)]
pub struct Miner {
    templates: Vec<Template>,
    /// Places in `templates` by the way to their leaf.
    leaves: HashMap<u64, Vec<usize>>,
    by_id: HashMap<TemplateId, usize>,
    /// Templates that had to go, the oldest first: what comes back is not news.
    gone: VecDeque<TemplateId>,
    gone_ids: HashSet<TemplateId>,
    lines: u64,
    tokens: Tokens,
    changes: u64,
}

#[derive(Debug)]
struct Template {
    id: TemplateId,
    leaf: u64,
    hashes: Vec<u64>,
    texts: Vec<Box<str>>,
    /// The line that it last took.
    used: u64,
}

impl Miner {
    /// Takes a line; none if there is nothing in it.
    pub fn take(&mut self, line: &str) -> Option<Mined> {
        let mut tokens = std::mem::take(&mut self.tokens);
        tokens.read(line);
        let mined = (!tokens.hashes.is_empty()).then(|| self.place(&tokens));
        self.tokens = tokens;
        mined
    }

    /// The text of a template; none if it had to go.
    pub fn text(&self, id: TemplateId) -> Option<String> {
        let template = &self.templates[*self.by_id.get(&id)?];
        Some(joined(template.texts.iter().map(AsRef::as_ref)))
    }

    /// Whether a template is still there.
    pub fn knows(&self, id: TemplateId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Templates now.
    pub fn len(&self) -> usize {
        self.templates.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.templates.is_empty()
    }

    /// Grows with every change of what [`Miner::saved`] gives.
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// All templates, to be kept over a restart.
    pub fn saved(&self) -> Vec<Saved> {
        let saved = |t: &Template| Saved { id: t.id, text: joined(t.texts.iter().map(AsRef::as_ref)) };
        self.templates.iter().map(saved).collect()
    }

    /// With the templates of an earlier run; those beyond the bound, empty ones and those of a name that is taken are
    /// left out.
    pub fn with_saved(saved: &[Saved]) -> Self {
        let mut miner = Self::default();
        for one in saved.iter().take(limits::TEMPLATES_MAX) {
            let mut tokens = Tokens::default();
            tokens.read(&one.text);
            if !tokens.hashes.is_empty() && !miner.by_id.contains_key(&one.id) {
                miner.add(one.id, leaf_of(&tokens), &tokens);
            }
        }
        miner
    }

    fn place(&mut self, tokens: &Tokens) -> Mined {
        self.lines += 1;
        let leaf = leaf_of(tokens);
        if let Some(at) = self.closest(leaf, &tokens.hashes) {
            let template = &mut self.templates[at];
            template.used = self.lines;
            self.changes += u64::from(template.widen(&tokens.hashes));
            return Mined { id: template.id, fresh: false };
        }
        let id = self.free_id(&tokens.hashes);
        let fresh = !self.gone_ids.contains(&id);
        if self.templates.len() >= limits::TEMPLATES_MAX {
            self.drop_stalest();
        }
        self.add(id, leaf, tokens);
        Mined { id, fresh }
    }

    /// The most similar template of a leaf, if one is similar enough; of equal ones the one with more wild places.
    fn closest(&self, leaf: u64, hashes: &[u64]) -> Option<usize> {
        let among = self.leaves.get(&leaf)?.iter();
        let similar = among.filter_map(|&at| Some((self.templates[at].similarity(hashes)?, at)));
        similar.max().map(|(_, at)| at)
    }

    /// The hash of the line, or the next name that no other template has.
    fn free_id(&self, hashes: &[u64]) -> TemplateId {
        let bytes: Vec<u8> = hashes.iter().flat_map(|h| h.to_le_bytes()).collect();
        let mut id = TemplateId(hash(&bytes) as u32);
        while self.by_id.contains_key(&id) {
            id = TemplateId(id.0.wrapping_add(1));
        }
        id
    }

    fn add(&mut self, id: TemplateId, leaf: u64, tokens: &Tokens) {
        let at = self.templates.len();
        let texts = tokens.texts().map(Box::from).collect();
        self.templates.push(Template { id, leaf, hashes: tokens.hashes.clone(), texts, used: self.lines });
        self.leaves.entry(leaf).or_default().push(at);
        self.by_id.insert(id, at);
        self.changes += 1;
    }

    fn drop_stalest(&mut self) {
        let Some(at) = (0..self.templates.len()).min_by_key(|&at| self.templates[at].used) else { return };
        let gone = self.templates.swap_remove(at);
        self.by_id.remove(&gone.id);
        self.leave(gone.leaf, at, None);
        // The last one has taken the place that became free.
        if let Some(moved) = self.templates.get(at) {
            let (id, leaf) = (moved.id, moved.leaf);
            self.by_id.insert(id, at);
            self.leave(leaf, self.templates.len(), Some(at));
        }
        self.remember(gone.id);
    }

    /// Takes the place `at` out of a leaf, or puts another one in its stead.
    fn leave(&mut self, leaf: u64, at: usize, instead: Option<usize>) {
        let Some(places) = self.leaves.get_mut(&leaf) else { return };
        places.retain(|place| *place != at);
        places.extend(instead);
        if places.is_empty() {
            self.leaves.remove(&leaf);
        }
    }

    fn remember(&mut self, id: TemplateId) {
        if self.gone_ids.insert(id) {
            self.gone.push_back(id);
        }
        if self.gone.len() > limits::TEMPLATES_GONE_MAX
            && let Some(oldest) = self.gone.pop_front()
        {
            self.gone_ids.remove(&oldest);
        }
    }
}

impl Template {
    /// How many words agree, and how many places are wild here; none unless more than half of the words do. What is
    /// masked on both sides says nothing: a date and a pid would make any two lines alike. Both have the same number of
    /// tokens, which is part of the way to the leaf.
    fn similarity(&self, hashes: &[u64]) -> Option<(usize, usize)> {
        let (mut words, mut agreeing, mut wild) = (0, 0, 0);
        for (here, there) in self.hashes.iter().zip(hashes) {
            let is_wild = *here == WILD_HASH;
            wild += usize::from(is_wild);
            words += usize::from(!is_wild || *there != WILD_HASH);
            agreeing += usize::from(!is_wild && here == there);
        }
        (2 * agreeing > words || words == 0).then_some((agreeing, wild))
    }

    /// Makes wild what differs; whether anything did.
    fn widen(&mut self, hashes: &[u64]) -> bool {
        let mut changed = false;
        for (at, hash) in hashes.iter().enumerate() {
            if self.hashes[at] != *hash && self.hashes[at] != WILD_HASH {
                self.hashes[at] = WILD_HASH;
                self.texts[at] = WILD.into();
                changed = true;
            }
        }
        changed
    }
}

/// The way through the tree: how many tokens, and the first words that are not the value of a key.
fn leaf_of(tokens: &Tokens) -> u64 {
    let behind = std::iter::once("").chain(tokens.texts());
    let words =
        tokens.hashes.iter().zip(behind).filter(|(h, before)| **h != WILD_HASH && !before.ends_with('='));
    let step = |way: u64, word: u64| (way ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
    words.take(LEAF_WORDS).fold(tokens.hashes.len() as u64, |way, (word, _)| step(way, *word))
}

/// Words on the way: depth 4 in the paper's terms.
const LEAF_WORDS: usize = 2;

/// Tokens as a text, with blanks between them but for those that were parted behind a `=`.
fn joined<'a>(tokens: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::new();
    let mut glue = true;
    for token in tokens {
        if !glue || token.starts_with('=') && !text.is_empty() {
            text.push(' ');
        }
        text.push_str(token);
        glue = token.len() > 1 && token.ends_with('=');
    }
    text
}

#[cfg(test)]
#[path = "../../benches/support/logs.rs"]
mod sample;
#[cfg(test)]
mod tests;
