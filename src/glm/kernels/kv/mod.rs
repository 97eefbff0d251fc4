//! Keys and values of the tokens that a model has seen: in slots, one per sequence.
//!
//! A store's memory is bounded and declared when it is made, and backed by pages only where tokens were stored. Every layer
//! keeps its own length per slot: a run of the model that ends between two layers leaves a slot that is as long as its
//! shortest layer, and the next run begins there.
//!
//! One lock guards a store. Whoever attends holds it for one layer's attention; its threads share the work under it.

mod layout;
mod saved;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use memmap2::{MmapMut, MmapOptions};

use crate::limits;
use crate::named::named_enum;
use layout::Layout;

pub(super) use layout::Head;
pub use saved::BadSaved;

named_enum! {
    /// How a key or a value is kept.
    KvFormat {
        /// As it is: 4 bytes per number.
        F32 = "f32",
        /// 2 bytes per number; off by at most 1 in 2048. What is beyond the largest (65 504) becomes that.
        F16 = "f16",
        /// 1 byte per number and a scale per token and head: off by at most 1 in 254 of the head's largest.
        Int8 = "int8",
    }
}

/// How much a store can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvShape {
    /// Layers of the model.
    pub layers: usize,
    /// Heads of keys and values per layer.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Sequences at a time.
    pub slots: usize,
    /// Longest sequence.
    pub tokens_max: usize,
    /// How numbers are kept.
    pub format: KvFormat,
}

impl KvShape {
    /// Bytes of a full store; `None` where they cannot be addressed.
    pub fn bytes(&self) -> Option<usize> {
        Layout::of(self).map(|layout| layout.bytes)
    }
}

/// One run of new tokens of one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// Whose.
    pub slot: u32,
    /// Of the first of them: at most the length of the slot. What the slot held from there on is forgotten.
    pub position: u32,
    /// How many.
    pub tokens: u32,
}

/// No store can be made; the configuration's fault, or the machine has no memory.
#[derive(Debug, thiserror::Error)]
pub enum BadKvShape {
    /// A number that is zero or absurd.
    #[error("{field} = {value} is not possible (1 to {max}); change the configuration of the model's cache")]
    Number {
        /// Which.
        field: &'static str,
        /// What it is.
        value: usize,
        /// What it may be.
        max: usize,
    },
    /// More than can be addressed.
    #[error("the model's cache would not fit any memory; configure fewer slots or a shorter context")]
    Unaddressable,
    /// The system gives no memory.
    #[error(
        "the system refuses {bytes} bytes for the model's cache ({source}); configure fewer slots, a shorter context or int8"
    )]
    Refused {
        /// How much was asked for.
        bytes: usize,
        /// What it said.
        source: io::Error,
    },
}

/// A slot that can't be used as asked; the caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSlot {
    /// There is none.
    #[error("slot {slot} does not exist; the model's cache has {slots}")]
    Unknown {
        /// Which.
        slot: u32,
        /// How many there are.
        slots: usize,
    },
    /// It holds fewer tokens than are to be taken from it.
    #[error("slot {slot} holds {len} tokens, not {wanted}; run the missing ones first")]
    Short {
        /// Which.
        slot: u32,
        /// What it holds.
        len: u32,
        /// What was asked for.
        wanted: u32,
    },
}

/// A batch that does not fit the store; the caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSpan {
    /// There is no such slot.
    #[error(transparent)]
    Slot(#[from] BadSlot),
    /// It has no tokens.
    #[error("the span of slot {slot} has no tokens; leave it out")]
    Empty {
        /// Whose.
        slot: u32,
    },
    /// It is not the only one of its slot.
    #[error("slot {slot} has two spans; join them, or run them one after the other")]
    Twice {
        /// Whose.
        slot: u32,
    },
    /// It begins behind the end of what is there.
    #[error(
        "the span of slot {slot} begins at {position}, but the slot holds {len} tokens; run the missing ones first"
    )]
    Gap {
        /// Whose.
        slot: u32,
        /// Where it begins.
        position: u32,
        /// Where it may begin at the latest.
        len: u32,
    },
    /// It ends behind the last place.
    #[error(
        "{tokens} tokens from {position} on do not fit slot {slot} of {max}; shorten the prompt or configure a longer context"
    )]
    Long {
        /// Whose.
        slot: u32,
        /// Where it begins.
        position: u32,
        /// How many it has.
        tokens: u32,
        /// How many a slot has room for, or the table of rotations has rows.
        max: usize,
    },
    /// Spans and tokens do not add up.
    #[error("the spans have {spans} tokens together, the batch has {tokens}; give every token one span")]
    Sum {
        /// Tokens of all spans.
        spans: u64,
        /// Tokens of the batch.
        tokens: usize,
    },
}

