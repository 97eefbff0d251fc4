//! Several sequences through one engine, the important ones first.

use std::path::Path;
use std::time::Duration;

use super::pace::Pace;
use super::prefix::{BadPrefix, Prefix, PrefixSource};
use super::request::{Ended, Event, Priority, Refused, Request, RequestId};
use super::sequence::{Part, Sequence};
use super::slots::Slots;
use crate::clock;
use crate::glm::engine::{Batch, Engine};
use crate::limits;
use crate::time::Mono;

/// How a batcher works.
#[derive(Debug, Clone)]
pub struct BatcherOptions {
    /// Most requests at a time, those that wait included.
    pub requests_max: usize,
    /// How long one run should take at most, as far as pieces of prompts can help it.
    pub step_target: Duration,
}

impl Default for BatcherOptions {
    fn default() -> BatcherOptions {
        BatcherOptions {
            requests_max: limits::GLM_REQUESTS_MAX,
            step_target: Duration::from_millis(limits::GLM_STEP_TARGET_MS),
        }
    }
}

/// An engine that answers requests.
pub struct Batcher {
    engine: Engine,
    options: BatcherOptions,
    /// In the order they came.
    sequences: Vec<Sequence>,
    slots: Slots,
    prefixes: Vec<Prefix>,
    pace: Pace,
    batch: Batch,
    next_id: u64,
}

