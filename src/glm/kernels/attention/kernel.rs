//! The inner loops, generic over instruction set ([`Wide`]) and over how numbers are kept ([`Number`]).
//!
//! Rows are queries: the heads of a group for one token, then those for the next. All of a task's rows meet the same keys and
//! values, a *step* of keys at a time, and a few rows of them at once:
//!
//! 1. [`dots`]: scores of a few rows and a tile of 16 keys, element by element; a score is never added up across a register.
//! 2. [`soften`]: scores become weights `2^(score - largest so far)`; queries were scaled by `log2 e` besides.
//! 3. [`weigh`]: what the row has gathered so far is scaled to the new largest score, weights times values are added.

use super::super::kv::Head;
use super::super::rope::RopeTable;
use super::super::wide::{LANES, Wide};
use super::scratch::Scratch;

/// Keys of a step that are read as they are kept.
const STEP_AS_KEPT: usize = 256;
/// Keys of a step that are widened to f32 first, for many rows: with their values they stay in the first two caches.
const STEP_WIDENED: usize = 64;
/// From so many rows on, keys and values are widened first.
const WIDEN_ROWS: usize = 24;
/// Most rows at once.
pub(super) const ROWS_AT_ONCE: usize = 8;
/// Most keys of a step.
pub(super) const STEP_MAX: usize = STEP_AS_KEPT;
/// Keys whose widened form is kept.
pub(super) const STEP_WIDENED_MAX: usize = STEP_WIDENED;
/// Tokens whose values are fetched ahead of those in work.
const TOKENS_AHEAD: usize = 16;
/// Below every score that is a number, and a number itself: no difference of two is infinite.
const LOWEST: f32 = f32::MIN / 4.0;
/// 2^-100: what weighs no more beside the largest weight, which is 1, weighs nothing.
const LEAST: f32 = f32::from_bits((127 - 100) << 23);

/// How a number is kept.
pub(super) trait Number {
    /// Whether every token has a scale per head.
    const SCALED: bool;
    /// Sixteen of them.
    ///
    /// # Safety
    /// As of [`Wide`]; `at` counts numbers.
    unsafe fn load<W: Wide>(from: *const u8, at: usize) -> W;
    /// Keeps sixteen. Those of scaled formats are at most 127.
    ///
    /// # Safety
    /// As of [`Wide`]; `at` counts numbers.
    unsafe fn store<W: Wide>(x: W, to: *mut u8, at: usize);
    /// Bytes of one.
    const BYTES: usize;
}

/// 4 bytes.
pub(super) struct F32;
/// 2 bytes.
pub(super) struct F16;
/// 1 byte, scaled.
pub(super) struct Int8;

impl Number for F32 {
    const SCALED: bool = false;
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load<W: Wide>(from: *const u8, at: usize) -> W {
        // SAFETY: the caller's promise.
        unsafe { W::load(from.cast::<f32>().add(at)) }
    }

    #[inline(always)]
    unsafe fn store<W: Wide>(x: W, to: *mut u8, at: usize) {
        // SAFETY: the caller's promise.
        unsafe { x.store(to.cast::<f32>().add(at)) }
    }
}

impl Number for F16 {
    const SCALED: bool = false;
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<W: Wide>(from: *const u8, at: usize) -> W {
        // SAFETY: the caller's promise.
        unsafe { W::load_f16(from.cast::<u16>().add(at)) }
    }

    #[inline(always)]
    unsafe fn store<W: Wide>(x: W, to: *mut u8, at: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let largest = W::splat(65_504.0);
            x.min(largest).max(W::splat(-65_504.0)).store_f16(to.cast::<u16>().add(at));
        }
    }
}

impl Number for Int8 {
    const SCALED: bool = true;
    const BYTES: usize = 1;

    #[inline(always)]
    unsafe fn load<W: Wide>(from: *const u8, at: usize) -> W {
        // SAFETY: the caller's promise.
        unsafe { W::load_i8(from.cast::<i8>().add(at)) }
    }

    #[inline(always)]
    unsafe fn store<W: Wide>(x: W, to: *mut u8, at: usize) {
        // SAFETY: the caller's promise.
        unsafe { x.store_i8(to.cast::<i8>().add(at)) }
    }
}

