//! Constraints of one grammar over one vocabulary, which share what was computed for any of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::grammar::Grammar;
use super::machine::{DEAD, Machine, StateId};
use super::trie::TokenTrie;
use super::{Constraint, NotAllowed, TokenMask};
use crate::limits;

/// A grammar prepared for a vocabulary; clones share it.
#[derive(Clone)]
pub struct Guide(Arc<Inner>);

struct Inner {
    trie: Arc<TokenTrie>,
    start: StateId,
    work: Mutex<Work>,
}

/// What grows as texts are written.
struct Work {
    machine: Machine,
    masks: HashMap<StateId, Arc<TokenMask>>,
}

impl Guide {
    /// Prepares a grammar. The vocabulary should have a token for every byte that the grammar needs, as byte-level ones do;
    /// where it lacks one, an answer that gets there is stuck.
    pub fn new(grammar: Grammar, trie: Arc<TokenTrie>) -> Guide {
        let (machine, start) = Machine::new(grammar);
        let work = Mutex::new(Work { machine, masks: HashMap::new() });
        Guide(Arc::new(Inner { trie, start, work }))
    }

    /// The constraint of one answer, which ends by one of `end_ids`.
    pub fn constraint(&self, end_ids: Arc<[u32]>) -> GrammarConstraint {
        let mask = TokenMask::none(self.0.trie.vocab());
        let mut constraint =
            GrammarConstraint { guide: self.clone(), end_ids, state: self.0.start, has_ended: false, mask };
        constraint.refresh();
        constraint
    }
}

impl Inner {
    fn mask(&self, state: StateId) -> Arc<TokenMask> {
        // A state or a mask is complete when it is stored: a panic in between loses nothing.
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = work.masks.get(&state) {
            return Arc::clone(known);
        }
        let mut mask = TokenMask::none(self.trie.vocab());
        self.trie.mark(state, DEAD, |state, byte| work.machine.step(state, byte), &mut mask);
        if work.masks.len() >= limits::GRAMMAR_MASKS_MAX {
            work.masks.clear();
        }
        let mask = Arc::new(mask);
        work.masks.insert(state, Arc::clone(&mask));
        mask
    }

    fn step(&self, state: StateId, token: u32) -> StateId {
        let bytes = self.trie.token_bytes(token);
        if bytes.is_empty() {
            return DEAD;
        }
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.iter().fold(state, |state, &byte| work.machine.step(state, byte))
    }

    fn is_complete(&self, state: StateId) -> bool {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).machine.is_complete(state)
    }
}

/// One answer under a grammar.
pub struct GrammarConstraint {
    guide: Guide,
    end_ids: Arc<[u32]>,
    state: StateId,
    has_ended: bool,
    mask: TokenMask,
}

impl GrammarConstraint {
    /// One that shares nothing.
    pub fn new(grammar: &Grammar, trie: Arc<TokenTrie>, end_ids: Arc<[u32]>) -> GrammarConstraint {
        Guide::new(grammar.clone(), trie).constraint(end_ids)
    }

    fn refresh(&mut self) {
        self.mask.clear();
        if self.has_ended {
            return;
        }
        self.mask.add(&self.guide.0.mask(self.state));
        let is_complete = self.guide.0.is_complete(self.state);
        for &id in self.end_ids.iter() {
            self.mask.set(id, is_complete);
        }
    }
}

impl Constraint for GrammarConstraint {
    fn mask(&mut self) -> &TokenMask {
        &self.mask
    }

    fn advance(&mut self, token: u32) -> Result<(), NotAllowed> {
        if !self.mask.contains(token) {
            return Err(NotAllowed(token));
        }
        if self.end_ids.contains(&token) {
            self.has_ended = true;
        } else {
            self.state = self.guide.0.step(self.state, token);
        }
        self.refresh();
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.has_ended || self.guide.0.is_complete(self.state)
    }

    fn forced(&mut self) -> Option<u32> {
        self.mask.single()
    }
}