impl Batcher {
    /// Takes an engine whose cache is empty.
    pub fn new(engine: Engine, options: BatcherOptions) -> Batcher {
        let (slots, tokens_max) = (engine.options().slots, engine.options().chunk_tokens);
        Batcher {
            slots: Slots::new(slots),
            pace: Pace::new(options.step_target, tokens_max),
            engine,
            options,
            sequences: Vec::new(),
            prefixes: Vec::new(),
            batch: Batch::default(),
            next_id: 1,
        }
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Whether nothing is left to do.
    pub fn is_idle(&self) -> bool {
        self.sequences.is_empty()
    }

    /// Requests that have no slot yet, or none any more.
    pub fn waiting(&self) -> usize {
        self.sequences.iter().filter(|s| s.slot.is_none()).count()
    }

    /// Requests that have a slot.
    pub fn running(&self) -> usize {
        self.sequences.len() - self.waiting()
    }

    /// Slots that a request could have at once.
    pub fn free_slots(&self) -> usize {
        self.slots.free()
    }

    /// Takes a request; its events carry the id.
    pub fn submit(&mut self, request: Request) -> Result<RequestId, Refused> {
        self.check(&request.prompt)?;
        request.sampling.check()?;
        if self.sequences.len() >= self.options.requests_max {
            return Err(Refused::Full { waiting: self.waiting() });
        }
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.sequences.push(Sequence::new(id, request, clock::mono()));
        Ok(id)
    }

    fn check(&self, prompt: &[u32]) -> Result<(), Refused> {
        let (max, vocab) = (self.engine.options().context_tokens, self.engine.arch().vocab);
        if prompt.is_empty() {
            return Err(Refused::Empty);
        }
        if prompt.len() >= max {
            return Err(Refused::Long { tokens: prompt.len(), max });
        }
        match prompt.iter().find(|&&token| token as usize >= vocab) {
            Some(&token) => Err(Refused::Token { token, vocab }),
            None => Ok(()),
        }
    }

    /// One run of the engine for requests of at least `floor`; what it brought is appended to `events`. Blocks for about
    /// [`BatcherOptions::step_target`] at most; does nothing where nobody has anything to do.
    pub fn step(&mut self, floor: Priority, events: &mut Vec<Event>) {
        self.end_what_is_due(events);
        self.seat(floor);
        let parts = self.compose(floor);
        if parts.is_empty() {
            return;
        }
        let begun = clock::mono();
        let context = self.engine.options().context_tokens;
        let ended = match self.engine.run(&self.batch) {
            Ok(logits) => {
                self.pace.learn(self.batch.tokens.len(), clock::mono().since(begun));
                settle(&mut self.sequences, &parts, logits, context, events)
            }
            Err(error) => {
                let why = Ended::Failed(error.to_string());
                parts.iter().map(|part| (part.id, why.clone())).collect()
            }
        };
        let now = clock::mono();
        for (id, why) in ended {
            self.end(id, why, events, now);
        }
    }

    /// Ends every request that is still here; for an engine that has to go.
    pub fn end_all(&mut self, why: &Ended, events: &mut Vec<Event>) {
        let now = clock::mono();
        while let Some(id) = self.sequences.first().map(|s| s.id) {
            self.end(id, why.clone(), events, now);
        }
    }

    /// Ends every request whose time is up or that nobody wants any more; a step does so too.
    pub fn end_what_is_due(&mut self, events: &mut Vec<Event>) {
        let now = clock::mono();
        let due: Vec<_> = self.sequences.iter().filter_map(|s| Some((s.id, s.is_due_to_end(now)?))).collect();
        for (id, why) in due {
            self.end(id, why, events, now);
        }
    }

    fn end(&mut self, id: RequestId, why: Ended, events: &mut Vec<Event>, now: Mono) {
        let Some(at) = self.sequences.iter().position(|s| s.id == id) else { return };
        let sequence = self.sequences.remove(at);
        if let Some(slot) = sequence.slot {
            self.leave(slot, &sequence.tokens[..sequence.kept]);
        }
        events.push(sequence.end(why, now));
    }

    /// Indices of sequences of at least `floor`, the most important first, then the oldest.
    fn order(&self, floor: Priority) -> Vec<usize> {
        let wanted = self.sequences.iter().enumerate().filter(|(_, s)| s.priority() >= floor);
        let mut order: Vec<usize> = wanted.map(|(i, _)| i).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(self.sequences[i].priority()), self.sequences[i].id));
        order
    }

    /// Gives slots to those who wait, if need be those of less important ones.
    fn seat(&mut self, floor: Priority) {
        for at in self.order(floor) {
            if self.sequences[at].slot.is_some() {
                continue;
            }
            if self.slots.free() == 0 && !self.make_room(self.sequences[at].priority()) {
                return;
            }
            self.sit(at);
        }
    }

    /// Takes the slot of the latest of the least important, if there is a less important one.
    fn make_room(&mut self, priority: Priority) -> bool {
        let seated = self.sequences.iter_mut().filter(|s| s.slot.is_some() && s.priority() < priority);
        let Some(victim) = seated.min_by_key(|s| (s.priority(), std::cmp::Reverse(s.id))) else {
            return false;
        };
        let kept = victim.tokens[..victim.kept].to_vec();
        if let Some(slot) = victim.stand() {
            self.leave(slot, &kept);
        }
        true
    }

    fn sit(&mut self, at: usize) {
        let held = |id| {
            let owner = self.sequences.iter().find(|s| s.id == id);
            owner.map_or(&[][..], |s| &s.tokens[..s.kept])
        };
        let Some(place) = self.slots.place(&self.sequences[at].tokens, held) else { return };
        // Both slots are there, and the source holds what it was said to hold: should that be wrong, nothing is taken over.
        let copied = self.engine.kv().copy_prefix(place.from, place.slot, place.cached as u32);
        let cached = if copied.is_ok() { place.cached } else { 0 };
        let sequence = &mut self.sequences[at];
        sequence.sit(place.slot, cached, clock::mono());
        self.slots.take(place.slot, sequence.id);
    }

    /// Fills the batch: everybody's next token, then pieces of prompts of the most important kind.
    fn compose(&mut self, floor: Priority) -> Vec<Part> {
        self.batch.clear();
        let mut order = self.order(floor);
        order.retain(|&i| self.sequences[i].slot.is_some());
        let Some(top) = order.first().map(|&i| self.sequences[i].priority()) else { return Vec::new() };
        let (chunk, mut rows) = (self.engine.options().chunk_tokens, self.engine.options().rows_max);
        let mut parts: Vec<Part> = Vec::new();
        let (writing, reading): (Vec<usize>, Vec<usize>) =
            order.into_iter().partition(|&i| self.sequences[i].is_writing());
        for i in writing {
            let room = chunk - self.batch.tokens.len();
            if rows > 0 && self.sequences[i].unread() <= room {
                let part = self.sequences[i].writing_part(room, rows);
                rows -= part.rows;
                self.put(i, &part);
                parts.push(part);
            }
        }
        for i in reading {
            let room = self.pace.tokens().saturating_sub(self.batch.tokens.len());
            if room > 0 && rows > 0 && self.sequences[i].priority() == top {
                let part = self.sequences[i].reading_part(room);
                rows -= part.rows;
                self.put(i, &part);
                parts.push(part);
            }
        }
        parts
    }

    fn put(&mut self, at: usize, part: &Part) {
        let sequence = &self.sequences[at];
        let Some(slot) = sequence.slot else { return };
        let unread = &sequence.tokens[sequence.kept..][..part.tokens];
        self.batch.push(slot, sequence.kept as u32, &[unread, &part.draft].concat(), false);
        let end = self.batch.tokens.len();
        self.batch.logits.extend((end - part.rows..end).map(|row| row as u32));
    }

    /// Keeps a prefix in a slot of its own, so that only the first prompt that begins with it is read from the start: from `file`,
    /// if that holds it for this model, else as soon as a request has had it read. Never runs the model itself: nobody waits for
    /// a prefix.
    pub fn pin(
        &mut self,
        tokens: &[u32],
        model: &str,
        file: Option<&Path>,
    ) -> Result<PrefixSource, BadPrefix> {
        self.check(tokens)?;
        let slot = self.slots.pin().ok_or(BadPrefix::NoSlot)?;
        let mut prefix = Prefix::new(slot, tokens, model, file);
        let source = match prefix.load(self.engine.kv()) {
            Ok(()) => PrefixSource::File,
            Err(_) => PrefixSource::Model,
        };
        self.slots.hold(slot, prefix.held());
        self.prefixes.push(prefix);
        Ok(source)
    }

    /// Writes the files of pinned prefixes that were read since; for a moment in which nobody waits. A file that can't be written
    /// (a full disk) is not tried again, and the prefix is kept all the same.
    pub fn save_pinned(&mut self) -> Result<(), BadPrefix> {
        self.prefixes.iter_mut().try_for_each(|prefix| prefix.save(self.engine.kv()))
    }

    /// A slot is free again and holds `tokens`: whoever comes next may go on from them, and a pinned prefix that they begin with
    /// is taken from here.
    fn leave(&mut self, slot: u32, tokens: &[u32]) {
        self.slots.leave(slot, tokens);
        for prefix in &mut self.prefixes {
            if prefix.take_from(self.engine.kv(), slot, tokens) {
                self.slots.hold(prefix.slot, prefix.held());
            }
        }
    }
}

/// Gives every sequence of a run its rows of logits; tells which ones are over.
fn settle(
    sequences: &mut [Sequence],
    parts: &[Part],
    mut logits: &[f32],
    context_tokens: usize,
    events: &mut Vec<Event>,
) -> Vec<(RequestId, Ended)> {
    let (now, rows) = (clock::mono(), parts.iter().map(|part| part.rows).sum::<usize>());
    let vocab = logits.len().checked_div(rows).unwrap_or(0);
    let mut ended = Vec::new();
    for part in parts {
        let (mine, rest) = logits.split_at(part.rows * vocab);
        logits = rest;
        let sequence = sequences.iter_mut().find(|s| s.id == part.id);
        let why = sequence.and_then(|s| s.settle(part, mine, context_tokens, events, now));
        ended.extend(why.map(|why| (part.id, why)));
    }
    ended
}