/// Keys and values of a model's sequences.
pub struct KvStore {
    shape: KvShape,
    layout: Layout,
    state: Mutex<State>,
}

/// What the lock guards.
pub(super) struct State {
    memory: MmapMut,
    /// Tokens per layer and slot.
    lens: Vec<u32>,
}

impl KvStore {
    /// An empty store. Memory is taken from the system page by page as tokens come.
    pub fn new(shape: KvShape) -> Result<KvStore, BadKvShape> {
        let between = |field, value: usize, max: usize| match (1..=max).contains(&value) {
            true => Ok(()),
            false => Err(BadKvShape::Number { field, value, max }),
        };
        between("layers", shape.layers, limits::GLM_LAYERS_MAX)?;
        between("kv_heads", shape.kv_heads, limits::GLM_HEADS_MAX)?;
        between("head_dim", shape.head_dim, limits::GLM_HEAD_DIM_MAX)?;
        between("slots", shape.slots, limits::KV_SLOTS_MAX)?;
        between("tokens_max", shape.tokens_max, limits::GLM_CONTEXT_TOKENS_MAX)?;
        let layout = Layout::of(&shape).ok_or(BadKvShape::Unaddressable)?;
        let memory = MmapOptions::new()
            .len(layout.bytes)
            .no_reserve_swap()
            .map_anon()
            .map_err(|source| BadKvShape::Refused { bytes: layout.bytes, source })?;
        let lens = vec![0; shape.layers * shape.slots];
        Ok(KvStore { shape, layout, state: Mutex::new(State { memory, lens }) })
    }

    /// How much it can hold.
    pub fn shape(&self) -> &KvShape {
        &self.shape
    }

    /// Bytes of it when full.
    pub fn bytes(&self) -> usize {
        self.layout.bytes
    }

    /// Tokens that a slot holds; none where there is no such slot.
    pub fn len(&self, slot: u32) -> u32 {
        self.slot(slot).map_or(0, |slot| self.lock().len(&self.shape, slot))
    }

    /// Whether a slot holds no tokens.
    pub fn is_empty(&self, slot: u32) -> bool {
        self.len(slot) == 0
    }

    /// Forgets all tokens of a slot but the first `len`; nothing where it holds no more.
    pub fn truncate(&self, slot: u32, len: u32) -> Result<(), BadSlot> {
        let slot = self.slot(slot)?;
        let mut state = self.lock();
        state.lens_of(&self.shape, slot).for_each(|l| *l = len.min(*l));
        Ok(())
    }

    /// Forgets all tokens of a slot and gives their memory back to the system.
    pub fn clear(&self, slot: u32) -> Result<(), BadSlot> {
        let slot = self.slot(slot)?;
        self.lock().clear(&self.shape, &self.layout, slot);
        Ok(())
    }

    /// Makes slot `to` hold the first `len` tokens of slot `from`, and nothing else.
    pub fn copy_prefix(&self, from: u32, to: u32, len: u32) -> Result<(), BadSlot> {
        let (source, target) = (self.slot(from)?, self.slot(to)?);
        let mut state = self.lock();
        state.holds(&self.shape, from, source, len)?;
        if source != target {
            let (at, to) = (self.layout.slot(source).start, self.layout.slot(target).start);
            for piece in self.layout.pieces(len as usize) {
                state.memory.copy_within(at + piece.start..at + piece.end, to + piece.start);
            }
        }
        state.lens_of(&self.shape, target).for_each(|l| *l = len);
        Ok(())
    }