/// A token's key and value for one head.
#[derive(Clone, Copy)]
pub(super) struct KeyValue<'a> {
    /// Its position.
    pub(super) token: usize,
    /// `head_dim` numbers.
    pub(super) key: &'a [f32],
    /// As many.
    pub(super) value: &'a [f32],
}

/// Turns a key and keeps it with its value.
///
/// # Safety
/// The room is of the format and has a place for the token, which nobody else uses meanwhile.
#[inline(always)]
pub(super) unsafe fn keep<W: Wide, N: Number>(
    room: Head,
    rope: &RopeTable,
    kv: KeyValue<'_>,
    scratch: &mut Scratch,
) {
    let width = kv.key.len().next_multiple_of(LANES);
    let row = scratch.row(width);
    let (tile, lane) = (kv.token / LANES * LANES * width, kv.token % LANES);
    // SAFETY: the row has `width` numbers; places are those of the token (see `kv::layout`).
    unsafe {
        copy_turned::<W>(kv.key, rope.row(kv.token), 1.0, row);
        let scale = scale_of::<W, N>(row);
        if N::SCALED {
            *room.key_scales.add(kv.token) = scale.0;
        }
        for at in (0..width).step_by(LANES) {
            // Kept side by side first, then each where its element's numbers are.
            let mut side_by_side = [0_u8; LANES * 4];
            N::store(W::load(row.as_ptr().add(at)).mul(W::splat(scale.1)), side_by_side.as_mut_ptr(), 0);
            for i in 0..LANES {
                let to = room.keys.add((tile + (at + i) * LANES + lane) * N::BYTES);
                std::ptr::copy_nonoverlapping(side_by_side.as_ptr().add(i * N::BYTES), to, N::BYTES);
            }
        }
        row[..kv.value.len()].copy_from_slice(kv.value);
        let scale = scale_of::<W, N>(row);
        if N::SCALED {
            *room.value_scales.add(kv.token) = scale.0;
        }
        for at in (0..width).step_by(LANES) {
            let x = W::load(row.as_ptr().add(at)).mul(W::splat(scale.1));
            N::store(x, room.values, kv.token * width + at);
        }
    }
}

/// The scale of a row, and what its numbers are multiplied by to be kept.
#[inline(always)]
unsafe fn scale_of<W: Wide, N: Number>(row: &[f32]) -> (f32, f32) {
    if !N::SCALED {
        return (1.0, 1.0);
    }
    // SAFETY: rows are whole vectors.
    unsafe {
        let mut largest = W::splat(f32::MIN_POSITIVE * 127.0);
        for at in (0..row.len()).step_by(LANES) {
            let x = W::load(row.as_ptr().add(at));
            largest = largest.max(x).max(W::splat(0.0).sub(x));
        }
        let largest = largest.largest();
        (largest / 127.0, 127.0 / largest)
    }
}

/// Copies a head, turned and scaled; what `to` has beyond it becomes zeros.
#[inline(always)]
unsafe fn copy_turned<W: Wide>(from: &[f32], cos_sin: &[f32], scale: f32, to: &mut [f32]) {
    to[..from.len()].copy_from_slice(from);
    to[from.len()..].fill(0.0);
    let whole = cos_sin.len() / LANES * LANES;
    // SAFETY: `whole` is within both, and `to` is whole vectors.
    unsafe {
        for at in (0..whole).step_by(LANES) {
            let x = W::load(to.as_ptr().add(at));
            x.turn(W::load(cos_sin.as_ptr().add(at))).store(to.as_mut_ptr().add(at));
        }
        super::super::rope::turn(&mut to[whole..], &cos_sin[whole..]);
        let scale = W::splat(scale);
        for at in (0..to.len()).step_by(LANES) {
            W::load(to.as_ptr().add(at)).mul(scale).store(to.as_mut_ptr().add(at));
        }
    }
}

/// Queries of a group of heads that share keys and values, and the keys that they look at.
#[derive(Clone)]
pub(super) struct Task<'a> {
    /// Where keys and values lie.
    pub(super) room: Head,
    /// Turns queries.
    pub(super) rope: &'a RopeTable,
    /// The first token's queries of the group; those of the next are `stride` further on.
    pub(super) queries: &'a [f32],
    /// See `queries`.
    pub(super) stride: usize,
    /// Elements of a head.
    pub(super) head_dim: usize,
    /// Heads of the group.
    pub(super) group: usize,
    /// Tokens.
    pub(super) tokens: usize,
    /// Position of the first of them.
    pub(super) position: usize,
    /// The keys, from a multiple of 16 on. A token sees those up to its own.
    pub(super) keys: std::ops::Range<usize>,
}

