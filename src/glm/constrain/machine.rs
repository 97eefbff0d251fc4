//! A grammar at work: bytes in, and whether they may come.
//!
//! A state is the set of all places where the text so far may be in the grammar, each with the calls that led there. Equal
//! states are one state, and where a byte leads is looked up once: after that a step is one table access, a mask one copy. What
//! is remembered is bounded ([`limits::GRAMMAR_TABLE_BYTES_MAX`]); beyond that the machine forgets and begins anew. Where a
//! grammar is so ambiguous that a text may be in more than [`limits::GRAMMAR_PLACES_MAX`] places, some of them are given up:
//! what is allowed then is still right, but no longer all that would be.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::grammar::{Grammar, Node, NodeId, RETURN};
use super::trie::TokenTrie;
use crate::digest::mask::TokenMask;
use crate::limits;

/// Number of a state.
pub(super) type StateId = u32;

/// What the text so far can't go on with.
const DEAD: StateId = 0;
/// Not looked up yet.
const UNKNOWN: StateId = StateId::MAX;
/// No call.
const BOTTOM: u32 = 0;

/// Place in the program with the calls that led there; at [`RETURN`] with none, the text may end.
type Configuration = (NodeId, u32);

/// A grammar with what is known of it before the first byte.
#[derive(Debug)]
pub(super) struct Program {
    grammar: Grammar,
    /// Bytes that no place tells apart have one class.
    class_of: [u8; 256],
    /// One byte of each class.
    byte_of: Vec<u8>,
}

impl Program {
    pub(super) fn new(grammar: Grammar) -> Program {
        let mut begins = [false; 257];
        for node in &grammar.nodes {
            let Node::Bytes { ranges, .. } = node else { continue };
            for &(from, to) in ranges.iter() {
                begins[usize::from(from)] = true;
                begins[usize::from(to) + 1] = true;
            }
        }
        let mut program = Program { grammar, class_of: [0; 256], byte_of: Vec::new() };
        for byte in 0..=u8::MAX {
            if byte == 0 || begins[usize::from(byte)] {
                program.byte_of.push(byte);
            }
            program.class_of[usize::from(byte)] = (program.byte_of.len() - 1) as u8;
        }
        program
    }
}

/// The lazily built automaton of one grammar and one vocabulary.
#[derive(Debug)]
pub(super) struct Machine {
    program: Arc<Program>,
    /// Where a call comes back to, the call around it, and how many those are.
    calls: Vec<(NodeId, u32, u32)>,
    call_of: HashMap<(NodeId, u32), u32>,
    states: Vec<Box<[Configuration]>>,
    state_of: HashMap<Box<[Configuration]>, StateId>,
    /// By state and class of byte.
    table: Vec<StateId>,
    masks: HashMap<StateId, TokenMask>,
    /// Bytes that `states` and `calls` take, about.
    bytes: usize,
    /// Memory of [`Machine::close`].
    todo: Vec<Configuration>,
    seen: HashSet<Configuration>,
}

impl Machine {
    pub(super) fn new(program: Arc<Program>) -> Machine {
        let mut machine = Machine {
            program,
            calls: Vec::new(),
            call_of: HashMap::new(),
            states: Vec::new(),
            state_of: HashMap::new(),
            table: Vec::new(),
            masks: HashMap::new(),
            bytes: 0,
            todo: Vec::new(),
            seen: HashSet::new(),
        };
        machine.forget();
        machine
    }

    /// The state before the first byte.
    pub(super) fn start(&mut self) -> StateId {
        let start = self.program.grammar.rules.first().copied().unwrap_or(RETURN);
        let configurations = self.close([(start, BOTTOM)]);
        self.state(configurations)
    }

    /// Where a byte leads; `None` if it may not come.
    pub(super) fn step(&mut self, state: StateId, byte: u8) -> Option<StateId> {
        let class = self.program.class_of[usize::from(byte)];
        let at = state as usize * self.program.byte_of.len() + usize::from(class);
        let next = match self.table[at] {
            UNKNOWN => {
                let next = self.look_up(state, self.program.byte_of[usize::from(class)]);
                self.table[at] = next;
                next
            }
            known => known,
        };
        (next != DEAD).then_some(next)
    }

    /// Whether the text may end.
    pub(super) fn may_end(&self, state: StateId) -> bool {
        self.states[state as usize].first() == Some(&(RETURN, BOTTOM))
    }

    /// Whether it is a machine of this grammar.
    pub(super) fn is_of(&self, program: &Arc<Program>) -> bool {
        Arc::ptr_eq(&self.program, program)
    }

