//! The tokens of a vocabulary by their bytes, so that those a grammar allows are found without looking at each.

use super::TokenMask;

/// All tokens that stand for bytes, in the order of those.
#[derive(Debug)]
pub struct TokenTrie {
    vocab: usize,
    /// Of each node its byte, depth first.
    bytes: Vec<u8>,
    /// Of each node the first one that is not below it.
    ends: Vec<u32>,
    /// Of each node where its tokens begin.
    starts: Vec<u32>,
    /// Tokens, node by node.
    tokens: Vec<u32>,
    /// Of each token where its bytes are.
    spans: Vec<(u32, u32)>,
    text: Vec<u8>,
}

impl TokenTrie {
    /// Of a vocabulary of `vocab` rows; a token without bytes, or beyond the vocabulary, is never allowed.
    pub fn new<'a>(vocab: usize, tokens: impl IntoIterator<Item = (u32, &'a [u8])>) -> TokenTrie {
        let mut trie = TokenTrie {
            vocab,
            bytes: Vec::new(),
            ends: Vec::new(),
            starts: Vec::new(),
            tokens: Vec::new(),
            spans: vec![(0, 0); vocab],
            text: Vec::new(),
        };
        let mut sorted: Vec<(&[u8], u32)> = tokens
            .into_iter()
            .filter(|(id, bytes)| (*id as usize) < vocab && !bytes.is_empty())
            .map(|(id, bytes)| (bytes, id))
            .collect();
        sorted.sort_unstable();
        for (bytes, id) in &sorted {
            trie.spans[*id as usize] = (trie.text.len() as u32, bytes.len() as u32);
            trie.text.extend_from_slice(bytes);
        }
        // Nodes from the root to the token before.
        let mut path: Vec<u32> = Vec::new();
        let mut before: &[u8] = &[];
        for (bytes, id) in sorted {
            let common = before.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            trie.close(&mut path, common);
            for &byte in &bytes[common..] {
                path.push(trie.bytes.len() as u32);
                trie.bytes.push(byte);
                trie.ends.push(0);
                trie.starts.push(trie.tokens.len() as u32);
            }
            trie.tokens.push(id);
            before = bytes;
        }
        trie.close(&mut path, 0);
        [&mut trie.ends, &mut trie.starts, &mut trie.tokens].into_iter().for_each(Vec::shrink_to_fit);
        [&mut trie.bytes, &mut trie.text].into_iter().for_each(Vec::shrink_to_fit);
        trie
    }

    /// Bytes that one of `vocab` rows takes at most, if all tokens together have `text_bytes`.
    pub(in crate::glm) fn bytes_max(vocab: usize, text_bytes: usize) -> usize {
        let (node, row) =
            (size_of::<u8>() + 2 * size_of::<u32>(), size_of::<u32>() + size_of::<(u32, u32)>());
        text_bytes.saturating_mul(node + 1).saturating_add(vocab.saturating_mul(row))
    }

    fn close(&mut self, path: &mut Vec<u32>, depth: usize) {
        let end = self.bytes.len() as u32;
        for node in path.drain(depth..) {
            self.ends[node as usize] = end;
        }
    }

    /// Rows of the vocabulary.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// What a token stands for; nothing for one that is not in it.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        let (start, len) = self.spans.get(id as usize).copied().unwrap_or((0, 0));
        &self.text[start as usize..(start + len) as usize]
    }

    /// Marks every token whose bytes lead from `start` to a state that is not `dead`.
    pub(super) fn mark(
        &self,
        start: u32,
        dead: u32,
        mut step: impl FnMut(u32, u8) -> u32,
        mask: &mut TokenMask,
    ) {
        // States along the way to the node before, with where what is below them ends.
        let mut way: Vec<(u32, u32)> = vec![(start, self.bytes.len() as u32)];
        let mut node = 0;
        while node < self.bytes.len() {
            while way.last().is_some_and(|&(_, end)| end as usize <= node) {
                way.pop();
            }
            let Some(&(state, _)) = way.last() else { return };
            let end = self.ends[node];
            let next = step(state, self.bytes[node]);
            if next == dead {
                node = end as usize;
                continue;
            }
            for &token in self.node_tokens(node) {
                mask.set(token, true);
            }
            way.push((next, end));
            node += 1;
        }
    }

    fn node_tokens(&self, node: usize) -> &[u32] {
        let start = self.starts[node] as usize;
        let next = self.starts.get(node + 1).map_or(self.tokens.len(), |&next| next as usize);
        &self.tokens[start..next]
    }
}
