//! How a call's work is cut into pieces.

use std::ops::Range;

use super::super::kv::{Head, Span};
use super::super::wide::LANES;
use super::AttentionShape;

/// Rows, tokens times heads of a group, of one block: so many queries and what they gather stay in a second-level cache.
const BLOCK_ROWS: usize = 128;
/// Tokens whose keys and values are stored as one piece.
const KEEP_TOKENS: usize = 64;
/// Fewest keys of a piece that is one of several for the same rows.
const RUN_KEYS_MIN: usize = 256;
/// Pieces per thread that are wanted where keys are cut into runs.
const PIECES_PER_THREAD: usize = 2;
/// Multiplications that are worth a part of their own.
const PART_WORK_MIN: u64 = 64 * 1024;

/// One group of heads of some tokens of a span, and the keys that it looks at.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// Keys and values of the group.
    pub(super) room: Head,
    /// Which group.
    pub(super) head: usize,
    /// First token, counted in the batch.
    pub(super) first: usize,
    /// The same counted in the sequence.
    pub(super) position: usize,
    /// How many.
    pub(super) tokens: usize,
    /// Of the sequence, from a multiple of 16 on.
    pub(super) keys: Range<usize>,
    /// Whether it stores its tokens' keys and values itself.
    pub(super) keeps: bool,
    /// Where among the partial results its own are; none if it is the only one of its rows.
    pub(super) partial: Option<usize>,
}

impl Piece {
    /// Whether both are of the same tokens and group.
    pub(super) fn is_same_rows(&self, other: &Piece) -> bool {
        (self.first, self.head) == (other.first, other.head)
    }
}

/// All of a call.
pub(super) struct Pieces {
    /// What is stored before anybody attends.
    pub(super) keep: Vec<Piece>,
    /// Pieces of the same rows are neighbours.
    pub(super) attend: Vec<Piece>,
    /// Numbers of all partial results.
    pub(super) partials: usize,
    /// Whether there is enough work for more than one thread.
    pub(super) are_shared: bool,
}

impl Pieces {
    /// Of spans that were checked; `room` tells where a slot's group lies.
    pub(super) fn of(
        shape: AttentionShape,
        threads: usize,
        spans: &[Span],
        room: impl Fn(u32, usize) -> Head,
    ) -> Pieces {
        let block = (BLOCK_ROWS / shape.group()).max(1);
        let blocks: usize = spans.iter().map(|span| (span.tokens as usize).div_ceil(block)).sum();
        let are_shared = threads > 1 && work(shape, spans) >= 2 * PART_WORK_MIN;
        let wanted = if are_shared { threads * PIECES_PER_THREAD } else { 1 };
        let runs = wanted.div_ceil((blocks * shape.kv_heads).max(1));
        let mut pieces = Pieces { keep: Vec::new(), attend: Vec::new(), partials: 0, are_shared };
        let mut first = 0;
        for span in spans {
            let (position, tokens) = (span.position as usize, span.tokens as usize);
            for head in 0..shape.kv_heads {
                let whole = Piece {
                    room: room(span.slot, head),
                    head,
                    first,
                    position,
                    tokens,
                    keys: 0..position + tokens,
                    keeps: true,
                    partial: None,
                };
                match tokens <= block {
                    true => pieces.push_runs(shape, whole, runs),
                    false => pieces.push_blocks(whole, block),
                }
            }
            first += tokens;
        }
        pieces
    }

    /// One block, its keys in about so many runs. The last one has all new keys, and stores them.
    fn push_runs(&mut self, shape: AttentionShape, whole: Piece, runs: usize) {
        let run = (whole.position.div_ceil(runs)).max(RUN_KEYS_MIN).next_multiple_of(LANES);
        let starts = (0..whole.position + 1).step_by(run);
        let (count, end) = (starts.len(), whole.keys.end);
        for (i, start) in starts.enumerate() {
            let is_last = i + 1 == count;
            let keys = start..if is_last { end } else { start + run };
            let partial = (count > 1).then_some(self.partials);
            if partial.is_some() {
                let width = shape.head_dim.next_multiple_of(LANES);
                self.partials += whole.tokens * shape.group() * (width + 2);
            }
            self.attend.push(Piece { keys, keeps: is_last, partial, ..whole.clone() });
        }
    }

    /// Several blocks, after their keys have been stored.
    fn push_blocks(&mut self, whole: Piece, block: usize) {
        let cut = |tokens: usize, at: usize| {
            let tokens = tokens.min(whole.tokens - at);
            let position = whole.position + at;
            let keys = 0..position + tokens;
            Piece { first: whole.first + at, position, tokens, keys, keeps: false, ..whole.clone() }
        };
        self.keep.extend((0..whole.tokens).step_by(KEEP_TOKENS).map(|at| cut(KEEP_TOKENS, at)));
        self.attend.extend((0..whole.tokens).step_by(block).map(|at| cut(block, at)));
    }
}

/// Multiplications of all spans.
fn work(shape: AttentionShape, spans: &[Span]) -> u64 {
    let keys =
        |span: &Span| u64::from(span.tokens) * (u64::from(span.position) + u64::from(span.tokens) / 2 + 1);
    spans.iter().map(keys).sum::<u64>() * (2 * shape.heads * shape.head_dim) as u64
}
