//! A grammar at work: which states there are, and where a byte leads from each.
//!
//! Where one is in a grammar is a set of stacks: a place, and the places to come back to when its rule ends. Sets are numbered
//! when they are first met, and what a byte makes of them is kept, so that most steps are one look into a table. A call at the
//! end of a rule leaves nothing to come back to, so only real nesting makes stacks grow.

use std::collections::{HashMap, HashSet};

use super::grammar::{Grammar, Node, NodeId, RETURN};
use crate::limits;

/// A set of stacks.
pub(super) type StateId = u32;

/// Nothing more can be written.
pub(super) const DEAD: StateId = 0;
const UNKNOWN: StateId = StateId::MAX;

/// A stack: its top and the rest.
type StackId = u32;

/// The stack of a rule that nobody called: the root's.
const BOTTOM: StackId = 0;

pub(super) struct Machine {
    grammar: Grammar,
    stacks: Vec<(NodeId, StackId)>,
    stack_ids: HashMap<(NodeId, StackId), StackId>,
    states: Vec<State>,
    state_ids: HashMap<Box<[StackId]>, StateId>,
}

struct State {
    /// Stacks that wait for a byte, ascending.
    stacks: Box<[StackId]>,
    /// The text may end here.
    is_complete: bool,
    next: Option<Box<[StateId; 256]>>,
}

impl Machine {
    /// With the state of an empty text.
    pub(super) fn new(grammar: Grammar) -> (Machine, StateId) {
        let dead = State { stacks: [].into(), is_complete: false, next: None };
        let mut machine = Machine {
            stacks: vec![(RETURN, BOTTOM)],
            stack_ids: HashMap::new(),
            states: vec![dead],
            state_ids: HashMap::new(),
            grammar,
        };
        let root = machine.grammar.rules.first().copied();
        let start = root.and_then(|root| machine.stack(root, BOTTOM));
        let start = machine.state(start.into_iter().collect());
        (machine, start)
    }

    pub(super) fn is_complete(&self, state: StateId) -> bool {
        self.states.get(state as usize).is_some_and(|state| state.is_complete)
    }

    /// Where `byte` leads.
    pub(super) fn step(&mut self, state: StateId, byte: u8) -> StateId {
        let known = self.states.get(state as usize).and_then(|state| state.next.as_ref());
        match known.map_or(UNKNOWN, |next| next[usize::from(byte)]) {
            UNKNOWN => self.find(state, byte),
            next => next,
        }
    }

    fn find(&mut self, state: StateId, byte: u8) -> StateId {
        let Some(from) = self.states.get(state as usize) else { return DEAD };
        let mut stacks = Vec::new();
        for stack in from.stacks.to_vec() {
            let (node, below) = self.stacks[stack as usize];
            if let Node::Bytes { ranges, next } = &self.grammar.nodes[node as usize]
                && ranges.iter().any(|&(from, to)| (from..=to).contains(&byte))
            {
                let next = *next;
                stacks.extend(self.stack(next, below));
            }
        }
        let to = self.state(stacks);
        let next = self.states[state as usize].next.get_or_insert_with(|| Box::new([UNKNOWN; 256]));
        next[usize::from(byte)] = to;
        to
    }

    /// The stack of `node` on `below`; `None` where there are too many.
    fn stack(&mut self, node: NodeId, below: StackId) -> Option<StackId> {
        if let Some(&known) = self.stack_ids.get(&(node, below)) {
            return Some(known);
        }
        if self.stacks.len() >= limits::GRAMMAR_STATES_MAX {
            return None;
        }
        let id = self.stacks.len() as StackId;
        self.stacks.push((node, below));
        self.stack_ids.insert((node, below), id);
        Some(id)
    }

    /// The state of these stacks and all that they lead to without a byte.
    fn state(&mut self, mut todo: Vec<StackId>) -> StateId {
        let mut seen: HashSet<StackId> = todo.iter().copied().collect();
        let (mut waiting, mut is_complete) = (Vec::new(), false);
        while let Some(stack) = todo.pop() {
            let (node, below) = self.stacks[stack as usize];
            let mut found: Vec<Option<StackId>> = Vec::new();
            match &self.grammar.nodes[node as usize] {
                Node::Bytes { .. } => waiting.push(stack),
                Node::Return if below == BOTTOM => is_complete = true,
                // What lies below is the place to come back to.
                Node::Return => found.push(Some(below)),
                Node::Split(options) => {
                    let options = options.clone();
                    found.extend(options.iter().map(|&option| self.stack(option, below)));
                }
                &Node::Call { rule, next } => {
                    let back = if next == RETURN { Some(below) } else { self.stack(next, below) };
                    let start = self.grammar.rules[rule as usize];
                    found.push(back.and_then(|back| self.stack(start, back)));
                }
            }
            todo.extend(found.into_iter().flatten().filter(|&stack| seen.insert(stack)));
        }
        self.numbered(waiting, is_complete)
    }

    fn numbered(&mut self, mut waiting: Vec<StackId>, is_complete: bool) -> StateId {
        if waiting.is_empty() && !is_complete {
            return DEAD;
        }
        waiting.sort_unstable();
        if is_complete {
            // Told apart from the same stacks without an end.
            waiting.push(BOTTOM);
        }
        if let Some(&known) = self.state_ids.get(&waiting[..]) {
            return known;
        }
        if self.states.len() >= limits::GRAMMAR_STATES_MAX {
            return DEAD;
        }
        let id = self.states.len() as StateId;
        self.state_ids.insert(waiting.clone().into(), id);
        if is_complete {
            waiting.pop();
        }
        self.states.push(State { stacks: waiting.into(), is_complete, next: None });
        id
    }
}