    /// Bytes that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let mask = self.masks.values().next().map_or(0, |mask| mask.vocab().div_ceil(8));
        self.table_bytes() + self.masks.len() * mask
    }

    /// Whether [`Machine::mask`] is known.
    pub(super) fn knows(&self, state: StateId) -> bool {
        self.masks.contains_key(&state)
    }

    /// The tokens that may come next, and the end ids if the text may end; none before they are learnt.
    pub(super) fn mask(&self, state: StateId) -> Option<&TokenMask> {
        self.masks.get(&state)
    }

    /// Learns the mask of a state. Forgets first where it `must`, or where there is too much to remember, so the state may have
    /// another number afterwards, which is given.
    pub(super) fn learn(&mut self, state: StateId, trie: &TokenTrie, end_ids: &[u32], must: bool) -> StateId {
        let state = if must { self.begin_anew(state) } else { self.bounded(state) };
        if self.masks.len() >= limits::GRAMMAR_MASKS_MAX {
            self.masks.clear();
        }
        let mask = self.walk(state, trie, end_ids);
        self.masks.insert(state, mask);
        state
    }

    /// Forgets what it knows if that is too much; the state may have another number afterwards, which is given.
    pub(super) fn bounded(&mut self, state: StateId) -> StateId {
        if self.is_full(1) { self.begin_anew(state) } else { state }
    }

    fn walk(&mut self, state: StateId, trie: &TokenTrie, end_ids: &[u32]) -> TokenMask {
        let mut mask = TokenMask::none(trie.vocab());
        // Single bytes first: should the walk run out of room, there is still a token for every way on.
        for byte in 0..=u8::MAX {
            self.step(state, byte);
        }
        trie.mark(state, DEAD, |state, byte| self.step(state, byte).unwrap_or(DEAD), &mut mask);
        let may_end = self.may_end(state);
        end_ids.iter().for_each(|&id| mask.set(id, may_end));
        mask
    }

    fn look_up(&mut self, state: StateId, byte: u8) -> StateId {
        let program = Arc::clone(&self.program);
        let next: Vec<Configuration> = self.states[state as usize]
            .iter()
            .filter_map(|&(place, calls)| match &program.grammar.nodes[place as usize] {
                Node::Bytes { ranges, next } => {
                    ranges.iter().any(|&(from, to)| (from..=to).contains(&byte)).then_some((*next, calls))
                }
                _ => None,
            })
            .collect();
        // Twice the room is never used up but by one walk through a grammar without measure.
        if next.is_empty() || self.is_full(2) {
            return DEAD;
        }
        let configurations = self.close(next);
        self.state(configurations)
    }

    /// Everything that can be reached without a byte, sorted: places that take a byte, and the end.
    fn close(&mut self, from: impl IntoIterator<Item = Configuration>) -> Vec<Configuration> {
        let program = Arc::clone(&self.program);
        let grammar = &program.grammar;
        let mut reached = Vec::new();
        self.seen.clear();
        self.todo.clear();
        self.todo.extend(from);
        while let Some((place, calls)) = self.todo.pop() {
            let depth = self.calls[calls as usize].2;
            // Nothing that needs more room than there is gets anywhere near the bound, so nothing is stuck there.
            let is_too_deep =
                depth.saturating_add(grammar.need[place as usize]) > limits::GRAMMAR_DEPTH_MAX as u32;
            let is_crowded = self.seen.len() >= 4 * limits::GRAMMAR_PLACES_MAX;
            if is_too_deep || is_crowded || !self.seen.insert((place, calls)) {
                continue;
            }
            match &grammar.nodes[place as usize] {
                Node::Bytes { .. } => reached.push((place, calls)),
                Node::Return if calls == BOTTOM => reached.push((place, calls)),
                Node::Return => {
                    let (back, around, _) = self.calls[calls as usize];
                    self.todo.push((back, around));
                }
                Node::Split(options) => self.todo.extend(options.iter().map(|&option| (option, calls))),
                &Node::Call { rule, next } => {
                    let start = grammar.rules[rule as usize];
                    let calls = if next == RETURN { calls } else { self.call(next, calls, depth + 1) };
                    self.todo.push((start, calls));
                }
            }
        }
        reached.sort_unstable();
        reached.truncate(limits::GRAMMAR_PLACES_MAX);
        reached
    }

    fn call(&mut self, back: NodeId, around: u32, depth: u32) -> u32 {
        let new = self.calls.len() as u32;
        let call = *self.call_of.entry((back, around)).or_insert(new);
        if call == new {
            self.calls.push((back, around, depth));
            self.bytes += 48;
        }
        call
    }

    fn state(&mut self, configurations: Vec<Configuration>) -> StateId {
        if configurations.is_empty() {
            return DEAD;
        }
        if let Some(&state) = self.state_of.get(configurations.as_slice()) {
            return state;
        }
        let configurations = configurations.into_boxed_slice();
        let state = self.states.len() as StateId;
        self.bytes += 2 * size_of_val(&*configurations) + 96;
        self.states.push(configurations.clone());
        self.state_of.insert(configurations, state);
        self.table.resize(self.states.len() * self.program.byte_of.len(), UNKNOWN);
        state
    }

    fn is_full(&self, times: usize) -> bool {
        self.table_bytes() > times * limits::GRAMMAR_TABLE_BYTES_MAX
    }

    fn table_bytes(&self) -> usize {
        self.bytes + self.table.len() * size_of::<StateId>()
    }

    /// Forgets everything but this state.
    fn begin_anew(&mut self, state: StateId) -> StateId {
        let configurations = self.states[state as usize].to_vec();
        let calls = std::mem::take(&mut self.calls);
        self.forget();
        let mut kept = Vec::with_capacity(configurations.len());
        for (place, call) in configurations {
            let mut chain = Vec::new();
            let mut at = call;
            while at != BOTTOM {
                let (back, around, _) = calls[at as usize];
                chain.push(back);
                at = around;
            }
            let mut around = BOTTOM;
            for (depth, back) in (1..).zip(chain.into_iter().rev()) {
                around = self.call(back, around, depth);
            }
            kept.push((place, around));
        }
        kept.sort_unstable();
        self.state(kept)
    }

    fn forget(&mut self) {
        self.calls.clear();
        self.calls.push((RETURN, BOTTOM, 0));
        self.call_of.clear();
        self.states.clear();
        self.state_of.clear();
        self.table.clear();
        self.masks.clear();
        self.bytes = 0;
        // The dead state.
        self.states.push(Box::default());
        self.table.resize(self.program.byte_of.len(), DEAD);
    }
}