/// Leaves in `scratch`, for every row, the weighted sum of values, the sum of weights and the largest score.
///
/// # Safety
/// The room is of the format, holds tokens up to the last key, and nobody writes to them meanwhile.
#[inline(always)]
pub(super) unsafe fn attend<W: Wide, N: Number>(task: &Task<'_>, scratch: &mut Scratch) {
    let (rows, width) = (task.tokens * task.group, task.head_dim.next_multiple_of(LANES));
    scratch.begin(rows, width, LOWEST);
    let scale = std::f32::consts::LOG2_E / (task.head_dim as f32).sqrt();
    for token in 0..task.tokens {
        let turns = task.rope.row(task.position + token);
        for head in 0..task.group {
            let from = &task.queries[token * task.stride + head * task.head_dim..][..task.head_dim];
            let to = &mut scratch.queries[(token * task.group + head) * width..][..width];
            // SAFETY: passed on.
            unsafe { copy_turned::<W>(from, turns, scale, to) };
        }
    }
    let widens = N::BYTES < 4 && (W::IN_MEMORY || rows >= WIDEN_ROWS);
    let step = if widens { STEP_WIDENED } else { STEP_AS_KEPT };
    for start in task.keys.clone().step_by(step) {
        let end = task.keys.end.min(start + step);
        let step = Step { start, end, width };
        // SAFETY: places of a step are within the room (see `kv::layout`), and of the widened one within the scratch.
        unsafe {
            let kept = Kept {
                keys: task.room.keys.add(start * width * N::BYTES),
                values: task.room.values.add(start * width * N::BYTES),
                key_scales: task.room.key_scales.add(if N::SCALED { start } else { 0 }),
                value_scales: task.room.value_scales.add(if N::SCALED { start } else { 0 }),
            };
            if widens {
                let kept = widen::<W, N>(kept, step, scratch);
                walk::<W, F32>(task, kept, step, scratch);
            } else {
                walk::<W, N>(task, kept, step, scratch);
            }
        }
    }
}

/// Some keys.
#[derive(Clone, Copy)]
struct Step {
    start: usize,
    end: usize,
    /// Elements of a head, rounded up.
    width: usize,
}

/// Where the keys and values of a step begin.
#[derive(Clone, Copy)]
struct Kept {
    keys: *const u8,
    values: *const u8,
    key_scales: *const f32,
    value_scales: *const f32,
}

/// Keys and values in f32, their scales worked in.
#[inline(always)]
unsafe fn widen<W: Wide, N: Number>(kept: Kept, step: Step, scratch: &mut Scratch) -> Kept {
    let count = step.end - step.start;
    let (keys, values) = scratch.widened(step.width);
    // SAFETY: the scratch has room for a step, keys in whole tiles.
    unsafe {
        for tile in 0..count.div_ceil(LANES) {
            let mut scales = W::splat(1.0);
            if N::SCALED {
                scales = W::load(kept.key_scales.add(tile * LANES));
            }
            for at in (tile * step.width * LANES..(tile + 1) * step.width * LANES).step_by(LANES) {
                let x: W = N::load(kept.keys, at);
                let x = if N::SCALED { x.mul(scales) } else { x };
                x.store(keys.add(at));
            }
        }
        for token in 0..count {
            let scale = if N::SCALED { *kept.value_scales.add(token) } else { 1.0 };
            for at in (token * step.width..(token + 1) * step.width).step_by(LANES) {
                let x: W = N::load(kept.values, at);
                let x = if N::SCALED { x.mul(W::splat(scale)) } else { x };
                x.store(values.add(at));
            }
        }
    }
    Kept { keys: keys.cast(), values: values.cast(), ..kept }
}