    /// Whether a batch of `tokens` fits: every span names a slot of its own, leaves no gap, and has room.
    pub fn check(&self, spans: &[Span], tokens: usize) -> Result<(), BadSpan> {
        let state = self.lock();
        self.check_with(spans, tokens, |slot| state.len(&self.shape, slot))
    }

    /// The same for one layer, whose lengths are asked for.
    pub(super) fn check_layer(
        &self,
        state: &State,
        layer: usize,
        spans: &[Span],
        tokens: usize,
    ) -> Result<(), BadSpan> {
        self.check_with(spans, tokens, |slot| state.lens[layer * self.shape.slots + slot])
    }

    fn check_with(&self, spans: &[Span], tokens: usize, len: impl Fn(usize) -> u32) -> Result<(), BadSpan> {
        let mut seen = vec![false; self.shape.slots];
        for &Span { slot, position, tokens } in spans {
            let place = self.slot(slot)?;
            if std::mem::replace(&mut seen[place], true) {
                return Err(BadSpan::Twice { slot });
            }
            if tokens == 0 {
                return Err(BadSpan::Empty { slot });
            }
            let len = len(place);
            if position > len {
                return Err(BadSpan::Gap { slot, position, len });
            }
            let max = self.shape.tokens_max;
            if u64::from(position) + u64::from(tokens) > max as u64 {
                return Err(BadSpan::Long { slot, position, tokens, max });
            }
        }
        let sum = spans.iter().map(|span| u64::from(span.tokens)).sum();
        match sum == tokens as u64 {
            true => Ok(()),
            false => Err(BadSpan::Sum { spans: sum, tokens }),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Lengths change only after what they count is stored: a panic in between leaves them true.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells where the heads of checked slots lie in a layer; good until the lock is released or the state is used otherwise.
    pub(super) fn rooms(&self, state: &mut State, layer: usize) -> impl Fn(u32, usize) -> Head + use<> {
        let (shape, layout, start) = (self.shape, self.layout, state.memory.as_mut_ptr());
        move |slot, head| {
            let slot = slot as usize;
            assert!(slot < shape.slots && layer < shape.layers && head < shape.kv_heads);
            layout.head(start.wrapping_add(layout.head_at(slot, layer, head)))
        }
    }

    /// Notes that a layer has stored the tokens of these spans. Later layers have not yet: what they held from there on
    /// belongs to tokens that are gone.
    pub(super) fn stored(&self, state: &mut State, layer: usize, spans: &[Span]) {
        for span in spans {
            for (l, len) in state.lens_of(&self.shape, span.slot as usize).enumerate().skip(layer) {
                *len = if l == layer { span.position + span.tokens } else { span.position.min(*len) };
            }
        }
    }

    fn slot(&self, slot: u32) -> Result<usize, BadSlot> {
        let slots = self.shape.slots;
        usize::try_from(slot).ok().filter(|&s| s < slots).ok_or(BadSlot::Unknown { slot, slots })
    }
}

impl State {
    fn lens_of(&mut self, shape: &KvShape, slot: usize) -> impl Iterator<Item = &mut u32> {
        self.lens.iter_mut().skip(slot).step_by(shape.slots)
    }

    fn len(&self, shape: &KvShape, slot: usize) -> u32 {
        self.lens.iter().skip(slot).step_by(shape.slots).min().copied().unwrap_or(0)
    }

    fn holds(&self, shape: &KvShape, slot: u32, place: usize, wanted: u32) -> Result<(), BadSlot> {
        let len = self.len(shape, place);
        match wanted <= len {
            true => Ok(()),
            false => Err(BadSlot::Short { slot, len, wanted }),
        }
    }

    fn clear(&mut self, shape: &KvShape, layout: &Layout, slot: usize) {
        self.lens_of(shape, slot).for_each(|l| *l = 0);
        #[cfg(target_os = "linux")]
        {
            let range = layout.slot(slot);
            // SAFETY: the pages become zeros, which are numbers like any others, and `&mut self` is the only access. Should
            // the system refuse, they stay as they are.
            let _ = unsafe {
                self.memory.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    range.start,
                    range.len(),
                )
            };
        }
    }
}

impl fmt::Debug for KvStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvStore").field("shape", &self.shape).field("bytes", &self.bytes()).finish()
    }
}
