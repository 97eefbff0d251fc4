//! Byte-pair merging: of all neighbours that may merge, the pair with the lowest rank first, the leftmost of equals.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::Tokens;

/// What merges into what.
#[derive(Debug)]
pub(super) struct Merges {
    /// Of a pair of ids: its rank and the id that it becomes.
    pub(super) rules: HashMap<(u32, u32), (u32, u32)>,
    /// The token of each byte.
    pub(super) of_byte: [u32; 256],
    /// Whether a piece that is a token is that token, whatever the rules make of it.
    pub(super) ignore_merges: bool,
}

/// Memory that is used again from piece to piece.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    symbols: Vec<Symbol>,
    /// Rank, place of the left one, what they become: smallest first.
    queue: BinaryHeap<Reverse<(u32, usize, u32)>>,
}

/// One token of the piece so far, in a list that runs from left to right.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    id: u32,
    left: usize,
    right: usize,
    alive: bool,
}

/// No neighbour.
const NONE: usize = usize::MAX;

impl Merges {
    /// Memory that the rules take, about.
    pub(super) fn memory_bytes(&self) -> usize {
        self.rules.capacity() * (size_of::<[u32; 4]>() + 1)
    }

    /// Appends the ids of `piece`. Takes time about in proportion to its length.
    pub(super) fn encode(&self, piece: &[u8], tokens: &Tokens, scratch: &mut Scratch, ids: &mut Vec<u32>) {
        if self.ignore_merges
            && let Some(id) = tokens.find(piece)
        {
            ids.push(id);
            return;
        }
        let Scratch { symbols, queue } = scratch;
        symbols.clear();
        queue.clear();
        symbols.extend(piece.iter().enumerate().map(|(at, &byte)| Symbol {
            id: self.of_byte[usize::from(byte)],
            left: at.checked_sub(1).unwrap_or(NONE),
            right: if at + 1 < piece.len() { at + 1 } else { NONE },
            alive: true,
        }));
        for at in 1..symbols.len() {
            self.offer(symbols, queue, at - 1);
        }
        while let Some(Reverse((_, at, becomes))) = queue.pop() {
            self.merge(symbols, queue, at, becomes);
        }
        ids.extend(symbols.iter().filter(|symbol| symbol.alive).map(|symbol| symbol.id));
    }

    /// Queues the merge of the symbol at `at` with its right neighbour, if there is one.
    fn offer(&self, symbols: &[Symbol], queue: &mut BinaryHeap<Reverse<(u32, usize, u32)>>, at: usize) {
        if let Some(right) = symbols.get(symbols[at].right)
            && let Some(&(rank, becomes)) = self.rules.get(&(symbols[at].id, right.id))
        {
            queue.push(Reverse((rank, at, becomes)));
        }
    }

    fn merge(
        &self,
        symbols: &mut [Symbol],
        queue: &mut BinaryHeap<Reverse<(u32, usize, u32)>>,
        at: usize,
        becomes: u32,
    ) {
        let left = symbols[at];
        // What was queued may have merged with another neighbour meanwhile.
        let Some(right) = symbols.get(left.right).copied().filter(|_| left.alive) else { return };
        if self.rules.get(&(left.id, right.id)).is_none_or(|&(_, now)| now != becomes) {
            return;
        }
        symbols[left.right].alive = false;
        symbols[at] = Symbol { id: becomes, right: right.right, ..left };
        if let Some(after) = symbols.get_mut(right.right) {
            after.left = at;
        }
        if left.left != NONE {
            self.offer(symbols, queue, left.left);
        }
        self.offer(symbols, queue, at);
    }
}