/// All rows that see a step's keys, a few at a time.
#[inline(always)]
unsafe fn walk<W: Wide, N: Number>(task: &Task<'_>, kept: Kept, step: Step, scratch: &mut Scratch) {
    let rows = task.tokens * task.group;
    // Keys of the step that a row sees: none for tokens before it.
    let sees = |row: usize| (task.position + row / task.group + 1).min(step.end).saturating_sub(step.start);
    let mut row = step.start.saturating_sub(task.position) * task.group;
    while row < rows {
        let count = rows_at_once::<W>(rows - row);
        let keys = sees(row + count - 1);
        // SAFETY: passed on; `count` rows are left.
        unsafe {
            dots::<W, N>(
                count,
                scratch.query(row, step.width),
                kept.keys,
                step.width,
                keys.div_ceil(LANES),
                scratch.scores(),
            );
            for i in 0..count {
                soften::<W, N>(scratch, row + i, i, sees(row + i), keys, kept);
            }
            weigh::<W, N>(count, scratch, row, kept.values, step.width, keys);
        }
        row += count;
    }
}

/// How many rows of those that are left are worked on at once.
#[inline(always)]
fn rows_at_once<W: Wide>(left: usize) -> usize {
    match left {
        0..=4 => left,
        5 => 3,
        6 | 7 if W::MANY => 6,
        _ if W::MANY => 8,
        _ => 4,
    }
}

/// Scores of a few rows and whole tiles of keys.
#[inline(always)]
unsafe fn dots<W: Wide, N: Number>(
    rows: usize,
    q: *const f32,
    keys: *const u8,
    width: usize,
    tiles: usize,
    scores: *mut f32,
) {
    // SAFETY: passed on.
    unsafe {
        match (rows, W::MANY) {
            (8, true) => dots_of::<W, N, 8, 2, 1>(q, keys, width, tiles, scores),
            (6, true) => dots_of::<W, N, 6, 2, 1>(q, keys, width, tiles, scores),
            (4, true) => dots_of::<W, N, 4, 4, 2>(q, keys, width, tiles, scores),
            (4, false) => dots_of::<W, N, 4, 1, 1>(q, keys, width, tiles, scores),
            (3, true) => dots_of::<W, N, 3, 4, 2>(q, keys, width, tiles, scores),
            (3, false) => dots_of::<W, N, 3, 1, 1>(q, keys, width, tiles, scores),
            (2, true) => dots_of::<W, N, 2, 4, 4>(q, keys, width, tiles, scores),
            (2, false) => dots_of::<W, N, 2, 2, 2>(q, keys, width, tiles, scores),
            (_, true) => dots_of::<W, N, 1, 8, 4>(q, keys, width, tiles, scores),
            (_, false) => dots_of::<W, N, 1, 4, 4>(q, keys, width, tiles, scores),
        }
    }
}

/// Asks for memory that few rows will soon read once: a processor by itself does not look beyond a page, which a tile of keys
/// often is. What many rows read is in its caches.
#[inline(always)]
unsafe fn ahead<W: Wide, N: Number, const R: usize>(from: *const u8, at: usize) {
    if R < ROWS_AT_ONCE && N::BYTES < 4 {
        // SAFETY: passed on.
        unsafe { W::prefetch(from.wrapping_add(at * N::BYTES)) }
    }
}

/// `R` rows, `T` tiles at a time, then one at a time with every sum in `U` parts, as a sum of its own waits for itself.
#[inline(always)]
unsafe fn dots_of<W: Wide, N: Number, const R: usize, const T: usize, const U: usize>(
    q: *const f32,
    keys: *const u8,
    width: usize,
    tiles: usize,
    scores: *mut f32,
) {
    let mut tile = 0;
    // SAFETY: passed on; that many tiles are left.
    unsafe {
        while tile + T <= tiles {
            dots_block::<W, N, R, T, 1>(q, keys, tile, width, scores);
            tile += T;
        }
        while tile < tiles {
            dots_block::<W, N, R, 1, U>(q, keys, tile, width, scores);
            tile += 1;
        }
    }
}

#[inline(always)]
unsafe fn dots_block<W: Wide, N: Number, const R: usize, const T: usize, const U: usize>(
    q: *const f32,
    keys: *const u8,
    tile: usize,
    width: usize,
    scores: *mut f32,
) {
    // SAFETY: passed on.
    unsafe {
        if W::IN_MEMORY && N::BYTES == 4 {
            for (r, t) in (0..R).flat_map(|r| (0..T).map(move |t| (r, tile + t))) {
                let keys = keys.cast::<f32>().add(t * width * LANES);
                let sum = W::splat(0.0).add_weighted(q.add(r * width), width, keys, LANES);
                sum.store(scores.add(r * STEP_MAX + t * LANES));
            }
            return;
        }
        let mut sums = [[[W::splat(0.0); U]; T]; R];
        for element in (0..width).step_by(U) {
            for u in 0..U {
                let mut k = [W::splat(0.0); T];
                for (t, k) in k.iter_mut().enumerate() {
                    let at = ((tile + t) * width + element + u) * LANES;
                    *k = N::load(keys, at);
                    ahead::<W, N, R>(keys, at + T * width * LANES);
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let q = W::splat(*q.add(r * width + element + u));
                    for (sums, k) in sums.iter_mut().zip(k) {
                        sums[u] = k.mul_add(q, sums[u]);
                    }
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (t, sums) in sums.into_iter().enumerate() {
                let mut sum = sums[0];
                for part in sums.into_iter().skip(1) {
                    sum = sum.add(part);
                }
                sum.store(scores.add(r * STEP_MAX + (tile + t) * LANES));
            }
        }
    }
}

/// Weights of one row from the scores of the `sees` keys that it sees; zeros for the others of the `keys` that its
/// neighbours see.
#[inline(always)]
unsafe fn soften<W: Wide, N: Number>(
    scratch: &mut Scratch,
    row: usize,
    place: usize,
    sees: usize,
    keys: usize,
    kept: Kept,
) {
    // SAFETY: passed on; scores and scales are whole vectors.
    unsafe {
        let scores = scratch.scores().add(place * STEP_MAX);
        let (whole, rest) = (sees / LANES * LANES, sees % LANES);
        let lowest = W::splat(LOWEST);
        let mut largest = lowest;
        for at in (0..sees).step_by(LANES) {
            let mut x = W::load(scores.add(at));
            if N::SCALED {
                x = x.mul(W::load(kept.key_scales.add(at)));
                x.store(scores.add(at));
            }
            largest = largest.max(if at < whole { x } else { x.first(rest, lowest) });
        }
        let before = scratch.largest[row];
        let now = before.max(largest.largest());
        scratch.largest[row] = now;
        let factor = weight(W::splat(before - now));
        factor.store(scratch.factors[place].0.as_mut_ptr());
        let sums = scratch.sums[row].0.as_mut_ptr();
        let mut sum = W::load(sums).mul(factor);
        let (now, zero) = (W::splat(now), W::splat(0.0));
        for at in (0..keys).step_by(LANES) {
            let mut x = zero;
            if at < sees {
                x = weight(W::load(scores.add(at)).sub(now));
                x = if at < whole { x } else { x.first(rest, zero) };
                sum = sum.add(x);
                if N::SCALED {
                    x = x.mul(W::load(kept.value_scales.add(at)));
                }
            }
            x.store(scores.add(at));
        }
        sum.store(sums);
    }
}

/// 2 to the power of each, none of which is above 0; nothing where that is [`LEAST`] or less. A trained model gives most keys
/// so little that products with values would be subnormal, which some processors leave to microcode: that took a fifth of the
/// student's time for a digest alone and a quarter of it for four together.
#[inline(always)]
unsafe fn weight<W: Wide>(x: W) -> W {
    // SAFETY: passed on.
    unsafe {
        let least = W::splat(LEAST);
        // Exact from 2^-75 on, as what is taken off is less than half of the last bit.
        x.exp2().max(least).sub(least)
    }
}

/// Adds the weighted values of `keys` tokens to a few rows from `row` on.
#[inline(always)]
unsafe fn weigh<W: Wide, N: Number>(
    rows: usize,
    scratch: &mut Scratch,
    row: usize,
    values: *const u8,
    width: usize,
    keys: usize,
) {
    // SAFETY: passed on.
    unsafe {
        match (rows, W::MANY) {
            (8, true) => weigh_of::<W, N, 8, 2, 1>(scratch, row, values, width, keys),
            (6, true) => weigh_of::<W, N, 6, 2, 1>(scratch, row, values, width, keys),
            (4, true) => weigh_of::<W, N, 4, 4, 2>(scratch, row, values, width, keys),
            (4, false) => weigh_of::<W, N, 4, 1, 1>(scratch, row, values, width, keys),
            (3, true) => weigh_of::<W, N, 3, 4, 2>(scratch, row, values, width, keys),
            (3, false) => weigh_of::<W, N, 3, 1, 1>(scratch, row, values, width, keys),
            (2, true) => weigh_of::<W, N, 2, 4, 4>(scratch, row, values, width, keys),
            (2, false) => weigh_of::<W, N, 2, 2, 2>(scratch, row, values, width, keys),
            (_, true) => weigh_of::<W, N, 1, 8, 4>(scratch, row, values, width, keys),
            (_, false) => weigh_of::<W, N, 1, 4, 4>(scratch, row, values, width, keys),
        }
    }
}

/// `R` rows, `T` times 16 elements at a time, then 16 at a time with every sum in `U` parts.
#[inline(always)]
unsafe fn weigh_of<W: Wide, N: Number, const R: usize, const T: usize, const U: usize>(
    scratch: &mut Scratch,
    row: usize,
    values: *const u8,
    width: usize,
    keys: usize,
) {
    let mut element = 0;
    // SAFETY: passed on; that many elements are left.
    unsafe {
        while element + T * LANES <= width {
            weigh_block::<W, N, R, T, 1>(scratch, row, values, width, element, keys);
            element += T * LANES;
        }
        while element < width {
            weigh_block::<W, N, R, 1, U>(scratch, row, values, width, element, keys);
            element += LANES;
        }
    }
}

#[inline(always)]
unsafe fn weigh_block<W: Wide, N: Number, const R: usize, const T: usize, const U: usize>(
    scratch: &mut Scratch,
    row: usize,
    values: *const u8,
    width: usize,
    element: usize,
    keys: usize,
) {
    // SAFETY: passed on; weights behind the last key, up to a whole vector, are zeros, but values need not be numbers there.
    unsafe {
        let weights: *const f32 = scratch.scores();
        let gathered = scratch.gathered(row, width).add(element);
        if W::IN_MEMORY && N::BYTES == 4 {
            for (r, at) in (0..R).flat_map(|r| (0..T).map(move |t| (r, t * LANES))) {
                let values = values.cast::<f32>().add(element + at);
                let before =
                    W::load(gathered.add(r * width + at)).mul(W::load(scratch.factors[r].0.as_ptr()));
                let sum = before.add_weighted(weights.add(r * STEP_MAX), keys, values, width);
                sum.store(gathered.add(r * width + at));
            }
            return;
        }
        let mut sums = [[[W::splat(0.0); U]; T]; R];
        for (r, sums) in sums.iter_mut().enumerate() {
            let factor = W::load(scratch.factors[r].0.as_ptr());
            for (t, sums) in sums.iter_mut().enumerate() {
                sums[0] = W::load(gathered.add(r * width + t * LANES)).mul(factor);
            }
        }
        let whole = keys / U * U;
        for key in (0..whole).step_by(U) {
            for u in 0..U {
                weigh_key::<W, N, R, T, U>(&mut sums, u, weights, values, width, element, key + u);
            }
        }
        for key in whole..keys {
            weigh_key::<W, N, R, T, U>(&mut sums, 0, weights, values, width, element, key);
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (t, sums) in sums.into_iter().enumerate() {
                let mut sum = sums[0];
                for part in sums.into_iter().skip(1) {
                    sum = sum.add(part);
                }
                sum.store(gathered.add(r * width + t * LANES));
            }
        }
    }
}

#[inline(always)]
unsafe fn weigh_key<W: Wide, N: Number, const R: usize, const T: usize, const U: usize>(
    sums: &mut [[[W; U]; T]; R],
    part: usize,
    weights: *const f32,
    values: *const u8,
    width: usize,
    element: usize,
    key: usize,
) {
    // SAFETY: passed on.
    unsafe {
        let mut v = [W::splat(0.0); T];
        for (t, v) in v.iter_mut().enumerate() {
            let at = key * width + element + t * LANES;
            *v = N::load(values, at);
            ahead::<W, N, R>(values, at + TOKENS_AHEAD * width);
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            let weight = W::splat(*weights.add(r * STEP_MAX + key));
            for (sums, v) in sums.iter_mut().zip(v) {
                sums[part] = v.mul_add(weight, sums[part]);
            }
        }
    }
}
